//! Presence: who is here, across faults and within the server's budget.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig, PresenceConfig};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, Client, Config, ConfigBuilder, Event, Payload,
    PresenceDiff, Timer,
};
use realtime_sim::{Network, NodeId, World};
use realtime_tests::peer::Peer;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn payload(n: u32) -> Payload {
    Payload::from_json(format!("{{\"n\":{n}}}")).unwrap()
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries)
}

/// The room for somebody who shows up under `name`.
fn room(name: &str, enabled: bool) -> ChannelConfig {
    let presence = PresenceConfig { key: name.into(), enabled };
    ChannelConfig::supabase(JoinConfig { presence, ..JoinConfig::default() })
}

/// A client in the room.
fn open(world: &mut World, config: ChannelConfig) -> (NodeId, ChannelId) {
    let node = world.add_client(settings().build().unwrap());
    let room = world.client(node, |client, now| {
        client.connect(now);
        client.open_channel("realtime:room", config, now).unwrap()
    });
    (node, room)
}

/// A client that shows itself in the room under `name`.
fn join(world: &mut World, name: &str) -> (NodeId, ChannelId) {
    let (node, channel) = open(world, room(name, true));
    track(world, node, channel, 0);
    (node, channel)
}

fn track(world: &mut World, node: NodeId, room: ChannelId, n: u32) {
    world.client(node, |client, now| {
        client.channel(room).unwrap().track(payload(n), now).unwrap();
    });
}

fn diffs(world: &mut World, node: NodeId) -> Vec<PresenceDiff> {
    let diffs = world.take_log(node).into_iter().filter_map(|(_, event)| match event {
        Event::Channel(_, ChannelEvent::Presence(diff)) => Some(diff),
        _ => None,
    });
    diffs.collect()
}

/// The keys that came, that changed, and that went.
fn folded(diff: &PresenceDiff) -> [String; 3] {
    [&diff.joined, &diff.updated, &diff.left].map(|members| {
        members.iter().map(|member| member.key.as_str()).collect::<Vec<_>>().join(" ")
    })
}

/// What `who` shows, as `node` sees it.
fn shown(world: &mut World, node: NodeId, room: ChannelId, who: &str) -> Vec<String> {
    world.client(node, |client, _| {
        let channel = client.channel(room).unwrap();
        let metas = channel.presence().metas(who);
        metas.iter().map(|meta| meta.value.as_json().unwrap().to_string()).collect()
    })
}

fn presence_calls(world: &World, node: NodeId) -> usize {
    world.sent(node).iter().filter(|(_, line)| line.ends_with(" presence")).count()
}

#[test]
fn across_a_cut_one_diff_tells_what_changed_and_nobody_else_flaps() {
    let mut world = World::seed(1);
    let (ana, _) = join(&mut world, "ana");
    let (_bob, _) = join(&mut world, "bob");
    let (cy, _) = join(&mut world, "cy");
    world.run_for(secs(1));
    world.take_log(ana);

    world.cut(ana);
    world.client(cy, |client, now| client.disconnect(now));
    let (_dan, _) = join(&mut world, "dan");
    world.run_for(secs(3));
    let told = diffs(&mut world, ana);
    assert!(told[0].synced && !told[1].synced);
    // This client's own entry went with its connection and came back with it.
    let told: Vec<_> = told.iter().map(folded).collect();
    assert_eq!(told, [["dan", "", ""], ["", "ana", ""]]);
    world.run_for(secs(5));
    let told: Vec<_> = diffs(&mut world, ana).iter().map(folded).collect();
    assert_eq!(told, [["", "", "cy"]], "the grace is over");
}

#[test]
fn while_disconnected_the_members_are_kept_and_marked_stale() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    let (_bob, _) = join(&mut world, "bob");
    world.run_for(secs(1));
    let view = |world: &mut World| {
        world.client(ana, |client, _| {
            let room = client.channel(room).unwrap();
            (room.presence().len(), room.presence().is_stale())
        })
    };
    assert_eq!(view(&mut world), (2, false));
    world.cut(ana);
    assert_eq!(view(&mut world), (2, true));
    world.run_for(secs(2));
    assert_eq!(view(&mut world), (2, false));
}

#[test]
fn what_is_tracked_is_sent_again_after_a_rejoin() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    let (bob, bobs_room) = join(&mut world, "bob");
    world.run_for(secs(1));
    track(&mut world, ana, room, 7);
    world.cut(ana);
    world.run_for(Duration::from_millis(10));
    assert_eq!(shown(&mut world, bob, bobs_room, "ana").len(), 1);
    world.run_for(secs(2));
    let seen = shown(&mut world, bob, bobs_room, "ana");
    assert!(seen.len() == 1 && seen[0].contains(r#""n":7"#), "{seen:?}");
    assert_eq!(world.server(|server, _| server.stats().presences), 2);
}

#[test]
fn the_sixth_presence_call_within_thirty_seconds_waits_and_brings_the_newest_value() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    let (bob, bobs_room) = join(&mut world, "bob");
    world.run_for(secs(1));
    for n in 1..=20 {
        track(&mut world, ana, room, n);
        world.run_for(Duration::from_millis(100));
    }
    assert_eq!(presence_calls(&world, ana), 5);
    assert!(shown(&mut world, bob, bobs_room, "ana")[0].contains(r#""n":4"#));
    world.run_for(secs(29));
    assert_eq!(presence_calls(&world, ana), 6);
    assert!(shown(&mut world, bob, bobs_room, "ana")[0].contains(r#""n":20"#));
    assert!(world.client(ana, |client, _| client.channel(room).unwrap().is_live()));
}

#[test]
fn the_presence_budget_holds_however_late_the_first_call_got_there() {
    for seed in 0..50 {
        let network = Network { delay: Duration::from_millis(5), jitter: secs(2) };
        let mut world = World::seed(seed).with_network(network);
        let (ana, room) = join(&mut world, "ana");
        world.run_for(secs(10));
        for n in 1..=600 {
            track(&mut world, ana, room, n);
            world.run_for(Duration::from_millis(250));
        }
        let log = world.log(ana);
        let errored = log
            .iter()
            .find(|(_, event)| matches!(event, Event::Channel(_, ChannelEvent::Errored { .. })));
        assert_eq!(errored, None, "the server closed the channel (seed {seed})");
        assert!(presence_calls(&world, ana) >= 20, "the budget is used");
    }
}

#[test]
fn of_the_values_that_wait_for_a_driver_that_sleeps_only_the_newest_is_sent() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    let (bob, bobs_room) = join(&mut world, "bob");
    world.run_for(secs(1));
    world.suspend(ana, secs(5));
    for n in 1..=20 {
        track(&mut world, ana, room, n);
    }
    world.run_for(secs(6));
    assert_eq!(presence_calls(&world, ana), 2, "the first one told of the join");
    assert!(shown(&mut world, bob, bobs_room, "ana")[0].contains(r#""n":20"#));
}

#[test]
fn untracking_is_kept_up_across_a_rejoin_too() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    world.run_for(secs(1));
    world.client(ana, |client, now| client.channel(room).unwrap().untrack(now).unwrap());
    world.run_for(secs(1));
    assert_eq!(world.server(|server, _| server.stats().presences), 0);
    world.cut(ana);
    world.run_for(secs(3));
    assert_eq!(world.server(|server, _| server.stats().presences), 0);
    assert!(world.client(ana, |client, _| client.channel(room).unwrap().is_live()));
}

#[test]
fn a_restart_of_the_server_does_not_make_a_room_look_empty() {
    let mut world = World::seed(1).with_server(ServerConfig::default());
    let (ana, room) = join(&mut world, "ana");
    let others: Vec<_> = ["bob", "cy"].map(|name| join(&mut world, name)).into();
    world.run_for(secs(1));
    world.server(|server, now| server.close_all(1012, "restart", now));
    world.run_for(secs(5));
    for (node, room) in others.into_iter().chain([(ana, room)]) {
        let seen = world.client(node, |client, _| client.channel(room).unwrap().presence().len());
        assert_eq!(seen, 3);
    }
}

#[test]
fn an_update_of_what_somebody_shows_is_one_update_and_no_leave() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    let (bob, _) = join(&mut world, "bob");
    world.run_for(secs(1));
    diffs(&mut world, bob);
    track(&mut world, ana, room, 7);
    world.run_for(secs(1));
    let told = diffs(&mut world, bob);
    assert_eq!(told.iter().map(folded).collect::<Vec<_>>(), [["", "ana", ""]]);
    let [meta] = &told[0].updated[0].metas[..] else { panic!("{told:?}") };
    let shown: serde_json::Value = meta.to().unwrap();
    assert_eq!((&shown["n"], meta.phx_ref_prev.is_some()), (&7.into(), true));
}

#[test]
fn presence_that_is_enabled_late_is_one_visible_rejoin_and_then_everybody_is_seen() {
    let mut world = World::seed(1);
    let (bob, _) = join(&mut world, "bob");
    let (ana, channel) = open(&mut world, room("ana", false));
    world.run_for(secs(1));
    world.take_log(ana);
    diffs(&mut world, bob);
    world.client(ana, |client, now| {
        let mut channel = client.channel(channel).unwrap();
        assert!(channel.is_live() && channel.presence().is_empty());
        channel.enable_presence(now).unwrap();
        channel.track(payload(1), now).unwrap();
        channel.enable_presence(now).unwrap();
    });
    world.run_for(secs(1));
    let told: Vec<Event> = world.take_log(ana).into_iter().map(|(_, event)| event).collect();
    let rejoins = told.iter().filter_map(|event| match event {
        Event::Channel(_, ChannelEvent::Rejoining { cause }) => Some(cause.to_string()),
        _ => None,
    });
    let why = "rejoined (presence was enabled). \
               Nothing to do but to fetch what changed meanwhile.";
    assert_eq!(rejoins.collect::<Vec<_>>(), [why]);
    let (joins, live, len) = world.client(ana, |client, _| {
        let joins = client.channel_info(channel).unwrap().joins;
        let channel = client.channel(channel).unwrap();
        (joins, channel.is_live(), channel.presence().len())
    });
    assert_eq!((joins, live, len), (2, true, 2));
    // What is shown is told to the join that has presence, and to no other.
    let told: Vec<_> = diffs(&mut world, bob).iter().map(folded).collect();
    assert_eq!(told, [["ana", "", ""]]);
}

#[test]
fn what_is_tracked_before_the_join_has_the_join_ask_for_presence() {
    let mut peer = Peer::new(settings());
    peer.command(|client, now| {
        let id = client.open_channel("realtime:room", room("ana", false), now).unwrap();
        client.channel(id).unwrap().track(payload(1), now).unwrap();
        client.connect(now);
    });
    peer.accept();
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].contains(r#""presence":{"key":"ana","enabled":true}"#), "{}", frames[0]);
    peer.say_ok("1", "1", "realtime:room");
    let track = r#"{"type":"presence","event":"track","payload":{"n":1}}"#;
    assert_eq!(
        peer.take_frames(),
        [format!(r#"["1","2","realtime:room","presence",{track}]"#)],
        "and no second join",
    );
}

#[test]
fn presence_that_is_enabled_while_the_join_is_under_way_is_asked_for_by_the_next() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| {
        client.open_channel("realtime:room", room("ana", false), now).unwrap()
    });
    assert!(peer.take_frames()[0].contains(r#""enabled":false"#));
    peer.command(|client, now| client.channel(id).unwrap().track(payload(1), now).unwrap());
    assert_eq!(peer.take_frames(), [""; 0], "one join at a time");
    peer.say_ok("1", "1", "realtime:room");
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 1, "nothing is tracked on the join without presence: {frames:?}");
    assert!(frames[0].starts_with(r#"["2","2","realtime:room","phx_join""#), "{}", frames[0]);
    assert!(frames[0].contains(r#""enabled":true"#));
    peer.say_ok("2", "2", "realtime:room");
    peer.say(r#"["2",null,"realtime:room","presence_state",{}]"#);
    assert_eq!(
        peer.take_lines(),
        [
            "ch0.1 joined",
            "ch0.1 rejoining: rejoined",
            "ch0.1 joined",
            "ch0.1 gap of messages from 0.000s to 0.000s: rejoined",
            "ch0.1 presence +0 ~0 -0",
            "ch0.1 live",
        ],
    );
    assert_eq!(peer.take_frames().len(), 1, "now it is tracked");
}

#[test]
fn what_an_older_join_was_told_is_in_the_snapshot_or_was_taken_back() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| {
        client.open_channel("realtime:room", room("ana", false), now).unwrap()
    });
    peer.say_ok("1", "1", "realtime:room");
    peer.command(|client, now| client.channel(id).unwrap().enable_presence(now).unwrap());
    peer.say_ok("2", "2", "realtime:room");
    // The process of the connection answers the join, and then sends what waited for it.
    peer.say(&diff("bob"));
    peer.say(r#"["1","1","realtime:room","phx_close",{}]"#);
    peer.say(&diff("cleo"));
    peer.say(r#"["2",null,"realtime:room","presence_state",{}]"#);
    let members = peer.command(|client, _| {
        let channel = client.channel(id).unwrap();
        channel.presence().members().map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(members, ["cleo"]);
}

/// Somebody comes.
fn diff(key: &str) -> String {
    let metas = format!(r#"{{"metas":[{{"phx_ref":"{key}"}}]}}"#);
    let diff = format!(r#"{{"joins":{{"{key}":{metas}}},"leaves":{{}}}}"#);
    format!(r#"[null,null,"realtime:room","presence_diff",{diff}]"#)
}

#[test]
fn presence_is_enabled_on_supabase_channels_only() {
    let mut peer = Peer::connected(settings());
    let refused = peer.command(|client, now| {
        let config = ChannelConfig::phoenix(Payload::empty());
        let id = client.open_channel("room:1", config, now).unwrap();
        client.channel(id).unwrap().enable_presence(now).unwrap_err()
    });
    assert_eq!(
        refused.to_string(),
        "the channel is a plain Phoenix one; use `push` with the event its server expects",
    );
}

/// A peer in a room with ana and bob, whose connection was lost and is back.
fn rejoined(config: ChannelConfig) -> (Peer, ChannelId) {
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| client.open_channel("realtime:room", config, now).unwrap());
    peer.say_ok("1", "1", "realtime:room");
    peer.say(
        r#"["1",null,"realtime:room","presence_state",{"ana":{"metas":[{"phx_ref":"a"}]},
            "bob":{"metas":[{"phx_ref":"b"}]}}]"#,
    );
    peer.close(1012);
    peer.pass(secs(1));
    peer.accept();
    peer.say_ok("1", "1", "realtime:room");
    peer.take_events();
    (peer, id)
}

/// What the peer's client told of presence since it was asked last.
fn told(peer: &mut Peer) -> Vec<[String; 3]> {
    let events = peer.take_events();
    let diffs = events.iter().filter_map(|event| match event {
        Event::Channel(_, ChannelEvent::Presence(diff)) => Some(folded(diff)),
        _ => None,
    });
    diffs.collect()
}

#[test]
fn the_members_are_the_servers_at_once_and_whoever_is_missing_leaves_after_the_grace() {
    for (config, grace) in
        [(room("", true), secs(5)), (room("", true).with_presence_grace(secs(2)), secs(2))]
    {
        let (mut peer, id) = rejoined(config);
        peer.say(
            r#"["1",null,"realtime:room","presence_state",{"bob":{"metas":[{"phx_ref":"b"}]}}]"#,
        );
        assert_eq!(told(&mut peer), [["", "", ""]], "synced, and nobody left");
        let members = peer.command(|client, _| {
            let channel = client.channel(id).unwrap();
            let members = channel.presence().members();
            members.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        });
        assert_eq!(members, ["bob"]);
        let timer = peer.command(|client, _| client.next_timer());
        assert_eq!(timer, Some((peer.now() + grace, Timer::PresenceGrace(id))));
        peer.pass(grace);
        assert_eq!(told(&mut peer), [["", "", "ana"]]);
        peer.pass(secs(20));
        assert_eq!(told(&mut peer), [[""; 3]; 0]);
    }
}

#[test]
fn without_a_grace_whoever_is_missing_has_left_at_once() {
    let (mut peer, _) = rejoined(room("", true).with_presence_grace(Duration::ZERO));
    peer.say(r#"["1",null,"realtime:room","presence_state",{"bob":{"metas":[{"phx_ref":"b"}]}}]"#);
    assert_eq!(told(&mut peer), [["", "", "ana"]]);
}

#[test]
fn a_grace_is_not_over_while_the_connection_is_gone() {
    let (mut peer, id) = rejoined(room("", true));
    peer.say(r#"["1",null,"realtime:room","presence_state",{}]"#);
    peer.close(1012);
    told(&mut peer);
    peer.pass(secs(20));
    assert_eq!(told(&mut peer), [[""; 3]; 0]);
    assert!(peer.command(|client, _| client.channel(id).unwrap().presence().is_stale()));
    peer.accept();
    peer.say_ok("1", "1", "realtime:room");
    peer.say(r#"["1",null,"realtime:room","presence_state",{"ana":{"metas":[{"phx_ref":"c"}]}}]"#);
    assert_eq!(told(&mut peer), [["", "ana", ""]], "back, after all");
    peer.pass(secs(5));
    assert_eq!(told(&mut peer), [["", "", "bob"]]);
}

#[test]
fn a_channel_that_is_closed_within_the_grace_tells_nothing_more() {
    let (mut peer, id) = rejoined(room("", true));
    peer.say(r#"["1",null,"realtime:room","presence_state",{}]"#);
    told(&mut peer);
    peer.command(|client, now| client.close_channel(id, now));
    peer.pass(secs(20));
    assert_eq!(told(&mut peer), [[""; 3]; 0]);
}

#[test]
fn when_everybody_is_cut_off_at_once_nobody_leaves() {
    let mut world = World::seed(1);
    let nodes = ["ana", "bob", "cy"].map(|name| join(&mut world, name).0);
    world.run_for(secs(1));
    nodes.iter().for_each(|node| drop(diffs(&mut world, *node)));
    nodes.iter().for_each(|node| world.cut(*node));
    world.run_for(secs(20));
    for node in nodes {
        for diff in diffs(&mut world, node) {
            let [joined, _, left] = folded(&diff);
            assert_eq!([joined, left], ["", ""]);
        }
    }
}

#[test]
fn a_diff_is_taken_with_and_without_the_ref_of_the_join() {
    let mut peer = Peer::connected(settings());
    peer.command(|client, now| client.open_channel("realtime:room", room("", true), now).unwrap());
    peer.say_ok("1", "1", "realtime:room");
    peer.say(r#"["1",null,"realtime:room","presence_state",{}]"#);
    told(&mut peer);
    for (join_ref, key) in [("null", "ana"), (r#""1""#, "bob"), (r#""9""#, "of another join")] {
        peer.say(&format!(
            r#"[{join_ref},null,"realtime:room","presence_diff",
                {{"joins":{{"{key}":{{"metas":[{{"phx_ref":"x"}}]}}}},"leaves":{{}}}}]"#
        ));
    }
    assert_eq!(told(&mut peer), [["ana", "", ""], ["bob", "", ""]]);
}

#[test]
fn a_disconnected_client_says_that_what_it_shows_is_stale() {
    let (mut peer, id) = rejoined(room("", true));
    peer.say(r#"["1",null,"realtime:room","presence_state",{"ana":{"metas":[{"phx_ref":"a"}]}}]"#);
    peer.command(Client::disconnect);
    let seen = peer.command(|client, _| {
        let channel = client.channel(id).unwrap();
        (channel.presence().len(), channel.presence().is_stale())
    });
    assert_eq!(seen, (1, true));
}

/// A server shuts the older channel down before it makes the next one, so whatever happens in
/// between is told to neither. What the older one told is part of the snapshot of the next.
#[test]
fn who_was_told_to_the_older_join_and_is_not_in_the_snapshot_of_the_next_is_not_there() {
    let mut peer = Peer::connected(settings());
    let id = peer
        .command(|client, now| client.open_channel("realtime:room", room("", true), now).unwrap());
    peer.say_ok("1", "1", "realtime:room");
    peer.say(r#"["1",null,"realtime:room","presence_state",{}]"#);
    told(&mut peer);
    peer.command(|client, now| {
        let todos = Binding::new(ChangeEvent::All, "public", "todos");
        client.channel(id).unwrap().bind(todos, now).unwrap();
    });
    peer.say(
        r#"[null,null,"realtime:room","presence_diff",
            {"joins":{"eve":{"metas":[{"phx_ref":"e"}]}},"leaves":{}}]"#,
    );
    // Eve leaves while nobody listens.
    peer.say_ok("2", "2", "realtime:room");
    peer.say(
        r#"[null,null,"realtime:room","presence_diff",
            {"joins":{"bob":{"metas":[{"phx_ref":"b"}]}},"leaves":{}}]"#,
    );
    peer.say(r#"["2",null,"realtime:room","presence_state",{}]"#);
    assert_eq!(told(&mut peer), [["bob", "", ""]], "what the next join was told counts");
    let here = peer.command(|client, _| {
        let channel = client.channel(id).unwrap();
        channel.presence().members().map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(here, ["bob"]);
}

#[test]
fn a_diff_of_the_older_join_on_the_same_connection_is_not_put_on_top_of_the_new_snapshot() {
    let mut world = World::seed(1);
    let (ana, room) = join(&mut world, "ana");
    world.run_for(Duration::from_millis(81));
    // The server hears of this while ana shows up, and tells it before it answers the next join.
    world.client(ana, |client, now| {
        let rows = Binding::new(ChangeEvent::All, "public", "orders");
        client.channel(room).unwrap().bind(rows, now).unwrap();
    });
    world.run_for(secs(1));
    let refs = shown(&mut world, ana, room, "ana");
    assert_eq!(refs.len(), 1, "{refs:?}");
}

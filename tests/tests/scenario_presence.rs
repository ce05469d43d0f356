//! Presence: who is here, across faults and within the server's budget.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{JoinConfig, PresenceConfig};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, Config, Event, Payload, PresenceDiff,
};
use realtime_sim::{Network, NodeId, World};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn payload(n: u32) -> Payload {
    Payload::from_json(format!("{{\"n\":{n}}}")).unwrap()
}

/// A client that shows itself in the room under `name`.
fn join(world: &mut World, name: &str) -> (NodeId, ChannelId) {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    let config = Config::builder("ws://server/socket").reconnect(retries).build().unwrap();
    let node = world.add_client(config);
    let presence = PresenceConfig { key: name.into(), enabled: true };
    let config = ChannelConfig::supabase(JoinConfig { presence, ..JoinConfig::default() });
    let room = world.client(node, |client, now| {
        client.connect(now);
        let room = client.open_channel("realtime:room", config, now).unwrap();
        client.channel(room).unwrap().track(payload(0), now).unwrap();
        room
    });
    (node, room)
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
    let keys = |members: &[realtime_proto::Member]| -> Vec<String> {
        members.iter().map(|member| member.key.clone()).collect()
    };
    let told = told.iter().map(|diff| {
        [keys(&diff.joined), keys(&diff.updated), keys(&diff.left)].map(|keys| keys.join(" "))
    });
    // This client's own entry went with its connection and came back with it.
    assert_eq!(told.collect::<Vec<_>>(), [["dan", "", ""], ["", "ana", ""]]);
    world.run_for(secs(5));
    let told = diffs(&mut world, ana);
    assert_eq!((told.len(), keys(&told[0].left)), (1, vec!["cy".to_string()]));
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

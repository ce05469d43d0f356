//! Channels: joining, failing, leaving, and what belongs to which join.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, ChannelState, Client, Config, ConfigBuilder,
    Event, Instant, Limits, Payload,
};
use realtime_sim::{World, describe};
use realtime_tests::peer::Peer;

const TOPIC: &str = "realtime:room";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

fn open(client: &mut Client, now: Instant) -> ChannelId {
    let config = ChannelConfig::supabase(JoinConfig::default());
    client.open_channel(TOPIC, config, now).unwrap()
}

/// A joined Phoenix channel `room:a`, with the join ref 1.
fn joined() -> (Peer, ChannelId) {
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| {
        client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    });
    peer.say_ok("1", "1", "room:a");
    assert_eq!(peer.take_lines(), ["ch0.1 joined", "ch0.1 live"]);
    peer.take_frames();
    (peer, id)
}

fn state(peer: &mut Peer, id: ChannelId) -> ChannelState {
    peer.command(|client, _| client.channel(id).unwrap().state())
}

fn payload(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

#[test]
fn a_refused_join_is_made_again_after_a_delay_and_accepted() {
    let refusing = ServerConfig {
        refuse_joins: vec![(TOPIC.into(), "UnableToConnectToProject: busy".into())],
        ..ServerConfig::default()
    };
    let mut world = World::seed(1).with_server(refusing);
    let ana = world.add_client(settings().build().unwrap());
    world.client(ana, |client, now| {
        client.connect(now);
        open(client, now)
    });
    world.run_for(secs(6));
    world.server(|server, _| server.set_config(ServerConfig::default()));
    world.run_for(secs(1));
    let told: Vec<String> =
        world.log(ana).iter().map(|(at, event)| format!("{at} {}", describe(event))).collect();
    let expected = [
        "0.040s connected socket1",
        "5.080s ch0.1 errored: database unavailable, again at 6.080s",
        "6.120s ch0.1 joined",
        "6.120s ch0.1 live",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_join_that_times_out_is_left_and_its_late_ok_is_ignored() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open);
    peer.take_frames();
    peer.pass(secs(10));
    assert_eq!(peer.take_frames(), [r#"["1","2","realtime:room","phx_leave",{}]"#]);
    assert_eq!(peer.take_lines(), ["ch0.1 errored: join timeout, again at 11.000s"]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(state(&mut peer, id), ChannelState::Errored);
    peer.pass(secs(1));
    assert!(peer.take_frames()[0].starts_with(r#"["3","3","realtime:room","phx_join""#));
    // The server answers the old join, its leave, and only then the new join.
    peer.say_ok("1", "1", TOPIC);
    peer.say_ok("1", "2", TOPIC);
    peer.say(r#"["1","1","realtime:room","phx_close",{}]"#);
    assert_eq!(state(&mut peer, id), ChannelState::Joining);
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    peer.say_ok("3", "3", TOPIC);
    assert_eq!(peer.take_lines(), ["ch0.1 joined", "ch0.1 live"]);
}

#[test]
fn a_late_ok_of_an_older_join_does_not_accept_the_current_one() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open);
    peer.pass(secs(11));
    peer.take_events();
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(state(&mut peer, id), ChannelState::Joining);
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
}

#[test]
fn a_phx_close_that_names_no_join_is_a_message_of_the_application() {
    let (mut peer, id) = joined();
    peer.say(r#"[null,null,"room:a","phx_close",{}]"#);
    assert_eq!(peer.take_lines(), ["ch0.1 message phx_close"]);
    assert_eq!(state(&mut peer, id), ChannelState::Joined);
}

#[test]
fn a_channel_that_is_closed_while_it_joins_is_left_and_ends_once() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open);
    peer.take_frames();
    peer.command(|client, now| client.close_channel(id, now));
    assert_eq!(peer.take_frames(), [r#"["1","2","realtime:room","phx_leave",{}]"#]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(peer.take_lines(), [] as [&str; 0], "the late ok joins nothing");
    peer.say_ok("1", "2", TOPIC);
    peer.say(r#"["1","1","realtime:room","phx_close",{}]"#);
    assert_eq!(peer.take_lines(), ["ch0.1 closed: requested"]);
    assert!(peer.command(|client, _| client.channel(id).is_none()));
}

#[test]
fn a_leave_that_is_not_answered_ends_after_its_time() {
    let (mut peer, id) = joined();
    peer.command(|client, now| client.close_channel(id, now));
    peer.pass(Duration::from_millis(4_999));
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    peer.pass(Duration::from_millis(1));
    assert_eq!(peer.take_lines(), ["ch0.1 closed: requested"]);
}

#[test]
fn a_topic_that_is_closed_and_opened_at_once_is_joined_by_the_new_channel() {
    let (mut peer, old) = joined();
    let new = peer.command(|client, now| {
        client.close_channel(old, now);
        client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    });
    let frames = [r#"["1","2","room:a","phx_leave",{}]"#, r#"["3","3","room:a","phx_join",{}]"#];
    assert_eq!(peer.take_frames(), frames);
    peer.say(r#"["1","1","room:a","phx_close",{}]"#);
    assert_eq!(state(&mut peer, new), ChannelState::Joining);
    peer.say_ok("1", "2", "room:a");
    peer.say_ok("3", "3", "room:a");
    assert_eq!(peer.take_lines(), ["ch0.1 closed: requested", "ch1.1 joined", "ch1.1 live"]);
    peer.say(r#"["1","1","room:a","phx_close",{}]"#);
    assert_eq!(state(&mut peer, new), ChannelState::Joined);
}

#[test]
fn a_real_server_lets_a_topic_be_closed_and_opened_at_once_too() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    let mut id = world.client(ana, |client, now| {
        client.connect(now);
        open(client, now)
    });
    world.run_for(secs(1));
    for _ in 0..20 {
        id = world.client(ana, |client, now| {
            client.close_channel(id, now);
            open(client, now)
        });
        world.run_for(Duration::from_millis(7));
    }
    world.run_for(secs(1));
    assert!(world.client(ana, |client, _| client.channel(id).unwrap().is_live()));
    assert_eq!(world.server(|server, _| server.stats().channels), 1);
    let closed = world
        .log(ana)
        .iter()
        .filter(|(_, event)| matches!(event, Event::Channel(_, ChannelEvent::Closed { .. })));
    assert_eq!(closed.count(), 20);
}

#[test]
fn messages_of_an_older_join_are_not_delivered() {
    let (mut peer, id) = joined();
    peer.say(r#"["1","1","room:a","phx_error",{}]"#);
    peer.pass(secs(1));
    assert_eq!(peer.take_frames(), [r#"["2","2","room:a","phx_join",{}]"#]);
    peer.say_ok("2", "2", "room:a");
    peer.take_events();
    peer.say(r#"["1",null,"room:a","news",{"n":1}]"#);
    peer.say(r#"["1","1","room:a","phx_error",{}]"#);
    peer.say(r#"["1","1","room:a","phx_close",{}]"#);
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    assert_eq!(state(&mut peer, id), ChannelState::Joined);
    peer.say(r#"["2",null,"room:a","news",{"n":2}]"#);
    assert_eq!(peer.take_lines(), ["ch0.1 message news"]);
}

#[test]
fn phx_close_is_final_on_a_phoenix_channel() {
    let (mut peer, _) = joined();
    peer.say(r#"["1","1","room:a","phx_close",{}]"#);
    assert_eq!(peer.take_lines(), ["ch0.1 closed: channel closed"]);
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [] as [&str; 0]);
}

#[test]
fn pushes_leave_in_call_order_across_a_rejoin() {
    let (mut peer, id) = joined();
    let push = |peer: &mut Peer, n: u32| {
        peer.command(|client, now| {
            let text = format!("{{\"n\":{n}}}");
            client.channel(id).unwrap().push("add", payload(&text), now).unwrap()
        })
    };
    push(&mut peer, 1);
    peer.say(r#"["1","1","room:a","phx_error",{}]"#);
    push(&mut peer, 2);
    push(&mut peer, 3);
    peer.pass(secs(1));
    push(&mut peer, 4);
    peer.say_ok("3", "3", "room:a");
    push(&mut peer, 5);
    let frames = [
        r#"["1","2","room:a","add",{"n":1}]"#,
        r#"["3","3","room:a","phx_join",{}]"#,
        r#"["3","4","room:a","add",{"n":2}]"#,
        r#"["3","5","room:a","add",{"n":3}]"#,
        r#"["3","6","room:a","add",{"n":4}]"#,
        r#"["3","7","room:a","add",{"n":5}]"#,
    ];
    assert_eq!(peer.take_frames(), frames);
}

#[test]
fn a_push_before_the_join_waits_for_it() {
    let mut peer = Peer::new(settings());
    peer.command(|client, now| {
        let config = ChannelConfig::phoenix(Payload::empty());
        let id = client.open_channel("room:a", config, now).unwrap();
        client.channel(id).unwrap().push("hi", Payload::empty(), now).unwrap();
        client.connect(now);
    });
    peer.accept();
    assert_eq!(peer.take_frames(), [r#"["1","1","room:a","phx_join",{}]"#]);
    peer.say_ok("1", "1", "room:a");
    assert_eq!(peer.take_frames(), [r#"["1","2","room:a","hi",{}]"#]);
    peer.say_ok("1", "2", "room:a");
    let told = ["connected socket1", "ch0.1 joined", "ch0.1 live", "ch0.1 push1 replied"];
    assert_eq!(peer.take_lines(), told);
}

#[test]
fn a_push_without_an_answer_times_out_once() {
    let (mut peer, id) = joined();
    peer.command(|client, now| {
        client.channel(id).unwrap().push("hi", Payload::empty(), now).unwrap();
    });
    peer.pass(Duration::from_millis(9_999));
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    peer.pass(Duration::from_millis(1));
    assert_eq!(peer.take_lines(), ["ch0.1 push1 timed out"]);
    peer.say_ok("1", "2", "room:a");
    assert_eq!(peer.take_lines(), [] as [&str; 0], "an answer that comes late is nobody's");
}

#[test]
fn a_push_that_is_cut_off_ends_once_and_after_the_disconnect() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    let id = world.client(ana, |client, now| {
        client.connect(now);
        client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    });
    world.run_for(secs(1));
    world.take_log(ana);
    world.client(ana, |client, now| {
        client.channel(id).unwrap().push("hi", Payload::empty(), now).unwrap();
    });
    world.run_for(Duration::from_millis(30));
    world.cut(ana);
    world.run_for(secs(30));
    let told: Vec<String> = world.log(ana).iter().map(|(_, event)| describe(event)).collect();
    let expected = [
        "disconnected socket1: connection lost, again at 2.030s",
        "ch0.1 push1 interrupted",
        "ch0.1 errored: connection lost",
        "connected socket2",
        "ch0.1 joined",
        "ch0.1 gap of messages from 0.040s to 2.110s: connection lost",
        "ch0.1 live",
    ];
    assert_eq!(told[..7], expected);
    assert!(told[7..].iter().all(|line| line.starts_with("heartbeat")), "{told:?}");
}

#[test]
fn a_hundred_and_twenty_channels_join_at_fifty_a_second() {
    let mut limits = Limits::default();
    limits.channels_max = 200;
    let config = ServerConfig { channels_per_session_max: 200, ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(config);
    let ana = world.add_client(settings().limits(limits).build().unwrap());
    world.client(ana, |client, now| {
        client.connect(now);
        for n in 0..120 {
            let config = ChannelConfig::supabase(JoinConfig::default());
            client.open_channel(&format!("realtime:{n}"), config, now).unwrap();
        }
    });
    world.run_for(secs(3));
    let sent = world.sent(ana);
    let start = sent[0].0;
    let at: Vec<u128> =
        sent.iter().map(|(at, _)| at.saturating_duration_since(start).as_millis()).collect();
    assert_eq!(at.len(), 120);
    assert!(at[..50].iter().all(|at| *at == 0), "a second's worth goes at once");
    let paced: Vec<u128> = (1..=70).map(|n| n * 20).collect();
    assert_eq!(at[50..], paced, "then one every 20 ms");
    assert_eq!(world.client(ana, |client, _| client.stats().channels_live), 120);
}

/// A joined channel with two bindings, which the server gave these ids.
fn with_rows(ids: [u64; 2]) -> (Peer, ChannelId) {
    let mut config = JoinConfig::default();
    config.postgres_changes.push(Binding::new(ChangeEvent::All, "public", "a"));
    config.postgres_changes.push(Binding::new(ChangeEvent::All, "public", "b"));
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(config), now).unwrap()
    });
    accept_rows(&mut peer, 1, ids);
    assert_eq!(peer.take_lines(), ["ch0.1 joined"]);
    (peer, id)
}

fn accept_rows(peer: &mut Peer, join_ref: u32, ids: [u64; 2]) {
    peer.say(&format!(
        r#"["{join_ref}","{join_ref}","{TOPIC}","phx_reply",{{"status":"ok","response":
        {{"postgres_changes":[{{"id":{},"event":"*","schema":"public","table":"a"}},
        {{"id":{},"event":"*","schema":"public","table":"b"}}]}}}}]"#,
        ids[0], ids[1],
    ));
}

fn change(ids: &str) -> String {
    format!(
        r#"[null,null,"{TOPIC}","postgres_changes",{{"ids":{ids},"data":{{"schema":"public",
        "table":"a","type":"INSERT","commit_timestamp":"2026-01-01T00:00:00Z","errors":null,
        "columns":[],"record":{{"id":1}}}}}}]"#,
    )
}

#[test]
fn row_changes_are_routed_by_the_ids_of_the_current_join_only() {
    let (mut peer, id) = with_rows([7, 8]);
    let bindings: Vec<_> = peer.command(|client, _| {
        client.channel(id).unwrap().bindings().map(|(binding, _)| binding).collect()
    });
    peer.say(&change("[8]"));
    let told = peer.take_events();
    let [Event::Channel(_, ChannelEvent::Change { bindings: hit, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(hit.contains(bindings[1]) && !hit.contains(bindings[0]));

    peer.say(&format!(r#"["1","1","{TOPIC}","phx_error",{{}}]"#));
    peer.pass(secs(1));
    accept_rows(&mut peer, 2, [8, 9]);
    peer.take_events();
    peer.say(&change("[7]"));
    assert_eq!(peer.take_lines(), ["violation"], "an id of the join before");
    peer.say(&change("[8]"));
    let told = peer.take_events();
    let [Event::Channel(_, ChannelEvent::Change { bindings: hit, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(hit.contains(bindings[0]) && !hit.contains(bindings[1]), "8 is another's now");
}

#[test]
fn a_channel_with_rows_is_live_only_when_the_database_says_so() {
    let (mut peer, _) = with_rows([7, 8]);
    peer.say(&format!(
        r#"["1",null,"{TOPIC}","system",{{"message":"Subscribed to PostgreSQL","status":"ok",
        "extension":"postgres_changes","channel":"room"}}]"#
    ));
    assert_eq!(peer.take_lines(), ["ch0.1 system", "ch0.1 live"]);
}

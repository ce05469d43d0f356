//! The connection: opening, heartbeats, losing it, coming back.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{JoinConfig, Retry};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelId, Client, CloseReason, Config, ConfigBuilder, Event, Instant,
    Limits, Payload,
};
use realtime_sim::{NodeId, World, describe};
use realtime_tests::peer::Peer;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries)
}

fn room(client: &mut Client, now: Instant) -> ChannelId {
    let config = ChannelConfig::supabase(JoinConfig::default());
    client.open_channel("realtime:room", config, now).unwrap()
}

/// A client with one channel that is live.
fn live(world: &mut World) -> (NodeId, ChannelId) {
    let ana = world.add_client(settings().build().unwrap());
    let room = world.client(ana, |client, now| {
        client.connect(now);
        room(client, now)
    });
    world.run_for(secs(1));
    assert!(is_live(world, ana, room));
    world.take_log(ana);
    (ana, room)
}

fn is_live(world: &mut World, node: NodeId, channel: ChannelId) -> bool {
    world.client(node, |client, _| client.channel(channel).unwrap().is_live())
}

fn lines(world: &mut World, node: NodeId) -> Vec<String> {
    world.take_log(node).iter().map(|(at, event)| format!("{at} {}", describe(event))).collect()
}

#[test]
fn a_channel_is_connected_then_joined_then_live() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    world.client(ana, |client, now| {
        client.connect(now);
        let config = ChannelConfig::supabase(JoinConfig::default()).with_presence();
        client.open_channel("realtime:room", config, now).unwrap()
    });
    world.run_for(secs(1));
    let told = [
        "0.040s connected socket1",
        "0.080s ch0.1 joined",
        "0.080s ch0.1 presence +0 ~0 -0",
        "0.080s ch0.1 live",
    ];
    assert_eq!(lines(&mut world, ana), told);
}

#[test]
fn after_a_cut_the_channel_is_joined_again() {
    let mut world = World::seed(1);
    let (ana, room) = live(&mut world);
    world.cut(ana);
    assert!(!is_live(&mut world, ana, room));
    world.run_for(secs(2));
    let told = [
        "1.000s disconnected socket1: connection lost, again at 2.000s",
        "1.000s ch0.1 errored: connection lost",
        "2.040s connected socket2",
        "2.080s ch0.1 joined",
        "2.080s ch0.1 gap of messages from 0.040s to 2.080s: connection lost",
        "2.080s ch0.1 live",
    ];
    assert_eq!(lines(&mut world, ana), told);
}

#[test]
fn an_unanswered_heartbeat_closes_with_1000_and_reconnects() {
    let mut peer = Peer::connected(settings());
    peer.pass(secs(25));
    assert_eq!(peer.take_frames(), [r#"[null,"1","phoenix","heartbeat",{}]"#]);
    peer.pass(Duration::from_millis(9_999));
    assert_eq!(peer.take_closes(), []);
    peer.pass(Duration::from_millis(1));
    assert_eq!(peer.take_closes(), [(1000, "heartbeat timeout".into())]);
    let told = ["disconnected socket1: heartbeat timeout, again at 36.000s"];
    assert_eq!(peer.take_lines(), told);
    peer.take_opens();
    peer.pass(secs(1));
    assert_eq!(peer.take_opens().len(), 1);
}

#[test]
fn a_heartbeat_of_a_dead_socket_never_kills_the_next_one() {
    let mut peer = Peer::connected(settings());
    peer.pass(secs(25));
    assert_eq!(peer.take_frames().len(), 1);
    peer.close(1006);
    peer.pass(secs(1));
    peer.accept();
    peer.take_events();
    // The deadline of the old heartbeat passes, and its answer comes to nobody.
    peer.say(r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    peer.pass(secs(20));
    assert_eq!(peer.take_closes(), []);
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    assert!(peer.command(|client, _| client.is_connected()));
}

#[test]
fn heartbeats_keep_their_schedule_while_traffic_flows() {
    let mut world = World::seed(1);
    let (ana, room) = live(&mut world);
    for _ in 0..102 {
        world.client(ana, |client, now| {
            client.channel(room).unwrap().broadcast("tick", Payload::empty(), now).unwrap();
        });
        world.run_for(secs(1));
    }
    let beats = world.sent(ana).iter().filter(|(_, line)| line.ends_with("heartbeat"));
    let beats: Vec<String> = beats.map(|(at, _)| at.to_string()).collect();
    assert_eq!(beats, ["25.040s", "50.040s", "75.040s", "100.040s"]);
}

#[test]
fn a_close_with_code_1000_is_reconnected_too() {
    let mut world = World::seed(1);
    let (ana, room) = live(&mut world);
    world.close(ana, 1000, "");
    world.run_for(secs(3));
    assert!(is_live(&mut world, ana, room));
    let told = lines(&mut world, ana);
    assert_eq!(told[0], "1.020s disconnected socket1: closed normally, again at 2.020s");
}

#[test]
fn disconnect_wins_over_whatever_comes_late() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(room);
    peer.say_ok("1", "1", "realtime:room");
    peer.take_events();
    peer.take_opens();
    let socket = peer.socket();
    peer.command(Client::disconnect);
    let told = ["disconnected socket1: requested", "ch0.1 errored: requested"];
    assert_eq!(peer.take_lines(), told);
    assert_eq!(peer.take_closes(), [(1000, String::new())]);
    peer.say(r#"[null,null,"realtime:room","broadcast",{"event":"late","payload":{}}]"#);
    peer.close(1006);
    peer.command(|client, now| client.handle_open(socket, now));
    peer.pass(secs(3_600));
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    assert_eq!(peer.take_opens(), []);
    assert!(peer.command(|client, _| !client.is_connected() && client.channel(id).is_some()));
}

#[test]
fn disconnect_wins_over_an_attempt_that_succeeds_late() {
    let mut peer = Peer::new(settings());
    peer.command(Client::connect);
    peer.command(Client::disconnect);
    assert_eq!(peer.take_closes(), [(1000, String::new())]);
    peer.take_events();
    peer.accept();
    assert_eq!(peer.take_lines(), [] as [&str; 0]);
    assert!(peer.command(|client, _| !client.is_connected()));
}

#[test]
fn a_server_that_accepts_and_closes_sees_growing_delays() {
    let mut peer = Peer::new(settings());
    peer.command(room);
    peer.command(Client::connect);
    peer.take_opens();
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        peer.accept();
        peer.close(1000);
        peer.pass(secs(expected) - Duration::from_millis(1));
        assert_eq!(peer.take_opens(), [], "it is too early after {expected} s");
        peer.pass(Duration::from_millis(1));
        assert_eq!(peer.take_opens().len(), 1, "the delay is {expected} s");
    }
}

#[test]
fn an_hour_of_sleep_leads_to_one_probe_and_not_to_missed_beats() {
    let config = ServerConfig { idle_after: None, ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(config);
    let (ana, room) = live(&mut world);
    world.suspend(ana, secs(3_600));
    world.run_for(secs(3_600));
    let woken_at = world.now();
    world.run_for(secs(24));
    let sent = world.sent(ana).iter().filter(|(at, _)| *at >= woken_at);
    let sent: Vec<String> = sent.map(|(_, line)| line.clone()).collect();
    assert_eq!(sent, ["  -   2 phoenix heartbeat"]);
    assert!(is_live(&mut world, ana, room));
    world.run_for(secs(2));
    assert_eq!(world.sent(ana).last().unwrap().0, woken_at + secs(25));
    let told = lines(&mut world, ana);
    assert!(told.iter().all(|line| line.contains("heartbeat answered")), "{told:?}");
}

#[test]
fn a_connection_that_died_in_sleep_is_given_up_two_seconds_after_waking() {
    let mut world = World::seed(1);
    let (ana, room) = live(&mut world);
    world.stall(ana);
    world.suspend(ana, secs(3_600));
    world.run_for(secs(3_600));
    let told = world.run_while_not(secs(10), |world| !world.log(ana).is_empty());
    assert_eq!(told, Some(secs(2)));
    assert!(lines(&mut world, ana)[0].contains("heartbeat timeout"));
    world.run_for(secs(2));
    assert!(is_live(&mut world, ana, room));
}

#[test]
fn hints_that_come_faster_than_probes_end_keep_no_dead_connection_alive() {
    let mut peer = Peer::connected(settings());
    for _ in 0..4 {
        peer.command(Client::probe);
        peer.pass(Duration::from_millis(500));
    }
    assert_eq!(peer.take_frames(), [r#"[null,"1","phoenix","heartbeat",{}]"#]);
    assert_eq!(peer.take_closes(), [(1000, "heartbeat timeout".into())]);
}

#[test]
fn a_probe_gives_a_heartbeat_that_is_out_already_two_seconds() {
    let mut peer = Peer::connected(settings());
    peer.pass(secs(26));
    peer.command(Client::probe);
    peer.pass(secs(2));
    assert_eq!(peer.take_closes(), [(1000, "heartbeat timeout".into())]);
    assert_eq!(peer.take_frames().len(), 1);
}

#[test]
fn a_connection_that_nothing_comes_through_is_found_dead_by_the_next_heartbeat() {
    let mut world = World::seed(1);
    let (ana, room) = live(&mut world);
    world.stall(ana);
    world.run_for(secs(40));
    assert!(is_live(&mut world, ana, room));
    let told = lines(&mut world, ana);
    assert_eq!(told[0], "35.040s disconnected socket1: heartbeat timeout, again at 36.040s");
}

#[test]
fn an_attempt_that_gets_no_answer_is_given_up_and_made_again() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    world.partition(ana);
    world.client(ana, |client, now| client.connect(now));
    world.run_for(secs(10));
    let told = ["10.000s disconnected socket1: connect timeout, again at 11.000s"];
    assert_eq!(lines(&mut world, ana), told);
    world.heal(ana);
    world.run_for(secs(2));
    assert_eq!(lines(&mut world, ana), ["11.040s connected socket2"]);
    // The first attempt got through after all, when nobody wanted it any more.
    assert_eq!(world.server(|server, _| server.stats().sessions), 1);
}

#[test]
fn a_rejected_key_stops_until_connect_is_called() {
    let config = ServerConfig { apikey: Some("right".into()), ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(config);
    let ana = world.add_client(settings().apikey("wrong").build().unwrap());
    world.client(ana, |client, now| client.connect(now));
    world.run_for(secs(1));
    let stopped = world.take_log(ana);
    assert!(matches!(&stopped[0].1, Event::Disconnected { cause, retry_at: None, .. }
        if cause.kind.retry() == Retry::NewToken));
    assert!(matches!(&stopped[1].1, Event::TokenNeeded { .. }));
    assert_eq!((stopped.len(), world.next_at()), (2, None), "nothing is planned");
    world.run_for(secs(3_600));
    assert_eq!(world.take_log(ana), []);

    world.client(ana, |client, now| client.connect(now));
    world.run_for(secs(1));
    assert_eq!(world.take_log(ana).len(), 2, "it was tried once more");
}

#[test]
fn a_rejected_upgrade_is_tried_again_with_another_token() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    let (status, body) = (401, String::new());
    world.refuse_next(ana, CloseReason::Refused { status, body, retry_after: None });
    world.client(ana, |client, now| client.connect(now));
    world.run_for(secs(3_600));
    assert!(world.client(ana, |client, _| !client.is_connected()));
    world.client(ana, |client, now| client.set_access_token(Some("fresh".into()), now));
    world.run_for(secs(1));
    assert!(world.client(ana, |client, _| client.is_connected()));
}

#[test]
fn retry_after_is_waited_for() {
    let mut world = World::seed(1);
    let ana = world.add_client(settings().build().unwrap());
    let (status, body, retry_after) = (503, "busy".to_string(), Some(secs(42)));
    world.refuse_next(ana, CloseReason::Refused { status, body, retry_after });
    world.client(ana, |client, now| client.connect(now));
    world.run_for(secs(50));
    let told = [
        "0.040s disconnected socket1: refused other, again at 42.040s",
        "42.080s connected socket2",
    ];
    assert_eq!(lines(&mut world, ana), told);
}

#[test]
fn a_rejected_key_is_replaced_without_another_client() {
    let mut peer = Peer::new(settings().apikey("wrong"));
    peer.command(Client::connect);
    peer.take_opens();
    let socket = peer.socket();
    let body = r#"{"error":"Failed to validate JWT signature"}"#.to_owned();
    let reason = CloseReason::Refused { status: 401, body, retry_after: None };
    peer.command(|client, now| client.handle_close(socket, reason, now));
    peer.pass(secs(3_600));
    assert_eq!(peer.take_opens(), []);
    peer.command(|client, now| client.set_param("apikey", Some("right".into()), now));
    assert_eq!(peer.take_opens().len(), 1);
}

#[test]
fn joins_that_pile_up_while_the_machine_sleeps_leave_within_the_budget() {
    let mut limits = Limits::default();
    limits.joins_per_second_max = 10;
    let mut world = World::seed(1);
    let node = world.add_client(settings().limits(limits).build().unwrap());
    world.client(node, Client::connect);
    world.run_for(secs(1));
    world.suspend(node, secs(10));
    for round in 0..9 {
        world.client(node, |client, now| {
            for number in 0..10 {
                let topic = format!("room:{round}:{number}");
                client.open_channel(&topic, ChannelConfig::phoenix(Payload::empty()), now).unwrap();
            }
        });
        world.run_for(secs(1));
    }
    world.run_for(secs(20));
    let joins = world.sent(node).iter().filter(|(_, line)| line.ends_with(" phx_join"));
    let times: Vec<Instant> = joins.map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 90);
    for (first, at) in times.iter().enumerate() {
        let within = times[first..].iter().filter(|later| **later < *at + secs(1)).count();
        assert!(within < 20, "{within} joins within a second of {at:?}: a burst, and what is due");
    }
}

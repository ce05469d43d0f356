//! Every rule fails when it is broken.

mod conduct;
mod numbers;
mod patience;
mod pushes;
mod roster;

use core::time::Duration;

use realtime_proto::server::{Server, ServerConfig};
use realtime_proto::supabase::CauseKind;
use realtime_proto::{Config, Frame};

use super::*;
use crate::World;
use crate::coverage::PushEnd;
use crate::scenario::Scenario;
use crate::subject::{ChannelKey, ChannelTold, Command, MemberDiff, Told};

const ANA: NodeId = NodeId(0);
const BEN: NodeId = NodeId(1);
const ROOM: TopicId = TopicId(0);
const LINK: u64 = 7;

/// An oracle that follows a scenario of two clients and a manager, and what its hooks ask for.
struct Bench {
    oracle: Oracle,
    world: World,
    sessions: [SessionId; 2],
    now: Instant,
}

const fn key(life: u32) -> ChannelKey {
    ChannelKey { topic: ROOM, life }
}

const fn came(number: u64) -> ChannelTold {
    ChannelTold::Broadcast { number: Some(number), has_id: false }
}

impl Bench {
    fn new() -> Self {
        let text = "seed 1\nset channels-max 1\nset events-max 10\nclient ana\nclient ben\n\
                    manager cleo\ntopic room realtime:room presence rows\n\
                    topic seat realtime:presence:contact:1 presence\n";
        let scenario: Scenario = text.parse().unwrap();
        let mut world = World::seed(1);
        for _ in 0..3 {
            world.add_client(Config::builder("ws://server/socket").build().unwrap());
        }
        let mut server = Server::new(ServerConfig::default(), 1, Instant::EPOCH);
        let mut accept = || server.accept("/socket/websocket?vsn=2.0.0", Instant::EPOCH).unwrap();
        let sessions = [accept(), accept()];
        let mut oracle = Oracle::default();
        oracle.follow(&scenario.cast);
        for (at, node) in [ANA, BEN].into_iter().enumerate() {
            let link = LINK + at as u64;
            oracle.on_attempt((node, 0), (link, 0), Instant::EPOCH);
            oracle.on_accepted(At { server: 0, session: sessions[at] }, node);
        }
        Self { oracle, world, sessions, now: Instant::EPOCH }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.world.now = self.now;
    }

    fn sends(&mut self, node: NodeId, text: &str) {
        let frame = Frame::text(text.to_owned());
        self.oracle.on_node_sends((node, LINK + node.0 as u64), &frame, self.now, self.now);
    }

    fn receives(&mut self, node: NodeId, text: &str) {
        let frame = Frame::text(text.to_owned());
        self.oracle.on_node_receives(node, (LINK + node.0 as u64, 0), &frame, (self.now, self.now));
    }

    fn tells(&mut self, node: NodeId, told: Told) {
        self.oracle.on_told(node, &told, (self.now, self.now), self.now);
    }

    fn tells_of(&mut self, node: NodeId, life: u32, told: ChannelTold) {
        self.tells(node, Told::Channel(key(life), told));
    }

    fn join(&mut self, node: NodeId, join_ref: &str) {
        self.sends(
            node,
            &format!("[\"{join_ref}\",\"{join_ref}\",\"realtime:room\",\"phx_join\",{{}}]"),
        );
    }

    fn accepted(&mut self, node: NodeId, join_ref: &str) {
        let ok = "{\"status\":\"ok\",\"response\":{}}";
        self.receives(
            node,
            &format!("[\"{join_ref}\",\"{join_ref}\",\"realtime:room\",\"phx_reply\",{ok}]"),
        );
    }

    /// A node joins the room and its first channel is live.
    fn live(node: NodeId) -> Self {
        let mut bench = Self::new();
        bench.tells(node, Told::Connected { connection: 0 });
        bench.join(node, "1");
        bench.accepted(node, "1");
        bench.tells_of(node, 1, ChannelTold::Joined);
        bench.tells_of(node, 1, ChannelTold::Live);
        assert_eq!(bench.oracle.finding, None);
        bench
    }

    fn sends_number(&mut self, node: NodeId, number: u64) {
        let payload =
            format!("{{\"type\":\"broadcast\",\"event\":\"n\",\"payload\":{{\"#\":{number}}}}}");
        self.sends(node, &format!("[\"1\",\"9\",\"realtime:room\",\"broadcast\",{payload}]"));
    }

    fn receives_number(&mut self, node: NodeId, join_ref: &str, number: u64, meta: &str) {
        let payload = format!("{{\"event\":\"n\",\"payload\":{{\"#\":{number}}}{meta}}}");
        self.receives(
            node,
            &format!("[{join_ref},null,\"realtime:room\",\"broadcast\",{payload}]"),
        );
    }

    fn announces(&mut self, number: u64, stored: bool) {
        self.oracle.on_announced(ROOM, number, stored, &self.world.nodes, self.now);
    }

    fn settles(&mut self) {
        self.oracle.settle(self.now);
    }

    fn found(&self) -> &'static str {
        self.oracle.finding.as_ref().map_or("", |finding| finding.rule)
    }
}

#[test]
fn a_push_that_ends_twice_is_found() {
    let mut bench = Bench::live(ANA);
    bench.oracle.on_send(ANA, ROOM, 1);
    for rule in ["", "G3"] {
        bench.tells_of(ANA, 1, ChannelTold::Ended { number: 1, end: PushEnd::Dropped });
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn a_push_that_was_refused_and_ends_is_found() {
    let mut bench = Bench::live(ANA);
    bench.oracle.on_send(ANA, ROOM, 1);
    bench.oracle.on_send_refused(ANA, 1, bench.now);
    bench.tells_of(ANA, 1, ChannelTold::Ended { number: 1, end: PushEnd::Dropped });
    assert_eq!(bench.found(), "G3");
}

#[test]
fn a_push_that_no_scenario_sent_ends_once_too() {
    let mut bench = Bench::live(ANA);
    for rule in ["", "G3"] {
        bench.tells_of(ANA, 1, ChannelTold::Ended { number: u64::MAX, end: PushEnd::Sent });
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn whoever_tells_nothing_owes_no_ends() {
    let mut bench = Bench::new();
    bench.oracle.on_wanted(ANA, key(1));
    bench.oracle.on_send(ANA, ROOM, 1);
    bench.oracle.check_end(0, None, bench.now);
    assert_eq!(bench.found(), "");
}

#[test]
fn a_push_that_never_ends_is_found() {
    let mut bench = Bench::new();
    bench.tells(ANA, Told::Connected { connection: 0 });
    bench.oracle.on_send(ANA, ROOM, 1);
    bench.oracle.check_end(0, None, bench.now);
    assert_eq!(bench.found(), "G3");
}

#[test]
fn a_channel_that_never_closes_is_found() {
    let mut bench = Bench::new();
    bench.tells(ANA, Told::Connected { connection: 0 });
    bench.oracle.on_wanted(ANA, key(1));
    bench.oracle.check_end(0, None, bench.now);
    assert_eq!(bench.found(), "G3");
}

#[test]
fn what_follows_the_end_of_a_channel_is_found() {
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, ChannelTold::Closed);
    bench.tells_of(ANA, 1, ChannelTold::Other);
    assert_eq!(bench.found(), "G3");
}

#[test]
fn a_process_that_died_owes_nothing() {
    let mut bench = Bench::live(ANA);
    bench.oracle.on_send(ANA, ROOM, 1);
    bench.announces(2, false);
    bench.oracle.on_restarted(ANA);
    bench.settles();
    bench.oracle.check_end(0, None, bench.now);
    assert_eq!(bench.found(), "");
}

#[test]
fn what_an_older_join_brought_is_found_when_it_is_told() {
    let mut bench = Bench::live(ANA);
    bench.join(ANA, "3");
    bench.receives_number(ANA, "\"1\"", 1, "");
    bench.accepted(ANA, "3");
    assert_eq!(bench.found(), "");
    bench.tells_of(ANA, 1, came(1));
    assert_eq!(bench.found(), "G4");
}

#[test]
fn a_frame_on_a_socket_that_is_gone_is_found() {
    let mut bench = Bench::live(ANA);
    bench.oracle.on_socket_gone(LINK, bench.now);
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "G4");
}

#[test]
fn a_push_of_an_older_join_is_found() {
    let mut bench = Bench::live(ANA);
    bench.join(ANA, "3");
    bench.accepted(ANA, "3");
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "G4");
}

#[test]
fn a_channel_that_errors_before_the_disconnect_is_told_is_found() {
    let mut bench = Bench::live(ANA);
    let cause = CauseKind::ConnectionLost;
    bench.tells_of(ANA, 1, ChannelTold::Errored { cause, retry_at: Some(bench.now) });
    assert_eq!(bench.found(), "G5");
}

#[test]
fn a_channel_errors_for_the_disconnect_that_is_told_with_it_and_for_no_other() {
    for (cause, connection, rule) in [
        (CauseKind::GoingAway, 0, ""),
        (CauseKind::GoingAway, 1, ""),
        (CauseKind::ClosedNormally, 0, "G5"),
    ] {
        let mut bench = Bench::live(ANA);
        let retry_at = Some(bench.now + Duration::from_secs(1));
        bench.tells(ANA, Told::Disconnected { connection, cause: CauseKind::GoingAway, retry_at });
        // What another connection of a manager tells changes nothing.
        let other = CauseKind::ConnectionLost;
        bench.tells(ANA, Told::Disconnected { connection: 2, cause: other, retry_at });
        bench.tells_of(ANA, 1, ChannelTold::Errored { cause, retry_at: None });
        assert_eq!(bench.found(), rule, "{cause:?} {connection}");
    }
    let mut bench = Bench::live(ANA);
    let cause = CauseKind::ServiceRestart;
    bench.tells(ANA, Told::Disconnected { connection: 0, cause, retry_at: Some(bench.now) });
    bench.pass(1);
    bench.tells_of(ANA, 1, ChannelTold::Errored { cause, retry_at: None });
    assert_eq!(bench.found(), "G5");
}

#[test]
fn a_client_that_gives_up_a_channel_that_comes_back_is_found() {
    for (node, cause, again, rule) in [
        (ANA, CauseKind::ServerRestarting, false, "G8"),
        (ANA, CauseKind::ProjectInitializing, false, "G8"),
        (ANA, CauseKind::DatabaseUnavailable, false, "G8"),
        (ANA, CauseKind::ChannelCrashed, false, "G8"),
        (ANA, CauseKind::ServerRestarting, true, ""),
        // Somebody has to do something about it.
        (ANA, CauseKind::PrivateOnly, false, ""),
        (ANA, CauseKind::TokenExpired, false, ""),
        // A manager was told how often to try.
        (NodeId(2), CauseKind::ServerRestarting, false, ""),
    ] {
        let mut bench = Bench::new();
        bench.tells_of(
            node,
            1,
            ChannelTold::Errored { cause, retry_at: again.then_some(bench.now) },
        );
        assert_eq!(bench.found(), rule, "{node} {cause:?} {again}");
    }
}

#[test]
fn a_channel_that_is_live_before_it_is_joined_is_found() {
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.tells_of(ANA, 1, ChannelTold::Live);
    assert_eq!(bench.found(), "G5");
}

#[test]
fn a_push_before_the_join_is_accepted_is_found() {
    let mut bench = Bench::new();
    bench.join(ANA, "1");
    assert_eq!(bench.found(), "");
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "G6");
}

#[test]
fn a_push_after_a_refused_join_is_found() {
    let mut bench = Bench::new();
    bench.join(ANA, "1");
    let refused = r#"["1","1","realtime:room","phx_reply",{"status":"error","response":{}}]"#;
    bench.receives(ANA, refused);
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "G6");
}

#[test]
fn a_push_that_waited_for_a_stuck_driver_may_leave_after_the_server_ended_the_channel() {
    let mut bench = Bench::live(ANA);
    bench.receives(ANA, r#"["1","1","realtime:room","phx_error",{}]"#);
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "");
    bench.oracle.on_drained(BEN, bench.now, bench.now);
    bench.sends_number(ANA, 2);
    assert_eq!(bench.found(), "");
    bench.oracle.on_drained(ANA, bench.now, bench.now);
    bench.sends_number(ANA, 3);
    assert_eq!(bench.found(), "G6");
}

#[test]
fn a_second_join_in_flight_is_found_unless_the_first_was_left() {
    let mut bench = Bench::new();
    bench.join(ANA, "1");
    bench.sends(ANA, r#"["1","2","realtime:room","phx_leave",{}]"#);
    bench.join(ANA, "3");
    assert_eq!(bench.found(), "");
    bench.join(ANA, "4");
    assert_eq!(bench.found(), "G6");
}

#[test]
fn a_storm_of_joins_is_found() {
    let mut bench = Bench::live(ANA);
    for join in 2..1_000 {
        bench.join(ANA, &join.to_string());
        bench.accepted(ANA, &join.to_string());
        bench.pass(50);
    }
    assert_eq!(bench.found(), "G6");
    assert!(bench.oracle.finding.unwrap().at < Instant::EPOCH + Duration::from_secs(10));
}

#[test]
fn a_storm_of_connections_is_found() {
    let mut bench = Bench::new();
    for link in 100..1_000 {
        bench.oracle.on_attempt((ANA, 0), (link, 0), bench.now);
        bench.pass(50);
    }
    assert_eq!(bench.found(), "G6");
}

#[test]
fn presence_that_differs_from_the_servers_is_found() {
    let present = |name: &str, number| Seen::Members(vec![(name.to_owned(), vec![number])]);
    let cases = [
        (present("ana", 1), Some(1), ""),
        (present("ana", 2), Some(1), "G9"),
        (present("ghost", 1), Some(1), "G9"),
        (Seen::Members(vec![("ana".to_owned(), Vec::new())]), Some(1), "G9"),
        (Seen::Members(Vec::new()), Some(1), "G9"),
        (Seen::Stale, Some(1), "G9"),
        (Seen::Untold, Some(1), ""),
        // The application wants to show another number.
        (present("ana", 1), Some(2), "G9"),
        (Seen::Untold, Some(2), "G9"),
        // It wants to show none any more.
        (present("ana", 1), None, "G9"),
        (Seen::Untold, None, "G9"),
    ];
    for (seen, shown, rule) in cases {
        let mut bench = Bench::live(ANA);
        let at = At { server: 0, session: bench.sessions[0] };
        let track = r##"["1","2","realtime:room","presence",{"event":"track","payload":{"#":1}}]"##;
        bench.oracle.on_server_receives(at, ANA, &Frame::text(track), bench.now);
        let topic = "realtime:room".to_owned();
        let tracked = ServerEvent::Tracked { session: at.session, topic, key: "ana".into() };
        bench.oracle.on_server_told(0, &tracked);
        bench.oracle.check_presence(ANA, ROOM, seen.clone(), shown, bench.now);
        assert_eq!(bench.found(), rule, "{seen:?} {shown:?}");
    }
}

#[test]
fn a_manager_shows_a_number_of_those_that_managers_show_and_none_only_for_who_shows_none() {
    let cleo = NodeId(2);
    for (sender, shown, rule) in [
        (cleo, vec![1], ""),
        (cleo, vec![2], "G9"),
        (cleo, vec![], "G9"),
        // It cannot read what clients show.
        (BEN, vec![], ""),
        (BEN, vec![1], "G9"),
    ] {
        let mut bench = Bench::new();
        bench.oracle.on_attempt((cleo, 0), (LINK + 2, 0), bench.now);
        bench.join(cleo, "1");
        bench.accepted(cleo, "1");
        let at = At { server: 0, session: bench.sessions[1] };
        bench.oracle.on_accepted(at, sender);
        let track = r##"["1","2","realtime:room","presence",{"event":"track","payload":{"#":1}}]"##;
        bench.oracle.on_server_receives(at, sender, &Frame::text(track), bench.now);
        let (session, topic) = (at.session, "realtime:room".to_owned());
        let tracked = ServerEvent::Tracked { session, topic, key: "dan".into() };
        bench.oracle.on_server_told(0, &tracked);
        let seen = Seen::Members(vec![("dan".to_owned(), shown.clone())]);
        let own = (sender == cleo).then_some(1);
        bench.oracle.check_presence(cleo, ROOM, seen, own, bench.now);
        assert_eq!(bench.found(), rule, "{sender} {shown:?}");
    }
}

#[test]
fn more_joins_a_second_than_allowed_are_found() {
    let mut bench = Bench::new();
    for topic in 0..60 {
        bench.sends(
            ANA,
            &format!("[\"{topic}\",\"{topic}\",\"realtime:{topic}\",\"phx_join\",{{}}]"),
        );
    }
    assert_eq!(bench.found(), "G11");
}

#[test]
fn the_sixth_presence_call_within_thirty_seconds_is_found() {
    for (pause, rule) in [(6_100, ""), (5_000, "G11")] {
        let mut bench = Bench::live(ANA);
        for _ in 0..6 {
            bench.sends(ANA, r#"["1","2","realtime:room","presence",{"event":"track"}]"#);
            bench.pass(pause);
        }
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn too_many_channels_on_a_connection_of_a_manager_are_found() {
    let mut bench = Bench::new();
    let cleo = NodeId(2);
    bench.oracle.on_attempt((cleo, 0), (LINK + 2, 0), bench.now);
    for (topic, rule) in [("a", ""), ("b", "G11")] {
        bench.sends(cleo, &format!("[\"1\",\"1\",\"realtime:{topic}\",\"phx_join\",{{}}]"));
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn a_frame_that_is_larger_than_the_server_takes_is_found() {
    let mut bench = Bench::live(ANA);
    let payload = "x".repeat(5_000_000);
    bench.sends(
        ANA,
        &format!("[\"1\",\"2\",\"realtime:room\",\"broadcast\",{{\"x\":\"{payload}\"}}]"),
    );
    assert_eq!(bench.found(), "G11");
}

#[test]
fn more_events_than_may_wait_are_found() {
    let mut bench = Bench::live(ANA);
    for _ in 0..50 {
        let diff = MemberDiff::default();
        bench.tells_of(ANA, 1, ChannelTold::Presence { synced: true, diff });
    }
    assert_eq!(bench.found(), "G12");
}

#[test]
fn a_credential_in_whatever_is_printed_is_found() {
    for text in [format!("Secret({SECRET}-token)"), "[115, 101, 115, 97, 109, 101]".into()] {
        let mut bench = Bench::new();
        bench.oracle.on_shown(ANA, "its client", "Secret(..)", bench.now);
        assert_eq!(bench.found(), "");
        bench.oracle.on_shown(ANA, "its client", &text, bench.now);
        assert_eq!(bench.found(), "G14");
    }
}

#[test]
fn sessions_and_deadlines_that_are_left_at_the_end_are_found() {
    for (sessions, deadline) in [(1, None), (0, Some((Instant::EPOCH, ANA)))] {
        let mut bench = Bench::new();
        bench.oracle.check_end(sessions, deadline, bench.now);
        assert_eq!(bench.found(), "end");
    }
}

#[test]
fn a_gap_of_messages_on_a_channel_that_lost_nothing_is_found() {
    let gap = |bench: &Bench| ChannelTold::Gap {
        stream: Missed::Messages,
        from: bench.now,
        to: bench.now,
    };
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    let told = gap(&bench);
    bench.tells_of(ANA, 1, told);
    assert_eq!(bench.found(), "");
    let told = gap(&bench);
    bench.tells_of(ANA, 1, told);
    assert_eq!(bench.found(), "G10");
}

#[test]
fn a_wait_is_asked_of_nobody_beside_a_status_that_no_wait_helps() {
    for (status, rule) in [(503, "manners"), (429, "manners"), (401, ""), (404, "")] {
        let mut bench = Bench::new();
        bench.oracle.on_asked(ANA, &Command::Connect, bench.now);
        bench.oracle.on_connects((ANA, 0), LINK, bench.now, bench.now);
        bench.oracle.on_told_to_wait(LINK, status, bench.now + Duration::from_secs(5));
        bench.oracle.on_connects((ANA, 0), LINK + 9, bench.now, bench.now);
        assert_eq!(bench.found(), rule, "{status}");
    }
}

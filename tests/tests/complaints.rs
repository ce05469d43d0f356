//! What users of other clients complained about, each as a scenario that does not happen here.
//!
//! | thread | scenario |
//! |---|---|
//! | realtime-js#121 | `an_hour_of_sleep_leads_to_one_probe_and_not_to_missed_beats` |
//! | supabase#36046 | `a_connection_that_died_in_sleep_is_given_up_two_seconds_after_waking` |
//! | phoenix#6149 | `a_retry_that_was_slept_through_is_made_on_waking` |
//! | phoenix#6804 | `every_close_that_was_not_asked_for_is_followed_by_another_attempt` |
//! | phoenix#3083 | `a_heartbeat_of_a_dead_socket_never_kills_the_next_one` |
//! | phoenix#2123, firezone#2916 | `a_connection_that_nothing_comes_through_is_found_dead_by_the_next_heartbeat` |
//! | realtime-js#133, firezone#12312 | `heartbeats_keep_their_schedule_while_traffic_flows` |
//! | firezone#4348 | `a_day_of_answered_heartbeats_closes_nothing` |
//! | supabase-py#1034 | `a_server_that_falls_silent_after_twenty_minutes_is_noticed_and_left` |
//! | supabase-swift#579 | `a_hint_makes_the_next_attempt_at_once` |
//! | supabase-swift#1147 | `failed_attempts_are_followed_by_others_until_one_succeeds` |
//! | supabase-swift#1145 | `a_topic_that_is_closed_and_opened_at_once_is_joined_by_the_new_channel` |
//! | supabase-swift#1015 | `every_close_that_was_not_asked_for_is_followed_by_another_attempt` |
//! | supabase-swift#612 | `disconnect_wins_over_whatever_comes_late` |
//! | supabase-swift#1110 | `one_join_without_an_answer_holds_up_no_other` |
//! | supabase-py#1311 | `after_a_reconnect_nothing_is_left_and_each_channel_joins_once` |
//! | realtime#1088 | `a_server_that_accepts_and_closes_sees_growing_delays` |
//! | supabase-flutter#519 | `a_channel_that_errors_again_and_again_stays_until_it_is_closed` |
//! | phoenix#1739, phoenix#3349 | `a_channel_that_is_closed_while_offline_is_not_joined_again` |
//! | phoenix#4045, engram#757 | `a_thousand_clients_do_not_come_back_in_the_same_instant` |
//! | warmbly#205, realtime#1691 | `a_hundred_and_twenty_channels_join_at_fifty_a_second` |
//! | supabase-kt#1331 | `the_budgets_of_the_connection_and_of_a_channel_are_separate` |
//! | supabase-js#1732 | `a_join_waits_for_a_token_that_has_not_expired` |
//! | supabase-js#2613 | `after_waking_the_join_carries_the_newest_token` |
//! | supabase-js#2596 | `a_signed_out_client_joins_without_the_old_token` |
//! | supabase#16684, supabase-kt#906 | `another_token_is_asked_for_a_minute_before_the_expiry` |
//! | realtime#1111 | `a_topic_without_permission_is_not_tried_again_with_the_same_token` |
//! | realtime-js#126 | `a_new_token_is_told_to_joined_channels_only_and_only_once` |
//! | supabase-js#1599 | `a_channel_with_rows_is_live_only_when_the_database_says_so` |
//! | realtime-js#525 | `a_channel_that_waited_for_its_rows_is_live_with_the_answer_to_its_join` |
//! | supabase-js#1440, phoenix#4248 | `a_topic_is_opened_once_and_again_after_it_was_closed` |
//! | realtime-js#489 | `three_leases_share_one_wire_channel` |
//! | realtime-js#169 | `a_component_that_goes_and_comes_back_costs_no_frame` |
//! | realtime-js#192, supabase#7799 | `an_entity_asked_for_while_its_channel_is_left_is_joined_anew` |
//! | supabase#12467, supabase-kt#818 | `the_wire_channel_asks_for_the_union_and_each_lease_gets_its_own` |
//! | supabase-js#419, realtime-js#180 | `the_last_release_leaves_after_the_linger` |
//! | supabase-js#1612 | `unsubscribing_ends_all_leases_of_a_key_and_of_no_other` |
//! | supabase-py#1371 | `cleanup_leaves_every_channel_and_ends_every_lease` |
//! | supabase-js#1204, supabase-js#1729 | `a_channel_that_was_made_for_one_send_is_given_up_after_it` |
//! | supabase-js#1840 | `after_a_clean_up_nothing_is_left_to_wait_for` |
//! | realtime-js#209 | `a_reply_that_confirms_other_bindings_is_an_error` |
//! | realtime-js#264 | `a_reply_that_says_null_for_what_was_not_asked_is_no_mismatch` |
//! | supabase-js#1721 | `row_changes_are_routed_by_the_ids_of_the_current_join_only` |
//! | phoenix#1483 | `a_real_server_lets_a_topic_be_closed_and_opened_at_once_too` |
//! | supabase-py#1297 | `a_channel_says_what_it_waits_for_and_since_when` |
//! | supabase-py#1319, supabase-js#1559 | `a_join_without_an_answer_says_when_the_server_was_last_heard` |
//! | realtime#1414, supabase-js#2294 | `an_error_has_a_kind_the_servers_words_and_advice` |
//! | supabase-flutter#536, realtime#1588 | `a_broadcast_that_came_to_nothing_says_why_and_what_to_do` |
//! | supabase-kt#255, realtime#303 | `what_was_missed_is_told_again_on_a_private_channel_and_its_window_on_a_public_one` |
//! | realtime#252 | `a_row_that_was_too_large_says_that_it_is_not_whole` |
//! | supabase-js#1204, supabase-js#1729 | `a_channel_that_was_opened_for_one_message_leaves_nothing_behind` |
//! | realtime-js#244, realtime#1030 | `an_update_of_what_somebody_shows_is_one_update_and_no_leave` |
//! | realtime#1705, agent-skills#466 | `the_sixth_presence_call_within_thirty_seconds_waits_and_brings_the_newest_value` |
//! | basementstudio#497, flutter_supabase_chat_core#38 | `a_typing_indicator_stays_within_what_the_server_takes` |
//! | supabase-js#1536, realtime#2196 | `presence_that_is_enabled_late_is_one_visible_rejoin_and_then_everybody_is_seen` |
//! | realtime#223 | `a_large_value_that_an_update_left_alone_is_missing_and_not_null` |
//! | realtime-py#213, supabase-swift#585 | `every_join_asks_for_the_bindings_of_its_moment` |
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::fs;
use std::path::Path;

use realtime_proto::supabase::{Binding, CauseKind, ChangeEvent, Completeness, JoinConfig};
use realtime_proto::{
    Awaits, Backoff, ChannelConfig, ChannelEvent, ChannelId, ChannelState, Client, CloseReason,
    Config, ConfigBuilder, Event, Instant, Limits, OpenError, Payload,
};
use realtime_tests::peer::Peer;
use realtime_tests::token;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

fn open(topic: &str) -> impl FnOnce(&mut Client, Instant) -> ChannelId {
    let config = ChannelConfig::supabase(JoinConfig::default());
    move |client, now| client.open_channel(topic, config, now).unwrap()
}

fn state(peer: &mut Peer, channel: ChannelId) -> ChannelState {
    peer.command(|client, _| client.channel(channel).unwrap().state())
}

/// Lets time pass in steps, and answers every heartbeat.
fn pass_with_heartbeats(peer: &mut Peer, span: Duration) -> usize {
    let (until, mut beats) = (peer.now() + span, 0);
    while peer.now() < until {
        peer.pass(secs(5));
        for frame in peer.take_frames() {
            let beat: (Option<String>, String, String, String, serde_json::Value) =
                serde_json::from_str(&frame).unwrap();
            assert_eq!(beat.3, "heartbeat");
            peer.say(&format!(
                r#"[null,"{}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#,
                beat.1
            ));
            beats += 1;
        }
    }
    beats
}

fn lose(peer: &mut Peer) {
    let socket = peer.socket();
    let reason = CloseReason::Lost { detail: "reset".into() };
    peer.command(|client, now| client.handle_close(socket, reason, now));
}

/// The tests of this package, as text.
fn tests() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rust = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    rust.map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_complaint_of_the_table_has_its_scenario() {
    let tests = tests();
    let rows = include_str!("complaints.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut named = 0;
    for row in rows.filter(|row| row.contains('#')) {
        let name = row.split('`').nth(1).unwrap();
        assert!(tests.contains(&format!("#[test]\nfn {name}() {{")), "{name}");
        named += 1;
    }
    assert_eq!(named, 57);
}

#[test]
fn a_retry_that_was_slept_through_is_made_on_waking() {
    let mut peer = Peer::connected(settings());
    lose(&mut peer);
    peer.take_opens();
    // Nothing is called for an hour, as in a laptop that is shut.
    peer.sleep(secs(3_600));
    assert_eq!(peer.take_opens(), [], "nobody was awake");
    peer.command(Client::handle_timeout);
    assert_eq!(peer.take_opens(), [Instant::from_epoch(secs(3_600))]);
}

#[test]
fn every_close_that_was_not_asked_for_is_followed_by_another_attempt() {
    for code in [1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 3000, 4001] {
        let mut peer = Peer::connected(settings());
        peer.take_opens();
        peer.close(code);
        peer.pass(secs(1));
        assert_eq!(peer.take_opens(), [Instant::from_epoch(secs(1))], "{code}");
    }
}

#[test]
fn a_day_of_answered_heartbeats_closes_nothing() {
    let mut peer = Peer::connected(settings());
    let beats = pass_with_heartbeats(&mut peer, secs(86_400));
    assert_eq!(beats, 86_400 / 25);
    assert_eq!(peer.take_closes(), []);
    assert!(!peer.take_events().iter().any(|e| matches!(e, Event::Disconnected { .. })));
}

#[test]
fn a_server_that_falls_silent_after_twenty_minutes_is_noticed_and_left() {
    let mut peer = Peer::connected(settings());
    peer.take_opens();
    pass_with_heartbeats(&mut peer, secs(1_200));
    peer.pass(secs(25 + 10));
    assert_eq!(peer.take_closes(), [(1000, "heartbeat timeout".to_owned())]);
    peer.pass(secs(1));
    assert_eq!(peer.take_opens().len(), 1);
}

#[test]
fn a_hint_makes_the_next_attempt_at_once() {
    let mut peer = Peer::connected(settings());
    lose(&mut peer);
    peer.take_opens();
    peer.command(Client::probe);
    assert_eq!(peer.take_opens(), [Instant::EPOCH]);
}

#[test]
fn failed_attempts_are_followed_by_others_until_one_succeeds() {
    let mut peer = Peer::new(settings());
    let room = peer.command(open("realtime:room"));
    peer.command(Client::connect);
    for attempt in 0..20 {
        lose(&mut peer);
        // The delays double from 1 s to 30 s.
        peer.pass(secs((1 << attempt.min(5)).min(30)));
    }
    peer.accept();
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 1);
    assert!(frames[0].starts_with(r#"["1","1","realtime:room","phx_join","#), "{}", frames[0]);
    assert_eq!(state(&mut peer, room), ChannelState::Joining);
}

#[test]
fn one_join_without_an_answer_holds_up_no_other() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:slow"));
    let quick = peer.command(open("realtime:quick"));
    assert_eq!(peer.take_frames().len(), 2, "both joins are on their way");
    peer.say_ok("2", "2", "realtime:quick");
    assert_eq!(state(&mut peer, quick), ChannelState::Joined);
}

#[test]
fn after_a_reconnect_nothing_is_left_and_each_channel_joins_once() {
    let mut peer = Peer::connected(settings());
    for topic in ["realtime:a", "realtime:b"] {
        peer.command(open(topic));
    }
    peer.take_frames();
    // One is joined and one is not, when the connection goes.
    peer.say_ok("1", "1", "realtime:a");
    lose(&mut peer);
    peer.pass(secs(1));
    peer.accept();
    let events: Vec<String> = peer
        .take_frames()
        .iter()
        .map(|frame| {
            let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
            format!("{} {}", frame[3].as_str().unwrap(), frame[2].as_str().unwrap())
        })
        .collect();
    assert_eq!(events, ["phx_join realtime:a", "phx_join realtime:b"]);
}

#[test]
fn a_channel_that_errors_again_and_again_stays_until_it_is_closed() {
    let mut peer = Peer::connected(settings());
    let room = peer.command(open("realtime:room"));
    for join in 1..=5 {
        peer.take_frames();
        peer.say(&format!(
            r#"[null,"{join}","realtime:room","phx_reply",{{"status":"error","response":{{}}}}]"#
        ));
        assert_eq!(state(&mut peer, room), ChannelState::Errored, "after join {join}");
        // The delays are 1, 2, 4, 8 and 16 s; a heartbeat takes a ref after the fifth.
        peer.pass(secs(1 << (join - 1)));
        assert_eq!(state(&mut peer, room), ChannelState::Joining);
    }
    assert!(peer.command(|client, now| client.close_channel(room, now)));
}

#[test]
fn a_channel_that_is_closed_while_offline_is_not_joined_again() {
    let mut peer = Peer::connected(settings());
    let room = peer.command(open("realtime:room"));
    peer.say_ok("1", "1", "realtime:room");
    lose(&mut peer);
    peer.take_frames();
    peer.take_events();
    peer.command(|client, now| client.close_channel(room, now));
    let events = peer.take_events();
    assert!(
        matches!(events[..], [Event::Channel(id, ChannelEvent::Closed { .. })] if id == room),
        "{events:?}"
    );
    peer.pass(secs(1));
    peer.accept();
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [""; 0]);
}

#[test]
fn a_thousand_clients_do_not_come_back_in_the_same_instant() {
    let config = Config::builder("ws://server/socket").build().unwrap();
    let mut attempts: Vec<Instant> = (0..1_000)
        .map(|seed| {
            let mut client = Client::new(config.clone(), seed, Instant::EPOCH);
            client.connect(Instant::EPOCH);
            let Some(realtime_proto::Transmit::Open { socket, .. }) = client.poll_transmit() else {
                panic!("a connection is opened");
            };
            client.handle_open(socket, Instant::EPOCH);
            let reason = CloseReason::Closed { code: 1012, reason: String::new() };
            client.handle_close(socket, reason, Instant::EPOCH);
            client.reconnect_at().unwrap()
        })
        .collect();
    attempts.sort();
    // The first delay is drawn up to one second; a tenth of a second sees about a tenth of them.
    for tenth in 0..10 {
        let from = Instant::from_epoch(Duration::from_millis(100 * tenth));
        let until = from + Duration::from_millis(100);
        let share = attempts.iter().filter(|at| **at > from && **at <= until).count();
        assert!((50..150).contains(&share), "{share} of 1,000 within {from} to {until}");
    }
}

#[test]
fn the_budgets_of_the_connection_and_of_a_channel_are_separate() {
    let once = Backoff::exponential(secs(1), secs(1)).without_jitter().with_attempts_max(1);
    let mut peer = Peer::connected(settings().rejoin(once));
    let room = peer.command(open("realtime:room"));
    let refuse = |peer: &mut Peer, join: u32| {
        peer.say(&format!(
            r#"[null,"{join}","realtime:room","phx_reply",{{"status":"error","response":{{}}}}]"#
        ));
    };
    refuse(&mut peer, 1);
    peer.pass(secs(1));
    refuse(&mut peer, 2);
    let awaits = |peer: &mut Peer| peer.command(|c, _| c.channel_info(room).unwrap().awaits);
    assert_eq!(awaits(&mut peer), Some(Awaits::Application), "one retry, and no more");
    // The connection has a budget of its own, which this did not touch.
    for _ in 0..3 {
        lose(&mut peer);
        peer.command(Client::probe);
    }
    peer.accept();
    assert!(peer.command(|client, _| client.is_connected()));
    assert_eq!(awaits(&mut peer), Some(Awaits::Application), "a reconnect is no reason");
    peer.take_frames();
    peer.command(|client, now| client.channel(room).unwrap().rejoin(now));
    assert_eq!(peer.take_frames().len(), 1, "the application is");
}

#[test]
fn a_join_waits_for_a_token_that_has_not_expired() {
    let mut peer = Peer::connected(settings().access_token(token(1_000)));
    peer.command(|client, now| client.set_unix_time(secs(2_000), now));
    peer.take_events();
    let room = peer.command(open("realtime:room"));
    assert_eq!(peer.take_frames(), [""; 0]);
    let events = peer.take_events();
    assert!(
        matches!(&events[..], [Event::TokenNeeded { cause, deadline: None }]
            if cause.kind == CauseKind::TokenExpired),
        "{events:?}"
    );
    let info = peer.command(|client, _| client.channel_info(room).unwrap());
    assert_eq!(info.awaits, Some(Awaits::Token));
    peer.command(|client, now| client.set_access_token(Some(token(9_000)), now));
    assert_eq!(peer.take_frames().len(), 1);
}

#[test]
fn after_waking_the_join_carries_the_newest_token() {
    let mut peer = Peer::connected(settings().access_token("old"));
    peer.command(open("realtime:room"));
    peer.say_ok("1", "1", "realtime:room");
    lose(&mut peer);
    peer.take_frames();
    peer.sleep(secs(3_600));
    peer.command(|client, now| client.set_access_token(Some("new".into()), now));
    peer.command(Client::handle_timeout);
    peer.accept();
    let frames = peer.take_frames();
    assert!(frames[0].contains(r#""access_token":"new""#) && !frames[0].contains("old"));
}

#[test]
fn another_token_is_asked_for_a_minute_before_the_expiry() {
    let mut peer = Peer::connected(settings().access_token(token(1_000)));
    peer.command(|client, now| client.set_unix_time(secs(800), now));
    pass_with_heartbeats(&mut peer, secs(135));
    let asked = |e: &Event| matches!(e, Event::TokenNeeded { .. });
    assert!(!peer.take_events().iter().any(asked));
    pass_with_heartbeats(&mut peer, secs(60));
    let events: Vec<Event> = peer.take_events().into_iter().filter(asked).collect();
    let expiry = Some(Instant::from_epoch(secs(200)));
    assert!(
        matches!(&events[..], [Event::TokenNeeded { cause, deadline }]
            if cause.kind == CauseKind::TokenExpiring && *deadline == expiry),
        "{events:?}"
    );
}

#[test]
fn a_topic_without_permission_is_not_tried_again_with_the_same_token() {
    let mut peer = Peer::connected(settings().access_token("mine"));
    let room = peer.command(open("realtime:room"));
    peer.take_frames();
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: room";
    peer.say(&format!(
        r#"["1","1","realtime:room","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#
    ));
    let cause = peer.command(|client, _| client.channel(room).unwrap().error().cloned()).unwrap();
    assert_eq!((cause.kind, &*cause.text), (CauseKind::Unauthorized, reason));
    lose(&mut peer);
    peer.pass(secs(1));
    peer.accept();
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [""; 0], "another connection is no reason");
    // Other topics are not held back by it.
    peer.command(open("realtime:other"));
    assert_eq!(peer.take_frames().len(), 1);
    peer.command(|client, now| client.set_access_token(Some("another".into()), now));
    assert_eq!(peer.take_frames().len(), 1, "another token is");
}

#[test]
fn a_topic_is_opened_once_and_again_after_it_was_closed() {
    let mut peer = Peer::connected(settings());
    let room = peer.command(open("realtime:room"));
    let config = || ChannelConfig::supabase(JoinConfig::default());
    let twice = peer.command(|c, now| c.open_channel("realtime:room", config(), now));
    assert_eq!(twice, Err(OpenError::TopicInUse { topic: "realtime:room".into(), channel: room }));
    peer.command(|client, now| client.close_channel(room, now));
    let again = peer.command(open("realtime:room"));
    assert_ne!(again, room);
}

#[test]
fn a_reply_that_confirms_other_bindings_is_an_error() {
    let mut peer = Peer::connected(settings());
    let binding = Binding::new(ChangeEvent::All, "public", "a");
    let config = JoinConfig { postgres_changes: vec![binding], ..JoinConfig::default() };
    let room = peer.command(|client, now| {
        client.open_channel("realtime:room", ChannelConfig::supabase(config), now).unwrap()
    });
    peer.say(
        r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":
            [{"id":1,"event":"*","schema":"public","table":"b"}]}}]"#,
    );
    let cause = peer.command(|client, _| client.channel(room).unwrap().error().cloned()).unwrap();
    assert_eq!(cause.kind, CauseKind::BindingMismatch);
    let frames = peer.take_frames();
    assert_eq!(frames.last().unwrap(), r#"["1","2","realtime:room","phx_leave",{}]"#);
}

#[test]
fn a_channel_says_what_it_waits_for_and_since_when() {
    let limits = {
        let mut limits = Limits::default();
        limits.joins_per_second_max = 1;
        limits
    };
    let mut peer = Peer::new(settings().limits(limits));
    let binding = Binding::new(ChangeEvent::All, "public", "a");
    let config = JoinConfig { postgres_changes: vec![binding], ..JoinConfig::default() };
    let config = ChannelConfig::supabase(config).with_presence();
    peer.command(open("realtime:first"));
    let room =
        peer.command(|client, now| client.open_channel("realtime:room", config, now).unwrap());
    let awaits = |peer: &mut Peer| {
        let info = peer.command(|client, _| client.channel_info(room).unwrap());
        (info.awaits, info.since.since_epoch().as_secs())
    };
    assert_eq!(awaits(&mut peer), (Some(Awaits::Connection), 0));
    peer.command(Client::connect);
    peer.accept();
    assert_eq!(awaits(&mut peer), (Some(Awaits::Turn), 0));
    peer.pass(secs(1));
    assert_eq!(awaits(&mut peer), (Some(Awaits::JoinReply), 1));
    peer.pass(secs(2));
    peer.say(
        r#"["2","2","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":
            [{"id":1,"event":"*","schema":"public","table":"a"}]}}]"#,
    );
    assert_eq!(awaits(&mut peer), (Some(Awaits::Postgres), 3));
    peer.say(
        r#"["2",null,"realtime:room","system",{"extension":"postgres_changes","status":"ok",
            "message":"Subscribed to PostgreSQL","channel":"room"}]"#,
    );
    assert_eq!(awaits(&mut peer).0, Some(Awaits::Presence));
    peer.say(r#"["2",null,"realtime:room","presence_state",{}]"#);
    let info = peer.command(|client, _| client.channel_info(room).unwrap());
    assert_eq!((info.awaits, info.time_to_live, info.joins), (None, Some(secs(3)), 1));
    peer.say(r#"["2","2","realtime:room","phx_error",{}]"#);
    let retry = Awaits::Retry { at: Instant::from_epoch(secs(4)) };
    assert_eq!(awaits(&mut peer), (Some(retry), 3));
}

#[test]
fn an_error_has_a_kind_the_servers_words_and_advice() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:room"));
    peer.say_ok("1", "1", "realtime:room");
    peer.take_events();
    peer.say(
        r#"["1",null,"realtime:room","system",{"extension":"system","status":"error",
            "message":"Too many messages per second","channel":"room"}]"#,
    );
    peer.say(r#"["1","1","realtime:room","phx_close",{}]"#);
    let events = peer.take_events();
    let [Event::Channel(_, ChannelEvent::System(_)), errored] = &events[..] else {
        panic!("{events:?}");
    };
    let Event::Channel(_, ChannelEvent::Errored { cause, retry_at: Some(_) }) = errored else {
        panic!("{errored:?}");
    };
    assert_eq!(cause.kind, CauseKind::MessagesRateLimited);
    assert_eq!(
        cause.to_string(),
        "messages rate limited (Too many messages per second). \
         Send fewer messages; the channel is joined again after a delay.",
    );
}

#[test]
fn a_row_that_was_too_large_says_that_it_is_not_whole() {
    let mut peer = Peer::connected(settings());
    let binding = Binding::new(ChangeEvent::All, "public", "a");
    let config = JoinConfig { postgres_changes: vec![binding], ..JoinConfig::default() };
    peer.command(|client, now| {
        client.open_channel("realtime:room", ChannelConfig::supabase(config), now).unwrap()
    });
    peer.say(
        r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":
            [{"id":7,"event":"*","schema":"public","table":"a"}]}}]"#,
    );
    peer.take_events();
    peer.say(
        r#"[null,null,"realtime:room","postgres_changes",{"ids":[7],"data":{"schema":"public",
            "table":"a","type":"INSERT","commit_timestamp":"2026-08-21T12:00:00.126Z",
            "columns":[{"name":"id","type":"int8"},{"name":"body","type":"text"}],
            "errors":["Error 413: Payload Too Large"],"record":{"id":1}}}]"#,
    );
    let events = peer.take_events();
    let [Event::Channel(_, ChannelEvent::Change { change, .. })] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(change.errors(), ["Error 413: Payload Too Large"]);
    let cut_off = Completeness::Truncated { missing: vec!["body".into()] };
    assert_eq!(change.completeness(), cut_off);
    assert_eq!(change.record().unwrap(), Payload::from_json(r#"{"id":1}"#).unwrap());
}

#[test]
fn a_channel_that_was_opened_for_one_message_leaves_nothing_behind() {
    let mut peer = Peer::connected(settings());
    let timers = peer.command(|client, _| client.next_timer());
    for n in 0..400 {
        let topic = format!("realtime:room{n}");
        let room = peer.command(open(&topic));
        peer.command(|client, now| {
            client.channel(room).unwrap().broadcast("ping", Payload::empty(), now).unwrap();
        });
        let [join] = &peer.take_frames()[..] else { panic!("one join") };
        let join_ref = join.split('"').nth(1).unwrap().to_owned();
        peer.say_ok(&join_ref, &join_ref, &topic);
        peer.command(|client, now| client.close_channel(room, now));
        let frames = peer.take_frames();
        let [_, leave] = &frames[..] else { panic!("{frames:?}") };
        let leave_ref = leave.split('"').nth(3).unwrap().to_owned();
        peer.say_ok(&join_ref, &leave_ref, &topic);
        // A burst of joins is paced.
        peer.pass(Duration::from_millis(50));
    }
    let (channels, stats, left) =
        peer.command(|client, _| (client.channels().count(), client.stats(), client.next_timer()));
    assert_eq!((channels, stats.channels_live, stats.joins), (0, 0, 400));
    assert_eq!(left.map(|(_, timer)| timer), timers.map(|(_, timer)| timer));
}

//! What our client makes of what real Phoenix servers sent.
//!
//! [`assert_as_recorded`] compares everything a connection led to with a naive reading of the
//! recording; the sentences below it name what a recording was made for, word for word.
#![expect(clippy::wildcard_enum_match_arm, reason = "each place looks for one kind of event")]

use core::time::Duration;

use realtime_proto::supabase::CauseKind;
use realtime_proto::{ChannelEvent, ChannelState, Event, Instant, Outcome};
use realtime_tests::replay::ledger::{accounts, shown};
use realtime_tests::replay::verdict::{as_values, assert_as_recorded};
use realtime_tests::replay::{self, Look, Replay};
use serde_json::{Value, json};

/// The recordings with the number of connections whose version our client has, counted in the
/// files.
const RECORDINGS: [(&str, usize); 17] = [
    ("phoenix-1.7-v2-crash", 1),
    ("phoenix-bandit-v2-server-close", 6),
    ("phoenix-connect", 6),
    ("phoenix-external-broadcast", 1),
    ("phoenix-js-client-v2", 2),
    ("phoenix-strict-timeout", 2),
    ("phoenix-v1-basic", 1),
    ("phoenix-v1-join-errors", 1),
    ("phoenix-v1-presence", 5),
    ("phoenix-v2-basic", 1),
    ("phoenix-v2-binary", 2),
    ("phoenix-v2-crash", 1),
    ("phoenix-v2-join-errors", 1),
    ("phoenix-v2-malformed", 17),
    ("phoenix-v2-presence", 5),
    ("phoenix-v2-server-close", 6),
    ("phoenix-zz-server-kill9", 1),
];

fn messages(replay: &Replay, topic: &str) -> Vec<(String, Value)> {
    let events = replay.events_of(replay.channel(topic));
    let message = |(_, event): (usize, &ChannelEvent)| match event {
        ChannelEvent::Message { event, payload } => Some((event.clone(), shown(payload))),
        _ => None,
    };
    events.filter_map(message).collect()
}

fn replied(status: &str, response: Value) -> Option<(String, Value)> {
    Some((status.into(), response))
}

fn reply(replay: &Replay, msg_ref: &str) -> Option<(String, Value)> {
    match replay.outcome(replay.push(msg_ref)) {
        Some(Outcome::Replied { status, response }) => Some((status.to_string(), shown(response))),
        _ => None,
    }
}

#[test]
fn every_recorded_connection_leads_to_what_the_recording_says() {
    for (name, connections) in RECORDINGS {
        let replays = replay::all(name);
        assert_eq!(replays.len(), connections, "{name}");
        for replay in replays {
            assert_as_recorded(&replay, &[]);
        }
    }
}

#[test]
fn our_client_can_do_all_that_recorded_clients_did_but_these() {
    let left_out = |name: &str| -> Vec<(usize, String)> {
        replay::all(name).into_iter().flat_map(|replay| replay.left_out).collect()
    };
    let not_there = |line| (line, "nobody is on the topic".to_owned());
    let not_joined = |line| (line, "the channel is not joined".to_owned());
    let other_join = |line| (line, "it names another join".to_owned());
    for version in ["v1", "v2"] {
        assert_eq!(left_out(&format!("phoenix-{version}-basic")), [48, 51].map(not_there));
        let join_errors = left_out(&format!("phoenix-{version}-join-errors"));
        assert_eq!(join_errors, [28, 36].map(other_join));
        assert_eq!(left_out(&format!("phoenix-{version}-presence")), []);
    }
    for version in ["1.7-v2", "v2"] {
        let crash = left_out(&format!("phoenix-{version}-crash"));
        assert_eq!(crash[..3], [10, 21, 32].map(not_joined));
        assert_eq!(crash[3..], [43, 54, 66].map(not_there));
    }
    assert_eq!(left_out("phoenix-v2-binary"), [not_there(37)]);
    assert_eq!(left_out("phoenix-external-broadcast"), []);
    assert_eq!(left_out("phoenix-js-client-v2"), []);
}

#[test]
fn replies_of_every_status_reach_their_pushes_in_any_order() {
    for name in ["phoenix-v1-basic", "phoenix-v2-basic"] {
        let replay = replay::one(name, "c1");
        let echoed = json!({"a": [1, null, "é😀"], "n": 1.5});
        assert_eq!(reply(&replay, "2"), replied("ok", echoed));
        let failed = json!({"reason": "failed", "got": {"a": 1}});
        assert_eq!(reply(&replay, "3"), replied("error", failed));
        assert_eq!(reply(&replay, "4"), replied("ok", json!({})));
        assert_eq!(reply(&replay, "5"), replied("error", json!({})));
        assert_eq!(reply(&replay, "6"), replied("maybe", json!({"x": 1})));
        assert_eq!(replay.outcome(replay.push("7")), Some(&Outcome::Sent));
        let ended: Vec<_> = replay
            .events_of(replay.push("8").channel)
            .filter_map(|(_, event)| match event {
                ChannelEvent::PushEnded { push, .. } => Some(*push),
                _ => None,
            })
            .collect();
        let place = |msg_ref| ended.iter().position(|push| *push == replay.push(msg_ref).push);
        assert!(place("9") < place("8"), "{name}: the slow reply was overtaken");
        let whisper = json!({"intercepted_for": "alice", "m": 3});
        assert_eq!(
            messages(&replay, "room:lobby"),
            [
                ("welcome".into(), json!({"body": "hello alice"})),
                ("pushed".into(), json!({"body": "x"})),
                ("shout".into(), json!({"m": 1})),
                ("whisper".into(), whisper),
            ],
        );
        let closed = replay.events_of(replay.channel("room:lobby")).last().map(|(_, event)| event);
        assert!(
            matches!(closed, Some(ChannelEvent::Closed { cause }) if cause.kind == CauseKind::Requested),
            "{closed:?}",
        );
        assert_eq!(replay.view("room:empty_reply").state, ChannelState::Joined);
        let beats = replay.events.iter().filter(|(_, e)| matches!(e, Event::Heartbeat { .. }));
        assert_eq!(beats.count(), 1);
        // To a push after the leave and to the leave of a topic that was never joined.
        assert_eq!(replay.stats.stale_messages, 2);
        // The close that follows the answered leave.
        assert_eq!(replay.stats.unknown_topics, 1);
    }
}

#[test]
fn both_versions_of_the_protocol_show_the_same_members() {
    for (name, keys) in [
        // Whose connections see whom at their end; carol's drops before the others go.
        ("observer", vec![]),
        ("alice", vec!["bob"]),
        ("bob", vec![]),
        ("carol", vec!["bob", "carol"]),
        ("dave", vec![]),
    ] {
        let [v1, v2] = ["phoenix-v1-presence", "phoenix-v2-presence"].map(|recording| {
            let replay = replay::one(recording, name);
            // Leaving ends a channel, and its members with it.
            let members = replay.channels.first().map(|view| as_values(&view.members));
            let without_refs = |mut meta: Value| {
                let object = meta.as_object_mut().expect("an object");
                object.retain(|key, _| !key.starts_with("phx_ref"));
                meta
            };
            let members = members.unwrap_or_default().into_iter();
            let members = members
                .map(|(key, metas)| (key, metas.into_iter().map(without_refs).collect::<Vec<_>>()));
            members.collect::<Vec<_>>()
        });
        assert_eq!(v1, v2, "{name}");
        assert_eq!(v1.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), keys, "{name}");
    }
}

#[test]
fn an_update_and_a_second_device_are_told_as_one_change_of_one_member() {
    for recording in ["phoenix-v1-presence", "phoenix-v2-presence"] {
        let replay = replay::one(recording, "observer");
        let mut told = Vec::new();
        for (_, event) in replay.events_of(replay.channel("room:presence1")) {
            let ChannelEvent::Presence(diff) = event else { continue };
            let mut tell = |what: &str, members: &[realtime_proto::Member]| {
                told.extend(members.iter().map(|m| format!("{what} {} {}", m.key, m.metas.len())));
            };
            tell("joined", &diff.joined);
            tell("updated", &diff.updated);
            tell("left", &diff.left);
        }
        let until_bob_left = &told[..7.min(told.len())];
        assert_eq!(
            until_bob_left,
            [
                "joined alice 1",
                "joined bob 1",
                "joined carol 1",
                "updated bob 2", // his second device
                "updated bob 2", // away on the first
                "left alice 1",
                "updated bob 1", // the first device leaves
            ],
            "{recording}",
        );
    }
}

#[test]
fn a_refused_join_tells_the_servers_reason() {
    for name in ["phoenix-v1-join-errors", "phoenix-v2-join-errors"] {
        let replay = replay::one(name, "c1");
        let said = |topic| -> Vec<(CauseKind, String)> {
            let causes = replay.errors(topic).into_iter();
            causes.map(|cause| (cause.kind, cause.text.into_owned())).collect()
        };
        // The application's own word, which no table knows.
        assert_eq!(said("room:private"), [(CauseKind::Unknown, "unauthorized".into())]);
        assert_eq!(said("room:crash_join"), [(CauseKind::JoinCrashed, "join crashed".into())]);
        assert_eq!(said("nosuch:topic"), [(CauseKind::UnmatchedTopic, "unmatched topic".into())]);
        // It waited for the join and was sent then.
        assert_eq!(reply(&replay, "7"), replied("ok", json!({"queued": true})));
        assert_eq!(replay.view("room:slow").state, ChannelState::Joined);
    }
}

#[test]
fn a_crash_leaves_the_channel_errored_and_a_stop_closes_it() {
    for (name, reason) in
        [("phoenix-1.7-v2-crash", "{}"), ("phoenix-v2-crash", r#"{"reason":"channel_crash"}"#)]
    {
        let replay = replay::one(name, "c1");
        for topic in ["room:c-crash", "room:c-kill_channel", "room:c-stop_other"] {
            let causes = replay.errors(topic);
            assert_eq!(causes.len(), 1, "{topic}");
            assert_eq!(causes[0].kind, CauseKind::ChannelCrashed);
            assert_eq!(causes[0].text, reason);
        }
        for topic in ["room:c-stop_normal", "room:c-stop_shutdown", "room:c-stop_reply"] {
            let first = replay.joins.iter().find(|join| join.topic == topic);
            let first = first.and_then(|join| join.channel).expect("it was joined");
            let last = replay.events_of(first).last();
            assert!(
                matches!(last, Some((_, ChannelEvent::Closed { cause }))
                    if cause.kind == CauseKind::ChannelClosed),
                "{topic}: {last:?}",
            );
            assert_ne!(first, replay.channel(topic), "joining again takes another channel");
        }
        // The push that crashed the channel, and the one that was answered before the stop.
        assert_eq!(replay.outcome(replay.push("2")), Some(&Outcome::Sent));
        assert_eq!(reply(&replay, "22"), replied("ok", json!({"x": 1})));
        assert!(replay.channels.iter().all(|view| view.state == ChannelState::Joined));
        assert_eq!(replay.channels.len(), 6);
    }
}

#[test]
fn what_the_server_closes_is_opened_again_however_it_closed() {
    let cases = [
        ("phoenix-v2-server-close", "disconnect_me", CauseKind::GoingAway),
        ("phoenix-v2-server-close", "kill_transport", CauseKind::ConnectionLost),
        ("phoenix-v2-server-close", "crash_transport", CauseKind::ConnectionLost),
        ("phoenix-bandit-v2-server-close", "disconnect_me", CauseKind::GoingAway),
        ("phoenix-bandit-v2-server-close", "crash_transport", CauseKind::ServerFailed),
        ("phoenix-external-broadcast", "c1", CauseKind::GoingAway),
        ("phoenix-zz-server-kill9", "c1", CauseKind::ConnectionLost),
    ];
    for (recording, connection, kind) in cases {
        let mut replay = replay::one(recording, connection);
        let after = &replay.events[replay.events_open..];
        let [(_, Event::Disconnected { cause, retry_at: Some(at), .. }), rest @ ..] = after else {
            panic!("{recording}, {connection}: {after:?}");
        };
        assert_eq!(cause.kind, kind, "{recording}, {connection}");
        // G5: the disconnect comes first, then what it does to the channels.
        assert_eq!(rest.len(), 1);
        assert!(
            matches!(&rest[0].1, Event::Channel(_, ChannelEvent::Errored { cause, retry_at: None })
                if cause.kind == kind),
            "{rest:?}",
        );
        let at = *at;
        replay.client.handle_timeout(at);
        assert!(replay.client.poll_transmit().is_some(), "it connects again");
    }
}

#[test]
fn what_the_application_closes_stays_closed() {
    for connection in ["close1000", "close3000", "close4001"] {
        let replay = replay::one("phoenix-v2-server-close", connection);
        assert!(!replay.client.is_connected());
        assert_eq!(replay.client.poll_timeout(), None);
    }
}

#[test]
fn a_broadcast_named_phx_error_is_a_message_and_not_a_crash() {
    let replay = replay::one("phoenix-external-broadcast", "c1");
    assert_eq!(
        messages(&replay, "room:ext"),
        [("outside".into(), json!({"a": 1})), ("phx_error".into(), json!({}))],
    );
    assert_eq!(replay.view("room:ext").state, ChannelState::Joined);
}

#[test]
fn bytes_arrive_as_bytes_in_replies_broadcasts_pushes_and_joins() {
    let replay = replay::one("phoenix-v2-binary", "alice");
    assert_eq!(reply(&replay, "2"), replied("ok", json!({"bytes": "000102ff"})));
    assert_eq!(reply(&replay, "3"), replied("error", json!({"bytes": "0909"})));
    assert_eq!(reply(&replay, "4"), replied("ok", json!({"length": 1000})));
    assert_eq!(reply(&replay, "5"), replied("ok", json!({"bytes": ""})));
    let large = reply(&replay, "11").expect("a reply");
    assert_eq!(large.1["bytes"].as_str().map(str::len), Some(600_000));
    let shout = ("bin_shout".to_owned(), json!({"bytes": "68656c6c6f"}));
    let pushed = ("pushed_bin".to_owned(), json!({"bytes": "ab".repeat(16)}));
    assert_eq!(messages(&replay, "room:bin"), [shout.clone(), pushed]);
    assert_eq!(messages(&replay::one("phoenix-v2-binary", "bob"), "room:bin"), [shout]);
    let joined = accounts(&replay)[1].seen[0].clone();
    assert_eq!(joined, json!(["joined", {"bytes": "010203"}]));
    // A topic too long for a binary frame killed the server's channel.
    let errored = replay.channels.iter().filter(|view| view.state == ChannelState::Errored);
    let errored: Vec<usize> = errored.map(|view| view.topic.len()).collect();
    assert_eq!(errored, [256]);
}

#[test]
fn a_refused_connection_tells_its_cause_and_tries_again_only_if_that_can_help() {
    for (connection, kind, text, retries) in [
        ("connect refused with :error", CauseKind::Forbidden, "HTTP 403", false),
        (
            "connect refused by an error handler (429)",
            CauseKind::TooManyConnections,
            "HTTP 429: Too many requests",
            true,
        ),
        ("wrong path", CauseKind::NotAnEndpoint, "HTTP 404: not found", false),
    ] {
        let replay = replay::one("phoenix-connect", connection);
        let Some((_, Event::Disconnected { cause, retry_at, .. })) = replay.events.first() else {
            panic!("{connection}: {:?}", replay.events);
        };
        assert_eq!((cause.kind, &*cause.text), (kind, text));
        assert_eq!(retry_at.is_some(), retries, "{connection}");
    }
}

#[test]
fn the_members_of_a_crashed_channel_are_kept_and_marked_stale_until_it_is_joined_again() {
    let replay = replay::one("phoenix-js-client-v2", "js");
    let view = replay.view("room:presence2");
    // Joined again with an empty snapshot: its own presence went with the crashed channel.
    assert!(view.live && !view.stale && view.members.is_empty());
    let mut left = replay.events_of(view.id).filter_map(|(_, event)| match event {
        ChannelEvent::Presence(diff) if !diff.left.is_empty() => Some(diff),
        _ => None,
    });
    let diff = left.next().expect("jsalice left");
    assert!(diff.synced, "the snapshot of the second join tells it, not the stray diff");
    assert_eq!((diff.left[0].key.as_str(), left.next()), ("jsalice", None));
    // The diff that came after the crash.
    assert_eq!(replay.stats.stale_messages, 1);
}

#[test]
fn heartbeats_are_answered_within_the_recorded_time() {
    let replay = replay::one("phoenix-js-client-v2", "js");
    let round_trips: Vec<Duration> = replay
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Heartbeat { round_trip } => Some(*round_trip),
            _ => None,
        })
        .collect();
    assert_eq!(round_trips, [8, 0, 2].map(Duration::from_millis));
    assert!(replay.client.reconnect_at() > Some(Instant::from_epoch(Duration::from_millis(3326))));
}

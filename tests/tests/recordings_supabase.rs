//! What our client makes of what a real Supabase Realtime server sent.
//!
//! [`assert_as_recorded`] compares everything a connection led to with a naive reading of the
//! recording; the sentences below it name what a recording was made for, word for word.
#![expect(clippy::wildcard_enum_match_arm, reason = "each place looks for one kind of event")]

use realtime_proto::supabase::{Broadcast, BroadcastChange, CauseKind, ChangeKind, Retry};
use realtime_proto::{ChannelEvent, ChannelState, Event, Outcome, Status, Violation};
use realtime_tests::recording::Recording;
use realtime_tests::replay::Replay;
use realtime_tests::replay::ledger::{seen, shown};
use realtime_tests::replay::verdict::assert_as_recorded;
use serde_json::{Value, json};

/// Frames that a server relayed although no client can use them, by recording, connection and
/// line: broadcasts without a name, and one that says it is JSON and is not.
const UNUSABLE: [(&str, &str, usize); 5] = [
    ("supabase-v2-broadcast", "alice", 21),
    ("supabase-v2-broadcast", "bob", 22),
    ("supabase-v2-user-broadcast-binary", "alice", 40),
    ("supabase-v2-user-broadcast-binary", "v1client", 41),
    ("supabase-v2-user-broadcast-binary", "bob", 42),
];

fn kinds(replay: &Replay, topic: &str) -> Vec<CauseKind> {
    replay.errors(topic).iter().map(|cause| cause.kind).collect()
}

/// Why the connection ended.
fn disconnected(replay: &Replay) -> (CauseKind, String, bool) {
    let found = replay.events.iter().find_map(|(_, event)| match event {
        Event::Disconnected { cause, retry_at, .. } => {
            Some((cause.kind, cause.text.to_string(), retry_at.is_some()))
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{} never ended", replay.name))
}

#[test]
fn every_recorded_connection_leads_to_what_the_recording_says() {
    let (mut connections, mut unusable) = (0, 0);
    for name in Recording::names() {
        if !name.starts_with("supabase-") {
            continue;
        }
        for replay in Replay::all(&name) {
            let wrong: Vec<usize> = UNUSABLE
                .iter()
                .filter(|(of, connection, _)| replay.name == format!("{of}, {connection}"))
                .map(|(.., line)| *line)
                .collect();
            assert_as_recorded(&replay, &wrong);
            connections += 1;
            unusable += wrong.len();
        }
    }
    assert_eq!((connections, unusable), (82, UNUSABLE.len()));
}

#[test]
fn our_client_can_do_all_that_recorded_clients_did_but_these() {
    let mut left_out = Vec::new();
    for name in Recording::names() {
        // Malformed frames and bursts that were not recorded are not commands.
        let skip = name.contains("malformed") || name.contains("too-large");
        if !name.starts_with("supabase-") || skip || name.contains("limits") {
            continue;
        }
        for replay in Replay::all(&name) {
            left_out.extend(replay.left_out.iter().map(|(line, why)| {
                let why = why.split(':').next_back().unwrap_or_default().trim();
                format!("{name}:{line} {why}")
            }));
        }
    }
    assert_eq!(
        left_out,
        [
            "supabase-v2-broadcast:34 the channel is not joined",
            "supabase-v2-broadcast:44 nobody is on the topic",
            "supabase-v2-join-errors:5 ` and goes on",
            "supabase-v2-join-errors:48 j9` asks for a replay, which public channels do not have; \
             make it private",
            "supabase-v2-join-errors:71 it names another join",
            "supabase-v2-join-errors:79 it names another join",
            "supabase-v2-join-errors:81 it names no join",
            "supabase-v2-user-broadcast-binary:39 expected ident at line 1 column 2",
            "supabase-v2-user-broadcast-binary:67 nobody is on the topic",
        ],
    );
}

#[test]
fn a_join_is_written_as_the_official_client_writes_it() {
    for connection in ["js", "js#2"] {
        let replay = Replay::one("supabase-v2-official-client", connection);
        let [join] = replay.joins.as_slice() else { panic!("one join") };
        let mut official = join.payload.clone();
        // It names itself once its token was changed.
        official.as_object_mut().expect("an object").remove("version");
        assert_eq!(join.ours, official, "{connection}");
    }
}

#[test]
fn a_join_asks_for_what_the_recorded_one_asks_for() {
    let mut typed = 0;
    for name in Recording::names() {
        for replay in Replay::all(&name) {
            for join in replay.joins.iter().filter(|join| join.supabase && !join.ours.is_null()) {
                let recorded = join.payload["config"].as_object().expect("it was typed");
                for (key, value) in recorded {
                    let value = value.clone();
                    // A word for a flag is written as the flag.
                    let value = if value == "true" { json!(true) } else { value };
                    let ours = &join.ours["config"][key];
                    assert_eq!(ours, &value, "{}:{} {key}", replay.name, join.line);
                }
                typed += 1;
            }
        }
    }
    assert!(typed > 100, "{typed}");
}

#[test]
fn a_refused_join_has_the_cause_that_the_server_names() {
    let replay = Replay::one("supabase-v2-join-errors", "alice");
    for (topic, kind, retry) in [
        ("room:1", CauseKind::UnmatchedTopic, Retry::Never),
        ("realtime:j2", CauseKind::TokenExpired, Retry::NewToken),
        ("realtime:j3", CauseKind::TokenInvalid, Retry::NewToken),
        ("realtime:j4", CauseKind::TokenInvalid, Retry::NewToken),
        ("realtime:j5", CauseKind::TokenInvalid, Retry::NewToken),
        // The server's own mistake over a payload of wrong types, for which it has no code.
        ("realtime:j7", CauseKind::Unknown, Retry::Backoff),
        ("realtime:j8", CauseKind::Unauthorized, Retry::NewToken),
        ("realtime:j11", CauseKind::Unknown, Retry::Backoff),
    ] {
        assert_eq!(kinds(&replay, topic), [kind], "{topic}");
        assert_eq!(kind.retry(), retry, "{topic}");
        assert_eq!(replay.view(topic).state, ChannelState::Errored);
    }
    let needed = replay.events.iter().filter(|(_, e)| matches!(e, Event::TokenNeeded { .. }));
    let lines: Vec<usize> = needed.map(|(line, _)| *line).collect();
    assert_eq!(lines, [23, 26, 29, 34, 46]);
    let private = Replay::one("supabase-v1-connect-errors", "privateonly");
    assert_eq!(kinds(&private, "realtime:x"), [CauseKind::PrivateOnly]);
    let replay = Replay::one("supabase-v2-database-broadcast", "replay");
    assert_eq!(kinds(&replay, "realtime:private:room-db2"), [CauseKind::ReplayRefused]);
}

#[test]
fn a_token_that_is_not_accepted_any_more_ends_the_channel_with_the_reason() {
    let replay = Replay::one("supabase-v2-access-token", "alice");
    for (topic, kind) in [
        ("realtime:private:room-tok6", CauseKind::TokenExpired),
        ("realtime:private:room-tok8", CauseKind::TokenInvalid),
        ("realtime:private:room-tok10", CauseKind::TokenInvalid),
        ("realtime:private:room-tok12", CauseKind::TokenInvalid),
        ("realtime:private:room-tok14", CauseKind::TokenInvalid),
        ("realtime:private:room-tok16", CauseKind::Unauthorized),
        ("realtime:pub20", CauseKind::TokenExpired),
        ("realtime:private:room-exp", CauseKind::TokenExpired),
    ] {
        assert_eq!(kinds(&replay, topic), [kind], "{topic}");
        let view = replay.view(topic);
        assert_eq!(view.state, ChannelState::Errored);
        assert_eq!(view.error.as_ref().map(|cause| cause.kind.retry()), Some(Retry::NewToken));
    }
    // Ignored or refreshed in time.
    for topic in ["private:room-tok1", "private:room-tok18", "pubexp"] {
        assert_eq!(replay.view(&format!("realtime:{topic}")).state, ChannelState::Joined);
    }
}

#[test]
fn an_api_key_that_expires_ends_only_the_channels_that_used_it() {
    let replay = Replay::one("supabase-v1-apikey-expires", "c");
    assert_eq!(kinds(&replay, "realtime:k"), [CauseKind::TokenExpired]);
    assert_eq!(kinds(&replay, "realtime:k3"), [CauseKind::TokenExpired]);
    assert_eq!(replay.view("realtime:k2").state, ChannelState::Joined);
    let beats = replay.events.iter().filter(|(_, e)| matches!(e, Event::Heartbeat { .. }));
    assert_eq!(beats.count(), 1, "the connection stays");
}

#[test]
fn a_limit_of_the_project_is_told_as_what_it_is() {
    let one = |connection| Replay::one("supabase-v1-limits", connection);
    assert_eq!(kinds(&one("channels"), "realtime:l4"), [CauseKind::TooManyChannels]);
    let too_many = CauseKind::TooManyConnections;
    let said = "HTTP 429: Too many connected users".to_owned();
    assert_eq!(disconnected(&one("user4")), (too_many, said, true));
    let limited = CauseKind::MessagesRateLimited;
    assert_eq!(kinds(&one("events"), "realtime:e"), [limited, limited]);
    let limited = CauseKind::PresenceRateLimited;
    assert_eq!(kinds(&one("presence"), "realtime:p"), [limited]);
    let away = (CauseKind::GoingAway, "close code 1001".into(), true);
    assert_eq!(disconnected(&one("joins")), away);
    let said = "HTTP 429: Too many joins per second".to_owned();
    assert_eq!(disconnected(&one("joins2")), (CauseKind::JoinRateLimited, said, true));
    let limited = Replay::one("supabase-v1-too-large", "limited");
    assert_eq!(kinds(&limited, "realtime:big"), [CauseKind::PresenceTooLarge]);
    let main = Replay::one("supabase-v1-too-large", "main");
    assert_eq!(disconnected(&main).0, CauseKind::ConnectionLost);
}

#[test]
fn a_refused_connection_has_the_cause_that_its_body_names() {
    for (connection, kind, retry) in [
        ("no apikey", CauseKind::ApiKeyMissing, Retry::NewToken),
        // What is wrong here is the API key, whatever the words call it.
        ("apikey not a JWT", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("bad signature", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("expired", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("no role", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("no exp", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("sb_ key", CauseKind::ApiKeyRejected, Retry::NewToken),
        ("unknown tenant (host)", CauseKind::TenantNotFound, Retry::Never),
        ("suspended tenant", CauseKind::TenantDisabled, Retry::Never),
    ] {
        let replay = Replay::one("supabase-v1-connect-errors", connection);
        let (said, _, retries) = disconnected(&replay);
        assert_eq!((said, said.retry()), (kind, retry), "{connection}");
        assert!(!retries, "{connection}");
    }
}

#[test]
fn a_tenant_that_goes_away_announces_it_and_the_client_comes_back() {
    for connection in ["v1", "v2"] {
        let replay = Replay::one("supabase-tenant-disconnect", connection);
        let join = &replay.joins[0];
        let announced = json!(["system", ["system", "ok", "Server requested disconnect"]]);
        assert_eq!(seen(&replay, join, usize::MAX).last(), Some(&announced));
        assert_eq!(
            disconnected(&replay),
            (CauseKind::ServiceRestart, "close code 1012".into(), true),
        );
    }
    let idle = Replay::one("supabase-idle-timeout", "silent");
    assert_eq!(disconnected(&idle), (CauseKind::ClosedNormally, "close code 1000".into(), true));
}

#[test]
fn a_channel_is_live_only_once_the_database_subscription_stands() {
    let replay = Replay::one("supabase-v2-postgres-changes", "alice");
    let line_of = |wanted: fn(&ChannelEvent) -> bool| {
        let mut events = replay.events_of(replay.channel("realtime:pg2"));
        events.find(|(_, event)| wanted(event)).map(|(line, _)| line)
    };
    assert_eq!(line_of(|event| matches!(event, ChannelEvent::Joined { .. })), Some(6));
    assert_eq!(line_of(|event| matches!(event, ChannelEvent::System(_))), Some(7));
    assert_eq!(line_of(|event| matches!(event, ChannelEvent::Live)), Some(7));
    // With presence on as well, the later of the two decides.
    let official = Replay::one("supabase-v2-official-client", "js");
    let mut events = official.events_of(official.channel("realtime:js2"));
    let live = events.find(|(_, event)| matches!(event, ChannelEvent::Live));
    assert_eq!(live.map(|(line, _)| line), Some(10));
}

#[test]
fn a_subscription_that_fails_is_told_and_the_channel_never_becomes_live() {
    let replay = Replay::one("supabase-v1-postgres-changes-errors", "alice");
    for topic in ["realtime:pgerrj0", "realtime:pgerrj1", "realtime:pgerrj4", "realtime:pgerrj9"] {
        let join = replay.joins.iter().find(|join| join.topic == topic).expect("it was joined");
        let seen = seen(&replay, join, usize::MAX);
        let [joined, system] = seen.as_slice() else { panic!("{topic}: {seen:?}") };
        assert_eq!(joined[0], "joined", "{topic}");
        assert_eq!(system[1][1], "error", "{topic}");
    }
}

/// The bindings, in the order of the recorded join: 0 all of todos, 1 INSERT where id=eq.1,
/// 2 UPDATE where task=in.(two,three), 3 DELETE, 4 all of the schema, 5 all of every schema.
#[test]
fn a_row_change_is_delivered_to_exactly_the_bindings_it_matches() {
    let replay = Replay::one("supabase-v2-postgres-changes", "alice");
    let seen = seen(&replay, &replay.joins[0], usize::MAX);
    let changes: Vec<(&Value, &str, &str)> = seen
        .iter()
        .filter(|seen| seen[0] == "change")
        .map(|seen| {
            let word = |key: &str| seen[2][key].as_str().expect("a word");
            (&seen[1], word("type"), word("table"))
        })
        .collect();
    let expected = [
        (json!([4, 5]), "DELETE", "types"),
        (json!([4, 5]), "DELETE", "types"),
        (json!([0, 1, 4, 5]), "INSERT", "todos"), // id 1
        (json!([0, 4, 5]), "INSERT", "todos"),    // id 2
        (json!([0, 2, 4, 5]), "UPDATE", "todos"), // task two
        (json!([0, 2, 4, 5]), "UPDATE", "todos"), // task three
        (json!([0, 3, 4, 5]), "DELETE", "todos"),
        (json!([0, 4, 5]), "INSERT", "todos"),
        (json!([0, 4, 5]), "INSERT", "todos"),
        (json!([4, 5]), "INSERT", "notes"),
        (json!([4, 5]), "UPDATE", "notes"),
        (json!([4, 5]), "DELETE", "notes"),
        (json!([4, 5]), "INSERT", "types"),
        (json!([4, 5]), "INSERT", "types"),
        (json!([0, 4, 5]), "INSERT", "todos"), // 3,000 bytes
    ];
    let expected: Vec<(&Value, &str, &str)> =
        expected.iter().map(|(bindings, kind, table)| (bindings, *kind, *table)).collect();
    assert_eq!(changes, expected);
}

#[test]
fn numbers_that_no_double_holds_arrive_digit_for_digit() {
    let replay = Replay::one("supabase-v2-postgres-changes", "alice");
    let mut changes =
        replay.events_of(replay.channel("realtime:pg2")).filter_map(|(line, event)| match event {
            ChannelEvent::Change { change, .. } if line == 30 => Some(change),
            _ => None,
        });
    let record = changes.next().and_then(|change| change.record()).expect("a row");
    let text = record.as_json().expect("JSON");
    // As inserted by the statement on line 29.
    assert!(text.contains("9007199254740993"), "{text}");
    assert!(text.contains("12345678901234567890.123"), "{text}");
}

#[test]
fn a_row_that_may_not_be_read_arrives_with_the_reason_and_nothing_else() {
    let replay = Replay::one("supabase-v1-postgres-rls", "anon");
    let channel = replay.channel("realtime:rls1");
    let (_, change) = replay
        .events_of(channel)
        .find_map(|(line, event)| match event {
            ChannelEvent::Change { change, .. } if line == 27 => Some((line, change)),
            _ => None,
        })
        .expect("the change of line 27");
    assert_eq!(change.errors(), ["Error 401: Unauthorized"]);
    assert_eq!(change.record().map(|record| shown(&record)), Some(json!({})));
    assert_eq!((change.table().as_str(), change.commit_timestamp()), ("secret", None));
}

#[test]
fn broadcasts_arrive_in_order_as_text_as_bytes_and_from_the_database() {
    let replay = Replay::one("supabase-v2-user-broadcast-binary", "bob");
    let broadcasts: Vec<(String, Value)> = replay
        .events_of(replay.channel("realtime:ub"))
        .filter_map(|(_, event)| match event {
            ChannelEvent::Broadcast(b) => Some((b.event.clone(), shown(&b.payload))),
            _ => None,
        })
        .collect();
    let expected = [
        ("uj", json!({"n": 1})),
        ("ub", json!({"bytes": "0001feff"})),
        ("um", json!({})),
        ("ue", json!({"bytes": ""})),
        ("arr", json!([1, 2])),
        ("txt", json!({"t": 1})),
        ("fromv1", json!({"t": 1})),
        ("noref", json!({})),
        ("big", json!({"bytes": "03".repeat(100_000)})),
    ];
    let expected = expected.map(|(event, payload)| (event.to_owned(), payload));
    assert_eq!(broadcasts[..9], expected);
    assert_eq!(broadcasts.len(), 10);
    assert_eq!(broadcasts[9].0.len(), 255);
}

#[test]
fn a_trigger_tells_of_rows_in_broadcasts_that_can_be_read_as_such() {
    let replay = Replay::one("supabase-v2-database-broadcast", "private");
    let broadcasts: Vec<&Broadcast> = replay
        .events_of(replay.channel("realtime:private:room-db"))
        .filter_map(|(_, event)| match event {
            ChannelEvent::Broadcast(broadcast) => Some(broadcast),
            _ => None,
        })
        .collect();
    let note = |body: &str| {
        let updated_at = "2026-11-22T20:39:52.688708+00:00";
        Some(json!({ "id": 3, "body": body, "updated_at": updated_at }))
    };
    let mut told = Vec::new();
    for event in ["insert", "Update", "DELETE"] {
        for broadcast in broadcasts.iter().filter(|broadcast| broadcast.matches(event)) {
            let change: BroadcastChange<Value> = broadcast.change().expect("a row change");
            assert_eq!((&*change.schema, &*change.table), ("public", "notes"));
            assert_eq!(change.id.as_deref(), broadcast.id());
            told.push((change.operation, change.record, change.old_record));
        }
    }
    let expected = [
        (ChangeKind::Insert, note("trigger"), None),
        (ChangeKind::Update, note("changed"), note("trigger")),
        (ChangeKind::Delete, None, note("changed")),
    ];
    assert_eq!(told, expected);
    // What `realtime.send` and `realtime.send_binary` sent is none of a row.
    let others: Vec<&&Broadcast> =
        broadcasts.iter().filter(|broadcast| broadcast.matches("*")).collect();
    assert_eq!(others.len(), 6);
    for other in &others[..3] {
        assert_eq!(other.id().map(str::len), Some(36));
        assert!(other.change::<Value>().is_err(), "{other:?}");
    }
}

#[test]
fn replayed_broadcasts_say_that_they_are_and_carry_their_id() {
    let replay = Replay::one("supabase-v2-database-broadcast", "replay");
    let seen = seen(&replay, &replay.joins[0], 42);
    let replayed: Vec<(&Value, &Value)> = seen
        .iter()
        .filter(|seen| seen[0] == "broadcast")
        .map(|seen| (&seen[1], &seen[3]))
        .collect();
    assert_eq!(
        replayed,
        [
            (&json!("binev"), &json!(["3fb63a0d-e220-4e30-8cfd-0c4249a6affd", true])),
            (&json!("INSERT"), &json!(["74101cdd-63b7-4aed-8bea-14999527d6fb", true])),
            (&json!("UPDATE"), &json!(["85f7e7ef-1df8-4971-9c2c-89f80b88fa10", true])),
            (&json!("DELETE"), &json!(["3ccafa31-3328-43df-8fc6-1b7336c7bdd2", true])),
        ],
    );
}

#[test]
fn what_cannot_be_used_is_a_violation_and_the_channel_goes_on() {
    let alice = Replay::one("supabase-v2-broadcast", "alice");
    let [(21, Violation::Payload { topic, event })] = alice.violations()[..] else {
        panic!("{:?}", alice.violations());
    };
    assert_eq!((topic.as_str(), event.as_str()), ("realtime:bc2", "broadcast"));
    // A list as payload crashed the server's channel.
    assert_eq!(kinds(&alice, "realtime:bc2"), [CauseKind::ChannelCrashed]);
    let v1 = Replay::one("supabase-v2-user-broadcast-binary", "v1client");
    assert!(matches!(v1.violations()[..], [(41, Violation::Malformed(_))]));
    assert_eq!(v1.view("realtime:ub").state, ChannelState::Joined);
}

#[test]
fn a_channel_without_the_right_to_write_is_told_by_silence_or_an_error() {
    let replay = Replay::one("supabase-v2-private", "alice");
    // A broadcast that the recording never answers, though `ack` is on.
    assert_eq!(replay.outcome(replay.push("7")), Some(&Outcome::Sent));
    for track in ["8", "11"] {
        let outcome = replay.outcome(replay.push(track));
        let Some(Outcome::Replied { status: Status::Error, response }) = outcome else {
            panic!("{track}: {outcome:?}");
        };
        assert_eq!(shown(response), json!({}));
    }
    for topic in ["realtime:private:nope", "realtime:private:room1x"] {
        assert_eq!(kinds(&replay, topic), [CauseKind::Unauthorized]);
    }
    // Joined without the right to read presence: no snapshot ever comes, so it is not live.
    let view = replay.view("realtime:private:bconly1");
    assert_eq!((view.state, view.live, view.stale), (ChannelState::Joined, false, true));
}

#[test]
fn a_channel_without_presence_ignores_the_diffs_it_is_sent() {
    for name in ["supabase-v1-presence", "supabase-v2-presence"] {
        let replay = Replay::one(name, "nopres");
        let told = replay.told.iter().filter(|told| told.event == "presence_diff").count();
        assert!(told > 0, "{name}");
        let view = &replay.channels[0];
        assert!(view.members.is_empty() && view.live);
        let events = replay.events_of(view.id);
        let told = events.filter(|(_, event)| {
            matches!(event, ChannelEvent::Presence(_) | ChannelEvent::Message { .. })
        });
        assert_eq!(told.count(), 0, "{name}");
    }
}

#[test]
fn refused_joins_hold_the_connection_and_what_waited_arrives_in_order() {
    let replay = Replay::one("supabase-v2-refused-join-blocks", "alice");
    for topic in ["no2", "no3", "no4"] {
        let topic = format!("realtime:private:{topic}");
        assert_eq!(kinds(&replay, &topic), [CauseKind::Unauthorized]);
    }
    let round_trips: Vec<u128> = replay
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Heartbeat { round_trip } => Some(round_trip.as_millis()),
            _ => None,
        })
        .collect();
    assert_eq!(round_trips, [15_674 - 579]);
    let heard = seen(&replay, &replay.joins[0], usize::MAX);
    let broadcasts = heard.iter().filter(|seen| seen[0] == "broadcast");
    let broadcasts: Vec<_> = broadcasts.map(|seen| (&seen[1], &seen[2]["i"])).collect();
    let (bob, own) = (json!("frombob"), json!("own"));
    assert_eq!(
        broadcasts,
        [
            (&bob, &json!(0)),
            (&bob, &json!(1)),
            (&bob, &json!(2)),
            (&bob, &json!(3)),
            (&own, &Value::Null),
        ],
    );
}

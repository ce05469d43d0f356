//! Joins, leaves, and what ends a channel.

use super::*;

#[test]
fn a_supabase_join_and_leave_go_as_recorded() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(
        alice,
        r#"["1","1","realtime:bc2","phx_join",{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":false},"postgres_changes":[],"private":false}}]"#,
    );
    rig.send(alice, r#"["1","3","realtime:bc2","phx_leave",{}]"#);
    rig.send(
        alice,
        r#"["1","4","realtime:bc2","broadcast",{"type":"broadcast","event":"x","payload":{}}]"#,
    );
    rig.send(alice, r#"["9","17","room:nope","phx_leave",{}]"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1","1","realtime:bc2","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#,
            r#"["1","3","realtime:bc2","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["1","1","realtime:bc2","phx_close",{}]"#,
            r#"[null,"4","realtime:bc2","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
            r#"["9","17","room:nope","phx_reply",{"status":"ok","response":{}}]"#,
        ]
    );
}

#[test]
fn a_v1_client_sees_the_ref_of_its_join_in_phx_close() {
    let mut rig = Rig::new();
    let alice = rig.open(V1);
    rig.send(
        alice,
        r#"{"topic":"realtime:x","event":"phx_join","payload":{"config":{}},"ref":"j0"}"#,
    );
    rig.send(
        alice,
        r#"{"topic":"realtime:x","event":"phx_leave","payload":{},"ref":"j0l","join_ref":"j0"}"#,
    );
    let sent: Vec<Value> = rig.sent_to(alice).iter().map(|text| json(text)).collect();
    assert_eq!(
        sent,
        [
            json(
                r#"{"ref":"j0","event":"phx_reply","topic":"realtime:x","payload":{"status":"ok","response":{"postgres_changes":[]}}}"#
            ),
            json(
                r#"{"ref":"j0l","event":"phx_reply","topic":"realtime:x","payload":{"status":"ok","response":{}}}"#
            ),
            json(r#"{"ref":"j0","event":"phx_close","topic":"realtime:x","payload":{}}"#),
        ]
    );
}

#[test]
fn a_duplicate_join_is_answered_before_the_old_channel_closes() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    for join_ref in ["2", "8"] {
        rig.send(alice, &format!(r#"["{join_ref}","{join_ref}","room:private","phx_join",{{}}]"#));
    }
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["2","2","room:private","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["8","8","room:private","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["2","2","room:private","phx_close",{}]"#,
        ]
    );
    assert_eq!(rig.server.stats().channels, 1);

    // A stale join_ref is dropped without a word, null is taken, and so is the right one.
    rig.send(alice, r#"["2","9","room:private","echo",{"stale":true}]"#);
    rig.send(alice, r#"["2","12","room:private","phx_leave",{}]"#);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.server.stats().stale, 2);
    rig.send(alice, r#"[null,"11","room:private","echo",{"nil":true}]"#);
    rig.send(alice, r#"["8","13","room:private","phx_leave",{}]"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["8","11","room:private","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["8","13","room:private","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["8","8","room:private","phx_close",{}]"#,
        ]
    );
}

#[test]
fn a_topic_of_no_kind_is_unmatched_and_its_reply_names_no_join() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(alice, r#"["4","4","nosuch:topic","phx_join",{}]"#);
    rig.send(alice, r#"["5","6","room:other","echo",{}]"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"[null,"4","nosuch:topic","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
            r#"[null,"6","room:other","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]
    );
}

#[test]
fn a_refused_join_holds_its_session_and_no_other() {
    let config = ServerConfig {
        refuse_joins: Vec::from([("realtime:no".into(), "Unauthorized: no".into())]),
        ..ServerConfig::default()
    };
    let mut rig = Rig::with(config);
    let (alice, bob) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:x", "{}");
    rig.join(bob, "realtime:x", "{}");
    rig.send(alice, r#"["2","2","realtime:no","phx_join",{"config":{}}]"#);
    rig.send(alice, r#"["3","3","realtime:","phx_join",{"config":{}}]"#);
    rig.send(alice, r#"[null,"4","phoenix","heartbeat",{}]"#);
    rig.send(bob, r#"["1","2","realtime:x","broadcast",{"event":"e"}]"#);
    rig.send(bob, r#"[null,"3","phoenix","heartbeat",{}]"#);
    assert_eq!(rig.sent().len(), 1, "only bob's heartbeat is answered");

    rig.wait(Duration::from_secs(5));
    assert_eq!(
        rig.sent(),
        [(
            alice,
            r#"["2","2","realtime:no","phx_reply",{"status":"error","response":{"reason":"Unauthorized: no"}}]"#
                .to_string()
        )]
    );
    rig.wait(Duration::from_secs(5));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["3","3","realtime:","phx_reply",{"status":"error","response":{"reason":"TopicNameRequired: You must provide a topic name"}}]"#,
            r#"[null,"4","phoenix","phx_reply",{"status":"ok","response":{}}]"#,
            r#"[null,null,"realtime:x","broadcast",{"event":"e"}]"#,
        ]
    );
}

#[test]
fn odd_join_payloads_are_refused_in_the_words_of_a_real_server() {
    let mut rig = Rig::with(ServerConfig {
        join_refusal_after: Duration::ZERO,
        channels_per_session_max: 1,
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    for (payload_text, reason) in [
        ("null", "UnknownErrorOnChannel: expected params to be a :map, got: `nil`"),
        (
            r#"{"config":{"broadcast":"x","presence":3,"postgres_changes":"y","private":"maybe"}}"#,
            "UnknownErrorOnChannel: no function clause matching in Access.get/3",
        ),
        (
            r#"{"config":{"broadcast":{"replay":{"since":0,"limit":5}}}}"#,
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
    ] {
        rig.send(alice, &format!(r#"["1","1","realtime:j","phx_join",{payload_text}]"#));
        let reply = payload(&rig.sent_to(alice)[0]);
        assert_eq!(reply["response"]["reason"].as_str(), Some(reason));
    }
    rig.send(alice, r#"["1","1","realtime:j","phx_join",{"config":null}]"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1","1","realtime:j","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#
        ]
    );
    rig.send(alice, r#"["2","2","realtime:k","phx_join",{"config":{}}]"#);
    assert_eq!(
        payload(&rig.sent_to(alice)[0])["response"]["reason"],
        json("\"ChannelRateLimitReached: Too many channels\"")
    );
}

#[test]
fn a_token_is_remembered_without_a_reply_and_what_is_none_is_ignored() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:x", "{}");
    assert_eq!(rig.server.access_token(alice, "realtime:x"), None);
    for token in [r#""abc""#, "null", r#""sb_publishable_x""#, "7"] {
        rig.send(
            alice,
            &format!(r#"["1","2","realtime:x","access_token",{{"access_token":{token}}}]"#),
        );
    }
    assert_eq!(rig.sent(), []);
    let token = rig.server.access_token(alice, "realtime:x").unwrap();
    assert_eq!(token.expose(), "abc");
}

#[test]
fn a_channel_can_be_shut_with_a_message_or_crash() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:x", "{}");
    let message = "Token has expired 0 seconds ago";
    assert!(rig.server.shut_channel(alice, "realtime:x", message, rig.now));
    assert!(!rig.server.shut_channel(alice, "realtime:x", message, rig.now));
    rig.send(alice, r#"["2","2","room:x","phx_join",{}]"#);
    assert!(rig.server.shut_channel(alice, "room:x", message, rig.now));
    rig.send(alice, r#"["3","3","room:x","phx_join",{}]"#);
    assert!(rig.server.crash_channel(alice, "room:x", rig.now));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:x","system",{"message":"Token has expired 0 seconds ago","status":"error","extension":"system","channel":"x"}]"#,
            r#"["1","1","realtime:x","phx_close",{}]"#,
            r#"["2","2","room:x","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["2","2","room:x","phx_close",{}]"#,
            r#"["3","3","room:x","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["3","3","room:x","phx_error",{"reason":"channel_crash"}]"#,
        ]
    );
}

#[test]
fn a_refused_plain_join_is_answered_at_once_and_ends_the_old_channel() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(alice, r#"["1","1","room:a","phx_join",{}]"#);
    let config = ServerConfig {
        refuse_joins: Vec::from([("room:a".into(), "unauthorized".into())]),
        ..rig.server.config().clone()
    };
    rig.server.set_config(config);
    rig.send(alice, r#"["2","2","room:a","phx_join",{}]"#);
    assert_eq!(
        rig.sent_to(alice)[1..],
        [
            r#"["2","2","room:a","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
            r#"["1","1","room:a","phx_close",{}]"#,
        ]
    );
}

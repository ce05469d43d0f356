//! Scenarios with hand-written frames; what is expected comes from the protocol sheet and from
//! recordings of real servers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::Value;

use super::*;
use crate::wire::DecodeError;

const V1: &str = "/socket/websocket";
const V2: &str = "/realtime/v1/websocket?vsn=2.0.0";

struct Rig {
    server: Server,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(ServerConfig { idle_after: None, ..ServerConfig::default() })
    }

    fn with(config: ServerConfig) -> Self {
        Self { server: Server::new(config, 1, Instant::EPOCH), now: Instant::EPOCH }
    }

    fn open(&mut self, target: &str) -> SessionId {
        self.server.accept(target, self.now).unwrap()
    }

    fn send(&mut self, session: SessionId, text: &str) {
        self.server.handle_frame(session, Frame::text(text), self.now);
    }

    fn send_binary(&mut self, session: SessionId, bytes: &'static [u8]) {
        self.server.handle_frame(session, Frame::binary(bytes), self.now);
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.server.handle_timeout(self.now);
    }

    /// What was sent since the last call: who got it, and its text (bytes as Rust shows them).
    fn sent(&mut self) -> Vec<(SessionId, String)> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            sent.push(match transmit {
                ServerTransmit::Frame { session, frame } => match frame {
                    Frame::Text(bytes) => (session, String::from_utf8(bytes.to_vec()).unwrap()),
                    Frame::Binary(bytes) => (session, bytes.escape_ascii().to_string()),
                },
                ServerTransmit::Close { session, code, reason } => {
                    (session, format!("close {code} {reason}"))
                }
            });
        }
        sent
    }

    fn sent_to(&mut self, session: SessionId) -> Vec<String> {
        let sent = self.sent().into_iter();
        sent.filter(|(id, _)| *id == session).map(|(_, text)| text).collect()
    }

    fn events(&mut self) -> Vec<ServerEvent> {
        core::iter::from_fn(|| self.server.poll_event()).collect()
    }

    fn join(&mut self, session: SessionId, topic: &str, config: &str) {
        self.send(session, &format!(r#"["1","1","{topic}","phx_join",{{"config":{config}}}]"#));
        self.sent();
        self.events();
    }

    fn presence(&mut self, session: SessionId, msg_ref: &str, payload: &str) {
        self.send(session, &format!(r#"["1","{msg_ref}","realtime:p","presence",{payload}]"#));
    }
}

fn payload(text: &str) -> Value {
    let frame = json(text);
    if frame.is_array() { frame[4].clone() } else { frame["payload"].clone() }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn row_change(text: &str) -> RowChange {
    RowChange::from_json(text).unwrap()
}

#[test]
fn a_heartbeat_is_answered_in_the_version_of_the_session() {
    let mut rig = Rig::new();
    let (v1, v2) = (rig.open(V1), rig.open(V2));
    rig.send(v2, r#"[null,"7","phoenix","heartbeat",{}]"#);
    rig.send(
        v1,
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"hb","join_ref":null}"#,
    );
    let sent = rig.sent();
    assert_eq!(sent[0].1, r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(
        json(&sent[1].1),
        json(
            r#"{"ref":"hb","event":"phx_reply","topic":"phoenix","payload":{"status":"ok","response":{}}}"#
        )
    );
}

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
fn a_plain_channel_relays_to_the_others_as_text_and_as_bytes() {
    let mut rig = Rig::new();
    let (alice, bob, old) = (rig.open(V2), rig.open(V2), rig.open(V1));
    for session in [alice, bob] {
        rig.send(session, r#"["1","1","room:bin","phx_join",{}]"#);
    }
    rig.send(old, r#"{"topic":"room:bin","event":"phx_join","payload":{},"ref":"1"}"#);
    rig.sent();
    rig.send(alice, r#"["1","2","room:bin","shout",{"m": 1}]"#);
    rig.send_binary(alice, b"\x00\x01\x01\x08\x0913room:binbin_shouthello");
    assert_eq!(
        rig.sent(),
        [
            (bob, r#"[null,null,"room:bin","shout",{"m": 1}]"#.to_string()),
            (
                old,
                r#"{"topic":"room:bin","event":"shout","payload":{"m": 1},"ref":null}"#.to_string()
            ),
            (
                alice,
                r#"["1","2","room:bin","phx_reply",{"status":"ok","response":{}}]"#.to_string()
            ),
            (bob, r"\x02\x08\troom:binbin_shouthello".to_string()),
            (
                alice,
                r#"["1","3","room:bin","phx_reply",{"status":"ok","response":{}}]"#.to_string()
            ),
        ]
    );
}

#[test]
fn self_and_ack_decide_who_hears_of_a_broadcast() {
    let mut rig = Rig::new();
    let (alice, bob) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:bc2", r#"{"broadcast":{"ack":true,"self":"TRUE"}}"#);
    rig.join(bob, "realtime:bc2", r#"{"broadcast":{"ack":false,"self":false}}"#);
    rig.send(
        alice,
        r#"["1","2","realtime:bc2","broadcast",{"type":"broadcast","event":"hello","payload":{"n":1},"extra":0}]"#,
    );
    let relayed = r#"[null,null,"realtime:bc2","broadcast",{"type":"broadcast","event":"hello","payload":{"n":1},"extra":0}]"#;
    let ok = r#"["1","2","realtime:bc2","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(
        rig.sent(),
        [(alice, relayed.to_string()), (bob, relayed.to_string()), (alice, ok.to_string()),]
    );
    // No ack and no echo; whatever the object holds is relayed as it is.
    rig.send(bob, r#"["1","2","realtime:bc2","broadcast",{"anything":true}]"#);
    assert_eq!(
        rig.sent(),
        [(alice, r#"[null,null,"realtime:bc2","broadcast",{"anything":true}]"#.to_string())]
    );
    // An event the channel does not know gets no reply.
    rig.send(bob, r#"["1","3","realtime:bc2","nonsense",{"x":1}]"#);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_list_as_broadcast_crashes_the_senders_channel_when_v2_listens() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:bc2", r#"{"broadcast":{"ack":true}}"#);
    rig.send(alice, r#"["1","5","realtime:bc2","broadcast",[1,2]]"#);
    rig.send(alice, r#"["1","6","realtime:bc2","nonsense",{"x":1}]"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1","1","realtime:bc2","phx_error",{"reason":"channel_crash"}]"#,
            r#"[null,"6","realtime:bc2","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]
    );
}

#[test]
fn a_user_broadcast_arrives_as_kind_4_or_as_an_object_on_v1() {
    let mut rig = Rig::new();
    let (alice, bob, old) = (rig.open(V2), rig.open(V2), rig.open(V1));
    rig.join(alice, "realtime:ub", r#"{"broadcast":{"ack":true,"self":true}}"#);
    rig.join(bob, "realtime:ub", "{}");
    rig.send(
        old,
        r#"{"topic":"realtime:ub","event":"phx_join","payload":{"config":{}},"ref":"1"}"#,
    );
    rig.sent();

    rig.send_binary(alice, b"\x03\x01\x01\x0b\x02\x00\x0112realtime:ubuj{\"n\":1}");
    let kind4 = r#"\x04\x0b\x02\x00\x01realtime:ubuj{\"n\":1}"#.to_string();
    let sent = rig.sent();
    assert_eq!(sent[0], (alice, kind4.clone()));
    assert_eq!(sent[1], (bob, kind4));
    assert_eq!(payload(&sent[2].1), json(r#"{"event":"uj","payload":{"n":1},"type":"broadcast"}"#));
    assert_eq!(sent[3].1, r#"["1","2","realtime:ub","phx_reply",{"status":"ok","response":{}}]"#);

    // Bytes go to V2 only, metadata goes nowhere, and an empty ref is echoed.
    rig.send_binary(alice, b"\x03\x01\x01\x0b\x02\x00\x0013realtime:ubub\x00\x01\xfe\xff");
    rig.send_binary(alice, b"\x03\x01\x01\x0b\x02\x07\x0114realtime:ubum{\"m\":1}{}");
    rig.send_binary(alice, b"\x03\x00\x00\x0b\x05\x00\x01realtime:ubnoref{}");
    let bob_got = |sent: &[(SessionId, String)]| -> Vec<String> {
        let to_bob = sent.iter().filter(|(id, _)| *id == bob);
        to_bob.map(|(_, text)| text.clone()).collect()
    };
    let sent = rig.sent();
    assert_eq!(
        bob_got(&sent),
        [
            r"\x04\x0b\x02\x00\x00realtime:ubub\x00\x01\xfe\xff",
            r"\x04\x0b\x02\x00\x01realtime:ubum{}",
            r"\x04\x0b\x05\x00\x01realtime:ubnoref{}",
        ]
    );
    assert_eq!(sent.iter().filter(|(id, _)| *id == old).count(), 2);
    assert_eq!(
        sent.last().unwrap().1,
        r#"["1","","realtime:ub","phx_reply",{"status":"ok","response":{}}]"#
    );

    // A V1 client's broadcast is text for everybody.
    rig.send(
        old,
        r#"{"topic":"realtime:ub","event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"t":1}},"ref":"9"}"#,
    );
    assert_eq!(
        bob_got(&rig.sent()),
        [
            r#"[null,null,"realtime:ub","broadcast",{"type":"broadcast","event":"e","payload":{"t":1}}]"#
        ]
    );
}

#[test]
fn private_and_public_channels_of_one_name_never_meet() {
    let mut rig = Rig::new();
    let (alice, bob) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:x", r#"{"private":true}"#);
    rig.join(bob, "realtime:x", r#"{"private":false}"#);
    rig.send(alice, r#"["1","2","realtime:x","broadcast",{"event":"e"}]"#);
    assert_eq!(rig.sent(), []);
    // The server itself speaks to both.
    let empty = Payload::empty();
    assert_eq!(rig.server.broadcast("realtime:x", "e", &empty, rig.now), 2);
    assert_eq!(rig.sent_to(alice), [r"\x04\n\x01\x00\x01realtime:xe{}"]);
}

#[test]
fn a_presence_is_told_as_state_diff_update_and_leave() {
    let mut rig = Rig::new();
    let (observer, alice) = (rig.open(V2), rig.open(V2));
    rig.send(
        observer,
        r#"["1","1","realtime:p","phx_join",{"config":{"presence":{"key":"observer","enabled":true}}}]"#,
    );
    assert_eq!(
        rig.sent_to(observer),
        [
            r#"["1","1","realtime:p","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#,
            r#"["1",null,"realtime:p","presence_state",{}]"#,
        ]
    );
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"alice","enabled":false}}"#);

    rig.presence(
        alice,
        "2",
        r#"{"type":"presence","event":"TRACK","payload":{"who":"alice","n":1}}"#,
    );
    let sent = rig.sent();
    let to: Vec<SessionId> = sent.iter().map(|(id, _)| *id).collect();
    assert_eq!(to, [alice, observer, alice]);
    assert_eq!(sent[0].1, r#"["1","2","realtime:p","phx_reply",{"status":"ok","response":{}}]"#);
    assert!(sent[1].1.starts_with(r#"[null,null,"realtime:p","presence_diff","#));
    let diff = payload(&sent[1].1);
    let first = diff["joins"]["alice"]["metas"][0].clone();
    let first_ref = first["phx_ref"].as_str().unwrap();
    assert_eq!((&first["who"], &first["n"]), (&json("\"alice\""), &json("1")));
    assert_eq!(first_ref.len(), 16);
    assert_eq!(diff["leaves"], json("{}"));

    // The same payload again is fine, and nobody is told.
    rig.presence(
        alice,
        "3",
        r#"{"type":"presence","event":"track","payload":{"n":1,"who":"alice"}}"#,
    );
    assert_eq!(
        rig.sent(),
        [(
            alice,
            r#"["1","3","realtime:p","phx_reply",{"status":"ok","response":{}}]"#.to_string()
        )]
    );

    // Another payload is one diff that says both what came and what went.
    rig.presence(
        alice,
        "4",
        r#"{"type":"presence","event":"track","payload":{"who":"alice","n":2}}"#,
    );
    let diff = payload(&rig.sent_to(observer)[0]);
    let second = diff["joins"]["alice"]["metas"][0].clone();
    assert_eq!(second["phx_ref_prev"].as_str(), Some(first_ref));
    assert_ne!(second["phx_ref"], first["phx_ref"]);
    assert_eq!(second["n"], json("2"));
    assert_eq!(diff["leaves"]["alice"]["metas"], Value::Array(Vec::from([first])));

    // A second device under the same key, and one without a key.
    let (device, nameless) = (rig.open(V2), rig.open(V2));
    rig.join(device, "realtime:p", r#"{"presence":{"key":"alice"}}"#);
    rig.join(nameless, "realtime:p", r#"{"presence":{"key":null}}"#);
    rig.presence(device, "2", r#"{"type":"presence","event":"track"}"#);
    rig.presence(nameless, "2", r#"{"event":"track","payload":{"phx_ref":"mine"}}"#);
    rig.sent();
    let late = rig.open(V2);
    rig.send(late, r#"["1","1","realtime:p","phx_join",{"config":{"presence":{"enabled":true}}}]"#);
    let state = payload(&rig.sent_to(late)[1]);
    let metas = state["alice"]["metas"].as_array().unwrap();
    assert_eq!(metas.len(), 2);
    assert_eq!(metas[0], second, "the oldest comes first");
    let (key, entry) = state.as_object().unwrap().iter().find(|(key, _)| *key != "alice").unwrap();
    assert_eq!(key.len(), 36);
    assert_ne!(entry["metas"][0]["phx_ref"], json("\"mine\""));

    // Leaving and dying say goodbye to those who stay.
    rig.events();
    rig.send(alice, r#"["1","9","realtime:p","phx_leave",{}]"#);
    rig.server.handle_close(nameless, rig.now);
    let told: Vec<Value> = rig.sent_to(observer).iter().map(|t| payload(t)).collect();
    assert_eq!(told[0]["joins"], json("{}"));
    assert_eq!(told[0]["leaves"]["alice"]["metas"][0], second);
    assert_eq!(told[1]["leaves"][key]["metas"][0], entry["metas"][0]);
    assert_eq!(rig.server.stats().presences, 1);
    assert!(rig.events().contains(&ServerEvent::Untracked {
        session: alice,
        topic: "realtime:p".into(),
        key: "alice".into(),
    }));
}

#[test]
fn odd_presence_messages_get_the_recorded_replies() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"a"}}"#);
    for (message, reply) in [
        (r#"{"event":"untrack"}"#, r#"{"status":"ok","response":{}}"#),
        (
            r#"{"event":"track","payload":"x"}"#,
            r#"{"status":"error","response":{"reason":"Presence track payload must be a map"}}"#,
        ),
        (r#"{"event":"zzz"}"#, r#"{"status":"error","response":{}}"#),
        ("{}", r#"{"status":"ok","response":{}}"#),
    ] {
        rig.presence(alice, "7", message);
        assert_eq!(rig.sent_to(alice), [format!(r#"["1","7","realtime:p","phx_reply",{reply}]"#)]);
    }
}

#[test]
fn the_sixth_presence_message_of_a_window_closes_the_channel_without_a_reply() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"p"}}"#);
    for n in 0..5 {
        rig.presence(alice, "2", &format!(r#"{{"event":"track","payload":{{"i":{n}}}}}"#));
    }
    rig.sent();
    rig.presence(alice, "p5", r#"{"event":"track","payload":{"i":5}}"#);
    rig.presence(alice, "p6", r#"{"event":"track","payload":{"i":6}}"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:p","system",{"message":"Client presence rate limit exceeded","status":"error","extension":"system","channel":"p"}]"#,
            r#"["1","1","realtime:p","phx_close",{}]"#,
            r#"[null,"p6","realtime:p","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]
    );

    // A new window, a new budget.
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"p"}}"#);
    for _ in 0..20 {
        rig.presence(alice, "2", r#"{"event":"untrack"}"#);
        rig.wait(Duration::from_secs(7));
    }
    assert_eq!(rig.server.stats().channels, 1);
}

#[test]
fn a_join_echoes_the_bindings_with_ids_that_equal_parameters_share() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(
        alice,
        r#"["1","1","realtime:pg","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"},null,{"table":"todos","schema":"public","event":"*"},{"event":"FOO","schema":"public","table":"todos","filter":"id=eq.1","custom":[1]}]}}]"#,
    );
    let reply = payload(&rig.sent_to(alice)[0]);
    let bindings = reply["response"]["postgres_changes"].as_array().unwrap();
    let ids: Vec<u64> = bindings.iter().map(|b| b["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert!(ids.iter().all(|id| *id <= 134_217_727));
    assert_eq!(bindings[2]["event"], json("\"FOO\""));
    assert_eq!(bindings[2]["custom"], json("[1]"));
}

#[test]
fn a_row_change_goes_once_to_each_subscribed_channel_with_all_matching_ids() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(
        alice,
        r#"["1","1","realtime:pg2","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"},{"event":"insert","schema":"public","table":"todos","filter":"id=eq.1"},{"event":"UPDATE","schema":"public","table":"todos","filter":"task=in.(two,three)"},{"event":"DELETE","schema":"public","table":"todos"},{"event":"*","schema":"public"},{"event":"*","schema":"*"},{"event":"*","schema":"public","table":"todos","select":["task"]}]}}]"#,
    );
    let reply = payload(&rig.sent_to(alice)[0]);
    let ids: Vec<Value> = reply["response"]["postgres_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|binding| binding["id"].clone())
        .collect();
    let ids_of = |at: &[usize]| -> Value { at.iter().map(|at| ids[*at].clone()).collect() };

    let insert = row_change(
        r#"{"table":"todos","type":"INSERT","record":{"id":1,"done":true,"price":1.5,"meta":{"a":[1]},"task":"one","user_id":null,"big":9007199254740993}}"#,
    );
    assert_eq!(rig.server.change(&insert, rig.now), 0, "not subscribed yet");
    rig.wait(Duration::from_millis(100));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:pg2","system",{"message":"Subscribed to PostgreSQL","status":"ok","extension":"postgres_changes","channel":"pg2"}]"#
        ]
    );

    assert_eq!(rig.server.change(&insert, rig.now), 1);
    let sent = rig.sent_to(alice);
    assert_eq!(sent.len(), 2, "a binding with select gets a message of its own");
    assert!(sent[0].starts_with(r#"[null,null,"realtime:pg2","postgres_changes",{"#));
    assert!(sent[0].contains(r#""big":9007199254740993"#));
    let told = payload(&sent[0]);
    assert_eq!(told["ids"], ids_of(&[0, 1, 4, 5]));
    assert_eq!(told["data"]["commit_timestamp"], json("\"2001-09-09T01:46:40.100Z\""));
    assert_eq!(told["data"]["errors"], Value::Null);
    assert!(told["data"].get("old_record").is_none());
    let types: Vec<&str> = told["data"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["int8", "bool", "numeric", "jsonb", "text", "text", "int8"]);
    let chosen = payload(&sent[1]);
    assert_eq!(chosen["ids"], ids_of(&[6]));
    assert_eq!(chosen["data"]["record"], json(r#"{"id":1,"task":"one"}"#));
    assert_eq!(
        chosen["data"]["columns"],
        json(r#"[{"name":"id","type":"int8"},{"name":"task","type":"text"}]"#)
    );

    let update = row_change(
        r#"{"table":"todos","type":"UPDATE","record":{"id":1,"task":"three"},"commit_timestamp":"2026-11-22T20:36:01.447Z"}"#,
    );
    rig.server.change(&update, rig.now);
    let told = payload(&rig.sent_to(alice)[0]);
    assert_eq!(told["ids"], ids_of(&[0, 2, 4, 5]));
    assert_eq!(told["data"]["old_record"], json(r#"{"id":1}"#));
    assert_eq!(told["data"]["commit_timestamp"], json("\"2026-11-22T20:36:01.447Z\""));

    let delete = row_change(r#"{"table":"todos","type":"DELETE","old_record":{"id":1}}"#);
    rig.server.change(&delete, rig.now);
    let told = payload(&rig.sent_to(alice)[0]);
    assert_eq!(told["ids"], ids_of(&[0, 3, 4, 5]));
    assert!(told["data"].get("record").is_none());

    let elsewhere =
        row_change(r#"{"schema":"other","table":"t","type":"INSERT","record":{"id":1}}"#);
    rig.server.change(&elsewhere, rig.now);
    assert_eq!(payload(&rig.sent_to(alice)[0])["ids"], ids_of(&[5]));
}

#[test]
fn one_bad_binding_fails_them_all_in_the_words_of_a_real_server() {
    let config = ServerConfig {
        unpublished_tables: Vec::from([("public".into(), "nosuch".into())]),
        ..ServerConfig::default()
    };
    let mut rig = Rig::with(config);
    let alice = rig.open(V2);
    for (binding, message) in [
        (
            r#"{"event":"*","schema":"public","table":"nosuch"}"#,
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: nosuch, filters: [], select: nil]",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id"}"#,
            r#"Error parsing `filter` params: ["id"]"#,
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id=zz.1"}"#,
            r#"Error parsing `filter` params: ["zz", "1"]"#,
        ),
        (
            "{}",
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{}",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","select":"id,task"}"#,
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#,
        ),
        (
            r#"{"event":"*","schema":"public","select":["id"]}"#,
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id=match.^a"}"#,
            "Error parsing `filter` params: `match` is not supported by this server",
        ),
    ] {
        rig.join(
            alice,
            "realtime:pgerr",
            &format!(r#"{{"postgres_changes":[{{"schema":"public","table":"ok"}},{binding}]}}"#),
        );
        rig.wait(Duration::from_millis(100));
        let told = payload(&rig.sent_to(alice)[0]);
        assert_eq!(told["message"].as_str(), Some(message));
        assert_eq!(
            (&told["status"], &told["extension"], &told["channel"]),
            (&json("\"error\""), &json("\"postgres_changes\""), &json("\"pgerr\""))
        );
        let change = row_change(r#"{"table":"ok","type":"INSERT","record":{}}"#);
        assert_eq!(rig.server.change(&change, rig.now), 0);
    }
}

#[test]
fn a_join_without_config_subscribes_to_its_topic_as_schema_and_table() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(alice, r#"["3","3","realtime:public:todos","phx_join",{}]"#);
    let reply = payload(&rig.sent_to(alice)[0]);
    let binding = &reply["response"]["postgres_changes"][0];
    assert_eq!((&binding["schema"], &binding["table"]), (&json("\"public\""), &json("\"todos\"")));
    rig.wait(Duration::from_millis(100));
    rig.sent();
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":7}}"#);
    assert_eq!(rig.server.change(&change, rig.now), 1);
    let sent = rig.sent_to(alice);
    assert!(sent[0].starts_with(r#"[null,null,"realtime:public:todos","INSERT",{"#));
    assert_eq!(payload(&sent[0])["record"], json(r#"{"id":7}"#));
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
fn a_malformed_frame_is_dropped_and_the_session_is_kept() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.events();
    for text in [
        "",
        "hello",
        "[]",
        r#"["1","1","realtime:m","phx_join"]"#,
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#,
        r#"["1","1",7,"phx_join",{}]"#,
    ] {
        rig.send(alice, text);
    }
    rig.send_binary(alice, b"");
    rig.send_binary(alice, b"\x09zz");
    rig.send_binary(alice, b"\x03\xff");
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.server.stats().malformed, 9);
    let events = rig.events();
    assert_eq!(events.len(), 9);
    assert_eq!(events[6], ServerEvent::Malformed { session: alice, error: DecodeError::Empty });
    rig.send(alice, r#"[null,"hb","phoenix","heartbeat",{}]"#);
    assert_eq!(rig.sent().len(), 1);
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
fn too_many_sessions_are_refused_until_a_socket_is_closed() {
    let mut rig = Rig::with(ServerConfig { sessions_max: 1, ..ServerConfig::default() });
    let alice = rig.open(V2);
    let refusal = rig.server.accept(V2, rig.now).unwrap_err();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, r#"{"error":"Too many connected users"}"#);
    rig.server.handle_close(alice, rig.now);
    assert_ne!(rig.open(V2), alice);
}

#[test]
fn a_silent_session_is_closed_and_one_that_speaks_is_not() {
    let mut rig = Rig::with(ServerConfig::default());
    let (silent, alive) = (rig.open(V2), rig.open(V2));
    rig.wait(Duration::from_secs(30));
    rig.send(alive, r#"[null,"1","phoenix","heartbeat",{}]"#);
    rig.sent();
    rig.wait(Duration::from_secs(30));
    assert_eq!(rig.sent(), [(silent, "close 1000 ".to_string())]);
    rig.wait(Duration::from_secs(30));
    assert_eq!(rig.sent(), [(alive, "close 1000 ".to_string())]);
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None, "no timer is left behind");
}

#[test]
fn a_restart_is_announced_on_every_supabase_channel() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:td", "{}");
    assert_eq!(rig.server.close_all(1012, "restart", rig.now), 1);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:td","system",{"message":"Server requested disconnect","status":"ok","extension":"system"}]"#,
            "close 1012 restart",
        ]
    );
    assert!(!rig.server.close_session(alice, 1000, "", rig.now));
    assert_eq!(rig.server.stats().channels, 0);
}

#[test]
fn a_session_for_which_too_much_waits_is_closed() {
    let config =
        ServerConfig { waiting_frames_max: 3, idle_after: None, ..ServerConfig::default() };
    let mut rig = Rig::with(config);
    let alice = rig.open(V2);
    for _ in 0..10 {
        rig.send(alice, r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    let sent = rig.sent_to(alice);
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3], "close 1011 too many frames are waiting");

    let bob = rig.open(V2);
    rig.send(bob, r#"["1","1","realtime:","phx_join",{}]"#);
    for _ in 0..10 {
        rig.send(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    assert_eq!(rig.sent_to(bob), ["close 1011 too many frames are waiting"]);
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None);
    assert_eq!(rig.server.stats().overflows, 2);
}

#[test]
fn while_output_waits_the_deadline_is_now() {
    let mut rig = Rig::new();
    assert_eq!(rig.server.poll_timeout(), None);
    rig.now = rig.now + Duration::from_secs(3);
    rig.open(V2);
    assert_eq!(rig.server.poll_timeout(), Some(rig.now));
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None);
}

#[test]
fn the_same_seed_and_inputs_give_the_same_bytes() {
    let run = || {
        let mut rig = Rig::new();
        let alice = rig.open(V2);
        rig.join(alice, "realtime:p", "{}");
        rig.presence(alice, "2", r#"{"event":"track"}"#);
        rig.sent()
    };
    assert_eq!(run(), run());
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
    assert!(!rig.server.shut_channel(alice, "room:x", message, rig.now));
    assert!(rig.server.crash_channel(alice, "room:x", rig.now));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:x","system",{"message":"Token has expired 0 seconds ago","status":"error","extension":"system","channel":"x"}]"#,
            r#"["1","1","realtime:x","phx_close",{}]"#,
            r#"["2","2","room:x","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["2","2","room:x","phx_error",{"reason":"channel_crash"}]"#,
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

/// Frames put together at random and then damaged, from many sessions, with time passing.
#[test]
fn whatever_arrives_nothing_panics_and_nothing_is_left_behind() {
    const TOPICS: [&str; 5] = ["realtime:a", "realtime:", "room:b", "phoenix", "x"];
    const EVENTS: [&str; 8] = [
        "phx_join",
        "phx_join",
        "phx_leave",
        "broadcast",
        "presence",
        "access_token",
        "heartbeat",
        "other",
    ];
    const PAYLOADS: [&str; 8] = [
        "{}",
        "[1]",
        "null",
        r#"{"config":{"presence":{"enabled":true},"broadcast":{"ack":true,"self":true}}}"#,
        r#"{"config":{"private":true,"postgres_changes":[{"table":"t","schema":"*","filter":"id=gt.1"}]}}"#,
        r#"{"event":"track","payload":{"n":1}}"#,
        r#"{"event":"untrack"}"#,
        r#"{"access_token":"t"}"#,
    ];
    let mut total = ServerStats::default();
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut draw = move |below: usize| (rng.next_u64() % below as u64) as usize;
        let mut rig = Rig::with(ServerConfig {
            sessions_max: 8,
            channels_per_session_max: 2,
            waiting_frames_max: 6,
            events_max: 5,
            join_refusal_after: Duration::from_millis(50),
            idle_after: Some(Duration::from_secs(1)),
            ..ServerConfig::default()
        });
        let mut sessions = Vec::new();
        for step in 0..2_000 {
            match draw(12) {
                0 => sessions.extend(rig.server.accept([V1, V2][draw(2)], rig.now)),
                1 if !sessions.is_empty() && draw(8) == 0 => {
                    let at = draw(sessions.len());
                    rig.server.handle_close(sessions[at], rig.now);
                }
                2 => rig.wait(Duration::from_millis(draw(200) as u64)),
                3 => {
                    let change = row_change(r#"{"table":"t","type":"INSERT","record":{"id":2}}"#);
                    rig.server.change(&change, rig.now);
                }
                4 => {
                    let topic = TOPICS[draw(TOPICS.len())];
                    rig.server.broadcast(topic, "e", &Payload::binary(Vec::new()), rig.now);
                }
                _ if !sessions.is_empty() => {
                    // Mostly the newest, since the oldest are gone.
                    let session = sessions[sessions.len() - 1 - draw(sessions.len().min(6))];
                    let (topic, event) = (TOPICS[draw(5)], EVENTS[draw(8)]);
                    let payload = PAYLOADS[draw(8)];
                    let join_ref = ["null", "\"1\"", "\"2\""][draw(3)];
                    let mut bytes = if draw(2) == 0 {
                        format!(r#"[{join_ref},"{step}","{topic}","{event}",{payload}]"#)
                    } else {
                        format!(
                            r#"{{"topic":"{topic}","event":"{event}","payload":{payload},"ref":"{step}","join_ref":{join_ref}}}"#
                        )
                    }
                    .into_bytes();
                    match draw(8) {
                        0 => {
                            let at = draw(bytes.len());
                            bytes[at] = draw(256) as u8;
                        }
                        1 => bytes.truncate(draw(bytes.len())),
                        _ => {}
                    }
                    let frame = if draw(8) == 0 {
                        bytes.splice(..bytes.len().min(1), [draw(5) as u8]);
                        Frame::binary(bytes)
                    } else {
                        Frame::Text(bytes.into())
                    };
                    rig.server.handle_frame(session, frame, rig.now);
                }
                _ => {}
            }
            if draw(3) == 0 {
                rig.sent();
                rig.events();
                let next = rig.server.poll_timeout();
                assert!(next.is_none_or(|next| next >= rig.now));
            }
        }
        rig.server.close_all(1001, "", rig.now);
        rig.sent();
        rig.events();
        let stats = rig.server.stats();
        assert_eq!((stats.sessions, stats.channels, stats.presences), (0, 0, 0));
        total.joins += stats.joins;
        total.refused += stats.refused;
        total.malformed += stats.malformed;
        total.overflows += stats.overflows;
        total.stale += stats.stale;
        assert!(rig.server.topics.is_empty() && rig.server.doomed.is_empty());
        assert_eq!((rig.server.poll_timeout(), rig.server.closing), (None, 0));
    }
    // The mix is worth something only if it gets everywhere.
    assert!(total.joins > 500 && total.refused > 200, "{total:?}");
    assert!(total.malformed > 1_000 && total.stale > 100, "{total:?}");
    assert!(total.overflows > 10, "{total:?}");
}

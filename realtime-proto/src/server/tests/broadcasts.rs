//! What members say to each other.

use super::*;

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

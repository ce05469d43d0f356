//! Every frame of `frames_malformed.json`: what a server or a client would drop is an error that
//! says where, and what they accept is accepted.

use realtime_proto::Frame;
use realtime_proto::wire::{Body, DecodeError, Encoding, Envelope, Sender, Vsn, decode};
use realtime_tests::golden::malformed_frames;

/// What the sheet says of an entry, in our words.
enum Reaction {
    /// Dropped for its shape.
    Error(DecodeError),
    /// Not an envelope of this version; the message names the mistake.
    TextError(&'static str),
    /// Legal, with this body.
    Accepted(Body<'static>),
}

/// The offsets are counted by hand in the hex of the table.
fn reaction(name: &str) -> Reaction {
    use Reaction::{Accepted, Error, TextError};
    match name {
        // A server decodes kinds 0 and 3 only.
        "binary_reply_kind_from_client" => {
            Error(DecodeError::UnknownKind { kind: 1, sender: "client" })
        }
        "binary_unknown_kind" => Error(DecodeError::UnknownKind { kind: 9, sender: "client" }),
        "v1_missing_ref_key" => TextError("the key `ref` is missing"),
        "text_array_of_4" => TextError("expected `,` and a payload, found `]` at byte 16"),
        // 5 header bytes and two refs, then "room" of a topic of 10 bytes.
        "binary_push_truncated" => {
            Error(DecodeError::Short { field: "topic", at: 7, needed: 10, left: 4 })
        }
        // Relayed by servers as it came, so reading it must not fail; who wants JSON will see.
        "ubp_metadata_not_validated_payload" => Accepted(Body::UserBroadcast {
            event: "e",
            encoding: Encoding::Json,
            metadata: None,
            payload: b"bad!",
        }),
        "text_array_of_6_is_legal" => Accepted(Body::Json("{}")),
        "server_null_payload_for_joined_topic" => Accepted(Body::Json("null")),
        // The JavaScript clients clamp it to a topic that matches no channel, or throw: lost too.
        "server_binary_size_overruns" => {
            Error(DecodeError::Short { field: "topic", at: 3, needed: 200, left: 1 })
        }
        "server_binary_empty" => Error(DecodeError::Empty),
        "server_binary_unknown_kind" => {
            Error(DecodeError::UnknownKind { kind: 9, sender: "server" })
        }
        "server_text_empty_array" => {
            TextError("expected a ref, which is a string or null, found `]` at byte 1")
        }
        other => panic!("{other} is new and needs a reaction"),
    }
}

#[test]
fn every_malformed_frame_gets_the_reaction_of_the_sheet() {
    let frames = malformed_frames();
    assert_eq!(frames.len(), 12);
    for golden in frames {
        let name = &golden.name;
        let read = decode(golden.vsn, golden.from, &golden.frame);
        match reaction(name) {
            Reaction::Error(error) => assert_eq!(read, Err(error), "{name}"),
            Reaction::TextError(words) => {
                let Err(DecodeError::Text { vsn, what }) = read else {
                    panic!("{name}: {read:?}");
                };
                assert_eq!(vsn, golden.vsn, "{name}");
                assert!(what.contains(words), "{name}: {what}");
                assert!(what.contains(" at byte "), "{name}: {what}");
            }
            Reaction::Accepted(expected) => {
                let body = read.map(|envelope| envelope.body);
                assert_eq!(body, Ok(expected), "{name}");
            }
        }
    }
}

#[test]
fn elements_behind_the_fifth_are_ignored() {
    let frames = malformed_frames();
    let golden = frames.iter().find(|f| f.name == "text_array_of_6_is_legal");
    let golden = golden.expect("the entry");
    assert_eq!(
        decode(golden.vsn, golden.from, &golden.frame),
        Ok(Envelope {
            join_ref: None,
            msg_ref: Some("1".into()),
            topic: "phoenix".into(),
            event: "heartbeat".into(),
            body: Body::Json("{}"),
        }),
    );
}

/// Protocol §1.8: both servers refuse a V1 frame without one of these.
#[test]
fn a_v1_frame_without_any_one_of_its_four_keys_is_an_error_that_names_the_key() {
    let pairs = [("topic", "\"t\""), ("event", "\"e\""), ("payload", "{}"), ("ref", "null")];
    let frame = |left_out: &str| {
        let kept = pairs.iter().filter(|(key, _)| *key != left_out);
        let kept: Vec<String> = kept.map(|(key, value)| format!("\"{key}\":{value}")).collect();
        Frame::text(format!("{{{}}}", kept.join(",")))
    };
    assert!(decode(Vsn::V1, Sender::Client, &frame("join_ref")).is_ok());
    for (key, _) in pairs {
        let frame = frame(key);
        for from in [Sender::Client, Sender::Server] {
            let Err(DecodeError::Text { what, .. }) = decode(Vsn::V1, from, &frame) else {
                panic!("{key} is missing and nobody says so");
            };
            assert!(what.contains(&format!("the key `{key}` is missing")), "{what}");
        }
    }
}

#[test]
fn a_field_of_the_wrong_type_is_an_error() {
    for text in [
        r#"[{},"1","t","e",{}]"#,
        r#"["1",["1"],"t","e",{}]"#,
        r#"["1",true,"t","e",{}]"#,
        r#"["1","1",null,"e",{}]"#,
        r#"["1","1",7,"e",{}]"#,
        r#"["1","1","t",null,{}]"#,
        r#"["1","1","t",["e"],{}]"#,
        r#"["1","1","t","e",{}"#,
        r#"["1","1","t","e",{}] ["#,
        r#"["1","1","t","e",{"a"}]"#,
        r#"["1","1","t","e",01]"#,
        "[\"1\",\"1\",\"t\",\"e\",\"a\nb\"]",
    ] {
        let frame = Frame::text(text);
        for from in [Sender::Client, Sender::Server] {
            let read = decode(Vsn::V2, from, &frame);
            assert!(matches!(read, Err(DecodeError::Text { .. })), "{text}");
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_found_where_they_are_in_the_frame() {
    let text = Frame::Text(b"[null,\"\xFF".as_slice().into());
    let error = DecodeError::NotUtf8 { field: "text frame", at: 7 };
    assert_eq!(decode(Vsn::V2, Sender::Server, &text), Err(error));

    // Kind 2, topic "room", event "e" and half an "é".
    let broadcast = Frame::binary(b"\x02\x04\x02roome\xC3".as_slice());
    let error = DecodeError::NotUtf8 { field: "event", at: 8 };
    assert_eq!(decode(Vsn::V2, Sender::Server, &broadcast), Err(error));
}

/// Protocol §1.6: a server takes everything but 0 for JSON, a client everything but 1 for bytes.
#[test]
fn each_side_has_its_own_reading_of_an_unknown_encoding() {
    for (byte, to_server, to_client) in [
        (0, Encoding::Binary, Encoding::Binary),
        (1, Encoding::Json, Encoding::Json),
        (2, Encoding::Json, Encoding::Binary),
        (255, Encoding::Json, Encoding::Binary),
    ] {
        let push = Frame::binary(vec![3, 0, 0, 1, 1, 0, byte, b't', b'e']);
        let broadcast = Frame::binary(vec![4, 1, 1, 0, byte, b't', b'e']);
        for (from, frame, expected) in
            [(Sender::Client, push, to_server), (Sender::Server, broadcast, to_client)]
        {
            let read = decode(Vsn::V2, from, &frame).map(|envelope| envelope.body);
            let body = Body::UserBroadcast {
                event: "e",
                encoding: expected,
                metadata: None,
                payload: b"",
            };
            assert_eq!(read, Ok(body), "encoding {byte} from a {from:?}");
        }
    }
}

//! Every frame of `frames_malformed.json`: what a server or a client would drop is an error that
//! says where, and what they accept is accepted.

use realtime_proto::wire::{Body, DecodeError, Encoding, Envelope, decode};
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
        "binary_reply_kind_from_client" => Error(DecodeError::UnknownKind {
            kind: 1,
            sender: "client",
        }),
        "binary_unknown_kind" => Error(DecodeError::UnknownKind {
            kind: 9,
            sender: "client",
        }),
        "v1_missing_ref_key" => TextError("missing field `ref`"),
        "text_array_of_4" => TextError("invalid length 4"),
        // 5 header bytes and two refs, then "room" of a topic of 10 bytes.
        "binary_push_truncated" => Error(DecodeError::Short {
            field: "topic",
            at: 7,
            needed: 10,
            left: 4,
        }),
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
        "server_binary_size_overruns" => Error(DecodeError::Short {
            field: "topic",
            at: 3,
            needed: 200,
            left: 1,
        }),
        "server_binary_empty" => Error(DecodeError::Empty),
        "server_binary_unknown_kind" => Error(DecodeError::UnknownKind {
            kind: 9,
            sender: "server",
        }),
        "server_text_empty_array" => TextError("invalid length 0"),
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
                assert!(what.contains("line 1 column"), "{name}: {what}");
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

//! What holds for every envelope and every frame, tried on generated ones.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use realtime_proto::Frame;
use realtime_proto::wire::{
    Body, DecodeError, EncodeError, Encoding, Envelope, FrameKind, Sender, Vsn, decode, encode,
};
use realtime_sim::fuzz;
use realtime_tests::golden::{frames, malformed_frames};
use serde_json::{Map, Value};

/// An envelope that owns its parts.
#[derive(Clone, Debug)]
struct Message {
    join_ref: Option<String>,
    msg_ref: Option<String>,
    topic: String,
    event: String,
    word: String,
    metadata: Option<String>,
    payload: Vec<u8>,
    json: String,
    body: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Json,
    Binary,
    Reply,
    UserBroadcast(Encoding),
}

impl Message {
    fn envelope(&self) -> Envelope<'_> {
        let body = match self.body {
            Kind::Json => Body::Json(&self.json),
            Kind::Binary => Body::Binary(&self.payload),
            Kind::Reply => Body::Reply { status: &self.word, response: &self.payload },
            Kind::UserBroadcast(encoding) => Body::UserBroadcast {
                event: &self.word,
                encoding,
                metadata: self.metadata.as_deref(),
                payload: &self.payload,
            },
        };
        Envelope {
            join_ref: self.join_ref.as_deref().map(Into::into),
            msg_ref: self.msg_ref.as_deref().map(Into::into),
            topic: self.topic.as_str().into(),
            event: self.event.as_str().into(),
            body,
        }
    }
}

fn vsns() -> impl Strategy<Value = Vsn> {
    prop_oneof![Just(Vsn::V1), Just(Vsn::V2)]
}

fn senders() -> impl Strategy<Value = Sender> {
    prop_oneof![Just(Sender::Client), Just(Sender::Server)]
}

/// Texts of any characters, among them some of about 255 bytes, where a length byte ends.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9:]{0,12}",
        2 => any::<String>(),
        // What JSON must escape, and its neighbours.
        2 => "[\u{0}-\u{21}\"\\\\/\u{7f}\u{2028}]{1,8}",
        1 => (250_usize..260).prop_map(|len| "x".repeat(len)),
        1 => (124_usize..130).prop_map(|len| "é".repeat(len)),
    ]
}

/// Texts that fit into a binary header.
fn short_texts() -> impl Strategy<Value = String> {
    texts().prop_map(|mut text| {
        let end = (0..=255).rev().find(|&end| text.is_char_boundary(end));
        if let Some(end) = end.filter(|&end| end < text.len()) {
            text.truncate(end);
        }
        text
    })
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6)
                .prop_map(|pairs| Value::from(Map::from_iter(pairs))),
        ]
    })
}

fn json_texts() -> impl Strategy<Value = String> {
    (json_values(), any::<bool>(), "[ \t\r\n]{0,3}").prop_map(|(value, pretty, space)| {
        if pretty { format!("{space}{value:#}{space}") } else { value.to_string() }
    })
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Json),
        Just(Kind::Binary),
        Just(Kind::Reply),
        Just(Kind::UserBroadcast(Encoding::Json)),
        Just(Kind::UserBroadcast(Encoding::Binary)),
    ]
}

fn messages<S: Strategy<Value = String> + 'static>(
    texts: fn() -> S,
) -> impl Strategy<Value = Message> {
    let refs = (option::of(texts()), option::of(texts()));
    let names = (texts(), texts(), texts(), option::of(texts()));
    let bodies = (vec(any::<u8>(), 0..400), json_texts(), kinds());
    (refs, names, bodies).prop_map(|((join_ref, msg_ref), names, (payload, json, body))| {
        let (topic, event, word, metadata) = names;
        Message { join_ref, msg_ref, topic, event, word, metadata, payload, json, body }
    })
}

/// Frames that can be written in V2, with their sender.
fn written_frames() -> impl Strategy<Value = (Sender, Frame)> {
    (senders(), messages(short_texts)).prop_map(|(from, mut message)| {
        if let (Sender::Client, Kind::Reply) = (from, message.body) {
            message.body = Kind::Binary;
        }
        let mut bytes = Vec::new();
        match encode(Vsn::V2, from, &message.envelope(), &mut bytes) {
            Ok(FrameKind::Text) => (from, Frame::Text(bytes.into())),
            Ok(FrameKind::Binary) => (from, Frame::Binary(bytes.into())),
            Err(error) => panic!("{error}: {message:?}"),
        }
    })
}

fn binary_payload<'a>(body: &Body<'a>) -> Option<&'a [u8]> {
    match body {
        Body::Json(_) => None,
        Body::Binary(payload)
        | Body::Reply { response: payload, .. }
        | Body::UserBroadcast { payload, .. } => Some(payload),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_by_the_other_side(
        vsn in vsns(),
        from in senders(),
        message in messages(texts),
    ) {
        fuzz::check_roundtrip(vsn, from, &message.envelope());
    }

    /// Beside the check above, so that it cannot pass by refusing to write.
    #[test]
    fn whatever_fits_is_written(from in senders(), message in messages(short_texts)) {
        let mut out = Vec::new();
        let written = encode(Vsn::V2, from, &message.envelope(), &mut out);
        match (message.body, from) {
            (Kind::Json, _) => prop_assert_eq!(written, Ok(FrameKind::Text)),
            (Kind::Reply, Sender::Client) => {
                prop_assert_eq!(written, Err(EncodeError::WrongSender { sender: "client" }));
            }
            _ => prop_assert_eq!(written, Ok(FrameKind::Binary)),
        }
    }

    /// Against another parser, so that writer and reader cannot be wrong together.
    #[test]
    fn a_text_frame_is_the_json_of_its_parts(
        vsn in vsns(),
        from in senders(),
        mut message in messages(texts),
    ) {
        message.body = Kind::Json;
        let mut out = Vec::new();
        let written = encode(vsn, from, &message.envelope(), &mut out);
        prop_assert_eq!(written, Ok(FrameKind::Text));
        let read: Value = serde_json::from_slice(&out)?;
        let payload: Value = serde_json::from_str(&message.json)?;
        let Message { join_ref, msg_ref, topic, event, .. } = &message;
        let expected = match (vsn, from) {
            (Vsn::V2, _) => serde_json::json!([join_ref, msg_ref, topic, event, payload]),
            (Vsn::V1, _) => {
                let mut object = serde_json::json!({
                    "topic": topic, "event": event, "payload": payload, "ref": msg_ref,
                });
                if from == Sender::Client && join_ref.is_some() {
                    object["join_ref"] = serde_json::json!(join_ref);
                }
                object
            }
        };
        prop_assert_eq!(read, expected);
    }

    /// Servers write the keys of V1 in the order of an Erlang map, and may add more.
    #[test]
    fn the_order_of_v1_keys_and_unknown_keys_do_not_matter(
        message in messages(texts),
        order in Just([0, 1, 2, 3, 4, 5]).prop_shuffle(),
        extra in json_values(),
    ) {
        let quote = |text: &str| Value::from(text).to_string();
        let maybe = |text: &Option<String>| text.as_deref().map_or_else(|| "null".into(), quote);
        let pairs = [
            format!("\"topic\": {}", quote(&message.topic)),
            format!("\"event\":{}", quote(&message.event)),
            format!("\"payload\" :{}", message.json),
            format!("\"ref\":{}", maybe(&message.msg_ref)),
            format!("\"join_ref\":{}", maybe(&message.join_ref)),
            format!("\"extra\":{extra}"),
        ];
        let text = order.map(|index| pairs[index].clone()).join(",\n");
        let frame = Frame::text(format!("{{{text}}}"));
        let expected = Envelope {
            body: Body::Json(message.json.trim_matches([' ', '\t', '\r', '\n'])),
            ..message.envelope()
        };
        prop_assert_eq!(decode(Vsn::V1, Sender::Client, &frame), Ok(expected));
    }

    #[test]
    fn elements_behind_the_fifth_do_not_matter(
        message in messages(texts),
        extra in vec(json_values(), 1..4),
    ) {
        let Message { join_ref, msg_ref, topic, event, .. } = &message;
        let mut elements = serde_json::json!([join_ref, msg_ref, topic, event, {}]);
        if let Value::Array(elements) = &mut elements {
            elements.extend(extra);
        }
        let frame = Frame::text(elements.to_string());
        let expected = Envelope { body: Body::Json("{}"), ..message.envelope() };
        prop_assert_eq!(decode(Vsn::V2, Sender::Server, &frame), Ok(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..300)) {
        fuzz::decode_text(&data);
        fuzz::decode_binary(&data);
        fuzz::roundtrip(&data);
    }

    /// Random bytes rarely get past the first one; these begin like a binary frame.
    #[test]
    fn arbitrary_bytes_behind_a_known_kind_never_panic(
        kind in 0_u8..6,
        lengths in vec(0_u8..40, 6),
        rest in vec(any::<u8>(), 0..200),
    ) {
        fuzz::decode_binary(&[vec![kind], lengths, rest].concat());
    }

    #[test]
    fn a_frame_with_a_few_bytes_changed_never_panics(
        (_, frame) in written_frames(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = frame.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz::decode_text(&bytes);
        fuzz::decode_binary(&bytes);
    }

    #[test]
    fn a_truncated_frame_is_an_error_or_has_a_shorter_payload(
        (from, frame) in written_frames(),
        at in any::<prop::sample::Index>(),
    ) {
        let whole = decode(Vsn::V2, from, &frame)?;
        let bytes = frame.as_bytes();
        let cut = at.index(bytes.len());
        let cut_frame = match &frame {
            Frame::Text(bytes) => Frame::Text(bytes.slice(..cut)),
            Frame::Binary(bytes) => Frame::Binary(bytes.slice(..cut)),
        };
        let read = decode(Vsn::V2, from, &cut_frame);
        let Some(payload) = binary_payload(&whole.body) else {
            prop_assert!(read.is_err(), "a prefix of an array is none");
            return Ok(());
        };
        let header = bytes.len() - payload.len();
        if cut == 0 {
            prop_assert_eq!(read, Err(DecodeError::Empty));
        } else if cut < header {
            let is_short = matches!(read, Err(DecodeError::Short { .. }));
            prop_assert!(is_short, "{:?}", read);
        } else {
            let read = read?;
            prop_assert_eq!(binary_payload(&read.body), Some(&payload[..cut - header]));
            prop_assert_eq!((&read.join_ref, &read.msg_ref), (&whole.join_ref, &whole.msg_ref));
            prop_assert_eq!((&read.topic, &read.event), (&whole.topic, &whole.event));
        }
    }
}

#[test]
fn every_frame_of_the_tables_passes_the_checks_of_the_fuzz_targets_at_every_length() {
    let mut checked = 0;
    for golden in frames().into_iter().chain(malformed_frames()) {
        let bytes = golden.frame.as_bytes();
        for cut in 0..=bytes.len() {
            fuzz::decode_text(&bytes[..cut]);
            fuzz::decode_binary(&bytes[..cut]);
            fuzz::roundtrip(&bytes[..cut]);
        }
        checked += 1;
    }
    assert_eq!(checked, 75);
}

#[test]
fn a_binary_field_of_255_bytes_fits_and_one_of_256_is_named() {
    let write = |len: usize| {
        let topic = "é".repeat(len / 2) + &"x".repeat(len % 2);
        let envelope = Envelope {
            join_ref: None,
            msg_ref: None,
            topic: topic.into(),
            event: "e".into(),
            body: Body::Binary(b"payload"),
        };
        encode(Vsn::V2, Sender::Client, &envelope, &mut Vec::new())
    };
    assert_eq!(write(255), Ok(FrameKind::Binary));
    let error = EncodeError::FieldTooLong { field: "topic", len: 256 };
    assert_eq!(write(256), Err(error));
}

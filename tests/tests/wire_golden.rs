//! Every frame of `frames.json`, read as the official clients read it and written as they write it.

use realtime_proto::Frame;
use realtime_proto::wire::{Body, Encoding, Envelope, FrameKind, Sender, Vsn, decode, encode};
use realtime_tests::encoding::{hex, unhex};
use realtime_tests::golden::{Golden, frames};
use serde_json::Value;

/// What `decoded` says, owned, so that an envelope can be built from it without our decoder.
struct Expected {
    join_ref: Option<String>,
    msg_ref: Option<String>,
    topic: String,
    event: String,
    kind: String,
    status: String,
    user_event: String,
    encoding: Encoding,
    metadata: Option<String>,
    payload: Vec<u8>,
}

impl Expected {
    fn new(golden: &Golden) -> Self {
        let decoded = &golden.decoded;
        let text = |key: &str| decoded[key].as_str().map(str::to_owned);
        let kind = text("kind").expect("a kind");
        let payload = match (decoded["payload_hex"].as_str(), kind.as_str()) {
            (Some(digits), _) => unhex(digits),
            // The clients wrap a kind-4 payload into the object that listeners get.
            (None, "user_broadcast") => {
                assert_eq!(decoded["payload"]["type"], "broadcast");
                assert_eq!(decoded["payload"]["event"], decoded["user_event"]);
                decoded["payload"]["payload"].to_string().into_bytes()
            }
            (None, _) => decoded["payload"].to_string().into_bytes(),
        };
        Self {
            join_ref: text("join_ref"),
            msg_ref: text("ref"),
            topic: text("topic").expect("a topic"),
            event: text("event").expect("an event"),
            kind,
            status: text("status").unwrap_or_default(),
            user_event: text("user_event").unwrap_or_default(),
            encoding: match decoded["encoding"].as_str() {
                Some("json") => Encoding::Json,
                Some("binary") | None => Encoding::Binary,
                Some(other) => panic!("{}: encoding {other}", golden.name),
            },
            metadata: (!decoded["metadata"].is_null()).then(|| decoded["metadata"].to_string()),
            payload,
        }
    }

    fn envelope(&self) -> Envelope<'_> {
        let payload = &*self.payload;
        let body = match self.kind.as_str() {
            "text" => Body::Json(core::str::from_utf8(payload).expect("JSON is UTF-8")),
            "push" | "broadcast" => Body::Binary(payload),
            "reply" => Body::Reply { status: &self.status, response: payload },
            "user_broadcast_push" | "user_broadcast" => Body::UserBroadcast {
                event: &self.user_event,
                encoding: self.encoding,
                metadata: self.metadata.as_deref(),
                payload,
            },
            other => panic!("kind {other}"),
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

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

#[test]
fn every_frame_reads_as_the_official_clients_read_it() {
    let frames = frames();
    assert_eq!(frames.len(), 63);
    for golden in &frames {
        let expected = Expected::new(golden);
        let mut expected = expected.envelope();
        let mut read = decode(golden.vsn, golden.from, &golden.frame)
            .unwrap_or_else(|e| panic!("{}: {e}", golden.name));
        if let (Body::Json(ours), Body::Json(theirs)) = (&mut read.body, &mut expected.body) {
            assert_eq!(json(ours), json(theirs), "{}", golden.name);
            *ours = theirs;
        }
        assert_eq!(read, expected, "{}", golden.name);
    }
}

#[test]
fn every_text_frame_is_written_with_the_keys_and_values_of_the_official_clients() {
    let mut written = 0;
    for golden in frames() {
        let Frame::Text(theirs) = &golden.frame else {
            continue;
        };
        let expected = Expected::new(&golden);
        let mut ours = Vec::new();
        let kind = encode(golden.vsn, golden.from, &expected.envelope(), &mut ours);
        assert_eq!(kind, Ok(FrameKind::Text), "{}", golden.name);
        let ours: Value = serde_json::from_slice(&ours).expect("JSON was written");
        let theirs: Value = serde_json::from_slice(theirs).expect("the fixture is JSON");
        assert_eq!(ours, theirs, "{}", golden.name);
        written += 1;
    }
    assert_eq!(written, 47);
}

/// The clients fix the order of what they write; a server's key order is up to its runtime.
#[test]
fn a_client_text_frame_is_written_in_the_order_of_the_official_clients() {
    let mut written = 0;
    for golden in frames() {
        let (Frame::Text(theirs), Sender::Client) = (&golden.frame, golden.from) else {
            continue;
        };
        let mut envelope = decode(golden.vsn, golden.from, &golden.frame)
            .unwrap_or_else(|e| panic!("{}: {e}", golden.name));
        // Only the payload is copied from what was read, for it is the caller's order.
        let expected = Expected::new(&golden);
        let body = core::mem::replace(&mut envelope.body, Body::Json("null"));
        let rebuilt = Envelope { body, ..expected.envelope() };
        let mut ours = Vec::new();
        let kind = encode(golden.vsn, golden.from, &rebuilt, &mut ours);
        assert_eq!(kind, Ok(FrameKind::Text), "{}", golden.name);
        assert_eq!(ours, theirs.as_ref(), "{}", golden.name);
        written += 1;
    }
    assert_eq!(written, 9);
}

#[test]
fn every_binary_frame_is_written_byte_for_byte() {
    let mut written = 0;
    for golden in frames() {
        let Frame::Binary(theirs) = &golden.frame else {
            continue;
        };
        let mut theirs = theirs.to_vec();
        if golden.name == "v2_ub_unknown_encoding_byte_is_binary_for_client" {
            // Nobody writes encoding 7; what it means to a client is written as 0.
            assert_eq!(theirs[4], 7);
            theirs[4] = 0;
        }
        let expected = Expected::new(&golden);
        let mut ours = Vec::new();
        let kind = encode(golden.vsn, golden.from, &expected.envelope(), &mut ours);
        assert_eq!(kind, Ok(FrameKind::Binary), "{}", golden.name);
        assert_eq!(hex(&ours), hex(&theirs), "{}", golden.name);
        written += 1;
    }
    assert_eq!(written, 16);
}

/// The table has no binary push of a server, which has a header of its own; protocol §1.5.
#[test]
fn a_binary_push_of_a_server_has_four_header_bytes_and_no_ref() {
    let bytes = [b"\0\x01\x04\x02".as_slice(), b"3room", b"ev", b"\xFF\0"].concat();
    let envelope = Envelope {
        join_ref: Some("3".into()),
        msg_ref: None,
        topic: "room".into(),
        event: "ev".into(),
        body: Body::Binary(b"\xFF\0"),
    };
    let frame = Frame::binary(bytes.clone());
    assert_eq!(decode(Vsn::V2, Sender::Server, &frame), Ok(envelope.clone()));
    let mut ours = Vec::new();
    let kind = encode(Vsn::V2, Sender::Server, &envelope, &mut ours);
    assert_eq!((kind, ours), (Ok(FrameKind::Binary), bytes));
}

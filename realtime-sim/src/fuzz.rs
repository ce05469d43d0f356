//! What must hold for every input, as functions that panic when it does not.
//!
//! The fuzz targets are one call each; ordinary tests replay their corpus and feed the same
//! functions from property tests, so what a fuzzer finds fails on a stable compiler too.

mod client_frames;

use std::borrow::Cow;

use realtime_proto::wire::{
    Body, DecodeError, EncodeError, Encoding, Envelope, FrameKind, Sender, Vsn, decode, encode,
};
use realtime_proto::{Bytes, Frame, Payload};

use crate::{Scenario, run};

pub use client_frames::{ARGUMENT_BYTES, BINARY_FRAME, TEXT_FRAME, client_frames};

const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

/// Any bytes as a text frame.
///
/// * Decoding never panics, and an error can be printed.
/// * No frame is legal in both versions, and no text frame depends on who sent it.
/// * The payload is JSON, and it is a slice of the frame.
/// * What was read, written and read again is the same.
///
/// # Panics
///
/// When one of these does not hold.
pub fn decode_text(data: &[u8]) {
    let frame = Frame::Text(Bytes::copy_from_slice(data));
    let mut readings = 0;
    for vsn in [Vsn::V1, Vsn::V2] {
        let read = decode(vsn, Sender::Server, &frame);
        assert_eq!(
            read,
            decode(vsn, Sender::Client, &frame),
            "a text frame reads the same whoever sent it"
        );
        let envelope = match read {
            Ok(envelope) => envelope,
            Err(error) => {
                assert_ne!(error.to_string(), "");
                continue;
            }
        };
        readings += 1;
        let Body::Json(payload) = envelope.body else {
            panic!("a text frame gave {:?}", envelope.body);
        };
        assert!(Payload::from_json(payload).is_ok(), "not JSON: {payload:.100}");
        assert!(is_slice_of(payload.as_bytes(), frame.as_bytes()));
        for from in SENDERS {
            check_roundtrip(vsn, from, &envelope);
        }
    }
    assert!(readings < 2, "one frame is legal in both versions");
}

/// Any bytes as a binary frame.
///
/// * Decoding never panics, and an error can be printed; V1 has no binary frames.
/// * A side is only believed the kinds it sends: 0 and 3 from a client, 0, 1, 2, 4 from a server.
/// * The payload is the end of the frame, and every byte before it belongs to one header field.
/// * Writing what was read gives the frame back, but for encoding bytes above 1.
///
/// # Panics
///
/// When one of these does not hold.
pub fn decode_binary(data: &[u8]) {
    let frame = Frame::Binary(Bytes::copy_from_slice(data));
    for from in SENDERS {
        let error = decode(Vsn::V1, from, &frame);
        assert_eq!(error, Err(DecodeError::BinaryOnV1));
        let envelope = match decode(Vsn::V2, from, &frame) {
            Ok(envelope) => envelope,
            Err(error) => {
                assert_ne!(error.to_string(), "");
                continue;
            }
        };
        let join_ref = envelope.join_ref.as_deref().unwrap_or("").len();
        let msg_ref = envelope.msg_ref.as_deref().unwrap_or("").len();
        let refs = join_ref + msg_ref;
        let (topic, event) = (envelope.topic.len(), envelope.event.len());
        let (header, payload) = match (data[0], from, &envelope.body) {
            (0, Sender::Client, Body::Binary(payload)) => (5 + refs + topic + event, *payload),
            (0, Sender::Server, Body::Binary(payload)) => (4 + refs + topic + event, *payload),
            (1, Sender::Server, Body::Reply { status, response }) => {
                (5 + refs + topic + status.len(), *response)
            }
            (2, Sender::Server, Body::Binary(payload)) => (3 + refs + topic + event, *payload),
            (kind @ (3 | 4), _, Body::UserBroadcast { event, metadata, payload, .. }) => {
                assert_eq!(kind == 3, from == Sender::Client);
                let fixed = if kind == 3 { 7 } else { 5 };
                let metadata = metadata.unwrap_or("").len();
                (fixed + refs + topic + event.len() + metadata, *payload)
            }
            (kind, ..) => panic!("kind {kind} from a {from:?} gave {envelope:?}"),
        };
        assert_eq!(header + payload.len(), data.len(), "bytes are unaccounted");
        assert!(is_slice_of(payload, frame.as_bytes()));
        assert_eq!(payload, &data[header..]);

        let mut written = Vec::new();
        let kind = encode(Vsn::V2, from, &envelope, &mut written);
        assert_eq!(kind, Ok(FrameKind::Binary));
        let mut canonical = data.to_vec();
        match data[0] {
            // A server takes every byte but 0 for JSON, a client every byte but 1 for binary.
            3 => canonical[6] = u8::from(data[6] != 0),
            4 => canonical[4] = u8::from(data[4] == 1),
            _ => {}
        }
        assert_eq!(written, canonical);
    }
}

/// Any bytes as the choices of a [`Scenario`], which runs with all its rules.
///
/// What an input costs is bounded: it makes fewer than a hundred steps, none of which lasts longer
/// than hours of simulated sleep.
///
/// # Panics
///
/// When the run finds something that does not hold; the message is the scenario, to be put in a
/// file for `cargo sim replay`.
pub fn scenario(data: &[u8]) {
    let scenario = Scenario::of_bytes(data);
    if let Some(finding) = run(&scenario).finding {
        panic!("{finding}\n{scenario}");
    }
}

/// Any bytes as the text of a scenario.
///
/// * Reading never panics, and a mistake names a line of the text.
/// * What was read, written and read again is the same, and so is its text.
///
/// # Panics
///
/// When one of these does not hold.
pub fn scenario_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<Scenario>() {
        Ok(scenario) => {
            let written = scenario.to_string();
            let again = written.parse::<Scenario>();
            assert_eq!(again.as_ref(), Ok(&scenario), "written as\n{written}");
            assert_eq!(again.map(|again| again.to_string()), Ok(written));
        }
        Err(mistake) => {
            let mistake = mistake.to_string();
            let line = mistake.strip_prefix("line ").and_then(|rest| rest.split(':').next());
            let line = line.and_then(|line| line.parse::<usize>().ok());
            let lines = text.lines().count();
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{mistake}");
        }
    }
}

/// Any bytes as an envelope: what [`check_roundtrip`] promises holds for it.
///
/// # Panics
///
/// When it does not.
pub fn roundtrip(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let vsn = if choice & 1 == 0 { Vsn::V2 } else { Vsn::V1 };
    let from = SENDERS[usize::from(choice >> 1 & 1)];
    let encoding = if choice & 4 == 0 { Encoding::Binary } else { Encoding::Json };
    let join_ref = (choice & 8 != 0).then(|| input.text());
    let msg_ref = (choice & 16 != 0).then(|| input.text());
    let metadata = (choice & 32 != 0).then(|| input.text());
    let (topic, event, word) = (input.text(), input.text(), input.text());
    let rest = input.0;
    let json = match core::str::from_utf8(rest).map(Payload::from_json) {
        Ok(Ok(json)) => json,
        _ => Payload::json(&String::from_utf8_lossy(rest)).unwrap_or_default(),
    };
    let body = match choice >> 6 {
        0 => Body::Json(json.as_json().unwrap_or_default()),
        1 => Body::Binary(rest),
        2 => Body::Reply { status: word, response: rest },
        _ => Body::UserBroadcast { event: word, encoding, metadata, payload: rest },
    };
    let envelope = Envelope {
        join_ref: join_ref.map(Cow::Borrowed),
        msg_ref: msg_ref.map(Cow::Borrowed),
        topic: topic.into(),
        event: event.into(),
        body,
    };
    check_roundtrip(vsn, from, &envelope);
}

/// Writes `envelope`, reads it back, and compares with what the frame format can carry.
///
/// * Encoding fails when the version has no binary frames, the side does not send this body, or
///   a binary header field is above 255 bytes, and for no other reason.
/// * Every frame that was written can be read.
///
/// # Panics
///
/// When the two differ. The JSON of a text body must be JSON.
pub fn check_roundtrip(vsn: Vsn, from: Sender, envelope: &Envelope<'_>) {
    let mut buffer = b"left over".to_vec();
    let written = encode(vsn, from, envelope, &mut buffer);
    let frame = match written {
        Ok(FrameKind::Text) => Frame::Text(buffer.into()),
        Ok(FrameKind::Binary) => Frame::Binary(buffer.into()),
        Err(EncodeError::BinaryOnV1) => {
            assert_eq!(vsn, Vsn::V1);
            assert!(!matches!(envelope.body, Body::Json(_)));
            return;
        }
        Err(EncodeError::WrongSender { .. }) => {
            assert!(matches!(envelope.body, Body::Reply { .. }));
            assert_eq!((vsn, from), (Vsn::V2, Sender::Client));
            return;
        }
        Err(EncodeError::FieldTooLong { len, .. }) => {
            assert!(len > 255);
            let lengths = header_lengths(from, envelope);
            assert!(lengths.contains(&len), "{len} is not one of {lengths:?}");
            return;
        }
        Err(error) => panic!("an undocumented error: {error}"),
    };
    if let Frame::Binary(_) = &frame {
        let lengths = header_lengths(from, envelope);
        assert!(lengths.iter().all(|&len| len <= 255), "{lengths:?}");
    }
    let read = decode(vsn, from, &frame).unwrap_or_else(|e| panic!("{e} in what was written"));
    assert_eq!(read, as_received(vsn, from, envelope));
}

/// The lengths of the header fields that the binary form of `envelope` has.
fn header_lengths(from: Sender, envelope: &Envelope<'_>) -> Vec<usize> {
    let join_ref = envelope.join_ref.as_deref().unwrap_or("").len();
    let msg_ref = envelope.msg_ref.as_deref().unwrap_or("").len();
    let (topic, event) = (envelope.topic.len(), envelope.event.len());
    match (&envelope.body, from) {
        (Body::Json(_), _) => Vec::new(),
        (Body::Binary(_), Sender::Client) => vec![join_ref, msg_ref, topic, event],
        (Body::Binary(_), Sender::Server) => vec![join_ref, topic, event],
        (Body::Reply { status, .. }, _) => vec![join_ref, msg_ref, topic, status.len()],
        (Body::UserBroadcast { event, metadata, .. }, from) => {
            let mut lengths = vec![topic, event.len(), metadata.unwrap_or("").len()];
            if from == Sender::Client {
                lengths.extend([join_ref, msg_ref]);
            }
            lengths
        }
    }
}

/// What the other side sees of `envelope`, by the frame tables of the protocol.
fn as_received<'a>(vsn: Vsn, from: Sender, envelope: &Envelope<'a>) -> Envelope<'a> {
    let mut seen = envelope.clone();
    // In binary headers an absent text and an empty one are the same, and read as empty.
    let or_empty = |text: &Option<Cow<'a, str>>| Some(text.clone().unwrap_or_default());
    match (&mut seen.body, from) {
        (Body::Json(payload), _) => {
            *payload = payload.trim_matches([' ', '\t', '\r', '\n']);
            if (vsn, from) == (Vsn::V1, Sender::Server) {
                seen.join_ref = None;
            }
        }
        (Body::Binary(_), Sender::Client) => {
            seen.join_ref = or_empty(&seen.join_ref);
            seen.msg_ref = or_empty(&seen.msg_ref);
        }
        // Neither a server's push nor its broadcast has room for a ref.
        (Body::Binary(_), Sender::Server) => seen.msg_ref = None,
        (Body::Reply { .. }, _) => {
            seen.join_ref = or_empty(&seen.join_ref);
            seen.msg_ref = or_empty(&seen.msg_ref);
            seen.event = "phx_reply".into();
        }
        (Body::UserBroadcast { metadata, .. }, from) => {
            *metadata = metadata.filter(|text| !text.is_empty());
            seen.event = "broadcast".into();
            match from {
                Sender::Client => {
                    seen.join_ref = or_empty(&seen.join_ref);
                    seen.msg_ref = or_empty(&seen.msg_ref);
                }
                Sender::Server => {
                    seen.join_ref = None;
                    seen.msg_ref = None;
                }
            }
        }
    }
    seen
}

/// Whether `part` lies in the memory of `whole`, so that reading it copied nothing.
fn is_slice_of(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty()
        || whole.as_ptr_range().start <= part.as_ptr_range().start
            && part.as_ptr_range().end <= whole.as_ptr_range().end
}

/// The fuzzer's bytes, taken from the front; what is missing is zero or empty.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// A length byte counts two, so that texts get longer than a binary header allows.
    fn bytes(&mut self) -> &'a [u8] {
        let len = 2 * usize::from(self.byte());
        self.take(len)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> &'a str {
        let taken = self.bytes();
        match core::str::from_utf8(taken) {
            Ok(text) => text,
            Err(e) => core::str::from_utf8(&taken[..e.valid_up_to()]).unwrap_or_default(),
        }
    }
}

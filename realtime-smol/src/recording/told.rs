//! The frames of a recording, read naively and apart from the protocol crate, so that what a client
//! made of them can be held against it: JSON values, length bytes counted by hand, one pass.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a recording holds many kinds of things, and each place looks for one of them"
)]

use data_encoding::HEXLOWER;
use realtime_proto::Frame;
use realtime_proto::wire::{Sender, Vsn};
use serde_json::{Value, json};

use super::{Connection, What};

/// A data frame.
#[derive(Clone, Debug)]
pub struct Told {
    /// The line of the recording.
    pub line: usize,
    /// Who sent it.
    pub from: Sender,
    /// The join it names; `None` for null, for none, and for the empty one of a binary frame.
    pub join_ref: Option<String>,
    /// Its ref.
    pub msg_ref: Option<String>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The rest.
    pub content: Content,
    /// The frame itself.
    pub frame: Frame,
}

/// What a frame carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// JSON.
    Json(Value),
    /// Bytes.
    Binary(Vec<u8>),
    /// A reply with bytes.
    Reply(String, Vec<u8>),
    /// A user broadcast: event, metadata, payload.
    UserBroadcast(String, Value, Value),
}

impl Told {
    /// The JSON payload.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        match &self.content {
            Content::Json(value) => Some(value),
            _ => None,
        }
    }

    /// Status and response of a reply; bytes as `{"bytes": HEX}`.
    #[must_use]
    pub fn reply(&self) -> Option<(String, Value)> {
        match &self.content {
            _ if self.event != "phx_reply" => None,
            Content::Json(value) => {
                Some((value["status"].as_str()?.into(), value["response"].clone()))
            }
            Content::Reply(status, bytes) => Some((status.clone(), bytes_shown(bytes))),
            _ => None,
        }
    }
}

/// The data frames of a connection up to its end; those that are no envelopes are not among them.
pub(super) fn told(connection: &Connection) -> Vec<Told> {
    let mut all = Vec::new();
    for step in &connection.steps {
        match &step.what {
            What::Close { .. } => break,
            What::Frame { from, frame } => {
                let read = match frame {
                    Frame::Text(text) => read_text(connection.vsn, text),
                    Frame::Binary(_) if connection.vsn == Some(Vsn::V1) => None,
                    Frame::Binary(bytes) => read_binary(*from, bytes),
                };
                let (line, from, frame) = (step.line, *from, frame.clone());
                all.extend(read.map(|read| Told { line, from, frame, ..read }));
            }
            _ => {}
        }
    }
    all
}

fn new(topic: &str, event: &str, refs: [Option<String>; 2], content: Content) -> Told {
    let [join_ref, msg_ref] = refs.map(|text| text.filter(|text| !text.is_empty()));
    Told {
        line: 0,
        from: Sender::Client,
        join_ref,
        msg_ref,
        topic: topic.into(),
        event: event.into(),
        content,
        frame: Frame::text(""),
    }
}

fn read_text(vsn: Option<Vsn>, text: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let field = |at: usize, key: &str| match vsn {
        Some(Vsn::V1) if value.is_object() => value.get(key),
        Some(Vsn::V2) => value.get(at),
        _ => None,
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let refs = [field(0, "join_ref"), field(1, "ref")].map(|found| found.and_then(text));
    let (topic, event) = (field(2, "topic")?.as_str()?, field(3, "event")?.as_str()?);
    Some(new(topic, event, refs, Content::Json(field(4, "payload")?.clone())))
}

fn read_binary(from: Sender, bytes: &[u8]) -> Option<Told> {
    let (&kind, rest) = bytes.split_first()?;
    let fields = match (kind, from) {
        (0 | 1, Sender::Client) | (1, Sender::Server) => 4,
        (0, Sender::Server) => 3,
        (2, _) => 2,
        (3, Sender::Client) => 6,
        (4, Sender::Server) => 4,
        _ => return None,
    };
    let (lengths, mut rest) = rest.split_at_checked(fields)?;
    let mut parts = Vec::new();
    // The last length byte of a user broadcast is not a length but the encoding of the payload.
    for length in &lengths[..fields - usize::from(kind >= 3)] {
        let (part, behind) = rest.split_at_checked(usize::from(*length))?;
        parts.push(core::str::from_utf8(part).ok()?.to_owned());
        rest = behind;
    }
    let user = |event: &str, metadata: &str| {
        let metadata = serde_json::from_str(metadata).unwrap_or_default();
        let payload = match lengths[fields - 1] {
            1 => serde_json::from_slice(rest)
                .unwrap_or_else(|_| json!({ "no json": String::from_utf8_lossy(rest) })),
            _ => bytes_shown(rest),
        };
        Content::UserBroadcast(event.into(), metadata, payload)
    };
    let some = |at: usize| Some(parts[at].clone());
    let (topic, event) = (fields.min(4) - 2, fields.min(4) - 1);
    Some(match (kind, from) {
        (0, Sender::Client) => {
            new(&parts[2], &parts[3], [some(0), some(1)], Content::Binary(rest.into()))
        }
        (0, _) => new(&parts[1], &parts[2], [some(0), None], Content::Binary(rest.into())),
        (1, _) => {
            let content = Content::Reply(parts[3].clone(), rest.into());
            new(&parts[2], "phx_reply", [some(0), some(1)], content)
        }
        (2, _) => new(&parts[topic], &parts[event], [None, None], Content::Binary(rest.into())),
        (3, _) => new(&parts[2], "broadcast", [some(0), some(1)], user(&parts[3], &parts[4])),
        (_, _) => new(&parts[0], "broadcast", [None, None], user(&parts[1], &parts[2])),
    })
}

/// Bytes, as they stand in a list of what was seen.
fn bytes_shown(bytes: &[u8]) -> Value {
    json!({ "bytes": HEXLOWER.encode(bytes) })
}

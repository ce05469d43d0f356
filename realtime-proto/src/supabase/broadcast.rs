//! Broadcasts: an application's event and payload, from one client to the others.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::Deserialize;

use crate::payload::Payload;
use crate::wire::{Body, Encoding, json, write_json_string};

/// A broadcast as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// The application's event name.
    pub event: String,
    /// The application's payload, JSON or bytes; an empty object when the sender gave none.
    pub payload: Payload,
    /// What the server says about the message, when it says something.
    pub meta: Option<BroadcastMeta>,
}

/// What a server says about a broadcast.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BroadcastMeta {
    /// The id of a stored message.
    pub id: Option<String>,
    /// Whether the message is a replay of an earlier one.
    pub replayed: bool,
}

impl Broadcast {
    /// Reads the body of a `broadcast` message; `None` when it is not one a listener could match.
    ///
    /// Protocol §5.7. Servers relay a sender's payload unread, so anything may come.
    pub(crate) fn read(body: &Body<'_>, frame: &Bytes) -> Option<Self> {
        match *body {
            Body::Json(text) => {
                let [event, payload, meta] = json::members(text, ["event", "payload", "meta"])?;
                let slice = |text: &str| Payload::trusted_json(frame.slice_ref(text.as_bytes()));
                Some(Self {
                    event: json::string(event?)?.into_owned(),
                    payload: payload.map_or_else(Payload::empty, slice),
                    meta: meta.and_then(|text| serde_json::from_str(text).ok()),
                })
            }
            Body::UserBroadcast { event, encoding, metadata, payload } => {
                let shared = frame.slice_ref(payload);
                let payload = match encoding {
                    Encoding::Json if json::is_json(payload) => Payload::trusted_json(shared),
                    Encoding::Json => return None,
                    Encoding::Binary => Payload::binary(shared),
                };
                let meta = metadata.and_then(|text| serde_json::from_str(text).ok());
                Some(Self { event: event.into(), payload, meta })
            }
            Body::Binary(_) | Body::Reply { .. } => None,
        }
    }
}

/// Writes the payload of a text `broadcast` message.
pub(crate) fn write_broadcast(event: &str, payload: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
    write_json_string(event, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    out.push(b'}');
}

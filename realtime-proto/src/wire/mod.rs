//! Bytes to envelopes and back: V1 objects, V2 arrays, and the binary frames of V2.
//!
//! Decoding borrows from the frame and looks no deeper than the envelope; encoding writes into a
//! buffer that the caller reuses. Nothing here keeps state.
//!
//! | frame | who sends it | envelope |
//! |---|---|---|
//! | text, V1 | both | `{"topic","event","payload","ref","join_ref"}`; a server never sends `join_ref` |
//! | text, V2 | both | `[join_ref, ref, topic, event, payload]`; further elements are ignored |
//! | binary 0 | both | push with opaque bytes; a server's has no ref |
//! | binary 1 | server | reply whose response is opaque bytes |
//! | binary 2 | server | broadcast of opaque bytes |
//! | binary 3 | client | Supabase user broadcast |
//! | binary 4 | server | Supabase user broadcast, as others receive it |

mod binary;
pub(crate) mod json;
mod text;
mod url;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use url::ConnectUrl;
pub(crate) use url::{build as build_url, percent_encode};

use crate::transmit::Frame;

/// The version of the serializer, the `vsn` of the connect URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Vsn {
    /// `1.0.0`: JSON objects, text only; a server's frames carry no `join_ref`.
    V1,
    /// `2.0.0`: JSON arrays and binary frames. The default, as in both official clients.
    #[default]
    V2,
}

impl Vsn {
    /// The text of the `vsn` parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }

    /// Reads a `vsn` parameter as Phoenix does: `~> 1.0.0` or `~> 2.0.0`, anything else is `None`.
    ///
    /// ```
    /// use realtime_proto::wire::Vsn;
    ///
    /// assert_eq!(Vsn::parse("2.0.5"), Some(Vsn::V2));
    /// assert_eq!(Vsn::parse("2.1.0"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (minor, patch) = text.rsplit_once('.')?;
        if patch.is_empty() || !patch.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        match minor {
            "1.0" => Some(Self::V1),
            "2.0" => Some(Self::V2),
            _ => None,
        }
    }
}

impl fmt::Display for Vsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which side wrote a frame; the two sides lay out some frames differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// One message: where it belongs, what it is, and its body, borrowed from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The join this message belongs to; `None` for broadcasts and in every V1 server frame.
    pub join_ref: Option<Cow<'a, str>>,
    /// The reference a reply repeats.
    pub msg_ref: Option<Cow<'a, str>>,
    /// The topic.
    pub topic: Cow<'a, str>,
    /// The event name.
    pub event: Cow<'a, str>,
    /// The rest.
    pub body: Body<'a>,
}

/// The body of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Raw JSON text, checked to be JSON and not looked into.
    Json(&'a str),
    /// Opaque bytes of a binary push (kind 0) or broadcast (kind 2).
    Binary(&'a [u8]),
    /// A binary reply (kind 1).
    Reply {
        /// `ok`, `error`, or any other word.
        status: &'a str,
        /// The opaque response.
        response: &'a [u8],
    },
    /// A Supabase user broadcast (kind 3 from a client, kind 4 from a server).
    UserBroadcast {
        /// The application's event name; the envelope's event is `broadcast`.
        event: &'a str,
        /// How to read `payload`.
        encoding: Encoding,
        /// A JSON object beside the payload, for instance with the message's id.
        metadata: Option<&'a str>,
        /// The application's payload. JSON in it is not checked, because servers relay it unread.
        payload: &'a [u8],
    },
}

/// How the payload of a user broadcast is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Opaque bytes.
    Binary,
    /// UTF-8 JSON.
    Json,
}

/// Reads one frame.
///
/// # Errors
///
/// [`DecodeError`] with what is wrong and where. The connection can go on: a Supabase server and
/// the official clients drop such a frame and keep the socket.
///
/// # Examples
///
/// ```
/// use realtime_proto::Frame;
/// use realtime_proto::wire::{Body, Sender, Vsn, decode};
///
/// let frame = Frame::text(r#"["1",null,"room:a","shout",{"hi":1}]"#);
/// let envelope = decode(Vsn::V2, Sender::Server, &frame)?;
/// assert_eq!(envelope.topic, "room:a");
/// assert_eq!(envelope.body, Body::Json(r#"{"hi":1}"#));
/// # Ok::<(), realtime_proto::wire::DecodeError>(())
/// ```
pub fn decode(vsn: Vsn, from: Sender, frame: &Frame) -> Result<Envelope<'_>, DecodeError> {
    match frame {
        Frame::Text(bytes) => {
            let text = core::str::from_utf8(bytes)
                .map_err(|e| DecodeError::NotUtf8 { field: "text frame", at: e.valid_up_to() })?;
            match vsn {
                Vsn::V1 => text::decode_v1(text),
                Vsn::V2 => text::decode_v2(text),
            }
        }
        Frame::Binary(bytes) => match vsn {
            Vsn::V1 => Err(DecodeError::BinaryOnV1),
            Vsn::V2 => binary::decode(from, bytes),
        },
    }
}

/// Writes one envelope into `out`, which is cleared first, and tells which kind of frame it is.
///
/// # Errors
///
/// [`EncodeError`] when the envelope has no form in this version: a binary body on V1, or a
/// header field of more than 255 bytes in a binary frame.
///
/// # Examples
///
/// ```
/// use realtime_proto::wire::{Body, Envelope, FrameKind, Sender, Vsn, encode};
///
/// let heartbeat = Envelope {
///     join_ref: None,
///     msg_ref: Some("4".into()),
///     topic: "phoenix".into(),
///     event: "heartbeat".into(),
///     body: Body::Json("{}"),
/// };
/// let mut buffer = Vec::new();
/// assert_eq!(encode(Vsn::V2, Sender::Client, &heartbeat, &mut buffer)?, FrameKind::Text);
/// assert_eq!(buffer, br#"[null,"4","phoenix","heartbeat",{}]"#);
/// # Ok::<(), realtime_proto::wire::EncodeError>(())
/// ```
pub fn encode(
    vsn: Vsn,
    from: Sender,
    envelope: &Envelope<'_>,
    out: &mut Vec<u8>,
) -> Result<FrameKind, EncodeError> {
    out.clear();
    match (&envelope.body, vsn) {
        (Body::Json(payload), Vsn::V1) => text::encode_v1(from, envelope, payload, out),
        (Body::Json(payload), Vsn::V2) => text::encode_v2(envelope, payload, out),
        (_, Vsn::V1) => return Err(EncodeError::BinaryOnV1),
        (_, Vsn::V2) => {
            binary::encode(from, envelope, out)?;
            return Ok(FrameKind::Binary);
        }
    }
    Ok(FrameKind::Text)
}

pub(crate) use text::write_json_string;

/// Which WebSocket opcode an encoded envelope needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A text frame.
    Text,
    /// A binary frame.
    Binary,
}

/// A frame could not be read; says what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Bytes that must be text are not UTF-8.
    #[error("the {field} is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The part of the frame.
        field: &'static str,
        /// The first offending byte, counted from the start of the frame.
        at: usize,
    },
    /// The text is not an envelope of this version.
    #[error("not a {vsn} text frame: {what}")]
    Text {
        /// The version the frame was read as.
        vsn: Vsn,
        /// The mistake and its position.
        what: String,
    },
    /// V1 has no binary frames.
    #[error("a binary frame on a 1.0.0 connection, which has none")]
    BinaryOnV1,
    /// A binary frame without a byte in it.
    #[error("the binary frame is empty")]
    Empty,
    /// The first byte is not a kind that this sender sends.
    #[error("byte 0 is {kind}, which is no binary kind a {sender} sends")]
    UnknownKind {
        /// The byte.
        kind: u8,
        /// `client` or `server`.
        sender: &'static str,
    },
    /// A length byte points past the end of the frame.
    #[error("the {field} at byte {at} needs {needed} bytes and {left} are left")]
    Short {
        /// The part of the frame.
        field: &'static str,
        /// Where it starts.
        at: usize,
        /// How long it claims to be.
        needed: usize,
        /// How many bytes the frame still has.
        left: usize,
    },
}

/// An envelope has no form on this connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// V1 has no binary frames.
    #[error("a 1.0.0 connection carries JSON only; connect with vsn 2.0.0 to send bytes")]
    BinaryOnV1,
    /// A header field of a binary frame is longer than its one length byte can say.
    #[error("the {field} is {len} bytes long, and a binary frame holds at most 255")]
    FieldTooLong {
        /// The part of the frame.
        field: &'static str,
        /// Its length in UTF-8 bytes.
        len: usize,
    },
    /// This side never sends such a body.
    #[error("a {sender} does not send this kind of binary frame")]
    WrongSender {
        /// `client` or `server`.
        sender: &'static str,
    },
}

impl Sender {
    const fn noun(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

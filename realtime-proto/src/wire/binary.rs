//! The binary frames of V2: one kind byte, one length byte a field, the fields, the payload.
//!
//! Lengths count UTF-8 bytes, so a field holds at most 255 of them. A ref that is absent has length
//! zero and reads as the empty string, as it does in the official clients.

use alloc::vec::Vec;

use super::{Body, DecodeError, EncodeError, Encoding, Envelope, Sender};

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;
const USER_BROADCAST_PUSH: u8 = 3;
const USER_BROADCAST: u8 = 4;

pub(super) fn decode(from: Sender, frame: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let (&kind, _) = frame.split_first().ok_or(DecodeError::Empty)?;
    let mut reader = Reader { frame, at: 1 };
    match (kind, from) {
        (PUSH, Sender::Client) => {
            let [join_ref, msg_ref, topic, event] = reader.lengths()?;
            Ok(Envelope {
                join_ref: Some(reader.text("join_ref", join_ref)?.into()),
                msg_ref: Some(reader.text("ref", msg_ref)?.into()),
                topic: reader.text("topic", topic)?.into(),
                event: reader.text("event", event)?.into(),
                body: Body::Binary(reader.rest()),
            })
        }
        (PUSH, Sender::Server) => {
            let [join_ref, topic, event] = reader.lengths()?;
            Ok(Envelope {
                join_ref: Some(reader.text("join_ref", join_ref)?.into()),
                msg_ref: None,
                topic: reader.text("topic", topic)?.into(),
                event: reader.text("event", event)?.into(),
                body: Body::Binary(reader.rest()),
            })
        }
        (REPLY, Sender::Server) => {
            let [join_ref, msg_ref, topic, status] = reader.lengths()?;
            Ok(Envelope {
                join_ref: Some(reader.text("join_ref", join_ref)?.into()),
                msg_ref: Some(reader.text("ref", msg_ref)?.into()),
                topic: reader.text("topic", topic)?.into(),
                event: "phx_reply".into(),
                body: Body::Reply {
                    status: reader.text("status", status)?,
                    response: reader.rest(),
                },
            })
        }
        (BROADCAST, Sender::Server) => {
            let [topic, event] = reader.lengths()?;
            Ok(Envelope {
                join_ref: None,
                msg_ref: None,
                topic: reader.text("topic", topic)?.into(),
                event: reader.text("event", event)?.into(),
                body: Body::Binary(reader.rest()),
            })
        }
        (USER_BROADCAST_PUSH, Sender::Client) => {
            let [join_ref, msg_ref, topic, event, metadata, encoding] = reader.lengths()?;
            Ok(Envelope {
                join_ref: Some(reader.text("join_ref", join_ref)?.into()),
                msg_ref: Some(reader.text("ref", msg_ref)?.into()),
                topic: reader.text("topic", topic)?.into(),
                event: "broadcast".into(),
                // A server takes everything but 0 for JSON.
                body: reader.user_broadcast(event, metadata, encoding != 0)?,
            })
        }
        (USER_BROADCAST, Sender::Server) => {
            let [topic, event, metadata, encoding] = reader.lengths()?;
            Ok(Envelope {
                join_ref: None,
                msg_ref: None,
                topic: reader.text("topic", topic)?.into(),
                event: "broadcast".into(),
                // A client takes everything but 1 for bytes.
                body: reader.user_broadcast(event, metadata, encoding == 1)?,
            })
        }
        _ => Err(DecodeError::UnknownKind { kind, sender: from.noun() }),
    }
}

pub(super) fn encode(
    from: Sender,
    envelope: &Envelope<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let join_ref = ("join_ref", envelope.join_ref.as_deref().unwrap_or(""));
    let msg_ref = ("ref", envelope.msg_ref.as_deref().unwrap_or(""));
    let topic = ("topic", &*envelope.topic);
    let event = ("event", &*envelope.event);
    match (&envelope.body, from) {
        (Body::Binary(payload), Sender::Client) => {
            write(out, PUSH, &[join_ref, msg_ref, topic, event], None, payload)
        }
        // A broadcast has no join to name; anything else is a push.
        (Body::Binary(payload), Sender::Server) if envelope.join_ref.is_none() => {
            write(out, BROADCAST, &[topic, event], None, payload)
        }
        (Body::Binary(payload), Sender::Server) => {
            write(out, PUSH, &[join_ref, topic, event], None, payload)
        }
        (Body::Reply { status, response }, Sender::Server) => {
            write(out, REPLY, &[join_ref, msg_ref, topic, ("status", status)], None, response)
        }
        (Body::UserBroadcast { event, encoding, metadata, payload }, Sender::Client) => {
            let metadata = ("metadata", metadata.unwrap_or(""));
            let fields = [join_ref, msg_ref, topic, ("user event", *event), metadata];
            write(out, USER_BROADCAST_PUSH, &fields, Some(*encoding), payload)
        }
        (Body::UserBroadcast { event, encoding, metadata, payload }, Sender::Server) => {
            let metadata = ("metadata", metadata.unwrap_or(""));
            let fields = [topic, ("user event", *event), metadata];
            write(out, USER_BROADCAST, &fields, Some(*encoding), payload)
        }
        (Body::Reply { .. } | Body::Json(_), _) => {
            Err(EncodeError::WrongSender { sender: from.noun() })
        }
    }
}

fn write(
    out: &mut Vec<u8>,
    kind: u8,
    fields: &[(&'static str, &str)],
    encoding: Option<Encoding>,
    payload: &[u8],
) -> Result<(), EncodeError> {
    out.push(kind);
    for (field, text) in fields {
        let len = text.len();
        out.push(u8::try_from(len).map_err(|_| EncodeError::FieldTooLong { field, len })?);
    }
    match encoding {
        Some(Encoding::Binary) => out.push(0),
        Some(Encoding::Json) => out.push(1),
        None => {}
    }
    for (_, text) in fields {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(payload);
    Ok(())
}

struct Reader<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], DecodeError> {
        let left = &self.frame[self.at..];
        let Some(taken) = left.get(..needed) else {
            return Err(DecodeError::Short { field, at: self.at, needed, left: left.len() });
        };
        self.at += needed;
        Ok(taken)
    }

    /// The length bytes that follow the kind; an encoding byte is read as one of them.
    fn lengths<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut lengths = [0; N];
        lengths.copy_from_slice(self.take("header", N)?);
        Ok(lengths)
    }

    fn text(&mut self, field: &'static str, len: u8) -> Result<&'a str, DecodeError> {
        let at = self.at;
        core::str::from_utf8(self.take(field, usize::from(len))?)
            .map_err(|e| DecodeError::NotUtf8 { field, at: at + e.valid_up_to() })
    }

    fn user_broadcast(
        &mut self,
        event: u8,
        metadata: u8,
        json: bool,
    ) -> Result<Body<'a>, DecodeError> {
        let event = self.text("user event", event)?;
        let metadata = self.text("metadata", metadata)?;
        Ok(Body::UserBroadcast {
            event,
            encoding: if json { Encoding::Json } else { Encoding::Binary },
            metadata: (!metadata.is_empty()).then_some(metadata),
            payload: self.rest(),
        })
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.frame[self.at..];
        self.at = self.frame.len();
        rest
    }
}

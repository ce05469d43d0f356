//! What the oracle reads of a frame: the envelope, and the number that a scenario put into it.

use realtime_proto::Frame;
use realtime_proto::wire::{self, Body, Envelope, Sender, Vsn};

use crate::subject::number_of;

/// The envelope of a frame; `None` for what cannot be read, which says nothing to anybody.
///
/// The version need not be known: an object is version 1, everything else version 2.
pub(super) fn read(from: Sender, frame: &Frame) -> Option<Envelope<'_>> {
    let vsn = match frame {
        Frame::Text(bytes) if bytes.first() == Some(&b'{') => Vsn::V1,
        Frame::Text(_) | Frame::Binary(_) => Vsn::V2,
    };
    wire::decode(vsn, from, frame).ok()
}

/// The join a message names, and nothing for those that name none.
pub(super) fn join_ref<'a>(envelope: &'a Envelope<'_>) -> Option<&'a str> {
    // A binary frame cannot say null.
    envelope.join_ref.as_deref().filter(|named| !named.is_empty())
}

/// A ref that is a number, as those of most clients are.
pub(super) fn number_of_ref(of: Option<&str>) -> Option<u64> {
    of?.parse().ok()
}

const fn payload<'a>(envelope: &'a Envelope<'_>) -> &'a [u8] {
    match &envelope.body {
        Body::Json(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        Body::Reply { response, .. } => response,
        Body::UserBroadcast { payload, .. } => payload,
    }
}

/// The number that a message bears.
pub(super) fn number(envelope: &Envelope<'_>) -> Option<u64> {
    number_of(payload(envelope))
}

/// Whether a server says of a broadcast that it comes from its store.
pub(super) fn is_replayed(envelope: &Envelope<'_>) -> bool {
    const MARK: &[u8] = b"\"replayed\":true";
    let place = match &envelope.body {
        Body::Json(text) => text.as_bytes(),
        Body::UserBroadcast { metadata, .. } => metadata.unwrap_or("").as_bytes(),
        Body::Binary(_) | Body::Reply { .. } => return false,
    };
    place.windows(MARK.len()).any(|window| window == MARK)
}

/// What a reply says.
pub(super) fn status<'a>(envelope: &'a Envelope<'_>) -> Option<&'a str> {
    const KEY: &str = "\"status\":\"";
    match &envelope.body {
        Body::Json(text) => text.split_once(KEY)?.1.split('"').next(),
        Body::Reply { status, .. } => Some(status),
        Body::Binary(_) | Body::UserBroadcast { .. } => None,
    }
}

/// Whether a reply says `ok`.
pub(super) fn is_ok(envelope: &Envelope<'_>) -> bool {
    status(envelope) == Some("ok")
}

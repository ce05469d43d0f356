//! Broadcasts: an application's event and payload, from one client to the others.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::change::ChangeKind;
use super::join::flag;
use crate::payload::{Payload, PayloadError};
use crate::wire::{Body, Encoding, json, write_json_string};

/// A broadcast as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// The application's event name.
    pub event: String,
    /// The application's payload, JSON or bytes; an empty object when the sender gave none.
    pub payload: Payload,
    /// What is said about the message, when something is.
    pub meta: Option<BroadcastMeta>,
}

/// What is said about a broadcast: by the server, or by a sender, whose text messages a server
/// relays as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BroadcastMeta {
    /// The id of a stored message.
    pub id: Option<String>,
    /// Whether the message is a replay of an earlier one.
    pub replayed: bool,
}

impl Broadcast {
    /// Whether the event is `event`, in any case, or `event` is `*`.
    ///
    /// Listeners of the official clients match so (protocol §5.7); to tell events apart that
    /// differ in case only, compare [`event`](Self::event).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::Broadcast;
    /// let event = "Cursor-Moved".to_owned();
    /// let broadcast = Broadcast { event, payload: Payload::empty(), meta: None };
    /// assert!(broadcast.matches("cursor-moved"));
    /// assert!(broadcast.matches("*"));
    /// assert!(!broadcast.matches("cursor"));
    /// ```
    #[must_use]
    pub fn matches(&self, event: &str) -> bool {
        event == "*"
            || event.eq_ignore_ascii_case(&self.event)
            || event.to_lowercase() == self.event.to_lowercase()
    }

    /// The id of a stored message: of one that the database sent, or that was sent to be kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{Broadcast, BroadcastMeta};
    /// let id = Some("b420e064-9ce7-4682-9ead-1a64970c756b".to_owned());
    /// let meta = Some(BroadcastMeta { id, replayed: false });
    /// let broadcast = Broadcast { event: "paid".into(), payload: Payload::empty(), meta };
    /// assert_eq!(broadcast.id(), Some("b420e064-9ce7-4682-9ead-1a64970c756b"));
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.meta.as_ref()?.id.as_deref()
    }

    /// Reads the row change that a trigger with `realtime.broadcast_changes` sent.
    ///
    /// The JSON text is read straight into `T`, so integers keep all 64 bits.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when the payload is none of a row change, or its rows do not fit `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{Broadcast, ChangeKind};
    /// #[derive(serde::Deserialize)]
    /// struct Note {
    ///     body: String,
    /// }
    ///
    /// # let payload = Payload::from_json(
    /// #     r#"{"id":"74101cdd-63b7-4aed-8bea-14999527d6fb","table":"notes","schema":"public",
    /// #         "record":{"id":3,"body":"hi"},"operation":"INSERT","old_record":null}"#,
    /// # )?;
    /// # let broadcast = Broadcast { event: "INSERT".into(), payload, meta: None };
    /// let change = broadcast.change::<Note>()?;
    /// assert_eq!((change.operation, &*change.table), (ChangeKind::Insert, "notes"));
    /// assert_eq!(change.record.unwrap().body, "hi");
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn change<'a, T: Deserialize<'a>>(&'a self) -> Result<BroadcastChange<T>, PayloadError> {
        self.payload.to()
    }

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

/// A row change as a trigger with `realtime.broadcast_changes` tells it, from
/// [`Broadcast::change`].
///
/// Protocol §5.7. The event of the broadcast is the operation too, unless the trigger was written
/// with another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct BroadcastChange<T> {
    /// The id of the message, which is [`Broadcast::id`] too.
    #[serde(default)]
    pub id: Option<String>,
    /// What happened to the row.
    pub operation: ChangeKind,
    /// The schema of the row's table.
    pub schema: String,
    /// The row's table.
    pub table: String,
    /// The row after an insert or update.
    pub record: Option<T>,
    /// The row before an update or delete, whole.
    pub old_record: Option<T>,
}

/// How broadcasts of a channel behave.
///
/// # Examples
///
/// ```
/// use realtime_proto::ChannelConfig;
/// use realtime_proto::supabase::{BroadcastConfig, JoinConfig};
///
/// let broadcast = BroadcastConfig::default().with_ack().with_echo();
/// let config = ChannelConfig::supabase(JoinConfig { broadcast, ..JoinConfig::default() });
/// # let _ = config;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BroadcastConfig {
    /// Whether the server acknowledges every broadcast.
    #[serde(deserialize_with = "flag")]
    pub ack: bool,
    /// Whether the sender receives its own broadcasts; `self` on the wire.
    #[serde(rename = "self", deserialize_with = "flag")]
    pub echo: bool,
    /// Which stored broadcasts to replay after the join; private channels only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// Whether the channel is live only once broadcasts of the database reach it.
    #[serde(skip_serializing_if = "core::ops::Not::not", deserialize_with = "flag")]
    pub replication_ready: bool,
}

impl BroadcastConfig {
    /// The same, with every broadcast acknowledged: it ends with the server's reply.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastConfig;
    /// assert!(BroadcastConfig::default().with_ack().ack);
    /// ```
    #[must_use]
    pub const fn with_ack(mut self) -> Self {
        self.ack = true;
        self
    }

    /// The same, with one's own broadcasts received too.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastConfig;
    /// assert!(BroadcastConfig::default().with_echo().echo);
    /// ```
    #[must_use]
    pub const fn with_echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// The same, with stored broadcasts replayed right after the join; a channel that is not
    /// private is then refused when it is opened.
    ///
    /// What is missed later is replayed without being asked for, see
    /// [`Recovery`](crate::Recovery).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::supabase::{BroadcastConfig, JoinConfig, Replay};
    ///
    /// let last_seen = Duration::from_secs(1_795_376_394);
    /// let replay = Replay::since(last_seen).with_limit(10);
    /// let broadcast = BroadcastConfig::default().with_replay(replay);
    /// let config = JoinConfig { broadcast, private: true, ..JoinConfig::default() };
    /// # let _ = config;
    /// ```
    #[must_use]
    pub const fn with_replay(mut self, replay: Replay) -> Self {
        self.replay = Some(replay);
        self
    }

    /// The same, but live only once broadcasts of the database reach the channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastConfig;
    /// assert!(BroadcastConfig::default().with_replication_ready().replication_ready);
    /// ```
    #[must_use]
    pub const fn with_replication_ready(mut self) -> Self {
        self.replication_ready = true;
        self
    }
}

/// A request for stored broadcasts: the newest of them, told oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Unix time in milliseconds of the oldest broadcast wanted.
    pub since: u64,
    /// How many at most, of which a server takes the nearest from 1 to 25; 25 when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

impl Replay {
    /// Asks for what was stored since `unix`, the time since the Unix epoch; in whole
    /// milliseconds, and a server keeps broadcasts for 72 hours.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::supabase::Replay;
    /// assert_eq!(Replay::since(Duration::from_secs(1_795_376_394)).since, 1_795_376_394_000);
    /// ```
    #[must_use]
    pub const fn since(unix: Duration) -> Self {
        let millis = unix.as_millis();
        let since = if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 };
        Self { since, limit: None }
    }

    /// The same, but at most so many.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::supabase::Replay;
    /// assert_eq!(Replay::since(Duration::ZERO).with_limit(4).limit, Some(4));
    /// ```
    #[must_use]
    pub const fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// How long a server is asked to keep a broadcast, so that it can be replayed.
///
/// Protocol §5.7: on private channels only, over protocol version 2 or HTTP, and by servers that
/// have this switched on; others relay the message and keep nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// As long as it keeps any.
    Longest,
    /// So long; in whole seconds, rounded up and at least one.
    For(Duration),
}

impl Persist {
    /// Whole seconds; `None` for as long as possible.
    pub(crate) fn ttl_secs(self) -> Option<u64> {
        match self {
            Self::Longest => None,
            Self::For(span) => {
                let partial = u64::from(span.subsec_nanos() > 0);
                Some(span.as_secs().saturating_add(partial).max(1))
            }
        }
    }

    /// The metadata of a binary frame.
    pub(crate) fn metadata(self) -> String {
        let mut text = String::from("{\"persist\":");
        match self.ttl_secs() {
            None => text.push_str("true}"),
            Some(secs) => {
                write!(text, "{{\"ttl\":{secs}}}}}").expect("writing to a String does not fail");
            }
        }
        text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_matches_in_any_case_of_any_alphabet() {
        let named =
            |event: &str| Broadcast { event: event.into(), payload: Payload::empty(), meta: None };
        for (event, pattern) in [("Hi", "hI"), ("ÉTÉ", "été"), ("x", "*"), ("*", "*"), ("", "")]
        {
            assert!(named(event).matches(pattern), "{event} {pattern}");
        }
        for (event, pattern) in [("a", "b"), ("ab", "a"), ("", "a"), ("*", "a"), ("é", "e")] {
            assert!(!named(event).matches(pattern), "{event} {pattern}");
        }
    }

    #[test]
    fn how_long_to_keep_a_broadcast_is_written_as_the_protocol_has_it() {
        assert_eq!(Persist::Longest.metadata(), r#"{"persist":true}"#);
        for (span, secs) in [(60_000, 60), (1_001, 2), (0, 1)] {
            let persist = Persist::For(Duration::from_millis(span));
            assert_eq!(persist.metadata(), std::format!(r#"{{"persist":{{"ttl":{secs}}}}}"#));
        }
        let longest = Persist::For(Duration::MAX).metadata();
        assert!(longest.len() <= 255, "{longest}");
    }
}

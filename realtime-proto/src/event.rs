//! What a client tells its application.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::channel::{Gap, Recovery};
use crate::ids::{ChannelId, PushId, SocketId};
use crate::payload::Payload;
use crate::presence::{PresenceCall, PresenceDiff};
use crate::supabase::{Broadcast, Cause, CauseKind, Change, System};
use crate::time::Instant;
use crate::wire::DecodeError;

/// Something that happened, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The connection is open; channels join now.
    Connected {
        /// The connection.
        socket: SocketId,
    },
    /// The connection ended or could not be opened. Comes before the channel errors it causes (G5).
    Disconnected {
        /// The connection or attempt.
        socket: SocketId,
        /// Why.
        cause: Cause,
        /// When the next attempt is made, or later while too many events wait to be taken; `None`
        /// when none is, until [`connect`] is called or the access token changes.
        ///
        /// [`connect`]: crate::Client::connect
        retry_at: Option<Instant>,
    },
    /// A heartbeat was answered.
    Heartbeat {
        /// The time from sending it to its answer.
        round_trip: Duration,
    },
    /// Another access token is needed: the current one expires soon, has expired, or was rejected.
    /// In the latter two cases no join is tried before
    /// [`set_access_token`](crate::Client::set_access_token) brings another.
    TokenNeeded {
        /// Why.
        cause: Cause,
        /// Until when the current one still serves; `None` when it does not.
        deadline: Option<Instant>,
    },
    /// Something happened on a channel.
    Channel(ChannelId, ChannelEvent),
    /// The peer sent what it should not have sent; it was ignored and counted.
    Violation(Violation),
}

/// Something that happened on one channel, in the order of the frames (G2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The server accepted the join.
    Joined {
        /// What it answered; the user's own on Phoenix.
        response: Payload,
    },
    /// Everything the channel asked for flows: the presence snapshot came, the database
    /// subscription stands, and broadcasts of the database come.
    Live,
    /// A broadcast came.
    Broadcast(Broadcast),
    /// A row changed.
    Change {
        /// The bindings it was sent for.
        bindings: BindingSet,
        /// The change.
        change: Change,
    },
    /// Row changes do not flow, though the channel is joined; whatever else it asked for does.
    ///
    /// With a [retry](crate::supabase::CauseKind::retry) of `Backoff` the server tries again by
    /// itself, and the channel is [`Live`](Self::Live) once that worked. With `Never` what was asked
    /// for cannot be had: change the bindings, or [`rejoin`](crate::Channel::rejoin) after mending
    /// the database. One binding that is refused fails all of the channel.
    ChangesStopped {
        /// Why.
        cause: Cause,
    },
    /// Messages may have been missed while the channel was away (G10).
    Gap(Gap),
    /// A private channel was joined again, and its stored broadcasts were replayed (G10).
    Recovered(Recovery),
    /// Members came, changed or went.
    Presence(PresenceDiff),
    /// What the `Presence` of phoenix.js calls for one message, on a channel
    /// [`with_presence_calls`](crate::ChannelConfig::with_presence_calls); comes before the
    /// folded change.
    PresenceCalls(Vec<PresenceCall>),
    /// The server said something about the channel.
    System(System),
    /// A message of a Phoenix application came.
    Message {
        /// Its event name.
        event: String,
        /// Its payload.
        payload: Payload,
    },
    /// A push ended; every push does, once (G3).
    PushEnded {
        /// The push.
        push: PushId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The server refused what was tracked.
    TrackRefused {
        /// What it answered.
        response: Payload,
    },
    /// The channel joins again although nothing failed: what it asks for changed, presence or row
    /// changes, or frames were dropped. Nothing comes until it is `Joined`.
    Rejoining {
        /// Why, with a text that tells what changed.
        cause: Cause,
    },
    /// The channel is not joined any more, or the join failed.
    Errored {
        /// Why.
        cause: Cause,
        /// When it is joined again; `None` when that waits for the connection, for another access
        /// token, or for [`rejoin`](crate::Channel::rejoin).
        retry_at: Option<Instant>,
    },
    /// The channel is gone, and its id with it; the last event of every channel (G3).
    Closed {
        /// Why.
        cause: Cause,
    },
}

/// How a push ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The server replied.
    Replied {
        /// `ok`, `error`, or any word of the application's.
        status: Status,
        /// The response, any JSON or bytes.
        response: Payload,
    },
    /// The driver took its frame, and it asks for no reply.
    Sent,
    /// No reply came in time.
    TimedOut,
    /// It was never sent, because the channel was not joined within its time to live.
    Expired,
    /// The connection or the join ended while the reply was awaited, or before the driver took the
    /// frame of a push that asks for none; whether the server acted on it is not known.
    Interrupted,
    /// It was never sent: the channel ended first, a newer push with its key took its place, or too
    /// many waited.
    Dropped,
}

impl Outcome {
    /// Why the push did not do what it was to do; `None` when it was sent, or answered with
    /// anything but `error`.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::supabase::CauseKind;
    /// use realtime_proto::{Outcome, Payload, Status};
    ///
    /// let response = Payload::from_json(r#""payload_size_exceeded""#)?;
    /// let refused = Outcome::Replied { status: Status::Error, response };
    /// assert_eq!(refused.cause().unwrap().kind, CauseKind::PayloadTooLarge);
    /// assert_eq!(Outcome::Sent.cause(), None);
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Replied { status: Status::Error, response } => {
                Some(Cause::from_response(response.as_json()))
            }
            Self::Replied { status: Status::Ok | Status::Other(_), .. } | Self::Sent => None,
            Self::TimedOut => Some(Cause::new(CauseKind::PushTimeout)),
            Self::Expired => Some(Cause::new(CauseKind::PushExpired)),
            Self::Interrupted => Some(Cause::new(CauseKind::Interrupted)),
            Self::Dropped => Some(Cause::new(CauseKind::PushDropped)),
        }
    }
}

/// The status of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// `ok`.
    Ok,
    /// `error`.
    Error,
    /// Any other word, which is legal.
    Other(String),
}

impl Status {
    pub(crate) fn read(word: &str) -> Self {
        match word {
            "ok" => Self::Ok,
            "error" => Self::Error,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Other(word) => word,
        })
    }
}

/// A row-change binding of one channel, by its place in the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId(pub(crate) u8);

/// A set of bindings of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BindingSet(pub(crate) u64);

impl BindingSet {
    /// Whether `binding` is in the set.
    #[must_use]
    pub const fn contains(self, binding: BindingId) -> bool {
        self.0 & (1 << binding.0) != 0
    }

    /// Whether the set has no binding.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn insert(&mut self, binding: BindingId) {
        self.0 |= 1 << binding.0;
    }

    pub(crate) const fn remove(&mut self, binding: BindingId) {
        self.0 &= !(1 << binding.0);
    }
}

/// Something the peer should not have sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that could not be read; the connection goes on.
    #[error("a frame was dropped: {0}")]
    Malformed(DecodeError),
    /// A frame larger than `frame_bytes_max`; the connection goes on.
    #[error("a frame of {bytes} bytes was dropped: at most {max} are taken")]
    FrameTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A payload that does not fit its event; the message was dropped.
    #[error("a `{event}` message on {topic} was dropped: its payload does not fit")]
    Payload {
        /// The topic.
        topic: String,
        /// The event.
        event: String,
    },
    /// A row change for bindings that the current join does not have.
    #[error("a row change on {topic} was dropped: none of its ids belongs to the current join")]
    UnknownBinding {
        /// The topic.
        topic: String,
    },
    /// More presence than the limits allow; what is shown is incomplete.
    #[error("presence of {topic} is incomplete: more came than the limits allow")]
    PresenceOverflow {
        /// The topic.
        topic: String,
    },
}

//! What a server tells its driver.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use crate::transmit::Frame;
use crate::wire::{DecodeError, Vsn};

/// One accepted connection of a [`Server`](super::Server); never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session{}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something the driver has to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerTransmit {
    /// Write one frame.
    Frame {
        /// The connection it belongs to.
        session: SessionId,
        /// The encoded frame.
        frame: Frame,
    },
    /// Close the WebSocket; the session is already gone and needs no `handle_close`.
    Close {
        /// The connection to end.
        session: SessionId,
        /// The close code to send.
        code: u16,
        /// The reason to send with it.
        reason: Cow<'static, str>,
    },
    /// End the connection without a close frame; the session is already gone and needs no
    /// `handle_close`.
    Cut {
        /// The connection to end.
        session: SessionId,
    },
}

/// Something that happened, for logs and assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A connection was accepted.
    Opened {
        /// Its name.
        session: SessionId,
        /// The protocol version it speaks.
        vsn: Vsn,
    },
    /// A session is gone, and with it its channels.
    Closed {
        /// Its name.
        session: SessionId,
    },
    /// A channel was joined.
    Joined {
        /// Whose.
        session: SessionId,
        /// Which.
        topic: String,
    },
    /// A join was refused; the reply may follow later.
    Refused {
        /// Whose.
        session: SessionId,
        /// Which.
        topic: String,
        /// The `reason` of the reply.
        reason: String,
    },
    /// A channel ended: left, replaced by another join, closed by the server, or its session gone.
    Left {
        /// Whose.
        session: SessionId,
        /// Which.
        topic: String,
    },
    /// A channel receives row changes from now on.
    Subscribed {
        /// Whose.
        session: SessionId,
        /// Which.
        topic: String,
    },
    /// A presence is new or was changed.
    Tracked {
        /// Whose.
        session: SessionId,
        /// Where.
        topic: String,
        /// Under which key.
        key: String,
    },
    /// A presence is gone.
    Untracked {
        /// Whose.
        session: SessionId,
        /// Where.
        topic: String,
        /// Under which key.
        key: String,
    },
    /// A frame could not be read and was dropped; the session goes on.
    Malformed {
        /// Whose.
        session: SessionId,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// What a server has and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Sessions open now.
    pub sessions: usize,
    /// Channels joined now, over all sessions.
    pub channels: usize,
    /// Presences tracked now, over all topics.
    pub presences: usize,
    /// Sessions ever accepted.
    pub accepted: u64,
    /// Frames ever received.
    pub frames_in: u64,
    /// Frames ever queued for a session.
    pub frames_out: u64,
    /// Frames that could not be read.
    pub malformed: u64,
    /// Messages dropped because their `join_ref` was an older join's, or their session was gone.
    pub stale: u64,
    /// Joins ever accepted.
    pub joins: u64,
    /// Joins ever refused.
    pub refused: u64,
    /// Broadcasts ever relayed or originated.
    pub broadcasts: u64,
    /// Row changes ever given to [`change`](super::Server::change).
    pub changes: u64,
    /// Sessions the server closed because too much was waiting for them or a frame was too large.
    pub overflows: u64,
    /// Events dropped because nobody polled them.
    pub events_dropped: u64,
}

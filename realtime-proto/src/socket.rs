//! The socket side of a client: which connection there is, and all that belongs to it alone.

use alloc::collections::BTreeMap;

use crate::ids::{ChannelId, PushId, Ref, SocketId};
use crate::supabase::Cause;
use crate::time::Instant;

/// Whether there is a connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Not wanted.
    Offline,
    /// Wanted; the driver is opening it.
    Opening { id: SocketId },
    /// Open.
    Online(Connection),
    /// Wanted; the delay before the next attempt runs. With `rests` no attempt follows, because no
    /// channel needs the connection.
    Waiting { retry_at: Instant, rests: bool },
    /// Wanted, but trying again is pointless until something changes.
    Stopped { cause: Cause },
    /// Wanted as soon as there is a channel; closed because there was none.
    Resting,
}

/// How a connection is, as an application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not wanted.
    Disconnected,
    /// On its way.
    Connecting,
    /// Open.
    Connected,
    /// Lost; the delay before the next attempt runs, or before it rests as no channel needs it.
    Waiting {
        /// When it is over.
        retry_at: Instant,
    },
    /// Given up until it is asked for, or has other credentials.
    GivenUp,
    /// Closed because it had no channel; the next one opens it.
    Idle,
}

/// The state of one open connection, dropped as a whole when it goes, so that nothing of it can
/// reach the next one.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SocketId,
    next_ref: u64,
    /// Who waits for which reply, and since when.
    replies: BTreeMap<Ref, (Waiter, Instant)>,
    pub(crate) heartbeat: Heartbeat,
    /// When the last frame came.
    pub(crate) heard_at: Option<Instant>,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    Join(ChannelId),
    Leave(ChannelId),
    Push(ChannelId, PushId),
    Track(ChannelId),
}

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// The instant of the last scheduled beat; traffic and probes do not move the schedule.
    pub(crate) scheduled_at: Instant,
    /// The beat that is not answered yet: its ref and when it was sent.
    pub(crate) pending: Option<(Ref, Instant)>,
}

impl Connection {
    pub(crate) fn new(id: SocketId, now: Instant) -> Self {
        Self {
            id,
            next_ref: 1,
            replies: BTreeMap::new(),
            heartbeat: Heartbeat { scheduled_at: now, pending: None },
            heard_at: None,
        }
    }

    /// A ref nothing else on this connection has.
    pub(crate) const fn make_ref(&mut self) -> Ref {
        let made = Ref(self.next_ref);
        self.next_ref += 1;
        made
    }

    /// A ref whose reply goes to `waiter`.
    pub(crate) fn make_ref_for(&mut self, waiter: Waiter, now: Instant) -> Ref {
        let made = self.make_ref();
        self.replies.insert(made, (waiter, now));
        made
    }

    /// Ends the wait for a reply; a reply that still comes is stale.
    pub(crate) fn forget(&mut self, msg_ref: Ref) {
        self.replies.remove(&msg_ref);
    }

    /// Who waited for a reply that came, and since when; `None` when nobody did.
    pub(crate) fn on_reply(&mut self, msg_ref: Ref) -> Option<(Waiter, Instant)> {
        self.replies.remove(&msg_ref)
    }
}

impl Socket {
    pub(crate) const fn state(&self) -> ConnectionState {
        match self {
            Self::Offline => ConnectionState::Disconnected,
            Self::Opening { .. } => ConnectionState::Connecting,
            Self::Online(_) => ConnectionState::Connected,
            Self::Waiting { retry_at, .. } => ConnectionState::Waiting { retry_at: *retry_at },
            Self::Stopped { .. } => ConnectionState::GivenUp,
            Self::Resting => ConnectionState::Idle,
        }
    }

    pub(crate) const fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Online(connection) => Some(connection),
            Self::Offline
            | Self::Opening { .. }
            | Self::Waiting { .. }
            | Self::Stopped { .. }
            | Self::Resting => None,
        }
    }

    pub(crate) const fn connection_mut(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Online(connection) => Some(connection),
            Self::Offline
            | Self::Opening { .. }
            | Self::Waiting { .. }
            | Self::Stopped { .. }
            | Self::Resting => None,
        }
    }

    /// The connection or attempt the driver knows about.
    pub(crate) const fn id(&self) -> Option<SocketId> {
        match self {
            Self::Opening { id } => Some(*id),
            Self::Online(connection) => Some(connection.id),
            Self::Offline | Self::Waiting { .. } | Self::Stopped { .. } | Self::Resting => None,
        }
    }
}

//! What a manager tells its application.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::entity::EntityKey;
use super::people::UserDiff;
use crate::channel::{Gap, Recovery};
use crate::event::{Outcome, Violation};
use crate::ids::{ConnectionId, PushId};
use crate::payload::Payload;
use crate::supabase::{Broadcast, Cause, Change, System};
use crate::time::Instant;

/// One listener's hold on a shared channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub(crate) u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease{}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One call of [`Manager::cleanup_all_channels`](super::Manager::cleanup_all_channels) or
/// [`Manager::cleanup_tenant`](super::Manager::cleanup_tenant).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupId(pub(crate) u64);

impl fmt::Display for CleanupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cleanup{}", self.0)
    }
}

impl fmt::Debug for CleanupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that happened, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagerEvent {
    /// A connection is open.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// A connection ended or could not be opened.
    Disconnected {
        /// Which.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
        /// When the next attempt is made, if one is.
        retry_at: Option<Instant>,
    },
    /// A heartbeat was answered; one that is not ends its connection.
    Heartbeat {
        /// On which connection.
        connection: ConnectionId,
        /// The time from sending it to its answer.
        round_trip: Duration,
    },
    /// Another access token is needed.
    TokenNeeded {
        /// Why.
        cause: Cause,
        /// Until when the current one still serves; `None` when it does not.
        deadline: Option<Instant>,
    },
    /// A channel has another status; told once, however many listen, and for the last time with
    /// [`ChannelStatus::Closed`].
    Channel {
        /// Which.
        key: Arc<EntityKey>,
        /// How it is now.
        status: ChannelStatus,
    },
    /// Something for one listener.
    Lease(LeaseId, LeaseEvent),
    /// A broadcast ended; every one does, once.
    PushEnded {
        /// The broadcast.
        push: PushId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The leaves of a clean-up were acknowledged or timed out; told once for each.
    CleanedUp {
        /// Which.
        cleanup: CleanupId,
    },
    /// The peer sent what it should not have sent; it was ignored and counted.
    Violation(Violation),
}

/// Something for one listener of a shared channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEvent {
    /// The channel has another status; the first event of every listener.
    Status(ChannelStatus),
    /// The row changed.
    Change(Change),
    /// A broadcast of the entity came.
    Broadcast(Broadcast),
    /// Changes or broadcasts may have been missed while the channel was away (G10).
    ///
    /// It is told to those who listened when the channel was lost. For whoever came later nothing
    /// is missing: what it is owed begins when it is [`Live`](ChannelStatus::Live).
    Gap(Gap),
    /// The entity's stored broadcasts were replayed after the channel was joined again (G10); told
    /// to those who listened when it was lost.
    Recovered(Recovery),
    /// Users came, changed or went.
    ///
    /// A listener that comes late first gets all who are here, which may be nobody. While the
    /// channel is away these are the last that were known, and the diff that makes the view equal
    /// to the server's follows.
    Presence(UserDiff),
    /// The server said something about the channel.
    System(System),
    /// The server refused what was tracked.
    TrackRefused {
        /// What it answered.
        response: Payload,
    },
    /// The listener was released; its last event.
    Ended,
}

/// How a shared channel is, in terms a user interface can show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelStatus {
    /// On its way for the first time.
    Connecting,
    /// Joined; part of what was asked for does not flow yet.
    Connected,
    /// All that was asked for flows.
    Live,
    /// Lost, and on its way back.
    Reconnecting {
        /// How many times it was lost or refused, or its connection could not be opened, since it
        /// was last live. The channel's budget counts its own refusals only.
        attempt: u32,
        /// When the next attempt is made, if that is known.
        next_at: Option<Instant>,
        /// Why it was lost.
        cause: Cause,
    },
    /// Given up until it is asked for again, with [`Manager::retry`](super::Manager::retry).
    Error {
        /// Why; [`CauseKind::advice`](crate::supabase::CauseKind::advice) says what to do.
        cause: Cause,
    },
    /// Nobody wants it any more.
    Closed,
}

impl ChannelStatus {
    /// The status in one word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Live => "live",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Error { .. } => "error",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ChannelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

//! What a manager writes to the log: lines of `tracing`, and no secret in any. The levels
//! are those of the table in the guide.

use core::fmt;

use realtime_proto::manager::{ChannelStatus, EntityKey, LeaseEvent, LeaseId, ManagerEvent, User};
use realtime_proto::supabase::{Cause, CauseKind};
use realtime_proto::{ConnectionId, Outcome, PushId, Status};
use tracing::dispatcher::with_default;
use tracing::{Dispatch, Span, debug, error, error_span, info, trace, warn};

/// Where the lines go that are not written by the manager's own task.
#[derive(Clone)]
pub(super) struct Log(Option<Dispatch>);

impl Log {
    pub(super) const fn new(logger: Option<Dispatch>) -> Self {
        Self(logger)
    }

    /// What tells whose callbacks a line is about.
    pub(super) fn span_of(&self, key: &EntityKey) -> Span {
        let span = || error_span!("listener", channel = %Topic(key));
        self.0.as_ref().map_or_else(span, |logger| with_default(logger, span))
    }

    pub(super) fn within(&self, span: &Span, work: impl FnOnce()) {
        let work = || span.in_scope(work);
        match &self.0 {
            Some(logger) => with_default(logger, work),
            None => work(),
        }
    }
}

/// Tells what concerns the manager as a whole.
pub(super) fn manager(event: &ManagerEvent) {
    match event {
        ManagerEvent::Connected { connection } => info!(%connection, "connected"),
        ManagerEvent::Disconnected { connection, cause, retry_at } => {
            disconnected(*connection, cause, retry_at.is_some());
        }
        ManagerEvent::TokenNeeded { cause, deadline } => {
            warn!(cause = %cause.kind, expired = deadline.is_none(), "an access token is needed");
        }
        ManagerEvent::Channel { key, status } => channel(key, status),
        ManagerEvent::Heartbeat { connection, round_trip } => {
            trace!(%connection, ?round_trip, "heartbeat");
        }
        ManagerEvent::Violation(violation) => warn!(%violation, "the server broke the protocol"),
        ManagerEvent::Lease(..)
        | ManagerEvent::PushEnded { .. }
        | ManagerEvent::CleanedUp { .. }
        | _ => {}
    }
}

/// Tells of a broadcast that came to nothing.
pub(super) fn push(push: PushId, outcome: &Outcome) {
    match outcome {
        Outcome::Sent | Outcome::Replied { status: Status::Ok, .. } => {}
        Outcome::Replied { status, .. } => debug!(%push, %status, "a broadcast was refused"),
        Outcome::TimedOut | Outcome::Expired | Outcome::Interrupted | Outcome::Dropped | _ => {
            debug!(%push, ?outcome, "a broadcast came to nothing")
        }
    }
}

/// Tells that a listener does not keep up.
pub(super) fn slow(lease: LeaseId, key: &EntityKey) {
    warn!(channel = %Topic(key), %lease, "a listener is slow; events are dropped until it catches up");
}

fn disconnected(connection: ConnectionId, cause: &Cause, retried: bool) {
    let (cause, detail, advice) = (cause.kind, &cause.text, cause.kind.advice());
    if retried {
        warn!(%connection, %cause, %detail, "disconnected, connecting again");
    } else if cause == CauseKind::Requested || cause == CauseKind::Empty {
        info!(%connection, "disconnected");
    } else {
        error!(%connection, %cause, %detail, advice, "disconnected, given up");
    }
}

fn channel(key: &EntityKey, status: &ChannelStatus) {
    let channel = Topic(key);
    match status {
        ChannelStatus::Connecting => debug!(%channel, "connecting"),
        ChannelStatus::Live => info!(%channel, "live"),
        ChannelStatus::Reconnecting { attempt, cause, .. } => {
            let detail = &cause.text;
            warn!(%channel, attempt, cause = %cause.kind, %detail, "lost, joining again");
        }
        ChannelStatus::Error { cause } => {
            let (detail, advice) = (&cause.text, cause.kind.advice());
            error!(%channel, cause = %cause.kind, %detail, advice, "given up");
        }
        ChannelStatus::Closed => debug!(%channel, "closed"),
        ChannelStatus::Connected | _ => debug!(%channel, %status, "joined"),
    }
}

/// Tells what concerns one listener.
pub(super) fn lease(lease: LeaseId, key: &EntityKey, event: &LeaseEvent) {
    let channel = Topic(key);
    match event {
        LeaseEvent::Presence(users) => {
            let ids = |users: &[User]| -> Vec<String> {
                users.iter().map(|user| user.user_id.clone()).collect()
            };
            if !users.joined.is_empty() || !users.left.is_empty() {
                let (joined, left) = (ids(&users.joined), ids(&users.left));
                debug!(%channel, %lease, ?joined, ?left, "presence");
            }
        }
        LeaseEvent::Gap(gap) => {
            warn!(%channel, %lease, cause = %gap.why.kind, "something may be missing")
        }
        LeaseEvent::System(system) => {
            debug!(%channel, %lease, status = ?system.status, message = %system.message, "system");
        }
        LeaseEvent::TrackRefused { .. } => {
            warn!(%channel, %lease, "the server refused the presence")
        }
        LeaseEvent::Ended => debug!(%channel, %lease, "released"),
        LeaseEvent::Status(_)
        | LeaseEvent::Change(_)
        | LeaseEvent::Broadcast(_)
        | LeaseEvent::Recovered(_)
        | _ => {}
    }
}

/// The topic of a key, made when a line is written.
struct Topic<'a>(&'a EntityKey);

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.topic())
    }
}

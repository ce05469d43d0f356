//! What a manager writes to the log: lines of `tracing`, and no secret in any.
//!
//! | level | what |
//! |---|---|
//! | error | a channel or the connection was given up |
//! | warn | a channel or a connection was lost and comes back, a token is needed, a gap |
//! | info | a connection opened, a channel is live |
//! | debug | every other status, who came and went, what the server said |

use realtime_proto::ConnectionId;
use realtime_proto::manager::{ChannelStatus, EntityKey, LeaseEvent, LeaseId, ManagerEvent, User};
use realtime_proto::supabase::Cause;
use tracing::{debug, error, info, warn};

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
        ManagerEvent::Violation(violation) => warn!(%violation, "the server broke the protocol"),
        ManagerEvent::Lease(..) | ManagerEvent::PushEnded { .. } | _ => {}
    }
}

fn disconnected(connection: ConnectionId, cause: &Cause, retried: bool) {
    let (cause, detail, advice) = (cause.kind, &cause.text, cause.kind.advice());
    if retried {
        warn!(%connection, %cause, %detail, "disconnected, connecting again");
    } else {
        info!(%connection, %cause, %detail, advice, "disconnected");
    }
}

fn channel(key: &EntityKey, status: &ChannelStatus) {
    let channel = key.topic();
    match status {
        ChannelStatus::Connecting => debug!(channel, "connecting"),
        ChannelStatus::Live => info!(channel, "live"),
        ChannelStatus::Reconnecting { attempt, cause, .. } => {
            let detail = &cause.text;
            warn!(channel, attempt, cause = %cause.kind, %detail, "lost, joining again");
        }
        ChannelStatus::Error { cause } => {
            let (detail, advice) = (&cause.text, cause.kind.advice());
            error!(channel, cause = %cause.kind, %detail, advice, "given up");
        }
        ChannelStatus::Closed => debug!(channel, "closed"),
        ChannelStatus::Connected | _ => debug!(channel, %status, "joined"),
    }
}

/// Tells what concerns one listener.
pub(super) fn lease(lease: LeaseId, event: &LeaseEvent) {
    match event {
        LeaseEvent::Presence(users) => {
            let ids = |users: &[User]| -> Vec<String> {
                users.iter().map(|user| user.user_id.clone()).collect()
            };
            if !users.joined.is_empty() || !users.left.is_empty() {
                let (joined, left) = (ids(&users.joined), ids(&users.left));
                debug!(%lease, ?joined, ?left, "presence");
            }
        }
        LeaseEvent::Gap(gap) => warn!(%lease, cause = %gap.why.kind, "something may be missing"),
        LeaseEvent::System(system) => {
            debug!(%lease, status = ?system.status, message = %system.message, "system");
        }
        LeaseEvent::TrackRefused { .. } => warn!(%lease, "the server refused the presence"),
        LeaseEvent::Ended => debug!(%lease, "released"),
        LeaseEvent::Status(_)
        | LeaseEvent::Change(_)
        | LeaseEvent::Broadcast(_)
        | LeaseEvent::Recovered(_)
        | _ => {}
    }
}

//! What can be said about a channel at a glance.

use alloc::string::String;
use core::time::Duration;

use super::slot::Slot;
use super::state::{ChannelState, Rows, State};
use crate::context::Context;
use crate::time::Instant;

/// A channel at a glance, from [`Client::channel_info`](crate::Client::channel_info).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// The topic.
    pub topic: String,
    /// The state.
    pub state: ChannelState,
    /// Since when it is in that state.
    pub since: Instant,
    /// What it waits for, unless it is live.
    pub awaits: Option<Awaits>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Joins that were sent since it was opened.
    pub joins: u64,
    /// How long it took to become live the last time, from being opened or lost.
    pub time_to_live: Option<Duration>,
}

/// What a channel that is not live waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaits {
    /// The connection.
    Connection,
    /// Its turn among the joins.
    Turn,
    /// Another access token.
    Token,
    /// The answer to its join.
    JoinReply,
    /// The presence snapshot.
    Presence,
    /// The word that row changes flow.
    Postgres,
    /// The word that broadcasts of the database reach the channel.
    Replication,
    /// The delay before the next attempt.
    Retry {
        /// When it is over.
        at: Instant,
    },
    /// The application: it gave up, or its row changes were refused for good.
    Application,
    /// The answer to its leave.
    LeaveReply,
}

impl Slot {
    pub(crate) fn info(&self, ctx: &Context) -> ChannelInfo {
        ChannelInfo {
            topic: (*self.topic).into(),
            state: self.state.name(),
            since: self.since,
            awaits: self.awaits(ctx),
            attempts: self.attempts,
            joins: self.joins,
            time_to_live: self.time_to_live,
        }
    }

    fn awaits(&self, ctx: &Context) -> Option<Awaits> {
        match &self.state {
            State::Joining { .. } => Some(Awaits::JoinReply),
            State::Leaving { .. } => Some(Awaits::LeaveReply),
            State::Closed | State::Joined(_) | State::Errored { .. }
                if ctx.joins.is_held(self.id) =>
            {
                Some(Awaits::Token)
            }
            State::Closed | State::Joined(_) | State::Errored { .. }
                if ctx.joins.is_waiting(self.id) =>
            {
                Some(Awaits::Turn)
            }
            State::Joined(joined) => match joined.rows {
                Rows::Refused(_) => Some(Awaits::Application),
                Rows::Awaited => Some(Awaits::Postgres),
                Rows::Unasked | Rows::Flowing if joined.awaits_presence => Some(Awaits::Presence),
                Rows::Unasked | Rows::Flowing => {
                    joined.awaits_replication.then_some(Awaits::Replication)
                }
            },
            State::Errored { retry_at: Some(at), .. } => Some(Awaits::Retry { at: *at }),
            State::Errored { cause, .. } if self.gave_up => {
                let token = cause.kind.retry() == crate::supabase::Retry::NewToken;
                Some(if token { Awaits::Token } else { Awaits::Application })
            }
            State::Closed | State::Errored { .. } => Some(Awaits::Connection),
        }
    }
}

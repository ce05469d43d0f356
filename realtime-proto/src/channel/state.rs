//! The life of a channel: its states, what can happen to it, and what then follows.
//!
//! [`step`] is the whole table. It has no data and no effects, so that it can be read, printed
//! and compared with the reviewed snapshot beside it; `channel/join.rs` carries the steps out.
//!
//! ```text
//!            turn             reply ok            close
//!  Closed ─────────▶ Joining ─────────▶ Joined ─────────▶ Leaving ──▶ gone
//!                     ▲   │ refused,      │ phx_error,       ▲
//!               turn  │   ▼ timeout       ▼ socket lost      │ close
//!                    Errored ◀────────────┘      Joining ────┘
//! ```

use alloc::vec::Vec;
use core::fmt;

use crate::event::{BindingId, BindingSet};
use crate::ids::Ref;
use crate::supabase::{Binding, Cause};
use crate::time::Instant;

/// The states of a channel, named as Phoenix names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelState {
    /// Not joined yet: it waits for the connection or for its turn.
    Closed,
    /// The join was sent.
    Joining,
    /// The join was accepted.
    Joined,
    /// The join failed or the channel broke; it waits to be joined again.
    Errored,
    /// The leave was sent; the channel is gone when it is answered.
    Leaving,
}

impl ChannelState {
    /// Every state, in the order of a channel's life.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::Joining, Self::Joined, Self::Errored, Self::Leaving];
}

impl fmt::Display for ChannelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Errored => "errored",
            Self::Leaving => "leaving",
        })
    }
}

/// Declares the inputs and the list of all, so that none can be left out of the printed table.
macro_rules! inputs {
    ($($(#[$doc:meta])* $input:ident,)*) => {
        /// What can happen to a channel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Input {
            $($(#[$doc])* $input,)*
        }

        impl Input {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$input,)*];
        }
    };
}

inputs! {
    /// The connection is open.
    SocketOpened,
    /// The connection is gone.
    SocketLost,
    /// The join queue reached this channel.
    Turn,
    /// The delay before the next join is over, or the reason to wait is.
    RetryDue,
    /// The server accepted the current join.
    JoinAccepted,
    /// The server refused the current join.
    JoinRefused,
    /// The current join was not answered in time.
    JoinTimedOut,
    /// The server's channel crashed (`phx_error` of the current join).
    Crashed,
    /// The server closed the channel (`phx_close` of the current join).
    Shut,
    /// What the channel asks for changed, so that it has to join again.
    ConfigChanged,
    /// The application closes the channel.
    Close,
    /// The leave was answered, by a reply or by `phx_close`.
    LeaveAnswered,
    /// The leave was not answered in time.
    LeaveTimedOut,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: this is expected here and changes nothing.
    Ignore,
    /// Nothing, and it is counted: it belongs to an older join.
    Stale,
    /// Wait for a turn to join.
    Queue,
    /// Send the join → `Joining`.
    Join,
    /// Take the accepted join → `Joined`.
    Accept,
    /// → `Errored`; the cause decides when to try again.
    Fail,
    /// Send a leave, because the server may have joined after all, then → `Errored`.
    LeaveAndFail,
    /// → `Errored` until the connection is back.
    Park,
    /// End, unless the cause says that joining again helps → gone or `Errored`.
    Shut,
    /// Send the leave → `Leaving`.
    Leave,
    /// → gone.
    End,
}

/// The transition table. Every cell is a decision; there is no default row.
pub(crate) const fn step(state: ChannelState, input: Input) -> Step {
    use ChannelState::{Closed, Errored, Joined, Joining, Leaving};
    match (input, state) {
        (Input::SocketOpened, Closed | Errored) => Step::Queue,
        (Input::SocketOpened, Joining | Joined | Leaving) => Step::Ignore,

        (Input::SocketLost, Closed) => Step::Ignore,
        (Input::SocketLost, Joining | Joined | Errored) => Step::Park,
        (Input::SocketLost, Leaving) => Step::End,

        (Input::Turn, Closed | Joined | Errored) => Step::Join,
        (Input::Turn, Joining | Leaving) => Step::Ignore,

        (Input::RetryDue, Errored) => Step::Queue,
        (Input::RetryDue, Closed | Joining | Joined | Leaving) => Step::Ignore,

        (Input::JoinAccepted, Joining) => Step::Accept,
        (Input::JoinAccepted, Closed | Joined | Errored | Leaving) => Step::Stale,

        (Input::JoinRefused, Joining) => Step::Fail,
        (Input::JoinRefused, Closed | Joined | Errored | Leaving) => Step::Stale,

        (Input::JoinTimedOut, Joining) => Step::LeaveAndFail,
        (Input::JoinTimedOut, Closed | Joined | Errored | Leaving) => Step::Ignore,

        (Input::Crashed, Joining | Joined) => Step::Fail,
        (Input::Crashed, Leaving) => Step::End,
        (Input::Crashed, Closed | Errored) => Step::Stale,

        (Input::Shut, Joining | Joined) => Step::Shut,
        (Input::Shut, Leaving) => Step::End,
        (Input::Shut, Closed | Errored) => Step::Stale,

        (Input::ConfigChanged, Joined) => Step::Queue,
        // A join that is under way is looked at again when it is answered.
        (Input::ConfigChanged, Closed | Joining | Errored | Leaving) => Step::Ignore,

        (Input::Close, Closed | Errored) => Step::End,
        (Input::Close, Joining | Joined) => Step::Leave,
        (Input::Close, Leaving) => Step::Ignore,

        (Input::LeaveAnswered | Input::LeaveTimedOut, Leaving) => Step::End,
        (Input::LeaveAnswered | Input::LeaveTimedOut, Closed | Joining | Joined | Errored) => {
            Step::Stale
        }
    }
}

/// The state of one channel, with what only that state knows.
#[derive(Debug)]
pub(crate) enum State {
    Closed,
    Joining {
        join_ref: Ref,
        sent: Sent,
    },
    Joined(Joined),
    Errored {
        cause: Cause,
        retry_at: Option<Instant>,
    },
    Leaving {
        /// The join that is being left; its `phx_close` ends the channel too.
        join_ref: Ref,
        leave_ref: Ref,
    },
}

/// What a join asks for as it was written; nothing until the driver takes the frame.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The distinct bindings, in the order of the reply.
    pub(crate) bindings: Vec<Binding>,
    /// Presence, with its snapshot.
    pub(crate) presence: bool,
    /// What was missed.
    pub(crate) replay: bool,
    /// Whether another join of this connection came before, which the server may have accepted.
    pub(crate) renews: bool,
    /// The join of this connection that the server has until this one is written.
    pub(crate) replaces: Option<Ref>,
}

/// What is known of an accepted join.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) join_ref: Ref,
    /// The bindings that the join asked for, each once, with the ids the server gave them; none are
    /// given by a server without row changes.
    pub(crate) asked: Vec<(Binding, Option<u64>)>,
    /// The server's id of each binding of the channel.
    pub(crate) ids: Vec<(u64, BindingId)>,
    /// Whether the join asked for presence.
    pub(crate) presence: bool,
    /// Whether the presence snapshot is still to come.
    pub(crate) awaits_presence: bool,
    /// Whether row changes flow.
    pub(crate) rows: Rows,
    /// Whether the word that broadcasts of the database come is still to come.
    pub(crate) awaits_replication: bool,
    /// The `system` error that came last; it is the reason of the `phx_close` that follows it.
    pub(crate) trouble: Option<Cause>,
    /// Why it is to be joined again, if it is.
    pub(crate) rejoins: Option<Cause>,
}

/// Where a join stands with its row changes.
#[derive(Debug)]
pub(crate) enum Rows {
    /// It asked for none.
    Unasked,
    /// The server has not said yet that they flow, or tries again.
    Awaited,
    /// They flow.
    Flowing,
    /// The server said that they never will.
    Refused(Cause),
}

impl Joined {
    pub(crate) const fn is_live(&self) -> bool {
        let rows_are_in_order = matches!(self.rows, Rows::Unasked | Rows::Flowing);
        // What takes another join does not flow on this one.
        let is_whole = rows_are_in_order && self.rejoins.is_none();
        is_whole && !self.awaits_presence && !self.awaits_replication
    }

    /// The bindings of the channel that the join serves.
    pub(crate) fn served(&self) -> BindingSet {
        let mut served = BindingSet::default();
        self.ids.iter().for_each(|(_, binding)| served.insert(*binding));
        served
    }

    /// The server's id of a binding that the join asked for.
    pub(crate) fn id_of(&self, binding: &Binding) -> Option<u64> {
        self.asked.iter().find(|(asked, _)| asked == binding).and_then(|(_, id)| *id)
    }
}

impl State {
    pub(crate) const fn name(&self) -> ChannelState {
        match self {
            Self::Closed => ChannelState::Closed,
            Self::Joining { .. } => ChannelState::Joining,
            Self::Joined(_) => ChannelState::Joined,
            Self::Errored { .. } => ChannelState::Errored,
            Self::Leaving { .. } => ChannelState::Leaving,
        }
    }

    /// The join by which the server knows the channel, and by which it is left.
    pub(crate) fn known_join_ref(&self) -> Option<Ref> {
        let unwritten = match self {
            Self::Joining { sent, .. } => sent.replaces,
            Self::Closed | Self::Joined(_) | Self::Errored { .. } | Self::Leaving { .. } => None,
        };
        unwritten.or_else(|| self.join_ref())
    }

    /// The join that messages of the server must belong to.
    pub(crate) const fn join_ref(&self) -> Option<Ref> {
        match self {
            Self::Joining { join_ref, .. } | Self::Leaving { join_ref, .. } => Some(*join_ref),
            Self::Joined(joined) => Some(joined.join_ref),
            Self::Closed | Self::Errored { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;
    use std::format;
    use std::string::String;

    use super::*;

    #[test]
    fn the_transition_table_is_as_reviewed() {
        let mut table = String::new();
        write!(table, "{:14}", "").unwrap();
        for state in ChannelState::ALL {
            write!(table, "{state:>14}").unwrap();
        }
        for input in Input::ALL {
            write!(table, "\n{:14}", format!("{input:?}")).unwrap();
            for state in ChannelState::ALL {
                write!(table, "{:>14}", format!("{:?}", step(state, *input))).unwrap();
            }
        }
        insta::assert_snapshot!(table);
    }
}

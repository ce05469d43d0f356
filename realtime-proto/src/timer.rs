//! Every reason to wake, and the queue that tells which comes first.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::ids::{ChannelId, PushId};
use crate::time::Instant;

/// Every reason a client wakes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The connection that is being opened has taken too long.
    Connect,
    /// The delay before the next attempt to connect is over.
    Reconnect,
    /// The connection has lived long enough to count as good.
    Stable,
    /// The access token expires soon.
    TokenExpiring,
    /// There has been no channel for so long that the connection is not needed.
    Empty,
    /// The next heartbeat is due.
    Heartbeat,
    /// The heartbeat that was sent should have been answered by now.
    HeartbeatReply,
    /// The join budget has room again.
    JoinBudget,
    /// The join that was sent should have been answered by now.
    Join(ChannelId),
    /// The delay before the next join of this channel is over.
    Rejoin(ChannelId),
    /// The leave that was sent should have been answered by now.
    Leave(ChannelId),
    /// The presence budget of this channel has room again.
    Presence(ChannelId),
    /// Who is missing from this channel's presence since a reconnect counts as gone.
    PresenceGrace(ChannelId),
    /// The replay that this channel asked for has come, as far as it comes.
    Replay(ChannelId),
    /// The push has waited long enough.
    Push(ChannelId, PushId),
}

/// The armed timers, in the order of their deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Timer)>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms a timer, or moves it when it was armed.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.armed.insert(timer, at) {
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((at, timer));
    }

    /// When a timer fires, if it is armed.
    pub(crate) fn at(&self, timer: Timer) -> Option<Instant> {
        self.armed.get(&timer).copied()
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.armed.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    pub(crate) fn next(&self) -> Option<(Instant, Timer)> {
        self.queue.first().copied()
    }

    /// Disarms and returns the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_timer_that_is_moved_fires_once_at_its_new_time() {
        let at = |secs| Instant::from_epoch(Duration::from_secs(secs));
        let mut timers = Timers::default();
        timers.set(Timer::Heartbeat, at(1));
        timers.set(Timer::Connect, at(2));
        timers.set(Timer::Heartbeat, at(3));
        assert_eq!(timers.pop_due(at(5)), Some(Timer::Connect));
        assert_eq!(timers.pop_due(at(5)), Some(Timer::Heartbeat));
        assert_eq!(timers.pop_due(at(5)), None);
        assert_eq!(timers.next(), None);
    }
}

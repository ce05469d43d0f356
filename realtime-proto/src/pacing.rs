//! Joins in turn: the queue of channels that want to join, and the budget that paces them.

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use crate::ids::ChannelId;
use crate::time::Instant;

/// Channels in the order in which they join, at most so many a second.
///
/// A server that is asked for more joins a second than it allows ends the connection
/// (protocol §6.2), so the budget is kept on this side. One second's worth may go in a burst.
#[derive(Debug)]
pub(crate) struct JoinQueue {
    waiting: VecDeque<ChannelId>,
    members: BTreeSet<ChannelId>,
    /// The instant at which the budget would be full again; each join moves it by one interval.
    full_at: Instant,
    interval: Duration,
    /// Channels whose turn came while the access token was dead: each further join would only hold
    /// the connection for the seconds that a refusal takes.
    held: BTreeSet<ChannelId>,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// This channel's.
    Now(ChannelId),
    /// The next one's, but not before this instant.
    At(Instant),
    /// Nobody's.
    Nobody,
}

impl JoinQueue {
    const BURST: Duration = Duration::from_secs(1);

    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            members: BTreeSet::new(),
            full_at: now,
            interval: Duration::from_secs(1) / per_second.max(1),
            held: BTreeSet::new(),
        }
    }

    pub(crate) fn push(&mut self, channel: ChannelId) {
        if self.members.insert(channel) {
            self.waiting.push_back(channel);
        }
    }

    /// Gives up a channel's place, because it has something else to do than to join.
    pub(crate) fn remove(&mut self, channel: ChannelId) {
        self.members.remove(&channel);
        self.held.remove(&channel);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.members.clear();
        self.held.clear();
    }

    /// Sets a channel aside whose turn it was, until [`release`](Self::release). Its turn costs
    /// nothing.
    pub(crate) fn hold(&mut self, channel: ChannelId) {
        self.held.insert(channel);
        let full_at = self.full_at.since_epoch().saturating_sub(self.interval);
        self.full_at = Instant::from_epoch(full_at);
    }

    /// Lets the channels that were set aside wait for their turn again.
    pub(crate) fn release(&mut self) {
        for channel in core::mem::take(&mut self.held) {
            self.push(channel);
        }
    }

    /// Whether a channel waits for its turn.
    pub(crate) fn is_waiting(&self, channel: ChannelId) -> bool {
        self.members.contains(&channel)
    }

    /// Whether a channel was set aside.
    pub(crate) fn is_held(&self, channel: ChannelId) -> bool {
        self.held.contains(&channel)
    }

    /// Takes the next turn, if there is one now.
    pub(crate) fn take(&mut self, now: Instant) -> Turn {
        // A place that was given up stays in the line until it comes up.
        while self.waiting.front().is_some_and(|first| !self.members.contains(first)) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            return Turn::Nobody;
        }
        let spent = self.full_at.saturating_duration_since(now);
        if spent + self.interval > Self::BURST {
            // A budget of one join a second is spent by that one join and full a second later.
            let wait = (spent + self.interval).saturating_sub(Self::BURST);
            return Turn::At(now + wait);
        }
        let Some(channel) = self.waiting.pop_front() else {
            return Turn::Nobody;
        };
        self.members.remove(&channel);
        self.full_at = self.full_at.max(now) + self.interval;
        Turn::Now(channel)
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    use super::*;

    fn id(index: u32) -> ChannelId {
        ChannelId { index, generation: NonZeroU32::MIN }
    }

    #[test]
    fn a_burst_of_one_second_passes_and_the_rest_is_paced() {
        let start = Instant::EPOCH;
        let mut joins = JoinQueue::new(2, start);
        (0..5).for_each(|index| joins.push(id(index)));
        let second = start + Duration::from_secs(1);
        assert_eq!(joins.take(start), Turn::Now(id(0)));
        assert_eq!(joins.take(start), Turn::Now(id(1)));
        assert_eq!(joins.take(start), Turn::At(start + Duration::from_millis(500)));
        assert_eq!(joins.take(second), Turn::Now(id(2)));
        assert_eq!(joins.take(second), Turn::Now(id(3)));
        assert!(matches!(joins.take(second), Turn::At(_)));
    }

    #[test]
    fn a_channel_waits_for_one_turn_however_often_it_asks() {
        let mut joins = JoinQueue::new(50, Instant::EPOCH);
        joins.push(id(1));
        joins.push(id(1));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Now(id(1)));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Nobody);
    }

    #[test]
    fn a_place_that_was_given_up_is_passed_over() {
        let mut joins = JoinQueue::new(50, Instant::EPOCH);
        joins.push(id(1));
        joins.push(id(2));
        joins.remove(id(1));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Now(id(2)));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Nobody);
    }
}

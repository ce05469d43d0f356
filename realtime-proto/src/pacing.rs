//! Joins in turn: the queue of channels that want to join, and the budget that paces them.

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use crate::ids::ChannelId;
use crate::time::Instant;

/// Channels in the order in which they join, at most so many a second.
///
/// A server that is asked for more joins a second than it allows ends the connection
/// (protocol §6.2), so the budget is kept on this side. One second's worth may go in a burst. A join
/// counts when it leaves, and a driver that hangs lets those leave together that had their turn
/// one after another.
#[derive(Debug)]
pub(crate) struct JoinQueue {
    waiting: VecDeque<ChannelId>,
    members: BTreeSet<ChannelId>,
    /// The instant at which the budget would be full again; each join moves it by one interval.
    full_at: Instant,
    interval: Duration,
    /// How many had their turn whose join the driver has not taken yet.
    queued: u32,
    /// How many joins the driver took since the time was told last: they leave after that.
    taken: u32,
    /// When the last turn was given.
    given_at: Instant,
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
            queued: 0,
            taken: 0,
            given_at: now,
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
        self.held.remove(&channel);
        if self.members.remove(&channel) {
            self.waiting.retain(|waiting| *waiting != channel);
        }
    }

    /// The connection is gone, and with it all that waited for it.
    pub(crate) fn clear(&mut self) {
        self.queued = 0;
        self.waiting.clear();
        self.members.clear();
        self.held.clear();
    }

    /// Sets a channel aside whose turn it was, until [`release`](Self::release). Its turn costs
    /// nothing.
    pub(crate) fn hold(&mut self, channel: ChannelId) {
        self.held.insert(channel);
        self.queued = self.queued.saturating_sub(1);
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

    /// The driver took a join of the connection.
    pub(crate) fn on_taken(&mut self) {
        self.queued = self.queued.saturating_sub(1);
        self.taken += 1;
    }

    /// Takes the next turn, if there is one now.
    pub(crate) fn take(&mut self, now: Instant) -> Turn {
        if self.queued + self.taken > 0 {
            let taken = core::mem::take(&mut self.taken);
            // Unless the driver was seen at once, nobody knows when it took them.
            let late = if now > self.given_at + self.interval { taken } else { 0 };
            self.full_at = self.full_at.max(now + self.interval * (self.queued + late));
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
        self.queued += 1;
        self.given_at = now;
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

    /// Takes a turn whose join leaves at once.
    fn join(joins: &mut JoinQueue, now: Instant) -> Turn {
        let turn = joins.take(now);
        if matches!(turn, Turn::Now(_)) {
            joins.on_taken();
        }
        turn
    }

    #[test]
    fn a_burst_of_one_second_passes_and_the_rest_is_paced() {
        let start = Instant::EPOCH;
        let mut joins = JoinQueue::new(2, start);
        (0..5).for_each(|index| joins.push(id(index)));
        let second = start + Duration::from_secs(1);
        assert_eq!(join(&mut joins, start), Turn::Now(id(0)));
        assert_eq!(join(&mut joins, start), Turn::Now(id(1)));
        assert_eq!(join(&mut joins, start), Turn::At(start + Duration::from_millis(500)));
        assert_eq!(join(&mut joins, second), Turn::Now(id(2)));
        assert_eq!(join(&mut joins, second), Turn::Now(id(3)));
        assert!(matches!(join(&mut joins, second), Turn::At(_)));
    }

    #[test]
    fn turns_whose_joins_nobody_takes_are_spent_until_they_leave() {
        let seconds = |seconds| Instant::EPOCH + Duration::from_secs(seconds);
        let mut joins = JoinQueue::new(2, seconds(0));
        (0..5).for_each(|index| joins.push(id(index)));
        assert_eq!(joins.take(seconds(0)), Turn::Now(id(0)));
        assert_eq!(joins.take(seconds(0)), Turn::Now(id(1)));
        assert!(matches!(joins.take(seconds(9)), Turn::At(_)), "both may leave now");
        joins.on_taken();
        joins.on_taken();
        assert!(matches!(joins.take(seconds(20)), Turn::At(_)), "both may have left now");
        assert_eq!(joins.take(seconds(21)), Turn::Now(id(2)));
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
    fn a_line_that_does_not_move_holds_each_channel_once() {
        // Nobody's turn comes while the budget of this second is spent.
        let mut joins = JoinQueue::new(1, Instant::EPOCH);
        joins.push(id(0));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Now(id(0)));
        joins.push(id(1));
        for _ in 0..1_000 {
            joins.push(id(2));
            joins.remove(id(2));
        }
        assert!(matches!(joins.take(Instant::EPOCH), Turn::At(_)));
        assert_eq!(joins.waiting.len(), 1);
    }

    #[test]
    fn a_channel_that_is_set_aside_costs_no_turn_and_waits_again_once_released() {
        let mut joins = JoinQueue::new(1, Instant::EPOCH);
        joins.push(id(1));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Now(id(1)));
        joins.hold(id(1));
        assert_eq!(joins.take(Instant::EPOCH), Turn::Nobody);
        joins.release();
        assert_eq!(joins.take(Instant::EPOCH), Turn::Now(id(1)));
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

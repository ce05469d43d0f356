//! What will happen, ordered by time and then by the order in which it was planned.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use realtime_proto::Instant;

/// Future events. Two events of one instant happen in the order in which they were planned, so
/// that a run never depends on anything but its seed.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// When, in which order it was planned, and where among the events it is. Events stay where
    /// they are while the heap is put in order: they are large.
    order: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<T>>,
    /// Where there is no event.
    free: Vec<usize>,
    planned: u64,
}

/// More planned events than this no world takes.
const EVENTS_MAX: usize = 1_000_000;

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { order: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), planned: 0 }
    }

    /// Whether no more events are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.order.len() >= EVENTS_MAX
    }

    /// Plans an event, unless the agenda is full.
    pub(crate) fn plan(&mut self, at: Instant, event: T) {
        if self.is_full() {
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.order.push(Reverse((at, self.planned, place)));
        self.planned += 1;
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the first event that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.next_at().filter(|at| *at <= now)?;
        let Reverse((_, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn events_of_one_instant_happen_in_the_order_they_were_planned() {
        let later = Instant::EPOCH + Duration::from_secs(1);
        let mut agenda = Agenda::new();
        agenda.plan(later, 'b');
        agenda.plan(Instant::EPOCH, 'a');
        agenda.plan(later, 'c');
        assert_eq!(agenda.next_at(), Some(Instant::EPOCH));
        assert_eq!(agenda.pop_due(Instant::EPOCH), Some('a'));
        assert_eq!(agenda.pop_due(Instant::EPOCH), None);
        assert_eq!([agenda.pop_due(later), agenda.pop_due(later)], [Some('b'), Some('c')]);
    }
}

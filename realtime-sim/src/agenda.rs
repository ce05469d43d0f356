//! What will happen, ordered by time and then by the order in which it was planned.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use realtime_proto::Instant;

/// Future events. Two events of one instant happen in the order in which they were planned, so
/// that a run never depends on anything but its seed.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entries: BinaryHeap<Entry<T>>,
    planned: u64,
}

/// An event; the earlier of two is the greater, as the heap gives out the greatest.
#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    event: T,
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

/// More planned events than this is a flood, not a scenario.
const ENTRIES_MAX: usize = 1_000_000;

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: BinaryHeap::new(), planned: 0 }
    }

    /// # Panics
    ///
    /// When a million events wait.
    pub(crate) fn plan(&mut self, at: Instant, event: T) {
        assert!(self.entries.len() < ENTRIES_MAX, "{ENTRIES_MAX} events wait: this is a flood");
        self.entries.push(Entry { at, number: self.planned, event });
        self.planned += 1;
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.entries.peek().map(|entry| entry.at)
    }

    /// Takes the first event that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.next_at().filter(|at| *at <= now)?;
        self.entries.pop().map(|entry| entry.event)
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

//! What will happen, ordered by time and then by the order in which it was planned.

use std::collections::BTreeMap;

use realtime_proto::Instant;

/// Future events. Two events of one instant happen in the order in which they were planned, so
/// that a run never depends on anything but its seed.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entries: BTreeMap<(Instant, u64), T>,
    planned: u64,
}

/// More planned events than this is a flood, not a scenario.
const ENTRIES_MAX: usize = 1_000_000;

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: BTreeMap::new(), planned: 0 }
    }

    /// # Panics
    ///
    /// When a million events wait.
    pub(crate) fn plan(&mut self, at: Instant, event: T) {
        assert!(self.entries.len() < ENTRIES_MAX, "{ENTRIES_MAX} events wait: this is a flood");
        self.entries.insert((at, self.planned), event);
        self.planned += 1;
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first event that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
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

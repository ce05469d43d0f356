//! How many a second, on average over a minute.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::time::Instant;

/// A count in buckets of 5 s, whose average is taken anew whenever a bucket is full.
///
/// Protocol §6.5: a burst passes, and once the limit is reached it takes a while to fall below.
pub(super) struct Rate {
    full: VecDeque<u64>,
    filling: u64,
    ends_at: Instant,
}

impl Rate {
    const BUCKET_SECONDS: u64 = 5;
    const BUCKETS_MAX: usize = 12;

    pub(super) fn new(now: Instant) -> Self {
        Self { full: VecDeque::new(), filling: 0, ends_at: now + Self::span() }
    }

    const fn span() -> Duration {
        Duration::from_secs(Self::BUCKET_SECONDS)
    }

    pub(super) fn count(&mut self, now: Instant) {
        self.roll(now);
        self.filling = self.filling.saturating_add(1);
    }

    /// Whether the average of the full buckets has reached `limit` a second.
    pub(super) fn is_over(&mut self, limit: Option<u32>, now: Instant) -> bool {
        let Some(limit) = limit else {
            return false;
        };
        self.roll(now);
        let seconds = self.full.len() as u64 * Self::BUCKET_SECONDS;
        let sum = self.full.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        seconds > 0 && sum >= u64::from(limit).saturating_mul(seconds)
    }

    fn roll(&mut self, now: Instant) {
        if now < self.ends_at {
            return;
        }
        let late = now.saturating_duration_since(self.ends_at).as_secs() / Self::BUCKET_SECONDS;
        let filled = core::mem::take(&mut self.filling);
        self.push(filled);
        for _ in 0..late.min(Self::BUCKETS_MAX as u64) {
            self.push(0);
        }
        let passed = Duration::from_secs(Self::BUCKET_SECONDS.saturating_mul(late + 1));
        self.ends_at = self.ends_at + passed;
    }

    fn push(&mut self, count: u64) {
        if self.full.len() == Self::BUCKETS_MAX {
            self.full.pop_front();
        }
        self.full.push_back(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_passes_until_its_bucket_is_full_and_weighs_on_for_a_minute() {
        let mut rate = Rate::new(Instant::EPOCH);
        for _ in 0..600 {
            rate.count(at(0));
        }
        assert!(!rate.is_over(Some(10), at(4)));
        assert!(rate.is_over(Some(10), at(5)), "120 a second over the first 5 s");
        assert!(rate.is_over(Some(10), at(60)), "10 a second over 60 s");
        assert!(!rate.is_over(Some(10), at(65)), "the burst has left the window");
        assert!(!rate.is_over(None, at(5)));
    }

    #[test]
    fn a_long_silence_empties_the_window() {
        let mut rate = Rate::new(Instant::EPOCH);
        rate.count(at(1));
        assert!(rate.is_over(Some(0), at(5)));
        assert!(!rate.is_over(Some(1), at(u64::MAX / 2)));
        rate.count(at(u64::MAX));
    }
}

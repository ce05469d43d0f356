//! How long to wait before the next attempt.

use core::time::Duration;

use crate::rng::Rng;

/// A retry schedule: the ceiling of each delay, the jitter, and how often to try.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::{Backoff, Schedule};
///
/// let patient = Backoff::exponential(Duration::from_secs(3), Duration::from_secs(60))
///     .with_attempts_max(5);
/// let own = Backoff::new(Schedule::Custom(|attempt| Duration::from_millis(100) * attempt))
///     .without_jitter();
/// # let _ = (patient, own);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    schedule: Schedule,
    jitter: bool,
    attempts_max: Option<u32>,
}

/// The ceiling of each delay, by attempt.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// `first`, then twice the last, up to `max`.
    Exponential {
        /// The ceiling of the first delay.
        first: Duration,
        /// No ceiling is higher.
        max: Duration,
    },
    /// One entry an attempt, the last one for all that follow; an empty list is no delay.
    Steps(&'static [Duration]),
    /// A function of the attempt, which counts from 1.
    Custom(fn(attempt: u32) -> Duration),
}

/// Two custom schedules are equal when they are the same function.
impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Exponential { first, max },
                Self::Exponential { first: other_first, max: other_max },
            ) => first == other_first && max == other_max,
            (Self::Steps(steps), Self::Steps(other)) => steps == other,
            (Self::Custom(function), Self::Custom(other)) => {
                core::ptr::fn_addr_eq(*function, *other)
            }
            (Self::Exponential { .. } | Self::Steps(_) | Self::Custom(_), _) => false,
        }
    }
}

impl Eq for Schedule {}

impl Backoff {
    /// No delay is shorter, so that a retry never happens at the very instant of the failure.
    const FLOOR: Duration = Duration::from_millis(1);

    /// The schedule with full jitter and no limit on attempts.
    #[must_use]
    pub const fn new(schedule: Schedule) -> Self {
        Self { schedule, jitter: true, attempts_max: None }
    }

    /// An exponential schedule with full jitter: each delay is drawn between zero and a ceiling
    /// that doubles from `first` to `max`.
    #[must_use]
    pub const fn exponential(first: Duration, max: Duration) -> Self {
        Self::new(Schedule::Exponential { first, max })
    }

    /// The same schedule, each delay exactly as scheduled.
    ///
    /// Without jitter, all clients of a server that restarts come back at the same moment.
    #[must_use]
    pub const fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// The same schedule, given up after `attempts` retries.
    #[must_use]
    pub const fn with_attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// An exponential schedule from `first` on, to `max` unless `first` is longer, with the jitter
    /// and the attempts of this one.
    pub(crate) fn starting_with(&self, first: Duration, max: Duration) -> Self {
        let schedule = Schedule::Exponential { first, max: max.max(first) };
        Self { schedule, ..self.clone() }
    }

    /// The delay before retry number `attempt`, which counts from 1, or `None` when the budget is
    /// spent. Draws once.
    pub(crate) fn delay(&self, attempt: u32, rng: &mut Rng) -> Option<Duration> {
        if self.attempts_max.is_some_and(|max| attempt > max) {
            return None;
        }
        let ceiling = self.ceiling(attempt);
        let delay = if self.jitter { rng.up_to(ceiling) } else { ceiling };
        Some(delay.max(Self::FLOOR))
    }

    /// The longest delay there can be; `None` when that cannot be told, or when the budget runs
    /// out and no further attempt is made.
    pub(crate) fn longest(&self) -> Option<Duration> {
        if self.attempts_max.is_some() {
            return None;
        }
        match self.schedule {
            Schedule::Exponential { max, .. } => Some(max.max(Self::FLOOR)),
            Schedule::Steps(steps) => steps.iter().copied().max().or(Some(Self::FLOOR)),
            Schedule::Custom(_) => None,
        }
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        match self.schedule {
            Schedule::Exponential { first, max } => {
                let doublings = attempt.saturating_sub(1).min(31);
                first.saturating_mul(1 << doublings).min(max)
            }
            Schedule::Steps(steps) => {
                let at = (attempt.saturating_sub(1) as usize).min(steps.len().saturating_sub(1));
                steps.get(at).copied().unwrap_or_default()
            }
            Schedule::Custom(function) => function(attempt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum_and_never_overflows() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30));
        let ceilings = [1, 2, 3, 5, 6, 40, u32::MAX].map(|n| backoff.ceiling(n).as_secs());
        assert_eq!(ceilings, [1, 2, 4, 16, 30, 30, 30]);
    }

    #[test]
    fn the_first_retry_is_jittered_too() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30));
        let first = |seed| backoff.delay(1, &mut Rng::new(seed));
        assert_ne!(first(1), first(2));
        assert!((0..1_000).all(|seed| first(seed) <= Some(Duration::from_secs(1))));
    }

    #[test]
    fn a_spent_budget_gives_no_delay() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30))
            .with_attempts_max(2);
        let mut rng = Rng::new(0);
        assert!(backoff.delay(2, &mut rng).is_some());
        assert_eq!(backoff.delay(3, &mut rng), None);
    }
}

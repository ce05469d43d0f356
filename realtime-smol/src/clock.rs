//! Time and entropy, the two things the core never takes for itself.

use core::hash::BuildHasher;
use core::time::Duration;
use std::hash::RandomState;

use realtime_proto::Instant;

/// The monotonic clock of one machine; its epoch is the moment it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: std::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_epoch(self.epoch.elapsed())
    }

    /// The same point on the system's clock, or `None` when it lies beyond what that can say.
    pub(crate) fn to_std(self, at: Instant) -> Option<std::time::Instant> {
        self.epoch.checked_add(at.since_epoch())
    }
}

/// The wall clock's time since the Unix epoch; zero on a machine whose clock stands before it.
pub(crate) fn unix_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// A seed from the operating system, by way of the standard library's hasher keys.
pub(crate) fn entropy() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_way_to_the_system_clock_and_back() {
        let clock = Clock::start();
        let at = Instant::from_epoch(Duration::from_millis(1_500));
        assert_eq!(clock.to_std(at), Some(clock.epoch + Duration::from_millis(1_500)));
    }

    #[test]
    fn an_instant_beyond_the_system_clock_is_never() {
        let clock = Clock::start();
        assert_eq!(clock.to_std(Instant::from_epoch(Duration::MAX)), None);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(entropy(), entropy());
    }
}

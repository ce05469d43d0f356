//! A point in time that the driver supplies.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point on the driver's monotonic clock, counted from an epoch the driver chooses.
///
/// The core never reads a clock: every input carries one of these. Any epoch works as long as
/// it stays the same for the life of a machine; the start of the program is the usual choice.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::Instant;
///
/// let start = Instant::EPOCH;
/// let later = start + Duration::from_millis(1_500);
/// assert_eq!(later.saturating_duration_since(start), Duration::from_millis(1_500));
/// assert_eq!(later.to_string(), "1.500s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The driver's epoch itself.
    pub const EPOCH: Self = Self(Duration::ZERO);

    /// The instant that lies `elapsed` after the epoch.
    #[must_use]
    pub const fn from_epoch(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time since the epoch.
    #[must_use]
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this instant, or zero when `earlier` is in fact later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Addition saturates at the largest representable instant.
impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_saturates_instead_of_panicking() {
        let last = Instant::from_epoch(Duration::MAX);
        assert_eq!(last + Duration::from_secs(1), last);
    }
}

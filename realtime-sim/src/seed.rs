//! One number makes the whole world: every component draws from a child seed of its own.

use core::fmt;
use core::num::IntErrorKind;
use core::ops::Range;
use core::str::FromStr;
use core::time::Duration;
use std::collections::VecDeque;

/// The seed of a world.
///
/// Each component takes a child named after it, so that one component drawing more often does not
/// change what another one draws.
///
/// # Examples
///
/// ```
/// use realtime_sim::Seed;
///
/// let seed: Seed = "0x2a".parse()?;
/// assert_eq!(seed, Seed(42));
/// assert_eq!(seed.to_string(), "42");
/// assert_ne!(seed.child("link", 0), seed.child("link", 1));
/// # Ok::<(), realtime_sim::SeedError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the component `name`, number `index`.
    #[must_use]
    pub fn child(self, name: &str, index: u64) -> Self {
        let mut hash = Hash::new();
        hash.write(&self.0.to_le_bytes());
        hash.write(name.as_bytes());
        hash.write(&index.to_le_bytes());
        Self(Draw::new(Self(hash.value())).next())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Decimal, or hexadecimal behind `0x`.
impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|error| {
            let is_large = *error.kind() == IntErrorKind::PosOverflow;
            SeedError { text: text.into(), mistake: if is_large { TOO_LARGE } else { NO_SEED } }
        })
    }
}

/// The seeds that a test runs: the usual ones, or those that are asked for, one or a range.
///
/// # Examples
///
/// ```
/// use realtime_sim::seeds;
///
/// // In a test, what is asked for is `std::env::var("REALTIME_SIM_SEED").ok()`.
/// let asked: Option<String> = None;
/// for seed in seeds(0..100, asked.as_deref())? {
///     // World::seed(seed) …
///     # let _ = seed;
/// }
/// assert_eq!(seeds(0..100, Some("0x2a")), Ok(42..43));
/// assert_eq!(seeds(0..100, Some("500..1000")), Ok(500..1000));
/// # Ok::<(), realtime_sim::SeedError>(())
/// ```
///
/// # Errors
///
/// When what is asked for is neither a seed nor a range with a seed in it, or is the largest seed,
/// which no range holds.
pub fn seeds(usual: Range<u64>, asked: Option<&str>) -> Result<Range<u64>, SeedError> {
    let Some(text) = asked else { return Ok(usual) };
    let Some((first, end)) = text.split_once("..") else {
        let seed = text.parse::<Seed>()?.0;
        let end = seed.checked_add(1);
        return match end {
            Some(end) => Ok(seed..end),
            None => Err(SeedError { text: text.into(), mistake: LAST }),
        };
    };
    let range = first.parse::<Seed>()?.0..end.parse::<Seed>()?.0;
    if range.is_empty() {
        return Err(SeedError { text: text.into(), mistake: EMPTY });
    }
    Ok(range)
}

const NO_SEED: &str = "is no seed; write a decimal number, or 0x and hexadecimal digits";
const TOO_LARGE: &str = "is too large for a seed; the largest is 18446744073709551615";
const LAST: &str =
    "is the one seed that no range holds, since ranges leave their end out; take another";
const EMPTY: &str = "has no seed in it; the end of a range is left out, as in 0..1000";

/// A text is no seed, or no range of seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedError {
    text: String,
    mistake: &'static str,
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.text, self.mistake)
    }
}

impl core::error::Error for SeedError {}

/// The draws of one component, or the choices that a fuzzer makes instead.
#[derive(Debug)]
pub(crate) enum Draw {
    Seeded(u64),
    /// What is left of a fuzzer's bytes; when there are no more, every choice is the first.
    Chosen(VecDeque<u8>),
}

impl Draw {
    pub(crate) const fn new(seed: Seed) -> Self {
        Self::Seeded(seed.0)
    }

    pub(crate) fn chosen(bytes: &[u8]) -> Self {
        Self::Chosen(bytes.iter().copied().collect())
    }

    /// Whether there is more to choose from.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Chosen(bytes) if bytes.is_empty())
    }

    /// SplitMix64, or the next eight bytes.
    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::Seeded(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                z ^ (z >> 31)
            }
            Self::Chosen(bytes) => take(bytes, 8),
        }
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        match self {
            Self::Seeded(_) => {
                let product = u128::from(self.next()) * u128::from(bound);
                (product >> 64) as u64
            }
            // As few bytes as will do, so that a fuzzer's change of one changes one choice.
            Self::Chosen(bytes) => {
                let count = (64 - (bound - 1).leading_zeros()).div_ceil(8).max(1);
                take(bytes, count) % bound
            }
        }
    }

    /// A span in `0..=max`, in whole microseconds.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }
}

fn take(bytes: &mut VecDeque<u8>, count: u32) -> u64 {
    (0..count).fold(0, |number, _| number << 8 | u64::from(bytes.pop_front().unwrap_or(0)))
}

/// FNV-1a, 64 bits: the same on every platform and in every version.
#[derive(Clone, Debug)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    pub(crate) const fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_in_decimal_and_hexadecimal() {
        assert_eq!("7".parse(), Ok(Seed(7)));
        assert_eq!("0xFF".parse(), Ok(Seed(255)));
        let large = "99999999999999999999999".parse::<Seed>().unwrap_err().to_string();
        assert!(large.contains("is too large for a seed"), "{large}");
        assert!("seven".parse::<Seed>().unwrap_err().to_string().contains("`seven` is no seed"));
    }

    #[test]
    fn a_range_of_seeds_leaves_its_end_out_and_has_a_seed_in_it() {
        assert_eq!(seeds(3..5, None), Ok(3..5));
        assert_eq!(seeds(3..5, Some("7")), Ok(7..8));
        assert_eq!(seeds(3..5, Some("0x10..20")), Ok(16..20));
        let mistake = |text| seeds(3..5, Some(text)).unwrap_err().to_string();
        assert!(mistake("5..5").starts_with("`5..5` has no seed in it"));
        assert!(mistake("5..").starts_with("`` is no seed"));
        assert!(mistake("all").starts_with("`all` is no seed"));
        assert!(mistake("0..99999999999999999999999").contains("is too large for a seed"));
    }

    #[test]
    fn the_largest_seed_is_not_asked_for_in_vain() {
        let mistake = seeds(3..5, Some("18446744073709551615")).unwrap_err().to_string();
        assert!(mistake.contains("is the one seed that no range holds"), "{mistake}");
        let last = 18446744073709551614;
        assert_eq!(seeds(3..5, Some("18446744073709551614")), Ok(last..last + 1));
    }

    #[test]
    fn a_draw_stays_within_its_bound() {
        let mut draw = Draw::new(Seed(1));
        assert!((0..1_000).all(|_| draw.below(3) < 3));
        assert_eq!(draw.up_to(Duration::ZERO), Duration::ZERO);
        assert!((0..1_000).all(|_| draw.up_to(Duration::from_secs(1)) <= Duration::from_secs(1)));
    }
}

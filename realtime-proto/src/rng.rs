//! The seeded generator behind retry jitter.

use core::time::Duration;

/// SplitMix64: one `u64` of state, one addition and three multiplications a draw.
///
/// It decides nothing but how long a retry waits, so statistical quality is ample, and the same
/// seed gives the same sequence on every platform (G13).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A uniform span in `0..=max`, in whole microseconds, from exactly one draw.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        let product = u128::from(self.next_u64()) * (u128::from(micros) + 1);
        // The high half of the product is a value in 0..=micros without modulo bias worth naming.
        Duration::from_micros((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_match_the_published_splitmix64_sequence() {
        // Seed 1234567 of the reference implementation.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_draw_stays_within_its_bound() {
        let mut rng = Rng::new(7);
        for _ in 0..1_000 {
            assert!(rng.up_to(Duration::from_micros(3)) <= Duration::from_micros(3));
        }
        assert_eq!(rng.up_to(Duration::ZERO), Duration::ZERO);
        let _ = rng.up_to(Duration::MAX);
    }
}

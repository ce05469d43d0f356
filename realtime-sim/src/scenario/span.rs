//! How spans of time are written.

use core::fmt;
use core::time::Duration;

/// How a span of time is written: `1500us`, `1500ms`, `2s`, `3m`, `4h`, `5d`; the largest unit that
/// is whole, so that what is written is exact.
pub(super) struct Span(pub(super) Duration);

/// A hundred years: longer is a mistake.
pub(super) const SPAN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

const NANOS_PER_MS: u128 = 1_000_000;

/// Units and their nanoseconds, the largest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000 * NANOS_PER_MS),
    ("h", 3_600_000 * NANOS_PER_MS),
    ("m", 60_000 * NANOS_PER_MS),
    ("s", 1_000 * NANOS_PER_MS),
    ("ms", NANOS_PER_MS),
    ("us", 1_000),
    ("ns", 1),
];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fits = |(_, unit): &&(&str, u128)| nanos != 0 && nanos % unit == 0;
        let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("ms", NANOS_PER_MS));
        f.pad(&format!("{}{name}", nanos / unit))
    }
}

pub(super) fn read_span(word: &str) -> Result<Duration, String> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = word.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let nanos = match (number.parse::<u64>(), unit) {
        (Ok(number), Some((_, unit))) => u128::from(number).checked_mul(*unit),
        _ => None,
    };
    let nanos = nanos.filter(|nanos| *nanos <= SPAN_MAX.as_nanos()).ok_or_else(|| {
        format!("`{word}` is no span of at most 100 years; write 500us, 150ms, 2s, 3m, 4h or 5d")
    })?;
    const NANOS_PER_S: u128 = 1_000 * NANOS_PER_MS;
    Ok(Duration::new((nanos / NANOS_PER_S) as u64, (nanos % NANOS_PER_S) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_exactly_and_read_back() {
        let written = [
            (Duration::ZERO, "0ms"),
            (Duration::from_micros(1_500), "1500us"),
            (Duration::from_nanos(1_000_001), "1000001ns"),
            (Duration::from_millis(1_500), "1500ms"),
            (Duration::from_secs(7_200), "2h"),
            (SPAN_MAX, "36500d"),
        ];
        for (span, text) in written {
            assert_eq!(Span(span).to_string(), text);
            assert_eq!(read_span(text), Ok(span));
        }
        for text in
            ["", "5", "ms", "1.5s", "36501d", "99999999999999999999ms", "18446744073709551615d"]
        {
            assert!(read_span(text).is_err(), "{text}");
        }
    }
}

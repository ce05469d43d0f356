//! Timestamps of RFC 3339, which is how a server writes when a change was committed.

use core::time::Duration;

/// The time since the Unix epoch; `None` for what is no timestamp, and before 1970.
///
/// Digits beyond nanoseconds are dropped.
pub(super) fn unix_time(text: &str) -> Option<Duration> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let (nanos, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            (nanos(&rest[..end])?, &rest[end..])
        }
    };
    let days = days_since_epoch(year, month, day)?;
    // 60 is a leap second, which Unix time counts as the next.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = u64::try_from(local - offset(zone)?).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// The numbers of a text such as `2026-08-21`, each with its count of digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn nanos(digits: &str) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let padded = digits.bytes().chain(core::iter::repeat(b'0')).take(9);
    Some(padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')))
}

/// How many seconds a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes] = numbers(rest, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The days from 1 January 1970 to a date of the Gregorian calendar; `None` when there is no such
/// date.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Counting years from March puts the leap day at the end of the year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds as `date -u -d … +%s` prints them.
    #[test]
    fn timestamps_are_read_to_the_nanosecond() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2000-02-29T00:00:00.000Z", 951_782_400, 0),
            ("2000-03-01T00:00:00Z", 951_868_800, 0),
            ("2026-11-22T20:39:54.250Z", 1_795_379_994, 250_000_000),
            ("2026-11-22 20:39:54.25+00:00", 1_795_379_994, 250_000_000),
            ("2026-11-22t22:09:54.1234567899+01:30", 1_795_379_994, 123_456_789),
            ("2026-11-22T15:39:54-05:00", 1_795_379_994, 0),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0),
            ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
        ] {
            assert_eq!(unix_time(text), Some(Duration::new(seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_none() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T20:39:54",
            "2026-11-22T20:39Z",
            "2026-11-22T20:39:54.Z",
            "2026-11-22T20:39:54.25",
            "2026-11-22T20:39:54+1:00",
            "2026-11-22T20:39:54+24:00",
            "2026-11-22T24:00:00Z",
            "2026-11-22T20:39:61Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "+026-11-22T20:39:54Z",
            "2026-11-22T20:39:54Zx",
            "1969-12-31T23:59:59Z",
            "２026-11-22T20:39:54Z",
        ] {
            assert_eq!(unix_time(text), None, "{text}");
        }
    }
}

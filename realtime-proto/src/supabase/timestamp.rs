//! Timestamps as servers and browsers write them: RFC 3339 to Unix time and back.

use alloc::string::String;
use core::time::Duration;

const DAY: i64 = 24 * 60 * 60;

/// Reads an RFC 3339 timestamp as Unix time; `None` when it is none, or before 1970.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (year, rest) = digits::<4>(date)?;
    let (month, rest) = digits::<2>(rest.strip_prefix('-')?)?;
    let (day, rest) = digits::<2>(rest.strip_prefix('-')?)?;
    let in_month = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !in_month || !rest.is_empty() {
        return None;
    }
    let (hour, rest) = digits::<2>(time)?;
    let (minute, rest) = digits::<2>(rest.strip_prefix(':')?)?;
    let (second, rest) = digits::<2>(rest.strip_prefix(':')?)?;
    // A leap second is the one after it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, rest) = fraction(rest)?;
    let offset = offset_seconds(rest)?;
    let seconds = days_before(year, month, day) * DAY + hour * 3_600 + minute * 60 + second;
    Some(Duration::new(u64::try_from(seconds - offset).ok()?, nanos))
}

/// Writes Unix time as browsers do, in UTC and to the millisecond: `2026-11-22T20:39:54.250Z`.
pub(crate) fn format(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let millis = unix.subsec_millis();
    alloc::format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Exactly `N` digits, and what follows them.
fn digits<const N: usize>(text: &str) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(N)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, rest))
}

/// The nanoseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return None;
    }
    let (written, rest) = text.split_at(length);
    let nanos = written.bytes().chain(core::iter::repeat(b'0')).take(9);
    Some((nanos.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')), rest))
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = digits::<2>(rest)?;
    let (minutes, rest) = digits::<2>(rest.strip_prefix(':')?)?;
    (hours < 24 && minutes < 60 && rest.is_empty()).then(|| sign * (hours * 3_600 + minutes * 60))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from the first of January 1970 to a date of the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
const fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_in_years =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_in_months = (153 * month + 2) / 5;
    days_in_years + days_in_months + day - 1 - 719_468
}

/// The date so many days after the first of January 1970.
const fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        parse(text).map(|unix| unix.as_millis())
    }

    #[test]
    fn timestamps_are_read_as_unix_time() {
        // Checked with `date -u -d TEXT +%s%3N`.
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T20:39:54.250Z", 1_795_379_994_250),
            ("2026-11-22T21:39:54.25+01:00", 1_795_379_994_250),
            ("2026-11-22 15:09:54.250999-05:30", 1_795_379_994_250),
            ("2000-02-29T23:59:59.999999999Z", 951_868_799_999),
            ("2100-03-01T00:00:00z", 4_107_542_400_000),
        ];
        for (text, expected) in known {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        let wrong = [
            "",
            "2026-11-22",
            "2026-11-22T20:39:54",
            "2026-11-22T20:39:54.Z",
            "2026-11-22T20:39Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T20:39:54+1:00",
            "2026-11-22T20:39:54Zulu",
            "+026-11-22T20:39:54Z",
            "1969-12-31T23:59:59Z",
            "täglich um zwölf Uhr",
        ];
        for text in wrong {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_is_written_and_read_back() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..292_194 {
            let text = format(Duration::from_secs(days * 86_400));
            assert_eq!(text, std::format!("{year:04}-{month:02}-{day:02}T00:00:00.000Z"));
            assert_eq!(parse(&text), Some(Duration::from_secs(days * 86_400)), "{text}");
            day += 1;
            if day > days_in(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}

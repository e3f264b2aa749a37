//! Moments as people write and read them.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::units;
use crate::log::partition;

/// A moment on the command line: `2h` ago, or `2026-11-29T07:30:00Z` and the fronts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Since 1970, UTC.
    At(Duration),
}

impl Moment {
    /// Microseconds since 1970.
    pub fn micros(self, now: SystemTime) -> i64 {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = match self {
            Moment::Ago(ago) => now.saturating_sub(ago),
            Moment::At(at) => at,
        };
        i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = units::duration(text) {
            return Ok(Moment::Ago(ago));
        }
        let hint = || format!("{text:?} is neither a duration like 2h nor a time like 2026-11-29T07:30:00Z");
        absolute(text).map(Moment::At).ok_or_else(hint)
    }
}

fn absolute(text: &str) -> Option<Duration> {
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<u32>().ok();
    let mut parts = date.splitn(3, '-').map(number);
    let days = partition::days(parts.next()??, parts.next()??, parts.next()??)?;
    let mut parts = clock.splitn(3, ':').map(number);
    let (hour, minute, second) =
        (parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    let sound = hour < 24 && minute < 60 && second < 60;
    let seconds = u64::from(days) * 86_400 + u64::from(hour * 3600 + minute * 60 + second);
    sound.then_some(Duration::from_secs(seconds))
}

/// `2026-11-29 07:30:00.123456`, UTC.
pub(crate) fn stamp(micros: i64) -> String {
    let micros = micros.max(0) as u64;
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (day, of_day) = (u32::try_from(seconds / 86_400).unwrap_or(u32::MAX / 2), seconds % 86_400);
    let (year, month, day) = partition::civil(day);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

/// `12.3 ms`.
pub(super) fn took(micros: i64) -> String {
    match micros {
        short if short < 1000 => format!("{short} µs"),
        some if some < 1_000_000 => format!("{:.1} ms", some as f64 / 1e3),
        long if long < 120_000_000 => format!("{:.1} s", long as f64 / 1e6),
        longer => format!("{:.0} min", longer as f64 / 6e7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |text: &str| text.parse::<Moment>().map(|moment| moment.micros(now) / 1_000_000);
        assert_eq!(read("1h"), Ok(1_700_000_000 - 3600));
        for text in ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20", "2023-11-14T22:13:20"] {
            assert_eq!(read(text), Ok(1_700_000_000), "{text}");
        }
        assert_eq!(read("2023-11-14T22"), Ok(1_699_999_200));
        assert_eq!(read("2023-11-14"), Ok(1_699_920_000));
        for text in ["yesterday", "2023-02-30", "2023-11-14T25", "2023-11-14T22:61", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_shown_to_the_microsecond() {
        assert_eq!(stamp(1_700_000_000_123_456), "2023-11-14 22:13:20.123456");
        assert_eq!(
            [took(999), took(12_345), took(2_000_000), took(180_000_000)],
            ["999 µs", "12.3 ms", "2.0 s", "3 min"]
        );
    }
}

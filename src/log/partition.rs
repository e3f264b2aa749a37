//! Where a row belongs: its model and its hour, and the folder that says so in the way Hive, DuckDB, Spark and Athena
//! read: `model=fraud/date=2026-11-29/hour=07`. Pure.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder of rows without a model: calls that were never routed. Readers of Hive folders take it for NULL.
const NOBODY: &str = "__HIVE_DEFAULT_PARTITION__";

/// One model's hour.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The model; none: the call was never routed.
    pub model: Option<Arc<str>>,
    /// Whole hours since 1970, UTC.
    pub hour: u32,
}

impl Partition {
    /// Of what happened to `model` at `time`; before 1970 is 1970.
    pub fn new(model: Option<Arc<str>>, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Partition { model, hour: hour(since) }
    }

    /// `2026-11-29`.
    pub fn date(&self) -> String {
        let (year, month, day) = civil(self.hour / 24);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// The folder, below the table's.
    pub fn folder(&self) -> PathBuf {
        let model = self.model.as_deref().map_or_else(|| NOBODY.to_owned(), escape);
        [format!("model={model}"), format!("date={}", self.date()), format!("hour={:02}", self.hour % 24)]
            .iter()
            .collect()
    }

    /// The reverse of [`Partition::folder`], from the names of its three folders; none where they are none.
    pub fn read(model: &str, date: &str, hour: &str) -> Option<Self> {
        let model = match model.strip_prefix("model=")? {
            NOBODY => None,
            name => Some(unescape(name)?.into()),
        };
        let mut parts = date.strip_prefix("date=")?.splitn(3, '-').map(|part| part.parse::<u32>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let of_day = hour.strip_prefix("hour=")?.parse::<u32>().ok().filter(|hour| *hour < 24)?;
        Some(Partition { model, hour: days(year, month, day)? * 24 + of_day })
    }
}

/// The hour of a time since 1970.
pub fn hour(since: Duration) -> u32 {
    u32::try_from(since.as_secs() / 3600).unwrap_or(u32::MAX)
}

/// Year, month and day of a day since 1970, by the proleptic Gregorian calendar: years begin in March here, so that a
/// leap day is a year's last.
pub fn civil(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let moved = (5 * of_year + 2) / 153;
    let month = if moved < 10 { moved + 3 } else { moved - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    (year, month, of_year - (153 * moved + 2) / 5 + 1)
}

/// The reverse of [`civil`]; none for what is no day since 1970.
pub fn days(year: u32, month: u32, day: u32) -> Option<u32> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let moved = if month > 2 { month.checked_sub(3)? } else { month + 9 };
    let of_year = (153 * moved + 2) / 5 + day.checked_sub(1)?;
    let found = (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)?;
    (civil(found) == (if month <= 2 { year + 1 } else { year }, month, day)).then_some(found)
}

/// A name as a part of a path: what is no letter, digit, `-`, `_` or `.` becomes `%XX`, and so does a leading dot.
fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if index == 0 => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        match first {
            b'%' => {
                let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &behind[2..];
            }
            plain => {
                bytes.push(*plain);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar_and_come_back() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_786), (2026, 11, 29));
        for day in (0..60_000).step_by(13) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), Some(day));
        }
        for (year, month, day) in [(2026, 2, 30), (2026, 13, 1), (1969, 12, 31), (2026, 0, 1), (2026, 1, 0)] {
            assert_eq!(days(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn folders_say_model_and_hour_and_are_read_back() {
        for (model, written) in [
            (Some("fraud"), "model=fraud"),
            (Some("a/b c=ä"), "model=a%2Fb%20c%3D%C3%A4"),
            (Some("../x"), "model=%2E.%2Fx"),
            (None, "model=__HIVE_DEFAULT_PARTITION__"),
        ] {
            let partition = Partition { model: model.map(Into::into), hour: 20_786 * 24 + 7 };
            let folder = partition.folder();
            let parts: Vec<_> = folder.iter().map(|part| part.to_str().unwrap()).collect();
            assert_eq!(parts, [written, "date=2026-11-29", "hour=07"]);
            assert_eq!(Partition::read(parts[0], parts[1], parts[2]), Some(partition));
        }
        for (model, date, hour) in [
            ("fraud", "date=2026-11-29", "hour=07"),
            ("model=a%2", "date=2026-11-29", "hour=07"),
            ("model=a", "date=2026-11", "hour=07"),
            ("model=a", "date=2026-11-31", "hour=07"),
            ("model=a", "date=2026-11-29", "hour=24"),
        ] {
            assert_eq!(Partition::read(model, date, hour), None);
        }
    }
}

//! Quantities with their units: `5%`, `250ms`, `4MiB`. Each type can only hold a value in its range.
//!
//! A quantity without its unit is refused, for `timeout: 30` has hurt enough people already. Numbers are read as
//! decimals, never through floating point, so that what is written is what is in force: `0.1%` is exactly one in a
//! thousand. What has more digits than can be kept is refused too, instead of being rounded in silence.

use std::fmt;
use std::time::Duration;

/// A share of a whole in steps of 0.001 %: 0 to 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Everything.
    pub const ALL: Percent = Percent(100_000);
    /// Nothing.
    pub const NONE: Percent = Percent(0);
    /// One call in a hundred.
    pub const ONE: Percent = Percent(1000);

    /// From thousandths of a percent; `None` above 100,000.
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (thousandths <= 100_000).then_some(Percent(thousandths))
    }

    /// Thousandths of a percent, 0 to 100,000.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// As a probability, 0.0 to 1.0.
    pub fn probability(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }

    /// Whether `draw`, uniform in 32 bits, falls into it.
    pub fn takes(self, draw: u32) -> bool {
        let place = (u64::from(draw) * u64::from(Percent::ALL.0)) >> 32;
        place < u64::from(self.0)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// As `usize`, saturating.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Why a text is no quantity, and what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

/// A kind of quantity: its units, largest first, and how to speak of it.
struct Kind {
    name: &'static str,
    /// Name and length in the smallest unit.
    units: &'static [(&'static str, u64)],
    /// Units that may be meant where none is written.
    usual: (&'static str, &'static str),
    examples: &'static str,
    /// The most that may be written, in the smallest unit.
    most: u64,
}

/// Nanoseconds; at most ten years.
const TIME: Kind = Kind {
    name: "duration",
    units: &[
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ],
    usual: ("ms", "s"),
    examples: "250ms or 30s",
    most: 3650 * 86_400_000_000_000,
};

/// Bytes; at most 1024 TiB. The first four are those that a size is written in again.
const SIZE: Kind = Kind {
    name: "size",
    units: &[
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
    ],
    usual: ("KiB", "MiB"),
    examples: "64KiB or 4MiB",
    most: 1 << 50,
};

/// Reads a share, `0%` to `100%` in steps of 0.001 %.
pub fn percent(text: &str) -> Result<Percent, Refused> {
    let (number, unit) = split(text);
    if unit != "%" {
        return Err(refuse("is not a share", without_percent(number, unit)));
    }
    let thousandths = scaled(number, 1000).map_err(|wrong| match wrong {
        Wrong::NotANumber => refuse("is not a share", "write a share in percent, like 5% or 0.5%".into()),
        Wrong::TooFine => refuse("is finer than a share can be", "shares go in steps of 0.001%".into()),
        Wrong::TooLarge => over_all(),
    })?;
    u32::try_from(thousandths).ok().and_then(Percent::from_thousandths).ok_or_else(over_all)
}

/// Reads a part of something, `25%`, as 0.25; at most 10,000 %, in steps of 0.001 %.
pub fn ratio(text: &str) -> Result<f64, Refused> {
    let (number, unit) = split(text);
    let hint = || "write it in percent, like 25%; at most 10000%".to_owned();
    if unit != "%" {
        return Err(refuse("is not a part in percent", hint()));
    }
    match scaled(number, 1000) {
        Ok(thousandths @ 0..=10_000_000) => Ok(f64::from(thousandths as u32) / 100_000.0),
        Ok(_) | Err(Wrong::TooLarge) => Err(refuse("is more than a hundredfold", hint())),
        Err(Wrong::NotANumber) => Err(refuse("is not a part in percent", hint())),
        Err(Wrong::TooFine) => Err(refuse("is finer than can be said", "steps are 0.001%".into())),
    }
}

/// Reads a finite number, or a share like `0.5%` as 0.005.
pub fn amount(text: &str) -> Result<f64, Refused> {
    if text.trim_end().ends_with('%') {
        return ratio(text);
    }
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(refuse("is no number", "write a finite number like 0.2, or a share like 0.5%".into())),
    }
}

/// What a share without its sign may have meant.
fn without_percent(number: &str, unit: &str) -> String {
    if number.is_empty() || !unit.is_empty() {
        return "write a share in percent, like 5% or 0.5%".to_owned();
    }
    // 0.5 may be a half or half a percent: only its author knows.
    let fraction = number.contains('.').then(|| scaled(number, 100_000).ok()).flatten();
    match fraction.and_then(|fraction| Percent::from_thousandths(u32::try_from(fraction).ok()?)) {
        Some(share) => format!("write {share} for {number} of all, or {number}%"),
        None => format!("write a share in percent, like {number}%"),
    }
}

fn over_all() -> Refused {
    refuse("is more than everything", "a share is 0% to 100%".into())
}

/// Reads a duration, `250ms`; at most ten years.
pub fn duration(text: &str) -> Result<Duration, Refused> {
    quantity(text, &TIME).map(Duration::from_nanos)
}

/// Reads a size, `4MiB`; at most 1024 TiB.
pub fn size(text: &str) -> Result<Size, Refused> {
    quantity(text, &SIZE).map(Size)
}

fn quantity(text: &str, kind: &Kind) -> Result<u64, Refused> {
    let (number, unit) = split(text);
    let known = kind.units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let example = || format!("write a {} like {}", kind.name, kind.examples);
    if number.is_empty() {
        return Err(refuse(&format!("is not a {}", kind.name), example()));
    }
    if unit.is_empty() {
        let (small, large) = kind.usual;
        let hint = format!("say it, like {number}{small} or {number}{large} (units: {known})");
        return Err(refuse("has no unit", hint));
    }
    let Some((_, length)) = kind.units.iter().find(|(name, _)| *name == unit) else {
        let near = kind.units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let hint = match near {
            Some((name, _)) => format!("did you mean {number}{name}?"),
            None => format!("units: {known}"),
        };
        return Err(refuse(&format!("has the unit {unit:?}, which is unknown"), hint));
    };
    let value = scaled(number, *length).map_err(|wrong| match wrong {
        Wrong::NotANumber => refuse(&format!("is not a {}", kind.name), example()),
        Wrong::TooFine => refuse("has more digits than can be kept", "use a smaller unit".into()),
        Wrong::TooLarge => refuse("is too large", example()),
    })?;
    if value > kind.most {
        return Err(refuse("is too large", example()));
    }
    Ok(value)
}

/// Number and unit; what stands before the unit is taken as the number, well-formed or not.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

enum Wrong {
    NotANumber,
    TooFine,
    TooLarge,
}

/// `number` × `scale`, exactly.
fn scaled(number: &str, scale: u64) -> Result<u64, Wrong> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(Wrong::NotANumber);
    }
    let part = part.trim_end_matches('0');
    if part.len() > 15 {
        return Err(Wrong::TooFine);
    }
    let whole: u128 = whole.parse::<u64>().map_err(|_| Wrong::TooLarge)?.into();
    let divisor = 10_u128.pow(part.len() as u32);
    let part = if part.is_empty() { 0 } else { part.parse::<u128>().map_err(|_| Wrong::TooFine)? };
    let part = part * u128::from(scale);
    if part % divisor != 0 {
        return Err(Wrong::TooFine);
    }
    u64::try_from(whole * u128::from(scale) + part / divisor).map_err(|_| Wrong::TooLarge)
}

fn refuse(message: &str, hint: String) -> Refused {
    Refused { message: message.to_owned(), hint }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, length): &&(&str, u64)| self.0 >= *length && self.0.is_multiple_of(*length);
        let (name, length) = SIZE.units.iter().take(4).find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / length)
    }
}

/// Four digits behind the point where that says enough, else the power of ten: `0.4981`, `2`, `4.63e8`.
pub fn short_number(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if (1e-3..1e6).contains(&size) => {
            format!("{number:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{number:.2e}"),
    }
}

/// For people: `1,234,567`.
pub fn write_count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As the file would say it: in the largest unit that needs no decimals.
pub fn write_duration(duration: Duration) -> String {
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let whole = |(_, length): &&(&str, u64)| nanoseconds >= *length && nanoseconds.is_multiple_of(*length);
    let (name, length) = TIME.units.iter().find(whole).unwrap_or(&("s", 1_000_000_000));
    format!("{}{name}", nanoseconds / length)
}

/// For people: `3d 4h`, `2m 5s`, `0s`, the two largest units of whole seconds.
pub fn rough_duration(duration: Duration) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (length, name) in units {
        if rest >= length {
            parts.push(format!("{}{name}", rest / length));
            rest %= length;
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_have_commas_between_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(write_count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn numbers_are_short_and_never_round_to_nothing() {
        let numbers = [0.0, 2.0, 0.25, 0.498_06, -100.0, 2.38e-5, 463_000_000.0];
        assert_eq!(numbers.map(short_number), ["0", "2", "0.25", "0.4981", "-100", "2.38e-5", "4.63e8"]);
    }

    #[test]
    fn a_draw_falls_into_a_share_as_often_as_it_says() {
        assert!(!Percent::NONE.takes(0) && Percent::ALL.takes(u32::MAX));
        let share = Percent::from_thousandths(12_345).unwrap();
        let taken = (0..100_000).filter(|place| share.takes(place * 42_949)).count();
        assert!((12_344..=12_346).contains(&taken), "{taken}");
    }

    #[test]
    fn shares_are_exact() {
        let share = |text| percent(text).map(Percent::thousandths);
        assert_eq!(share("0.1%"), Ok(100));
        assert_eq!(share("33.333 %"), Ok(33_333));
        assert_eq!(share("100.000%"), Ok(100_000));
        assert_eq!(share("0%"), Ok(0));
        for bad in ["", "%", "5", "-1%", "100.001%", "0.0001%", "1e2%", ".5%", "5.%", "5%%", "1.2.3%", "٥%"]
        {
            assert!(percent(bad).is_err(), "{bad}");
        }
        assert_eq!(percent("0.5").unwrap_err().hint, "write 50% for 0.5 of all, or 0.5%");
        assert_eq!(percent("50").unwrap_err().hint, "write a share in percent, like 50%");
    }

    #[test]
    fn durations_are_exact() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0.25ms"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("3650d"), Ok(Duration::from_secs(3650 * 86_400)));
        for bad in
            ["", "5", "s", "1.5ns", "3651d", "99999999999999999999s", "5 minutes", "1h30m", "-1s", "inf"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size("1.5KiB"), Ok(Size(1536)));
        assert_eq!(size("4 MiB"), Ok(Size(4 << 20)));
        assert_eq!(size("4MB"), Ok(Size(4_000_000)));
        for bad in ["", "64", "4mib", "4M", "1.5B", "0x10B", "2000000GiB", "99999999999999999999B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(size("4mib").unwrap_err().hint, "did you mean 4MiB?");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanoseconds in 0_u64..TIME.most, bytes in 0_u64..SIZE.most, share in 0_u32..=100_000) {
            let time = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(duration(&write_duration(time)), Ok(time));
            prop_assert_eq!(size(&Size(bytes).to_string()), Ok(Size(bytes)));
            let share = Percent::from_thousandths(share).unwrap();
            prop_assert_eq!(percent(&share.to_string()), Ok(share));
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,30}") {
            let _ = (percent(&text), duration(&text), size(&text));
        }
    }

    #[test]
    fn people_are_told_the_two_largest_units() {
        let told = [(0, "0s"), (59, "59s"), (60, "1m"), (125, "2m 5s"), (3_601, "1h"), (90_000, "1d 1h")];
        for (seconds, text) in told {
            assert_eq!(rough_duration(Duration::from_secs(seconds)), text);
        }
    }
}

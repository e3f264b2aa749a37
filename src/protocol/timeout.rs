//! `grpc-timeout`: how long a caller is willing to wait.
//!
//! One to eight digits and a unit, nothing else: no sign, no space. What is forwarded is written as finely as eight
//! digits allow and rounded down, so that no server ever believes it has more time than there is.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// The header.
pub static HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// A `grpc-timeout` that says no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout `{0}` is not one to eight digits and one of H, M, S, m, u, n")]
pub struct BadTimeout(
    /// The value as it came, its first 32 bytes, escaped.
    pub Box<str>,
);

/// Reads a header's value. Zero is a time that has already passed.
///
/// # Errors
/// When it is not one to eight digits and a unit.
pub fn parse(value: &[u8]) -> Result<Duration, BadTimeout> {
    read(value).ok_or_else(|| BadTimeout(value[..value.len().min(32)].escape_ascii().to_string().into()))
}

fn read(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Nanoseconds in each unit, finest first.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// Writes a header's value: never longer than `timeout`, but for zero, which becomes one nanosecond, since not all
/// servers take a zero. Over 99,999,999 hours it is cut to that.
pub fn encode(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos().max(1);
    let (unit, size) = UNITS.into_iter().find(|(_, size)| nanos / size < 100_000_000).unwrap_or(UNITS[5]);
    let mut number = (nanos / size).min(99_999_999);
    let mut text = [unit; 9];
    let mut start = 8;
    while number > 0 {
        start -= 1;
        text[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    // Digits and a letter are a valid value, always.
    HeaderValue::from_bytes(&text[start..]).unwrap_or(HeaderValue::from_static("1n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        for (text, want) in [
            ("1H", Duration::from_secs(3600)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("00000007u", Duration::from_micros(7)),
            ("9n", Duration::from_nanos(9)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_all_else_and_says_what_it_was() {
        for text in ["", "n", "1", "1s", "1 S", " 1S", "1S ", "-1S", "+1S", "1.5S", "123456789n", "1SS", "ⅷS"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(b"5\xffx"), Err(BadTimeout("5\\xffx".into())));
        assert_eq!(parse(&[b'9'; 100]).map_err(|bad| bad.0.len()), Err(32));
    }

    #[test]
    fn writes_as_finely_as_fits() {
        for (timeout, want) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_secs(1), "1000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(86_400), "86400000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(encode(timeout), want, "{timeout:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_no_longer_and_hardly_shorter(secs in 0..200_000_000_000_u64, nanos in 1..1_000_000_000_u32) {
            let timeout = Duration::new(secs, nanos);
            let read = parse(encode(timeout).as_bytes()).expect("what we write, we read");
            prop_assert!(read <= timeout);
            prop_assert!(timeout.as_secs_f64() - read.as_secs_f64() <= timeout.as_secs_f64() * 1e-5);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(timeout) = parse(&bytes) {
                prop_assert!(timeout <= Duration::from_secs(99_999_999 * 3600));
            }
        }
    }
}

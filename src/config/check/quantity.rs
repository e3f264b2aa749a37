//! Numbers and quantities: read, and held in their range.

use std::time::Duration;

use super::Check;
use crate::config::problem::Problem;
use crate::config::raw;
use crate::config::units::{self, Percent, Refused, Size};

impl Check<'_> {
    pub(super) fn count(&mut self, path: &str, written: Option<&raw::Count>, default: u64, most: u64) -> u64 {
        let Some(written) = written.map(|count| &count.0) else { return default };
        let number = match written {
            raw::Written::Number(number) => number.as_u64().filter(|number| (1..=most).contains(number)),
            raw::Written::Text(_) => None,
        };
        number.unwrap_or_else(|| {
            let range =
                if most == usize::MAX as u64 { "above 0".to_owned() } else { format!("from 1 to {most}") };
            let problem = Problem::new(path, format!("is not a whole number {range}"));
            self.error(problem.with_value(written.shown()).with_hint(format!("the default is {default}")));
            default
        })
    }

    pub(super) fn size(
        &mut self,
        path: &str,
        written: Option<&raw::Bytes>,
        default: u64,
        range: (u64, u64),
    ) -> Size {
        let Some(size) = written.and_then(|bytes| self.quantity(path, &bytes.0, units::size)) else {
            return Size(default);
        };
        let (least, most) = (Size(range.0), Size(range.1));
        if size < least || size > most {
            let text =
                if size < least { format!("is less than {least}") } else { format!("is more than {most}") };
            let hint = format!("the default is {}", Size(default));
            self.error(Problem::new(path, text).with_value(size.to_string()).with_hint(hint));
        }
        size
    }

    pub(super) fn positive(
        &mut self,
        path: &str,
        written: Option<&raw::Span>,
        default: Duration,
    ) -> Duration {
        let Some(duration) = self.duration(path, written.map(|span| &span.0)) else { return default };
        self.above_zero(path, duration);
        duration
    }

    pub(super) fn above_zero(&mut self, path: &str, duration: Duration) {
        if duration.is_zero() {
            self.error(
                Problem::new(path, "is no time at all")
                    .with_value("0s")
                    .with_hint("write a duration above 0s"),
            );
        }
    }

    pub(super) fn duration(&mut self, path: &str, written: Option<&raw::Written>) -> Option<Duration> {
        self.quantity(path, written?, units::duration)
    }

    pub(super) fn share(&mut self, path: &str, written: Option<&raw::Share>) -> Option<Percent> {
        self.quantity(path, &written?.0, units::percent)
    }

    pub(super) fn ratio(&mut self, path: &str, written: Option<&raw::Ratio>) -> Option<f64> {
        self.quantity(path, &written?.0, units::ratio)
    }

    pub(super) fn amount(&mut self, path: &str, written: &raw::Amount) -> Option<f64> {
        self.quantity(path, &written.0, units::amount)
    }

    pub(super) fn quantity<T>(
        &mut self,
        path: &str,
        written: &raw::Written,
        read: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let text = match written {
            raw::Written::Number(number) => {
                self.source.written(path).map_or(number.to_string(), str::to_owned)
            }
            raw::Written::Text(text) => text.clone(),
        };
        match read(&text) {
            Ok(value) => Some(value),
            Err(refused) => {
                let shown = match written {
                    raw::Written::Number(_) => text,
                    text => text.shown(),
                };
                self.error(Problem::new(path, refused.message).with_value(shown).with_hint(refused.hint));
                None
            }
        }
    }
}

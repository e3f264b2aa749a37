//! Numbers as a scenario writes them, and what is refused about them.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use crate::config::document::Document;
use crate::config::{Problem, units};

/// `5%`, and more than everything where that has a meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::simulate) struct Part(pub(in crate::simulate) f64);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Span(pub(super) Duration);

/// A number; none where it is left out, or was refused already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl Default for Number {
    fn default() -> Self {
        Number(f64::NAN)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.map_or_else(Number::default, Number))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Null stands where something was refused already.
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(Part::default()) };
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number.filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => Ok(Part(number / 100.0)),
            None => Err(Error::invalid_value(Unexpected::Str(&text), &"a share like 5%")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(Span::default()) };
        let wrong = |_| Error::invalid_value(Unexpected::Str(&text), &"a duration like 90s or 24h");
        units::duration(&text).map(Span).map_err(wrong)
    }
}

pub(super) fn positive(document: &mut Document, path: &str, number: f64) {
    if !(number.is_finite() && number > 0.0) {
        document.refuse(shown(Problem::new(path, "is not above 0"), number).with_hint("write more"));
    }
}

pub(super) fn at_least_zero(document: &mut Document, path: &str, number: f64) {
    if !(number.is_finite() && number >= 0.0) {
        let problem = shown(Problem::new(path, "is not a number from 0 on"), number);
        document.refuse(problem.with_hint("1 is as the baseline, 3 is three times as many"));
    }
}

/// With the number, where there is one.
fn shown(problem: Problem, number: f64) -> Problem {
    if number.is_nan() { problem } else { problem.with_value(number.to_string()) }
}

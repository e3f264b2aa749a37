//! Reports as the server is told of them: one call of a script for a batch.

use std::fmt::Write as _;

use ::redis::{Cmd, Value, cmd};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::time::timeout;

use super::{PATIENCE, Redis};
use crate::config::Join;
use crate::fleet::StoreError;
use crate::fleet::reports::{Batch, Claim, Found, Known, MOST, Reports, Shelf, Telling};

/// What the server executes.
pub(super) const SCRIPT: &str = include_str!("../reports.lua");

impl Reports for Redis {
    fn tell<'a>(&'a self, model: &'a str, replica: &'a str, batch: &'a Batch) -> Telling<'a> {
        Box::pin(async move {
            let call = |whole| self.telling(whole, (model, replica), batch);
            match timeout(PATIENCE + PATIENCE / 2, self.run(&call)).await {
                Ok(said) => found(&said?, batch.claims.len()).ok_or_else(|| {
                    StoreError::Foreign("an answer of another shape than is written there".to_owned())
                }),
                Err(_) => {
                    self.drop_link();
                    Err(StoreError::Away("no answer in time".to_owned()))
                }
            }
        })
    }
}

impl Redis {
    fn telling(&self, whole: bool, (model, replica): (&str, &str), batch: &Batch) -> Cmd {
        let tag = format!("{{{}:{model}}}", self.config.prefix);
        let mut call = match whole {
            true => cmd("EVAL").arg(SCRIPT).take(),
            false => cmd("EVALSHA").arg(self.reports.get_hash()).take(),
        };
        call.arg(3 + batch.shelves.len());
        for key in ["model".to_owned(), format!("heard:{replica}"), "held".to_owned()] {
            call.arg(format!("{tag}:{key}"));
        }
        for Shelf { track, bin, .. } in &batch.shelves {
            call.arg(format!("{tag}:reports:{track:08x}:{bin}"));
        }
        let lasts: Vec<u64> = batch
            .shelves
            .iter()
            .map(|shelf| u64::try_from(shelf.lasts.as_millis()).unwrap_or(u64::MAX))
            .collect();
        let claims: Vec<serde_json::Value> = batch.claims.iter().map(claim).collect();
        let said =
            json!({ "number": batch.number.to_string(), "most": MOST, "lasts": lasts, "claims": claims });
        call.arg(said.to_string());
        call
    }
}

fn claim(claim: &Claim) -> serde_json::Value {
    let Claim { shelf, key, mark, join, told, known } = claim;
    let how = match join {
        Join::First => "first",
        Join::Last => "last",
        Join::Sum => "sum",
        Join::Max => "max",
    };
    let short = |key: &u64| URL_SAFE_NO_PAD.encode(key.to_be_bytes());
    let (mark, known) =
        (mark.as_ref().map(short).unwrap_or_default(), known.map(written).unwrap_or_default());
    // Numbers as text: whatever a script makes of them, they come back as they were.
    let (value, at, expected) = (told.value.to_string(), told.at.to_string(), told.expected.to_string());
    json!([shelf + 1, short(key), mark, how, value, at, expected, known])
}

fn written(known: Known) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{} {} {}", known.value, known.at, known.expected);
    text
}

/// What the script returned; none: it is of another shape.
fn found(said: &Value, claims: usize) -> Option<Vec<Found>> {
    let text = match said {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        _ => return None,
    };
    let found: Option<Vec<Found>> = text.split('\n').map(one).collect();
    found.filter(|found| found.len() == claims)
}

fn one(text: &str) -> Option<Found> {
    match text {
        "+" => Some(Found::First),
        "!" => Some(Found::Repeated),
        "#" => Some(Found::Full),
        known => {
            let mut words = known.split(' ');
            let known = Known {
                value: words.next()?.parse().ok()?,
                at: words.next()?.parse().ok()?,
                expected: words.next()?.parse().ok()?,
            };
            words.next().is_none().then_some(Found::Before(known))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let known = Known { value: -0.1, at: 7, expected: f32::NAN };
        assert_eq!(written(known), "-0.1 7 NaN");
        let said = Value::BulkString(b"+\n-0.1 7 0.25\n!\n#".to_vec());
        let before = Found::Before(Known { value: -0.1, at: 7, expected: 0.25 });
        assert_eq!(found(&said, 4), Some(vec![Found::First, before, Found::Repeated, Found::Full]));
        assert_eq!(found(&said, 3), None);
        assert_eq!(found(&Value::BulkString(b"1 2".to_vec()), 1), None);
        assert_eq!(found(&Value::Okay, 1), None);
        assert!(matches!(one("0.5 1 NaN"), Some(Found::Before(known)) if known.expected.is_nan()));
    }

    #[test]
    fn a_report_takes_few_bytes() {
        let told = Known { value: 1.0, at: 123_456, expected: 0.512_34 };
        let text =
            claim(&Claim { shelf: 0, key: u64::MAX >> 1, mark: None, join: Join::First, told, known: None });
        assert!(text.to_string().len() <= 60, "{text}");
    }
}

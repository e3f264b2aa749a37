//! What is wrong with a configuration, said to a person: where, what, and what would be right.
//!
//! All problems are collected and shown together, for a file that is corrected one message at a time costs its
//! author one deployment per message. One problem takes one to three lines.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the configuration: `models.fraud.strategy.weights.v2`; empty where it is the whole of it.
    pub path: String,
    /// Where in the text: `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The offending value, shortened where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at `path`, to be completed by the `with_` functions.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { path: path.into(), place: None, value: None, message: message.into(), hint: None }
    }

    /// Adds the offending value.
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(shorten(value.into()));
        self
    }

    /// Adds what would be right.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place in the text, unless there is none.
    pub fn with_place(mut self, place: Option<String>) -> Self {
        self.place = place.or(self.place);
        self
    }
}

/// Long values are cut, so that a problem stays readable.
fn shorten(value: String) -> String {
    const MOST: usize = 80;
    if value.chars().count() <= MOST {
        return value;
    }
    let mut short: String = value.chars().take(MOST - 1).collect();
    short.push('…');
    short
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "configuration" } else { &self.path };
        write!(f, "{path}")?;
        if let Some(place) = &self.place {
            write!(f, "  ({place})")?;
        }
        match &self.value {
            Some(value) => write!(f, "\n    {value}: {}", self.message)?,
            None => write!(f, "\n    {}", self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\n    → {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, in the order of the text; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Self {
        Errors(vec![problem])
    }
}

/// The known name nearest to `name`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    // In a name of two letters, one other letter is another name.
    let allowed = name.chars().count() / 3;
    known
        .into_iter()
        .map(|known| (distance(&name, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `did you mean X?`, else the list of what is known.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// How many letters to insert, drop, replace or swap with their neighbour to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

//! The policy that is to be judged, as it is written.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::Logged;
use crate::config::units;

/// As on the command line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Policy {
    /// The same chance for every call, by variant.
    Shares(BTreeMap<String, f64>),
    /// From a file.
    File(PathBuf),
}

/// Ready to be asked.
#[derive(Debug)]
pub(super) enum Ready {
    Shares(BTreeMap<String, f64>),
    /// By prediction, in the order of the names.
    Rows {
        names: Vec<String>,
        rows: HashMap<u128, Vec<f64>>,
    },
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Policy::File(path.into()));
        }
        if !text.contains('=') {
            return Ok(Policy::Shares(BTreeMap::from([(text.to_owned(), 1.0)])));
        }
        let mut shares = BTreeMap::new();
        for part in text.split(',') {
            let (name, share) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is no VARIANT=SHARE"))?;
            let share = units::percent(share.trim())
                .map_err(|refused| format!("{part:?}: {refused}; {}", refused.hint))?;
            if shares.insert(name.trim().to_owned(), share.probability()).is_some() {
                return Err(format!("{name:?} has two shares"));
            }
        }
        sums_to_one(shares.values().copied())
            .then_some(Policy::Shares(shares))
            .ok_or_else(|| "the shares are not 100% together".to_owned())
    }
}

fn sums_to_one(chances: impl Iterator<Item = f64>) -> bool {
    (chances.sum::<f64>() - 1.0).abs() < 1e-6
}

impl Policy {
    /// Reads the file, where it is one.
    pub(super) fn read(&self) -> Result<Ready, String> {
        match self {
            Policy::Shares(shares) => Ok(Ready::Shares(shares.clone())),
            Policy::File(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                rows(&text).map_err(|wrong| format!("{}: {wrong}", path.display()))
            }
        }
    }
}

fn rows(text: &str) -> Result<Ready, String> {
    let mut lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let (_, head) = lines.next().ok_or("is empty; its first line is prediction_uuid,VARIANT,…")?;
    let mut head = head.split(',').map(str::trim);
    let names: Vec<String> = match head.next() {
        Some("prediction_uuid") => head.map(str::to_owned).collect(),
        _ => return Err("the first line does not begin with prediction_uuid".to_owned()),
    };
    if names.is_empty() {
        return Err("the first line names no variant".to_owned());
    }
    let mut rows = HashMap::new();
    for (index, line) in lines {
        let wrong = |what: &str| format!("line {}: {what}", index + 1);
        let mut cells = line.split(',').map(str::trim);
        let uuid = cells
            .next()
            .and_then(|cell| Uuid::try_parse(cell).ok())
            .ok_or_else(|| wrong("begins with no UUID"))?;
        let chances: Option<Vec<f64>> =
            cells.map(|cell| cell.parse().ok().filter(|chance: &f64| (0.0..=1.0).contains(chance))).collect();
        let chances = chances.filter(|chances| chances.len() == names.len());
        let chances = chances.ok_or_else(|| wrong("has not one probability from 0 to 1 for each variant"))?;
        if !sums_to_one(chances.iter().copied()) {
            return Err(wrong("the probabilities are not 1 together"));
        }
        rows.insert(uuid.as_u128(), chances);
    }
    Ok(Ready::Rows { names, rows })
}

impl Ready {
    fn names(&self) -> Vec<&str> {
        match self {
            Ready::Shares(shares) => {
                shares.iter().filter(|(_, share)| **share > 0.0).map(|(name, _)| &**name).collect()
            }
            Ready::Rows { names, .. } => names.iter().map(String::as_str).collect(),
        }
    }

    /// Whether all that it may do was done at least once.
    pub(super) fn check(&self, actions: &[Arc<str>], counts: &BTreeMap<Arc<str>, u64>) -> Result<(), String> {
        if actions.is_empty() {
            return Ok(());
        }
        match self.names().into_iter().find(|name| counts.get(*name).is_none_or(|count| *count == 0)) {
            Some(name) => Err(format!(
                "{name} was never given a logged call, so nobody can know what it would have earned; there are {}",
                actions.join(", ")
            )),
            None => Ok(()),
        }
    }

    /// How likely it would have given the call to each action; none where it says nothing of the call.
    pub(super) fn chances(&self, logged: &Logged, actions: &[Arc<str>]) -> Option<Vec<f64>> {
        let by_name = |find: &dyn Fn(&str) -> f64| actions.iter().map(|action| find(action)).collect();
        match self {
            Ready::Shares(shares) => Some(by_name(&|name| shares.get(name).copied().unwrap_or(0.0))),
            Ready::Rows { names, rows } => {
                let row = rows.get(&logged.prediction.as_u128())?;
                let find =
                    |name: &str| names.iter().position(|one| one == name).and_then(|at| row.get(at)).copied();
                Some(by_name(&|name| find(name).unwrap_or(0.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        assert_eq!("v2".parse(), Ok(Policy::Shares(BTreeMap::from([("v2".to_owned(), 1.0)]))));
        assert_eq!("file:a.csv".parse(), Ok(Policy::File("a.csv".into())));
        let shares = BTreeMap::from([("v1".to_owned(), 0.2), ("v2".to_owned(), 0.8)]);
        assert_eq!("v1=20%, v2=80%".parse(), Ok(Policy::Shares(shares)));
        for text in ["v1=20%,v2=70%", "v1=20,v2=80", "v1=50%,v1=50%", "v1=50%,v2"] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        let uuid = Uuid::from_u128(7);
        let good = format!("prediction_uuid, v1, v2\n\n{uuid}, 0.25, 0.75\n");
        let Ready::Rows { names, rows: found } = rows(&good).unwrap() else { panic!("{good}") };
        assert_eq!((names.len(), &found[&7]), (2, &vec![0.25, 0.75]));
        for (text, wrong) in [
            (String::new(), "is empty"),
            ("id,v1\n".to_owned(), "does not begin with prediction_uuid"),
            ("prediction_uuid\n".to_owned(), "names no variant"),
            (format!("prediction_uuid,v1\n{uuid},0.5"), "line 2: the probabilities are not 1"),
            (format!("prediction_uuid,v1\n{uuid},2"), "line 2: has not one probability"),
            ("prediction_uuid,v1\nx,1".to_owned(), "line 2: begins with no UUID"),
        ] {
            let said = rows(&text).unwrap_err();
            assert!(said.contains(wrong), "{said}");
        }
    }
}

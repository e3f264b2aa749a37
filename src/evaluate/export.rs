//! The rounds with the keys of the Open Bandit Pipeline: as JSON for its estimators, or as CSV like its data sets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::rounds::Rounds;

/// Writes a `.csv` file with `timestamp, item_id, position, click, action_prob`, or JSON with the fields of its logged
/// bandit feedback. `context` is the second of the day, for the log has no features of a call; `unit` is the part that a
/// unit's rounds are in, to be resampled by.
pub(super) fn write(path: &Path, rounds: &Rounds) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => csv(rounds, &mut out)?,
        _ => writeln!(out, "{}", feedback(rounds))?,
    }
    out.flush()
}

fn csv(rounds: &Rounds, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "timestamp,item_id,position,click,action_prob")?;
    for one in &rounds.all {
        writeln!(out, "{},{},1,{},{}", one.time as f64 / 1e6, one.action, one.reward, one.propensity)?;
    }
    Ok(())
}

fn feedback(rounds: &Rounds) -> Value {
    let actions = rounds.actions.len();
    let each = || rounds.all.iter();
    let identity = |row: usize| (0..actions).map(|column| u8::from(row == column)).collect::<Vec<_>>();
    json!({
        "n_rounds": rounds.all.len(),
        "n_actions": actions,
        "action": each().map(|one| one.action).collect::<Vec<_>>(),
        "position": null,
        "reward": each().map(|one| one.reward).collect::<Vec<_>>(),
        "pscore": each().map(|one| one.propensity).collect::<Vec<_>>(),
        "context": each().map(|one| [one.time / 1_000_000 % 86_400]).collect::<Vec<_>>(),
        "action_context": (0..actions).map(identity).collect::<Vec<_>>(),
        "action_names": rounds.actions,
        "timestamp": each().map(|one| one.time as f64 / 1e6).collect::<Vec<_>>(),
        "unit": each().map(|one| one.part).collect::<Vec<_>>(),
        "prediction_uuid": each().map(|one| one.prediction.to_string()).collect::<Vec<_>>(),
    })
}

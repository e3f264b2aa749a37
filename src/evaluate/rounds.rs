//! The rounds of a log: calls that were left to chance, with what came of them.

use super::*;

/// Parts that rounds are summed in.
pub(super) const PARTS: usize = 256;

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logged {
    pub(super) prediction: uuid::Uuid,
    /// Microseconds since 1970.
    pub(super) time: i64,
    /// Index into [`Rounds::actions`].
    pub(super) action: usize,
    /// How likely that was; above 0.
    pub(super) propensity: f64,
    pub(super) reward: f64,
    /// By the unit, so that all of a unit's rounds are in one.
    pub(super) part: u8,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) model: Option<String>,
    /// Names of variants, sorted.
    pub(super) actions: Vec<std::sync::Arc<str>>,
    pub(super) all: Vec<Logged>,
    /// Calls that are no rounds, by why.
    pub(super) left_out: BTreeMap<&'static str, u64>,
}

/// A call before all names are known.
struct Call {
    prediction: u128,
    time: i64,
    assigned: std::sync::Arc<str>,
    propensity: f64,
    part: u8,
}

impl Rounds {
    /// Reads them; what is wrong where that is nothing to read.
    pub(super) fn read(reader: &mut Reader, options: &Options, now: SystemTime) -> Result<Self, String> {
        let rewards = rewards(reader, options)?;
        let mut rounds = Rounds::default();
        let calls = rounds.calls(reader, options, now)?;
        let mut names: Vec<std::sync::Arc<str>> =
            calls.iter().map(|call| std::sync::Arc::clone(&call.assigned)).collect();
        names.sort();
        names.dedup();
        for call in calls {
            let Some(reward) = rewards.get(&call.prediction).copied().or(options.default) else {
                *rounds.left_out.entry("without_report").or_default() += 1;
                continue;
            };
            let Ok(action) = names.binary_search(&call.assigned) else { continue };
            let Call { prediction, time, propensity, part, .. } = call;
            let prediction = uuid::Uuid::from_u128(prediction);
            rounds.all.push(Logged { prediction, time, action, propensity, reward, part });
        }
        rounds.all.sort_by_key(|logged| (logged.time, logged.prediction));
        rounds.actions = names;
        Ok(rounds)
    }

    /// How many rounds each action was given.
    pub(super) fn counts(&self) -> BTreeMap<std::sync::Arc<str>, u64> {
        let mut counts: BTreeMap<_, u64> =
            self.actions.iter().map(|name| (std::sync::Arc::clone(name), 0)).collect();
        for logged in &self.all {
            *counts.entry(std::sync::Arc::clone(&self.actions[logged.action])).or_default() += 1;
        }
        counts
    }

    fn calls(
        &mut self,
        reader: &mut Reader,
        options: &Options,
        now: SystemTime,
    ) -> Result<Vec<Call>, String> {
        let since = options.since.map_or(i64::MIN, |moment| moment.micros(now));
        let until = options.until.map_or(i64::MAX, |moment| moment.micros(now));
        let fields = ["time", "prediction_uuid", "assigned", "reason", "propensity", "unit_hash"];
        let wanted =
            Wanted { fields: &fields, model: options.model.as_deref(), ..Wanted::all(Table::Predictions) };
        let (mut calls, mut models) = (Vec::new(), std::collections::BTreeSet::new());
        reader.rows(&wanted, |partition, batch| {
            let Some(model) = &partition.model else { return ControlFlow::Continue(()) };
            models.insert(model.to_string());
            let column = |name: &str, row: usize| {
                batch.column_by_name(name).map_or(Value::Null, |column| segment::cell(column, row))
            };
            for row in 0..batch.num_rows() {
                let time = column("time", row).as_i64().unwrap_or(0);
                if !(since..=until).contains(&time) {
                    continue;
                }
                if !matches!(column("reason", row).as_str(), Some("split" | "draw")) {
                    *self.left_out.entry("not_left_to_chance").or_default() += 1;
                    continue;
                }
                let prediction =
                    column("prediction_uuid", row).as_str().and_then(|text| uuid::Uuid::try_parse(text).ok());
                let propensity =
                    column("propensity", row).as_f64().filter(|chance| *chance > 0.0 && *chance <= 1.0);
                let assigned = column("assigned", row);
                let (Some(prediction), Some(propensity), Some(assigned)) =
                    (prediction, propensity, assigned.as_str())
                else {
                    *self.left_out.entry("without_propensity").or_default() += 1;
                    continue;
                };
                let unit =
                    column("unit_hash", row).as_str().and_then(|unit| u64::from_str_radix(unit, 16).ok());
                let part = unit.unwrap_or(prediction.as_u128() as u64) as u8;
                calls.push(Call {
                    prediction: prediction.as_u128(),
                    time,
                    assigned: assigned.into(),
                    propensity,
                    part,
                });
            }
            ControlFlow::Continue(())
        });
        if models.len() > 1 {
            let names: Vec<String> = models.into_iter().collect();
            return Err(format!(
                "the log has several models; choose one: --model {}",
                names.join(", --model ")
            ));
        }
        self.model = models.pop_first().or(options.model.clone());
        Ok(calls)
    }
}

/// What was reported of each prediction last.
fn rewards(reader: &mut Reader, options: &Options) -> Result<HashMap<u128, f64>, String> {
    let fields = ["time", "prediction_uuid", "name", "joined"];
    let wanted = Wanted { fields: &fields, model: options.model.as_deref(), ..Wanted::all(Table::Feedback) };
    let (mut last, mut names) = (HashMap::<u128, (i64, f64)>::new(), std::collections::BTreeSet::new());
    reader.rows(&wanted, |_, batch| {
        let column = |name: &str, row: usize| {
            batch.column_by_name(name).map_or(Value::Null, |column| segment::cell(column, row))
        };
        for row in 0..batch.num_rows() {
            let name = column("name", row);
            let name = name.as_str().unwrap_or_default();
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
            let prediction =
                column("prediction_uuid", row).as_str().and_then(|text| uuid::Uuid::try_parse(text).ok());
            let (Some(prediction), Some(value), time) =
                (prediction, column("joined", row).as_f64(), column("time", row).as_i64().unwrap_or(0))
            else {
                continue;
            };
            if name == options.feedback {
                let known = last.entry(prediction.as_u128()).or_insert((time, value));
                if time >= known.0 {
                    *known = (time, value);
                }
            }
        }
        ControlFlow::Continue(())
    });
    // A name that is spelt wrong would give every call the default.
    let none_yet = names.is_empty() && options.default.is_some();
    if !names.contains(&options.feedback) && !none_yet {
        let known = if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there is {}", names.into_iter().collect::<Vec<_>>().join(", "))
        };
        return Err(format!("the log has no feedback {:?}; {known}", options.feedback));
    }
    Ok(last.into_iter().map(|(prediction, (_, value))| (prediction, value)).collect())
}

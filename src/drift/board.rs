//! What is known of how every model's answers are distributed, for whoever asks: status pages, metrics, the audit trail.
//!
//! One task adds to it ([`super::counter`]), anybody reads. Evidence lives as long as what it compares stays the same: the
//! builds, how outputs are read, and the reference. It is handed to the state directory, and does not end with the
//! process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use serde::{Deserialize, Serialize};

use super::evidence::{Answered, Evidence, References, Report, SMALL, Subject, With};
use super::kept;
use super::watch::Seen;
use crate::comparison::drift::Drifted;
use crate::config::{Config, Drift, Model};
use crate::state::Changed;
use crate::verdict::{Aim, Estimate, Finding, News, Scale, Verdict};

/// Answers that may wait to be counted.
const WAITING: usize = 1024;
/// What keys of the state directory begin with.
const KEPT: &str = "drift ";

/// What became of an answer that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was counted.
    Counted,
    /// Its unit was counted before on that day.
    Repeated,
    /// No output of it could be read.
    Unreadable,
    /// It was too large, or too many waited.
    NoRoom,
}

impl Fate {
    /// All of them, in the order of the enum.
    pub const ALL: [Fate; 4] = [Fate::Counted, Fate::Repeated, Fate::Unreadable, Fate::NoRoom];

    /// The word used in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Counted => "counted",
            Fate::Repeated => "repeated",
            Fate::Unreadable => "unreadable",
            Fate::NoRoom => "no_room",
        }
    }
}

/// How many answers of one model had which fate.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Fate::ALL.len()]);

impl Tally {
    /// One more.
    pub fn add(&self, fate: Fate) {
        self.0[fate as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self, fate: Fate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }
}

/// All of it.
#[derive(Debug)]
pub struct Drifts {
    waiting: ArrayQueue<Box<Seen>>,
    known: Mutex<BTreeMap<Arc<str>, Entry>>,
}

impl Default for Drifts {
    fn default() -> Self {
        Drifts { waiting: ArrayQueue::new(WAITING), known: Mutex::default() }
    }
}

/// One model's.
#[derive(Debug, Default)]
struct Entry {
    /// What is compared with what, and how; empty before a configuration said so.
    basis: String,
    evidence: Evidence,
    references: Arc<References>,
    /// Why there is no reference, where one is asked for.
    trouble: Option<Arc<str>>,
    /// Whether that was said in the log, which nobody listens to yet when the process starts.
    said: bool,
    tally: Arc<Tally>,
    told: Vec<Subject>,
    /// Whether answers came since somebody looked, and since they were handed to the state directory.
    fresh: bool,
    changed: bool,
}

/// What is kept of an entry.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<'a> {
    basis: Cow<'a, str>,
    evidence: Cow<'a, Evidence>,
    told: Cow<'a, [Subject]>,
}

/// What is known of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drifting {
    /// The model.
    pub model: Arc<str>,
    /// By variant, output, and what it is compared with.
    pub reports: Vec<Report>,
    /// Answers that were looked at, by what became of them, in the order of [`Fate::ALL`].
    pub answers: [u64; Fate::ALL.len()],
    /// Why there is no reference, where one is asked for.
    pub trouble: Option<Arc<str>>,
}

impl Drifts {
    /// Where answers of that model are tallied.
    pub fn tally(&self, model: &str) -> Arc<Tally> {
        Arc::clone(&self.known().entry(model.into()).or_default().tally)
    }

    /// Puts an answer where it waits to be counted; false: there is no room.
    pub fn offer(&self, seen: Seen) -> bool {
        self.waiting.push(Box::new(seen)).is_ok()
    }

    /// The next answer that waits.
    pub fn take(&self) -> Option<Box<Seen>> {
        self.waiting.pop()
    }

    /// Answers that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Follows the file: reads references, and begins anew where something else is compared than before.
    pub fn follow(&self, config: &Config) {
        for model in &config.models {
            let Some(drift) = &model.drift else { continue };
            let (references, trouble) = match drift.reference.as_deref().map(kept::read) {
                None => (References::new(), None),
                Some(Ok(references)) => (references, None),
                Some(Err(why)) => (References::new(), Some(Arc::from(why))),
            };
            let basis = basis(model, drift, &references);
            let mut known = self.known();
            let entry = known.entry(Arc::clone(&model.name)).or_default();
            if entry.basis != basis {
                let tally = Arc::clone(&entry.tally);
                *entry = Entry { basis, tally, changed: !entry.basis.is_empty(), ..Entry::default() };
            }
            entry.said &= entry.trouble == trouble;
            (entry.references, entry.trouble) = (Arc::new(references), trouble);
        }
        let watched = |name: &str| config.model(name).is_some_and(|model| model.drift.is_some());
        self.known().retain(|name, _| watched(name));
    }

    /// Counts an answer of `model`; each draw is 64 fair bits.
    pub fn count(&self, model: &Model, answered: &Answered<'_>, now: Duration, draw: impl FnMut() -> u64) {
        let mut known = self.known();
        let Some(entry) = known.get_mut(&model.name).filter(|entry| !entry.basis.is_empty()) else { return };
        let fate = if answered.values.is_empty() {
            Fate::Unreadable
        } else if entry.evidence.add(answered, &entry.references, now, draw) {
            (entry.fresh, entry.changed) = (true, true);
            Fate::Counted
        } else {
            Fate::Repeated
        };
        entry.tally.add(fate);
    }

    /// Looks what is proven by now.
    pub fn look(&self, config: &Config, now: Duration) {
        for (name, entry) in self.known().iter_mut().filter(|(_, entry)| entry.fresh) {
            if let Some(drift) = config.model(name).and_then(|model| model.drift.as_ref()) {
                entry.evidence.look(drift.alpha, now);
                entry.fresh = false;
            }
        }
    }

    /// What is known of a model; none where nobody looks at its answers.
    pub fn of(&self, model: &Model) -> Option<Drifting> {
        let drift = model.drift.as_ref()?;
        let known = self.known();
        let entry = known.get(&model.name)?;
        Some(Drifting {
            model: Arc::clone(&model.name),
            reports: entry.evidence.reports(drift.alpha),
            answers: Fate::ALL.map(|fate| entry.tally.get(fate)),
            trouble: entry.trouble.clone(),
        })
    }

    /// What a variant answered so far, as a file to hold others against; none where too little came yet.
    pub fn file(&self, model: &Model, variant: usize, now: Duration) -> Option<kept::File> {
        let variant = model.variants.get(variant)?;
        let outputs = self.known().get(&model.name)?.evidence.references(&variant.name);
        let of = (&model.name, &variant.name, &variant.build);
        (!outputs.is_empty()).then(|| kept::File::new(of, outputs, now.as_millis() as u64))
    }

    /// Drifts of a model that were proven since this was asked last. What is wrong with its reference goes to the log.
    pub fn news(&self, model: &Model) -> Vec<News> {
        let Some(drift) = &model.drift else { return Vec::new() };
        let mut known = self.known();
        let Some(entry) = known.get_mut(&model.name) else { return Vec::new() };
        if let Some(why) = entry.trouble.as_ref().filter(|_| !entry.said) {
            entry.said = true;
            tracing::error!(model = %model.name, %why, "the reference cannot be used: nothing is held against it");
        }
        let found = entry.evidence.reports(drift.alpha).into_iter().filter(|report| report.found.is_some());
        let new: Vec<Report> = found.filter(|report| !entry.told.contains(&report.subject)).collect();
        entry.told.extend(new.iter().map(|report| report.subject.clone()));
        entry.changed |= !new.is_empty();
        new.iter().filter_map(|report| Some(news(model, report, &report.found.as_ref()?.1))).collect()
    }

    /// What changed since this was last asked, to be kept.
    pub fn take_changed(&self) -> Changed {
        let mut known = self.known();
        let changed = known.iter_mut().filter(|(_, entry)| entry.changed);
        let kept = |(model, entry): (&Arc<str>, &mut Entry)| {
            entry.changed = false;
            let kept = Kept {
                basis: Cow::Borrowed(&entry.basis),
                evidence: Cow::Borrowed(&entry.evidence),
                told: Cow::Borrowed(&entry.told),
            };
            // It is plain data: it can always be written.
            Some((format!("{KEPT}{model}"), Some(serde_json::to_vec(&kept).ok()?)))
        };
        changed.filter_map(kept).collect()
    }

    /// Takes in what an earlier process kept, but where something was learnt meanwhile. What `config` asks nothing of any
    /// more is returned, to be forgotten.
    pub fn restore(&self, left: &HashMap<String, Vec<u8>>, config: &Config) -> Changed {
        let mut gone = Changed::new();
        for (key, bytes) in left {
            let Some(name) = key.strip_prefix(KEPT) else { continue };
            if config.model(name).is_none_or(|model| model.drift.is_none()) {
                gone.insert(key.clone(), None);
                continue;
            }
            match serde_json::from_slice::<Kept<'_>>(bytes) {
                Ok(Kept { basis, evidence, told }) => {
                    let mut known = self.known();
                    let entry = known.entry(name.into()).or_default();
                    let untouched = entry.evidence == Evidence::default();
                    if untouched && (entry.basis.is_empty() || entry.basis == *basis) {
                        entry.basis = basis.into_owned();
                        (entry.evidence, entry.told) = (evidence.into_owned(), told.into_owned());
                    }
                }
                Err(error) => {
                    tracing::error!(model = name, %error, "what answers proved of their drift cannot be read: it begins anew");
                }
            }
        }
        gone
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        // What it guards is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is compared with what, and how.
fn basis(model: &Model, drift: &Drift, references: &References) -> String {
    let builds: Vec<(&str, &str)> =
        model.taking_part().map(|variant| (&*variant.name, &*variant.build)).collect();
    let baseline = model.variants.get(model.baseline()).map_or("", |variant| &*variant.name);
    // Plain data: it can always be written.
    let references = serde_json::to_vec(references).unwrap_or_default();
    let (outputs, alpha) = (&drift.outputs, drift.alpha);
    format!("{builds:?} | {baseline} | {outputs:?} | {alpha} | {}", blake3::hash(&references).to_hex())
}

/// That a drift was proven, in one sentence and as what it rests on.
fn news(model: &Model, report: &Report, drifted: &Drifted) -> News {
    let Subject { variant, output, with } = &report.subject;
    let other = match with {
        With::Baseline => model.variants.get(model.baseline()).map_or("", |one| &*one.name),
        With::Reference => "the reference",
    };
    let by_chance =
        drifted.by_chance.map_or_else(String::new, |most| format!(", by chance {most:.3} at most"));
    let why = format!(
        "output {output} of {variant} is distributed otherwise than that of {other}: stability index {:.3}{by_chance}",
        drifted.stability
    );
    let finding = Finding {
        guard: format!("drift {output}").into(),
        aim: Aim::Guardrail,
        variant: Arc::clone(variant),
        verdict: Verdict::Fail,
        baseline: Estimate { n: drifted.base, value: None },
        candidate: Estimate { n: drifted.candidate, value: Some(drifted.stability) },
        harm: None,
        margin: drifted.by_chance.unwrap_or(0.0).max(SMALL),
        scale: Scale::Mean,
        ln_e: drifted.ln_e,
        threshold: report.enough,
        missing: 0,
    };
    News { variant: Arc::clone(variant), why, finding }
}

#[cfg(test)]
mod tests;

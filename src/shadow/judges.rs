//! What all pairs of each shadow prove, for whoever asks: status pages, metrics, guards, the audit trail.
//!
//! One task adds to it ([`super::comparer`]), anybody reads. A judge lives as long as what it compares stays the same:
//! the builds of both sides, and how they are compared. With anything else it begins anew. So it does not end with the
//! process either: what changed is handed to the state directory, and taken in from there at the next start.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::offenders::{Offender, Offenders};
use crate::comparison::Comparison;
use crate::comparison::judge::{Judge, Judgement, Report, Terms};
use crate::config::{Config, Judging, Model, Shadow};
use crate::state::Changed;
use crate::strategy::guards::SHADOW;
use crate::verdict::{Aim, Estimate, Finding, News, Scale, Verdict};

/// Pairs that wait for what their control said, and how long they do.
const WAITING: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// All judges.
#[derive(Debug, Default)]
pub struct Judges {
    known: Mutex<BTreeMap<Key, Entry>>,
}

/// What keys begin with.
const KEPT: &str = "shadow ";

/// Model and shadow.
type Key = (Arc<str>, Arc<str>);

/// One shadow's.
#[derive(Debug, Default)]
struct Entry {
    /// What is compared with what, and how.
    basis: String,
    terms: Option<Terms>,
    judge: Judge,
    offenders: Offenders,
    /// Pairs and controls that wait for each other.
    waiting: HashMap<Uuid, Waiting>,
    /// What was told last.
    told: Judgement,
    /// Whether it is another than what was handed to the state directory last.
    changed: bool,
}

/// What is kept of an entry. Calls that wait for their control are not.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<'a> {
    basis: Cow<'a, str>,
    judge: Cow<'a, Judge>,
    offenders: Cow<'a, Offenders>,
    told: Judgement,
}

#[derive(Debug)]
struct Waiting {
    since: Duration,
    pair: Option<Arc<Comparison>>,
    control: Option<Comparison>,
}

/// Everything that is known of one shadow's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The model.
    pub model: Arc<str>,
    /// The shadow.
    pub variant: Arc<str>,
    /// Who is the control, where there is one.
    pub control: Option<Arc<str>>,
    /// What is proven.
    pub report: Report,
    /// The pairs that are furthest apart, the worst first.
    pub offenders: Vec<Offender>,
}

impl Judges {
    /// Adds a pair of `shadow`, and says what all of them prove; `wait`: a control was asked too. `offender` makes what is
    /// kept of it, where it is among the worst.
    pub fn pair(
        &self,
        (model, shadow, judging): (&Model, &Shadow, &Judging),
        (prediction, found): (Uuid, &Arc<Comparison>),
        (latency, wait): ([Duration; 2], bool),
        offender: impl FnOnce() -> Offender,
        now: Duration,
    ) -> Option<Judgement> {
        self.with(model, shadow, judging, |entry, terms| {
            entry.judge.pair(found, latency, terms, now);
            let keep = judging.offenders.keep;
            if let Some(place) = entry.offenders.place(found, keep) {
                entry.offenders.insert(place, offender(), keep);
            }
            if wait && terms.control {
                entry.wait(prediction, now).pair = Some(Arc::clone(found));
                entry.join(prediction, terms, now);
            }
            entry.judge.verdict(terms)
        })
    }

    /// Adds what the control said of a call that `shadow` got too.
    pub fn control(
        &self,
        (model, shadow, judging): (&Model, &Shadow, &Judging),
        (prediction, found): (Uuid, Comparison),
        now: Duration,
    ) {
        self.with(model, shadow, judging, |entry, terms| {
            entry.wait(prediction, now).control = Some(found);
            entry.join(prediction, terms, now);
        });
    }

    /// Adds to what a shadow's judge knows in any other way.
    pub fn add(&self, model: &Model, shadow: &Shadow, judging: &Judging, add: impl FnOnce(&mut Judge)) {
        self.with(model, shadow, judging, |entry, _| add(&mut entry.judge));
    }

    /// Everything that is known of a model's shadows that the file has, in its order; of those without a pair too.
    pub fn of(&self, model: &Model) -> Vec<Judged> {
        let known = self.known();
        let judged = |shadow: &Shadow| {
            let judging = shadow.judging.as_ref()?;
            let variant = &model.variants.get(shadow.variant)?.name;
            let entry = known.get(&(Arc::clone(&model.name), Arc::clone(variant)));
            let terms = terms(judging);
            let entry = entry.filter(|entry| entry.basis == basis(model, shadow, judging));
            Some(Judged {
                model: Arc::clone(&model.name),
                variant: Arc::clone(variant),
                control: judging.control.as_ref().map(|control| Arc::clone(&control.variant.name)),
                report: entry
                    .map_or_else(|| Judge::default().report(&terms), |entry| entry.judge.report(&terms)),
                offenders: entry.map_or_else(Vec::new, |entry| entry.offenders.all().to_vec()),
            })
        };
        model.shadows.iter().filter_map(judged).collect()
    }

    /// What a guard on that variant's answers finds; none where it is no shadow that is judged.
    pub fn finding(&self, model: &Model, variant: usize) -> Option<Finding> {
        let name = &model.variants.get(variant)?.name;
        self.of(model).iter().find(|judged| judged.variant == *name).map(|judged| finding(&judged.report))
    }

    /// Verdicts of a model's shadows that are others than when this was asked last.
    pub fn news(&self, model: &Model) -> Vec<News> {
        let mut known = self.known();
        let entries = known.iter_mut().filter(|((of, _), _)| *of == model.name);
        let news = entries.filter_map(|((_, variant), entry)| {
            let terms = entry.terms?;
            let verdict = entry.judge.verdict(&terms);
            let before = std::mem::replace(&mut entry.told, verdict);
            entry.changed |= verdict != before;
            // That there is not enough data any more is told by whoever began anew.
            if verdict == before || verdict == Judgement::NotEnoughData {
                return None;
            }
            let report = entry.judge.report(&terms);
            let why = format!("shadow {variant} is {}: {}", words(verdict), report.why);
            let finding = Finding { variant: Arc::clone(variant), ..finding(&report) };
            Some(News { variant: Arc::clone(variant), why, finding })
        });
        news.collect()
    }

    fn with<T>(
        &self,
        model: &Model,
        shadow: &Shadow,
        judging: &Judging,
        add: impl FnOnce(&mut Entry, &Terms) -> T,
    ) -> Option<T> {
        let variant = model.variants.get(shadow.variant)?;
        let (basis, terms) = (basis(model, shadow, judging), terms(judging));
        let mut known = self.known();
        let entry = known.entry((Arc::clone(&model.name), Arc::clone(&variant.name))).or_default();
        if entry.basis != basis {
            *entry = Entry { basis, ..Entry::default() };
        }
        entry.terms = Some(terms);
        entry.changed = true;
        Some(add(entry, &terms))
    }

    /// What changed since this was last asked, to be kept.
    pub fn take_changed(&self) -> Changed {
        let mut known = self.known();
        let changed = known.iter_mut().filter(|(_, entry)| entry.changed);
        let kept = |((model, variant), entry): (&Key, &mut Entry)| {
            entry.changed = false;
            let kept = Kept {
                basis: Cow::Borrowed(&entry.basis),
                judge: Cow::Borrowed(&entry.judge),
                offenders: Cow::Borrowed(&entry.offenders),
                told: entry.told,
            };
            // It is plain data: it can always be written.
            Some((format!("{KEPT}{model} {variant}"), Some(serde_json::to_vec(&kept).ok()?)))
        };
        changed.filter_map(kept).collect()
    }

    /// Takes in what an earlier process kept, but where something was learnt meanwhile. What `config` has no shadow for
    /// is returned, to be forgotten.
    pub fn restore(&self, left: &HashMap<String, Vec<u8>>, config: &Config) -> Changed {
        let mut gone = Changed::new();
        for (key, bytes) in left {
            // Neither name has a space in it.
            let Some((model, variant)) = key.strip_prefix(KEPT).and_then(|names| names.split_once(' '))
            else {
                continue;
            };
            let shadow = |model: &Model, shadow: &Shadow| {
                model.variants.get(shadow.variant).is_some_and(|known| *known.name == *variant)
            };
            if !config.model(model).is_some_and(|model| model.shadows.iter().any(|one| shadow(model, one))) {
                gone.insert(key.clone(), None);
                continue;
            }
            match serde_json::from_slice::<Kept<'_>>(bytes) {
                Ok(Kept { basis, judge, offenders, told }) => {
                    let (basis, judge) = (basis.into_owned(), judge.into_owned());
                    let read =
                        Entry { basis, judge, offenders: offenders.into_owned(), told, ..Entry::default() };
                    self.known().entry((model.into(), variant.into())).or_insert(read);
                }
                Err(error) => {
                    tracing::error!(model, variant, %error, "what a shadow's answers proved cannot be read: it begins anew");
                }
            }
        }
        gone
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // What it guards is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The place where a call's pair and its control meet. Where there is no room, the oldest leave.
    fn wait(&mut self, prediction: Uuid, now: Duration) -> &mut Waiting {
        if self.waiting.len() >= WAITING {
            self.waiting.retain(|_, waiting| now.saturating_sub(waiting.since) < PATIENCE);
        }
        if self.waiting.len() >= WAITING {
            self.waiting.clear();
        }
        self.waiting.entry(prediction).or_insert(Waiting { since: now, pair: None, control: None })
    }

    /// Judges both, where both are there.
    fn join(&mut self, prediction: Uuid, terms: &Terms, now: Duration) {
        let both = |waiting: &Waiting| waiting.pair.is_some() && waiting.control.is_some();
        if !self.waiting.get(&prediction).is_some_and(both) {
            return;
        }
        if let Some(Waiting { pair: Some(pair), control: Some(control), .. }) =
            self.waiting.remove(&prediction)
        {
            self.judge.control(&pair, &control, terms, now);
        }
    }
}

/// What is asked of a shadow.
pub fn terms(judging: &Judging) -> Terms {
    Terms {
        alpha: judging.alpha,
        bound: judging.disagreement.map(|share| share.probability()),
        control: judging.control.is_some(),
    }
}

/// What is compared with what, and how.
fn basis(model: &Model, shadow: &Shadow, judging: &Judging) -> String {
    let build = |variant: usize| model.variants.get(variant).map_or("", |variant| &*variant.build);
    let control = judging.control.as_ref().map_or("", |control| &*control.variant.build);
    let (rules, terms) = (&judging.compare, terms(judging));
    let (served, candidate) = (build(model.baseline()), build(shadow.variant));
    format!("{served} | {candidate} | {control} | {rules:?} | {terms:?}")
}

/// The verdict in the words of guards.
fn finding(report: &Report) -> Finding {
    let (verdict, missing) = match report.verdict {
        Judgement::Equivalent => (Verdict::Pass, 0),
        Judgement::Different => (Verdict::Fail, 0),
        Judgement::NotEnoughData => {
            let missing =
                report.outputs.iter().filter(|output| output.pairs > 0).map(|output| output.missing);
            // Where that of one is not known, that of all is not.
            let most = missing.map(|missing| missing.unwrap_or(u64::MAX)).max().unwrap_or(0);
            (Verdict::NotEnoughData, if most == u64::MAX { 0 } else { most })
        }
    };
    let worst = report.outputs.iter().max_by(|one, other| {
        (one.ln_e_different - one.different_at).total_cmp(&(other.ln_e_different - other.different_at))
    });
    Finding {
        guard: SHADOW.into(),
        aim: Aim::Guardrail,
        variant: Arc::default(),
        verdict,
        baseline: Estimate { n: report.triples, value: worst.and_then(|worst| worst.noise) },
        candidate: Estimate { n: report.pairs, value: worst.map(|worst| worst.disagreement) },
        harm: None,
        margin: report.bound,
        scale: Scale::Share,
        ln_e: worst.map_or(0.0, |worst| worst.ln_e_different),
        threshold: worst.map_or(0.0, |worst| worst.different_at),
        missing,
    }
}

fn words(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Equivalent => "equivalent",
        Judgement::Different => "different",
        Judgement::NotEnoughData => "not judged",
    }
}

#[cfg(test)]
mod tests;

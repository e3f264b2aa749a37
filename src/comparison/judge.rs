//! What many pairs of answers prove: a candidate is equivalent, it is different, or there is not enough data.
//!
//! Each output, and the answer as a whole, has evidence of its own, in e-values that may be looked at after every
//! pair. A pair counts for an output with the part of its rows that disagree. With a control, a third answer of the
//! served version says how much that version disagrees with itself, and only what is more counts:
//!
//! - *different*, without a declared bound: the candidate is the odd one more often than the control
//!   ([`crate::stats::odd_one`]); with a bound, or without a control: it disagrees more than that ([`crate::stats::bets`]);
//! - *equivalent*: every output disagrees less than the bound, 1 % where none is declared.
//!
//! The chance of a false "different" is split over the outputs; a false "equivalent" needs all of them at once, so each
//! may be wrong on its own level there. Once it is different it stays so: what was proven does not become untrue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OUTPUTS;
use super::drift::{Drift, Drifted, Side, Values};
use super::found::{Comparison, Kind, Output};
use crate::stats::bets::Bets;
use crate::stats::odd_one;
use crate::stats::sketch::Sketch;

/// The bound where none is declared.
pub const BOUND: f64 = 0.01;
/// Chance that a candidate whose disagreement is the bound is ever called equivalent.
const PASS: f64 = 0.05;
/// What the answer as a whole is called among the outputs.
pub const ANSWER: &str = "(answer)";
/// Bytes of an output's name that are kept.
const NAME: usize = 128;

/// What is asked of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Chance that an equivalent candidate is ever called different.
    pub alpha: f64,
    /// Disagreement that is allowed, beyond the control's where there is one: 0 to 1, both excluded.
    pub bound: Option<f64>,
    /// Whether a control takes the served version's own noise off.
    pub control: bool,
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Proven to disagree less than the bound.
    Equivalent,
    /// Proven to disagree more.
    Different,
    /// Neither.
    #[default]
    NotEnoughData,
}

impl Judgement {
    /// Every one.
    pub const ALL: [Judgement; 3] = [Judgement::Equivalent, Judgement::Different, Judgement::NotEnoughData];

    /// The word used in status, metrics and audit records.
    pub fn name(self) -> &'static str {
        match self {
            Judgement::Equivalent => "equivalent",
            Judgement::Different => "different",
            Judgement::NotEnoughData => "not_enough_data",
        }
    }
}

/// Everything that is remembered of a candidate's pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    pairs: u64,
    triples: u64,
    disagreeing: u64,
    outputs: Vec<Evidence>,
    /// Declared outputs that neither answer had.
    absent: BTreeMap<Arc<str>, u64>,
    /// Pairs with more outputs than are compared.
    cut: u64,
    /// How long served answers took, and the candidate's.
    latency: [Sketch; 2],
    different: Option<Proof>,
}

/// When a difference was proven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Proof {
    since: Duration,
    pairs: u64,
    output: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Evidence {
    name: Arc<str>,
    measure: Option<Box<str>>,
    inferred: bool,
    pairs: u64,
    /// Sum of the parts of rows that disagreed; of pairs, and of control pairs.
    differing: f64,
    control_pairs: u64,
    control_differing: f64,
    /// Triples in which just one of both is further from what was served.
    odd: [u64; 2],
    over: Bets,
    under: Bets,
    kinds: BTreeMap<Kind, u64>,
    /// The first pair that disagreed, and the last.
    seen: Option<(Duration, Duration)>,
    distance: Sketch,
    farthest: f64,
    figures: BTreeMap<Box<str>, Figure>,
    drift: Drift,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Figure {
    n: u64,
    sum: f64,
    max: f64,
}

/// Everything that a status page says of a candidate's answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What is proven.
    pub verdict: Judgement,
    /// How, in one sentence for people.
    pub why: String,
    /// When a difference was proven, since 1970.
    pub since: Option<Duration>,
    /// Pairs that were compared, those that do not agree, and those that have a control's answer too.
    pub pairs: u64,
    /// See [`Report::pairs`].
    pub disagreeing: u64,
    /// See [`Report::pairs`].
    pub triples: u64,
    /// The bound that holds.
    pub bound: f64,
    /// The answer as a whole first, named [`ANSWER`], then each output.
    pub outputs: Vec<OutputReport>,
    /// Declared outputs that no answer had, and in how many pairs.
    pub absent: Vec<(Arc<str>, u64)>,
    /// Pairs with more outputs than are compared.
    pub cut: u64,
    /// Half of all, and 99 % of all, served answers and candidate's took no longer, in seconds.
    pub latency: Option<[[f64; 2]; 2]>,
}

/// The same of one output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// As the model names it.
    pub name: Arc<str>,
    /// What it is compared by; none where that could not be told yet.
    pub measure: Option<Box<str>>,
    /// Whether that was told from its type.
    pub inferred: bool,
    /// What is proven of it.
    pub verdict: Judgement,
    /// Pairs that had it.
    pub pairs: u64,
    /// The mean part of its rows that disagree, 0 to 1.
    pub disagreement: f64,
    /// The same of the control.
    pub noise: Option<f64>,
    /// ln E for a difference, and where it is enough.
    pub ln_e_different: f64,
    /// See [`OutputReport::ln_e_different`].
    pub different_at: f64,
    /// ln E for equivalence, and where it is enough.
    pub ln_e_equivalent: f64,
    /// See [`OutputReport::ln_e_equivalent`].
    pub equivalent_at: f64,
    /// About how many pairs (with a control: triples) are still needed until it may be equivalent; none where that
    /// cannot be told.
    pub missing: Option<u64>,
    /// Pairs that disagreed, by how.
    pub kinds: Vec<(Kind, u64)>,
    /// The first and the last pair that disagreed, since 1970.
    pub seen: Option<(Duration, Duration)>,
    /// The distance that half of all pairs, and 99 %, are not beyond, and the largest.
    pub distance: Option<[f64; 3]>,
    /// Each figure's mean and its largest.
    pub figures: Vec<(Box<str>, f64, f64)>,
    /// How it is distributed on both sides.
    pub drift: Option<Drifted>,
}

impl Default for Judge {
    fn default() -> Self {
        Judge {
            pairs: 0,
            triples: 0,
            disagreeing: 0,
            outputs: vec![Evidence::new(ANSWER.into())],
            absent: BTreeMap::new(),
            cut: 0,
            latency: Default::default(),
            different: None,
        }
    }
}

impl Judge {
    /// Adds a pair; `latency` is how long the served answer took, and the candidate's.
    pub fn pair(&mut self, found: &Comparison, latency: [Duration; 2], terms: &Terms, now: Duration) {
        self.pairs += 1;
        self.disagreeing += u64::from(!found.agrees());
        self.cut += u64::from(found.cut);
        self.latency.iter_mut().zip(latency).for_each(|(sketch, took)| sketch.add(took.as_secs_f64()));
        for name in &found.absent {
            if self.absent.contains_key(name) || self.absent.len() < OUTPUTS {
                *self.absent.entry(Arc::clone(name)).or_default() += 1;
            }
        }
        let whole = f64::from(u8::from(found.kind.is_some()));
        let answer = &mut self.outputs[0];
        answer.count(whole, found.kind, now);
        answer.bet(terms, whole);
        for output in &found.outputs {
            let Some(evidence) = self.evidence(&output.name) else { continue };
            evidence.count(output.part(), output.kind, now);
            evidence.bet(terms, output.part());
            evidence.look(output);
        }
        self.decide(terms, now);
    }

    /// Adds what the control of such a pair showed beside it: `found` is the pair, which was added before.
    pub fn control(&mut self, found: &Comparison, control: &Comparison, terms: &Terms, now: Duration) {
        self.triples += 1;
        let part = |found: &Comparison| (f64::from(u8::from(found.kind.is_some())), 0.0);
        self.outputs[0].triple(terms, part(found), part(control));
        for output in &found.outputs {
            // Where one of both has no such output, that is told by the answer as a whole or by the pair itself.
            let Some(other) = control.outputs.iter().find(|other| other.name == output.name) else {
                continue;
            };
            let far = |output: &Output| (output.part(), output.distance);
            if let Some(evidence) = self.evidence(&output.name) {
                evidence.triple(terms, far(output), far(other));
            }
        }
        self.decide(terms, now);
    }

    /// Counts what the rows of an answer's outputs are; `share`: the part of all values that are the candidate's.
    pub fn values(&mut self, side: Side, share: f64, values: &[(Arc<str>, Values)]) {
        for (name, values) in values {
            if let Some(evidence) = self.evidence(name) {
                evidence.drift.add(side, share, &values.hidden());
            }
        }
    }

    /// What is proven.
    pub fn verdict(&self, terms: &Terms) -> Judgement {
        if self.different.is_some() {
            return Judgement::Different;
        }
        let judged: Vec<&Evidence> = self.judged(terms).collect();
        let known = |evidence: &&Evidence| evidence.under.ln_e() >= -PASS.ln();
        // An answer without any output is equal only where nobody reads its outputs, which the answer then says.
        if !judged.is_empty() && judged.iter().all(known) {
            Judgement::Equivalent
        } else {
            Judgement::NotEnoughData
        }
    }

    /// The part of pairs that do not agree, 0 to 1; none without any.
    pub fn disagreement(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.disagreeing as f64 / self.pairs as f64)
    }

    /// Everything a status page says.
    pub fn report(&self, terms: &Terms) -> Report {
        let verdict = self.verdict(terms);
        let outputs: Vec<OutputReport> =
            self.outputs.iter().map(|evidence| evidence.report(terms, self.outputs.len())).collect();
        let half = |sketch: &Sketch| Some([sketch.quantile(0.5)?, sketch.quantile(0.99)?]);
        Report {
            verdict,
            why: self.why(verdict, terms, &outputs),
            since: self.different.as_ref().map(|proof| proof.since),
            pairs: self.pairs,
            disagreeing: self.disagreeing,
            triples: self.triples,
            bound: terms.bound(),
            outputs,
            absent: self.absent.iter().map(|(name, count)| (Arc::clone(name), *count)).collect(),
            cut: self.cut,
            latency: half(&self.latency[0]).zip(half(&self.latency[1])).map(|(one, other)| [one, other]),
        }
    }

    fn why(&self, verdict: Judgement, terms: &Terms, outputs: &[OutputReport]) -> String {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let beyond = if terms.control { " beyond the control's" } else { "" };
        match (verdict, &self.different) {
            (Judgement::Different, Some(proof)) => {
                let Some(output) = outputs.iter().find(|output| output.name == proof.output) else {
                    return format!("{} differs", proof.output);
                };
                let noise =
                    output.noise.map_or(String::new(), |noise| format!(", the control {}", percent(noise)));
                let how = output.kinds.iter().max_by_key(|(_, count)| *count);
                let how = how.map_or(String::new(), |(kind, _)| format!(", mostly by {}", kind.name()));
                let rate = percent(output.disagreement);
                format!("{} disagrees in {rate} of its rows{noise}{how}", proof.output)
            }
            (Judgement::Equivalent, _) => {
                format!("every output disagrees in less than {} of its rows{beyond}", percent(terms.bound()))
            }
            _ if self.pairs == 0 => "no copy was compared yet".to_owned(),
            _ if terms.control && self.triples == 0 => {
                "no copy was compared beside the control yet".to_owned()
            }
            _ => {
                let open = outputs.iter().filter(|output| output.verdict == Judgement::NotEnoughData);
                let names: Vec<&str> = open.map(|output| &*output.name).collect();
                format!("neither is proven of {}", names.join(", "))
            }
        }
    }

    /// The evidence on an output; none beyond as many as are kept.
    fn evidence(&mut self, name: &Arc<str>) -> Option<&mut Evidence> {
        let known = self.outputs.iter().position(|evidence| *evidence.name == **name);
        let at = match known {
            Some(at) => at,
            None if self.outputs.len() > OUTPUTS || name.len() > NAME => return None,
            None => {
                self.outputs.push(Evidence::new(Arc::clone(name)));
                self.outputs.len() - 1
            }
        };
        self.outputs.get_mut(at)
    }

    /// What has evidence that counts.
    fn judged(&self, terms: &Terms) -> impl Iterator<Item = &Evidence> {
        self.outputs.iter().filter(move |evidence| match terms.control {
            true => evidence.control_pairs > 0 || evidence.pairs > 0,
            false => evidence.pairs > 0,
        })
    }

    fn decide(&mut self, terms: &Terms, now: Duration) {
        if self.different.is_some() {
            return;
        }
        let all = self.outputs.len();
        let proven = self.outputs.iter().find(|one| one.ln_e_different(terms) >= threshold(terms, all));
        self.different =
            proven.map(|one| Proof { since: now, pairs: self.pairs, output: Arc::clone(&one.name) });
    }
}

impl Terms {
    /// The bound that holds.
    pub fn bound(&self) -> f64 {
        self.bound.unwrap_or(BOUND)
    }
}

/// ln E at which one of `outputs` is different.
fn threshold(terms: &Terms, outputs: usize) -> f64 {
    (outputs.max(1) as f64 / terms.alpha).ln()
}

impl Evidence {
    fn new(name: Arc<str>) -> Self {
        Evidence {
            name,
            measure: None,
            inferred: false,
            pairs: 0,
            differing: 0.0,
            control_pairs: 0,
            control_differing: 0.0,
            odd: [0; 2],
            over: Bets::default(),
            under: Bets::default(),
            kinds: BTreeMap::new(),
            seen: None,
            distance: Sketch::default(),
            farthest: 0.0,
            figures: BTreeMap::new(),
            drift: Drift::default(),
        }
    }

    fn count(&mut self, part: f64, kind: Option<Kind>, now: Duration) {
        self.pairs += 1;
        self.differing += part;
        if let Some(kind) = kind {
            *self.kinds.entry(kind).or_default() += 1;
            self.seen = Some((self.seen.map_or(now, |(first, _)| first), now));
        }
    }

    /// What a pair proves where there is no control: `part` within 0 to 1.
    fn bet(&mut self, terms: &Terms, part: f64) {
        if !terms.control {
            let bound = terms.bound();
            self.over.add(part - bound, bound);
            self.under.add(bound - part, 1.0 - bound);
        }
    }

    /// The same with one: how far the candidate is from what was served, and how far the control.
    fn triple(&mut self, terms: &Terms, candidate: (f64, f64), control: (f64, f64)) {
        self.control_pairs += 1;
        self.control_differing += control.0;
        let bound = terms.bound();
        let excess = candidate.0 - control.0;
        self.over.add(excess - bound, 1.0 + bound);
        self.under.add(bound - excess, 1.0 - bound);
        // Distances of what agrees say nothing, however small they are.
        let far = |(part, distance): (f64, f64)| (part, if part > 0.0 { distance } else { 0.0 });
        let (one, other) = (far(candidate), far(control));
        self.odd[0] += u64::from(one > other);
        self.odd[1] += u64::from(other > one);
    }

    fn look(&mut self, output: &Output) {
        if let Some(measure) = output.measure {
            self.measure = Some(measure.into());
            self.inferred = output.inferred;
        }
        // What is written down must be a number, however far two answers are apart.
        let finite = |x: f64| if x.is_nan() { 0.0 } else { x.clamp(-f64::MAX, f64::MAX) };
        self.distance.add(finite(output.distance));
        self.farthest = self.farthest.max(finite(output.distance));
        for (name, value) in &output.figures {
            let value = finite(*value);
            let figure = self.figures.entry((*name).into()).or_default();
            figure.n += 1;
            figure.sum = finite(figure.sum + value);
            figure.max = if figure.n == 1 { value } else { figure.max.max(value) };
        }
    }

    fn ln_e_different(&self, terms: &Terms) -> f64 {
        match (terms.control, terms.bound) {
            (true, None) => odd_one::ln_e(self.odd[0], self.odd[1]),
            _ => self.over.ln_e(),
        }
    }

    fn report(&self, terms: &Terms, all: usize) -> OutputReport {
        let (ln_e_different, different_at) = (self.ln_e_different(terms), threshold(terms, all));
        let (ln_e_equivalent, equivalent_at) = (self.under.ln_e(), -PASS.ln());
        let verdict = if ln_e_different >= different_at {
            Judgement::Different
        } else if ln_e_equivalent >= equivalent_at {
            Judgement::Equivalent
        } else {
            Judgement::NotEnoughData
        };
        let mean = |sum: f64, n: u64| if n == 0 { 0.0 } else { sum / n as f64 };
        let quantile = |q| self.distance.quantile(q);
        OutputReport {
            name: Arc::clone(&self.name),
            measure: self.measure.clone(),
            inferred: self.inferred,
            verdict,
            pairs: self.pairs,
            disagreement: mean(self.differing, self.pairs),
            noise: (self.control_pairs > 0).then(|| mean(self.control_differing, self.control_pairs)),
            ln_e_different,
            different_at,
            ln_e_equivalent,
            equivalent_at,
            missing: self.missing(terms),
            kinds: self.kinds.iter().map(|(kind, count)| (*kind, *count)).collect(),
            seen: self.seen,
            distance: quantile(0.5).zip(quantile(0.99)).map(|(half, most)| [half, most, self.farthest]),
            figures: self
                .figures
                .iter()
                .map(|(name, figure)| (name.clone(), mean(figure.sum, figure.n), figure.max))
                .collect(),
            drift: self.drift.report(),
        }
    }

    /// At the rate at which evidence came so far.
    fn missing(&self, terms: &Terms) -> Option<u64> {
        let n = if terms.control { self.control_pairs } else { self.pairs };
        let (ln_e, target) = (self.under.ln_e(), -PASS.ln());
        if ln_e >= target {
            return Some(0);
        }
        // Capital that is spread over twelve stakes begins twelvefold behind the one that will win.
        let (spread, grown) = (12.0_f64.ln(), ln_e);
        (grown > 0.05 && n > 0).then(|| ((target - grown) / (grown + spread) * n as f64).ceil() as u64)
    }
}

#[cfg(test)]
mod tests;

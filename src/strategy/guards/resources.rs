//! Whether the candidate's server uses more than it may beside the baseline's: processor time per call, and memory.
//!
//! Time is cut into windows of a minute, and each window only says of each resource whether the candidate was over
//! its limit. The claim under test: whatever came before, a candidate within its margin is over in at most every
//! second window. Money is bet against that, even odds a window, by three gamblers of unlike courage, a part of it
//! put in anew at every window so that a fault that begins late is found too; what they have is an e-value, so it
//! may be looked at at any time (Ville 1939; the sign test by betting is in Waudby-Smith & Ramdas 2024). No shape of
//! noise is assumed, and no number of windows.
//!
//! Processor time: `over` is C > (1 + m)(B·w + r·(1 − w)), where C and B are what both processes took, w is the
//! candidate's calls over the baseline's, at most 1, and r is what a process takes at rest: at most the least that
//! either took, on average over some windows, for single ones are low by chance. A window counts if rest is at most
//! half of the calls' part of the limit, and its margin is more than the steps that processes count their time in.
//!
//! Memory: `over` is that the candidate grew, since both were first seen with it warm, by more than the baseline and
//! m times the larger of the two, and holds more than the baseline does: a fresh process that grows to the size of
//! an old one does not leak.
//!
//! What no such test can tell apart: one version and the other, or one node, cache and batch size and the other.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PASS, ln_sum};
use crate::config::ResourcesGuard;
use crate::evidence::{Reading, Readings};
use crate::verdict::{Aim, Estimate, Finding, Interval, Scale, Verdict};

/// What a gambler risks of what he has at each window, and how much of the money is his at first.
const STAKES: [(f64, f64); 3] = [(0.98, 0.6), (0.6, 0.25), (0.25, 0.15)];
/// How much of the money bets from the first window on; the rest is put in bit by bit.
const AT_FIRST: f64 = 0.8;
/// Seconds that a margin on processor time must be worth in a window: twice what clocks count it in.
const COUNTABLE: f64 = 0.02;
/// The newest window's weight in a mean of what processes take, and how many windows make one.
const NEWEST: f64 = 0.2;
const ENOUGH: u32 = 3;
/// What every finding's name begins with.
const NAME: &str = "resources ";

/// All that is remembered of both servers' use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::strategy) struct Resources {
    cpu: Bets,
    memory: Bets,
    /// Processor time of the windows that counted, and the calls in them: baseline, candidate.
    spent: [Spent; 2],
    rest: Rest,
    /// What both held when both were first seen with the candidate warm: baseline, candidate.
    origin: Option<[f64; 2]>,
    held: Option<[f64; 2]>,
    /// Where the window began. A restart of the sidecar begins another.
    #[serde(skip)]
    open: Option<Open>,
    /// Why nothing was read the last time.
    #[serde(skip)]
    trouble: Option<String>,
}

/// What the gamblers have, for "over" and against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bets {
    over: Vec<f64>,
    within: Vec<f64>,
    windows: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Spent {
    seconds: f64,
    calls: u64,
}

/// What a process takes at rest, as a part of one core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Rest {
    windows: u32,
    /// Of the lesser of the two, the newer windows first.
    mean: f64,
    /// The least mean so far.
    least: Option<f64>,
}

impl Rest {
    fn add(&mut self, taken: f64) {
        self.windows = self.windows.saturating_add(1);
        self.mean += (taken - self.mean) * (1.0 / f64::from(self.windows)).max(NEWEST);
        if self.windows >= ENOUGH {
            self.least = Some(self.least.map_or(self.mean, |least| least.min(self.mean)));
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Open {
    at: Duration,
    arms: [Mark; 2],
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    reading: Reading,
    calls: u64,
}

/// One window of one arm.
#[derive(Debug, Clone, Copy)]
struct Window {
    seconds: Option<f64>,
    resident: Option<f64>,
    calls: u64,
}

impl Bets {
    fn new() -> Self {
        let first = || STAKES.iter().map(|(_, part)| (AT_FIRST * part).ln()).collect();
        Bets { over: first(), within: first(), windows: 0 }
    }

    fn add(&mut self, over: bool) {
        let start = f64::from(self.windows) + 1.0;
        let bit = (1.0 - AT_FIRST) / (start * (start + 1.0));
        self.windows = self.windows.saturating_add(1);
        for (capital, won) in [(&mut self.over, over), (&mut self.within, !over)] {
            for (capital, (stake, part)) in capital.iter_mut().zip(STAKES) {
                let factor = if won { 1.0 + stake } else { 1.0 - stake };
                *capital = ln_sum(vec![*capital, (bit * part).ln()]) + factor.ln();
            }
        }
    }

    fn ln_over(&self) -> f64 {
        ln_sum(self.over.clone())
    }

    fn ln_within(&self) -> f64 {
        ln_sum(self.within.clone())
    }
}

impl Resources {
    pub(in crate::strategy) fn new() -> Self {
        Resources {
            cpu: Bets::new(),
            memory: Bets::new(),
            spent: [Spent::default(); 2],
            rest: Rest::default(),
            origin: None,
            held: None,
            open: None,
            trouble: None,
        }
    }

    /// Adds what both servers said at `now`; `calls` of the baseline and the candidate since the rollout began.
    pub(in crate::strategy) fn add(
        &mut self,
        guard: &ResourcesGuard,
        readings: &Readings,
        calls: [u64; 2],
        warm: bool,
        now: Duration,
    ) {
        self.trouble = readings.trouble();
        let (Ok(baseline), Ok(candidate)) = (&readings.baseline, &readings.candidate) else { return };
        let arms =
            [Mark { reading: *baseline, calls: calls[0] }, Mark { reading: *candidate, calls: calls[1] }];
        let Some(open) = &self.open else {
            self.open = Some(Open { at: now, arms });
            return;
        };
        if (0..2).any(|arm| arms[arm].reading.restarted(&open.arms[arm].reading)) {
            // Another process: what the one before it held and took at rest says nothing of this one.
            (self.origin, self.held, self.rest) = (None, None, Rest::default());
            self.open = Some(Open { at: now, arms });
            return;
        }
        let length = now.saturating_sub(open.at);
        if length < guard.window {
            return;
        }
        let windows = [0, 1].map(|arm| arms[arm].since(&open.arms[arm]));
        self.open = Some(Open { at: now, arms });
        self.close(guard, windows, warm, length.as_secs_f64());
    }

    fn close(&mut self, guard: &ResourcesGuard, windows: [Window; 2], warm: bool, length: f64) {
        let served = windows.iter().all(|window| window.calls > 0);
        if let [Some(baseline), Some(candidate)] = windows.map(|window| window.seconds) {
            let known = self.rest.least.unwrap_or(f64::INFINITY) * length;
            self.rest.add(baseline.min(candidate) / length);
            if let Some(margin) = guard.cpu.filter(|_| warm && served) {
                self.weigh_cpu(margin, windows, [baseline, candidate], known);
            }
        }
        if let [Some(baseline), Some(candidate)] = windows.map(|window| window.resident)
            && warm
            && served
        {
            self.held = Some([baseline, candidate]);
            match (self.origin, guard.memory) {
                (None, _) => self.origin = Some([baseline, candidate]),
                (Some(origin), Some(margin)) => {
                    let excess = excess(origin, [baseline, candidate]);
                    self.memory.add(excess > margin && candidate > baseline);
                }
                (Some(_), None) => {}
            }
        }
    }

    /// `known`: what a process at rest takes in a window of this length, at most, as far as earlier windows tell.
    fn weigh_cpu(&mut self, margin: f64, windows: [Window; 2], seconds: [f64; 2], known: f64) {
        let part = (windows[1].calls as f64 / windows[0].calls as f64).min(1.0);
        // A share of the baseline's; nothing of the rest where both do as much.
        let (own, others) = (seconds[0] * part, 1.0 - part);
        if others > 0.0 && known * others > own / 2.0 || own * margin < COUNTABLE {
            return;
        }
        let rest = if others > 0.0 { known.min(seconds[0]).min(seconds[1]) * others } else { 0.0 };
        self.cpu.add(seconds[1] > (1.0 + margin) * (own + rest));
        for (spent, (window, seconds)) in self.spent.iter_mut().zip(windows.iter().zip(seconds)) {
            spent.seconds += seconds;
            spent.calls += window.calls;
        }
    }

    /// Whether a resource fails at this threshold.
    pub(in crate::strategy) fn fails(&self, guard: &ResourcesGuard, threshold: f64) -> bool {
        (guard.cpu.is_some() && self.cpu.ln_over() >= threshold)
            || (guard.memory.is_some() && self.memory.ln_over() >= threshold)
    }

    /// Why nothing is read, where that is so.
    pub(in crate::strategy) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What is found of each resource that is guarded: `resources memory`, then `resources cpu`.
    pub(in crate::strategy) fn findings(&self, guard: &ResourcesGuard, threshold: f64) -> Vec<Finding> {
        let memory = guard.memory.map(|margin| {
            let harm = self.origin.zip(self.held).map(|(origin, held)| excess(origin, held));
            let values = [0, 1].map(|arm| self.held.map(|held| held[arm]));
            finding("memory", margin, &self.memory, (values, harm), threshold)
        });
        let cpu = guard.cpu.map(|margin| {
            let values =
                self.spent.map(|spent| (spent.calls > 0).then(|| spent.seconds / spent.calls as f64));
            let harm = values[0].zip(values[1]).map(|(baseline, candidate)| candidate / baseline - 1.0);
            finding("cpu", margin, &self.cpu, (values, harm), threshold)
        });
        memory.into_iter().chain(cpu).collect()
    }
}

fn finding(
    name: &str,
    margin: f64,
    bets: &Bets,
    (values, harm): ([Option<f64>; 2], Option<f64>),
    threshold: f64,
) -> Finding {
    let ln_e = bets.ln_over();
    let estimate = |value| Estimate { n: u64::from(bets.windows), value };
    Finding {
        guard: Arc::from(format!("{NAME}{name}")),
        aim: Aim::Guardrail,
        variant: Arc::default(),
        verdict: match (ln_e >= threshold, bets.ln_within() >= -PASS.ln()) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::NotEnoughData,
        },
        baseline: estimate(values[0]),
        candidate: estimate(values[1]),
        // Signs bound how often, not how much.
        harm: harm.map(|middle| Interval { low: f64::NEG_INFINITY, middle, high: f64::INFINITY }),
        margin,
        scale: Scale::Ratio,
        ln_e,
        threshold,
        missing: 0,
    }
}

/// Whether a finding is of a guard that steps wait for.
pub(in crate::strategy) fn gates(finding: &Finding) -> bool {
    !finding.guard.starts_with(NAME)
}

/// How much more the candidate grew than the baseline, as a part of the larger of the two at the origin.
fn excess(origin: [f64; 2], held: [f64; 2]) -> f64 {
    ((held[1] - origin[1]) - (held[0] - origin[0])) / origin[0].max(origin[1]).max(1.0)
}

impl Mark {
    fn since(&self, before: &Mark) -> Window {
        let seconds = self.reading.cpu.zip(before.reading.cpu).map(|(now, then)| now - then);
        Window { seconds, resident: self.reading.resident, calls: self.calls.saturating_sub(before.calls) }
    }
}

#[cfg(test)]
mod tests;

//! What comes next, in words for people: first what is hoped for, then what happens if it does not come. Pure.

use crate::config::units::write_duration;
use crate::config::{
    Ab, Bandit, Canary, Interleave, Judge, Model, OnFail, OnPass, Pinned, Rolling, Strategy,
};
use crate::verdict::{Report, State};

pub(super) fn next(model: &Model, report: &Report) -> Vec<String> {
    let stage = report.stage.as_ref();
    let then = match &model.strategy {
        Strategy::Staged(staged) => {
            let next = stage.and_then(|stage| staged.stages.get(stage.index as usize + 1));
            next.map(|next| format!("stage {}", next.name))
        }
        _ => None,
    };
    match model.strategy.at(stage.map_or(u32::MAX, |stage| stage.index)) {
        Strategy::Canary(canary) | Strategy::Shadow(canary) => Words { model, canary, then }.all(report),
        Strategy::Pinned(pinned) if matches!(model.strategy, Strategy::Pinned(_)) => {
            switch(model, pinned, report)
        }
        Strategy::Ab(ab) if let Some(judge) = &ab.judge => compared(model, ab, judge, report),
        Strategy::Rolling(rolling) => replacing(rolling, report),
        Strategy::Bandit(bandit) => learning(model, bandit, then.as_deref(), report),
        Strategy::Interleave(interleave) => interleaved(model, interleave, report),
        Strategy::Pinned(_) | Strategy::Ab(_) | Strategy::Staged(_) => match report.state {
            State::Pinned => vec!["on resume: it is as the file says again".to_owned()],
            _ => Vec::new(),
        },
    }
}

/// What comes next of a switch.
fn switch(model: &Model, pinned: &Pinned, report: &Report) -> Vec<String> {
    let new = model.variants.get(pinned.variant).map_or("", |variant| &*variant.name);
    let serves = report.shares.get(pinned.variant).is_some_and(|share| *share > 0.0);
    let window = write_duration(pinned.revert_window);
    let late = format!("if not within {}: it holds for a person", write_duration(pinned.max_wait));
    let back = "rollback gives everything to the variant before; promote ends the way back".to_owned();
    match report.state {
        State::Waiting => vec![format!("everything to {new}, with a way back for {window}"), late],
        State::Paused => vec![format!("on resume: everything to {new} when it is ready and warm")],
        State::Held if serves => vec![back],
        State::Held => vec![format!("on promote: everything to {new}; rollback ends it")],
        State::Running => {
            let fails = match (pinned.guards.count(), pinned.on_fail) {
                (0, _) => "no guard is configured: nobody judges it".to_owned(),
                (_, OnFail::Rollback) => {
                    format!("if a guard fails: everything back, and {new}'s build is blocked")
                }
                (_, OnFail::Hold) => "if a guard fails: it holds for a person".to_owned(),
            };
            vec![back, fails]
        }
        State::RolledBack => vec![format!(
            "nothing by itself: the file names another variant, or another build of {new}, or a person resumes it"
        )],
        State::Pinned => vec!["on resume: it is as the file says again".to_owned()],
        State::Steady | State::Passed | State::Promoted => Vec::new(),
    }
}

/// Of a comparison.
fn compared(model: &Model, ab: &Ab, judge: &Judge, report: &Report) -> Vec<String> {
    let baseline = model.variants.get(ab.baseline).map_or("", |variant| &*variant.name);
    let hoped = match judge.on_pass {
        _ if judge.metrics.is_empty() => "nobody can win: there are no `metrics`".to_owned(),
        OnPass::Promote => "if one is better, and worse on nothing: everything to it".to_owned(),
        OnPass::Wait => {
            "if one is better, and worse on nothing: it waits for a person to promote it".to_owned()
        }
    };
    let feared = match judge.on_fail {
        OnFail::Rollback => {
            format!("if one is worse: it is taken out, its share goes to {baseline}, its build is blocked")
        }
        OnFail::Hold => "if one is worse: it holds, and an alert says so".to_owned(),
    };
    let late =
        format!("without a winner in {}: it holds, as inconclusive", write_duration(judge.max_duration));
    match report.state {
        State::Waiting => vec!["when every variant is ready: the comparison begins".to_owned(), feared],
        State::Running => vec![hoped, feared, late],
        State::Paused => vec!["on resume: it goes on".to_owned(), feared],
        State::Held => vec!["on resume: it goes on; pin and rollback end it".to_owned(), feared],
        State::Passed => vec!["on promote: everything to the winner; rollback ends it".to_owned(), feared],
        State::Promoted => {
            vec![format!(
                "nothing by itself; `parhelion ctl export {}` prints the file that agrees",
                model.name
            )]
        }
        State::RolledBack => {
            vec!["nothing by itself: the file names other builds, or a person resumes it".to_owned()]
        }
        State::Pinned => vec!["on resume: the comparison goes on".to_owned()],
        State::Steady => Vec::new(),
    }
}

/// Of a bandit.
fn learning(model: &Model, bandit: &Bandit, then: Option<&str>, report: &Report) -> Vec<String> {
    let to_the_best = match then {
        Some(then) => format!("{then} begins, or the baseline as the best ends the rollout"),
        None => "everything to the winner".to_owned(),
    };
    let hoped = match (&bandit.stop, bandit.on_pass) {
        _ if bandit.apprentice => {
            "nothing by itself: the baseline answers, and this tells what it would do".to_owned()
        }
        (None, _) => "it learns for ever: more to whoever earns more".to_owned(),
        (Some(_), OnPass::Promote) => format!("when one is the best for certain: {to_the_best}"),
        (Some(_), OnPass::Wait) => {
            "when one is the best for certain: it waits for a person to promote it".to_owned()
        }
    };
    let feared = match bandit.on_fail {
        OnFail::Rollback => "if one fails a guard: it is taken out, and its build is blocked".to_owned(),
        OnFail::Hold => "if one fails a guard: it holds, and an alert says so".to_owned(),
    };
    match report.state {
        State::Waiting => vec!["when every variant is ready: it begins to learn".to_owned(), feared],
        State::Running => vec![hoped, feared],
        State::Paused => vec!["on resume: it goes on learning".to_owned(), feared],
        State::Held => vec!["on resume: it goes on; promote, pin and rollback end it".to_owned(), feared],
        State::Passed => vec![format!("on promote: {to_the_best}; rollback ends it"), feared],
        State::Promoted => {
            vec![format!(
                "nothing by itself; `parhelion ctl export {}` prints the file that agrees",
                model.name
            )]
        }
        State::RolledBack => {
            vec!["nothing by itself: the file names other builds, or a person resumes it".to_owned()]
        }
        State::Pinned => vec!["on resume: it goes on learning".to_owned()],
        State::Steady => Vec::new(),
    }
}

/// Of rankers whose lists are merged.
fn interleaved(model: &Model, interleave: &Interleave, report: &Report) -> Vec<String> {
    let baseline = model.variants.get(interleave.baseline).map_or("", |variant| &*variant.name);
    let hoped = match interleave.on_pass {
        OnPass::Promote => "if sessions prefer one to the baseline: it answers alone".to_owned(),
        OnPass::Wait => {
            "if sessions prefer one to the baseline: it waits for a person to promote it".to_owned()
        }
    };
    let feared = match interleave.on_fail {
        OnFail::Rollback => {
            format!("if sessions prefer {baseline} to one: it is not asked any more, its build is blocked")
        }
        OnFail::Hold => format!("if sessions prefer {baseline} to one: it holds, and an alert says so"),
    };
    let limit = write_duration(interleave.max_duration);
    let late = format!("without a preference in {limit}: it holds, as inconclusive");
    match report.state {
        State::Waiting => vec!["when every ranker is ready: the comparison begins".to_owned(), feared],
        State::Running => vec![hoped, feared, late],
        State::Paused => vec!["on resume: it goes on".to_owned(), feared],
        State::Held => vec!["on resume: it goes on; pin and rollback end it".to_owned(), feared],
        State::Passed => vec!["on promote: the winner answers alone; rollback ends it".to_owned(), feared],
        State::Promoted => vec![format!(
            "nothing by itself; `parhelion ctl export {}` prints the file that agrees",
            model.name
        )],
        State::RolledBack => {
            vec!["nothing by itself: the file names other builds, or a person resumes it".to_owned()]
        }
        State::Pinned => vec!["on resume: the comparison goes on".to_owned()],
        State::Steady => Vec::new(),
    }
}

/// What comes next of a rolling update.
fn replacing(rolling: &Rolling, report: &Report) -> Vec<String> {
    let Rolling { version, batch, min_ready, .. } = rolling;
    let limit = write_duration(rolling.replace_timeout);
    let late = match rolling.on_fail {
        OnFail::Rollback => format!("if one is not replaced, ready and warm within {limit}: all go back"),
        OnFail::Hold => {
            format!("if one is not replaced, ready and warm within {limit}: it holds for a person")
        }
    };
    let forward = format!("{batch} at a time, all run version {version}; {min_ready} always serve");
    match report.state {
        State::Waiting | State::Running => vec![forward, late],
        State::Paused | State::Held => {
            vec![format!("on resume: {forward}"), "rollback walks back".to_owned()]
        }
        State::RolledBack => vec![format!(
            "those that were replaced go back to the version before; then nothing, until the file names another version than {version} or a person resumes it"
        )],
        State::Steady | State::Promoted | State::Passed | State::Pinned => Vec::new(),
    }
}

struct Words<'a> {
    model: &'a Model,
    canary: &'a Canary,
    /// What comes after its last step, where that is not the end.
    then: Option<String>,
}

impl Words<'_> {
    fn all(&self, report: &Report) -> Vec<String> {
        let (candidate, step) = (self.name(self.canary.candidate), report.step.map_or(0, |(step, _)| step));
        match report.state {
            State::Steady => Vec::new(),
            State::Waiting => vec![format!("when {candidate} is ready: {}", self.step(0))],
            State::Running => vec![self.hoped(step), self.feared(), self.late()],
            State::Paused => vec![format!("on resume: it goes on at step {}", step + 1), self.feared()],
            State::Held => {
                let ways = "on resume: it goes on at this step; promote and rollback end it";
                vec![ways.to_owned(), self.feared()]
            }
            State::Passed => {
                vec![format!("on promote: everything to {candidate}; rollback ends it"), self.feared()]
            }
            State::Promoted => {
                let export = format!("parhelion ctl export {}", self.model.name);
                vec![format!("nothing by itself; `{export}` prints the file that agrees")]
            }
            State::RolledBack => {
                vec![format!(
                    "nothing by itself: the file names another build of {candidate}, or a person resumes it"
                )]
            }
            State::Pinned => vec!["on resume: the rollout goes on where it was".to_owned()],
        }
    }

    /// If every guard passes.
    fn hoped(&self, step: u32) -> String {
        let candidate = self.name(self.canary.candidate);
        let next = step as usize + 1;
        let then = match (self.canary.steps.get(next), self.canary.on_pass) {
            (Some(_), _) => self.step(next),
            (None, OnPass::Promote) if self.then.is_some() => self.then.clone().unwrap_or_default(),
            (None, OnPass::Promote) => format!("everything to {candidate}"),
            (None, OnPass::Wait) => format!("it stays, until a person promotes {candidate}"),
        };
        format!("if every guard passes: {then}")
    }

    /// If one fails.
    fn feared(&self) -> String {
        let (baseline, candidate) = (self.name(self.canary.baseline), self.name(self.canary.candidate));
        match self.canary.on_fail {
            OnFail::Rollback => {
                format!("if one fails: everything to {baseline}, and {candidate}'s build is blocked")
            }
            OnFail::Hold => "if one fails: it stays at this step, and an alert says so".to_owned(),
        }
    }

    /// If none does in time.
    fn late(&self) -> String {
        format!("without a verdict in {}: it holds", write_duration(self.canary.max_step_time))
    }

    /// A step of the plan, from 0.
    fn step(&self, index: usize) -> String {
        let (candidate, steps) = (self.name(self.canary.candidate), &self.canary.steps);
        let Some(step) = steps.get(index) else { return String::new() };
        let hold = if step.hold.is_zero() {
            String::new()
        } else {
            format!(", for at least {}", write_duration(step.hold))
        };
        format!("step {} of {}, {} to {candidate}{hold}", index + 1, steps.len(), step.share)
    }

    fn name(&self, variant: usize) -> &str {
        self.model.variants.get(variant).map_or("", |variant| &*variant.name)
    }
}

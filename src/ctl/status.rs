//! A rollout for people: where it is, what it waits for, how sure it is, and what comes next. Pure.

use std::time::Duration;

use super::compare;
use super::drift;
use super::log;
use super::paint::{Hue, Paint};
use super::plot;
use super::shadow;
use super::text::{self, Cell, share, table, within, wrapped};
use crate::config::units::{rough_duration, write_count};
use crate::pb::v1::{Arm, Estimate, Fleet, Guard, Kept, Role, Rollout, Verdict};

/// Columns of an interval's line.
const PLOT: usize = 37;
/// Milliseconds after which a replica that said nothing is told apart, and by which clocks may differ.
const QUIET: i64 = 30_000;
const SKEW: u64 = 60_000;
/// Columns of a guard's name, and of its verdict, where there are few.
const NAME: usize = 14;
const VERDICT: usize = 10;

/// One line for each.
pub(super) fn list(rollouts: &[Rollout], paint: Paint) -> Vec<String> {
    if rollouts.is_empty() {
        return vec!["no rollouts".to_owned()];
    }
    let heading = ["MODEL", "KIND", "STATE", "STEP", "SHARES", "VERDICT"].map(Cell::left);
    let mut rows = vec![Vec::from(heading)];
    rows.extend(rollouts.iter().map(|rollout| {
        let step = rollout.step.map_or("–".to_owned(), |step| format!("{step}/{}", rollout.steps));
        let verdict = if rollout.guards.is_empty() { "–".to_owned() } else { spoken(rollout.verdict()) };
        vec![
            Cell::left(&rollout.model).hue(Hue::Strong),
            Cell::left(&rollout.kind),
            Cell::left(state(rollout)).hue(Hue::of_state(rollout.state())),
            Cell::left(step),
            Cell::left(shares(rollout)),
            Cell::left(verdict).hue(Hue::of_verdict(rollout.verdict())),
        ]
    }));
    table(rows, &[20, 8, 11, 5, 22, 15], paint)
}

/// All of each.
pub(super) fn all(rollouts: &[Rollout], paint: Paint) -> Vec<String> {
    if rollouts.is_empty() {
        return list(rollouts, paint);
    }
    let mut lines = Vec::new();
    for rollout in rollouts {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(status(rollout, paint));
    }
    lines
}

/// All of one.
pub(super) fn status(rollout: &Rollout, paint: Paint) -> Vec<String> {
    let mut lines = vec![title(rollout, paint)];
    lines.extend(facts(rollout, text::WIDTH, Told::All));
    lines.push(String::new());
    lines.extend(arms(rollout, paint));
    if !rollout.endpoints.is_empty() {
        lines.push(String::new());
        lines.extend(endpoints(rollout, paint));
    }
    if compare::is_one(rollout) {
        lines.push(String::new());
        lines.extend(compare::lines(rollout, paint).into_iter().map(|(_, line)| line));
    } else if !rollout.guards.is_empty() {
        lines.push(String::new());
        lines.extend(guards(rollout, paint));
    }
    for judged in &rollout.shadows {
        lines.push(String::new());
        lines.extend(shadow::lines(judged, paint));
    }
    if let Some(drift) = &rollout.drift {
        lines.push(String::new());
        lines.extend(drift::lines(drift, paint));
    }
    lines
}

/// One line for each endpoint of a rolling update.
fn endpoints(rollout: &Rollout, paint: Paint) -> Vec<String> {
    let heading = ["ENDPOINT", "PLACE", "RUNS", "NEXT", "CALLS", "READY"].map(Cell::left);
    let mut rows = vec![Vec::from(heading)];
    let or = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    rows.extend(rollout.endpoints.iter().map(|endpoint| {
        vec![
            Cell::left(&endpoint.address).hue(Hue::Strong),
            Cell::left(text::word(endpoint.place().as_str_name(), "PLACE")),
            Cell::left(or(&endpoint.runs)),
            Cell::left(or(&endpoint.wanted)),
            Cell::left(endpoint.in_flight.to_string()),
            Cell::left(if endpoint.ready { "yes" } else { "no" }),
        ]
    }));
    table(rows, &[26, 9, 14, 14, 6, 5], paint)
}

/// `fraud: canary, running`.
pub(super) fn title(rollout: &Rollout, paint: Paint) -> String {
    let model = paint.text(Hue::Strong, &rollout.model);
    let state = paint.text(Hue::of_state(rollout.state()), &state(rollout));
    format!("{model}: {}, {state}", rollout.kind)
}

/// How much is told of a rollout, where there is little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// Where it is.
    Place,
    /// What it waits for and how sure it is, too, and what somebody should see to.
    Now,
    /// What comes next, and where it is from, too.
    All,
}

/// What is to be known at a glance, in lines of `width`.
pub(super) fn facts(rollout: &Rollout, width: usize, told: Told) -> Vec<String> {
    let facts = points(rollout).into_iter().filter(|(least, ..)| *least <= told);
    facts.flat_map(|(_, label, text)| within(width, &format!("  {label:<8}"), &text)).collect()
}

/// The facts, each with when it is told and its label.
fn points(rollout: &Rollout) -> Vec<(Told, &'static str, String)> {
    let mut points = vec![(Told::Place, "where", place(rollout))];
    let mut add = |least, label, text: String| points.push((least, label, text));
    if !rollout.waits_for.is_empty() {
        add(Told::Now, "waits", rollout.waits_for.clone());
    }
    if compare::is_one(rollout) {
        add(Told::Now, "verdict", spoken(rollout.verdict()));
    } else if !rollout.guards.is_empty() {
        add(Told::Now, "sure", sure(rollout));
    }
    for judged in &rollout.shadows {
        add(Told::Now, "shadow", shadow::brief(judged));
    }
    if let Some(drift) = &rollout.drift {
        add(Told::Now, "drift", drift::brief(drift));
    }
    for (index, next) in rollout.next.iter().enumerate() {
        add(Told::All, if index == 0 { "next" } else { "" }, next.clone());
    }
    let blocked: Vec<&str> =
        rollout.arms.iter().filter(|arm| arm.blocked).map(|arm| arm.build.as_str()).collect();
    if !blocked.is_empty() {
        add(Told::All, "blocked", blocked.join(", "));
    }
    if !rollout.differs.is_empty() {
        add(Told::All, "differs", rollout.differs.clone());
    }
    for refused in &rollout.refused {
        add(Told::Now, "refused", format!("the newest file: {refused}"));
    }
    if let Some(fleet) = &rollout.fleet {
        for (told, text) in shared(fleet, &rollout.revision) {
            add(told, "fleet", text);
        }
    }
    match rollout.kept() {
        Kept::Failing => add(Told::Now, "kept", format!("not now: {}", rollout.kept_why)),
        Kept::Memory if rollout.steps > 0 || compare::is_one(rollout) => {
            let memory = "in memory only: without `state` it begins again when the process ends";
            add(Told::All, "kept", memory.to_owned());
        }
        Kept::Memory | Kept::Directory | Kept::Fleet | Kept::Unspecified => {}
    }
    if let Some(known) = &rollout.log {
        for (index, line) in log::facts(known).into_iter().enumerate() {
            add(Told::All, if index == 0 { "log" } else { "" }, line);
        }
        for line in log::troubles(known) {
            add(Told::Now, "log", line);
        }
    }
    let (config, revision) = (&rollout.config_revision, &rollout.revision);
    let file = format!("revision {config}, rollout {revision}, epoch {}", rollout.epoch);
    add(Told::All, "file", file);
    points
}

/// How a replica stands among the others: what somebody should see to first.
fn shared(fleet: &Fleet, revision: &str) -> Vec<(Told, String)> {
    let mut lines = Vec::new();
    let decides = match &fleet.holder {
        holder if holder.is_empty() => "nobody decides".to_owned(),
        holder if *holder == fleet.replica => "this one decides".to_owned(),
        holder => format!("{holder} decides"),
    };
    let newest = fleet.replicas.iter().map(|replica| replica.version).max().unwrap_or(0).max(fleet.version);
    // One that started anew has left a name that says nothing any more.
    let last = fleet.replicas.iter().map(|replica| replica.at_unix_ms).max().unwrap_or(0);
    let (here, gone): (Vec<_>, Vec<_>) =
        fleet.replicas.iter().partition(|one| last - one.at_unix_ms <= QUIET);
    let mut text = format!("{} replicas, plan {}, {decides}", here.len(), fleet.version);
    if !gone.is_empty() {
        text.push_str(&format!("; {} not heard of for a while", gone.len()));
    }
    lines.push((Told::Now, text));
    if fleet.parted {
        let seconds = fleet.silence_ms / 1000;
        let text = format!(
            "parted from the others for {seconds} s: its own guards act, and it serves the last plan"
        );
        lines.push((Told::Now, text));
    }
    let behind = here.iter().filter(|one| one.version < newest && one.revision == revision).count();
    if behind > 0 {
        lines
            .push((Told::Now, format!("{behind} served an older plan than {newest} when they last said so")));
    }
    let other = here.iter().filter(|one| one.revision != revision).count();
    if other > 0 {
        lines.push((Told::Now, format!("{other} have another file, and another rollout of this model")));
    }
    if fleet.skew_ms.unsigned_abs() > SKEW {
        let seconds = fleet.skew_ms as f64 / 1e3;
        lines.push((
            Told::Now,
            format!("the store's clock is {seconds:+.0} s from this one's; steps go by the store's"),
        ));
    }
    if fleet.waiting > 2 || fleet.lost > 0 {
        let text =
            format!("{} parts of its evidence wait for the store, {} are lost", fleet.waiting, fleet.lost);
        lines.push((Told::All, text));
    }
    lines
}

/// `step 2 of 4, 5 % to v2, for 3m 12s`.
fn place(rollout: &Rollout) -> String {
    let since = rough_duration(Duration::from_millis(rollout.since_ms));
    let step = rollout.step.map_or(String::new(), |step| format!("step {step} of {}, ", rollout.steps));
    format!("{step}{}, for {since}", shares(rollout))
}

/// `5 % to v2, 95 % to v1`: what is given, the candidate first.
pub(super) fn shares(rollout: &Rollout) -> String {
    let mut given: Vec<&Arm> = rollout.arms.iter().filter(|arm| arm.share > 0.0).collect();
    given.sort_by_key(|arm| arm.role() != Role::Candidate);
    if given.is_empty() {
        return "shares by segment".to_owned();
    }
    given.iter().map(|arm| format!("{} {}", arm.variant, share(arm.share))).collect::<Vec<_>>().join(", ")
}

/// `not enough data: 2 of 3 guards pass`.
fn sure(rollout: &Rollout) -> String {
    let of = |verdict: Verdict| rollout.guards.iter().filter(|guard| guard.verdict() == verdict).count();
    let (pass, fail, all) = (of(Verdict::Pass), of(Verdict::Fail), rollout.guards.len());
    let mut text = format!("{}: {pass} of {all} guards pass", spoken(rollout.verdict()));
    if fail > 0 {
        let names = rollout.guards.iter().filter(|guard| guard.verdict() == Verdict::Fail);
        let names: Vec<&str> = names.map(|guard| guard.name.as_str()).collect();
        text.push_str(&format!(", {} fails", names.join(", ")));
    }
    let missing = rollout.guards.iter().map(|guard| guard.missing).max().unwrap_or(0);
    if missing > 0 && fail == 0 {
        text.push_str(&format!("; a healthy candidate needs about {} more calls", write_count(missing)));
    }
    text
}

/// The variants.
pub(super) fn arms(rollout: &Rollout, paint: Paint) -> Vec<String> {
    let mut heading = Vec::from(["VARIANT", "ROLE", "VERSION", "READY"].map(Cell::left));
    heading.extend(["SHARE", "CALLS"].map(Cell::right));
    let mut rows = vec![heading];
    let mut away = Vec::new();
    for arm in &rollout.arms {
        let ready = match (arm.blocked, arm.ready) {
            (true, _) => Cell::left("blocked").hue(Hue::Bad),
            (false, true) => Cell::left("yes"),
            (false, false) => Cell::left("no").hue(Hue::Look),
        };
        rows.push(vec![
            Cell::left(&arm.variant).hue(Hue::Strong),
            Cell::left(text::word(arm.role().as_str_name(), "ROLE")),
            Cell::left(if arm.version.is_empty() { "–" } else { &arm.version }),
            ready,
            Cell::right(share(arm.share)),
            Cell::right(write_count(arm.calls)),
        ]);
        if !arm.ready && !arm.why.is_empty() {
            away.extend(wrapped("  ", &format!("{} is not ready: {}", arm.variant, arm.why)));
        }
        if !arm.mismatch.is_empty() {
            away.extend(wrapped("  ", &format!("{} is not as the file says: {}", arm.variant, arm.mismatch)));
        }
    }
    let table = table(rows, &[20, 9, 16, 7, 9, 15], paint);
    table.into_iter().map(|line| format!("  {line}")).chain(away).collect()
}

/// The guards, two lines each.
pub(super) fn guards(rollout: &Rollout, paint: Paint) -> Vec<String> {
    let name = |role: Role| {
        let arm = rollout.arms.iter().find(|arm| arm.role() == role);
        arm.map_or(String::new(), |arm| arm.variant.to_uppercase())
    };
    let (baseline, candidate) = (name(Role::Baseline), name(Role::Candidate));
    let mut rows = vec![vec![
        Cell::left("GUARD"),
        Cell::right(baseline),
        Cell::right(candidate),
        Cell::left("HARM AND ITS INTERVAL"),
        Cell::right("ALLOWED"),
        Cell::left("VERDICT"),
    ]];
    for guard in &rollout.guards {
        let seen = |estimate: &Option<Estimate>| {
            text::estimate(guard, estimate.as_ref().and_then(|estimate| estimate.value))
        };
        rows.push(vec![
            Cell::left(&guard.name),
            Cell::right(seen(&guard.baseline)),
            Cell::right(seen(&guard.candidate)),
            Cell::left(harm(guard)),
            Cell::right(format!("{}{}", text::harm(guard, guard.margin), text::unit(guard))),
            Cell::left(short(guard.verdict())).hue(Hue::of_verdict(guard.verdict())),
        ]);
    }
    let mut lines = Vec::new();
    for (index, row) in table(rows, &[14, 8, 8, 26, 8, 11], paint).into_iter().enumerate() {
        lines.push(format!("  {row}"));
        if let Some(guard) = index.checked_sub(1).and_then(|index| rollout.guards.get(index)) {
            lines.push(below(guard, paint));
        }
    }
    lines
}

/// A guard in few columns: its interval drawn, and the verdict; below, where there is a second row, the figures.
pub(super) fn narrow(guard: &Guard, width: usize) -> [String; 2] {
    let verdict = short(guard.verdict());
    let plot = plot::line(guard, width.saturating_sub(NAME + VERDICT + 2));
    let mut name = guard.name.clone();
    text::cut(&mut name, NAME);
    let (margin, unit) = (text::harm(guard, guard.margin), text::unit(guard));
    [
        format!("{name:<NAME$} {plot:<room$} {verdict}", room = width.saturating_sub(NAME + VERDICT + 2)),
        format!("  {}, at most {margin}{unit}", harm(guard)),
    ]
}

/// `+0.02 (-0.11 … +0.2) pp`.
pub(super) fn harm(guard: &Guard) -> String {
    let Some(interval) = &guard.harm else {
        // How far answers are apart is no harm by itself, and has no interval.
        let apart = guard.name == "shadow" || guard.name.starts_with("drift ");
        let seen = guard.candidate.as_ref().and_then(|estimate| estimate.value).filter(|_| apart);
        return seen.map_or("nothing known".to_owned(), |seen| text::estimate(guard, Some(seen)));
    };
    let part = |value| text::harm(guard, value);
    let (middle, low, high) = (part(interval.middle), part(interval.low), part(interval.high));
    format!("{middle} ({low} … {high}){}", text::unit(guard))
}

/// The interval as a line, and how far the evidence is.
fn below(guard: &Guard, paint: Paint) -> String {
    let plot = plot::line(guard, PLOT);
    let mut said = Vec::new();
    if guard.threshold > 0.0 {
        said.push(format!("ln e {:.1} of {:.1}", guard.ln_e, guard.threshold));
    }
    if guard.missing > 0 && guard.harm.is_some() && guard.verdict() == Verdict::NotEnoughData {
        said.push(format!("{} to go", write_count(guard.missing)));
    }
    let said = paint.text(Hue::Faint, &said.join(", "));
    let plot = paint.text(Hue::of_verdict(guard.verdict()), &plot);
    format!("    {plot}  {said}").trim_end().to_owned()
}

/// A verdict in a narrow column.
fn short(verdict: Verdict) -> String {
    match verdict {
        Verdict::NotEnoughData => "not enough".to_owned(),
        verdict => spoken(verdict),
    }
}

/// A verdict as people say it.
pub(super) fn spoken(verdict: Verdict) -> String {
    text::spaced(&text::verdict(verdict))
}

/// A state as people say it.
pub(super) fn state(rollout: &Rollout) -> String {
    text::spaced(&text::state(rollout.state()))
}

#[cfg(test)]
pub(super) mod tests;

//! What is said of a rolling update: its status page, each endpoint, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use super::{EndpointReport, Member, Progress};
use crate::config::Rolling;
use crate::config::units::write_duration;
use crate::strategy::limits::together;
use crate::verdict::{Report, State};

impl Progress {
    /// Everything a status page says; `variants` is how many the model has.
    pub fn report(&self, rolling: &Rolling, variants: usize, now: Duration) -> Report {
        let total = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let done = u32::try_from(self.done()).unwrap_or(u32::MAX);
        let findings = self.findings(rolling);
        Report {
            state: self.state,
            step: (total > 0).then(|| (done.min(total.saturating_sub(1)), total)),
            stage: None,
            shares: (0..variants).map(|variant| f64::from(u8::from(variant == rolling.variant))).collect(),
            calls: vec![0; variants],
            since: now.saturating_sub(self.entered),
            verdict: together(&findings),
            findings,
            waits_for: self.waits_for(rolling, now),
            learning: None,
        }
    }

    /// How each endpoint stands.
    pub fn endpoints(&self) -> Vec<EndpointReport> {
        let over = matches!(self.state, State::Steady | State::Promoted) || self.restored;
        let one = |(place, member): (usize, &Member)| {
            let other = |wanted: &Arc<str>| !member.serves() || member.runs.as_ref() != Some(wanted);
            let wanted = self.wanted(place).filter(|wanted| other(wanted) && !over);
            member.report(wanted)
        };
        self.members.iter().enumerate().map(one).collect()
    }

    fn waits_for(&self, rolling: &Rolling, now: Duration) -> String {
        let mut waits: Vec<String> = match self.state {
            State::Steady | State::Promoted => Vec::new(),
            _ if self.restored => Vec::new(),
            State::Waiting => {
                let unknown = self.members.iter().filter(|member| member.runs.is_none());
                unknown.map(|member| member.unknown()).collect()
            }
            _ => (0..self.members.len())
                .filter_map(|place| self.members.get(place)?.waits_for(self.wanted(place).as_ref(), now))
                .collect(),
        };
        if matches!(self.state, State::Running | State::RolledBack)
            && !self.restored
            && waits.is_empty()
            && self.has_held(rolling, now)
            && (0..self.members.len()).any(|place| self.is_due(place, now))
        {
            let (serving, least) = (self.serving(), rolling.min_ready);
            waits.push(format!("another endpoint to be ready: {serving} serve, and {least} must stay"));
        }
        if self.state == State::Running && waits.is_empty() && !self.has_held(rolling, now) {
            let since = now.saturating_sub(self.readmitted.unwrap_or(now));
            let left = rolling.hold.saturating_sub(since).as_secs_f64().ceil();
            let left = write_duration(Duration::from_secs_f64(left));
            waits.push(format!("the replaced to have served for {left} more"));
        }
        if let Some(why) = &self.blocked {
            waits.push(format!("a person to let the version try again, for {why}: resume it"));
        }
        match self.state {
            State::Paused => waits.push("a person to resume it".to_owned()),
            State::Held => waits.push("a person to resume it or roll it back".to_owned()),
            _ => {}
        }
        waits.join("; ")
    }
}

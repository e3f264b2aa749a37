//! What the demo can show of a canary: three candidates, one configuration. Pure.
//!
//! The sidecar is told the same in all three, so it cannot know which it meets. Everything that makes the rollout
//! faster than one of your own is in the configuration's text, and said there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::reporter;
use super::server::manner::Trouble;
use crate::verdict::Action;

/// A candidate to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// As good as the baseline: walks the steps and is promoted
    CanaryGood,
    /// Starts to fail every call: callers see no failure, and it is rolled back
    CanaryBroken,
    /// Becomes slow, and is rolled back
    CanarySlow,
}

/// How long the candidate behaves at its second step before its trouble begins.
pub const BEFORE_TROUBLE: Duration = Duration::from_secs(2);
/// The step, from 0, at which it begins.
pub const TROUBLE_AT: u32 = 1;

impl Scenario {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::CanaryGood => "canary-good",
            Scenario::CanaryBroken => "canary-broken",
            Scenario::CanarySlow => "canary-slow",
        }
    }

    /// What becomes of the candidate, in a sentence.
    pub fn story(self) -> &'static str {
        match self {
            Scenario::CanaryGood => "a candidate that is as good as the baseline",
            Scenario::CanaryBroken => "a candidate that starts to fail every call",
            Scenario::CanarySlow => "a candidate that becomes slow",
        }
    }

    /// What its server does at some time, if anything.
    pub fn trouble(self) -> Option<Trouble> {
        match self {
            Scenario::CanaryGood => None,
            Scenario::CanaryBroken => Some(Trouble::Fails),
            Scenario::CanarySlow => Some(Trouble::Slow),
        }
    }

    /// How it ends if all is well.
    pub fn end(self) -> Action {
        match self {
            Scenario::CanaryGood => Action::Promoted,
            Scenario::CanaryBroken | Scenario::CanarySlow => Action::RolledBack,
        }
    }

    /// Another one, to try next.
    pub fn next(self) -> Scenario {
        match self {
            Scenario::CanaryGood => Scenario::CanaryBroken,
            Scenario::CanaryBroken => Scenario::CanarySlow,
            Scenario::CanarySlow => Scenario::CanaryGood,
        }
    }
}

/// One variant, as the file says it.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its server.
    pub server: SocketAddr,
}

/// The sidecar's configuration: `state` is a directory of its own.
pub fn configuration(model: &str, [baseline, candidate]: &[Named<'_>; 2], state: &Path) -> String {
    let variant = |Named { name, version, server }: &Named<'_>| {
        format!("      {name}: {{endpoint: \"http://{server}\", version: {version}}}")
    };
    let state = serde_json::Value::from(state.to_string_lossy()).to_string();
    format!(
        "# A canary in a hurry, so that its story fits into half a minute. What is
# shortened says what the default is. Ports of 0: any that is free.
listen: 127.0.0.1:0
admin: 127.0.0.1:0
health: 127.0.0.1:0
state: {state}
models:
  {model}:
    variants:
{v1}
{v2}
    # A user who has met the candidate stays with it while its share grows.
    unit: [metadata:x-user-id]
    strategy:
      kind: canary
      baseline: {baseline}
      candidate: {candidate}
      # Default: 1%, 5%, 10%, 25%, 50%, and each held for at least 5m.
      steps:
        - {{share: 10%, hold: 3s}}
        - {{share: 20%, hold: 6s}}
        - {{share: 50%, hold: 4s}}
      guards:
        # How much worse the candidate may be. Of calls without a failure it takes
        # about {errors} of the candidate's to prove that no more than 2 % fail, and
        # {default} to prove the default, 0.1 %.
        errors: {{absolute: 2%}}
        rejections: {{absolute: 2%}}
        # Twice the baseline's is a coarse line, for a machine that may do much
        # else. Default: 10 % to 15 %.
        latency: {{quantile: 90%, relative: 100%}}
        # No more than 5 in 100 fewer right answers: what callers report decides too.
        feedback: {{name: {feedback}, absolute: 5%}}
      # Latency counts from then on. Default: 30s and 50 calls.
      warmup: {{time: 1s, calls: 20}}
      # No verdict by then: it holds for a person. Default: 1h.
      max_step_time: 35s
    # 1 where an answer was the true digit, else 0: reported for every call with the
    # prediction id of its answer. Without a default it counts as it comes.
    feedback:
      {feedback}: {{kind: binary, window: 30s}}
    # What the candidate fails at the baseline answers. Default: four times the
    # baseline's p99, at least 100ms.
    fallback: {{timeout: 1s}}",
        feedback = reporter::NAME,
        v1 = variant(baseline),
        v2 = variant(candidate),
        baseline = baseline.name,
        candidate = candidate.name,
        errors = NEEDED[0],
        default = NEEDED[1],
    )
}

/// Calls of a candidate that never fails until an absolute margin of 2 %, and of 0.1 %, is proven.
const NEEDED: [u64; 2] = [210, 4_300];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Strategy};
    use crate::strategy::canary::plan::{Expected, needs};

    fn text() -> String {
        let named = |name, version, port| Named { name, version, server: ([127, 0, 0, 1], port).into() };
        let variants = [named("v1", "1.0.0", 8001), named("v2", "2.0.0", 8002)];
        configuration("digits", &variants, Path::new("/tmp/a \"b\": #c"))
    }

    fn canary() -> config::Canary {
        let loaded = config::read("demo.yaml", &text(), &config::Environment::default()).unwrap();
        // That replicas would need a key file of their own is no matter of one sidecar.
        let mut warnings = loaded.warnings.iter().map(ToString::to_string);
        assert!(warnings.all(|warning| warning.contains("each replica signs")), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.state.as_deref(), Some(Path::new("/tmp/a \"b\": #c")));
        let model = loaded.config.model("digits").unwrap();
        let Strategy::Canary(canary) = &model.strategy else { panic!("{:?}", model.strategy) };
        config::Canary::clone(canary)
    }

    #[test]
    fn what_its_comments_say_of_margins_is_what_the_judge_needs() {
        let mut canary = canary();
        for (margin, said) in [(0.02, NEEDED[0]), (0.001, NEEDED[1])] {
            canary.guards.errors = Some(config::Margin { absolute: margin, relative: 0.0 });
            let needs = needs(&canary, &Expected { rate: 0.0, spread: 0.5 });
            let calls = needs.iter().find(|need| &*need.guard == "errors").unwrap().calls.unwrap();
            assert!(calls.abs_diff(said) * 20 <= said, "{margin}: {calls} calls are needed, {said} are said");
        }
        assert!(text().contains(&format!("about {} of the candidate's", NEEDED[0])), "{}", text());
    }

    #[test]
    fn the_trouble_falls_into_its_step_and_every_step_ends_in_time() {
        let canary = canary();
        assert!(canary.steps[TROUBLE_AT as usize].hold > BEFORE_TROUBLE * 2);
        assert!(canary.max_step_time * canary.steps.len() as u32 <= Duration::from_secs(110));
    }

    #[test]
    fn names_are_those_that_are_typed() {
        use clap::ValueEnum as _;
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            assert_eq!(scenario.trouble().is_none(), scenario.end() == Action::Promoted);
            assert_ne!(scenario.next(), *scenario);
        }
    }
}

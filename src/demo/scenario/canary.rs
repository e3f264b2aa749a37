//! The canary's configuration: one for three candidates. Pure.
//!
//! The sidecar is told the same of all three, so it cannot know which it meets. Everything that makes the rollout
//! faster than one of your own is in the text, and said there.

use super::{Place, entry, ports};
use crate::demo::reporter;

/// The text.
pub(super) fn configuration(
    Place { model, variants: [baseline, candidate], state, .. }: &Place<'_>,
) -> String {
    format!(
        "# A canary in a hurry, so that its story fits into half a minute. What is
# shortened says what the default is. Ports of 0: any that is free.
{ports}
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
        - {{share: 25%, hold: 3s}}
        - {{share: 35%, hold: 6s}}
        - {{share: 50%, hold: 4s}}
      guards:
        # How much worse the candidate may be. Of calls without a failure it takes
        # about {errors} of the candidate's to prove that no more than 2 % fail, and
        # {default} to prove the default, 0.1 %.
        errors: {{absolute: 2%}}
        rejections: {{absolute: 2%}}
        # The median, and four times the baseline's, is a coarse line: for a machine
        # that does much else and lets one of both servers wait now and then.
        # Default: 50 %, 95 % and 99 %, by 10 % to 15 %.
        latency: {{quantile: 50%, relative: 300%}}
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
    fallback: {{timeout: 2s}}",
        feedback = reporter::NAME,
        ports = ports(state),
        v1 = entry(baseline),
        v2 = entry(candidate),
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
    use std::time::Duration;

    use super::super::tests::read;
    use super::super::{BEFORE_TROUBLE, Scenario, TROUBLE_AT};
    use super::*;
    use crate::config::{self, Strategy};
    use crate::strategy::canary::plan::{Expected, needs};

    fn canary() -> config::Canary {
        let (model, _) = read(Scenario::CanaryGood);
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
        let (_, text) = read(Scenario::CanaryGood);
        assert!(text.contains(&format!("about {} of the candidate's", NEEDED[0])), "{text}");
    }

    #[test]
    fn the_trouble_falls_into_its_step_and_every_step_ends_in_time() {
        let canary = canary();
        assert!(canary.steps[TROUBLE_AT as usize].hold > BEFORE_TROUBLE * 2);
        assert!(canary.max_step_time * canary.steps.len() as u32 <= Duration::from_secs(110));
    }

    #[test]
    fn a_machine_that_makes_fifty_calls_a_second_is_fast_enough_for_the_first_step() {
        let canary = canary();
        let a_second = 50.0 * canary.steps[0].share.probability();
        let needed = NEEDED[0].max(canary.steps[0].calls) as f64 / a_second;
        assert!(needed * 1.5 < canary.max_step_time.as_secs_f64(), "{needed} s");
    }
}

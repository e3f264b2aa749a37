//! The configuration of several stages: copies, then a canary, then everything. Pure.

use super::{Place, entry, ports};
use crate::demo::reporter;

/// Different users, who take turns, so that each is seen before and after a stage.
pub(super) const USERS: u64 = 1_000;

/// The text.
pub(super) fn configuration(
    Place { model, variants: [baseline, candidate], state, .. }: &Place<'_>,
) -> String {
    format!(
        "# Three stages in a hurry. What is shortened says what the default is. Ports of
# 0: any that is free.
{ports}
models:
  {model}:
    variants:
{v1}
{v2}
    # All stages split users alike, so nobody who has v2 goes back to v1.
    unit: [metadata:x-user-id]
    strategy:
      kind: staged
      baseline: {baseline}
      candidate: {candidate}
      stages:
        # v2 gets a copy of every call and answers nobody. Default: 5m.
        - name: copies
          kind: shadow
          hold: 4s
          guards: {{errors: {{absolute: 2%}}, rejections: {{absolute: 2%}}}}
          max_step_time: 30s
        # Default: five steps, each held for at least 5m.
        - kind: canary
          steps: [{{share: 25%, hold: 4s}}, {{share: 50%, hold: 4s}}]
          guards:
            # Wide margins need few calls. Default: 0.1 %.
            errors: {{absolute: 2%}}
            rejections: {{absolute: 2%}}
            # It counts once per user and minute, and these users are few. Default: on.
            latency: off
            # No more than 5 in 100 fewer right answers.
            feedback: {{name: {feedback}, absolute: 5%}}
          # No verdict by then: it holds for a person. Default: 1h.
          max_step_time: 35s
        - {{name: everybody, kind: pinned}}
    # How calls are copied, in the stage of copies alone.
    shadows: [{{variant: {candidate}, sample: 100%}}]
    # 1 where an answer was the true digit, else 0. What one stage learnt of it
    # counts in the next.
    feedback:
      {feedback}: {{kind: binary, window: 30s}}
    # What v2 fails at v1 answers.
    fallback: {{timeout: 1s}}",
        ports = ports(state),
        v1 = entry(baseline),
        v2 = entry(candidate),
        baseline = baseline.name,
        candidate = candidate.name,
        feedback = reporter::NAME,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Scenario;
    use super::super::tests::read;
    use crate::config::Strategy;

    #[test]
    fn it_goes_from_copies_to_everything_and_every_stage_ends_in_time() {
        let (model, _) = read(Scenario::Staged);
        let Strategy::Staged(staged) = &model.strategy else { panic!("{:?}", model.strategy) };
        let kinds: Vec<&str> = staged.stages.iter().map(|stage| stage.strategy.kind()).collect();
        assert_eq!(kinds, ["shadow", "canary", "pinned"]);
        let limits = staged.stages.iter().map(|stage| match &stage.strategy {
            Strategy::Shadow(canary) | Strategy::Canary(canary) => {
                canary.max_step_time * canary.steps.len() as u32
            }
            _ => Duration::ZERO,
        });
        assert!(limits.sum::<Duration>() <= Duration::from_secs(110));
    }
}

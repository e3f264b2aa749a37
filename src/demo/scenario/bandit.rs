//! The bandit's configuration: two versions, and more of the calls to the one whose answers are right. Pure.

use super::{Place, entry, ports};
use crate::demo::reporter;

/// The text.
pub(super) fn configuration(Place { model, variants: [baseline, other], state, .. }: &Place<'_>) -> String {
    format!(
        "# A bandit in a hurry. What is shortened says what the default is. Ports of 0: any
# that is free.
{ports}
models:
  {model}:
    variants:
{v1}
{v2}
    # A user keeps one version for as long as shares stay; here each call is a new
    # user's.
    unit: [metadata:x-user-id]
    strategy:
      kind: bandit
      baseline: {baseline}
      # What it learns from, and how: each version gets the probability that it is
      # the better one.
      reward: {{name: {feedback}}}
      policy: thompson
      # Neither gets less. A large floor is soon sure. Default: 1 %.
      floor: 20%
      # Who is worse at these is taken out. Wide margins need few calls.
      guards: {{errors: {{absolute: 5%}}, rejections: off, latency: off}}
      # Known well enough: hardly anything could be gained, and the better one is
      # better for certain.
      stop: {{value_remaining: 1%, relative: 2%}}
      # Default: wait, for a person.
      on_pass: promote
    # 1 where an answer was the true digit, else 0: reported for every call with the
    # prediction id of its answer.
    feedback:
      {feedback}: {{kind: binary, window: 30s}}
    # What v2 fails at v1 answers.
    fallback: {{timeout: 2s}}",
        feedback = reporter::NAME,
        ports = ports(state),
        v1 = entry(baseline),
        v2 = entry(other),
        baseline = baseline.name,
    )
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::super::tests::read;
    use crate::config::{OnPass, Strategy};

    #[test]
    fn the_better_one_gets_everything_once_that_is_certain() {
        let (model, _) = read(Scenario::Bandit);
        let Strategy::Bandit(bandit) = &model.strategy else { panic!("{:?}", model.strategy) };
        assert_eq!((bandit.on_pass, bandit.arms.len(), bandit.floor), (OnPass::Promote, 2, 0.2));
        assert!(bandit.stop.is_some() && !bandit.apprentice);
    }
}

//! The comparison's configuration: two versions at even shares, and what callers report decides. Pure.

use super::{Place, entry, ports};
use crate::demo::reporter;

/// The text.
pub(super) fn configuration(Place { model, variants: [baseline, other], state, .. }: &Place<'_>) -> String {
    format!(
        "# A comparison in a hurry. What is shortened says what the default is. Ports of
# 0: any that is free.
{ports}
models:
  {model}:
    variants:
{v1}
{v2}
    # A user stays with one version; here each call is a new user's.
    unit: [metadata:x-user-id]
    strategy:
      kind: ab
      baseline: {baseline}
      weights: {{{baseline}: 50%, {other}: 50%}}
      # What a winner is better at. A difference of less than 2 % of v1's right
      # answers is of no interest: v2 would be told to be equal.
      metrics:
        feedback: {{name: {feedback}, relative: 2%}}
      # What it must not be worse at. Wide margins need few calls. Default: 0.1 %.
      guards:
        errors: {{absolute: 2%}}
        rejections: {{absolute: 2%}}
        latency: {{quantile: 50%, relative: 300%}}
      # Latency counts from then on. Default: 30s and 50 calls.
      warmup: {{time: 1s, calls: 20}}
      # Of either version, before anything is decided. Default: 100.
      min_units: 1000
      # No verdict by then: it holds for a person. Default: 28d.
      max_duration: 100s
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
        other = other.name,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Scenario;
    use super::super::tests::read;
    use crate::config::{OnPass, Strategy};

    #[test]
    fn a_winner_gets_everything_and_a_machine_of_fifty_calls_a_second_finds_one_in_time() {
        let (model, _) = read(Scenario::Ab);
        let Strategy::Ab(ab) = &model.strategy else { panic!("{:?}", model.strategy) };
        let judge = ab.judge.as_ref().unwrap();
        assert_eq!(judge.on_pass, OnPass::Promote);
        assert!(judge.max_duration <= Duration::from_secs(110));
        let seconds = judge.min_units as f64 / (50.0 * ab.weights[1].1.probability());
        assert!(seconds * 2.0 < judge.max_duration.as_secs_f64(), "{seconds} s");
    }
}

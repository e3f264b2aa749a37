//! The configuration of replicas that share one rollout: a canary's, and where they meet. Pure.

use super::{LISTENS, Place, entry, quoted};

/// The text; none of a place that shares nothing.
pub(super) fn configuration(place: &Place<'_>) -> String {
    let Place { model, variants: [baseline, candidate], shared: Some(shared), state, .. } = place else {
        return String::new();
    };
    format!(
        "# One of three replicas. In pods all have the same file: here all run on this host,
# so each has a name and a cache of its own. Ports of 0: any that is free.
{LISTENS}
# Where they meet.
state: redis://{store}
fleet:
  replica: {replica}
  # With it a replica that starts while the store is away knows the last plan.
  cache: {cache}
models:
  {model}:
    variants:
{v1}
{v2}
    # A user has the same variant at every replica.
    unit: [metadata:x-user-id]
    strategy:
      kind: canary
      baseline: {baseline}
      candidate: {candidate}
      # Default: 1%, 5%, 10%, 25%, 50%, and each held for at least 5m.
      steps:
        - {{share: 25%, hold: 2s}}
        - {{share: 50%, hold: 5m}}
      guards:
        # How much worse the candidate may be. Default: 0.1 %.
        errors: {{absolute: 2%}}
        rejections: {{absolute: 2%}}
        # Three sidecars, their models and a store share this host: times say little.
        latency: off
    # What the candidate fails at the baseline answers. Default: four times the
    # baseline's p99, at least 100ms.
    fallback: {{timeout: 2s}}",
        store = shared.store,
        replica = shared.replica,
        cache = quoted(state),
        v1 = entry(baseline),
        v2 = entry(candidate),
        baseline = baseline.name,
        candidate = candidate.name,
    )
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::super::tests::read;
    use crate::config::Strategy;

    #[test]
    fn its_rollout_is_shared_and_stays_where_it_may_break() {
        let (model, text) = read(Scenario::Fleet);
        assert!(
            text.contains("state: redis://127.0.0.1:6379\n") && text.contains("replica: pod-a\n"),
            "{text}"
        );
        let Strategy::Canary(canary) = &model.strategy else { panic!("{:?}", model.strategy) };
        assert!(canary.steps[1].hold.as_secs() > 120 && canary.max_step_time > canary.steps[1].hold);
    }
}

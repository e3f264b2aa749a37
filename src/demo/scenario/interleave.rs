//! The configuration of two rankers that answer together. Pure.

use super::{Place, entry, ports};

/// The feedback that credits them.
pub(in crate::demo) const CLICKS: &str = "clicks";

/// The text.
pub(super) fn configuration(
    Place { model, variants: [baseline, candidate], state, .. }: &Place<'_>,
) -> String {
    format!(
        "# Two rankers in a hurry. What is shortened says what the default is. Ports of 0:
# any that is free.
{ports}
models:
  {model}:
    variants:
{v1}
{v2}
    # Whose session it is: one vote each.
    unit: [metadata:x-user-id]
    strategy:
      kind: interleave
      baseline: {baseline}
      # The items, their scores, and what goes along with each.
      ranking: {{items: items, scores: scores, along: [titles]}}
      credit:
        feedback: {CLICKS}
        # A session votes when its user was silent for so long. Default: 30m.
        session_gap: 300ms
      # No preference by then: it holds for a person. Default: 28d.
      max_duration: 100s
      # Default: a person promotes the winner.
      on_pass: promote
    # What people clicked on, by its slot.
    feedback:
      {CLICKS}: {{kind: clicks, window: 30s}}",
        ports = ports(state),
        v1 = entry(baseline),
        v2 = entry(candidate),
        baseline = baseline.name,
    )
}

//! What a call's prediction id says, from its plan.

use http::HeaderValue;

use super::Recognised;
use super::plan::Plan;
use crate::keys::Keys;
use crate::prediction::{self, Prediction};

/// The id that the caller is told, and what it says; `served` is the variant whose answer it gets.
pub(super) fn seal(
    keys: &Keys,
    call: &Recognised,
    plan: &Plan<'_>,
    served: Option<usize>,
) -> (HeaderValue, Prediction) {
    let arm = |variant: usize| plan.rollout.arms.get(variant).copied().unwrap_or(prediction::NO_ARM);
    let said = Prediction {
        uuid: call.prediction,
        rollout: plan.rollout.id,
        revision: plan.rollout.model.revision,
        epoch: plan.epoch,
        assigned: arm(plan.variant()),
        served: served.map_or(prediction::NO_ARM, arm),
        reason: plan.assignment.reason,
        unit: plan.unit,
        bucket: prediction::bucket(plan.unit, call.prediction),
        odds: plan.odds,
        slots: plan.merged.borrow().as_ref().and_then(|merged| merged.slots),
    };
    // Base64 is visible ASCII, so this always holds; an empty value would be taken nowhere.
    let mut id = HeaderValue::from_bytes(said.seal(keys).as_bytes()).unwrap_or(HeaderValue::from_static(""));
    // Never seen again, so it must not push what is seen again out of the HPACK tables of both ends.
    id.set_sensitive(true);
    (id, said)
}

//! Steps 4 and 5: what one attempt after the other needs of the call: its trace, its hop, its renaming, its tags.

use http::{HeaderMap, HeaderValue};

use super::Recognised;
use super::interleaved;
use super::plan::Plan;
use super::proof;
use super::seal::seal;
use crate::dispatch::rename::Renaming;
use crate::dispatch::{Answering, Journal, Origin, strip_reserved};
use crate::keys::Keys;
use crate::outcome::Attempt;
use crate::worker::Worker;

/// A planned call as its attempts see it.
pub(super) struct Planned<'p> {
    pub(super) worker: &'p Worker,
    pub(super) call: &'p Recognised,
    pub(super) plan: &'p Plan<'p>,
}

impl Origin for Planned<'_> {
    fn hop(&self, variant: usize) -> HeaderValue {
        let variant = &self.plan.rollout.model.variants[variant].name;
        crate::hop::sign(&self.worker.keys, self.call.prediction, variant)
    }

    fn trace(&self, headers: &mut HeaderMap) -> u64 {
        self.worker.trace_attempt(headers, &self.call.trace)
    }

    fn renaming(&self, variant: usize) -> Option<(Renaming, Renaming)> {
        renaming(self.call, self.plan, variant)
    }

    fn tag(&self, answering: Answering, headers: &mut HeaderMap) {
        tag(&self.worker.keys, self.call, self.plan, (answering, true), headers);
    }

    fn failed(&self, attempts: &[Attempt]) {
        // In the moment it fails, as the baseline's calls are counted: not when somebody else has answered.
        if let Some(counted) = self.plan.counted.take() {
            let plan = self.plan;
            proof::count(self.worker, counted, plan.variant(), &plan.rollout.live, attempts);
        }
    }
}

/// Step 5: who answered, and whether it did, in the response's headers; what a model says of it itself is taken out.
pub(super) fn tag(
    keys: &Keys,
    call: &Recognised,
    plan: &Plan<'_>,
    (answering, answered): (Answering, bool),
    headers: &mut HeaderMap,
) {
    strip_reserved(headers);
    if call.hop.is_none() {
        let (id, prediction) = seal(keys, call, plan, answered.then_some(answering.variant));
        plan.rollout.tag(answering, headers, id.clone());
        if let Some(merged) = &*plan.merged.borrow() {
            interleaved::tag(plan, merged, headers);
        }
        call.told.replace(Some((id, prediction)));
    }
}

/// How messages must be renamed so that the variant's server and the caller each see the name they use.
fn renaming(call: &Recognised, plan: &Plan<'_>, variant: usize) -> Option<(Renaming, Renaming)> {
    // A name that no model here has is for the server to refuse as it would directly.
    let (peek, asked) = (call.peek?, plan.asked.as_ref().filter(|_| plan.named)?);
    let adapter = call.adapter;
    let suffix = plan.rollout.request_suffix(variant, &asked.model, adapter);
    if suffix.is_empty() {
        return None;
    }
    let versioned = plan.rollout.model.variants[variant].model_version.is_some() && !asked.version.is_empty();
    let up = Renaming::Request { adapter, asked: asked.model.clone(), suffix };
    let down = Renaming::Response {
        adapter,
        peek,
        name: asked.model.clone(),
        version: versioned.then(|| asked.version.clone()),
    };
    Some((up, down))
}

/// Who the call was sent to last.
pub(super) fn answering(plan: &Plan<'_>, journal: &Journal) -> Answering {
    let assigned = plan.variant();
    match journal.fell_back {
        true => Answering { variant: plan.rollout.model.baseline(), instead_of: Some(assigned) },
        false => Answering { variant: assigned, instead_of: None },
    }
}

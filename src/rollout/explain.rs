//! Why a call gets the variant it gets: by the very code that assigns calls, on where the rollout stands now.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::Rollouts;
use super::record::{Explanation, Question, Refusal};
use crate::assignment::Reason;
use crate::call::Call;
use crate::config::{Key, Model};
use crate::strategy::Strategy;

impl Rollouts {
    /// Which variant a call would get now, and why.
    ///
    /// # Errors
    /// When there is no such model, or the question cannot be asked of it.
    pub fn explain(&self, model: &str, question: &Question) -> Result<Explanation, Refusal> {
        let live = self.known(model)?;
        let (model, standing) = (Arc::clone(&live.inner().model), live.standing());
        let (metadata, parameters) = asked(&model, question)?;
        let call = Call { metadata: &metadata, parameters: &parameters, input: None };
        let strategy = Strategy::new(&model, &self.ground.unit_key);
        let ready = |variant| self.ready(&model, variant).is_ok();
        let decision = strategy.assign(&standing, &call, 0, &ready);
        let name = |variant: usize| model.variants.get(variant).map(|variant| Arc::clone(&variant.name));
        let intervals = match &decision.drawn {
            Some(drawn) => strategy.drawn_from(&standing, &drawn.shares),
            None => strategy.intervals(&standing, decision.segment),
        };
        let drawn = decision.unit.is_none() && intervals.len() > 1;
        let place = if intervals.len() > 1 { strategy.place(&standing, &call) } else { None };
        let segment = decision.segment.and_then(|segment| model.strategy.segments().get(segment));
        let rankers = match decision.assignment.reason {
            Reason::Interleaved => strategy.rankers(&standing).unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok(Explanation {
            rankers: rankers.into_iter().filter_map(|ranker| Some(name(ranker)?.to_string())).collect(),
            model: Arc::clone(&model.name),
            revision: model.revision,
            epoch: standing.epoch,
            stage: standing.stage,
            unit: decision.unit.map(|unit| format!("{unit:016x}")),
            place,
            intervals: intervals
                .into_iter()
                .filter_map(|(variant, places)| Some((name(variant)?, places)))
                .collect(),
            segment: segment.map(|segment| Arc::clone(&segment.name)),
            variant: if drawn { None } else { name(decision.assignment.variant) },
            reason: if drawn { Reason::Draw } else { decision.assignment.reason }.name().to_owned(),
            propensity: decision.assignment.propensity,
            wished: decision.drawn.and_then(|drawn| drawn.wished).and_then(|(variant, _)| name(variant)),
        })
    }
}

/// The call that a question is about.
fn asked(model: &Model, question: &Question) -> Result<(HeaderMap, Vec<(String, String)>), Refusal> {
    match question {
        Question::Call { metadata, parameters } => Ok((metadata.clone(), parameters.clone())),
        Question::Unit(unit) => {
            let first =
                model.unit.first().ok_or_else(|| Refusal::NoUnit { model: Arc::clone(&model.name) })?;
            let mut metadata = HeaderMap::new();
            let mut parameters = Vec::new();
            match first {
                Key::Metadata(name) => {
                    let value = HeaderValue::from_str(unit).ok().filter(|value| value.to_str().is_ok());
                    metadata.insert(name, value.ok_or_else(|| Refusal::Unit { unit: unit.clone() })?);
                }
                Key::Parameter(name) => parameters.push((name.to_string(), unit.clone())),
            }
            Ok((metadata, parameters))
        }
    }
}

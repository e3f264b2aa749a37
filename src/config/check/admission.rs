//! Who takes part in a rollout, and that rollouts of one layer have no unit in common.

use super::Check;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::Percent;
use crate::config::{Admission, Holdout, Layer, Model, Strategy, raw};
use crate::stats::hash::platforms::Platform;

/// What would be left to compare beside a larger one is not worth it.
const MOST_HELD: u32 = 20_000;
const SALT: &str = "holdout";

impl Check<'_> {
    /// Who takes part, by the strategy at `path`.
    pub(super) fn admission(
        &mut self,
        path: &str,
        strategy: &Strategy,
        sticky: bool,
        raw: Option<&raw::Strategy>,
    ) -> Admission {
        let Some(raw) = raw else { return Admission::default() };
        let keys = [("holdout", raw.holdout.is_some()), ("layer", raw.layer.is_some())];
        if !strategy.has_alternatives() {
            self.foreign(path, strategy.kind(), "remove it: everybody gets the one variant", &keys);
            return Admission::default();
        }
        if keys.iter().any(|(_, given)| *given) && !sticky {
            let problem = Problem::new(path, "says which units take part, but the model has no `unit`");
            self.error(problem.with_hint("name what a unit is, like unit: [metadata:x-user-id]"));
        }
        Admission {
            holdout: raw.holdout.as_ref().and_then(|raw| self.holdout(&join(path, "holdout"), raw)),
            layer: raw.layer.as_ref().and_then(|raw| self.layer(&join(path, "layer"), raw)),
        }
    }

    fn holdout(&mut self, path: &str, raw: &raw::Holdout) -> Option<Holdout> {
        let at = join(path, "share");
        let Some(share) = self.share(&at, raw.share.as_ref()) else {
            if raw.share.is_none() {
                self.missing(&at, "say how many units are held out, like 2%");
            }
            return None;
        };
        if share == Percent::NONE || share.thousandths() > MOST_HELD {
            let problem = Problem::new(at, "is no share that can be held out").with_value(share.to_string());
            self.error(problem.with_hint("write more than 0% and at most 20%; 1% to 5% are usual"));
        }
        let salt = raw.salt.as_deref().unwrap_or(SALT);
        if salt.is_empty() {
            let problem = Problem::new(join(path, "salt"), "is empty").with_value("\"\"");
            self.error(
                problem.with_hint("leave it out, or write the same text in all rollouts of this holdout"),
            );
        }
        Some(Holdout { share, salt: salt.into() })
    }

    fn layer(&mut self, path: &str, raw: &raw::Layer) -> Option<Layer> {
        let Some(name) = raw.name.as_deref().filter(|name| !name.is_empty()) else {
            self.missing(&join(path, "name"), "say which layer, by a name that all its rollouts have");
            return None;
        };
        let from = raw.from.as_ref().map(|from| self.share(&join(path, "from"), Some(from)));
        let to = raw.to.as_ref().map(|to| self.share(&join(path, "to"), Some(to)));
        let (from, to) = (from.unwrap_or(Some(Percent::NONE))?, to.unwrap_or(Some(Percent::ALL))?);
        if from >= to {
            let problem = Problem::new(path, format!("has no units: from {from} to {to}"));
            self.error(problem.with_hint("write a `from` that is below `to`"));
        }
        Some(Layer { name: name.into(), from, to })
    }

    /// Whose hash an ab has.
    pub(super) fn hash(&mut self, path: &str, word: Option<&str>) -> Platform {
        let Some(word) = word else { return Platform::Flagd };
        let known = Platform::ALL.map(Platform::name);
        let found = Platform::ALL.into_iter().find(|platform| platform.name() == word);
        found.unwrap_or_else(|| {
            let problem = Problem::new(path, "is no hash that is known").with_value(format!("{word:?}"));
            self.error(problem.with_hint(suggestion(word, &known)));
            Platform::Flagd
        })
    }

    /// That no two rollouts split by the same salt, or have the same units of one layer.
    pub(super) fn apart(&mut self, models: &[Model]) {
        for (index, model) in models.iter().enumerate() {
            let at = |key: &str| format!("models.{}.strategy.{key}", model.name);
            let before = &models[..index];
            let same = |other: &&Model| {
                let salt = model.strategy.salt();
                salt.is_some() && other.strategy.salt() == salt
            };
            if let Some(other) = before.iter().find(same) {
                let what = format!("is the salt of {} too, so both split the same units alike", other.name);
                let hint = "leave it out, or write a text that no other rollout uses";
                self.error(Problem::new(at("salt"), what).with_hint(hint));
            }
            let Some(layer) = &model.admission.layer else { continue };
            let overlaps = |other: &&Model| {
                other.admission.layer.as_ref().is_some_and(|known| {
                    known.name == layer.name && known.from < layer.to && layer.from < known.to
                })
            };
            if let Some(other) = before.iter().find(overlaps) {
                let what = format!("has units of layer {} that {} has too", layer.name, other.name);
                let hint = "give each rollout of a layer a part of its own, like 0% to 50% and 50% to 100%";
                self.error(Problem::new(at("layer"), what).with_hint(hint));
            }
        }
    }
}

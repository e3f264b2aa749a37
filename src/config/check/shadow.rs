//! Who gets copies: never a variant that is given calls, never twice the same, and with caps that hold a call.

use std::time::Duration;

use http::HeaderName;

use super::Check;
use super::staged::copying;
use super::strategy::named;
use crate::config::problem::{Problem, suggestion};
use crate::config::source::join;
use crate::config::units::{Percent, Size};
use crate::config::{Judging, OnCancel, Shadow, Strategy, Variant, raw};

/// Least bytes that one small call with its metadata and both its answers needs.
const LEAST_BYTES: u64 = 16 << 10;
const DEADLINE: Duration = Duration::from_secs(2);
const CALLS: u64 = 100;
const BYTES: u64 = 64 << 20;
/// Metadata without which a copy is no gRPC call.
const NEEDED: [&str; 2] = ["content-type", "te"];

impl Check<'_> {
    /// The shadows of the model whose list is at `path`.
    pub(super) fn shadows(
        &mut self,
        path: &str,
        raw: &[Option<raw::Shadow>],
        variants: &[Variant],
        strategy: &Strategy,
    ) -> Vec<Shadow> {
        let mut found: Vec<Shadow> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(shadow) = raw.as_ref().and_then(|raw| self.shadow(&path, raw, variants)) else {
                continue;
            };
            let at = join(&path, "variant");
            let gets = |variant| named(strategy).any(|(one, share)| one == variant && share > Percent::NONE);
            let stages = copying(strategy).filter(|(candidate, _)| *candidate == shadow.variant);
            // A canary's candidate may get copies of the baseline's calls beside its own.
            let guarded = matches!(strategy, Strategy::Canary(canary) if canary.candidate == shadow.variant && canary.guards.shadow);
            let stages = stages.map(|(_, stages)| stages).unwrap_or_default();
            let shadow = Shadow { stages, answers: guarded, ..shadow };
            self.control_answers(&path, &shadow, strategy.baseline(), &gets);
            if gets(shadow.variant) && shadow.stages.is_empty() && !guarded {
                let problem =
                    Problem::new(&*at, "is given calls by the strategy, so it cannot be a shadow too");
                let name = variants.get(shadow.variant).map_or("", |variant| &*variant.name);
                let hint = "give it no calls there (0%), or remove it here";
                self.error(problem.with_value(format!("{name:?}")).with_hint(hint));
            }
            if shadow.judging.is_none() && is_guarded(strategy, shadow.variant) {
                let problem = Problem::new(join(&path, "compare"), "is off, so a guard has nothing to judge");
                self.error(problem.with_hint("compare its answers, or leave `shadow` out of the guards"));
            }
            if found.iter().any(|known| known.variant == shadow.variant) {
                let problem = Problem::new(at, "is a shadow before this one");
                self.error(problem.with_hint("keep one of them"));
            }
            found.push(shadow);
        }
        if let Some((variant, stages)) = copying(strategy)
            && found.iter().all(|shadow| shadow.variant != variant)
        {
            found.push(Shadow { stages, ..usual(variant) });
        }
        if let Strategy::Canary(canary) = strategy
            && canary.guards.shadow
            && found.iter().all(|shadow| shadow.variant != canary.candidate)
        {
            found.push(Shadow { answers: true, ..usual(canary.candidate) });
        }
        found
    }

    fn shadow(&mut self, path: &str, raw: &raw::Shadow, variants: &[Variant]) -> Option<Shadow> {
        let at = |key: &str| join(path, key);
        let variant = match &raw.variant {
            Some(name) => self.variant_index(&at("variant"), name, variants),
            None => {
                self.missing(&at("variant"), "say which variant gets the copies");
                None
            }
        };
        let calls = self.count(&at("calls"), raw.calls.as_ref(), CALLS, 1 << 20);
        let shadow = Shadow {
            variant: variant.unwrap_or(0),
            sample: self.share(&at("sample"), raw.sample.as_ref()).unwrap_or(Percent::ALL),
            deadline: self.positive(&at("deadline"), raw.deadline.as_ref(), DEADLINE),
            calls: usize::try_from(calls).unwrap_or(usize::MAX),
            bytes: self.size(&at("bytes"), raw.bytes.as_ref(), BYTES, (LEAST_BYTES, 1 << 40)),
            on_cancel: self.on_cancel(&at("on_cancel"), raw.on_cancel.as_deref()),
            strip: self.strip(&at("strip"), raw.strip.as_deref().unwrap_or_default()),
            trace_sample: self.share(&at("trace_sample"), raw.trace_sample.as_ref()),
            stages: Vec::new(),
            answers: false,
            judging: self.judging(path, raw, variants),
        };
        variant.map(|_| shadow)
    }

    fn on_cancel(&mut self, path: &str, word: Option<&str>) -> OnCancel {
        match word {
            None | Some("end") => OnCancel::End,
            Some("keep") => OnCancel::Keep,
            Some(word) => {
                let problem = Problem::new(path, "is neither end nor keep").with_value(format!("{word:?}"));
                self.error(problem.with_hint(suggestion(word, &["end", "keep"])));
                OnCancel::End
            }
        }
    }

    fn strip(&mut self, path: &str, names: &[Option<String>]) -> Vec<HeaderName> {
        let mut found = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            let lower = name.to_ascii_lowercase();
            match HeaderName::from_bytes(lower.as_bytes()) {
                Ok(name) if !NEEDED.contains(&name.as_str()) => found.push(name),
                Ok(_) => {
                    let problem = Problem::new(format!("{path}[{index}]"), "is what makes it a gRPC call");
                    self.error(problem.with_value(format!("{name:?}")).with_hint("remove it"));
                }
                Err(_) => {
                    let problem = Problem::new(format!("{path}[{index}]"), "is no name of request metadata");
                    let hint = "use lower case letters, digits, hyphens and underscores";
                    self.error(problem.with_value(format!("{name:?}")).with_hint(hint));
                }
            }
        }
        found
    }
}

/// Whether a guard on that variant asks what its answers to copies prove.
fn is_guarded(strategy: &Strategy, variant: usize) -> bool {
    let asks = |stage: &Strategy| matches!(stage, Strategy::Canary(canary) | Strategy::Shadow(canary) if canary.guards.shadow);
    strategy.candidate() == Some(variant) && strategy.stages().any(asks)
}

/// A shadow of which nothing is said.
fn usual(variant: usize) -> Shadow {
    Shadow {
        variant,
        sample: Percent::ALL,
        deadline: DEADLINE,
        calls: CALLS as usize,
        bytes: Size(BYTES),
        on_cancel: OnCancel::End,
        strip: Vec::new(),
        trace_sample: None,
        stages: Vec::new(),
        answers: false,
        judging: Some(Judging::default()),
    }
}

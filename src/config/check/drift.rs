//! Whose answers are watched for drift: enough of them, each output once, and with a chance of a false alarm that is one.

use super::Check;
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::Percent;
use crate::config::{Compare, Drift, Strategy, raw};

/// Least bytes that one small answer needs, and the most.
const BYTES: (u64, u64) = (16 << 10, 1 << 40);

impl Check<'_> {
    /// What is looked at of the answers of a model whose map is at `path`; none where it says nothing of it.
    pub(super) fn drift(
        &mut self,
        path: &str,
        raw: Option<&raw::Drift>,
        strategy: &Strategy,
    ) -> Option<Drift> {
        let raw = raw?;
        let at = |key: &str| join(path, key);
        let usual = Drift::default();
        let sample = self.share(&at("sample"), raw.sample.as_ref()).unwrap_or(usual.sample);
        if sample == Percent::NONE {
            let problem = Problem::new(at("sample"), "looks at no answer").with_value("0%");
            self.error(problem.with_hint("write a share above 0%, or leave `drift` out"));
        }
        let alpha = self.alpha(&at("alpha"), raw.alpha.as_ref(), usual.alpha);
        let bytes = self.size(&at("bytes"), raw.bytes.as_ref(), usual.bytes.0, BYTES);
        let outputs = self.read_outputs(&at("outputs"), raw.outputs.as_deref().unwrap_or_default());
        let reference = self.path(&at("reference"), raw.reference.as_deref());
        let several = strategy.stages().any(|stage| matches!(stage, Strategy::Ab(_) | Strategy::Canary(_)));
        if !several && reference.is_none() && !self.broken(path) {
            let kind = strategy.kind();
            let problem = Problem::new(
                path,
                format!(
                    "compares nothing yet: kind: {kind} gives it no two variants that chance tells apart"
                ),
            );
            self.warn(
                problem
                    .with_hint("name a `reference`; `parhelion ctl reference` makes one of what is served"),
            );
        }
        Some(Drift { sample, bytes, outputs, reference, alpha })
    }

    fn read_outputs(&mut self, path: &str, raw: &[Option<raw::Output>]) -> Vec<Compare> {
        let mut found: Vec<Compare> = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(raw) = raw else { continue };
            let rule = raw::Compare {
                output: raw.output.clone(),
                measure: raw.measure.clone(),
                ..raw::Compare::default()
            };
            if let Some(rule) = self.rule(&path, &rule) {
                self.once(&path, &rule, &found);
                found.push(rule);
            }
        }
        found
    }
}

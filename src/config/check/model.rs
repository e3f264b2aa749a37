//! Models and their variants.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;

use super::Check;
use super::canary::Around;
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::{Admission, Endpoint, Force, Key, Match, Model, Strategy, Variant, raw};

/// Longest name of a model, in bytes: it stands in response metadata and in metric labels.
const LONGEST_MODEL: usize = 128;
/// Longest name of a variant, in bytes.
const LONGEST_VARIANT: usize = crate::hop::MAX_VARIANT;

/// A variant of which only the name is known, for what refers to it.
fn unknown(name: &str) -> Variant {
    Variant {
        name: name.into(),
        version: None,
        digest: None,
        endpoints: Vec::new(),
        model_name: None,
        model_version: None,
        metrics: None,
        build: "".into(),
    }
}

/// What a variant is, see [`Variant::build`].
fn build(digest: Option<&str>, version: Option<&str>, endpoints: &[Endpoint]) -> Arc<str> {
    if let Some(digest) = digest {
        return digest.into();
    }
    let mut places: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    places.sort();
    format!("{} at {}", version.unwrap_or("unversioned"), places.join(",")).into()
}

/// The one variant that is no shadow, where there are shadows and one such; a control is none where there are others.
fn only_answering(variants: &[Variant], shadows: &[Option<raw::Shadow>]) -> Option<usize> {
    let only = |names: &dyn Fn(&raw::Shadow) -> Vec<&str>| {
        let named = |variant: &Variant| {
            shadows.iter().flatten().any(|shadow| names(shadow).contains(&&*variant.name))
        };
        let mut answering = variants.iter().enumerate().filter(|(_, variant)| !named(variant));
        match (answering.next(), answering.next()) {
            (Some((index, _)), None) if variants.len() > 1 => Some(index),
            _ => None,
        }
    };
    only(&|shadow| shadow.variant.as_deref().into_iter().collect()).or_else(|| {
        only(&|shadow| shadow.variant.as_deref().into_iter().chain(super::compare::second(shadow)).collect())
    })
}

impl Check<'_> {
    /// All models that are whole enough to be referred to.
    pub(super) fn models(&mut self, models: Option<&raw::Named<raw::Model>>) -> Vec<Model> {
        let hint = "name one model with one variant: models: {fraud: {variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}}}";
        let entries = models.map_or(&[][..], |models| &models.0);
        if models.is_none() {
            self.missing("models", hint);
        } else if entries.is_empty() {
            self.error(Problem::new("models", "names no model").with_hint(hint));
        }
        let found = entries.iter().map(|(name, model)| {
            let path = join("models", name);
            let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
            if name.is_empty() || name.len() > LONGEST_MODEL || !visible {
                let problem = Problem::new(&*path, "is no name for a model").with_value(format!("{name:?}"));
                self.error(
                    problem.with_hint("use 1 to 128 visible ASCII characters, without spaces and quotes"),
                );
            }
            self.model(&path, name, model.as_ref())
        });
        found.collect()
    }

    /// The model of that name; without one, what can still be referred to by name.
    fn model(&mut self, path: &str, name: &str, raw: Option<&raw::Model>) -> Model {
        let Some(raw) = raw else {
            return Model {
                name: name.into(),
                variants: Vec::new(),
                unit: Vec::new(),
                strategy: Strategy::pinned(0),
                admission: Admission::default(),
                force: Force::Nobody,
                default_deadline: None,
                shadows: Vec::new(),
                fallback: None,
                drift: None,
                feedback: Vec::new(),
                revision: 0,
            };
        };
        let variants = self.variants(&join(path, "variants"), raw.variants.as_ref());
        let unit = self.unit(&join(path, "unit"), raw.unit.as_deref().unwrap_or_default());
        let feedback = self.feedback(&join(path, "feedback"), raw.feedback.as_ref());
        let shadows = raw.shadows.as_deref().unwrap_or_default();
        let strategy = match (&raw.strategy, only_answering(&variants, shadows)) {
            (None, Some(variant)) => Strategy::pinned(variant),
            _ => {
                let seconds = shadows.iter().flatten().filter_map(super::compare::second);
                let named = shadows.iter().flatten().filter_map(|shadow| shadow.variant.as_deref());
                let shadows: Vec<&str> = named.chain(seconds).collect();
                let around = Around {
                    model: name,
                    variants: &variants,
                    feedback: &feedback,
                    shadows: &shadows,
                    units: !unit.is_empty(),
                    stage: None,
                };
                self.strategy(path, &around, raw.strategy.as_ref())
            }
        };
        let shadows = self.shadows(&join(path, "shadows"), shadows, &variants, &strategy);
        if raw.strategy.is_some() {
            self.unused(path, &variants, &strategy, &shadows);
        }
        self.unread(path, &variants, &strategy);
        let force = self.force(&join(path, "force"), raw.force.as_ref());
        let default_deadline = raw.default_deadline.as_ref().and_then(|span| {
            let path = join(path, "default_deadline");
            let deadline = self.duration(&path, Some(&span.0))?;
            self.above_zero(&path, deadline);
            Some(deadline)
        });
        let sticky = !unit.is_empty() || self.broken(&join(path, "unit"));
        let drawn = strategy.has_alternatives() && !matches!(strategy, Strategy::Interleave(_));
        if drawn && !sticky && !self.broken(&join(path, "strategy")) {
            let problem = Problem::new(join(path, "unit"), "is not given, so every call is drawn by itself");
            let hint =
                "name what keeps its variant, like [metadata:x-user-id], unless each call stands alone";
            self.warn(problem.with_hint(hint));
        }
        let admission = self.admission(&join(path, "strategy"), &strategy, sticky, raw.strategy.as_ref());
        let fallback = self.fallback(&join(path, "fallback"), raw.fallback.as_ref(), &strategy);
        let drift = self.drift(&join(path, "drift"), raw.drift.as_ref(), &strategy);
        let mut model = Model {
            name: name.into(),
            variants,
            unit,
            strategy,
            admission,
            force,
            default_deadline,
            shadows,
            fallback,
            drift,
            feedback,
            revision: 0,
        };
        self.too_many_arms(&join(path, "feedback"), &model);
        self.unknown_voters(&join(path, "unit"), &model);
        model.revision = model.rollout_revision();
        model
    }

    fn variants(&mut self, path: &str, variants: Option<&raw::Named<raw::Variant>>) -> Vec<Variant> {
        let hint = "name at least one, like variants: {v1: {endpoint: \"http://127.0.0.1:8001\"}}";
        let entries = variants.map_or(&[][..], |variants| &variants.0);
        if variants.is_none() {
            self.missing(path, hint);
        } else if entries.is_empty() {
            self.error(Problem::new(path, "names no variant").with_hint(hint));
        }
        let found: Vec<Variant> = entries
            .iter()
            .map(|(name, variant)| {
                let path = join(path, name);
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if name.is_empty() || name.len() > LONGEST_VARIANT || !name.chars().all(plain) {
                    let problem =
                        Problem::new(&*path, "is no name for a variant").with_value(format!("{name:?}"));
                    self.error(
                        problem.with_hint("use 1 to 63 letters, digits, hyphens, dots and underscores"),
                    );
                }
                match variant {
                    Some(variant) => self.variant(&path, name, variant),
                    None => unknown(name),
                }
            })
            .collect();
        self.same_build_twice(path, &found);
        found
    }

    fn variant(&mut self, path: &str, name: &str, raw: &raw::Variant) -> Variant {
        let mut endpoints = Vec::new();
        let one = join(path, "endpoint");
        let many = join(path, "endpoints");
        match (&raw.endpoint, &raw.endpoints) {
            (Some(_), Some(_)) => {
                let problem = Problem::new(many, "is given beside `endpoint`");
                self.error(problem.with_hint("keep one of them: `endpoints` takes a list"));
            }
            (None, None) if self.broken(&one) || self.broken(&many) => {}
            (None, None) => self.missing(&one, "write where it is reached, like http://127.0.0.1:8001"),
            (Some(endpoint), None) => endpoints.extend(self.endpoint(&one, endpoint)),
            (None, Some(list)) => {
                if list.is_empty() {
                    let problem = Problem::new(&*many, "is empty");
                    self.error(problem.with_hint("write where it is reached, like [http://127.0.0.1:8001]"));
                }
                for (index, endpoint) in list.iter().enumerate() {
                    let path = format!("{many}[{index}]");
                    let found = endpoint.as_ref().and_then(|endpoint| self.endpoint(&path, endpoint));
                    if let Some(known) = found.as_ref().and_then(|found| {
                        endpoints.iter().position(|known: &Endpoint| known.address == found.address)
                    }) {
                        let problem = Problem::new(path, format!("is given twice, first as {many}[{known}]"));
                        self.error(problem.with_hint("keep one of them"));
                    }
                    endpoints.extend(found);
                }
            }
        }
        let mut text = |key: &str, text: Option<&String>| self.printable(&join(path, key), text);
        let version = text("version", raw.version.as_ref());
        let model_name = text("model_name", raw.model_name.as_ref());
        let model_version = text("model_version", raw.model_version.as_ref());
        let digest = self.digest(&join(path, "digest"), raw.digest.as_deref());
        let metrics = raw.metrics.as_ref().and_then(|url| self.metrics_page(&join(path, "metrics"), url));
        Variant {
            name: name.into(),
            build: build(digest.as_deref(), version.as_deref(), &endpoints),
            version,
            model_name,
            model_version,
            metrics,
            digest,
            endpoints,
        }
    }

    /// A text that can stand in response metadata.
    fn printable(&mut self, path: &str, text: Option<&String>) -> Option<Arc<str>> {
        let text = text?;
        let fits = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if text.is_empty() || text.len() > LONGEST_MODEL || !fits || text.trim() != text {
            let problem =
                Problem::new(path, "cannot stand in response metadata").with_value(format!("{text:?}"));
            self.error(problem.with_hint("use 1 to 128 printable ASCII characters"));
        }
        Some(text.as_str().into())
    }

    fn digest(&mut self, path: &str, text: Option<&str>) -> Option<Arc<str>> {
        let text = text?;
        let lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let fits = text.split_once(':').is_some_and(|(algorithm, digits)| {
            let named = !algorithm.is_empty()
                && algorithm.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let length = if algorithm == "sha256" { 64..=64 } else { 32..=128 };
            named && length.contains(&digits.len()) && digits.chars().all(lower_hex)
        });
        if !fits {
            let problem = Problem::new(path, "is no digest").with_value(format!("{text:?}"));
            self.error(
                problem
                    .with_hint("write it as registries do: sha256: and 64 hexadecimal digits in lower case"),
            );
        }
        Some(text.into())
    }

    /// Two variants that nobody could tell apart.
    fn same_build_twice(&mut self, path: &str, variants: &[Variant]) {
        let mut seen = HashSet::new();
        for variant in variants {
            for endpoint in &variant.endpoints {
                if !seen.insert((&endpoint.address, &variant.model_name, &variant.model_version)) {
                    let problem = Problem::new(
                        join(path, &variant.name),
                        "asks the same server for the same model as a variant before it",
                    );
                    let hint =
                        "give it another endpoint, or a model_name or model_version that tells them apart";
                    self.warn(problem.with_value(endpoint.address.to_string()).with_hint(hint));
                }
            }
        }
    }

    fn unit(&mut self, path: &str, unit: &[Option<String>]) -> Vec<Key> {
        let mut keys = Vec::new();
        for (index, text) in unit.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = text else { continue };
            let key = self.key(&path, text);
            if key.as_ref().is_some_and(|key| keys.contains(key)) {
                let problem = Problem::new(path, "is given twice").with_value(format!("{text:?}"));
                self.error(problem.with_hint("keep the first"));
            } else {
                keys.extend(key);
            }
        }
        keys
    }

    /// Where a value is read from in a call.
    pub(super) fn key(&mut self, path: &str, text: &str) -> Option<Key> {
        match text.split_once(':') {
            Some(("metadata", name)) => self.metadata(path, name).map(Key::Metadata),
            Some(("parameter", name)) if !name.is_empty() => Some(Key::Parameter(name.into())),
            _ => {
                let problem = Problem::new(path, "is no metadata:NAME and no parameter:NAME");
                let name = text.rsplit(':').next().unwrap_or(text);
                let hint = format!(
                    "write metadata:{0} or parameter:{0}",
                    if name.is_empty() { "NAME" } else { name }
                );
                self.error(problem.with_value(format!("{text:?}")).with_hint(hint));
                None
            }
        }
    }

    /// A metadata name that callers may set and that holds text.
    pub(super) fn metadata(&mut self, path: &str, name: &str) -> Option<HeaderName> {
        let lower = name.to_ascii_lowercase();
        let refused = match HeaderName::from_bytes(lower.as_bytes()) {
            Err(_) => {
                ("is no name of request metadata", "use lower case letters, digits, hyphens and underscores")
            }
            Ok(_) if lower.starts_with("grpc-") || lower.starts_with("parhelion-") => {
                ("is metadata with a meaning of its own", "use metadata that your callers set")
            }
            Ok(_) if lower.ends_with("-bin") => ("is binary metadata", "use metadata that holds text"),
            Ok(name) => return Some(name),
        };
        self.error(Problem::new(path, refused.0).with_value(format!("{name:?}")).with_hint(refused.1));
        None
    }

    fn force(&mut self, path: &str, force: Option<&raw::Force>) -> Force {
        match force {
            None => Force::Nobody,
            Some(raw::Force::Word(word)) if word == "anyone" => Force::Anyone,
            Some(raw::Force::Word(word)) => {
                let problem =
                    Problem::new(path, "is neither anyone nor a match").with_value(format!("{word:?}"));
                self.error(problem.with_hint(
                    "leave the key out for nobody, or write {match: {metadata: {x-role: tester}}}",
                ));
                Force::Nobody
            }
            Some(raw::Force::Calls(calls)) => {
                let path = join(path, "match");
                self.matches(&path, calls.matches.as_ref()).map_or(Force::Nobody, Force::Matching)
            }
        }
    }

    /// The pairs of a `match`, which must be there and hold at least one.
    pub(super) fn matches(&mut self, path: &str, matches: Option<&raw::Match>) -> Option<Match> {
        let hint = "say which calls, like {metadata: {x-tier: gold}} or {parameter: {country: se}}";
        let Some(raw) = matches else {
            self.missing(path, hint);
            return None;
        };
        let mut pairs = Vec::new();
        let metadata = raw.metadata.as_ref().map_or(&[][..], |metadata| &metadata.0);
        let parameters = raw.parameter.as_ref().map_or(&[][..], |parameter| &parameter.0);
        for (name, value) in metadata {
            let path = join(&join(path, "metadata"), name);
            if let (Some(name), Some(value)) = (self.metadata(&path, name), value) {
                self.not_empty(&path, value);
                pairs.push((Key::Metadata(name), value.clone()));
            }
        }
        for (name, value) in parameters {
            if let Some(value) = value {
                self.not_empty(&join(&join(path, "parameter"), name), value);
                pairs.push((Key::Parameter(name.as_str().into()), value.clone()));
            }
        }
        if pairs.is_empty() && !self.broken(path) {
            self.error(Problem::new(path, "matches on nothing").with_hint(hint));
        }
        Some(Match(pairs))
    }

    /// An absent value and an empty one are the same in a call, so nothing can match the empty one.
    fn not_empty(&mut self, path: &str, value: &str) {
        if value.is_empty() {
            self.error(Problem::new(path, "is empty, which no call can match").with_value("\"\""));
        }
    }
}

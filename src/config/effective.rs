//! A configuration in the words of its file again, with every default filled in: what is really in force.
//!
//! Loading the result gives an equal configuration, but for what is hidden: the values of `force.match` let their
//! holder choose a variant, so they are not shown.

use std::time::Duration;

use serde_json::{Map, Value, json};

mod tls;

use super::units::{Percent, write_duration};
use super::{
    Admission, Canary, ClientTls, Config, Endpoint, Fallback, Feedback, FeedbackKind, FixedLimits, Fleet,
    Force, Guards, Interleave, Judge, Key, Layer, Listen, Log, Margin, Match, MemoryLimit, Model, Pinned,
    ResourcesGuard, Segment, SlowLimit, Source, Stage, Step, Strategy, Test, Variant, Warming, Warmup,
};
use crate::stats::hash::platforms::Platform;

mod bandit;
mod drift;
mod shadow;

use shadow::shadow;

/// Stands where a value is not shown.
pub const HIDDEN: &str = "(hidden)";

/// What is in force, spelled as in the file.
pub fn effective(config: &Config) -> Value {
    let mut all = Map::new();
    all.insert("listen".into(), listen(&config.listen).into());
    all.insert("admin".into(), config.admin.to_string().into());
    put(&mut all, "control", control(config));
    put(&mut all, "tls", tls::all(config));
    all.insert("health".into(), config.health.to_string().into());
    all.insert("workers".into(), config.workers.get().into());
    all.insert("reuse_port".into(), config.reuse_port.into());
    let directory = config.state.as_ref().map(|path| path.display().to_string());
    put(&mut all, "state", config.fleet.as_ref().map(ToString::to_string).or_else(|| directory.clone()));
    put(&mut all, "fleet", config.fleet.as_deref().map(|found| fleet(found, directory)));
    put(&mut all, "keys", config.keys.as_ref().map(|path| path.display().to_string()));
    all.insert("default".into(), (*config.default).into());
    let mut services: Vec<_> = config.services.iter().collect();
    services.sort();
    let services = services.into_iter().map(|(service, model)| (service.clone(), Value::from(&**model)));
    all.insert("services".into(), Value::Object(services.collect()));
    let models = config.models.iter().map(|found| (found.name.to_string(), model(found)));
    all.insert("models".into(), Value::Object(models.collect()));
    all.insert("limits".into(), limits(config));
    let (lag, grace) = (write_duration(config.drain.lag), write_duration(config.drain.grace));
    all.insert("drain".into(), json!({"lag": lag, "grace": grace}));
    all.insert("telemetry".into(), telemetry(config));
    put(&mut all, "log", config.log.as_ref().map(log));
    Value::Object(all)
}

fn fleet(fleet: &Fleet, cache: Option<String>) -> Value {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let mut map = Map::new();
    put(&mut map, "cache", cache);
    put(&mut map, "prefix", Some(&*fleet.prefix));
    put(&mut map, "replica", fleet.replica.as_deref());
    put(&mut map, "password_file", fleet.password_file.as_ref().map(path));
    put(&mut map, "ca", fleet.ca.as_ref().map(path));
    put(&mut map, "cert", fleet.pair.as_ref().map(|(cert, _)| path(cert)));
    put(&mut map, "key", fleet.pair.as_ref().map(|(_, key)| path(key)));
    Value::Object(map)
}

fn control(config: &Config) -> Option<Value> {
    let mut map = Map::new();
    put(&mut map, "tokens", config.tokens.as_ref().map(|path| path.display().to_string()));
    put(&mut map, "read", tls::patterns(&config.rights.read));
    put(&mut map, "act", tls::patterns(&config.rights.act));
    (!map.is_empty()).then_some(Value::Object(map))
}

/// As the file would say it.
pub(super) fn listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// One model as it is in force, spelled as in the file.
pub fn model(model: &Model) -> Value {
    let mut map = Map::new();
    let variants = model.variants.iter().map(|found| (found.name.to_string(), variant(found)));
    map.insert("variants".into(), Value::Object(variants.collect()));
    map.insert("unit".into(), model.unit.iter().map(key).collect());
    map.insert("strategy".into(), admitted(model));
    match &model.force {
        Force::Nobody => {}
        Force::Anyone => put(&mut map, "force", Some("anyone")),
        Force::Matching(pairs) => put(&mut map, "force", Some(json!({"match": matches(pairs, true)}))),
    }
    put(&mut map, "default_deadline", model.default_deadline.map(write_duration));
    map.insert("shadows".into(), model.shadows.iter().map(|found| shadow(model, found)).collect());
    match &model.fallback {
        Some(found) => put(&mut map, "fallback", Some(fallback(found))),
        // Where one variant gets all calls there is none to be said.
        None => put(&mut map, "fallback", model.strategy.has_alternatives().then_some("off")),
    }
    put(&mut map, "drift", model.drift.as_ref().map(drift::drift));
    let declared = model.feedback.iter().map(|found| (found.name.to_string(), feedback(found)));
    map.insert("feedback".into(), Value::Object(declared.collect()));
    Value::Object(map)
}

fn fallback(fallback: &Fallback) -> Value {
    json!({
        "timeout": fallback.timeout.map_or("auto".to_owned(), write_duration),
        "budget": fallback.budget.to_string(),
        "hold": fallback.hold.to_string(),
    })
}

fn variant(variant: &Variant) -> Value {
    let mut map = Map::new();
    map.insert("endpoints".into(), variant.endpoints.iter().map(endpoint).collect());
    put(&mut map, "version", variant.version.as_deref());
    put(&mut map, "digest", variant.digest.as_deref());
    put(&mut map, "model_name", variant.model_name.as_deref());
    put(&mut map, "model_version", variant.model_version.as_deref());
    put(&mut map, "metrics", variant.metrics.as_ref().map(ToString::to_string));
    Value::Object(map)
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let url = match &endpoint.address {
        address @ super::Address::Tcp { .. } if endpoint.tls.is_some() => format!("https://{address}"),
        address @ super::Address::Tcp { .. } => format!("http://{address}"),
        address @ super::Address::Unix(_) => address.to_string(),
    };
    let mut map = Map::new();
    map.insert("url".into(), url.into());
    map.insert("hop".into(), endpoint.hop.into());
    put(&mut map, "tls", endpoint.tls.as_ref().map(|found| tls::client(found)));
    Value::Object(map)
}

fn key(key: &Key) -> Value {
    match key {
        Key::Metadata(name) => format!("metadata:{name}").into(),
        Key::Parameter(name) => format!("parameter:{name}").into(),
    }
}

/// The strategy, with who takes part in it. What is not there is left out: a rollout's revision rests on this text.
fn admitted(model: &Model) -> Value {
    let mut value = strategy(model, &model.strategy);
    if let Value::Object(map) = &mut value {
        let Admission { holdout, layer } = &model.admission;
        let held =
            holdout.as_ref().map(|found| json!({"share": found.share.to_string(), "salt": *found.salt}));
        put(map, "holdout", held);
        let part = |found: &Layer| json!({"name": *found.name, "from": found.from.to_string(), "to": found.to.to_string()});
        put(map, "layer", layer.as_ref().map(part));
    }
    value
}

fn strategy(model: &Model, strategy: &Strategy) -> Value {
    let name = |variant: usize| model.variants.get(variant).map_or("", |variant| &*variant.name);
    let kind = strategy.kind();
    match strategy {
        Strategy::Pinned(found) => pinned(kind, name(found.variant), found),
        Strategy::Ab(found) => {
            let mut map = Map::new();
            map.insert("kind".into(), kind.into());
            map.insert("baseline".into(), name(found.baseline).into());
            map.insert("salt".into(), (*found.salt).into());
            map.insert("weights".into(), shares(model, &found.weights));
            let segments = found.segments.iter().map(|found| segment(model, found));
            map.insert("segments".into(), segments.collect());
            if found.hash != Platform::Flagd {
                map.insert("hash".into(), found.hash.name().into());
            }
            map.extend(found.judge.iter().flat_map(|judge| comparison(model, judge)));
            // Left out where it is the usual one: a rollout's revision rests on this text.
            if let Some(judge) = found.judge.as_ref().filter(|judge| judge.test != Test::Overlap) {
                map.insert("test".into(), judge.test.name().into());
            }
            Value::Object(map)
        }
        Strategy::Canary(found) => {
            let mut map = canary(model, kind, found);
            map.insert("steps".into(), found.steps.iter().map(step).collect());
            Value::Object(map)
        }
        Strategy::Shadow(found) => {
            let mut map = canary(model, kind, found);
            if let Some(Value::Object(guards)) = map.get_mut("guards") {
                guards.retain(|name, _| ["errors", "rejections", "shadow"].contains(&name.as_str()));
            }
            for step in &found.steps {
                map.insert("hold".into(), write_duration(step.hold).into());
                map.insert("calls".into(), step.calls.into());
            }
            Value::Object(map)
        }
        Strategy::Rolling(found) => json!({
            "kind": kind,
            "variant": name(found.variant),
            "batch": found.batch,
            "min_ready": found.min_ready,
            "drain_timeout": write_duration(found.drain_timeout),
            "replace_timeout": write_duration(found.replace_timeout),
            "hold": write_duration(found.hold),
            "report": found.report.name(),
            "warmup": warmup(None, &found.warming),
            "guards": fixed(&found.guards),
            "alpha": share(found.alpha),
            "on_fail": found.on_fail.name(),
        }),
        Strategy::Bandit(found) => {
            let mut map = Map::new();
            map.insert("kind".into(), kind.into());
            map.extend(bandit::bandit(model, found));
            Value::Object(map)
        }
        Strategy::Interleave(found) => interleave(model, kind, found),
        Strategy::Staged(found) => json!({
            "kind": kind,
            "baseline": name(found.baseline),
            "candidate": name(found.candidate),
            "salt": *found.salt,
            "stages": found.stages.iter().map(|found| stage(model, found)).collect::<Value>(),
        }),
    }
}

fn interleave(model: &Model, kind: &str, found: &Interleave) -> Value {
    let name = |variant: usize| model.variants.get(variant).map_or("", |variant| &*variant.name);
    // In the order of names: a rollout's revision rests on this text.
    let mut rankers: Vec<&str> = found.rankers().map(name).collect();
    rankers.sort_unstable();
    let mut map = Map::new();
    map.insert("kind".into(), kind.into());
    map.insert("baseline".into(), name(found.baseline).into());
    map.insert("salt".into(), (*found.salt).into());
    map.insert("rankers".into(), rankers.into());
    let mut outputs = Map::new();
    outputs.insert("items".into(), (*found.outputs.items).into());
    put(&mut outputs, "scores", found.outputs.scores.as_deref());
    outputs.insert("along".into(), found.outputs.along.iter().map(|name| Value::from(&**name)).collect());
    map.insert("ranking".into(), Value::Object(outputs));
    map.insert("merge".into(), found.method.name().into());
    put(&mut map, "length", found.length);
    put(&mut map, "draft", found.draft.as_ref().map(key));
    let mut credit = Map::new();
    credit.insert("feedback".into(), (*found.credit.feedback).into());
    credit.insert("by".into(), found.credit.by.name().into());
    credit.insert("count".into(), found.credit.count.name().into());
    credit.insert("weigh".into(), found.credit.weigh.name().into());
    put(&mut credit, "at_least", found.credit.at_least);
    credit.insert("session_gap".into(), write_duration(found.credit.session_gap).into());
    credit.insert("max_votes".into(), found.credit.max_votes.into());
    credit.insert("memory".into(), found.credit.memory.to_string().into());
    map.insert("credit".into(), Value::Object(credit));
    map.insert("alpha".into(), share(found.alpha).into());
    map.insert("least".into(), share(found.least).into());
    map.insert("min_sessions".into(), found.min_sessions.into());
    map.insert("max_duration".into(), write_duration(found.max_duration).into());
    map.insert("on_pass".into(), found.on_pass.name().into());
    map.insert("on_fail".into(), found.on_fail.name().into());
    Value::Object(map)
}

fn fixed(guards: &FixedLimits) -> Value {
    let slow = |limit: &SlowLimit| json!({"slower_than": write_duration(limit.slower_than), "at_most": share(limit.at_most)});
    let errors = guards.errors.map_or("off".into(), |at_most| json!({"at_most": share(at_most)}));
    json!({"errors": errors, "latency": guards.slow.iter().map(slow).collect::<Value>()})
}

fn pinned(kind: &str, variant: &str, found: &Pinned) -> Value {
    json!({
        "kind": kind,
        "variant": variant,
        "revert_window": write_duration(found.revert_window),
        "warmup": warmup(None, &found.warming),
        "guards": fixed(&found.guards),
        "alpha": share(found.alpha),
        "max_wait": write_duration(found.max_wait),
        "on_fail": found.on_fail.name(),
    })
}

fn warmup(judged: Option<&Warmup>, warming: &Warming) -> Value {
    let mut map = Map::new();
    if let Some(Warmup { time, calls }) = judged {
        map.insert("time".into(), write_duration(*time).into());
        map.insert("calls".into(), (*calls).into());
    }
    // Left out where nothing is sent: a rollout's revision rests on this text.
    if judged.is_none() || warming.requests > 0 {
        map.insert("requests".into(), warming.requests.into());
        map.insert("timeout".into(), write_duration(warming.timeout).into());
        put(&mut map, "file", warming.file.as_ref().map(|path| path.display().to_string()));
    }
    Value::Object(map)
}

/// Everything of a canary but its steps.
fn canary(model: &Model, kind: &str, found: &Canary) -> Map<String, Value> {
    let name = |variant: usize| model.variants.get(variant).map_or("", |variant| &*variant.name);
    let mut map = Map::new();
    map.insert("kind".into(), kind.into());
    map.insert("baseline".into(), name(found.baseline).into());
    map.insert("candidate".into(), name(found.candidate).into());
    map.insert("salt".into(), (*found.salt).into());
    map.insert("guards".into(), guards(model, &found.guards));
    map.insert("warmup".into(), warmup(Some(&found.warmup), &found.warming));
    map.insert("alpha".into(), share(found.alpha).into());
    map.insert("max_step_time".into(), write_duration(found.max_step_time).into());
    map.insert("on_pass".into(), found.on_pass.name().into());
    map.insert("on_fail".into(), found.on_fail.name().into());
    map
}

/// One stage, without what all of them have from the whole.
fn stage(model: &Model, stage: &Stage) -> Value {
    let mut value = strategy(model, &stage.strategy);
    if let Value::Object(map) = &mut value {
        for inherited in ["baseline", "candidate", "salt"] {
            map.remove(inherited);
        }
        if matches!(stage.strategy, Strategy::Pinned(_)) {
            // The last stage gives everything for good: nothing of a switch is said of it.
            map.retain(|key, _| matches!(key.as_str(), "kind" | "variant"));
        }
        map.insert("name".into(), (*stage.name).into());
    }
    value
}

/// What is said of a split that compares; of one that does not, nothing of it.
fn comparison(model: &Model, judge: &Judge) -> Map<String, Value> {
    let mut metrics = Map::new();
    let mut feedback = Vec::new();
    for metric in &judge.metrics {
        let Margin { absolute, relative } = metric.least;
        let rate = json!({"absolute": share(absolute), "relative": share(relative)});
        match &metric.source {
            Source::Feedback { name, .. } => {
                let better = if metric.lower_is_better { "lower" } else { "higher" };
                let relative = share(relative);
                feedback.push(
                    json!({"name": **name, "absolute": absolute, "relative": relative, "better": better}),
                );
            }
            Source::Errors => put(&mut metrics, "errors", Some(rate)),
            Source::Rejections => put(&mut metrics, "rejections", Some(rate)),
            Source::Latency => put(&mut metrics, "latency", Some(json!({"relative": share(relative)}))),
        }
    }
    put(&mut metrics, "feedback", (!feedback.is_empty()).then_some(feedback));
    let mut map = Map::new();
    put(&mut map, "metrics", (!metrics.is_empty()).then_some(metrics));
    map.insert("guards".into(), guards(model, &judge.guards));
    let warmup = json!({"time": write_duration(judge.warmup.time), "calls": judge.warmup.calls});
    map.insert("warmup".into(), warmup);
    map.insert("alpha".into(), share(judge.alpha).into());
    map.insert("min_units".into(), judge.min_units.into());
    map.insert("max_duration".into(), write_duration(judge.max_duration).into());
    map.insert("on_pass".into(), judge.on_pass.name().into());
    map.insert("on_fail".into(), judge.on_fail.name().into());
    map
}

fn step(step: &Step) -> Value {
    json!({"share": step.share.to_string(), "hold": write_duration(step.hold), "calls": step.calls})
}

/// What a rollout rests on, in words that do not depend on the order of variants or of keys.
pub(super) fn rollout(model: &Model) -> String {
    let units: Value = model.unit.iter().map(key).collect();
    let feedback: Value = model.feedback.iter().map(|found| json!([*found.name, feedback(found)])).collect();
    let mut builds: Vec<(&str, &str)> =
        model.taking_part().map(|variant| (&*variant.name, &*variant.build)).collect();
    builds.sort();
    let mut parts = vec![json!(*model.name), units, admitted(model), json!(builds), feedback];
    if let Strategy::Rolling(rolling) = &model.strategy {
        // Where a digest is the build, another version alone is another rollout too: servers report it.
        parts.push(json!(*rolling.version));
    }
    Value::Array(parts).to_string()
}

fn guards(model: &Model, guards: &Guards) -> Value {
    let rate = |margin: &Option<Margin>| match margin {
        Some(margin) => json!({"absolute": share(margin.absolute), "relative": share(margin.relative)}),
        None => "off".into(),
    };
    let latency: Value = guards
        .latency
        .iter()
        .map(|guard| json!({"quantile": share(guard.quantile), "relative": share(guard.relative)}))
        .collect();
    let feedback: Value = guards
        .feedback
        .iter()
        .map(|guard| {
            let name = model.feedback.get(guard.feedback).map_or("", |feedback| &*feedback.name);
            let Margin { absolute, relative } = guard.margin;
            let better = if guard.lower_is_better { "lower" } else { "higher" };
            json!({"name": name, "absolute": absolute, "relative": share(relative), "better": better})
        })
        .collect();
    let mut map = Map::new();
    map.insert("errors".into(), rate(&guards.errors));
    map.insert("rejections".into(), rate(&guards.rejections));
    map.insert("latency".into(), latency);
    map.insert("feedback".into(), feedback);
    // Left out where it is none: a rollout's revision rests on this text.
    put(&mut map, "resources", guards.resources.as_ref().map(resources));
    put(&mut map, "shadow", guards.shadow.then_some(true));
    Value::Object(map)
}

fn resources(guard: &ResourcesGuard) -> Value {
    let part = |relative: f64| json!({"relative": share(relative)});
    let mut map = Map::new();
    put(&mut map, "memory", guard.memory.map(part));
    put(&mut map, "cpu", guard.cpu.map(part));
    map.insert("window".into(), write_duration(guard.window).into());
    map.insert("on_fail".into(), guard.on_fail.name().into());
    Value::Object(map)
}

/// A part of one as a percentage that reads back to the same number.
fn share(part: f64) -> String {
    // Six decimals of a percent are more than anybody writes, and hide what binary fractions add.
    let text = format!("{:.6}", part * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn feedback(feedback: &Feedback) -> Value {
    let mut map = Map::new();
    map.insert("kind".into(), feedback.kind.name().into());
    if let FeedbackKind::Bounded { min, max } = feedback.kind {
        map.insert("min".into(), min.into());
        map.insert("max".into(), max.into());
    }
    map.insert("window".into(), write_duration(feedback.window).into());
    put(&mut map, "default", feedback.default);
    map.insert("join".into(), feedback.join.name().into());
    map.insert("max_rate".into(), feedback.max_rate.into());
    Value::Object(map)
}

fn segment(model: &Model, segment: &Segment) -> Value {
    json!({
        "name": *segment.name,
        "match": matches(&segment.matches, false),
        "weights": shares(model, &segment.weights),
    })
}

fn shares(model: &Model, shares: &[(usize, Percent)]) -> Value {
    let named = shares.iter().filter_map(|(variant, share)| {
        Some((model.variants.get(*variant)?.name.to_string(), Value::from(share.to_string())))
    });
    Value::Object(named.collect())
}

fn matches(Match(pairs): &Match, hide: bool) -> Value {
    let (mut metadata, mut parameter) = (Map::new(), Map::new());
    for (key, value) in pairs {
        let value: Value = if hide { HIDDEN } else { value }.into();
        match key {
            Key::Metadata(name) => metadata.insert(name.to_string(), value),
            Key::Parameter(name) => parameter.insert(name.to_string(), value),
        };
    }
    let mut map = Map::new();
    put(&mut map, "metadata", (!metadata.is_empty()).then_some(metadata));
    put(&mut map, "parameter", (!parameter.is_empty()).then_some(parameter));
    Value::Object(map)
}

fn limits(config: &Config) -> Value {
    let limits = &config.limits;
    json!({
        "connections": limits.connections,
        "streams": limits.streams,
        "in_flight": limits.in_flight,
        "message": limits.message.to_string(),
        "retain": limits.retain.to_string(),
        "headers": limits.headers.to_string(),
        "stream_window": limits.stream_window.to_string(),
        "connection_window": limits.connection_window.to_string(),
        "handshake": write_duration(limits.handshake),
        "stall": write_duration(limits.stall),
        "connection_age": limits.connection_age.map_or("none".to_owned(), write_duration),
        "connection_age_grace": write_duration(limits.connection_age_grace),
        "memory": match limits.memory {
            MemoryLimit::Auto => "auto".to_owned(),
            MemoryLimit::Off => "none".to_owned(),
            MemoryLimit::At(size) => size.to_string(),
        },
        "min_deadline": write_duration(limits.min_deadline),
    })
}

fn log(log: &Log) -> Value {
    let mut map = Map::new();
    map.insert("dir".into(), log.dir.display().to_string().into());
    map.insert("sample".into(), log.sample.to_string().into());
    map.insert("flush".into(), write_duration(log.flush).into());
    let (size, every) = (log.seal_size.to_string(), write_duration(log.seal_every));
    map.insert("seal".into(), json!({"size": size, "every": every}));
    map.insert("disk".into(), log.disk.to_string().into());
    map.insert("full".into(), log.full.name().into());
    put(&mut map, "upload", log.upload.as_deref());
    let payloads = log.payloads.as_ref().map(|found| {
        let (sample, size) = (found.sample.to_string(), found.size.to_string());
        json!({"sample": sample, "size": size, "as": found.kept_as.name(), "mask": found.mask})
    });
    put(&mut map, "payloads", payloads);
    let events = log.cloudevents.as_ref().map(|found| {
        let mut map = Map::new();
        map.insert("url".into(), found.url().into());
        map.insert("mode".into(), found.mode.name().into());
        map.insert("source".into(), found.source.as_str().into());
        put(&mut map, "namespace", found.namespace.as_deref());
        // Of one that says nothing nothing is said.
        let own = found.tls.as_ref().filter(|own| ***own != ClientTls::default());
        put(&mut map, "tls", own.map(|own| tls::client(own)));
        Value::Object(map)
    });
    put(&mut map, "cloudevents", events);
    Value::Object(map)
}

fn telemetry(config: &Config) -> Value {
    let telemetry = &config.telemetry;
    let mut keep = Map::new();
    keep.insert("errors".into(), telemetry.keep_errors.into());
    put(&mut keep, "slower_than", telemetry.keep_slower_than.map(|time: Duration| write_duration(time)));
    keep.insert("disagreements".into(), telemetry.keep_disagreements.into());
    let mut map = Map::new();
    put(&mut map, "otlp", telemetry.otlp.as_deref());
    map.insert("sample".into(), telemetry.sample.to_string().into());
    map.insert("keep".into(), Value::Object(keep));
    let resource = telemetry.resource.iter().map(|(key, value)| (key.clone(), Value::from(&**value)));
    map.insert("resource".into(), Value::Object(resource.collect()));
    Value::Object(map)
}

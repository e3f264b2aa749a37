//! A bandit in the words of its file again.

use serde_json::{Map, Value, json};

use super::{guards, put, share, write_duration};
use crate::config::{Bandit, BanditPolicy, ContextSource, Key, Memory, Model};

/// Everything of a bandit but its kind.
pub(super) fn bandit(model: &Model, found: &Bandit) -> Map<String, Value> {
    let name = model.variants.get(found.baseline).map_or("", |variant| &*variant.name);
    let mut map = Map::new();
    map.insert("baseline".into(), name.into());
    map.insert("salt".into(), (*found.salt).into());
    map.insert("reward".into(), reward(found));
    map.insert("policy".into(), found.policy.name().into());
    put(&mut map, "tuning", tuning(found.policy));
    if !found.context.is_empty() {
        map.insert("context".into(), found.context.iter().map(feature).collect());
    }
    map.insert("floor".into(), share(found.floor).into());
    map.insert("min_units".into(), found.min_units.into());
    let (time, values) = found.refresh;
    map.insert("refresh".into(), json!({"time": write_duration(time), "values": values}));
    match found.memory {
        Memory::Whole => {}
        Memory::HalfLife(half) => put(&mut map, "half_life", Some(write_duration(half))),
        Memory::Window(window) => put(&mut map, "window", Some(write_duration(window))),
    }
    map.insert("guards".into(), guards(model, &found.guards));
    let warmup = json!({"time": write_duration(found.warmup.time), "calls": found.warmup.calls});
    map.insert("warmup".into(), warmup);
    map.insert("alpha".into(), share(found.alpha).into());
    let least = found.metric.least;
    let stop = found.stop.map(|stop| {
        let remaining = share(stop.value_remaining);
        json!({"value_remaining": remaining, "absolute": least.absolute, "relative": share(least.relative)})
    });
    // An apprentice decides nothing: what would end it is said where it is let loose.
    if !found.apprentice {
        map.insert("stop".into(), stop.unwrap_or_else(|| "off".into()));
    }
    map.insert("on_pass".into(), found.on_pass.name().into());
    map.insert("on_fail".into(), found.on_fail.name().into());
    map.insert("mode".into(), if found.apprentice { "apprentice" } else { "live" }.into());
    map
}

fn reward(found: &Bandit) -> Value {
    json!({
        "name": *found.reward.name,
        "better": if found.reward.lower_is_better { "lower" } else { "higher" },
        "posterior": if found.reward.gaussian { "gaussian" } else { "beta" },
    })
}

fn tuning(policy: BanditPolicy) -> Option<Value> {
    match policy {
        BanditPolicy::EpsilonGreedy { epsilon } => Some(json!({"epsilon": share(epsilon)})),
        BanditPolicy::Exp3 { gamma } => Some(json!({"gamma": share(gamma)})),
        BanditPolicy::LinUcb { width, ridge } => Some(json!({"width": width, "ridge": ridge})),
        BanditPolicy::LinTs { deviation, ridge } => Some(json!({"deviation": deviation, "ridge": ridge})),
        BanditPolicy::Thompson | BanditPolicy::TopTwo | BanditPolicy::KlUcb | BanditPolicy::Ucb1 => None,
    }
}

fn feature(source: &ContextSource) -> Value {
    let of = |found: &Key| match found {
        Key::Metadata(name) => ("metadata", name.to_string()),
        Key::Parameter(name) => ("parameter", name.to_string()),
    };
    let mut map = Map::new();
    match source {
        ContextSource::Number { key, offset, scale } => {
            let (word, name) = of(key);
            map.insert(word.into(), name.into());
            map.insert("offset".into(), (*offset).into());
            map.insert("scale".into(), (*scale).into());
        }
        ContextSource::Words { key, values } => {
            let (word, name) = of(key);
            map.insert(word.into(), name.into());
            map.insert("values".into(), values.iter().map(|value| Value::from(&**value)).collect());
        }
        ContextSource::Input { name, size, offset, scale } => {
            map.insert("input".into(), (**name).into());
            map.insert("size".into(), (*size).into());
            map.insert("offset".into(), (*offset).into());
            map.insert("scale".into(), (*scale).into());
        }
    }
    Value::Object(map)
}

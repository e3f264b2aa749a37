//! Configurations for the tests of this crate that need endpoints and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::config::units::{Percent, Size};
use crate::config::{
    Address, Config, Drain, Endpoint, Force, Limits, Listen, MemoryLimit, Model, Strategy, Telemetry, Variant,
};

/// A variant of that name with one endpoint.
pub(crate) fn variant(name: &str, address: Address) -> Variant {
    Variant {
        name: name.into(),
        version: None,
        digest: None,
        endpoints: vec![Endpoint { address, hop: false, tls: None }],
        model_name: None,
        model_version: None,
        metrics: None,
        build: name.into(),
    }
}

/// Models with their variants; the first model is the default, and the first variant of each its baseline.
pub(crate) fn config(models: Vec<(&str, Vec<Variant>)>) -> Arc<Config> {
    let models: Vec<Arc<Model>> = models
        .into_iter()
        .map(|(name, variants)| {
            Arc::new(Model {
                name: name.into(),
                variants,
                unit: Vec::new(),
                strategy: Strategy::pinned(0),
                admission: crate::config::Admission::default(),
                force: Force::Nobody,
                default_deadline: None,
                shadows: Vec::new(),
                fallback: None,
                drift: None,
                feedback: Vec::new(),
                revision: 0,
            })
        })
        .collect();
    let any = ([127, 0, 0, 1], 0).into();
    Arc::new(Config {
        revision: "0123456789ab".into(),
        listen: Listen::Tcp(any),
        reuse_port: false,
        admin: any,
        tokens: None,
        health: any,
        workers: NonZeroUsize::MIN,
        state: None,
        fleet: None,
        keys: None,
        default: models.first().map(|model| Arc::clone(&model.name)).unwrap_or_default(),
        services: HashMap::new(),
        models,
        limits: limits(),
        drain: Drain { lag: Duration::ZERO, grace: Duration::ZERO },
        rights: Default::default(),
        tls: Default::default(),
        telemetry: Telemetry {
            tls: None,
            otlp: None,
            sample: Percent::NONE,
            keep_errors: false,
            keep_slower_than: None,
            keep_disagreements: true,
            resource: BTreeMap::new(),
        },
        log: None,
    })
}

fn limits() -> Limits {
    let (some, while_) = (Size(1 << 20), Duration::from_secs(10));
    Limits {
        memory: MemoryLimit::Off,
        connections: 100,
        streams: 100,
        in_flight: 100,
        message: some,
        retain: some,
        headers: some,
        stream_window: some,
        connection_window: some,
        handshake: while_,
        stall: while_,
        connection_age: None,
        connection_age_grace: while_,
        min_deadline: while_,
    }
}

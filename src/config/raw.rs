//! The file as it is written: names and shapes, nothing more.
//!
//! Every key may be left out here, so that `check` can say all that is missing at once; unknown keys are errors.
//! The texts beside the keys are what `parhelion schema` publishes.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;

mod bandit;
mod drift;
mod log;
mod scalar;
mod several;
mod shadow;
mod strategy;

pub(super) use bandit::{Feature, Refresh, Reward, Stop, Tuning};
pub(super) use drift::{Drift, Output};
pub(super) use log::{CloudEvents, Log, Payloads};
pub(super) use scalar::{
    Amount, Bytes, BytesOrAuto, Count, Ratio, Share, Span, SpanOrAuto, SpanOrNone, Workers, Written,
};
use several::{Either, WordOr};
pub(super) use several::{Named, OrOff, Several};
pub(super) use shadow::{Compare, Offenders, Second, Shadow};
pub(super) use strategy::{
    Credit, ErrorGuard, Feedback, FeedbackGuard, Guards, Holdout, LatencyGuard, LatencyMetric, Layer,
    Metrics, Ranking, RateGuard, ResourcesGuard, Segment, Step, Strategy, Use, Warmup,
};

/// A Parhelion configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Parhelion configuration", rename = "Configuration")]
pub(super) struct File {
    /// Where callers reach the models: `IP:PORT` or `unix:/PATH`. Port 0 lets the system choose.
    #[schemars(example = &"0.0.0.0:9000", example = &"unix:/run/parhelion.sock")]
    pub(super) listen: Option<String>,
    /// Effective configuration and control: `IP:PORT`; on loopback, or with `control.tokens` or certificates.
    #[schemars(example = &"127.0.0.1:9900")]
    pub(super) admin: Option<String>,
    /// Who may use the admin port.
    pub(super) control: Option<Control>,
    /// Certificates of ports, and how servers that speak TLS are reached.
    pub(super) tls: Option<Tls>,
    /// Liveness, readiness, `grpc.health.v1` and metrics: `IP:PORT`.
    #[schemars(example = &"0.0.0.0:9901")]
    pub(super) health: Option<String>,
    /// Data-plane threads: a number, or `auto` for as many as the process may use cores.
    pub(super) workers: Option<Workers>,
    /// Whether another process may hold `listen` too, for a handover between two sidecars.
    pub(super) reuse_port: Option<bool>,
    /// What must outlive the process: an absolute path, a directory of its own; or a URL, a store that replicas share:
    /// `redis://HOST:PORT`, `redis-sentinel://HOST,HOST/NAME`, `redis-cluster://HOST,HOST`, with TLS `rediss`.
    #[schemars(example = &"/var/lib/parhelion", example = &"redis://redis.models.svc:6379")]
    pub(super) state: Option<String>,
    /// How this replica takes part where `state` is shared.
    pub(super) fleet: Option<Fleet>,
    /// File with the keys that sign the calls between two sidecars and the ids of predictions, the same for all replicas.
    #[schemars(example = &"/etc/parhelion/keys")]
    pub(super) keys: Option<String>,
    /// The model that gets calls which name none. Required with more than one model.
    #[schemars(example = &"fraud")]
    pub(super) default: Option<String>,
    /// Full gRPC service name (`pkg.Service`) to the model that gets its calls.
    pub(super) services: Option<Named<String>>,
    /// What callers may ask for, by name.
    pub(super) models: Option<Named<Model>>,
    /// Bounds that keep one caller from harming the others.
    pub(super) limits: Option<Limits>,
    /// How the process ends.
    pub(super) drain: Option<Drain>,
    /// Where spans go and which are kept.
    pub(super) telemetry: Option<Telemetry>,
    /// Where predictions are logged, and what of them. Left out: nowhere.
    pub(super) log: Option<Log>,
}

/// How this replica takes part where `state` is shared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    /// Directory of this replica's own, where it finds the last plan if it starts while the store is away.
    #[schemars(example = &"/var/lib/parhelion")]
    pub(super) cache: Option<String>,
    /// What all keys in the store begin with. Replicas with the same are one fleet.
    #[schemars(example = &"parhelion")]
    pub(super) prefix: Option<String>,
    /// What this replica is called in `ctl status`. Left out: the name of its host.
    pub(super) replica: Option<String>,
    /// File with the password of the user that `state` names, or of the default user.
    #[schemars(example = &"/etc/parhelion/redis-password")]
    pub(super) password_file: Option<String>,
    /// PEM file with the authorities of the servers' certificates. Left out: those of this system.
    #[schemars(example = &"/etc/parhelion/redis/ca.crt")]
    pub(super) ca: Option<String>,
    /// PEM file with the certificate that is shown to the servers.
    #[schemars(example = &"/etc/parhelion/redis/tls.crt")]
    pub(super) cert: Option<String>,
    /// PEM file with the key of that certificate.
    #[schemars(example = &"/etc/parhelion/redis/tls.key")]
    pub(super) key: Option<String>,
}

/// Who may use the admin port.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    /// File with one token a line: `NAME read SECRET` or `NAME act SECRET`. Left out: everybody on this machine may
    /// read and act.
    #[schemars(example = &"/etc/parhelion/tokens")]
    pub(super) tokens: Option<String>,
    /// Names of certificates that may read, where `tls.admin.client_ca` is given.
    #[schemars(example = ["spiffe://cluster.local/ns/ops/*"])]
    pub(super) read: Option<Vec<Option<String>>>,
    /// Names of certificates that may read and act, where `tls.admin.client_ca` is given.
    #[schemars(example = ["spiffe://cluster.local/ns/ops/sa/release"])]
    pub(super) act: Option<Vec<Option<String>>>,
}

/// Certificates of ports, and how servers that speak TLS are reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// The data port.
    pub(super) listen: Option<ServerTls>,
    /// The admin port.
    pub(super) admin: Option<ServerTls>,
    /// The health port.
    pub(super) health: Option<ServerTls>,
    /// What `https` endpoints are reached with that say nothing themselves.
    pub(super) endpoints: Option<ClientTls>,
    /// What the collector is reached with, where it is `https`.
    pub(super) collector: Option<ClientTls>,
}

/// The certificate of a port, and who may come in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerTls {
    /// PEM file with the port's certificate, and those between it and its authority.
    #[schemars(example = &"/etc/parhelion/tls/tls.crt")]
    pub(super) cert: Option<String>,
    /// PEM file with the key of the certificate.
    #[schemars(example = &"/etc/parhelion/tls/tls.key")]
    pub(super) key: Option<String>,
    /// PEM file with the authorities of callers. Given: who has no certificate of theirs is not let in.
    #[schemars(example = &"/etc/parhelion/tls/ca.crt")]
    pub(super) client_ca: Option<String>,
    /// Names of certificates that are let in: `spiffe://DOMAIN/PATH`, `spiffe://DOMAIN/PATH/*`, or a DNS name. Left
    /// out: all that `client_ca` signed for.
    #[schemars(example = ["spiffe://cluster.local/ns/shop/sa/web", "web.shop.svc"])]
    pub(super) allow: Option<Vec<Option<String>>>,
}

/// What is believed of a server, and what is shown to it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientTls {
    /// PEM file with the authorities of the server. Left out: those of this system.
    #[schemars(example = &"/etc/parhelion/tls/ca.crt")]
    pub(super) ca: Option<String>,
    /// PEM file with the certificate that is shown to the server.
    #[schemars(example = &"/etc/parhelion/tls/tls.crt")]
    pub(super) cert: Option<String>,
    /// PEM file with the key of that certificate.
    #[schemars(example = &"/etc/parhelion/tls/tls.key")]
    pub(super) key: Option<String>,
    /// What the server is called in its certificate. Left out: the host of its address.
    #[schemars(example = &"fraud.models.svc")]
    pub(super) server_name: Option<String>,
    /// Names that the server's certificate may have, whatever its address: `spiffe://DOMAIN/PATH`,
    /// `spiffe://DOMAIN/PATH/*`, or a DNS name. Left out: its address or `server_name`.
    #[schemars(example = ["spiffe://cluster.local/ns/models/sa/fraud"])]
    pub(super) allow: Option<Vec<Option<String>>>,
}

/// One name that callers ask for, and what may answer it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// The versions of the model, by name; the first is the baseline where none is named.
    pub(super) variants: Option<Named<Variant>>,
    /// Where the unit of a call (user, session) is found: `metadata:NAME` or `parameter:NAME`, the first one
    /// present. None: every call is drawn by itself.
    #[schemars(example = ["metadata:x-user-id", "parameter:user_id"])]
    pub(super) unit: Option<Vec<Option<String>>>,
    /// How a call is given to a variant. May be left out where there is one variant.
    pub(super) strategy: Option<Strategy>,
    /// Who may force a variant by the request metadata `parhelion-variant`: `anyone`, or calls that match. Left
    /// out: nobody.
    pub(super) force: Option<Force>,
    /// Deadline of calls that bring none.
    pub(super) default_deadline: Option<Span>,
    /// Variants that get copies of its calls and answer nobody.
    pub(super) shadows: Option<Vec<Option<Shadow>>>,
    /// Of which answers the distribution is watched, and what it is held against. Left out: of none.
    pub(super) drift: Option<Drift>,
    /// What may be learnt later about a prediction, by name.
    pub(super) feedback: Option<Named<Feedback>>,
    /// How the baseline answers what another variant fails at; `off`: not at all.
    pub(super) fallback: Option<Fallback>,
}

/// How the baseline answers what another variant fails at.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Fallback {
    /// `off`.
    Word(#[schemars(extend("enum" = ["off"]))] String),
    /// With these bounds.
    Bounds(FallbackBounds),
}

/// The bounds of fallback.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FallbackBounds {
    /// What another variant may take, and never more than half of what is left of the deadline. `auto`: four times
    /// the baseline's 99th percentile, at least 100ms. Default auto.
    pub(super) timeout: Option<SpanOrAuto>,
    /// Most fallbacks, as a share of the baseline's calls over 10s; 10 are always allowed. Default 20%.
    pub(super) budget: Option<Share>,
    /// Bytes of an answer that are held until its end is known. Default 1MiB.
    pub(super) hold: Option<Bytes>,
}

/// One version of a model.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    /// Where it is reached.
    pub(super) endpoint: Option<Endpoint>,
    /// Where it is reached, if at several places.
    pub(super) endpoints: Option<Vec<Option<Endpoint>>>,
    /// The version its users know.
    #[schemars(example = &"1.4.0")]
    pub(super) version: Option<String>,
    /// Digest of the artifact, `sha256:…`.
    pub(super) digest: Option<String>,
    /// What the server calls the model, where it differs from the model's name.
    #[schemars(example = &"fraud-next")]
    pub(super) model_name: Option<String>,
    /// The version to ask the server for.
    #[schemars(example = &"2")]
    pub(super) model_version: Option<String>,
    /// `http://HOST:PORT/PATH` where its one process says in Prometheus text what it uses; for `guards.resources`.
    #[schemars(example = &"http://127.0.0.1:8082/metrics")]
    pub(super) metrics: Option<String>,
}

/// `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`; as a map where `hop` or `tls` is said too.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Endpoint {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    Url(
        #[schemars(example = &"http://127.0.0.1:8001")]
        String,
    ),
    /// With settings of its own.
    Full(FullEndpoint),
}

/// An endpoint with settings of its own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FullEndpoint {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    #[schemars(example = &"http://fraud-exp.models.svc:9000")]
    pub(super) url: Option<String>,
    /// Whether calls to it carry `parhelion-hop`, for it may have a sidecar of its own. Left out: not on loopback
    /// and unix sockets, else yes.
    pub(super) hop: Option<bool>,
    /// What the server is believed by, and shown. Left out: `tls.endpoints`.
    pub(super) tls: Option<ClientTls>,
}

/// Pairs that must all be equal.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    /// Request metadata by name.
    pub(super) metadata: Option<Named<String>>,
    /// Parameters of the inference request by name.
    pub(super) parameter: Option<Named<String>>,
}

/// Who may force a variant.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum Force {
    /// `anyone`.
    Word(#[schemars(extend("enum" = ["anyone"]))] String),
    /// Calls that match.
    Calls(ForceCalls),
}

/// Calls that may force a variant.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForceCalls {
    /// Which calls: all pairs must be equal.
    #[serde(rename = "match")]
    pub(super) matches: Option<Match>,
}

/// Bounds; over them a call gets RESOURCE_EXHAUSTED, or a connection is closed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Open connections, per worker. Default 10000.
    pub(super) connections: Option<Count>,
    /// Concurrent streams on one connection. Default 1000.
    pub(super) streams: Option<Count>,
    /// Calls in flight, per worker. Default 10000.
    pub(super) in_flight: Option<Count>,
    /// One message, either way, as framed. Default 64MiB.
    pub(super) message: Option<Bytes>,
    /// Request bytes kept for a retry or a fallback, per call. Default 1MiB.
    pub(super) retain: Option<Bytes>,
    /// One header list. Default 64KiB.
    pub(super) headers: Option<Bytes>,
    /// Flow-control window of a stream. Default 1MiB.
    pub(super) stream_window: Option<Bytes>,
    /// Flow-control window of a connection, at least 1MiB. Default 4MiB.
    pub(super) connection_window: Option<Bytes>,
    /// First byte, preface, SETTINGS acknowledgement, and each header block must be there by then. Default 10s.
    pub(super) handshake: Option<Span>,
    /// How long a peer may leave a stream without taking what waits for it, or a message unfinished. Default 60s.
    pub(super) stall: Option<Span>,
    /// After this a connection is told to go away; `none`: never. Default none.
    pub(super) connection_age: Option<SpanOrNone>,
    /// How long calls may still run on a connection that was told to go away by its age. Default 10s.
    pub(super) connection_age_grace: Option<Span>,
    /// Memory of the process; from 90% of it on calls are refused. `auto`: what its control group allows. `none`: any.
    /// Default auto.
    pub(super) memory: Option<BytesOrAuto>,
    /// A deadline or cancellation below this says nothing about the upstream. Default 100ms.
    pub(super) min_deadline: Option<Span>,
}

/// How the process ends.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// After SIGTERM: not ready, but still accepting for as long as endpoints lag. Default 0s.
    pub(super) lag: Option<Span>,
    /// From GOAWAY until open calls are cut. Default 25s.
    pub(super) grace: Option<Span>,
}

/// Where spans go and which are kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// `http://HOST:PORT` or `https://HOST:PORT` of an OTLP gRPC collector. Left out: no spans.
    #[schemars(example = &"http://otel-collector:4317")]
    pub(super) otlp: Option<String>,
    /// Share of calls without a sampled parent whose spans are exported. Default 1%.
    pub(super) sample: Option<Share>,
    /// Calls whose spans are kept whatever `sample` says.
    pub(super) keep: Option<Keep>,
    /// Resource attributes beside those of the environment.
    #[schemars(example = [("deployment.environment.name", "staging")].into_iter().collect::<std::collections::BTreeMap<_, _>>())]
    pub(super) resource: Option<Named<String>>,
}

/// Calls whose spans are kept whatever the sampling says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    /// Every call that failed by a server's or the sidecar's fault. Default true.
    pub(super) errors: Option<bool>,
    /// Every call slower than this. Left out: slowness keeps no span.
    pub(super) slower_than: Option<Span>,
    /// Every call that a shadow answered differently. Default true.
    pub(super) disagreements: Option<bool>,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = WordOr("an address like http://127.0.0.1:8001, or a map with `url`", PhantomData);
        Ok(match deserializer.deserialize_any(visitor)? {
            Either::Word(url) => Endpoint::Url(url),
            Either::Map(full) => Endpoint::Full(full),
        })
    }
}

impl<'de> Deserialize<'de> for Force {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(WordOr("`anyone`, or a map with `match`", PhantomData))? {
            Either::Word(word) => Force::Word(word),
            Either::Map(calls) => Force::Calls(calls),
        })
    }
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = WordOr("`off`, or a map with `timeout`, `budget` and `hold`", PhantomData);
        Ok(match deserializer.deserialize_any(visitor)? {
            Either::Word(word) => Fallback::Word(word),
            Either::Map(bounds) => Fallback::Bounds(bounds),
        })
    }
}

//! The prediction log as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Bytes, ClientTls, Share, Span};

/// Where predictions are logged, and what of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// The directory; one for each sidecar.
    #[schemars(example = &"/var/log/parhelion")]
    pub(in crate::config) dir: Option<String>,
    /// Share of predictions that are logged, with their copies and reports. Default 100%.
    pub(in crate::config) sample: Option<Share>,
    /// How long a row lies in memory at most: what a crash can take. Default 1s.
    pub(in crate::config) flush: Option<Span>,
    /// When a spool becomes a Parquet file.
    pub(in crate::config) seal: Option<Seal>,
    /// What the directory may hold. Default 1GiB.
    pub(in crate::config) disk: Option<Bytes>,
    /// What goes where it holds that: the oldest sealed files, or what comes now. Default drop_oldest.
    #[schemars(extend("enum" = ["drop_oldest", "drop_newest"]))]
    pub(in crate::config) full: Option<String>,
    /// URL of the object store that sealed files go to: `s3://BUCKET/PREFIX`, `gs://…`, `az://…`, `file:///…`. Secrets
    /// are in the environment. Left out: files stay.
    #[schemars(example = &"s3://predictions/fraud")]
    pub(in crate::config) upload: Option<String>,
    /// Whose messages are kept with their rows. Left out: nobody's.
    pub(in crate::config) payloads: Option<Payloads>,
    /// Who is told of calls as CloudEvents of the types of KServe's logger. Left out: nobody.
    pub(in crate::config) cloudevents: Option<CloudEvents>,
}

/// Who is told of calls as CloudEvents of the types of KServe's logger, over HTTP/1.1.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CloudEvents {
    /// Where events are taken: `http://HOST/PATH` or `https://HOST/PATH`.
    #[schemars(example = &"http://broker-ingress.knative-eventing.svc/models/default")]
    pub(in crate::config) url: Option<String>,
    /// Which events a call has: of its request, of its response, or both. Default all.
    #[schemars(extend("enum" = ["all", "request", "response"]))]
    pub(in crate::config) mode: Option<String>,
    /// The events' `source`: a URI reference. Default /parhelion.
    #[schemars(example = &"//models.svc/fraud")]
    pub(in crate::config) source: Option<String>,
    /// The events' `namespace`. Left out: they have none.
    #[schemars(example = &"models")]
    pub(in crate::config) namespace: Option<String>,
    /// What an `https` receiver is reached with.
    pub(in crate::config) tls: Option<ClientTls>,
}

/// Whose messages are kept with their rows, and how.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Payloads {
    /// Share of the logged unary calls. Default 1%.
    pub(in crate::config) sample: Option<Share>,
    /// Bytes of one message; of a call with a larger one nothing is kept. Default 64KiB.
    pub(in crate::config) size: Option<Bytes>,
    /// As protobuf, which can be replayed to the last bit, or as the protocol's JSON, for people. Default raw.
    #[serde(rename = "as")]
    #[schemars(extend("enum" = ["raw", "decoded"]))]
    pub(in crate::config) kept_as: Option<String>,
    /// Names of tensors whose contents are left out.
    #[schemars(example = ["account", "embedding"])]
    pub(in crate::config) mask: Option<Vec<Option<String>>>,
}

/// When a spool becomes a Parquet file: as soon as one of both holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Seal {
    /// It is so large, before compression. Default 64MiB.
    pub(in crate::config) size: Option<Bytes>,
    /// It is so old. Default 10m.
    pub(in crate::config) every: Option<Span>,
}

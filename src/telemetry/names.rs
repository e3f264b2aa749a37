//! Every name that leaves the process in a span or a metric. `docs/telemetry.md` lists the same ones; a test compares.

/// Attributes of spans.
pub mod attribute {
    /// Always `grpc`.
    pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
    /// `pkg.Service/Method`; `_OTHER` for a method that nobody knows.
    pub const RPC_METHOD: &str = "rpc.method";
    /// The method as the caller sent it, where `rpc.method` is `_OTHER`.
    pub const RPC_METHOD_ORIGINAL: &str = "rpc.method_original";
    /// Name of the status code.
    pub const RPC_STATUS_CODE: &str = "rpc.status_code";
    /// Older set: always `grpc`.
    pub const RPC_SYSTEM: &str = "rpc.system";
    /// Older set: `pkg.Service`.
    pub const RPC_SERVICE: &str = "rpc.service";
    /// Older set: number of the status code.
    pub const RPC_GRPC_STATUS_CODE: &str = "rpc.grpc.status_code";
    /// Host that the span's server was asked for by.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Its port.
    pub const SERVER_PORT: &str = "server.port";
    /// Name of the status code, only on failure.
    pub const ERROR_TYPE: &str = "error.type";
    /// The rollout that decided.
    pub const FLAG_KEY: &str = "feature_flag.key";
    /// The variant that was assigned.
    pub const FLAG_VARIANT: &str = "feature_flag.result.variant";
    /// Why, in words of the conventions.
    pub const FLAG_REASON: &str = "feature_flag.result.reason";
    /// Keyed hash of the unit.
    pub const FLAG_CONTEXT_ID: &str = "feature_flag.context.id";
    /// Revision of the configuration.
    pub const FLAG_VERSION: &str = "feature_flag.version";
    /// Always `parhelion`.
    pub const FLAG_PROVIDER: &str = "feature_flag.provider.name";
    /// The id the caller was told.
    pub const PREDICTION_ID: &str = "parhelion.prediction_id";
    /// The model whose rollout got the call.
    pub const MODEL: &str = "parhelion.model";
    /// The model name the caller asked for, where it is another.
    pub const MODEL_ASKED: &str = "parhelion.model.asked";
    /// The variant whose answer the caller got.
    pub const VARIANT: &str = "parhelion.variant";
    /// The variant that was assigned.
    pub const ASSIGNED: &str = "parhelion.assigned";
    /// The version the call was routed to, from the configuration.
    pub const VERSION: &str = "parhelion.version";
    /// The version the server named itself.
    pub const REPORTED_VERSION: &str = "parhelion.reported_version";
    /// Digest of the routed version's artifact.
    pub const DIGEST: &str = "parhelion.digest";
    /// Kind of the strategy.
    pub const STRATEGY: &str = "parhelion.strategy";
    /// Why the variant was assigned.
    pub const REASON: &str = "parhelion.reason";
    /// How likely that was.
    pub const PROPENSITY: &str = "parhelion.propensity";
    /// Keyed hash of the unit.
    pub const UNIT_HASH: &str = "parhelion.unit_hash";
    /// Adapter that read the call.
    pub const PROTOCOL: &str = "parhelion.protocol";
    /// Whose fault the end of the call is.
    pub const BLAME: &str = "parhelion.blame";
    /// The request's own id.
    pub const REQUEST_ID: &str = "parhelion.request_id";
    /// Seconds the last attempt took.
    pub const LATENCY_UPSTREAM: &str = "parhelion.latency.upstream";
    /// Seconds the sidecar added.
    pub const LATENCY_OWN: &str = "parhelion.latency.own";
    /// Message bytes from the caller.
    pub const REQUEST_BYTES: &str = "parhelion.request.bytes";
    /// Message bytes to the caller.
    pub const RESPONSE_BYTES: &str = "parhelion.response.bytes";
    /// Messages from the caller.
    pub const REQUEST_MESSAGES: &str = "parhelion.request.messages";
    /// Messages to the caller.
    pub const RESPONSE_MESSAGES: &str = "parhelion.response.messages";
    /// Which try this is, from 1.
    pub const ATTEMPT: &str = "parhelion.attempt";

    /// All of them.
    pub const ALL: [&str; 38] = [
        RPC_SYSTEM_NAME,
        RPC_METHOD,
        RPC_METHOD_ORIGINAL,
        RPC_STATUS_CODE,
        RPC_SYSTEM,
        RPC_SERVICE,
        RPC_GRPC_STATUS_CODE,
        SERVER_ADDRESS,
        SERVER_PORT,
        ERROR_TYPE,
        FLAG_KEY,
        FLAG_VARIANT,
        FLAG_REASON,
        FLAG_CONTEXT_ID,
        FLAG_VERSION,
        FLAG_PROVIDER,
        PREDICTION_ID,
        MODEL,
        MODEL_ASKED,
        VARIANT,
        ASSIGNED,
        VERSION,
        REPORTED_VERSION,
        DIGEST,
        STRATEGY,
        REASON,
        PROPENSITY,
        UNIT_HASH,
        PROTOCOL,
        BLAME,
        REQUEST_ID,
        LATENCY_UPSTREAM,
        LATENCY_OWN,
        REQUEST_BYTES,
        RESPONSE_BYTES,
        REQUEST_MESSAGES,
        RESPONSE_MESSAGES,
        ATTEMPT,
    ];
}

//! Every name that leaves the process in a span or a metric. `docs/telemetry.md` lists the same ones; a test compares.

use super::counter::Counter;

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
    /// UUID of the prediction, the same in all spans about it.
    pub const PREDICTION_UUID: &str = "parhelion.prediction_uuid";
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
    /// The variant that failed, where the baseline was asked instead.
    pub const FALLBACK_FROM: &str = "parhelion.fallback_from";
    /// What became of the baseline's answering instead.
    pub const FALLBACK: &str = "parhelion.fallback";
    /// Why the variant was assigned.
    pub const REASON: &str = "parhelion.reason";
    /// The segment that matched.
    pub const SEGMENT: &str = "parhelion.segment";
    /// How likely that was.
    pub const PROPENSITY: &str = "parhelion.propensity";
    /// The variant that an apprentice would have given the call to.
    pub const CHOICE: &str = "parhelion.bandit.choice";
    /// How likely it would have been.
    pub const CHOICE_PROPENSITY: &str = "parhelion.bandit.choice_propensity";
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
    /// `shadow` or `control` on spans of copies.
    pub const ROLE: &str = "parhelion.role";
    /// Trace of the call that was copied.
    pub const PRIMARY_TRACE_ID: &str = "parhelion.primary.trace_id";
    /// Server span of the call that was copied.
    pub const PRIMARY_SPAN_ID: &str = "parhelion.primary.span_id";
    /// The variant that answered the call.
    pub const PRIMARY_VARIANT: &str = "parhelion.primary.variant";
    /// What the call's caller was told.
    pub const PRIMARY_STATUS: &str = "parhelion.primary.status_code";
    /// Seconds the call's last attempt took.
    pub const PRIMARY_LATENCY: &str = "parhelion.primary.latency";
    /// Message bytes of the call's answer.
    pub const PRIMARY_RESPONSE_BYTES: &str = "parhelion.primary.response.bytes";
    /// The first difference between both answers.
    pub const COMPARISON: &str = "parhelion.comparison";
    /// The shadow that answered the call differently.
    pub const DISAGREEMENT_SHADOW: &str = "parhelion.disagreement.shadow";
    /// The output that differs most; empty: the answer as a whole.
    pub const DISAGREEMENT_OUTPUT: &str = "parhelion.disagreement.output";
    /// In what way.
    pub const DISAGREEMENT_KIND: &str = "parhelion.disagreement.kind";
    /// By how much, in a few words.
    pub const DISAGREEMENT_HOW: &str = "parhelion.disagreement.how";
    /// How far both are apart, in the output's own measure.
    pub const DISAGREEMENT_DISTANCE: &str = "parhelion.disagreement.distance";
    /// Why the call does not count as copied.
    pub const SKIPPED: &str = "parhelion.skipped";
    /// Name of the feedback that a report is about.
    pub const FEEDBACK: &str = "parhelion.feedback.name";
    /// Its value, as reported.
    pub const FEEDBACK_VALUE: &str = "parhelion.feedback.value";
    /// Its label, as reported.
    pub const FEEDBACK_LABEL: &str = "parhelion.feedback.label";
    /// The prediction's value with this report.
    pub const FEEDBACK_JOINED: &str = "parhelion.feedback.joined";
    /// The slot of a merged list that it is about.
    pub const FEEDBACK_SLOT: &str = "parhelion.feedback.slot";
    /// What became of the report.
    pub const FEEDBACK_RESULT: &str = "parhelion.feedback.result";
    /// Whether it is evidence.
    pub const FEEDBACK_EVIDENCE: &str = "parhelion.feedback.evidence";
    /// Seconds from the prediction to the report.
    pub const FEEDBACK_DELAY: &str = "parhelion.feedback.delay";
    /// The variants whose lists an answer is made of.
    pub const INTERLEAVED: &str = "parhelion.interleaved";
    /// How their lists are merged.
    pub const MERGE: &str = "parhelion.interleave.merge";
    /// Lists that were merged at once.
    pub const ROWS: &str = "parhelion.interleave.rows";
    /// Slots of each.
    pub const SLOTS: &str = "parhelion.interleave.slots";
    /// Whose each slot is.
    pub const TEAMS: &str = "parhelion.interleave.teams";
    /// Rankers that dropped out.
    pub const DROPPED: &str = "parhelion.interleave.dropped";
    /// Why the call is no evidence.
    pub const UNANALYSED: &str = "parhelion.interleave.unanalysed";
    /// Why the sidecar ended the copy.
    pub const CAUSE: &str = "parhelion.cause";

    /// All of them.
    pub const ALL: [&str; 74] = [
        INTERLEAVED,
        MERGE,
        ROWS,
        SLOTS,
        TEAMS,
        DROPPED,
        UNANALYSED,
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
        PREDICTION_UUID,
        MODEL,
        MODEL_ASKED,
        VARIANT,
        ASSIGNED,
        VERSION,
        REPORTED_VERSION,
        DIGEST,
        STRATEGY,
        FALLBACK_FROM,
        FALLBACK,
        REASON,
        SEGMENT,
        PROPENSITY,
        CHOICE,
        CHOICE_PROPENSITY,
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
        ROLE,
        PRIMARY_TRACE_ID,
        PRIMARY_SPAN_ID,
        PRIMARY_VARIANT,
        PRIMARY_STATUS,
        PRIMARY_LATENCY,
        PRIMARY_RESPONSE_BYTES,
        COMPARISON,
        DISAGREEMENT_SHADOW,
        DISAGREEMENT_OUTPUT,
        DISAGREEMENT_KIND,
        DISAGREEMENT_HOW,
        DISAGREEMENT_DISTANCE,
        SKIPPED,
        CAUSE,
        FEEDBACK,
        FEEDBACK_VALUE,
        FEEDBACK_LABEL,
        FEEDBACK_JOINED,
        FEEDBACK_SLOT,
        FEEDBACK_RESULT,
        FEEDBACK_EVIDENCE,
        FEEDBACK_DELAY,
    ];
}

/// Metrics, as they are written in Prometheus and OpenMetrics text. The names of counters end in `_total`, those of
/// histograms are followed there by `_bucket`, `_sum` and `_count`.
pub mod metric {
    /// Calls that have ended, by status code and whose fault.
    pub const CALLS: &str = "parhelion_calls_total";
    /// Calls under way.
    pub const CALLS_IN_FLIGHT: &str = "parhelion_calls_in_flight";
    /// Calls by the reason of their assignment.
    pub const ASSIGNMENTS: &str = "parhelion_assignments_total";
    /// Attempts at upstreams, by whose fault they ended.
    pub const ATTEMPTS: &str = "parhelion_attempts_total";
    /// Calls at which a variant failed that has a baseline behind it, by what came of that.
    pub const FALLBACKS: &str = "parhelion_fallbacks_total";
    /// Whole calls.
    pub const CALL_DURATION: &str = "parhelion_call_duration_seconds";
    /// Attempts.
    pub const UPSTREAM_DURATION: &str = "parhelion_upstream_duration_seconds";
    /// What the sidecar added to a call.
    pub const OWN_DURATION: &str = "parhelion_own_duration_seconds";
    /// Message bytes, by direction.
    pub const MESSAGE_BYTES: &str = "parhelion_message_bytes_total";
    /// Messages, by direction.
    pub const MESSAGES: &str = "parhelion_messages_total";
    /// Spans that a collector took.
    pub const SPANS_EXPORTED: &str = "parhelion_spans_exported_total";
    /// Spans that were lost, by cause.
    pub const SPANS_DROPPED: &str = "parhelion_spans_dropped_total";
    /// Outcomes that found the queue to the exporter full.
    pub const OUTCOMES_DROPPED: &str = "parhelion_outcomes_dropped_total";
    /// What happened to callers' connections.
    pub const CONNECTIONS: &str = "parhelion_connections_total";
    /// Failures of `accept`.
    pub const ACCEPT_ERRORS: &str = "parhelion_accept_errors_total";
    /// What happened to connections to upstreams.
    pub const UPSTREAM_CONNECTIONS: &str = "parhelion_upstream_connections_total";
    /// Streams that were sent again, or could not be.
    pub const RETRIES: &str = "parhelion_retries_total";
    /// Endpoints taken out for failing calls.
    pub const EJECTIONS: &str = "parhelion_ejections_total";
    /// Counter: endpoints passed over for answering neither probes nor calls.
    pub const SUSPICIONS: &str = "parhelion_suspicions_total";
    /// Calls refused or ended over a limit.
    pub const SHED: &str = "parhelion_shed_total";
    /// Streams cut for a peer that stood still.
    pub const STALLS: &str = "parhelion_stalls_total";
    /// Forced variants that the caller may not force.
    pub const FORCE_STRIPPED: &str = "parhelion_force_stripped_total";
    /// Hops that were not followed.
    pub const HOPS: &str = "parhelion_hops_total";
    /// Later messages of a stream that name another model.
    pub const FOREIGN_MODEL: &str = "parhelion_foreign_model_total";
    /// Panics of worker tasks.
    pub const PANICS: &str = "parhelion_panics_total";
    /// Calls that a shadow could get a copy of.
    pub const SHADOW_ELIGIBLE: &str = "parhelion_shadow_eligible_total";
    /// Those that were copied.
    pub const SHADOW_COPIED: &str = "parhelion_shadow_copied_total";
    /// Those that were not, by reason.
    pub const SHADOW_SKIPPED: &str = "parhelion_shadow_skipped_total";
    /// Copied ÷ eligible.
    pub const SHADOW_COVERAGE: &str = "parhelion_shadow_coverage_ratio";
    /// Copies that have ended, by status code and whose fault.
    pub const SHADOW_CALLS: &str = "parhelion_shadow_calls_total";
    /// Copies under way.
    pub const SHADOW_IN_FLIGHT: &str = "parhelion_shadow_calls_in_flight";
    /// Bytes that copies hold.
    pub const SHADOW_PINNED: &str = "parhelion_shadow_pinned_bytes";
    /// Copies.
    pub const SHADOW_DURATION: &str = "parhelion_shadow_duration_seconds";
    /// The calls beside them.
    pub const SHADOW_PRIMARY: &str = "parhelion_shadow_primary_duration_seconds";
    /// Answers beside the calls' answers, by the first difference.
    pub const SHADOW_COMPARISONS: &str = "parhelion_shadow_comparisons_total";
    /// What a shadow's answers prove.
    pub const SHADOW_VERDICT: &str = "parhelion_shadow_verdict";
    /// How often an output does not agree.
    pub const SHADOW_DISAGREEMENT: &str = "parhelion_shadow_disagreement_ratio";
    /// The same of the control.
    pub const SHADOW_NOISE: &str = "parhelion_shadow_noise_ratio";
    /// How an output is distributed beside what was served.
    pub const SHADOW_DRIFT: &str = "parhelion_shadow_stability_index";
    /// Pairs in which an output does not agree, by how.
    pub const SHADOW_DIFFERENCES: &str = "parhelion_shadow_output_differing_pairs";
    /// Declared outputs that no answer has.
    pub const SHADOW_ABSENT: &str = "parhelion_shadow_absent_output_pairs";
    /// Answers whose distribution was looked at, by what became of them.
    pub const DRIFT_ANSWERS: &str = "parhelion_drift_answers_total";
    /// Whether the file with a reference cannot be used.
    pub const DRIFT_REFERENCE_FAILING: &str = "parhelion_drift_reference_failing";
    /// Whether an output was ever proven to be distributed otherwise.
    pub const DRIFT_FOUND: &str = "parhelion_drift_found";
    /// Today's evidence for it.
    pub const DRIFT_EVIDENCE: &str = "parhelion_drift_ln_e";
    /// Population stability index.
    pub const DRIFT_INDEX: &str = "parhelion_drift_stability_index";
    /// Jensen–Shannon distance.
    pub const DRIFT_DIVERGENCE: &str = "parhelion_drift_jensen_shannon_ratio";
    /// Kolmogorov–Smirnov distance.
    pub const DRIFT_LARGEST: &str = "parhelion_drift_kolmogorov_smirnov_ratio";
    /// Wasserstein-1 distance.
    pub const DRIFT_MOVED: &str = "parhelion_drift_wasserstein";
    /// What happened to connections that carry copies.
    pub const SHADOW_CONNECTIONS: &str = "parhelion_shadow_connections_total";
    /// Reports that were taken, by what became of them.
    pub const FEEDBACK: &str = "parhelion_feedback_total";
    /// Reports that were refused, by cause.
    pub const FEEDBACK_REFUSED: &str = "parhelion_feedback_refused_total";
    /// Bytes that the memory of reports takes.
    pub const FEEDBACK_BYTES: &str = "parhelion_feedback_memory_bytes";
    /// Predictions that were not counted for feedback that has a default.
    pub const FEEDBACK_UNCOUNTED: &str = "parhelion_feedback_uncounted_total";
    /// Contexts of calls that were not known when their rewards came.
    pub const CONTEXTS_LOST: &str = "parhelion_feedback_contexts_lost_total";
    /// Reports whose span found no room.
    pub const FEEDBACK_DROPPED: &str = "parhelion_feedback_spans_dropped_total";
    /// Calls that several rankers were asked for, by whether they are evidence.
    pub const INTERLEAVED: &str = "parhelion_interleaved_total";
    /// Rankings that were asked for, by what became of them.
    pub const RANKINGS: &str = "parhelion_rankings_total";
    /// Items that stood in a ranking a second time.
    pub const RANKING_DUPLICATES: &str = "parhelion_ranking_duplicates_total";
    /// Whether a model's own metadata says otherwise than the file of its outputs.
    pub const OUTPUTS_MISMATCHED: &str = "parhelion_outputs_mismatched";
    /// Bytes that are remembered of lists that were shown.
    pub const SHOWN_BYTES: &str = "parhelion_interleave_memory_bytes";
    /// Copies that found the queue to the exporter full.
    pub const SHADOW_DROPPED: &str = "parhelion_shadow_outcomes_dropped_total";
    /// Where a rollout is in its life; always 1.
    pub const ROLLOUT_STATE: &str = "parhelion_rollout_state";
    /// The step a rollout is at.
    pub const ROLLOUT_STEP: &str = "parhelion_rollout_step";
    /// The share that a variant is given.
    pub const ROLLOUT_SHARE: &str = "parhelion_rollout_share_ratio";
    /// What a guard says.
    pub const ROLLOUT_VERDICT: &str = "parhelion_rollout_verdict";
    /// Changes of plan, by what was done.
    pub const ROLLOUT_CHANGES: &str = "parhelion_rollout_changes_total";
    /// Failures that are no evidence, for want of room.
    pub const ROLLOUT_UNCOUNTED: &str = "parhelion_rollout_uncounted_total";
    /// Requests that warm a variant, by model, variant and result.
    pub const WARMUP_REQUESTS: &str = "parhelion_warmup_requests_total";
    /// Whether the state directory cannot be used.
    pub const STATE_FAILING: &str = "parhelion_state_failing";
    /// Failures to read or write it.
    pub const STATE_ERRORS: &str = "parhelion_state_errors_total";
    /// What was never written to it.
    pub const STATE_LOST: &str = "parhelion_state_lost_total";
    /// Decisions behind the plan that a shared rollout serves.
    pub const FLEET_PLAN_VERSION: &str = "parhelion_fleet_plan_version";
    /// How long the shared store has given no answer.
    pub const FLEET_STALENESS: &str = "parhelion_fleet_staleness_seconds";
    /// Whether this replica decides for all.
    pub const FLEET_LEADS: &str = "parhelion_fleet_leads";
    /// Parts of evidence that the store is not known to have.
    pub const FLEET_PARTS_WAITING: &str = "parhelion_fleet_parts_waiting";
    /// Parts of evidence that will never count.
    pub const FLEET_PARTS_LOST: &str = "parhelion_fleet_parts_lost_total";
    /// The store's clock less this replica's.
    pub const FLEET_CLOCK_SKEW: &str = "parhelion_fleet_clock_skew_seconds";
    /// Replicas that share the rollout.
    pub const FLEET_REPLICAS: &str = "parhelion_fleet_replicas";
    /// Exchanges with the shared store that failed, by cause.
    pub const FLEET_FAILURES: &str = "parhelion_fleet_failures_total";
    /// Reports of feedback by what the store knew of them.
    pub const FLEET_REPORTS: &str = "parhelion_fleet_reports_total";
    /// Reports of feedback that wait for the store.
    pub const FLEET_REPORTS_WAITING: &str = "parhelion_fleet_reports_waiting";
    /// Replicas with another file.
    pub const FLEET_REPLICAS_APART: &str = "parhelion_fleet_replicas_apart";
    /// Readings of variants' own metrics, by result.
    pub const RESOURCE_READS: &str = "parhelion_resource_reads_total";
    /// Processor time that a variant's process last said it took.
    pub const RESOURCE_CPU: &str = "parhelion_resource_cpu_seconds";
    /// Resident memory that a variant's process last said it holds.
    pub const RESOURCE_MEMORY: &str = "parhelion_resource_resident_bytes";
    /// Bytes of memory in use, where they are limited.
    pub const MEMORY_USED: &str = "parhelion_memory_used_bytes";
    /// Bytes of memory that are allowed.
    pub const MEMORY_LIMIT: &str = "parhelion_memory_limit_bytes";
    /// Handshakes of callers that failed, by reason.
    pub const TLS_REFUSED: &str = "parhelion_tls_handshakes_refused_total";
    /// Changed certificates, by result.
    pub const CERTIFICATE_RELOADS: &str = "parhelion_certificate_reloads_total";
    /// When a certificate that is in force ends, seconds since 1970.
    pub const CERTIFICATE_EXPIRY: &str = "parhelion_certificate_expiry_timestamp_seconds";
    /// Whether the newest certificates are in force.
    pub const CERTIFICATES_CURRENT: &str = "parhelion_certificates_current";
    /// Rows of the prediction log that are on the disk, by table.
    pub const LOG_ROWS: &str = "parhelion_log_rows_total";
    /// Rows that were lost, by cause.
    pub const LOG_LOST: &str = "parhelion_log_rows_lost_total";
    /// Parquet files that were made.
    pub const LOG_SEALED: &str = "parhelion_log_files_sealed_total";
    /// Tries to make them that failed.
    pub const LOG_SEAL_ERRORS: &str = "parhelion_log_seal_errors_total";
    /// Places in spools that could not be read.
    pub const LOG_DAMAGED: &str = "parhelion_log_damaged_total";
    /// Files that the store has taken.
    pub const LOG_UPLOADED: &str = "parhelion_log_files_uploaded_total";
    /// Bytes of those.
    pub const LOG_UPLOADED_BYTES: &str = "parhelion_log_uploaded_bytes_total";
    /// Times that the store took nothing.
    pub const LOG_UPLOAD_ERRORS: &str = "parhelion_log_upload_errors_total";
    /// Calls whose messages were to be kept and found no room.
    pub const LOG_PAYLOADS_DROPPED: &str = "parhelion_log_payloads_dropped_total";
    /// Events of calls that the receiver has taken, by type.
    pub const LOG_EVENTS: &str = "parhelion_log_events_total";
    /// Events that were not told, by cause.
    pub const LOG_EVENTS_LOST: &str = "parhelion_log_events_lost_total";
    /// Times that the receiver did not take an event.
    pub const LOG_EVENT_ERRORS: &str = "parhelion_log_event_errors_total";
    /// Bytes in the log's directory.
    pub const LOG_DISK: &str = "parhelion_log_disk_bytes";
    /// Parquet files in the log's directory.
    pub const LOG_FILES: &str = "parhelion_log_files";
    /// Files in the log's directory that no log has written.
    pub const LOG_FOREIGN: &str = "parhelion_log_foreign_files";
    /// Whether a part of the log fails now.
    pub const LOG_FAILING: &str = "parhelion_log_failing";
    /// Reviews of pods by the webhook, by what became of them.
    pub const WEBHOOK_REVIEWS: &str = "parhelion_webhook_reviews_total";
    /// How long they took.
    pub const WEBHOOK_DURATION: &str = "parhelion_webhook_review_duration_seconds";
    /// Those that only `parhelion webhook` has; [`ALL`] has the sidecar's.
    pub const OF_WEBHOOK: [&str; 2] = [WEBHOOK_REVIEWS, WEBHOOK_DURATION];
    /// Whether an endpoint may get calls.
    pub const ENDPOINT_READY: &str = "parhelion_endpoint_ready";
    /// Attempts to read the configuration again, by result.
    pub const CONFIG_RELOADS: &str = "parhelion_config_reloads_total";
    /// Whether the newest configuration is the one that is served.
    pub const CONFIG_CURRENT: &str = "parhelion_config_current";
    /// The configuration that is served; always 1.
    pub const CONFIG: &str = "parhelion_config_info";
    /// The program; always 1.
    pub const BUILD: &str = "parhelion_build_info";

    /// All of them.
    pub const ALL: [&str; 113] = [
        INTERLEAVED,
        RANKINGS,
        RANKING_DUPLICATES,
        OUTPUTS_MISMATCHED,
        SHOWN_BYTES,
        CALLS,
        CALLS_IN_FLIGHT,
        ASSIGNMENTS,
        ATTEMPTS,
        FALLBACKS,
        CALL_DURATION,
        UPSTREAM_DURATION,
        OWN_DURATION,
        MESSAGE_BYTES,
        MESSAGES,
        SPANS_EXPORTED,
        SPANS_DROPPED,
        OUTCOMES_DROPPED,
        CONNECTIONS,
        ACCEPT_ERRORS,
        UPSTREAM_CONNECTIONS,
        RETRIES,
        EJECTIONS,
        SUSPICIONS,
        SHED,
        STALLS,
        FORCE_STRIPPED,
        HOPS,
        FOREIGN_MODEL,
        PANICS,
        SHADOW_ELIGIBLE,
        SHADOW_COPIED,
        SHADOW_SKIPPED,
        SHADOW_COVERAGE,
        SHADOW_CALLS,
        SHADOW_IN_FLIGHT,
        SHADOW_PINNED,
        SHADOW_DURATION,
        SHADOW_PRIMARY,
        SHADOW_COMPARISONS,
        SHADOW_VERDICT,
        SHADOW_DISAGREEMENT,
        SHADOW_NOISE,
        SHADOW_DRIFT,
        SHADOW_DIFFERENCES,
        SHADOW_ABSENT,
        DRIFT_ANSWERS,
        DRIFT_REFERENCE_FAILING,
        DRIFT_FOUND,
        DRIFT_EVIDENCE,
        DRIFT_INDEX,
        DRIFT_DIVERGENCE,
        DRIFT_LARGEST,
        DRIFT_MOVED,
        SHADOW_CONNECTIONS,
        SHADOW_DROPPED,
        ROLLOUT_STATE,
        ROLLOUT_STEP,
        ROLLOUT_SHARE,
        ROLLOUT_VERDICT,
        ROLLOUT_CHANGES,
        ROLLOUT_UNCOUNTED,
        WARMUP_REQUESTS,
        STATE_FAILING,
        STATE_ERRORS,
        STATE_LOST,
        FLEET_PLAN_VERSION,
        FLEET_STALENESS,
        FLEET_LEADS,
        FLEET_PARTS_WAITING,
        FLEET_PARTS_LOST,
        FLEET_CLOCK_SKEW,
        FLEET_REPLICAS,
        FLEET_FAILURES,
        FLEET_REPORTS,
        FLEET_REPORTS_WAITING,
        FLEET_REPLICAS_APART,
        FEEDBACK,
        FEEDBACK_REFUSED,
        FEEDBACK_BYTES,
        FEEDBACK_UNCOUNTED,
        CONTEXTS_LOST,
        FEEDBACK_DROPPED,
        RESOURCE_READS,
        RESOURCE_CPU,
        RESOURCE_MEMORY,
        MEMORY_USED,
        MEMORY_LIMIT,
        TLS_REFUSED,
        CERTIFICATE_RELOADS,
        CERTIFICATE_EXPIRY,
        CERTIFICATES_CURRENT,
        LOG_ROWS,
        LOG_LOST,
        LOG_SEALED,
        LOG_SEAL_ERRORS,
        LOG_DAMAGED,
        LOG_UPLOADED,
        LOG_UPLOADED_BYTES,
        LOG_UPLOAD_ERRORS,
        LOG_PAYLOADS_DROPPED,
        LOG_EVENTS,
        LOG_EVENTS_LOST,
        LOG_EVENT_ERRORS,
        LOG_DISK,
        LOG_FILES,
        LOG_FOREIGN,
        LOG_FAILING,
        ENDPOINT_READY,
        CONFIG_RELOADS,
        CONFIG_CURRENT,
        CONFIG,
        BUILD,
    ];
}

/// The metric that each counter is part of, and the label that tells it from the metric's others.
pub fn counter(counter: Counter) -> (&'static str, Option<(&'static str, &'static str)>) {
    match counter {
        Counter::ConnectionsAccepted => (metric::CONNECTIONS, Some(("event", "accepted"))),
        Counter::ConnectionsClosed => (metric::CONNECTIONS, Some(("event", "closed"))),
        Counter::ConnectionsTimedOut => (metric::CONNECTIONS, Some(("event", "timed_out"))),
        Counter::ConnectionsViolated => (metric::CONNECTIONS, Some(("event", "violated"))),
        Counter::ConnectionsRefused => (metric::CONNECTIONS, Some(("event", "refused"))),
        Counter::ConnectionsAged => (metric::CONNECTIONS, Some(("event", "aged"))),
        Counter::AcceptErrors => (metric::ACCEPT_ERRORS, None),
        Counter::UpstreamConnects => (metric::UPSTREAM_CONNECTIONS, Some(("event", "connected"))),
        Counter::UpstreamConnectErrors => (metric::UPSTREAM_CONNECTIONS, Some(("event", "failed"))),
        Counter::UpstreamRotations => (metric::UPSTREAM_CONNECTIONS, Some(("event", "rotated"))),
        Counter::RetriesTransparent => (metric::RETRIES, Some(("result", "sent"))),
        Counter::RetriesTooLarge => (metric::RETRIES, Some(("result", "too_large"))),
        Counter::Ejections => (metric::EJECTIONS, None),
        Counter::Suspicions => (metric::SUSPICIONS, None),
        Counter::NotGrpc => (metric::SHED, Some(("cause", "not_grpc"))),
        Counter::ShedInFlight => (metric::SHED, Some(("cause", "in_flight"))),
        Counter::ShedMessage => (metric::SHED, Some(("cause", "message"))),
        Counter::ShedHeaders => (metric::SHED, Some(("cause", "headers"))),
        Counter::ShedMemory => (metric::SHED, Some(("cause", "memory"))),
        Counter::Stalls => (metric::STALLS, None),
        Counter::ForceStripped => (metric::FORCE_STRIPPED, None),
        Counter::HopUnverified => (metric::HOPS, Some(("result", "unverified"))),
        Counter::HopRefused => (metric::HOPS, Some(("result", "refused"))),
        Counter::ForeignModel => (metric::FOREIGN_MODEL, None),
        Counter::OutcomesDropped => (metric::OUTCOMES_DROPPED, None),
        Counter::TlsNoCertificate => (metric::TLS_REFUSED, Some(("reason", "no_certificate"))),
        Counter::TlsUnknownAuthority => (metric::TLS_REFUSED, Some(("reason", "unknown_authority"))),
        Counter::TlsExpired => (metric::TLS_REFUSED, Some(("reason", "expired"))),
        Counter::TlsNotYetValid => (metric::TLS_REFUSED, Some(("reason", "not_yet_valid"))),
        Counter::TlsName => (metric::TLS_REFUSED, Some(("reason", "name"))),
        Counter::TlsVersion => (metric::TLS_REFUSED, Some(("reason", "version"))),
        Counter::TlsAlpn => (metric::TLS_REFUSED, Some(("reason", "alpn"))),
        Counter::TlsPeer => (metric::TLS_REFUSED, Some(("reason", "peer"))),
        Counter::TlsBroken => (metric::TLS_REFUSED, Some(("reason", "broken"))),
        Counter::TlsTimedOut => (metric::TLS_REFUSED, Some(("reason", "timed_out"))),
        Counter::CertificatesTaken => (metric::CERTIFICATE_RELOADS, Some(("result", "applied"))),
        Counter::CertificatesRefused => (metric::CERTIFICATE_RELOADS, Some(("result", "refused"))),
        Counter::Panics => (metric::PANICS, None),
    }
}

//! The configurations that are played, all with the same two servers.

use std::net::SocketAddr;
use std::time::Duration;

/// So many canaries at one step, which stay there.
pub(crate) fn canaries([v1, v2]: [SocketAddr; 2], rollouts: u32, share: u32, attempt: Duration) -> String {
    let attempt = attempt.as_millis();
    let model = |number| {
        format!(
            "  m{number}:
    variants: {{v1: {{endpoint: 'http://{v1}', version: '1'}}, v2: {{endpoint: 'http://{v2}', version: '2'}}}}
    unit: [metadata:x-user-id]
    feedback: {{approved: {{kind: binary, window: 1h, max_rate: 1000000}}}}
    fallback: {{timeout: {attempt}ms}}
    strategy:
      kind: canary
      baseline: v1
      candidate: v2
      steps: [{{share: {share}%, hold: 1h}}]
      max_step_time: 2h
      warmup: {{time: 1s, calls: 50}}
"
        )
    };
    format!("default: m0\nmodels:\n{}", (0..rollouts).map(model).collect::<String>())
}

/// One variant has everything; one that is switched to is warmed first.
pub(crate) fn pinned(at: [SocketAddr; 2], variant: &str) -> String {
    one(at, &format!("strategy: {{kind: pinned, variant: {variant}, warmup: {{requests: 20}}}}"))
}

/// Copies, a canary of three steps, everything: with margins that some hundred calls can prove.
pub(crate) fn staged(at: [SocketAddr; 2]) -> String {
    one(
        at,
        "shadows: [{variant: v2, sample: 20%, deadline: 1s}]
    strategy:
      kind: staged
      baseline: v1
      candidate: v2
      stages:
        - {name: copies, kind: shadow, hold: 2s, calls: 500, guards: {errors: {absolute: 2%}, rejections: {absolute: 2%}}}
        - kind: canary
          steps: [{share: 10%, hold: 5s}, {share: 25%, hold: 5s}, {share: 50%, hold: 5s}]
          warmup: {time: 1s, calls: 50}
          guards:
            errors: {absolute: 2%}
            rejections: {absolute: 2%}
            latency: {quantile: 50%, relative: 25%}
        - {name: everybody, kind: pinned}",
    )
}

/// Both answer every call together.
pub(crate) fn interleaved(at: [SocketAddr; 2]) -> String {
    one(
        at,
        "feedback: {clicks: {kind: clicks}}
    strategy: {kind: interleave, baseline: v1, ranking: {items: items}, credit: {feedback: clicks}}",
    )
}

fn one([v1, v2]: [SocketAddr; 2], rest: &str) -> String {
    format!(
        "default: m0
models:
  m0:
    variants: {{v1: {{endpoint: 'http://{v1}', version: '1'}}, v2: {{endpoint: 'http://{v2}', version: '2'}}}}
    unit: [metadata:x-user-id]
    {rest}
"
    )
}

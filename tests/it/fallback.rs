//! What another variant fails at, the baseline answers: same call, same deadline, and the caller sees no failure.

use crate::support::oip::{self, INFER};
use crate::support::{Client, Incoming, Sidecar, Upstream};

/// Model `m`: all inference calls go to `v2`, which its server knows as `next`; `v1`, known as `now`, is the baseline.
fn yaml(v1: &Upstream, v2: &Upstream, more: &str) -> String {
    format!(
        "models: {{m: {{variants: {{v1: {{endpoint: \"{}\", model_name: now, version: \"1.0\"}}, \
         v2: {{endpoint: \"{}\", model_name: next, version: \"2.0\"}}}}, \
         strategy: {{kind: ab, baseline: v1, weights: {{v1: 0%, v2: 100%}}}}{more}}}}}\n",
        v1.url, v2.url
    )
}

struct Scene {
    v1: Upstream,
    v2: Upstream,
    sidecar: Sidecar,
    client: Client,
}

impl Scene {
    /// The baseline answers; `v2` does what the script says.
    async fn new<F>(more: &str, script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let v1 = Upstream::start(oip::serve).await;
        let v2 = Upstream::start(script).await;
        let sidecar = Sidecar::start(&yaml(&v1, &v2, more)).await;
        let client = Client::connect(sidecar.address).await;
        Scene { v1, v2, sidecar, client }
    }
}

#[tokio::test]
async fn the_baseline_answers_what_another_variant_fails_at() {
    let scene = Scene::new("", |mut incoming| async move {
        incoming.messages().await;
        incoming.trailers(&[("grpc-status", "13")]);
    })
    .await;
    let sent = oip::request("m", &[], 10_000);
    let answer = scene.client.unary(INFER, &[], &sent).await;
    assert_eq!(answer.status(), Some(0), "{answer:?}");
    assert_eq!(answer.header("parhelion-variant"), Some("v1"));
    assert_eq!(answer.header("parhelion-fallback-from"), Some("v2"));
    assert_eq!(oip::read_answer(&answer.messages[0].1).model_name, "m");
    for (upstream, name) in [(&scene.v2, "next"), (&scene.v1, "now")] {
        let requests = upstream.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].messages[0].starts_with(&sent));
        assert_eq!(oip::read_request(&requests[0].messages[0]).model_name, name);
    }
    let _ = &scene.sidecar;
}

//! An `AdmissionReview` of `admission.k8s.io/v1`: what an API server asks, and what it is told. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::tally::Verdict;
use crate::config::Problem;
use crate::inject::{Admitted, Place, Settings, admit};
use crate::yaml::change::to_patch;

/// The one version that is spoken; it is there since Kubernetes 1.16.
pub const VERSION: &str = "admission.k8s.io/v1";
/// What an API server shows of one warning, in bytes.
const WARNING: usize = 256;
/// Of how many warnings; all of them may have 4096 bytes.
const WARNINGS: usize = 15;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The answer has the same.
    pub uid: String,
    /// Where the pod will be.
    pub namespace: String,
    /// Whether it is about a pod that is being made.
    pub makes_a_pod: bool,
    /// The pod, or whatever else.
    pub object: Value,
}

/// Why something cannot be understood, so that not even its `uid` could be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n→ {remedy}\n")]
pub struct Unreadable {
    /// Counted.
    pub verdict: Verdict,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: &'static str,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reviewed {
    /// As asked.
    pub uid: String,
    /// What it is about, for the log.
    pub name: String,
    /// Counted.
    pub verdict: Verdict,
    /// Empty: the pod stays as it is.
    pub patch: Vec<Value>,
    /// For who makes the pod.
    pub warnings: Vec<String>,
}

/// Reads a review.
///
/// # Errors
/// What is no review, or of another version.
pub fn read(body: &[u8]) -> Result<Asked, Unreadable> {
    let refuse = |verdict, what: String, remedy| Err(Unreadable { verdict, what, remedy });
    let mut value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => {
            let remedy = "send an AdmissionReview of admission.k8s.io/v1, as an API server does";
            return refuse(Verdict::Unreadable, format!("the body is no JSON: {error}"), remedy);
        }
    };
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (short(text("/apiVersion")), short(text("/kind")));
    if kind != "AdmissionReview" {
        let remedy = "send an AdmissionReview of admission.k8s.io/v1, as an API server does";
        return refuse(Verdict::Unreadable, format!("kind {kind:?} is no AdmissionReview"), remedy);
    }
    if version != VERSION {
        let remedy = "write admissionReviewVersions: [v1] into the MutatingWebhookConfiguration";
        return refuse(
            Verdict::Version,
            format!("an AdmissionReview of {version:?} is not understood"),
            remedy,
        );
    }
    let uid = text("/request/uid").to_owned();
    if uid.is_empty() || uid.len() > WARNING {
        let remedy = "the answer to a review carries the uid of its request: send the one of the API server";
        return refuse(Verdict::Unreadable, "request.uid is missing, or no uid".to_owned(), remedy);
    }
    let is = |pointer: &str, wanted: &str| text(pointer) == wanted;
    let makes_a_pod = is("/request/operation", "CREATE")
        && is("/request/subResource", "")
        && is("/request/object/kind", "Pod")
        && is("/request/object/apiVersion", "v1");
    let namespace = text("/request/namespace").to_owned();
    let object = value.pointer_mut("/request/object").map(Value::take).unwrap_or_default();
    Ok(Asked { uid, namespace, makes_a_pod, object })
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// What becomes of what is asked. `failed` is what is answered where this could not be said.
pub fn decide(asked: &Asked, settings: &Settings) -> Reviewed {
    let place = Place::of(&asked.object).filter(|_| asked.makes_a_pod);
    let Some(place) = place else {
        let what = "only pods that are made are looked at";
        let hint = "let the rules of the MutatingWebhookConfiguration say CREATE of pods";
        return reviewed(asked, Verdict::NotAPod, Vec::new(), &[Problem::new("", what).with_hint(hint)]);
    };
    let (verdict, patch, problems) = match admit(&asked.object, &place, settings) {
        Admitted::Injected { changes, warnings } => (Verdict::Injected, to_patch(&changes), warnings),
        Admitted::Already => (Verdict::Already, Vec::new(), Vec::new()),
        Admitted::NotAsked => (Verdict::NotAsked, Vec::new(), Vec::new()),
        Admitted::Refused(mut problems) => {
            problems.insert(0, Problem::new("", "this pod gets no sidecar, though it asks for one"));
            (Verdict::Refused, Vec::new(), problems)
        }
    };
    reviewed(asked, verdict, patch, &problems)
}

/// What is answered where the webhook itself failed: the pod is made as it is.
pub fn failed(asked: &Asked) -> Reviewed {
    let problem = Problem::new("", "this pod gets no sidecar, for the webhook failed")
        .with_hint("its log says why: kubectl logs -n parhelion deploy/parhelion-webhook");
    reviewed(asked, Verdict::Failed, Vec::new(), &[problem])
}

fn reviewed(asked: &Asked, verdict: Verdict, patch: Vec<Value>, problems: &[Problem]) -> Reviewed {
    let named = |key: &str| asked.object.pointer(key).and_then(Value::as_str);
    let name = named("/metadata/name").or(named("/metadata/generateName")).unwrap_or("?");
    let warnings = problems.iter().flat_map(warnings).take(WARNINGS).collect();
    Reviewed { uid: asked.uid.clone(), name: short(name), verdict, patch, warnings }
}

/// A problem as the lines that `kubectl` shows of it.
fn warnings(problem: &Problem) -> Vec<String> {
    let value = problem.value.as_ref().map(|value| format!("{value} ")).unwrap_or_default();
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    let what = format!("parhelion: {path}{value}{}", problem.message);
    let lines = [Some(what), problem.hint.as_ref().map(|hint| format!("parhelion: → {hint}"))];
    lines.into_iter().flatten().map(one_line).collect()
}

/// Cut where an API server would cut it, and without what a header cannot carry.
fn one_line(text: String) -> String {
    let mut line: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    if line.len() > WARNING {
        let end = (0..=WARNING - 3).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
        line.truncate(end);
        line.push_str("...");
    }
    line
}

impl Reviewed {
    /// The answer. Whatever was found, the pod may be made.
    pub fn answer(&self) -> Value {
        let mut response = json!({
            "uid": self.uid,
            "allowed": true,
            "auditAnnotations": {"result": self.verdict.name()},
        });
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        if !self.patch.is_empty() {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(Value::from(self.patch.clone()).to_string()));
        }
        json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (Verdict, String) {
        let unreadable = read(body.as_bytes()).unwrap_err();
        (unreadable.verdict, unreadable.to_string())
    }

    #[test]
    fn what_is_no_review_is_told_what_would_be() {
        for (body, verdict, part) in [
            ("", Verdict::Unreadable, "no JSON: EOF"),
            ("{\"kind\": ", Verdict::Unreadable, "at line 1 column 9"),
            ("[]", Verdict::Unreadable, "kind \"\" is no AdmissionReview"),
            ("{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}", Verdict::Unreadable, "kind \"Pod\""),
            (
                "{\"kind\": \"AdmissionReview\", \"apiVersion\": \"admission.k8s.io/v1beta1\", \"request\": {\"uid\": \"u\"}}",
                Verdict::Version,
                "admissionReviewVersions: [v1]",
            ),
            ("{\"kind\": \"AdmissionReview\"}", Verdict::Version, "\"\" is not understood"),
            (
                "{\"kind\": \"AdmissionReview\", \"apiVersion\": \"admission.k8s.io/v1\", \"request\": null}",
                Verdict::Unreadable,
                "request.uid is missing",
            ),
        ] {
            let (found, message) = refused(body);
            assert!(found == verdict && message.contains(part), "{body}: {found:?} {message}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&deep).0, Verdict::Unreadable);
    }

    fn asked(change: impl FnOnce(&mut Value)) -> Asked {
        let mut review = json!({
            "apiVersion": VERSION,
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "operation": "CREATE",
                "namespace": "shop",
                "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fraud-1"}, "spec": {}},
            },
        });
        change(&mut review["request"]);
        read(review.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_pods_that_are_made_are_looked_at() {
        assert!(asked(|_| ()).makes_a_pod);
        for change in [
            |request: &mut Value| request["operation"] = json!("UPDATE"),
            |request: &mut Value| request["subResource"] = json!("ephemeralcontainers"),
            |request: &mut Value| request["object"]["kind"] = json!("Service"),
            |request: &mut Value| request["object"] = Value::Null,
        ] {
            assert!(!asked(change).makes_a_pod);
        }
    }

    #[test]
    fn warnings_are_lines_that_a_header_can_carry() {
        let long = Problem::new("/spec\n", "ä".repeat(300)).with_hint("short");
        let lines = warnings(&long);
        assert_eq!((lines.len(), lines[1].as_str()), (2, "parhelion: → short"));
        assert!(lines[0].len() <= WARNING && lines[0].ends_with("ä..."), "{}", lines[0]);
        assert!(lines[0].starts_with("parhelion: /spec : ä"), "{}", lines[0]);
    }

    #[test]
    fn the_answer_allows_whatever_was_found() {
        let answer = failed(&asked(|_| ())).answer();
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(answer["response"]["auditAnnotations"]["result"], "failed");
        assert!(answer["response"]["patch"].is_null());
        assert!(answer["response"]["warnings"][0].as_str().unwrap().contains("the webhook failed"));
    }
}

//! One pod as a cluster is about to make it. What it gets is what its manifest would get, but that nothing else can be
//! seen from here: neither the Services that lead to it nor its ConfigMap. So it gets one only if it asks, and calls are
//! caught in its own network.

use serde_json::Value;

use super::place::Place;
use super::plan::{Planned, plan};
use super::pod::names;
use super::settings::{INJECTED, Settings, Wish};
use crate::config::Problem;
use crate::yaml::Change;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    /// It gets a sidecar.
    Injected {
        /// In their order.
        changes: Vec<Change>,
        /// Worth knowing.
        warnings: Vec<Problem>,
    },
    /// It has one.
    Already,
    /// It did not ask for one.
    NotAsked,
    /// It asked for one, and cannot have it.
    Refused(Vec<Problem>),
}

/// What becomes of `pod`, which stands at `place`.
pub fn admit(pod: &Value, place: &Place, settings: &Settings) -> Admitted {
    let wish = match settings.with(place.metadata(pod)) {
        Ok((_, wish)) => wish,
        Err(problems) => return Admitted::Refused(problems),
    };
    if wish != Wish::Yes {
        return Admitted::NotAsked;
    }
    let noted = place.noted(pod, "annotations", INJECTED).is_some();
    if noted && has_sidecar(pod, place) {
        return Admitted::Already;
    }
    let pod = &without_note(pod, place);
    match plan(pod, place, settings, None, None) {
        Ok(Planned::Injected { changes, mut warnings, .. }) => {
            if place.noted(pod, "annotations", "parhelion/intercept") == Some("port") {
                let message =
                    "calls are redirected: the Services that lead to a pod cannot be seen when it is made";
                let hint = "leave it out, or inject the Deployment and its Service with `parhelion inject`";
                let problem = Problem::new("annotation parhelion/intercept", message);
                warnings.push(problem.with_value("port").with_hint(hint));
            }
            Admitted::Injected { changes, warnings }
        }
        Ok(Planned::Left(why)) => why.map_or(Admitted::NotAsked, |why| Admitted::Refused(vec![why])),
        Err(problems) => Admitted::Refused(problems),
    }
}

fn has_sidecar(pod: &Value, place: &Place) -> bool {
    let of = |list: &str| place.spec.key(list).find(pod).and_then(Value::as_array).into_iter().flatten();
    of("initContainers").chain(of("containers")).any(|container| container["name"] == names::SIDECAR)
}

/// A note that came with copied annotations says nothing of this pod; it is written anew.
fn without_note(pod: &Value, place: &Place) -> Value {
    let mut pod = pod.clone();
    let path = place.holder.key("metadata").key("annotations").to_string();
    if let Some(annotations) = pod.pointer_mut(&path).and_then(Value::as_object_mut) {
        annotations.shift_remove(INJECTED);
    }
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::change::{tests::patched, to_patch};

    fn settings() -> Settings {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            settings: Settings,
        }
        <Command as clap::Parser>::parse_from(["webhook"]).settings
    }

    fn pod(annotations: Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "fraud-", "annotations": annotations},
            "spec": {
                "containers": [{"name": "model", "image": "m", "ports": [{"name": "grpc", "containerPort": 8001}]}],
                "volumes": [{"name": "own", "emptyDir": {}}],
            },
        })
    }

    fn admitted(pod: &Value) -> Admitted {
        admit(pod, &Place::of(pod).unwrap(), &settings())
    }

    fn refused(pod: &Value) -> String {
        match admitted(pod) {
            Admitted::Refused(problems) => {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_that_asks_gets_what_its_manifest_would_get() {
        let pod = pod(json!({"parhelion/inject": "true"}));
        let Admitted::Injected { changes, warnings } = admitted(&pod) else { panic!() };
        assert_eq!(warnings, []);
        let after = patched(&pod, &to_patch(&changes));
        let text = format!("{pod:#}");
        let manifest = super::super::inject("pod.json", &text, &settings()).unwrap().text;
        assert_eq!(serde_json::from_str::<Value>(&manifest).unwrap(), after);
        let names: Vec<_> = ["initContainers", "containers", "volumes"]
            .into_iter()
            .flat_map(|list| after["spec"][list].as_array().unwrap())
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        let expected =
            ["parhelion-intercept", "parhelion", "model", "own", "parhelion-config", "parhelion-state"];
        assert_eq!(names, expected);
        assert_eq!(admitted(&after), Admitted::Already, "twice is once");
    }

    #[test]
    fn only_who_asks_is_touched() {
        assert_eq!(admitted(&pod(json!({}))), Admitted::NotAsked);
        assert_eq!(admitted(&pod(json!({"parhelion/inject": "false"}))), Admitted::NotAsked);
        let mut labelled = pod(json!({}));
        labelled["metadata"]["labels"] = json!({"parhelion/inject": "true"});
        assert!(matches!(admitted(&labelled), Admitted::Injected { .. }));
        // The annotation is the last word.
        labelled["metadata"]["annotations"] = json!({"parhelion/inject": "false"});
        assert_eq!(admitted(&labelled), Admitted::NotAsked);
    }

    #[test]
    fn who_asks_and_cannot_have_one_is_told_why() {
        let asking = || pod(json!({"parhelion/inject": "true"}));
        let mut host = asking();
        host["spec"]["hostNetwork"] = json!(true);
        assert!(refused(&host).contains("/spec/hostNetwork\n    the pod has the node's network"));
        let mut unclear = asking();
        unclear["spec"]["containers"][0]["ports"] = json!([]);
        assert!(refused(&unclear).contains("no port is named grpc or h2c"));
        let mut taken = asking();
        taken["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9000);
        assert!(refused(&taken).contains("port 9000 is the model's and the sidecar's too"));
        let mut foreign = asking();
        foreign["spec"]["initContainers"] = json!([{"name": "parhelion", "image": "theirs"}]);
        assert!(refused(&foreign).contains("is not of our making"));
        assert!(refused(&pod(json!({"parhelion/inject": "maybe"}))).contains("neither true nor false"));
    }

    #[test]
    fn a_redirect_is_the_way_and_a_copied_note_means_nothing() {
        let port = pod(json!({"parhelion/inject": "true", "parhelion/intercept": "port"}));
        let Admitted::Injected { changes, warnings } = admitted(&port) else { panic!() };
        assert!(warnings[0].to_string().contains("calls are redirected"), "{warnings:?}");
        assert!(format!("{changes:?}").contains("parhelion-intercept"));
        let copied = pod(json!({"parhelion/inject": "true", "parhelion/injected": "{\"port\":\"x\"}"}));
        let Admitted::Injected { changes, .. } = admitted(&copied) else { panic!() };
        let after = patched(&copied, &to_patch(&changes));
        assert_eq!(after["metadata"]["annotations"][INJECTED], "{}");
    }
}

//! What `parhelion check` says of a canary: how many calls its guards need until they can pass.
//!
//! Nobody has seen the traffic yet, so it is said for several baselines. The numbers come from the judge itself, for a
//! candidate that is exactly as good as the baseline, at the share of the first step.

use serde_json::{Value, json};

use super::plan::SPREAD;
use crate::config::{Config, Strategy};
use crate::strategy::canary::plan::{Expected, Need, needs};

/// Shares of calls that fail, for which it is said.
const RATES: [f64; 3] = [0.0, 0.01, 0.05];

/// What is said of one model.
struct Plan<'a> {
    model: &'a str,
    share: String,
    /// By the rates of [`RATES`].
    needs: Vec<Vec<Need>>,
}

fn plans(config: &Config) -> Vec<Plan<'_>> {
    let mut found = Vec::new();
    for model in &config.models {
        for strategy in model.strategy.stages() {
            let Strategy::Canary(canary) = strategy else { continue };
            let of = |rate: &f64| needs(canary, &Expected { rate: *rate, spread: SPREAD });
            found.push(Plan {
                model: &model.name,
                share: canary.steps.first().map_or_else(String::new, |step| step.share.to_string()),
                needs: RATES.iter().map(of).collect(),
            });
        }
    }
    found
}

/// For people: a block for each canary, empty where there is none.
pub(super) fn text(config: &Config) -> String {
    let mut text = String::new();
    for Plan { model, share, needs } in plans(config) {
        text.push_str(&format!(
            "\n{model}: calls of the candidate until a guard can pass, if it is as good as the baseline ({share} share)\n"
        ));
        let heads = RATES.map(|rate| format!("{} % fail", rate * 100.0));
        text.push_str(&format!("  {:<16}{:>12}{:>12}{:>12}", "guard", heads[0], heads[1], heads[2]));
        for (index, first) in needs[0].iter().enumerate() {
            text.push_str(&format!("\n  {:<16}", first.guard));
            for needs in &needs {
                let calls = needs.get(index).and_then(|need| need.calls);
                let shown = calls.map_or_else(|| "never".to_owned(), |calls| calls.to_string());
                text.push_str(&format!("{shown:>12}"));
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// For programs.
pub(super) fn data(config: &Config) -> Value {
    let plan = |Plan { model, share, needs }: Plan<'_>| {
        let rates: Vec<Value> = RATES
            .iter()
            .zip(needs)
            .map(|(rate, needs)| {
                let guards = needs.into_iter().map(|need| (need.guard.to_string(), json!(need.calls)));
                json!({"failing": rate, "calls": guards.collect::<serde_json::Map<_, _>>()})
            })
            .collect();
        (model.to_owned(), json!({"share": share, "needs": rates}))
    };
    Value::Object(plans(config).into_iter().map(plan).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, read};

    fn config(guards: &str) -> std::sync::Arc<Config> {
        let text = format!(
            "state: /tmp\nmodels: {{m: {{variants: {{a: {{endpoint: \"http://a:1\"}}, b: {{endpoint: \"http://b:1\"}}}}, \
             unit: [metadata:u], strategy: {{kind: canary, guards: {{{guards}}}}}}}}}"
        );
        read("test.yaml", &text, &Environment::default()).unwrap().config
    }

    #[test]
    fn wider_margins_need_fewer_calls_and_none_is_never_enough() {
        let errors = |margin: &str| {
            let guards = format!("errors: {{absolute: {margin}}}, rejections: off, latency: off");
            data(&config(&guards))["m"]["needs"][0]["calls"]["errors"].as_u64()
        };
        let (wide, narrow) = (errors("2%").unwrap(), errors("0.1%").unwrap());
        assert!((100..500).contains(&wide) && (3_000..6_000).contains(&narrow), "{wide}, {narrow}");
        assert_eq!(errors("0%"), None);
        let shown = text(&config("errors: {absolute: 0%}, rejections: off"));
        assert!(
            shown.contains("errors") && shown.contains("never") && shown.contains("latency p99"),
            "{shown}"
        );
    }
}

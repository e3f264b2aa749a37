//! What a canary may be told to compare of two servers: where it reads that, and by how much it may differ.

use std::time::Duration;

use super::Check;
use super::canary::Around;
use super::endpoint::address;
use crate::config::problem::Problem;
use crate::config::source::join;
use crate::config::units::{Refused, write_duration};
use crate::config::{Address, MetricsPage, OnFail, ResourcesGuard, Strategy, Variant, raw};

const WINDOW: Duration = Duration::from_secs(60);
const LEAST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_PATH: usize = 1024;

impl Check<'_> {
    /// The address and the path of a variant's metrics.
    pub(super) fn metrics_page(&mut self, path: &str, url: &str) -> Option<MetricsPage> {
        let refuse = |message: &str, hint: String| Refused { message: message.to_owned(), hint };
        let at = url.find("://").map(|at| at + 3);
        let at = at.and_then(|from| url[from..].find('/').map(|at| from + at));
        let (place, page) = url.split_at(at.unwrap_or(url.len()));
        let address = match address(place) {
            Ok((address @ Address::Tcp { .. }, false)) => address,
            Ok(_) => {
                let hint =
                    "write where the server's metrics are, like http://127.0.0.1:8082/metrics".to_owned();
                return self.refused(path, url, refuse("is no http://HOST:PORT/PATH", hint));
            }
            Err(refused) => return self.refused(path, url, refused),
        };
        let visible = page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if page.len() < 2 {
            let hint = format!("say it, like http://{address}/metrics");
            return self.refused(path, url, refuse("has no path", hint));
        }
        if page.len() > LONGEST_PATH || !visible {
            let hint = format!("use at most {LONGEST_PATH} visible ASCII characters, without a fragment");
            return self.refused(path, url, refuse("has a path that cannot be asked for", hint));
        }
        Some(MetricsPage { address, path: page.into() })
    }

    pub(super) fn resources_guard(
        &mut self,
        path: &str,
        raw: Option<&raw::ResourcesGuard>,
    ) -> Option<ResourcesGuard> {
        let raw = raw?;
        let at = |key: &str| join(path, key);
        let memory = self.part(&at("memory"), raw.memory.as_ref());
        let cpu = self.part(&at("cpu"), raw.cpu.as_ref());
        if raw.memory.is_none() && raw.cpu.is_none() && !self.broken(path) {
            let problem = Problem::new(path, "judges nothing");
            self.error(problem.with_hint(
                "say what is compared: {memory: {relative: 25%}, cpu: {relative: 25%}}, or one of both",
            ));
        }
        let window = self.positive(&at("window"), raw.window.as_ref(), WINDOW);
        if window < LEAST_WINDOW {
            let problem = Problem::new(at("window"), "is shorter than processor time can be told apart in");
            self.error(
                problem.with_value(write_duration(window)).with_hint("at least 1s; the default is 1m"),
            );
        }
        let on_fail = self.on_fail(&at("on_fail"), raw.on_fail.as_deref(), OnFail::Hold);
        Some(ResourcesGuard { memory, cpu, window, on_fail })
    }

    fn part(&mut self, path: &str, raw: Option<&raw::Use>) -> Option<f64> {
        let path = join(path, "relative");
        let Some(written) = &raw?.relative else {
            self.missing(&path, "say how much more it may be, like 25%");
            return None;
        };
        let relative = self.ratio(&path, Some(written))?;
        if relative == 0.0 {
            let problem = Problem::new(path, "allows nothing, and no two processes use the same");
            self.error(problem.with_value("0%").with_hint("write more than 0%, like 25%"));
        }
        Some(relative)
    }

    /// Whether the use of both arms can be read, and told apart.
    pub(super) fn readable(&mut self, around: &Around<'_>, (baseline, candidate): (usize, usize)) {
        let variants = join(&join("models", around.model), "variants");
        let mut arms = vec![baseline, candidate];
        arms.dedup();
        for variant in arms.iter().filter_map(|arm| around.variants.get(*arm)) {
            let at = join(&variants, &variant.name);
            if variant.metrics.is_none() {
                let hint = format!(
                    "the guard `resources` compares both variants: say where {}'s server tells what it uses, like http://127.0.0.1:8082/metrics",
                    variant.name
                );
                self.missing(&join(&at, "metrics"), &hint);
            }
            if variant.endpoints.len() > 1 {
                let text = format!(
                    "has {} endpoints, and its `metrics` are of one process",
                    variant.endpoints.len()
                );
                let problem = Problem::new(join(&at, "endpoints"), text);
                self.error(problem.with_hint("keep one endpoint, or leave the guard `resources` out"));
            }
        }
        let page = |arm: usize| around.variants.get(arm).and_then(|variant| variant.metrics.as_ref());
        if let (Some(one), Some(other)) = (page(baseline), page(candidate))
            && baseline != candidate
            && one == other
        {
            let name = around.variants.get(candidate).map_or("", |variant| &*variant.name);
            let problem = Problem::new(join(&join(&variants, name), "metrics"), "are the baseline's too");
            let hint = "a process cannot be compared with itself: give each variant a server of its own, or leave the guard `resources` out";
            self.error(problem.with_value(format!("{:?}", other.to_string())).with_hint(hint));
        }
    }

    /// Says of metrics that nobody asks for.
    pub(super) fn unread(&mut self, path: &str, variants: &[Variant], strategy: &Strategy) {
        let asks = |strategy: &Strategy| matches!(strategy, Strategy::Canary(canary) if canary.guards.resources.is_some());
        let arms = match strategy.candidate().filter(|_| strategy.stages().any(asks)) {
            Some(candidate) => vec![strategy.baseline(), candidate],
            None => Vec::new(),
        };
        for (index, variant) in variants.iter().enumerate() {
            if variant.metrics.is_some() && !arms.contains(&index) && !self.broken(path) {
                let at = join(&join(&join(path, "variants"), &variant.name), "metrics");
                let problem = Problem::new(at, "are read by nobody");
                self.warn(
                    problem.with_hint("only a canary's guard `resources` asks for them, of its two variants"),
                );
            }
        }
    }
}

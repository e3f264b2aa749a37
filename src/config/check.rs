//! From [`raw::File`] to [`Config`]: what the words mean, and everything that is wrong with them.
//!
//! Nothing here reads a file, a clock or the environment. A check goes on after each problem with the best it has,
//! so that all are found; only at the end is the result given or withheld. A problem that follows from another one
//! (a sum of weights one of which cannot be read) is not reported.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Errors, Problem, suggestion};
use super::source::{Source, join};
use super::units::{self, Percent};
use super::{ClientTls, Config, Drain, Environment, Loaded, Model, Telemetry, raw};

mod ab;
mod admission;
mod bandit;
mod canary;
mod compare;
mod drift;
mod endpoint;
mod events;
mod fallback;
mod feedback;
mod fleet;
mod interleave;
mod limits;
mod local;
mod log;
mod model;
mod pinned;
mod ports;
mod quantity;
mod resources;
mod rolling;
mod shadow;
mod staged;
mod strategy;
mod tls;

/// Longest path of a unix socket, less the final zero.
const LONGEST_SOCKET: usize = 107;
/// What Kubernetes gives a pod to end, unless told otherwise.
const POD_GRACE: Duration = Duration::from_secs(30);

/// Checks everything; all problems at once, those of `source` included.
pub(super) fn check(
    mut source: Source,
    file: &raw::File,
    revision: &str,
    environment: &Environment,
) -> Result<Loaded, Errors> {
    let problems = std::mem::take(&mut source.problems);
    let mut check = Check { source: &source, problems, warnings: Vec::new(), https: Arc::default() };
    let config = check.config(file, revision, environment);
    let Check { mut problems, mut warnings, .. } = check;
    source.sort(&mut problems);
    source.sort(&mut warnings);
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config: Arc::new(config), warnings }),
        _ => Err(Errors(problems)),
    }
}

/// What was found so far.
struct Check<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// What `https` endpoints are reached with that say nothing themselves.
    https: Arc<ClientTls>,
}

impl Check<'_> {
    fn error(&mut self, problem: Problem) {
        let place = self.source.place(&problem.path);
        self.problems.push(problem.with_place(place));
    }

    fn warn(&mut self, problem: Problem) {
        let place = self.source.place(&problem.path);
        self.warnings.push(problem.with_place(place));
    }

    /// Whether something at `path` or inside it was refused, so that what follows from it needs no word.
    fn broken(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| {
            let rest = problem.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Says that a required key is missing, unless it was given and refused.
    fn missing(&mut self, path: &str, hint: &str) {
        if !self.broken(path) {
            self.error(Problem::new(path, "is missing").with_hint(hint));
        }
    }

    fn config(&mut self, file: &raw::File, revision: &str, environment: &Environment) -> Option<Config> {
        let (mut tls, https) = self.tls(file);
        self.https = https;
        let mut models = self.models(file.models.as_ref());
        self.localise(&mut models, environment);
        let names: Vec<&str> = models.iter().map(|model| &*model.name).collect();
        let default = self.default_model(file, &names);
        let services = self.services(file.services.as_ref(), &names);
        let listen = self.listen("listen", file.listen.as_deref().unwrap_or("0.0.0.0:9000"));
        let tokens = file.control.as_ref().and_then(|control| control.tokens.as_deref());
        let rights = self.rights(file.control.as_ref());
        let guarded = (tokens.is_some(), tls.admin.as_deref());
        let admin = self.admin(file.admin.as_deref().unwrap_or("127.0.0.1:9900"), guarded);
        let tokens = self.path("control.tokens", tokens);
        self.fitting(listen.as_ref(), &mut tls, (&rights, tokens.as_ref()));
        let health = self.address("health", file.health.as_deref().unwrap_or("0.0.0.0:9901"));
        let workers = self.workers(file.workers.as_ref(), environment.cores);
        let limits = self.limits(file.limits.as_ref());
        self.short_attempts(&models, limits.min_deadline);
        let drain = self.drain(file.drain.as_ref());
        let mut telemetry = self.telemetry(file.telemetry.as_ref());
        telemetry.tls = self.collector_tls(file);
        let log = self.log(file.log.as_ref());
        let (state, fleet) = self.state(file);
        self.apart_from_fleet(fleet.is_some(), &models);
        self.forgetful(file, &models);
        self.apart(&models);
        let keys = self.path("keys", file.keys.as_deref());
        self.alone(file, &models);
        let config = Config {
            revision: revision.into(),
            listen: listen?,
            reuse_port: file.reuse_port.unwrap_or(false),
            admin: admin?,
            tokens,
            rights,
            tls,
            health: health?,
            workers: workers?,
            state,
            fleet,
            keys,
            default: default?,
            services,
            models: models.into_iter().map(Arc::new).collect(),
            limits,
            drain,
            telemetry,
            log,
        };
        self.ports(&config);
        Some(config)
    }

    /// Warns where something decides and nothing is kept of it.
    fn forgetful(&mut self, file: &raw::File, models: &[Model]) {
        let decides = |model: &&Model| model.strategy.decides();
        if let Some(model) = models.iter().find(decides).filter(|_| file.state.is_none()) {
            let what = format!(
                "is not given, so what the rollout of {} decides, and what it decided it on, ends with the process",
                model.name
            );
            let hint = "name a directory that outlives it, like /var/lib/parhelion";
            self.warn(Problem::new("state", what).with_hint(hint));
        }
    }

    /// Warns where others must know this sidecar's key, and it makes its own.
    fn alone(&mut self, file: &raw::File, models: &[Model]) {
        if file.keys.is_some() {
            return;
        }
        let what = if let Some(model) = models.iter().find(|model| !model.feedback.is_empty()) {
            format!(
                "is not given, so each replica signs with a random key of its own, and refuses feedback about what \
                 another one predicted ({})",
                model.name
            )
        } else if let Some(variant) = hopping(file) {
            format!(
                "is not given, so the sidecar of {variant} does not know the key that hops are signed with, and \
                 assigns anew"
            )
        } else {
            return;
        };
        let hint = "name one file that all of them have, like /etc/parhelion/keys, with a line `ID HEX64`: `2026a` and the \
                    output of `openssl rand -hex 32`";
        self.warn(Problem::new("keys", what).with_hint(hint));
    }

    fn default_model(&mut self, file: &raw::File, names: &[&str]) -> Option<Arc<str>> {
        match (file.default.as_deref(), names) {
            (Some(name), _) if names.contains(&name) => Some(name.into()),
            (Some(name), _) => {
                if !self.broken("models") || !names.is_empty() {
                    self.unknown("default", "model", name, names);
                }
                None
            }
            (None, [only]) => Some((*only).into()),
            (None, []) => None,
            (None, [first, ..]) => {
                let hint = format!("say which model gets calls that name none, like `default: {first}`");
                self.missing("default", &hint);
                None
            }
        }
    }

    /// Says that `name` is none of the `known`.
    fn unknown(&mut self, path: &str, kind: &str, name: &str, known: &[&str]) {
        let hint = suggestion(name, known);
        let problem = Problem::new(path, format!("is no {kind}")).with_value(format!("{name:?}"));
        self.error(problem.with_hint(hint));
    }

    fn services(
        &mut self,
        services: Option<&raw::Named<String>>,
        names: &[&str],
    ) -> HashMap<String, Arc<str>> {
        let mut found = HashMap::new();
        for (service, model) in services.map_or(&[][..], |services| &services.0) {
            let path = join("services", service);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if service.is_empty() || !service.chars().all(plain) || service.starts_with('.') {
                let name = service.trim_matches('/').split('/').next().unwrap_or_default();
                let hint = match name.chars().all(plain) && !name.is_empty() {
                    true => format!("write the service alone: {name}"),
                    false => "write the full name of a service: pkg.Service".to_owned(),
                };
                self.error(Problem::new(&*path, "is no gRPC service name").with_hint(hint));
            } else if service.starts_with("parhelion.") {
                let hint = "it is answered by the sidecar itself";
                self.error(Problem::new(&*path, "cannot be given to a model").with_hint(hint));
            }
            match model {
                Some(model) if names.contains(&model.as_str()) => {
                    found.insert(service.clone(), model.as_str().into());
                }
                Some(model) => self.unknown(&path, "model", model, names),
                None => {}
            }
        }
        found
    }

    fn workers(&mut self, workers: Option<&raw::Workers>, cores: NonZeroUsize) -> Option<NonZeroUsize> {
        const MOST: usize = 256;
        let number = match workers.map(|workers| &workers.0) {
            None => return Some(NonZeroUsize::MIN),
            Some(raw::Written::Text(text)) if text == "auto" => return Some(cores),
            Some(raw::Written::Number(number)) => {
                number.as_u64().and_then(|number| usize::try_from(number).ok())
            }
            Some(raw::Written::Text(_)) => None,
        };
        let number = number.filter(|number| *number <= MOST).and_then(NonZeroUsize::new);
        if let (None, Some(workers)) = (number, workers) {
            let problem =
                Problem::new("workers", format!("is not a whole number from 1 to {MOST}, nor auto"));
            self.error(
                problem
                    .with_value(workers.0.shown())
                    .with_hint("1 serves most models; auto: one for each core"),
            );
        }
        number
    }

    fn path(&mut self, path: &str, text: Option<&str>) -> Option<PathBuf> {
        let text = text?;
        if !text.starts_with('/') {
            let hint =
                "write the whole path, from the root: it must not depend on where the process is started";
            self.error(
                Problem::new(path, "is no absolute path").with_value(format!("{text:?}")).with_hint(hint),
            );
        }
        Some(PathBuf::from(text))
    }

    fn drain(&mut self, drain: Option<&raw::Drain>) -> Drain {
        let lag = drain.and_then(|drain| drain.lag.as_ref());
        let grace = drain.and_then(|drain| drain.grace.as_ref());
        let drain = Drain {
            lag: self.duration("drain.lag", lag.map(|span| &span.0)).unwrap_or(Duration::ZERO),
            grace: self.duration("drain.grace", grace.map(|span| &span.0)).unwrap_or(Duration::from_secs(25)),
        };
        let total = drain.lag + drain.grace;
        if total > POD_GRACE {
            let text = format!("lag and grace are {} together", units::write_duration(total));
            let hint = "Kubernetes kills a pod after 30s unless its terminationGracePeriodSeconds says more";
            self.warn(Problem::new("drain", text).with_hint(hint));
        }
        drain
    }

    fn telemetry(&mut self, telemetry: Option<&raw::Telemetry>) -> Telemetry {
        let empty = raw::Telemetry::default();
        let raw = telemetry.unwrap_or(&empty);
        let keep = raw.keep.as_ref();
        let slower = keep.and_then(|keep| keep.slower_than.as_ref()).map(|span| &span.0);
        let mut resource = BTreeMap::new();
        for (key, value) in raw.resource.as_ref().map_or(&[][..], |resource| &resource.0) {
            if key.trim().is_empty() {
                self.error(Problem::new(join("telemetry.resource", key), "is an empty name"));
            }
            if let Some(value) = value {
                resource.insert(key.clone(), value.clone());
            }
        }
        Telemetry {
            tls: None,
            otlp: raw.otlp.as_deref().and_then(|url| self.collector(url)),
            sample: self.share("telemetry.sample", raw.sample.as_ref()).unwrap_or(Percent::ONE),
            keep_errors: keep.and_then(|keep| keep.errors).unwrap_or(true),
            keep_slower_than: self.duration("telemetry.keep.slower_than", slower),
            keep_disagreements: keep.and_then(|keep| keep.disagreements).unwrap_or(true),
            resource,
        }
    }
}

/// The path of a variant whose endpoint is said to have a sidecar of its own. What is only taken for one, because it is
/// elsewhere, is often none.
fn hopping(file: &raw::File) -> Option<String> {
    let models = file.models.iter().flat_map(|models| &models.0);
    let variants = models.filter_map(|(model, raw)| Some((model, raw.as_ref()?.variants.as_ref()?)));
    let mut all = variants.flat_map(|(model, variants)| variants.0.iter().map(move |one| (model, one)));
    all.find_map(|(model, (name, raw))| {
        let raw = raw.as_ref()?;
        let several = raw.endpoints.iter().flatten().flatten();
        let hops = |endpoint: &raw::Endpoint| {
            matches!(endpoint, raw::Endpoint::Full(full) if full.hop == Some(true))
        };
        raw.endpoint.iter().chain(several).any(hops).then(|| format!("{model}.{name}"))
    })
}

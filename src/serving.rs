//! One generation of the configuration as one worker serves it: rollouts with their strategies and upstreams.
//!
//! A reload builds a new one beside the old one and takes over the endpoints that both know, connections and all;
//! calls under way keep the generation they began with.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{self, Config, Model, Reporting};
use crate::dispatch::Answering;
use crate::dispatch::fallback::Reserve;
use crate::drift;
use crate::feedback::shown::Exposures;
use crate::outcome::Runs;
use crate::prediction;
use crate::protocol::Adapter;
use crate::rollout::Rollouts;
use crate::rollout::live::View;
use crate::shadow::{self, Shadow};
use crate::strategy::Strategy;
use crate::upstream::Upstream;
use crate::upstream::endpoint::{Endpoint, Surroundings};
use crate::upstream::readiness::{Board, Target};
use crate::warm::sample::Keep;
use crate::wire::windows::Windows;

/// Response metadata: the variant that answered.
pub const VARIANT: HeaderName = HeaderName::from_static("parhelion-variant");
/// Response metadata: the version that answered, as configured.
pub const MODEL_VERSION: HeaderName = HeaderName::from_static("parhelion-model-version");
/// Response metadata: `MODEL@REVISION` of the rollout that decided.
pub const ROLLOUT: HeaderName = HeaderName::from_static("parhelion-rollout");
/// Response metadata: the variant that was assigned and failed, where another answered instead.
pub const FALLBACK_FROM: HeaderName = HeaderName::from_static("parhelion-fallback-from");
/// Response metadata: the variants whose lists an answer is made of, the baseline first.
pub const INTERLEAVED: HeaderName = HeaderName::from_static("parhelion-interleaved");
/// Response metadata: rankers that dropped out of a call, each with the reason: `v2:late`.
pub const DROPPED: HeaderName = HeaderName::from_static("parhelion-dropped");
/// Response metadata: the id to report feedback with.
pub const PREDICTION_ID: HeaderName = HeaderName::from_static("parhelion-prediction-id");

/// One generation.
#[derive(Debug)]
pub struct Serving {
    /// What it was built from.
    pub config: Arc<Config>,
    rollouts: Vec<Rollout>,
    by_name: HashMap<Arc<str>, usize>,
    by_service: HashMap<String, usize>,
    default: usize,
    wants_parameters: bool,
    wants_inputs: Option<Arc<[Arc<str>]>>,
}

/// One model's rollout.
#[derive(Debug)]
pub struct Rollout {
    /// Its configuration.
    pub model: Arc<Model>,
    /// Who gets which call.
    pub strategy: Strategy,
    /// By the index of [`Model::variants`].
    pub variants: Vec<Variant>,
    /// Who gets copies, in the order of [`Model::shadows`].
    pub shadows: Vec<Rc<Shadow>>,
    /// Whether a prediction counts for some feedback without a report.
    pub exposes: bool,
    /// [`prediction::rollout`] of the model's name.
    pub id: u64,
    /// By the index of [`Model::variants`], see [`Model::arms`]; [`prediction::NO_ARM`] for those that take no part.
    pub arms: Vec<u8>,
    /// Where it stands.
    pub live: View,
    /// Where samples of its calls are kept; `None` where nothing is warmed with them.
    pub keep: Option<Rc<Keep>>,
    /// How it is known what a server runs, where a variant's servers are replaced in place, so that two of its endpoints
    /// may run two versions.
    in_place: Option<Reporting>,
    /// What its calls have shown, where credit or pages need that; `None`: nothing is remembered.
    pub shown: Option<Arc<Exposures>>,
    /// What its fallbacks stand on; `None` where nothing falls back.
    pub reserve: Option<Reserve>,
    /// What its answers are held by on their way to be counted; `None` where nobody looks at them.
    pub watch: Option<Rc<drift::Watch>>,
}

/// What a worker's generations are built on.
#[derive(Debug)]
pub struct Base {
    /// The secret that units are hashed with.
    pub unit_key: [u8; 32],
    /// Readiness of all endpoints.
    pub board: Arc<Board>,
    /// For connections of live calls.
    pub surroundings: Surroundings,
    /// For copies.
    pub shadows: shadow::Ground,
    /// Where rollouts stand.
    pub rollouts: Arc<Rollouts>,
}

/// One variant, ready to be sent to.
#[derive(Debug)]
pub struct Variant {
    /// Its endpoints.
    pub upstream: Upstream,
    name: HeaderValue,
    version: Option<HeaderValue>,
    rollout: HeaderValue,
}

impl Serving {
    /// Builds a generation, taking over endpoints of `before`.
    pub fn new(config: &Arc<Config>, base: &Base, before: Option<&Serving>) -> Self {
        let windows = Windows::new(&config.limits);
        let live =
            Known::new(before.iter().flat_map(|before| before.endpoints()), windows, &base.surroundings);
        let copies = before.iter().flat_map(|before| before.shadows().chain(before.controls()));
        let copies = copies.flat_map(|shadow| shadow.upstream.endpoints());
        let copies = Known::new(copies, windows, &base.shadows.surroundings);
        let shadow = |model: &Arc<Model>, config: &config::Shadow| {
            let variant = &model.variants[config.variant];
            let same = |known: &&Rc<Shadow>| known.model.name == model.name && *known.name() == variant.name;
            let before = before.and_then(|before| before.shadows().find(same));
            let upstream = copies.upstream(model, variant, &base.board);
            Shadow::new(model, config, upstream, &base.shadows, before.map(|before| &**before))
        };
        let control = |shadow: &Shadow| {
            let control = shadow.config.judging.as_ref()?.control.as_ref()?;
            let same = |known: &&Rc<Shadow>| {
                known.model.name == shadow.model.name && *known.name() == control.variant.name
            };
            let before = before.and_then(|before| before.controls().find(same));
            let upstream = copies.upstream(&shadow.model, &control.variant, &base.board);
            Some(Shadow::control(shadow, control, upstream, &base.shadows, before.map(|before| &**before)))
        };
        let rollouts: Vec<Rollout> = config
            .models
            .iter()
            .map(|model| {
                let upstream = |variant: &config::Variant| live.upstream(model, variant, &base.board);
                let mut shadows: Vec<Rc<Shadow>> = Vec::new();
                for config in &model.shadows {
                    let mut shadow = shadow(model, config);
                    // Shadows with one control share it: each call goes there once.
                    let known = shadows.iter().filter_map(|known| known.control.as_ref());
                    shadow.control = control(&shadow).map(|control| {
                        let same = known.into_iter().find(|known| {
                            known.name() == control.name() && known.config.sample == control.config.sample
                        });
                        same.map_or_else(|| Rc::new(control), Rc::clone)
                    });
                    shadows.push(Rc::new(shadow));
                }
                let same = before.and_then(|before| before.by_name(&model.name));
                let reserve = Reserve::new(model, same.and_then(|same| same.reserve.as_ref()));
                let rollout = Rollout::new(model, (&config.revision, base), upstream, shadows);
                Rollout { reserve, ..rollout }
            })
            .collect();
        let by_name: HashMap<Arc<str>, usize> = rollouts
            .iter()
            .enumerate()
            .map(|(index, rollout)| (Arc::clone(&rollout.model.name), index))
            .collect();
        let index = |name: &Arc<str>| by_name.get(name).copied().unwrap_or(0);
        Serving {
            config: Arc::clone(config),
            by_service: config
                .services
                .iter()
                .map(|(service, name)| (service.clone(), index(name)))
                .collect(),
            default: index(&config.default),
            wants_parameters: rollouts.iter().any(|rollout| rollout.strategy.reads_parameters()),
            wants_inputs: inputs(&rollouts),
            rollouts,
            by_name,
        }
    }

    /// The rollout of the model that callers ask for by `name`.
    pub fn by_name(&self, name: &str) -> Option<&Rollout> {
        self.by_name.get(name).map(|index| &self.rollouts[*index])
    }

    /// The rollout that the service of `path`, `/pkg.Service/Method`, was given to.
    pub fn by_service(&self, path: &str) -> Option<&Rollout> {
        if self.by_service.is_empty() {
            return None;
        }
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.by_service.get(service).map(|index| &self.rollouts[*index])
    }

    /// The rollout that gets calls which name no model that is known.
    pub fn default(&self) -> &Rollout {
        &self.rollouts[self.default]
    }

    /// Whether any rollout looks at request parameters.
    pub fn wants_parameters(&self) -> bool {
        self.wants_parameters
    }

    /// Input tensors that any rollout looks at, by their names; none where none does.
    pub fn wants_inputs(&self) -> Option<&Arc<[Arc<str>]>> {
        self.wants_inputs.as_ref()
    }

    /// Every shadow of every model.
    pub fn shadows(&self) -> impl Iterator<Item = &Rc<Shadow>> {
        self.rollouts.iter().flat_map(|rollout| &rollout.shadows)
    }

    /// Every control of every shadow.
    pub fn controls(&self) -> impl Iterator<Item = &Rc<Shadow>> {
        self.shadows().filter_map(|shadow| shadow.control.as_ref())
    }

    /// Every endpoint of every variant; those of copies are apart.
    pub fn endpoints(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        let variants = self.rollouts.iter().flat_map(|rollout| &rollout.variants);
        variants.flat_map(|variant| variant.upstream.endpoints())
    }
}

/// Endpoints that are taken over where they stay as they are.
struct Known<'a> {
    endpoints: HashMap<&'a Target, &'a Rc<Endpoint>>,
    windows: Windows,
    surroundings: &'a Surroundings,
}

impl<'a> Known<'a> {
    fn new(
        before: impl Iterator<Item = &'a Rc<Endpoint>>,
        windows: Windows,
        surroundings: &'a Surroundings,
    ) -> Self {
        let endpoints = before.map(|endpoint| (endpoint.target(), endpoint)).collect();
        Known { endpoints, windows, surroundings }
    }

    fn upstream(&self, model: &Model, variant: &config::Variant, board: &Board) -> Upstream {
        let endpoints = variant.endpoints.iter().map(|configured| {
            let target = Target::new(model, variant, configured);
            match self.endpoints.get(&target) {
                Some(endpoint) if endpoint.windows() == self.windows => Rc::clone(endpoint),
                _ => {
                    let readiness = board.get(&target);
                    Endpoint::new(target, readiness, self.windows, self.surroundings.clone())
                }
            }
        });
        Upstream::new(endpoints.collect())
    }
}

impl Rollout {
    fn new(
        model: &Arc<Model>,
        (revision, base): (&str, &Base),
        upstream: impl Fn(&config::Variant) -> Upstream,
        shadows: Vec<Rc<Shadow>>,
    ) -> Self {
        let rollout = header(&format!("{}@{revision}", model.name));
        let variants = model.variants.iter().map(|variant| Variant {
            upstream: upstream(variant),
            name: header(&variant.name),
            version: variant.version.as_deref().map(header),
            rollout: rollout.clone(),
        });
        Rollout {
            variants: variants.collect(),
            exposes: model.feedback.iter().any(|feedback| feedback.default.is_some()),
            id: prediction::rollout(&model.name),
            arms: arms(model),
            strategy: Strategy::new(model, &base.unit_key),
            live: base.rollouts.live(model).view(),
            in_place: match &model.strategy {
                config::Strategy::Rolling(rolling) => Some(rolling.report),
                _ => None,
            },
            model: Arc::clone(model),
            shadows,
            keep: keeps_samples(model).then(|| Keep::new(base.rollouts.samples(&model.name))),
            shown: base.rollouts.shown(model),
            reserve: None,
            watch: model.drift.as_ref().map(|drift| drift::Watch::new(model, drift, base.rollouts.drifts())),
        }
    }

    /// Writes who answers, and instead of whom, into response headers; `prediction` is the id to report feedback with.
    pub fn tag(&self, answering: Answering, headers: &mut HeaderMap, prediction: HeaderValue) {
        self.variants[answering.variant].tag(headers, prediction);
        if let Some(failed) = answering.instead_of {
            headers.insert(FALLBACK_FROM, self.variants[failed].name.clone());
        }
    }

    /// Which version of that variant an endpoint runs now.
    pub fn runs(&self, variant: usize, endpoint: &Endpoint) -> Runs {
        let Some(report) = self.in_place else { return Runs::File };
        let (readiness, file) = (endpoint.readiness(), self.model.variants[variant].version.as_ref());
        match (readiness.runs(), report) {
            (Some(known), _) if Some(&known) == file => Runs::File,
            (Some(other), _) => Runs::Other(other),
            // Who says nothing runs what the file says, as long as nothing else is known.
            (None, Reporting::Connection) => Runs::File,
            (None, _) => {
                let said = readiness.said().unwrap_or_default();
                match said.first() {
                    None => Runs::Unknown,
                    Some(_) if said.iter().any(|said| Some(said) == file) => Runs::File,
                    Some(other) => Runs::Other(Arc::clone(other)),
                }
            }
        }
    }

    /// [`suffix`] for the variant of that index.
    pub fn request_suffix(&self, variant: usize, asked: &str, adapter: &dyn Adapter) -> Bytes {
        suffix(&self.model.variants[variant], asked, adapter)
    }
}

/// What to append to a request for `asked` so that the variant's server knows the model; empty: nothing.
pub fn suffix(variant: &config::Variant, asked: &str, adapter: &dyn Adapter) -> Bytes {
    let name = variant.model_name.as_deref().filter(|name| *name != asked);
    let version = variant.model_version.as_deref();
    if name.is_none() && version.is_none() { Bytes::new() } else { adapter.rename_request(name, version) }
}

impl Variant {
    /// Writes who answered into response headers; `prediction` is the id to report feedback with.
    fn tag(&self, headers: &mut HeaderMap, prediction: HeaderValue) {
        headers.insert(VARIANT, self.name.clone());
        if let Some(version) = &self.version {
            headers.insert(MODEL_VERSION, version.clone());
        }
        headers.insert(ROLLOUT, self.rollout.clone());
        headers.insert(PREDICTION_ID, prediction);
    }
}

/// Corrects the version in response headers that were tagged as the file has it.
pub fn retag(runs: &Runs, headers: &mut HeaderMap) {
    match runs {
        Runs::File => {}
        Runs::Other(version) => {
            if let Some(tagged) = headers.get_mut(&MODEL_VERSION) {
                *tagged = header(version);
            }
        }
        Runs::Unknown => {
            headers.remove(&MODEL_VERSION);
        }
    }
}

/// Whether a server may have to be warmed with what the others answer.
fn keeps_samples(model: &Model) -> bool {
    let others = matches!(model.strategy, config::Strategy::Rolling(_)) || model.taking_part().count() > 1;
    others && model.strategy.warming().is_some_and(|warming| warming.file.is_none())
}

fn inputs(rollouts: &[Rollout]) -> Option<Arc<[Arc<str>]>> {
    let asked = rollouts.iter().filter_map(|rollout| rollout.strategy.context()?.input());
    let names: Vec<Arc<str>> = asked.map(|(name, _)| Arc::clone(name)).collect();
    (!names.is_empty()).then(|| names.into())
}

fn arms(model: &Model) -> Vec<u8> {
    let mut places = vec![prediction::NO_ARM; model.variants.len()];
    for (arm, variant) in model.arms().into_iter().enumerate() {
        places[variant] = u8::try_from(arm).unwrap_or(prediction::NO_ARM);
    }
    places
}

/// A header value of a name from the file; what no header can hold is left out.
fn header(text: &str) -> HeaderValue {
    let visible: String = text.chars().filter(|c| (' '..='~').contains(c)).collect();
    HeaderValue::from_str(&visible).unwrap_or(HeaderValue::from_static(""))
}

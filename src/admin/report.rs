//! Readiness as people and platforms see it: of endpoints, of variants, of models, of the whole.
//!
//! A variant is ready when one endpoint is; a model is when its baseline is, for every call that another variant
//! cannot take goes there; the sidecar is when its default model is and it does not drain.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::View;
use crate::config::{Model, Strategy, Variant};
use crate::upstream::readiness::{Board, Target};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) models: Vec<OfModel>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfModel {
    pub(super) name: Arc<str>,
    pub(super) default: bool,
    pub(super) ready: bool,
    pub(super) strategy: &'static str,
    pub(super) variants: Vec<OfVariant>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfVariant {
    pub(super) name: Arc<str>,
    pub(super) version: Option<Arc<str>>,
    pub(super) baseline: bool,
    pub(super) ready: bool,
    pub(super) endpoints: Vec<OfEndpoint>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfEndpoint {
    pub(super) address: String,
    pub(super) ready: bool,
    pub(super) reason: Arc<str>,
    pub(super) changes: u64,
}

impl Report {
    pub(super) fn new(view: &View) -> Self {
        let config = Arc::clone(&view.config.borrow());
        let draining = *view.draining.borrow();
        let models: Vec<OfModel> = config
            .models
            .iter()
            .map(|model| of_model(model, *model.name == *config.default, &view.board))
            .collect();
        let ready = !draining && models.iter().any(|model| model.default && model.ready);
        Report { ready, draining, models }
    }

    pub(super) fn model(&self, name: &str) -> Option<&OfModel> {
        self.models.iter().find(|model| *model.name == *name)
    }

    /// One line for the whole and one for each variant. Without addresses, for the health port shows it to anyone.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(match (self.ready, self.draining) {
            (_, true) => "not ready: draining\n",
            (true, false) => "ready\n",
            (false, false) => "not ready: the default model's baseline has no ready endpoint\n",
        });
        for model in &self.models {
            for variant in &model.variants {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{}/{} {}", model.name, variant.name, variant.text());
            }
        }
        text
    }
}

impl OfModel {
    pub(super) fn variant(&self, name: &str) -> Option<&OfVariant> {
        self.variants.iter().find(|variant| *variant.name == *name)
    }
}

impl OfVariant {
    pub(super) fn text(&self) -> String {
        let ready = self.endpoints.iter().filter(|endpoint| endpoint.ready).count();
        let mut text = format!(
            "{} ({ready} of {} endpoints)",
            if self.ready { "ready" } else { "not ready" },
            self.endpoints.len()
        );
        let mut told: Vec<&str> = Vec::new();
        for endpoint in self.endpoints.iter().filter(|endpoint| endpoint.ready == self.ready) {
            if !told.contains(&&*endpoint.reason) {
                told.push(&endpoint.reason);
            }
        }
        let _ = write!(text, ": {}", told.join("; "));
        text
    }
}

fn of_model(model: &Model, default: bool, board: &Board) -> OfModel {
    // While a switch waits, the variant before is the one that must be ready.
    let answering = board.answering(&model.name).filter(|_| matches!(model.strategy, Strategy::Pinned(_)));
    let answering = answering.and_then(|name| model.variant(&name)).unwrap_or(model.baseline());
    let variants = model.variants.iter().enumerate().map(|(index, variant)| {
        let endpoints = of_endpoints(model, variant, board);
        OfVariant {
            name: Arc::clone(&variant.name),
            version: variant.version.clone(),
            baseline: index == answering,
            ready: endpoints.iter().any(|endpoint| endpoint.ready),
            endpoints,
        }
    });
    let variants: Vec<OfVariant> = variants.collect();
    let ready = variants.iter().any(|variant| variant.baseline && variant.ready);
    OfModel { name: Arc::clone(&model.name), default, ready, strategy: model.strategy.kind(), variants }
}

fn of_endpoints(model: &Model, variant: &Variant, board: &Board) -> Vec<OfEndpoint> {
    let of_endpoint = |endpoint| {
        let target = Target::new(model, variant, endpoint);
        let known = board.find(&target);
        let known = known.as_deref();
        OfEndpoint {
            address: target.endpoint.address.to_string(),
            ready: known.is_some_and(|readiness| readiness.is_ready()),
            reason: known.and_then(|readiness| readiness.why()).unwrap_or_else(|| "not probed yet".into()),
            changes: known.map_or(0, |readiness| readiness.changes()),
        }
    };
    variant.endpoints.iter().map(of_endpoint).collect()
}

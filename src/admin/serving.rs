//! `grpc.health.v1` on the health port: "" is the sidecar, `MODEL` a model's baseline, `MODEL/VARIANT` a variant.
//!
//! Statuses are set only when they change, so that a watcher hears of changes alone.

use std::collections::HashMap;
use std::future::Future;

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

use super::View;
use super::report::Report;

/// The service, true from the start, and the future that keeps it so; that one ends only when the sidecar's own
/// configuration has gone.
pub(super) async fn service(mut view: View) -> (HealthServer<impl Health>, impl Future<Output = ()>) {
    let (reporter, service) = health_reporter();
    let mut keeper = Keeper { reporter, told: HashMap::from([(String::new(), true)]) };
    let mut board = view.board.watch();
    keeper.tell(&Report::new(&view)).await;
    let keep = async move {
        loop {
            let changed = tokio::select! {
                changed = view.config.changed() => changed,
                changed = view.draining.changed() => changed,
                changed = board.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            keeper.tell(&Report::new(&view)).await;
        }
    };
    (service, keep)
}

struct Keeper {
    reporter: HealthReporter,
    told: HashMap<String, bool>,
}

impl Keeper {
    async fn tell(&mut self, report: &Report) {
        let now = states(report);
        for (name, &ready) in &now {
            if self.told.get(name) != Some(&ready) {
                let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
                self.reporter.set_service_status(name, status).await;
            }
        }
        for gone in self.told.keys().filter(|name| !now.contains_key(*name)) {
            self.reporter.clear_service_status(gone).await;
        }
        self.told = now;
    }
}

fn states(report: &Report) -> HashMap<String, bool> {
    let mut states = HashMap::from([(String::new(), report.ready)]);
    for model in &report.models {
        for variant in &model.variants {
            states.insert(format!("{}/{}", model.name, variant.name), variant.ready && !report.draining);
        }
    }
    // Last, so that a model whose name looks like another's variant keeps its own state.
    for model in &report.models {
        states.insert(model.name.to_string(), model.ready && !report.draining);
    }
    states
}

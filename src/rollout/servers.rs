//! The servers of a rolling update: what is seen of them, and which of them get no new calls.
//!
//! The strategy says which endpoints are cordoned; here that is put on the board that workers choose by. A model whose
//! strategy is another one costs nothing: none of its endpoints is ever cordoned.

use std::collections::HashSet;
use std::sync::Arc;

use super::Rollouts;
use super::live::Inner;
use crate::config::{Endpoint, Model, Rolling, Strategy};
use crate::strategy::rolling::{Progress, Seen};
use crate::upstream::readiness::Target;
use crate::warm::Order;

impl Rollouts {
    /// Takes in how the endpoints of a rolling update are now.
    pub(super) fn look_at_servers(&self, inner: &mut Inner) {
        let model = Arc::clone(&inner.model);
        let Strategy::Rolling(rolling) = &model.strategy else { return };
        let Some(variant) = model.variants.get(rolling.variant) else { return };
        let now = self.clock.now();
        inner.act(|machine, _| {
            let Some(progress) = machine.rolling() else { return };
            let cold: Vec<Arc<str>> = progress.warms().cloned().collect();
            let one = |endpoint: &Endpoint| self.seen(&model, rolling, endpoint, &cold);
            let seen: Vec<Seen> = variant.endpoints.iter().map(one).collect();
            machine.observe(&model, &seen, now);
            self.tell_runs(&model, rolling, machine.rolling());
        });
    }

    /// Tells workers which version each endpoint runs.
    fn tell_runs(&self, model: &Model, rolling: &Rolling, progress: Option<&Progress>) {
        let Some(variant) = model.variants.get(rolling.variant) else { return };
        for (endpoint, report) in
            variant.endpoints.iter().zip(progress.map(Progress::endpoints).unwrap_or_default())
        {
            self.ground.board.get(&Target::new(model, variant, endpoint)).set_runs(report.runs);
        }
    }

    fn seen(&self, model: &Arc<Model>, rolling: &Rolling, endpoint: &Endpoint, cold: &[Arc<str>]) -> Seen {
        let address: Arc<str> = endpoint.address.to_string().into();
        let Some(variant) = model.variants.get(rolling.variant) else { return Seen::default() };
        let readiness = self.ground.board.get(&Target::new(model, variant, endpoint));
        readiness.ask(rolling.report);
        let ready = readiness.is_ready();
        let warm = rolling.warming.requests == 0 || {
            let order = Order {
                model: Arc::clone(model),
                variant: rolling.variant,
                endpoint: endpoint.clone(),
                warming: rolling.warming.clone(),
            };
            ready && cold.contains(&address) && self.ground.warmer.warm(&order, &readiness).done
        };
        Seen {
            address,
            ready,
            changes: readiness.changes(),
            versions: readiness.said(),
            in_flight: readiness.in_flight() as u64,
            warm,
        }
    }

    /// Tells workers which endpoints get no new calls.
    pub(super) fn cordon(&self) {
        let mut cordoned: HashSet<Target> = HashSet::new();
        for live in self.all() {
            let mut inner = live.inner();
            let model = Arc::clone(&inner.model);
            let Strategy::Rolling(rolling) = &model.strategy else { continue };
            let Some(variant) = model.variants.get(rolling.variant) else { continue };
            // Before the first probe: what a server runs is then known when it is ready.
            for endpoint in &variant.endpoints {
                self.ground.board.get(&Target::new(&model, variant, endpoint)).ask(rolling.report);
            }
            inner.act(|machine, _| {
                let Some(progress) = machine.rolling() else { return };
                // Before any of them gets calls again.
                self.tell_runs(&model, rolling, Some(progress));
                let out: Vec<&Arc<str>> = progress.cordoned().collect();
                let is_out = |endpoint: &&Endpoint| {
                    let address = endpoint.address.to_string();
                    out.iter().any(|out| ***out == *address)
                };
                let targets = variant.endpoints.iter().filter(is_out);
                cordoned.extend(targets.map(|endpoint| Target::new(&model, variant, endpoint)));
            });
        }
        let board = &self.ground.board;
        for (.., target) in Target::all(&self.config()) {
            match cordoned.contains(&target) {
                true => board.get(&target).set_cordoned(true),
                false => board.find(&target).into_iter().for_each(|known| known.set_cordoned(false)),
            }
        }
    }
}

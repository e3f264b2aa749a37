//! What a fleet is to people, to metrics, and to the other replicas.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::exchange::Neighbour;
use crate::rollout::Rollouts;
use crate::rollout::live::{Inner, Live};
use crate::rollout::record::{FleetStatus, Kept, Replica};
use crate::telemetry::metrics::rollouts as metrics;

/// Who has said nothing for so long beside another that did is not counted.
const QUIET: Duration = Duration::from_secs(30);

impl Rollouts {
    /// What the fleet of a rollout is to people.
    pub(in crate::rollout) fn fleet_of(&self, inner: &mut Inner) -> Option<FleetStatus> {
        let now = self.clock.now();
        let shared = inner.shared.as_mut()?;
        // Somebody looks: the newest plan is asked for with the next exchange.
        shared.seat.member().refresh();
        let member = shared.seat.seen();
        let mark = member.plan().map(|plan| plan.mark).unwrap_or_default();
        Some(FleetStatus {
            replica: Arc::clone(member.name()),
            holder: Arc::clone(member.holder()),
            leads: member.leads(),
            version: mark.version,
            silence: member.silence(now),
            parted: member.parted(now),
            waiting: member.waiting(),
            lost: member.lost(),
            skew: member.skew(),
            trouble: shared.trouble.clone(),
            replicas: shared.others.iter().filter_map(replica).collect(),
        })
    }

    /// Whether all replicas have what is served here.
    pub(in crate::rollout) fn kept_shared(&self, inner: &mut Inner) -> Kept {
        let now = self.clock.now();
        let Some(shared) = &inner.shared else { return Kept::Memory };
        match (&shared.trouble, shared.seat.seen().parted(now)) {
            (Some(why), _) => Kept::Failing(why.to_string()),
            (None, true) => Kept::Failing("the store that replicas share gives no answer".to_owned()),
            (None, false) => Kept::Fleet,
        }
    }

    /// What metrics say of it.
    pub(in crate::rollout) fn fleet_metrics(&self) -> Option<metrics::Fleet> {
        let fleet = self.ground.fleet.as_ref()?;
        let now = self.clock.now();
        let of = |live: Arc<Live>| {
            let mut inner = live.inner();
            let (model, revision) = (Arc::clone(&inner.model.name), inner.model.revision);
            let shared = inner.shared.as_mut()?;
            let member = shared.seat.seen();
            let reports = self.ground.intake.claimed(&model).unwrap_or_default();
            Some(metrics::Member {
                model,
                version: member.plan().map_or(0, |plan| plan.mark.version),
                silence: member.silence(now),
                leads: member.leads(),
                waiting: member.waiting(),
                lost: member.lost(),
                skew: member.skew(),
                replicas: shared.others.len() as u64,
                apart: apart(&shared.others, revision),
                reports,
            })
        };
        let failures = fleet.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut failures: Vec<(&'static str, u64)> =
            failures.iter().map(|(cause, count)| (*cause, *count)).collect();
        failures.sort_unstable();
        Some(metrics::Fleet { members: self.all().into_iter().filter_map(of).collect(), failures })
    }
}

/// What others shall know of this replica.
pub(super) fn status(inner: &Inner, live: &Live) -> String {
    let version = inner.shared.as_ref().and_then(|shared| Some(shared.seat.seen().plan()?.mark.version));
    let (model, epoch) = (&inner.model, live.standing().epoch);
    let report = serde_json::json!({
        "version": version.unwrap_or(0), "epoch": epoch, "revision": model.revision, "config": &*inner.config,
    });
    report.to_string()
}

/// How many say now that their file is another one, and makes another rollout of it.
fn apart(others: &[Neighbour], revision: u32) -> u64 {
    // One that started anew has left a name that says nothing any more.
    let last = others.iter().map(|one| one.at).max().unwrap_or(0);
    let here = others.iter().filter(|one| last - one.at <= QUIET.as_millis() as u64).filter_map(replica);
    here.filter(|one| one.revision != revision).count() as u64
}

fn replica(neighbour: &Neighbour) -> Option<Replica> {
    let said: serde_json::Value = serde_json::from_str(&neighbour.status).ok()?;
    Some(Replica {
        name: Arc::clone(&neighbour.replica),
        millis: neighbour.at,
        version: said.get("version")?.as_u64()?,
        epoch: u32::try_from(said.get("epoch")?.as_u64()?).ok()?,
        revision: u32::try_from(said.get("revision")?.as_u64()?).ok()?,
        config: said.get("config")?.as_str()?.into(),
    })
}

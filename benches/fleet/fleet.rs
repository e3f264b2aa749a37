//! Replicas of one canary that ask a real server through the sidecar's own client, on a clock that is made.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parhelion::config::{self, Environment, Servers, Strategy};
use parhelion::evidence::{ArmGain, Gain};
use parhelion::fleet::member::{Kept, Member};
use parhelion::fleet::pace::ROUNDS;
use parhelion::fleet::redis::Redis;
use parhelion::fleet::seat::{Record, Seat, World};
use parhelion::fleet::{Part, Rollout, Store};
use parhelion::stats::quantile;
use parhelion::strategy::course::Course;
use parhelion::verdict::{Command, State};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const FILE: &str = "models: {bench: {unit: [metadata:x-user-id], variants: {\
    v1: {endpoint: 'http://127.0.0.1:1', version: '1'}, v2: {endpoint: 'http://127.0.0.1:2', version: '2'}}, \
    strategy: {kind: canary, baseline: v1, candidate: v2, steps: [{share: 5%, hold: 30d}], max_step_time: 60d}}}";
/// The candidate's share of calls.
const SHARE: f64 = 0.05;
/// Connections at most: each replica has one, and so many are enough for one machine.
const LINKS: usize = 64;
/// A lease must be renewed on the server's clock, however long a made second takes.
const RENEWED: Duration = Duration::from_secs(1);

/// The canary, and what somebody wants of it.
struct Rules {
    strategy: Strategy,
    wants: Option<Command>,
}

impl World for Rules {
    type Machine = Course;
    type Change = String;

    fn read(&self, saved: &str, _: Duration) -> Option<Course> {
        serde_json::from_str(saved).ok()
    }

    fn write(&self, machine: &Course) -> Arc<str> {
        serde_json::to_string(machine).unwrap_or_default().into()
    }

    fn begin(&mut self) -> Option<Course> {
        let mut course = Course::begin(&self.strategy, None, Duration::ZERO)?;
        course.look(&self.strategy, &|_| Ok(()), Duration::ZERO)?;
        Some(course)
    }

    fn generation(&self, _: &Course) -> u32 {
        0
    }

    fn is_rolled_back(&self, machine: &Course) -> bool {
        machine.state() == State::RolledBack
    }

    fn absorb(&self, machine: &mut Course, part: &Part, now: Duration) {
        part.gains.iter().for_each(|gain| machine.absorb(&self.strategy, gain, now));
    }

    fn look(&mut self, machine: &mut Course, now: Duration) -> Option<String> {
        let command = self.wants.take()?;
        let change = machine.command(&self.strategy, &command, &|_| Ok(()), now).ok()?;
        Some(change.why)
    }

    fn refresh(&self, _: &mut Course, _: Duration) -> bool {
        false
    }

    fn look_alone(&mut self, _: &mut Course, _: usize, _: Duration) -> Option<String> {
        None
    }

    fn roll_back(&mut self, _: &mut Course, why: &str, _: bool, _: Duration) -> String {
        why.to_owned()
    }

    fn why(&self, change: &String) -> String {
        change.clone()
    }

    fn record(&self, _: &Course, change: &String, _: Duration) -> Record {
        (change.as_str().into(), Vec::new())
    }
}

struct Replica {
    seat: Seat<Course>,
    view: Option<Course>,
}

/// All of them.
pub(super) struct Fleet {
    runtime: tokio::runtime::Runtime,
    links: Vec<Redis>,
    rollout: Rollout,
    rules: Rules,
    replicas: Vec<Replica>,
    now: Duration,
    leads: usize,
    renewed: Instant,
    /// Exchanges for that, which no made second has.
    pub(super) renewals: u32,
    paused: bool,
    rng: StdRng,
}

impl Fleet {
    /// Replicas that all hold a plan whose candidate has its first step.
    pub(super) fn begin(port: u16, replicas: usize) -> Result<Self, Box<dyn Error>> {
        let loaded = config::read("bench", FILE, &Environment::default()).map_err(|why| why.to_string())?;
        let model = loaded.config.models.first().ok_or("no model")?;
        let fleet = Arc::new(config::Fleet {
            servers: Servers::One { database: 0 },
            hosts: vec![("127.0.0.1".to_owned(), port)],
            tls: false,
            user: None,
            password_file: None,
            ca: None,
            pair: None,
            prefix: format!("parhelion-{replicas}").into(),
            replica: None,
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let replica = |index: usize| {
            // As long as the name of a pod.
            let name = format!("fraud-7d9f8b6c5d-{index:05}/{:08x}", index * 7919);
            Replica { seat: Seat::new(Member::new(name.into(), Kept::default(), now)), view: None }
        };
        let mut fleet = Fleet {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            links: (0..replicas.min(LINKS)).map(|_| Redis::new(Arc::clone(&fleet))).collect(),
            rollout: Rollout { model: "fraud".into(), revision: 7 },
            rules: Rules { strategy: model.strategy.clone(), wants: None },
            replicas: (0..replicas).map(replica).collect(),
            now,
            leads: 0,
            renewed: Instant::now(),
            renewals: 0,
            paused: false,
            rng: StdRng::seed_from_u64(1),
        };
        for _ in 0..2 {
            fleet.second(0, 0)?;
        }
        let without = fleet.replicas.iter().filter(|replica| replica.view.is_none()).count();
        if without > 0 {
            return Err(format!("{without} replicas have no plan").into());
        }
        Ok(fleet)
    }

    /// One second of all: each counts so many calls, and so many of the candidate's fail, each for itself.
    pub(super) fn second(&mut self, calls: u32, failures: u64) -> Result<(), Box<dyn Error>> {
        // Two turns are the most that a replica takes in a second.
        let turns = if failures > 0 { 2 } else { 1 };
        for _ in 0..turns {
            self.now += Duration::from_secs(1) / turns;
            for index in 0..self.replicas.len() {
                if calls > 0 {
                    self.count(index, calls / turns, failures.div_ceil(u64::from(turns)));
                }
                self.renew(index)?;
                self.exchange(index)?;
            }
        }
        Ok(())
    }

    /// A decision, and everybody serves it.
    pub(super) fn decide(&mut self) -> Result<(), Box<dyn Error>> {
        self.now += Duration::from_secs(1);
        self.rules.wants = Some(if self.paused { Command::Resume } else { Command::Pause });
        self.paused = !self.paused;
        self.exchange(self.leads)?;
        for index in 0..self.replicas.len() {
            self.exchange(index)?;
        }
        let states = |replica: &Replica| replica.view.as_ref().map(Course::state);
        let told = self.replicas.iter().all(|replica| states(replica) == states(&self.replicas[self.leads]));
        if told { Ok(()) } else { Err("not all serve the decision".into()) }
    }

    fn renew(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        if self.renewed.elapsed() > RENEWED && index != self.leads {
            self.renewals += 1;
            self.exchange(self.leads)?;
        }
        Ok(())
    }

    fn count(&mut self, index: usize, calls: u32, failures: u64) {
        let of_candidate = (f64::from(calls) * SHARE) as u32;
        let mut arms = vec![self.arm(calls - of_candidate), self.arm(of_candidate)];
        arms[1].errors = failures.min(1);
        let gain = Gain { epoch: 1, segment: None, arms };
        let member = self.replicas[index].seat.member();
        member.gained(|part| part.gain(&gain));
        if failures > 0 {
            member.press();
        }
    }

    /// Calls of one variant, which take 20 ms or so: log-normal, with a spread of a half.
    fn arm(&mut self, calls: u32) -> ArmGain {
        let mut buckets = std::collections::BTreeMap::new();
        for _ in 0..calls {
            let normal = (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0;
            let taken = Duration::from_secs_f64(0.02 * (0.5 * normal).exp());
            *buckets.entry(quantile::bucket(taken)).or_insert(0) += 1;
        }
        ArmGain { calls: u64::from(calls), latency: buckets.into_iter().collect(), ..ArmGain::default() }
    }

    /// A turn of one replica.
    fn exchange(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        let store = &self.links[index % self.links.len()];
        let Replica { seat, view } = &mut self.replicas[index];
        let mut refill = false;
        for _ in 0..ROUNDS {
            let version = seat.seen().plan().map_or(0, |plan| plan.mark.version);
            seat.member().set_status(format!(
                "{{\"version\":{version},\"epoch\":1,\"revision\":7,\"config\":\"0123456789abcdef\"}}"
            ));
            let ask = if refill { seat.member().refill(self.now) } else { seat.member().ask(self.now) };
            let answer = self.runtime.block_on(store.exchange(&self.rollout, &ask))?;
            let outcome = seat.hear(&mut self.rules, view, answer, self.now);
            refill = outcome.refill;
            if !outcome.again && !outcome.refill {
                break;
            }
        }
        if seat.seen().leads() {
            (self.leads, self.renewed) = (index, Instant::now());
        }
        Ok(())
    }
}

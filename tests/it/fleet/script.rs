//! What the store's script does, held against the ledger that simulations play with: the same questions, put to both in the
//! same order, have the same answers, the same state is left, and the same replicas are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parhelion::config::{self, Servers};
use parhelion::fleet::exchange::{Answer, Ask, Commit, Delivered, Mark, Neighbour, Rolled, Sent, Want};
use parhelion::fleet::ledger::{LEASE, Ledger};
use parhelion::fleet::redis::Redis;
use parhelion::fleet::{Plan, Rollout, Store};
use redis::Connection;

use super::chance::Chance;
use super::server::Server;

/// Sequences where `PARHELION_SEEDS` does not say how many, and questions of each.
const SEEDS: u64 = 60;
const QUESTIONS: u64 = 80;
const REPLICAS: [&str; 4] = ["one/1", "two/2", "three \"3\"", "vier|4"];

/// Questions that go together now and then: about plans that are there, parts that follow, leases that are held.
struct Asker {
    chance: Chance,
    /// What the last question of each replica was answered.
    heard: BTreeMap<Arc<str>, Answer>,
    told: u64,
}

impl Asker {
    fn next(&mut self, ledger: &Ledger) -> Ask {
        let replica: Arc<str> = REPLICAS[self.chance.below(REPLICAS.len() as u64) as usize].into();
        let heard = self.heard.get(&replica).cloned().unwrap_or_default();
        let part = self.chance.often(600).then(|| self.part(heard.seen));
        let want = match self.chance.below(10) {
            0 => Want::Release,
            1 | 2 => Want::Nothing,
            _ => Want::Lease,
        };
        let commit = self.chance.often(350).then(|| self.commit(ledger, &heard));
        let refill = self.chance.often(60).then(|| self.plan(ledger, &heard));
        let held = ledger.plan().map_or("", |plan| &plan.id);
        let held: Arc<str> = if self.chance.often(500) { held.into() } else { self.name().into() };
        Ask {
            held,
            fresh: self.chance.often(200),
            part,
            urgent: self.chance.often(300),
            want,
            read: self.chance.often(700).then(|| self.chance.below(12)),
            commit: if refill.is_some() { None } else { commit },
            refill,
            rolled: (0..self.chance.below(8).saturating_sub(6)).map(|_| self.rolled(&replica)).collect(),
            status: self.chance.often(300).then(|| format!("status {}", self.chance.below(3))),
            census: self.chance.often(300),
            blocks: self.chance.often(300),
            audit: self.audit(&heard),
            replica,
        }
    }

    fn audit(&mut self, heard: &Answer) -> u64 {
        match self.chance.below(20) {
            0 => self.chance.below(30),
            1..=4 => 0,
            _ => heard.records.last().map_or(0, |(number, _)| *number),
        }
    }

    fn part(&mut self, seen: u64) -> Sent {
        let from = if self.chance.often(800) { seen } else { self.chance.below(6) };
        let to = from + 1 + self.chance.below(3);
        let text = ["{}", "{\"gains\":[]}", "a\nb\n", "\u{fc}mlaut \\ \"x\""][self.chance.below(4) as usize];
        Sent { from, to, text: text.to_owned() }
    }

    fn name(&mut self) -> String {
        format!("plan {}", self.chance.below(5))
    }

    fn mark(&mut self, ledger: &Ledger) -> Mark {
        match self.chance.often(750) {
            true => ledger.mark(),
            false => Mark { version: self.chance.below(4), beat: self.chance.below(6) },
        }
    }

    fn plan(&mut self, ledger: &Ledger, heard: &Answer) -> Plan {
        let base = self.mark(ledger);
        let mark =
            Mark { version: base.version + self.chance.below(2), beat: base.beat + self.chance.below(2) };
        let mut absorbed = ledger.plan().map_or_else(BTreeMap::new, |plan| BTreeMap::clone(&plan.absorbed));
        // Of each replica as far as it was read, or anything.
        for Delivered { replica, sent } in &heard.parts {
            absorbed.insert(Arc::clone(replica), sent.to);
        }
        if self.chance.often(200) {
            let replica = REPLICAS[self.chance.below(REPLICAS.len() as u64) as usize];
            absorbed.insert(replica.into(), self.chance.below(8));
        }
        let saved = format!("{{\"step\": \"{}\"}}", self.chance.below(9));
        let (generation, rolled_back) = (self.chance.below(3) as u32, self.chance.often(200));
        let absorbed = Arc::new(absorbed);
        Plan { mark, id: self.name().into(), generation, rolled_back, saved: saved.into(), absorbed }
    }

    fn commit(&mut self, ledger: &Ledger, heard: &Answer) -> Commit {
        let base = self.mark(ledger);
        let mut plan = self.plan(ledger, heard);
        if self.chance.often(800) {
            plan.mark = Mark { version: base.version + 1, beat: base.beat + 1 };
        }
        if self.chance.often(100)
            && let Some(known) = ledger.plan()
        {
            // The answer to it was lost.
            plan = known.clone();
        }
        let build = format!("build {}", self.chance.below(2));
        let why = self.chance.often(500).then(|| "why \"so\"".to_owned());
        self.told += 1;
        Commit {
            base,
            fence: self.chance.often(600).then(|| match self.chance.often(800) {
                true => heard.lease.fence,
                false => self.chance.below(4),
            }),
            plan,
            taken: heard.first + self.chance.below(heard.parts.len() as u64 + 2),
            resync: self.chance.often(100),
            record: self.chance.often(600).then(|| format!("record {}", self.told).into()),
            blocks: if self.chance.often(300) { vec![(build, why)] } else { Vec::new() },
        }
    }

    fn rolled(&mut self, replica: &Arc<str>) -> Rolled {
        let why = format!("failures, {}", self.chance.below(9));
        Rolled { generation: self.chance.below(3) as u32, replica: Arc::clone(replica), why }
    }
}

/// Without what has no order, and without moments: one of both is ahead.
fn settled(mut answer: Answer) -> Answer {
    answer.now = 0;
    answer.rolled.sort_by_key(|rolled| rolled.generation);
    answer.neighbours.iter_mut().for_each(|neighbour: &mut Neighbour| neighbour.at = 0);
    answer.neighbours.sort_by(|a, b| a.replica.cmp(&b.replica));
    answer.blocks.sort();
    answer.sees.sort();
    answer
}

/// One server, asked through the client that sidecars have, and one ledger.
struct Both {
    redis: Redis,
    ledger: Ledger,
    rollout: Rollout,
    runtime: tokio::runtime::Runtime,
    /// How far the ledger's clock is ahead: leases that end are played by setting the clock.
    ahead: u64,
    /// Who must have been told, in order.
    told: Vec<String>,
    seed: u64,
}

impl Both {
    fn new(server: &Server, seed: u64) -> Self {
        let fleet = config::Fleet {
            servers: Servers::One { database: 0 },
            hosts: vec![("127.0.0.1".to_owned(), server.port)],
            tls: false,
            user: None,
            password_file: None,
            ca: None,
            pair: None,
            prefix: format!("p{seed}").into(),
            replica: None,
        };
        Both {
            redis: Redis::new(Arc::new(fleet)),
            ledger: Ledger::default(),
            rollout: Rollout { model: "m".into(), revision: 7 },
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            ahead: 0,
            told: Vec::new(),
            seed,
        }
    }

    fn tag(&self) -> String {
        format!("{{p{}:m}}", self.seed)
    }

    /// Lets a lease that nobody renews end.
    fn wait(&mut self, connection: &mut Connection) {
        let key = format!("{}:{:08x}:plan", self.tag(), self.rollout.revision);
        self.ahead += LEASE + 1;
        let past = -i64::try_from(LEASE + 1).unwrap();
        redis::cmd("HINCRBY").arg(key).arg("until").arg(past).exec(connection).unwrap();
    }

    fn ask(&mut self, ask: &Ask) -> Answer {
        let seed = self.seed;
        let real = self.runtime.block_on(self.redis.exchange(&self.rollout, ask));
        let real = real.unwrap_or_else(|error| panic!("seed {seed}: {error} at {ask:#?}"));
        let played = self.ledger.exchange(ask, real.now + self.ahead);
        assert_eq!(
            settled(real.clone()),
            settled(played),
            "seed {seed}: the server's answer, then the ledger's, to {ask:#?}"
        );
        let told = self.ledger.told();
        if told.holder {
            // Who held it when the part came: a later step of the same question may give it to another.
            self.told.push(format!("{}:to:", self.tag()));
        }
        if told.everybody {
            self.told.push(format!("{}:told", self.tag()));
        }
        real
    }
}

/// How often what is compared happened at all.
#[derive(Debug, Default)]
struct Seen {
    committed: u64,
    refused: u64,
    taken: u64,
    read: u64,
    told: u64,
    listed: u64,
    leases: u64,
}

fn play(server: &Server, seed: u64, seen: &mut Seen) {
    let mut connection = server.connect().unwrap();
    let mut both = Both::new(server, seed);
    let mut listening = server.connect().unwrap();
    let mut listening = listening.as_pubsub();
    listening.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    listening.psubscribe(format!("{}:*", both.tag())).unwrap();
    let mut asker = Asker { chance: Chance(seed), heard: BTreeMap::new(), told: 0 };
    for _ in 0..QUESTIONS {
        if asker.chance.often(50) {
            both.wait(&mut connection);
        }
        let ask = asker.next(&both.ledger);
        let answer = both.ask(&ask);
        let commits = ask.commit.is_some();
        seen.committed += u64::from(commits && answer.committed);
        seen.refused += u64::from(commits && !answer.committed);
        seen.taken += u64::from(ask.part.is_some_and(|part| part.to == answer.seen));
        seen.read += answer.parts.len() as u64;
        seen.listed += (answer.records.len() + answer.blocks.len() + answer.rolled.len()) as u64;
        seen.leases += u64::from(answer.lease.holder == ask.replica);
        asker.heard.insert(Arc::clone(&ask.replica), answer);
    }
    // All that is left, as one reads it who takes the lease.
    both.wait(&mut connection);
    let last = Ask { replica: "last".into(), want: Want::Lease, ..Ask::default() };
    both.ask(&last);
    let all = Ask { fresh: true, read: Some(0), census: true, blocks: true, ..last };
    let left = both.ask(&all);
    assert_eq!(&*left.lease.holder, "last");
    let _: () = redis::Commands::publish(&mut connection, format!("{}:end", both.tag()), "").unwrap();
    let mut heard: Vec<String> = Vec::new();
    loop {
        let channel = listening.get_message().unwrap().get_channel_name().to_owned();
        if channel.ends_with(":end") {
            break;
        }
        heard.push(channel);
    }
    seen.told += heard.len() as u64;
    let expected = both.told.iter();
    let same = heard.len() == both.told.len()
        && heard.iter().zip(expected).all(|(heard, told)| heard.starts_with(told));
    assert!(same, "seed {seed}: {heard:#?} were told, not {:#?}", both.told);
}

#[test]
fn the_script_does_what_the_ledger_says() {
    let Some(server) = Server::start("fleet::script").unwrap() else { return };
    let seeds = std::env::var("PARHELION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (seeds, mut seen) = (seeds.unwrap_or(SEEDS), Seen::default());
    for seed in 0..seeds {
        play(&server, seed, &mut seen);
    }
    let Seen { committed, refused, taken, read, told, listed, leases } = seen;
    let all = [committed, refused, taken, read, told, listed, leases];
    assert!(all.iter().all(|times| *times > 5 * seeds), "{seen:?}");
}

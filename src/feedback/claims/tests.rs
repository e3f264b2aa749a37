//! Two replicas with one key, and a store that does as the script does: what is told to both counts once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;
use crate::feedback::ledger::{Joined, join};
use crate::feedback::tests::{House, config, keys, now, prediction, sealed};
use crate::feedback::{Evidence, Receipt, Refusal, Report, Taken, Value};
use crate::fleet::reports::Found;

const FILE: &str = "
state: redis://127.0.0.1:1
fleet: {cache: /tmp/x}
models:
  fraud:
    variants:
      v1: {endpoint: 'http://127.0.0.1:1', version: '1'}
      v2: {endpoint: 'http://127.0.0.1:2', version: '2'}
    unit: [metadata:x-user]
    strategy: {kind: canary, baseline: v1, candidate: v2}
    feedback:
      approved: {kind: binary, window: 1h, max_rate: 1000000}
      amount: {kind: real, window: 1h, join: sum}
      stars: {kind: bounded, min: 1, max: 5, window: 1h, join: last}
      best: {kind: real, window: 1h, join: max}
      kept: {kind: binary, window: 2h, default: 0}
      word: {kind: label, window: 1h}
";

/// What the script does.
#[derive(Default)]
struct Desk {
    known: HashMap<(u32, u32, u64), Known>,
    marks: HashSet<(u32, u32, u64)>,
    full: bool,
}

impl Desk {
    fn tell(&mut self, batch: &Batch) -> Vec<Found> {
        let entry = |known: Known| Entry { value: known.value, at: known.at, expected: known.expected };
        let tell = |claim: &Claim| {
            let shelf = batch.shelves[claim.shelf];
            let place = |key| (shelf.track, shelf.bin, key);
            if claim.mark.is_some_and(|mark| self.marks.contains(&place(mark))) {
                return Found::Repeated;
            }
            let before = self.known.get(&place(claim.key)).copied().or(claim.known);
            if self.full && before.is_none() {
                return Found::Full;
            }
            self.marks.extend(claim.mark.map(place));
            let joined = join(claim.join, before.map(entry).as_ref(), claim.told.value, claim.told.at);
            if let Joined::Becomes(value, at) = joined {
                let expected = before.unwrap_or(claim.told).expected;
                self.known.insert(place(claim.key), Known { value, at, expected });
            }
            before.map_or(Found::First, Found::Before)
        };
        batch.claims.iter().map(tell).collect()
    }
}

/// One replica.
struct Replica(House);

impl Replica {
    fn new() -> Self {
        Replica(House::of(FILE))
    }

    fn report(&self, id: &str, name: &str, value: f64, word: &str) -> Result<Receipt, Refusal> {
        let report = Report {
            prediction: id.to_owned(),
            name: name.to_owned(),
            value: Some(Value::Number(value)),
            id: word.to_owned(),
            ..Report::default()
        };
        self.0.intake.door(0).report(&report, None)
    }

    /// Tells the store what waits; how many there were.
    fn tell(&self, desk: &mut Desk) -> usize {
        let Some(batch) = self.0.intake.batch("fraud") else { return 0 };
        self.0.intake.settle("fraud", batch.number, &desk.tell(&batch));
        batch.claims.len()
    }

    /// How many predictions have a value, and what they sum up to.
    fn gained(&self, name: &str) -> (u64, f64) {
        let drained = self.0.intake.drain();
        let of = drained.gains.iter().filter(|gain| &*gain.feedback == name);
        of.fold((0, 0.0), |(n, sum), gain| {
            (n + gain.variants[1].candidate.n, sum + gain.variants[1].candidate.sum)
        })
    }
}

/// A prediction of the candidate, by an even split.
fn id() -> String {
    sealed(&prediction(&config(FILE), Duration::from_secs(1)), &keys('1'))
}

/// What each of both replicas gains in the end, where reports go to them in turns.
fn both(name: &str, reports: &[(usize, f64, &str)]) -> [(u64, f64); 2] {
    let (mut desk, id) = (Desk::default(), id());
    let replicas = [Replica::new(), Replica::new()];
    for (replica, value, word) in reports {
        replicas[*replica].report(&id, name, *value, word).unwrap();
        replicas[*replica].tell(&mut desk);
    }
    replicas.map(|replica| replica.gained(name))
}

#[test]
fn a_report_that_goes_to_two_replicas_counts_once() {
    assert_eq!(both("approved", &[(0, 1.0, ""), (1, 1.0, "")]), [(1, 1.0), (0, 0.0)]);
    // Summed ones by their ids, and others are added.
    let sums = [(0, 2.0, "a"), (1, 2.0, "a"), (1, 3.0, "b"), (0, 3.0, "b")];
    assert_eq!(both("amount", &sums), [(1, 2.0), (0, 3.0)]);
    // Whichever replica has the later or the larger one adds the difference.
    assert_eq!(both("stars", &[(0, 2.0, "a"), (1, 5.0, "b"), (0, 2.0, "a")]), [(1, 2.0), (0, 3.0)]);
    assert_eq!(both("best", &[(0, 2.0, ""), (1, 1.0, ""), (1, 7.0, "")]), [(1, 2.0), (0, 5.0)]);
}

#[test]
fn nothing_counts_before_the_store_has_answered_and_nothing_twice_after() {
    let (mut desk, replica, id) = (Desk::default(), Replica::new(), id());
    let first = replica.report(&id, "approved", 1.0, "").unwrap();
    assert_eq!((first.taken, first.evidence), (Taken::First, Evidence::Now), "it is answered at once");
    assert_eq!(replica.report(&id, "approved", 1.0, "").unwrap().taken, Taken::Unchanged);
    assert_eq!(replica.gained("approved"), (0, 0.0));
    // An answer is lost: the same is told again, under the same number, and what came since waits behind it.
    let lost = replica.0.intake.batch("fraud").unwrap();
    replica.report(&self::id(), "approved", 1.0, "").unwrap();
    let again = replica.0.intake.batch("fraud").unwrap();
    assert_eq!((again.number, again.claims), (lost.number, lost.claims.clone()));
    let found = desk.tell(&lost);
    replica.0.intake.settle("fraud", lost.number, &found);
    replica.0.intake.settle("fraud", lost.number, &found);
    assert_eq!(replica.gained("approved"), (1, 1.0), "once, whoever answers twice");
    assert_eq!((replica.tell(&mut desk), replica.tell(&mut desk)), (1, 0));
    assert_eq!(replica.gained("approved"), (1, 1.0));
    let claimed = replica.0.intake.claimed("fraud").unwrap();
    assert_eq!((claimed.waiting, claimed.counted, claimed.repeated), (0, 2, 1));
}

#[test]
fn what_this_replica_counted_is_known_to_a_store_that_lost_it() {
    let (replica, id) = (Replica::new(), id());
    replica.report(&id, "stars", 2.0, "a").unwrap();
    replica.tell(&mut Desk::default());
    replica.report(&id, "stars", 5.0, "b").unwrap();
    replica.tell(&mut Desk::default());
    assert_eq!(replica.gained("stars"), (1, 5.0));
}

#[test]
fn with_a_default_the_difference_counts_when_the_window_closes() {
    let (mut desk, id) = (Desk::default(), id());
    let replicas = [Replica::new(), Replica::new()];
    for replica in &replicas {
        assert_eq!(replica.report(&id, "kept", 1.0, "").unwrap().evidence, Evidence::AtClose);
        replica.tell(&mut desk);
        assert_eq!(replica.gained("kept"), (0, 0.0), "its window is open");
    }
    let later = now() + Duration::from_secs(3 * 3600);
    let sum = |replica: &Replica| {
        let gains = replica.0.intake.drain_at(later).gains;
        gains.iter().map(|gain| gain.variants[1].candidate.sum).sum::<f64>()
    };
    assert_eq!([sum(&replicas[0]), sum(&replicas[1])], [1.0, 0.0]);
}

#[test]
fn labels_wait_for_nobody() {
    let (replica, id) = (Replica::new(), id());
    let word = Some(Value::Label("cat".to_owned()));
    let report = Report { prediction: id, name: "word".to_owned(), value: word, ..Report::default() };
    replica.0.intake.door(0).report(&report, None).unwrap();
    assert_eq!(replica.0.intake.batch("fraud"), None);
}

#[test]
fn a_store_without_room_is_told_nothing_new_for_a_while() {
    let mut desk = Desk { full: true, ..Desk::default() };
    let replica = Replica::new();
    replica.report(&id(), "approved", 1.0, "").unwrap();
    replica.tell(&mut desk);
    assert_eq!(replica.gained("approved"), (0, 0.0));
    assert_eq!(replica.0.intake.claimed("fraud").unwrap().full, 1);
    let refusal = replica.report(&id(), "approved", 1.0, "").unwrap_err();
    assert_eq!(refusal, Refusal::Full("approved".into()));
}

#[test]
fn only_so_many_wait_and_the_next_one_is_refused() {
    let replica = Replica::new();
    for _ in 0..MOST {
        replica.report(&id(), "approved", 1.0, "").unwrap();
    }
    let refusal = replica.report(&id(), "approved", 1.0, "").unwrap_err();
    assert_eq!(refusal, Refusal::Away("approved".into()));
    assert_eq!(replica.0.intake.batch("fraud").unwrap().claims.len(), BATCH);
}

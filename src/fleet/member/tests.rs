use super::super::exchange::Lease;
use super::super::ledger::{LEASE, Ledger};
use super::*;
use crate::evidence::{ArmGain, Gain};

const NOW: u64 = 1_800_000_000_000;

fn at(millis: u64) -> Duration {
    Duration::from_millis(NOW + millis)
}

fn member(name: &str) -> Member {
    Member::new(name.into(), Kept::default(), at(0))
}

fn count(member: &mut Member, calls: u64) {
    let arm = ArmGain { calls, ..ArmGain::default() };
    member.gained(|part| part.gain(&Gain { epoch: 0, segment: None, arms: vec![arm] }));
}

fn calls(part: &Part) -> u64 {
    part.gains.iter().flat_map(|gain| &gain.arms).map(|arm| arm.calls).sum()
}

fn say(member: &mut Member, store: &mut Ledger, millis: u64) -> Heard {
    let ask = member.ask(at(millis));
    member.hear(store.exchange(&ask, NOW + millis), at(millis))
}

fn proposal(saved: &str, record: Option<&str>) -> Proposal {
    let (generation, rolled_back, blocks) = (0, false, Vec::new());
    let (saved, record) = (saved.into(), record.map(Into::into));
    Proposal { saved, generation, rolled_back, serves: record.is_some(), record, blocks }
}

/// A store with a first plan, and who decides.
fn begun() -> (Ledger, Member) {
    let (mut store, mut one) = (Ledger::default(), member("one"));
    assert!(say(&mut one, &mut store, 0).begin);
    one.propose(proposal("first", None), at(0));
    let heard = say(&mut one, &mut store, 1);
    assert_eq!(heard.committed, Some(true));
    assert!(say(&mut one, &mut store, 2).lead.is_some() || one.leads());
    (store, one)
}

#[test]
fn what_is_in_doubt_is_said_again_as_it_was_and_counts_once() {
    let (mut store, mut one) = begun();
    let mut other = member("other");
    say(&mut other, &mut store, 3);
    count(&mut other, 5);
    let lost = other.ask(at(4));
    store.exchange(&lost, NOW + 4);
    other.unheard();
    count(&mut other, 2);
    let again = other.ask(at(5));
    assert_eq!((&again.part, other.waiting()), (&lost.part, 2), "what came meanwhile waits");
    other.hear(store.exchange(&again, NOW + 5), at(5));
    say(&mut other, &mut store, 6);
    assert_eq!(other.waiting(), 0);
    let heard = say(&mut one, &mut store, 7);
    assert_eq!(heard.absorb.iter().map(calls).sum::<u64>(), 7);
}

#[test]
fn a_store_that_lost_all_is_filled_again_and_nothing_is_missing() {
    let (mut store, mut one) = begun();
    let mut other = member("other");
    say(&mut other, &mut store, 3);
    count(&mut other, 5);
    say(&mut other, &mut store, 4);
    assert_eq!(say(&mut one, &mut store, 5).absorb.len(), 1);
    store = Ledger::default();
    let heard = say(&mut other, &mut store, 6);
    assert!(heard.refill && heard.adopt.is_none() && !heard.begin, "empty is not \"nothing\"");
    let ask = other.refill(at(7));
    other.hear(store.exchange(&ask, NOW + 7), at(7));
    assert_eq!(store.plan().map(|plan| &*plan.saved), Some("first"));
    say(&mut other, &mut store, 8);
    let mut all = 0;
    for millis in [LEASE + 10, LEASE + 11, LEASE + 12] {
        all += say(&mut one, &mut store, millis).absorb.iter().map(calls).sum::<u64>();
    }
    assert_eq!((all, other.lost()), (5, 0), "the plan that was put back had none of it");
}

#[test]
fn who_lost_the_lease_decides_nothing_any_more() {
    let (mut store, mut one) = begun();
    let mut other = member("other");
    one.propose(proposal("late", Some("record")), at(10));
    let late = one.ask(at(10));
    for millis in [LEASE + 20, LEASE + 21] {
        say(&mut other, &mut store, millis);
    }
    assert!(other.leads());
    let answer = store.exchange(&late, NOW + LEASE + 30);
    assert!(!answer.committed && answer.lease == Lease { holder: "other".into(), fence: 2 });
    let heard = one.hear(answer, at(LEASE + 30));
    assert!(heard.committed == Some(false) && heard.deposed && !one.leads());
    assert_eq!(store.plan().map(|plan| &*plan.saved), Some("first"));
}

#[test]
fn two_persons_who_decide_at_once_are_not_both_right() {
    let (mut store, _) = begun();
    let (mut ann, mut bob) = (member("ann"), member("bob"));
    say(&mut ann, &mut store, 10);
    say(&mut bob, &mut store, 11);
    ann.propose(proposal("paused", Some("pause")), at(12));
    bob.propose(proposal("promoted", Some("promote")), at(12));
    assert_eq!(say(&mut ann, &mut store, 13).committed, Some(true));
    assert_eq!(say(&mut bob, &mut store, 14).committed, Some(false));
    assert_eq!(bob.plan().map(|plan| &*plan.saved), Some("paused"));
}

#[test]
fn a_record_is_told_though_the_store_lost_all_before_it() {
    let (mut store, mut one) = begun();
    one.propose(proposal("paused", Some("pause")), at(3));
    assert_eq!(say(&mut one, &mut store, 3).records.len(), 1);
    store = Ledger::default();
    assert!(say(&mut one, &mut store, 4).refill);
    let ask = one.refill(at(5));
    one.hear(store.exchange(&ask, NOW + 5), at(5));
    say(&mut one, &mut store, 6);
    assert!(one.leads());
    one.propose(proposal("resumed", Some("resume")), at(7));
    let heard = say(&mut one, &mut store, 7);
    assert_eq!((heard.committed, heard.records.len()), (Some(true), 1));
    assert_eq!(&*heard.records[0], "resume");
}

#[test]
fn what_anybody_rolled_back_stays_so_on_its_disk_too() {
    let (mut store, _) = begun();
    let mut other = member("other");
    say(&mut other, &mut store, 3);
    other.roll_back("failures".to_owned());
    assert!(other.rolled().is_some());
    let again = Member::new("again".into(), other.kept(), at(9));
    assert!(again.rolled().is_some());
    say(&mut other, &mut store, 10);
    let mut third = member("third");
    say(&mut third, &mut store, 11);
    assert_eq!(third.rolled().map(|rolled| &*rolled.replica), Some("other"));
}

#[test]
fn clocks_that_differ_go_by_the_stores() {
    let (mut store, _) = begun();
    let mut early = member("early");
    let ask = early.ask(at(0));
    early.hear(store.exchange(&ask, NOW + 3_600_000), at(0));
    assert_eq!(early.skew(), 3_600_000);
    assert_eq!(early.time(at(5)), at(3_600_005));
    assert_eq!(early.time(at(4)), at(3_600_005), "it never goes back");
}

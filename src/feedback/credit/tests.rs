use uuid::Uuid;

use super::*;
use crate::assignment::{Odds, Reason};
use crate::config::{self, Environment};
use crate::evidence::Votes;
use crate::feedback::shown::Shown;
use crate::feedback::{Book, Value};
use crate::prediction;
use crate::prediction::slots::Slots;

/// Arms are in the order of names: factors, popular.
const FACTORS: u8 = 0;
const POPULAR: u8 = 1;
const GAP: Duration = Duration::from_secs(60);

struct House {
    model: Arc<Model>,
    book: Book,
    now: Duration,
}

impl House {
    fn new(credit: &str) -> Self {
        let text = format!(
            "models: {{films: {{variants: {{popular: {{endpoint: 'http://127.0.0.1:1'}}, \
             factors: {{endpoint: 'http://127.0.0.1:2'}}}}, unit: [metadata:x-user], strategy: {{kind: interleave, \
             baseline: popular, ranking: {{items: items}}, credit: {{feedback: clicks, session_gap: 1m{credit}}}}}, \
             feedback: {{clicks: {{kind: clicks, window: 1h}}, note: {{kind: label, window: 1h}}}}}}}}"
        );
        let loaded = config::read("films", &text, &Environment::default());
        let model = Arc::clone(&loaded.unwrap_or_else(|errors| panic!("{errors}")).config.models[0]);
        let book = Book::new(&model);
        House { model, book, now: Duration::from_secs(1_700_000_000) }
    }

    /// Somebody was shown one list of four: factors', popular's, nobody's, factors'.
    fn shown(&self, unit: u64) -> Prediction {
        let made = self.now.as_millis() as u64;
        let uuid = uuid::Builder::from_unix_timestamp_millis(made, &rand::random()).into_uuid();
        let mut slots = Slots::new(1, 4).unwrap();
        [(0, FACTORS), (1, POPULAR), (3, FACTORS)].into_iter().for_each(|(slot, arm)| slots.set(slot, arm));
        Prediction {
            uuid,
            rollout: prediction::rollout("films"),
            revision: self.model.revision,
            epoch: 0,
            assigned: POPULAR,
            served: POPULAR,
            reason: Reason::Interleaved,
            unit: Some(unit),
            bucket: prediction::bucket(Some(unit), uuid),
            odds: Odds::NONE,
            slots: Some(slots),
        }
    }

    fn tell(&mut self, about: &Prediction, place: Option<At>, value: f64) -> Result<Receipt, Refusal> {
        let report = Report {
            name: "clicks".to_owned(),
            value: Some(Value::Number(value)),
            place,
            // Each is one of its own.
            id: Uuid::from_u128(rand::random()).to_string(),
            ..Report::default()
        };
        self.book.take(about, &report, self.now)
    }

    fn click(&mut self, about: &Prediction, slot: u32, value: f64) -> Evidence {
        self.tell(about, Some(At::Slot(slot)), value).unwrap().evidence
    }

    /// What sessions said of factors, when all have closed.
    fn votes(&mut self) -> Votes {
        self.now += GAP * 2;
        let mut sum = Votes::default();
        let factors = self.model.variant("factors").unwrap();
        let ballots = self.book.drain(self.now).ballots;
        ballots.iter().for_each(|ballot| sum.merge(&ballot.votes[factors]));
        sum
    }
}

fn counts(votes: &Votes) -> (u64, u64, u64) {
    (votes.wins, votes.losses, votes.ties)
}

#[test]
fn a_slot_credits_whoever_filled_it_and_nobody_where_nobody_did() {
    let mut house = House::new("");
    let (one, other, third) = (house.shown(1), house.shown(2), house.shown(3));
    assert_eq!(house.click(&one, 0, 1.0), Evidence::AtClose);
    assert_eq!(house.click(&other, 1, 1.0), Evidence::AtClose);
    assert_eq!(house.click(&third, 2, 1.0), Evidence::Certain, "taken, and credits nobody");
    assert_eq!(counts(&house.votes()), (1, 1, 1));
}

#[test]
fn a_session_has_one_vote_for_whoever_was_credited_more() {
    let mut house = House::new("");
    let (first, second) = (house.shown(1), house.shown(1));
    house.click(&first, 0, 1.0);
    house.click(&second, 1, 1.0);
    house.click(&second, 3, 1.0);
    let tied = house.shown(2);
    house.click(&tied, 0, 1.0);
    house.click(&tied, 1, 1.0);
    assert_eq!(counts(&house.votes()), (1, 0, 1));
    assert_eq!(house.click(&first, 3, 1.0), Evidence::Session, "it has closed, and voted");
    assert_eq!(counts(&house.votes()), (0, 0, 0));
}

#[test]
fn a_dislike_is_a_vote_against_whoever_showed_it_and_what_is_taken_back_is_none() {
    let mut house = House::new("");
    let (one, other) = (house.shown(1), house.shown(2));
    house.click(&one, 0, -1.0);
    house.click(&other, 0, 1.0);
    // Clicks are summed: it is as if there had been none.
    house.click(&other, 0, -1.0);
    house.click(&other, 1, 1.0);
    assert_eq!(counts(&house.votes()), (0, 2, 0));
}

#[test]
fn rewards_weigh_as_they_are_where_they_are_asked_to_and_a_dwell_counts_from_its_least_on() {
    let mut house = House::new(", weigh: rewards");
    let one = house.shown(1);
    house.click(&one, 0, 2.0);
    house.click(&one, 1, 5.0);
    let votes = house.votes();
    assert_eq!((counts(&votes), votes.sums.score()), ((0, 1, 0), -3.0));
    let mut house = House::new(", at_least: 30");
    let (one, other) = (house.shown(1), house.shown(2));
    assert_eq!(house.click(&one, 0, 29.0), Evidence::AtClose);
    house.click(&other, 0, 30.0);
    assert_eq!(counts(&house.votes()), (1, 0, 1));
}

#[test]
fn only_the_first_or_the_last_slot_of_a_session_counts_where_that_is_asked_for() {
    for (count, won) in [("first", (1, 0, 0)), ("last", (0, 1, 0))] {
        let mut house = House::new(&format!(", count: {count}"));
        let (one, later) = (house.shown(1), house.shown(1));
        house.click(&one, 0, 1.0);
        house.now += Duration::from_secs(2);
        house.click(&later, 1, 1.0);
        assert_eq!(counts(&house.votes()), won, "{count}");
    }
}

#[test]
fn what_was_not_shown_or_is_not_known_is_refused_and_says_what_to_report() {
    let mut house = House::new("");
    let one = house.shown(1);
    let item = || Some(At::Item("7".to_owned()));
    assert!(matches!(house.tell(&one, None, 1.0), Err(Refusal::Place(_))));
    assert!(matches!(
        house.tell(&one, Some(At::Slot(4)), 1.0),
        Err(Refusal::Slot { slot: 4, rows: 1, length: 4, .. })
    ));
    assert!(
        matches!(house.tell(&one, item(), 1.0), Err(Refusal::Forgotten { instead, .. }) if instead.contains("slot"))
    );
    let mut house = House::new(", by: item");
    let (one, elsewhere) = (house.shown(1), house.shown(2));
    let items = ["5", "6", "7", "8"].map(|text| super::item(text.as_bytes())).to_vec();
    let memory = Arc::clone(house.book.shown().unwrap());
    memory.remember(one.uuid, Shown { length: 4, items, ..Shown::default() }, house.now + GAP * 60);
    assert!(matches!(house.tell(&one, Some(At::Item("9".to_owned())), 1.0), Err(Refusal::Item { .. })));
    assert!(matches!(house.tell(&elsewhere, item(), 1.0), Err(Refusal::Forgotten { .. })));
    let eighth = house.tell(&one, Some(At::Item("8".to_owned())), 1.0).unwrap();
    assert_eq!((eighth.taken, eighth.evidence), (Taken::First, Evidence::AtClose));
    let again = house.tell(&one, Some(At::Slot(3)), 1.0).unwrap();
    assert_eq!(again.taken, Taken::Joined, "an item and its slot are one place");
    assert_eq!(counts(&house.votes()), (1, 0, 0));
}

#[test]
fn what_one_ranker_answered_alone_is_taken_and_is_no_evidence() {
    let mut house = House::new("");
    let alone = Prediction { slots: None, ..house.shown(1) };
    assert_eq!(house.click(&alone, 0, 1.0), Evidence::Certain);
    let before = Prediction { revision: 1, ..house.shown(2) };
    assert_eq!(house.click(&before, 0, 1.0), Evidence::Revision);
    assert_eq!(counts(&house.votes()), (0, 0, 0));
}

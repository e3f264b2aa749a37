use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::*;
use crate::assignment::{Odds, Reason};
use crate::config::{self, Config};
use crate::keys::Keys;

const FILE: &str = "
models:
  fraud:
    variants:
      v1: {endpoint: 'http://127.0.0.1:1', version: '1'}
      v2: {endpoint: 'http://127.0.0.1:2', version: '2'}
    unit: [metadata:x-user]
    strategy: {kind: ab, weights: {v1: 50%, v2: 50%}}
    feedback:
      approved: {kind: binary, window: 1h}
      amount: {kind: real, window: 1h, join: sum}
      stars: {kind: bounded, min: 1, max: 5, window: 10m, join: last, max_rate: 1000000}
      word: {kind: label, window: 1h, join: first}
      slow: {kind: real, window: 1h, max_rate: 2}
      kept: {kind: binary, window: 2h, default: 0}
  plain:
    variants: {v1: {endpoint: 'http://127.0.0.1:1'}}
default: plain
";

/// One replica's intake of a file's reports, and what it needs to live.
pub(super) struct House {
    pub(super) intake: Arc<Intake>,
    keys: Arc<Keys>,
    config: tokio::sync::watch::Sender<Arc<Config>>,
    telemetry: crate::telemetry::Telemetry,
}

pub(super) fn config(text: &str) -> Arc<Config> {
    config::read("file", text, &config::Environment::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

pub(super) fn keys(digit: char) -> Arc<Keys> {
    Arc::new(Keys::parse(&format!("k {}", String::from(digit).repeat(64)), Path::new("keys")).unwrap())
}

pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A prediction of `fraud` by an even split, made `ago`.
pub(super) fn prediction(config: &Config, ago: Duration) -> Prediction {
    let mut odds = Odds::new(2);
    odds.set(0, 0.5);
    odds.set(1, 0.5);
    let made = (now() - ago).as_millis() as u64;
    let uuid = uuid::Builder::from_unix_timestamp_millis(made, &rand::random()).into_uuid();
    let unit = Some(rand::random());
    Prediction {
        uuid,
        rollout: prediction::rollout("fraud"),
        revision: config.model("fraud").unwrap().revision,
        epoch: 4,
        assigned: 1,
        served: 1,
        reason: Reason::Split,
        unit,
        bucket: prediction::bucket(unit, uuid),
        odds,
        slots: None,
    }
}

/// What a caller is told of it.
pub(super) fn sealed(prediction: &Prediction, keys: &Keys) -> String {
    String::from_utf8(prediction.seal(keys).as_bytes().to_vec()).unwrap()
}

impl House {
    fn new() -> Self {
        Self::of(FILE)
    }

    pub(super) fn of(text: &str) -> Self {
        let keys = keys('1');
        let (config, configs) = tokio::sync::watch::channel(config(text));
        let environment = crate::telemetry::environment::Environment::read(|_| None).unwrap();
        let counters = Arc::default();
        let telemetry = &configs.borrow().telemetry.clone();
        let started =
            crate::telemetry::start(telemetry, environment, std::num::NonZeroUsize::MIN, counters).unwrap();
        let intake = Intake::new(Arc::clone(&keys), configs, started.telemetry.feedback(), 1);
        House { intake, keys, config, telemetry: started.telemetry }
    }

    fn prediction(&self, ago: Duration) -> Prediction {
        prediction(&self.config.borrow(), ago)
    }

    fn fresh(&self) -> String {
        self.id(&self.prediction(Duration::from_secs(1)))
    }

    fn id(&self, prediction: &Prediction) -> String {
        sealed(prediction, &self.keys)
    }

    fn report(&self, prediction: &str, name: &str, value: f64) -> Result<Receipt, Refusal> {
        self.intake.door(0).report(&report(prediction, name, Value::Number(value)), None)
    }

    fn gained(&self) -> Vec<FeedbackGain> {
        self.intake.drain().gains
    }
}

fn report(prediction: &str, name: &str, value: Value) -> Report {
    Report {
        prediction: prediction.to_owned(),
        name: name.to_owned(),
        value: Some(value),
        ..Report::default()
    }
}

#[test]
fn a_report_is_evidence_for_its_predictions_arm_once() {
    let house = House::new();
    let id = house.fresh();
    let receipt = house.report(&id, "approved", 1.0).unwrap();
    assert_eq!(receipt, Receipt { taken: Taken::First, evidence: Evidence::Now, value: Some(1.0) });
    for _ in 0..3 {
        assert_eq!(house.report(&id, "approved", 1.0).unwrap().taken, Taken::Unchanged);
    }
    let gained = house.gained();
    let [gain] = &gained[..] else { panic!("{gained:?}") };
    assert_eq!((&*gain.model, gain.epoch, &*gain.feedback), ("fraud", 4, "approved"));
    assert_eq!((gain.variants[1].candidate.n, gain.variants[1].candidate.sum), (1, 1.0));
    assert_eq!(gain.variants[0], Scores::default());
    assert_eq!(house.gained(), [], "gained once");
}

#[test]
fn two_feedbacks_of_one_prediction_are_two() {
    let house = House::new();
    let id = house.fresh();
    assert_eq!(house.report(&id, "approved", 1.0).unwrap().taken, Taken::First);
    assert_eq!(house.report(&id, "stars", 3.0).unwrap().taken, Taken::First);
    assert_eq!(
        house.gained().iter().map(|gain| gain.feedback.to_string()).collect::<Vec<_>>(),
        ["approved", "stars"]
    );
}

#[test]
fn refusals_say_what_is_wrong_count_by_cause_and_change_nothing() {
    let house = House::new();
    let id = house.fresh();
    let altered = {
        let mut altered = id.clone().into_bytes();
        altered[60] = if altered[60] == b'A' { b'B' } else { b'A' };
        String::from_utf8(altered).unwrap()
    };
    let foreign =
        String::from_utf8(house.prediction(Duration::ZERO).seal(&keys('2')).as_bytes().to_vec()).unwrap();
    let other = house.id(&Prediction { rollout: 7, ..house.prediction(Duration::ZERO) });
    let plain =
        house.id(&Prediction { rollout: prediction::rollout("plain"), ..house.prediction(Duration::ZERO) });
    let old = house.id(&house.prediction(Duration::from_secs(4 * 3600)));
    let late = house.id(&house.prediction(Duration::from_secs(700)));
    let number = Value::Number;
    let word = |word: &str| Value::Label(word.to_owned());
    for (id, name, value, cause, code, told) in [
        ("nonsense", "approved", number(1.0), "malformed", Code::INVALID_ARGUMENT, "no prediction id"),
        (&altered, "approved", number(1.0), "altered", Code::PERMISSION_DENIED, "forged or altered"),
        (&foreign, "approved", number(1.0), "foreign", Code::UNAUTHENTICATED, "another installation"),
        (&old, "approved", number(1.0), "expired", Code::FAILED_PRECONDITION, "has expired"),
        (&other, "approved", number(1.0), "model", Code::NOT_FOUND, "not in this sidecar's"),
        (&plain, "approved", number(1.0), "name", Code::NOT_FOUND, "it declares none"),
        (&id, "aproved", number(1.0), "name", Code::NOT_FOUND, "it declares approved, amount, stars"),
        (&id, "approved", number(f64::NAN), "value", Code::OUT_OF_RANGE, "NaN is no finite number"),
        (&id, "approved", number(f64::INFINITY), "value", Code::OUT_OF_RANGE, "inf is no finite number"),
        (&id, "approved", number(0.5), "value", Code::OUT_OF_RANGE, "0.5 is neither 0 nor 1"),
        (&id, "stars", number(6.0), "value", Code::OUT_OF_RANGE, "its kind is bounded: 1 to 5"),
        (&id, "stars", word("five"), "value", Code::OUT_OF_RANGE, "\"five\" is a word"),
        (&id, "word", number(1.0), "value", Code::OUT_OF_RANGE, "a label is a word"),
        (&id, "word", word(""), "value", Code::OUT_OF_RANGE, "is empty"),
        (&id, "amount", number(1e101), "value", Code::OUT_OF_RANGE, "beyond 1e100"),
        (&id, "amount", number(1.0), "anonymous", Code::INVALID_ARGUMENT, "needs an `id`"),
        (&late, "stars", number(1.0), "late", Code::FAILED_PRECONDITION, "its window is 600 s"),
    ] {
        let cause = Refusal::CAUSES.iter().position(|known| *known == cause).unwrap();
        let before = house.telemetry.feedback().refused(cause);
        let refusal = house.intake.door(0).report(&report(id, name, value), None).unwrap_err();
        assert_eq!((refusal.cause(), refusal.code()), (cause, code), "{refusal}");
        assert!(refusal.to_string().contains(told), "{refusal}");
        assert_eq!(house.telemetry.feedback().refused(cause), before + 1, "{refusal}");
    }
    let missing = Report { value: None, ..report(&id, "approved", number(1.0)) };
    assert_eq!(house.intake.door(0).report(&missing, None).unwrap_err().code(), Code::OUT_OF_RANGE);
    assert_eq!(house.intake.drain(), Drained::default());
    assert_eq!(house.report(&id, "approved", 1.0).unwrap().taken, Taken::First, "none of them counted");
}

#[test]
fn what_was_left_to_no_chance_is_taken_but_no_evidence() {
    let house = House::new();
    let prediction = house.prediction(Duration::ZERO);
    for (changed, evidence) in [
        (Prediction { odds: Odds::NONE, reason: Reason::Forced, ..prediction }, Evidence::Certain),
        (Prediction { revision: prediction.revision ^ 1, ..prediction }, Evidence::Revision),
    ] {
        let id = house.id(&Prediction { uuid: Uuid::now_v7(), ..changed });
        assert_eq!(house.report(&id, "approved", 1.0).unwrap().evidence, evidence);
    }
    let word = report(&house.fresh(), "word", Value::Label("cat".to_owned()));
    let receipt = house.intake.door(0).report(&word, None).unwrap();
    assert_eq!(receipt, Receipt { taken: Taken::First, evidence: Evidence::Kind, value: None });
    assert_eq!(house.gained(), []);
}

#[test]
fn each_way_in_has_its_own_rate() {
    let house = House::new();
    let send = |source: usize| {
        let report = report(&house.fresh(), "slow", Value::Number(1.0));
        house.intake.door(source).report(&report, None)
    };
    let refused = (0..20).filter_map(|_| send(0).err()).collect::<Vec<_>>();
    assert!(!refused.is_empty() && refused.iter().all(|refusal| refusal.code() == Code::RESOURCE_EXHAUSTED));
    assert!(refused[0].to_string().contains("more than 2 reports a second"), "{}", refused[0]);
    assert!(send(1).is_ok(), "the admin port's is another");
}

#[test]
fn a_summed_report_is_known_by_its_id_or_its_time() {
    let house = House::new();
    let prediction = house.fresh();
    let with = |id: &str, at: Option<u64>| {
        let report = Report { id: id.to_owned(), at, ..report(&prediction, "amount", Value::Number(2.0)) };
        let receipt = house.intake.door(0).report(&report, None).unwrap();
        (receipt.taken, receipt.value.unwrap())
    };
    assert_eq!(with("a", None), (Taken::First, 2.0));
    assert_eq!(with("a", None), (Taken::Repeated, 2.0));
    assert_eq!(with("b", None), (Taken::Joined, 4.0));
    assert_eq!(with("", Some(5)), (Taken::Joined, 6.0));
    assert_eq!(with("", Some(5)), (Taken::Repeated, 6.0));
    assert_eq!(with("a", Some(5)), (Taken::Repeated, 6.0));
}

#[test]
fn a_prediction_without_a_report_counts_when_its_window_has_closed() {
    let house = House::new();
    let door = house.intake.door(0);
    for _ in 0..10 {
        door.expose(&house.prediction(Duration::ZERO));
    }
    door.expose(&Prediction { revision: 1, ..house.prediction(Duration::ZERO) });
    door.expose(&Prediction { odds: Odds::NONE, ..house.prediction(Duration::ZERO) });
    assert_eq!(house.gained(), []);
    let gained = house.intake.drain_at(now() + Duration::from_secs(3 * 3600)).gains;
    let [gain] = &gained[..] else { panic!("{gained:?}") };
    assert_eq!((&*gain.feedback, gain.variants[1].candidate.n), ("kept", 10));
}

#[test]
fn after_a_restart_nothing_counts_twice() {
    let (house, next) = (House::new(), House::new());
    let ids: Vec<String> = (0..20).map(|_| house.fresh()).collect();
    ids.iter().for_each(|id| assert_eq!(house.report(id, "approved", 1.0).unwrap().taken, Taken::First));
    let drained = house.intake.drain();
    assert_eq!(drained.kept.len(), 20);
    for kept in &drained.kept {
        assert!(u64::from(kept.expires) * 3600 > now().as_secs() + 3600, "{kept:?}");
        next.intake.restore(&kept.key, &kept.value);
    }
    ids.iter().for_each(|id| assert_eq!(next.report(id, "approved", 1.0).unwrap().taken, Taken::Unchanged));
    assert_eq!(next.gained(), []);
}

#[test]
fn a_changed_file_keeps_what_is_known_and_ends_the_evidence_of_the_old_rollout() {
    let house = House::new();
    let (before, after) = (house.fresh(), house.fresh());
    house.report(&before, "approved", 1.0).unwrap();
    let changed = FILE.replace("50%, v2: 50%", "90%, v2: 10%");
    house.config.send_replace(config(&changed));
    assert_eq!(house.report(&before, "approved", 1.0).unwrap().taken, Taken::Unchanged);
    assert_eq!(house.report(&after, "approved", 1.0).unwrap().evidence, Evidence::Revision);
    assert_eq!(house.gained(), []);
    house.config.send_replace(config(&changed.replace("window: 1h}", "window: 2h}")));
    assert_eq!(house.report(&before, "approved", 1.0).unwrap().taken, Taken::First, "another feedback now");
}

#[test]
fn reports_of_many_threads_all_count() {
    let house = House::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let report = report(&house.fresh(), "approved", Value::Number(1.0));
                    house.intake.door(1).report(&report, None).unwrap();
                }
            });
        }
    });
    assert_eq!(house.gained()[0].variants[1].candidate.n, 2000);
}
#[test]
fn a_book_counts_and_refuses_as_the_intake_does() {
    let house = House::new();
    let mut book = Book::new(house.config.borrow().model("fraud").unwrap());
    for (number, value) in [(1, 1.0), (2, 0.0), (3, 1.0), (7200, 1.0), (4, 0.5)] {
        let prediction = house.prediction(Duration::from_secs(number));
        let id = house.id(&prediction);
        let told = report(&id, "approved", Value::Number(value));
        let live = house.report(&id, "approved", value).map_err(|refused| refused.cause());
        assert_eq!(book.take(&prediction, &told, now()).map_err(|refused| refused.cause()), live);
    }
    let gained = house.gained();
    assert_eq!((gained.len(), gained[0].variants[1].candidate.n), (1, 3));
    assert_eq!(book.drain(now()).gains, gained);
}

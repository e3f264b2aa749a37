use std::path::Path;

use super::*;
use crate::config::Environment;
use crate::feedback::Intake;
use crate::keys::Keys;
use crate::strategy::{Split, Standing};
use crate::upstream::readiness::Target;
use crate::verdict::{Action, State as At};

const LONG: Duration = Duration::from_secs(20);

/// A model `m` with a canary from v1 to v2, and whatever is said beside.
fn config(candidate: &str, strategy: &str, beside: &str) -> Arc<Config> {
    let text = format!(
        "default: m\nmodels:\n  m:\n    variants:\n      v1: {{endpoint: \"http://127.0.0.1:1\", version: \"1\"}}\n      \
         v2: {{endpoint: \"http://127.0.0.1:2\", version: \"{candidate}\"}}\n    unit: [metadata:x-user]\n    \
         strategy: {strategy}\n{beside}"
    );
    match crate::config::read("test.yaml", &text, &Environment::default()) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

const CANARY: &str =
    "{kind: canary, baseline: v1, candidate: v2, salt: s, steps: [{share: 5%}, {share: 50%}]}";
const OTHER: &str =
    "{kind: canary, baseline: v1, candidate: v2, salt: s, steps: [{share: 6%}, {share: 50%}]}";

struct House {
    rollouts: Arc<Rollouts>,
    board: Arc<Board>,
}

/// Where feedback would come in.
fn intake(config: &Arc<Config>) -> Arc<Intake> {
    let keys = Keys::parse(&format!("k {}", "1".repeat(64)), Path::new("keys")).unwrap();
    let environment = crate::telemetry::environment::Environment::read(|_| None).unwrap();
    let workers = std::num::NonZeroUsize::MIN;
    let started = crate::telemetry::start(&config.telemetry, environment, workers, Arc::default()).unwrap();
    let configs = watch::channel(Arc::clone(config)).1;
    Intake::new(Arc::new(keys), configs, started.telemetry.feedback(), 1)
}

impl House {
    fn new(config: &Arc<Config>, directory: Option<&Path>) -> Self {
        let state = directory.map_or_else(State::memory, |directory| State::start(directory).unwrap());
        let board = Arc::new(Board::default());
        let ground = Ground {
            board: Arc::clone(&board),
            unit_key: [7; 32],
            shards: vec![Arc::default(); 2],
            intake: intake(config),
            warmer: crate::warm::Warmer::new().0,
            log: None,
            judges: Arc::default(),
            drifts: Arc::default(),
            fleet: None,
        };
        let rollouts = Arc::new(Rollouts::new(config, state, ground));
        let house = House { rollouts, board };
        house.all_ready(config);
        house
    }

    fn all_ready(&self, config: &Config) {
        for (_, _, target) in Target::all(config) {
            self.board.get(&target).set(true);
        }
    }

    async fn look(&self) {
        let live = self.rollouts.find("m").unwrap();
        self.rollouts.look(&live, live::Depth::All).await;
    }

    async fn command(&self, command: Command) -> Result<Done, Refusal> {
        self.rollouts
            .command("m", command, Actor::Operator { name: "ann".to_owned(), reason: String::new() })
            .await
    }

    fn standing(&self) -> Standing {
        self.rollouts.find("m").unwrap().standing()
    }

    fn state(&self) -> At {
        self.rollouts.report("m").unwrap().report.state
    }

    fn actions(&self) -> Vec<Action> {
        self.rollouts.audit(Some("m"), 99).iter().rev().map(|record| record.change.action).collect()
    }

    /// Counts calls of the candidate as a worker does.
    fn serve(&self, calls: usize) {
        let live = self.rollouts.find("m").unwrap();
        live.view().with(|snapshot| {
            let epoch = snapshot.epoch.as_ref().unwrap();
            for _ in 0..calls {
                let counted = epoch.begin(1, 1, None, Duration::ZERO).unwrap();
                counted.end(crate::evidence::epoch::How::Well, None, Duration::ZERO);
            }
        });
    }

    fn candidate_calls(&self) -> u64 {
        self.rollouts.report("m").unwrap().report.calls[1]
    }
}

fn only(variant: usize) -> Split {
    Split::Only(variant)
}

#[tokio::test]
async fn an_unrelated_change_of_the_file_leaves_a_rollout_as_it_is() {
    let before = config("2", CANARY, "");
    let house = House::new(&before, None);
    house.look().await;
    house.serve(40);
    house.look().await;
    let standing = house.standing();
    let view = house.rollouts.live(&before.models[0]).view();
    let more = "    default_deadline: 3s\n  other: {variants: {w1: {endpoint: \"http://127.0.0.1:3\"}}}\n";
    let after = config("2", CANARY, more);
    assert_ne!(before.revision, after.revision);
    house.rollouts.take(&after);
    assert_eq!((house.standing(), house.candidate_calls()), (standing, 40));
    assert_eq!(house.actions(), [Action::Started, Action::Began]);
    house.command(Command::Rollback).await.unwrap();
    assert_eq!(
        view.with(|seen| seen.standing.split),
        only(0),
        "a worker of the generation before sees it too"
    );
}

#[tokio::test]
async fn another_rollout_in_the_file_begins_anew_in_an_epoch_of_its_own() {
    let house = House::new(&config("2", CANARY, ""), None);
    house.look().await;
    let before = house.standing();
    house.rollouts.take(&config("2", OTHER, ""));
    let after = house.standing();
    assert_eq!((house.state(), house.candidate_calls()), (At::Waiting, 0));
    assert!(after.epoch > before.epoch, "{before:?} {after:?}");
    assert_eq!(house.actions(), [Action::Started, Action::Began, Action::Started]);
}

#[tokio::test]
async fn a_build_that_was_rolled_back_gets_nothing_until_a_person_lets_it() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&config("2", CANARY, ""), Some(directory.path()));
    house.look().await;
    let done = house.command(Command::Rollback).await.unwrap();
    assert_eq!(done.kept, Kept::Directory);
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::RolledBack, only(0)));
    // Other steps for the same build.
    house.rollouts.take(&config("2", OTHER, ""));
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::RolledBack, only(0)));
    assert!(house.rollouts.report("m").unwrap().report.waits_for.contains("2 at 127.0.0.1:2, audit record"));
    // Another process.
    house.rollouts.close(LONG).await;
    let house = House::new(&config("2", CANARY, ""), Some(directory.path()));
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::RolledBack, only(0)));
    // Another build is free.
    house.rollouts.take(&config("3", CANARY, ""));
    house.look().await;
    assert_eq!(house.state(), At::Running);
    // A person lets the first one.
    house.rollouts.take(&config("2", CANARY, ""));
    assert_eq!(house.state(), At::RolledBack);
    let before = house.standing().epoch;
    house.command(Command::Resume).await.unwrap();
    house.look().await;
    assert_eq!(house.state(), At::Running);
    assert!(house.standing().epoch > before);
    house.rollouts.close(LONG).await;
    let house = House::new(&config("2", OTHER, ""), Some(directory.path()));
    house.look().await;
    assert_eq!(house.state(), At::Running, "it stays free");
}

#[tokio::test]
async fn another_process_goes_on_where_this_one_was() {
    let directory = tempfile::tempdir().unwrap();
    let config = config("2", CANARY, "");
    let house = House::new(&config, Some(directory.path()));
    house.look().await;
    house.serve(40);
    house.rollouts.flush();
    let (standing, audit) = (house.standing(), house.rollouts.audit(None, 99));
    house.rollouts.close(LONG).await;
    let house = House::new(&config, Some(directory.path()));
    assert_eq!((house.standing(), house.candidate_calls()), (standing, 40));
    assert_eq!(house.rollouts.audit(None, 99), audit);
    house.serve(2);
    house.look().await;
    assert_eq!(house.candidate_calls(), 42);
    house.command(Command::Pin(1)).await.unwrap();
    assert_eq!(house.rollouts.audit(None, 1)[0].sequence, audit[0].sequence + 1);
}

#[tokio::test]
async fn while_nobody_knows_where_it_stood_the_baseline_gets_everything() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let config = config("2", CANARY, "");
    let first = House::new(&config, Some(&directory));
    first.look().await;
    first.command(Command::Promote).await.unwrap();
    // The process before still has it.
    let house = House::new(&config, Some(&directory));
    let keeper = keeper::run(Arc::clone(&house.rollouts));
    let test = async {
        assert_eq!((house.state(), house.standing()), (At::Waiting, Standing::CONFIGURED));
        let waits = house.rollouts.report("m").unwrap();
        assert!(waits.report.waits_for.contains("another process has it open"), "{waits:?}");
        assert!(matches!(waits.kept, Kept::Failing(_)));
        assert!(house.command(Command::Promote).await.is_err());
        first.rollouts.close(LONG).await;
        let mut changes = house.rollouts.changes();
        while house.state() != At::Promoted {
            changes.changed().await.unwrap();
        }
        assert_eq!(house.standing().split, only(1));
    };
    tokio::select! {
        () = keeper => {}
        done = tokio::time::timeout(LONG, test) => done.unwrap(),
    }
}

#[tokio::test]
async fn a_model_that_comes_back_goes_on() {
    let house = House::new(&config("2", CANARY, ""), None);
    house.command(Command::Promote).await.unwrap();
    let text = "models: {n: {variants: {v1: {endpoint: \"http://127.0.0.1:1\"}}}}";
    let without = crate::config::read("test.yaml", text, &Environment::default()).unwrap().config;
    house.rollouts.take(&without);
    assert!(house.rollouts.report("m").is_none());
    assert_eq!(house.rollouts.list().len(), 1);
    house.rollouts.take(&config("2", CANARY, ""));
    assert_eq!((house.state(), house.standing().split), (At::Promoted, only(1)));
}

#[tokio::test]
async fn indices_that_mean_other_variants_are_not_gone_on_with() {
    let house = House::new(&config("2", CANARY, ""), None);
    house.command(Command::Promote).await.unwrap();
    let known = house.rollouts.find("m").unwrap();
    let mut model = (*known.inner().model).clone();
    model.variants.reverse();
    assert!(!known.inner().fits(&model));
    model.variants.reverse();
    model.variants.pop();
    assert!(known.inner().fits(&model));
}

#[tokio::test]
async fn a_candidate_that_is_not_ready_gets_nothing_and_cannot_be_promoted() {
    let config = config("2", CANARY, "");
    let house = House::new(&config, None);
    for (_, variant, target) in Target::all(&config) {
        house.board.get(&target).set(*variant.name == *"v1");
    }
    house.look().await;
    assert_eq!(house.state(), At::Waiting);
    let refused = house.command(Command::Promote).await.unwrap_err().to_string();
    assert!(refused.contains("variant v2 is not ready"), "{refused}");
    house.all_ready(&config);
    house.look().await;
    assert_eq!(house.state(), At::Running);
}

#[tokio::test]
async fn what_decides_nothing_can_be_pinned_and_let_go() {
    let ab = "{kind: ab, baseline: v1, weights: {v1: 70%, v2: 30%}}";
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&config("2", ab, ""), Some(directory.path()));
    assert!(house.actions().is_empty(), "nothing happened yet");
    assert_eq!(house.rollouts.report("m").unwrap().report.shares, [0.7, 0.3]);
    let refused = house.command(Command::Promote).await.unwrap_err().to_string();
    assert_eq!(refused, "promote has no meaning for kind: ab");
    assert!(house.command(Command::Resume).await.is_err());
    house.command(Command::Pin(1)).await.unwrap();
    let pinned = house.standing();
    assert_eq!((house.state(), pinned.split), (At::Pinned, only(1)));
    house.rollouts.close(LONG).await;
    let house = House::new(&config("2", ab, ""), Some(directory.path()));
    assert_eq!(house.standing(), pinned);
    house.command(Command::Resume).await.unwrap();
    assert_eq!((house.state(), house.standing().split), (At::Steady, Split::Configured));
    assert!(house.standing().epoch > pinned.epoch);
}

const COMPARED: &str = "{kind: ab, baseline: v1, weights: {v1: 50%, v2: 50%}, metrics: {errors: {relative: 10%}}, \
                        guards: {errors: {absolute: 1%}, latency: off}}";

#[tokio::test]
async fn a_variant_that_a_comparison_took_out_stays_out_under_other_weights() {
    let first = config("2", COMPARED, "");
    let house = House::new(&first, None);
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::Running, Split::Configured));
    let live = house.rollouts.find("m").unwrap();
    live.view().with(|snapshot| {
        let epoch = snapshot.epoch_of(None).unwrap();
        for (variant, how) in
            [(0, crate::evidence::epoch::How::Well), (1, crate::evidence::epoch::How::Error)]
        {
            for unit in 0..200 {
                let counted =
                    epoch.begin(0, variant, Some(unit), Duration::ZERO).unwrap().exposed(|| unit as u8);
                counted.end(how, None, Duration::ZERO);
            }
        }
    });
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::RolledBack, only(0)));
    assert!(house.rollouts.report("m").unwrap().variants[1].blocked);
    let other = COMPARED.replace("50%", "20%").replacen("20%", "80%", 1);
    house.rollouts.take(&config("2", &other, ""));
    assert_eq!((house.state(), house.standing().split), (At::RolledBack, only(0)));
    let record = &house.rollouts.audit(Some("m"), 1)[0];
    assert!(record.change.why.contains("the candidate's build was rolled back before"), "{record:?}");
    house.command(Command::Resume).await.unwrap();
    house.look().await;
    assert_eq!((house.state(), house.standing().split), (At::Running, Split::Configured));
    assert!(!house.rollouts.report("m").unwrap().variants[1].blocked);
}

#[tokio::test]
async fn an_explanation_is_what_assignment_does() {
    let config = config("2", CANARY, "");
    let house = House::new(&config, None);
    house.look().await;
    let candidate = (0..1000).map(|number| format!("u{number}")).find(|unit| {
        let why = house.rollouts.explain("m", &Question::Unit(unit.clone())).unwrap();
        why.variant.as_deref() == Some("v2")
    });
    let candidate = candidate.unwrap();
    let why = house.rollouts.explain("m", &Question::Unit(candidate.clone())).unwrap();
    assert!(why.place.unwrap() < 5_000, "{why:?}");
    assert_eq!(why.intervals, [("v2".into(), 0..5_000), ("v1".into(), 5_000..100_000)]);
    assert_eq!((&*why.reason, why.propensity), ("split", 0.05));
    let mut metadata = http::HeaderMap::new();
    metadata.insert("x-user", candidate.parse().unwrap());
    let call = Question::Call { metadata, parameters: Vec::new() };
    assert_eq!(house.rollouts.explain("m", &call).unwrap(), why);
    let nobody = Question::Call { metadata: http::HeaderMap::new(), parameters: Vec::new() };
    let drawn = house.rollouts.explain("m", &nobody).unwrap();
    assert_eq!((drawn.unit, drawn.place, drawn.variant, &*drawn.reason), (None, None, None, "draw"));
    house.command(Command::Promote).await.unwrap();
    let decided = house.rollouts.explain("m", &Question::Unit("anybody".to_owned())).unwrap();
    assert_eq!((decided.variant.as_deref(), &*decided.reason, decided.place), (Some("v2"), "decided", None));
    assert!(house.rollouts.explain("m", &Question::Unit("a\nb".to_owned())).is_err());
}

#[tokio::test]
async fn what_is_exported_reads_back_and_says_what_is_in_force() {
    let before = config("2", CANARY, "");
    let house = House::new(&before, None);
    let read = |house: &House| {
        let text = format!("models:\n{}", house.rollouts.export("m").unwrap());
        match crate::config::read("exported.yaml", &text, &Environment::default()) {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{errors}\n{text}"),
        }
    };
    assert_eq!(read(&house).models[0].revision, before.models[0].revision, "nothing was decided yet");
    house.command(Command::Promote).await.unwrap();
    let differs = house.rollouts.report("m").unwrap().differs.unwrap();
    assert!(differs.contains("`kind: canary`, but v2 gets everything"), "{differs}");
    let after = read(&house);
    assert_eq!(&*after.models[0].variants[0].name, "v2");
    assert_eq!(after.models[0].strategy, crate::config::Strategy::pinned(0));
    house.rollouts.take(&after);
    assert_eq!(house.rollouts.report("m").unwrap().differs, None);
}

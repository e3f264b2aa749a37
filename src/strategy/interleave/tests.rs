use std::sync::Arc;
use std::time::Duration;

use super::Progress;
use crate::config::{self, Interleave, OnFail, OnPass, Strategy, Weigh};
use crate::evidence::{Total, Votes};
use crate::stats::overlap::Sums;
use crate::strategy::{Out, Split};
use crate::verdict::{Action, Command, Refused, State, Verdict};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + seconds)
}

fn ready(_: usize) -> Result<(), Refused> {
    Ok(())
}

/// Rankers a, which is the baseline, b and c; `keys`: what is added to the strategy.
fn rankers(keys: &str) -> Interleave {
    let text = format!(
        "models:
  m:
    variants:
      a: {{endpoint: 'http://127.0.0.1:1', version: '1'}}
      b: {{endpoint: 'http://127.0.0.1:2', version: '2'}}
      c: {{endpoint: 'http://127.0.0.1:3', version: '3'}}
    unit: [metadata:x-user]
    strategy: {{kind: interleave, baseline: a, ranking: {{items: items}}, credit: {{feedback: clicks}}, {keys}}}
    feedback: {{clicks: {{kind: clicks}}}}
state: /nowhere
"
    );
    let read = config::read("file", &text, &config::Environment::default());
    let config = read.unwrap_or_else(|errors| panic!("{errors}")).config;
    let Strategy::Interleave(found) = &config.model("m").unwrap().strategy else { panic!() };
    (**found).clone()
}

fn votes(wins: u64, losses: u64) -> Votes {
    Votes { wins, losses, ties: 3, ..Votes::default() }
}

fn begun(config: &Interleave) -> Progress {
    let mut progress = Progress::begin(config, Out::NONE, seconds(0));
    let change = progress.look(config, &ready, seconds(1)).unwrap();
    assert_eq!((change.action, change.to), (Action::Began, State::Running));
    progress
}

#[test]
fn it_begins_once_every_ranker_is_ready() {
    let config = rankers("");
    let mut progress = Progress::begin(&config, Out::NONE, seconds(0));
    let without_c = |variant| match variant {
        2 => Err(Refused::NotReady { variant: "c".into(), why: "it is down".into() }),
        _ => Ok(()),
    };
    assert_eq!(progress.look(&config, &without_c, seconds(1)), None);
    assert_eq!(progress.report(&config, 3, seconds(1)).waits_for, "every ranker to be ready");
    assert!(progress.look(&config, &ready, seconds(2)).is_some());
    assert_eq!(progress.report(&config, 3, seconds(2)).shares, [1.0 / 3.0; 3]);
}

#[test]
fn a_ranker_that_is_preferred_waits_for_a_person_or_answers_alone() {
    let config = rankers("");
    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(9, 1), votes(6, 6)]);
    assert_eq!(progress.look(&config, &ready, seconds(5)), None, "too few sessions");
    progress.vote(&config, &[Votes::default(), votes(51, 9), votes(6, 6)]);
    let change = progress.look(&config, &ready, seconds(6)).unwrap();
    assert_eq!(
        (change.action, change.to, &*change.variants),
        (Action::Passed, State::Passed, &["b".into()][..])
    );
    assert!(
        change.why.contains("60 sessions for it and 10 for the baseline, 6 for neither"),
        "{}",
        change.why
    );
    assert_eq!(progress.standing().split, Split::Configured, "until a person says so");
    assert_eq!(progress.report(&config, 3, seconds(6)).verdict, Verdict::Pass);
    let epoch = progress.standing().epoch;
    let done = progress.command(&config, &Command::Promote, &ready, seconds(7)).unwrap();
    assert_eq!((done.to, progress.standing().split), (State::Promoted, Split::Only(1)));
    assert!(progress.standing().epoch > epoch);

    let config = Interleave { on_pass: OnPass::Promote, ..config };
    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(60, 10), votes(90, 10)]);
    let change = progress.look(&config, &ready, seconds(6)).unwrap();
    assert_eq!((change.to, &*change.variants), (State::Promoted, &["c".into()][..]), "the stronger of two");
    assert_eq!(progress.standing().split, Split::Only(2));
    assert_eq!(progress.look(&config, &ready, seconds(7)), None);
}

#[test]
fn a_ranker_that_the_baseline_is_preferred_to_is_not_asked_any_more() {
    let config = rankers("");
    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(10, 60), votes(6, 6)]);
    let change = progress.look(&config, &ready, seconds(5)).unwrap();
    assert_eq!((change.action, change.to), (Action::RolledBack, State::Running));
    assert_eq!(progress.standing().split, Split::Without(Out::NONE.with(1)));
    assert_eq!(progress.report(&config, 3, seconds(5)).shares, [0.5, 0.0, 0.5]);
    progress.vote(&config, &[Votes::default(), Votes::default(), votes(4, 94)]);
    let change = progress.look(&config, &ready, seconds(6)).unwrap();
    assert_eq!((change.to, progress.standing().split), (State::RolledBack, Split::Only(0)));

    let config = Interleave { on_fail: OnFail::Hold, ..config };
    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(10, 60), votes(6, 6)]);
    assert_eq!(progress.look(&config, &ready, seconds(5)).unwrap().to, State::Held);
    assert_eq!(progress.look(&config, &ready, seconds(6)), None, "it is held once");
    let refused = progress.command(&config, &Command::Resume, &ready, seconds(7)).unwrap_err();
    assert!(refused.to_string().contains("the baseline is preferred"), "{refused}");
}

#[test]
fn it_is_held_where_nobody_is_preferred_or_its_time_is_over() {
    let config = rankers("least: 10%, max_duration: 1h");
    let mut progress = begun(&config);
    assert_eq!(progress.look(&config, &ready, seconds(3_600)), None);
    progress.vote(&config, &[Votes::default(), votes(700, 700), votes(700, 690)]);
    assert_eq!(progress.report(&config, 3, seconds(3_600)).verdict, Verdict::Equivalent);
    assert_eq!(progress.look(&config, &ready, seconds(3_600)).unwrap().to, State::Held);

    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(70, 71), votes(70, 69)]);
    let change = progress.look(&config, &ready, seconds(3_601)).unwrap();
    assert!(change.to == State::Held && change.why.contains("no preference within 1h"), "{change:?}");
    assert_eq!(progress.report(&config, 3, seconds(3_602)).verdict, Verdict::Inconclusive);
    progress.command(&config, &Command::Resume, &ready, seconds(4_000)).unwrap();
    assert_eq!(progress.look(&config, &ready, seconds(4_001)), None, "its time begins anew");
}

#[test]
fn a_person_pins_one_and_promotes_nobody_who_has_not_won() {
    let config = rankers("");
    let mut progress = begun(&config);
    let refused = progress.command(&config, &Command::Promote, &ready, seconds(5)).unwrap_err();
    assert!(refused.to_string().contains("no ranker has won yet"), "{refused}");
    progress.command(&config, &Command::Pin(2), &ready, seconds(6)).unwrap();
    assert_eq!((progress.state(), progress.standing().split), (State::Pinned, Split::Only(2)));
    progress.vote(&config, &[Votes::default(), votes(60, 10), votes(6, 6)]);
    assert_eq!(progress.look(&config, &ready, seconds(7)), None, "it is where a person put it");
    progress.command(&config, &Command::Resume, &ready, seconds(8)).unwrap();
    assert_eq!(progress.look(&config, &ready, seconds(9)).unwrap().to, State::Passed);
    progress.command(&config, &Command::Rollback, &ready, seconds(10)).unwrap();
    assert_eq!(progress.standing().split, Split::Only(0));
}

#[test]
fn findings_say_the_share_of_each_and_what_is_missing() {
    let config = rankers("");
    let mut progress = begun(&config);
    progress.vote(&config, &[Votes::default(), votes(30, 20), Votes::default()]);
    let findings = progress.report(&config, 3, seconds(5)).findings;
    let [b, c] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((&*b.guard, &*b.variant, b.candidate.n), ("preference clicks", "b", 50));
    assert_eq!((b.baseline.value, b.candidate.value), (Some(0.4), Some(0.6)));
    let harm = b.harm.unwrap();
    assert!(harm.low < harm.middle && (harm.middle + 0.2).abs() < 1e-12 && harm.high > 0.0, "{harm:?}");
    assert!(b.missing > 0 && c.missing > b.missing - 50, "{findings:?}");
    assert_eq!((c.harm, c.candidate.value), (None, None));
    let again: Progress = serde_json::from_str(&serde_json::to_string(&progress).unwrap()).unwrap();
    assert_eq!(again, progress);
}

#[test]
fn weighed_rewards_need_many_units_and_find_who_earns_more() {
    let mut config = rankers("");
    config.credit.weigh = Weigh::Rewards;
    let mut progress = begun(&config);
    let earned = |units: u16, more: f64| {
        let mut sums = Sums::default();
        for unit in 0..units {
            for turn in 0..4_u8 {
                let difference = more + f64::from(turn % 2) - 0.5;
                sums.add_sums(difference, difference * difference, 1.0);
                sums.add_to_bucket((unit % 256) as u8, difference);
            }
        }
        let n = u64::from(units) * 4;
        let total = |sum: f64| Total { n, sum };
        let (baseline, candidate) = (total(n as f64), total(n as f64 * (1.0 + more)));
        Votes { wins: n / 2, losses: n / 2, ties: 0, sums, baseline, candidate }
    };
    progress.vote(&config, &[Votes::default(), earned(20, 1.0), Votes::default()]);
    assert_eq!(progress.look(&config, &ready, seconds(5)), None, "of few units nothing is said");
    progress.vote(&config, &[Votes::default(), earned(250, 1.0), Votes::default()]);
    let change = progress.look(&config, &ready, seconds(6)).unwrap();
    assert_eq!((change.to, &*change.variants), (State::Passed, &["b".into()][..]), "{change:?}");
    assert_eq!(change.findings[0].candidate.value, Some(2.0));
    let none: Arc<str> = Arc::from("c");
    assert_eq!((&change.findings[1].variant, change.findings[1].harm), (&none, None));
}

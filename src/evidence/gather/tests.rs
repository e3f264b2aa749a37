use std::time::Duration;

use super::super::epoch::{Counted, How, counts};
use super::*;
use crate::assignment::{Assignment, Reason};

const MS: Duration = Duration::from_millis(1);
const START: Duration = Duration::from_secs(600);

fn epoch() -> (Arc<Epoch>, Gatherer) {
    let epoch = Arc::new(Epoch::new(3, 2, 2, 0));
    (Arc::clone(&epoch), Gatherer::new(epoch, 0))
}

fn call(epoch: &Arc<Epoch>, worker: usize, variant: usize, unit: Option<u64>) -> Counted {
    epoch.begin(worker, variant, unit, START).unwrap()
}

#[test]
fn what_workers_counted_is_summed_and_told_once() {
    let (epoch, mut gatherer) = epoch();
    assert_eq!(gatherer.all(START), None);
    for worker in 0..2 {
        call(&epoch, worker, 0, None).end(How::Well, Some(MS), START);
        assert!(call(&epoch, worker, 1, None).end(How::Error, Some(2 * MS), START), "urgent");
        assert!(!call(&epoch, worker, 0, None).end(How::Error, Some(MS), START), "the baseline's is not");
    }
    call(&epoch, 1, 1, None).end(How::Rejection, None, START);
    let gain = gatherer.all(START).unwrap();
    assert_eq!(gain.epoch, 3);
    assert_eq!((gain.arms[0].calls, gain.arms[0].errors, gain.arms[0].rejections), (4, 2, 0));
    assert_eq!((gain.arms[1].calls, gain.arms[1].errors, gain.arms[1].rejections), (3, 2, 1));
    assert_eq!(gain.arms[0].latency, [(bucket(MS), 4)]);
    assert_eq!(gain.arms[1].latency, [(bucket(2 * MS), 2)]);
    assert_eq!(gatherer.all(START), None);
}

#[test]
fn a_look_at_failures_loses_no_latency() {
    let (epoch, mut gatherer) = epoch();
    call(&epoch, 0, 1, None).end(How::Error, Some(MS), START);
    let gain = gatherer.failures().unwrap();
    assert_eq!((gain.arms[1].errors, gain.arms[1].latency.len()), (1, 0));
    let later = gatherer.all(START).unwrap();
    assert_eq!((later.arms[1].calls, &later.arms[1].latency[..]), (0, &[(bucket(MS), 1)][..]));
    assert_eq!(gatherer.all(START), None);
}

#[test]
fn a_unit_with_many_calls_is_one_failure_and_one_sample_a_minute() {
    let (epoch, mut gatherer) = epoch();
    for _ in 0..50 {
        call(&epoch, 0, 1, Some(9)).end(How::Error, Some(MS), START);
    }
    let arm = gatherer.all(START).unwrap().arms.remove(1);
    assert_eq!((arm.calls, arm.errors), (50, 1));
    assert_eq!(arm.latency, [(bucket(MS), 1)]);
    // A minute without any lies between, so it is no burst that goes on.
    let next = START + Duration::from_secs(120);
    epoch.begin(1, 1, Some(9), next).unwrap().end(How::Error, Some(MS), next);
    assert_eq!(gatherer.all(next).unwrap().arms[1].errors, 1);
}

#[test]
fn the_sample_is_the_call_that_began_first_not_the_one_that_ended_first() {
    let (epoch, mut gatherer) = epoch();
    let slow = call(&epoch, 0, 1, Some(9));
    call(&epoch, 0, 1, Some(9)).end(How::Well, Some(MS), START);
    slow.end(How::Well, Some(90 * MS), START);
    assert_eq!(gatherer.all(START).unwrap().arms[1].latency, [(bucket(90 * MS), 1)]);
}

#[test]
fn a_call_that_does_not_end_counts_once_as_long_as_it_was_waited_for() {
    let (epoch, mut gatherer) = epoch();
    for _ in 0..1000 {
        call(&epoch, 0, 0, None).end(How::Well, Some(400 * MS), START);
    }
    gatherer.all(START);
    let hung = call(&epoch, 0, 1, None);
    let hung_too = call(&epoch, 0, 0, None);
    assert_eq!(gatherer.all(START + Duration::from_secs(1)), None);
    let gain = gatherer.all(START + Duration::from_secs(2)).unwrap();
    for arm in &gain.arms {
        let [(place, 1)] = arm.latency[..] else { panic!("{:?}", arm.latency) };
        let length = upper_edge(place);
        assert!(length > Duration::from_millis(1590) && length < Duration::from_millis(1680), "{length:?}");
        assert_eq!(arm.calls, 0, "it has not ended");
    }
    hung.end(How::Error, Some(Duration::from_secs(3)), START + Duration::from_secs(3));
    drop(hung_too);
    let end = gatherer.all(START + Duration::from_secs(3)).unwrap();
    assert_eq!((end.arms[1].calls, end.arms[1].errors, end.arms[1].latency.len()), (1, 1, 0));
    assert_eq!(end.arms[0], ArmGain::default(), "what never ended was no call");
}

#[test]
fn more_calls_than_are_watched_are_counted_all_the_same() {
    let (epoch, mut gatherer) = epoch();
    let open: Vec<_> = (0..1000).map(|_| call(&epoch, 0, 1, None)).collect();
    assert_eq!(gatherer.all(START + 2 * UNKNOWN).unwrap().arms[1].latency[0].1, 256);
    for one in open {
        one.end(How::Well, Some(MS), START);
    }
    let arm = gatherer.all(START + 2 * UNKNOWN).unwrap().arms.remove(1);
    assert_eq!((arm.calls, &arm.latency[..]), (1000, &[(bucket(MS), 744)][..]));
}

#[test]
fn an_epoch_is_open_while_a_call_of_it_is_under_way() {
    let (epoch, gatherer) = epoch();
    let late = call(&epoch, 0, 1, None);
    drop(epoch);
    assert!(gatherer.is_open());
    drop(late);
    assert!(!gatherer.is_open());
}

#[test]
fn only_what_chance_gave_to_one_of_several_counts() {
    for reason in Reason::ALL {
        let given = |propensity| counts(&Assignment { variant: 0, reason, propensity });
        assert_eq!(given(0.5), matches!(reason, Reason::Split | Reason::Draw), "{reason:?}");
        assert!(!given(1.0) && !given(0.0));
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However calls and looks are mixed, what the looks add up to is what was counted.
        #[test]
        fn gains_add_up(steps in prop::collection::vec((0_usize..2, 0_usize..2, 1_u64..500, 0_u8..4), 1..200)) {
            let (epoch, mut gatherer) = epoch();
            let mut want = [0_u64; 2];
            let mut got = [(0_u64, 0_u64); 2];
            let mut look = |gain: Option<Gain>| {
                for (sum, arm) in got.iter_mut().zip(gain.into_iter().flat_map(|gain| gain.arms)) {
                    sum.0 += arm.calls;
                    sum.1 += arm.latency.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
                }
            };
            for (worker, variant, ms, kind) in steps {
                match kind {
                    0 => look(gatherer.failures()),
                    1 => look(gatherer.all(START)),
                    _ => {
                        want[variant] += 1;
                        let latency = Duration::from_millis(ms);
                        call(&epoch, worker, variant, None).end(How::Well, Some(latency), START);
                    }
                }
            }
            look(gatherer.all(START));
            prop_assert_eq!(got, want.map(|calls| (calls, calls)));
        }
    }
}

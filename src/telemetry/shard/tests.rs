use super::*;
use crate::telemetry::example::{attempt, outcome};

#[test]
fn a_bound_belongs_to_its_bucket() {
    assert_eq!(bucket(Duration::ZERO), 0);
    for (index, bound) in BOUNDS.iter().enumerate() {
        assert_eq!(bucket(*bound), index);
        assert_eq!(bucket(*bound + Duration::from_nanos(1)), index + 1);
    }
    assert!(BOUNDS.is_sorted());
}

#[test]
fn a_call_is_counted_once_everywhere() {
    let series = Series::default();
    let mut call = outcome();
    series.observe(&call);
    call.status = Code(99);
    call.blame = Blame::Upstream;
    series.observe(&call);
    series.observe_attempt(&attempt());
    assert_eq!(series.calls(Code::OK, Blame::Nobody), 1);
    assert_eq!(series.calls(Code(17), Blame::Upstream), 1, "unknown codes are one");
    assert_eq!(series.calls(Code::OK, Blame::Upstream), 0);
    assert_eq!(series.assigned(Reason::Split), 2);
    assert_eq!(series.attempts(Blame::Nobody), 1);
    assert_eq!(series.total.buckets()[bucket(Duration::from_millis(12))], 2);
    assert_eq!(series.total.sum(), Duration::from_millis(24));
    assert_eq!(series.upstream.sum(), Duration::from_millis(10));
    assert_eq!(series.own.sum(), Duration::from_micros(120));
    assert_eq!(series.request_bytes.get(), 600);
    assert_eq!(series.response_messages.get(), 2);
}

#[test]
fn a_call_that_sent_nothing_says_nothing_of_the_overhead() {
    let series = Series::default();
    let mut call = outcome();
    call.attempts.clear();
    series.observe(&call);
    assert_eq!(series.own.buckets().iter().sum::<u64>(), 0);
    assert_eq!(series.total.buckets().iter().sum::<u64>(), 1);
}

#[test]
fn a_call_is_in_flight_until_its_guard_goes() {
    let series = Arc::new(Series::default());
    let first = InFlight::new(Arc::clone(&series));
    let second = InFlight::new(Arc::clone(&series));
    assert_eq!(series.in_flight(), 2);
    drop(first);
    assert_eq!(series.in_flight(), 1);
    drop(second);
    assert_eq!(series.in_flight(), 0);
}

#[test]
fn a_series_is_the_same_for_life() {
    let shard = Shard::default();
    let first = shard.series(&Arc::from("m"), &Arc::from("v1"));
    let again = shard.series(&Arc::from("m"), &Arc::from("v1"));
    assert!(Arc::ptr_eq(&first, &again));
    let other = shard.series(&Arc::from("m"), &Arc::from("v2"));
    assert!(!Arc::ptr_eq(&first, &other));
    assert_eq!(shard.each().len(), 3, "and the one without names");
}

#[test]
fn there_are_no_more_than_the_limit() {
    let shard = Shard::default();
    for number in 0..SERIES_LIMIT + 100 {
        shard.series(&Arc::from(number.to_string()), &Arc::from("v"));
    }
    assert_eq!(shard.each().len(), SERIES_LIMIT + 1);
    let over = shard.series(&Arc::from("one more"), &Arc::from("v"));
    assert!(Arc::ptr_eq(&over, &shard.unrouted()));
    let known = shard.series(&Arc::from("0"), &Arc::from("v"));
    assert!(!Arc::ptr_eq(&known, &shard.unrouted()));
}

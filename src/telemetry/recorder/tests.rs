use super::*;
use crate::assignment::Reason;
use crate::fault::Code;
use crate::outcome::{Attempt, Fallback};
use crate::telemetry::example::{attempt, model, outcome};
use crate::telemetry::propagate::{Formats, Root, Sampler};

struct Bench {
    recorder: Recorder,
    shard: Arc<Shard>,
    queue: Arc<Queue>,
    rules: Arc<ArcSwap<Rules>>,
    counters: Arc<Counters>,
}

fn rules() -> Rules {
    let sampler = Sampler { parent_based: true, root: Root::Never };
    Rules {
        propagator: Propagator { formats: Formats::default(), sampler, recording: true },
        keep_errors: true,
        keep_slower_than: Some(Duration::from_millis(100)),
        keep_disagreements: true,
    }
}

fn bench(queue: usize) -> Bench {
    let shard = Arc::new(Shard::default());
    let queue = Arc::new(Queue::new(queue));
    let rules = Arc::new(ArcSwap::from_pointee(rules()));
    let counters = Arc::new(Counters::default());
    let pairs = Arc::new(Pairs::new(2));
    let recorder =
        Recorder::new(Arc::clone(&shard), (Arc::clone(&queue), pairs), &rules, Arc::clone(&counters));
    Bench { recorder, shard, queue, rules, counters }
}

fn unsampled() -> Outcome {
    let mut call = outcome();
    call.trace.sampled = false;
    call
}

#[test]
fn a_span_is_kept_for_a_reason_only() {
    let bench = bench(8);
    let kept = |call: Outcome| {
        bench.recorder.observe(call);
        bench.queue.pop().is_some()
    };
    assert!(kept(outcome()));
    assert!(!kept(unsampled()));
    // What its copies show is not known yet.
    assert!(kept(Outcome { copies: 1, ..unsampled() }));
    for (blame, expected) in [
        (Blame::Upstream, true),
        (Blame::Sidecar, true),
        (Blame::Client, false),
        (Blame::Rejection, false),
        (Blame::Nobody, false),
    ] {
        let mut call = unsampled();
        call.blame = blame;
        assert_eq!(kept(call), expected, "{blame:?}");
    }
    for (fallback, blame, expected) in [
        (Fallback::Answered, Blame::Nobody, true),
        (Fallback::Cancelled, Blame::Nobody, true),
        (Fallback::Failed, Blame::Rejection, false),
        (Fallback::Budget, Blame::Upstream, true),
    ] {
        let mut call = unsampled();
        (call.fallback, call.blame) = (Some(fallback), blame);
        assert_eq!(kept(call), expected, "{fallback:?}");
    }
    let mut slow = unsampled();
    slow.latency.total = Duration::from_millis(100);
    assert!(!kept(slow.clone()));
    slow.latency.total = Duration::from_millis(101);
    assert!(kept(slow));
}

#[test]
fn rules_may_change_under_way() {
    let bench = bench(8);
    let mut quiet = rules();
    quiet.propagator.recording = false;
    bench.rules.store(Arc::new(quiet));
    bench.recorder.observe(outcome());
    assert!(bench.queue.is_empty(), "nobody wants spans");
    bench.rules.store(Arc::new(rules()));
    bench.recorder.observe(outcome());
    assert_eq!(bench.queue.len(), 1);
}

#[test]
fn a_full_queue_costs_the_span_and_not_the_count() {
    let bench = bench(2);
    for _ in 0..5 {
        bench.recorder.observe(outcome());
    }
    assert_eq!(bench.counters.get(Counter::OutcomesDropped), 3);
    let series = bench.shard.series(&Arc::from("fraud"), &Arc::from("v2"));
    assert_eq!(series.calls(Code::OK, Blame::Nobody), 5);
}

#[test]
fn a_call_counts_for_the_assigned_and_an_attempt_for_its_own() {
    let bench = bench(8);
    let mut call = unsampled();
    let failed = Attempt { blame: Blame::Upstream, ..attempt() };
    let second = Attempt { variant: 0, ..attempt() };
    call.attempts = vec![failed, second];
    call.route.as_mut().unwrap().served = Some(0);
    call.fallback = Some(Fallback::Answered);
    bench.recorder.observe(call);
    let v1 = bench.shard.series(&Arc::from("fraud"), &Arc::from("v1"));
    let v2 = bench.shard.series(&Arc::from("fraud"), &Arc::from("v2"));
    assert_eq!((v1.calls(Code::OK, Blame::Nobody), v2.calls(Code::OK, Blame::Nobody)), (0, 1));
    assert_eq!((v1.attempts(Blame::Nobody), v2.attempts(Blame::Upstream)), (1, 1));
    assert_eq!((v1.assigned(Reason::Split), v2.assigned(Reason::Split)), (0, 1));
    assert_eq!((v1.fallbacks(Fallback::Answered), v2.fallbacks(Fallback::Answered)), (0, 1));
}

#[test]
fn what_was_never_routed_is_counted_too() {
    let bench = bench(8);
    let mut call = unsampled();
    call.route = None;
    call.attempts.clear();
    bench.recorder.observe(call);
    assert_eq!(bench.shard.unrouted().calls(Code::OK, Blame::Nobody), 1);
    let guard = bench.recorder.enter_unrouted();
    assert_eq!(bench.shard.unrouted().in_flight(), 1);
    drop(guard);
    assert_eq!(bench.shard.unrouted().in_flight(), 0);
}

#[test]
fn a_reload_keeps_the_counts_and_the_memory() {
    let bench = bench(8);
    for _ in 0..50 {
        let mut call = unsampled();
        call.route.as_mut().unwrap().model = model("fraud");
        let _guard = bench.recorder.enter(&model("fraud"), 1);
        bench.recorder.observe(call);
    }
    assert_eq!(bench.recorder.known.borrow().len(), 1);
    let series = bench.shard.series(&Arc::from("fraud"), &Arc::from("v2"));
    assert_eq!(series.calls(Code::OK, Blame::Nobody), 50);
    assert_eq!(series.in_flight(), 0);
}

#[test]
fn a_variant_that_is_not_there_is_no_panic() {
    let bench = bench(8);
    drop(bench.recorder.enter(&model("fraud"), 9));
    assert_eq!(bench.shard.unrouted().in_flight(), 0);
}

#[test]
fn a_recorder_moves_to_its_worker() {
    let bench = bench(8);
    let recorder = bench.recorder;
    std::thread::spawn(move || recorder.observe(unsampled())).join().unwrap();
    let series = bench.shard.series(&Arc::from("fraud"), &Arc::from("v2"));
    assert_eq!(series.calls(Code::OK, Blame::Nobody), 1);
}

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::OnFail;

const MINUTE: Duration = Duration::from_secs(60);
/// Of seven guards that share an alpha of 1 %.
const THRESHOLD: f64 = 6.551;

fn guard() -> ResourcesGuard {
    ResourcesGuard { memory: Some(0.25), cpu: Some(0.25), window: MINUTE, on_fail: OnFail::Hold }
}

/// Two servers and their callers, as they are in a world of chance.
struct World {
    rng: StdRng,
    share: f64,
    /// Calls a minute.
    load: f64,
    /// Seconds a call takes, and a process at rest takes each second.
    cost: [f64; 2],
    rest: f64,
    /// Bytes that a process holds, what each minute adds, and how much that swings.
    resident: [f64; 2],
    growth: [f64; 2],
    swing: f64,
    minute: u32,
    cpu: [f64; 2],
    calls: [u64; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            rng: StdRng::seed_from_u64(seed),
            share: 0.2,
            load: 6000.0,
            cost: [0.005; 2],
            rest: 0.01,
            resident: [1e9; 2],
            growth: [0.0; 2],
            swing: 0.1,
            minute: 0,
            cpu: [0.0; 2],
            calls: [0; 2],
        }
    }

    /// About the standard normal law: twelve draws.
    fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0
    }

    fn pass(&mut self) -> (Readings, [u64; 2], Duration) {
        self.minute += 1;
        let load = self.load * (1.0 + 0.3 * (f64::from(self.minute) / 20.0).sin());
        let mut reading = |arm: usize| {
            let calls = load * if arm == 1 { self.share } else { 1.0 - self.share };
            let calls = (calls + calls.sqrt() * self.noise()).max(0.0).round();
            // Calls differ, and a slow minute slows them all.
            let slow = 1.0 + 0.1 * self.noise();
            let spent = calls * self.cost[arm] * slow.max(0.2)
                + 60.0 * self.rest * (1.0 + 0.3 * self.noise()).max(0.0);
            self.cpu[arm] += spent;
            self.calls[arm] += calls as u64;
            let grown = self.growth[arm] * f64::from(self.minute);
            let resident = (self.resident[arm] + grown) * (1.0 + self.swing * self.rng.random::<f64>());
            let cpu = (self.cpu[arm] * 100.0).floor() / 100.0;
            Ok(Reading { cpu: Some(cpu), resident: Some(resident), started: Some(1e9) })
        };
        let (baseline, candidate) = (reading(0), reading(1));
        (Readings { baseline, candidate }, self.calls, MINUTE * self.minute)
    }

    /// Windows until it fails; none within `most`.
    fn fails(&mut self, resources: &mut Resources, most: u32) -> Option<u32> {
        (1..=most).find(|_| {
            let (readings, calls, now) = self.pass();
            resources.add(&guard(), &readings, calls, true, now);
            resources.fails(&guard(), THRESHOLD)
        })
    }
}

#[test]
fn a_fair_coin_stops_no_more_than_alpha_allows() {
    let (alpha, seeds) = (0.05, 2000);
    let mut stopped = 0;
    for seed in 0..seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bets = Bets::new();
        stopped += u32::from((0..300).any(|_| {
            bets.add(rng.random::<bool>());
            bets.ln_over() >= -f64::ln(alpha)
        }));
    }
    // The worst that a candidate within its margin can be; two more standard deviations than that are chance.
    assert!(f64::from(stopped) <= f64::from(seeds as u32) * alpha + 20.0, "{stopped} of {seeds}");
    assert!(stopped > 10, "the bets never come near: {stopped}");
}

#[test]
fn servers_that_use_the_same_are_left_alone() {
    let mut stopped = Vec::new();
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.share = [0.01, 0.05, 0.2, 0.5][seed as usize % 4];
        world.rest = [0.0, 0.01, 0.3][seed as usize % 3];
        // Fresh, it grows to what the old one holds.
        world.resident[1] = 6e8;
        let mut resources = Resources::new();
        if world.fails(&mut resources, 120).is_some() {
            stopped.push(seed);
        }
        world.resident[1] = 1e9;
        world.share = 0.5;
        if world.fails(&mut resources, 120).is_some() {
            stopped.push(seed);
        }
    }
    assert!(stopped.len() <= 3, "{stopped:?}");
}

#[test]
fn calls_that_take_twice_as_much_are_found() {
    let mut took = Vec::new();
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.cost[1] = 0.01;
        // Both are read while the candidate is warm but has no calls yet.
        let share = std::mem::replace(&mut world.share, 0.0);
        let mut resources = Resources::new();
        assert_eq!(world.fails(&mut resources, 4), None);
        world.share = share;
        took.push(world.fails(&mut resources, 60).unwrap_or(u32::MAX));
    }
    took.sort_unstable();
    assert!(took[50] <= 12 && took[99] <= 30, "median {}, most {}", took[50], took[99]);
}

#[test]
fn rest_is_not_held_against_a_small_share_and_shrinks_as_the_share_grows() {
    let mut world = World::new(1);
    (world.share, world.rest) = (0.01, 0.5);
    let mut resources = Resources::new();
    assert_eq!(world.fails(&mut resources, 60), None);
    assert_eq!(resources.cpu.windows, 0, "half a core at rest hides what one call in a hundred takes");
    world.cost[1] = 0.02;
    world.share = 0.5;
    let took = world.fails(&mut resources, 60).unwrap();
    assert!(took <= 25, "{took}");
}

#[test]
fn a_leak_is_found_even_one_that_begins_late() {
    for (sound, most) in [(0, 45), (240, 80)] {
        let mut world = World::new(7);
        let mut resources = Resources::new();
        assert_eq!(world.fails(&mut resources, sound), None);
        // Two percent a minute: the margin is passed after a quarter of an hour.
        world.growth[1] = 2e7;
        world.resident[1] -= 2e7 * f64::from(sound);
        let took = world.fails(&mut resources, 200).unwrap();
        assert!((20..=most).contains(&took), "{took} after {sound}");
        let [memory, cpu] = &resources.findings(&guard(), THRESHOLD)[..] else { panic!() };
        assert_eq!((&*memory.guard, memory.verdict), ("resources memory", Verdict::Fail));
        assert_eq!(&*cpu.guard, "resources cpu");
        assert_ne!(cpu.verdict, Verdict::Fail);
        assert!(memory.harm.unwrap().middle > memory.margin, "{memory:?}");
        assert!(!gates(memory) && memory.missing == 0);
    }
}

#[test]
fn a_larger_model_and_a_leak_of_both_are_no_leak() {
    let mut world = World::new(3);
    world.resident[1] = 4e9;
    let mut resources = Resources::new();
    assert_eq!(world.fails(&mut resources, 120), None);
    let mut world = World::new(4);
    world.growth = [2e7; 2];
    assert_eq!(world.fails(&mut Resources::new(), 120), None);
}

#[test]
fn a_restart_begins_anew_and_a_gap_makes_one_long_window() {
    let mut resources = Resources::new();
    let say =
        |cpu: f64, resident: f64| Ok(Reading { cpu: Some(cpu), resident: Some(resident), started: None });
    let mut minute = 0;
    let mut add = |resources: &mut Resources, baseline: f64, candidate: Result<Reading, String>| {
        minute += 1;
        let readings = Readings { baseline: say(baseline, 1e9), candidate };
        let calls = [1000 * u64::from(minute), 1000 * u64::from(minute)];
        resources.add(&guard(), &readings, calls, true, MINUTE * minute);
    };
    for cpu in [100.0, 110.0, 120.0] {
        add(&mut resources, cpu, say(cpu, 1e9));
    }
    assert_eq!((resources.cpu.windows, resources.memory.windows), (2, 1));
    // It takes as much as before, but counts from nothing again.
    add(&mut resources, 130.0, say(3.0, 2e8));
    assert_eq!((resources.cpu.windows, resources.origin), (2, None));
    add(&mut resources, 140.0, say(13.0, 2e8));
    assert_eq!((resources.cpu.windows, resources.origin), (3, Some([1e9, 2e8])));
    add(&mut resources, 150.0, Err("connection refused".to_owned()));
    assert_eq!(resources.trouble(), Some("the candidate's metrics: connection refused"));
    add(&mut resources, 160.0, say(33.0, 2e8));
    assert_eq!((resources.cpu.windows, resources.trouble()), (4, None));
    assert_eq!(resources.spent[1], Spent { seconds: 50.0, calls: 5000 });
    let [_, cpu] = &resources.findings(&guard(), THRESHOLD)[..] else { panic!() };
    assert_eq!((cpu.baseline.value, cpu.candidate.value), (Some(0.01), Some(0.01)));
}

#[test]
fn what_is_remembered_is_small_and_outlives_the_process() {
    let mut world = World::new(9);
    let mut resources = Resources::new();
    world.fails(&mut resources, 500);
    let text = serde_json::to_string(&resources).unwrap();
    assert!(text.len() < 800, "{}: {text}", text.len());
    let again: Resources = serde_json::from_str(&text).unwrap();
    let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(near(again.cpu.ln_within(), resources.cpu.ln_within()), "{again:?}");
    assert!(near(again.memory.ln_over(), resources.memory.ln_over()), "{again:?}");
    assert_eq!((again.memory.windows, again.open), (resources.memory.windows, None));
}

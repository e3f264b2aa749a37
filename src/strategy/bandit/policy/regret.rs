//! What policies lose while they learn, in worlds whose figures are known: the probabilities of [`super::shares`], drawn
//! from and learnt from round by round, as an epoch with a floor of nothing would.
//!
//! `cargo test --release --lib -- --ignored regret --nocapture` plays all of it 150 times and prints the table.

use super::*;

const TWO: &[f64] = &[0.9, 0.8];
const TEN: &[f64] = &[0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01];
const ROUNDS: usize = 10_000;
const GREEDY: Policy = Policy::EpsilonGreedy { epsilon: 0.1 };

/// A world: what arms are worth, and how what is known of them is told.
#[derive(Clone, Copy)]
struct World<'a> {
    means: &'a [f64],
    rounds: usize,
    /// Rewards come after every so many rounds.
    batch: usize,
    /// Rounds in which a value loses half of its weight; none: never.
    half_life: Option<f64>,
    /// After so many rounds the first two arms change places.
    swap: Option<usize>,
}

const fn world(means: &[f64]) -> World<'_> {
    World { means, rounds: ROUNDS, batch: 1, half_life: None, swap: None }
}

/// SplitMix64: the same in every run.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn regret(policy: Policy, world: World<'_>, seed: u64) -> f64 {
    let (reward, mut chance) = (super::tests::binary(), Chance(seed.wrapping_mul(7919)));
    let mut means = world.means.to_vec();
    let mut known = vec![Moments::default(); means.len()];
    let mut late: Vec<(usize, Moments)> = Vec::new();
    let mut given = shares(policy, &reward, &known);
    let decay = world.half_life.map_or(1.0, |half| (-1.0 / half).exp2());
    let mut lost = 0.0;
    for round in 1..=world.rounds {
        if world.swap == Some(round - 1) {
            means.swap(0, 1);
        }
        let best = means.iter().copied().fold(0.0, f64::max);
        let mut left = chance.draw();
        let arm = given.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        let arm = arm.unwrap_or(means.len() - 1);
        lost += best - means[arm];
        let value = f64::from(u8::from(chance.draw() < means[arm]));
        let inverse = 1.0 / given[arm];
        late.push((arm, Moments { n: 1.0, sum: value, squares: value, weighted: value * inverse, inverse }));
        for known in &mut known {
            let old = std::mem::take(known);
            known.add(&old, decay);
        }
        if round.is_multiple_of(world.batch) {
            late.drain(..).for_each(|(arm, value)| known[arm].add(&value, 1.0));
            given = shares(policy, &reward, &known);
        }
    }
    lost
}

/// Mean and standard error.
fn mean(policy: Policy, world: World<'_>, runs: u64) -> (f64, f64) {
    let all: Vec<f64> = (0..runs).map(|seed| regret(policy, world, seed)).collect();
    let mean = all.iter().sum::<f64>() / runs as f64;
    let spread = all.iter().map(|lost| (lost - mean).powi(2)).sum::<f64>() / (runs - 1).max(1) as f64;
    (mean, (spread / runs as f64).sqrt())
}

/// Within so much of what it should be, or within three standard errors of that.
fn holds(name: &str, (got, error): (f64, f64), want: f64, part: f64) {
    assert!(
        (got - want).abs() <= part * want + 3.0 * error,
        "{name}: {got:.1} ± {error:.1} instead of {want}"
    );
}

#[test]
fn policies_lose_about_what_they_should() {
    holds("ucb1", mean(Policy::Ucb1, world(TWO), 6), 86.8, 0.15);
    holds("epsilon-greedy", mean(GREEDY, world(TWO), 10), 58.0, 0.15);
    holds("epsilon-greedy of ten", mean(GREEDY, world(TEN), 10), 98.0, 0.15);
    let batches = World { batch: 1000, ..world(TWO) };
    holds("thompson in batches", mean(Policy::Thompson, batches, 12), 50.2, 0.15);
    let batches = World { batch: 1000, ..world(TEN) };
    holds("thompson of ten in batches", mean(Policy::Thompson, batches, 6), 103.0, 0.15);
    let (exp3, _) = mean(Policy::Exp3 { gamma: 0.05 }, world(TWO), 3);
    let most = 2.0 * ((1.0_f64.exp() - 1.0) * ROUNDS as f64 * 2.0 * 2.0_f64.ln()).sqrt();
    assert!(exp3 < most, "exp3: {exp3} and not below {most}");
}

#[test]
fn old_values_that_fade_save_what_a_swap_costs() {
    let swapped =
        World { means: &[0.6, 0.5], rounds: 20_000, batch: 100, swap: Some(10_000), half_life: None };
    let (plain, _) = mean(Policy::Thompson, swapped, 4);
    let (fading, _) = mean(Policy::Thompson, World { half_life: Some(1000.0), ..swapped }, 4);
    assert!(fading < 0.5 * plain, "{fading} beside {plain}");
}

#[test]
#[ignore = "minutes, in a release build"]
fn the_whole_table_of_regret() {
    let all: [(&str, Policy, World<'_>, f64); 10] = [
        ("thompson, two", Policy::Thompson, world(TWO), 9.5),
        ("kl_ucb, two", Policy::KlUcb, world(TWO), 14.5),
        ("ucb1, two", Policy::Ucb1, world(TWO), 86.8),
        ("epsilon_greedy, two", GREEDY, world(TWO), 58.0),
        ("thompson, two, in batches", Policy::Thompson, World { batch: 1000, ..world(TWO) }, 50.2),
        ("thompson, ten", Policy::Thompson, world(TEN), 79.0),
        ("kl_ucb, ten", Policy::KlUcb, world(TEN), 112.0),
        ("ucb1, ten", Policy::Ucb1, world(TEN), 500.0),
        ("epsilon_greedy, ten", GREEDY, world(TEN), 98.0),
        ("thompson, ten, in batches", Policy::Thompson, World { batch: 1000, ..world(TEN) }, 103.0),
    ];
    for (name, policy, world, want) in all {
        let got = mean(policy, world, 150);
        tell(&format!("{name}: {:.1} ± {:.1}, should be {want}", got.0, got.1));
        holds(name, got, want, 0.15);
    }
    let swapped = World { means: &[0.6, 0.5], rounds: 20_000, batch: 1, swap: Some(10_000), half_life: None };
    let plain = mean(Policy::Thompson, swapped, 150);
    let fading = mean(Policy::Thompson, World { half_life: Some(1000.0), ..swapped }, 150);
    tell(&format!("a swap: {:.0} ± {:.0} plain, {:.0} ± {:.0} fading", plain.0, plain.1, fading.0, fading.1));
    assert!(fading.0 < 0.4 * plain.0);
}

/// To whoever looks on; the table is what this test is for.
fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

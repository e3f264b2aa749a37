//! What policies lose while they learn in a world of ten arms whose figures are known. A rollout has eight arms at most,
//! so `tests/scenarios/bandit` cannot play it; here the probabilities of [`super::shares`] are drawn from and learnt from
//! round by round, as epochs without a floor would.
//!
//! `cargo test --release --lib -- --ignored regret --nocapture` plays it 150 times and prints the table.

use super::*;

const TEN: [f64; 10] = [0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01];
const ROUNDS: usize = 10_000;
const GREEDY: Policy = Policy::EpsilonGreedy { epsilon: 0.1 };

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

/// What one run loses; rewards come after every `batch` rounds.
fn regret(policy: Policy, batch: usize, seed: u64) -> f64 {
    let (reward, mut chance) = (super::tests::binary(), Chance(seed.wrapping_mul(7919)));
    let mut known = vec![Moments::default(); TEN.len()];
    let mut late: Vec<(usize, Moments)> = Vec::new();
    let mut given = shares(policy, &reward, &known);
    let mut lost = 0.0;
    for round in 1..=ROUNDS {
        let mut left = chance.draw();
        let arm = given.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        let arm = arm.unwrap_or(TEN.len() - 1);
        lost += TEN[0] - TEN[arm];
        let value = f64::from(u8::from(chance.draw() < TEN[arm]));
        let inverse = 1.0 / given[arm];
        late.push((arm, Moments { n: 1.0, sum: value, squares: value, weighted: value * inverse, inverse }));
        if round.is_multiple_of(batch) {
            late.drain(..).for_each(|(arm, value)| known[arm].add(&value, 1.0));
            given = shares(policy, &reward, &known);
        }
    }
    lost
}

/// Mean and standard error.
fn mean(policy: Policy, batch: usize, runs: u64) -> (f64, f64) {
    let all: Vec<f64> = (0..runs).map(|seed| regret(policy, batch, seed)).collect();
    let mean = all.iter().sum::<f64>() / runs as f64;
    let spread = all.iter().map(|lost| (lost - mean).powi(2)).sum::<f64>() / (runs - 1).max(1) as f64;
    (mean, (spread / runs as f64).sqrt())
}

/// Within 15 % of what it should be, or within three standard errors of that.
fn holds(name: &str, (got, error): (f64, f64), want: f64) {
    assert!(
        (got - want).abs() <= 0.15 * want + 3.0 * error,
        "{name}: {got:.1} ± {error:.1} instead of {want}"
    );
}

#[test]
fn policies_lose_among_ten_about_what_they_should() {
    holds("epsilon-greedy", mean(GREEDY, 1, 10), 98.0);
    holds("thompson in batches", mean(Policy::Thompson, 1000, 6), 103.0);
}

#[test]
#[ignore = "minutes, in a release build"]
fn the_whole_table_of_regret_among_ten() {
    let all = [
        ("thompson", Policy::Thompson, 1, 79.0),
        ("kl_ucb", Policy::KlUcb, 1, 112.0),
        ("ucb1", Policy::Ucb1, 1, 500.0),
        ("epsilon_greedy", GREEDY, 1, 98.0),
        ("thompson, in batches", Policy::Thompson, 1000, 103.0),
    ];
    for (name, policy, batch, want) in all {
        let got = mean(policy, batch, 150);
        tell(&format!("{name}: {:.1} ± {:.1}, should be {want}", got.0, got.1));
        holds(name, got, want);
    }
}

/// To whoever looks on; the table is what this test is for.
fn tell(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! Estimates of policies on logs whose truth is known.

use std::sync::Arc;

use super::*;
use crate::stats::oracle::{Case, counts, numbers};

fn rounds(actions: &[&str], each: impl Iterator<Item = (usize, f64, f64, u8)>) -> Rounds {
    let all = each.enumerate().map(|(number, (action, propensity, reward, part))| Logged {
        prediction: uuid::Uuid::from_u128(number as u128),
        time: number as i64,
        action,
        propensity,
        reward,
        part,
    });
    let actions = actions.iter().map(|name| Arc::from(*name)).collect();
    Rounds { model: Some("m".to_owned()), actions, all: all.collect(), ..Rounds::default() }
}

fn shares(shares: &[(&str, f64)]) -> policy::Ready {
    policy::Ready::Shares(shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect())
}

fn value(judged: &Judged, name: &str) -> Interval {
    judged.by.iter().find(|(found, _)| *found == name).unwrap().1.unwrap()
}

#[test]
fn the_reference_values_come_out_of_a_log_too() {
    let case = Case::named("ope_ips_snips_dr");
    let input = case.input();
    let actions = counts(&input["action"]);
    let logged = actions.iter().zip(numbers(&input["pscore"])).zip(numbers(&input["reward"]));
    let rounds =
        rounds(&["a", "b", "c"], logged.map(|((action, p), reward)| (*action as usize, p, reward, 0)));
    let judged = judge(&rounds, &shares(&[("a", 0.6), ("b", 0.1), ("c", 0.3)])).unwrap();
    case.check(value(&judged, "ips").value, &case.expected()["ips"]);
    case.check(value(&judged, "snips").value, &case.expected()["snips"]);
}

/// `count` rounds of units that call three times, a tenth of them given `b`; `a` earns 0.2 on average, `b` 0.5. A unit
/// keeps its variant, and what it earns.
fn sticky(count: usize, seed: u64) -> Rounds {
    let mut state = seed;
    let mut draw = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let units = (0..count / 3).map(move |_| {
        let action = usize::from(draw() < 0.1);
        let reward = f64::from(u8::from(draw() < [0.2, 0.5][action]));
        (action, [0.9, 0.1][action], reward, (draw() * 256.0) as u8)
    });
    rounds(&["a", "b"], units.flat_map(|unit| [unit; 3]))
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say_though_units_come_back() {
    let (mut held, worlds) = ([0; 3], 200);
    for seed in 0..worlds {
        let rounds = sticky(6000, seed);
        let judged = judge(&rounds, &shares(&[("b", 1.0)])).unwrap();
        for (held, name) in held.iter_mut().zip(["ips", "snips", "dr"]) {
            let found = value(&judged, name);
            *held += usize::from(found.low <= 0.5 && 0.5 <= found.high);
        }
    }
    for held in held {
        // 95 % of 200, with four standard errors of that below.
        assert!(held >= 178, "{held} of {worlds}");
    }
}

#[test]
fn a_policy_of_what_was_never_done_is_refused_with_what_there_is() {
    let rounds = rounds(&["a", "b"], [(0, 0.5, 1.0, 0), (1, 0.5, 0.0, 1)].into_iter());
    let Err(said) = judge(&rounds, &shares(&[("c", 1.0)])) else { panic!("it was judged") };
    assert!(said.contains("c was never given") && said.contains("a, b"), "{said}");
    let mut table = Vec::new();
    judge(&rounds, &shares(&[("a", 1.0)])).unwrap().tell(&rounds, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    for part in ["2 rounds", "a was given 1", "logged ", "ips ", "snips ", "dm ", "dr ", "too few units"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

//! Places where a debug build can be told to go wrong, so that tests see what a panic or a failing disk does to all else.
//!
//! `PARHELION_FAILPOINTS="call=2 log.append=1%"` has the first two calls panic and one append in a hundred fail. A
//! release build has none of it: it reads nothing, and the places are empty.

use std::io;

/// Panics, where `place` was told to.
///
/// # Panics
/// In a debug build only, as it was told.
#[inline]
#[expect(clippy::panic, reason = "this is what it is for")]
pub fn panics(place: &'static str) {
    if told::strikes(place) {
        panic!("told to panic at {place}");
    }
}

/// Fails, where `place` was told to.
///
/// # Errors
/// In a debug build only, as it was told.
#[inline]
pub fn fails(place: &'static str) -> io::Result<()> {
    match told::strikes(place) {
        true => Err(io::Error::other(format!("told to fail at {place}"))),
        false => Ok(()),
    }
}

#[cfg(not(debug_assertions))]
mod told {
    #[inline]
    pub(super) fn strikes(_: &str) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
mod told {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const VARIABLE: &str = "PARHELION_FAILPOINTS";

    /// How often a place goes wrong.
    #[derive(Debug)]
    pub(super) enum Rule {
        /// So many times, from the first on.
        Times(AtomicU64),
        /// By chance.
        Share(f64),
    }

    pub(super) fn strikes(place: &str) -> bool {
        static RULES: OnceLock<HashMap<String, Rule>> = OnceLock::new();
        let rules = RULES.get_or_init(|| read(&std::env::var(VARIABLE).unwrap_or_default()));
        match rules.get(place) {
            None => false,
            Some(Rule::Times(left)) => {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            }
            Some(Rule::Share(share)) => rand::random_bool(*share),
        }
    }

    pub(super) fn read(text: &str) -> HashMap<String, Rule> {
        let mut rules = HashMap::new();
        for word in text.split_whitespace() {
            let rule = word.split_once('=').and_then(|(place, often)| {
                let rule = match often.strip_suffix('%') {
                    Some(percent) => {
                        let share = percent.parse::<f64>().ok()? / 100.0;
                        Rule::Share(Some(share).filter(|share| (0.0..=1.0).contains(share))?)
                    }
                    None => Rule::Times(AtomicU64::new(often.parse().ok()?)),
                };
                Some((place.to_owned(), rule))
            });
            match rule {
                Some((place, rule)) => drop(rules.insert(place, rule)),
                None => {
                    tracing::warn!(
                        "{VARIABLE}: {word} is no rule; write PLACE=TIMES or PLACE=SHARE%, as in call=2"
                    );
                }
            }
        }
        rules
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::told::{Rule, read};

    #[test]
    fn rules_are_times_and_shares_and_what_is_neither_is_left_out() {
        let rules = read("call=2 log.append=1.5% odd odd=x odd=101% odd=-1");
        assert_eq!(rules.len(), 2);
        assert!(
            matches!(&rules["call"], Rule::Times(left) if left.load(std::sync::atomic::Ordering::Relaxed) == 2)
        );
        assert!(matches!(&rules["log.append"], Rule::Share(share) if (*share - 0.015).abs() < 1e-12));
    }
}

//! Who was given which variant, user by user: one who had the candidate and is given the baseline later moved back.
//!
//! What counts is who was asked, not who answered: what the candidate fails at the baseline may answer. Answers arrive
//! in any order, calls are numbered in the order they are made, and the numbers decide. Pure.

use std::collections::HashMap;

use super::super::caller::Answer;

/// Of each user: the last call that is known, and who was given it.
#[derive(Debug, Default)]
pub(super) struct Moves {
    last: HashMap<String, (u64, String)>,
    back: u64,
    over: u64,
}

/// The first variant, that nobody may come back to.
const BASELINE: &str = "v1";

impl Moves {
    /// Takes note of an answer.
    pub(super) fn add(&mut self, answer: &Answer) {
        let given = answer.instead_of.as_ref().unwrap_or(&answer.variant);
        let Some((number, before)) = self.last.get_mut(&answer.user) else {
            self.last.insert(answer.user.clone(), (answer.number, given.clone()));
            return;
        };
        if *number > answer.number {
            return;
        }
        if before != given {
            *(if given == BASELINE { &mut self.back } else { &mut self.over }) += 1;
            before.clone_from(given);
        }
        *number = answer.number;
    }

    /// How often somebody went back to the baseline.
    pub(super) fn back(&self) -> u64 {
        self.back
    }

    /// How often somebody went from the baseline to the candidate.
    pub(super) fn over(&self) -> u64 {
        self.over
    }

    /// How many users were seen.
    pub(super) fn users(&self) -> usize {
        self.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(user: &str, number: u64, variant: &str, instead_of: Option<&str>) -> Answer {
        let (user, variant) = (user.to_owned(), variant.to_owned());
        Answer { user, number, variant, instead_of: instead_of.map(str::to_owned), ..Answer::example() }
    }

    #[test]
    fn only_a_later_call_that_was_given_to_the_baseline_is_a_move_back() {
        let mut moves = Moves::default();
        let calls = [
            answer("a", 1, "v1", None),
            answer("a", 5, "v2", None),
            // Made before, and answered late.
            answer("a", 3, "v1", None),
            // Given to v2, which failed at it.
            answer("a", 7, "v1", Some("v2")),
            answer("b", 2, "v1", None),
        ];
        calls.iter().for_each(|call| moves.add(call));
        assert_eq!((moves.users(), moves.over(), moves.back()), (2, 1, 0));
        moves.add(&answer("a", 9, "v1", None));
        assert_eq!((moves.users(), moves.over(), moves.back()), (2, 1, 1));
    }
}

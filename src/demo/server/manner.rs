//! How a model server of the demo behaves: well, until somebody makes trouble; and what it was asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

use crate::demo::model::{CLASSES, Prediction};

/// How much longer a slow call takes: far above what calls over loopback take on a busy machine.
pub const SLOW: Duration = Duration::from_millis(600);

/// What can be wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers every call with INTERNAL.
    Fails,
    /// Every call takes [`SLOW`] longer.
    Slow,
}

/// What is peculiar about a server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// In one call of `JITTER` its scores are washed out; its labels are as they should be.
    Jitters,
    /// The same, and in one call of `FLIP` it says another digit.
    Flips,
}

/// One call in so many jitters.
const JITTER: u64 = 25;
/// One call in so many is answered by another digit.
const FLIP: u64 = 6;

/// One server's behaviour.
#[derive(Debug, Default)]
pub struct Manner {
    trouble: Mutex<Felt>,
    habit: OnceLock<(Habit, AtomicU64)>,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// A trouble, and when the first call felt it.
#[derive(Debug, Clone, Copy, Default)]
struct Felt {
    trouble: Option<Trouble>,
    first: Option<Instant>,
}

/// What a server was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Inference calls.
    pub calls: u64,
    /// Those that it failed.
    pub failures: u64,
    /// When the first one came that it failed, or was slow at, since its trouble began.
    pub first: Option<Instant>,
}

impl Manner {
    /// From now on, until it is mended; a second trouble changes nothing.
    pub fn begin(&self, trouble: Trouble) {
        self.felt().trouble.get_or_insert(trouble);
    }

    /// Ends its trouble.
    pub fn mend(&self) {
        *self.felt() = Felt::default();
    }

    fn felt(&self) -> MutexGuard<'_, Felt> {
        // What it guards is whole between any two statements.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the start, for ever.
    pub fn take_up(&self, habit: Habit) {
        self.habit.get_or_init(|| (habit, AtomicU64::new(rand::random())));
    }

    /// What becomes of what the model said of one call.
    pub fn alter(&self, said: &mut [Prediction]) {
        let Some((habit, state)) = self.habit.get() else { return };
        let draw = scramble(state.fetch_add(1, Ordering::Relaxed));
        if draw.is_multiple_of(JITTER) {
            let even = 1.0 / CLASSES as f32;
            let all = said.iter_mut().flat_map(|one| &mut one.probabilities);
            all.for_each(|chance| *chance = 0.8 * *chance + 0.2 * even);
        }
        if *habit == Habit::Flips && (draw / JITTER).is_multiple_of(FLIP) {
            for one in said {
                let (right, other) = (usize::from(one.class), (usize::from(one.class) + 1) % CLASSES);
                one.probabilities.swap(right, other);
                one.class = other as u8;
            }
        }
    }

    /// So far.
    pub fn asked(&self) -> Asked {
        Asked {
            failures: self.failures.load(Ordering::Acquire),
            calls: self.calls.load(Ordering::Acquire),
            first: self.felt().first,
        }
    }

    /// Counts a call and lets it feel the trouble.
    ///
    /// # Errors
    /// INTERNAL, where that is the trouble.
    pub async fn feel(&self) -> Result<(), Status> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let trouble = {
            let mut felt = self.felt();
            let Some(trouble) = felt.trouble else { return Ok(()) };
            felt.first.get_or_insert_with(Instant::now);
            trouble
        };
        match trouble {
            Trouble::Fails => {
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(Status::internal("broken on purpose, for the demo"))
            }
            Trouble::Slow => {
                tokio::time::sleep(SLOW).await;
                Ok(())
            }
        }
    }
}

/// SplitMix64: numbers in a row become numbers that look like chance.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_seen_in_some_answers() {
        let mut probabilities = [0.0; CLASSES];
        probabilities[3] = 1.0;
        let said = Prediction { class: 3, probabilities };
        let count = |habit: Option<Habit>| {
            let manner = Manner::default();
            habit.into_iter().for_each(|habit| manner.take_up(habit));
            let mut seen = (0, 0);
            for _ in 0..10_000 {
                let mut answer = [said.clone()];
                manner.alter(&mut answer);
                seen.0 += u32::from(answer[0].class != 3);
                seen.1 += u32::from(answer[0].probabilities.iter().all(|chance| *chance < 1.0));
            }
            seen
        };
        assert_eq!(count(None), (0, 0));
        let (jitters, flips) = (count(Some(Habit::Jitters)), count(Some(Habit::Flips)));
        assert!(jitters.0 == 0 && (200..700).contains(&jitters.1), "{jitters:?}");
        assert!((1_300..2_100).contains(&flips.0), "{flips:?}");
    }

    #[tokio::test]
    async fn it_is_well_until_it_is_not() {
        let manner = Manner::default();
        assert!(manner.feel().await.is_ok());
        assert_eq!(manner.asked(), Asked { calls: 1, failures: 0, first: None });
        manner.begin(Trouble::Fails);
        manner.begin(Trouble::Slow);
        assert_eq!(manner.feel().await.unwrap_err().code(), tonic::Code::Internal);
        let asked = manner.asked();
        assert_eq!((asked.calls, asked.failures, asked.first.is_some()), (2, 1, true));
        manner.mend();
        assert!(manner.feel().await.is_ok());
        assert_eq!(manner.asked(), Asked { calls: 3, failures: 1, first: None });
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_takes_its_time_and_fails_not() {
        let manner = Manner::default();
        manner.begin(Trouble::Slow);
        let began = tokio::time::Instant::now();
        assert!(manner.feel().await.is_ok());
        assert!(began.elapsed() >= SLOW);
        assert_eq!(manner.asked().failures, 0);
    }
}

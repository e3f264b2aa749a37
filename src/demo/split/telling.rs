//! Which prediction is told as a story, and when.

use std::time::{Duration, Instant};

use super::super::caller::{Answer, Called};
use super::super::story::Story;
use super::world::{VARIANTS, World};

/// One of the first calls is told as a story: its spans are among those that the collector keeps.
const STORY_AMONG: u64 = 64;
/// How long a story waits for the span of a copy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The prediction whose story is told, once.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The first answers: about half of them have a copy.
    about: Vec<Answer>,
    since: Option<Instant>,
    told: bool,
}

impl Telling {
    pub(super) fn look_at(&mut self, called: &Called, before: u64) {
        let Ok(answer) = called else { return };
        if self.about.is_empty() || before < STORY_AMONG {
            self.about.push(answer.clone());
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// The story that shows most, where it was not told and its spans are there: that of a call with a copy, and of
    /// the newer version, before others. For a copy it waits a while, unless this is the `last` chance.
    pub(super) fn due(&mut self, world: &World, last: bool) -> Option<Story> {
        let (collector, _) = world.collector.as_ref().filter(|_| !self.told)?;
        let stories = self
            .about
            .iter()
            .map(|answer| Story { answer: answer.clone(), spans: collector.of(&answer.prediction) });
        // The server span may come in an earlier batch than the client's.
        let whole = stories.filter(|story| story.spans.len() > 1 + usize::from(story.has_shadow()));
        let best = whole.max_by_key(|story| (story.has_shadow(), story.answer.variant == VARIANTS[1]))?;
        let waited = last || self.since.is_some_and(|since| since.elapsed() > PATIENCE);
        self.told = waited || best.has_shadow();
        self.told.then_some(best)
    }

    /// The story without its spans, where it was not told.
    pub(super) fn untold(&mut self) -> Option<Story> {
        let answer = self.about.first().cloned().filter(|_| !self.told)?;
        self.told = true;
        Some(Story { answer, spans: Vec::new() })
    }
}

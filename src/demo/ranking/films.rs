//! Forty films, two ways to rank them, and people who like some more than others. Pure: who comes and what chance does
//! is passed in.

/// How many are shown.
pub(super) const SHOWN: usize = 10;
/// How many there are.
const FILMS: usize = 40;
/// What kinds there are.
pub(super) const KINDS: [&str; 4] = ["comedy", "drama", "crime", "space"];
/// Somebody who looks at a film clicks on it with this probability: one of the kind they like, and any other.
const LIKED: f64 = 0.30;
const OTHER: f64 = 0.08;
/// And then looks no further; else they look at the next with this probability.
const GOES_ON: f64 = 0.85;

/// How films are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranker {
    /// By how often they are watched, the same for everybody.
    Popular,
    /// The same, but those of the kind that somebody likes a little higher.
    Personal,
}

/// A film in a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ranked {
    pub(super) film: usize,
    pub(super) score: f32,
}

impl Ranker {
    /// The list for somebody who likes that kind.
    pub(super) fn list(self, liked: usize) -> Vec<Ranked> {
        let score = |film: usize| {
            // Watched ever less often, down to a fortieth of the first.
            let watched = 1.0 / (1.0 + film as f32);
            match self {
                Ranker::Personal if kind(film) == liked => watched + 0.12,
                Ranker::Popular | Ranker::Personal => watched,
            }
        };
        let mut list: Vec<Ranked> = (0..FILMS).map(|film| Ranked { film, score: score(film) }).collect();
        list.sort_by(|one, other| other.score.total_cmp(&one.score));
        list.truncate(SHOWN);
        list
    }
}

/// What kind of film it is.
pub(super) fn kind(film: usize) -> usize {
    // As if thrown.
    (film * 7 + film / 3) % KINDS.len()
}

/// What it is called.
pub(super) fn title(film: usize) -> String {
    format!("{} {}", KINDS.get(kind(film)).unwrap_or(&""), film + 1)
}

/// The slot that somebody who likes that kind clicks on; none: they leave. `draw` gives even numbers from 0 to 1.
pub(super) fn click(shown: &[usize], liked: usize, mut draw: impl FnMut() -> f64) -> Option<usize> {
    for (slot, film) in shown.iter().enumerate() {
        if draw() < if kind(*film) == liked { LIKED } else { OTHER } {
            return Some(slot);
        }
        if draw() >= GOES_ON {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rank_the_same_films_and_one_looks_at_who_asks() {
        let popular = Ranker::Popular.list(0);
        assert_eq!(popular, Ranker::Popular.list(3));
        for liked in 0..KINDS.len() {
            let personal = Ranker::Personal.list(liked);
            assert!(personal.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let liked = |list: &[Ranked]| list.iter().filter(|one| kind(one.film) == liked).count();
            assert!(liked(&personal) > liked(&popular), "{personal:?}");
        }
        assert!((0..KINDS.len()).all(|one| (0..FILMS).any(|film| kind(film) == one)));
    }

    #[test]
    fn people_look_from_the_top() {
        assert_eq!(click(&[0, 1, 2], kind(0), || 0.0), Some(0));
        assert_eq!(click(&[0, 1, 2], kind(0), || 0.99), None);
        let other = (kind(0) + 1) % KINDS.len();
        let mut draws = [0.5, 0.5, 0.05].into_iter();
        assert_eq!(click(&[0, 0], other, || draws.next().unwrap()), Some(1));
    }
}

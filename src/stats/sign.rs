//! A sign test that may be looked at after every vote: "both sides win half of the votes that are no tie".
//!
//! A beta law with both parameters 10 mixes the alternatives: ln E = ln B(10 + w, 10 + l) − ln B(10, 10) + (w + l) ln 2.
//! It is exact, for a vote is a fair coin where neither side is preferred. The same mixture against any other share says
//! which shares are still possible. Source: the beta-binomial mixture of Robbins (1970), as Howard, Ramdas, McAuliffe,
//! Sekhon (2021) have it.

use crate::stats::special::ln_beta;

/// Both parameters of the mixing law: sharpest for shares of 53 % to 60 %.
const A: f64 = 10.0;
/// Halvings of a bisection: the share is then known to a millionth of a millionth.
const HALVINGS: usize = 40;
/// Votes beyond which nobody waits.
const MOST: f64 = 1e9;

/// ln E against "each wins half".
pub fn ln_e(wins: u64, losses: u64) -> f64 {
    ln_e_at(0.5, wins as f64, losses as f64)
}

/// ln E against "this part of the votes is won", 0 to 1, both excluded.
fn ln_e_at(share: f64, wins: f64, losses: f64) -> f64 {
    ln_beta(A + wins, A + losses) - ln_beta(A, A) - wins * share.ln() - losses * (1.0 - share).ln()
}

/// The shares of wins that level `alpha` leaves possible, for all times together; none without a vote.
pub fn interval(wins: u64, losses: u64, alpha: f64) -> Option<(f64, f64)> {
    let all = wins + losses;
    if all == 0 {
        return None;
    }
    let (won, lost) = (wins as f64, losses as f64);
    let middle = won / all as f64;
    let possible = |share: f64| ln_e_at(share, won, lost) < -alpha.ln();
    let end = |mut outside: f64| {
        let mut inside = middle;
        for _ in 0..HALVINGS {
            let between = f64::midpoint(inside, outside);
            *(if possible(between) { &mut inside } else { &mut outside }) = between;
        }
        outside
    };
    Some((end(0.0), end(1.0)))
}

/// Votes that are no tie until a share of wins of one half and `more` is seen, were it exactly that all the time, at
/// level `alpha`; none: no number of them is enough. What chance adds lets most tests end sooner, half of them in about
/// two thirds of that.
pub fn votes_for(more: f64, alpha: f64) -> Option<u64> {
    let share = 0.5 + more.min(0.5);
    let seen = |votes: f64| ln_e_at(0.5, votes * share, votes * (1.0 - share)) >= -alpha.ln();
    if more <= 0.0 || !seen(MOST) {
        return None;
    }
    let (mut low, mut high) = (0.0, MOST);
    while high - low > 0.5 {
        let middle = f64::midpoint(low, high);
        *(if seen(middle) { &mut high } else { &mut low }) = middle;
    }
    Some(high.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::Case;

    #[test]
    fn published_values() {
        let case = Case::named("sign_e_value");
        for row in case.rows() {
            let count = |name: &str| row[name].as_u64().unwrap();
            case.check(ln_e(count("wins"), count("losses")), &row["log_e"]);
        }
    }

    #[test]
    fn no_votes_say_nothing_and_sides_are_alike() {
        assert_eq!(ln_e(0, 0), 0.0);
        assert!((ln_e(70, 40) - ln_e(40, 70)).abs() < 1e-12);
        assert_eq!(interval(0, 0, 0.05), None);
    }

    #[test]
    fn the_interval_leaves_one_half_out_when_the_test_says_so() {
        for (wins, losses) in [(60, 40), (560, 440), (3, 0), (0, 9), (5_000, 5_100)] {
            let (low, high) = interval(wins, losses, 0.05).unwrap();
            let decided = ln_e(wins, losses) >= -f64::ln(0.05);
            assert_eq!(!(low..=high).contains(&0.5), decided, "{wins} {losses}: {low} {high}");
            assert!(low >= 0.0 && high <= 1.0 && low < high);
        }
    }

    #[test]
    fn what_is_announced_is_what_the_test_needs() {
        let votes = votes_for(0.05, 0.05).unwrap();
        let (wins, losses) = (votes * 55 / 100, votes * 45 / 100);
        assert!((1_000..1_030).contains(&votes), "{votes}");
        assert!((ln_e(wins, losses) + f64::ln(0.05)).abs() < 0.2);
        assert_eq!(votes_for(0.0, 0.05), None);
        assert!(votes_for(0.02, 0.05).unwrap() > 4 * votes);
    }
}

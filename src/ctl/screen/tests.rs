use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::ctl::status::tests::sample;

/// The cells of a terminal of that size, as lines.
fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |row| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..height).map(line).collect()
}

fn screen() -> Screen {
    let mut screen = Screen::new("127.0.0.1:9900".to_owned());
    let mut before = sample();
    before.arms[0].share = 0.99;
    before.arms[1].share = 0.01;
    screen.take(before, Duration::ZERO);
    screen.take(sample(), Duration::from_secs(60));
    screen.tick(Duration::from_secs(90));
    screen
}

#[test]
fn one_rollout_with_its_shares_over_time_and_its_guards() {
    let lines = drawn(&screen(), 80, 40);
    let told = lines.join("\n");
    for want in [
        "fraud: canary, running",
        "for 3m 42s",
        "share over time",
        "1m 30s ago",
        "100 %",
        "latency p99",
        "4,120 to go",
        "┃",
        "q ends   127.0.0.1:9900",
        "•• v1   ⣀⣀ v2",
        "┃ allowed",
        "VARIANT",
    ] {
        assert!(told.contains(want), "{want}\n{told}");
    }
    assert!(told.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "nothing is plotted:\n{told}");
    assert!(!told.contains("choose"), "{told}");
}

#[test]
fn a_low_terminal_leaves_the_plot_out_first() {
    let told = drawn(&screen(), 80, 20).join("\n");
    assert!(!told.contains("share over time") && told.contains("fraud: canary, running"), "{told}");
    assert!(told.contains("errors") && told.contains("q ends"), "{told}");
}

#[test]
fn every_guard_is_seen_against_its_margin_in_a_small_window() {
    for (width, height) in [(40, 10), (40, 8), (60, 12), (77, 20), (200, 12)] {
        let lines = drawn(&screen(), width, height);
        let told = lines.join("\n");
        for guard in ["errors", "latency p99"] {
            let row = lines.iter().position(|line| line.trim_start().starts_with(guard));
            let row = row.unwrap_or_else(|| panic!("{width} x {height}\n{told}"));
            let both = lines[row..].iter().take(2).cloned().collect::<String>();
            assert!(both.contains('┃') && both.contains('●'), "{width} x {height}\n{told}");
        }
        assert!(told.contains("v2 5 %") && told.contains("q ends"), "{width} x {height}\n{told}");
    }
}

#[test]
fn several_rollouts_have_a_list_and_one_is_looked_at() {
    let mut screen = screen();
    screen.take(Rollout { model: "ranker".into(), ..sample() }, Duration::from_secs(91));
    assert!(drawn(&screen, 80, 45).join("\n").contains("› fraud"));
    screen.select(1);
    screen.select(1);
    let told = drawn(&screen, 80, 45).join("\n");
    assert!(told.contains("› ranker") && told.contains("ranker: canary, running"), "{told}");
    assert!(told.contains("choose"), "{told}");
    screen
        .take(Rollout { model: "ranker".into(), gone: true, ..Rollout::default() }, Duration::from_secs(92));
    assert!(drawn(&screen, 80, 45).join("\n").contains("fraud: canary, running"));
    screen.select(-5);
    screen.take(Rollout { model: "fraud".into(), gone: true, ..Rollout::default() }, Duration::from_secs(93));
    assert!(drawn(&screen, 80, 45).join("\n").contains("no rollouts"));
}

#[test]
fn a_lost_sidecar_is_told_and_time_stands() {
    let mut screen = screen();
    screen.lost();
    screen.tick(Duration::from_secs(900));
    let told = drawn(&screen, 80, 40).join("\n");
    assert!(
        told.contains("is not reached; trying again")
            && told.contains("for 3m 42s")
            && told.contains("last seen"),
        "{told}"
    );
}

#[test]
fn a_terminal_of_any_size_is_drawn_to() {
    for (width, height) in [(1, 1), (10, 3), (80, 1), (200, 100)] {
        assert_eq!(drawn(&screen(), width, height).len(), usize::from(height));
    }
    let untold = drawn(&Screen::new("here".to_owned()), 20, 2);
    assert!(untold[0].trim().is_empty() && untold[1].starts_with("q ends   here"), "{untold:?}");
}

#[test]
fn shares_that_stand_still_cost_no_points() {
    let mut screen = screen();
    for second in 100..200 {
        screen.take(sample(), Duration::from_secs(second));
    }
    assert!(screen.shares.values().all(|points| points.len() == 3), "{:?}", screen.shares);
}

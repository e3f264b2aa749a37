//! The screen of `watch`: what is known of the rollout that is looked at, its shares over time, and each guard's
//! interval against its margin. With several rollouts a list stands above. Drawing is pure: rollouts and times in,
//! cells out.

use std::collections::HashMap;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::paint::{Hue, Paint};
use super::{status, text};
use crate::pb::v1::Rollout;

/// Points of a share that are kept, two for each change: enough for days, and bounded.
const POINTS: usize = 4096;
/// Rows of the list at most.
const LISTED: u16 = 8;
/// Rows of the plot at least; below that it is left out.
const PLOT: u16 = 6;
/// By turns, for the variants.
const COLOURS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue];

/// What is shown.
pub(super) struct Screen {
    address: String,
    rollouts: Vec<Rollout>,
    /// By model and variant: seconds since the screen began, and the share in percent.
    shares: HashMap<(String, String), Vec<(f64, f64)>>,
    selected: usize,
    lost: bool,
    now: Duration,
}

impl Screen {
    /// Of the sidecar at `address`.
    pub(super) fn new(address: String) -> Self {
        Screen {
            address,
            rollouts: Vec::new(),
            shares: HashMap::new(),
            selected: 0,
            lost: false,
            now: Duration::ZERO,
        }
    }

    /// A rollout as it is now, `at` after the screen began.
    pub(super) fn take(&mut self, rollout: Rollout, at: Duration) {
        self.lost = false;
        self.now = at;
        if rollout.gone {
            self.rollouts.retain(|known| known.model != rollout.model);
            self.selected = self.selected.min(self.rollouts.len().saturating_sub(1));
            return;
        }
        for arm in &rollout.arms {
            let points = self.shares.entry((rollout.model.clone(), arm.variant.clone())).or_default();
            let (at, share) = (at.as_secs_f64(), arm.share * 100.0);
            match points.last() {
                Some((_, last)) if *last == share => {}
                // A step, not a slope.
                Some((_, last)) => points.extend([(at, *last), (at, share)]),
                None => points.push((at, share)),
            }
            let over = points.len().saturating_sub(POINTS);
            points.drain(..over);
        }
        match self.rollouts.iter_mut().find(|known| known.model == rollout.model) {
            Some(known) => *known = rollout,
            None => self.rollouts.push(rollout),
        }
    }

    /// The sidecar is not reached.
    pub(super) fn lost(&mut self) {
        self.lost = true;
    }

    /// Time goes on.
    pub(super) fn tick(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.now);
        self.now = at;
        if !self.lost {
            let millis = u64::try_from(passed.as_millis()).unwrap_or(0);
            self.rollouts.iter_mut().for_each(|rollout| rollout.since_ms += millis);
        }
    }

    /// Looks at another rollout, so many further down.
    pub(super) fn select(&mut self, by: isize) {
        self.selected = self.selected.saturating_add_signed(by).min(self.rollouts.len().saturating_sub(1));
    }

    /// All of it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let Some(rollout) = self.rollouts.get(self.selected) else {
            let none = Paragraph::new("no rollouts");
            return frame.render_widget(none, frame.area());
        };
        let facts = self.facts(rollout);
        let guards = guards(rollout);
        let listed = match self.rollouts.len() {
            0 | 1 => 0,
            many => u16::try_from(many + 2).unwrap_or(LISTED).min(LISTED),
        };
        let rows = |text: &Text<'_>| u16::try_from(text.height()).unwrap_or(u16::MAX);
        let fixed = listed + rows(&facts) + rows(&guards) + 2;
        let plot = frame.area().height.saturating_sub(fixed);
        let plot = if plot < PLOT { 0 } else { plot };
        let [top, middle, over_time, below, foot] = Layout::vertical([
            Constraint::Length(listed),
            Constraint::Length(rows(&facts) + 1),
            Constraint::Length(plot),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.list(listed)), top);
        frame.render_widget(Paragraph::new(facts), middle);
        if plot > 0 {
            self.plot(frame, over_time, rollout);
        }
        frame.render_widget(Paragraph::new(guards), below);
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    /// The rollouts around the one that is looked at.
    fn list(&self, rows: u16) -> Text<'static> {
        let mut lines = status::list(&self.rollouts, Paint(false)).into_iter();
        let mut shown: Vec<Line<'static>> =
            lines.next().map(|heading| faint(format!("  {heading}"))).into_iter().collect();
        let room = usize::from(rows.saturating_sub(2)).max(1);
        let first = self.selected.saturating_sub(room - 1);
        for (index, line) in lines.enumerate().skip(first).take(room) {
            let here = index == self.selected;
            let style = if here { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            shown.push(Line::styled(format!("{} {line}", if here { '›' } else { ' ' }), style));
        }
        Text::from(shown)
    }

    fn facts(&self, rollout: &Rollout) -> Text<'static> {
        let title = status::title(rollout, Paint(false));
        let hue = style(Hue::of_state(rollout.state())).add_modifier(Modifier::BOLD);
        let mut lines = vec![Line::styled(title, hue)];
        lines.extend(status::facts(rollout).into_iter().map(Line::from));
        Text::from(lines)
    }

    fn plot(&self, frame: &mut Frame<'_>, area: Rect, rollout: &Rollout) {
        let now = self.now.as_secs_f64().max(1.0);
        let lines: Vec<(String, Vec<(f64, f64)>)> = rollout
            .arms
            .iter()
            .filter_map(|arm| {
                let points = self.shares.get(&(rollout.model.clone(), arm.variant.clone()))?;
                let mut points = points.clone();
                points.push((now, points.last()?.1));
                Some((arm.variant.clone(), points))
            })
            .collect();
        let from =
            lines.iter().filter_map(|(_, points)| points.first()).map(|(at, _)| *at).fold(now, f64::min);
        let colours = COLOURS.iter().cycle();
        let sets = lines.iter().zip(colours).map(|((name, points), colour)| {
            let set = Dataset::default().name(name.as_str()).data(points).graph_type(GraphType::Line);
            set.marker(Marker::Braille).style(Style::new().fg(*colour))
        });
        let ago = text::span(Duration::from_secs_f64(now - from));
        let axis = Axis::default().bounds([from, now]).labels([format!("{ago} ago"), "now".to_owned()]);
        let percent = Axis::default().bounds([0.0, 100.0]).labels(["0 %", "50 %", "100 %"]);
        let block = Block::new().title("  share over time");
        frame.render_widget(Chart::new(sets.collect()).x_axis(axis).y_axis(percent).block(block), area);
    }

    fn foot(&self) -> Line<'static> {
        if self.lost {
            let told = format!("{} is not reached; trying again every second   q ends", self.address);
            return Line::styled(told, style(Hue::Bad));
        }
        let choose = if self.rollouts.len() > 1 { "↑ ↓ choose   " } else { "" };
        faint(format!("{}   {choose}q ends", self.address))
    }
}

fn faint(text: String) -> Line<'static> {
    Line::styled(text, style(Hue::Faint))
}

/// The heading, then two lines for each guard in the colour of its verdict.
fn guards(rollout: &Rollout) -> Text<'static> {
    if rollout.guards.is_empty() {
        return Text::default();
    }
    let lines = status::guards(rollout, Paint(false)).into_iter().enumerate().map(|(index, line)| {
        let guard = index.checked_sub(1).and_then(|index| rollout.guards.get(index / 2));
        let hue = guard.map_or(Hue::Faint, |guard| Hue::of_verdict(guard.verdict()));
        Line::styled(line, style(hue))
    });
    lines.collect()
}

fn style(hue: Hue) -> Style {
    match hue {
        Hue::Good => Style::new().fg(Color::Green),
        Hue::Bad => Style::new().fg(Color::Red),
        Hue::Look => Style::new().fg(Color::Yellow),
        Hue::Strong => Style::new().add_modifier(Modifier::BOLD),
        Hue::Faint => Style::new().add_modifier(Modifier::DIM),
        Hue::Plain => Style::new(),
    }
}

#[cfg(test)]
mod tests;

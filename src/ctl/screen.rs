//! The screen of `watch`: what is known of the rollout that is looked at, its shares over time, and each guard's
//! interval against its margin. With several rollouts a list stands above. Drawing is pure: rollouts and times in,
//! cells out.

use std::collections::HashMap;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::compare;
use super::paint::{Hue, Paint};
use super::status;
use super::status::Told;
use crate::config::units::rough_duration;
use crate::pb::v1::Rollout;

/// Points of a share that are kept, two for each change: enough for days, and bounded.
const POINTS: usize = 4096;
/// Rows of the list at most.
const LISTED: u16 = 8;
/// Rows of the plot at least; below that it is left out.
const PLOT: u16 = 6;
/// Columns of the table of guards.
const TABLE: usize = 78;
/// What is drawn of each guard.
const SIGNS: &str = "   ├●┤ harm and its interval   0 none   ┃ allowed";
/// By turns, for the variants.
const COLOURS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue];
/// By turns too, so that lines differ where there are no colours; and how they look in a title.
const MARKERS: [(Marker, &str); 2] = [(Marker::Dot, "••"), (Marker::Braille, "⣀⣀")];

/// What is shown.
pub(super) struct Screen {
    address: String,
    rollouts: Vec<Rollout>,
    /// By model and variant: seconds since the screen began, and the share in percent.
    shares: HashMap<(String, String), Vec<(f64, f64)>>,
    selected: usize,
    /// Whether anything was ever said.
    known: bool,
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
            known: false,
            lost: false,
            now: Duration::ZERO,
        }
    }

    /// A rollout as it is now, `at` after the screen began.
    pub(super) fn take(&mut self, rollout: Rollout, at: Duration) {
        (self.lost, self.known) = (false, true);
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
            // Until the first one comes nobody knows that there is none.
            let none = if self.known { "no rollouts" } else { "" };
            frame.render_widget(Paragraph::new(none), frame.area());
            let foot = Rect { y: frame.area().bottom().saturating_sub(1), height: 1, ..frame.area() };
            if frame.area().height > 1 {
                frame.render_widget(Paragraph::new(self.foot(foot.width)), foot);
            }
            return;
        };
        let listed = match self.rollouts.len() {
            0 | 1 => 0,
            many => u16::try_from(many + 2).unwrap_or(LISTED).min(LISTED),
        };
        let area = frame.area();
        let parts = Parts::that_fit(rollout, area.width, area.height.saturating_sub(listed + 1));
        let plot = parts.plot;
        let [top, title, facts, arms, over_time, guards, foot] = Layout::vertical([
            Constraint::Length(listed),
            Constraint::Length(1),
            Constraint::Length(rows(&parts.facts)),
            Constraint::Length(rows(&parts.arms)),
            Constraint::Length(plot),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(self.list(listed)), top);
        frame.render_widget(Paragraph::new(self.title(rollout)), title);
        frame.render_widget(Paragraph::new(parts.facts), facts);
        frame.render_widget(Paragraph::new(parts.arms), arms);
        if plot > 0 {
            self.plot(frame, over_time, rollout);
        }
        frame.render_widget(Paragraph::new(parts.guards), guards);
        frame.render_widget(Paragraph::new(self.foot(foot.width)), foot);
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

    fn title(&self, rollout: &Rollout) -> Line<'static> {
        let hue = style(Hue::of_state(rollout.state())).add_modifier(Modifier::BOLD);
        let title = status::title(rollout, Paint(false));
        Line::styled(if self.lost { format!("{title}, when it was last seen") } else { title }, hue)
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
        let looks = || COLOURS.iter().cycle().zip(MARKERS.iter().cycle());
        let sets = lines.iter().zip(looks()).map(|((_, points), (colour, (marker, _)))| {
            let set = Dataset::default().data(points).graph_type(GraphType::Line);
            set.marker(*marker).style(Style::new().fg(*colour))
        });
        let mut title = vec![Span::raw("  share over time")];
        for ((name, _), (colour, (_, shown))) in lines.iter().zip(looks()) {
            title.push(Span::styled(format!("   {shown} {name}"), Style::new().fg(*colour)));
        }
        let ago = rough_duration(Duration::from_secs_f64(now - from));
        let axis = Axis::default().bounds([from, now]).labels([format!("{ago} ago"), "now".to_owned()]);
        let percent = Axis::default().bounds([0.0, 100.0]).labels(["0 %", "50 %", "100 %"]);
        let block = Block::new().title(Line::from(title));
        frame.render_widget(Chart::new(sets.collect()).x_axis(axis).y_axis(percent).block(block), area);
    }

    /// How to get out, which sidecar it is, and what the signs mean, as far as there is room.
    fn foot(&self, width: u16) -> Line<'static> {
        if self.lost {
            let told = format!("q ends   {} is not reached; trying again every second", self.address);
            return Line::styled(told, style(Hue::Bad));
        }
        let choose = if self.rollouts.len() > 1 { "↑ ↓ choose   " } else { "" };
        let mut told = format!("q ends   {choose}{}", self.address);
        let guarded = self.rollouts.get(self.selected).is_some_and(|rollout| !rollout.guards.is_empty());
        if guarded && told.chars().count() + SIGNS.chars().count() <= usize::from(width) {
            told.push_str(SIGNS);
        }
        faint(told)
    }
}

/// What of a rollout fits: rather every guard's interval than what comes next, and the plot of shares last.
struct Parts {
    facts: Text<'static>,
    arms: Text<'static>,
    guards: Text<'static>,
    /// Rows of the plot; 0: there is none.
    plot: u16,
}

impl Parts {
    /// In so many columns, and rows below the title.
    fn that_fit(rollout: &Rollout, width: u16, height: u16) -> Parts {
        let room = height.saturating_sub(1);
        let columns = usize::from(width);
        let facts = |told| lines(status::facts(rollout, columns, told));
        let short = |both| narrow(rollout, columns, both);
        let full = || if columns < TABLE { short(true) } else { guards(rollout) };
        let choices: [(Told, &dyn Fn() -> Text<'static>); 4] = [
            (Told::All, &full),
            (Told::Now, &full),
            (Told::Now, &|| short(false)),
            (Told::Place, &|| short(false)),
        ];
        let made = choices.iter().map(|(told, guards)| (facts(*told), guards()));
        // A row between the two.
        let fits = |(facts, guards): &(Text<'_>, Text<'_>)| rows(facts) + rows(guards) < room;
        let mut last = (Text::default(), Text::default());
        for choice in made {
            last = choice;
            if fits(&last) {
                break;
            }
        }
        let (mut facts, guards) = last;
        let mut left = room.saturating_sub(rows(&facts) + rows(&guards));
        let mut arms = lines(status::arms(rollout, Paint(false)));
        arms.lines.push(Line::default());
        if left > 0 {
            facts.lines.push(Line::default());
            left -= 1;
        }
        if columns < TABLE || rows(&arms) + PLOT > left {
            arms = Text::default();
        }
        left -= rows(&arms);
        Parts { facts, arms, guards, plot: if left < PLOT { 0 } else { left } }
    }
}

fn rows(text: &Text<'_>) -> u16 {
    u16::try_from(text.height()).unwrap_or(u16::MAX)
}

fn lines(lines: Vec<String>) -> Text<'static> {
    lines.into_iter().map(Line::from).collect()
}

fn faint(text: String) -> Line<'static> {
    Line::styled(text, style(Hue::Faint))
}

/// The heading, then two lines for each guard in the colour of its verdict.
fn guards(rollout: &Rollout) -> Text<'static> {
    if rollout.guards.is_empty() {
        return Text::default();
    }
    if compare::is_one(rollout) {
        let lines = compare::lines(rollout, Paint(false)).into_iter();
        return lines.map(|(hue, line)| Line::styled(line, style(hue))).collect();
    }
    let lines = status::guards(rollout, Paint(false)).into_iter().enumerate().map(|(index, line)| {
        let guard = index.checked_sub(1).and_then(|index| rollout.guards.get(index / 2));
        let hue = guard.map_or(Hue::Faint, |guard| Hue::of_verdict(guard.verdict()));
        Line::styled(line, style(hue))
    });
    lines.collect()
}

/// The same in few columns: a line for each guard, or two with its figures.
fn narrow(rollout: &Rollout, columns: usize, both: bool) -> Text<'static> {
    let of = |guard| {
        let [first, second] = status::narrow(guard, columns);
        let first = Line::styled(first, style(Hue::of_verdict(guard.verdict())));
        std::iter::once(first).chain(both.then(|| faint(second)))
    };
    rollout.guards.iter().flat_map(of).collect()
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

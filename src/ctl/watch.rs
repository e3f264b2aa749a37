//! Rollouts while they change: a screen on a terminal, else a line for each change.
//!
//! A sidecar closes every connection of its admin port after some minutes, and may be restarted: a connection that is
//! lost is made again. The screen says so and goes on; lines end with an error where no sidecar comes back.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant, SystemTime};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::connect::{Failure, Place, Watched};
use super::screen::Screen;
use super::{Out, json, say, status, text};
use crate::pb::v1::Rollout;

/// Before a connection that was lost is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often keys are looked at, and the screen is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Watches `model`, or all of them where it is empty.
pub(super) async fn run(place: &Place, model: String, out: &Out) -> Result<(), Failure> {
    // What cannot be had at the start is an error, not something to wait for.
    let watched = place.connect().await?.watch(model.clone()).await?;
    let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    if out.json || dumb || !terminal {
        return lines(place, &model, watched, out).await;
    }
    let mut terminal = ratatui::try_init()?;
    let ended = live(place, &model, watched, &mut terminal).await;
    ratatui::try_restore()?;
    ended
}

async fn lines(place: &Place, model: &str, mut watched: Watched, out: &Out) -> Result<(), Failure> {
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    loop {
        let rollout = match watched.next().await {
            Ok(Some(rollout)) => rollout,
            Ok(None) | Err(Failure::Unreached(_)) => {
                sleep(AGAIN).await;
                watched = place.connect().await?.watch(model.to_owned()).await?;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let plan = plan(&rollout);
        if told.insert(rollout.model.clone(), plan.clone()).as_ref() != Some(&plan) {
            match out.json {
                true => say(&[json::rollout(&rollout).to_string()])?,
                false => say(&[line(&rollout, SystemTime::now())])?,
            }
        }
    }
}

/// All of a rollout but its figures: where this differs something has changed.
fn plan(rollout: &Rollout) -> Vec<String> {
    let mut plan = vec![
        rollout.revision.clone(),
        format!("{} {:?} {} {}", text::state(rollout.state()), rollout.step, rollout.epoch, rollout.gone),
        text::verdict(rollout.verdict()),
        rollout.differs.clone(),
        rollout.kept_why.clone(),
    ];
    plan.extend(rollout.refused.iter().cloned());
    plan.extend(
        rollout.arms.iter().map(|arm| format!("{} {} {} {}", arm.variant, arm.share, arm.ready, arm.blocked)),
    );
    plan.extend(
        rollout.guards.iter().map(|guard| format!("{} {}", guard.name, text::verdict(guard.verdict()))),
    );
    // Whoever replaces servers waits for exactly this.
    plan.extend(
        rollout.endpoints.iter().map(|one| {
            format!("{} {} {} {:?} {:?}", one.address, one.place, one.ready, one.runs, one.wanted)
        }),
    );
    plan
}

/// `2026-11-22T12:00:00Z fraud running 2/4: v2 5 %, v1 95 %; not enough data; waits for …`.
fn line(rollout: &Rollout, now: SystemTime) -> String {
    let at = crate::admin::rfc3339(now);
    if rollout.gone {
        return format!("{at} {} has left the configuration", rollout.model);
    }
    let step = rollout.step.map_or(String::new(), |step| format!(" {step}/{}", rollout.steps));
    let (state, shares) = (status::state(rollout), status::shares(rollout));
    let mut line = format!("{at} {} {state}{step}: {shares}", rollout.model);
    if !rollout.guards.is_empty() {
        line.push_str(&format!("; {}", status::spoken(rollout.verdict())));
    }
    for guard in rollout.guards.iter().filter(|guard| guard.verdict() == crate::pb::v1::Verdict::Fail) {
        line.push_str(&format!(", {} fails", guard.name));
    }
    if !rollout.waits_for.is_empty() {
        line.push_str(&format!("; waits for {}", rollout.waits_for));
    }
    line
}

/// What a key press asks for.
enum Asked {
    Nothing,
    End,
}

async fn live(
    place: &Place,
    model: &str,
    watched: Watched,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Failure> {
    let mut screen = Screen::new(place.address.clone());
    let began = Instant::now();
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // From the keyboard Ctrl-C is a key here; whoever sends the signal gets the terminal back as well.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watched = Some(watched);
    loop {
        tokio::select! {
            next = next(place, model, &mut watched) => match next {
                Ok(rollout) => screen.take(rollout, began.elapsed()),
                Err(Failure::Unreached(_)) => screen.lost(),
                Err(failure) => return Err(failure),
            },
            _ = frames.tick() => {
                if let Asked::End = keys(&mut screen)? {
                    return Ok(());
                }
                screen.tick(began.elapsed());
                terminal.draw(|frame| screen.draw(frame))?;
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// The next change, over a new connection where there is none.
async fn next(place: &Place, model: &str, watched: &mut Option<Watched>) -> Result<Rollout, Failure> {
    if watched.is_none() {
        sleep(AGAIN).await;
        *watched = Some(place.connect().await?.watch(model.to_owned()).await?);
    }
    let lost = || Failure::Unreached("the connection ended".to_owned());
    let next = match watched {
        Some(stream) => stream.next().await,
        None => Ok(None),
    };
    match next {
        Ok(Some(rollout)) => Ok(rollout),
        Ok(None) => {
            *watched = None;
            Err(lost())
        }
        Err(failure) => {
            *watched = None;
            Err(failure)
        }
    }
}

/// Looks at what was typed, and waits for nothing.
fn keys(screen: &mut Screen) -> io::Result<Asked> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event::read()? {
            match code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(Asked::End),
                KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Ok(Asked::End),
                KeyCode::Up | KeyCode::Char('k') => screen.select(-1),
                KeyCode::Down | KeyCode::Char('j') => screen.select(1),
                _ => {}
            }
        }
    }
    Ok(Asked::Nothing)
}

use super::*;
use crate::config::FixedLimits;
use crate::evidence::ArmGain;

const DAY: u64 = 86_400;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(DAY + seconds)
}

fn pinned() -> Pinned {
    Pinned { guards: FixedLimits { errors: Some(0.01), slow: Vec::new() }, ..Pinned::new(1) }
}

fn from(serves: usize) -> Option<Past> {
    Some(Past { serves, before: None })
}

fn well(_: usize) -> Result<(), Refused> {
    Ok(())
}

fn gone(variant: usize) -> impl Fn(usize) -> Result<(), Refused> {
    move |asked| match asked == variant {
        true => Err(Refused::NotReady { variant: "v".into(), why: "dead".to_owned() }),
        false => Ok(()),
    }
}

fn gain(switch: &Switch, calls: u64, errors: u64) -> Gain {
    let arm = ArmGain { calls, errors, ..ArmGain::default() };
    Gain { epoch: switch.standing().epoch, segment: None, arms: vec![ArmGain::default(), arm] }
}

fn flipped(pinned: &Pinned) -> Switch {
    let mut switch = Switch::begin(pinned, from(0), at(0));
    let change = switch.look(pinned, &well, at(1)).unwrap();
    assert_eq!((change.action, change.to, change.share), (Action::Flipped, State::Running, 1.0));
    switch
}

fn refused(switch: &mut Switch, command: &Command) -> String {
    let before = switch.clone();
    let refused = switch.command(&pinned(), command, &well, at(99)).unwrap_err().to_string();
    assert_eq!(*switch, before, "what is refused changes nothing");
    refused
}

#[test]
fn without_a_past_the_files_variant_has_everything_at_once() {
    for past in [None, from(1)] {
        let mut switch = Switch::begin(&pinned(), past, at(0));
        assert_eq!((switch.state(), switch.standing()), (State::Steady, Standing::CONFIGURED));
        assert_eq!(switch.look(&pinned(), &well, at(DAY)), None);
        let remedy = refused(&mut switch, &Command::Rollback);
        assert!(remedy.contains("nothing is left to revert to") && remedy.contains("pin"), "{remedy}");
        assert!(refused(&mut switch, &Command::Promote).contains("no switch is under way"));
    }
}

#[test]
fn it_flips_once_the_new_variant_is_ready_and_never_before() {
    let pinned = pinned();
    let mut switch = Switch::begin(&pinned, from(0), at(0));
    assert_eq!((switch.state(), switch.standing().split), (State::Waiting, Split::Only(0)));
    assert_eq!(switch.look(&pinned, &well, at(0)), None, "a worker may not know the file yet");
    assert_eq!(switch.look(&pinned, &gone(1), at(60)), None);
    assert_eq!(switch.warms(), Some(1));
    let before = switch.standing().epoch;
    let change = switch.look(&pinned, &well, at(61)).unwrap();
    assert_eq!((change.action, change.from, change.to), (Action::Flipped, State::Waiting, State::Running));
    assert_eq!((switch.standing().split, switch.standing().epoch), (Split::Configured, before + 1));
    assert_eq!(switch.warms(), None);
}

#[test]
fn after_the_window_nothing_is_left_to_revert_to() {
    let pinned = pinned();
    let mut switch = flipped(&pinned);
    let window = pinned.revert_window.as_secs();
    assert_eq!(switch.look(&pinned, &well, at(window)), None);
    assert!(switch.report(&pinned, 2, at(window)).waits_for.contains("in 1s"));
    let change = switch.look(&pinned, &well, at(window + 1)).unwrap();
    assert_eq!((change.action, change.to), (Action::Settled, State::Steady));
    assert_eq!(switch.standing().split, Split::Configured);
    assert!(refused(&mut switch, &Command::Rollback).contains("nothing is left"));
}

#[test]
fn a_person_reverts_with_the_new_variant_dead_and_ends_the_window() {
    let pinned = pinned();
    let mut switch = flipped(&pinned);
    let change = switch.command(&pinned, &Command::Rollback, &gone(1), at(5)).unwrap();
    assert_eq!((change.action, change.to, change.share), (Action::RolledBack, State::RolledBack, 0.0));
    assert_eq!((switch.standing().split, switch.standing().epoch), (Split::Only(0), 2));

    let mut switch = flipped(&pinned);
    let change = switch.command(&pinned, &Command::Promote, &gone(1), at(5)).unwrap();
    assert_eq!((change.action, change.to), (Action::Promoted, State::Steady));
    assert!(refused(&mut switch, &Command::Rollback).contains("nothing is left"));
}

#[test]
fn before_the_flip_a_person_holds_it_up_cancels_it_or_hastens_it() {
    let pinned = pinned();
    let mut switch = Switch::begin(&pinned, from(0), at(0));
    switch.command(&pinned, &Command::Pause, &well, at(1)).unwrap();
    assert_eq!(switch.look(&pinned, &well, at(9_999)), None);
    switch.command(&pinned, &Command::Resume, &well, at(9_999)).unwrap();
    assert!(refused(&mut switch.clone(), &Command::Resume).contains("by itself"));
    let mut cancelled = switch.clone();
    cancelled.command(&pinned, &Command::Rollback, &well, at(9_999)).unwrap();
    assert_eq!((cancelled.state(), cancelled.standing().split), (State::RolledBack, Split::Only(0)));
    assert!(switch.command(&pinned, &Command::Promote, &gone(1), at(9_999)).is_err());
    switch.command(&pinned, &Command::Promote, &well, at(9_999)).unwrap();
    assert_eq!((switch.state(), switch.standing().split), (State::Running, Split::Configured));
    assert!(refused(&mut switch, &Command::Pause).contains("the flip is done"));
}

#[test]
fn what_is_not_ready_in_time_is_held_for_a_person() {
    let pinned = pinned();
    let mut switch = Switch::begin(&pinned, from(0), at(0));
    let change = switch.look(&pinned, &gone(1), at(3_600)).unwrap();
    assert_eq!((change.action, change.to), (Action::Held, State::Held));
    assert!(change.why.contains("1h"), "{}", change.why);
    assert_eq!(switch.look(&pinned, &well, at(9_999)), None, "a held switch moves by a person only");
    switch.command(&pinned, &Command::Resume, &well, at(9_999)).unwrap();
    assert_eq!(switch.look(&pinned, &well, at(10_000)).unwrap().action, Action::Flipped);
}

#[test]
fn a_guard_reverts_where_there_is_somebody_to_revert_to() {
    let pinned = pinned();
    for (on_fail, ready, action, serves) in [
        (OnFail::Rollback, true, Action::RolledBack, Split::Only(0)),
        (OnFail::Rollback, false, Action::Held, Split::Configured),
        (OnFail::Hold, true, Action::Held, Split::Configured),
    ] {
        let pinned = Pinned { on_fail, ..pinned.clone() };
        let mut switch = flipped(&pinned);
        switch.absorb(&pinned, &gain(&switch, 1_000, 2));
        assert_eq!(switch.look(&pinned, &well, at(2)), None);
        switch.absorb(&pinned, &gain(&switch, 100, 60));
        let change = match ready {
            true => switch.look(&pinned, &well, at(3)).unwrap(),
            false => switch.look(&pinned, &gone(0), at(3)).unwrap(),
        };
        assert_eq!((change.action, switch.standing().split), (action, serves));
        assert!(change.why.contains("errors") && change.findings[0].verdict == Verdict::Fail);
        assert_eq!(switch.look(&pinned, &well, at(DAY)), None, "one change for one failure");
        if action == Action::Held {
            assert!(refused(&mut switch, &Command::Resume).contains("a guard fails"));
            switch.command(&pinned, &Command::Rollback, &well, at(9)).unwrap();
            assert_eq!(switch.standing().split, Split::Only(0));
        }
    }
}

#[test]
fn a_pin_is_let_go_to_where_it_was() {
    let pinned = pinned();
    let mut waiting = Switch::begin(&pinned, from(0), at(0));
    let mut running = flipped(&pinned);
    let mut steady = Switch::begin(&pinned, None, at(0));
    for (switch, state) in
        [(&mut waiting, State::Waiting), (&mut running, State::Running), (&mut steady, State::Steady)]
    {
        let before = switch.standing().split;
        switch.command(&pinned, &Command::Pin(0), &well, at(2)).unwrap();
        assert_eq!((switch.state(), switch.standing().split), (State::Pinned, Split::Only(0)));
        assert!(refused(switch, &Command::Rollback).contains("resume it first"));
        switch.command(&pinned, &Command::Resume, &well, at(3)).unwrap();
        assert_eq!((switch.state(), switch.standing().split), (state, before));
    }
}

#[test]
fn another_file_with_the_same_variant_leaves_the_way_back_open() {
    let pinned = pinned();
    let switch = flipped(&pinned);
    let mut next = Switch::begin(&pinned, Some(switch.past()), at(60));
    assert_eq!((next.state(), next.standing().split), (State::Running, Split::Configured));
    let window = pinned.revert_window.as_secs();
    assert_eq!(next.look(&pinned, &well, at(window + 1)).unwrap().action, Action::Settled);
    assert_eq!(next.past(), Past { serves: 1, before: None });
}

#[test]
fn it_is_written_down_and_read_back_whole() {
    let mut switch = flipped(&pinned());
    switch.absorb(&pinned(), &gain(&switch, 10, 1));
    let text = serde_json::to_string(&switch).unwrap();
    assert_eq!(serde_json::from_str::<Switch>(&text).unwrap(), switch);
}

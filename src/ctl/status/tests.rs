use super::*;
use crate::pb::v1::{Interval, Scale, State};

/// A canary at its second step.
pub(in crate::ctl) fn sample() -> Rollout {
    let arm = |variant: &str, version: &str, role: Role, share, calls| Arm {
        variant: variant.into(),
        version: version.into(),
        build: format!("{version} at 127.0.0.1:8001"),
        role: role.into(),
        ready: true,
        share,
        calls,
        ..Arm::default()
    };
    let estimate = |n, value| Some(Estimate { n, value: Some(value) });
    let errors = Guard {
        name: "errors".into(),
        verdict: Verdict::Pass.into(),
        baseline: estimate(121_004, 0.001),
        candidate: estimate(6_371, 0.0012),
        harm: Some(Interval { low: -0.0004, middle: 0.0002, high: 0.0009 }),
        margin: 0.001,
        scale: Scale::Share.into(),
        ln_e: -2.25,
        threshold: 6.0,
        missing: 0,
        ..Guard::default()
    };
    let latency = Guard {
        name: "latency p99".into(),
        verdict: Verdict::NotEnoughData.into(),
        baseline: estimate(121_004, 0.0123),
        candidate: estimate(6_371, 0.0131),
        harm: Some(Interval { low: -0.12, middle: 0.065, high: f64::INFINITY }),
        margin: 0.15,
        scale: Scale::Ratio.into(),
        ln_e: 0.75,
        threshold: 6.0,
        missing: 4_120,
        ..Guard::default()
    };
    Rollout {
        model: "fraud".into(),
        kind: "canary".into(),
        state: State::Running.into(),
        config_revision: "0123456789ab".into(),
        revision: "9f3a01c2".into(),
        step: Some(2),
        steps: 4,
        since_ms: 192_000,
        arms: vec![
            arm("v1", "1.4.0", Role::Baseline, 0.95, 121_004),
            arm("v2", "2.0.0", Role::Candidate, 0.05, 6_371),
        ],
        verdict: Verdict::NotEnoughData.into(),
        guards: vec![errors, latency],
        waits_for: "a verdict on latency p99".into(),
        next: vec![
            "if every guard passes: step 3 of 4, 25% to v2, for at least 10m".into(),
            "if one fails: everything to v1, and v2's build is blocked".into(),
        ],
        kept: Kept::Directory.into(),
        epoch: 2,
        ..Rollout::default()
    }
}

#[test]
fn a_running_canary_at_a_glance() {
    let want = "\
fraud: canary, running
  where   step 2 of 4, v2 5 %, v1 95 %, for 3m 12s
  waits   a verdict on latency p99
  sure    not enough data: 1 of 2 guards pass; a healthy candidate needs about
          4,120 more calls
  next    if every guard passes: step 3 of 4, 25% to v2, for at least 10m
          if one fails: everything to v1, and v2's build is blocked
  file    revision 0123456789ab, rollout 9f3a01c2, epoch 2

  VARIANT  ROLE       VERSION  READY  SHARE    CALLS
  v1       baseline   1.4.0    yes     95 %  121,004
  v2       candidate  2.0.0    yes      5 %    6,371

  GUARD             V1       V2  HARM AND ITS INTERVAL     ALLOWED  VERDICT
  errors         0.1 %   0.12 %  +0.02 (-0.04 … +0.09) pp  +0.1 pp  pass
    ··············├───┼─●─────┤┃·········  ln e -2.2 of 6.0
  latency p99  12.3 ms  13.1 ms  +6.5 (-12 … ∞) %            +15 %  not enough
    ···········├──────┼───●────┃────────►  ln e 0.8 of 6.0, 4,120 to go
";
    let lines = status(&sample(), Paint(false));
    let told = lines.join("\n");
    assert_eq!(told, want.trim_end());
    assert!(lines.iter().all(|line| line.chars().count() <= text::WIDTH), "{told}");
    assert!(!told.contains('\x1b'));
    assert!(status(&sample(), Paint(true)).join("\n").contains("\x1b[32m"));
}

#[test]
fn what_is_wrong_is_said() {
    let mut broken = sample();
    broken.state = State::RolledBack.into();
    broken.verdict = Verdict::Fail.into();
    broken.guards[0].verdict = Verdict::Fail.into();
    broken.arms[1].blocked = true;
    broken.arms[1].ready = false;
    broken.arms[1].why = "cannot connect: connection refused".into();
    broken.differs = "the file says `kind: canary`, but v1 gets everything".into();
    broken.refused = vec!["models: is missing".into()];
    broken.kept = Kept::Failing.into();
    broken.kept_why = "the disk is full".into();
    let told = status(&broken, Paint(false)).join("\n");
    for want in [
        "fraud: canary, rolled back",
        "fail: 0 of 2 guards pass, errors fails",
        "  blocked 2.0.0 at 127.0.0.1:8001",
        "  differs the file says",
        "  refused the newest file: models: is missing",
        "  kept    not now: the disk is full",
        "v2 is not ready: cannot connect: connection refused",
    ] {
        assert!(told.contains(want), "{want}\n{told}");
    }
    let memory = Rollout { kept: Kept::Memory.into(), ..sample() };
    assert!(status(&memory, Paint(false)).join("\n").contains("in memory only"));
}

#[test]
fn a_list_has_a_line_for_each() {
    let steady = Rollout {
        model: "a-model-whose-name-is-longer-than-the-column".into(),
        kind: "ab".into(),
        state: State::Steady.into(),
        arms: vec![Arm { variant: "v1".into(), ..Arm::default() }],
        ..Rollout::default()
    };
    let lines = list(&[sample(), steady], Paint(false));
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("MODEL"), "{lines:?}");
    for part in ["fraud", "canary", "running", "2/4", "v2 5 %, v1 95 %", "not enough data"] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    assert!(lines[2].contains('…') && lines[2].contains("shares by segment"), "{}", lines[2]);
    assert!(lines.iter().all(|line| line.chars().count() <= text::WIDTH), "{lines:?}");
    assert_eq!(list(&[], Paint(false)), ["no rollouts"]);
    assert_eq!(all(&[], Paint(false)), ["no rollouts"]);
    assert!(all(&[sample(), sample()], Paint(false)).contains(&String::new()));
}

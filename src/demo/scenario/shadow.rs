//! The configuration of the shadows that are judged: one is the same, one only jitters, one flips labels. Pure.

use super::{Place, entry, ports};

/// The shadow that never differs.
pub const TWIN: &str = "twin";
/// The shadow that makes the same noise as the served version.
pub const JITTERS: &str = "jitters";
/// The shadow that says other digits now and then.
pub const FLIPS: &str = "flips";

/// The text: the first variant answers, the second is another instance of it, `others` are shadows.
pub(super) fn configuration(Place { model, variants, others, state, .. }: &Place<'_>) -> String {
    let [served, control] = variants;
    let all: Vec<String> = variants.iter().chain(*others).map(entry).collect();
    let shadow = |name: &str| {
        format!(
            "      - variant: {name}
        compare: {{output: probabilities, as: scores}}
        control: {{to: {control}, sample: 100%}}
        disagreement: 5%",
            control = control.name,
        )
    };
    let shadows: Vec<String> = others.iter().map(|other| shadow(other.name)).collect();
    format!(
        "# {served} answers, and its scores are never quite the same twice. The others get a copy
# of every call. So does {control}, a second server of the same version: how often it
# disagrees with {served} is noise, and taken off. `label` is declared nowhere: that it is a
# class is told from its type. Ports of 0: any that is free.
{ports}
models:
  {model}:
    variants:
{all}
    shadows:
{shadows}",
        served = served.name,
        control = control.name,
        ports = ports(state),
        all = all.join("\n"),
        shadows = shadows.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::super::tests::read;
    use super::*;

    #[test]
    fn one_answers_and_three_are_judged_beside_a_control() {
        let (model, _) = read(Scenario::Shadow);
        assert_eq!(model.baseline(), 0);
        let names: Vec<&str> =
            model.shadows.iter().map(|shadow| &*model.variants[shadow.variant].name).collect();
        assert_eq!(names, [TWIN, JITTERS, FLIPS]);
        for shadow in &model.shadows {
            let judging = shadow.judging.as_ref().unwrap();
            assert_eq!(judging.control.as_ref().and_then(|control| control.index), Some(1));
            assert!(judging.disagreement.is_some());
        }
    }
}

//! The switch's configuration: the file that is there first, and the one that it becomes. Pure.

use std::time::Duration;

use super::{Place, entry, ports};

/// How long the first variant has everything before the file names the second.
pub(super) const BEFORE_CHANGE: Duration = Duration::from_secs(2);
/// How long the second one behaves once it has everything: the way back is still open then.
pub(super) const BEFORE_TROUBLE: Duration = Duration::from_secs(4);

/// The text where `variant`, 0 or 1, is to have everything.
pub(super) fn configuration(Place { model, variants, state, .. }: &Place<'_>, variant: usize) -> String {
    let [v1, v2] = variants.each_ref().map(entry);
    format!(
        "# Blue/green in a hurry. What is shortened says what the default is. Ports of 0:
# any that is free.
{ports}
models:
  {model}:
    variants:
{v1}
{v2}
    strategy:
      kind: pinned
      # Whoever is named here gets every call. Another name is a switch.
      variant: {named}
      # Real requests, kept from live calls, that the new one must have answered
      # before the first caller meets it. Default: 20.
      warmup: {{requests: 50}}
      # How long the way back is open after the flip. Default: 30m.
      revert_window: 60s
      guards:
        # Within that window: the way back is taken by itself where more fail. There
        # is nobody beside it to compare with, so the limit is a fixed one.
        errors: {{at_most: 2%}}",
        ports = ports(state),
        named = variants[variant].name,
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{place, read};
    use super::super::{Deed, Scenario};
    use super::*;
    use crate::config::Strategy;

    #[test]
    fn the_change_is_one_word_and_the_trouble_falls_into_the_window() {
        let (model, _) = read(Scenario::Switch);
        let Strategy::Pinned(pinned) = &model.strategy else { panic!("{:?}", model.strategy) };
        assert_eq!((pinned.variant, pinned.warming.requests), (0, 50));
        assert!(pinned.revert_window > BEFORE_TROUBLE * 2 && pinned.guards.errors.is_some());
        let [before, after] = [0, 1].map(|variant| place(|place| configuration(place, variant)));
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let changed: Vec<_> = changed.map(|(before, after)| (before.trim(), after.trim())).collect();
        assert_eq!(changed, [("variant: v1", "variant: v2")]);
        assert_eq!(Scenario::Switch.first(), Some((BEFORE_CHANGE, Deed::Change)));
    }
}

//! The rolling update's configuration: the file that is there first, and the one that it becomes. Pure.

use std::time::Duration;

use super::{Place, ports};

/// Servers of the one variant.
pub(in crate::demo) const SERVERS: usize = 4;
/// What the file says of them.
pub(in crate::demo) const MIN_READY: usize = 3;
/// How long they serve before the file names the new version.
pub(super) const BEFORE_CHANGE: Duration = Duration::from_secs(2);
/// What the variant is called.
pub(in crate::demo) const VARIANT: &str = "all";

/// The text where the servers are to run `version`, 0 or 1.
pub(super) fn configuration(
    Place { model, variants, servers, state, .. }: &Place<'_>,
    version: usize,
) -> String {
    let endpoints: Vec<String> =
        servers.iter().map(|server| format!("          - \"http://{server}\"")).collect();
    format!(
        "# A rolling update in a hurry. What is shortened says what the default is. Ports
# of 0: any that is free.
{ports}
models:
  {model}:
    variants:
      {VARIANT}:
        # What the servers shall run. Another version is an update.
        version: {version}
        endpoints:
{endpoints}
    strategy:
      kind: rolling
      variant: {VARIANT}
      # One at a time, and only where three others are ready.
      batch: 1
      min_ready: {MIN_READY}
      # Real requests, kept from live calls, that a new server must have answered
      # before it gets calls.
      warmup: {{requests: 20}}
      # A new server serves so long before the next is touched. Default: 10s.
      hold: 1s
      guards:
        # Of what new servers answer; more, and the update walks back. Default: 10%.
        errors: {{at_most: 2%}}
      # A server that is not replaced by then fails the update. Default: 10m.
      replace_timeout: 20s",
        ports = ports(state),
        version = variants[version].version,
        endpoints = endpoints.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{place, read};
    use super::super::{Deed, Scenario};
    use super::*;
    use crate::config::Strategy;

    #[test]
    fn the_change_is_one_word_and_the_update_ends_in_time() {
        let (model, _) = read(Scenario::Rolling);
        let Strategy::Rolling(rolling) = &model.strategy else { panic!("{:?}", model.strategy) };
        assert_eq!(model.variants[rolling.variant].endpoints.len(), SERVERS);
        assert_eq!((rolling.min_ready, rolling.batch, rolling.guards.count()), (MIN_READY, 1, 1));
        assert!(rolling.hold * SERVERS as u32 + rolling.replace_timeout < Duration::from_secs(60));
        let [before, after] = [0, 1].map(|version| place(|place| configuration(place, version)));
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let changed: Vec<_> = changed.map(|(before, after)| (before.trim(), after.trim())).collect();
        assert_eq!(changed, [("version: 1.0.0", "version: 2.0.0")]);
        assert_eq!(Scenario::Rolling.first(), Some((BEFORE_CHANGE, Deed::Change)));
    }
}

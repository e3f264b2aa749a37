//! What the replica that decides knows beside: from which plan it decides, and whose parts it has read. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::exchange::{Answer, Delivered, Mark};
use crate::fleet::ledger::READ;
use crate::fleet::part::Part;

/// What whoever decides knows beside.
#[derive(Debug, Clone)]
pub(super) struct Lead {
    pub(super) fence: u64,
    /// The plan that it decides from.
    pub(super) mark: Mark,
    pub(super) id: Arc<str>,
    pub(super) generation: u32,
    pub(super) rolled_back: bool,
    pub(super) absorbed: BTreeMap<Arc<str>, u64>,
    /// The place behind the last part that it has read.
    pub(super) next: u64,
    /// Whether it has read any since the last commit, how far it had come there, and when that was.
    pub(super) gained: bool,
    pub(super) written: u64,
    pub(super) beat: Duration,
    /// A part came that follows on none it has read: the store lost some, and must begin again from this plan.
    pub(super) astray: bool,
}

impl Lead {
    /// The parts of an answer that are new, each replica's in their order.
    pub(super) fn read(&mut self, answer: &Answer) -> Vec<Part> {
        let mut new = Vec::new();
        let places = answer.first..;
        for (place, Delivered { replica, sent }) in places.zip(&answer.parts) {
            if place < self.next {
                continue;
            }
            self.next = place + 1;
            let known = self.absorbed.get(replica).copied().unwrap_or(0);
            if known != sent.from {
                self.astray |= sent.to > known;
                continue;
            }
            if let Ok(part) = serde_json::from_str(&sent.text) {
                new.push(part);
            }
            self.absorbed.insert(Arc::clone(replica), sent.to);
            self.gained = true;
        }
        // A store that was restored may have taken parts in places that were read already.
        let has = |replica: &Arc<str>| self.absorbed.get(replica).copied().unwrap_or(0);
        let all = (answer.parts.len() as u64) < READ;
        self.astray |= all && answer.sees.iter().any(|(replica, seen)| *seen > has(replica));
        new
    }
}

//! Lists of several rankers become one message, and what was shown is remembered for the credit that will come.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Call;
use crate::config::{By, Interleave};
use crate::feedback::shown::{self, Draft, Shown};
use crate::outcome::merged::{Merged, Unanalysed};
use crate::prediction::slots::Slots;
use crate::protocol::oip::ranking::{Entry, Key, Ranking};
use crate::strategy::interleave::{Chance, Lists, Pick, Round, Sources};

/// Lists of one row, and what was made of them.
struct Row<'r> {
    lists: Lists,
    entries: Vec<Vec<&'r Entry>>,
    picks: Vec<Pick>,
}

impl Call<'_> {
    /// One message of all lists; none where one answer goes on as it came.
    pub(super) fn merge(
        &self,
        config: &Interleave,
        base: &Ranking,
        lists: &[(usize, &Ranking)],
        merged: &mut Merged,
    ) -> Option<Bytes> {
        let memory = self.plan.rollout.shown.as_ref();
        let draft = self.together.draft.filter(|_| base.rows.len() == 1);
        let before = draft.zip(memory).map(|(key, memory)| memory.take_draft(key).unwrap_or_default());
        if lists.len() < 2 && before.as_ref().is_none_or(|draft| draft.shown.is_empty()) {
            return None;
        }
        let mut round = Round(before.as_ref().map_or(0, |draft| draft.round));
        let rows: Vec<Row<'_>> = (0..base.rows.len())
            .map(|row| self.row(config, (row, draft), (base, lists), before.as_ref(), &mut round))
            .collect();
        let length = rows.iter().map(|row| row.picks.len()).min().unwrap_or(0);
        (merged.rows, merged.length) = (rows.len(), length);
        for (place, (variant, _)) in lists.iter().enumerate() {
            let Some(ranker) = merged.rankers.iter_mut().find(|ranker| ranker.variant == *variant) else {
                continue;
            };
            let items = |row: &Row<'_>| row.entries.get(place).map_or(0, Vec::len);
            let once = |row: &Row<'_>| row.lists.lists.get(place).map_or(0, |list| list.items().len());
            ranker.items = rows.iter().map(items).sum();
            ranker.duplicates = ranker.items - rows.iter().map(once).sum::<usize>();
        }
        if merged.unanalysed.is_none() {
            merged.slots = self.slots(lists, &rows, length);
            merged.unanalysed = match merged.slots {
                Some(_) => None,
                None if length == 0 => Some(Unanalysed::Empty),
                None => Some(Unanalysed::TooLong),
            };
        }
        let shown: Vec<Vec<&Entry>> = rows.iter().map(|row| row.served(length)).collect();
        let message = base.with(&shown, &config.outputs).ok()?;
        if merged.slots.is_some() && config.credit.by == By::Item {
            self.remember(config, &rows, length);
        }
        if let (Some(key), Some(before), Some(memory), [row]) = (draft, &before, memory, &rows[..]) {
            let left = lists.iter().map(|(variant, _)| *variant).collect::<Vec<_>>();
            let until = since_epoch() + config.credit.session_gap;
            let draft = goes_on(before.shown.clone(), round, row, &left);
            memory.keep_draft(key, draft, until);
        }
        Some(message)
    }

    /// Merges the lists of one row.
    fn row<'r>(
        &self,
        config: &Interleave,
        (row, draft): (usize, Option<u64>),
        (base, lists): (&'r Ranking, &[(usize, &'r Ranking)]),
        before: Option<&'r Draft>,
        round: &mut Round,
    ) -> Row<'r> {
        let is_new = |entry: &&Entry| {
            before.is_none_or(|draft| draft.shown.is_empty() || !draft.shown.contains(&item(entry)))
        };
        let of = |(variant, ranking): &(usize, &'r Ranking)| {
            let left = before.iter().flat_map(|draft| &draft.left).filter(|(known, _)| known == variant);
            let own = ranking.rows.get(row).into_iter().flatten();
            left.flat_map(|(_, list)| list).chain(own).filter(is_new).collect()
        };
        let entries: Vec<Vec<&'r Entry>> = lists.iter().map(of).collect();
        let keys: Vec<Vec<Key<'_>>> =
            entries.iter().map(|list| list.iter().map(|entry| entry.key()).collect()).collect();
        let lists = Lists::number(&keys);
        let usual = base.rows.get(row).map_or(0, Vec::len);
        let length = config.length.unwrap_or(usual);
        let row = (row as u64).to_be_bytes();
        let key = match draft {
            Some(draft) => [&draft.to_be_bytes()[..], &row].concat(),
            None => [&self.call.prediction.as_bytes()[..], &row].concat(),
        };
        let picks = config.method.merge(&lists, length, &Chance { salt: &config.salt, key: &key }, round);
        Row { lists, entries, picks }
    }

    /// Who filled which slot; none where there are too many, or none.
    fn slots(&self, lists: &[(usize, &Ranking)], rows: &[Row<'_>], length: usize) -> Option<Slots> {
        let mut slots = Slots::new(rows.len(), length)?;
        for (row, merged) in rows.iter().enumerate() {
            for (slot, pick) in merged.picks.iter().take(length).enumerate() {
                let variant = pick.team.and_then(|team| lists.get(team)).map(|(variant, _)| *variant);
                let arm = variant.and_then(|variant| self.plan.rollout.arms.get(variant));
                if let (Some(arm), Some(slot)) = (arm, slots.index(row, slot)) {
                    slots.set(slot, *arm);
                }
            }
        }
        Some(slots)
    }

    /// Remembers what was shown, for credit that hangs on more than the slot.
    fn remember(&self, config: &Interleave, rows: &[Row<'_>], length: usize) {
        let Some(memory) = &self.plan.rollout.shown else { return };
        let model = &self.plan.rollout.model;
        let feedback = model.feedback.iter().find(|feedback| feedback.name == config.credit.feedback);
        let window = feedback.map_or(Duration::ZERO, |feedback| feedback.window);
        let served = |row: &Row<'_>| row.picks.get(..length).unwrap_or_default().to_vec();
        let items = rows.iter().flat_map(|row| {
            let entries =
                served(row).into_iter().filter_map(|pick| row.entry(&pick).map(|entry| item(entry)));
            entries.collect::<Vec<_>>()
        });
        let sources = match config.method.has_teams() {
            true => Vec::new(),
            false => rows.iter().map(|row| Sources::of(&row.lists, &served(row))).collect(),
        };
        let shown = Shown { length, items: items.collect(), sources, ..Shown::default() };
        memory.remember(self.call.prediction, shown, since_epoch() + window);
    }
}

impl<'r> Row<'r> {
    /// What is shown, in at most so many slots.
    fn served(&self, length: usize) -> Vec<&'r Entry> {
        self.picks.iter().take(length).filter_map(|pick| self.entry(pick).copied()).collect()
    }

    /// What is shown in a slot.
    fn entry(&self, pick: &Pick) -> Option<&&'r Entry> {
        self.entries.get(pick.ranker)?.get(pick.place)
    }
}

/// What a draft goes on from, after a page of it.
fn goes_on(mut shown: HashSet<u64>, round: Round, row: &Row<'_>, variants: &[usize]) -> Draft {
    shown.extend(row.picks.iter().filter_map(|pick| row.entry(pick)).map(|entry| item(entry)));
    let left = |list: &Vec<&Entry>| {
        list.iter().filter(|entry| !shown.contains(&item(entry))).map(|entry| entry.apart()).collect()
    };
    let left = variants.iter().copied().zip(row.entries.iter().map(left)).collect();
    Draft { round: round.0, shown, left }
}

/// What an item is known by.
fn item(entry: &Entry) -> u64 {
    match entry.key() {
        Key::Text(text) => shown::item(text),
        key @ Key::Number(_) => shown::item(key.text().as_bytes()),
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

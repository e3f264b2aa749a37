//! Steps 4 and 5 of a call that several rankers answer together: all are asked at once, their lists are merged into the
//! baseline's answer, and that is what the caller gets.
//!
//! A ranker that is late, fails, or answers with something else than a ranking drops out of this call. What is left is
//! served; it is evidence only where all of them are in it. Where two lists are left they are merged, where one is, that
//! answer goes on as it came.

use std::collections::{HashSet, VecDeque};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;

use super::Recognised;
use super::plan::Plan;
use crate::config::{By, Interleave, Strategy};
use crate::dispatch::gather::{Asked, Miss, Reply};
use crate::dispatch::rename::{Renamer, Renaming};
use crate::dispatch::sending::{Sent, Tail, send};
use crate::dispatch::stall::Stall;
use crate::dispatch::upload::{Chunk, Upload};
use crate::dispatch::{Answering, Delivery, Journal, Shipment};
use crate::fault::{Code, Failure};
use crate::feedback::shown::{self, Draft, Shown};
use crate::outcome::merged::{Dropped, Merged, Ranker, Unanalysed};
use crate::prediction::slots::Slots;
use crate::protocol::frame::prefix;
use crate::protocol::oip::ranking::{Entry, Key, Ranking, Unranked};
use crate::protocol::{Peek, encoding};
use crate::server::respond::Responder;
use crate::strategy::interleave::{Chance, Lists, Pick, Round, Sources};
use crate::worker::Worker;

/// What a plan says of a call that several are asked for.
#[derive(Debug, Clone)]
pub struct Together {
    /// Who is asked, the baseline first.
    pub rankers: Vec<usize>,
    /// What the draft is known by that the call belongs to; none: it is one of its own.
    pub draft: Option<u64>,
}

/// One call on its way.
pub(super) struct Call<'p> {
    pub(super) worker: &'p Worker,
    pub(super) call: &'p Recognised,
    pub(super) plan: &'p Plan<'p>,
    pub(super) together: &'p Together,
}

/// A ranker's lists, or why there are none.
type Read = Result<Ranking, Dropped>;

/// What the caller gets.
struct Served {
    variant: usize,
    reply: Reply,
    /// The message that was made of several; none: the reply's own, as it came.
    message: Option<Bytes>,
}

/// Lists of one row, and what was made of them.
struct Row<'r> {
    lists: Lists,
    entries: Vec<Vec<&'r Entry>>,
    picks: Vec<Pick>,
}

impl Call<'_> {
    /// Delivers; none where the call cannot be shared, so that the baseline must answer it alone.
    pub(super) async fn deliver(
        &self,
        shipment: &Shipment<'_>,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Option<Delivery> {
        let Strategy::Interleave(config) = &self.plan.rollout.model.strategy else { return None };
        match self.whole(upload).await {
            Ok(true) => {}
            Ok(false) => {
                self.note(Merged::none(config.method, Unanalysed::Request));
                return None;
            }
            Err(delivery) => return Some(delivery),
        }
        let message: Vec<Bytes> = upload.kept().to_vec();
        let reserve = self.plan.rollout.reserve.as_ref();
        let patience = reserve.map(|reserve| reserve.patience(shipment.deadline, Instant::now()));
        let limit = shipment.limits.message.bytes();
        let mut read: Vec<(usize, Read)> = Vec::new();
        let good = |asked: &Asked| {
            let ranking = self.read(config, asked, limit);
            let good = ranking.is_ok();
            read.push((asked.variant, ranking));
            good
        };
        let gathering = shipment.gather(&self.together.rankers, &message, patience, good);
        let asked = tokio::select! {
            biased;
            asked = gathering => asked,
            () = std::future::poll_fn(|cx| respond.poll_gone(cx)) => return Some(Delivery::Cancelled),
        };
        let served = self.serve(config, &asked, read);
        let Some(served) = served else {
            // The baseline is asked first, and there is always one.
            let failure = asked.first().map(|first| shipment.failure(first));
            take_attempts(asked, self.plan.rollout.model.baseline(), journal);
            return failure.map(Delivery::Failed);
        };
        take_attempts(asked, served.variant, journal);
        Some(self.give(shipment, served, upload, respond, journal).await)
    }

    /// Reads all of the request, as long as the caller sends.
    async fn whole(&self, upload: &mut Upload) -> Result<bool, Delivery> {
        let limits = &self.plan.serving.config.limits;
        match tokio::time::timeout(limits.stall, upload.whole()).await {
            Ok(Ok(whole)) => Ok(whole),
            Ok(Err(Chunk::TooLarge(error))) => {
                let message = format!("the request: {error} (limits.message)");
                Err(Delivery::Failed(Failure::client(Code::RESOURCE_EXHAUSTED, message)))
            }
            Ok(Err(_)) => Err(Delivery::Cancelled),
            Err(_) => {
                let message = format!("the request did not come within {:?} (limits.stall)", limits.stall);
                Err(Delivery::Failed(Failure::client(Code::UNAVAILABLE, message)))
            }
        }
    }

    /// The lists of an answer.
    fn read(&self, config: &Interleave, asked: &Asked, limit: usize) -> Read {
        let name = || self.plan.rollout.model.variants.get(asked.variant).map(|variant| &*variant.name);
        let malformed = |why: String| {
            tracing::debug!(model = %self.plan.rollout.model.name, variant = name(), why, "no ranking");
            Dropped::Malformed
        };
        let reply = match &asked.reply {
            Ok(reply) if reply.is_good() => reply,
            Ok(_) | Err(Miss::Broken(..)) => return Err(Dropped::Failed),
            Err(Miss::NotReady(_)) => return Err(Dropped::NotReady),
            Err(Miss::Late(_)) => return Err(Dropped::Late),
            Err(Miss::Framing(why)) => return Err(malformed(why.clone())),
        };
        let message = reply.message(limit).map_err(malformed)?;
        Ranking::read(&message, &config.outputs).map_err(|error| match error {
            Unranked::Unsorted { .. } => {
                malformed(error.to_string());
                Dropped::Unsorted
            }
            other => malformed(other.to_string()),
        })
    }

    /// What the caller gets, and what is noted of it; none where nobody answered at all.
    fn serve(&self, config: &Interleave, asked: &[Asked], read: Vec<(usize, Read)>) -> Option<Served> {
        let reply = |variant: usize| {
            let found = asked.iter().find(|asked| asked.variant == variant)?;
            found.reply.as_ref().ok().cloned()
        };
        let of = |variant: usize| read.iter().find(|(known, _)| *known == variant).map(|(_, read)| read);
        let base = self
            .together
            .rankers
            .iter()
            .find_map(|variant| of(*variant)?.as_ref().ok().map(|one| (*variant, one)));
        let mut rankers = Vec::new();
        let mut lists: Vec<(usize, &Ranking)> = Vec::new();
        for variant in &self.together.rankers {
            let found = match of(*variant) {
                Some(Ok(ranking))
                    if base.is_some_and(|(_, base)| base.fits(ranking, &config.outputs).is_err()) =>
                {
                    Err(Dropped::Malformed)
                }
                Some(Ok(ranking)) => Ok(ranking),
                Some(Err(dropped)) => Err(*dropped),
                // Broken off when its time was over.
                None => Err(Dropped::Late),
            };
            lists.extend(found.ok().map(|ranking| (*variant, ranking)));
            rankers.push(Ranker { variant: *variant, dropped: found.err(), items: 0, duplicates: 0 });
        }
        let mut merged = Merged { rankers, ..Merged::none(config.method, Unanalysed::Dropped) };
        let Some((variant, base)) = base else {
            self.note(merged);
            // What the baseline answered, whatever it is; else whoever did.
            let mut all = self.together.rankers.iter();
            return all.find_map(|variant| {
                Some(Served { variant: *variant, reply: reply(*variant)?, message: None })
            });
        };
        if lists.len() == self.together.rankers.len() {
            merged.unanalysed = None;
        }
        let message = self.merge(config, base, &lists, &mut merged);
        self.note(merged);
        Some(Served { variant, reply: reply(variant)?, message })
    }

    /// One message of all lists; none where one answer goes on as it came.
    fn merge(
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

    /// Writes down what was made of the call, for its id, its metadata and its outcome.
    fn note(&self, merged: Merged) {
        self.plan.merged.replace(Some(Box::new(merged)));
    }

    /// Hands an answer to the caller.
    async fn give(
        &self,
        shipment: &Shipment<'_>,
        served: Served,
        upload: &mut Upload,
        respond: &mut Responder,
        journal: &mut Journal,
    ) -> Delivery {
        let Served { variant, reply, message } = served;
        let said = reply.said();
        let Reply { mut head, trailers, status, body } = reply;
        let made = message.is_some();
        let body = match message {
            None => body,
            Some(message) => {
                // A message that its sender's bound let through, or little more.
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
                vec![Bytes::copy_from_slice(&prefix(0, length)), message]
            }
        };
        let compressed = head.get(&encoding::HEADER).cloned().filter(|_| !made);
        let down = shipment.origin.renaming(variant).map(|(_, down)| down);
        let renamed = down.is_some();
        let queue = match down {
            None => VecDeque::from(body),
            Some(down) => renamed_as(down, compressed, body, shipment.limits.message.bytes()),
        };
        if made || renamed {
            head.remove(http::header::CONTENT_LENGTH);
        }
        if made {
            head.remove(&encoding::HEADER);
        }
        let baseline = self.plan.rollout.model.baseline();
        let instead_of = (variant != baseline).then_some(baseline);
        shipment.origin.tag(Answering { variant, instead_of }, &mut head);
        let only = trailers.is_none();
        journal.received.messages = u64::from(!queue.is_empty());
        journal.received.bytes = queue.iter().map(|chunk| chunk.len() as u64).sum();
        journal.received.learnt.reported_version = self.version(&queue);
        if let Some(tee) = upload.tee() {
            queue.iter().for_each(|chunk| tee.answer(chunk));
        }
        upload.commit();
        if respond.headers(http::StatusCode::OK, head, only).is_err() {
            return Delivery::Cancelled;
        }
        journal.received.answered = true;
        if only {
            return Delivery::Answered { status, message: said };
        }
        if let Err(delivery) = self.send(queue, respond).await {
            return delivery;
        }
        let mut trailers = trailers.unwrap_or_default();
        crate::dispatch::strip_reserved(&mut trailers);
        match respond.trailers(trailers) {
            Ok(()) => Delivery::Answered { status, message: said },
            Err(_) => Delivery::Cancelled,
        }
    }

    /// The version that an answer names, where it is not compressed.
    fn version(&self, queue: &VecDeque<Bytes>) -> Option<Box<str>> {
        let mut messages = crate::protocol::frame::Messages::new(usize::MAX);
        let mut scan = None;
        for chunk in queue {
            let walked = messages.walk(chunk, |event| match event {
                crate::protocol::frame::Event::Start { compressed: 0, length } => {
                    scan = Some(self.call.adapter.response_scan(Peek::Unary, length as usize));
                }
                crate::protocol::frame::Event::Payload(part) => {
                    // An answer that cannot be read names nothing.
                    let _ = scan.as_mut().map(|scan| scan.feed(part));
                }
                _ => {}
            });
            if walked.is_err() {
                return None;
            }
        }
        let mut scan = scan?;
        scan.finish().ok()?;
        scan.reported_version().map(Into::into)
    }

    /// Sends all of it, as fast as the caller takes it.
    async fn send(&self, mut queue: VecDeque<Bytes>, respond: &mut Responder) -> Result<(), Delivery> {
        let mut stall = Stall::default();
        let mut left = usize::MAX;
        let limits = &self.plan.serving.config.limits;
        std::future::poll_fn(|cx| {
            if respond.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Delivery::Cancelled));
            }
            let Some(stream) = respond.stream() else { return Poll::Ready(Err(Delivery::Cancelled)) };
            match send(stream, &mut queue, &mut Tail::More, &mut 0, cx) {
                Sent::All => Poll::Ready(Ok(())),
                Sent::Closed => Poll::Ready(Err(Delivery::Cancelled)),
                Sent::Blocked => {
                    let now = queue.iter().map(Bytes::len).sum();
                    let moved = now < std::mem::replace(&mut left, now);
                    stall.poll(cx, &self.worker.stalls, moved).map(|()| {
                        let stall = limits.stall;
                        let message =
                            format!("the caller left the stream standing for {stall:?} (limits.stall)");
                        Err(Delivery::Stuck(Failure::client(Code::UNAVAILABLE, message)))
                    })
                }
            }
        })
        .await
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

/// Writes down what was sent to whom; the one whose answer the caller gets comes last.
fn take_attempts(asked: Vec<Asked>, served: usize, journal: &mut Journal) {
    let (own, others): (Vec<Asked>, Vec<Asked>) =
        asked.into_iter().partition(|asked| asked.variant == served);
    for asked in others.into_iter().chain(own) {
        journal.attempts.extend(asked.attempts);
    }
}

/// The chunks of an answer under the name that the caller asked for.
fn renamed_as(
    down: Renaming,
    encoding: Option<http::HeaderValue>,
    body: Vec<Bytes>,
    limit: usize,
) -> VecDeque<Bytes> {
    let mut renamer = Renamer::new(down, encoding, limit);
    let mut queue = VecDeque::new();
    for chunk in &body {
        if renamer.push(chunk, &mut queue).is_err() {
            // It was within the same bound when it came.
            return VecDeque::from(body);
        }
    }
    queue
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Says in response metadata whose lists an answer is made of, and who dropped out.
pub(super) fn tag(plan: &Plan<'_>, merged: &Merged, headers: &mut HeaderMap) {
    let variant = |index: usize| plan.rollout.model.variants.get(index).map_or("", |variant| &*variant.name);
    let put = |headers: &mut HeaderMap, name, text: String| {
        // Names of variants are letters, digits and a few signs.
        if let Some(value) = http::HeaderValue::from_str(&text).ok().filter(|_| !text.is_empty()) {
            headers.insert(name, value);
        }
    };
    if merged.is_merged() {
        let within = merged.rankers.iter().filter(|ranker| ranker.dropped.is_none());
        let names: Vec<&str> = within.map(|ranker| variant(ranker.variant)).collect();
        put(headers, crate::serving::INTERLEAVED, names.join(","));
    }
    let dropped = merged.rankers.iter().filter_map(|ranker| Some((ranker.variant, ranker.dropped?)));
    let told: Vec<String> = dropped.map(|(who, why)| format!("{}:{}", variant(who), why.name())).collect();
    put(headers, crate::serving::DROPPED, told.join(","));
}

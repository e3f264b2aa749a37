//! Steps 4 and 5 of a call that several rankers answer together: all are asked at once, their lists are merged into the
//! baseline's answer, and that is what the caller gets.
//!
//! A ranker that is late, fails, or answers with something else than a ranking drops out of this call. What is left is
//! served; it is evidence only where all of them are in it. Where two lists are left they are merged, where one is, that
//! answer goes on as it came.

use std::time::Instant;

use bytes::Bytes;

use super::Recognised;
use super::plan::Plan;
use crate::config::{Interleave, Strategy};
use crate::dispatch::gather::{Asked, Miss, Reply};
use crate::dispatch::upload::{Chunk, Upload};
use crate::dispatch::{Delivery, Journal, Shipment};
use crate::fault::{Code, Failure};
use crate::outcome::merged::{Dropped, Merged, Ranker, Unanalysed};
use crate::protocol::oip::ranking::{Ranking, Unranked};
use crate::server::respond::Responder;
use crate::worker::Worker;

mod given;
mod rows;

pub(super) use given::tag;

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

    /// Writes down what was made of the call, for its id, its metadata and its outcome.
    fn note(&self, merged: Merged) {
        self.plan.merged.replace(Some(Box::new(merged)));
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

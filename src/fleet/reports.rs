//! Reports of feedback as replicas tell the store of them, so that each counts once for all of them. Pure.
//!
//! A replica knows for itself what came to it, and lets no report count twice. What came to another one the store knows:
//! before a report counts it is told there, in a batch, and the answer says what was known of its prediction. Whoever
//! told it adds the difference to its evidence. A batch has a number, and the store keeps its answer to each replica's
//! last one: so nothing counts twice where an answer is lost, and the batch told again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use crate::config::Join;

/// Predictions and marks that the store remembers of one model at once, at some hundred bytes each.
pub const MOST: u64 = 1 << 20;

/// What is known of a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// Its value so far.
    pub value: f64,
    /// When that was learnt, in milliseconds after the prediction.
    pub at: u32,
    /// What was expected of it beforehand; no number: it is no evidence.
    pub expected: f32,
}

/// Predictions of about the same time, that are forgotten together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shelf {
    /// Which feedback, by what it is known by on disk.
    pub track: u32,
    /// Which of its times.
    pub bin: u32,
    /// How long it must be remembered from now on.
    pub lasts: Duration,
}

/// One report that would count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Index into [`Batch::shelves`].
    pub shelf: usize,
    /// Tells the prediction from others.
    pub key: u64,
    /// Tells the report from others about it, where it can be told.
    pub mark: Option<u64>,
    /// What several make together.
    pub join: Join,
    /// What it says.
    pub told: Known,
    /// What counted before by this replica: for a store that lost it.
    pub known: Option<Known>,
}

/// What is told at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// From 1, one after the other; the same again where no answer came.
    pub number: u64,
    /// Where the claims belong.
    pub shelves: Vec<Shelf>,
    /// In the order in which they came.
    pub claims: Vec<Claim>,
}

/// What the store knew of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// Nothing of its prediction.
    First,
    /// That much; now it knows what joins the two.
    Before(Known),
    /// That report came already.
    Repeated,
    /// It has no room, and remembers nothing of it.
    Full,
}

/// What an answer is waited for in.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<Vec<Found>, StoreError>> + Send + 'a>>;

/// Where reports are told.
pub trait Reports: std::fmt::Debug + Send + Sync {
    /// Tells a batch of that replica about that model; what was known of each, in their order.
    fn tell<'a>(&'a self, model: &'a str, replica: &'a str, batch: &'a Batch) -> Telling<'a>;
}

impl<R: Reports + ?Sized> Reports for Arc<R> {
    fn tell<'a>(&'a self, model: &'a str, replica: &'a str, batch: &'a Batch) -> Telling<'a> {
        (**self).tell(model, replica, batch)
    }
}

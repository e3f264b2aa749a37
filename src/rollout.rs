//! Where every rollout stands, who moves it, and what is known of it.
//!
//! A rollout lives here, not in a generation of the configuration: a reload that changes nothing it rests on leaves its
//! step, its evidence and what a person did to it as they are. Workers read where it stands once per call, from
//! memory of their own; [`keeper`] gathers what their calls showed, and decides. Every change goes the same way: it
//! is written down, then it is published, then it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use crate::config::{Config, Model};
use crate::state::State;
use crate::upstream::readiness::Board;
use crate::verdict::Command;

mod audit;
mod block;
mod explain;
mod export;
pub mod keeper;
pub mod live;
mod machine;
pub mod record;
mod tell;

use audit::Audit;
use block::Blocks;
use live::Live;
pub use record::{Actor, AuditRecord, Done, Explanation, Kept, Question, Refusal, Status, Summary};

/// Every rollout of the process, and what outlives them.
#[derive(Debug)]
pub struct Rollouts {
    lives: RwLock<HashMap<Arc<str>, Arc<Live>>>,
    config: RwLock<Arc<Config>>,
    blocks: Mutex<Blocks>,
    audit: Mutex<Audit>,
    /// What an earlier process left, until the model it belongs to is seen.
    left: Mutex<HashMap<String, Vec<u8>>>,
    state: State,
    board: Arc<Board>,
    unit_key: [u8; 32],
    workers: usize,
    changes: watch::Sender<u64>,
    /// Wakes the keeper: a candidate failed.
    alarm: Arc<Notify>,
}

impl Rollouts {
    /// Every rollout of the configuration in force, in the order of its file.
    pub fn list(&self) -> Vec<Summary> {
        todo!()
    }

    /// All that is known of a model's rollout.
    pub fn report(&self, model: &str) -> Option<Status> {
        todo!()
    }

    /// Grows with every change of plan, and about once a second while evidence comes in.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Does what a person wants. What was done holds for every call that begins after this returns.
    ///
    /// # Errors
    /// When there is no such model, or its strategy refuses; nothing has changed then.
    pub async fn command(&self, model: &str, command: Command, actor: Actor) -> Result<Done, Refusal> {
        todo!()
    }

    /// The latest records, newest first, at most `limit`; of one model, or of all.
    pub fn audit(&self, model: Option<&str>, limit: usize) -> Vec<Arc<AuditRecord>> {
        todo!()
    }

    /// Which variant a call would get now, and why.
    ///
    /// # Errors
    /// When there is no such model, or the question cannot be asked of it.
    pub fn explain(&self, model: &str, question: &Question) -> Result<Explanation, Refusal> {
        todo!()
    }

    /// The model's part of a file that says what is in force: YAML, to stand below `models:`. None: no such model.
    pub fn export(&self, model: &str) -> Option<String> {
        todo!()
    }
}

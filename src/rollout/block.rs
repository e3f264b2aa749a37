//! Builds that were rolled back: they get nothing of that model again until a person lets them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a build is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) model: Arc<str>,
    pub(super) build: String,
    /// Milliseconds since 1970.
    pub(super) millis: u64,
    /// The record of the change that blocked it.
    pub(super) record: u64,
}

/// All that are blocked.
#[derive(Debug, Default)]
pub(super) struct Blocks(HashMap<String, Block>);

impl Blocks {
    /// Takes in what an earlier process left; what cannot be read blocks nothing, and is told.
    pub(super) fn read(&mut self, left: &HashMap<String, Vec<u8>>) {
        for (key, bytes) in left {
            match serde_json::from_slice(bytes) {
                Ok(block) => {
                    self.0.insert(key.clone(), block);
                }
                Err(error) => tracing::error!(key, %error, "a blocked build in the state cannot be read"),
            }
        }
    }

    pub(super) fn get(&self, model: &str, build: &str) -> Option<&Block> {
        self.0.get(&key(model, build))
    }

    /// Blocks a build; what is to be written.
    pub(super) fn add(&mut self, block: Block) -> (String, Option<Vec<u8>>) {
        let key = key(&block.model, &block.build);
        let bytes = serde_json::to_vec(&block).ok();
        self.0.insert(key.clone(), block);
        (key, bytes)
    }

    /// Lets a build go; what is to be written.
    pub(super) fn remove(&mut self, model: &str, build: &str) -> (String, Option<Vec<u8>>) {
        let key = key(model, build);
        self.0.remove(&key);
        (key, None)
    }
}

/// No name holds a line end.
fn key(model: &str, build: &str) -> String {
    format!("{model}\n{build}")
}

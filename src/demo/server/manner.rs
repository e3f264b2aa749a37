//! How a model server of the demo behaves: well, until somebody makes trouble; and what it was asked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tonic::Status;

/// How much longer a slow call takes: far above what calls over loopback take on a busy machine.
pub const SLOW: Duration = Duration::from_millis(600);

/// What can be wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers every call with INTERNAL.
    Fails,
    /// Every call takes [`SLOW`] longer.
    Slow,
}

/// One server's behaviour.
#[derive(Debug, Default)]
pub struct Manner {
    trouble: OnceLock<Trouble>,
    calls: AtomicU64,
    failures: AtomicU64,
    first: OnceLock<Instant>,
}

/// What a server was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Inference calls.
    pub calls: u64,
    /// Those that it failed.
    pub failures: u64,
    /// When the first one came that it failed, or was slow at.
    pub first: Option<Instant>,
}

impl Manner {
    /// From now on, for ever; a second trouble changes nothing.
    pub fn begin(&self, trouble: Trouble) {
        self.trouble.get_or_init(|| trouble);
    }

    /// So far.
    pub fn asked(&self) -> Asked {
        Asked {
            failures: self.failures.load(Ordering::Acquire),
            calls: self.calls.load(Ordering::Acquire),
            first: self.first.get().copied(),
        }
    }

    /// Counts a call and lets it feel the trouble.
    ///
    /// # Errors
    /// INTERNAL, where that is the trouble.
    pub async fn feel(&self) -> Result<(), Status> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let Some(trouble) = self.trouble.get() else { return Ok(()) };
        self.first.get_or_init(Instant::now);
        match trouble {
            Trouble::Fails => {
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(Status::internal("broken on purpose, for the demo"))
            }
            Trouble::Slow => {
                tokio::time::sleep(SLOW).await;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_well_until_it_is_not() {
        let manner = Manner::default();
        assert!(manner.feel().await.is_ok());
        assert_eq!(manner.asked(), Asked { calls: 1, failures: 0, first: None });
        manner.begin(Trouble::Fails);
        manner.begin(Trouble::Slow);
        assert_eq!(manner.feel().await.unwrap_err().code(), tonic::Code::Internal);
        let asked = manner.asked();
        assert_eq!((asked.calls, asked.failures, asked.first.is_some()), (2, 1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_takes_its_time_and_fails_not() {
        let manner = Manner::default();
        manner.begin(Trouble::Slow);
        let began = tokio::time::Instant::now();
        assert!(manner.feel().await.is_ok());
        assert!(began.elapsed() >= SLOW);
        assert_eq!(manner.asked().failures, 0);
    }
}

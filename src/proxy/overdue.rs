//! A call of the baseline that takes longer than another variant may before it is broken off is as much a failure as
//! that one's would be, and is counted in the same moment: both arms are cut at the same length. Otherwise an outage
//! that makes both of them slow, or hang, would look like the candidate's own. Its caller gets the answer all the same,
//! whenever that comes.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::plan::Plan;
use crate::dispatch::upload::Upload;
use crate::protocol::Peek;
use crate::worker::Worker;

/// How long a call of the baseline may take.
pub(super) struct Limit {
    patience: Duration,
    /// When its message was whole: time in which the server waits for the caller is not counted against it.
    whole: Rc<Cell<Option<Instant>>>,
}

impl Limit {
    /// None where the call is no evidence, or is not the baseline's, or would say nothing so soon.
    pub(super) fn of(
        plan: &Plan<'_>,
        peek: Option<Peek>,
        deadline: Option<Instant>,
        upload: &mut Upload,
    ) -> Option<Limit> {
        let reserve = plan.rollout.reserve.as_ref()?;
        plan.counted.borrow().as_ref()?;
        let patience = reserve.patience_with_itself(peek, &plan.assignment, deadline)?;
        let says = patience >= plan.serving.config.limits.min_deadline;
        says.then(|| Limit { patience, whole: upload.note_whole() })
    }
}

/// Runs `future`, which is the call's; counts it as failed, once, where it takes longer than `limit`.
pub(super) async fn watched<T>(
    future: impl Future<Output = T>,
    limit: Limit,
    worker: &Worker,
    plan: &Plan<'_>,
) -> T {
    let mut future = pin!(future);
    let began = Instant::now();
    let mut until = began + limit.patience;
    loop {
        if let Ok(done) = timeout_at(until.into(), future.as_mut()).await {
            return done;
        }
        let now = Instant::now();
        until = limit.whole.get().unwrap_or(now) + limit.patience;
        if until <= now {
            break;
        }
    }
    if let Some(counted) = plan.counted.take() {
        super::proof::late(worker, counted, began.elapsed());
    }
    future.await
}

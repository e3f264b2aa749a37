//! The only place that starts tasks: each has a name, is tracked, and never disappears silently.
//!
//! [`Tasks`] is for the control runtime: few, long-lived, and each owned by the room that started it. Dropping it
//! aborts what still runs, so a room that ends takes its tasks along; what must never be missing is begun anew after a
//! panic ([`Tasks::keep`]). [`Local`] is for a worker's calls and
//! connections: it costs one counter up and one down, for it runs once per call. In both a panic ends that task
//! alone, and is logged and counted.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::telemetry::counter::{Counter, Counters};

/// How long a task that panicked rests before it is begun anew: doubled each time up to the longest, and as at first
/// for one that ran for longer than that.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Named tasks of the control runtime; dropping it aborts them.
#[derive(Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Shared {
    running: Mutex<Running>,
    live: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    /// `None` between the entry and the start of its task.
    tasks: HashMap<u64, (Arc<str>, Option<AbortHandle>)>,
}

impl Tasks {
    /// No tasks yet; panics are counted in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Tasks {
            shared: Arc::new(Shared { running: Mutex::default(), live: watch::Sender::new(0) }),
            counters,
        }
    }

    /// Starts `future` on the current runtime. The handle may be dropped: the task runs on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(
        &self,
        name: impl Into<Arc<str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let entry = self.shared.enter(Arc::clone(&name));
        let id = entry.id;
        let watched = Watched { future: Box::pin(future), name, counters: Arc::clone(&self.counters) };
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        let handle = tokio::spawn(async move {
            let _entry = entry;
            let _ = watched.await;
        });
        if let Some((_, abort)) = self.shared.lock().tasks.get_mut(&id) {
            *abort = Some(handle.abort_handle());
        }
        handle
    }

    /// Starts what must not be missing while the process lives: what ends by a panic is begun anew after a rest, until it
    /// ends by itself. The rest is 100 ms and doubles up to 30 s.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn keep<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: impl Into<Arc<str>>,
        mut begin: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let (kept, counters) = (Arc::clone(&name), Arc::clone(&self.counters));
        self.spawn(name, async move {
            let mut rest = REST;
            loop {
                let began = Instant::now();
                let (name, counters) = (Arc::clone(&kept), Arc::clone(&counters));
                if (Watched { future: Box::pin(begin()), name, counters }).await.is_ok() {
                    return;
                }
                if began.elapsed() > LONGEST_REST {
                    rest = REST;
                }
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
        })
    }

    /// How many run.
    pub fn live(&self) -> usize {
        *self.shared.live.borrow()
    }

    /// Waits until all have ended, at most `grace`; then aborts the others and returns their names.
    pub async fn drain(&self, grace: Duration) -> Vec<Arc<str>> {
        let mut live = self.shared.live.subscribe();
        if tokio::time::timeout(grace, live.wait_for(|live| *live == 0)).await.is_ok() {
            return Vec::new();
        }
        self.abort()
    }

    fn abort(&self) -> Vec<Arc<str>> {
        // Collected first: nothing of a task may be dropped under the lock that its entry needs.
        let cut: Vec<_> = self.shared.lock().tasks.values().cloned().collect();
        cut.iter().filter_map(|(_, abort)| abort.as_ref()).for_each(AbortHandle::abort);
        cut.into_iter().map(|(name, _)| name).collect()
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Running> {
        // What it guards is whole between any two statements, so a panic elsewhere spoils nothing.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, name: Arc<str>) -> Entry {
        let mut running = self.lock();
        let id = running.next;
        running.next += 1;
        running.tasks.insert(id, (name, None));
        let live = running.tasks.len();
        self.live.send_replace(live);
        Entry { shared: Arc::clone(self), id }
    }
}

/// A task's place among the running ones; dropped with its future, however that ends.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.shared.lock();
        running.tasks.remove(&self.id);
        let live = running.tasks.len();
        self.shared.live.send_replace(live);
    }
}

/// Reports the panic of the future it polls, and then is finished, with an error.
struct Watched {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    name: Arc<str>,
    counters: Arc<Counters>,
}

/// A task ended by a panic.
struct Panicked;

impl Future for Watched {
    type Output = Result<(), Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Unwind safety: the future is never polled again, and what it shared with others is theirs to guard.
        match catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => {
                this.counters.add(Counter::Panics);
                tracing::error!(task = %this.name, panic = text(&*payload), "a task panicked and has ended");
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

/// What a panic said.
pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// Tasks of one worker's thread. Clones share their count; they end with the runtime they run on.
#[derive(Debug, Clone)]
pub struct Local(Rc<LocalShared>);

#[derive(Debug)]
struct LocalShared {
    live: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
    counters: Arc<Counters>,
}

impl Local {
    /// No tasks yet; panics are counted in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Local(Rc::new(LocalShared { live: Cell::new(0), waiting: RefCell::default(), counters }))
    }

    /// Starts `future` on the current `LocalRuntime` or `LocalSet`. The handle may be dropped: the task runs on.
    ///
    /// # Panics
    /// Outside of both.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let ticket = Ticket::new(self, name);
        #[expect(clippy::disallowed_methods, reason = "this is the place")]
        tokio::task::spawn_local(async move {
            // Dropped after the future, also when that panics or is aborted before its first poll.
            let _ticket = ticket;
            future.await;
        })
    }

    /// How many run.
    pub fn live(&self) -> usize {
        self.0.live.get()
    }

    /// Waits until none runs; at once if none does.
    pub async fn idle(&self) {
        std::future::poll_fn(|cx| {
            if self.0.live.get() == 0 {
                return Poll::Ready(());
            }
            let mut waiting = self.0.waiting.borrow_mut();
            if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// One live local task.
struct Ticket {
    shared: Rc<LocalShared>,
    name: &'static str,
    /// Whether the thread was unwinding already when the task was started, from somebody's `Drop`.
    unwinding: bool,
}

impl Ticket {
    fn new(local: &Local, name: &'static str) -> Self {
        local.0.live.set(local.0.live.get() + 1);
        Ticket { shared: Rc::clone(&local.0), name, unwinding: std::thread::panicking() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The runtime polls under `catch_unwind`: a drop while the thread unwinds is this task's own panic. Its
        // text goes through the panic hook.
        if !self.unwinding && std::thread::panicking() {
            self.shared.counters.add(Counter::Panics);
            tracing::error!(task = self.name, "a task panicked and has ended");
        }
        let live = self.shared.live.get() - 1;
        self.shared.live.set(live);
        if live == 0 {
            let waiting = self.shared.waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn drain_waits_for_tasks_and_names_those_it_cuts() {
        let tasks = Tasks::new(Arc::default());
        let (go, mut gone) = watch::channel(false);
        tasks.spawn("waits", async move {
            let _ = gone.wait_for(|gone| *gone).await;
        });
        let stuck = tasks.spawn("stuck", std::future::pending());
        assert_eq!(tasks.live(), 2);
        assert!(go.send(true).is_ok());
        assert_eq!(tasks.drain(Duration::from_millis(300)).await, vec![Arc::from("stuck")]);
        assert!(tokio::time::timeout(LONG, stuck).await.unwrap().unwrap_err().is_cancelled());
        assert!(tasks.drain(LONG).await.is_empty());
        assert_eq!(tasks.live(), 0);
    }

    #[tokio::test]
    async fn dropping_tasks_aborts_them() {
        let tasks = Tasks::new(Arc::default());
        let handle = tasks.spawn("stuck", std::future::pending());
        drop(tasks);
        assert!(tokio::time::timeout(LONG, handle).await.unwrap().unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_ends_one_task_only() {
        let counters = Arc::new(Counters::default());
        let tasks = Tasks::new(Arc::clone(&counters));
        let other = tasks.spawn("other", std::future::pending());
        tasks.spawn("bad", async { panic!("on purpose") }).await.unwrap();
        assert_eq!(counters.get(Counter::Panics), 1);
        assert_eq!(tasks.live(), 1);
        assert!(!other.is_finished());
    }

    #[tokio::test]
    async fn what_is_kept_is_begun_anew_after_a_panic_and_not_after_its_end() {
        let counters = Arc::new(Counters::default());
        let tasks = Tasks::new(Arc::clone(&counters));
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let kept = tasks.keep("kept", move || {
            let turn = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move { assert!(turn == 2, "on purpose") }
        });
        tokio::time::timeout(LONG, kept).await.unwrap().unwrap();
        assert_eq!(begun.load(std::sync::atomic::Ordering::Relaxed), 3);
        assert_eq!((counters.get(Counter::Panics), tasks.live()), (2, 0));
    }

    #[tokio::test]
    async fn local_tasks_are_counted_waited_for_and_their_panics_seen() {
        let counters = Arc::new(Counters::default());
        let local = Local::new(Arc::clone(&counters));
        let set = LocalSet::new();
        set.run_until(async {
            local.idle().await;
            let (go, gone) = tokio::sync::oneshot::channel::<()>();
            local.spawn("waits", async move {
                let _ = gone.await;
            });
            local.spawn("bad", async { panic!("on purpose") });
            let never_polled = local.spawn("aborted", std::future::pending());
            assert_eq!(local.live(), 3);
            never_polled.abort();
            let waited = tokio::join!(tokio::time::timeout(LONG, local.idle()), async {
                tokio::task::yield_now().await;
                drop(go);
            });
            assert!(waited.0.is_ok());
            assert_eq!(local.live(), 0);
        })
        .await;
        assert_eq!(counters.get(Counter::Panics), 1, "an abort is no panic");
    }
}

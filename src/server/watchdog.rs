//! Ends connections whose peers owe something for too long: the acknowledgement of our SETTINGS, the rest of a header
//! block that they began, or to read something of what waits for them.

use std::pin::Pin;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config::Limits;
use crate::wire::Cork;
use crate::wire::socket::Socket;

/// What one peer owes.
pub(super) struct Watchdog {
    due: Option<Pin<Box<Sleep>>>,
    /// The unfinished header block that `due` is about; `None`: the acknowledgement of our SETTINGS.
    block: Option<u64>,
    /// Looks again at a peer for whom something waited, and how much of what waits it had read then.
    deaf: Option<(Pin<Box<Sleep>>, u64)>,
}

impl Watchdog {
    /// `due`: when our SETTINGS must be acknowledged.
    pub(super) fn new(due: Instant) -> Self {
        Watchdog { due: Some(Box::pin(tokio::time::sleep_until(due))), block: None, deaf: None }
    }

    /// Ready when the peer owed something for too long.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, cork: &Cork<Socket>, limits: &Limits) -> Poll<()> {
        if self.hears_nothing(cx, cork, limits.stall) {
            return Poll::Ready(());
        }
        let watch = cork.watch();
        let unfinished = watch.unfinished();
        let owed = if self.block.is_none() && self.due.is_some() {
            !watch.settings_acked()
        } else {
            unfinished == self.block
        };
        if self.due.is_some() && !owed {
            (self.due, self.block) = (None, None);
        }
        if self.due.is_none() && unfinished.is_some() {
            self.block = unfinished;
            self.due = Some(Box::pin(tokio::time::sleep(limits.handshake)));
        }
        match &mut self.due {
            Some(due) => due.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Whether something waits for the peer, and it has read none of that for `patience`, or up to twice as long: the
    /// timer of a peer that is only slow is not set anew at each byte.
    fn hears_nothing(&mut self, cx: &mut Cx<'_>, cork: &Cork<Socket>, patience: Duration) -> bool {
        if self.deaf.is_none() {
            self.deaf = cork.unread().map(|read| (Box::pin(tokio::time::sleep(patience)), read));
        }
        while let Some((timer, before)) = &mut self.deaf
            && timer.as_mut().poll(cx).is_ready()
        {
            match cork.unread() {
                Some(read) if read == *before => return true,
                Some(read) => {
                    timer.as_mut().reset(Instant::now() + patience);
                    *before = read;
                }
                None => self.deaf = None,
            }
        }
        false
    }
}

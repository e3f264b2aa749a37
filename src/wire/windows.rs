//! How much a peer may send before it is taken: HTTP/2 flow control, from the configured limits.

use crate::config;

/// Flow-control windows and the header bound of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Flow-control window of a stream, bytes.
    pub stream: u32,
    /// Flow-control window of a connection, bytes. Calls that have nothing to do with each other share it: messages
    /// that nobody takes must not use up what the others need, so it holds as many full streams as one caller may
    /// open. What is held is bounded by the streams' windows.
    pub connection: u32,
    /// One header list, bytes.
    pub headers: u32,
}

impl Windows {
    /// From the configured limits.
    pub fn new(limits: &config::Limits) -> Self {
        let clamp = |size: config::units::Size, max: u64| u32::try_from(size.0.min(max)).unwrap_or(u32::MAX);
        const LARGEST_WINDOW: u64 = (1 << 31) - 1;
        let unread = config::units::Size(limits.stream_window.0.saturating_mul(u64::from(limits.streams)));
        Windows {
            stream: clamp(limits.stream_window, LARGEST_WINDOW),
            connection: clamp(limits.connection_window.max(unread), LARGEST_WINDOW),
            headers: clamp(limits.headers, u64::from(u32::MAX)),
        }
    }
}

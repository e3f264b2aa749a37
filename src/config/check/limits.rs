//! Bounds, each in the range in which it works.

use std::time::Duration;

use super::Check;
use crate::config::problem::Problem;
use crate::config::units::Size;
use crate::config::{Limits, MIN_DEADLINE, MemoryLimit, raw};

/// Largest flow-control window of HTTP/2.
const LARGEST_WINDOW: u64 = (1 << 31) - 1;

impl Check<'_> {
    pub(super) fn limits(&mut self, limits: Option<&raw::Limits>) -> Limits {
        let empty = raw::Limits::default();
        let raw = limits.unwrap_or(&empty);
        const STREAMS: u64 = (1 << 31) - 1;
        let streams = self.count("limits.streams", raw.streams.as_ref(), 1000, STREAMS);
        let most = usize::MAX as u64;
        let mib = 1 << 20;
        let limits = Limits {
            connections: self.count("limits.connections", raw.connections.as_ref(), 10_000, most) as usize,
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
            in_flight: self.count("limits.in_flight", raw.in_flight.as_ref(), 10_000, most) as usize,
            message: self.size("limits.message", raw.message.as_ref(), 64 * mib, (1024, (1 << 32) - 1)),
            retain: self.size("limits.retain", raw.retain.as_ref(), mib, (0, 1 << 32)),
            headers: self.size("limits.headers", raw.headers.as_ref(), 64 << 10, (4 << 10, 16 * mib)),
            stream_window: self.size(
                "limits.stream_window",
                raw.stream_window.as_ref(),
                mib,
                (64 << 10, LARGEST_WINDOW),
            ),
            connection_window: self.connection_window(raw.connection_window.as_ref()),
            handshake: self.positive("limits.handshake", raw.handshake.as_ref(), Duration::from_secs(10)),
            stall: self.positive("limits.stall", raw.stall.as_ref(), Duration::from_secs(60)),
            connection_age: self.age(raw.connection_age.as_ref()),
            connection_age_grace: self
                .duration(
                    "limits.connection_age_grace",
                    raw.connection_age_grace.as_ref().map(|span| &span.0),
                )
                .unwrap_or(Duration::from_secs(10)),
            memory: self.memory_limit(raw.memory.as_ref()),
            min_deadline: self
                .duration("limits.min_deadline", raw.min_deadline.as_ref().map(|span| &span.0))
                .unwrap_or(MIN_DEADLINE),
        };
        if limits.stream_window > limits.connection_window {
            let text =
                format!("is more than the window of a whole connection ({})", limits.connection_window);
            let problem =
                Problem::new("limits.stream_window", text).with_value(limits.stream_window.to_string());
            self.warn(problem.with_hint("a stream cannot use more than its connection has"));
        }
        limits
    }

    fn connection_window(&mut self, written: Option<&raw::Bytes>) -> Size {
        const LEAST: u64 = 1 << 20;
        let path = "limits.connection_window";
        let window = self.size(path, written, 4 << 20, (0, LARGEST_WINDOW));
        if window.0 < LEAST && !self.broken(path) {
            let problem = Problem::new(path, "is less than 1MiB").with_value(window.to_string());
            let hint = "write 1MiB or more: below it, many small answers at once look like an attack and cut the connection";
            self.error(problem.with_hint(hint));
        }
        window
    }

    fn memory_limit(&mut self, written: Option<&raw::BytesOrAuto>) -> MemoryLimit {
        // Less than a sidecar needs before its first call would refuse them all.
        const LEAST: u64 = 32 << 20;
        let path = "limits.memory";
        match written.map(|written| &written.0) {
            None => MemoryLimit::Auto,
            Some(raw::Written::Text(text)) if text.trim() == "auto" => MemoryLimit::Auto,
            Some(raw::Written::Text(text)) if text.trim() == "none" => MemoryLimit::Off,
            Some(size) => {
                let size = raw::Bytes(size.clone());
                let size = self.size(path, Some(&size), 256 << 20, (LEAST, 1 << 50));
                for problem in self.problems.iter_mut().filter(|problem| problem.path == path) {
                    problem.hint = Some(
                        "write a size like 256MiB; auto: what the control group allows; none: any".to_owned(),
                    );
                }
                MemoryLimit::At(size)
            }
        }
    }

    fn age(&mut self, written: Option<&raw::SpanOrNone>) -> Option<Duration> {
        let written = &written?.0;
        if matches!(written, raw::Written::Text(text) if text.trim() == "none") {
            return None;
        }
        let path = "limits.connection_age";
        let Some(age) = self.duration(path, Some(written)) else {
            for problem in self.problems.iter_mut().filter(|problem| problem.path == path) {
                problem.hint = problem.hint.take().map(|hint| format!("{hint}; none: never"));
            }
            return None;
        };
        self.above_zero(path, age);
        Some(age)
    }
}

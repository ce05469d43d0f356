//! The limits a client was told, as they can be measured where its frames leave.

use core::time::Duration;
use std::collections::VecDeque;

use realtime_proto::{Frame, Instant};

use super::{Verdict, must};

/// Joins a second that a server takes, unless a scenario says otherwise.
pub(super) const JOINS_PER_SECOND_MAX: u32 = 50;
/// Presence calls of one channel within [`PRESENCE_WINDOW`].
const PRESENCE_CALLS_MAX: usize = 5;
const PRESENCE_WINDOW: Duration = Duration::from_secs(30);
/// A server ends the connection at a larger frame.
const FRAME_BYTES_MAX: usize = 5_000_000;
/// What a single input makes of the events that waited besides what came in frames.
const EVENTS_SLACK: usize = 16;

pub(super) fn check_frame(frame: &Frame) -> Verdict {
    let bytes = frame.as_bytes().len();
    must(bytes <= FRAME_BYTES_MAX, "G11", || {
        format!("a frame of {bytes} bytes leaves, and {FRAME_BYTES_MAX} are taken")
    })
}

/// A bucket of joins that fills up again as time passes, a second's worth at most.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u32,
    full_at: Instant,
}

impl Bucket {
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, full_at: now }
    }

    /// Takes one out.
    pub(super) fn check(&mut self, now: Instant) -> Verdict {
        const BURST: Duration = Duration::from_secs(1);
        let per_second = self.per_second;
        let interval = BURST / per_second;
        self.full_at = self.full_at.max(now) + interval;
        must(self.full_at <= now + BURST + interval, "G11", || {
            format!("more than {per_second} joins a second leave on a connection")
        })
    }
}

/// The presence calls of one join that are young enough to count.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    pub(super) fn check(&mut self, now: Instant) -> Verdict {
        while self.0.front().is_some_and(|at| *at + PRESENCE_WINDOW <= now) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        must(self.0.len() <= PRESENCE_CALLS_MAX, "G11", || {
            format!("more than {PRESENCE_CALLS_MAX} presence calls leave in {PRESENCE_WINDOW:?}")
        })
    }
}

/// What an application is told of frames while no frame is read: what had waited for it.
#[derive(Debug, Default)]
pub(super) struct Backlog(usize);

impl Backlog {
    pub(super) const fn on_read(&mut self) {
        self.0 = 0;
    }

    pub(super) fn on_told(&mut self, events_max: Option<usize>) -> Verdict {
        self.0 += 1;
        let max = events_max.map_or(usize::MAX, |max| 2 * max + EVENTS_SLACK);
        must(self.0 <= max, "G12", || {
            format!("{} events waited for an application, and {max} may", self.0)
        })
    }
}

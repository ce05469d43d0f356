//! How far it is, on a terminal.

use core::time::Duration;
use std::io::{IsTerminal as _, Write as _, stderr};

/// A bar on stderr; nothing where stderr is no terminal.
pub(super) struct Progress {
    total: u64,
    /// How long it takes at most.
    span: Option<Duration>,
    shows: bool,
}

const WIDTH: usize = 40;

impl Progress {
    pub(super) fn new(total: u64, span: Option<Duration>) -> Self {
        Self { total: total.max(1), span, shows: stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, done: u64, took: Duration) {
        if !self.shows {
            return;
        }
        let by_time = self.span.map_or(0.0, |span| took.as_secs_f64() / span.as_secs_f64());
        let part = (done as f64 / self.total as f64).max(by_time).clamp(1e-6, 1.0);
        let filled = (part * WIDTH as f64) as usize;
        let bar: String = (0..WIDTH).map(|at| if at < filled { '█' } else { '·' }).collect();
        let left = (took.as_secs_f64() * (1.0 / part - 1.0)).round();
        let rate = done as f64 / took.as_secs_f64().max(1e-3);
        let line = format!("{bar} {done} seeds, {rate:.0} a second, {left:.0} s left");
        // Without a terminal to write to there is nobody to tell.
        self.shows = write!(stderr(), "\r{line}\x1b[K").is_ok();
    }

    pub(super) fn clear(&self) {
        if self.shows {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

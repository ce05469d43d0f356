//! How far it is, on a terminal.

use core::time::Duration;
use std::io::{IsTerminal as _, Write as _, stderr};

/// A bar on stderr; nothing where stderr is no terminal.
pub(super) struct Progress {
    total: u64,
    shows: bool,
}

const WIDTH: u64 = 40;

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self { total: total.max(1), shows: stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, done: u64, took: Duration) {
        if !self.shows {
            return;
        }
        let filled = done * WIDTH / self.total;
        let bar: String = (0..WIDTH).map(|at| if at < filled { '█' } else { '·' }).collect();
        let left = took.mul_f64((self.total - done) as f64 / done.max(1) as f64).as_secs();
        // Without a terminal to write to there is nobody to tell.
        self.shows = write!(stderr(), "\r{bar} {done}/{} {left}s left \x1b[K", self.total).is_ok();
    }

    pub(super) fn clear(&self) {
        if self.shows {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

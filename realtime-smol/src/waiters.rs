//! Callers that wait for a channel to become live.

use smol::channel::{Receiver, Sender, bounded};

use crate::error::Error;

/// The most callers that wait on one channel.
const WAITERS_MAX: usize = 1_024;

/// Where one caller waits.
pub(crate) type Waiting = Receiver<Result<(), Error>>;

/// The callers that wait on one channel.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Sender<Result<(), Error>>>);

impl Waiters {
    /// A place to wait at; when too many wait already, one that ends at once.
    pub(crate) fn wait(&mut self) -> Waiting {
        self.0.retain(|waiter| !waiter.is_closed());
        let (sender, waiting) = bounded(1);
        if self.0.len() < WAITERS_MAX {
            self.0.push(sender);
        }
        waiting
    }

    /// Tells all who wait how it ended.
    pub(crate) fn end(self, result: &Result<(), Error>) {
        for waiter in self.0 {
            // The caller may have stopped waiting, which is no fault.
            let _ = waiter.try_send(result.clone());
        }
    }
}

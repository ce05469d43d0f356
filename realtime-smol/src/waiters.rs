//! Callers that wait for a channel to become live.

use smol::channel::{Receiver, Sender, bounded};

use crate::error::Error;

/// The most callers that wait on one channel.
const WAITERS_MAX: usize = 1_024;

/// The callers that wait on one channel.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Sender<Result<(), Error>>>);

impl Waiters {
    /// A place to wait at; none when there is nothing to wait for.
    pub(crate) fn wait(&mut self, live: bool) -> Option<Receiver<Result<(), Error>>> {
        if live {
            return None;
        }
        self.0.retain(|waiter| !waiter.is_closed());
        let (sender, receiver) = bounded(1);
        if self.0.len() < WAITERS_MAX {
            self.0.push(sender);
        }
        Some(receiver)
    }

    /// Tells all who wait how it ended.
    pub(crate) fn end(self, result: &Result<(), Error>) {
        for waiter in self.0 {
            // The caller may have stopped waiting, which is no fault.
            let _ = waiter.try_send(result.clone());
        }
    }
}

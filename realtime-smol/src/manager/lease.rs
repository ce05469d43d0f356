//! One listener's hold on a shared channel.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use realtime_proto::manager::{EntityKey, LeaseEvent, LeaseId};
use smol::stream::Stream;

use super::log::Log;
use super::task::Task;
use crate::commands::Commands;
use crate::error::Error;
use crate::mailbox::{Delivery, Mailbox};

/// One listener's hold on a shared channel, and the stream of what it asked for.
///
/// Dropping it releases the hold; the channel is left a moment after the last one is gone.
pub struct Lease {
    pub(super) commands: Commands<Task>,
    pub(super) id: LeaseId,
    pub(super) key: Arc<EntityKey>,
    pub(super) events: Mailbox<LeaseEvent>,
    pub(super) log: Log,
}

impl Lease {
    /// Whose channel it is and what it is for.
    #[must_use]
    pub fn key(&self) -> &EntityKey {
        &self.key
    }

    /// Waits until everything the channel asked for flows.
    ///
    /// # Errors
    ///
    /// [`Error::NotLive`] with the cause when the channel gave up, [`Error::Closed`] when the
    /// lease was released.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: no event is taken from the stream.
    pub async fn live(&self) -> Result<(), Error> {
        let id = self.id;
        match self.commands.call(move |task, _| task.wait_until_live(id)).await?? {
            Some(waiting) => waiting.recv().await.map_err(|_| Error::Stopped)?,
            None => Ok(()),
        }
    }
}

impl Stream for Lease {
    type Item = Delivery<LeaseEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let id = self.id;
        self.commands.post(move |task, now| {
            // Its listener goes with the event of its end.
            task.manager.release(id, now);
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

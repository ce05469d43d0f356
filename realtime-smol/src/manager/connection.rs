//! The connections of a manager, as async calls and a stream.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use realtime_proto::manager::ManagerEvent;
use realtime_proto::{Secret, Stats};
use smol::stream::Stream;

use super::Manager;
use super::task::Task;
use crate::error::Error;
use crate::mailbox::{Delivery, Mailbox, mailbox};

/// What happens to the connections and to every channel, as a stream.
pub struct ManagerEvents {
    events: Mailbox<ManagerEvent>,
}

impl Manager {
    /// What happens to the connections and to every channel from now on, after one event for each
    /// connection that tells how it is.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn events(&self) -> Result<ManagerEvents, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        self.commands.call(move |task, _| task.observe(sender)).await?;
        Ok(ManagerEvents { events })
    }

    /// Uses another access token from now on, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn set_access_token(&self, token: Option<Secret>) -> Result<(), Error> {
        let set = move |task: &mut Task, now| task.manager.set_access_token(token, now);
        Ok(self.commands.call(set).await?)
    }

    /// Sets a query parameter of the next connections, or removes it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn set_param(&self, key: &str, value: Option<Secret>) -> Result<(), Error> {
        let key = key.to_owned();
        let set = move |task: &mut Task, now| task.manager.set_param(&key, value, now);
        Ok(self.commands.call(set).await?)
    }

    /// Closes the connections; leases and channels stay, and join again after
    /// [`reconnect`](Self::reconnect).
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn disconnect(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.manager.disconnect(now)).await?)
    }

    /// Connects again, after [`disconnect`](Self::disconnect) or after the connection was given
    /// up.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn reconnect(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.manager.connect(now)).await?)
    }

    /// Checks the connections now, after a hint that the network changed or the machine woke up.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn probe(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.manager.probe(now)).await?)
    }

    /// What the connection did so far, in numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.commands.call(|task, _| task.manager.stats()).await?)
    }

    /// Ends the manager for every handle, without waiting for leaves to be acknowledged.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when it has been shut down before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        Ok(self.commands.shutdown().await?)
    }
}

impl Stream for ManagerEvents {
    type Item = Delivery<ManagerEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl fmt::Debug for ManagerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerEvents").finish_non_exhaustive()
    }
}

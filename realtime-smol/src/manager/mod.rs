//! Handles of a channel manager: entities as async calls and streams.

mod callbacks;
mod connection;
mod lease;
mod log;
mod presence;
mod shared;
mod task;

use core::fmt;
use core::future::Future;
use std::sync::Arc;

pub use callbacks::{EntityCallbacks, ListenError, Listener, Listening, PresenceCallbacks};
pub use connection::ManagerEvents;
pub use lease::Lease;
use log::Log;
use realtime_proto::manager::{
    self as proto, ActiveChannel, ChannelStats, CleanupId, Entity, EntityKey, EntityOptions,
    LeaseId, ManagerConfig, ManagerError, SendOptions,
};
use realtime_proto::supabase::{BroadcastApi, BroadcastRequest};
use realtime_proto::{Instant, Payload};
pub use shared::{manager, set_up};
use task::{Listener as Holder, Task};

use crate::clock::{self, Clock};
use crate::commands::Commands;
use crate::connector::Connector;
use crate::driver::Driver;
use crate::error::{Error, answer};
use crate::mailbox::mailbox;
use crate::options::Options;
use crate::transport;

/// A handle on the one place that owns every realtime channel of an application; clones share it.
///
/// # Examples
///
/// ```no_run
/// use realtime_smol::Manager;
/// use realtime_smol::proto::Config;
/// use realtime_smol::proto::manager::{Entity, EntityOptions, LeaseEvent, ManagerConfig, User};
/// use smol::stream::StreamExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// smol::block_on(async {
///     let config = Config::builder("ws://127.0.0.1:4010/socket").build()?;
///     let manager = Manager::connect(ManagerConfig::new(config));
///     let contact = Entity::new("contact", "123");
///     let _seat = manager.join_presence(&contact, User::new("u1").with_name("Ana")).await?;
///     let mut rows = manager.subscribe_to_entity(&contact, EntityOptions::default()).await?;
///     while let Some(delivery) = rows.next().await {
///         if let Some(LeaseEvent::Change(change)) = delivery.event() {
///             println!("{} {:?}", change.kind(), change.record());
///         }
///     }
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Manager {
    commands: Commands<Task>,
    connector: Connector,
    log: Log,
    events_queued_max: usize,
}

impl Manager {
    /// Makes a manager and has it connect, on smol's global executor.
    #[must_use]
    pub fn connect(config: ManagerConfig) -> Self {
        let (manager, driver) = Self::connect_with_driver(config, &Options::default());
        smol::spawn(driver).detach();
        manager
    }

    /// Makes a manager whose work is done by the future that is returned with it, on any executor.
    ///
    /// The future ends after the last handle and lease were dropped, when what they asked for was
    /// sent and the connections are closed.
    pub fn connect_with_driver(
        config: ManagerConfig,
        options: &Options,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let clock = Clock::start();
        let mut manager = proto::Manager::new(config, clock::entropy(), clock.now());
        manager.set_unix_time(clock::unix_time(), clock.now());
        let (tokens, due) = options.tokens().unzip();
        if tokens.is_none() {
            manager.connect(clock.now());
        }
        let task = Task::new(manager, due);
        let config = options.driver();
        let connector = config.connector.clone();
        let (driver, commands) = Driver::new(task, |()| (), clock, config);
        let driver = options.surround(driver, tokens, commands.downgrade());
        let log = Log::new(options.logger.clone());
        let events_queued_max = options.events_queued_max;
        (Self { commands, connector, log, events_queued_max }, driver)
    }

    /// Listens to the row of an entity and to the broadcasts about it.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when a limit is reached.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no lease behind.
    pub async fn subscribe_to_entity(
        &self,
        entity: &Entity,
        options: EntityOptions,
    ) -> Result<Lease, Error> {
        let entity = entity.clone();
        self.lease(move |manager, now| {
            let lease = manager.subscribe_to_entity(&entity, &options, now)?;
            Ok((lease, EntityKey::subscription(entity)))
        })
        .await
    }

    /// Broadcasts to everyone else who listens to an entity; returns once it is on its way, or on
    /// a channel with `ack` once the server has it.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when it was not accepted, [`Error::Unanswered`] when the channel was
    /// not joined in time.
    ///
    /// # Cancel safety
    ///
    /// The message is sent all the same when the future is dropped after its first poll.
    pub async fn broadcast(
        &self,
        entity: &Entity,
        event: &str,
        payload: Payload,
    ) -> Result<(), Error> {
        self.broadcast_with(entity, event, payload, SendOptions::default()).await.map(drop)
    }

    /// Broadcasts as [`broadcast`](Self::broadcast) does, with options; returns the response of the
    /// server's `ok`, which is empty on a channel without `ack`.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast), and [`Error::Refused`] when the server refused it.
    ///
    /// # Cancel safety
    ///
    /// The message is sent all the same when the future is dropped after its first poll.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn send(manager: realtime_smol::Manager) -> Result<(), Box<dyn std::error::Error>> {
    /// use realtime_smol::proto::Payload;
    /// use realtime_smol::proto::manager::{ChannelSettings, Entity, SendOptions};
    ///
    /// let order = Entity::new("order", "7");
    /// let acknowledged = ChannelSettings { ack: true, ..ChannelSettings::default() };
    /// let options = SendOptions { channel: Some(acknowledged), ..SendOptions::default() };
    /// manager.broadcast_with(&order, "paid", Payload::json(&7)?, options).await?;
    /// println!("the server has it");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn broadcast_with(
        &self,
        entity: &Entity,
        event: &str,
        payload: Payload,
        options: SendOptions,
    ) -> Result<Payload, Error> {
        let (answers, answered) = smol::channel::bounded(1);
        let (entity, event) = (entity.clone(), event.to_owned());
        let pushed = self.commands.call(move |task, now| {
            let push = task.manager.broadcast_with(&entity, &event, payload, options, now)?;
            task.answers.insert(push, answers);
            Ok::<(), Error>(())
        });
        pushed.await??;
        answer(answered.recv().await.map_err(|_| Error::Stopped)?)
    }

    /// What makes requests for broadcasts over HTTP, as the same user; the topic of an entity is
    /// that of its [`EntityKey`].
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn broadcast_api(&self) -> Result<BroadcastApi, Error> {
        Ok(self.commands.call(|task, _| task.manager.broadcast_api()).await?)
    }

    /// Sends a request for broadcasts over HTTP, as
    /// [`Client::broadcast_http`](crate::Client::broadcast_http).
    ///
    /// # Errors
    ///
    /// [`Error::NotTaken`] with the server's words, [`Error::Unreachable`] when it could not be
    /// asked or did not answer within 10 s.
    pub async fn broadcast_http(&self, request: &BroadcastRequest) -> Result<(), Error> {
        transport::post(request, &self.connector).await
    }

    /// Whether there is a channel for a key.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn has_channel(&self, key: &EntityKey) -> Result<bool, Error> {
        let key = key.clone();
        Ok(self.commands.call(move |task, _| task.manager.has_channel(&key)).await?)
    }

    /// The channels there are, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn active_channels(&self) -> Result<Vec<ActiveChannel>, Error> {
        Ok(self.commands.call(|task, _| task.manager.active_channels().collect()).await?)
    }

    /// All channels in numbers: by kind, by status, by tenant, and who holds them since when.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn channel_stats(&self) -> Result<ChannelStats, Error> {
        Ok(self.commands.call(|task, _| task.manager.channel_stats()).await?)
    }

    /// Ends every lease of one channel and leaves it without lingering. Tells whether it was
    /// there.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn unsubscribe(&self, key: &EntityKey) -> Result<bool, Error> {
        let key = key.clone();
        Ok(self.commands.call(move |task, now| task.manager.unsubscribe(&key, now)).await?)
    }

    /// Tries a channel again that was given up, that the server closed, or whose delay is not
    /// over.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when it has to be opened anew and a limit is reached.
    pub async fn retry(&self, key: &EntityKey) -> Result<(), Error> {
        let key = key.clone();
        Ok(self.commands.call(move |task, now| task.manager.retry(&key, now)).await??)
    }

    /// Ends every lease and leaves every channel; returns when the leaves were acknowledged or
    /// timed out. What is asked for meanwhile is opened anew, and not waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager was shut down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// The clean-up goes on when the future is dropped after its first poll.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn log_out(manager: realtime_smol::Manager) -> Result<(), realtime_smol::Error> {
    /// manager.cleanup_all_channels().await?;
    /// manager.set_access_token(None).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cleanup_all_channels(&self) -> Result<(), Error> {
        self.cleanup(proto::Manager::cleanup_all_channels).await
    }

    /// The same for the channels of one tenant.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager was shut down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// The clean-up goes on when the future is dropped after its first poll.
    pub async fn cleanup_tenant(&self, tenant: &str) -> Result<(), Error> {
        let tenant = tenant.to_owned();
        self.cleanup(move |manager, now| manager.cleanup_tenant(&tenant, now)).await
    }

    async fn cleanup(
        &self,
        begin: impl FnOnce(&mut proto::Manager, Instant) -> CleanupId + Send + 'static,
    ) -> Result<(), Error> {
        let (done, ended) = smol::channel::bounded(1);
        self.commands
            .call(move |task, now| {
                let cleanup = begin(&mut task.manager, now);
                task.cleanups.insert(cleanup, done);
            })
            .await?;
        ended.recv().await.map_err(|_| Error::Stopped)
    }

    async fn lease(
        &self,
        ask: impl FnOnce(&mut proto::Manager, Instant) -> Result<(LeaseId, EntityKey), ManagerError>
        + Send
        + 'static,
    ) -> Result<Lease, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        let (commands, log) = (self.commands.clone(), self.log.clone());
        let lease = self.commands.call(move |task, now| {
            let (id, key) = ask(&mut task.manager, now)?;
            let key = Arc::new(key);
            task.listeners.insert(id, Holder::new(Arc::clone(&key), sender));
            // When the caller is gone, dropping the lease inside the answer releases it.
            Ok(Lease { commands, id, key, events, log })
        });
        lease.await?
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

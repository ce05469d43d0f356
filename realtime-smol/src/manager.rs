//! Handles of a channel manager: entities as async calls and streams.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::BTreeMap;

use realtime_proto::manager::{
    self as proto, ActiveChannel, ChannelStatus, Entity, EntityKey, EntityOptions, LeaseEvent,
    LeaseId, ManagerConfig, ManagerError, ManagerEvent, User,
};
use realtime_proto::{
    CloseReason, Frame, Instant, Outcome, Payload, PushId, Secret, SocketId, Stats,
};
use smol::stream::Stream;

use crate::clock::{self, Clock};
use crate::commands::Commands;
use crate::driver::{Driver, Machine, Request};
use crate::error::{Error, answer};
use crate::mailbox::{Delivery, Mailbox, Sender, mailbox};
use crate::options::Options;
use crate::waiters::{Waiters, Waiting};

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
    events_queued_max: usize,
}

/// One listener's hold on a shared channel, and the stream of what it asked for.
///
/// Dropping it releases the hold; the channel is left a moment after the last one is gone.
pub struct Lease {
    commands: Commands<Task>,
    id: LeaseId,
    key: EntityKey,
    events: Mailbox<LeaseEvent>,
}

/// What happens to the connection, as a stream.
pub struct ManagerEvents {
    events: Mailbox<ManagerEvent>,
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
    /// The future ends after the last handle and lease were dropped and the leaves are sent.
    pub fn connect_with_driver(
        config: ManagerConfig,
        options: &Options,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let clock = Clock::start();
        let mut manager = proto::Manager::new(config, clock::entropy(), clock.now());
        manager.set_unix_time(clock::unix_time(), clock.now());
        manager.connect(clock.now());
        let task = Task {
            manager,
            leases: BTreeMap::new(),
            statuses: BTreeMap::new(),
            answers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            connection: Vec::new(),
            last: None,
            cleanups: Vec::new(),
        };
        let (driver, commands) = Driver::new(task, |()| (), clock, options.driver());
        (Self { commands, events_queued_max: options.events_queued_max }, driver)
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
            Ok((lease, EntityKey { kind: proto::Kind::Subscription, entity }))
        })
        .await
    }

    /// Shows `user` as present on an entity and listens to who else is.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when another user is present through this manager, the metadata is not
    /// a JSON object, or a limit is reached.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no lease behind.
    pub async fn join_presence(&self, entity: &Entity, user: User) -> Result<Lease, Error> {
        let entity = entity.clone();
        self.lease(move |manager, now| {
            let lease = manager.join_presence(&entity, user, now)?;
            Ok((lease, EntityKey { kind: proto::Kind::Presence, entity }))
        })
        .await
    }

    /// Broadcasts to everyone else who listens to an entity; returns once it is on its way.
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
        let (answers, answered) = smol::channel::bounded(1);
        let (entity, event) = (entity.clone(), event.to_owned());
        let pushed = self.commands.call(move |task, now| {
            let push = task.manager.broadcast(&entity, &event, payload, now)?;
            task.answers.insert(push, answers);
            Ok::<(), Error>(())
        });
        pushed.await??;
        answer(answered.recv().await.map_err(|_| Error::Stopped)?).map(drop)
    }

    /// The users present on an entity, one entry a user; empty when nobody joined its presence.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn presence_state(&self, entity: &Entity) -> Result<Vec<User>, Error> {
        let entity = entity.clone();
        Ok(self.commands.call(move |task, _| task.manager.presence_state(&entity)).await?)
    }

    /// The channels there are, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn active_channels(&self) -> Result<Vec<ActiveChannel>, Error> {
        Ok(self.commands.call(|task, _| task.manager.active_channels().collect()).await?)
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
    /// timed out.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager was shut down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// The clean-up goes on when the future is dropped.
    pub async fn cleanup_all_channels(&self) -> Result<(), Error> {
        let (done, ended) = smol::channel::bounded::<()>(1);
        self.commands
            .call(move |task, now| {
                task.manager.cleanup_all_channels(now);
                task.cleanups.push(done);
                task.end_cleanups();
            })
            .await?;
        // The sender is dropped when there is no channel any more.
        match ended.recv().await {
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What happens to the connection from now on, after one event that tells how it is.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn events(&self) -> Result<ManagerEvents, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        self.commands.call(move |task, _| task.listen(sender)).await?;
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

    /// Checks the connection now, after a hint that the network changed or the machine woke up.
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

    async fn lease(
        &self,
        ask: impl FnOnce(&mut proto::Manager, Instant) -> Result<(LeaseId, EntityKey), ManagerError>
        + Send
        + 'static,
    ) -> Result<Lease, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        let commands = self.commands.clone();
        let lease = self.commands.call(move |task, now| {
            let (id, key) = ask(&mut task.manager, now)?;
            task.leases.insert(id, sender);
            // When the caller is gone, dropping the lease inside the answer releases it.
            Ok(Lease { commands, id, key, events })
        });
        lease.await?
    }
}

impl Lease {
    /// Whose channel it is and what it is for.
    #[must_use]
    pub const fn key(&self) -> &EntityKey {
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

    /// Shows other metadata of the user this lease is for, a JSON object.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when this is not a presence lease or the metadata is not an object.
    pub async fn update_presence_metadata(&self, metadata: Payload) -> Result<(), Error> {
        let id = self.id;
        let updated = self
            .commands
            .call(move |task, now| task.manager.update_presence_metadata(id, metadata, now));
        Ok(updated.await??)
    }
}

impl Stream for Lease {
    type Item = Delivery<LeaseEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Stream for ManagerEvents {
    type Item = Delivery<ManagerEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let id = self.id;
        self.commands.post(move |task, now| {
            task.leases.remove(&id);
            task.manager.release(id, now);
        });
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
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

impl fmt::Debug for ManagerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerEvents").finish_non_exhaustive()
    }
}

/// The machine and whom its events concern, owned by one task.
struct Task {
    manager: proto::Manager,
    leases: BTreeMap<LeaseId, Sender<LeaseEvent>>,
    statuses: BTreeMap<LeaseId, ChannelStatus>,
    answers: BTreeMap<PushId, smol::channel::Sender<Outcome>>,
    waiting: BTreeMap<LeaseId, Waiters>,
    connection: Vec<Sender<ManagerEvent>>,
    /// The last word on whether there is a connection.
    last: Option<ManagerEvent>,
    /// Who waits for the last channel to be gone; dropping them tells.
    cleanups: Vec<smol::channel::Sender<()>>,
}

impl Task {
    fn listen(&mut self, listener: Sender<ManagerEvent>) {
        self.last.iter().for_each(|event| listener.send(event.clone()));
        self.connection.push(listener);
    }

    /// A place to wait at until the lease's channel is live; none when it is.
    fn wait_until_live(&mut self, id: LeaseId) -> Result<Option<Waiting>, Error> {
        match self.statuses.get(&id) {
            Some(ChannelStatus::Live) => Ok(None),
            Some(ChannelStatus::Error { cause }) => Err(Error::NotLive(cause.clone())),
            None if !self.leases.contains_key(&id) => Err(Error::Closed),
            Some(_) | None => Ok(Some(self.waiting.entry(id).or_default().wait())),
        }
    }

    fn on_lease_event(&mut self, id: LeaseId, event: LeaseEvent) {
        if let LeaseEvent::Status(status) = &event {
            if *status == ChannelStatus::Live {
                self.end_wait(id, &Ok(()));
            }
            if let ChannelStatus::Error { cause } = status {
                self.end_wait(id, &Err(Error::NotLive(cause.clone())));
            }
            self.statuses.insert(id, status.clone());
        }
        if event == LeaseEvent::Ended {
            self.end_wait(id, &Err(Error::Closed));
            self.statuses.remove(&id);
        }
        let last = event == LeaseEvent::Ended;
        if let Some(sender) = self.leases.get(&id) {
            sender.send(event);
        }
        if last {
            self.leases.remove(&id);
        }
    }

    fn end_wait(&mut self, id: LeaseId, result: &Result<(), Error>) {
        if let Some(waiters) = self.waiting.remove(&id) {
            waiters.end(result);
        }
    }

    fn end_cleanups(&mut self) {
        if !self.cleanups.is_empty() && self.manager.active_channels().next().is_none() {
            self.cleanups.clear();
        }
    }
}

impl Machine for Task {
    type Event = ();
    type Socket = SocketId;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        // The wall clock may have been corrected since the last connection.
        self.manager.set_unix_time(clock::unix_time(), now);
        self.manager.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.manager.handle_frame(socket, frame, now);
        self.end_cleanups();
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.manager.handle_close(socket, reason, now);
        self.end_cleanups();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.manager.handle_timeout(now);
        self.end_cleanups();
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.manager.poll_transmit().map(Request::from)
    }

    fn poll_event(&mut self) -> Option<()> {
        let event = self.manager.poll_event()?;
        if let ManagerEvent::Lease(id, event) = event {
            self.on_lease_event(id, event);
        } else if let ManagerEvent::PushEnded { push, outcome } = event {
            if let Some(answers) = self.answers.remove(&push) {
                // The caller may have stopped waiting, which is no fault.
                let _ = answers.try_send(outcome);
            }
        } else {
            self.connection.retain(|listener| listener.is_wanted());
            self.connection.iter().for_each(|listener| listener.send(event.clone()));
            if matches!(event, ManagerEvent::Connected | ManagerEvent::Disconnected { .. }) {
                self.last = Some(event);
            }
        }
        Some(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.manager.poll_timeout()
    }

    fn wants_frames(&self) -> bool {
        self.manager.wants_frames()
    }
}

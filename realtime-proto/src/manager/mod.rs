//! The channel manager: one place that owns every realtime channel of an application.
//!
//! Whoever wants row changes, broadcasts or presence of an [`Entity`] asks here and gets a lease.
//! However many ask, there is one wire channel a key; it is opened for the first lease, asks for
//! the union of what its leases want, and is left a moment after the last one is released, so
//! that a component which goes and comes back costs nothing on the wire.
//!
//! A [`Manager`] has the verbs of a [`Client`](crate::Client) and is driven the same way.
//!
//! | setting | default |
//! |---|---|
//! | table | `{entity_type}s` |
//! | schema | `public` |
//! | events | all |
//! | filter | `id=eq.{entity_id}` |
//! | first delay before joining again | 3 s, doubling, full jitter |
//! | attempts before giving up | 5 |
//! | linger after the last release | 1 s |

mod cleanup;
mod config;
mod connection;
mod deliver;
mod drive;
mod entity;
mod event;
mod gap;
mod lease;
mod people;
mod pool;
mod presence;
mod registry;
mod shared;
mod stats;
mod user;

use alloc::collections::{BTreeSet, VecDeque};

use cleanup::Cleanups;
pub use config::{
    ChannelSettings, EntityOptions, ManagerConfig, ManagerError, PresenceOptions, SendOptions,
};
pub use entity::{Entity, EntityKey, Kind};
pub use event::{ChannelStatus, CleanupId, LeaseEvent, LeaseId, ManagerEvent};
pub use people::UserDiff;
use pool::Pool;
use registry::{KeyId, Registry};
use shared::Shared;
pub use stats::{ActiveChannel, ChannelStats, Connection, Held, TenantStats};
pub use user::User;

use crate::error::PushError;
use crate::ids::{ConnectionId, PushId};
use crate::payload::Payload;
use crate::time::Instant;

/// One place that owns every realtime channel of an application.
///
/// # Examples
///
/// ```
/// use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig, User};
/// use realtime_proto::{Config, Instant, Payload};
///
/// let config = Config::builder("ws://localhost:4000/socket").build()?;
/// let now = Instant::EPOCH;
/// let mut manager = Manager::new(ManagerConfig::new(config), 42, now);
/// let contact = Entity::new("contact", "123").in_tenant("acme");
///
/// let rows = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
/// let seat = manager.join_presence(&contact, User::new("u1").with_name("Ana"), now)?;
/// manager.broadcast(&contact, "cursor", Payload::json(&(3, 4))?, now)?;
///
/// assert_eq!(manager.active_channels().count(), 2);
/// # let _ = (rows, seat);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Manager {
    config: ManagerConfig,
    pool: Pool,
    registry: Registry,
    cleanups: Cleanups,
    events: VecDeque<ManagerEvent>,
    events_queued_max: usize,
    /// Which connections asked for a token since it was told, and whether it had expired.
    token_asked_by: BTreeSet<(ConnectionId, bool)>,
    now: Instant,
}

impl Manager {
    /// For how many events there stays room while there are none.
    const EVENTS_KEPT: usize = 256;
    /// How soon at the earliest a channel that could not be left is looked at again.
    const LINGER_STEP_MIN: core::time::Duration = core::time::Duration::from_millis(100);

    /// Makes a manager that is offline and has no channel. `seed` decides the jitter of its
    /// retries and nothing else.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// let config = Config::builder("ws://localhost:4000/socket").build()?;
    /// let manager = Manager::new(ManagerConfig::new(config), 42, Instant::EPOCH);
    /// assert_eq!(manager.active_channels().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(config: ManagerConfig, seed: u64, now: Instant) -> Self {
        Self {
            events_queued_max: config.client.limits.events_queued_max,
            pool: Pool::new(config.client.clone(), config.pool, seed, now),
            registry: Registry::default(),
            cleanups: Cleanups::default(),
            events: VecDeque::new(),
            token_asked_by: BTreeSet::new(),
            now,
            config,
        }
    }

    /// Listens to the row of an entity and to the broadcasts about it.
    ///
    /// A channel that was given up and lingers is tried again, and one that others hold is not:
    /// [`retry`](Self::retry) is for them all.
    ///
    /// # Errors
    ///
    /// [`ManagerError`] when a limit is reached; nothing was changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let filter = Some("state=eq.open".into());
    /// let open_only = EntityOptions { filter, ..EntityOptions::default() };
    /// let one = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// let two = manager.subscribe_to_entity(&contact, &open_only, now)?;
    /// assert_ne!(one, two);
    /// assert_eq!(manager.active_channels().count(), 1, "both share one channel");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe_to_entity(
        &mut self,
        entity: &Entity,
        options: &EntityOptions,
        now: Instant,
    ) -> Result<LeaseId, ManagerError> {
        self.check_leases()?;
        let key = EntityKey::subscription(entity.clone());
        let binding = options.binding(entity);
        let id = self.open(&key, options.channel.as_ref(), None, now)?;
        if let Err(error) = self.bind(id, &binding, now) {
            self.linger_if_unheld(id);
            return Err(error.into());
        }
        Ok(self.hold(id, Some(binding), options.label.clone(), now))
    }

    /// Broadcasts to everyone who listens to an entity. Ends in one `PushEnded`.
    ///
    /// Before the channel is joined it waits, at most for `push_timeout`, 10 s. On a channel with
    /// [`ack`](ChannelSettings::ack) the outcome is the server's answer, otherwise that it was
    /// sent.
    ///
    /// # Errors
    ///
    /// [`ManagerError`] when it cannot be sent; nothing was kept then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let push = manager.broadcast(&contact, "cursor", Payload::json(&(3, 4))?, now)?;
    /// # let _ = push;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast(
        &mut self,
        entity: &Entity,
        event: &str,
        payload: Payload,
        now: Instant,
    ) -> Result<PushId, ManagerError> {
        self.broadcast_with(entity, event, payload, SendOptions::default(), now)
    }

    /// The same with options: with or without the server's word, a time to live of its own, or
    /// kept by the server.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast), and [`ManagerError::Conflict`] when the channel is
    /// shared by others who asked for another setting of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, SendOptions};
    /// # use realtime_proto::{Config, Instant, Payload, PushOptions};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// // Of the cursors that wait for the join, only the newest is worth sending.
    /// let newest = PushOptions::new().coalesced_by("cursor");
    /// let options = SendOptions { broadcast: newest.into(), ..SendOptions::default() };
    /// manager.broadcast_with(&contact, "cursor", Payload::json(&(3, 4))?, options, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast_with(
        &mut self,
        entity: &Entity,
        event: &str,
        payload: Payload,
        options: SendOptions,
        now: Instant,
    ) -> Result<PushId, ManagerError> {
        let SendOptions { broadcast, channel } = options;
        let key = EntityKey::subscription(entity.clone());
        let id = self.open(&key, channel.as_ref(), None, now)?;
        let wire = self.shared(id).wire;
        let pushed = match wire.and_then(|wire| self.pool.channel(wire)) {
            Some(mut channel) => channel.broadcast_with(event, payload, broadcast, now),
            None => Err(PushError::Closing),
        };
        self.linger_if_unheld(id);
        self.pump(now);
        Ok(pushed?)
    }

    /// Ends a listener; its last event is `Ended`. Tells whether it was there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let lease = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// assert!(manager.release(lease, now));
    /// assert!(!manager.release(lease, now), "it was released before");
    /// assert_eq!(manager.active_channels().count(), 1, "the channel lingers");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, lease: LeaseId, now: Instant) -> bool {
        let now = self.advance(now);
        let Some(id) = self.drop_holder(lease) else { return false };
        self.linger_if_unheld(id);
        self.pump(now);
        true
    }

    /// Ends every listener of one channel and leaves it without lingering. Tells whether it was
    /// there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityKey, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let lease = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// assert!(manager.unsubscribe(&EntityKey::subscription(contact), now));
    /// assert!(!manager.release(lease, now), "the lease ended with the channel");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unsubscribe(&mut self, key: &EntityKey, now: Instant) -> bool {
        let now = self.advance(now);
        let Some(id) = self.registry.id(key) else { return false };
        let there = self.shared(id).wire.is_some() || !self.shared(id).holders.is_empty();
        self.close(id, now);
        self.pump(now);
        there
    }

    /// Tries a channel again that was given up, that the server closed, or whose delay is not
    /// over.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Open`] when the channel has to be opened anew and a limit is reached.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{ChannelStatus, Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// // A person pressed the button beside what is given up.
    /// let stuck: Vec<_> = manager
    ///     .active_channels()
    ///     .filter(|channel| matches!(channel.status, ChannelStatus::Error { .. }))
    ///     .map(|channel| channel.key)
    ///     .collect();
    /// for key in &stuck {
    ///     manager.retry(key, now)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(&mut self, key: &EntityKey, now: Instant) -> Result<(), ManagerError> {
        let now = self.advance(now);
        let Some(id) = self.registry.id(key) else { return Ok(()) };
        let wire = self.shared(id).wire;
        // A connection that gave up would leave the channel nothing to join on.
        self.pool.revive(wire, now);
        if let Some(mut channel) = wire.and_then(|wire| self.pool.channel(wire)) {
            channel.rejoin(now);
            self.resume(id);
        } else if !self.shared(id).holders.is_empty() {
            let user = self.shared(id).user.clone();
            self.open(key, None, user.as_ref(), now)?;
        }
        self.pump(now);
        Ok(())
    }

    fn shared(&self, id: KeyId) -> &Shared {
        self.registry.get(id).expect("a key stays while something of it is left")
    }

    fn shared_mut(&mut self, id: KeyId) -> &mut Shared {
        self.registry.get_mut(id).expect("a key stays while something of it is left")
    }

    /// Takes the driver's time, which does not go back: all connections have one clock.
    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }
}

//! The channel manager: one place that owns every realtime channel of an application.
//!
//! Whoever wants row changes, broadcasts or presence of an [`Entity`] asks here and gets a lease.
//! However many ask, there is one wire channel a key; it is opened for the first lease, asks for
//! the union of what its leases want, and is left a moment after the last one is released, so
//! that a component which goes and comes back costs nothing on the wire.
//!
//! A [`Manager`] has the verbs of a [`Client`] and is driven the same way.
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

mod config;
mod deliver;
mod drive;
mod entity;
mod event;
mod lease;
mod shared;
mod user;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

pub use config::{ActiveChannel, EntityOptions, ManagerConfig, ManagerError};
pub use entity::{Entity, EntityKey, Kind};
pub use event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use shared::Shared;
pub use user::User;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::PushError;
use crate::ids::{ChannelId, PushId};
use crate::payload::Payload;
use crate::secret::Secret;
use crate::stats::Stats;
use crate::supabase::{Cause, CauseKind};
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
    client: Client,
    rejoin: Backoff,
    linger: Duration,
    shared: BTreeMap<EntityKey, Shared>,
    /// Who owns a wire channel; one that is being left after its key moved on has no owner.
    owners: BTreeMap<ChannelId, EntityKey>,
    leases: BTreeMap<LeaseId, EntityKey>,
    events: VecDeque<ManagerEvent>,
    events_queued_max: usize,
    now: Instant,
    next_lease: u64,
}

impl Manager {
    /// How soon at the earliest a channel that could not be left is looked at again.
    const LINGER_STEP_MIN: Duration = Duration::from_millis(100);

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
        let ManagerConfig { client, rejoin, linger } = config;
        Self {
            events_queued_max: client.limits.events_queued_max,
            client: Client::new(client, seed, now),
            rejoin,
            linger,
            shared: BTreeMap::new(),
            owners: BTreeMap::new(),
            leases: BTreeMap::new(),
            events: VecDeque::new(),
            now,
            next_lease: 0,
        }
    }

    /// Listens to the row of an entity and to the broadcasts about it.
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
        let key = EntityKey { kind: Kind::Subscription, entity: entity.clone() };
        let binding = options.binding(entity);
        self.open(&key, None, now)?;
        if let Err(error) = self.bind(&key, &binding, now) {
            self.linger_if_unheld(&key, now);
            return Err(error.into());
        }
        Ok(self.hold(key, Some(binding), now))
    }

    /// Shows `user` as present on an entity and listens to who else is.
    ///
    /// # Errors
    ///
    /// [`ManagerError::OtherUser`] when this manager is present there as somebody else,
    /// [`ManagerError::Push`] when the metadata is not a JSON object, or a limit was reached.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1").with_name("Ana"), now)?;
    /// assert!(manager.join_presence(&contact, User::new("u2"), now).is_err(), "one user each");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_presence(
        &mut self,
        entity: &Entity,
        user: User,
        now: Instant,
    ) -> Result<LeaseId, ManagerError> {
        let key = EntityKey { kind: Kind::Presence, entity: entity.clone() };
        let tracked = user.to_payload().map_err(PushError::from)?;
        let shared = self.shared.get(&key);
        let present = shared.and_then(|shared| Some((shared, shared.user.as_ref()?)));
        if let Some((shared, present)) = present.filter(|(_, it)| it.user_id != user.user_id) {
            if !shared.holders.is_empty() {
                return Err(ManagerError::OtherUser {
                    entity: entity.clone(),
                    present: present.user_id.clone(),
                    asked: user.user_id,
                });
            }
            // Only the linger keeps the one who was here.
            self.advance(now);
            self.leave(&key, now);
        }
        self.open(&key, Some(&user), now)?;
        self.shared_mut(&key).user = Some(user);
        self.track(&key, tracked, now)?;
        Ok(self.hold(key, None, now))
    }

    /// Shows other metadata of the user that a presence lease is for.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Released`] for a lease that is gone, [`ManagerError::Push`] when the
    /// metadata is not a JSON object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let seat = manager.join_presence(&contact, User::new("u1"), now)?;
    /// manager.update_presence_metadata(seat, Payload::from_json(r#"{"typing":true}"#)?, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update_presence_metadata(
        &mut self,
        lease: LeaseId,
        metadata: Payload,
        now: Instant,
    ) -> Result<(), ManagerError> {
        let released = ManagerError::Released(lease);
        let key = self.leases.get(&lease).cloned().ok_or_else(|| released.clone())?;
        let user = self.shared.get(&key).and_then(|shared| shared.user.clone()).ok_or(released)?;
        let user = user.with_metadata(metadata);
        let tracked = user.to_payload().map_err(PushError::from)?;
        self.shared_mut(&key).user = Some(user);
        self.track(&key, tracked, now)
    }

    /// Broadcasts to everyone who listens to an entity; waits for the channel if need be. Ends in
    /// one `PushEnded`.
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
        let key = EntityKey { kind: Kind::Subscription, entity: entity.clone() };
        self.open(&key, None, now)?;
        let channel = self.shared_mut(&key).channel;
        let pushed = match channel.and_then(|id| self.client.channel(id)) {
            Some(mut channel) => channel.broadcast(event, payload, now),
            None => Err(PushError::Closing),
        };
        self.linger_if_unheld(&key, now);
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
        self.advance(now);
        let Some(key) = self.leases.remove(&lease) else { return false };
        self.drop_holder(&key, lease);
        self.linger_if_unheld(&key, now);
        self.pump(now);
        true
    }

    /// Ends every listener and leaves every channel without lingering.
    ///
    /// The leaves are acknowledged, or timed out, when [`active_channels`](Self::active_channels)
    /// has no more rows.
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
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// manager.cleanup_all_channels(now);
    /// assert_eq!(manager.active_channels().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cleanup_all_channels(&mut self, now: Instant) {
        self.advance(now);
        for (lease, key) in core::mem::take(&mut self.leases) {
            self.drop_holder(&key, lease);
        }
        let keys: Vec<EntityKey> = self.shared.keys().cloned().collect();
        for key in keys {
            self.leave(&key, now);
        }
        self.pump(now);
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
        self.advance(now);
        let Some(shared) = self.shared.get(key) else { return Ok(()) };
        let (channel, held) = (shared.channel, !shared.holders.is_empty());
        // A connection that gave up would leave the channel nothing to join on.
        if self.client.is_stopped() {
            self.client.connect(now);
        }
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            channel.rejoin(now);
        } else if held {
            let user = shared.user.clone();
            self.open(key, user.as_ref(), now)?;
        }
        self.pump(now);
        Ok(())
    }

    /// The users present on an entity, one entry a user; empty when nobody joined its presence.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1"), now)?;
    /// assert!(manager.presence_state(&contact).is_empty(), "the server told nothing yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence_state(&mut self, entity: &Entity) -> Vec<User> {
        let key = EntityKey { kind: Kind::Presence, entity: entity.clone() };
        let channel = self.shared.get(&key).and_then(|shared| shared.channel);
        match channel.and_then(|id| self.client.channel(id)) {
            Some(channel) => user::users(channel.presence().members()),
            None => Vec::new(),
        }
    }

    /// Whether there is a channel for a key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityKey, EntityOptions, Kind, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// let key = EntityKey { kind: Kind::Subscription, entity: contact };
    /// assert!(manager.has_channel(&key));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn has_channel(&self, key: &EntityKey) -> bool {
        self.shared.contains_key(key)
    }

    /// The channels there are, in the order of their keys.
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
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// for channel in manager.active_channels() {
    ///     println!("{:<12} {} listeners", channel.status, channel.listeners);
    /// }
    /// # assert_eq!(manager.active_channels().map(|channel| channel.listeners).sum::<usize>(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn active_channels(&self) -> impl Iterator<Item = ActiveChannel> {
        self.shared.iter().map(|(key, shared)| ActiveChannel {
            key: key.clone(),
            status: shared.status.clone(),
            since: shared.since,
            listeners: shared.holders.len(),
            held_since: shared.holders.values().map(|holder| holder.since).min(),
            delivered: shared.delivered,
            attempts: shared.attempts,
        })
    }

    /// What the connection did so far, in numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// assert_eq!(manager.stats().connects, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// Wants a connection from now on, as [`Client::connect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.connect(now);
    /// assert!(manager.poll_transmit().is_some(), "the driver is asked to open a socket");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(&mut self, now: Instant) {
        self.client.connect(now);
        self.pump(now);
    }

    /// Wants no connection from now on, as [`Client::disconnect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// manager.disconnect(now);
    /// assert!(matches!(manager.poll_transmit(), Some(Transmit::Close { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disconnect(&mut self, now: Instant) {
        self.client.disconnect(now);
        self.pump(now);
        // While only an attempt was planned, there was no connection whose end could be told.
        self.on_disconnected(&Cause::new(CauseKind::Requested), None);
    }

    /// Uses another access token from now on, as [`Client::set_access_token`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Secret};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.set_access_token(Some(Secret::new("eyJhbGciOi")), now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_access_token(&mut self, token: Option<Secret>, now: Instant) {
        self.client.set_access_token(token, now);
        self.pump(now);
    }

    /// Sets a query parameter of the next connection, as [`Client::set_param`].
    pub fn set_param(&mut self, key: &str, value: Option<Secret>, now: Instant) {
        self.client.set_param(key, value, now);
        self.pump(now);
    }

    /// Tells the wall clock's time, as [`Client::set_unix_time`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// use std::time::{SystemTime, UNIX_EPOCH};
    ///
    /// manager.set_unix_time(SystemTime::now().duration_since(UNIX_EPOCH)?, now);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.client.set_unix_time(unix, now);
        self.pump(now);
    }

    /// Checks the connection now, as [`Client::probe`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.probe(now);
    /// assert!(matches!(manager.poll_transmit(), Some(Transmit::Frame { .. })), "a heartbeat");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn probe(&mut self, now: Instant) {
        self.client.probe(now);
        self.pump(now);
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }
}

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

mod entity;
mod event;
mod shared;
mod user;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use entity::{Entity, EntityKey, Kind};
pub use event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use shared::{Holder, Shared};
pub use user::User;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::config::{ChannelConfig, Config};
use crate::error::{BindError, OpenError, PushError};
use crate::event::{ChannelEvent, Event};
use crate::ids::{ChannelId, PushId, SocketId};
use crate::payload::Payload;
use crate::presence::{Member, PresenceDiff};
use crate::secret::Secret;
use crate::stats::Stats;
use crate::supabase::quote_filter_value;
use crate::supabase::{Binding, Cause, CauseKind, ChangeEvent, JoinConfig, PresenceConfig};
use crate::time::Instant;
use crate::transmit::{CloseReason, Frame, Transmit};

/// The settings of a [`Manager`].
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::Config;
/// use realtime_proto::manager::ManagerConfig;
///
/// let config = Config::builder("wss://project.supabase.co/realtime/v1").build()?;
/// let config = ManagerConfig::new(config).with_linger(Duration::from_secs(5));
/// # let _ = config;
/// # Ok::<(), realtime_proto::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    client: Config,
    rejoin: Backoff,
    linger: Duration,
}

impl ManagerConfig {
    /// The defaults, on a connection with these settings.
    #[must_use]
    pub const fn new(client: Config) -> Self {
        let rejoin = Backoff::exponential(Duration::from_secs(3), Duration::from_secs(60));
        Self { client, rejoin: rejoin.with_attempts_max(5), linger: Duration::from_secs(1) }
    }

    /// Sets the delays between attempts to join a channel, and how many there are. Default 3 s
    /// doubling to 60 s, full jitter, 5 attempts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::manager::ManagerConfig;
    /// # use realtime_proto::{Backoff, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// let patient = Backoff::exponential(Duration::from_secs(5), Duration::from_secs(300));
    /// let config = ManagerConfig::new(config).with_rejoin(patient);
    /// # let _ = config;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_rejoin(mut self, rejoin: Backoff) -> Self {
        self.rejoin = rejoin;
        self
    }

    /// Sets how long a channel stays after its last lease was released. Default 1 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::manager::ManagerConfig;
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// let config = ManagerConfig::new(config).with_linger(Duration::from_secs(5));
    /// # let _ = config;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }
}

/// What a listener wants to know of an entity's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityOptions {
    /// The table; `{entity_type}s` when none.
    pub table: Option<String>,
    /// The schema; `public` when none.
    pub schema: Option<String>,
    /// Which kinds of change.
    pub event: ChangeEvent,
    /// A filter instead of `id=eq.{entity_id}`, in the syntax of Supabase.
    pub filter: Option<String>,
}

impl EntityOptions {
    fn binding(&self, entity: &Entity) -> Binding {
        let table =
            self.table.clone().unwrap_or_else(|| alloc::format!("{}s", entity.entity_type()));
        let schema = self.schema.clone().unwrap_or_else(|| "public".into());
        let filter = self
            .filter
            .clone()
            .unwrap_or_else(|| alloc::format!("id=eq.{}", quote_filter_value(entity.entity_id())));
        Binding::new(self.event, schema, table).with_filter(filter)
    }
}

/// A request to the manager was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The channel could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The row changes could not be asked for.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The message could not be sent.
    #[error(transparent)]
    Push(#[from] PushError),
    /// Another user is present on this entity through the same manager.
    #[error("`{present}` is present on {entity} through this manager; `{asked}` needs its own")]
    OtherUser {
        /// The entity.
        entity: Entity,
        /// Who is present.
        present: String,
        /// Who was to join.
        asked: String,
    },
    /// The lease was released, or never was.
    #[error("{0} was released; ask for the entity again")]
    Released(LeaseId),
}

/// One row of [`Manager::active_channels`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveChannel {
    /// Whose channel it is and what it is for.
    pub key: EntityKey,
    /// How it is.
    pub status: ChannelStatus,
    /// Since when it is so.
    pub since: Instant,
    /// How many listeners hold it.
    pub listeners: usize,
    /// When its oldest listener came.
    pub held_since: Option<Instant>,
    /// How many row changes, broadcasts and presence changes came on it.
    pub delivered: u64,
    /// How many times it was lost or refused since it was last live.
    pub attempts: u32,
}

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
        if let Some(present) = self.shared.get(&key).and_then(|shared| shared.user.as_ref()) {
            if present.user_id != user.user_id {
                return Err(ManagerError::OtherUser {
                    entity: entity.clone(),
                    present: present.user_id.clone(),
                    asked: user.user_id,
                });
            }
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
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            channel.rejoin(now);
        } else if held {
            let user = shared.user.clone();
            self.open(key, user.as_ref(), now)?;
            self.set_status(key, ChannelStatus::Connecting);
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

    /// The transport is open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// manager.handle_open(socket, now);
    /// assert_eq!(manager.poll_event(), Some(ManagerEvent::Connected));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_open(&mut self, socket: SocketId, now: Instant) {
        self.client.handle_open(socket, now);
        self.pump(now);
    }

    /// A frame came.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Frame, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.handle_frame(socket, Frame::text("what is this?"), now);
    /// assert!(matches!(manager.poll_event(), Some(ManagerEvent::Violation(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        if self.events.len() >= 2 * self.events_queued_max {
            return self.client.drop_frame();
        }
        self.client.handle_frame(socket, frame, now);
        self.pump(now);
    }

    /// The transport ended, or could not be opened.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{CloseReason, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # manager.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    /// # manager.handle_open(socket, now);
    /// # while manager.poll_event().is_some() {}
    /// manager.handle_close(socket, CloseReason::Lost { detail: "reset by peer".into() }, now);
    /// assert!(matches!(manager.poll_event(), Some(ManagerEvent::Disconnected { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.client.handle_close(socket, reason, now);
        self.pump(now);
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) came.
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
    /// manager.release(lease, now);
    /// while manager.poll_event().is_some() {}
    /// // The channel lingers for a second, and nobody comes back.
    /// let deadline = manager.poll_timeout().ok_or("the end of the linger")?;
    /// manager.handle_timeout(deadline);
    /// assert_eq!(manager.active_channels().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
        self.advance(now);
        let due = |shared: &Shared| shared.linger_until.is_some_and(|until| until <= self.now);
        let unheld = self.shared.iter().filter(|(_, shared)| due(shared));
        let keys: Vec<EntityKey> = unheld.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.leave(&key, now);
        }
        self.pump(now);
    }

    /// The next thing for the driver to do, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// manager.connect(now);
    /// while let Some(transmit) = manager.poll_transmit() {
    ///     match transmit {
    ///         Transmit::Open { socket, url } => println!("open {url} as {socket}"),
    ///         Transmit::Frame { socket, frame } => println!("write {frame:?} to {socket}"),
    ///         Transmit::Close { socket, code, .. } => println!("close {socket} with {code}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.client.poll_transmit()
    }

    /// The next thing that happened, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let lease = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// while let Some(event) = manager.poll_event() {
    ///     match event {
    ///         ManagerEvent::Lease(to, event) if to == lease => println!("{event:?}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ManagerEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), as [`Client::poll_timeout`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// assert_eq!(manager.poll_timeout(), None, "offline, there is nothing to wake for");
    /// manager.connect(now);
    /// assert_eq!(manager.poll_timeout(), Some(now), "there is something to take");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.events.is_empty() {
            return Some(self.now);
        }
        let lingers = self.shared.values().filter_map(|shared| shared.linger_until).min();
        [self.client.poll_timeout(), lingers].into_iter().flatten().min()
    }

    /// Whether frames may be fed, as [`Client::wants_frames`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// if manager.wants_frames() {
    ///     // Read the next frame from the socket.
    /// }
    /// # assert!(manager.wants_frames());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.events.len() < self.events_queued_max
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Opens the wire channel of a key if there is none, with all that its listeners want.
    fn open(
        &mut self,
        key: &EntityKey,
        user: Option<&User>,
        now: Instant,
    ) -> Result<(), ManagerError> {
        self.advance(now);
        if self.shared.get(key).is_some_and(|shared| shared.channel.is_some()) {
            return Ok(());
        }
        let mut config = JoinConfig::default();
        if let Some(user) = user {
            config.presence = PresenceConfig { key: user.user_id.clone(), enabled: true };
        }
        let config = ChannelConfig::supabase(config).with_rejoin(self.rejoin.clone());
        let channel = self.client.open_channel(&key.topic(), config, now)?;
        self.owners.insert(channel, key.clone());
        let (now_max, shared) = (self.now, self.shared.entry(key.clone()));
        let shared = shared.or_insert_with(|| Shared::new(now_max));
        shared.channel = Some(channel);
        for binding in shared.wanted_bindings() {
            self.bind(key, &binding, now)?;
        }
        if let Some(user) = user {
            self.track(key, user.to_payload().map_err(PushError::from)?, now)?;
        }
        Ok(())
    }

    /// Asks for row changes unless the channel does already.
    fn bind(&mut self, key: &EntityKey, binding: &Binding, now: Instant) -> Result<(), BindError> {
        let shared = self.shared_mut(key);
        if shared.binding_id(binding).is_some() {
            return Ok(());
        }
        let channel = shared.channel;
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            let id = channel.bind(binding.clone(), now)?;
            self.shared_mut(key).bindings.push((binding.clone(), id));
        }
        Ok(())
    }

    /// Stops delivering row changes that no listener wants any more.
    fn prune_bindings(&mut self, key: &EntityKey) {
        let Some(shared) = self.shared.get_mut(key) else { return };
        let wanted = shared.wanted_bindings();
        let channel = shared.channel;
        for (binding, id) in core::mem::take(&mut shared.bindings) {
            if wanted.contains(&binding) {
                shared.bindings.push((binding, id));
            } else if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
                channel.unbind(id);
            }
        }
    }

    fn shared_mut(&mut self, key: &EntityKey) -> &mut Shared {
        self.shared.get_mut(key).expect("the key was opened by the caller")
    }

    fn track(
        &mut self,
        key: &EntityKey,
        tracked: Payload,
        now: Instant,
    ) -> Result<(), ManagerError> {
        let channel = self.shared_mut(key).channel;
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            channel.track(tracked, now)?;
        }
        Ok(())
    }

    /// Takes a listener in and tells it how things are.
    fn hold(&mut self, key: EntityKey, binding: Option<Binding>, now: Instant) -> LeaseId {
        self.next_lease += 1;
        let (lease, since) = (LeaseId(self.next_lease), self.now);
        let shared = self.shared_mut(&key);
        shared.linger_until = None;
        shared.holders.insert(lease, Holder { binding, since });
        let first = shared.first_event();
        let channel = shared.channel;
        self.events.push_back(ManagerEvent::Lease(lease, first));
        if let (Kind::Presence, Some(channel)) =
            (key.kind, channel.and_then(|id| self.client.channel(id)))
        {
            let members = channel.presence().members();
            let joined: Vec<Member> = members
                .map(|(key, metas)| Member { key: key.into(), metas: metas.to_vec() })
                .collect();
            if !joined.is_empty() {
                let synced = !channel.presence().is_stale();
                let diff = PresenceDiff { joined, synced, ..PresenceDiff::default() };
                self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Presence(diff)));
            }
        }
        self.prune_bindings(&key);
        self.leases.insert(lease, key);
        self.pump(now);
        lease
    }

    /// Ends a listener, and with it the binding that nobody else asked for. The last listener's
    /// stays while the channel lingers, so that the same listener coming back needs no join.
    fn drop_holder(&mut self, key: &EntityKey, lease: LeaseId) {
        self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Ended));
        let Some(shared) = self.shared.get_mut(key) else { return };
        shared.holders.remove(&lease);
        if !shared.holders.is_empty() {
            self.prune_bindings(key);
        }
    }

    fn linger_if_unheld(&mut self, key: &EntityKey, now: Instant) {
        let until = now.max(self.now) + self.linger;
        if let Some(shared) = self.shared.get_mut(key) {
            if shared.holders.is_empty() {
                shared.linger_until = Some(until);
            }
        }
    }

    /// Leaves the wire channel of a key.
    fn leave(&mut self, key: &EntityKey, now: Instant) {
        let Some(shared) = self.shared.get_mut(key) else { return };
        shared.linger_until = None;
        let Some(channel) = shared.channel.take() else {
            if shared.leaving.is_empty() {
                self.shared.remove(key);
            }
            return;
        };
        shared.leaving.push(channel);
        shared.bindings.clear();
        shared.user = None;
        shared.status = ChannelStatus::Closed;
        shared.since = self.now;
        self.client.close_channel(channel, now);
    }

    /// Takes what the client has to tell to those it concerns.
    fn pump(&mut self, now: Instant) {
        self.advance(now);
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected { .. } => self.events.push_back(ManagerEvent::Connected),
                Event::Disconnected { cause, retry_at, .. } => {
                    self.events.push_back(ManagerEvent::Disconnected { cause, retry_at });
                }
                Event::TokenNeeded { cause, deadline } => {
                    self.events.push_back(ManagerEvent::TokenNeeded { cause, deadline });
                }
                Event::Violation(violation) => {
                    self.events.push_back(ManagerEvent::Violation(violation));
                }
                Event::Heartbeat { .. } => {}
                Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) => {
                    self.events.push_back(ManagerEvent::PushEnded { push, outcome });
                }
                Event::Channel(channel, event) => self.on_channel_event(channel, event),
            }
        }
    }

    fn on_channel_event(&mut self, channel: ChannelId, event: ChannelEvent) {
        let Some(key) = self.owners.get(&channel).cloned() else { return };
        let leaving = self.shared.get(&key).is_some_and(|shared| shared.leaving.contains(&channel));
        if leaving && !matches!(event, ChannelEvent::Closed { .. }) {
            return;
        }
        match event {
            ChannelEvent::Joined { .. } => self.set_status(&key, ChannelStatus::Connected),
            ChannelEvent::Live => {
                self.shared_mut(&key).attempts = 0;
                self.set_status(&key, ChannelStatus::Live);
            }
            ChannelEvent::Errored { cause, retry_at } => self.on_errored(&key, cause, retry_at),
            ChannelEvent::Closed { cause } => self.on_closed(&key, channel, cause),
            ChannelEvent::Broadcast(broadcast) => {
                self.deliver_to_all(&key, &LeaseEvent::Broadcast(broadcast));
            }
            ChannelEvent::Presence(diff) => self.deliver_to_all(&key, &LeaseEvent::Presence(diff)),
            ChannelEvent::Change { bindings, change } => {
                let listeners = self.shared_mut(&key).listeners_of(bindings);
                self.deliver(&key, &listeners, &LeaseEvent::Change(change));
            }
            ChannelEvent::System(system) => self.tell_all(&key, &LeaseEvent::System(system)),
            ChannelEvent::TrackRefused { response } => {
                self.tell_all(&key, &LeaseEvent::TrackRefused { response });
            }
            // Entities have no messages of their own, and pushes were taken out above.
            ChannelEvent::Message { .. } | ChannelEvent::PushEnded { .. } => {}
        }
    }

    fn on_errored(&mut self, key: &EntityKey, cause: Cause, retry_at: Option<Instant>) {
        let next_at = retry_at.or_else(|| self.client.reconnect_at());
        let shared = self.shared_mut(key);
        shared.attempts += 1;
        let status = if next_at.is_some() {
            ChannelStatus::Reconnecting { attempt: shared.attempts, next_at, cause }
        } else if cause.kind == CauseKind::Requested {
            // The application disconnected; the channel is back as soon as it connects again.
            ChannelStatus::Connecting
        } else {
            ChannelStatus::Error { cause }
        };
        self.set_status(key, status);
    }

    /// A wire channel is gone: as wanted, or because the server closed it for good.
    fn on_closed(&mut self, key: &EntityKey, channel: ChannelId, cause: Cause) {
        self.owners.remove(&channel);
        let shared = self.shared_mut(key);
        shared.leaving.retain(|leaving| *leaving != channel);
        let lost = shared.channel == Some(channel);
        if lost {
            shared.channel = None;
            shared.bindings.clear();
        }
        if shared.channel.is_some() {
            return;
        }
        if shared.holders.is_empty() && shared.leaving.is_empty() {
            self.shared.remove(key);
        } else if lost && !shared.holders.is_empty() {
            self.set_status(key, ChannelStatus::Error { cause });
        }
    }

    fn set_status(&mut self, key: &EntityKey, status: ChannelStatus) {
        let now = self.now;
        if self.shared_mut(key).set_status(status.clone(), now) {
            self.tell_all(key, &LeaseEvent::Status(status));
        }
    }

    fn deliver_to_all(&mut self, key: &EntityKey, event: &LeaseEvent) {
        self.shared_mut(key).delivered += 1;
        self.tell_all(key, event);
    }

    fn deliver(&mut self, key: &EntityKey, listeners: &[LeaseId], event: &LeaseEvent) {
        self.shared_mut(key).delivered += 1;
        for lease in listeners {
            self.events.push_back(ManagerEvent::Lease(*lease, event.clone()));
        }
    }

    fn tell_all(&mut self, key: &EntityKey, event: &LeaseEvent) {
        let Some(shared) = self.shared.get(key) else { return };
        for lease in shared.holders.keys() {
            self.events.push_back(ManagerEvent::Lease(*lease, event.clone()));
        }
    }
}

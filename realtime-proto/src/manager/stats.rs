//! What a manager tells about its channels: for a status page, an operator, a search for leaks.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::Manager;
use super::entity::{EntityKey, Kind};
use super::event::{ChannelStatus, LeaseId};
use super::shared::Shared;
use crate::ids::ConnectionId;
use crate::socket::ConnectionState;
use crate::stats::Stats;
use crate::supabase::Cause;
use crate::time::Instant;

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
    /// The connection it is on; none when it was closed for good.
    pub connection: Option<ConnectionId>,
    /// How many listeners hold it.
    pub listeners: usize,
    /// When its oldest listener came.
    pub held_since: Option<Instant>,
    /// How many row changes, broadcasts and presence changes came on it.
    pub delivered: u64,
    /// How many times it was lost or refused, or its connection could not be opened, since it was
    /// last live.
    pub attempts: u32,
    /// Why it was lost or refused last.
    pub last_error: Option<Cause>,
}

/// All channels in numbers, and who holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// How many channels there are, those that linger or are being left included.
    pub total: usize,
    /// How many there are of each kind.
    pub by_kind: BTreeMap<Kind, usize>,
    /// How many are in each status, by [`ChannelStatus::as_str`].
    pub by_status: BTreeMap<&'static str, usize>,
    /// What each tenant has.
    pub by_tenant: BTreeMap<String, TenantStats>,
    /// The connections, in the order they were made.
    pub connections: Vec<Connection>,
    /// Who holds what since when, the oldest first: what is there longer than it should be leaks.
    pub held: Vec<Held>,
}

/// What one tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantStats {
    /// How many channels, those that linger or are being left included; this is what the quota
    /// counts.
    pub channels: usize,
    /// How many channels it may have; none when there is no quota.
    pub channels_max: Option<usize>,
    /// How many of the channels are live.
    pub live: usize,
    /// How many listeners hold them.
    pub listeners: usize,
    /// How many row changes, broadcasts and presence changes came on them.
    pub delivered: u64,
}

/// One connection of a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// How it is.
    pub state: ConnectionState,
    /// How many channels are on it.
    pub channels: usize,
}

/// One lease, as the audit shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The lease.
    pub lease: LeaseId,
    /// What it holds.
    pub key: EntityKey,
    /// Since when.
    pub since: Instant,
    /// Who asked, if that was told.
    pub label: Option<String>,
}

impl Manager {
    /// Whether there is a channel for a key.
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
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// assert!(manager.has_channel(&EntityKey::subscription(contact.clone())));
    /// assert!(!manager.has_channel(&EntityKey::presence(contact)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn has_channel(&self, key: &EntityKey) -> bool {
        self.registry.id(key).is_some()
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
        self.registry.iter().map(|shared| ActiveChannel {
            key: (*shared.key).clone(),
            status: shared.status.clone(),
            since: shared.since,
            connection: shared.wire.map(|wire| wire.connection),
            listeners: shared.holders.len(),
            held_since: shared.holders.values().map(|holder| holder.since).min(),
            delivered: shared.delivered,
            attempts: shared.attempts,
            last_error: shared.last_error.clone(),
        })
    }

    /// All channels in numbers: by kind, by status, by tenant, and who holds them since when.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123").in_tenant("acme");
    /// let label = Some("contact card".into());
    /// let options = EntityOptions { label, ..EntityOptions::default() };
    /// manager.subscribe_to_entity(&contact, &options, now)?;
    /// let stats = manager.channel_stats();
    /// assert_eq!(stats.by_tenant["acme"].channels, 1);
    /// assert_eq!(stats.held[0].label.as_deref(), Some("contact card"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn channel_stats(&self) -> ChannelStats {
        let mut stats = ChannelStats::default();
        for shared in self.registry.iter() {
            stats.count(shared);
        }
        for tenant in stats.by_tenant.values_mut() {
            tenant.channels_max = self.config.tenant_channels_max;
        }
        stats.held.sort_by_key(|held| (held.since, held.lease));
        stats.connections = self.connections();
        stats
    }

    /// The connections there are, in the order they were made.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// assert_eq!(manager.connections().len(), 1, "there is always one, open or not");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.pool.connections().collect()
    }

    /// What the connections did so far, in numbers, those included that are gone.
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
        self.pool.stats()
    }
}

impl ChannelStats {
    fn count(&mut self, shared: &Shared) {
        self.total += 1;
        *self.by_kind.entry(shared.key.kind).or_default() += 1;
        *self.by_status.entry(shared.status.as_str()).or_default() += 1;
        if let Some(tenant) = shared.key.entity.tenant() {
            let stats = self.by_tenant.entry(tenant.into()).or_default();
            stats.channels += 1;
            stats.live += usize::from(shared.status == ChannelStatus::Live);
            stats.listeners += shared.holders.len();
            stats.delivered += shared.delivered;
        }
        self.held.extend(shared.holders.iter().map(|(lease, holder)| Held {
            lease: *lease,
            key: (*shared.key).clone(),
            since: holder.since,
            label: holder.label.clone(),
        }));
    }
}

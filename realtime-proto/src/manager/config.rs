//! What a manager is told, and what it refuses.

use alloc::string::String;
use core::time::Duration;

use super::entity::{Entity, EntityKey};
use super::pool::PoolLimits;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::error::{BindError, OpenError, PushError};
use crate::push::BroadcastOptions;
use crate::supabase::{Binding, ChangeEvent, quote_filter_value};

/// The settings of a [`Manager`](super::Manager).
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::Config;
/// use realtime_proto::manager::{ChannelSettings, ManagerConfig};
///
/// let config = Config::builder("wss://project.supabase.co/realtime/v1").build()?;
/// let config = ManagerConfig::new(config)
///     .with_channels(ChannelSettings { private: true, ..ChannelSettings::default() })
///     .with_tenant_channels_max(500)
///     .with_linger(Duration::from_secs(5));
/// # let _ = config;
/// # Ok::<(), realtime_proto::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    pub(super) client: Config,
    pub(super) channels: ChannelSettings,
    pub(super) rejoin: Backoff,
    pub(super) linger: Duration,
    pub(super) pool: PoolLimits,
    pub(super) tenant_channels_max: Option<usize>,
    pub(super) leases_max: usize,
}

impl ManagerConfig {
    /// The first delay before a channel is joined again.
    const REJOIN_DELAY: Duration = Duration::from_secs(3);
    /// The longest delay, unless the first is longer.
    const REJOIN_DELAY_MAX: Duration = Duration::from_secs(60);

    /// The defaults, on connections with these settings.
    #[must_use]
    pub const fn new(client: Config) -> Self {
        let rejoin = Backoff::exponential(Self::REJOIN_DELAY, Self::REJOIN_DELAY_MAX);
        Self {
            client,
            channels: ChannelSettings::new(),
            rejoin: rejoin.with_attempts_max(5),
            linger: Duration::from_secs(1),
            pool: PoolLimits { channels_per_connection_max: 100, connections_max: 256 },
            tenant_channels_max: None,
            leases_max: 100_000,
        }
    }

    /// Sets what a channel is like for which nothing else is asked. Default
    /// [`ChannelSettings::default`].
    #[must_use]
    pub const fn with_channels(mut self, channels: ChannelSettings) -> Self {
        self.channels = channels;
        self
    }

    /// Sets the delays between attempts to join a channel, and how many there are. Default 3 s
    /// doubling to 60 s, full jitter, 5 attempts.
    ///
    /// A channel with a `reconnect_delay` of its own starts with that instead, with the same
    /// number of attempts.
    #[must_use]
    pub fn with_rejoin(mut self, rejoin: Backoff) -> Self {
        self.rejoin = rejoin;
        self
    }

    /// Sets how long a channel stays after its last lease was released. Default 1 s.
    #[must_use]
    pub const fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how many channels one connection has before another is opened. Default 100, at least
    /// 1; a Supabase server refuses more than the project's limit, 100 by default.
    #[must_use]
    pub const fn with_channels_per_connection_max(mut self, channels: usize) -> Self {
        self.pool.channels_per_connection_max = channels;
        self
    }

    /// Sets how many connections there are at most. Default 256.
    #[must_use]
    pub const fn with_connections_max(mut self, connections: usize) -> Self {
        self.pool.connections_max = connections;
        self
    }

    /// Sets how many channels one tenant has at most. Default: as many as there is room for.
    #[must_use]
    pub const fn with_tenant_channels_max(mut self, channels: usize) -> Self {
        self.tenant_channels_max = Some(channels);
        self
    }

    /// Sets how many leases there are at most. Default 100,000.
    #[must_use]
    pub const fn with_leases_max(mut self, leases: usize) -> Self {
        self.leases_max = leases;
        self
    }

    /// The delays between attempts to join a channel with these settings.
    pub(super) fn rejoin_of(&self, settings: &ChannelSettings) -> Backoff {
        match settings.reconnect_delay {
            Some(first) => self.rejoin.starting_with(first, Self::REJOIN_DELAY_MAX),
            None => self.rejoin.clone(),
        }
    }
}

/// What one shared channel is like; all who share it have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Whether row level security decides who may join, read and write. Default `false`.
    pub private: bool,
    /// Whether the server acknowledges each broadcast, so that its outcome is the server's word
    /// instead of its being sent. Default `false`.
    pub ack: bool,
    /// Whether a channel that was lost or refused is joined again without being asked. Default
    /// `true`.
    pub auto_reconnect: bool,
    /// The first delay before it is joined again, the ceiling of the jitter; later ones double.
    /// Default as the manager's, 3 s.
    pub reconnect_delay: Option<Duration>,
}

impl ChannelSettings {
    const fn new() -> Self {
        Self { private: false, ack: false, auto_reconnect: true, reconnect_delay: None }
    }

    /// The name of a setting in which `self` and `other` differ.
    pub(super) fn conflict(&self, other: &Self) -> Option<&'static str> {
        let differs = [
            ("private", self.private != other.private),
            ("ack", self.ack != other.ack),
            ("auto_reconnect", self.auto_reconnect != other.auto_reconnect),
            ("reconnect_delay", self.reconnect_delay != other.reconnect_delay),
        ];
        differs.into_iter().find(|(_, differs)| *differs).map(|(name, _)| name)
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// What a listener wants to know of an entity's row.
///
/// # Examples
///
/// ```
/// use realtime_proto::manager::{ChannelSettings, EntityOptions};
/// use realtime_proto::supabase::ChangeEvent;
///
/// let options = EntityOptions {
///     table: Some("people".into()),
///     event: ChangeEvent::Update,
///     channel: Some(ChannelSettings { private: true, ..ChannelSettings::default() }),
///     label: Some("contact card".into()),
///     ..EntityOptions::default()
/// };
/// # let _ = options;
/// ```
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
    /// What the row has to fulfil on top of the filter, in the same syntax, such as
    /// `state=eq.open`.
    pub extra_filter: Option<String>,
    /// What the channel is like; when none, as it is already, or as the manager's channels are.
    pub channel: Option<ChannelSettings>,
    /// Who asks, for the audit of [`Manager::channel_stats`](super::Manager::channel_stats).
    pub label: Option<String>,
}

impl EntityOptions {
    pub(super) fn binding(&self, entity: &Entity) -> Binding {
        let table =
            self.table.clone().unwrap_or_else(|| alloc::format!("{}s", entity.entity_type()));
        let schema = self.schema.clone().unwrap_or_else(|| "public".into());
        let mut filter = self
            .filter
            .clone()
            .unwrap_or_else(|| alloc::format!("id=eq.{}", quote_filter_value(entity.entity_id())));
        if let Some(extra) = &self.extra_filter {
            filter.push(',');
            filter.push_str(extra);
        }
        Binding::new(self.event, schema, table).with_filter(filter)
    }
}

/// What a presence lease is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceOptions {
    /// What the channel is like; when none, as it is already, or as the manager's channels are.
    pub channel: Option<ChannelSettings>,
    /// Who asks, for the audit of [`Manager::channel_stats`](super::Manager::channel_stats).
    pub label: Option<String>,
}

/// How a broadcast about an entity is sent.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::PushOptions;
/// use realtime_proto::manager::{ChannelSettings, SendOptions};
///
/// // The server's word that it has it, on a channel that may take two seconds to be joined.
/// let options = SendOptions {
///     broadcast: PushOptions::new().with_time_to_live(Duration::from_secs(2)).into(),
///     channel: Some(ChannelSettings { ack: true, ..ChannelSettings::default() }),
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// How long it may wait, what it takes the place of, and whether the server keeps it.
    pub broadcast: BroadcastOptions,
    /// What the channel is like; when none, as it is already, or as the manager's channels are.
    pub channel: Option<ChannelSettings>,
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
    /// Those who share the channel asked for another setting of it.
    #[error(
        "the {} channel of {} is shared, and its `{setting}` is not what was asked for; \
         leave the setting out to take part, or wait until leases and broadcasts of it have ended",
        .key.kind,
        .key.entity
    )]
    Conflict {
        /// The channel.
        key: EntityKey,
        /// The first setting that differs.
        setting: &'static str,
    },
    /// The tenant has as many channels as it may.
    #[error("tenant `{tenant}` has {max} channels, which is its limit; release some of its leases")]
    TenantFull {
        /// The tenant.
        tenant: String,
        /// Its limit.
        max: usize,
    },
    /// All connections are full.
    #[error("the manager has {max} channels, which is its limit; release leases or raise it")]
    Full {
        /// The limit: connections times channels on each.
        max: usize,
    },
    /// There are as many leases as there may be.
    #[error("the manager has {max} leases, which is its limit; something may not release them")]
    TooManyLeases {
        /// The limit.
        max: usize,
    },
    /// Nobody is present on the entity through this manager.
    #[error("nobody is present on {entity} through this manager; join its presence first")]
    NotPresent {
        /// The entity.
        entity: Entity,
    },
}

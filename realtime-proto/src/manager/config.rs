//! What a manager is told, what it refuses, and what it tells about its channels.

use alloc::string::String;
use core::time::Duration;

use super::entity::{Entity, EntityKey};
use super::event::{ChannelStatus, LeaseId};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::error::{BindError, OpenError, PushError};
use crate::supabase::{Binding, ChangeEvent, quote_filter_value};
use crate::time::Instant;

/// The settings of a [`Manager`](super::Manager).
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
    pub(super) client: Config,
    pub(super) rejoin: Backoff,
    pub(super) linger: Duration,
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
    pub(super) fn binding(&self, entity: &Entity) -> Binding {
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

/// One row of [`Manager::active_channels`](super::Manager::active_channels).
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

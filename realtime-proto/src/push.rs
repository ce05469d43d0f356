//! How a push behaves while it waits.

use alloc::string::String;
use core::time::Duration;

use crate::supabase::Persist;

/// How one push behaves while it waits; [`Channel::push_with`](crate::Channel::push_with) takes it.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::PushOptions;
///
/// // Only the newest cursor is worth sending, and not after a second.
/// let cursor = PushOptions::new()
///     .without_reply()
///     .coalesced_by("cursor")
///     .with_time_to_live(Duration::from_secs(1));
/// # let _ = cursor;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) key: Option<String>,
    pub(crate) reply: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { timeout: None, time_to_live: None, key: None, reply: true }
    }
}

impl PushOptions {
    /// Waits for the join and for the reply as long as the client's `push_timeout` says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the reply may take, counted from sending.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long it may wait for the join, counted from the call.
    #[must_use]
    pub const fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Takes the place of an earlier push with the same key that still waits for the join.
    #[must_use]
    pub fn coalesced_by(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Expects no reply: it has ended as soon as the driver takes its frame.
    #[must_use]
    pub const fn without_reply(mut self) -> Self {
        self.reply = false;
        self
    }
}

impl PushOptions {
    /// Asks the server to keep the broadcast, so that those who were away get it replayed.
    ///
    /// It takes a private channel and protocol version 2, and a server that has this switched on;
    /// others relay the broadcast and keep nothing. With `ack` the reply of one that keeps it has
    /// the `id` under which others receive it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::{BroadcastConfig, JoinConfig, Persist};
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload, PushOptions};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// let broadcast = BroadcastConfig::default().with_ack();
    /// let config = JoinConfig { broadcast, private: true, ..JoinConfig::default() };
    /// let id = client.open_channel("realtime:room", ChannelConfig::supabase(config), now)?;
    /// let mut room = client.channel(id).ok_or("it was just opened")?;
    /// let kept = PushOptions::new().persisted(Persist::Longest);
    /// room.broadcast_with("paid", Payload::from_json(r#"{"sum":7}"#)?, kept, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn persisted(self, persist: Persist) -> BroadcastOptions {
        BroadcastOptions { push: self, persist: Some(persist) }
    }
}

/// How one broadcast behaves: a [`PushOptions`], and whether it is kept;
/// [`Channel::broadcast_with`](crate::Channel::broadcast_with) takes either.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BroadcastOptions {
    pub(crate) push: PushOptions,
    pub(crate) persist: Option<Persist>,
}

impl From<PushOptions> for BroadcastOptions {
    fn from(push: PushOptions) -> Self {
        Self { push, persist: None }
    }
}

/// What happens to a push when as many wait for the join as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The call fails with [`PushError::BufferFull`](crate::PushError::BufferFull).
    #[default]
    Refuse,
    /// The push that has waited longest ends as `Dropped`, as in the official client.
    DropOldest,
    /// The new push ends as `Dropped`.
    DropNewest,
}

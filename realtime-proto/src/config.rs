//! What a client and its channels are told at the start.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::backoff::Backoff;
use crate::limits::Limits;
use crate::payload::Payload;
use crate::presence::GRACE;
use crate::push::Overflow;
use crate::secret::Secret;
use crate::supabase::{BroadcastApi, JoinConfig};
use crate::wire::{ConnectUrl, Vsn, build_url};

/// The settings of a [`Client`](crate::Client), checked when they were built.
///
/// # Examples
///
/// ```
/// use realtime_proto::Config;
///
/// let config = Config::builder("wss://project.supabase.co/realtime/v1")
///     .apikey("anon-key")
///     .build()?;
/// # let _ = config;
/// # Ok::<(), realtime_proto::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    endpoint: String,
    params: Vec<(String, Secret)>,
    pub(crate) vsn: Vsn,
    pub(crate) access_token: Option<Secret>,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) probe_timeout: Duration,
    pub(crate) suspended_after: Duration,
    pub(crate) stable_after: Duration,
    pub(crate) token_needed_before: Duration,
    pub(crate) disconnect_when_empty_after: Option<Duration>,
    pub(crate) join_timeout: Duration,
    pub(crate) leave_timeout: Duration,
    pub(crate) push_timeout: Duration,
    pub(crate) reconnect: Backoff,
    pub(crate) rejoin: Backoff,
    pub(crate) limits: Limits,
}

impl Config {
    /// Starts from the defaults, for a server whose socket is mounted at `endpoint`: `/websocket`
    /// is appended, `http` and `https` mean `ws` and `wss`.
    pub fn builder(endpoint: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder {
            config: Self {
                endpoint: endpoint.into(),
                params: Vec::new(),
                vsn: Vsn::V2,
                access_token: None,
                connect_timeout: Duration::from_secs(10),
                heartbeat_interval: Duration::from_secs(25),
                heartbeat_timeout: Duration::from_secs(10),
                probe_timeout: Duration::from_secs(2),
                suspended_after: Duration::from_secs(15),
                stable_after: Duration::from_secs(60),
                token_needed_before: Duration::from_secs(60),
                disconnect_when_empty_after: Some(Duration::from_secs(50)),
                join_timeout: Duration::from_secs(10),
                leave_timeout: Duration::from_secs(5),
                push_timeout: Duration::from_secs(10),
                reconnect: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30)),
                rejoin: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30)),
                limits: Limits::default(),
            },
        }
    }

    /// How long it takes at most until every channel is live, once the server accepts within its
    /// own limits again (G8); `None` when the retries have a budget or a schedule of their own.
    ///
    /// A connection that died in silence is found by the next heartbeat. The attempt that follows
    /// may wait its longest delay, and so may a join that was lost; joins take their turns. The
    /// time that messages are under way comes on top, and so does what a join is told to
    /// [wait](crate::supabase::PostgresChangesOptions::wait) for its row changes.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::Config;
    ///
    /// let config = Config::builder("ws://localhost/socket").build()?;
    /// // 25 + 10 s to notice, 10 + 30 s to connect, 2 s of turns, 10 + 30 s to join.
    /// assert_eq!(config.live_within(), Some(Duration::from_secs(117)));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    #[must_use]
    pub fn live_within(&self) -> Option<Duration> {
        let channels = u32::try_from(self.limits.channels_max).unwrap_or(u32::MAX);
        let turns = (Duration::from_secs(1) / self.limits.joins_per_second_max.max(1))
            .saturating_mul(channels);
        let spans = [
            self.heartbeat_interval,
            self.heartbeat_timeout,
            self.connect_timeout,
            self.reconnect.longest()?,
            turns,
            self.join_timeout,
            self.rejoin.longest()?,
        ];
        Some(spans.into_iter().fold(Duration::ZERO, Duration::saturating_add))
    }

    /// Sets a query parameter, in the place of one with the same key.
    pub(crate) fn set_param(&mut self, key: &str, value: Option<Secret>) {
        let at = self.params.iter().position(|(held, _)| held == key);
        match (at, value) {
            (Some(at), Some(value)) => self.params[at].1 = value,
            (Some(at), None) => {
                self.params.remove(at);
            }
            (None, Some(value)) => self.params.push((key.into(), value)),
            (None, None) => {}
        }
    }

    /// The HTTP side of the same server.
    pub(crate) fn broadcast_api(&self, access_token: Option<&Secret>) -> BroadcastApi {
        let mut api = BroadcastApi::new(&self.endpoint)
            .expect("the endpoint was checked")
            .with_payload_bytes_max(self.limits.broadcast_bytes_max);
        if let Some((_, apikey)) = self.params.iter().find(|(key, _)| key == "apikey") {
            api = api.with_apikey(apikey.clone());
        }
        match access_token {
            Some(token) => api.with_access_token(token.clone()),
            None => api,
        }
    }

    /// The URL of the next connection.
    pub(crate) fn url(&self) -> ConnectUrl {
        let params = self.params.iter().map(|(key, value)| (key.as_str(), value.expose()));
        build_url(&self.endpoint, params, self.vsn)
    }
}

/// Builds a [`Config`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $name;
            self
        })*
    };
}

impl ConfigBuilder {
    /// Adds a query parameter of the connect URL. Values are kept as secrets.
    pub fn param(mut self, key: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.config.params.push((key.into(), value.into()));
        self
    }

    /// Sets the API key of a Supabase project, the query parameter `apikey`.
    pub fn apikey(self, key: impl Into<Secret>) -> Self {
        self.param("apikey", key)
    }

    /// Sets the first access token; [`set_access_token`](crate::Client::set_access_token) changes
    /// it later. Without one, a Supabase server takes the API key.
    pub fn access_token(mut self, token: impl Into<Secret>) -> Self {
        self.config.access_token = Some(token.into());
        self
    }

    setters! {
        /// Sets the protocol version. Default [`Vsn::V2`].
        vsn: Vsn;
        /// Sets how long opening a connection may take. Default 10 s.
        connect_timeout: Duration;
        /// Sets the span between heartbeats, which traffic does not move. Default 25 s; a server
        /// ends a connection on which nothing came for 60 s.
        heartbeat_interval: Duration;
        /// Sets how long the answer to a heartbeat may take. Default 10 s.
        heartbeat_timeout: Duration;
        /// Sets how long the answer to a probe may take. Default 2 s.
        probe_timeout: Duration;
        /// Sets from which lateness of the driver on the machine counts as having been suspended,
        /// so that the connection is probed first. Default 15 s.
        suspended_after: Duration;
        /// Sets how long a connection must live before its failure counts as a first one again,
        /// when not all channels became live. Default 60 s.
        stable_after: Duration;
        /// Sets how long before the expiry of the access token another one is asked for. Default
        /// 60 s. It takes [`set_unix_time`](crate::Client::set_unix_time) to know the expiry.
        token_needed_before: Duration;
        /// Sets how long after its last channel was closed the connection is closed too, until
        /// the next channel is opened. Default 50 s; `None` keeps it. A delay that runs then, before
        /// another attempt, is waited out by the next channel, too.
        disconnect_when_empty_after: Option<Duration>;
        /// Sets how long the answer to a join may take. Default 10 s; a Supabase server refuses
        /// after 5 s.
        join_timeout: Duration;
        /// Sets how long the answer to a leave may take. Default 5 s.
        leave_timeout: Duration;
        /// Sets how long a push may take, from the call when it is sent at once and from the join
        /// when it had to wait. Default 10 s.
        push_timeout: Duration;
        /// Sets the delays between attempts to connect. Default 1 s doubling to 30 s, full jitter,
        /// no limit on attempts.
        reconnect: Backoff;
        /// Sets the delays between attempts to join a channel. Default 1 s doubling to 30 s, full
        /// jitter, no limit on attempts.
        rejoin: Backoff;
        /// Sets the bounds of queues and maps.
        limits: Limits;
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the setting that cannot work and why.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.config;
        match config.endpoint.split_once("://") {
            Some(("ws" | "wss" | "http" | "https", rest))
                if !rest.is_empty() && !rest.starts_with(['/', '?']) => {}
            _ => {
                let endpoint = config.endpoint.split('?').next().unwrap_or_default().into();
                return Err(ConfigError::Endpoint { endpoint });
            }
        }
        let spans = [
            ("connect_timeout", config.connect_timeout),
            ("heartbeat_interval", config.heartbeat_interval),
            ("heartbeat_timeout", config.heartbeat_timeout),
            ("probe_timeout", config.probe_timeout),
            ("suspended_after", config.suspended_after),
            ("stable_after", config.stable_after),
            ("join_timeout", config.join_timeout),
            ("leave_timeout", config.leave_timeout),
            ("push_timeout", config.push_timeout),
        ];
        for (setting, span) in spans {
            if span.is_zero() {
                return Err(ConfigError::Zero { setting });
            }
        }
        let limits = &config.limits;
        let bounds = [
            ("channels_max", limits.channels_max),
            ("transmits_queued_max", limits.transmits_queued_max),
            ("events_queued_max", limits.events_queued_max),
            ("frame_bytes_max", limits.frame_bytes_max),
            ("broadcast_bytes_max", limits.broadcast_bytes_max),
            ("presence_calls_max", limits.presence_calls_max),
            ("joins_per_second_max", limits.joins_per_second_max as usize),
        ];
        for (setting, bound) in bounds {
            if bound == 0 {
                return Err(ConfigError::Zero { setting });
            }
        }
        if limits.bindings_max > 64 {
            return Err(ConfigError::TooManyBindings { bindings_max: limits.bindings_max });
        }
        Ok(config)
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The endpoint is not a WebSocket URL.
    #[error("`{endpoint}` is not a WebSocket URL; write ws://host/path or wss://host/path")]
    Endpoint {
        /// The endpoint as given, without its query.
        endpoint: String,
    },
    /// A span or a bound is zero, so that nothing could ever happen.
    #[error("{setting} is zero; give it at least the smallest useful value")]
    Zero {
        /// The setting.
        setting: &'static str,
    },
    /// More bindings than a channel can tell apart.
    #[error("bindings_max is {bindings_max}, and a channel can tell at most 64 apart")]
    TooManyBindings {
        /// The value given.
        bindings_max: usize,
    },
}

/// The settings of one channel.
///
/// # Examples
///
/// ```
/// use realtime_proto::supabase::JoinConfig;
/// use realtime_proto::{ChannelConfig, Payload};
///
/// let supabase = ChannelConfig::supabase(JoinConfig::default());
/// let phoenix = ChannelConfig::phoenix(Payload::json(&["any", "params"])?).with_presence();
/// # let _ = (supabase, phoenix);
/// # Ok::<(), realtime_proto::PayloadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    pub(crate) flavor: Flavor,
    pub(crate) rejoin: Option<Backoff>,
    pub(crate) overflow: Overflow,
    pub(crate) presence_grace: Duration,
    pub(crate) presence_calls: bool,
}

/// Which server application a channel talks to.
#[derive(Clone, Debug)]
pub(crate) enum Flavor {
    /// A channel of Supabase Realtime.
    Supabase(JoinConfig),
    /// A channel of any Phoenix application.
    Phoenix {
        /// The join payload.
        params: Payload,
        /// Whether `presence_state` and `presence_diff` are tracked or passed on as messages.
        presence: bool,
    },
}

impl ChannelConfig {
    /// A channel of Supabase Realtime.
    #[must_use]
    pub const fn supabase(config: JoinConfig) -> Self {
        Self::new(Flavor::Supabase(config))
    }

    /// A channel of a Phoenix application, joined with `params`.
    #[must_use]
    pub const fn phoenix(params: Payload) -> Self {
        Self::new(Flavor::Phoenix { params, presence: false })
    }

    /// The same, following the channel's presence: a Phoenix channel is then live once the
    /// snapshot came, and its presence messages are events of their own.
    #[must_use]
    pub fn with_presence(mut self) -> Self {
        match &mut self.flavor {
            Flavor::Supabase(config) => config.presence.enabled = true,
            Flavor::Phoenix { presence, .. } => *presence = true,
        }
        self
    }

    /// The same, with delays of its own between attempts to join.
    #[must_use]
    pub fn with_rejoin(mut self, rejoin: Backoff) -> Self {
        self.rejoin = Some(rejoin);
        self
    }

    /// The same, with another answer to too many pushes that wait for the join. Default
    /// [`Overflow::Refuse`].
    #[must_use]
    pub const fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// The same, with another span for which a member may be missing after a reconnect before it is
    /// told as gone. Default 5 s; zero tells at once.
    ///
    /// A client that was cut off with this one is back within a moment, and so is this client's
    /// own entry; neither has left then. [`Presence`](crate::Presence) does not wait: it is the
    /// server's as soon as the snapshot came.
    #[must_use]
    pub const fn with_presence_grace(mut self, grace: Duration) -> Self {
        self.presence_grace = grace;
        self
    }

    /// The same, telling the calls of phoenix.js's `Presence` as
    /// [`PresenceCalls`](crate::ChannelEvent::PresenceCalls) besides the folded changes. Default
    /// off: it copies every member a call names.
    #[must_use]
    pub const fn with_presence_calls(mut self) -> Self {
        self.presence_calls = true;
        self
    }

    const fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            rejoin: None,
            overflow: Overflow::Refuse,
            presence_grace: GRACE,
            presence_calls: false,
        }
    }

    pub(crate) const fn presence(&self) -> bool {
        match &self.flavor {
            Flavor::Supabase(config) => config.presence.enabled,
            Flavor::Phoenix { presence, .. } => *presence,
        }
    }

    /// Whether the server is asked to say when broadcasts of the database come.
    pub(crate) const fn awaits_replication(&self) -> bool {
        match &self.flavor {
            Flavor::Supabase(config) => config.broadcast.replication_ready,
            Flavor::Phoenix { .. } => false,
        }
    }

    pub(crate) const fn is_supabase(&self) -> bool {
        matches!(self.flavor, Flavor::Supabase(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_a_host() {
        let build = |endpoint: &str| Config::builder(endpoint).build();
        for endpoint in ["ws://h", "wss://h/socket", "http://h:1?a=b", "https://[::1]/"] {
            assert!(build(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in ["", "h", "ftp://h", "ws://", "ws:///socket", "ws://?a=b"] {
            assert!(matches!(build(endpoint), Err(ConfigError::Endpoint { .. })), "{endpoint}");
        }
    }
}

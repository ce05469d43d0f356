//! What a server allows, and how slow it is.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::policy::Policy;
use super::upgrade::Refusal;
use crate::secret::Secret;

/// How a [`Server`](super::Server) behaves; the default is a real Supabase server's behaviour, but
/// for what stands in the way of trying things: rates are unlimited, tokens are not read, and
/// everyone may use every private channel.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::server::ServerConfig;
///
/// let config = ServerConfig {
///     apikey: Some("anon-key".into()),
///     join_refusal_after: Duration::ZERO,
///     ..ServerConfig::default()
/// };
/// assert_eq!(config.channels_per_session_max, 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The `apikey` every connection has to bring; `None` (the default) takes any and none.
    pub apikey: Option<Secret>,
    /// An answer that refuses every upgrade, as a suspended project does; none by default.
    ///
    /// Protocol §6.1 lists the answers.
    pub refuse_upgrades: Option<Refusal>,
    /// Whether tokens are read as a real server reads them; no by default, when every token is
    /// remembered and none is refused.
    ///
    /// A token that is read must be a JWT with `role` and `exp` and in date, at the upgrade, in a
    /// join and in a push; when it expires, its channels are closed. A channel without a token of
    /// its own uses the API key, which must be such a JWT too unless it is [`apikey`](Self::apikey)
    /// itself. Signatures are never verified. Protocol §5.9.
    pub reads_tokens: bool,
    /// How long a token is trusted before it is looked at again; 5 min by default.
    pub token_check_interval: Duration,
    /// Who may read and write private channels; everyone by default.
    pub policy: Policy,
    /// Whether public channels are refused; no by default.
    pub private_only: bool,
    /// The sessions open at a time; 200 by default, as on Supabase. More get status 429.
    pub sessions_max: usize,
    /// The channels one session may have joined; 100 by default. More are refused.
    pub channels_per_session_max: usize,
    /// The prefixes of plain Phoenix topics; `room:` by default.
    pub plain_topics: Vec<String>,
    /// Joins to refuse, as pairs of a whole topic and the `reason` to give; none by default.
    pub refuse_joins: Vec<(String, String)>,
    /// How long a refused Supabase join holds its whole session; 5 s by default, zero answers at
    /// once. Refusals of plain topics are never delayed.
    pub join_refusal_after: Duration,
    /// How long after its join a channel with row changes is subscribed; 100 ms by default.
    pub subscribed_after: Duration,
    /// How long after its join a channel that asked for it hears that broadcasts of the database
    /// arrive; zero by default. With more than 60 s it is closed instead.
    pub replication_ready_after: Duration,
    /// Tables, as pairs of schema and name, that cannot be subscribed to; none by default.
    pub unpublished_tables: Vec<(String, String)>,
    /// The presence messages one channel may send in a window; 5 by default. One more closes it.
    pub presence_calls_max: u32,
    /// The length of that window; 30 s by default. It starts with the first message.
    pub presence_window: Duration,
    /// Broadcasts a second, sent and delivered, on average over a minute; unlimited by default, 100
    /// on Supabase. At the limit every channel that is to get one is closed.
    pub events_per_second_max: Option<u32>,
    /// Joins a second, on average over a minute; unlimited by default, 100 on Supabase. At the
    /// limit a join is refused and its session closed with 1001, and upgrades get status 429.
    pub joins_per_second_max: Option<u32>,
    /// Presence messages a second, on average over a minute; unlimited by default, 1,000 on
    /// Supabase. At the limit the channel of the next one is closed.
    pub presence_events_per_second_max: Option<u32>,
    /// The size of a broadcast's or a presence's payload in bytes; 3,000,500 by default.
    pub payload_bytes_max: usize,
    /// Broadcasts kept for replay; 1,000 by default. The oldest make room.
    pub stored_broadcasts_max: usize,
    /// How long a broadcast is kept; 72 h by default.
    pub stored_for: Duration,
    /// How long a session that has left its last channel is kept; 10 min by default, `None` for
    /// ever. It is looked at in this interval, and cut without a close frame.
    pub no_channel_after: Option<Duration>,
    /// How long a session may send nothing before it is closed with 1000; 60 s by default, `None`
    /// for ever.
    pub idle_after: Option<Duration>,
    /// The Unix time at [`Instant::EPOCH`](crate::Instant::EPOCH), for commit timestamps;
    /// 1,000,000,000 s (September 2001) by default.
    pub unix_time_at_epoch: Duration,
    /// The size of a client's frame in bytes; 5,000,000 by default. A larger one closes with 1009.
    pub frame_bytes_max: usize,
    /// The frames waiting for one session, in either direction; 10,000 by default. One more
    /// closes the session with 1011.
    pub waiting_frames_max: usize,
    /// The bytes that may wait for a session that a refused join holds; 16 MiB by default. More
    /// close it with 1011.
    pub waiting_bytes_max: usize,
    /// The events that wait for [`poll_event`](super::Server::poll_event); 4,096 by default. The
    /// oldest are dropped and counted.
    pub events_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            apikey: None,
            refuse_upgrades: None,
            reads_tokens: false,
            token_check_interval: Duration::from_secs(300),
            policy: Policy::open(),
            private_only: false,
            sessions_max: 200,
            channels_per_session_max: 100,
            plain_topics: Vec::from(["room:".into()]),
            refuse_joins: Vec::new(),
            join_refusal_after: Duration::from_secs(5),
            subscribed_after: Duration::from_millis(100),
            replication_ready_after: Duration::ZERO,
            unpublished_tables: Vec::new(),
            presence_calls_max: 5,
            presence_window: Duration::from_secs(30),
            events_per_second_max: None,
            joins_per_second_max: None,
            presence_events_per_second_max: None,
            payload_bytes_max: 3_000_500,
            stored_broadcasts_max: 1_000,
            stored_for: Duration::from_secs(72 * 3_600),
            no_channel_after: Some(Duration::from_secs(600)),
            idle_after: Some(Duration::from_secs(60)),
            unix_time_at_epoch: Duration::from_secs(1_000_000_000),
            frame_bytes_max: 5_000_000,
            waiting_frames_max: 10_000,
            waiting_bytes_max: 16 << 20,
            events_max: 4_096,
        }
    }
}

//! What a server allows, and how slow it is.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::secret::Secret;

/// How a [`Server`](super::Server) behaves; the default is a real Supabase server's behaviour.
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
    /// Tables, as pairs of schema and name, that cannot be subscribed to; none by default.
    pub unpublished_tables: Vec<(String, String)>,
    /// The presence messages one channel may send in a window; 5 by default. One more closes it.
    pub presence_calls_max: u32,
    /// The length of that window; 30 s by default. It starts with the first message.
    pub presence_window: Duration,
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
            sessions_max: 200,
            channels_per_session_max: 100,
            plain_topics: Vec::from(["room:".into()]),
            refuse_joins: Vec::new(),
            join_refusal_after: Duration::from_secs(5),
            subscribed_after: Duration::from_millis(100),
            unpublished_tables: Vec::new(),
            presence_calls_max: 5,
            presence_window: Duration::from_secs(30),
            idle_after: Some(Duration::from_secs(60)),
            unix_time_at_epoch: Duration::from_secs(1_000_000_000),
            frame_bytes_max: 5_000_000,
            waiting_frames_max: 10_000,
            waiting_bytes_max: 16 << 20,
            events_max: 4_096,
        }
    }
}

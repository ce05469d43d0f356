//! A sans-IO server half for local development and tests (feature `server`).
//!
//! [`Server`] speaks Phoenix Channels and Supabase Realtime as recorded servers do: V1 and V2
//! framing, joins and their refusals, broadcasts, presence, and row changes that the driver makes
//! up. It shares the wire format and the payload vocabulary with the client and no behaviour, so
//! that a mistake on one side cannot cancel itself on the other.
//!
//! Topics that start with `realtime:` are Supabase channels. Topics with a prefix of
//! [`ServerConfig::plain_topics`] are plain Phoenix channels that relay every event to their
//! other members. Any other topic is unmatched.
//!
//! Unless it is configured otherwise, whoever has the API key may join, read and write everything,
//! private channels included, at any rate, and tokens are remembered and not read. A [`Policy`]
//! says who may use private channels, [`ServerConfig::reads_tokens`] makes tokens count and
//! expire, and the rates of [`ServerConfig`] close what is too fast. Private broadcasts of
//! [`Server::send_from_database`], and those that a client asks to be kept, are replayed to joins
//! that ask for it.
//!
//! It differs from a real Supabase server where a stricter answer finds more mistakes: a push with
//! an older join's `join_ref` is dropped, as by Phoenix 1.8.3 and later, and `phx_leave` with a null
//! `join_ref` is taken. Integer refs come back as strings, regular expressions in filters are
//! refused, the signature of a token is never verified, and there are no tables, so no column is
//! unknown and row changes have no policy.
//!
//! # Driving it
//!
//! After any call with `&mut self`, drain [`poll_transmit`](Server::poll_transmit) and
//! [`poll_event`](Server::poll_event) to `None`, then sleep until
//! [`poll_timeout`](Server::poll_timeout) or the next input, whichever comes first.
//!
//! ```
//! use core::time::Duration;
//! use realtime_proto::server::{RowChange, Server, ServerConfig, ServerTransmit};
//! use realtime_proto::{Frame, Instant, Payload};
//!
//! fn sent(server: &mut Server) -> Vec<String> {
//!     let mut frames = Vec::new();
//!     while let Some(transmit) = server.poll_transmit() {
//!         if let ServerTransmit::Frame { frame, .. } = transmit {
//!             frames.push(String::from_utf8(frame.as_bytes().to_vec()).unwrap());
//!         }
//!     }
//!     while server.poll_event().is_some() {}
//!     frames
//! }
//!
//! let now = Instant::EPOCH;
//! let mut server = Server::new(ServerConfig::default(), 7, now);
//! let session = server.accept("/socket/websocket?vsn=2.0.0", now)?;
//! server.handle_frame(
//!     session,
//!     Frame::text(
//!         r#"["1","1","realtime:room","phx_join",
//!             {"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"}]}}]"#,
//!     ),
//!     now,
//! );
//! assert!(sent(&mut server)[0].starts_with(r#"["1","1","realtime:room","phx_reply",{"status":"ok""#));
//!
//! // The database takes its time; changes before that are not delivered.
//! let due = server.poll_timeout().unwrap();
//! assert_eq!(due, now + Duration::from_millis(100));
//! server.handle_timeout(due);
//! assert!(sent(&mut server)[0].contains("Subscribed to PostgreSQL"));
//!
//! let change = RowChange::insert("todos", Payload::from_json(r#"{"id":1}"#)?)?;
//! assert_eq!(server.change(&change, due), 1);
//! assert!(sent(&mut server)[0].contains(r#""record":{"id":1}"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod broadcast;
mod change;
mod channel;
mod claims;
mod config;
mod database;
mod event;
mod http;
mod join;
mod json;
mod policy;
mod postgres;
mod presence;
mod rate;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod timer;
mod token;
mod topic;
mod upgrade;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use change::{RowChange, RowChangeError};
pub use config::ServerConfig;
pub use event::{ServerEvent, ServerStats, ServerTransmit, SessionId};
pub use http::{HttpRequest, HttpResponse};
pub use policy::{Policy, Rights, Rule, RuleError};
pub use upgrade::Refusal;

use crate::payload::Payload;
use crate::rng::Rng;
use crate::secret::Secret;
use crate::time::Instant;
use crate::transmit::Frame;
use crate::wire::Body;
use channel::Kind;
use postgres::{Postgres, Told};
use rate::Rate;
use session::{Gate, Session};
use store::Store;
use timer::{Timer, Timers};
use topic::{Topic, broadcast_of};

/// A Phoenix and Supabase Realtime server without sockets, clock or entropy.
///
/// See the [module](self) for how to drive it.
pub struct Server {
    config: ServerConfig,
    rng: Rng,
    now: Instant,
    sessions: BTreeMap<SessionId, Session>,
    topics: BTreeMap<String, Topic>,
    timers: Timers,
    store: Store,
    events_rate: Rate,
    joins_rate: Rate,
    presence_rate: Rate,
    transmits: VecDeque<ServerTransmit>,
    events: VecDeque<ServerEvent>,
    /// Whether the database is away.
    is_database_away: bool,
    /// Sessions to close once the input at hand is done.
    doomed: Vec<SessionId>,
    /// Closes in `transmits`, whose sockets still count against the most there may be.
    closing: usize,
    /// Presence refs given out.
    refs: u64,
    stats: ServerStats,
    /// Where frames are encoded.
    buffer: Vec<u8>,
}

impl Server {
    /// Creates a server without sessions; `seed` decides presence refs and generated keys.
    #[must_use]
    pub fn new(config: ServerConfig, seed: u64, now: Instant) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            now,
            sessions: BTreeMap::new(),
            topics: BTreeMap::new(),
            timers: Timers::default(),
            store: Store::default(),
            events_rate: Rate::new(now),
            joins_rate: Rate::new(now),
            presence_rate: Rate::new(now),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            is_database_away: false,
            doomed: Vec::new(),
            closing: 0,
            refs: 0,
            stats: ServerStats::default(),
            buffer: Vec::new(),
        }
    }

    /// Decides an HTTP upgrade; `target` is its path and query.
    ///
    /// Both `/socket/websocket` and `/realtime/v1/websocket` lead here. Real servers give their
    /// refusals after 2 s; that delay is the driver's.
    ///
    /// # Errors
    ///
    /// [`Refusal`] with the HTTP answer to give: 404 for another path, 403 for an unknown `vsn`,
    /// 401 for a missing or wrong API key, 429 with too many sessions or joins, or the answer of
    /// [`ServerConfig::refuse_upgrades`].
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Instant;
    /// use realtime_proto::server::{Server, ServerConfig};
    ///
    /// let config = ServerConfig { apikey: Some("key".into()), ..ServerConfig::default() };
    /// let mut server = Server::new(config, 0, Instant::EPOCH);
    /// assert!(server.accept("/socket/websocket?apikey=key&vsn=2.0.0", Instant::EPOCH).is_ok());
    /// let refusal = server.accept("/socket/websocket?vsn=2.0.0", Instant::EPOCH).unwrap_err();
    /// assert_eq!((refusal.status, &*refusal.body), (401, r#"{"error":"API key is missing"}"#));
    /// ```
    pub fn accept(&mut self, target: &str, now: Instant) -> Result<SessionId, Refusal> {
        self.advance(now);
        let (vsn, apikey) = upgrade::check(target, &self.config, self.unix_now())?;
        if self.sessions.len() + self.closing >= self.config.sessions_max {
            return Err(Refusal::new(429, r#"{"error":"Too many connected users"}"#));
        }
        if self.joins_rate.is_over(self.config.joins_per_second_max, self.now) {
            return Err(Refusal::new(429, r#"{"error":"Too many joins per second"}"#));
        }
        self.stats.accepted += 1;
        let id = SessionId(self.stats.accepted);
        let idle = self.config.idle_after;
        let idle = idle.map(|span| self.timers.arm(self.now + span, Timer::Idle(id)));
        let session = Session {
            vsn,
            channels: BTreeMap::new(),
            gate: Gate::Open,
            queued: 0,
            heard: self.now,
            idle,
            sweep: None,
            apikey,
        };
        self.sessions.insert(id, session);
        self.tell(ServerEvent::Opened { session: id, vsn });
        Ok(id)
    }

    /// Takes one frame of a client; whatever it holds, the server goes on.
    ///
    /// A frame that cannot be read is dropped, counted and told, and the session is kept, as on
    /// Supabase. A frame of a session that is gone is ignored.
    pub fn handle_frame(&mut self, session: SessionId, frame: Frame, now: Instant) {
        self.advance(now);
        self.receive(session, frame);
        self.settle();
    }

    /// Takes note that a socket is gone: its channels end and its presences leave.
    ///
    /// Frames still queued for it are dropped. A session that is gone already is ignored.
    pub fn handle_close(&mut self, session: SessionId, now: Instant) {
        self.advance(now);
        self.end_session(session, None);
        self.settle();
    }

    /// Does everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Release(id) => self.release(id),
                Timer::Subscribed(id, topic) => self.subscribed(id, &topic),
                Timer::Token(id, topic) => self.check_token(id, &topic),
                Timer::Ready(id, topic) => self.tell_ready(id, &topic),
                Timer::Sweep(id) => self.sweep(id),
                Timer::Idle(id) => self.check_idle(id),
            }
            self.settle();
        }
    }

    /// The next thing to do on a socket; `None` when there is nothing.
    pub fn poll_transmit(&mut self) -> Option<ServerTransmit> {
        let transmit = self.transmits.pop_front()?;
        match &transmit {
            ServerTransmit::Frame { session, .. } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.queued = session.queued.saturating_sub(1);
                }
            }
            ServerTransmit::Close { .. } | ServerTransmit::Cut { .. } => {
                self.closing = self.closing.saturating_sub(1);
            }
        }
        Some(transmit)
    }

    /// The next thing that happened; `None` when there is nothing.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); the last `now` while output is
    /// queued, `None` when there is nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.transmits.is_empty() && self.events.is_empty() {
            self.timers.next()
        } else {
            Some(self.now)
        }
    }

    /// Tells a row change to every channel that is subscribed to it; to how many it went.
    ///
    /// A channel is subscribed from its `Subscribed to PostgreSQL` on.
    pub fn change(&mut self, change: &RowChange, now: Instant) -> usize {
        self.advance(now);
        self.stats.changes += 1;
        // Nobody is told that these were left out.
        let limit = self.config.events_per_second_max;
        if self.events_rate.is_over(limit, self.now) {
            return 0;
        }
        let unix = self.unix_now();
        let timestamp = change.commit_timestamp();
        let timestamp = timestamp.map_or_else(|| change::iso8601(unix), Into::into);
        let told = Told::new(change, timestamp);
        let mut messages = Vec::new();
        let mut reached = 0;
        for (id, session) in &self.sessions {
            for (topic, channel) in &session.channels {
                let Kind::Supabase(supabase) = &channel.kind else {
                    continue;
                };
                let Postgres::Live { bindings, .. } = &supabase.postgres else {
                    continue;
                };
                let before = messages.len();
                if supabase.legacy {
                    let payload = told.legacy_payload(bindings).map(String::from);
                    let event = change.kind().as_str();
                    messages.extend(payload.map(|payload| (*id, topic.clone(), event, payload)));
                } else {
                    let payloads = told.payloads(bindings).into_iter();
                    let event = "postgres_changes";
                    messages.extend(payloads.map(|payload| (*id, topic.clone(), event, payload)));
                }
                reached += usize::from(messages.len() > before);
            }
        }
        for (id, topic, event, payload) in messages {
            self.send(id, &broadcast_of(&topic, event, Body::Json(&payload)));
        }
        self.settle();
        reached
    }

    /// Ends a session and closes its socket; whether there was one.
    ///
    /// With code 1012 its Supabase channels are first told `Server requested disconnect`, as a
    /// restarting server does.
    pub fn close_session(
        &mut self,
        session: SessionId,
        code: u16,
        reason: &'static str,
        now: Instant,
    ) -> bool {
        self.advance(now);
        let was_open = self.close(session, code, reason);
        self.settle();
        was_open
    }

    /// Ends every session and closes every socket; how many there were.
    pub fn close_all(&mut self, code: u16, reason: &'static str, now: Instant) -> usize {
        self.advance(now);
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        let closed = ids.into_iter().filter(|id| self.close(*id, code, reason));
        let closed = closed.count();
        self.settle();
        closed
    }

    /// Shuts one channel as a real server does when a token expires or a limit is hit: a `system`
    /// error with `message`, then `phx_close`; whether there was such a channel.
    ///
    /// Protocol §6.3 lists the messages. A plain Phoenix channel stops without words, with
    /// `phx_close` alone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::server::{Server, ServerConfig};
    /// # use realtime_proto::{Frame, Instant};
    /// # let now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// # let session = server.accept("/socket/websocket?vsn=2.0.0", now).unwrap();
    /// # server.handle_frame(session, Frame::text(r#"["1","1","realtime:x","phx_join",{}]"#), now);
    /// let message = "Token has expired 0 seconds ago";
    /// assert!(server.shut_channel(session, "realtime:x", message, now));
    /// ```
    pub fn shut_channel(
        &mut self,
        session: SessionId,
        topic: &str,
        message: &str,
        now: Instant,
    ) -> bool {
        self.advance(now);
        let was_joined = self.shut(session, topic, message) || self.stop(session, topic);
        self.settle();
        was_joined
    }

    /// Lets one channel crash: its session gets `phx_error`; whether there was such a channel.
    pub fn crash_channel(&mut self, session: SessionId, topic: &str, now: Instant) -> bool {
        self.advance(now);
        let was_joined = self.crash(session, topic);
        self.settle();
        was_joined
    }

    fn close(&mut self, id: SessionId, code: u16, reason: &'static str) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        if code == 1012 {
            const NOTICE: &str = "{\"message\":\"Server requested disconnect\",\"status\":\"ok\",\
                                  \"extension\":\"system\"}";
            let channels = session.channels.iter();
            let topics: Vec<String> = channels
                .filter(|(_, channel)| matches!(channel.kind, Kind::Supabase(_)))
                .map(|(topic, _)| topic.clone())
                .collect();
            for topic in topics {
                self.send(id, &broadcast_of(&topic, "system", Body::Json(NOTICE)));
            }
        }
        self.end_session(id, Some((code, reason.into())))
    }

    /// What the server has and has done.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let rooms = self.topics.values();
        ServerStats {
            sessions: self.sessions.len(),
            channels: self.sessions.values().map(|s| s.channels.len()).sum(),
            presences: rooms
                .map(|topic| topic.public.presences.len() + topic.private.presences.len())
                .sum(),
            ..self.stats
        }
    }

    /// Who is present in a topic at this moment, as the payload of a `presence_state`; private
    /// channels have people of their own.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Instant;
    /// use realtime_proto::server::{Server, ServerConfig};
    ///
    /// let server = Server::new(ServerConfig::default(), 1, Instant::EPOCH);
    /// assert_eq!(server.presence_state("realtime:room", false).as_json(), Some("{}"));
    /// ```
    #[must_use]
    pub fn presence_state(&self, topic: &str, private: bool) -> Payload {
        let rooms = self.topics.get(topic);
        rooms.map_or_else(Payload::empty, |rooms| {
            Payload::trusted_json(rooms.room(private).presences.state().into())
        })
    }

    /// How many broadcasts it took so far, which [`stats`](Self::stats) tells as well and for which
    /// it counts everything.
    #[must_use]
    pub const fn broadcast_count(&self) -> u64 {
        self.stats.broadcasts
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Changes the configuration; it holds for everything that comes, and what is under way stays.
    pub fn set_config(&mut self, config: ServerConfig) {
        self.config = config;
    }

    /// The token a channel joined with or sent last, unverified.
    #[must_use]
    pub fn access_token(&self, session: SessionId, topic: &str) -> Option<&Secret> {
        match &self.sessions.get(&session)?.channels.get(topic)?.kind {
            Kind::Plain => None,
            Kind::Supabase(supabase) => supabase.token.as_ref(),
        }
    }

    /// The `join_ref` of a joined channel, or the `ref` of its join when that had none.
    #[must_use]
    pub fn join_ref(&self, session: SessionId, topic: &str) -> Option<&str> {
        self.sessions.get(&session)?.channels.get(topic)?.join_ref.as_deref()
    }

    /// Time does not go backwards, whatever the driver says.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn tell(&mut self, event: ServerEvent) {
        if self.events.len() >= self.config.events_max {
            self.events.pop_front();
            self.stats.events_dropped += 1;
        }
        self.events.push_back(event);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("now", &self.now)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

//! One logical connection that outlives sockets, and the channels on it.

mod channel;
mod connect;
mod drive;
mod heartbeat;
mod receive;
mod send;
mod token;

use alloc::sync::Arc;
use core::fmt;

pub use channel::Channel;

use crate::channel::{ChannelInfo, Fate, Input, Slot, Table};
use crate::config::{ChannelConfig, Config, Flavor};
use crate::context::Context;
use crate::error::OpenError;
use crate::ids::{ChannelId, ConnectionId, SocketId};
use crate::limits::Limits;
use crate::socket::{ConnectionState, Socket};
use crate::stats::Stats;
use crate::supabase::Binding;
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::Vsn;

/// A client of one server: one connection at a time, reopened after faults, and the channels that
/// are wanted on it.
///
/// Methods are of four kinds. Commands are plain verbs, [`connect`](Self::connect) or
/// [`open_channel`](Self::open_channel); inputs start with `handle_` and never fail; outputs start
/// with `poll_`; the rest looks. [The crate's page](crate) has the loop that drives them.
///
/// # Examples
///
/// ```
/// use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload, Transmit};
///
/// let config = Config::builder("ws://localhost:4000/socket").build()?;
/// let now = Instant::EPOCH;
/// let mut client = Client::new(config, 42, now);
/// client.open_channel("room:lobby", ChannelConfig::phoenix(Payload::empty()), now)?;
/// client.connect(now);
/// assert!(matches!(client.poll_transmit(), Some(Transmit::Open { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    ctx: Context,
    channels: Table,
    /// Whether the application wants a connection; its word wins over every late event.
    wanted: bool,
    /// Whether those who get the events have too many of them to take already.
    unheard: bool,
    /// Failed connections in a row.
    attempts: u32,
    next_socket: u64,
    /// The buffer frames are written into before they are sized.
    scratch: Scratch,
    /// The buffer a payload is written into before it is put in a frame.
    payload: Scratch,
}

/// A buffer that is reused. Frames can carry tokens, so `Debug` tells its size only (G14).
#[derive(Default)]
struct Scratch(alloc::vec::Vec<u8>);

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.capacity())
    }
}

impl Client {
    /// Makes a client that is offline. `seed` decides the jitter of its retries and where maps put
    /// keys, and nothing else; give each client another one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// let config = Config::builder("ws://localhost:4000/socket").build()?;
    /// let client = Client::new(config, 42, Instant::EPOCH);
    /// assert_eq!(client.poll_timeout(), None, "nothing happens before `connect`");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        Self::on_connection(ConnectionId::FIRST, config, seed, now)
    }

    /// One client of several that a manager has; what it names has the connection in its name.
    pub(crate) fn on_connection(
        connection: ConnectionId,
        config: Config,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            ctx: Context::new(config, connection, seed, now),
            channels: Table::default(),
            wanted: false,
            unheard: false,
            attempts: 0,
            next_socket: 1,
            scratch: Scratch::default(),
            payload: Scratch::default(),
        }
    }

    /// Wants a connection from now on; opens one unless there is one or the next attempt is
    /// already planned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// let mut client = Client::new(config, 42, now);
    /// client.connect(now);
    /// assert!(client.poll_transmit().is_some(), "the driver is asked to open a socket");
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn connect(&mut self, now: Instant) {
        self.advance(now);
        self.wanted = true;
        match &mut self.ctx.socket {
            Socket::Offline | Socket::Stopped { .. } | Socket::Resting => self.open_socket(),
            Socket::Waiting { rests, .. } => *rests = false,
            Socket::Opening { .. } | Socket::Online(_) => {}
        }
        self.settle();
    }

    /// Wants no connection from now on. Channels stay and join again after the next
    /// [`connect`](Self::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// client.disconnect(now);
    /// assert!(matches!(client.poll_transmit(), Some(Transmit::Close { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disconnect(&mut self, now: Instant) {
        self.advance(now);
        self.wanted = false;
        self.close_socket();
        self.settle();
    }

    /// Opens a channel: it joins as soon as there is a connection, and again after every fault,
    /// until it is closed. `topic` is the whole topic; Supabase's start with `realtime:`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the topic is open already or not a Supabase one, a limit is reached, or a
    /// public channel asks for a replay.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// let room = ChannelConfig::phoenix(Payload::empty());
    /// let id = client.open_channel("room:lobby", room.clone(), now)?;
    /// assert_eq!(client.channel_by_topic("room:lobby"), Some(id));
    /// assert!(client.open_channel("room:lobby", room, now).is_err(), "one channel a topic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_channel(
        &mut self,
        topic: &str,
        config: ChannelConfig,
        now: Instant,
    ) -> Result<ChannelId, OpenError> {
        self.advance(now);
        let limits = &self.ctx.config.limits;
        if let Some(channel) = self.channels.by_topic(topic) {
            return Err(OpenError::TopicInUse { topic: topic.into(), channel });
        }
        if let Flavor::Supabase(join) = &config.flavor {
            if topic.strip_prefix("realtime:").is_none_or(str::is_empty) {
                return Err(OpenError::Topic { topic: topic.into() });
            }
            if join.broadcast.replay.is_some() && !join.private {
                return Err(OpenError::ReplayOnPublic { topic: topic.into() });
            }
            if join.postgres_changes.len() > limits.bindings_max {
                return Err(OpenError::TooManyBindings { max: limits.bindings_max });
            }
            join.postgres_changes.iter().try_for_each(Binding::check)?;
        }
        if self.channels.len() >= limits.channels_max {
            return Err(OpenError::TooMany { max: limits.channels_max });
        }
        let left_on = self.ctx.socket.id().filter(|_| self.channels.is_left(topic));
        let (topic, ctx): (Arc<str>, &Context) = (topic.into(), &self.ctx);
        let new = |id| {
            let mut slot = Slot::new(id, Arc::clone(&topic), config, ctx);
            slot.left_on = left_on;
            slot
        };
        let id = self.channels.insert(&topic, new);
        self.ctx.timers.cancel(Timer::Empty);
        if self.ctx.socket.connection().is_some() {
            self.on_channel_input(id, Input::SocketOpened, now);
        } else if matches!(self.ctx.socket, Socket::Resting) {
            self.open_socket();
        } else if let Socket::Waiting { rests, .. } = &mut self.ctx.socket {
            *rests = false;
        }
        self.settle();
        Ok(id)
    }

    /// Leaves a channel; its last event is `Closed`. Tells whether it was there.
    ///
    /// The topic is free at once: another channel may be opened on it before the server answers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, ChannelEvent, Client, Config, Event, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// assert!(client.close_channel(id, now));
    /// let event = client.poll_event();
    /// assert!(matches!(event, Some(Event::Channel(_, ChannelEvent::Closed { .. }))));
    /// assert!(!client.close_channel(id, now), "it is gone");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_channel(&mut self, id: ChannelId, now: Instant) -> bool {
        self.advance(now);
        let Some(topic) = self.channels.get(id).map(|slot| Arc::clone(&slot.topic)) else {
            return false;
        };
        self.channels.release_topic(id, &topic);
        self.on_channel_input(id, Input::Close, now);
        true
    }

    /// A view of one channel; `None` once it is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// let mut room = client.channel(id).ok_or("it was closed")?;
    /// room.push("shout", Payload::from_json(r#"{"body":"hi"}"#)?, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn channel(&mut self, id: ChannelId) -> Option<Channel<'_>> {
        self.channels.get(id)?;
        Some(Channel::new(self, id))
    }

    /// The channel that is open on a topic.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// assert_eq!(client.channel_by_topic("room:lobby"), Some(id));
    /// assert_eq!(client.channel_by_topic("room:attic"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn channel_by_topic(&self, topic: &str) -> Option<ChannelId> {
        self.channels.by_topic(topic)
    }

    /// A channel at a glance: its state, what it waits for and since when; `None` once it is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Awaits, ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// let info = client.channel_info(id).ok_or("it was closed")?;
    /// assert_eq!(info.awaits, Some(Awaits::Connection));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn channel_info(&self, id: ChannelId) -> Option<ChannelInfo> {
        Some(self.channels.get(id)?.info(&self.ctx))
    }

    /// The channels that are there, in the order of their handles.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// assert_eq!(client.channels().collect::<Vec<_>>(), [id]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.channels.iter().map(|slot| slot.id)
    }

    /// Checks the connection now: after a hint that the network changed or the machine woke up.
    ///
    /// An open connection has 2 s to answer; an attempt that was planned is made at once. What no
    /// channel needs stays at rest.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::{Client, Config, Instant, Timer, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// # client.handle_open(socket, now);
    /// # while client.poll_event().is_some() {}
    /// client.probe(now);
    /// assert!(matches!(client.poll_transmit(), Some(Transmit::Frame { .. })));
    /// let deadline = now + Duration::from_secs(2);
    /// assert_eq!(client.next_timer(), Some((deadline, Timer::HeartbeatReply)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn probe(&mut self, now: Instant) {
        self.advance(now);
        match &self.ctx.socket {
            Socket::Online(_) => self.probe_socket(),
            Socket::Waiting { rests: false, .. } => self.open_socket(),
            Socket::Waiting { rests: true, .. }
            | Socket::Offline
            | Socket::Opening { .. }
            | Socket::Stopped { .. }
            | Socket::Resting => {}
        }
        self.settle();
    }

    /// How the connection is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, ConnectionState, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// let mut client = Client::new(config, 1, now);
    /// assert_eq!(client.connection_state(), ConnectionState::Disconnected);
    /// client.connect(now);
    /// assert_eq!(client.connection_state(), ConnectionState::Connecting);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn connection_state(&self) -> ConnectionState {
        self.ctx.socket.state()
    }

    /// Whether the connection is open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// assert!(!client.is_connected(), "it is on its way");
    /// client.handle_open(socket, now);
    /// assert!(client.is_connected());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.ctx.socket.connection().is_some()
    }

    /// When the last request went out that the server answered: all it had sent by then has come.
    pub(crate) const fn whole_until(&self) -> Instant {
        self.ctx.whole_until
    }

    /// When the next attempt to connect is made, if one is planned.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, CloseReason, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// # client.handle_open(socket, now);
    /// # while client.poll_event().is_some() {}
    /// client.handle_close(socket, CloseReason::Lost { detail: "reset by peer".into() }, now);
    /// assert!(client.reconnect_at() > Some(now));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn reconnect_at(&self) -> Option<Instant> {
        match &self.ctx.socket {
            Socket::Waiting { retry_at, rests: false } => Some(*retry_at),
            Socket::Waiting { rests: true, .. }
            | Socket::Offline
            | Socket::Opening { .. }
            | Socket::Online(_)
            | Socket::Stopped { .. }
            | Socket::Resting => None,
        }
    }

    /// What happened so far, in numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{ChannelConfig, Client, Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # let room = ChannelConfig::phoenix(Payload::empty());
    /// # let id = client.open_channel("room:lobby", room, now)?;
    /// assert_eq!(client.stats().channels, 1);
    /// assert_eq!(client.stats().channels_live, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { channels: self.channels.len(), ..self.ctx.stats.clone() }
    }

    pub(crate) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is no connection, none on its way, and no delay that runs.
    pub(crate) const fn is_at_rest(&self) -> bool {
        self.ctx.socket.id().is_none() && !matches!(self.ctx.socket, Socket::Waiting { .. })
    }

    pub(crate) const fn vsn(&self) -> Vsn {
        self.ctx.config.vsn
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.ctx.config.limits
    }

    pub(crate) fn slot(&self, id: ChannelId) -> Option<&Slot> {
        self.channels.get(id)
    }

    pub(crate) fn slot_mut(&mut self, id: ChannelId) -> Option<&mut Slot> {
        self.channels.get_mut(id)
    }

    /// Whether the application wants the connection.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether the connection is wanted and was given up.
    pub(crate) const fn is_stopped(&self) -> bool {
        matches!(self.ctx.socket, Socket::Stopped { .. })
    }

    /// Whether something waits for the driver or the application.
    pub(crate) fn has_output(&self) -> bool {
        !self.ctx.outbox.is_empty() || self.has_events()
    }

    /// Whether something waits for the application.
    pub(crate) fn has_events(&self) -> bool {
        !self.ctx.events.is_empty()
    }

    /// A frame came for which the application left no room.
    pub(crate) fn drop_frame(&mut self, socket: SocketId, now: Instant) {
        self.advance(now);
        if self.hears(socket) {
            self.ctx.drop_frame();
        }
    }

    /// The application has too many events to take already: attempts wait, for nobody would hear.
    pub(crate) const fn on_unheard(&mut self) {
        self.unheard = true;
    }

    /// The application takes events again; what waits for that is due from now on and not before.
    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.advance(now);
        self.unheard = false;
    }

    /// Lets joins go on that wait for another token, because the application insists.
    pub(crate) fn resume_joins(&mut self) {
        self.ctx.token.rehabilitate();
        self.ctx.joins.release();
    }

    /// Gives a channel an input that needs no cause.
    pub(crate) fn on_channel_input(&mut self, id: ChannelId, input: Input, now: Instant) {
        self.with_channel(id, now, |slot, ctx| slot.on_input(input, ctx));
    }

    /// Runs a command on a channel that is there.
    pub(crate) fn with_slot<T>(
        &mut self,
        id: ChannelId,
        now: Instant,
        command: impl FnOnce(&mut Slot, &mut Context) -> T,
    ) -> T {
        self.advance(now);
        let slot = self.channels.get_mut(id).expect("the caller holds a view of the channel");
        let result = command(slot, &mut self.ctx);
        self.settle();
        result
    }

    /// Lets a channel react, and forgets it when that was its end.
    pub(super) fn with_channel(
        &mut self,
        id: ChannelId,
        now: Instant,
        react: impl FnOnce(&mut Slot, &mut Context) -> Fate,
    ) {
        self.advance(now);
        let Some(slot) = self.channels.get_mut(id) else { return };
        if react(slot, &mut self.ctx) == Fate::Gone {
            self.forget_channel(id);
        }
        self.settle();
    }

    /// A channel is gone; with the last one goes the need for a connection.
    pub(super) fn forget_channel(&mut self, id: ChannelId) {
        self.channels.remove(id);
        if let (0, Some(after)) = (self.channels.len(), self.ctx.config.disconnect_when_empty_after)
        {
            self.ctx.timers.set(Timer::Empty, self.ctx.now + after);
        }
    }

    /// Time never goes back, whatever the driver says.
    pub(super) fn advance(&mut self, now: Instant) {
        self.ctx.now = self.ctx.now.max(now);
    }
}

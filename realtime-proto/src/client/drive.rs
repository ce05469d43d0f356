//! The inputs and outputs of a client: what its driver calls.

use alloc::format;
use core::time::Duration;

use super::Client;
use crate::channel::{Fate, Input};
use crate::context::Context;
use crate::event::{Event, Outcome};
use crate::ids::SocketId;
use crate::pacing::Turn;
use crate::socket::Socket;
use crate::supabase::{Cause, CauseKind};
use crate::time::Instant;
use crate::timer::Timer;
use crate::transmit::{CloseReason, Frame, Transmit};

/// The deadline that heals an overflow is so long after the latest input, to be later than its (G7).
const HEALS_AFTER: Duration = Duration::from_millis(1);

/// How long an attempt waits at a time while the application takes no events.
const PUT_OFF_FOR: Duration = Duration::from_secs(1);

impl Client {
    /// The transport is open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Event, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// client.handle_open(socket, now);
    /// assert_eq!(client.poll_event(), Some(Event::Connected { socket }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_open(&mut self, socket: SocketId, now: Instant) {
        self.advance(now);
        self.on_open(socket);
        self.settle();
    }

    /// A frame came. Whatever is in it, this neither fails nor panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Event, Frame, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// # client.handle_open(socket, now);
    /// # while client.poll_event().is_some() {}
    /// client.handle_frame(socket, Frame::text("what is this?"), now);
    /// assert!(matches!(client.poll_event(), Some(Event::Violation(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.advance(now);
        self.on_frame(socket, &frame);
        self.settle();
    }

    /// The transport ended, or could not be opened.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, CloseReason, Config, Event, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// # client.handle_open(socket, now);
    /// # while client.poll_event().is_some() {}
    /// client.handle_close(socket, CloseReason::Lost { detail: "reset by peer".into() }, now);
    /// let Some(Event::Disconnected { cause, retry_at, .. }) = client.poll_event() else {
    ///     panic!("the application is told");
    /// };
    /// assert_eq!(cause.text, "reset by peer");
    /// assert_eq!(retry_at, client.reconnect_at());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.advance(now);
        if self.ctx.socket.id() == Some(socket) {
            self.on_lost(Cause::from_close(&reason));
        } else {
            self.ctx.stats.stale_sockets += 1;
            let ended = self.ctx.outbox.forget(socket);
            self.end_pushes(ended, &Outcome::Interrupted);
        }
        self.settle();
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) came. Early or repeated calls do
    /// nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Event, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// // The server does not answer: the next thing to do is to give this attempt up.
    /// let deadline = client.poll_timeout().ok_or("an attempt has a deadline")?;
    /// client.handle_timeout(deadline);
    /// assert!(matches!(client.poll_transmit(), Some(Transmit::Close { .. })));
    /// assert!(matches!(client.poll_event(), Some(Event::Disconnected { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        let slept = self.ctx.timers.next().is_some_and(|(deadline, _)| {
            now.saturating_duration_since(deadline) >= self.ctx.config.suspended_after
        });
        self.advance(now);
        if slept {
            self.on_wake();
        }
        while let Some(timer) = self.ctx.timers.pop_due(self.ctx.now) {
            self.on_timer(timer);
        }
        self.settle();
    }

    /// The next thing for the driver to do, in order; frames are written now, with the token and
    /// the bindings of this moment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// client.connect(now);
    /// while let Some(transmit) = client.poll_transmit() {
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
        while let Some(outgoing) = self.ctx.outbox.pop() {
            if let Some(transmit) = self.write(outgoing) {
                return Some(transmit);
            }
        }
        None
    }

    /// The next thing that happened, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Event, Instant, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// client.handle_open(socket, now);
    /// while let Some(event) = client.poll_event() {
    ///     match event {
    ///         Event::Connected { socket } => println!("{socket} is open"),
    ///         Event::Channel(id, event) => println!("{id}: {event:?}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.ctx.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` when nothing will happen
    /// without input. While output waits to be taken, this is the latest time any input brought; when
    /// there is room again after frames were dropped, it is a moment later.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::{Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// client.connect(now);
    /// assert_eq!(client.poll_timeout(), Some(now), "there is something to take");
    /// while client.poll_transmit().is_some() {}
    /// assert_eq!(client.poll_timeout(), Some(now + Duration::from_secs(10)), "or give up");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.ctx.outbox.is_empty() || !self.ctx.events.is_empty() {
            return Some(self.ctx.now);
        }
        let heals = self.ctx.overflowed.is_some() && !self.is_unheard();
        let heals_at = heals.then(|| self.ctx.now + HEALS_AFTER);
        let deadline = self.ctx.timers.next().map(|(deadline, _)| deadline);
        heals_at.into_iter().chain(deadline).min()
    }

    /// The next timer: why the next [`handle_timeout`](Self::handle_timeout) is due, but for output
    /// that waits and for an overflow.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant, Timer, Transmit};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// # client.connect(now);
    /// # let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    /// assert!(matches!(client.next_timer(), Some((_, Timer::Connect))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_timer(&self) -> Option<(Instant, Timer)> {
        self.ctx.timers.next()
    }

    /// Whether frames may be fed. While it is false the application has too many events to take;
    /// a driver that stops reading lets TCP slow the server down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::{Client, Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut client = Client::new(config, 1, now);
    /// if client.wants_frames() {
    ///     // Read the next frame from the socket.
    /// }
    /// # assert!(client.wants_frames());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        self.ctx.events.len() < self.ctx.config.limits.events_queued_max
    }

    /// Whether the application has too many events to take already: each further attempt would only
    /// add to them, and so it waits.
    fn is_unheard(&self) -> bool {
        self.unheard || !self.wants_frames()
    }

    /// What every input ends with: whoever has a turn joins, and a connection on which every
    /// channel is live has proven itself.
    pub(super) fn settle(&mut self) {
        self.ctx.timers.cancel(Timer::JoinBudget);
        self.heal_overflow();
        loop {
            if self.ctx.socket.connection().is_none() {
                break;
            }
            match self.ctx.joins.take(self.ctx.now) {
                Turn::Now(id) => {
                    let needs_token =
                        self.channels.get(id).is_some_and(|slot| slot.config.is_supabase());
                    if needs_token && self.awaits_token() {
                        self.ctx.joins.hold(id);
                        continue;
                    }
                    let Some(slot) = self.channels.get_mut(id) else { continue };
                    if slot.on_input(Input::Turn, &mut self.ctx) == Fate::Gone {
                        unreachable!("a turn to join does not end a channel");
                    }
                }
                Turn::At(at) => {
                    self.ctx.timers.set(Timer::JoinBudget, at);
                    break;
                }
                Turn::Nobody => break,
            }
        }
        let channels = self.channels.len();
        if channels > 0 && self.ctx.stats.channels_live == channels {
            self.attempts = 0;
        }
    }

    /// Frames were dropped and there is room again: whatever they said, a new join says what holds
    /// now, and tells what was missed.
    fn heal_overflow(&mut self) {
        if self.is_unheard() {
            return;
        }
        let Some(from) = self.ctx.overflowed.take() else { return };
        let why = Cause::new(CauseKind::EventsOverflowed);
        for slot in self.channels.iter_mut() {
            slot.break_streams(from, &why, &mut self.ctx);
            let fate = slot.on_trouble(Input::ConfigChanged, why.clone(), &mut self.ctx);
            debug_assert_eq!(fate, Fate::Stays, "joining again does not end a channel");
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer) {
        let (now, unheard) = (self.ctx.now, self.is_unheard());
        match timer {
            Timer::Connect => {
                self.give_up_opening();
            }
            Timer::Reconnect => match &mut self.ctx.socket {
                Socket::Waiting { rests: true, .. } => self.ctx.socket = Socket::Resting,
                Socket::Waiting { retry_at, .. } if unheard => {
                    *retry_at = now + PUT_OFF_FOR;
                    self.ctx.timers.set(Timer::Reconnect, now + PUT_OFF_FOR);
                }
                Socket::Waiting { .. } => self.open_socket(),
                Socket::Offline
                | Socket::Opening { .. }
                | Socket::Online(_)
                | Socket::Stopped { .. }
                | Socket::Resting => unreachable!("only a connection that waits has this timer"),
            },
            Timer::Stable => self.attempts = 0,
            Timer::Empty => self.rest(),
            Timer::TokenExpiring => self.on_token_expiring(),
            Timer::Heartbeat => self.on_heartbeat_due(),
            Timer::HeartbeatReply => self.on_heartbeat_missed(),
            // Settling takes the turns.
            Timer::JoinBudget => {}
            Timer::Join(id) => self.with_channel(id, now, |slot, ctx| {
                let cause = join_timeout(slot.since, ctx);
                slot.on_trouble(Input::JoinTimedOut, cause, ctx)
            }),
            Timer::Rejoin(id) if unheard => self.with_channel(id, now, |slot, ctx| {
                slot.put_off_retry(now + PUT_OFF_FOR, ctx);
                Fate::Stays
            }),
            Timer::Rejoin(id) => self.on_channel_input(id, Input::RetryDue, now),
            Timer::Leave(id) => self.on_channel_input(id, Input::LeaveTimedOut, now),
            Timer::Presence(id) => self.with_channel(id, now, |slot, ctx| {
                slot.flush_track(ctx);
                Fate::Stays
            }),
            Timer::PresenceGrace(id) => self.with_channel(id, now, |slot, ctx| {
                slot.on_presence_grace(ctx);
                Fate::Stays
            }),
            Timer::Replay(id) => self.with_channel(id, now, |slot, ctx| {
                slot.finish_replay(ctx);
                Fate::Stays
            }),
            Timer::Push(id, push) => self.with_channel(id, now, |slot, ctx| {
                slot.pushes.on_timeout(push, id, ctx);
                Fate::Stays
            }),
        }
    }
}

/// Tells a server that is silent from one that is busy with something else.
fn join_timeout(sent_at: Instant, ctx: &Context) -> Cause {
    let waited = ctx.now.saturating_duration_since(sent_at);
    let heard_at = ctx.socket.connection().and_then(|connection| connection.heard_at);
    let text = match heard_at.filter(|at| *at > sent_at) {
        Some(at) => {
            let ago = ctx.now.saturating_duration_since(at);
            format!("no answer in {waited:?}; the last frame of the server came {ago:?} ago")
        }
        None => format!("no answer in {waited:?}, and no other frame of the server"),
    };
    Cause::with_text(CauseKind::JoinTimeout, text)
}

//! What every channel works with: the time, the timers, the queues, the connection.

use alloc::collections::VecDeque;

use crate::config::Config;
use crate::event::{ChannelEvent, Event, Violation};
use crate::ids::{ChannelId, ConnectionId, PushId};
use crate::outbox::Outbox;
use crate::pacing::JoinQueue;
use crate::rng::Rng;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::time::Instant;
use crate::timer::Timers;
use crate::token::Token;

/// Everything of a client but its channels.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    /// Where maps put the keys that strangers choose, so that nobody can make them collide.
    pub(crate) key_seed: u64,
    /// The latest time that any input brought; it never goes back.
    pub(crate) now: Instant,
    /// When the newest of the requests was made that the server answered: what it had sent by then
    /// has come.
    pub(crate) whole_until: Instant,
    /// Up to when everything came, if frames were dropped since.
    pub(crate) overflowed: Option<Instant>,
    pub(crate) timers: Timers,
    pub(crate) outbox: Outbox,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: Stats,
    pub(crate) socket: Socket,
    pub(crate) joins: JoinQueue,
    pub(crate) token: Token,
    /// Which of a manager's connections this is.
    pub(crate) connection: ConnectionId,
    next_push: u64,
}

impl Context {
    pub(crate) fn new(config: Config, connection: ConnectionId, seed: u64, now: Instant) -> Self {
        Self {
            rng: Rng::new(seed),
            key_seed: Rng::new(!seed).next_u64(),
            now,
            whole_until: now,
            overflowed: None,
            timers: Timers::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
            socket: Socket::Offline,
            joins: JoinQueue::new(config.limits.joins_per_second_max, now),
            token: Token::new(config.access_token.clone()),
            connection,
            next_push: 0,
            config,
        }
    }

    pub(crate) fn emit(&mut self, channel: ChannelId, event: ChannelEvent) {
        self.events.push_back(Event::Channel(channel, event));
    }

    /// A request was answered that was made at `made_at`.
    pub(crate) fn on_answer(&mut self, made_at: Instant) {
        // What was dropped does not come with a later answer.
        if self.overflowed.is_none() {
            self.whole_until = self.whole_until.max(made_at);
        }
    }

    /// There is no room for a frame's events: it is dropped, and what it said is missing.
    pub(crate) fn drop_frame(&mut self) {
        self.stats.frames_dropped += 1;
        self.overflowed.get_or_insert(self.whole_until);
    }

    pub(crate) fn violation(&mut self, violation: Violation) {
        self.stats.violations += 1;
        self.events.push_back(Event::Violation(violation));
    }

    pub(crate) const fn make_push_id(&mut self) -> PushId {
        self.next_push += 1;
        PushId { connection: self.connection, number: self.next_push }
    }
}

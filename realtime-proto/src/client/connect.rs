//! Opening, losing and reopening the connection.

use alloc::vec::Vec;

use super::Client;
use crate::channel::{Fate, Input};
use crate::event::{Event, Outcome};
use crate::ids::{ChannelId, PushId, SocketId};
use crate::outbox::Outgoing;
use crate::socket::{Connection, Socket};
use crate::supabase::{Cause, CauseKind, Retry};
use crate::timer::Timer;

impl Client {
    /// Asks the driver for a new transport.
    pub(super) fn open_socket(&mut self) {
        let id = SocketId { connection: self.ctx.connection, attempt: self.next_socket };
        self.next_socket += 1;
        self.ctx.timers.cancel(Timer::Reconnect);
        self.ctx.timers.set(Timer::Connect, self.ctx.now + self.ctx.config.connect_timeout);
        self.ctx.outbox.push(Outgoing::Open { socket: id });
        self.ctx.socket = Socket::Opening { id };
    }

    /// The transport that was asked for is open; whatever is wanted joins.
    pub(super) fn on_open(&mut self, socket: SocketId) {
        if !matches!(&self.ctx.socket, Socket::Opening { id } if *id == socket) {
            self.ctx.stats.stale_sockets += 1;
            return;
        }
        let now = self.ctx.now;
        self.ctx.socket = Socket::Online(Connection::new(socket, now));
        self.ctx.on_answer(now);
        self.ctx.stats.connects += 1;
        self.ctx.timers.cancel(Timer::Connect);
        self.ctx.timers.set(Timer::Stable, now + self.ctx.config.stable_after);
        self.schedule_heartbeat();
        self.ctx.events.push_back(Event::Connected { socket });
        for slot in self.channels.iter_mut().filter(|slot| slot.joins_on_connect()) {
            let fate = slot.on_input(Input::SocketOpened, &mut self.ctx);
            debug_assert_eq!(fate, Fate::Stays, "an open connection does not end a channel");
        }
    }

    /// The attempt to open took too long.
    pub(super) fn give_up_opening(&mut self) {
        if let Socket::Opening { id } = self.ctx.socket {
            self.ctx.outbox.close(id, "connect timeout");
            self.on_lost(Cause::new(CauseKind::ConnectTimeout));
        }
    }

    /// Ends the connection on the application's word.
    pub(super) fn close_socket(&mut self) {
        self.end_socket(CauseKind::Requested);
        self.ctx.socket = Socket::Offline;
    }

    /// Ends the connection that no channel needs, until one does. A delay runs to its end: the server
    /// may have asked for it, and the next channel is no reason to come earlier.
    pub(super) fn rest(&mut self) {
        if !self.wanted || self.channels.len() > 0 {
            return;
        }
        if matches!(self.ctx.socket, Socket::Waiting { .. }) {
            return self.rest_after_delay();
        }
        self.end_socket(CauseKind::Empty);
        self.ctx.socket = Socket::Resting;
    }

    /// Lets no attempt follow the delay that runs, if one does.
    pub(crate) const fn rest_after_delay(&mut self) {
        if let Socket::Waiting { rests, .. } = &mut self.ctx.socket {
            *rests = true;
        }
    }

    fn end_socket(&mut self, why: CauseKind) {
        if let Some(socket) = self.ctx.socket.id() {
            self.ctx.outbox.close(socket, "");
            self.on_down(socket, Cause::new(why));
        }
        self.ctx.timers.cancel(Timer::Reconnect);
    }

    /// The connection, or the attempt to open one, is over without this side asking.
    pub(super) fn on_lost(&mut self, cause: Cause) {
        let Some(socket) = self.ctx.socket.id() else { return };
        let ended = self.ctx.outbox.discard_frames(socket);
        self.ctx.stats.disconnects += 1;
        self.on_down(socket, cause);
        self.end_pushes(ended, &Outcome::Interrupted);
    }

    /// Pushes that ask for no reply end with their frames.
    pub(super) fn end_pushes(
        &mut self,
        ended: impl IntoIterator<Item = (ChannelId, PushId)>,
        outcome: &Outcome,
    ) {
        for (id, push) in ended {
            if let Some(slot) = self.channels.get_mut(id) {
                slot.pushes.on_left(push, outcome.clone(), id, &mut self.ctx);
            }
        }
    }

    /// Plans the next attempt, tells the application, then lets every channel know (G5).
    fn on_down(&mut self, socket: SocketId, cause: Cause) {
        let timers = [Timer::Connect, Timer::Stable, Timer::Heartbeat, Timer::HeartbeatReply];
        timers.into_iter().for_each(|timer| self.ctx.timers.cancel(timer));
        self.ctx.joins.clear();
        self.ctx.socket = self.plan_reconnect(&cause);
        let retry_at = self.reconnect_at();
        let disconnected = Event::Disconnected { socket, cause: cause.clone(), retry_at };
        self.ctx.events.push_back(disconnected);
        if cause.kind.retry() == Retry::NewToken {
            self.ctx.events.push_back(Event::TokenNeeded { cause: cause.clone(), deadline: None });
        }
        let channels: Vec<ChannelId> = self.channels().collect();
        for id in channels {
            let Some(slot) = self.channels.get_mut(id) else { continue };
            let fate = slot.on_trouble(Input::SocketLost, cause.clone(), &mut self.ctx);
            if fate == Fate::Gone {
                self.forget_channel(id);
            }
        }
        // What was dropped is missing since as long as all that was lost with the connection.
        self.ctx.overflowed = None;
    }

    fn plan_reconnect(&mut self, cause: &Cause) -> Socket {
        if !self.wanted {
            return Socket::Offline;
        }
        let stopped = || Socket::Stopped { cause: cause.clone() };
        if cause.kind.retry() != Retry::Backoff {
            return stopped();
        }
        self.attempts = self.attempts.saturating_add(1);
        let Some(delay) = self.ctx.config.reconnect.delay(self.attempts, &mut self.ctx.rng) else {
            return stopped();
        };
        let retry_at = self.ctx.now + delay.max(cause.retry_after.unwrap_or_default());
        self.ctx.timers.set(Timer::Reconnect, retry_at);
        Socket::Waiting { retry_at, rests: false }
    }
}

//! Heartbeats: a fixed schedule, a deadline of their own for the answer, and probes.

use super::Client;
use crate::event::Event;
use crate::ids::Ref;
use crate::outbox::Outgoing;
use crate::socket::Connection;
use crate::supabase::{Cause, CauseKind};
use crate::time::Instant;
use crate::timer::Timer;

impl Client {
    /// Arms the next beat of the schedule that began when the connection opened.
    pub(super) fn schedule_heartbeat(&mut self) {
        let Some(connection) = self.ctx.socket.connection() else { return };
        let due = connection.heartbeat.scheduled_at + self.ctx.config.heartbeat_interval;
        self.ctx.timers.set(Timer::Heartbeat, due);
    }

    pub(super) fn on_heartbeat_due(&mut self) {
        let (now, interval) = (self.ctx.now, self.ctx.config.heartbeat_interval);
        let timeout = self.ctx.config.heartbeat_timeout;
        let Some(connection) = self.ctx.socket.connection_mut() else { return };
        let due = connection.heartbeat.scheduled_at + interval;
        // Beats that were slept through are not made up for.
        let behind = now.saturating_duration_since(due) >= interval;
        connection.heartbeat.scheduled_at = if behind { now } else { due };
        if connection.heartbeat.pending.is_none() {
            self.send_heartbeat(now + timeout);
        }
        self.schedule_heartbeat();
    }

    /// Asks for an answer within the short deadline of a probe: to the heartbeat that is out, or
    /// else to one out of turn. Probing again moves no deadline, or a dead connection would live
    /// as long as the hints come.
    pub(super) fn probe_socket(&mut self) {
        let now = self.ctx.now;
        let deadline = now + self.ctx.config.probe_timeout;
        match self.ctx.timers.at(Timer::HeartbeatReply).filter(|due| *due > now) {
            Some(due) => self.ctx.timers.set(Timer::HeartbeatReply, due.min(deadline)),
            None => self.send_heartbeat(deadline),
        }
    }

    /// The machine was asleep: an answer that did not come meanwhile proves nothing, so the
    /// connection is asked again before anything is concluded.
    pub(super) fn on_wake(&mut self) {
        if self.ctx.socket.connection().is_some() {
            self.send_heartbeat(self.ctx.now + self.ctx.config.probe_timeout);
        }
    }

    pub(super) fn on_heartbeat_missed(&mut self) {
        let Some(Connection { id, .. }) = self.ctx.socket.connection() else { return };
        if let Some(until) = self.held_until().filter(|until| *until > self.ctx.now) {
            return self.ctx.timers.set(Timer::HeartbeatReply, until);
        }
        self.ctx.outbox.close(*id, "heartbeat timeout");
        self.on_lost(Cause::new(CauseKind::HeartbeatTimeout));
    }

    /// Until when the server may be busy with joins that wait for their row changes: it works on
    /// nothing else of the connection meanwhile.
    fn held_until(&self) -> Option<Instant> {
        let waiting = self.channels.iter().filter(|slot| slot.waits_within().is_some());
        waiting.filter_map(|slot| self.ctx.timers.at(Timer::Join(slot.id))).max()
    }

    /// Takes a reply on the topic `phoenix`; one that answers no pending beat is stale.
    pub(super) fn on_heartbeat_reply(&mut self, msg_ref: Option<Ref>) {
        let now = self.ctx.now;
        let Some(connection) = self.ctx.socket.connection_mut() else { return };
        match connection.heartbeat.pending {
            Some((pending, sent_at)) if Some(pending) == msg_ref => {
                connection.heartbeat.pending = None;
                let round_trip = now.saturating_duration_since(sent_at);
                self.ctx.on_answer(sent_at);
                self.ctx.timers.cancel(Timer::HeartbeatReply);
                self.ctx.stats.round_trip = Some(round_trip);
                self.ctx.events.push_back(Event::Heartbeat { round_trip });
            }
            Some(_) | None => self.ctx.stats.stale_messages += 1,
        }
    }

    fn send_heartbeat(&mut self, deadline: Instant) {
        let now = self.ctx.now;
        let Some(connection) = self.ctx.socket.connection_mut() else { return };
        let (socket, msg_ref) = (connection.id, connection.make_ref());
        connection.heartbeat.pending = Some((msg_ref, now));
        self.ctx.timers.set(Timer::HeartbeatReply, deadline);
        self.ctx.outbox.push(Outgoing::Heartbeat { socket, msg_ref });
    }
}

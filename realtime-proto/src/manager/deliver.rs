//! What the connections tell, passed on to the listeners it concerns.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Manager;
use super::event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use super::pool::Wire;
use super::registry::KeyId;
use crate::channel::{Awaits, Stream};
use crate::event::{ChannelEvent, Event};
use crate::ids::ConnectionId;
use crate::presence::PresenceDiff;
use crate::supabase::{Cause, CauseKind, Retry};
use crate::time::Instant;

impl Manager {
    /// Takes what the connections have to tell to those it concerns.
    pub(super) fn pump(&mut self, now: Instant) {
        self.advance(now);
        while let Some((connection, event)) = self.pool.poll_event() {
            match event {
                Event::Connected { .. } => {
                    self.events.push_back(ManagerEvent::Connected { connection });
                }
                Event::Disconnected { cause, retry_at, .. } => {
                    let told =
                        ManagerEvent::Disconnected { connection, cause: cause.clone(), retry_at };
                    self.events.push_back(told);
                    self.on_disconnected(connection, &cause, retry_at);
                }
                Event::TokenNeeded { cause, deadline } => {
                    self.on_token_needed(connection, cause, deadline);
                }
                Event::Violation(violation) => {
                    self.events.push_back(ManagerEvent::Violation(violation));
                }
                Event::Heartbeat { round_trip } => {
                    self.events.push_back(ManagerEvent::Heartbeat { connection, round_trip });
                }
                Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) => {
                    self.events.push_back(ManagerEvent::PushEnded { push, outcome });
                }
                Event::Channel(channel, event) => {
                    self.on_channel_event(Wire { connection, channel }, event);
                }
            }
        }
        self.end_cleanups();
        if !self.wants_frames() {
            self.pool.on_unheard();
        }
    }

    /// All connections use one token, so what one misses is told once: the others add nothing,
    /// until one asks again or the token serves no more.
    fn on_token_needed(
        &mut self,
        connection: ConnectionId,
        cause: Cause,
        deadline: Option<Instant>,
    ) {
        let again = !self.token_asked_by.insert((connection, deadline.is_none()));
        let first = !self
            .token_asked_by
            .iter()
            .any(|(other, expired)| *other != connection && *expired == deadline.is_none());
        if again {
            self.token_asked_by = BTreeSet::from([(connection, deadline.is_none())]);
        }
        if again || first {
            self.events.push_back(ManagerEvent::TokenNeeded { cause, deadline });
        }
    }

    /// What became of a connection is news for its channels that wait for it, too.
    pub(super) fn on_disconnected(
        &mut self,
        connection: ConnectionId,
        cause: &Cause,
        retry_at: Option<Instant>,
    ) {
        for id in self.registry.ids_on(connection) {
            let shared = self.shared(id);
            if shared.wire.is_none_or(|wire| wire.connection != connection) {
                continue;
            }
            let status = match (&shared.status, retry_at) {
                (ChannelStatus::Reconnecting { .. }, Some(_)) => {
                    let (attempt, cause) = (shared.attempts + 1, cause.clone());
                    self.shared_mut(id).attempts = attempt;
                    ChannelStatus::Reconnecting { attempt, next_at: retry_at, cause }
                }
                (ChannelStatus::Reconnecting { .. }, None)
                    if cause.kind == CauseKind::Requested =>
                {
                    ChannelStatus::Connecting
                }
                (ChannelStatus::Reconnecting { .. } | ChannelStatus::Connecting, None)
                    if cause.kind != CauseKind::Requested =>
                {
                    ChannelStatus::Error { cause: cause.clone() }
                }
                _ => continue,
            };
            self.set_status(id, status);
        }
    }

    fn on_channel_event(&mut self, wire: Wire, event: ChannelEvent) {
        let Some(id) = self.registry.owner(wire) else { return };
        let leaving = self.shared(id).wire != Some(wire);
        if leaving && !matches!(event, ChannelEvent::Closed { .. }) {
            return;
        }
        match event {
            ChannelEvent::Joined { .. } => self.set_status(id, ChannelStatus::Connected),
            ChannelEvent::Live => {
                self.shared_mut(id).attempts = 0;
                self.end_outage(id);
                self.set_status(id, ChannelStatus::Live);
            }
            ChannelEvent::ChangesStopped { cause } => {
                self.begin_outage(id, &cause);
                // For a while the server tries again by itself.
                let is_final = cause.kind.retry() == Retry::Never;
                let error = ChannelStatus::Error { cause };
                self.set_status(id, if is_final { error } else { ChannelStatus::Connected });
            }
            // Until the next join is accepted nothing flows.
            ChannelEvent::Rejoining { cause } => {
                self.begin_outage(id, &cause);
                self.set_status(id, ChannelStatus::Connected);
            }
            ChannelEvent::Errored { cause, retry_at } => self.on_errored(id, cause, retry_at),
            ChannelEvent::Closed { cause } => self.on_closed(id, wire, cause),
            ChannelEvent::Broadcast(broadcast) => {
                self.shared_mut(id).delivered += 1;
                self.tell_all(id, &LeaseEvent::Broadcast(broadcast));
            }
            ChannelEvent::Presence(diff) => self.on_presence(id, wire, diff),
            ChannelEvent::Change { bindings, change } => {
                let shared = self.shared_mut(id);
                shared.delivered += 1;
                shared.last_commit = shared.last_commit.max(change.committed_unix());
                let listeners = shared.listeners_of(bindings);
                self.tell(&listeners, &LeaseEvent::Change(change));
            }
            ChannelEvent::Gap(gap) => {
                let listeners = self.shared(id).losers(wire, gap.loss, &gap.stream);
                self.tell(&listeners, &LeaseEvent::Gap(gap));
            }
            ChannelEvent::Recovered(recovery) => {
                let listeners = self.shared(id).losers(wire, recovery.loss, &Stream::Messages);
                self.tell(&listeners, &LeaseEvent::Recovered(recovery));
            }
            ChannelEvent::System(system) => self.tell_all(id, &LeaseEvent::System(system)),
            ChannelEvent::TrackRefused { response } => {
                self.tell_all(id, &LeaseEvent::TrackRefused { response });
            }
            // Entities have no messages of their own, and pushes were taken out above.
            ChannelEvent::Message { .. }
            | ChannelEvent::PushEnded { .. }
            | ChannelEvent::PresenceCalls(_) => {}
        }
    }

    fn on_errored(&mut self, id: KeyId, cause: Cause, retry_at: Option<Instant>) {
        self.begin_outage(id, &cause);
        let connection = self.shared(id).wire.map(|wire| wire.connection);
        let client = connection.and_then(|connection| self.pool.client(connection));
        let next_at = retry_at.or_else(|| client?.reconnect_at());
        let asked_for = cause.kind == CauseKind::Requested;
        let shared = self.shared_mut(id);
        shared.attempts += 1;
        shared.last_error = Some(cause.clone());
        if !shared.settings.auto_reconnect && !asked_for {
            let now = self.now;
            self.drop_wire(id, now);
            return self.set_status(id, ChannelStatus::Error { cause });
        }
        let status = if next_at.is_some() {
            ChannelStatus::Reconnecting { attempt: shared.attempts, next_at, cause }
        } else if asked_for {
            // The application disconnected; the channel is back as soon as it connects again.
            ChannelStatus::Connecting
        } else {
            ChannelStatus::Error { cause }
        };
        self.set_status(id, status);
    }

    /// A wire channel is gone: as wanted, or because the server closed it for good.
    fn on_closed(&mut self, id: KeyId, wire: Wire, cause: Cause) {
        if self.shared(id).wire == Some(wire) {
            self.begin_outage(id, &cause);
        }
        self.registry.remove_wire(wire);
        self.cleanups.forget(wire);
        let shared = self.shared_mut(id);
        shared.leaving.retain(|leaving| *leaving != wire);
        if shared.wire == Some(wire) {
            shared.wire = None;
            shared.bindings.clear();
            shared.last_error = Some(cause.clone());
            if shared.holders.is_empty() {
                self.registry.set_linger(id, None);
                self.set_status(id, ChannelStatus::Closed);
            } else {
                self.set_status(id, ChannelStatus::Error { cause });
            }
        }
        self.registry.remove_if_unused(id);
    }

    fn on_presence(&mut self, id: KeyId, wire: Wire, diff: PresenceDiff) {
        let Some(slot) = self.pool.slot(wire) else { return };
        let Some(shared) = self.registry.get_mut(id) else { return };
        shared.delivered += 1;
        let users = shared.people.fold(diff, &slot.presence);
        if !users.is_empty() {
            self.tell_all(id, &LeaseEvent::Presence(users));
        }
    }

    /// A channel that was given up is on its way again, unless it waits for the application.
    pub(super) fn resume(&mut self, id: KeyId) {
        let shared = self.shared(id);
        let (ChannelStatus::Error { .. }, Some(wire)) = (&shared.status, shared.wire) else {
            return;
        };
        let client = self.pool.client(wire.connection).filter(|client| !client.is_stopped());
        let info = client.and_then(|client| client.channel_info(wire.channel));
        let waits = info.and_then(|info| info.awaits);
        if !matches!(waits, None | Some(Awaits::Application | Awaits::Token)) {
            self.set_status(id, ChannelStatus::Connecting);
        }
    }

    pub(super) fn set_status(&mut self, id: KeyId, status: ChannelStatus) {
        let now = self.now;
        let shared = self.shared_mut(id);
        let key = Arc::clone(&shared.key);
        if shared.set_status(status.clone(), now) {
            self.events.push_back(ManagerEvent::Channel { key, status: status.clone() });
            self.tell_all(id, &LeaseEvent::Status(status));
        }
    }

    pub(super) fn tell(&mut self, listeners: &[LeaseId], event: &LeaseEvent) {
        let told = listeners.iter().map(|lease| ManagerEvent::Lease(*lease, event.clone()));
        self.events.extend(told);
    }

    fn tell_all(&mut self, id: KeyId, event: &LeaseEvent) {
        let listeners: Vec<LeaseId> = self.shared(id).holders.keys().copied().collect();
        self.tell(&listeners, event);
    }
}

//! What the client tells, passed on to the listeners it concerns.

use alloc::vec::Vec;

use super::Manager;
use super::entity::EntityKey;
use super::event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use crate::channel::Stream;
use crate::event::{ChannelEvent, Event};
use crate::ids::ChannelId;
use crate::supabase::{Cause, CauseKind};
use crate::time::Instant;

impl Manager {
    /// Takes what the client has to tell to those it concerns.
    pub(super) fn pump(&mut self, now: Instant) {
        self.advance(now);
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected { .. } => self.events.push_back(ManagerEvent::Connected),
                Event::Disconnected { cause, retry_at, .. } => {
                    let told = ManagerEvent::Disconnected { cause: cause.clone(), retry_at };
                    self.events.push_back(told);
                    self.on_disconnected(&cause, retry_at);
                }
                Event::TokenNeeded { cause, deadline } => {
                    self.events.push_back(ManagerEvent::TokenNeeded { cause, deadline });
                }
                Event::Violation(violation) => {
                    self.events.push_back(ManagerEvent::Violation(violation));
                }
                Event::Heartbeat { .. } => {}
                Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) => {
                    self.events.push_back(ManagerEvent::PushEnded { push, outcome });
                }
                Event::Channel(channel, event) => self.on_channel_event(channel, event),
            }
        }
    }

    /// What became of the connection is news for the channels that wait for it, too.
    pub(super) fn on_disconnected(&mut self, cause: &Cause, retry_at: Option<Instant>) {
        let keys: Vec<EntityKey> = self.shared.keys().cloned().collect();
        for key in keys {
            let status = match (&self.shared_mut(&key).status, retry_at) {
                (ChannelStatus::Reconnecting { attempt, .. }, Some(_)) => {
                    let (attempt, cause) = (*attempt, cause.clone());
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
            self.set_status(&key, status);
        }
    }

    pub(super) fn on_channel_event(&mut self, channel: ChannelId, event: ChannelEvent) {
        let Some(key) = self.owners.get(&channel).cloned() else { return };
        let leaving = self.shared.get(&key).is_some_and(|shared| shared.leaving.contains(&channel));
        if leaving && !matches!(event, ChannelEvent::Closed { .. }) {
            return;
        }
        match event {
            ChannelEvent::Joined { .. } => self.set_status(&key, ChannelStatus::Connected),
            ChannelEvent::Live => {
                self.shared_mut(&key).attempts = 0;
                self.set_status(&key, ChannelStatus::Live);
            }
            ChannelEvent::Errored { cause, retry_at } => self.on_errored(&key, cause, retry_at),
            ChannelEvent::Closed { cause } => self.on_closed(&key, channel, cause),
            ChannelEvent::Broadcast(broadcast) => {
                self.deliver_to_all(&key, &LeaseEvent::Broadcast(broadcast));
            }
            ChannelEvent::Presence(diff) => self.deliver_to_all(&key, &LeaseEvent::Presence(diff)),
            ChannelEvent::Change { bindings, change } => {
                let listeners = self.shared_mut(&key).listeners_of(bindings);
                self.deliver(&key, &listeners, &LeaseEvent::Change(change));
            }
            ChannelEvent::Gap(gap) => {
                let listeners = match &gap.stream {
                    Stream::Messages => self.shared_mut(&key).holders.keys().copied().collect(),
                    Stream::Changes { bindings, .. } => {
                        self.shared_mut(&key).listeners_of(*bindings)
                    }
                };
                for lease in listeners {
                    let told = LeaseEvent::Gap(gap.clone());
                    self.events.push_back(ManagerEvent::Lease(lease, told));
                }
            }
            ChannelEvent::Recovered(recovery) => {
                self.tell_all(&key, &LeaseEvent::Recovered(recovery));
            }
            ChannelEvent::System(system) => self.tell_all(&key, &LeaseEvent::System(system)),
            ChannelEvent::TrackRefused { response } => {
                self.tell_all(&key, &LeaseEvent::TrackRefused { response });
            }
            // Entities have no messages of their own, and pushes were taken out above.
            ChannelEvent::Message { .. }
            | ChannelEvent::PushEnded { .. }
            | ChannelEvent::Rejoining { .. }
            | ChannelEvent::PresenceCalls(_) => {}
        }
    }

    pub(super) fn on_errored(&mut self, key: &EntityKey, cause: Cause, retry_at: Option<Instant>) {
        let next_at = retry_at.or_else(|| self.client.reconnect_at());
        let shared = self.shared_mut(key);
        shared.attempts += 1;
        let status = if next_at.is_some() {
            ChannelStatus::Reconnecting { attempt: shared.attempts, next_at, cause }
        } else if cause.kind == CauseKind::Requested {
            // The application disconnected; the channel is back as soon as it connects again.
            ChannelStatus::Connecting
        } else {
            ChannelStatus::Error { cause }
        };
        self.set_status(key, status);
    }

    /// A wire channel is gone: as wanted, or because the server closed it for good.
    pub(super) fn on_closed(&mut self, key: &EntityKey, channel: ChannelId, cause: Cause) {
        self.owners.remove(&channel);
        let shared = self.shared_mut(key);
        shared.leaving.retain(|leaving| *leaving != channel);
        let lost = shared.channel == Some(channel);
        if lost {
            shared.channel = None;
            shared.bindings.clear();
        }
        if shared.channel.is_some() {
            return;
        }
        if shared.holders.is_empty() && shared.leaving.is_empty() {
            self.shared.remove(key);
        } else if lost && !shared.holders.is_empty() {
            self.set_status(key, ChannelStatus::Error { cause });
        }
    }

    pub(super) fn set_status(&mut self, key: &EntityKey, status: ChannelStatus) {
        let now = self.now;
        if self.shared_mut(key).set_status(status.clone(), now) {
            self.tell_all(key, &LeaseEvent::Status(status));
        }
    }

    pub(super) fn deliver_to_all(&mut self, key: &EntityKey, event: &LeaseEvent) {
        self.shared_mut(key).delivered += 1;
        self.tell_all(key, event);
    }

    pub(super) fn deliver(&mut self, key: &EntityKey, listeners: &[LeaseId], event: &LeaseEvent) {
        self.shared_mut(key).delivered += 1;
        for lease in listeners {
            self.events.push_back(ManagerEvent::Lease(*lease, event.clone()));
        }
    }

    pub(super) fn tell_all(&mut self, key: &EntityKey, event: &LeaseEvent) {
        let Some(shared) = self.shared.get(key) else { return };
        for lease in shared.holders.keys() {
            self.events.push_back(ManagerEvent::Lease(*lease, event.clone()));
        }
    }
}

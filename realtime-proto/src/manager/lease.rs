//! Leases and the wire channels behind them: opened for the first, left after the last.

use alloc::vec::Vec;

use super::Manager;
use super::config::ManagerError;
use super::entity::{EntityKey, Kind};
use super::event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use super::shared::{Holder, Shared};
use super::user::User;
use crate::config::ChannelConfig;
use crate::error::{BindError, PushError};
use crate::payload::Payload;
use crate::presence::{Member, PresenceDiff};
use crate::supabase::{Binding, JoinConfig, PresenceConfig};
use crate::time::Instant;

impl Manager {
    /// Opens the wire channel of a key if there is none, with all that its listeners want.
    pub(super) fn open(
        &mut self,
        key: &EntityKey,
        user: Option<&User>,
        now: Instant,
    ) -> Result<(), ManagerError> {
        self.advance(now);
        if self.shared.get(key).is_some_and(|shared| shared.channel.is_some()) {
            return Ok(());
        }
        let mut config = JoinConfig::default();
        if let Some(user) = user {
            config.presence = PresenceConfig { key: user.user_id.clone(), enabled: true };
        }
        let config = ChannelConfig::supabase(config).with_rejoin(self.rejoin.clone());
        let channel = self.client.open_channel(&key.topic(), config, now)?;
        self.owners.insert(channel, key.clone());
        let (now_max, shared) = (self.now, self.shared.entry(key.clone()));
        let shared = shared.or_insert_with(|| Shared::new(now_max));
        shared.channel = Some(channel);
        for binding in shared.wanted_bindings() {
            self.bind(key, &binding, now)?;
        }
        if let Some(user) = user {
            self.track(key, user.to_payload().map_err(PushError::from)?, now)?;
        }
        // It may follow one that is being left, or that the server closed.
        self.set_status(key, ChannelStatus::Connecting);
        Ok(())
    }

    /// Asks for row changes unless the channel does already.
    pub(super) fn bind(
        &mut self,
        key: &EntityKey,
        binding: &Binding,
        now: Instant,
    ) -> Result<(), BindError> {
        let shared = self.shared_mut(key);
        if shared.binding_id(binding).is_some() {
            return Ok(());
        }
        let channel = shared.channel;
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            let id = channel.bind(binding.clone(), now)?;
            self.shared_mut(key).bindings.push((binding.clone(), id));
        }
        Ok(())
    }

    /// Stops delivering row changes that no listener wants any more.
    pub(super) fn prune_bindings(&mut self, key: &EntityKey) {
        let Some(shared) = self.shared.get_mut(key) else { return };
        let wanted = shared.wanted_bindings();
        let channel = shared.channel;
        for (binding, id) in core::mem::take(&mut shared.bindings) {
            if wanted.contains(&binding) {
                shared.bindings.push((binding, id));
            } else if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
                channel.unbind(id);
            }
        }
    }

    pub(super) fn shared_mut(&mut self, key: &EntityKey) -> &mut Shared {
        self.shared.get_mut(key).expect("the key was opened by the caller")
    }

    pub(super) fn track(
        &mut self,
        key: &EntityKey,
        tracked: Payload,
        now: Instant,
    ) -> Result<(), ManagerError> {
        let channel = self.shared_mut(key).channel;
        if let Some(mut channel) = channel.and_then(|id| self.client.channel(id)) {
            channel.track(tracked, now)?;
        }
        Ok(())
    }

    /// Takes a listener in and tells it how things are.
    pub(super) fn hold(
        &mut self,
        key: EntityKey,
        binding: Option<Binding>,
        now: Instant,
    ) -> LeaseId {
        self.next_lease += 1;
        let (lease, since) = (LeaseId(self.next_lease), self.now);
        let shared = self.shared_mut(&key);
        shared.linger_until = None;
        shared.holders.insert(lease, Holder { binding, since });
        let first = shared.first_event();
        let channel = shared.channel;
        self.events.push_back(ManagerEvent::Lease(lease, first));
        if let (Kind::Presence, Some(channel)) =
            (key.kind, channel.and_then(|id| self.client.channel(id)))
        {
            // Whoever is missing since a reconnect is told as here until the grace is over.
            let presence = channel.presence();
            let joined: Vec<Member> = presence.list().chain(presence.missed()).collect();
            if !joined.is_empty() {
                let synced = !channel.presence().is_stale();
                let diff = PresenceDiff { joined, synced, ..PresenceDiff::default() };
                self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Presence(diff)));
            }
        }
        self.prune_bindings(&key);
        self.leases.insert(lease, key);
        self.pump(now);
        lease
    }

    /// Ends a listener, and with it the binding that nobody else asked for. The last listener's
    /// stays while the channel lingers, so that the same listener coming back needs no join.
    pub(super) fn drop_holder(&mut self, key: &EntityKey, lease: LeaseId) {
        self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Ended));
        let Some(shared) = self.shared.get_mut(key) else { return };
        shared.holders.remove(&lease);
        if !shared.holders.is_empty() {
            self.prune_bindings(key);
        }
    }

    /// Whether no push of a key's channel waits for anything.
    pub(super) fn is_idle(&self, key: &EntityKey) -> bool {
        let channel = self.shared.get(key).and_then(|shared| shared.channel);
        channel.and_then(|id| self.client.slot(id)).is_none_or(|slot| slot.pushes.is_idle())
    }

    pub(super) fn linger_if_unheld(&mut self, key: &EntityKey, now: Instant) {
        let until = now.max(self.now) + self.linger;
        if let Some(shared) = self.shared.get_mut(key) {
            if shared.holders.is_empty() {
                shared.linger_until = Some(until);
            }
        }
    }

    /// Leaves the wire channel of a key.
    pub(super) fn leave(&mut self, key: &EntityKey, now: Instant) {
        let Some(shared) = self.shared.get_mut(key) else { return };
        shared.linger_until = None;
        let Some(channel) = shared.channel.take() else {
            if shared.leaving.is_empty() {
                self.shared.remove(key);
            }
            return;
        };
        shared.leaving.push(channel);
        shared.bindings.clear();
        shared.user = None;
        shared.status = ChannelStatus::Closed;
        shared.since = self.now;
        self.client.close_channel(channel, now);
    }
}

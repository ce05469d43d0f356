//! Leases and the wire channels behind them: opened for the first, left after the last.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Manager;
use super::config::{ChannelSettings, ManagerError};
use super::entity::EntityKey;
use super::event::{ChannelStatus, LeaseEvent, LeaseId, ManagerEvent};
use super::people::UserDiff;
use super::pool::Wire;
use super::registry::KeyId;
use super::shared::Holder;
use super::user::User;
use crate::channel::{Awaits, Slot};
use crate::config::ChannelConfig;
use crate::error::{BindError, PushError};
use crate::payload::Payload;
use crate::supabase::{Binding, BroadcastConfig, Cause, CauseKind, JoinConfig, PresenceConfig};
use crate::time::Instant;

impl Manager {
    /// The key, with a wire channel that asks for all its listeners want.
    ///
    /// On an error nothing is left behind that was not there before.
    pub(super) fn open(
        &mut self,
        key: &EntityKey,
        asked: Option<&ChannelSettings>,
        user: Option<&User>,
        now: Instant,
    ) -> Result<KeyId, ManagerError> {
        let now = self.advance(now);
        let known = self.registry.id(key);
        let settings = match known {
            Some(id) => self.settle_settings(id, asked, now)?,
            None => asked.copied().unwrap_or(self.config.channels),
        };
        // Settling may have left the channel of other settings.
        if let Some(id) = known {
            if let Some(wire) = self.shared(id).wire {
                if self.shared(id).holders.is_empty() {
                    self.take_up(id, wire, now);
                }
                return Ok(id);
            }
        } else {
            self.check_quota(key)?;
        }
        let wire = self.pool.open_channel(&key.topic(), self.channel(settings, user), now)?;
        let id = match known {
            Some(id) => id,
            None => self.registry.insert(key, settings, self.now),
        };
        self.registry.set_wire(id, wire);
        let shared = self.shared_mut(id);
        shared.settings = settings;
        shared.people.outdate();
        for binding in self.shared(id).wanted_bindings() {
            self.bind(id, &binding, now)?;
        }
        if let Some(user) = user {
            self.track(id, user.to_payload().map_err(PushError::from)?, now)?;
        }
        // It may follow one that is being left, or that the server closed.
        if known.is_none() {
            let status = ChannelStatus::Connecting;
            let key = Arc::clone(&self.shared(id).key);
            self.events.push_back(ManagerEvent::Channel { key, status });
        }
        self.set_status(id, ChannelStatus::Connecting);
        Ok(id)
    }

    /// Lets a lingering channel that was given up join again: who asks for it now knows nothing of
    /// what went before. One that was refused for its token waits for another token still.
    fn take_up(&mut self, id: KeyId, wire: Wire, now: Instant) {
        let client = self.pool.client(wire.connection);
        let info = client.and_then(|client| client.channel_info(wire.channel));
        if info.and_then(|info| info.awaits) != Some(Awaits::Application) {
            return;
        }
        if let Some(mut channel) = self.pool.channel(wire) {
            channel.rejoin(now);
            self.resume(id);
        }
    }

    /// What the channel is like from now on: as it is, or as asked once nobody holds it.
    fn settle_settings(
        &mut self,
        id: KeyId,
        asked: Option<&ChannelSettings>,
        now: Instant,
    ) -> Result<ChannelSettings, ManagerError> {
        let shared = self.shared(id);
        // A broadcast that waits is not given up for other settings either.
        let in_use = !shared.holders.is_empty() || !self.is_idle(id);
        let held = shared.settings;
        if !in_use && shared.wire.is_none() {
            // It is being left: whoever comes now finds nothing of it.
            return Ok(asked.copied().unwrap_or(self.config.channels));
        }
        let Some(asked) = asked else { return Ok(held) };
        let Some(setting) = held.conflict(asked) else { return Ok(held) };
        if in_use {
            return Err(ManagerError::Conflict { key: (*shared.key).clone(), setting });
        }
        // Only the linger keeps the channel of those who were here.
        self.leave(id, now);
        Ok(*asked)
    }

    fn check_quota(&self, key: &EntityKey) -> Result<(), ManagerError> {
        let (Some(tenant), Some(max)) = (key.entity.tenant(), self.config.tenant_channels_max)
        else {
            return Ok(());
        };
        if self.registry.tenant_channels(tenant) < max {
            return Ok(());
        }
        Err(ManagerError::TenantFull { tenant: tenant.into(), max })
    }

    /// Refuses another listener when there are as many as there may be.
    pub(super) fn check_leases(&self) -> Result<(), ManagerError> {
        let max = self.config.leases_max;
        if self.registry.leases_held() < max {
            Ok(())
        } else {
            Err(ManagerError::TooManyLeases { max })
        }
    }

    fn channel(&self, settings: ChannelSettings, user: Option<&User>) -> ChannelConfig {
        let presence = user.map(|user| PresenceConfig { key: user.user_id.clone(), enabled: true });
        let join = JoinConfig {
            broadcast: BroadcastConfig { ack: settings.ack, ..BroadcastConfig::default() },
            presence: presence.unwrap_or_default(),
            private: settings.private,
            ..JoinConfig::default()
        };
        ChannelConfig::supabase(join).with_rejoin(self.config.rejoin_of(&settings))
    }

    /// Asks for row changes unless the channel does already.
    pub(super) fn bind(
        &mut self,
        id: KeyId,
        binding: &Binding,
        now: Instant,
    ) -> Result<(), BindError> {
        let shared = self.shared(id);
        if shared.binding_id(binding).is_some() {
            return Ok(());
        }
        if let Some(mut channel) = shared.wire.and_then(|wire| self.pool.channel(wire)) {
            let bound = channel.bind(binding.clone(), now)?;
            let bindings = &mut self.shared_mut(id).bindings;
            // Most keys have one.
            bindings.reserve_exact(1);
            bindings.push((binding.clone(), bound));
        }
        self.lower_unless_served(id);
        Ok(())
    }

    /// A channel is not live while something that was asked for waits for its next join.
    fn lower_unless_served(&mut self, id: KeyId) {
        let shared = self.shared(id);
        let slot = shared.wire.and_then(|wire| self.pool.slot(wire));
        let is_served = slot.is_none_or(Slot::serves_bindings);
        if shared.is_live() && !is_served {
            self.begin_outage(id, &Cause::new(CauseKind::Rejoined));
            self.set_status(id, ChannelStatus::Connected);
        }
    }

    /// Stops delivering row changes that no listener wants any more.
    fn prune_bindings(&mut self, id: KeyId) {
        let now = self.now;
        let shared = self.shared_mut(id);
        let wanted = shared.wanted_bindings();
        let wire = shared.wire;
        for (binding, bound) in core::mem::take(&mut shared.bindings) {
            if wanted.contains(&binding) {
                self.shared_mut(id).bindings.push((binding, bound));
            } else if let Some(mut channel) = wire.and_then(|wire| self.pool.channel(wire)) {
                channel.unbind(bound, now);
            }
        }
    }

    pub(super) fn track(
        &mut self,
        id: KeyId,
        tracked: Payload,
        now: Instant,
    ) -> Result<(), ManagerError> {
        let wire = self.shared(id).wire;
        if let Some(mut channel) = wire.and_then(|wire| self.pool.channel(wire)) {
            channel.track(tracked, now)?;
        }
        Ok(())
    }

    /// Takes a listener in and tells it how things are.
    pub(super) fn hold(
        &mut self,
        id: KeyId,
        binding: Option<Binding>,
        label: Option<String>,
        now: Instant,
    ) -> LeaseId {
        // What it asks for may have the channel join again, and then it is not live.
        self.pump(now);
        let wire = self.shared(id).wire;
        let found = wire.and_then(|wire| Some((wire, self.pool.slot(wire)?.streams.losses())));
        let lease = self.registry.hold(id, Holder { binding, label, since: self.now, found });
        let shared = self.shared(id);
        let first = shared.first_event();
        // Whoever is missing since a reconnect is told as here until the grace is over.
        let joined = shared.people.told();
        let fresh = shared.wire.and_then(|wire| self.pool.slot(wire));
        let synced = fresh.is_some_and(|slot| !slot.presence.is_stale());
        self.events.push_back(ManagerEvent::Lease(lease, first));
        // Nobody is who is here, too, once the snapshot said so.
        let users = UserDiff { joined, synced, ..UserDiff::default() };
        if !users.is_empty() {
            self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Presence(users)));
        }
        self.prune_bindings(id);
        self.pump(now);
        lease
    }

    /// Ends a listener, and with it the binding that nobody else asked for. The last listener's
    /// stays while the channel lingers, so that the same listener coming back needs no join.
    pub(super) fn drop_holder(&mut self, lease: LeaseId) -> Option<KeyId> {
        let id = self.registry.release(lease)?;
        self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Ended));
        if !self.shared(id).holders.is_empty() {
            self.prune_bindings(id);
        }
        Some(id)
    }

    /// Whether no push of a key's channel waits for anything.
    pub(super) fn is_idle(&self, id: KeyId) -> bool {
        let wire = self.shared(id).wire;
        wire.and_then(|wire| self.pool.slot(wire)).is_none_or(|slot| slot.pushes.is_idle())
    }

    pub(super) fn linger_if_unheld(&mut self, id: KeyId) {
        if self.shared(id).holders.is_empty() {
            self.registry.set_linger(id, Some(self.now + self.config.linger));
        }
    }

    /// Ends all listeners of a key and leaves its channel without lingering.
    pub(super) fn close(&mut self, id: KeyId, now: Instant) {
        self.set_status(id, ChannelStatus::Closed);
        let leases: Vec<LeaseId> = self.shared(id).holders.keys().copied().collect();
        for lease in leases {
            self.registry.release(lease);
            self.events.push_back(ManagerEvent::Lease(lease, LeaseEvent::Ended));
        }
        self.leave(id, now);
    }

    /// Leaves the wire channel of a key that nobody holds.
    pub(super) fn leave(&mut self, id: KeyId, now: Instant) {
        self.registry.set_linger(id, None);
        self.drop_wire(id, now);
        self.shared_mut(id).user = None;
        self.set_status(id, ChannelStatus::Closed);
        self.registry.remove_if_unused(id);
    }

    /// Lets go of the wire channel of a key, whose last word is yet to come.
    pub(super) fn drop_wire(&mut self, id: KeyId, now: Instant) {
        let shared = self.shared_mut(id);
        let Some(wire) = shared.wire.take() else { return };
        shared.leaving.push(wire);
        shared.bindings.clear();
        self.pool.close_channel(wire, now);
    }
}

//! Which keys there are, who holds them, and which wire channel is whose.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::config::ChannelSettings;
use super::entity::EntityKey;
use super::event::LeaseId;
use super::pool::Wire;
use super::shared::{Holder, Shared};
use crate::ids::ConnectionId;
use crate::time::Instant;

/// A key by its number, which is never another's: what is kept of a key that went finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyId(u64);

/// Everything a manager looks up.
///
/// The maps are private so that each change keeps them in step: a lease has a key that it holds,
/// a wire channel has an owner, a tenant is counted once a key, and whoever lingers is in the
/// order of their deadlines.
#[derive(Debug, Default)]
pub(super) struct Registry {
    ids: BTreeMap<Arc<EntityKey>, KeyId>,
    shared: BTreeMap<KeyId, Box<Shared>>,
    owners: BTreeMap<Wire, KeyId>,
    leases: BTreeMap<LeaseId, KeyId>,
    lingering: BTreeSet<(Instant, KeyId)>,
    tenants: BTreeMap<String, usize>,
    next_key: u64,
    next_lease: u64,
}

impl Registry {
    pub(super) fn id(&self, key: &EntityKey) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    pub(super) fn find(&self, key: &EntityKey) -> Option<&Shared> {
        self.get(self.id(key)?)
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&Shared> {
        self.shared.get(&id).map(|shared| &**shared)
    }

    pub(super) fn get_mut(&mut self, id: KeyId) -> Option<&mut Shared> {
        self.shared.get_mut(&id).map(|shared| &mut **shared)
    }

    /// Everything there is, in the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Shared> {
        self.ids.values().filter_map(|id| self.get(*id))
    }

    /// The keys of a tenant, or all of them.
    pub(super) fn ids_of(&self, tenant: Option<&str>) -> Vec<KeyId> {
        let of_tenant = |key: &EntityKey| tenant.is_none() || key.entity.tenant() == tenant;
        self.ids.iter().filter(|(key, _)| of_tenant(key)).map(|(_, id)| *id).collect()
    }

    /// The keys whose wire channels are on a connection, those that are being left included.
    pub(super) fn ids_on(&self, connection: ConnectionId) -> Vec<KeyId> {
        let owners = self.owners.range(Wire::first_on(connection)..);
        owners.take_while(|(wire, _)| wire.connection == connection).map(|(_, id)| *id).collect()
    }

    pub(super) fn tenant_channels(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).copied().unwrap_or(0)
    }

    pub(super) fn leases_held(&self) -> usize {
        self.leases.len()
    }

    /// Adds a key that has no wire channel yet.
    pub(super) fn insert(
        &mut self,
        key: &EntityKey,
        settings: ChannelSettings,
        now: Instant,
    ) -> KeyId {
        self.next_key += 1;
        let (id, key) = (KeyId(self.next_key), Arc::new(key.clone()));
        if let Some(tenant) = key.entity.tenant() {
            *self.tenants.entry(tenant.into()).or_default() += 1;
        }
        self.shared.insert(id, Box::new(Shared::new(Arc::clone(&key), settings, now)));
        let replaced = self.ids.insert(key, id);
        assert!(replaced.is_none(), "a key has one shared channel");
        id
    }

    /// Forgets a key that nobody holds and that has no wire channel.
    pub(super) fn remove_if_unused(&mut self, id: KeyId) {
        let Some(shared) = self.shared.get(&id) else { return };
        if shared.wire.is_some() || !shared.leaving.is_empty() || !shared.holders.is_empty() {
            return;
        }
        self.set_linger(id, None);
        let Some(shared) = self.shared.remove(&id) else { return };
        self.ids.remove(&*shared.key);
        if let Some(tenant) = shared.key.entity.tenant() {
            if let Some(count) = self.tenants.get_mut(tenant) {
                *count -= 1;
                if *count == 0 {
                    self.tenants.remove(tenant);
                }
            }
        }
    }

    /// Gives a key its wire channel.
    pub(super) fn set_wire(&mut self, id: KeyId, wire: Wire) {
        self.owners.insert(wire, id);
        if let Some(shared) = self.shared.get_mut(&id) {
            shared.wire = Some(wire);
        }
    }

    pub(super) fn owner(&self, wire: Wire) -> Option<KeyId> {
        self.owners.get(&wire).copied()
    }

    /// A wire channel is gone.
    pub(super) fn remove_wire(&mut self, wire: Wire) -> Option<KeyId> {
        self.owners.remove(&wire)
    }

    /// Takes a listener in, which ends the linger.
    pub(super) fn hold(&mut self, id: KeyId, holder: Holder) -> LeaseId {
        self.next_lease += 1;
        let lease = LeaseId(self.next_lease);
        self.set_linger(id, None);
        if let Some(shared) = self.shared.get_mut(&id) {
            shared.holders.insert(lease, Box::new(holder));
            self.leases.insert(lease, id);
        }
        lease
    }

    /// The listener that came last, whether it is still here or not.
    pub(super) const fn newest_lease(&self) -> LeaseId {
        LeaseId(self.next_lease)
    }

    /// Lets a listener go, and tells what it held.
    pub(super) fn release(&mut self, lease: LeaseId) -> Option<KeyId> {
        let id = self.leases.remove(&lease)?;
        if let Some(shared) = self.shared.get_mut(&id) {
            shared.holders.remove(&lease);
        }
        Some(id)
    }

    /// Sets until when a key that nobody holds keeps its channel.
    pub(super) fn set_linger(&mut self, id: KeyId, until: Option<Instant>) {
        let Some(shared) = self.shared.get_mut(&id) else { return };
        if let Some(until) = shared.linger_until.take() {
            self.lingering.remove(&(until, id));
        }
        shared.linger_until = until;
        if let Some(until) = until {
            self.lingering.insert((until, id));
        }
    }

    /// When the next linger is over.
    pub(super) fn linger_deadline(&self) -> Option<Instant> {
        self.lingering.first().map(|(until, _)| *until)
    }

    /// The next key whose linger is over.
    pub(super) fn pop_lingered(&mut self, now: Instant) -> Option<KeyId> {
        let (until, id) = *self.lingering.first()?;
        if until > now {
            return None;
        }
        self.set_linger(id, None);
        Some(id)
    }
}

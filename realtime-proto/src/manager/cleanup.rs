//! Cleaning up: everything is left at once, and it is told when the last leave has ended.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Manager;
use super::event::{CleanupId, ManagerEvent};
use super::pool::Wire;
use crate::time::Instant;

/// The clean-ups that are under way, and the wire channels each of them waits for.
///
/// A channel that is opened afterwards is nothing to them, so that each ends within the leave
/// timeout, whoever asks for what meanwhile.
#[derive(Debug, Default)]
pub(super) struct Cleanups {
    next: u64,
    waiting: BTreeMap<CleanupId, BTreeSet<Wire>>,
}

impl Cleanups {
    fn begin(&mut self, leaving: BTreeSet<Wire>) -> CleanupId {
        self.next += 1;
        let cleanup = CleanupId(self.next);
        self.waiting.insert(cleanup, leaving);
        cleanup
    }

    /// A wire channel is gone.
    pub(super) fn forget(&mut self, wire: Wire) {
        for leaving in self.waiting.values_mut() {
            leaving.remove(&wire);
        }
    }

    /// The next clean-up that waits for nothing any more.
    fn pop_ended(&mut self) -> Option<CleanupId> {
        let ended = self.waiting.iter().find(|(_, leaving)| leaving.is_empty());
        let cleanup = *ended?.0;
        self.waiting.remove(&cleanup);
        Some(cleanup)
    }
}

impl Manager {
    /// Ends every listener and leaves every channel without lingering.
    ///
    /// [`ManagerEvent::CleanedUp`] tells when the leaves were acknowledged or timed out, once. What
    /// is asked for meanwhile is opened anew, and not waited for.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig, ManagerEvent};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// let cleanup = manager.cleanup_all_channels(now);
    /// assert_eq!(manager.active_channels().count(), 0);
    /// // Offline there is nothing to leave.
    /// let events: Vec<_> = core::iter::from_fn(|| manager.poll_event()).collect();
    /// assert_eq!(events.last(), Some(&ManagerEvent::CleanedUp { cleanup }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cleanup_all_channels(&mut self, now: Instant) -> CleanupId {
        self.cleanup(None, now)
    }

    /// The same for the channels of one tenant.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// for tenant in ["acme", "initech"] {
    ///     let contact = Entity::new("contact", "123").in_tenant(tenant);
    ///     manager.subscribe_to_entity(&contact, &EntityOptions::default(), now)?;
    /// }
    /// manager.cleanup_tenant("acme", now);
    /// assert_eq!(manager.channel_stats().by_tenant.keys().collect::<Vec<_>>(), ["initech"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cleanup_tenant(&mut self, tenant: &str, now: Instant) -> CleanupId {
        self.cleanup(Some(tenant), now)
    }

    fn cleanup(&mut self, tenant: Option<&str>, now: Instant) -> CleanupId {
        let now = self.advance(now);
        let ids = self.registry.ids_of(tenant);
        for id in &ids {
            self.close(*id, now);
        }
        let left = ids.iter().filter_map(|id| self.registry.get(*id));
        let leaving = left.flat_map(|shared| shared.leaving.iter().copied()).collect();
        let cleanup = self.cleanups.begin(leaving);
        self.pump(now);
        cleanup
    }

    /// Tells of the clean-ups that have ended.
    pub(super) fn end_cleanups(&mut self) {
        while let Some(cleanup) = self.cleanups.pop_ended() {
            self.events.push_back(ManagerEvent::CleanedUp { cleanup });
        }
    }
}

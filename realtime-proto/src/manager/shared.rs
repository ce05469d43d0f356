//! One shared channel: who holds it, what they asked for, and how it is.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::ChannelSettings;
use super::entity::EntityKey;
use super::event::{ChannelStatus, LeaseEvent, LeaseId};
use super::gap::Outage;
use super::people::People;
use super::pool::Wire;
use super::user::User;
use crate::channel::Stream;
use crate::event::{BindingId, BindingSet};
use crate::supabase::{Binding, Cause};
use crate::time::Instant;

/// A key, its wire channel and its listeners.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) key: Arc<EntityKey>,
    pub(super) settings: ChannelSettings,
    /// The wire channel; none after it was closed for good.
    pub(super) wire: Option<Wire>,
    /// Wire channels that are being left; another may be on its way already.
    pub(super) leaving: Vec<Wire>,
    /// Boxed, since most keys have one holder and a map has room for eleven.
    pub(super) holders: BTreeMap<LeaseId, Box<Holder>>,
    /// The row changes asked for, each with its place in the wire channel.
    pub(super) bindings: Vec<(Binding, BindingId)>,
    /// As whom this client appears; presence channels only.
    pub(super) user: Option<User>,
    /// Who was told to be here; presence channels only.
    pub(super) people: People,
    pub(super) status: ChannelStatus,
    pub(super) since: Instant,
    /// Since it was last live.
    pub(super) attempts: u32,
    /// Why it was lost or refused last.
    pub(super) last_error: Option<Cause>,
    /// When the channel is left, because nobody holds it.
    pub(super) linger_until: Option<Instant>,
    pub(super) delivered: u64,
    /// When the last row change that came had been committed, by the database's clock.
    pub(super) last_commit: Option<Duration>,
    /// Since when it is not live any more, if it was.
    pub(super) outage: Option<Outage>,
}

/// What one listener asked for.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) binding: Option<Binding>,
    pub(super) label: Option<String>,
    pub(super) since: Instant,
    /// The wire channel that it found, and how often that had been lost by then: what was missed
    /// by these losses was missed by others.
    pub(super) found: Option<(Wire, u64)>,
}

impl Holder {
    /// Whether it was here when a wire channel was lost for this time.
    fn met(&self, wire: Wire, loss: u64) -> bool {
        self.found.is_none_or(|(found, losses)| found != wire || losses < loss)
    }
}

impl Shared {
    pub(super) fn new(key: Arc<EntityKey>, settings: ChannelSettings, now: Instant) -> Self {
        Self {
            key,
            settings,
            wire: None,
            leaving: Vec::new(),
            holders: BTreeMap::new(),
            bindings: Vec::new(),
            user: None,
            people: People::default(),
            status: ChannelStatus::Connecting,
            since: now,
            attempts: 0,
            last_error: None,
            linger_until: None,
            delivered: 0,
            last_commit: None,
            outage: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.status == ChannelStatus::Live
    }

    pub(super) fn binding_id(&self, binding: &Binding) -> Option<BindingId> {
        self.bindings.iter().find(|(held, _)| held == binding).map(|(_, id)| *id)
    }

    /// The row changes that listeners want, each once.
    pub(super) fn wanted_bindings(&self) -> Vec<Binding> {
        let mut wanted: Vec<Binding> =
            self.holders.values().filter_map(|holder| holder.binding.clone()).collect();
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// The listeners a row change is for.
    pub(super) fn listeners_of(&self, bindings: BindingSet) -> Vec<LeaseId> {
        let wants = |holder: &Holder| {
            let id = holder.binding.as_ref().and_then(|binding| self.binding_id(binding));
            id.is_some_and(|id| bindings.contains(id))
        };
        let holders = self.holders.iter().filter(|(_, holder)| wants(holder));
        holders.map(|(lease, _)| *lease).collect()
    }

    /// The listeners that missed what a loss of this wire channel cost a stream.
    pub(super) fn losers(&self, wire: Wire, loss: u64, stream: &Stream) -> Vec<LeaseId> {
        let mut losers = match stream {
            Stream::Messages => self.holders.keys().copied().collect(),
            Stream::Changes { bindings, .. } => self.listeners_of(*bindings),
        };
        losers.retain(|lease| self.holders.get(lease).is_some_and(|holder| holder.met(wire, loss)));
        losers
    }

    /// Takes another status, and tells whether it is one.
    pub(super) fn set_status(&mut self, status: ChannelStatus, now: Instant) -> bool {
        if self.status == status {
            return false;
        }
        self.status = status;
        self.since = now;
        true
    }

    /// The event every listener begins with.
    pub(super) fn first_event(&self) -> LeaseEvent {
        LeaseEvent::Status(self.status.clone())
    }
}

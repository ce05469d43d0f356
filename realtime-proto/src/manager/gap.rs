//! What the listeners of a shared channel missed when it got another wire channel.
//!
//! A wire channel tells what was missed while it was away. One that the server closed for good
//! tells nothing any more, and the next one does not know that anybody listened before.

use alloc::vec::Vec;
use core::time::Duration;

use super::Manager;
use super::event::{LeaseEvent, LeaseId};
use super::pool::Wire;
use super::registry::KeyId;
use crate::channel::{Gap, Stream};
use crate::event::BindingSet;
use crate::supabase::Cause;
use crate::time::Instant;

/// Since when a wire channel, which was live then, may not have told everything.
#[derive(Debug)]
pub(super) struct Outage {
    wire: Wire,
    /// All that the server had sent by then has come.
    whole_until: Instant,
    /// The listener that came last before it began.
    newest: LeaseId,
    why: Cause,
}

impl Manager {
    /// A channel that was live is not any more.
    pub(super) fn begin_outage(&mut self, id: KeyId, why: &Cause) {
        let shared = self.shared(id);
        let Some(wire) = shared.wire.filter(|_| shared.is_live() && shared.outage.is_none()) else {
            return;
        };
        let client = self.pool.client(wire.connection);
        let whole_until = client.map_or(Instant::EPOCH, crate::Client::whole_until);
        let newest = self.registry.newest_lease();
        let outage = Outage { wire, whole_until, newest, why: why.clone() };
        self.shared_mut(id).outage = Some(outage);
    }

    /// A channel is live again: on another wire channel, those who listened before are told what
    /// they may have missed.
    pub(super) fn end_outage(&mut self, id: KeyId) {
        let shared = self.shared_mut(id);
        let Some(outage) = shared.outage.take().filter(|it| shared.wire != Some(it.wire)) else {
            return;
        };
        let holders = shared.holders.range(..=outage.newest);
        let (mut all, mut with_rows) = (Vec::<LeaseId>::new(), Vec::new());
        let mut bindings = BindingSet::default();
        for (lease, holder) in holders {
            all.push(*lease);
            if let Some(bound) =
                holder.binding.as_ref().and_then(|binding| shared.binding_id(binding))
            {
                with_rows.push(*lease);
                bindings.insert(bound);
            }
        }
        let last_commit = shared.last_commit;
        let changes = Stream::Changes { bindings, last_commit };
        for (leases, stream) in [(all, Stream::Messages), (with_rows, changes)] {
            let gap = Gap {
                stream,
                from: outage.whole_until,
                to: self.now,
                from_unix: self.unix_at(outage.whole_until),
                why: outage.why.clone(),
                // The channel that could have counted it is gone.
                loss: 0,
            };
            self.tell(&leases, &LeaseEvent::Gap(gap));
        }
    }

    fn unix_at(&self, at: Instant) -> Option<Duration> {
        let ago = self.now.saturating_duration_since(at);
        Some(self.pool.unix_now(self.now)?.saturating_sub(ago))
    }
}

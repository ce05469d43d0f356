//! Who is here: the members of a channel, kept equal to the server's.
//!
//! The server sends a snapshot after each join and diffs from then on. Diffs that come before the
//! snapshot of the current join are held and applied on top of it, since they may not be part of
//! it. Across a reconnect the old members are kept, and the next snapshot is compared with them
//! once, so that nobody appears to leave and come back.
//!
//! Protocol §4.2.

mod diff;
mod payload;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use self::payload::Members;
use crate::limits::Limits;
use crate::payload::Payload;

/// The members of one channel, by key.
///
/// # Examples
///
/// ```
/// use realtime_proto::Presence;
///
/// fn names(presence: &Presence) -> Vec<&str> {
///     presence.members().map(|(key, _metas)| key).collect()
/// }
/// assert!(names(&Presence::default()).is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Presence {
    members: Members,
    snapshot: Snapshot,
}

/// Whether the members are those of the current join.
#[derive(Debug)]
enum Snapshot {
    /// The snapshot of the current join has not come; diffs are held, oldest first.
    Awaited { held: VecDeque<Payload> },
    /// The snapshot came, and diffs are applied as they come.
    Taken,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::Awaited { held: VecDeque::new() }
    }
}

/// One appearance of a member: a device, a tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The server's name for this appearance, new with every update.
    pub phx_ref: String,
    /// The name it had before the update that made it.
    pub phx_ref_prev: Option<String>,
    /// The whole object, with what the client tracked and the server's refs.
    pub value: Payload,
}

/// A member: a key and its appearances, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// The appearances.
    pub metas: Vec<Meta>,
}

/// How the members changed, folded so that each key appears at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceDiff {
    /// Members that came, with all their metas.
    pub joined: Vec<Member>,
    /// Members that stay with other metas, with all they have now.
    pub updated: Vec<Member>,
    /// Members that went, with the metas they had.
    pub left: Vec<Member>,
    /// Whether this is the difference a snapshot made, after which the view equals the server's.
    pub synced: bool,
}

impl PresenceDiff {
    /// Whether it tells nothing: nobody came, changed or went, and it is no snapshot's.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.updated.is_empty() && self.left.is_empty() && !self.synced
    }
}

/// What became of a presence message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The members are as the message says.
    Changed(PresenceDiff),
    /// The diff waits for the snapshot.
    Held,
    /// The payload is not one of presence.
    Malformed,
    /// There is no room for it.
    Overflow(PresenceDiff),
}

impl Presence {
    /// The members in the order of their keys.
    pub fn members(&self) -> impl Iterator<Item = (&str, &[Meta])> {
        self.members.iter().map(|(key, metas)| (key.as_str(), metas.as_slice()))
    }

    /// The appearances of one member, oldest first; empty when it is not here.
    #[must_use]
    pub fn metas(&self, key: &str) -> &[Meta] {
        self.members.get(key).map_or(&[], Vec::as_slice)
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the members may differ from the server's, because the snapshot of the current join
    /// has not come.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self.snapshot, Snapshot::Awaited { .. })
    }

    /// A join was sent or the connection went: the next snapshot decides.
    pub(crate) fn await_snapshot(&mut self) {
        self.snapshot = Snapshot::default();
    }

    /// Takes a snapshot.
    pub(crate) fn on_state(&mut self, payload: &Payload, limits: &Limits) -> Applied {
        let Some(snapshot) = payload::read_state(payload) else {
            return Applied::Malformed;
        };
        let before = self.members.clone();
        diff::sync_state(&mut self.members, snapshot);
        if let Snapshot::Awaited { held } = core::mem::replace(&mut self.snapshot, Snapshot::Taken)
        {
            for payload in held {
                if let Some((joins, leaves)) = payload::read_diff(&payload) {
                    diff::sync_diff(&mut self.members, joins, leaves);
                }
            }
        }
        let mut overflow = false;
        for metas in self.members.values_mut() {
            overflow |= cut(metas, limits.presence_metas_max);
        }
        overflow |= self.enforce(limits.presence_keys_max);
        let diff = PresenceDiff { synced: true, ..diff::fold(&before, &self.members) };
        if overflow { Applied::Overflow(diff) } else { Applied::Changed(diff) }
    }

    /// Takes a diff; its cost depends on the members it names, not on all there are.
    pub(crate) fn on_diff(&mut self, payload: Payload, limits: &Limits) -> Applied {
        let Some((joins, leaves)) = payload::read_diff(&payload) else {
            return Applied::Malformed;
        };
        if let Snapshot::Awaited { held } = &mut self.snapshot {
            if held.len() >= limits.presence_diffs_held_max {
                return Applied::Overflow(PresenceDiff::default());
            }
            // A held diff must not keep the whole frame it came in.
            held.push_back(payload.detached());
            return Applied::Held;
        }
        let keys: Vec<String> = joins.keys().chain(leaves.keys()).cloned().collect();
        let touched = |members: &Members| -> Members {
            let entry = |key: &String| Some((key.clone(), members.get(key)?.clone()));
            keys.iter().filter_map(entry).collect()
        };
        let before = touched(&self.members);
        diff::sync_diff(&mut self.members, joins, leaves);
        let mut overflow = false;
        for key in &keys {
            let metas = self.members.get_mut(key);
            overflow |= metas.is_some_and(|metas| cut(metas, limits.presence_metas_max));
        }
        overflow |= self.enforce(limits.presence_keys_max);
        let diff = diff::fold(&before, &touched(&self.members));
        if overflow { Applied::Overflow(diff) } else { Applied::Changed(diff) }
    }

    /// Leaves out the members beyond the limit, last keys first.
    fn enforce(&mut self, keys_max: usize) -> bool {
        let overflow = self.members.len() > keys_max;
        while self.members.len() > keys_max {
            self.members.pop_last();
        }
        overflow
    }
}

/// Leaves out the appearances beyond the limit, the newest first.
fn cut(metas: &mut Vec<Meta>, max: usize) -> bool {
    let overflow = metas.len() > max;
    metas.truncate(max);
    overflow
}

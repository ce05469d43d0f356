//! The folded view: each member that came, changed or went, once.

use alloc::vec::Vec;

use super::keyed::Keyed;
use super::member::{Entry, Member};

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

/// Compares the members that were touched, as they were `before`, with how they are now.
///
/// Whoever is `missed` was told as present all along, so that coming back is no joining.
pub(super) fn fold(
    before: Keyed<Option<Entry>>,
    members: &Keyed<Entry>,
    missed: &mut Keyed<Entry>,
) -> PresenceDiff {
    let mut diff = PresenceDiff::default();
    for (key, before) in before.into_entries() {
        let after = members.get(&key);
        let told = if after.is_some() { before.or_else(|| missed.remove(&key)) } else { before };
        match (told, after) {
            (None, None) => {}
            (None, Some(after)) => diff.joined.push(after.to_member(&key)),
            (Some(told), Some(after)) if told == *after => {}
            (Some(_), Some(after)) => diff.updated.push(after.to_member(&key)),
            (Some(told), None) => diff.left.push(told.into_member(key)),
        }
    }
    diff
}

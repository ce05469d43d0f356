//! The view of the official client: which callbacks it would call.

use super::member::Member;

/// A callback that the `Presence` of phoenix.js would call, with what it would pass.
///
/// Calls come in its order (protocol §4.2): for each message the joins, then the leaves, then one
/// [`Sync`](Self::Sync). An update is a join of the new meta and a leave of the old one. Where a
/// message names several keys, those that could be the index of an array come first, by their
/// number, as in every object of JavaScript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceCall {
    /// `onJoin(key, current, newPresence)`; the key is that of `new`.
    Join {
        /// The member as it was before, if it was here.
        current: Option<Member>,
        /// The metas that joined, and no others.
        new: Member,
    },
    /// `onLeave(key, current, leftPresence)`; the key is that of `left`.
    Leave {
        /// The member with the metas that remain; it is gone when there are none.
        current: Member,
        /// The metas that left, as the server named them, known or not.
        left: Member,
    },
    /// `onSync()`: the message is applied, and a snapshot with every diff that waited for it.
    Sync,
}

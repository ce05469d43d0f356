//! Presence folded from keys to users: one entry a user, however many devices or keys.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::user::User;
use crate::presence::{Meta, Presence, PresenceDiff};

/// How the users on an entity changed, each named at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserDiff {
    /// Users that came.
    pub joined: Vec<User>,
    /// Users that stay and show something else, or on other devices.
    pub updated: Vec<User>,
    /// Users that went, as they were seen last.
    pub left: Vec<User>,
    /// Whether the view equals the server's after this: it is the difference that a snapshot made,
    /// or all that a listener that came late had missed.
    pub synced: bool,
}

impl UserDiff {
    /// Whether it tells nothing: nobody came, changed or went, and it is no snapshot's.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.updated.is_empty() && self.left.is_empty() && !self.synced
    }
}

/// Which users the listeners were told of, and by which presence keys they are known.
#[derive(Debug, Default)]
pub(super) struct People {
    user_of: BTreeMap<String, String>,
    seen: BTreeMap<String, Seen>,
    /// Whether they were seen on a wire channel that is gone, so that the next snapshot decides
    /// who is still here.
    outdated: bool,
}

/// A user, as it was told last.
#[derive(Debug, Default)]
struct Seen {
    told: Option<User>,
    keys: BTreeSet<String>,
}

impl People {
    /// What follows comes from another wire channel.
    pub(super) const fn outdate(&mut self) {
        self.outdated = true;
    }

    /// Folds what happened to keys into what happened to users; `presence` is as it is afterwards.
    pub(super) fn fold(&mut self, diff: PresenceDiff, presence: &Presence) -> UserDiff {
        let mut folded = UserDiff { synced: diff.synced, ..UserDiff::default() };
        let mut concerned: BTreeMap<String, Option<User>> = BTreeMap::new();
        for member in diff.joined.iter().chain(&diff.updated) {
            let user = User::of_member(member);
            concerned.extend(self.unlink(&member.key).map(|id| (id, None)));
            let id = user.user_id.clone();
            self.user_of.insert(member.key.clone(), id.clone());
            self.seen.entry(id.clone()).or_default().keys.insert(member.key.clone());
            concerned.insert(id, Some(user));
        }
        let outdated = diff.synced && core::mem::take(&mut self.outdated);
        let gone = self.user_of.keys().filter(|key| outdated && presence.metas(key).is_empty());
        let gone: Vec<String> = gone.cloned().collect();
        for key in gone.iter().chain(diff.left.iter().map(|member| &member.key)) {
            if let Some(id) = self.unlink(key) {
                concerned.entry(id).or_insert(None);
            }
        }
        for (id, newest) in concerned {
            let Some(seen) = self.seen.get_mut(&id) else { continue };
            if seen.keys.is_empty() {
                folded.left.extend(self.seen.remove(&id).and_then(|seen| seen.told));
                continue;
            }
            let mut metas = seen.keys.iter().flat_map(|key| presence.metas(key)).peekable();
            let user = if metas.peek().is_some() { Some(User::read(&id, metas)) } else { newest };
            // In the grace of the channel nothing is known of it but what was told.
            let Some(user) = user else { continue };
            match seen.told.replace(user.clone()) {
                None => folded.joined.push(user),
                Some(told) if told != user => folded.updated.push(user),
                Some(_) => {}
            }
        }
        folded
    }

    /// The users that were told to be here, in the order of their ids.
    pub(super) fn told(&self) -> Vec<User> {
        self.seen.values().filter_map(|seen| seen.told.clone()).collect()
    }

    /// Takes a key from its user, whom it tells.
    fn unlink(&mut self, key: &str) -> Option<String> {
        let id = self.user_of.remove(key)?;
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.keys.remove(key);
        }
        Some(id)
    }
}

/// The users among the members of a presence channel, one entry a user, in the order of their ids.
pub(super) fn users_of(presence: &Presence) -> Vec<User> {
    let mut metas_of: BTreeMap<String, Vec<&Meta>> = BTreeMap::new();
    for (key, metas) in presence.members() {
        metas_of.entry(User::id_of(key, metas)).or_default().extend(metas);
    }
    metas_of.into_iter().map(|(id, metas)| User::read(&id, metas)).collect()
}

//! The merge of presence, exactly as the official client does it (protocol §4.2).

use alloc::string::String;
use alloc::vec::Vec;

use super::calls::PresenceCall;
use super::keyed::Keyed;
use super::member::{Entry, Refs};
use super::payload::Diff;

/// What the messages that are merged do.
#[derive(Debug)]
pub(super) struct Log {
    /// The members that were touched, as they were before.
    pub(super) before: Keyed<Option<Entry>>,
    /// The calls of the official client, if somebody wants them.
    pub(super) calls: Option<Vec<PresenceCall>>,
}

impl Log {
    pub(super) fn new(seed: u64, calls: bool) -> Self {
        Self { before: Keyed::new(seed), calls: calls.then(Vec::new) }
    }

    fn touch(&mut self, key: &str, entry: Option<&Entry>) {
        if !self.before.contains(key) {
            self.before.insert(key.into(), entry.cloned());
        }
    }

    pub(super) fn call(&mut self, call: impl FnOnce() -> PresenceCall) {
        if let Some(calls) = &mut self.calls {
            calls.push(call());
        }
    }
}

/// Makes `members` what a snapshot says, keeping the metas that were known already.
pub(super) fn sync_state(members: &mut Keyed<Entry>, snapshot: Keyed<Entry>, log: &mut Log) {
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for (key, current) in members.iter() {
        if !snapshot.contains(key) {
            leaves.push((key.into(), current.clone()));
        }
    }
    for (key, mut new) in snapshot.into_entries() {
        if let Some(current) = members.get(&key) {
            let (new_refs, current_refs) = (Refs::of(&new.metas), Refs::of(&current.metas));
            let left = current.metas.iter().filter(|meta| !new_refs.hold(meta));
            let left = Entry { metas: left.cloned().collect(), extra: current.extra.clone() };
            if !left.metas.is_empty() {
                leaves.push((key.clone(), left));
            }
            new.metas.retain(|meta| !current_refs.hold(meta));
            if new.metas.is_empty() {
                continue;
            }
        }
        joins.push((key, new));
    }
    apply(members, joins, leaves, log);
}

/// Applies a diff.
pub(super) fn sync_diff(members: &mut Keyed<Entry>, diff: Diff, log: &mut Log) {
    let joins = diff.joins.into_entries().collect();
    apply(members, joins, diff.leaves.into_entries().collect(), log);
}

/// Applies joins before leaves, so that an update never empties a member.
fn apply(
    members: &mut Keyed<Entry>,
    joins: Vec<(String, Entry)>,
    leaves: Vec<(String, Entry)>,
    log: &mut Log,
) {
    for (key, joined) in in_order_of_calls(joins) {
        let current = members.get_mut(&key);
        log.touch(&key, current.as_deref());
        log.call(|| PresenceCall::Join {
            current: current.as_ref().map(|current| current.to_member(&key)),
            new: joined.to_member(&key),
        });
        match current {
            Some(current) => current.merge(joined),
            None => drop(members.insert(key, joined)),
        }
    }
    for (key, left) in in_order_of_calls(leaves) {
        let Some(current) = members.get_mut(&key) else { continue };
        log.touch(&key, Some(current));
        current.remove(&left.metas);
        log.call(|| PresenceCall::Leave {
            current: current.to_member(&key),
            left: left.to_member(&key),
        });
        if current.metas.is_empty() {
            members.remove(&key);
        }
    }
}

/// The order in which JavaScript goes through an object, and so the one of the calls: keys that
/// could be an index of an array come first, by their number.
fn in_order_of_calls(mut entries: Vec<(String, Entry)>) -> Vec<(String, Entry)> {
    entries.sort_by_key(|(key, _)| array_index(key).unwrap_or(u32::MAX));
    entries
}

fn array_index(key: &str) -> Option<u32> {
    let canonical = key == "0" || key.starts_with(|first: char| matches!(first, '1'..='9'));
    let index = key.parse().ok().filter(|_| canonical)?;
    (index < u32::MAX).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_in_the_order_of_a_javascript_object() {
        // `Object.keys(JSON.parse('{"b":0,"10":0,"4294967295":0,"01":0,"-1":0,"9":0,"a":0,"0":0}'))`
        let keys = ["b", "10", "4294967295", "01", "-1", "9", "a", "0", "4294967294"];
        let entry = Entry { metas: Vec::new(), extra: None };
        let entries = keys.map(|key| (key.into(), entry.clone())).into();
        let ordered: Vec<String> =
            in_order_of_calls(entries).into_iter().map(|(key, _)| key).collect();
        assert_eq!(ordered, ["0", "9", "10", "4294967294", "b", "4294967295", "01", "-1", "a"]);
    }
}

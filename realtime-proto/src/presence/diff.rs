//! The merge of presence, exactly as the official client does it, and its folded view.

use alloc::string::String;
use alloc::vec::Vec;

use super::payload::Members;
use super::{Member, Meta, PresenceDiff};

/// Makes `members` what a snapshot says, keeping the metas that were known already.
pub(super) fn sync_state(members: &mut Members, snapshot: Members) {
    let mut joins = Members::new();
    let mut leaves = Members::new();
    for (key, metas) in members.iter() {
        let Some(new) = snapshot.get(key) else {
            leaves.insert(key.clone(), metas.clone());
            continue;
        };
        let gone: Vec<Meta> = metas.iter().filter(|meta| !holds(new, meta)).cloned().collect();
        if !gone.is_empty() {
            leaves.insert(key.clone(), gone);
        }
    }
    for (key, mut metas) in snapshot {
        if let Some(current) = members.get(&key) {
            metas.retain(|meta| !holds(current, meta));
            if metas.is_empty() {
                continue;
            }
        }
        joins.insert(key, metas);
    }
    sync_diff(members, joins, leaves);
}

/// Applies a diff: joins first, so that an update never empties a member.
pub(super) fn sync_diff(members: &mut Members, joins: Members, leaves: Members) {
    for (key, mut joined) in joins {
        let metas = members.entry(key).or_default();
        metas.retain(|meta| !holds(&joined, meta));
        metas.append(&mut joined);
    }
    for (key, left) in leaves {
        let Some(metas) = members.get_mut(&key) else { continue };
        metas.retain(|meta| !holds(&left, meta));
        if metas.is_empty() {
            members.remove(&key);
        }
    }
}

/// Compares the same keys before and after: who came, who changed, who went.
pub(super) fn fold(before: &Members, after: &Members) -> PresenceDiff {
    let mut diff = PresenceDiff::default();
    let member =
        |(key, metas): (&String, &Vec<Meta>)| Member { key: key.clone(), metas: metas.clone() };
    for entry in after {
        match before.get(entry.0) {
            None => diff.joined.push(member(entry)),
            Some(metas) if metas != entry.1 => diff.updated.push(member(entry)),
            Some(_) => {}
        }
    }
    diff.left.extend(before.iter().filter(|(key, _)| !after.contains_key(*key)).map(member));
    diff
}

fn holds(metas: &[Meta], meta: &Meta) -> bool {
    metas.iter().any(|other| other.phx_ref == meta.phx_ref)
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::vec;

    use super::*;
    use crate::limits::Limits;
    use crate::payload::Payload;
    use crate::presence::{Applied, Presence};

    fn few(presence_keys_max: usize, presence_diffs_held_max: usize) -> Limits {
        Limits { presence_keys_max, presence_diffs_held_max, ..Limits::default() }
    }

    fn payload(text: &str) -> Payload {
        Payload::from_json(text).unwrap()
    }

    fn entry(key: &str, refs: &[&str]) -> String {
        let metas: Vec<String> = refs.iter().map(|r| format!(r#"{{"phx_ref":"{r}"}}"#)).collect();
        format!(r#""{key}":{{"metas":[{}]}}"#, metas.join(","))
    }

    fn diff(joins: &[String], leaves: &[String]) -> Payload {
        payload(&format!(
            r#"{{"joins":{{{}}},"leaves":{{{}}}}}"#,
            joins.join(","),
            leaves.join(",")
        ))
    }

    fn changed(applied: Applied) -> PresenceDiff {
        let Applied::Changed(diff) = applied else { panic!("{applied:?}") };
        diff
    }

    fn synced(members: &[String]) -> Presence {
        let mut presence = Presence::default();
        presence.on_state(&payload(&format!("{{{}}}", members.join(","))), &few(10, 10));
        presence
    }

    fn refs(presence: &Presence, key: &str) -> Vec<String> {
        presence.metas(key).iter().map(|meta| meta.phx_ref.to_string()).collect()
    }

    #[test]
    fn an_update_is_one_updated_and_no_leave() {
        let mut presence = synced(&[entry("ana", &["1"])]);
        let update = diff(&[entry("ana", &["2"])], &[entry("ana", &["1"])]);
        let diff = changed(presence.on_diff(update, &few(10, 10)));
        assert_eq!((diff.joined.len(), diff.updated.len(), diff.left.len()), (0, 1, 0));
        assert_eq!(refs(&presence, "ana"), ["2"]);
    }

    #[test]
    fn a_member_is_gone_only_when_the_last_device_is() {
        let mut presence = synced(&[entry("ana", &["1", "2"])]);
        let one = changed(presence.on_diff(diff(&[], &[entry("ana", &["1"])]), &few(10, 10)));
        assert_eq!((one.updated.len(), one.left.len()), (1, 0));
        let two = changed(presence.on_diff(diff(&[], &[entry("ana", &["2"])]), &few(10, 10)));
        assert_eq!((two.updated.len(), two.left.len()), (0, 1));
        assert!(presence.is_empty());
    }

    #[test]
    fn diffs_before_the_snapshot_are_applied_on_top_of_it() {
        let mut presence = Presence::default();
        let early = diff(&[entry("bob", &["9"])], &[entry("ana", &["1"])]);
        assert_eq!(presence.on_diff(early, &few(10, 1)), Applied::Held);
        let late = diff(&[], &[]);
        assert_eq!(presence.on_diff(late, &few(10, 1)), Applied::Overflow(PresenceDiff::default()));
        let state = payload(&format!("{{{}}}", entry("ana", &["1"])));
        let diff = changed(presence.on_state(&state, &few(10, 10)));
        assert!(diff.synced);
        assert_eq!(diff.joined.iter().map(|m| &*m.key).collect::<Vec<_>>(), ["bob"]);
        assert_eq!(presence.len(), 1);
    }

    #[test]
    fn a_snapshot_after_a_reconnect_is_compared_once() {
        let mut presence = synced(&[entry("ana", &["1"]), entry("bob", &["2"])]);
        presence.await_snapshot();
        assert!(presence.is_stale());
        assert_eq!(presence.len(), 2);
        let state = format!("{{{},{}}}", entry("bob", &["3"]), entry("cy", &["4"]));
        let diff = changed(presence.on_state(&payload(&state), &few(10, 10)));
        let keys = |members: &[Member]| -> Vec<String> {
            members.iter().map(|member| member.key.clone()).collect()
        };
        assert_eq!(keys(&diff.joined), ["cy"]);
        assert_eq!(keys(&diff.updated), ["bob"]);
        assert_eq!(keys(&diff.left), ["ana"]);
    }

    #[test]
    fn keys_that_trip_javascript_are_ordinary_keys() {
        let presence = synced(&[entry("__proto__", &["1"]), entry("constructor", &["2"])]);
        let keys: Vec<&str> = presence.members().map(|(key, _)| key).collect();
        assert_eq!(keys, vec!["__proto__", "constructor"]);
    }

    #[test]
    fn members_beyond_the_limit_are_left_out_and_told() {
        let mut presence = Presence::default();
        let state = format!("{{{},{}}}", entry("a", &["1"]), entry("b", &["2"]));
        assert!(matches!(presence.on_state(&payload(&state), &few(1, 10)), Applied::Overflow(_)));
        assert_eq!(presence.len(), 1);
    }
}

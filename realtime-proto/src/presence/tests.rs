use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::rng::Rng;

const NOW: Instant = Instant::EPOCH;

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

fn state(members: &[String]) -> Payload {
    payload(&format!("{{{}}}", members.join(",")))
}

fn diff(joins: &[String], leaves: &[String]) -> Payload {
    payload(&format!(r#"{{"joins":{{{}}},"leaves":{{{}}}}}"#, joins.join(","), leaves.join(",")))
}

fn synced(members: &[String]) -> Presence {
    let mut presence = Presence::new(&few(10, 10), 1);
    presence.handle_state(&state(members), NOW).unwrap();
    presence
}

fn refs(presence: &Presence, key: &str) -> Vec<String> {
    presence.metas(key).iter().map(|meta| meta.phx_ref.to_string()).collect()
}

fn keys(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.key.as_str()).collect()
}

/// Who came, changed and went.
fn told(diff: &PresenceDiff) -> [Vec<&str>; 3] {
    [keys(&diff.joined), keys(&diff.updated), keys(&diff.left)]
}

const NOBODY: Vec<&str> = Vec::new();

#[test]
fn an_update_is_one_updated_and_no_leave() {
    let mut presence = synced(&[entry("ana", &["1"])]);
    let update = diff(&[entry("ana", &["2"])], &[entry("ana", &["1"])]);
    let update = presence.handle_diff(&update).unwrap();
    assert_eq!(told(&update.diff), [NOBODY, vec!["ana"], NOBODY]);
    assert_eq!(refs(&presence, "ana"), ["2"]);
}

#[test]
fn a_member_is_gone_only_when_the_last_device_is() {
    let mut presence = synced(&[entry("ana", &["1", "2"])]);
    let one = presence.handle_diff(&diff(&[], &[entry("ana", &["1"])])).unwrap();
    assert_eq!(told(&one.diff), [NOBODY, vec!["ana"], NOBODY]);
    let two = presence.handle_diff(&diff(&[], &[entry("ana", &["2"])])).unwrap();
    assert_eq!(told(&two.diff), [NOBODY, NOBODY, vec!["ana"]]);
    assert!(presence.is_empty());
}

#[test]
fn diffs_before_the_snapshot_are_applied_on_top_of_it() {
    let mut presence = Presence::new(&few(10, 1), 1);
    let early = diff(&[entry("bob", &["9"])], &[entry("ana", &["1"])]);
    assert_eq!(presence.handle_diff(&early).unwrap(), PresenceUpdate::default());
    let late = presence.handle_diff(&diff(&[], &[])).unwrap();
    assert!(late.overflow && late.diff.is_empty());
    let update = presence.handle_state(&state(&[entry("ana", &["1"])]), NOW).unwrap();
    assert!(update.diff.synced);
    assert_eq!(told(&update.diff), [vec!["bob"], NOBODY, NOBODY]);
    assert_eq!(presence.len(), 1);
}

#[test]
fn diffs_that_waited_for_the_snapshot_of_an_older_join_are_forgotten() {
    let mut presence = Presence::default();
    presence.handle_diff(&diff(&[entry("ghost", &["1"])], &[])).unwrap();
    presence.rejoin();
    presence.handle_state(&state(&[]), NOW).unwrap();
    assert!(presence.is_empty());
}

#[test]
fn a_snapshot_after_a_reconnect_is_compared_once() {
    let mut presence = synced(&[entry("ana", &["1"]), entry("bob", &["2"])]);
    presence = presence.with_grace(Duration::ZERO);
    presence.rejoin();
    assert!(presence.is_stale());
    assert_eq!(presence.len(), 2);
    let state = state(&[entry("bob", &["3"]), entry("cy", &["4"])]);
    let update = presence.handle_state(&state, NOW).unwrap();
    assert_eq!(told(&update.diff), [vec!["cy"], vec!["bob"], vec!["ana"]]);
    assert_eq!(presence.poll_timeout(), None, "there is no grace");
}

#[test]
fn whoever_is_missing_after_a_reconnect_has_left_when_the_grace_is_over() {
    let mut presence = synced(&[entry("ana", &["1"]), entry("bob", &["2"])]);
    presence.rejoin();
    let update = presence.handle_state(&state(&[entry("bob", &["2"])]), NOW).unwrap();
    assert_eq!(told(&update.diff), [NOBODY, NOBODY, NOBODY]);
    assert!(update.diff.synced);
    assert_eq!(presence.members().map(|(key, _)| key).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(keys(&presence.missed().collect::<Vec<_>>()), ["ana"]);
    let gone_at = NOW + Duration::from_secs(5);
    assert_eq!(presence.poll_timeout(), Some(gone_at));
    assert!(presence.handle_timeout(NOW + Duration::from_secs(4)).is_empty());
    let diff = presence.handle_timeout(gone_at);
    assert_eq!(told(&diff), [NOBODY, NOBODY, vec!["ana"]]);
    assert_eq!(diff.left[0].metas[0].phx_ref, "1", "with the metas it had");
    assert_eq!(presence.poll_timeout(), None);
    assert!(presence.handle_timeout(gone_at).is_empty());
}

#[test]
fn coming_back_within_the_grace_is_an_update_or_nothing() {
    for (phx_ref, updated) in [("1", NOBODY), ("3", vec!["ana"])] {
        let mut presence = synced(&[entry("ana", &["1"])]);
        presence.rejoin();
        presence.handle_state(&state(&[]), NOW).unwrap();
        let back = presence.handle_diff(&diff(&[entry("ana", &[phx_ref])], &[])).unwrap();
        assert_eq!(told(&back.diff), [NOBODY, updated, NOBODY]);
        assert_eq!(presence.poll_timeout(), None, "nobody is missing any more");
        // From here on it leaves as anybody does.
        let left = presence.handle_diff(&diff(&[], &[entry("ana", &[phx_ref])])).unwrap();
        assert_eq!(told(&left.diff), [NOBODY, NOBODY, vec!["ana"]]);
    }
}

#[test]
fn a_grace_that_is_cut_short_begins_anew_with_the_next_snapshot() {
    let mut presence = synced(&[entry("ana", &["1"])]);
    presence.rejoin();
    presence.handle_state(&state(&[]), NOW).unwrap();
    presence.rejoin();
    let later = NOW + Duration::from_secs(60);
    assert_eq!(presence.poll_timeout(), None, "while stale nobody is known to be gone");
    assert!(presence.handle_timeout(later).is_empty());
    presence.handle_state(&state(&[]), later).unwrap();
    assert_eq!(presence.poll_timeout(), Some(later + Duration::from_secs(5)));
}

#[test]
fn a_second_snapshot_of_the_same_join_gives_no_grace() {
    let mut presence = synced(&[entry("ana", &["1"])]);
    let update = presence.handle_state(&state(&[]), NOW).unwrap();
    assert_eq!(told(&update.diff), [NOBODY, NOBODY, vec!["ana"]]);
}

#[test]
fn no_more_are_missed_than_there_may_be_members() {
    let mut presence = Presence::new(&few(2, 10), 1);
    presence.handle_state(&state(&[entry("a", &["1"]), entry("b", &["2"])]), NOW).unwrap();
    presence.rejoin();
    let update =
        presence.handle_state(&state(&[entry("c", &["3"]), entry("d", &["4"])]), NOW).unwrap();
    assert_eq!(told(&update.diff), [vec!["c", "d"], NOBODY, NOBODY]);
    presence.rejoin();
    let update = presence.handle_state(&state(&[]), NOW).unwrap();
    assert_eq!(told(&update.diff), [NOBODY, NOBODY, vec!["c", "d"]]);
    assert_eq!(keys(&presence.missed().collect::<Vec<_>>()), ["a", "b"]);
}

#[test]
fn any_key_is_an_ordinary_key() {
    let odd = ["__proto__", "constructor", "", "toString", "ключ", "🦀", "a\\u0000b", "0"];
    let presence = synced(&odd.map(|key| entry(key, &["1"])));
    let found: Vec<&str> = presence.members().map(|(key, _)| key).collect();
    let names = ["0", "__proto__", "constructor", "", "toString", "ключ", "🦀", "a\0b"];
    assert_eq!(found, names);
    for key in names {
        assert_eq!(presence.metas(key).len(), 1, "{key:?}");
        assert_eq!(presence.member(key).unwrap().key, key);
    }
    assert_eq!(presence.metas("hasOwnProperty"), []);
}

#[test]
fn of_a_key_that_comes_twice_the_last_entry_counts() {
    let presence = synced(&[entry("a", &["1"]), entry("b", &["2"]), entry("a", &["3"])]);
    assert_eq!(presence.len(), 2);
    assert_eq!(refs(&presence, "a"), ["3"]);
}

#[test]
fn members_beyond_the_limit_are_left_out_and_told() {
    let mut presence = Presence::new(&few(1, 10), 1);
    let update =
        presence.handle_state(&state(&[entry("b", &["1"]), entry("a", &["2"])]), NOW).unwrap();
    assert!(update.overflow);
    assert_eq!(told(&update.diff), [vec!["b"], NOBODY, NOBODY]);
    assert_eq!(presence.len(), 1);
    let update = presence.handle_diff(&diff(&[entry("c", &["3"])], &[])).unwrap();
    assert!(update.overflow && update.diff.is_empty());
    assert_eq!(refs(&presence, "b"), ["1"], "who was here stays");
}

#[test]
fn metas_beyond_the_limit_are_left_out_and_told() {
    let limits = Limits { presence_metas_max: 2, ..Limits::default() };
    let mut presence = Presence::new(&limits, 1);
    let update = presence.handle_state(&state(&[entry("a", &["1", "2", "3"])]), NOW).unwrap();
    assert!(update.overflow);
    assert_eq!(refs(&presence, "a"), ["1", "2"]);
}

#[test]
fn a_member_in_very_many_tabs_is_merged_as_one_in_two() {
    let tabs: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let tabs: Vec<&str> = tabs.iter().map(String::as_str).collect();
    let mut presence = synced(&[entry("ana", &tabs)]);
    presence
        .handle_diff(&diff(&[entry("ana", &tabs[..10])], &[entry("ana", &tabs[20..])]))
        .unwrap();
    let expected: Vec<&str> = [&tabs[10..20], &tabs[..10]].concat();
    assert_eq!(refs(&presence, "ana"), expected, "who joins again goes to the end");
}

#[test]
fn what_is_no_presence_changes_nothing_and_says_what_is_wrong() {
    let mut presence = synced(&[entry("ana", &["1"])]);
    for (text, error) in [
        ("[]", "the payload does not fit: expected an object, found `[` at byte 0"),
        (r#"{"a":1}"#, "the payload does not fit: expected an object, found `1` at byte 5"),
        (r#"{"a":{}}"#, "the payload does not fit: the key `metas` is missing at byte 0"),
        (
            r#"{"a":{"metas":[{}]}}"#,
            "the payload does not fit: the key `phx_ref` is missing at byte 0",
        ),
        (
            r#"{"a":{"metas":[{"phx_ref":null}]}}"#,
            "the payload does not fit: expected a string, found `n` at byte 26",
        ),
    ] {
        let refused = presence.handle_state(&payload(text), NOW).unwrap_err();
        assert_eq!(refused.to_string(), error, "{text}");
    }
    let refused = presence.handle_diff(&payload(r#"{"joins":{}}"#)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the payload does not fit: the key `leaves` is missing at byte 0"
    );
    assert!(presence.handle_state(&Payload::from(vec![1]), NOW).is_err());
    assert_eq!(refs(&presence, "ana"), ["1"]);
}

/// Refs of metas by key, and how the sheet says they are merged.
type Model = BTreeMap<String, Vec<String>>;

/// A snapshot decides who is here; metas that were known come first, in the order they had.
fn merge_state(model: &mut Model, snapshot: &Model) {
    let merged = snapshot.iter().map(|(key, new)| {
        let known = model.get(key).cloned().unwrap_or_default();
        let kept = known.iter().filter(|phx_ref| new.contains(phx_ref));
        let joined = new.iter().filter(|phx_ref| !known.contains(phx_ref));
        (key.clone(), kept.chain(joined).cloned().collect())
    });
    *model = merged.collect();
}

fn merge_diff(model: &mut Model, joins: &Model, leaves: &Model) {
    for (key, joined) in joins {
        let refs = model.entry(key.clone()).or_default();
        refs.retain(|phx_ref| !joined.contains(phx_ref));
        refs.extend(joined.iter().cloned());
    }
    for (key, left) in leaves {
        if let Some(refs) = model.get_mut(key) {
            refs.retain(|phx_ref| !left.contains(phx_ref));
        }
    }
    model.retain(|key, refs| !leaves.contains_key(key) || !refs.is_empty());
}

fn random_members(rng: &mut Rng, keys_max: u64) -> Model {
    const KEYS: [&str; 6] = ["ana", "7", "__proto__", "", "10", "ключ"];
    let mut members = Model::new();
    for _ in 0..rng.next_u64() % (keys_max + 1) {
        let refs = members.entry(KEYS[rng.next_u64() as usize % KEYS.len()].into()).or_default();
        let phx_ref = (rng.next_u64() % 12).to_string();
        if !refs.contains(&phx_ref) {
            refs.push(phx_ref);
        }
    }
    members
}

fn entries(members: &Model) -> Vec<String> {
    let entry = |(key, refs): (&String, &Vec<String>)| {
        entry(key, &refs.iter().map(String::as_str).collect::<Vec<_>>())
    };
    members.iter().map(entry).collect()
}

fn model_of(members: impl Iterator<Item = Member>) -> Model {
    let refs = |metas: &[Meta]| metas.iter().map(|meta| meta.phx_ref.clone()).collect();
    members.map(|member| (member.key, refs(&member.metas))).collect()
}

/// Whoever only follows what is told, in either view.
#[derive(Default)]
struct Follower {
    folded: BTreeMap<String, Member>,
    called: BTreeMap<String, Member>,
}

impl Follower {
    fn follow(&mut self, diff: &PresenceDiff, calls: &[PresenceCall]) {
        for member in &diff.joined {
            assert_eq!(self.folded.insert(member.key.clone(), member.clone()), None);
        }
        for member in &diff.updated {
            let before = self.folded.insert(member.key.clone(), member.clone());
            assert!(before.is_some_and(|before| before != *member), "{member:?}");
        }
        for member in &diff.left {
            assert_eq!(self.folded.remove(&member.key).as_ref(), Some(member));
        }
        for call in calls {
            match call {
                PresenceCall::Join { current, new } => {
                    assert_eq!(self.called.get(&new.key), current.as_ref());
                    let mut next = current.clone().unwrap_or_else(|| new.clone());
                    next.metas.retain(|meta| new.metas.iter().all(|m| m.phx_ref != meta.phx_ref));
                    next.metas.extend(new.metas.iter().cloned());
                    self.called.insert(new.key.clone(), next);
                }
                PresenceCall::Leave { current, left } => {
                    let mut next = self.called.remove(&left.key).unwrap();
                    next.metas.retain(|meta| left.metas.iter().all(|m| m.phx_ref != meta.phx_ref));
                    assert_eq!(next, *current);
                    if !next.metas.is_empty() {
                        self.called.insert(next.key.clone(), next);
                    }
                }
                PresenceCall::Sync => {}
            }
        }
    }
}

#[test]
fn whatever_comes_the_members_are_the_servers_and_either_view_leads_to_them() {
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let grace = Duration::from_secs(5 * (seed % 2));
        let mut presence = Presence::new(&Limits::default(), seed).with_calls().with_grace(grace);
        let (mut model, mut follower) = (Model::new(), Follower::default());
        let mut held: Option<Vec<(Model, Model)>> = Some(Vec::new());
        let mut now = NOW;
        for _ in 0..40 {
            match rng.next_u64() % 12 {
                0 => {
                    presence.rejoin();
                    held = Some(Vec::new());
                }
                1..4 => {
                    let snapshot = random_members(&mut rng, 5);
                    merge_state(&mut model, &snapshot);
                    for (joins, leaves) in held.take().unwrap_or_default() {
                        merge_diff(&mut model, &joins, &leaves);
                    }
                    let told = presence.handle_state(&state(&entries(&snapshot)), now).unwrap();
                    assert!(told.diff.synced);
                    assert_eq!(told.calls.last(), Some(&PresenceCall::Sync));
                    follower.follow(&told.diff, &told.calls);
                }
                4 => {
                    now = now + Duration::from_secs(rng.next_u64() % 4);
                    follower.follow(&presence.handle_timeout(now), &[]);
                }
                _ => {
                    let (joins, leaves) =
                        (random_members(&mut rng, 3), random_members(&mut rng, 3));
                    let told = presence.handle_diff(&diff(&entries(&joins), &entries(&leaves)));
                    let told = told.unwrap();
                    match &mut held {
                        Some(held) => {
                            assert_eq!(told, PresenceUpdate::default());
                            held.push((joins, leaves));
                        }
                        None => {
                            merge_diff(&mut model, &joins, &leaves);
                            assert_eq!(told.calls.last(), Some(&PresenceCall::Sync));
                            follower.follow(&told.diff, &told.calls);
                        }
                    }
                }
            }
            assert_eq!(model_of(presence.list()), model, "seed {seed}");
            assert_eq!(presence.is_stale(), held.is_some());
            assert_eq!(model_of(follower.called.values().cloned()), model, "seed {seed}");
            let told = presence.list().chain(presence.missed());
            let told: BTreeMap<String, Member> = told.map(|m| (m.key.clone(), m)).collect();
            assert_eq!(follower.folded, told, "seed {seed}");
            assert_eq!(told.len(), presence.len() + presence.missed().count());
            let waits = !presence.is_stale() && presence.missed().count() > 0;
            assert_eq!(presence.poll_timeout().is_some(), waits, "seed {seed}");
        }
    }
}

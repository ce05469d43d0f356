//! Whether our client saw what the recording says it must have seen.

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::{ChannelEvent, ChannelId, ChannelState, Member, Meta, Outcome};
use serde_json::Value;

use super::ledger::{Account, Members, accounts, seen, shown};
use super::{Join, Look, Replay};

/// Asserts that a replayed connection went as recorded:
///
/// * nothing was held against the server but the lines in `wrong`;
/// * each channel was told everything the recording says, once and in order, and nothing else;
/// * each answered push ended with the recorded status and response;
/// * when the connection ends, the topics that are joined are those the recording leaves joined;
/// * their members are those the recorded snapshot and diffs make, and the folded presence events
///   lead to the same members.
///
/// # Panics
///
/// When one of these does not hold.
pub fn assert_as_recorded(replay: &Replay, wrong: &[usize]) {
    let violations = replay.violations();
    let lines: Vec<usize> = violations.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, wrong, "{}: {violations:?}", replay.name);
    let accounts = accounts(replay);
    for (at, join) in replay.joins.iter().enumerate() {
        let same = |other: &&Join| other.channel == join.channel;
        let next = replay.joins[at + 1..].iter().find(same);
        let seen = seen(replay, join, next.map_or(usize::MAX, |next| next.line));
        if join.channel.is_some() {
            let expected = &accounts[at].seen;
            assert_eq!(&seen, expected, "{}: the join of line {}", replay.name, join.line);
        }
    }
    assert_replies(replay);
    assert_joined(replay, &accounts);
    assert_members(replay, &accounts);
}

fn assert_replies(replay: &Replay) {
    for push in &replay.pushes {
        let name = format!("{}: the push of line {}", replay.name, push.line);
        let reply = replay.told.iter().find(|told| {
            told.line > push.line
                && told.event == "phx_reply"
                && told.msg_ref.as_deref() == Some(&push.msg_ref)
        });
        match (replay.outcome(push), reply.and_then(|told| told.reply())) {
            (Some(Outcome::Replied { status, response }), Some(recorded)) => {
                assert_eq!((status.to_string(), shown(response)), recorded, "{name}");
            }
            (Some(Outcome::Replied { .. }), None) | (_, Some(_)) => {
                panic!("{name} ended as {:?}", replay.outcome(push));
            }
            (_, None) => {}
        }
    }
}

fn assert_joined(replay: &Replay, accounts: &[Account]) {
    let joins = replay.joins.iter().zip(accounts);
    let recorded: BTreeSet<&str> = joins
        .filter(|(join, account)| join.channel.is_some() && account.accepted && !account.over)
        .map(|(join, _)| join.topic.as_str())
        .collect();
    let ours = replay.channels.iter().filter(|view| view.state == ChannelState::Joined);
    let ours: BTreeSet<&str> = ours.map(|view| view.topic.as_str()).collect();
    assert_eq!(ours, recorded, "{}: what is joined at the end", replay.name);
}

fn assert_members(replay: &Replay, accounts: &[Account]) {
    for (join, account) in replay.joins.iter().zip(accounts) {
        let Some(id) = join.channel.filter(|_| account.accepted && !account.over) else { continue };
        if !join.presence {
            continue;
        }
        let view = replay.channels.iter().find(|view| view.id == id).expect("it is joined");
        let name = format!("{}: the members of {}", replay.name, join.topic);
        assert_eq!(as_values(&view.members), account.members(), "{name}");
        assert_eq!(as_values(&folded(replay, id)), account.members(), "{name}, as told");
        for metas in view.members.values() {
            for meta in metas {
                let object = shown(&meta.value);
                assert_eq!(object["phx_ref"], meta.phx_ref, "{name}");
                let prev = meta.phx_ref_prev.as_deref().map(Value::from).unwrap_or_default();
                assert_eq!(object["phx_ref_prev"], prev, "{name}");
            }
        }
    }
}

/// Members as JSON.
#[must_use]
pub fn as_values(members: &BTreeMap<String, Vec<Meta>>) -> Members {
    let objects = |metas: &Vec<Meta>| metas.iter().map(|meta| shown(&meta.value)).collect();
    members.iter().map(|(key, metas)| (key.clone(), objects(metas))).collect()
}

/// The members that a channel's presence events lead to, each checked to be possible.
///
/// # Panics
///
/// When someone joins who is here, or changes or leaves who is not.
#[must_use]
pub fn folded(replay: &Replay, id: ChannelId) -> BTreeMap<String, Vec<Meta>> {
    let mut members: BTreeMap<String, Vec<Meta>> = BTreeMap::new();
    for (line, event) in replay.events_of(id) {
        let ChannelEvent::Presence(diff) = event else { continue };
        let mut put = |member: &Member| members.insert(member.key.clone(), member.metas.clone());
        for member in &diff.joined {
            assert_eq!(put(member), None, "line {line}: {} was here", member.key);
        }
        for member in &diff.updated {
            let before = put(member);
            assert!(before.is_some(), "line {line}: {} was not here", member.key);
            assert_ne!(before.as_ref(), Some(&member.metas), "line {line}: nothing changed");
        }
        for member in &diff.left {
            let before = members.remove(&member.key);
            assert_eq!(before.as_ref(), Some(&member.metas), "line {line}: {}", member.key);
        }
    }
    members
}

//! What ours tells of presence, written as the scripts show what npm's does.

use core::fmt::Write;

use realtime_proto::{Member, PresenceCall, PresenceDiff};
use serde_json::Value;

/// The number that JavaScript takes a key for, when it orders the keys of an object.
pub(super) fn array_index(key: &str) -> Option<u32> {
    key.parse().ok().filter(|index: &u32| *index < u32::MAX && index.to_string() == key)
}

fn write_list<T>(items: &[T], out: &mut String, write: impl Fn(&T, &mut String)) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        write(item, out);
    }
    out.push(']');
}

/// What `shown` of members.mjs writes.
fn write_entry(member: &Member, out: &mut String) {
    out.push_str(r#"{"metas":"#);
    write_list(&member.metas, out, |meta, out| out.push_str(meta.value.as_json().unwrap()));
    if let Some(extra) = &member.extra {
        write!(out, r#","extra":{}"#, extra.as_json().unwrap()).unwrap();
    }
    out.push('}');
}

/// The members, each as its key and its entry.
pub(super) fn write_members(members: &[Member], out: &mut String) {
    write_list(members, out, |member, out| {
        write!(out, "[{},", Value::from(&*member.key)).unwrap();
        write_entry(member, out);
        out.push(']');
    });
}

/// The callbacks, as the scripts note them.
pub(super) fn write_calls(calls: &[PresenceCall], out: &mut String) {
    write_list(calls, out, |call, out| match call {
        PresenceCall::Join { current, new } => {
            write!(out, r#"["join",{},"#, Value::from(&*new.key)).unwrap();
            match current {
                None => out.push_str("null"),
                Some(current) => write_entry(current, out),
            }
            out.push(',');
            write_entry(new, out);
            out.push(']');
        }
        PresenceCall::Leave { current, left } => {
            write!(out, r#"["leave",{},"#, Value::from(&*left.key)).unwrap();
            write_entry(current, out);
            out.push(',');
            write_entry(left, out);
            out.push(']');
        }
        PresenceCall::Sync => out.push_str(r#"["sync"]"#),
    });
}

/// Who came, changed and went, in the order of the keys, as `fold` of members.mjs has it.
pub(super) fn write_diff(diff: PresenceDiff, out: &mut String) {
    let PresenceDiff { joined, updated, left, synced } = diff;
    for (word, mut members) in
        [(r#"{"joined":"#, joined), (r#","updated":"#, updated), (r#","left":"#, left)]
    {
        members.sort_by(|one, other| one.key.cmp(&other.key));
        out.push_str(word);
        write_members(&members, out);
    }
    write!(out, r#","synced":{synced}}}"#).unwrap();
}

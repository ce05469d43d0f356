//! What a channel tells, as an object and as words.

use core::time::Duration;

use realtime_proto::supabase::{Broadcast, Cause, CauseKind, Change};
use realtime_proto::{ChannelEvent, Gap, Member, Payload, PresenceDiff, Recovery, Stream};
use serde_json::{Value, json};

/// An event of a channel; none when it is no news for a person.
pub(crate) fn describe_event(event: &ChannelEvent) -> Option<(Value, String)> {
    Some(match event {
        ChannelEvent::Joined { response } => {
            let (mut object, text) = said("joined", "");
            object["response"] = value(response);
            (object, text)
        }
        ChannelEvent::Live => said("live", ""),
        ChannelEvent::Broadcast(broadcast) => describe_broadcast(broadcast),
        ChannelEvent::Change { change, .. } => describe_change(change),
        ChannelEvent::Presence(diff) => describe_presence(diff),
        ChannelEvent::System(system) => {
            let status = format!("{:?}", system.status).to_lowercase();
            let text = format!("{:<13} {status}: {}", "system", system.message);
            let object = json!({
                "event": "system", "extension": system.extension, "status": status,
                "message": system.message,
            });
            (object, text)
        }
        ChannelEvent::Message { event, payload } => {
            let text = format!("{:<13} {event} {payload:?}", "message");
            (json!({ "event": "message", "name": event, "payload": value(payload) }), text)
        }
        ChannelEvent::Gap(gap) => describe_gap(gap),
        ChannelEvent::Recovered(recovery) => describe_recovery(recovery),
        ChannelEvent::ChangesStopped { cause, .. } => caused("changes_stopped", cause),
        ChannelEvent::Rejoining { cause } => caused("rejoining", cause),
        ChannelEvent::Errored { cause, .. } => caused("errored", cause),
        ChannelEvent::Closed { cause } if cause.kind == CauseKind::Requested => said("left", ""),
        ChannelEvent::Closed { cause } => caused("closed", cause),
        ChannelEvent::TrackRefused { response } => {
            let (mut object, text) = said("track_refused", &format!("{response:?}"));
            object["response"] = value(response);
            (object, text)
        }
        ChannelEvent::PushEnded { .. } | ChannelEvent::PresenceCalls(_) | _ => return None,
    })
}

/// Who came, changed and went.
fn describe_presence(diff: &PresenceDiff) -> (Value, String) {
    let keys = |members: &[Member]| -> Vec<String> {
        members.iter().map(|member| member.key.clone()).collect()
    };
    let (joined, updated, left) = (keys(&diff.joined), keys(&diff.updated), keys(&diff.left));
    let words = [("joined", &joined), ("updated", &updated), ("left", &left)]
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(word, keys)| format!("{word} {}", keys.join(", ")));
    let words: Vec<String> = words.collect();
    let object = json!({
        "event": "presence", "joined": joined, "updated": updated, "left": left,
        "synced": diff.synced,
    });
    let words = if words.is_empty() { "nobody came or went".into() } else { words.join("; ") };
    (object, format!("{:<13} {words}", "presence"))
}

/// What may have been missed, as an object and as words.
pub(crate) fn describe_gap(gap: &Gap) -> (Value, String) {
    let (of, last_commit) = match gap.stream {
        Stream::Changes { last_commit, .. } => ("changes", last_commit),
        Stream::Messages | _ => ("broadcasts", None),
    };
    let span = gap.to.saturating_duration_since(gap.from);
    let text = format!("{:<13} {of} of {span:.1?} may be missing: {}", "gap", gap.why);
    let object = json!({
        "event": "gap",
        "of": of,
        "seconds": span.as_secs_f64(),
        "from_unix_ms": gap.from_unix.map(millis),
        "last_commit_unix_ms": last_commit.map(millis),
        "why": gap.why.to_string(),
    });
    (object, text)
}

/// What a replay brought back, as an object and as words.
pub(crate) fn describe_recovery(recovery: &Recovery) -> (Value, String) {
    let Recovery { replayed, contiguous, .. } = recovery;
    let whole = if *contiguous { "nothing stored is missing" } else { "there may be more" };
    let text = format!("{:<13} {replayed} broadcasts, {whole}", "recovered");
    let object = json!({ "event": "recovered", "replayed": replayed, "contiguous": contiguous });
    (object, text)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A row change as an object and as words.
pub(crate) fn describe_change(change: &Change) -> (Value, String) {
    let (new, old) = (change.record(), change.old_record());
    let row = new.as_ref().or(old.as_ref()).and_then(Payload::as_json).unwrap_or("{}");
    let text = format!("{:<13} {}.{} {row}", change.kind(), change.schema(), change.table());
    let object = json!({
        "event": "change",
        "type": change.kind().as_str(),
        "schema": change.schema(),
        "table": change.table(),
        "commit_timestamp": change.commit_timestamp(),
        "record": new.as_ref().map(value),
        "old_record": old.as_ref().map(value),
        "errors": change.errors(),
    });
    (object, text)
}

/// A broadcast as an object and as words.
pub(crate) fn describe_broadcast(broadcast: &Broadcast) -> (Value, String) {
    let text = format!("{:<13} {} {:?}", "broadcast", broadcast.event, broadcast.payload);
    let object = json!({
        "event": "broadcast",
        "name": broadcast.event,
        "payload": value(&broadcast.payload),
    });
    (object, text)
}

/// A payload as JSON; bytes as `{"hex": …}`.
pub(crate) fn value(payload: &Payload) -> Value {
    payload.to().unwrap_or_else(|_| {
        let hex: String = payload.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "hex": hex })
    })
}

pub(crate) fn said(event: &str, words: &str) -> (Value, String) {
    (json!({ "event": event }), format!("{event:<13} {words}"))
}

pub(crate) fn caused(event: &str, cause: &Cause) -> (Value, String) {
    let object = json!({
        "event": event,
        "cause": { "kind": cause.kind.to_string(), "text": cause.text, "advice": cause.kind.advice() },
    });
    (object, format!("{event:<13} {cause}"))
}

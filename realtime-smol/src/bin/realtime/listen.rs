//! `realtime listen`: row changes and broadcasts of an entity, as they come.

use core::time::Duration;

use realtime_proto::manager::{ChannelStatus, EntityOptions, LeaseEvent};
use realtime_proto::supabase::{Broadcast, Change, SystemStatus};
use realtime_proto::{Gap, Payload, Recovery, Stream};
use realtime_smol::{Delivery, Lease};
use serde_json::{Value, json};
use smol::stream::StreamExt;

use crate::arguments::EntityArguments;
use crate::output::{Failure, Output};
use crate::session::{Session, describe};

pub(crate) async fn run(target: EntityArguments, output: &Output) -> Result<(), Failure> {
    let session = Session::open(&target.server).await?;
    let entity = target.entity();
    output.note(&format_args!("listening to {entity}; press Ctrl-C to leave"))?;
    let lease = session.manager.subscribe_to_entity(&entity, EntityOptions::default()).await?;
    session.run(print(lease, output)).await?;
    Ok(())
}

async fn print(mut lease: Lease, output: &Output) -> Result<(), Failure> {
    while let Some(delivery) = lease.next().await {
        match delivery {
            Delivery::Event(LeaseEvent::Status(ChannelStatus::Error { cause })) => {
                return Err(Failure::new(cause.to_string()));
            }
            Delivery::Event(LeaseEvent::Status(status)) => {
                let (object, text) = describe(&status);
                output.line(&object, &text)?;
            }
            Delivery::Event(LeaseEvent::Change(change)) => {
                let (object, text) = describe_change(&change);
                output.line(&object, &text)?;
            }
            Delivery::Event(LeaseEvent::Broadcast(broadcast)) => {
                let (object, text) = describe_broadcast(&broadcast);
                output.line(&object, &text)?;
            }
            Delivery::Event(LeaseEvent::Gap(gap)) => {
                let (object, text) = describe_gap(&gap);
                output.line(&object, &text)?;
            }
            Delivery::Event(LeaseEvent::Recovered(recovery)) => {
                let (object, text) = describe_recovery(&recovery);
                output.line(&object, &text)?;
            }
            Delivery::Event(LeaseEvent::System(system)) if system.status == SystemStatus::Error => {
                return Err(Failure::new(format!(
                    "the server refuses row changes: {}",
                    system.message
                )));
            }
            Delivery::Event(_) => {}
            Delivery::Missed(missed) => {
                let text = format!("{:<13} {missed} events, because the reader was slow", "missed");
                output.line(&json!({ "event": "missed", "count": missed }), &text)?;
            }
        }
    }
    Ok(())
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

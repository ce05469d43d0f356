//! `realtime presence`: be present on an entity, and see who else is.

use realtime_proto::manager::{ChannelStatus, LeaseEvent, User, UserDiff};
use realtime_smol::{Delivery, Lease};
use serde_json::json;
use smol::stream::StreamExt;

use crate::arguments::PresenceArguments;
use crate::output::{Failure, Output};
use crate::session::{Session, describe};

pub(crate) async fn run(arguments: PresenceArguments, output: &Output) -> Result<(), Failure> {
    let PresenceArguments { target, name } = arguments;
    let session = Session::open(&target.server).await?;
    let entity = target.entity();
    output.note(&format_args!("present on {entity} as {name}; press Ctrl-C to leave"))?;
    let user = User::new(&name).with_name(&name);
    let lease = session.manager.join_presence(&entity, user).await?;
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
            Delivery::Event(LeaseEvent::Presence(diff)) => print_diff(&diff, output)?,
            Delivery::Event(LeaseEvent::TrackRefused { response }) => {
                return Err(Failure::new(format!("the server refuses the presence: {response:?}")));
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

fn print_diff(diff: &UserDiff, output: &Output) -> Result<(), Failure> {
    let groups: [(&str, &[User]); 3] =
        [("joined", &diff.joined), ("updated", &diff.updated), ("left", &diff.left)];
    for (event, users) in groups {
        for user in users {
            let name = user.user_name.as_deref().unwrap_or(&user.user_id);
            let object =
                json!({ "event": event, "user_id": user.user_id, "user_name": user.user_name });
            output.line(&object, &format_args!("{event:<13} {name}"))?;
        }
    }
    Ok(())
}

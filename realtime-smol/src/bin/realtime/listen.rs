//! `realtime listen`: row changes and broadcasts of an entity, as they come.

use realtime_proto::manager::{ChannelStatus, EntityOptions, LeaseEvent};
use realtime_proto::supabase::SystemStatus;
use realtime_smol::{Delivery, Lease};
use serde_json::json;
use smol::stream::StreamExt;

use crate::arguments::EntityArguments;
use crate::output::{Failure, Output};
use crate::session::{Session, describe};
use crate::told::{describe_broadcast, describe_change, describe_gap, describe_recovery};

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

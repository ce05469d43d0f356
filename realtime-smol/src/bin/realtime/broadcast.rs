//! `realtime broadcast`: one message to everyone who listens to an entity.

use realtime_proto::Payload;
use serde_json::json;

use crate::arguments::BroadcastArguments;
use crate::output::{Failure, Output};
use crate::session::Session;

pub(crate) async fn run(arguments: BroadcastArguments, output: &Output) -> Result<(), Failure> {
    let BroadcastArguments { target, event, payload } = arguments;
    // The mistake a person makes most is told before anything is connected.
    let payload = Payload::from_json(payload)?;
    let session = Session::open(&target.server).await?;
    let (manager, entity) = (session.manager.clone(), target.entity());
    let sent = session
        .run(async move {
            manager.broadcast(&entity, &event, payload).await?;
            let object = json!({ "event": "sent", "entity": entity.to_string(), "name": event });
            output.line(&object, &format_args!("sent          {event} to {entity}"))
        })
        .await?;
    sent.ok_or_else(|| Failure::new("interrupted before the message was sent"))
}

//! `realtime serve`: a local server.

use realtime_proto::server::ServerEvent;
use realtime_smol::{DevServer, DevServerConfig};
use serde_json::{Value, json};
use smol::future::FutureExt;

use crate::output::{Failure, Output};
use crate::serve_arguments::ServeArguments;
use crate::session::interrupt;

/// The most events that wait to be printed; with more, some are not.
const EVENTS_MAX: usize = 1_024;

pub(crate) async fn run(arguments: &ServeArguments, output: &Output) -> Result<(), Failure> {
    let mut config = DevServerConfig::default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    config.server = arguments.config(now.unwrap_or_default());
    let addr = arguments.addr;
    let server = DevServer::bind(addr, config)
        .map_err(|error| Failure::new(format!("cannot listen on {addr}: {error}")))?;
    let (events, printed) = smol::channel::bounded(EVENTS_MAX);
    let server = server.on_event(move |event| {
        // Printing must not hold the server up; what does not fit is not printed.
        let _ = events.try_send(event);
    });
    let (url, http) = (server.url(), server.local_addr());
    output.line(&json!({ "event": "serving", "url": url }), &format_args!("serving {url}"))?;
    output.note(&format_args!(
        "try     cargo realtime listen {url} --entity contact:123\n\
         \x20       cargo realtime presence {url} --entity contact:123 --name Ana\n\
         \x20       cargo realtime broadcast {url} --entity contact:123 --event cursor '{{\"x\":1}}'\n\
         change  curl http://{http}/dev/changes -d \
         '{{\"table\":\"contacts\",\"type\":\"INSERT\",\"record\":{{\"id\":123}}}}'\n\
         press Ctrl-C to stop"
    ))?;
    let handle = server.spawn();
    let print = async {
        while let Ok(event) = printed.recv().await {
            let (object, text) = describe(&event);
            output.line(&object, &text)?;
        }
        Ok(())
    };
    let result = print.or(interrupt()).await;
    handle.shutdown().await;
    result
}

fn describe(event: &ServerEvent) -> (Value, String) {
    let line = |event: &str, session: &dyn ToString, detail: String| {
        let session = session.to_string();
        let object = json!({ "event": event, "session": session, "detail": detail });
        (object, format!("{event:<13} {session:<10} {detail}"))
    };
    match event {
        ServerEvent::Opened { session, vsn } => line("opened", session, format!("vsn {vsn}")),
        ServerEvent::Closed { session, .. } => line("closed", session, String::new()),
        ServerEvent::Joined { session, topic, .. } => line("joined", session, topic.to_string()),
        ServerEvent::Refused { session, topic, reason, .. } => {
            line("refused", session, format!("{topic}: {reason}"))
        }
        ServerEvent::Left { session, topic, .. } => line("left", session, topic.to_string()),
        ServerEvent::Subscribed { session, topic, .. } => {
            line("subscribed", session, topic.to_string())
        }
        ServerEvent::Tracked { session, topic, key, .. } => {
            line("tracked", session, format!("{topic} as {key}"))
        }
        ServerEvent::Untracked { session, topic, key, .. } => {
            line("untracked", session, format!("{topic} as {key}"))
        }
        ServerEvent::Malformed { session, error, .. } => {
            line("malformed", session, error.to_string())
        }
        other => (json!({ "event": "other" }), format!("{other:?}")),
    }
}

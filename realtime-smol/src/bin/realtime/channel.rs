//! `realtime channel`: one channel with all that can be asked of it, and what it tells.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use realtime_proto::supabase::{
    Binding, Cause, JoinConfig, PostgresChangesOptions, PresenceConfig, Replay, Retry,
};
use realtime_proto::{ChannelConfig, ChannelEvent, Config, Event, Payload};
use realtime_smol::{Channel, Client, ConnectionEvents, Delivery, Options};
use serde_json::json;
use smol::future::FutureExt;
use smol::stream::StreamExt;

use crate::arguments::ChannelArguments;
use crate::output::{Failure, Output};
use crate::session::{FAREWELL, interrupt};
use crate::told::{caused, describe_event, said};

pub(crate) async fn run(arguments: ChannelArguments, output: &Output) -> Result<(), Failure> {
    // What a person mistypes is told before anything is connected.
    let track = arguments.track.as_deref().map(Payload::from_json).transpose()?;
    let mut config = Config::builder(&arguments.server.url);
    if let Some(apikey) = &arguments.server.key.apikey {
        config = config.apikey(apikey.as_str());
    }
    if let Some(token) = &arguments.token {
        config = config.access_token(token.as_str());
    }
    let (client, driver) = Client::connect_with_driver(config.build()?, &Options::default());
    let driver = smol::spawn(driver);
    let connection = client.events().await?;
    let channel = client.open_channel(&arguments.topic, channel_config(&arguments)).await?;
    if let Some(track) = track {
        channel.track(track).await?;
    }
    output.note(&format_args!("joining {}; press Ctrl-C to leave", arguments.topic))?;
    let printed = async { print(channel, connection, output).await };
    let result = printed.or(interrupt()).await;
    drop(client);
    let too_slow = async {
        smol::Timer::after(FAREWELL).await;
    };
    driver.or(too_slow).await;
    result
}

/// What the join asks for.
fn channel_config(arguments: &ChannelArguments) -> ChannelConfig {
    if !arguments.topic.starts_with("realtime:") {
        let config = ChannelConfig::phoenix(Payload::empty());
        return if arguments.presence { config.with_presence() } else { config };
    }
    let mut config = JoinConfig { private: arguments.private, ..JoinConfig::default() };
    config.broadcast.replay = arguments.replay.map(|secs| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Replay::since(now.saturating_sub(Duration::from_secs(secs)))
    });
    config.broadcast.replication_ready = arguments.replication;
    let key = arguments.key.clone().unwrap_or_default();
    let enabled = arguments.presence || arguments.track.is_some();
    config.presence = PresenceConfig { key, enabled };
    config.postgres_changes =
        arguments.table.iter().map(|table| binding(table, arguments)).collect();
    config.postgres_changes_options =
        arguments.wait.then_some(PostgresChangesOptions { wait: true, timeout_ms: None });
    ChannelConfig::supabase(config)
}

fn binding(table: &str, arguments: &ChannelArguments) -> Binding {
    let (schema, table) = table.split_once('.').unwrap_or(("public", table));
    let binding = Binding::new(arguments.event.unwrap_or_default(), schema, table);
    let binding = binding.with_select(arguments.select.iter().cloned());
    match &arguments.filter {
        Some(filter) => binding.with_filter(filter.as_str()),
        None => binding,
    }
}

/// What came first of the two.
enum Told {
    Connection(Delivery<Event>),
    Channel(Delivery<ChannelEvent>),
}

/// Prints both streams until the channel ends for good.
async fn print(
    channel: Channel,
    connection: ConnectionEvents,
    output: &Output,
) -> Result<(), Failure> {
    let mut told = connection.map(Told::Connection).or(channel.map(Told::Channel));
    while let Some(told) = told.next().await {
        let (object, text) = match told {
            Told::Connection(Delivery::Event(event)) => match event {
                Event::Connected { .. } => said("connected", ""),
                Event::Disconnected { cause, retry_at: Some(_), .. } => {
                    caused("disconnected", &cause)
                }
                Event::Disconnected { cause, .. } => {
                    return Err(Failure::new(format!("cannot connect: {cause}")));
                }
                Event::TokenNeeded { cause, .. } => caused("token_needed", &cause),
                Event::Violation(violation) => said("violation", &violation.to_string()),
                Event::Channel(..) | Event::Heartbeat { .. } | _ => continue,
            },
            Told::Channel(Delivery::Event(event)) => {
                if let Some(cause) = end_of(&event) {
                    return Err(Failure::new(cause.to_string()));
                }
                let Some(described) = describe_event(&event) else { continue };
                described
            }
            Told::Connection(Delivery::Missed(missed))
            | Told::Channel(Delivery::Missed(missed)) => {
                let text = format!("{:<13} {missed} events, because the reader was slow", "missed");
                (json!({ "event": "missed", "count": missed }), text)
            }
        };
        output.line(&object, &text)?;
    }
    Ok(())
}

/// Why the channel will not be joined again, if it will not.
fn end_of(event: &ChannelEvent) -> Option<&Cause> {
    if let ChannelEvent::Closed { cause } = event {
        return Some(cause);
    }
    let ChannelEvent::Errored { cause, retry_at: None } = event else { return None };
    (cause.kind.retry() == Retry::Never).then_some(cause)
}

//! `realtime demo`: three viewers of one contact, on a local server or any other, and a check that
//! everything that should arrive does.

mod stage;
mod viewer;

use std::collections::BTreeSet;

use realtime_proto::Payload;
use realtime_proto::manager::{ChannelStatus, Entity, Kind};
use realtime_proto::server::RowChange;
use realtime_proto::supabase::ChangeKind;
use realtime_smol::{DevServer, DevServerConfig, DevServerHandle};

use self::stage::{Expectation, Stage};
use self::viewer::{NAMES, Seen};
use crate::arguments::{DemoArguments, KeyArguments, ServerArguments};
use crate::output::{Failure, Output};

/// Runs the demo, and fails with what is missing if anything expected does not arrive.
pub(crate) async fn run(arguments: DemoArguments, output: &Output) -> Result<(), Failure> {
    let DemoArguments { url, key } = arguments;
    match url {
        Some(url) => {
            output.note(&format_args!("server   {url}"))?;
            output.note(
                &"leaving out row changes and the cut: only a local server can be told to make them",
            )?;
            perform(&ServerArguments { url, key }, None, output).await
        }
        None => {
            let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())
                .map_err(|error| Failure::new(format!("cannot start a local server: {error}")))?;
            let url = server.url();
            output.note(&format_args!("server   {url} (local, for this demo)"))?;
            let server = server.spawn();
            // A key in the environment is for a real server, not for this one.
            let at = ServerArguments { url, key: KeyArguments { apikey: None } };
            let result = perform(&at, Some(&server), output).await;
            server.shutdown().await;
            result
        }
    }
}

async fn perform(
    at: &ServerArguments,
    local: Option<&DevServerHandle>,
    output: &Output,
) -> Result<(), Failure> {
    let contact = Entity::new("contact", "123").in_tenant("demo");
    let mut stage = Stage::new(output);

    stage.step("Three people open contact 123")?;
    for name in NAMES {
        stage.enter(name, at, &contact).await?;
    }
    // Elsewhere there may be no table of contacts, and joined is all that can be asked for.
    let is_local = local.is_some();
    let rows = move |status: &ChannelStatus| {
        *status == ChannelStatus::Live || (!is_local && *status == ChannelStatus::Connected)
    };
    stage.expect(NAMES.map(|name| Expectation::status(name, Kind::Subscription, rows))).await?;
    let everyone = BTreeSet::from(NAMES);
    stage.expect(NAMES.map(|name| Expectation::viewing(name, &everyone))).await?;
    stage.show_viewing()?;

    if let Some(server) = local {
        stage.step("The row is inserted, updated and deleted")?;
        change(&mut stage, server, &NAMES, insert(r#"{"id":123,"name":"Acme"}"#)?).await?;
        change(&mut stage, server, &NAMES, update(r#"{"id":123,"name":"Acme Ltd"}"#)?).await?;
        change(&mut stage, server, &NAMES, delete(r#"{"id":123}"#)?).await?;
    }

    let [first, second, third] = NAMES;
    stage.step("Cursors move")?;
    for (from, to, payload) in [
        (first, [second, third], r#"{"x":120,"y":48}"#),
        (second, [first, third], r#"{"x":7,"y":310}"#),
    ] {
        stage.broadcast(from, &contact, "cursor", payload).await?;
        stage.expect(to.map(|name| Expectation::broadcast(name, "cursor", payload))).await?;
    }

    stage.step(&format!("{third} closes the page"))?;
    stage.leave(third).await?;
    let rest = BTreeSet::from([first, second]);
    stage.expect([first, second].map(|name| Expectation::viewing(name, &rest))).await?;
    stage.show_viewing()?;

    if let Some(server) = local {
        stage.step("The server cuts every connection")?;
        server.cut_all().await.map_err(|error| Failure::new(error.to_string()))?;
        let channels =
            [first, second].map(|name| [(name, Kind::Subscription), (name, Kind::Presence)]);
        let channels = channels.as_flattened();
        let lost = |status: &ChannelStatus| matches!(status, ChannelStatus::Reconnecting { .. });
        stage.expect(channels.iter().map(|(n, kind)| Expectation::status(n, *kind, lost))).await?;

        stage.step("They reconnect and join again by themselves")?;
        let live = |status: &ChannelStatus| *status == ChannelStatus::Live;
        stage.expect(channels.iter().map(|(n, kind)| Expectation::status(n, *kind, live))).await?;
        stage.expect([first, second].map(|name| Expectation::viewing(name, &rest))).await?;
        stage.show_viewing()?;

        stage.step("And the next row change arrives")?;
        let row = insert(r#"{"id":123,"name":"Acme again"}"#)?;
        change(&mut stage, server, &[first, second], row).await?;
    }

    stage.step("Statistics")?;
    stage.show_statistics().await?;
    stage.finish().await
}

/// Makes a row change and expects it on every screen.
async fn change(
    stage: &mut Stage<'_>,
    server: &DevServerHandle,
    viewers: &[&'static str],
    (kind, row, change): (ChangeKind, Payload, RowChange),
) -> Result<(), Failure> {
    server.change(change).await.map_err(|error| Failure::new(error.to_string()))?;
    stage.expect(viewers.iter().map(|name| Expectation::change(name, kind, &row))).await
}

type Row = (ChangeKind, Payload, RowChange);

fn insert(row: &str) -> Result<Row, Failure> {
    let record = Payload::from_json(row)?;
    Ok((ChangeKind::Insert, record.clone(), row_change(RowChange::insert("contacts", record))?))
}

fn update(row: &str) -> Result<Row, Failure> {
    let record = Payload::from_json(row)?;
    let change = RowChange::update("contacts", record.clone(), None);
    Ok((ChangeKind::Update, record, row_change(change)?))
}

fn delete(row: &str) -> Result<Row, Failure> {
    let record = Payload::from_json(row)?;
    Ok((ChangeKind::Delete, record.clone(), row_change(RowChange::delete("contacts", record))?))
}

fn row_change<E: ToString>(change: Result<RowChange, E>) -> Result<RowChange, Failure> {
    change.map_err(|error| Failure::new(error.to_string()))
}

/// Whether a sight is what was waited for.
type Matches = Box<dyn Fn(&Seen) -> bool>;

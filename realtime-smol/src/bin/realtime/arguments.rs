//! What the command line says.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use realtime_proto::manager::Entity;
use realtime_proto::supabase::ChangeEvent;
use realtime_proto::wire::{Sender, Vsn};

use crate::serve_arguments::ServeArguments;

/// Supabase Realtime and Phoenix Channels on the command line.
#[derive(Parser)]
#[command(name = "realtime", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Write one JSON object a line instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Watch three viewers of one contact: presence, row changes, cursors, a cut and the recovery.
    Demo(DemoArguments),
    /// Serve Realtime on this machine, for development and tests.
    Serve(Box<ServeArguments>),
    /// Print row changes and broadcasts of an entity as they come.
    Listen(EntityArguments),
    /// Join one channel, with all that can be asked of it, and print what it tells.
    Channel(ChannelArguments),
    /// Be present on an entity, and print who else is.
    Presence(PresenceArguments),
    /// Broadcast one message to everyone who listens to an entity.
    Broadcast(BroadcastArguments),
    /// Play one connection of a recording to a client, and print what an application would have
    /// seen.
    Replay(ReplayArguments),
    /// Read frames from standard input, one a line (binary ones as `hex:…`), and print what they
    /// say.
    Inspect {
        /// The protocol version: 1.0.0 or 2.0.0.
        #[arg(long, value_parser = parse_vsn)]
        vsn: Vsn,
        /// Who sent the frames.
        #[arg(long)]
        from: Side,
    },
}

/// Where the server is and how to get in.
#[derive(Args, Clone)]
pub(crate) struct ServerArguments {
    /// The endpoint, for instance `ws://127.0.0.1:4010/socket` or
    /// `https://PROJECT.supabase.co/realtime/v1`.
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) key: KeyArguments,
}

/// How to get in.
#[derive(Args, Clone)]
pub(crate) struct KeyArguments {
    /// The API key of the project.
    #[arg(long, env = "REALTIME_APIKEY", hide_env_values = true)]
    pub(crate) apikey: Option<String>,
}

/// Which server and which entity.
#[derive(Args)]
pub(crate) struct EntityArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// The entity, for instance contact:123.
    #[arg(long, value_name = "TYPE:ID", value_parser = parse_entity)]
    entity: Entity,
    /// The tenant the entity belongs to.
    #[arg(long)]
    tenant: Option<String>,
}

impl EntityArguments {
    pub(crate) fn entity(&self) -> Entity {
        match &self.tenant {
            Some(tenant) => self.entity.clone().in_tenant(tenant),
            None => self.entity.clone(),
        }
    }
}

/// Which channel, and what is asked of it.
#[derive(Args)]
pub(crate) struct ChannelArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// The topic, for instance realtime:room; one without `realtime:` is a plain Phoenix one.
    pub(crate) topic: String,
    /// The access token.
    #[arg(long, env = "REALTIME_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Have policies decide who may join, read and write.
    #[arg(long)]
    pub(crate) private: bool,
    /// Also replay what was stored in the last so many seconds.
    #[arg(long, value_name = "S", requires = "private")]
    pub(crate) replay: Option<u64>,
    /// Be live only once broadcasts of the database arrive.
    #[arg(long)]
    pub(crate) replication: bool,
    /// Row changes of a table, of the schema public if none is named; once for each table.
    #[arg(long, value_name = "[SCHEMA.]TABLE")]
    pub(crate) table: Vec<String>,
    /// Which kind of row changes.
    #[arg(long, value_name = "EVENT", requires = "table", value_parser = parse_event)]
    pub(crate) event: Option<ChangeEvent>,
    /// Only row changes that these conditions let through, for instance 'id=gt.5,done=is.true'.
    #[arg(long, value_name = "CONDITIONS", requires = "table")]
    pub(crate) filter: Option<String>,
    /// Only these columns, and the primary key.
    #[arg(long, value_name = "COLUMNS", requires = "table", value_delimiter = ',')]
    pub(crate) select: Vec<String>,
    /// Have the join answered only when row changes flow.
    #[arg(long, requires = "table")]
    pub(crate) wait: bool,
    /// Print who is present.
    #[arg(long)]
    pub(crate) presence: bool,
    /// Be present, with this JSON object to show.
    #[arg(long, value_name = "JSON")]
    pub(crate) track: Option<String>,
    /// The key to be present under; without it the server chooses one.
    #[arg(long)]
    pub(crate) key: Option<String>,
}

#[derive(Args)]
pub(crate) struct PresenceArguments {
    #[command(flatten)]
    pub(crate) target: EntityArguments,
    /// The name to show.
    #[arg(long)]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct BroadcastArguments {
    #[command(flatten)]
    pub(crate) target: EntityArguments,
    /// The name of the event.
    #[arg(long)]
    pub(crate) event: String,
    /// The payload, for instance '{"x":1}'.
    #[arg(value_name = "JSON")]
    pub(crate) payload: String,
}

#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// The recording: JSON objects, one a line.
    pub(crate) file: PathBuf,
    /// The connection; without it the first one in the file whose protocol version is known.
    #[arg(long, value_name = "NAME")]
    pub(crate) conn: Option<String>,
}

#[derive(Args)]
pub(crate) struct DemoArguments {
    /// Use this server instead of a local one, without what only a local one can do.
    #[arg(long)]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeyArguments,
}

/// Who sent a frame.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Side {
    Server,
    Client,
}

impl From<Side> for Sender {
    fn from(side: Side) -> Self {
        match side {
            Side::Server => Self::Server,
            Side::Client => Self::Client,
        }
    }
}

fn parse_vsn(text: &str) -> Result<Vsn, String> {
    // `1` and `2` are what people type.
    let full = if text.contains('.') { text.to_owned() } else { format!("{text}.0.0") };
    Vsn::parse(&full).ok_or_else(|| "there are versions 1.0.0 and 2.0.0".to_owned())
}

fn parse_event(text: &str) -> Result<ChangeEvent, String> {
    let all = [ChangeEvent::All, ChangeEvent::Insert, ChangeEvent::Update, ChangeEvent::Delete];
    let found = all.into_iter().find(|event| event.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "there are INSERT, UPDATE, DELETE and *".to_owned())
}

fn parse_entity(text: &str) -> Result<Entity, String> {
    match text.split_once(':') {
        Some((entity_type, entity_id)) if !entity_type.is_empty() && !entity_id.is_empty() => {
            Ok(Entity::new(entity_type, entity_id))
        }
        _ => Err("write TYPE:ID, for instance contact:123".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_id_may_hold_colons_and_an_entity_needs_both_parts() {
        assert_eq!(parse_entity("contact:a:b"), Ok(Entity::new("contact", "a:b")));
        assert!(parse_entity("contact").is_err());
        assert!(parse_entity("contact:").is_err());
    }
}

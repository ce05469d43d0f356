//! A connection of a recording played to a client: what would it have made of what the server sent?
//!
//! The recorded client's commands are given to ours, the server's frames are fed to it at their
//! recorded times. Two clients number their messages differently, so each frame ours sends is
//! matched with the recorded one for the same topic and event, and the refs of the server's frames
//! are rewritten accordingly. A ref that ours never used is rewritten to one that nobody has.
//!
//! What our client cannot be made to do (an envelope with another join's ref, say) is left out and
//! listed in [`Replay::left_out`]; the server's answer to it is fed all the same.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::supabase::Cause;
use realtime_proto::wire::Vsn;
use realtime_proto::{
    Backoff, BindingId, ChannelEvent, ChannelId, ChannelState, Client, Config, ConfigError, Event,
    Instant, Limits, Meta, PushId, Stats,
};
use serde_json::Value;

use super::Connection;
use super::player::{Ended, Player, Recorder};
use super::told::{Told, told};

/// One connection of a recording after it was played to a client.
#[derive(Debug)]
pub struct Replay {
    /// The recording and the connection, for messages.
    pub name: String,
    /// The data frames of the connection up to its end, read without the code under test.
    pub told: Vec<Told>,
    /// Every event with the line that caused it; those of the end of the connection come last.
    pub events: Vec<(usize, Event)>,
    /// How many of the events came before the connection ended.
    pub events_open: usize,
    /// The recorded joins, in order.
    pub joins: Vec<Join>,
    /// The recorded pushes that were made, in order.
    pub pushes: Vec<Push>,
    /// The recorded commands that were not given, by line, and why.
    pub left_out: Vec<(usize, String)>,
    /// Frames that our client sent and the recorded one did not: line, topic, event.
    pub own_frames: Vec<(usize, String, String)>,
    /// The channels just before the connection ended.
    pub channels: Vec<View>,
    /// Who was present on each topic when its channel was last seen joined.
    pub members: BTreeMap<String, BTreeMap<String, Vec<Meta>>>,
    /// The counts just before the connection ended.
    pub stats: Stats,
    /// The client, after the connection ended.
    pub client: Client,
}

/// A recorded join and the channel that made it.
#[derive(Clone, Debug)]
pub struct Join {
    /// The line of the recording.
    pub line: usize,
    /// The topic.
    pub topic: String,
    /// The recorded ref.
    pub msg_ref: Option<String>,
    /// The recorded join ref, which is the same but for oddities.
    pub join_ref: Option<String>,
    /// The channel; `None` when ours cannot make such a join.
    pub channel: Option<ChannelId>,
    /// The recorded payload.
    pub payload: Value,
    /// The payload ours sent; null until it does.
    pub ours: Value,
    /// Whether the channel is a Supabase one.
    pub supabase: bool,
    /// Whether the channel follows presence.
    pub presence: bool,
    /// The row-change bindings, in the order of the recorded ones.
    pub bindings: Vec<BindingId>,
}

/// A recorded push that was made.
#[derive(Clone, Debug)]
pub struct Push {
    /// The line of the recording.
    pub line: usize,
    /// The recorded ref.
    pub msg_ref: String,
    /// The recorded event.
    pub event: String,
    /// The channel.
    pub channel: ChannelId,
    /// The push.
    pub push: PushId,
}

/// A channel as the application sees it.
#[derive(Clone, Debug)]
pub struct View {
    /// Its id.
    pub id: ChannelId,
    /// Its topic.
    pub topic: String,
    /// Its state.
    pub state: ChannelState,
    /// Whether it is live.
    pub live: bool,
    /// Why it is errored.
    pub error: Option<Cause>,
    /// Who is present.
    pub members: BTreeMap<String, Vec<Meta>>,
    /// Whether the members may be out of date.
    pub stale: bool,
}

/// A connection that cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Its URL asks for a protocol version that the client does not speak.
    #[error("`{connection}` speaks another protocol version than 1.0.0 and 2.0.0")]
    Version {
        /// The connection.
        connection: String,
    },
    /// It has a token that no client takes.
    #[error("`{connection}` cannot be played: {error}")]
    Config {
        /// The connection.
        connection: String,
        /// Why not.
        error: ConfigError,
    },
}

impl Replay {
    /// Plays one connection of the recording `recording`.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] when no client of ours could have made this connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::recording::{Recording, Replay};
    ///
    /// let text = r#"{"t_ms":0,"conn":"c","dir":"out","kind":"open","data":"ws://host/socket/websocket?vsn=2.0.0"}
    /// {"t_ms":1,"conn":"c","dir":"in","kind":"opened"}
    /// {"t_ms":2,"conn":"c","dir":"out","kind":"text","data":"[\"1\",\"1\",\"room:1\",\"phx_join\",{}]"}
    /// {"t_ms":3,"conn":"c","dir":"in","kind":"text","data":"[\"1\",\"1\",\"room:1\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]"}"#;
    /// let recording = Recording::parse("example", text)?;
    /// let replay = Replay::new("example", &recording.connections()?[0])?;
    /// assert!(replay.channels[0].live);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(recording: &str, connection: &Connection) -> Result<Self, ReplayError> {
        let of = || connection.name.clone();
        let vsn = connection.vsn.ok_or_else(|| ReplayError::Version { connection: of() })?;
        let name = format!("{recording}, {}", connection.name);
        let told = told(connection);
        let token = told.iter().find_map(|told| {
            (told.event == "phx_join").then(|| told.json()?["access_token"].as_str()).flatten()
        });
        let config =
            config(vsn, token).map_err(|error| ReplayError::Config { connection: of(), error })?;
        let client = Client::new(config, 1, Instant::EPOCH);
        let (client, played, ended) = Player::new(client, vsn, &told).play(&connection.steps);
        let Recorder { events: all, joins, pushes, left_out, own_frames, members } = played;
        let Ended { channels, stats, events } = ended;
        Ok(Self {
            name,
            told,
            events: all,
            events_open: events,
            joins,
            pushes,
            left_out,
            own_frames,
            channels,
            members,
            stats,
            client,
        })
    }

    /// The events of one channel while the connection was open, in order.
    pub fn events_of(&self, id: ChannelId) -> impl Iterator<Item = (usize, &ChannelEvent)> {
        self.events[..self.events_open].iter().filter_map(move |(line, event)| {
            let Event::Channel(of, event) = event else { return None };
            (*of == id).then_some((*line, event))
        })
    }
}

/// A client that does nothing by itself while a recording plays: it answers late enough for the
/// slowest recorded server, and does not retry before the recorded client does.
fn config(vsn: Vsn, token: Option<&str>) -> Result<Config, ConfigError> {
    const LATE: Duration = Duration::from_secs(24 * 60 * 60);
    let never = Backoff::exponential(LATE, LATE).without_jitter();
    let mut limits = Limits::default();
    limits.joins_per_second_max = 1_000_000;
    let config = Config::builder("ws://recorded.test/socket")
        .vsn(vsn)
        .heartbeat_interval(LATE)
        .probe_timeout(LATE)
        .join_timeout(LATE)
        .push_timeout(LATE)
        .rejoin(never)
        .limits(limits);
    let config = match token {
        Some(token) => config.access_token(token),
        None => config,
    };
    config.build()
}

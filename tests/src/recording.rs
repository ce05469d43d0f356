//! `transcripts/*.jsonl`: what real servers sent and were sent.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;

use realtime_proto::Frame;
use realtime_proto::wire::{Sender, Vsn};
use serde_json::Value;

use crate::encoding::unbase64;
use crate::{fixture, fixture_path};

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file name without its ending.
    pub name: String,
    /// Its lines, in order.
    pub steps: Vec<Step>,
}

/// One line of a recording.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line, counted from one.
    pub line: usize,
    /// Since the start of the recording.
    pub at: Duration,
    /// The connection it belongs to; notes may have none.
    pub connection: Option<String>,
    /// What happened.
    pub what: What,
}

/// What a line of a recording says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// The client starts to connect.
    Open {
        /// The whole URL.
        url: String,
    },
    /// The server agreed to the upgrade.
    Upgraded,
    /// The connection is open.
    Opened,
    /// The server answered the upgrade with another status.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The response body.
        body: String,
    },
    /// A data frame.
    Frame {
        /// Who wrote it.
        from: Sender,
        /// The frame.
        frame: Frame,
    },
    /// Frames of the client too large or too many to record, in words.
    Elided {
        /// The words.
        description: String,
    },
    /// A close, sent or seen.
    Close {
        /// Who closed; a code that no frame carried, such as 1006, is the server's.
        from: Sender,
        /// The close code; `None` when an official client closed and left it to the default.
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// A WebSocket ping or pong.
    Control,
    /// An HTTP request (from the client) or its answer (from the server).
    Http {
        /// Whose.
        from: Sender,
        /// Method and path, or status.
        data: String,
        /// The body.
        body: String,
    },
    /// A statement run in the database.
    Sql {
        /// The statement.
        statement: String,
    },
    /// What happens next, or what the recorder saw.
    Note {
        /// The words.
        text: String,
    },
}

/// One connection of a recording: its version and what happened on it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its name in the recording.
    pub name: String,
    /// The version in its URL; `None` when no server would know it.
    pub vsn: Option<Vsn>,
    /// Its lines, in order, starting with [`What::Open`].
    pub steps: Vec<Step>,
}

impl Recording {
    /// The names of all recordings, in alphabetical order.
    ///
    /// # Panics
    ///
    /// When the directory cannot be read.
    #[must_use]
    pub fn names() -> Vec<String> {
        let files = fs::read_dir(fixture_path("transcripts")).expect("the recordings");
        let mut names: Vec<String> = files
            .map(|file| file.expect("a directory entry").file_name())
            .filter_map(|file| Some(file.to_str()?.strip_suffix(".jsonl")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Reads `transcripts/{name}.jsonl`.
    ///
    /// # Panics
    ///
    /// When it is not there, or a line is not understood: nothing of a recording is skipped.
    #[must_use]
    pub fn load(name: &str) -> Self {
        let text = fixture(&format!("transcripts/{name}.jsonl"));
        let steps = text
            .lines()
            .enumerate()
            .map(|(index, line)| {
                let line_number = index + 1;
                let value = serde_json::from_str(line).ok();
                value
                    .and_then(|value| step(line_number, &value))
                    .unwrap_or_else(|| panic!("{name}:{line_number} is not understood: {line}"))
            })
            .collect();
        Self { name: name.into(), steps }
    }

    /// The connections, in alphabetical order.
    ///
    /// # Panics
    ///
    /// When a frame comes on a connection that was not opened.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let mut connections = BTreeMap::<&str, Connection>::new();
        for step in &self.steps {
            let Some(name) = step.connection.as_deref() else {
                continue;
            };
            if let What::Open { url } = &step.what {
                let connection = Connection { name: name.into(), vsn: vsn(url), steps: Vec::new() };
                let other = connections.insert(name, connection);
                assert!(other.is_none(), "{}: {name} opens twice", self.name);
            }
            match (connections.get_mut(name), &step.what) {
                (Some(connection), _) => connection.steps.push(step.clone()),
                (None, What::Frame { .. }) => panic!("{}:{} not open", self.name, step.line),
                // Requests and statements have names of their own.
                (None, _) => {}
            }
        }
        connections.into_values().collect()
    }
}

/// Phoenix takes a missing `vsn` for the first one.
fn vsn(url: &str) -> Option<Vsn> {
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    match query.split('&').find_map(|pair| pair.strip_prefix("vsn=")) {
        Some(vsn) => Vsn::parse(vsn),
        None => Some(Vsn::V1),
    }
}

fn step(line: usize, value: &Value) -> Option<Step> {
    let from = match value["dir"].as_str() {
        Some("out") => Some(Sender::Client),
        Some("in") => Some(Sender::Server),
        _ => None,
    };
    let data = || value["data"].as_str().map(str::to_owned);
    let number = |key: &str| value[key].as_u64().and_then(|n| u16::try_from(n).ok());
    let what = match value["kind"].as_str()? {
        "open" => What::Open { url: data()? },
        "upgrade" => What::Upgraded,
        "opened" => What::Opened,
        "refused" => What::Refused { status: number("status")?, body: data()? },
        "text" => text(from?, data()?),
        "binary" => What::Frame { from: from?, frame: Frame::binary(unbase64(&data()?)) },
        "close" => {
            What::Close { from: from?, code: number("code"), reason: data().unwrap_or_default() }
        }
        "ping" | "pong" => What::Control,
        "http" => What::Http {
            from: from?,
            data: data()?,
            body: value["body"].as_str().unwrap_or_default().into(),
        },
        "sql" => What::Sql { statement: data()? },
        "note" => What::Note { text: data()? },
        _ => return None,
    };
    Some(Step {
        line,
        at: Duration::from_millis(value["t_ms"].as_u64()?),
        connection: value["conn"].as_str().map(str::to_owned),
        what,
    })
}

/// The recordings describe in words what JSON lines cannot hold.
fn text(from: Sender, data: String) -> What {
    if data == "bytes 22 ff fe 22 in a text frame" {
        let frame = Frame::Text(b"\x22\xFF\xFE\x22".as_slice().into());
        return What::Frame { from, frame };
    }
    if data.starts_with('(') {
        return What::Elided { description: data };
    }
    What::Frame { from, frame: Frame::text(data) }
}

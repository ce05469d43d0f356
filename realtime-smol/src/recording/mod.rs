//! Recordings of what servers sent and were sent, and what a client makes of them.
//!
//! A recording is a file of JSON objects, one a line: `t_ms` since its start, `conn` (which
//! connection), `dir` (`out` of the client or `in` to it) and `kind`:
//!
//! | kind | what it is | `data` |
//! |---|---|---|
//! | `open`, `upgrade`, `opened` | the handshake | the URL, with `open` |
//! | `refused` | the handshake was refused, with `status` | the body |
//! | `text`, `binary` | a frame | the text, or the bytes in base64 |
//! | `close` | a close with `code`, sent or seen | the reason |
//! | `ping`, `pong` | control frames, which are passed over | |
//! | `http`, `sql`, `note` | what happened beside the socket | words |
//!
//! [`Replay`] plays one [`Connection`] of it to a [`Client`](realtime_proto::Client) and keeps
//! what that told. It needs neither network nor time.

mod player;
mod replay;
mod told;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use data_encoding::BASE64;
use realtime_proto::Frame;
use realtime_proto::wire::{Sender, Vsn};
use serde_json::Value;

pub use replay::{Join, Push, Replay, ReplayError, View};
pub use told::{Content, Told};

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
    /// Reads a recording; `name` is for messages.
    ///
    /// # Errors
    ///
    /// [`RecordingError`] with the line that is not understood: nothing of a recording is passed
    /// over.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::recording::Recording;
    ///
    /// let text = r#"{"t_ms":0,"conn":"c","dir":"out","kind":"open","data":"ws://host/socket/websocket?vsn=2.0.0"}"#;
    /// let recording = Recording::parse("example", text)?;
    /// assert_eq!(recording.connections()?[0].name, "c");
    /// assert!(Recording::parse("example", "{}").is_err());
    /// # Ok::<(), realtime_smol::recording::RecordingError>(())
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<Self, RecordingError> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let error = |problem| RecordingError { name: name.into(), line: index + 1, problem };
            let value = serde_json::from_str(line)
                .map_err(|json| error(Problem::Json(json.to_string())))?;
            steps.push(step(index + 1, &value).ok_or_else(|| error(Problem::Unknown))?);
        }
        Ok(Self { name: name.into(), steps })
    }

    /// The connections, in alphabetical order.
    ///
    /// # Errors
    ///
    /// [`RecordingError`] when one opens twice, or a frame comes on one that was not opened.
    pub fn connections(&self) -> Result<Vec<Connection>, RecordingError> {
        let mut connections = BTreeMap::<&str, Connection>::new();
        for step in &self.steps {
            let Some(name) = step.connection.as_deref() else {
                continue;
            };
            if let What::Open { url } = &step.what {
                let connection = Connection { name: name.into(), vsn: vsn(url), steps: Vec::new() };
                if connections.insert(name, connection).is_some() {
                    return Err(self.error(step, Problem::OpensTwice(name.into())));
                }
            }
            match (connections.get_mut(name), &step.what) {
                (Some(connection), _) => connection.steps.push(step.clone()),
                (None, What::Frame { .. }) => {
                    return Err(self.error(step, Problem::NotOpen(name.into())));
                }
                // Requests and statements have names of their own.
                (None, _) => {}
            }
        }
        Ok(connections.into_values().collect())
    }

    fn error(&self, step: &Step, problem: Problem) -> RecordingError {
        RecordingError { name: self.name.clone(), line: step.line, problem }
    }
}

/// A recording that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}, line {line}: {problem}")]
pub struct RecordingError {
    name: String,
    line: usize,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Json(String),
    Unknown,
    OpensTwice(String),
    NotOpen(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "this is no JSON object: {error}"),
            Self::Unknown => f.write_str(
                "this is no line of a recording; it has `t_ms`, a known `kind`, and what that needs",
            ),
            Self::OpensTwice(connection) => {
                write!(f, "`{connection}` was opened before; give every connection its own name")
            }
            Self::NotOpen(connection) => {
                write!(f, "a frame on `{connection}`, which no line before this opens")
            }
        }
    }
}

impl Connection {
    /// When it was opened, by the line.
    #[must_use]
    pub fn line(&self) -> usize {
        self.steps.first().map_or(0, |step| step.line)
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
        "binary" => What::Frame {
            from: from?,
            frame: Frame::binary(BASE64.decode(data()?.as_bytes()).ok()?),
        },
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

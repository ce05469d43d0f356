//! What the command prints, for people or as one JSON object a line.

use core::fmt;
use std::io::{self, Write};

use realtime_proto::{ConfigError, PayloadError};
use realtime_smol::Error;
use realtime_smol::recording::{RecordingError, ReplayError};
use serde_json::{Value, json};

/// Where lines go.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether it is read by programs.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one line: `object` for programs, `text` for people.
    pub(crate) fn line(&self, object: &Value, text: &dyn fmt::Display) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{object}")?;
        } else {
            writeln!(stdout, "{text}")?;
        }
        Ok(stdout.flush()?)
    }

    /// Prints what is for people only.
    pub(crate) fn note(&self, text: &dyn fmt::Display) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Says why the command failed, on standard error for people and in the stream for programs.
    pub(crate) fn failure(&self, failure: &Failure) {
        // When nobody can be told, the exit code still tells.
        let _ = if self.json {
            writeln!(io::stdout().lock(), "{}", json!({ "error": failure.to_string() }))
        } else {
            writeln!(io::stderr().lock(), "error: {failure}")
        };
    }
}

/// Why the command failed, in one sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not print.
    Output(io::Error),
    /// Anything else, said clearly.
    Said(String),
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(error) => write!(f, "the output could not be written: {error}"),
            Self::Said(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Said(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Said(error.to_string())
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Self::Said(error.to_string())
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        Self::Said(error.to_string())
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        Self::Said(error.to_string())
    }
}

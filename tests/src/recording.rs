//! The recordings of real servers, `transcripts/*.jsonl`.

use std::fs;

pub use realtime_smol::recording::{Connection, Recording, Step, What};

use crate::{fixture, fixture_path};

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
/// When it is not there, or a line is not understood.
#[must_use]
pub fn load(name: &str) -> Recording {
    let text = fixture(&format!("transcripts/{name}.jsonl"));
    Recording::parse(name, &text).unwrap_or_else(|error| panic!("{error}"))
}

/// The connections of a recording, in alphabetical order.
///
/// # Panics
///
/// When one is not opened properly.
#[must_use]
pub fn connections(recording: &Recording) -> Vec<Connection> {
    recording.connections().unwrap_or_else(|error| panic!("{error}"))
}

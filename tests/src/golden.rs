//! `frames.json` and `frames_malformed.json`: frames checked against the official JavaScript clients.

use realtime_proto::Frame;
use realtime_proto::wire::{Sender, Vsn};
use serde_json::Value;

use crate::encoding::unhex;
use crate::fixture;

/// One entry of a frame table.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What the entry is called.
    pub name: String,
    /// The version of the connection.
    pub vsn: Vsn,
    /// Who wrote the frame.
    pub from: Sender,
    /// The frame itself.
    pub frame: Frame,
    /// What the official clients read from it; null in the malformed table.
    pub decoded: Value,
}

/// The frames of `frames.json`, which all decode.
#[must_use]
pub fn frames() -> Vec<Golden> {
    load("frames.json")
}

/// The frames of `frames_malformed.json`, most of which do not.
#[must_use]
pub fn malformed_frames() -> Vec<Golden> {
    load("frames_malformed.json")
}

fn load(name: &str) -> Vec<Golden> {
    let entries: Vec<Value> = serde_json::from_str(&fixture(name)).expect("a JSON array");
    entries.iter().map(read).collect()
}

fn read(entry: &Value) -> Golden {
    let name = entry["name"].as_str().expect("a name");
    let vsn = entry["vsn"].as_str().and_then(Vsn::parse);
    let from = match entry["direction"].as_str() {
        Some("client_to_server") => Sender::Client,
        Some("server_to_client") => Sender::Server,
        other => panic!("{name}: direction {other:?}"),
    };
    let frame = match (entry["text"].as_str(), entry["hex"].as_str()) {
        (Some(text), None) => Frame::text(text),
        (None, Some(hex)) => Frame::binary(unhex(hex)),
        _ => panic!("{name}: has either text or hex"),
    };
    Golden {
        name: name.into(),
        vsn: vsn.unwrap_or_else(|| panic!("{name}: vsn")),
        from,
        frame,
        decoded: entry["decoded"].clone(),
    }
}

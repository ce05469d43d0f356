//! `presence_state` and `presence_diff` on the wire.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use super::Meta;
use crate::payload::Payload;

/// Members by key; any key is safe in an ordered map.
pub(crate) type Members = BTreeMap<String, Vec<Meta>>;

/// One entry: its metas, and whatever else a server's `fetch` put beside them.
#[derive(Deserialize)]
struct Entry {
    metas: Vec<Meta>,
}

#[derive(Deserialize)]
struct Diff {
    joins: BTreeMap<String, Entry>,
    leaves: BTreeMap<String, Entry>,
}

/// A meta is kept as text of its own: members outlive frames, and a slice would keep one alive.
impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Refs {
            phx_ref: String,
            #[serde(default)]
            phx_ref_prev: Option<String>,
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        let refs: Refs = serde_json::from_str(raw.get()).map_err(Error::custom)?;
        Ok(Self {
            phx_ref: refs.phx_ref,
            phx_ref_prev: refs.phx_ref_prev,
            value: Payload::trusted_json(Bytes::copy_from_slice(raw.get().as_bytes())),
        })
    }
}

pub(super) fn read_state(payload: &Payload) -> Option<Members> {
    payload.to().ok().map(members)
}

pub(super) fn read_diff(payload: &Payload) -> Option<(Members, Members)> {
    let diff: Diff = payload.to().ok()?;
    Some((members(diff.joins), members(diff.leaves)))
}

fn members(entries: BTreeMap<String, Entry>) -> Members {
    entries.into_iter().map(|(key, entry)| (key, entry.metas)).collect()
}

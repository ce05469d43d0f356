//! `presence_state` and `presence_diff` on the wire (protocol §4.1).

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::keyed::Keyed;
use super::member::{Entry, Meta};
use crate::payload::{Payload, PayloadError};
use crate::wire::json::{Cursor, JsonError, for_each_key};
use crate::wire::write_json_string;

/// Who joins and who leaves.
#[derive(Debug)]
pub(super) struct Diff {
    pub(super) joins: Keyed<Entry>,
    pub(super) leaves: Keyed<Entry>,
}

/// Reads a snapshot.
pub(super) fn read_state(payload: &Payload, seed: u64) -> Result<Keyed<Entry>, PayloadError> {
    let text = payload.as_json().ok_or(PayloadError::Binary)?;
    read_entries(&mut Cursor::new(text), seed).map_err(mismatch)
}

/// Reads a diff, which has both parts always.
pub(super) fn read_diff(payload: &Payload, seed: u64) -> Result<Diff, PayloadError> {
    let text = payload.as_json().ok_or(PayloadError::Binary)?;
    let (mut joins, mut leaves) = (None, None);
    let read = for_each_key(&mut Cursor::new(text), |key, cursor| {
        match key {
            "joins" => joins = Some(read_entries(cursor, seed)?),
            "leaves" => leaves = Some(read_entries(cursor, seed)?),
            _ => drop(cursor.value()?),
        }
        Ok(())
    });
    read.map_err(mismatch)?;
    Ok(Diff {
        joins: joins.ok_or_else(|| mismatch(JsonError::missing("joins")))?,
        leaves: leaves.ok_or_else(|| mismatch(JsonError::missing("leaves")))?,
    })
}

fn mismatch(error: JsonError) -> PayloadError {
    PayloadError::Mismatch(error.to_string())
}

/// Entries by key. Of a key that comes twice the last entry counts, as it does in JavaScript.
fn read_entries(cursor: &mut Cursor<'_>, seed: u64) -> Result<Keyed<Entry>, JsonError> {
    let mut entries = Keyed::new(seed);
    for_each_key(cursor, |key, cursor| {
        entries.insert(key.into(), read_entry(cursor)?);
        Ok(())
    })?;
    Ok(entries)
}

fn read_entry(cursor: &mut Cursor<'_>) -> Result<Entry, JsonError> {
    let mut metas = None;
    let mut extra = Vec::new();
    for_each_key(cursor, |key, cursor| {
        if key == "metas" {
            metas = Some(read_metas(cursor)?);
            return Ok(());
        }
        extra.push(if extra.is_empty() { b'{' } else { b',' });
        write_json_string(key, &mut extra);
        extra.push(b':');
        extra.extend_from_slice(cursor.value()?.as_bytes());
        Ok(())
    })?;
    let extra = (!extra.is_empty()).then(|| {
        extra.push(b'}');
        Payload::trusted_json(Bytes::from(extra))
    });
    Ok(Entry { metas: metas.ok_or_else(|| JsonError::missing("metas"))?, extra })
}

fn read_metas(cursor: &mut Cursor<'_>) -> Result<Vec<Meta>, JsonError> {
    let mut metas = Vec::new();
    cursor.expect(b'[', "an array")?;
    if cursor.accept(b']') {
        return Ok(metas);
    }
    loop {
        metas.push(read_meta(cursor)?);
        if !cursor.accept(b',') {
            cursor.expect(b']', "`,` or `]`")?;
            return Ok(metas);
        }
    }
}

/// A meta is kept as text of its own: members outlive frames, and a slice would keep one alive.
fn read_meta(cursor: &mut Cursor<'_>) -> Result<Meta, JsonError> {
    let (mut phx_ref, mut phx_ref_prev) = (None, None);
    let mark = cursor.mark();
    for_each_key(cursor, |key, cursor| {
        match key {
            "phx_ref" => phx_ref = Some(cursor.string("a string")?.into_owned()),
            "phx_ref_prev" if cursor.peek() == Some(b'"') => {
                phx_ref_prev = Some(cursor.string("a string")?.into_owned());
            }
            _ => drop(cursor.value()?),
        }
        Ok(())
    })?;
    Ok(Meta {
        phx_ref: phx_ref.ok_or_else(|| JsonError::missing("phx_ref"))?,
        phx_ref_prev,
        value: Payload::trusted_json(Bytes::copy_from_slice(cursor.since(mark).as_bytes())),
    })
}

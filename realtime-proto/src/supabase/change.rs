//! Row changes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::payload::{Payload, PayloadError};
use crate::wire::json;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeKind {
    /// The row is new.
    Insert,
    /// The row has other values than before.
    Update,
    /// The row is gone.
    Delete,
}

impl ChangeKind {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which kinds of change a binding asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ChangeEvent {
    /// Every kind; `*` on the wire.
    #[default]
    All,
    /// Inserts only.
    Insert,
    /// Updates only.
    Update,
    /// Deletes only.
    Delete,
}

impl ChangeEvent {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a change of this `kind` is asked for.
    #[must_use]
    pub const fn includes(self, kind: ChangeKind) -> bool {
        matches!(
            (self, kind),
            (Self::All, _)
                | (Self::Insert, ChangeKind::Insert)
                | (Self::Update, ChangeKind::Update)
                | (Self::Delete, ChangeKind::Delete)
        )
    }
}

impl Serialize for ChangeEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Any case is read; an unknown word counts as `*`, as on the server (protocol §5.6).
impl<'de> Deserialize<'de> for ChangeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok([Self::Insert, Self::Update, Self::Delete]
            .into_iter()
            .find(|event| event.as_str().eq_ignore_ascii_case(&word))
            .unwrap_or(Self::All))
    }
}

/// A change of one row, as the server sent it; its parts are read when asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    kind: ChangeKind,
    data: Payload,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    commit_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    record: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_record: Option<&'a RawValue>,
    #[serde(default)]
    errors: Option<Vec<String>>,
}

impl Change {
    /// What happened.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The schema of the row's table.
    #[must_use]
    pub fn schema(&self) -> String {
        self.fields().and_then(|data| data.schema).unwrap_or_default().into_owned()
    }

    /// The row's table.
    #[must_use]
    pub fn table(&self) -> String {
        self.fields().and_then(|data| data.table).unwrap_or_default().into_owned()
    }

    /// When the change was committed, as the server wrote it: UTC, milliseconds, ISO 8601.
    ///
    /// `None` when the server does not tell, as for a row the reader may not see.
    #[must_use]
    pub fn commit_timestamp(&self) -> Option<String> {
        Some(self.fields()?.commit_timestamp?.into_owned())
    }

    /// What kept the server from sending the row whole, for instance
    /// `Error 413: Payload Too Large`; empty when the row is complete.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.fields().and_then(|data| data.errors).unwrap_or_default()
    }

    /// The row after an INSERT or UPDATE, as raw JSON.
    #[must_use]
    pub fn record(&self) -> Option<Payload> {
        self.slice(self.fields()?.record?)
    }

    /// What the server tells of the row before an UPDATE or DELETE, as raw JSON; often the
    /// primary key only.
    #[must_use]
    pub fn old_record(&self) -> Option<Payload> {
        self.slice(self.fields()?.old_record?)
    }

    /// The row after an INSERT or UPDATE, as a `T`.
    ///
    /// Integers keep all 64 bits: the JSON text is read straight into `T`.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when there is no new row or it does not fit `T`.
    pub fn new_row<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        self.record().unwrap_or_else(null).to()
    }

    /// What the server tells of the row before an UPDATE or DELETE, as a `T`.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when there is no old row or it does not fit `T`.
    pub fn old_row<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        self.old_record().unwrap_or_else(null).to()
    }

    /// The whole `data` object as the server sent it.
    #[must_use]
    pub const fn data(&self) -> &Payload {
        &self.data
    }

    fn fields(&self) -> Option<Data<'_>> {
        self.data.to().ok()
    }

    fn slice(&self, raw: &RawValue) -> Option<Payload> {
        let bytes = self.data.clone().into_bytes();
        Some(Payload::trusted_json(bytes.slice_ref(raw.get().as_bytes())))
    }
}

fn null() -> Payload {
    Payload::trusted_json(Bytes::from_static(b"null"))
}

/// The ids in a `postgres_changes` message, which name bindings of the current join.
pub(crate) struct Ids<'a>(&'a str);

impl Ids<'_> {
    /// Calls `each` with every id.
    pub(crate) fn for_each(&self, each: impl FnMut(u64)) -> bool {
        struct EachId<F>(F);

        impl<'de, F: FnMut(u64)> Visitor<'de> for EachId<F> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of binding ids")
            }

            fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
                while let Some(id) = seq.next_element()? {
                    (self.0)(id);
                }
                Ok(())
            }

            fn visit_unit<E: Error>(self) -> Result<(), E> {
                Ok(())
            }
        }

        let mut deserializer = serde_json::Deserializer::from_str(self.0);
        deserializer.deserialize_any(EachId(each)).is_ok()
    }
}

/// Reads the payload of a `postgres_changes` message; `None` when it is not one.
pub(crate) fn read_changes<'a>(text: &'a str, frame: &Bytes) -> Option<(Ids<'a>, Change)> {
    let [ids, data] = json::members(text, ["ids", "data"])?;
    let (ids, data) = (ids?, data?);
    let [kind] = json::members(data, ["type"])?;
    let kind = serde_json::from_str(kind?).ok()?;
    let data = Payload::trusted_json(frame.slice_ref(data.as_bytes()));
    Some((Ids(ids), Change { kind, data }))
}

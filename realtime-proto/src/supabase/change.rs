//! Row changes.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::column::{Column, convert_row};
use super::row::Row;
use super::timestamp;
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

/// A change of one row: raw JSON as the server sent it, until [`typed`](Self::typed) reads the new
/// row as a `T`.
///
/// # Examples
///
/// ```
/// use realtime_proto::PayloadError;
/// use realtime_proto::supabase::{Change, Completeness};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Todo {
///     id: i64,
///     task: Option<String>,
/// }
///
/// #[derive(Deserialize)]
/// struct TodoKey {
///     id: i64,
/// }
///
/// fn on_change(change: &Change) -> Result<(), PayloadError> {
///     let change = change.typed::<Todo>()?;
///     match (change.new_row(), change.completeness()) {
///         (Some(todo), Completeness::Full) => println!("{}: {:?}", todo.id, todo.task),
///         (Some(todo), lacking) => println!("fetch {}, it is {lacking:?}", todo.id),
///         (None, Completeness::Withheld { error }) => println!("not for us: {error}"),
///         (None, _) => println!("{} is gone", change.old_row::<TodoKey>()?.id),
///     }
///     Ok(())
/// }
/// # let _ = on_change;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<T = Payload> {
    kind: ChangeKind,
    data: Payload,
    new: Option<T>,
    committed: Option<Duration>,
}

/// How much of a row came with its change.
///
/// Protocol §5.5. Whatever is not [`Full`](Self::Full) has to be fetched to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completeness {
    /// All that the reader may see. Of a deleted row that is often its primary key only.
    Full,
    /// The row was too large (error 413), so that only its values of up to 64 bytes were sent.
    Truncated {
        /// The columns whose values are missing.
        missing: Vec<String>,
    },
    /// Large values that the UPDATE did not touch were not sent: PostgreSQL stores them apart from
    /// the row, and the database logs them only with `REPLICA IDENTITY FULL`. They are as they were
    /// before, and not null.
    UnchangedMissing {
        /// The columns whose values are missing.
        missing: Vec<String>,
    },
    /// Nothing of the row was sent: its primary key is missing (error 400) or the reader may not
    /// see it (error 401).
    Withheld {
        /// What the server said, `Error 401: Unauthorized` for instance.
        error: String,
    },
}

/// The parts of `data` that are read when asked for.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    commit_timestamp: Option<Cow<'a, str>>,
}

impl Change {
    /// The same change with its new row read as a `T`.
    ///
    /// Integers keep all 64 bits and decimals all digits: the JSON text is read straight into `T`.
    /// Where the row does not fit `T` because the server sent its values as text, they are
    /// [converted](convert_row) by the types of their columns first. There is no row to read after
    /// a DELETE, and when the row was [withheld](Completeness::Withheld).
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when the row does not fit `T`; if it is not [whole](Self::completeness),
    /// what is missing has to be optional in `T`.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<Change<T>, PayloadError> {
        let is_withheld = matches!(self.completeness(), Completeness::Withheld { .. });
        let record = self.new.as_ref().filter(|_| !is_withheld);
        let new = record.map(|record| self.read(record)).transpose()?;
        let Self { kind, ref data, committed, .. } = *self;
        Ok(Change { kind, data: data.clone(), new, committed })
    }
}

impl<T> Change<T> {
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

    /// When the change was committed, by the database's clock, since the Unix epoch.
    ///
    /// `None` when the server does not tell, as for a row the reader may not see.
    #[must_use]
    pub const fn committed_unix(&self) -> Option<Duration> {
        self.committed
    }

    /// What kept the server from sending the row whole, for instance
    /// `Error 413: Payload Too Large`; empty when nothing did. [`completeness`](Self::completeness)
    /// tells what that means.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let Some(raw) = self.member("errors") else { return Vec::new() };
        // Words of another form are words all the same.
        serde_json::from_str(raw).unwrap_or_else(|_| Vec::from([raw.into()]))
    }

    /// The columns that the reader may see, in the order of the table; none when the row was
    /// [withheld](Completeness::Withheld).
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let columns = self.member("columns");
        columns.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    }

    /// How much of the row came.
    #[must_use]
    pub fn completeness(&self) -> Completeness {
        let mut errors = self.errors();
        let is = |error: &String, code: &str| error.starts_with(code);
        let withheld =
            errors.iter().position(|error| is(error, "Error 400") || is(error, "Error 401"));
        if let Some(at) = withheld {
            return Completeness::Withheld { error: errors.swap_remove(at) };
        }
        let missing = self.missing();
        // Whatever a later version has to say, it says about a row that is not whole.
        if !errors.is_empty() {
            Completeness::Truncated { missing }
        } else if missing.is_empty() {
            Completeness::Full
        } else {
            Completeness::UnchangedMissing { missing }
        }
    }

    /// The new row: what an INSERT or UPDATE made of it.
    #[must_use]
    pub const fn new_row(&self) -> Option<&T> {
        self.new.as_ref()
    }

    /// Gives the new row away.
    #[must_use]
    pub fn into_new_row(self) -> Option<T> {
        self.new
    }

    /// What the server tells of the row before an UPDATE or DELETE, as a `K`; often the primary key
    /// only, which is what `K` should ask for then. Values that came as text are converted as by
    /// [`typed`](Change::typed).
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when there is no old row or it does not fit `K`.
    pub fn old_row<K: DeserializeOwned>(&self) -> Result<K, PayloadError> {
        self.read(&self.old_record().unwrap_or_else(null))
    }

    /// The row after an INSERT or UPDATE, as raw JSON.
    #[must_use]
    pub fn record(&self) -> Option<Payload> {
        self.slice("record")
    }

    /// What the server tells of the row before an UPDATE or DELETE, as raw JSON; often the primary
    /// key only.
    #[must_use]
    pub fn old_record(&self) -> Option<Payload> {
        self.slice("old_record")
    }

    /// The whole `data` object as the server sent it.
    #[must_use]
    pub const fn data(&self) -> &Payload {
        &self.data
    }

    /// Reads a row as it was sent, or else as its columns say.
    fn read<R: DeserializeOwned>(&self, row: &Payload) -> Result<R, PayloadError> {
        row.to().or_else(|error| {
            let converted = convert_row(&self.columns(), row);
            if converted == *row { Err(error) } else { converted.to() }
        })
    }

    /// The columns that a new row should have and has not.
    fn missing(&self) -> Vec<String> {
        let Some(row) = self.member("record").and_then(Row::read) else { return Vec::new() };
        let mut columns = self.columns();
        columns.retain(|column| row.column(&column.name).is_none());
        columns.into_iter().map(|column| column.name).collect()
    }

    fn fields(&self) -> Option<Data<'_>> {
        self.data.to().ok()
    }

    fn member(&self, key: &str) -> Option<&str> {
        let [member] = json::members(self.data.as_json()?, [key])?;
        member.filter(|raw| *raw != "null")
    }

    fn slice(&self, key: &str) -> Option<Payload> {
        let raw = self.member(key)?;
        Some(Payload::trusted_json(self.data.clone().into_bytes().slice_ref(raw.as_bytes())))
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
    let slice = |text: &str| Payload::trusted_json(frame.slice_ref(text.as_bytes()));
    let [ids, data] = json::members(text, ["ids", "data"])?;
    let (ids, data) = (ids?, data?);
    let [kind, record, timestamp] = json::members(data, ["type", "record", "commit_timestamp"])?;
    let change = Change {
        kind: serde_json::from_str(kind?).ok()?,
        data: slice(data),
        new: record.filter(|raw| *raw != "null").map(slice),
        committed: timestamp.and_then(json::string).and_then(|text| timestamp::parse(&text)),
    };
    Some((Ids(ids), change))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn change(data: &str) -> Change {
        let text = alloc::format!(r#"{{"ids":[1],"data":{data}}}"#);
        let frame = Bytes::from(text);
        let text = core::str::from_utf8(&frame).unwrap();
        read_changes(text, &frame).unwrap().1
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Todo {
        id: i64,
        task: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Key {
        id: i64,
    }

    const COLUMNS: &str =
        r#""columns":[{"name":"id","type":"int8"},{"name":"task","type":"text"}]"#;

    fn update(errors: &str, record: &str) -> Change {
        change(&alloc::format!(
            r#"{{"schema":"public","table":"todos","type":"UPDATE",{COLUMNS},
            "commit_timestamp":"2026-08-21T12:00:00.123Z","errors":{errors},
            "record":{record},"old_record":{{"id":7}}}}"#
        ))
    }

    fn missing(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|column| (*column).into()).collect()
    }

    #[test]
    fn the_new_row_is_read_as_a_type_and_the_old_one_as_its_key() {
        let change = update("null", r#"{"id":9007199254740993,"task":"x"}"#);
        assert_eq!(change.completeness(), Completeness::Full);
        assert_eq!(change.committed_unix(), Some(Duration::from_millis(1_787_313_600_123)));
        let typed = change.typed::<Todo>().unwrap();
        assert_eq!(typed.old_row::<Key>(), Ok(Key { id: 7 }));
        assert_eq!(typed.record(), change.record());
        let todo = Todo { id: 9_007_199_254_740_993, task: Some("x".into()) };
        assert_eq!(typed.into_new_row(), Some(todo));
    }

    #[test]
    fn values_that_came_as_text_are_read_by_the_types_of_their_columns() {
        let change = update("null", r#"{"id":"9223372036854775807","task":"5"}"#);
        let typed = change.typed::<Todo>().unwrap();
        let todo = Todo { id: i64::MAX, task: Some("5".into()) };
        assert_eq!(typed.new_row(), Some(&todo));
        let error = update("null", r#"{"id":"x","task":5}"#).typed::<Todo>().unwrap_err();
        assert!(error.to_string().contains("expected i64"), "{error}");
    }

    #[test]
    fn an_unchanged_large_value_is_missing_and_not_null() {
        let change = update("null", r#"{"id":7}"#);
        let lacking = Completeness::UnchangedMissing { missing: missing(&["task"]) };
        assert_eq!(change.completeness(), lacking);
        assert_eq!(update("null", r#"{"id":7,"task":null}"#).completeness(), Completeness::Full);
    }

    #[test]
    fn a_row_over_the_limit_tells_which_values_were_cut_off() {
        let change = update(r#"["Error 413: Payload Too Large"]"#, r#"{"id":7}"#);
        assert_eq!(change.completeness(), Completeness::Truncated { missing: missing(&["task"]) });
        let typed = change.typed::<Todo>().unwrap();
        assert_eq!(typed.new_row(), Some(&Todo { id: 7, task: None }));
    }

    #[test]
    fn a_withheld_row_is_none_whatever_its_type() {
        for error in ["Error 400: Bad Request, no primary key", "Error 401: Unauthorized"] {
            let change = change(&alloc::format!(
                r#"{{"schema":"public","table":"secret","type":"INSERT","columns":[],
                "commit_timestamp":null,"errors":["{error}"],"record":{{}}}}"#
            ));
            assert_eq!(change.completeness(), Completeness::Withheld { error: error.into() });
            assert_eq!(change.typed::<Todo>().unwrap().new_row(), None);
            assert_eq!(change.committed_unix(), None);
        }
    }

    #[test]
    fn a_deleted_row_is_known_by_its_key() {
        let change = change(&alloc::format!(
            r#"{{"schema":"public","table":"todos","type":"DELETE",{COLUMNS},"errors":null,
            "commit_timestamp":"2026-08-21T12:00:00.123Z","old_record":{{"id":7}}}}"#
        ));
        assert_eq!(change.completeness(), Completeness::Full);
        let typed = change.typed::<Todo>().unwrap();
        assert_eq!((typed.new_row(), typed.old_row::<Key>()), (None, Ok(Key { id: 7 })));
        assert!(typed.old_row::<Todo>().is_ok_and(|todo| todo.task.is_none()));
    }
}

//! A change of a row, as a database would report it.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::payload::Payload;
use crate::supabase::{ChangeKind, Row};

/// One change of one row, to be given to [`Server::change`](super::Server::change).
///
/// # Examples
///
/// ```
/// use realtime_proto::server::RowChange;
/// use realtime_proto::supabase::ChangeKind;
///
/// let change = RowChange::from_json(
///     r#"{"table": "messages", "type": "INSERT", "record": {"id": 1, "body": "hi"}}"#,
/// )?;
/// assert_eq!(change.kind(), ChangeKind::Insert);
/// assert_eq!(change.schema(), "public");
/// # Ok::<(), realtime_proto::server::RowChangeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    schema: String,
    table: String,
    kind: ChangeKind,
    record: Option<Payload>,
    old_record: Option<Payload>,
    commit_timestamp: Option<String>,
}

/// A text does not describe a row change; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowChangeError {
    /// The text is not an object of the right fields.
    #[error("a row change is a JSON object with table, type, record and old_record: {what}")]
    Json {
        /// The mistake and its position.
        what: String,
    },
    /// No table was named.
    #[error("the row change names no `table`")]
    TableMissing,
    /// No type was given.
    #[error("the row change has no `type`; write INSERT, UPDATE or DELETE")]
    TypeMissing,
    /// The type is not one of the three.
    #[error("`{word}` is not a type of row change; write INSERT, UPDATE or DELETE")]
    UnknownType {
        /// The word.
        word: String,
    },
    /// The new row of an INSERT or UPDATE is missing or not an object.
    #[error("`record` must be a JSON object for {kind}")]
    RecordNotAnObject {
        /// The type of the change.
        kind: ChangeKind,
    },
    /// The old row of a DELETE is missing, or that of an UPDATE is not an object.
    #[error("`old_record` must be a JSON object for {kind}")]
    OldRecordNotAnObject {
        /// The type of the change.
        kind: ChangeKind,
    },
}

impl RowChange {
    /// A new row in a table of schema `public`.
    ///
    /// # Errors
    ///
    /// [`RowChangeError`] when `table` is empty or `record` is not a JSON object.
    pub fn insert(table: impl Into<String>, record: Payload) -> Result<Self, RowChangeError> {
        Self::new(table.into(), ChangeKind::Insert, Some(record), None)
    }

    /// New values of a row in a table of schema `public`.
    ///
    /// Without `old_record` the server tells the column `id` of the row, as PostgreSQL does by
    /// default.
    ///
    /// # Errors
    ///
    /// [`RowChangeError`] when `table` is empty or a record is not a JSON object.
    pub fn update(
        table: impl Into<String>,
        record: Payload,
        old_record: Option<Payload>,
    ) -> Result<Self, RowChangeError> {
        Self::new(table.into(), ChangeKind::Update, Some(record), old_record)
    }

    /// The end of a row in a table of schema `public`.
    ///
    /// # Errors
    ///
    /// [`RowChangeError`] when `table` is empty or `old_record` is not a JSON object.
    pub fn delete(table: impl Into<String>, old_record: Payload) -> Result<Self, RowChangeError> {
        Self::new(table.into(), ChangeKind::Delete, None, Some(old_record))
    }

    /// The same in another schema.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The same with a commit timestamp, ISO 8601, which is sent as it is.
    #[must_use]
    pub fn with_commit_timestamp(mut self, timestamp: impl Into<String>) -> Self {
        self.commit_timestamp = Some(timestamp.into());
        self
    }

    /// Reads `{"schema", "table", "type", "record", "old_record", "commit_timestamp"}`.
    ///
    /// The schema defaults to `public`, the type may be written in any case, and the timestamp is
    /// the server's time when absent.
    ///
    /// # Errors
    ///
    /// [`RowChangeError`] with one sentence on what is wrong.
    ///
    /// ```
    /// use realtime_proto::server::RowChange;
    ///
    /// let error = RowChange::from_json(r#"{"table": "t", "type": "INSERT"}"#).unwrap_err();
    /// assert_eq!(error.to_string(), "`record` must be a JSON object for INSERT");
    /// ```
    pub fn from_json(text: &str) -> Result<Self, RowChangeError> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, default)]
            schema: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            table: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            r#type: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            record: Option<&'a RawValue>,
            #[serde(borrow, default)]
            old_record: Option<&'a RawValue>,
            #[serde(borrow, default)]
            commit_timestamp: Option<Cow<'a, str>>,
        }
        // A derived reader would take an array for the fields in their order.
        if text.trim_start().starts_with('[') {
            return Err(RowChangeError::Json {
                what: "it is an array".into(),
            });
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| RowChangeError::Json {
            what: e.to_string(),
        })?;
        let word = fields.r#type.ok_or(RowChangeError::TypeMissing)?;
        let kind = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(&word))
            .ok_or_else(|| RowChangeError::UnknownType {
                word: word.into_owned(),
            })?;
        let payload = |raw: Option<&RawValue>| {
            raw.map(|raw| Payload::trusted_json(raw.get().to_string().into()))
        };
        let table = fields.table.unwrap_or_default().into_owned();
        let change = Self::new(
            table,
            kind,
            payload(fields.record),
            payload(fields.old_record),
        )?;
        Ok(Self {
            schema: fields.schema.map_or(change.schema, Cow::into_owned),
            commit_timestamp: fields.commit_timestamp.map(Cow::into_owned),
            ..change
        })
    }

    fn new(
        table: String,
        kind: ChangeKind,
        record: Option<Payload>,
        old_record: Option<Payload>,
    ) -> Result<Self, RowChangeError> {
        if table.is_empty() {
            return Err(RowChangeError::TableMissing);
        }
        let is_row = |payload: &Payload| payload.as_json().and_then(Row::read).is_some();
        let (wants_record, wants_old) = match kind {
            ChangeKind::Insert => (true, false),
            ChangeKind::Update => (true, true),
            ChangeKind::Delete => (false, true),
        };
        let record = record.filter(|_| wants_record);
        if wants_record && !record.as_ref().is_some_and(is_row) {
            return Err(RowChangeError::RecordNotAnObject { kind });
        }
        let mut old_record = old_record.filter(|_| wants_old);
        if kind == ChangeKind::Update && old_record.is_none() {
            old_record = record.as_ref().and_then(key_of);
        }
        if wants_old && !old_record.as_ref().is_some_and(is_row) {
            return Err(RowChangeError::OldRecordNotAnObject { kind });
        }
        Ok(Self {
            schema: "public".into(),
            table,
            kind,
            record,
            old_record,
            commit_timestamp: None,
        })
    }

    /// What happened.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The schema of the table.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The row after an INSERT or UPDATE.
    #[must_use]
    pub const fn record(&self) -> Option<&Payload> {
        self.record.as_ref()
    }

    /// The row before an UPDATE or DELETE.
    #[must_use]
    pub const fn old_record(&self) -> Option<&Payload> {
        self.old_record.as_ref()
    }

    /// The commit timestamp it was given, if it was.
    #[must_use]
    pub fn commit_timestamp(&self) -> Option<&str> {
        self.commit_timestamp.as_deref()
    }
}

/// What the default replica identity tells of an old row: its key, taken to be the column `id`.
fn key_of(record: &Payload) -> Option<Payload> {
    let row = Row::read(record.as_json()?)?;
    let text = match row.column("id") {
        Some(id) => format!("{{\"id\":{id}}}"),
        None => "{}".into(),
    };
    Some(Payload::trusted_json(text.into()))
}

/// A Unix time as `2026-08-21T12:00:00.123Z`.
pub(super) fn iso8601(unix: Duration) -> String {
    let seconds = unix.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = unix.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date that lies `days` after 1 January 1970 in the Gregorian calendar.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Counting from 1 March of year 0 puts the leap day at the end of the year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_with_milliseconds() {
        for (seconds, millis, expected) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000, 5, "2001-09-09T01:46:40.005Z"),
            (1_798_761_599, 0, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let unix = Duration::new(seconds, millis * 1_000_000);
            assert_eq!(iso8601(unix), expected);
        }
        let _ = iso8601(Duration::MAX);
    }

    #[test]
    fn a_change_that_cannot_be_told_is_refused_in_one_sentence() {
        for (text, expected) in [
            (
                "[]",
                "a row change is a JSON object with table, type, record and old_record: ",
            ),
            (
                r#"{"type":"INSERT","record":{}}"#,
                "the row change names no `table`",
            ),
            (
                r#"{"table":"t"}"#,
                "the row change has no `type`; write INSERT, UPDATE or DELETE",
            ),
            (
                r#"{"table":"t","type":"TRUNCATE"}"#,
                "`TRUNCATE` is not a type of row change; write INSERT, UPDATE or DELETE",
            ),
            (
                r#"{"table":"t","type":"UPDATE","record":[1]}"#,
                "`record` must be a JSON object for UPDATE",
            ),
            (
                r#"{"table":"t","type":"UPDATE","record":{},"old_record":7}"#,
                "`old_record` must be a JSON object for UPDATE",
            ),
            (
                r#"{"table":"t","type":"DELETE","record":{}}"#,
                "`old_record` must be a JSON object for DELETE",
            ),
        ] {
            let error = RowChange::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_update_without_old_record_tells_the_key_only() {
        let change = RowChange::from_json(
            r#"{"schema":"s","table":"t","type":"update","record":{"a":1,"id":7}}"#,
        )
        .unwrap();
        assert_eq!(change.schema(), "s");
        assert_eq!(change.old_record().unwrap().as_json(), Some(r#"{"id":7}"#));
    }
}

//! What a Supabase channel asks for when it joins, and what it is told.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::broadcast::BroadcastConfig;
use super::change::ChangeEvent;
use super::filter::{Filter, FilterError};

/// The `config` of a Supabase join.
///
/// Protocol §5.1. The default asks for broadcasts from others and nothing else.
///
/// # Examples
///
/// ```
/// use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
///
/// let mut config = JoinConfig::default();
/// config.broadcast.echo = true;
/// config.postgres_changes.push(Binding::new(ChangeEvent::Insert, "public", "messages"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinConfig {
    /// How broadcasts behave.
    pub broadcast: BroadcastConfig,
    /// Whether and as whom the channel takes part in presence.
    pub presence: PresenceConfig,
    /// The row changes asked for, in the order of their ids in the reply.
    pub postgres_changes: Vec<Binding>,
    /// Whether the server answers the join before row changes flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_changes_options: Option<PostgresChangesOptions>,
    /// Whether row level security decides who may join, read and write.
    #[serde(deserialize_with = "flag")]
    pub private: bool,
}

/// Whether the server answers a join before its row changes flow.
///
/// Protocol §5.1 and §5.3. A server that is asked to wait refuses the join when the row changes
/// cannot be had, instead of telling it later; one that does not know the option answers at once.
/// The channel is live in either case when the server says that they flow. Meanwhile the server
/// works on nothing else of the connection.
///
/// # Examples
///
/// ```
/// use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig, PostgresChangesOptions};
///
/// let config = JoinConfig {
///     postgres_changes: vec![Binding::new(ChangeEvent::All, "public", "messages")],
///     postgres_changes_options: Some(PostgresChangesOptions { wait: true, timeout_ms: None }),
///     ..JoinConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostgresChangesOptions {
    /// Whether the answer waits until row changes flow. The join then has 10 s more than the server
    /// takes at most, if that is more than the client's
    /// [`join_timeout`](crate::ConfigBuilder::join_timeout).
    #[serde(deserialize_with = "flag")]
    pub wait: bool,
    /// How long the server waits at most, in milliseconds. It takes 15,000 when absent, and never
    /// more than 20,000.
    #[serde(rename = "timeout", skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

impl JoinConfig {
    /// How long the answer to the join may take if the server waits for `bindings` to flow; `None`
    /// when it does not wait.
    pub(crate) fn waits_within(&self, bindings: usize) -> Option<Duration> {
        let options = self.postgres_changes_options?;
        let held = Duration::from_millis(options.timeout_ms.unwrap_or(15_000).into());
        (options.wait && bindings > 0).then_some(held + Duration::from_secs(10))
    }
}

/// Whether and as whom a channel takes part in presence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceConfig {
    /// The key under which this client appears; empty lets the server choose one.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// Whether presence is on; without it the server sends no snapshot.
    #[serde(deserialize_with = "flag")]
    pub enabled: bool,
}

/// One request for row changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// Which kinds of change.
    #[serde(default)]
    pub event: ChangeEvent,
    /// The schema, or `*`.
    #[serde(default = "public")]
    pub schema: String,
    /// The table, or `*`, or none for all of the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Conditions on the row, for instance `id=eq.7`; several are joined by commas. A [`Filter`]
    /// writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The columns to send; empty for all. The primary key is always sent. Only of one table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<String>,
}

impl Binding {
    /// All rows of one table.
    #[must_use]
    pub fn new(event: ChangeEvent, schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            event,
            schema: schema.into(),
            table: Some(table.into()),
            filter: None,
            select: Vec::new(),
        }
    }

    /// The same, but only rows that `filter` lets through: a [`Filter`] or its text. One without
    /// conditions lets all through.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Into<String>) -> Self {
        let filter = filter.into();
        self.filter = (!filter.trim().is_empty()).then_some(filter);
        self
    }

    /// The same, but only these columns and the primary key, which is always sent.
    #[must_use]
    pub fn with_select<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.select = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a server can take this: it is asked before every join, because a server that
    /// refuses one binding of a channel refuses them all, and says so only after the join.
    ///
    /// Protocol §5.6. Whether the table and its columns exist, only the server knows.
    ///
    /// # Errors
    ///
    /// [`BindingError`] with what to change.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::supabase::{Binding, BindingError, ChangeEvent};
    ///
    /// let messages = Binding::new(ChangeEvent::All, "public", "messages");
    /// assert!(messages.clone().with_filter("room=eq.1").check().is_ok());
    /// let error = messages.with_filter("room=1").check().unwrap_err();
    /// assert!(matches!(error, BindingError::Filter { .. }));
    /// ```
    pub fn check(&self) -> Result<(), BindingError> {
        let names_table = !self.schema.is_empty() && self.table.is_some();
        if let Some(filter) = &self.filter {
            let parsed = filter.parse::<Filter>();
            let parsed =
                parsed.map_err(|error| BindingError::Filter { filter: filter.clone(), error })?;
            if !parsed.is_empty() && !names_table {
                return Err(BindingError::FilterWithoutTable { filter: filter.clone() });
            }
        }
        let is_wildcard = !names_table || self.schema == "*" || self.table.as_deref() == Some("*");
        if !self.select.is_empty() && is_wildcard {
            return Err(BindingError::SelectWithoutTable);
        }
        Ok(())
    }
}

/// A binding that a server would refuse, found before it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    /// The filter cannot be read.
    #[error("the filter `{filter}` cannot be read: {error}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        error: FilterError,
    },
    /// A filter without a table to which it applies.
    #[error("the filter `{filter}` has no table to apply to; name a schema and a table")]
    FilterWithoutTable {
        /// The filter.
        filter: String,
    },
    /// Columns were chosen of no table, or of every table.
    #[error(
        "`select` chooses columns of one table; name a schema and a table, neither of them `*`"
    )]
    SelectWithoutTable,
}

fn public() -> String {
    "public".into()
}

/// The payload of `phx_join`.
#[derive(Serialize)]
pub(crate) struct JoinPayload<'a> {
    pub(crate) config: &'a JoinConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_token: Option<&'a str>,
}

/// The response of an accepted join.
#[derive(Deserialize)]
pub(crate) struct JoinResponse<'a> {
    #[serde(borrow, default)]
    pub(crate) postgres_changes: Option<Vec<Option<AcceptedBinding<'a>>>>,
}

/// A binding as the server accepted it: what was asked, and its id.
#[derive(Deserialize)]
pub(crate) struct AcceptedBinding<'a> {
    pub(crate) id: u64,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    filter: Option<Cow<'a, str>>,
}

impl AcceptedBinding<'_> {
    /// Whether this answers `asked`: `select` is not compared, null equals absent.
    ///
    /// Protocol §5.2.
    pub(crate) fn answers(&self, asked: &Binding) -> bool {
        self.event.as_deref() == Some(asked.event.as_str())
            && self.schema.as_deref() == Some(&*asked.schema)
            && self.table.as_deref() == asked.table.as_deref()
            && self.filter.as_deref() == asked.filter.as_deref()
    }
}

/// A boolean, which a server also reads from the words `true` and `false` in any case; whatever
/// else counts as false, since an invalid join config is never refused.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Flag::deserialize(deserializer)? {
        Flag::Bool(flag) => flag,
        Flag::Text(text) => text.eq_ignore_ascii_case("true"),
        Flag::Other(IgnoredAny) => false,
    })
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

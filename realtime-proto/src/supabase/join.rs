//! What a Supabase channel asks for when it joins, and what it is told.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::broadcast::BroadcastConfig;
use super::change::ChangeEvent;

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
    /// Whether row level security decides who may join, read and write.
    #[serde(deserialize_with = "flag")]
    pub private: bool,
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
    /// Conditions on the row, for instance `id=eq.7`; several are joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The columns to send; empty for all. The primary key is always sent.
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

    /// The same, but only rows that `filter` lets through.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }
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

//! Row changes: what a channel asked for, and what it is told.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::value::RawValue;

use super::ServerConfig;
use super::change::RowChange;
use super::json;
use super::timer::TimerKey;
use crate::supabase::{ChangeEvent, ChangeKind, Condition, Filter, FilterError, Operator, Row};

/// Where a channel stands with row changes.
pub(super) enum Postgres {
    /// It asked for none.
    Off,
    /// The database has not answered yet.
    Subscribing {
        /// When it does.
        timer: TimerKey,
        /// What it will say: the bindings, or the text of the `system` error.
        outcome: Result<Vec<Binding>, String>,
    },
    /// Changes flow.
    Live {
        /// What it asked for.
        bindings: Vec<Binding>,
        /// When the database confirms them again after a new token.
        confirmation: Option<TimerKey>,
    },
    /// The database is away; it is asked once it is back.
    Waiting {
        /// What it asked for.
        bindings: Vec<Binding>,
    },
    /// One binding was wrong, so none works.
    Failed,
}

impl Postgres {
    pub(super) const fn timer(&self) -> Option<TimerKey> {
        match self {
            Self::Subscribing { timer, .. } => Some(*timer),
            Self::Live { confirmation, .. } => *confirmation,
            Self::Off | Self::Waiting { .. } | Self::Failed => None,
        }
    }

    pub(super) fn into_bindings(self) -> Option<Vec<Binding>> {
        match self {
            Self::Subscribing { outcome: Ok(bindings), .. }
            | Self::Live { bindings, .. }
            | Self::Waiting { bindings } => Some(bindings),
            Self::Subscribing { outcome: Err(_), .. } | Self::Off | Self::Failed => None,
        }
    }
}

/// One entry of `postgres_changes` in a join.
pub(super) struct Binding {
    id: u32,
    event: ChangeEvent,
    schema: String,
    table: String,
    filter: Filter,
    /// The columns to send; empty for all.
    select: Vec<String>,
}

/// The bindings of a join: what the reply says of them, and whether they work.
pub(super) struct Asked {
    /// The objects of the client with their ids, as a JSON array.
    pub(super) reply: String,
    /// `None` when there are no bindings.
    pub(super) outcome: Option<Result<Vec<Binding>, String>>,
}

impl Asked {
    /// Reads `postgres_changes` of a join; the error is a reason to refuse it.
    pub(super) fn read(raw: Option<&str>, config: &ServerConfig) -> Result<Self, String> {
        // Anything but a list counts as an empty one, and null entries do not count.
        let list: Vec<Option<&RawValue>> =
            raw.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let mut replies = Vec::new();
        let mut outcome = Ok(Vec::new());
        for raw in list.into_iter().flatten() {
            let Some(row) = Row::read(raw.get()) else {
                let got = json::inspect(raw.get());
                return Err(format!("UnknownErrorOnChannel: expected a map, got:\n\n    {got}\n"));
            };
            let id = json::hash(raw.get());
            let mut reply = format!("{{\"id\":{id}");
            json::extend_object(&mut reply, raw.get(), &["id"]);
            reply.push('}');
            replies.push(reply);
            // One transaction subscribes them all, so the first error is the error of all.
            match (&mut outcome, Binding::read(id, &row, raw.get(), config)) {
                (Ok(bindings), Ok(binding)) => bindings.push(binding),
                (Ok(_), Err(message)) => outcome = Err(message),
                (Err(_), _) => {}
            }
        }
        Ok(Self {
            outcome: (!replies.is_empty()).then_some(outcome),
            reply: format!("[{}]", replies.join(",")),
        })
    }

    /// The bindings of a join without `config`, where the sub-topic is `schema[:table[:filter]]`.
    pub(super) fn legacy(sub_topic: &str, config: &ServerConfig) -> Result<Self, String> {
        let entries: Vec<String> = ["schema", "table", "filter"]
            .into_iter()
            .zip(sub_topic.splitn(3, ':'))
            .map(|(key, value)| format!("\"{key}\":{}", json::quoted(value)))
            .collect();
        Self::read(Some(&format!("[{{{}}}]", entries.join(","))), config)
    }
}

impl Binding {
    /// Checks a binding as the database would; the error is the text of the `system` message.
    fn read(id: u32, row: &Row<'_>, raw: &str, config: &ServerConfig) -> Result<Self, String> {
        let text = |name| -> Option<String> { serde_json::from_str(row.column(name)?).ok() };
        let (schema, table) = (text("schema"), text("table"));
        let filter = text("filter").filter(|filter| !filter.trim().is_empty());
        let half_filtered = filter.is_some() && (schema.is_none() || table.is_none());
        if (schema.is_none() && table.is_none()) || half_filtered {
            return Err(format!(
                "No subscription params provided. Please provide at least a `schema` or `table` \
                 to subscribe to: {}",
                json::inspect(raw)
            ));
        }
        let schema = schema.unwrap_or_else(|| "public".into());
        let table = table.unwrap_or_else(|| "*".into());
        let filter = filter.as_deref().map_or_else(|| Ok(Filter::default()), read_filter)?;
        let select = read_select(row.column("select"))?;
        let event =
            row.column("event").and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let binding = Self { id, event, schema, table, filter, select };
        let is_wildcard = binding.schema == "*" || binding.table == "*";
        if !binding.select.is_empty() && is_wildcard {
            return Err(
                "Column selection is not supported for wildcard subscriptions. Provide an \
                 explicit schema and table name."
                    .into(),
            );
        }
        let is_unpublished = config
            .unpublished_tables
            .iter()
            .any(|(schema, table)| *schema == binding.schema && *table == binding.table);
        if is_unpublished {
            return Err(binding.unable());
        }
        Ok(binding)
    }

    fn unable(&self) -> String {
        let filters = self.filter.conditions().iter().map(|condition| {
            format!(
                "{{{}, {}, {}, {}}}",
                json::quoted(condition.column()),
                json::quoted(condition.operator().as_str()),
                json::quoted(&value_text(condition)),
                condition.is_negated()
            )
        });
        let filters: Vec<String> = filters.collect();
        let select = if self.select.is_empty() {
            "nil".into()
        } else {
            let names: Vec<String> = self.select.iter().map(|name| json::quoted(name)).collect();
            format!("[{}]", names.join(", "))
        };
        format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is \
             enabled for the given connect parameters: [event: {}, schema: {}, table: {}, \
             filters: [{}], select: {select}]",
            self.event.as_str(),
            self.schema,
            self.table,
            filters.join(", "),
        )
    }

    fn wants(&self, told: &Told<'_>) -> bool {
        let change = told.change;
        let names = |asked: &str, name: &str| asked == "*" || asked == name;
        self.event.includes(change.kind())
            && names(&self.schema, change.schema())
            && names(&self.table, change.table())
            && (self.filter.is_empty()
                || told.row.as_ref().is_some_and(|row| self.filter.matches_row(row)))
    }
}

fn value_text(condition: &Condition) -> String {
    if condition.operator() == Operator::In {
        format!("{{{}}}", condition.values().join(","))
    } else {
        condition.values().concat()
    }
}

fn read_filter(text: &str) -> Result<Filter, String> {
    let filter: Filter = text.parse().map_err(|error| {
        let terms = match error {
            FilterError::UnknownOperator { operator, value } => {
                format!("{}, {}", json::quoted(&operator), json::quoted(&value))
            }
            FilterError::NoColumn { condition }
            | FilterError::NoOperator { condition }
            | FilterError::UnclosedQuote { condition } => json::quoted(&condition),
            error @ (FilterError::Empty
            | FilterError::NotAList { .. }
            | FilterError::TooManyValues { .. }
            | FilterError::NoValues { .. }
            | FilterError::Column { .. }
            | FilterError::NotATruthValue { .. }) => json::quoted(&error.to_string()),
        };
        format!("Error parsing `filter` params: [{terms}]")
    })?;
    let invalid = filter.conditions().iter().find_map(|condition| condition.regex()?.err());
    match invalid {
        Some(error) => {
            Err(format!("Error parsing `filter` params: invalid regular expression: {error}"))
        }
        None => Ok(filter),
    }
}

fn read_select(raw: Option<&str>) -> Result<Vec<String>, String> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else {
        return Ok(Vec::new());
    };
    let names: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| {
        String::from(
            "Error parsing `select` params: expected a list of column name strings, e.g. select: \
             [\"col1\", \"col2\"]",
        )
    })?;
    let strings = names.into_iter().filter_map(|name| serde_json::from_str(name.get()).ok());
    Ok(strings.collect())
}

/// A change on its way to the channels: read once, written once for all that take it whole.
pub(super) struct Told<'a> {
    change: &'a RowChange,
    timestamp: String,
    /// What filters look at: the new row, or of a DELETE the old one.
    row: Option<Row<'a>>,
    whole: String,
}

impl<'a> Told<'a> {
    pub(super) fn new(change: &'a RowChange, timestamp: String) -> Self {
        let seen = match change.kind() {
            ChangeKind::Insert | ChangeKind::Update => change.record(),
            ChangeKind::Delete => change.old_record(),
        };
        let mut told = Self {
            change,
            timestamp,
            row: seen.and_then(|payload| payload.as_json()).and_then(Row::read),
            whole: String::new(),
        };
        told.whole = told.data(&[]);
        told
    }

    /// The payloads for one channel: one for all bindings without `select`, then one for each
    /// choice of columns.
    pub(super) fn payloads(&self, bindings: &[Binding]) -> Vec<String> {
        let mut groups: Vec<(&[String], Vec<u32>)> = Vec::new();
        for binding in bindings.iter().filter(|binding| binding.wants(self)) {
            match groups.iter_mut().find(|(select, _)| *select == binding.select) {
                Some((_, ids)) => ids.push(binding.id),
                None => groups.push((&binding.select, Vec::from([binding.id]))),
            }
        }
        let payload = |(select, ids): (&[String], Vec<u32>)| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let chosen;
            let data = if select.is_empty() {
                &self.whole
            } else {
                chosen = self.data(select);
                &chosen
            };
            format!("{{\"data\":{data},\"ids\":[{}]}}", ids.join(","))
        };
        groups.into_iter().map(payload).collect()
    }

    /// The bare data, which is the whole payload for a channel joined in the old way.
    pub(super) fn legacy_payload(&self, bindings: &[Binding]) -> Option<&str> {
        let wanted = bindings.iter().any(|binding| binding.wants(self));
        wanted.then_some(&*self.whole)
    }

    fn data(&self, select: &[String]) -> String {
        let change = self.change;
        // The primary key is always sent; by convention it is `id`.
        let chosen =
            |name: &str| select.is_empty() || name == "id" || select.iter().any(|s| s == name);
        let mut data = format!(
            "{{\"schema\":{},\"table\":{},\"type\":\"{}\",\"commit_timestamp\":{},\"errors\":null",
            json::quoted(change.schema()),
            json::quoted(change.table()),
            change.kind(),
            json::quoted(&self.timestamp),
        );
        let columns = self.row.iter().flat_map(Row::columns);
        let columns: Vec<String> = columns
            .filter(|(name, _)| chosen(name))
            .map(|(name, raw)| {
                let name = json::quoted(name);
                format!("{{\"name\":{name},\"type\":\"{}\"}}", type_of(raw))
            })
            .collect();
        data.push_str(&format!(",\"columns\":[{}]", columns.join(",")));
        for (key, payload) in [("record", change.record()), ("old_record", change.old_record())] {
            let Some(text) = payload.and_then(|payload| payload.as_json()) else {
                continue;
            };
            data.push_str(&format!(",\"{key}\":"));
            match Row::read(text) {
                Some(row) if !select.is_empty() => {
                    let entries: Vec<String> = row
                        .columns()
                        .filter(|(name, _)| chosen(name))
                        .map(|(name, raw)| format!("{}:{raw}", json::quoted(name)))
                        .collect();
                    data.push_str(&format!("{{{}}}", entries.join(",")));
                }
                _ => data.push_str(text),
            }
        }
        data.push('}');
        data
    }
}

/// The PostgreSQL type that a value most likely has.
fn type_of(raw: &str) -> &'static str {
    match raw.bytes().next() {
        Some(b't' | b'f') => "bool",
        Some(b'{' | b'[') => "jsonb",
        Some(b'-' | b'0'..=b'9') if raw.parse::<i64>().is_ok() => "int8",
        Some(b'-' | b'0'..=b'9') => "numeric",
        _ => "text",
    }
}

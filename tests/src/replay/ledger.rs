//! What a recording says that a client must have seen, read naively and without the code under
//! test: serde's JSON values, length bytes counted by hand, one pass from top to bottom.

use std::collections::BTreeMap;

use realtime_proto::wire::{Sender, Vsn};
use realtime_proto::{ChannelEvent, Frame, Payload};
use serde_json::{Value, json};

use super::{Join, Replay};
use crate::encoding::hex;
use crate::recording::{Connection, What};

/// A data frame.
#[derive(Clone, Debug)]
pub struct Told {
    /// The line of the recording.
    pub line: usize,
    /// Who sent it.
    pub from: Sender,
    /// The join it names; `None` for null, for none, and for the empty one of a binary frame.
    pub join_ref: Option<String>,
    /// Its ref.
    pub msg_ref: Option<String>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The rest.
    pub content: Content,
    /// The frame itself.
    pub frame: Frame,
}

/// What a frame carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// JSON.
    Json(Value),
    /// Bytes.
    Binary(Vec<u8>),
    /// A reply with bytes.
    Reply(String, Vec<u8>),
    /// A user broadcast: event, metadata, payload.
    UserBroadcast(String, Value, Value),
}

impl Told {
    /// The JSON payload.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        match &self.content {
            Content::Json(value) => Some(value),
            _ => None,
        }
    }

    /// Status and response of a reply; bytes as in [`shown`].
    #[must_use]
    pub fn reply(&self) -> Option<(String, Value)> {
        match &self.content {
            _ if self.event != "phx_reply" => None,
            Content::Json(value) => {
                Some((value["status"].as_str()?.into(), value["response"].clone()))
            }
            Content::Reply(status, bytes) => Some((status.clone(), bytes_shown(bytes))),
            _ => None,
        }
    }
}

/// The data frames of a connection up to its end; those that are no envelopes are not among them.
#[must_use]
pub fn told(connection: &Connection) -> Vec<Told> {
    let mut all = Vec::new();
    for step in &connection.steps {
        match &step.what {
            What::Close { .. } => break,
            What::Frame { from, frame } => {
                let read = match frame {
                    Frame::Text(text) => read_text(connection.vsn, text),
                    Frame::Binary(_) if connection.vsn == Some(Vsn::V1) => None,
                    Frame::Binary(bytes) => read_binary(*from, bytes),
                };
                let (line, from, frame) = (step.line, *from, frame.clone());
                all.extend(read.map(|read| Told { line, from, frame, ..read }));
            }
            _ => {}
        }
    }
    all
}

fn new(topic: &str, event: &str, refs: [Option<String>; 2], content: Content) -> Told {
    let [join_ref, msg_ref] = refs.map(|text| text.filter(|text| !text.is_empty()));
    Told {
        line: 0,
        from: Sender::Client,
        join_ref,
        msg_ref,
        topic: topic.into(),
        event: event.into(),
        content,
        frame: Frame::text(""),
    }
}

fn read_text(vsn: Option<Vsn>, text: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let field = |at: usize, key: &str| match vsn {
        Some(Vsn::V1) if value.is_object() => value.get(key),
        Some(Vsn::V2) => value.get(at),
        _ => None,
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let refs = [field(0, "join_ref"), field(1, "ref")].map(|found| found.and_then(text));
    let (topic, event) = (field(2, "topic")?.as_str()?, field(3, "event")?.as_str()?);
    Some(new(topic, event, refs, Content::Json(field(4, "payload")?.clone())))
}

fn read_binary(from: Sender, bytes: &[u8]) -> Option<Told> {
    let (&kind, rest) = bytes.split_first()?;
    let fields = match (kind, from) {
        (0 | 1, Sender::Client) | (1, Sender::Server) => 4,
        (0, Sender::Server) => 3,
        (2, _) => 2,
        (3, Sender::Client) => 6,
        (4, Sender::Server) => 4,
        _ => return None,
    };
    let (lengths, mut rest) = rest.split_at_checked(fields)?;
    let mut parts = Vec::new();
    // The last length byte of a user broadcast is not a length but the encoding of the payload.
    for length in &lengths[..fields - usize::from(kind >= 3)] {
        let (part, behind) = rest.split_at_checked(usize::from(*length))?;
        parts.push(core::str::from_utf8(part).ok()?.to_owned());
        rest = behind;
    }
    let user = |event: &str, metadata: &str| {
        let metadata = serde_json::from_str(metadata).unwrap_or_default();
        let payload = match lengths[fields - 1] {
            1 => serde_json::from_slice(rest)
                .unwrap_or_else(|_| json!({ "no json": String::from_utf8_lossy(rest) })),
            _ => bytes_shown(rest),
        };
        Content::UserBroadcast(event.into(), metadata, payload)
    };
    let some = |at: usize| Some(parts[at].clone());
    let (topic, event) = (fields.min(4) - 2, fields.min(4) - 1);
    Some(match (kind, from) {
        (0, Sender::Client) => {
            new(&parts[2], &parts[3], [some(0), some(1)], Content::Binary(rest.into()))
        }
        (0, _) => new(&parts[1], &parts[2], [some(0), None], Content::Binary(rest.into())),
        (1, _) => {
            let content = Content::Reply(parts[3].clone(), rest.into());
            new(&parts[2], "phx_reply", [some(0), some(1)], content)
        }
        (2, _) => new(&parts[topic], &parts[event], [None, None], Content::Binary(rest.into())),
        (3, _) => new(&parts[2], "broadcast", [some(0), some(1)], user(&parts[3], &parts[4])),
        (_, _) => new(&parts[0], "broadcast", [None, None], user(&parts[1], &parts[2])),
    })
}

/// Bytes, as they stand in a list of what was seen.
fn bytes_shown(bytes: &[u8]) -> Value {
    json!({ "bytes": hex(bytes) })
}

/// A payload as it stands in a list of what was seen.
///
/// # Panics
///
/// When it claims to be JSON and is not.
#[must_use]
pub fn shown(payload: &Payload) -> Value {
    match payload.as_json() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({ "no json": text })),
        None => bytes_shown(payload.as_bytes()),
    }
}

/// Metas by key and, of each, the whole object.
pub type Members = BTreeMap<String, Vec<Value>>;

/// What one recorded join leads to.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What its channel is told, in order: `[kind, …]`.
    pub seen: Vec<Value>,
    /// Whether it was accepted.
    pub accepted: bool,
    /// Whether it is over, by refusal, crash, close, or the client's word.
    pub over: bool,
    /// The last `presence_state`, and every `presence_diff` since the join was sent.
    state: Option<Value>,
    diffs: Vec<Value>,
    /// The binding ids of the reply.
    ids: Vec<u64>,
    trouble: Option<Value>,
    live: bool,
    subscribed: bool,
    replicates: bool,
}

impl Account {
    /// Who is present: the snapshot, then each diff. Leaving is matched by `phx_ref`; whoever
    /// comes goes to the end.
    #[must_use]
    pub fn members(&self) -> Members {
        let metas = |entry: &Value| entry["metas"].as_array().cloned().unwrap_or_default();
        let entries = |object: &Value| object.as_object().cloned().unwrap_or_default();
        let Some(state) = &self.state else { return Members::new() };
        let mut members: Members =
            entries(state).iter().map(|(key, entry)| (key.clone(), metas(entry))).collect();
        for diff in &self.diffs {
            for (key, entry) in entries(&diff["joins"]) {
                let here = members.entry(key).or_default();
                for meta in metas(&entry) {
                    here.retain(|other| other["phx_ref"] != meta["phx_ref"]);
                    here.push(meta);
                }
            }
            for (key, entry) in entries(&diff["leaves"]) {
                let gone = metas(&entry);
                let here = members.entry(key).or_default();
                here.retain(|meta| gone.iter().all(|left| left["phx_ref"] != meta["phx_ref"]));
            }
            members.retain(|_, metas| !metas.is_empty());
        }
        members
    }

    fn told(&mut self, join: &Join, told: &Told) {
        match (&*told.event, &told.content) {
            ("phx_reply", _) => {
                let (status, response) = told.reply().expect("a reply");
                if status == "ok" {
                    self.accepted = true;
                    let ids = response["postgres_changes"].as_array().cloned().unwrap_or_default();
                    self.ids = ids.iter().filter_map(|accepted| accepted["id"].as_u64()).collect();
                    self.seen.push(json!(["joined", response]));
                } else {
                    self.over = true;
                    let text = match response["reason"].as_str() {
                        Some(reason) => json!(reason),
                        None => json!(response.to_string()),
                    };
                    self.seen.push(json!(["errored", text]));
                }
            }
            ("phx_close", _) if told.msg_ref.is_some() || told.join_ref.is_some() => {
                self.over = true;
                self.seen.push(match self.trouble.take() {
                    Some(trouble) => json!(["errored", trouble]),
                    None => json!(["closed"]),
                });
            }
            ("phx_error", Content::Json(payload))
                if told.msg_ref.is_some() || told.join_ref.is_some() =>
            {
                self.over = true;
                self.seen.push(json!(["errored", payload.to_string()]));
            }
            ("presence_state", Content::Json(state)) if join.presence => {
                self.state = Some(state.clone());
            }
            ("presence_diff", Content::Json(diff)) if join.presence => {
                self.diffs.push(diff.clone());
            }
            ("presence_state" | "presence_diff", _) if join.supabase => {}
            ("broadcast", Content::Json(payload)) if join.supabase => {
                // Without a name there is nobody to tell.
                if let Some(event) = payload["event"].as_str() {
                    let inner = payload.get("payload").cloned().unwrap_or_else(|| json!({}));
                    let meta = payload.get("meta").map(meta).unwrap_or_default();
                    self.seen.push(json!(["broadcast", event, inner, meta]));
                }
            }
            // What is marked as JSON and is none cannot be read by any client.
            ("broadcast", Content::UserBroadcast(_, _, payload))
                if join.supabase && payload.get("no json").is_some() => {}
            ("broadcast", Content::UserBroadcast(event, metadata, payload)) if join.supabase => {
                let meta = if metadata.is_null() { Value::Null } else { meta(metadata) };
                self.seen.push(json!(["broadcast", event, payload, meta]));
            }
            ("postgres_changes", Content::Json(payload)) if join.supabase => {
                let told: Vec<u64> = payload["ids"]
                    .as_array()
                    .map(|ids| ids.iter().filter_map(Value::as_u64).collect())
                    .unwrap_or_default();
                let mine = (0..self.ids.len()).filter(|at| told.contains(&self.ids[*at]));
                let mine: Vec<usize> = mine.collect();
                self.seen.push(json!(["change", mine, payload["data"]]));
            }
            ("system", Content::Json(payload)) if join.supabase => {
                if payload["status"] == "error" {
                    self.trouble = Some(payload["message"].clone());
                }
                self.subscribed |= payload["message"] == "Subscribed to PostgreSQL";
                self.replicates |= payload["message"] == "Replication connection established";
                let said = ["extension", "status", "message"].map(|key| payload[key].clone());
                self.seen.push(json!(["system", said]));
            }
            (event, Content::Json(payload)) => self.seen.push(json!(["message", event, payload])),
            (event, Content::Binary(bytes)) => {
                self.seen.push(json!(["message", event, bytes_shown(bytes)]));
            }
            (event, content) => panic!("line {}: {event} with {content:?}", told.line),
        }
        let flows = (!join.presence || self.state.is_some())
            && (!join.supabase || join.bindings.is_empty() || self.subscribed)
            && (join.payload["config"]["broadcast"]["replication_ready"] != true
                || self.replicates);
        if self.accepted && !self.over && flows && !self.live {
            self.live = true;
            self.seen.push(json!(["live"]));
        }
    }
}

/// What a client reads of the data about a broadcast.
fn meta(meta: &Value) -> Value {
    json!([meta["id"], meta["replayed"].as_bool().unwrap_or(false)])
}

/// What each recorded join leads to, in the order of the joins. Joins that our client cannot make
/// have an account as well, but what is told without naming a join goes to the ones it made.
#[must_use]
pub fn accounts(replay: &Replay) -> Vec<Account> {
    let joins = &replay.joins;
    let mut accounts = vec![Account::default(); joins.len()];
    let left_out = |line: usize| replay.left_out.iter().any(|(left, _)| *left == line);
    for told in &replay.told {
        let sent = |at: &usize| joins[*at].line < told.line && joins[*at].topic == told.topic;
        let on_topic = (0..joins.len()).rev().filter(sent);
        if told.from == Sender::Client {
            if told.event == "phx_leave" && !left_out(told.line) {
                on_topic.take(1).for_each(|at| accounts[at].over = true);
            } else if told.event == "phx_join" {
                // A topic has one channel: the next join ends the last.
                on_topic.for_each(|at| accounts[at].over = true);
            }
            continue;
        }
        let of_join = |at: &usize| {
            let join_ref = joins[*at].join_ref.as_deref();
            match &*told.event {
                "phx_reply" => joins[*at].msg_ref == told.msg_ref,
                "phx_close" | "phx_error" if told.msg_ref.is_some() => {
                    join_ref == told.msg_ref.as_deref()
                }
                _ => told.join_ref.is_none() || join_ref == told.join_ref.as_deref(),
            }
        };
        // What names no join is for the one that was sent last.
        let mut on_topic = on_topic;
        let current = on_topic.next().filter(of_join);
        if let Some(at) = current.filter(|at| !accounts[*at].over) {
            accounts[at].told(&joins[at], told);
        }
    }
    accounts
}

/// What our client told about the channel of `join` since it was joined and before `until`, in the
/// shape of an [`Account`].
#[must_use]
pub fn seen(replay: &Replay, join: &Join, until: usize) -> Vec<Value> {
    let Some(id) = join.channel else { return Vec::new() };
    let events = replay.events_of(id);
    let events = events.filter(|(line, _)| (join.line..until).contains(line));
    let mut seen = Vec::new();
    for (_, event) in events {
        match event {
            ChannelEvent::Joined { response } => seen.push(json!(["joined", shown(response)])),
            ChannelEvent::Live => seen.push(json!(["live"])),
            ChannelEvent::Broadcast(broadcast) => {
                let meta = broadcast.meta.as_ref();
                let meta = meta.map(|meta| json!([meta.id, meta.replayed])).unwrap_or_default();
                let payload = shown(&broadcast.payload);
                seen.push(json!(["broadcast", broadcast.event, payload, meta]));
            }
            ChannelEvent::Change { bindings, change } => {
                let places = (0..join.bindings.len())
                    .filter(|place| bindings.contains(join.bindings[*place]));
                let places: Vec<usize> = places.collect();
                seen.push(json!(["change", places, shown(change.data())]));
            }
            ChannelEvent::System(system) => {
                let status = format!("{:?}", system.status).to_lowercase();
                seen.push(json!(["system", [&system.extension, &status, &system.message]]));
            }
            ChannelEvent::Message { event, payload } => {
                seen.push(json!(["message", event, shown(payload)]));
            }
            ChannelEvent::Errored { cause, .. } => seen.push(json!(["errored", cause.text])),
            ChannelEvent::Closed { cause } => {
                use realtime_proto::supabase::CauseKind;
                // What the application asked for is no news.
                if cause.kind != CauseKind::Requested {
                    seen.push(json!(["closed"]));
                }
            }
            _ => {}
        }
    }
    seen
}

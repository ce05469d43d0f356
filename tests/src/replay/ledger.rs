//! What a recording says that a client must have seen, read naively and without the code under
//! test: serde's JSON values, length bytes counted by hand, one pass from top to bottom.

use std::collections::BTreeMap;

use realtime_proto::wire::Sender;
use realtime_proto::{ChannelEvent, Payload};
use serde_json::{Value, json};

use super::{Join, Replay};
use crate::encoding::hex;
use realtime_smol::recording::{Content, Told};

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

    /// Whether the snapshot of this join came.
    #[must_use]
    pub const fn has_snapshot(&self) -> bool {
        self.state.is_some()
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

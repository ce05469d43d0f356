//! Our server beside real ones: it is sent what recorded clients sent, and must say what was
//! recorded, per connection and in the same order.
//!
//! Two orders are compared, that of replies, `system` messages and ends, and that of everything
//! else, because a real server's channels race each other. What no two servers share is masked:
//! references, ids, times, and the types of columns, which ours has to guess.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::server::{
    HttpRequest, Policy, Refusal, RowChange, Server, ServerConfig, ServerTransmit, SessionId,
};
use realtime_proto::wire::{self, Body, Encoding, Sender, Vsn};
use realtime_proto::{Frame, Instant, Payload};
use realtime_tests::encoding::hex;
use realtime_tests::recording::{self, Recording, Step, What};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What our server does not do or the recording does not hold: by recording, what the connection
/// or the text begins with, on both sides, and why.
const LEFT_OUT: [(&str, &str, &str); 21] = [
    ("supabase-v1-connect-errors", "apikey in the x-api-key header", "a header is not looked at"),
    ("supabase-v1-connect-errors", "bad signature", "signatures are not verified"),
    ("supabase-v1-limits", "events", "most of the burst was not recorded"),
    ("supabase-v1-limits", "joins", "most of the burst was not recorded"),
    ("supabase-v1-postgres-changes-errors", "realtime:pgerrj1 None None", "there are no tables"),
    ("supabase-v1-postgres-changes-errors", "realtime:pgerrj4 None None", "there are no tables"),
    ("supabase-v1-postgres-rls", "realtime:rls1 None None postgres", "rows have no policy"),
    ("supabase-v1-too-large", "close", "the recorder saw no close frame"),
    ("supabase-v2-access-token", "realtime:private:room-tok10 ", "signatures are not verified"),
    ("supabase-v2-join-errors", "realtime:j3 ", "signatures are not verified"),
    ("supabase-v2-join-errors", "realtime:public None None", "changes of another run"),
    ("supabase-v2-join-errors", "realtime:public:todos None None", "changes of another run"),
    ("supabase-v2-join-errors", "realtime:dup None None broadcast", "a stale push is dropped"),
    (
        "supabase-v2-join-errors",
        "realtime:dup Some(\"d2\") Some(\"d3\")",
        "a stale push is dropped",
    ),
    (
        "supabase-v2-join-errors",
        "realtime:dup Some(\"d2\") Some(\"d6\")",
        "a leave without join_ref",
    ),
    ("supabase-v2-join-errors", "realtime:dup Some(\"d2\") Some(\"d7\")", "it has been left"),
    ("supabase-v2-official-client", "realtime:js2 None None broadcast", "sent unrecorded"),
    (
        "supabase-v2-postgres-changes",
        r#"realtime:pg2 None None postgres_changes {"data":{"columns":"*","commit_timestamp":"*","errors":null,"old_record":{"id":1},"schema":"public","table":"types""#,
        "a row that went before the recording began",
    ),
    (
        "supabase-v2-postgres-changes",
        r#"realtime:pg2 None None postgres_changes {"data":{"columns":"*","commit_timestamp":"*","errors":null,"old_record":{"id":2},"schema":"public","table":"types""#,
        "a row that went before the recording began",
    ),
    (
        "supabase-v2-refused-join-blocks",
        "realtime:blk None None broadcast {\"event\":\"own\"",
        "what one says oneself passes what waited",
    ),
    ("supabase-v2-user-broadcast-binary", "unreadable", "the keys of no JSON have another order"),
];

/// Answers over HTTP that are left out, for the same reasons.
const ANSWERS_LEFT_OUT: [(&str, usize, &str); 2] = [
    ("supabase-v1-http-broadcast", 48, "there are no tenants"),
    ("supabase-v1-limits", 196, "most of the burst was not recorded"),
];

/// Regular expressions are refused, so bindings that hold one are not asked for.
const REGULAR: &str = "match.^";

/// One thing a server said on a connection.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    connection: String,
    /// Replies, `system` messages and ends on one side, messages on the other.
    is_control: bool,
    text: String,
}

struct Play {
    name: String,
    server: Server,
    now: Instant,
    sessions: BTreeMap<String, (SessionId, Vsn)>,
    /// Connections that the client closes, whose end is the adapter's business.
    closed: BTreeSet<String>,
    ours: Vec<Said>,
    theirs: Vec<Said>,
    /// The bindings of each connection by their ids, for either side.
    bindings: [BTreeMap<(String, u64), String>; 2],
    http: Vec<(usize, u16, String)>,
}

/// The policies of the recorded project.
fn policy() -> Policy {
    ["private:room*@authenticated", "private:readonly*@authenticated=read"]
        .into_iter()
        .chain(["private:bconly*@authenticated=broadcast", "user:{sub}@authenticated"])
        .fold(Policy::closed(), |policy, rule| policy.allow(rule.parse().expect("a rule")))
}

/// How the recorded server was set up for a connection: some belong to other projects.
fn config(name: &str, connection: &str, at: Duration, unix: Duration) -> ServerConfig {
    let mut config = ServerConfig {
        reads_tokens: true,
        policy: policy(),
        plain_topics: Vec::new(),
        subscribed_after: Duration::from_millis(1),
        unix_time_at_epoch: unix,
        ..ServerConfig::default()
    };
    for (schema, table) in [("public", "nosuch"), ("realtime", "messages")] {
        config.unpublished_tables.push((schema.into(), table.into()));
    }
    let refuse = |status, error: &str| {
        let body = json!({ "error": error }).to_string();
        Some(Refusal { status, body })
    };
    match (name, connection) {
        (_, "privateonly") => config.private_only = true,
        (_, "unknown tenant (host)") => config.refuse_upgrades = refuse(404, "Tenant not found"),
        (_, "suspended tenant") => {
            config.refuse_upgrades = refuse(403, "Realtime was disabled for this tenant");
        }
        ("supabase-v1-too-large", "limited") => config.payload_bytes_max = 10_500,
        // The connection was cut before the database had confirmed a new token.
        ("supabase-v2-official-client", "js") if at > Duration::from_secs(5) => {
            config.subscribed_after = Duration::from_secs(2);
        }
        // This server had no limit on presence.
        ("supabase-v1-presence" | "supabase-v2-presence", _) => config.presence_calls_max = 100,
        ("supabase-v1-limits", "channels") => config.channels_per_session_max = 3,
        ("supabase-v1-limits", "user1" | "user2" | "user3" | "user4") => config.sessions_max = 3,
        _ => {}
    }
    config
}

impl Play {
    fn new(recording: &Recording) -> Self {
        let unix = begin(recording);
        let config = config(&recording.name, "", Duration::ZERO, unix);
        Self {
            name: recording.name.clone(),
            server: Server::new(config, 1, Instant::EPOCH),
            now: Instant::EPOCH,
            sessions: BTreeMap::new(),
            closed: BTreeSet::new(),
            ours: Vec::new(),
            theirs: Vec::new(),
            bindings: [BTreeMap::new(), BTreeMap::new()],
            http: Vec::new(),
        }
    }

    fn run(recording: &Recording) -> Self {
        let mut play = Self::new(recording);
        let unix = begin(recording);
        for (at, step) in recording.steps.iter().enumerate() {
            play.pass(Instant::EPOCH + step.at);
            if let Some(connection) = &step.connection {
                play.server.set_config(config(&recording.name, connection, step.at, unix));
            }
            play.step(step, &recording.steps[at + 1..]);
            play.collect();
        }
        let end = play.now + Duration::from_secs(1);
        play.pass(end);
        play
    }

    /// Lets time pass, with everything that falls due on the way.
    fn pass(&mut self, until: Instant) {
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= until) {
            self.server.handle_timeout(due);
            self.collect();
        }
        self.now = until;
    }

    fn step(&mut self, step: &Step, rest: &[Step]) {
        let connection = step.connection.clone().unwrap_or_default();
        match &step.what {
            What::Open { url } => {
                let target = url.split_once("4001").expect("the recorded port").1;
                match self.server.accept(target, self.now) {
                    Ok(session) => {
                        let vsn = if target.contains("vsn=2") { Vsn::V2 } else { Vsn::V1 };
                        self.sessions.insert(connection, (session, vsn));
                    }
                    Err(refusal) => {
                        self.say(0, connection, true, format!("refused {refusal}"));
                    }
                }
            }
            What::Refused { status, body } => {
                let refusal = Refusal { status: *status, body: body.clone() };
                self.say(1, connection, true, format!("refused {refusal}"));
            }
            What::Frame { from: Sender::Client, frame } => self.take(&connection, frame.clone()),
            What::Frame { from: Sender::Server, frame } => {
                let vsn = self.sessions.get(&connection).map_or(Vsn::V2, |(_, vsn)| *vsn);
                self.hear(1, &connection, vsn, frame);
            }
            What::Elided { description } => {
                if let Some(frame) = elided(description) {
                    self.take(&connection, frame);
                }
            }
            What::Close { from: Sender::Client, .. } => {
                self.closed.insert(connection.clone());
                if let Some((session, _)) = self.sessions.get(&connection) {
                    self.server.handle_close(*session, self.now);
                }
            }
            // Nobody sent a close frame: the client, or the way to it, was gone.
            What::Close { code: Some(1006), .. } => {
                if let Some((session, _)) = self.sessions.get(&connection) {
                    self.server.handle_close(*session, self.now);
                }
            }
            What::Close { code, .. } if !self.closed.contains(&connection) => {
                self.say(1, connection, true, format!("close {code:?}"));
            }
            What::Http { from: Sender::Client, .. } => self.request(step, rest),
            What::Sql { statement } => self.execute(statement, rest),
            _ => {}
        }
    }

    fn take(&mut self, connection: &str, frame: Frame) {
        let frame = match core::str::from_utf8(frame.as_bytes()) {
            Ok(text) if text.contains(REGULAR) => {
                let mut value = read(text.as_bytes());
                let bindings = value.pointer_mut("/4/config/postgres_changes");
                let bindings = bindings.and_then(Value::as_array_mut).expect("bindings");
                bindings.retain(|binding| !binding.to_string().contains(REGULAR));
                Frame::text(value.to_string())
            }
            _ => frame,
        };
        if let Some((session, _)) = self.sessions.get(connection) {
            self.server.handle_frame(*session, frame, self.now);
        }
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.server.poll_transmit() {
            let of = |sessions: &BTreeMap<String, (SessionId, Vsn)>, id| {
                let found = sessions.iter().find(|(_, (session, _))| *session == id);
                found.map(|(name, (_, vsn))| (name.clone(), *vsn)).expect("a session")
            };
            match transmit {
                ServerTransmit::Frame { session, frame } => {
                    let (connection, vsn) = of(&self.sessions, session);
                    self.hear(0, &connection, vsn, &frame);
                }
                ServerTransmit::Close { session, code, .. } => {
                    let (connection, _) = of(&self.sessions, session);
                    self.say(0, connection, true, format!("close {:?}", Some(code)));
                }
                other => panic!("{other:?}"),
            }
        }
        while self.server.poll_event().is_some() {}
    }

    fn hear(&mut self, side: usize, connection: &str, vsn: Vsn, frame: &Frame) {
        let Ok(envelope) = wire::decode(vsn, Sender::Server, frame) else {
            let text = String::from_utf8_lossy(frame.as_bytes()).into_owned();
            self.say(side, connection.into(), false, format!("unreadable {text}"));
            return;
        };
        let payload = match &envelope.body {
            Body::Json(text) => serde_json::from_str(text).expect("JSON"),
            Body::Binary(bytes) => json!({ "bytes": hex(bytes) }),
            Body::Reply { status, response } => json!([format!("{status:?}"), hex(response)]),
            Body::UserBroadcast { event, encoding, metadata, payload } => {
                let meta: Value = metadata.map_or(Value::Null, |text| read(text.as_bytes()));
                let payload = match encoding {
                    Encoding::Json => read(payload),
                    Encoding::Binary => json!(hex(payload)),
                };
                json!({ "kind": 4, "event": event, "meta": meta, "payload": payload })
            }
        };
        let payload = self.masked(side, connection, payload);
        let is_control =
            matches!(&*envelope.event, "phx_reply" | "system" | "phx_close" | "phx_error");
        let text = format!(
            "{} {:?} {:?} {} {payload}",
            envelope.topic, envelope.join_ref, envelope.msg_ref, envelope.event,
        );
        self.say(side, connection.into(), is_control, text);
    }

    fn say(&mut self, side: usize, connection: String, is_control: bool, text: String) {
        let said = if side == 0 { &mut self.ours } else { &mut self.theirs };
        said.push(Said { connection, is_control, text });
    }

    /// Takes out of a payload what no two servers share.
    fn masked(&mut self, side: usize, connection: &str, mut payload: Value) -> Value {
        let bindings = payload.pointer_mut("/response/postgres_changes");
        if let Some(list) = bindings.and_then(Value::as_array_mut) {
            for entry in &mut *list {
                let object = entry.as_object_mut().expect("an object");
                let id = object.remove("id").expect("an id").as_u64().expect("a number");
                let key = (connection.to_owned(), id);
                self.bindings[side].insert(key, Value::Object(object.clone()).to_string());
            }
            list.retain(|entry| !entry.to_string().contains(REGULAR));
        }
        if let Some(ids) = payload.get_mut("ids").and_then(Value::as_array_mut) {
            let names = ids.iter().map(|id| {
                let id = id.as_u64().expect("a number");
                self.bindings[side][&(connection.to_owned(), id)].clone()
            });
            let names: BTreeSet<String> = names.filter(|name| !name.contains(REGULAR)).collect();
            *ids = names.into_iter().map(Value::from).collect();
        }
        mask(&mut payload);
        payload
    }

    fn request(&mut self, step: &Step, rest: &[Step]) {
        let What::Http { data, body, .. } = &step.what else { panic!("a request") };
        let answer = rest.iter().find_map(|step| match &step.what {
            What::Http { from: Sender::Server, data, .. } => Some((step.line, data.clone())),
            _ => None,
        });
        let (line, _) = answer.expect("an answer");
        let raw = raw_line(&self.name, step.line);
        let header = |name: &str| raw["headers"][name].as_str().map(str::to_owned);
        let bytes = match body.strip_prefix("base64:") {
            Some(text) => realtime_tests::encoding::unbase64(text),
            None => body.clone().into_bytes(),
        };
        let (method, target) = data.split_once(' ').expect("a method and a target");
        let response = self.server.handle_http(
            &HttpRequest {
                method,
                target,
                authorization: header("authorization").as_deref(),
                apikey: header("apikey").as_deref(),
                content_type: header("content-type").as_deref(),
                body: &bytes,
            },
            self.now,
        );
        match response {
            Some(response) => self.http.push((line, response.status, response.body)),
            // The administrator's side, of which clients see that everyone is disconnected.
            None if target == "/api/tenants/127/reload" => {
                self.server.close_all(1012, "", self.now);
            }
            None => assert_eq!(target, "/api/tenants/127/shutdown"),
        }
    }

    /// Does what a statement of the recording did, as far as listeners saw it.
    fn execute(&mut self, statement: &str, rest: &[Step]) {
        let literals: Vec<&str> = statement.split('\'').skip(1).step_by(2).collect();
        let is_private = !statement.trim_end().ends_with("false)");
        if statement.starts_with("select realtime.send(") {
            let payload = Payload::from_json(literals[0].to_owned()).expect("JSON");
            let topic = format!("realtime:{}", literals[2]);
            self.server.send_from_database(&topic, literals[1], &payload, is_private, self.now);
            return;
        }
        if statement.starts_with("select realtime.send_binary(") {
            let bytes = literals[0].trim_start_matches("\\x");
            let payload = Payload::binary(realtime_tests::encoding::unhex(bytes));
            let topic = format!("realtime:{}", literals[2]);
            self.server.send_from_database(&topic, literals[1], &payload, is_private, self.now);
            return;
        }
        // The rows are those that the recorded listeners were told.
        let until = rest.iter().position(|step| matches!(step.what, What::Sql { .. }));
        let mut told: Vec<(Value, String)> = Vec::new();
        for step in &rest[..until.unwrap_or(rest.len())] {
            let What::Frame { from: Sender::Server, frame } = &step.what else { continue };
            let vsn = step.connection.as_ref().and_then(|name| self.sessions.get(name));
            let vsn = vsn.map_or(Vsn::V2, |(_, vsn)| *vsn);
            let Ok(envelope) = wire::decode(vsn, Sender::Server, frame) else { continue };
            match (&*envelope.event, &envelope.body) {
                ("postgres_changes", Body::Json(text)) => {
                    let data = read(text.as_bytes())["data"].clone();
                    // As it stands, for the order of its columns.
                    let raw: BTreeMap<&str, &RawValue> = serde_json::from_str(text).expect("JSON");
                    // With `select` the same change comes again with less.
                    let again = |(other, _): &(Value, String)| {
                        other["commit_timestamp"] == data["commit_timestamp"]
                            && other["record"]["id"] == data["record"]["id"]
                            && other["old_record"]["id"] == data["old_record"]["id"]
                    };
                    if !told.iter().any(again) {
                        told.push((data, raw["data"].get().to_owned()));
                    }
                }
                ("broadcast", Body::UserBroadcast { payload, .. }) => {
                    let mut data = read(payload);
                    if data.get("operation").is_none() {
                        continue;
                    }
                    data["type"] = data["operation"].take();
                    let change = RowChange::from_json(&data.to_string()).expect("a change");
                    self.server.broadcast_change(&envelope.topic, &change, self.now);
                }
                _ => {}
            }
        }
        for (_, raw) in told {
            let change = RowChange::from_json(&raw).expect("a change");
            self.server.change(&change, self.now);
        }
    }

    fn is_out(&self, said: &Said, (name, start, _): &(&str, &str, &str)) -> bool {
        let starts = said.text.starts_with(start) || said.connection.starts_with(start);
        *name == self.name && starts
    }

    /// What either side said, without what is left out.
    fn compared(&self, side: &[Said], is_control: bool) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for said in side.iter().filter(|said| said.is_control == is_control) {
            let is_out = LEFT_OUT.iter().any(|left_out| self.is_out(said, left_out));
            if !is_out {
                all.entry(said.connection.clone()).or_default().push(said.text.clone());
            }
        }
        all
    }
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(bytes)))
}

/// One line of a recording as it stands, for the headers of requests.
fn raw_line(name: &str, line: usize) -> Value {
    let text = realtime_tests::fixture(&format!("transcripts/{name}.jsonl"));
    read(text.lines().nth(line - 1).expect("the line").as_bytes())
}

/// The Unix time at the start of a recording: when the first token in it was made.
fn begin(recording: &Recording) -> Duration {
    let issued = recording.steps.iter().find_map(|step| {
        let What::Open { url } = &step.what else { return None };
        let claims = url.split_once("apikey=")?.1.split('.').nth(1)?;
        let claims = claims.replace('-', "+").replace('_', "/");
        let padded = format!("{claims}{}", "=".repeat((4 - claims.len() % 4) % 4));
        let iat = read(&realtime_tests::encoding::unbase64(&padded))["iat"].as_u64()?;
        Some(Duration::from_secs(iat).saturating_sub(step.at))
    });
    issued.unwrap_or_default() + Duration::from_millis(500)
}

/// A frame that was too large to record.
fn elided(description: &str) -> Option<Frame> {
    let words: Vec<&str> = description.trim_matches(['(', ')']).split([' ', ',']).collect();
    let ["broadcast", "", "ref", reference, "", "payload.d", "of", size, "bytes"] = words[..]
    else {
        return None;
    };
    let d = "x".repeat(size.parse().ok()?);
    let frame = json!({
        "topic": "realtime:big", "event": "broadcast", "ref": reference, "join_ref": "1",
        "payload": { "type": "broadcast", "event": "e", "payload": { "d": d } },
    });
    Some(Frame::text(frame.to_string()))
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_text(text),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(map) => {
            // Of a row that is gone our server knows what it was told and no more.
            let is_gone = map.get("type").is_some_and(|word| word == "DELETE");
            let entries = core::mem::take(map);
            for (key, mut value) in entries {
                match key.as_str() {
                    "columns" if is_gone => value = json!("*"),
                    "phx_ref" | "phx_ref_prev" | "commit_timestamp" => value = json!("*"),
                    "columns" => {
                        let columns = value.as_array().expect("a list").iter();
                        let names = columns.map(|column| column["name"].to_string());
                        value = names.collect::<BTreeSet<_>>().into_iter().collect();
                    }
                    _ => mask(&mut value),
                }
                map.insert(mask_text(&key), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without the UUID or the number of seconds in it.
fn mask_text(text: &str) -> String {
    let is_uuid = text.len() == 36
        && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    if is_uuid {
        return "UUID".into();
    }
    match text.split_once("Token has expired ") {
        Some((before, _)) => format!("{before}Token has expired N seconds ago"),
        None => text.into(),
    }
}

#[test]
fn our_server_says_what_real_ones_said() {
    let mut compared = 0;
    let mut wrong = Vec::new();
    let mut unneeded: BTreeSet<_> = LEFT_OUT.iter().collect();
    for name in recording::names() {
        if !name.starts_with("supabase-") {
            continue;
        }
        let play = Play::run(&recording::load(&name));
        let said = || play.ours.iter().chain(&play.theirs);
        unneeded.retain(|left_out| !said().any(|said| play.is_out(said, left_out)));
        for is_control in [true, false] {
            let ours = play.compared(&play.ours, is_control);
            let theirs = play.compared(&play.theirs, is_control);
            compared += theirs.values().map(Vec::len).sum::<usize>();
            let connections: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for connection in connections {
                let empty = Vec::new();
                let ours = ours.get(connection).unwrap_or(&empty);
                let theirs = theirs.get(connection).unwrap_or(&empty);
                let at = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
                let at = at.unwrap_or_else(|| ours.len().min(theirs.len()));
                if ours != theirs {
                    let show = |said: &[String]| {
                        let next = said.iter().skip(at).take(3);
                        let next = next.map(|text| text.chars().take(400).collect::<String>());
                        next.collect::<Vec<_>>().join("\n         ")
                    };
                    wrong.push(format!(
                        "{name}, {connection}, {at}:\n  theirs {}\n  ours   {}",
                        show(theirs),
                        show(ours)
                    ));
                }
            }
        }
        for (line, status, body) in &play.http {
            let raw = raw_line(&name, *line);
            if ANSWERS_LEFT_OUT.iter().any(|(of, out, _)| *of == name && out == line) {
                continue;
            }
            compared += 1;
            if raw["status"] != *status || raw["data"].as_str() != Some(&**body) {
                wrong.push(format!("{name}:{line} {} != {status} {body}", raw["data"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(unneeded.is_empty(), "{unneeded:?}");
    assert!(compared > 550, "{compared}");
}

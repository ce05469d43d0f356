//! `presence.json`: what the official clients make of snapshots and diffs, and what ours makes of
//! the same, given by a server that a client joined.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails on what it did not expect"
)]

use realtime_proto::supabase::JoinConfig;
use realtime_proto::wire::Vsn;
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, Client, Config, Event, Frame, Instant, Member, Payload,
    Presence, PresenceCall, PresenceDiff, SocketId, Transmit,
};
use realtime_tests::fixture;
use serde_json::{Value, json};

const NOW: Instant = Instant::EPOCH;

type Keys = &'static [&'static str];

/// Who came, changed and went, derived by hand from the `calls` of each case: an `onJoin` without
/// `current` is somebody new, an `onLeave` that leaves no metas is somebody gone, and whoever has
/// any other call has changed.
const FOLDED: [(&str, Keys, Keys, Keys); 10] = [
    ("diff_join_second_device", &[], &["u1"], &[]),
    ("diff_leave_last", &[], &[], &["u1"]),
    ("state_same", &[], &[], &[]),
    ("diff_update_same_key", &[], &["u1"], &[]),
    ("diff_join_duplicate_ref", &[], &["u1"], &[]),
    ("state_all_gone", &[], &[], &["u1"]),
    ("state_proto_key", &["__proto__", "constructor"], &[], &[]),
    ("state_into_empty", &["u1", "u2"], &[], &[]),
    ("state_partial", &["u3"], &["u1"], &["u2"]),
    ("diff_extra_top_level_keys", &["u1"], &[], &[]),
];

/// A client that has joined a channel with presence, and the server it talks to.
struct Talk {
    client: Client,
    vsn: Vsn,
    socket: SocketId,
    channel: ChannelId,
}

impl Talk {
    fn new(vsn: Vsn, config: ChannelConfig) -> Self {
        let settings = Config::builder("ws://scripted.test/socket").vsn(vsn).build().unwrap();
        let mut client = Client::new(settings, 1, NOW);
        let channel = client.open_channel("realtime:vectors", config, NOW).unwrap();
        client.connect(NOW);
        let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else {
            panic!("a connection is opened");
        };
        client.handle_open(socket, NOW);
        assert!(matches!(client.poll_transmit(), Some(Transmit::Frame { .. })), "a join");
        let mut talk = Self { client, vsn, socket, channel };
        talk.tell("phx_reply", Some("1"), &json!({"status": "ok", "response": {}}));
        talk
    }

    /// The server's message; the join of the only channel has the ref "1".
    fn tell(&mut self, event: &str, msg_ref: Option<&str>, payload: &Value) {
        let topic = "realtime:vectors";
        let text = match self.vsn {
            Vsn::V1 => json!({"topic": topic, "event": event, "payload": payload, "ref": msg_ref}),
            Vsn::V2 => json!([null, msg_ref, topic, event, payload]),
        };
        self.client.handle_frame(self.socket, Frame::text(text.to_string()), NOW);
    }

    fn presence_events(&mut self) -> Vec<PresenceDiff> {
        let mut diffs = Vec::new();
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Channel(_, ChannelEvent::Presence(diff)) => diffs.push(diff),
                Event::Violation(violation) => panic!("{violation}"),
                _ => {}
            }
        }
        diffs
    }

    /// The members as the official clients show them.
    fn members(&mut self) -> Value {
        let channel = self.client.channel(self.channel).unwrap();
        let members = channel.presence().members();
        members
            .map(|(key, metas)| (key.to_owned(), metas.iter().map(shown).collect::<Vec<_>>()))
            .collect()
    }
}

fn shown(meta: &realtime_proto::Meta) -> Value {
    let value: Value = serde_json::from_str(meta.value.as_json().unwrap()).unwrap();
    assert_eq!(value["phx_ref"], meta.phx_ref);
    let prev = meta.phx_ref_prev.as_deref().map(Value::from).unwrap_or_default();
    assert_eq!(value["phx_ref_prev"], prev);
    value
}

fn flavours() -> [ChannelConfig; 2] {
    [
        ChannelConfig::supabase(JoinConfig::default()).with_presence(),
        ChannelConfig::phoenix(Payload::empty()).with_presence(),
    ]
}

fn cases() -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(&fixture("presence.json")).unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    let known: Vec<&str> = FOLDED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, known, "each case has its fold");
    cases
}

/// The metas of each key, without what stands beside them.
fn metas(entries: &Value) -> Value {
    let entries = entries.as_object().unwrap().iter();
    entries.map(|(key, entry)| (key.clone(), entry["metas"].clone())).collect()
}

#[test]
fn every_case_ends_with_the_members_of_the_official_clients() {
    for case in cases() {
        for vsn in [Vsn::V1, Vsn::V2] {
            for config in flavours() {
                let mut talk = Talk::new(vsn, config);
                talk.tell("presence_state", None, &case["state"]);
                assert_eq!(talk.members(), metas(&case["state"]), "{}", case["name"]);
                talk.tell(message(&case), None, &case["input"]);
                assert_eq!(talk.members(), metas(&case["result"]), "{}, {vsn}", case["name"]);
            }
        }
    }
}

#[test]
fn every_case_is_told_as_who_came_who_changed_and_who_went() {
    for (case, (name, joined, updated, left)) in cases().iter().zip(FOLDED) {
        let mut talk = Talk::new(Vsn::V2, flavours()[0].clone());
        talk.tell("presence_state", None, &case["state"]);
        talk.presence_events();
        talk.tell(message(case), None, &case["input"]);
        let mut diffs = talk.presence_events();
        let snapshot = case["op"] == "syncState";
        assert_eq!(diffs.len(), 1, "{name}");
        let diff = diffs.remove(0);
        assert_eq!(diff.synced, snapshot, "{name}");
        let keys = |members: &[Member]| -> Vec<String> {
            members.iter().map(|member| member.key.clone()).collect()
        };
        assert_eq!(keys(&diff.joined), joined, "{name}");
        assert_eq!(keys(&diff.updated), updated, "{name}");
        assert_eq!(keys(&diff.left), left, "{name}");
        // Who is here comes with all metas there are now, who went with those there were.
        for (members, metas) in [
            (&diff.joined, &case["result"]),
            (&diff.updated, &case["result"]),
            (&diff.left, &case["state"]),
        ] {
            for member in members {
                let shown: Vec<Value> = member.metas.iter().map(shown).collect();
                assert_eq!(Value::from(shown), metas[&member.key]["metas"], "{name}");
            }
        }
    }
}

/// The official clients hold a diff that comes before the snapshot and apply it on top.
#[test]
fn a_diff_that_comes_before_the_snapshot_counts_after_it() {
    for case in cases().iter().filter(|case| case["op"] == "syncDiff") {
        let mut talk = Talk::new(Vsn::V2, flavours()[1].clone());
        talk.tell("presence_diff", None, &case["input"]);
        assert_eq!(talk.presence_events(), [], "{}: nothing is known yet", case["name"]);
        talk.tell("presence_state", None, &case["state"]);
        assert_eq!(talk.members(), metas(&case["result"]), "{}", case["name"]);
        let diffs = talk.presence_events();
        assert_eq!(diffs.len(), 1, "{}: told once", case["name"]);
        assert!(diffs[0].synced && diffs[0].updated.is_empty() && diffs[0].left.is_empty());
    }
}

/// A presence on its own that has the state of a case, then what it says to the input.
fn calls(case: &Value) -> (Presence, Vec<PresenceCall>) {
    let payload = |value: &Value| Payload::json(value).unwrap();
    let mut presence = Presence::default().with_calls();
    presence.handle_state(&payload(&case["state"]), NOW).unwrap();
    let told = match message(case) {
        "presence_state" => presence.handle_state(&payload(&case["input"]), NOW),
        _ => presence.handle_diff(&payload(&case["input"])),
    };
    (presence, told.unwrap().calls)
}

/// A member as the official client has it: its metas, and what stands beside them.
fn official(member: &Member) -> Value {
    let extra = member.extra.as_ref().map(|extra| extra.to::<Value>().unwrap());
    let mut entry = extra.unwrap_or_else(|| json!({}));
    entry["metas"] = member.metas.iter().map(shown).collect();
    entry
}

#[test]
fn every_case_makes_the_calls_of_the_official_client() {
    for case in cases() {
        let (presence, calls) = calls(&case);
        let (last, calls) = calls.split_last().unwrap();
        assert_eq!(*last, PresenceCall::Sync, "{}", case["name"]);
        let calls = calls.iter().map(|call| match call {
            PresenceCall::Join { current, new } => json!({
                "cb": "onJoin", "key": new.key, "current": current.as_ref().map(official),
                "arg": official(new),
            }),
            PresenceCall::Leave { current, left } => json!({
                "cb": "onLeave", "key": left.key, "current": official(current),
                "arg": official(left),
            }),
            PresenceCall::Sync => panic!("{}: synced twice", case["name"]),
        });
        assert_eq!(calls.collect::<Value>(), case["calls"], "{}", case["name"]);
        let members = presence.list().map(|member| (member.key.clone(), official(&member)));
        assert_eq!(members.collect::<Value>(), case["result"], "{}", case["name"]);
    }
}

/// What realtime-js makes of a member: its metas, with `phx_ref` under another name (§4.3).
fn realtime_js(metas: &[realtime_proto::Meta]) -> Value {
    let metas = metas.iter().map(|meta| {
        let mut value = meta.to::<serde_json::Map<String, Value>>().unwrap();
        value.remove("phx_ref_prev");
        let phx_ref = value.remove("phx_ref").unwrap();
        value.insert("presence_ref".into(), phx_ref);
        Value::from(value)
    });
    metas.collect()
}

#[test]
fn the_events_and_the_state_of_realtime_js_follow_from_the_calls() {
    for case in cases() {
        let (presence, calls) = calls(&case);
        let events = calls.iter().filter_map(|call| match call {
            PresenceCall::Join { current, new } => Some(json!({
                "event": "join", "key": new.key, "newPresences": realtime_js(&new.metas),
                "currentPresences": realtime_js(current.as_ref().map_or(&[], |m| &m.metas)),
            })),
            PresenceCall::Leave { current, left } => Some(json!({
                "event": "leave", "key": left.key, "leftPresences": realtime_js(&left.metas),
                "currentPresences": realtime_js(&current.metas),
            })),
            PresenceCall::Sync => None,
        });
        assert_eq!(events.collect::<Value>(), case["realtime_js_events"], "{}", case["name"]);
        // Its state is a plain object, which cannot have this key; ours can.
        let members = presence.members().filter(|(key, _)| *key != "__proto__");
        let members = members.map(|(key, metas)| (key.to_owned(), realtime_js(metas)));
        assert_eq!(members.collect::<Value>(), case["realtime_js_state"], "{}", case["name"]);
    }
}

#[test]
fn a_client_tells_the_same_calls_before_the_folded_change() {
    for case in cases() {
        let mut talk = Talk::new(Vsn::V2, flavours()[0].clone().with_presence_calls());
        talk.tell("presence_state", None, &case["state"]);
        talk.presence_events();
        talk.tell(message(&case), None, &case["input"]);
        let Some(Event::Channel(_, ChannelEvent::PresenceCalls(told))) = talk.client.poll_event()
        else {
            panic!("{}: the calls are told", case["name"]);
        };
        assert_eq!(told, calls(&case).1, "{}", case["name"]);
        assert_eq!(talk.presence_events().len(), 1, "{}", case["name"]);
    }
}

fn message(case: &Value) -> &'static str {
    match case["op"].as_str() {
        Some("syncState") => "presence_state",
        Some("syncDiff") => "presence_diff",
        other => panic!("{other:?} is no operation"),
    }
}

//! Random histories of presence through the npm `phoenix` and through ours.
//!
//! Both are fed the same frames, but for the refs, which each chooses for itself. After every
//! frame the members are compared, and what ours tells of who came, changed and went is compared
//! with the members that npm shows before and after.

use core::fmt::Write;
use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::wire::Vsn;
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, Config, Event, Limits, Member, Meta, Payload,
    PresenceDiff, Violation,
};
use realtime_tests::dice::Dice;
use realtime_tests::fixture;
use realtime_tests::node::Script;
use realtime_tests::peer::Peer;
use serde_json::{Value, json};

const HISTORIES: u64 = 20_000;
const TOPIC: &str = "room:interop";

/// Keys of the kinds that have tripped clients, and plain ones.
const KEYS: [&str; 12] = [
    "ana",
    "ben",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "",
    " ",
    "7",
    "-1",
    "ключ \u{1F600}\u{2028}\"\\\n",
    "\u{FFFD}e\u{301}",
];

/// One thing that happens to a channel.
#[derive(Clone, Debug)]
enum Step {
    /// A message, the join it names, and its payload.
    Message(Kind, JoinRef, String),
    /// The join is accepted.
    Ok,
    /// The server's channel crashes.
    Crash,
    /// The client asks to join again after a crash.
    Rejoin,
    /// The connection is lost, and the client asks to join on the next one.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    State,
    Diff,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum JoinRef {
    Current,
    Old,
    None,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Diff => "diff",
        }
    }
}

/// The history as presence.mjs reads it.
fn question(vsn: Vsn, forget: bool, steps: &[Step]) -> String {
    let steps: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Message(kind, join_ref, payload) => {
                let join_ref = match join_ref {
                    JoinRef::Current => r#""current""#,
                    JoinRef::Old => r#""old""#,
                    JoinRef::None => "null",
                };
                format!(r#"["{}",{join_ref},{payload}]"#, kind.word())
            }
            Step::Ok => r#"["ok"]"#.into(),
            Step::Crash => r#"["crash"]"#.into(),
            Step::Rejoin => r#"["rejoin"]"#.into(),
            Step::Cut => r#"["cut"]"#.into(),
        })
        .collect();
    format!(r#"{{"vsn":"{vsn}","forget":{forget},"steps":[{}]}}"#, steps.join(","))
}

/// A server's view of who is there, and a history that it tells now well, now badly.
struct Author {
    dice: Dice,
    keys: Vec<&'static str>,
    /// The refs of each member's devices, oldest first.
    here: BTreeMap<&'static str, Vec<u32>>,
    refs: u32,
}

type Entries = BTreeMap<&'static str, Vec<String>>;

fn meta(phx_ref: u32, previous: Option<u32>) -> String {
    match previous {
        Some(previous) => format!(r#"{{"phx_ref":"{phx_ref}","phx_ref_prev":"{previous}","n":2}}"#),
        None => format!(r#"{{"n":1,"phx_ref":"{phx_ref}"}}"#),
    }
}

fn object(entries: &Entries) -> String {
    let entry = |(key, metas): (&&str, &Vec<String>)| {
        format!(r#"{}:{{"metas":[{}]}}"#, Value::from(*key), metas.join(","))
    };
    format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

fn diff(joins: &Entries, leaves: &Entries) -> String {
    format!(r#"{{"joins":{},"leaves":{}}}"#, object(joins), object(leaves))
}

impl Author {
    fn write(seed: u64) -> (Vsn, Vec<Step>) {
        let mut dice = Dice::new(seed);
        let vsn = if dice.one_in(5) { Vsn::V1 } else { Vsn::V2 };
        let mut keys: Vec<&str> = (0..1 + dice.below(4)).map(|_| *dice.pick(&KEYS)).collect();
        keys.dedup();
        let mut author = Self { dice, keys, here: BTreeMap::new(), refs: 0 };
        let mut steps = Vec::new();
        for _ in 0..4 + author.dice.below(10) {
            let step = author.step(vsn);
            let crashed = matches!(step, Step::Crash);
            steps.push(step);
            if crashed {
                steps.push(Step::Rejoin);
            }
        }
        (vsn, steps)
    }

    fn step(&mut self, vsn: Vsn) -> Step {
        match self.dice.below(16) {
            0 => Step::Crash,
            1 => Step::Cut,
            2 | 3 => Step::Ok,
            4 | 5 => Step::Message(Kind::State, self.join_ref(vsn), self.state()),
            6 => Step::Message(Kind::State, self.join_ref(vsn), object(&self.anything())),
            7 | 8 => {
                let payload = diff(&self.anything(), &self.anything());
                Step::Message(Kind::Diff, self.join_ref(vsn), payload)
            }
            _ => Step::Message(Kind::Diff, self.join_ref(vsn), self.change()),
        }
    }

    /// Diffs are broadcasts that name no join on most servers.
    fn join_ref(&mut self, vsn: Vsn) -> JoinRef {
        match self.dice.below(10) {
            _ if vsn == Vsn::V1 => JoinRef::None,
            0 => JoinRef::Old,
            1..5 => JoinRef::Current,
            _ => JoinRef::None,
        }
    }

    /// A snapshot of who is there.
    fn state(&self) -> String {
        let metas = |refs: &Vec<u32>| refs.iter().map(|phx_ref| meta(*phx_ref, None)).collect();
        object(&self.here.iter().map(|(key, refs)| (*key, metas(refs))).collect())
    }

    /// What a server tells when somebody comes, changes or goes: now and then of several at once,
    /// and now and then a message that the client never gets.
    fn change(&mut self) -> String {
        let (mut joins, mut leaves) = (Entries::new(), Entries::new());
        loop {
            self.happen(&mut joins, &mut leaves);
            if !self.dice.one_in(3) {
                break;
            }
        }
        if self.dice.one_in(8) {
            self.happen(&mut Entries::new(), &mut Entries::new());
        }
        diff(&joins, &leaves)
    }

    fn happen(&mut self, joins: &mut Entries, leaves: &mut Entries) {
        let key = *self.dice.pick(&self.keys);
        let refs = self.here.entry(key).or_default();
        self.refs += 1;
        let new = self.refs;
        if refs.is_empty() || self.dice.one_in(3) {
            refs.push(new);
            joins.entry(key).or_default().push(meta(new, None));
            return;
        }
        let old = refs.remove(self.dice.below(refs.len()));
        leaves.entry(key).or_default().push(meta(old, None));
        if self.dice.one_in(2) {
            refs.push(new);
            joins.entry(key).or_default().push(meta(new, Some(old)));
        } else if refs.is_empty() {
            self.here.remove(key);
        }
    }

    /// Entries that no server would send: known and unknown refs, repeated ones, no metas.
    fn anything(&mut self) -> Entries {
        let mut entries = Entries::new();
        for _ in 0..self.dice.below(4) {
            let key = *self.dice.pick(&self.keys);
            let refs: Vec<usize> = (0..self.dice.below(4)).map(|_| self.dice.below(8)).collect();
            let previous = self.dice.one_in(4).then_some(0);
            entries.insert(key, refs.iter().map(|n| meta(*n as u32, previous)).collect());
        }
        entries
    }
}

/// Our client in the place of npm's.
struct Ours {
    peer: Peer,
    vsn: Vsn,
    channel: ChannelId,
    current: String,
    old: String,
}

impl Ours {
    fn join(vsn: Vsn) -> Self {
        let at_once = || Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
        let mut limits = Limits::default();
        limits.joins_per_second_max = 1_000_000;
        let settings = Config::builder("ws://scripted.test/socket").vsn(vsn).limits(limits);
        let mut peer = Peer::connected(settings.reconnect(at_once()).rejoin(at_once()));
        let config = ChannelConfig::phoenix(Payload::empty()).with_presence();
        let channel = peer.command(|client, now| client.open_channel(TOPIC, config, now)).unwrap();
        let (current, old) = ("0".to_owned(), "0".to_owned());
        let mut ours = Self { peer, vsn, channel, current, old };
        ours.await_join();
        ours
    }

    fn await_join(&mut self) {
        for _ in 0..100 {
            for frame in self.peer.take_frames() {
                let frame: Value = serde_json::from_str(&frame).unwrap();
                let (event, msg_ref) = match self.vsn {
                    Vsn::V1 => (&frame["event"], &frame["ref"]),
                    Vsn::V2 => (&frame[3], &frame[1]),
                };
                if event == "phx_join" {
                    let current = msg_ref.as_str().unwrap().to_owned();
                    self.old = core::mem::replace(&mut self.current, current);
                    return;
                }
            }
            self.peer.pass(Duration::from_millis(1));
        }
        panic!("it does not ask to join");
    }

    fn say(&mut self, join_ref: Option<&str>, msg_ref: Option<&str>, event: &str, payload: &str) {
        let quoted = |text: Option<&str>| match text {
            Some(text) => format!("\"{text}\""),
            None => "null".into(),
        };
        let (join_ref, msg_ref) = (quoted(join_ref), quoted(msg_ref));
        self.peer.say(&match self.vsn {
            Vsn::V1 => format!(
                r#"{{"topic":"{TOPIC}","event":"{event}","payload":{payload},"ref":{msg_ref}}}"#
            ),
            Vsn::V2 => format!(r#"[{join_ref},{msg_ref},"{TOPIC}","{event}",{payload}]"#),
        });
    }

    /// Takes one step, and writes what came of it as presence.mjs does.
    fn step(&mut self, step: &Step, out: &mut String) {
        let (current, old) = (self.current.clone(), self.old.clone());
        let current = Some(current.as_str());
        match step {
            Step::Message(kind, join_ref, payload) => {
                let join_ref = match join_ref {
                    JoinRef::Current => current,
                    JoinRef::Old => Some(old.as_str()),
                    JoinRef::None => None,
                };
                self.say(join_ref, None, &format!("presence_{}", kind.word()), payload);
            }
            Step::Ok => {
                self.say(current, current, "phx_reply", r#"{"status":"ok","response":{}}"#);
            }
            Step::Crash => self.say(current, current, "phx_error", "{}"),
            Step::Rejoin => self.await_join(),
            Step::Cut => {
                self.peer.close(1006);
                let lost = self.peer.socket();
                while self.peer.socket() == lost {
                    self.peer.pass(Duration::from_millis(1));
                }
                self.peer.accept();
                self.await_join();
                // Nothing of an older join comes on a new connection.
                self.old = "0".into();
            }
        }
        let mut told = self.peer.take_events().into_iter().filter_map(|event| match event {
            Event::Channel(_, ChannelEvent::Presence(diff)) => Some(diff),
            Event::Violation(violation) => panic!("{violation}"),
            _ => None,
        });
        let diff = told.next();
        assert_eq!(told.next(), None, "one message is told once");
        drop(told);
        let channel = self.channel;
        self.peer.command(|client, _| {
            out.push_str(r#"{"members":"#);
            write_members(client.channel(channel).unwrap().presence().members(), out);
        });
        out.push_str(r#","fold":"#);
        match diff {
            None => out.push_str("null"),
            Some(diff) => write_diff(&diff, out),
        }
        out.push('}');
    }
}

fn write_members<'a>(members: impl Iterator<Item = (&'a str, &'a [Meta])>, out: &mut String) {
    out.push('[');
    for (at, (key, metas)) in members.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, r#"{comma}[{},{{"metas":["#, Value::from(key)).unwrap();
        for (at, meta) in metas.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            out.push_str(meta.value.as_json().unwrap());
        }
        out.push_str("]}]");
    }
    out.push(']');
}

fn write_diff(diff: &PresenceDiff, out: &mut String) {
    for (word, members) in [
        (r#"{"joined":"#, &diff.joined),
        (r#","updated":"#, &diff.updated),
        (r#","left":"#, &diff.left),
    ] {
        out.push_str(word);
        write_members(members.iter().map(|Member { key, metas }| (&**key, &**metas)), out);
    }
    write!(out, r#","synced":{}}}"#, diff.synced).unwrap();
}

/// Says at which step of a history the two differ.
fn assert_same(seed: u64, steps: &[Step], npm: &str, ours: &str) {
    if npm == ours {
        return;
    }
    let [npm, ours] = [npm, ours].map(|text| serde_json::from_str::<Vec<Value>>(text).unwrap());
    for (at, step) in steps.iter().enumerate() {
        if npm[at] != ours[at] {
            let before: Vec<String> = steps[..at].iter().map(|step| format!("{step:?}")).collect();
            panic!(
                "history {seed} at {step:?}\nafter {}\nnpm  {}\nours {}",
                before.join("\n      "),
                npm[at],
                ours[at],
            );
        }
    }
    panic!("history {seed}: {npm:?} is not {ours:?}");
}

#[test]
fn the_vectors_of_presence_are_what_the_locked_phoenix_gives() {
    let Some(mut npm) = Script::start("presence") else { return };
    let cases: Vec<Value> = serde_json::from_str(&fixture("presence.json")).unwrap();
    let questions: Vec<String> = cases
        .iter()
        .map(|case| json!({"op": case["op"], "state": case["state"], "input": case["input"]}))
        .map(|question| question.to_string())
        .collect();
    npm.ask_all(&questions, |at, answer| {
        let (answer, case): (Value, _) = (serde_json::from_str(answer).unwrap(), &cases[at]);
        assert_eq!(answer["result"], case["result"], "{}", case["name"]);
        assert_eq!(answer["calls"], case["calls"], "{}", case["name"]);
    });
}

/// What npm and ours make of one history, step by step.
fn both(npm: &mut Script, forget: bool, steps: &[Step]) -> [Vec<Value>; 2] {
    let mut npms = Vec::new();
    npm.ask_all(&[question(Vsn::V2, forget, steps)], |_, answer| {
        npms = serde_json::from_str(answer).unwrap();
    });
    let mut client = Ours::join(Vsn::V2);
    let step = |step| {
        let mut text = String::new();
        client.step(step, &mut text);
        serde_json::from_str(&text).unwrap()
    };
    [npms, steps.iter().map(step).collect()]
}

/// The keys of the members after a step.
fn keys(step: &Value) -> Vec<&str> {
    let members = step["members"].as_array().unwrap();
    members.iter().map(|member| member[0].as_str().unwrap()).collect()
}

fn state(payload: &str) -> Step {
    Step::Message(Kind::State, JoinRef::Current, payload.into())
}

fn joins(payload: &str) -> Step {
    let payload = format!(r#"{{"joins":{payload},"leaves":{{}}}}"#);
    Step::Message(Kind::Diff, JoinRef::None, payload)
}

const ANA: &str = r#"{"ana":{"metas":[{"phx_ref":"1"}]}}"#;
const BEN: &str = r#"{"ben":{"metas":[{"phx_ref":"2"}]}}"#;

/// The snapshot of the new join is younger than everything that was told on the old one, so npm
/// shows somebody who had gone, until they come and go again.
#[test]
fn npm_applies_a_diff_held_for_a_join_that_ended_to_the_next_snapshot_and_ours_does_not() {
    let Some(mut npm) = Script::start("presence") else { return };
    let steps = [Step::Ok, joins(BEN), Step::Cut, Step::Ok, state(ANA)];
    let [npms, ours] = both(&mut npm, false, &steps);
    assert_eq!(keys(&npms[4]), ["ana", "ben"]);
    assert_eq!(keys(&ours[4]), ["ana"]);
    let [npms, ours] = both(&mut npm, true, &steps);
    assert_eq!(keys(&npms[4]), ["ana"], "this is all that `forget` changes");
    assert_eq!(npms[4], ours[4]);
}

/// What comes between a crash and the next join belongs to no join (G4). Both agree again with
/// the next snapshot.
#[test]
fn npm_takes_a_diff_after_a_crash_and_ours_does_not() {
    let Some(mut npm) = Script::start("presence") else { return };
    let steps = [Step::Ok, state(ANA), Step::Crash, joins(BEN), Step::Rejoin, Step::Ok, state(ANA)];
    let [npms, ours] = both(&mut npm, true, &steps);
    assert_eq!((keys(&npms[3]), keys(&ours[3])), (vec!["ana", "ben"], vec!["ana"]));
    assert_eq!((keys(&npms[6]), keys(&ours[6])), (vec!["ana"], vec!["ana"]));
    // Only npm has to take somebody back.
    assert_eq!(npms[6]["fold"]["left"][0][0], "ben");
    assert_eq!(ours[6]["fold"]["left"], Value::Array(vec![]));
}

/// An entry always has metas. Where one has none, npm throws after it has applied what stood
/// before it, and ours tells the violation and takes nothing of the message.
#[test]
fn npm_applies_half_of_a_broken_message_and_ours_nothing() {
    let Some(mut npm) = Script::start("presence") else { return };
    let broken = r#"{"joins":{"ben":{"metas":[{"phx_ref":"2"}]},"ana":{}},"leaves":{}}"#;
    let diff = Step::Message(Kind::Diff, JoinRef::None, broken.into());
    let question = question(Vsn::V2, true, &[Step::Ok, state(ANA), diff]);
    npm.ask_all(&[question], |_, answer| {
        let npms: Vec<Value> = serde_json::from_str(answer).unwrap();
        assert_eq!(keys(&npms[2]), ["ana", "ben"]);
        let thrown = npms[2]["thrown"].as_str().unwrap();
        assert!(thrown.contains("Cannot read properties of undefined"), "{thrown}");
    });
    let mut client = Ours::join(Vsn::V2);
    client.step(&Step::Ok, &mut String::new());
    client.step(&state(ANA), &mut String::new());
    client.say(None, None, "presence_diff", broken);
    let told = client.peer.take_events();
    assert!(matches!(*told, [Event::Violation(Violation::Payload { .. })]), "{told:?}");
    let mut after = String::new();
    client.step(&joins("{}"), &mut after);
    assert_eq!(keys(&serde_json::from_str(&after).unwrap()), ["ana"]);
}

#[test]
fn twenty_thousand_random_histories_are_seen_as_the_official_client_sees_them() {
    let Some(mut npm) = Script::start("presence") else { return };
    let histories: Vec<(Vsn, Vec<Step>)> = (0..HISTORIES).map(Author::write).collect();
    let questions: Vec<String> =
        histories.iter().map(|(vsn, steps)| question(*vsn, true, steps)).collect();
    npm.ask_all(&questions, |at, answer| {
        let (vsn, steps) = &histories[at];
        let mut ours = Ours::join(*vsn);
        let mut text = String::from("[");
        for (at, step) in steps.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            ours.step(step, &mut text);
        }
        text.push(']');
        assert_same(at as u64, steps, answer, &text);
    });
}

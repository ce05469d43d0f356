//! Random histories of presence through the npm `phoenix` and through ours.
//!
//! Both are fed the same frames, but for the refs, which each chooses for itself. After every frame
//! the callbacks and the members are compared, and what ours tells of who came, changed and went is
//! compared with the members that npm shows before and after.

use core::time::Duration;

use realtime_proto::wire::Vsn;
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, Config, Event, Limits, Member, Payload,
    Violation,
};
use realtime_tests::fixture;
use realtime_tests::node::Script;
use realtime_tests::peer::Peer;
use serde_json::{Value, json};

use crate::history::{JoinRef, Kind, Step, history, question};
use crate::shown::{array_index, write_calls, write_diff, write_members};

const HISTORIES: u64 = 20_000;
const TOPIC: &str = "room:interop";

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
        // The official client tells at once who is gone.
        let config = config.with_presence_calls().with_presence_grace(Duration::ZERO);
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
        let (mut calls, mut diff) = (None, None);
        for event in self.peer.take_events() {
            match event {
                Event::Channel(_, ChannelEvent::PresenceCalls(told)) => {
                    assert_eq!(calls.replace(told), None, "one message is told once");
                }
                Event::Channel(_, ChannelEvent::Presence(told)) => {
                    assert_eq!(diff.replace(told), None, "one message is told once");
                }
                Event::Violation(violation) => panic!("{violation}"),
                _ => {}
            }
        }
        out.push_str(r#"{"calls":"#);
        write_calls(&calls.unwrap_or_default(), out);
        out.push_str(r#","members":"#);
        let channel = self.channel;
        self.peer.command(|client, _| {
            let mut members: Vec<Member> =
                client.channel(channel).unwrap().presence().list().collect();
            // `list` goes in the order of arrival, but for keys that could index an array.
            members.sort_by_key(|member| array_index(&member.key).unwrap_or(u32::MAX));
            write_members(&members, out);
        });
        out.push_str(r#","fold":"#);
        match diff {
            None => out.push_str("null"),
            Some(diff) => write_diff(diff, out),
        }
        out.push('}');
    }
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
fn the_vectors_of_presence_are_what_the_locked_packages_give() {
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
        assert_eq!(answer["events"], case["realtime_js_events"], "{}", case["name"]);
        assert_eq!(answer["state"], case["realtime_js_state"], "{}", case["name"]);
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

/// What comes before the answer to a join was told to an older one, which the server shuts down
/// before it makes the next: whoever leaves in between is taken back by nobody.
#[test]
fn npm_applies_a_diff_that_came_before_the_join_was_accepted_and_ours_does_not() {
    let Some(mut npm) = Script::start("presence") else { return };
    let steps = [Step::Cut, joins(BEN), Step::Ok, state(ANA)];
    let [npms, ours] = both(&mut npm, false, &steps);
    assert_eq!((keys(&npms[3]), keys(&ours[3])), (vec!["ana", "ben"], vec!["ana"]));
    let [npms, ours] = both(&mut npm, true, &steps);
    assert_eq!(npms[3], ours[3]);
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
    let histories: Vec<(Vsn, Vec<Step>)> = (0..HISTORIES).map(history).collect();
    let questions: Vec<String> =
        histories.iter().map(|(vsn, steps)| question(*vsn, true, steps)).collect();
    let calls = [r#"["join","#, r#"["leave","#, r#"["sync"]"#];
    let mut counts = [0; 3];
    npm.ask_all(&questions, |at, answer| {
        for (count, call) in counts.iter_mut().zip(calls) {
            *count += answer.matches(call).count();
        }
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
    let [joins, leaves, syncs] = counts;
    assert!(joins > 50_000 && leaves > 25_000 && syncs > 50_000, "{counts:?}");
}

/// JavaScript goes through the keys of an object by their number, where they have one, and ours
/// lists members in the order in which they came.
#[test]
fn npm_lists_a_member_that_is_called_by_a_number_first_and_ours_where_it_came() {
    let Some(mut npm) = Script::start("presence") else { return };
    let seven = r#"{"7":{"metas":[{"phx_ref":"7"}]}}"#;
    let [npms, ours] = both(&mut npm, true, &[Step::Ok, state(ANA), joins(seven)]);
    assert_eq!(keys(&npms[2]), ["7", "ana"]);
    assert_eq!(npms[2], ours[2], "as ours are compared, in the order of npm's");
    let mut client = Ours::join(Vsn::V2);
    client.say(None, None, "presence_state", ANA);
    client.say(None, None, "presence_diff", &format!(r#"{{"joins":{seven},"leaves":{{}}}}"#));
    let channel = client.channel;
    let listed: Vec<String> = client.peer.command(|client, _| {
        let channel = client.channel(channel).unwrap();
        channel.presence().list().map(|member| member.key).collect()
    });
    assert_eq!(listed, ["ana", "7"]);
}

//! The presence of every recording, as the official Phoenix client and as ours see it.

use std::collections::BTreeMap;

use realtime_proto::wire::Sender;
use realtime_proto::{ChannelEvent, ChannelId, PresenceCall, PresenceDiff};
use realtime_tests::node::Script;
use realtime_tests::recording::Recording;
use realtime_tests::replay::{Replay, View};
use serde_json::{Value, json};

use crate::shown::{write_calls, write_diff};

/// One channel of a recorded connection.
struct Told {
    channel: ChannelId,
    topic: String,
    /// What npm is told, with the line it stands on.
    messages: Vec<(usize, Value)>,
}

/// What each channel of ours was told, from its first join until another channel of its topic is
/// opened.
fn told(replay: &Replay) -> Vec<Told> {
    let mut current: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<Told> = Vec::new();
    for told in &replay.told {
        let topic = told.topic.as_str();
        if told.from == Sender::Client {
            let join = replay.joins.iter().find(|join| join.line == told.line);
            let Some(channel) = join.and_then(|join| join.channel) else { continue };
            let at = match current.get(topic) {
                Some(&at) if all[at].channel == channel => at,
                _ => {
                    all.push(Told { channel, topic: topic.into(), messages: Vec::new() });
                    all.len() - 1
                }
            };
            current.insert(topic, at);
            let join_ref = told.join_ref.as_ref().or(told.msg_ref.as_ref());
            all[at].messages.push((told.line, json!(["phx_join", join_ref])));
        } else if let (Some(&at), Some(payload)) = (current.get(topic), told.json()) {
            if told.event != "phx_reply" {
                let message = json!([told.event, told.join_ref, payload]);
                all[at].messages.push((told.line, message));
            }
        }
    }
    all
}

/// The events of one line: the callbacks, and who came, changed and went.
#[derive(Default)]
struct Line {
    calls: Vec<PresenceCall>,
    diff: Option<PresenceDiff>,
}

impl Line {
    fn shown(self) -> Value {
        let mut text = String::from(r#"{"calls":"#);
        write_calls(&self.calls, &mut text);
        text.push_str(r#","fold":"#);
        match self.diff {
            None => text.push_str("null"),
            Some(diff) => write_diff(diff, &mut text),
        }
        text.push('}');
        serde_json::from_str(&text).unwrap()
    }
}

/// The members of a channel at the end of its recording, which puts nothing beside their metas.
fn members(view: &View) -> Vec<Value> {
    let shown = view.members.iter().map(|(key, metas)| {
        let metas: Vec<Value> = metas.iter().map(|meta| meta.to().unwrap()).collect();
        json!([key, { "metas": metas }])
    });
    shown.collect()
}

#[test]
fn the_presence_of_every_recording_is_seen_as_the_official_client_sees_it() {
    let Some(mut npm) = Script::start("recordings") else { return };
    let (mut snapshots, mut diffs, mut ends) = (0, 0, 0);
    for name in Recording::names() {
        for replay in Replay::all(&name) {
            let channels = told(&replay);
            let question = |told: &Told| {
                let messages = told.messages.iter().map(|(_, message)| message.clone());
                Value::Array(messages.collect()).to_string()
            };
            let questions: Vec<String> = channels.iter().map(question).collect();
            npm.ask_all(&questions, |at, answer| {
                let (Told { channel, topic, messages }, name) = (&channels[at], &replay.name);
                let answer: Value = serde_json::from_str(answer).unwrap();
                let mut lines: BTreeMap<usize, Line> = BTreeMap::new();
                for (line, event) in replay.events_of(*channel) {
                    match event {
                        ChannelEvent::PresenceCalls(calls) => {
                            lines.entry(line).or_default().calls.extend(calls.clone());
                        }
                        ChannelEvent::Presence(diff) => {
                            let told = lines.entry(line).or_default().diff.replace(diff.clone());
                            assert_eq!(told, None, "{name}:{line} is told once");
                        }
                        _ => {}
                    }
                }
                for (at, (line, _)) in messages.iter().enumerate() {
                    let ours = lines.remove(line).unwrap_or_default().shown();
                    assert_eq!(ours, answer["steps"][at], "{name}:{line}");
                    snapshots += usize::from(ours["fold"]["synced"] == true);
                    diffs += usize::from(ours["fold"]["synced"] == false);
                }
                assert_eq!(lines.len(), 0, "{name}, {topic}: told by ours alone");
                if let Some(view) = replay.channels.iter().find(|view| view.id == *channel) {
                    let mut npms = answer["members"].as_array().unwrap().clone();
                    npms.sort_by_key(|member| member[0].to_string());
                    assert_eq!(members(view), npms, "{name}, {topic}");
                    ends += usize::from(!view.members.is_empty());
                }
            });
        }
    }
    assert_eq!((snapshots, diffs, ends), (35, 171, 18));
}

//! `realtime replay`: what an application would have seen of a recorded connection.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use realtime_proto::{ChannelEvent, ChannelId, Event, Meta, Outcome};
use realtime_smol::recording::{Connection, Recording, Replay, Step};
use serde_json::{Map, Value, json};

use crate::arguments::ReplayArguments;
use crate::output::{Failure, Output};
use crate::told::{caused, describe_event, said, value};

pub(crate) fn run(arguments: &ReplayArguments, output: &Output) -> Result<(), Failure> {
    let file = &arguments.file;
    let recording = read(file)?;
    let connections = recording.connections()?;
    let connection = choose(&connections, arguments.conn.as_deref(), file)?;
    let others: Vec<&str> = connections.iter().map(|other| &*other.name).collect();
    if arguments.conn.is_none() && others.len() > 1 {
        let (name, others) = (&connection.name, others.join(", "));
        output.note(&format_args!("replaying `{name}`, the first of {others}; see --conn"))?;
    }
    let replay = Replay::new(&recording.name, connection)?;
    let mut teller = Teller::new(&replay, connection);
    for (line, event) in &replay.events {
        if let Some((object, text)) = teller.tell(*line, event) {
            output.line(&object, &text)?;
        }
    }
    for (line, why) in &replay.left_out {
        let object = json!({ "event": "left_out", "line": line, "why": why });
        output.line(&object, &format_args!("{:<13} line {line}: {why}", "left out"))?;
    }
    let summary = teller.summary();
    if output.is_json() {
        return output.line(&json!({ "summary": summary }), &"");
    }
    for (topic, seen) in &summary {
        let here: Vec<&str> =
            seen["presence"].as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
        let here = if here.is_empty() { "nobody".into() } else { here.join(", ") };
        let [changes, broadcasts, violations] =
            ["changes", "broadcasts", "violations"].map(|count| &seen[count]);
        let state = seen["state"].as_str().unwrap_or_default();
        output.note(&format_args!(
            "{topic}: {state}, present: {here}; {changes} row changes, {broadcasts} broadcasts, \
             {violations} violations",
        ))?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Recording, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
    Ok(Recording::parse(&file.display().to_string(), &text)?)
}

/// The connection that was asked for, or the first that our client could have made.
fn choose<'a>(
    connections: &'a [Connection],
    asked: Option<&str>,
    file: &Path,
) -> Result<&'a Connection, Failure> {
    let found = match asked {
        Some(name) => connections.iter().find(|connection| connection.name == name),
        None => connections
            .iter()
            .filter(|connection| connection.vsn.is_some())
            .min_by_key(|connection| connection.line()),
    };
    found.ok_or_else(|| {
        let file = file.display();
        let names: Vec<&str> = connections.iter().map(|connection| &*connection.name).collect();
        let there = if names.is_empty() { "none".into() } else { names.join(", ") };
        Failure::new(match asked {
            Some(name) => format!("{file} has no connection `{name}`; there are: {there}"),
            None => format!("{file} has no connection that can be replayed; there are: {there}"),
        })
    })
}

/// What reached the application about one topic.
#[derive(Default)]
struct Seen {
    changes: usize,
    broadcasts: usize,
    violations: usize,
}

struct Teller<'a> {
    replay: &'a Replay,
    at: BTreeMap<usize, &'a Step>,
    topics: BTreeMap<ChannelId, &'a str>,
    seen: BTreeMap<&'a str, Seen>,
}

impl<'a> Teller<'a> {
    fn new(replay: &'a Replay, connection: &'a Connection) -> Self {
        let joins = replay.joins.iter();
        let topics = joins.clone().filter_map(|join| Some((join.channel?, &*join.topic)));
        Self {
            replay,
            at: connection.steps.iter().map(|step| (step.line, step)).collect(),
            topics: topics.collect(),
            seen: joins.map(|join| (&*join.topic, Seen::default())).collect(),
        }
    }

    /// An event as an object and as words; none when it is no news for an application.
    fn tell(&mut self, line: usize, event: &Event) -> Option<(Value, String)> {
        let (topic, (mut object, text)) = match event {
            Event::Connected { .. } => (None, said("connected", "")),
            Event::Disconnected { cause, .. } => (None, caused("disconnected", cause)),
            Event::TokenNeeded { cause, .. } => (None, caused("token_needed", cause)),
            Event::Violation(violation) => {
                let topic = self.topic_of(line);
                self.seen.entry(topic).or_default().violations += 1;
                (Some(topic), said("violation", &violation.to_string()))
            }
            Event::Channel(id, event) => {
                let topic = *self.topics.get(id)?;
                (Some(topic), self.tell_of_channel(topic, event)?)
            }
            Event::Heartbeat { .. } | _ => return None,
        };
        let at_ms = self.at.get(&line).map(|step| step.at.as_millis());
        object["line"] = json!(line);
        object["at_ms"] = json!(at_ms.map(|at| u64::try_from(at).unwrap_or(u64::MAX)));
        object["topic"] = json!(topic);
        Some((object, format!("{line:>4}  {:<28} {text}", topic.unwrap_or("-"))))
    }

    fn tell_of_channel(&mut self, topic: &'a str, event: &ChannelEvent) -> Option<(Value, String)> {
        let seen = self.seen.entry(topic).or_default();
        seen.broadcasts += usize::from(matches!(event, ChannelEvent::Broadcast(_)));
        seen.changes += usize::from(matches!(event, ChannelEvent::Change { .. }));
        let ChannelEvent::PushEnded { push, outcome } = event else {
            return describe_event(event);
        };
        let pushed = self.replay.pushes.iter().find(|made| made.push == *push)?;
        let word = match outcome {
            Outcome::Replied { status, .. } => status.to_string(),
            Outcome::Sent
            | Outcome::TimedOut
            | Outcome::Interrupted
            | Outcome::Dropped
            | Outcome::Expired
            | _ => format!("{outcome:?}").to_lowercase(),
        };
        let text = format!("{:<13} {} {word}", "push", pushed.event);
        Some((json!({ "event": "push", "name": pushed.event, "outcome": word }), text))
    }

    /// The topic of a recorded frame, as far as it has one.
    fn topic_of(&self, line: usize) -> &'a str {
        self.replay.told.iter().find(|told| told.line == line).map_or("", |told| &told.topic)
    }

    /// What is known of each topic just before the connection ended.
    fn summary(&self) -> Map<String, Value> {
        let summary = self.seen.iter().map(|(topic, seen)| {
            // Several may be on their way out; the newest join speaks for the topic.
            let newest = self.replay.joins.iter().rev().find(|join| join.topic == **topic);
            let id = newest.and_then(|join| join.channel);
            let view = self.replay.channels.iter().find(|view| Some(view.id) == id);
            let state = view.map_or_else(|| "closed".into(), |view| view.state.to_string());
            let members = self.replay.members.get(*topic);
            let presence: Map<String, Value> = members
                .into_iter()
                .flatten()
                .map(|(key, metas)| (key.clone(), metas.iter().map(meta).collect()))
                .collect();
            let seen = json!({
                "state": state,
                "presence": presence,
                "changes": seen.changes,
                "broadcasts": seen.broadcasts,
                "violations": seen.violations,
            });
            ((*topic).to_owned(), seen)
        });
        summary.collect()
    }
}

fn meta(meta: &Meta) -> Value {
    value(&meta.value)
}

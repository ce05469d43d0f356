//! A run as a page: who did what when, frames as arrows, and how everything was seen meanwhile.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::coverage::{ChannelView, ConnectionView};
use crate::run::Report;
use crate::scenario::{ActorId, Op, Part, Scenario};
use crate::trace::{Change, Record, View, Who};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a run.
pub(crate) fn page(
    name: &str,
    scenario: &Scenario,
    report: &Report,
    records: &[Record],
    changes: &[Change],
) -> String {
    let data = data(name, scenario, report, records, changes);
    let data = serde_json::to_string(&data).expect("texts and numbers are JSON");
    let parts = [
        ("{{title}}", html(name)),
        ("{{style}}", STYLE.into()),
        ("{{data}}", script_safe(&data)),
        ("{{script}}", SCRIPT.into()),
    ];
    fill(PAGE, &parts)
}

/// The template with each mark replaced, once and from the left, so that no text is read as a mark.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    for (mark, text) in parts {
        let (before, after) = rest.split_once(mark).expect("the template has every mark");
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page + rest
}

/// A text that is nothing but text in HTML.
fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON that does not end the script it is in, whatever its strings say.
fn script_safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// What the page is drawn from.
#[derive(Serialize)]
struct Data {
    name: String,
    scenario: String,
    summary: Vec<(&'static str, String)>,
    finding: Option<String>,
    clients: Vec<Client>,
    topics: Vec<Topic>,
    servers: u32,
    rows: Vec<Row>,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Client {
    name: String,
    part: &'static str,
    /// Its connections and the topics of its channels, as lanes.
    connections: u32,
    topics: Vec<usize>,
}

#[derive(Serialize)]
struct Topic {
    name: String,
    wire: String,
}

/// One record.
#[derive(Serialize)]
struct Row {
    /// When, in microseconds.
    at: u64,
    /// Of which lane: clients from 0, servers from -1 down, the world none.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<i64>,
    /// `act`, `data`, `fault`, `heal`, `finding`, or the word of the record.
    kind: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<usize>,
    /// Of what was received: the row where it left, or at least when.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    /// Where it comes from or goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<i64>,
    /// Of what was sent: that it never arrived.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    lost: bool,
}

/// A lane that has one colour from one row to another.
#[derive(Serialize)]
struct Span {
    client: usize,
    /// The topic of the channel, or the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u32>,
    state: &'static str,
    from: usize,
    to: usize,
}

const fn lane(who: Who) -> Option<i64> {
    match who {
        Who::Node(node) => Some(node.0 as i64),
        Who::Server(server) => Some(-1 - server as i64),
        Who::World => None,
    }
}

fn micros(at: realtime_proto::Instant) -> u64 {
    at.since_epoch().as_micros() as u64
}

fn data(
    name: &str,
    scenario: &Scenario,
    report: &Report,
    records: &[Record],
    changes: &[Change],
) -> Data {
    let cast = &scenario.cast;
    let mut rows = rows(scenario, records);
    if let Some(finding) = &report.finding {
        rows.push(Row { kind: "finding", ..row(micros(finding.at), finding.to_string()) });
    }
    let spans = spans(changes, rows.len());
    let clients = cast.actors.iter().enumerate().map(|(at, actor)| {
        let own = || spans.iter().filter(|span| span.client == at);
        let mut topics: Vec<usize> = own().filter_map(|span| span.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        Client {
            name: actor.name.clone(),
            part: match actor.part {
                Part::Client => "client",
                Part::Manager => "manager",
            },
            connections: own().filter_map(|span| span.connection).max().map_or(1, |max| max + 1),
            topics,
        }
    });
    let mut summary = vec![
        ("records", records.len().to_string()),
        ("simulated", format!("{:.3} s", report.simulated.as_secs_f64())),
        ("trace hash", format!("{:016x}", report.hash)),
    ];
    if let Some(took) = report.time_to_live {
        summary.push(("live after healing", format!("{:.3} s", took.as_secs_f64())));
    }
    Data {
        name: name.into(),
        scenario: scenario.to_string(),
        summary,
        finding: report.finding.as_ref().map(ToString::to_string),
        clients: clients.collect(),
        topics: cast
            .topics
            .iter()
            .map(|topic| Topic { name: topic.name.clone(), wire: topic.topic.clone() })
            .collect(),
        servers: cast.settings.servers,
        rows,
        spans,
    }
}

const fn row(at: u64, text: String) -> Row {
    let (who, topic, sent, left, peer) = (None, None, None, None, None);
    Row { at, who, kind: "", text, topic, sent, left, peer, lost: false }
}

/// The records as rows; what was received knows the row where it left.
fn rows(scenario: &Scenario, records: &[Record]) -> Vec<Row> {
    let cast = &scenario.cast;
    let mut steps = scenario.steps.iter().map(|step| &step.op);
    // What is on its way, by where and when it left and where it goes.
    let mut flying: BTreeMap<(Who, u64, Option<Who>, &str), VecDeque<usize>> = BTreeMap::new();
    let mut rows: Vec<Row> = Vec::with_capacity(records.len() + 1);
    for record in records {
        let at = micros(record.at);
        let mut row = Row { who: lane(record.who), kind: record.word, ..row(at, text(record)) };
        row.topic = record.topic.map(|topic| usize::from(topic.0));
        match record.word {
            "step" => {
                let op = steps.next();
                row.kind = match op {
                    Some(Op::Act(..)) => "act",
                    Some(Op::Data(_)) => "data",
                    Some(Op::Fault(_)) | None => "fault",
                };
                let actor = match op {
                    Some(Op::Act(who, _)) => Some(*who),
                    Some(Op::Fault(fault)) => fault.actor(),
                    Some(Op::Data(_)) | None => None,
                };
                row.peer = actor.map(|ActorId(at)| i64::from(at));
            }
            "sends" => {
                row.topic = topic_of(record)
                    .and_then(|wire| cast.topics.iter().position(|topic| topic.topic == wire));
                row.peer = record.to.and_then(lane);
                row.lost = true;
                let key = (record.who, at, record.to, &*record.detail);
                flying.entry(key).or_default().push_back(rows.len());
            }
            "receives" => {
                row.topic = topic_of(record)
                    .and_then(|wire| cast.topics.iter().position(|topic| topic.topic == wire));
                if let Some((from, left_at)) = record.from {
                    row.left = Some(micros(left_at));
                    row.peer = lane(from);
                    let key = (from, micros(left_at), Some(record.who), &*record.detail);
                    row.sent = flying.get_mut(&key).and_then(VecDeque::pop_front);
                }
                if let Some(sent) = row.sent {
                    rows[sent].lost = false;
                }
            }
            _ => {
                if let Some((from, left_at)) = record.from {
                    (row.left, row.peer) = (Some(micros(left_at)), lane(from));
                }
            }
        }
        rows.push(row);
    }
    rows
}

fn text(record: &Record) -> String {
    record.detail.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The topic of a frame, of its line in the trace: refs, topic, event.
fn topic_of(record: &Record) -> Option<&str> {
    let mut words = record.detail.trim_start().splitn(2, ' ');
    let rest = words.nth(1)?.trim_start();
    let (_, rest) = rest.split_once(' ')?;
    rest.rsplit_once(' ').map(|(topic, _)| topic)
}

/// How long each lane had which colour.
fn spans(changes: &[Change], rows: usize) -> Vec<Span> {
    // By node, topic and connection: which channel of the topic, its colour, and since when.
    type Lane = (usize, Option<usize>, Option<u32>);
    let mut open: BTreeMap<Lane, (u32, &str, usize)> = BTreeMap::new();
    let mut spans = Vec::new();
    for change in changes {
        let from = change.record.saturating_sub(1);
        let (topic, connection, life, state) = match change.view {
            View::Connection(of, view) => (None, Some(of), 0, connection_class(view)),
            View::Channel(key, view) => {
                (Some(usize::from(key.topic.0)), None, key.life, channel_class(view))
            }
        };
        let lane = (change.node.0, topic, connection);
        // An older channel of the topic that goes does not show behind a newer one.
        if open.get(&lane).is_some_and(|(newest, ..)| *newest > life) {
            continue;
        }
        if let Some((_, state, begun)) = open.insert(lane, (life, state, from)) {
            let (client, topic, connection) = lane;
            spans.push(Span { client, topic, connection, state, from: begun, to: from });
        }
    }
    for ((client, topic, connection), (_, state, from)) in open {
        spans.push(Span { client, topic, connection, state, from, to: rows });
    }
    spans
}

const fn connection_class(view: ConnectionView) -> &'static str {
    match view {
        ConnectionView::Offline => "offline",
        ConnectionView::Connecting => "connecting",
        ConnectionView::Open => "open",
        ConnectionView::Waiting => "waiting",
        ConnectionView::Stopped => "halted",
    }
}

const fn channel_class(view: ChannelView) -> &'static str {
    match view {
        ChannelView::Asked => "asked",
        ChannelView::Joining => "joining",
        ChannelView::Joined => "joined",
        ChannelView::Live => "live",
        ChannelView::Stopped => "stopped",
        ChannelView::Retrying => "retrying",
        ChannelView::Parked => "parked",
        ChannelView::Leaving => "leaving",
        ChannelView::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;

    /// Names as hostile as a scenario takes them, and topics of the wire that would end a script.
    const HOSTILE: &str = "\
seed 7
client </script><b>
manager \"&amp;'`${x}
topic <!--{{script}} realtime:</script><img/src=x> presence ack
topic {{data}} realtime:subscription:contact:1 rows

+0ms     </script><b> connect
+0ms     </script><b> open <!--{{script}}
+0ms     \"&amp;'`${x} connect
+0ms     \"&amp;'`${x} open {{data}}
+2s      database insert
+100ms   cut </script><b>
+10ms    deafen \"&amp;'`${x} 3s
+1s      </script><b> send <!--{{script}}
";

    #[test]
    fn a_page_of_hostile_names_stays_well_formed_and_has_every_lane_and_fault() {
        let scenario: Scenario = HOSTILE.parse().expect("a scenario");
        let page = Run::new(&scenario).timeline("<title> & \"co\"");
        assert!(page.contains("<title>&lt;title&gt; &amp; "), "its own title is text");
        for tag in ["<script", "</script>", "<style", "</style>", "<html", "</html>"] {
            let expected = if tag.contains("script") { 2 } else { 1 };
            assert_eq!(page.matches(tag).count(), expected, "{tag}");
        }
        let (_, rest) = page.split_once("type=\"application/json\">").expect("the data");
        let (json, _) = rest.split_once("</script>").expect("the end of the data");
        assert!(!json.contains('<'), "no name opens a tag");
        let data: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(data["clients"][0]["name"], "</script><b>");
        assert_eq!(data["clients"][1]["name"], "\"&amp;'`${x}");
        assert_eq!(data["clients"][0]["topics"], serde_json::json!([0]));
        assert_eq!(data["clients"][1]["topics"], serde_json::json!([1]));
        assert_eq!(data["topics"][0]["wire"], "realtime:</script><img/src=x>");
        assert_eq!(data["servers"], 1);
        let rows = data["rows"].as_array().expect("rows");
        let faults = rows.iter().filter(|row| row["kind"] == "fault");
        let faults: Vec<&str> = faults.filter_map(|row| row["text"].as_str()).collect();
        assert_eq!(faults, ["cut </script><b>", "deafen \"&amp;'`${x} 3s"]);
    }

    #[test]
    fn a_frame_that_arrives_points_to_where_it_left_and_one_that_does_not_is_lost() {
        let text = "seed 7\nclient ana\ntopic room realtime:room\n\n\
                    +0ms     ana connect\n+0ms     ana open room\n+2s      ana send room\n\
                    +0ms     cut ana\n";
        let scenario: Scenario = text.parse().expect("a scenario");
        let (report, (records, changes)) = Run::new(&scenario).seen();
        let data = data("a cut", &scenario, &report, &records, &changes);
        let of = |word: &str| {
            let rows = data.rows.iter().filter(|row| row.kind == "sends" && row.who == Some(0));
            rows.filter(|row| row.text.ends_with(word)).map(|row| row.lost).collect::<Vec<_>>()
        };
        assert_eq!(of("phx_join"), [false, false]);
        assert_eq!(of("broadcast"), [true]);
        for row in data.rows.iter().filter(|row| row.kind == "receives") {
            let sent = &data.rows[row.sent.expect("it left somewhere")];
            assert_eq!((sent.kind, Some(sent.at), &sent.text), ("sends", row.left, &row.text));
        }
    }
}

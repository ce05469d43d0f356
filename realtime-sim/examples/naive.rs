//! Somebody else's client, put to the test; `GUIDE.md` tells the story.
//!
//! ```console
//! $ cargo run --package realtime-sim --example naive
//! ```
#![expect(clippy::wildcard_enum_match_arm, reason = "it knows a few of many things only")]
#![allow(clippy::print_stdout, reason = "an example prints")]

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use realtime_proto::wire::{Body, Sender, Vsn, decode};
use realtime_proto::{Bytes, CloseReason, Frame, Instant};
use realtime_sim::{
    Beginning, Command, Exploration, Performed, Report, Request, Role, Scenario, Scripted, Subject,
    TopicId, check_seeds, numbered, run_with,
};

const URL: &str = "wss://project.supabase.co/realtime/v1/websocket?apikey=key&vsn=2.0.0";
const SOON: Duration = Duration::from_secs(1);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(25);

/// A small client as many people have written one. It is not mended: a heartbeat that was not
/// answered when the socket went away counts against the next socket, which is closed for it.
#[derive(Debug, Default)]
pub(crate) struct Naive<const MENDED: bool> {
    online: bool,
    socket: Option<u32>,
    is_open: bool,
    sockets: u32,
    refs: u64,
    /// The ref of the heartbeat that waits for its reply.
    heartbeat: Option<u64>,
    /// When to connect, to give up connecting, or to send the next heartbeat.
    at: Option<Instant>,
    channels: BTreeMap<TopicId, Channel>,
    topics: Vec<String>,
    requests: VecDeque<Request<u32>>,
}

#[derive(Debug, Default)]
struct Channel {
    topic: String,
    join_ref: u64,
    joined: bool,
    /// When to join, for the first time or again.
    at: Option<Instant>,
}

impl<const MENDED: bool> Naive<MENDED> {
    fn push(&mut self, join_ref: Option<u64>, topic: &str, event: &str, payload: &str) -> u64 {
        self.refs += 1;
        let (msg_ref, join_ref) = (self.refs, join_ref.unwrap_or(self.refs));
        let text = format!("[\"{join_ref}\",\"{msg_ref}\",\"{topic}\",\"{event}\",{payload}]");
        if let Some(socket) = self.socket {
            let frame = Frame::Text(Bytes::from(text));
            self.requests.push_back(Request::Frame { socket, frame });
        }
        msg_ref
    }

    fn open_socket(&mut self, now: Instant) {
        self.sockets += 1;
        (self.socket, self.is_open) = (Some(self.sockets), false);
        self.at = Some(now + ANSWERED_WITHIN);
        self.requests.push_back(Request::Open { socket: self.sockets, url: URL.into() });
    }

    fn close_socket(&mut self, now: Instant) {
        if let Some(socket) = self.socket {
            let reason = String::new();
            self.requests.push_back(Request::Close { socket, code: 1000, reason });
        }
        self.on_socket_gone(now);
    }

    fn on_socket_gone(&mut self, now: Instant) {
        (self.socket, self.is_open) = (None, false);
        if MENDED {
            self.heartbeat = None;
        }
        for channel in self.channels.values_mut() {
            (channel.joined, channel.at) = (false, None);
        }
        self.at = self.online.then(|| now + SOON);
    }

    fn beat(&mut self, now: Instant) {
        if self.heartbeat.is_some() {
            return self.close_socket(now);
        }
        self.heartbeat = Some(self.push(None, "phoenix", "heartbeat", "{}"));
        self.at = Some(now + HEARTBEAT);
    }

    fn join_what_is_due(&mut self, now: Instant) {
        let due = |channel: &Channel| channel.at.is_some_and(|at| at <= now);
        let due: Vec<TopicId> =
            self.channels.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        for id in due {
            let topic = self.channels[&id].topic.clone();
            let join_ref = self.push(None, &topic, "phx_join", "{}");
            let at = Some(now + ANSWERED_WITHIN);
            self.channels.insert(id, Channel { topic, join_ref, joined: false, at });
        }
    }
}

impl<const MENDED: bool> Subject for Naive<MENDED> {
    type Socket = u32;
    type Event = Infallible;

    fn handle_open(&mut self, socket: u32, now: Instant) {
        if self.socket == Some(socket) {
            self.is_open = true;
            self.channels.values_mut().for_each(|channel| channel.at = Some(now));
            self.beat(now);
            if self.is_open {
                self.join_what_is_due(now);
            }
        }
    }

    fn handle_frame(&mut self, socket: u32, frame: Frame, now: Instant) {
        let Ok(envelope) = decode(Vsn::V2, Sender::Server, &frame) else { return };
        if self.socket != Some(socket) {
            return;
        }
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let msg_ref = number(envelope.msg_ref.as_deref());
        if msg_ref.is_some() && msg_ref == self.heartbeat {
            self.heartbeat = None;
        }
        let join_ref = number(envelope.join_ref.as_deref());
        let mut channels = self.channels.values_mut();
        let Some(channel) = channels.find(|it| Some(it.join_ref) == join_ref) else { return };
        let is_ok = match &envelope.body {
            Body::Json(payload) => payload.contains("\"status\":\"ok\""),
            _ => false,
        };
        match &*envelope.event {
            "phx_reply" if msg_ref == join_ref && is_ok => {
                (channel.joined, channel.at) = (true, None);
            }
            "phx_reply" if msg_ref == join_ref => channel.at = Some(now + SOON),
            "phx_error" | "phx_close" => (channel.joined, channel.at) = (false, Some(now + SOON)),
            _ => {}
        }
    }

    fn handle_close(&mut self, socket: u32, _: CloseReason, now: Instant) {
        if self.socket == Some(socket) {
            self.on_socket_gone(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.at.is_some_and(|at| at <= now) {
            match (self.socket, self.is_open) {
                (Some(_), true) => self.beat(now),
                (Some(_), false) => self.close_socket(now),
                (None, _) => self.open_socket(now),
            }
        }
        if self.is_open {
            self.join_what_is_due(now);
        }
    }

    fn poll_transmit(&mut self) -> Option<Request<u32>> {
        self.requests.pop_front()
    }

    fn poll_event(&mut self) -> Option<Infallible> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let joins = self.channels.values().filter(|_| self.is_open).filter_map(|it| it.at);
        joins.chain(self.at).min()
    }

    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        match *command {
            Command::Connect if self.online => {}
            Command::Connect => {
                self.online = true;
                self.open_socket(now);
            }
            Command::Disconnect => {
                self.online = false;
                self.close_socket(now);
            }
            Command::Open(id) => {
                let topic = self.topics[id.index()].clone();
                let channel = Channel { topic, at: Some(now), ..Channel::default() };
                self.channels.entry(id).or_insert(channel);
                if self.is_open {
                    self.join_what_is_due(now);
                }
            }
            Command::Close(id) => {
                if let Some(channel) = self.channels.remove(&id).filter(|it| it.joined) {
                    self.push(Some(channel.join_ref), &channel.topic, "phx_leave", "{}");
                }
            }
            Command::Send(id, number) => {
                let channel = self.channels.get(&id).filter(|channel| channel.joined);
                let Some(channel) = channel else { return Performed::Refused };
                let (join_ref, topic) = (channel.join_ref, channel.topic.clone());
                let payload = format!(
                    "{{\"type\":\"broadcast\",\"event\":\"n\",\"payload\":{}}}",
                    numbered(number)
                );
                self.push(Some(join_ref), &topic, "broadcast", &payload);
            }
            _ => return Performed::Refused,
        }
        Performed::Done
    }

    fn is_live(&mut self, topic: TopicId) -> bool {
        self.channels.get(&topic).is_some_and(|channel| channel.joined)
    }
}

impl<const MENDED: bool> Scripted for Naive<MENDED> {
    fn start(role: &Role<'_>, _: u64, _: Instant) -> Self {
        let topics = role.cast.topics.iter().map(|topic| topic.topic.clone()).collect();
        Self { topics, ..Self::default() }
    }
}

/// Whether every channel is live in the end; what else the oracle says of it is another story. It
/// knows no tokens.
pub(crate) fn is_live_in_the_end<const MENDED: bool>(scenario: &Scenario) -> Report {
    let mut scenario = scenario.clone();
    scenario.cast.settings.tokens = false;
    let mut report = run_with::<Naive<MENDED>>(&scenario);
    report.finding = report.finding.filter(|finding| finding.rule == "G8");
    report
}

fn main() {
    let found = std::panic::catch_unwind(|| check_seeds(0..1_000, is_live_in_the_end::<false>));
    assert!(found.is_err(), "what it says is on standard error");
    check_seeds(0..200, is_live_in_the_end::<true>);
    println!("mended: always live in the end");

    // The same without luck: every order of events, the shortest first.
    let small = Exploration::small(Beginning::Live).with_depth(8).with_choices("cut ana");
    let explored = small.expect("a step").run_with::<Naive<false>>(|_| {});
    let failure = explored.failure.expect("the bug is found");
    println!("\nafter {} steps tried: {}\n{}", explored.tried, failure.path, failure.finding);
}

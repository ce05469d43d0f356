//! How a recorded connection is played to a client.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a recording holds many kinds of things, and each place looks for one of them"
)]

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use realtime_proto::supabase::JoinConfig;
use realtime_proto::wire::{Body, Encoding, Sender, Vsn, decode, encode};
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, ChannelState, Client, CloseReason, Event, Frame,
    Instant, Meta, Payload, SocketId, Stats, Transmit,
};
use serde_json::Value;

use super::replay::{Join, Push, View};
use super::told::Told;
use super::{Step, What};

/// What a client did while a recording played.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) events: Vec<(usize, Event)>,
    pub(super) joins: Vec<Join>,
    pub(super) pushes: Vec<Push>,
    pub(super) left_out: Vec<(usize, String)>,
    pub(super) own_frames: Vec<(usize, String, String)>,
    pub(super) members: BTreeMap<String, BTreeMap<String, Vec<Meta>>>,
}

/// What was seen just before the connection ended.
pub(super) struct Ended {
    pub(super) channels: Vec<View>,
    pub(super) stats: Stats,
    pub(super) events: usize,
}

/// The recorded refs of a frame that our client is about to send.
struct Expected {
    msg_ref: String,
    join_ref: Option<String>,
}

/// A client that is given the commands of the recorded one, and hears what that heard.
pub(super) struct Player<'a> {
    client: Client,
    vsn: Vsn,
    replay: Recorder,
    socket: Option<SocketId>,
    /// The recorded frames that ours has yet to send, by topic and event.
    expected: BTreeMap<(String, String), VecDeque<Expected>>,
    /// Our refs by the recorded ones.
    refs: BTreeMap<String, String>,
    join_refs: BTreeMap<String, String>,
    told: &'a [Told],
    ended: Option<Ended>,
}

impl<'a> Player<'a> {
    pub(super) fn new(client: Client, vsn: Vsn, told: &'a [Told]) -> Self {
        Self {
            client,
            vsn,
            replay: Recorder::default(),
            socket: None,
            expected: BTreeMap::new(),
            refs: BTreeMap::new(),
            join_refs: BTreeMap::new(),
            told,
            ended: None,
        }
    }

    /// Plays the steps up to the end of the connection, or all if it has none.
    pub(super) fn play(mut self, steps: &[Step]) -> (Client, Recorder, Ended) {
        for step in steps {
            if self.ended.is_none() {
                self.step(step);
            }
        }
        let ended = match self.ended.take() {
            Some(ended) => ended,
            None => self.look(),
        };
        (self.client, self.replay, ended)
    }

    fn step(&mut self, step: &Step) {
        let (line, now) = (step.line, Instant::from_epoch(step.at));
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= now) {
            self.client.handle_timeout(due);
            self.drain(line);
        }
        match &step.what {
            What::Open { .. } => self.client.connect(now),
            What::Opened => self.client.handle_open(self.socket(), now),
            What::Refused { status, body } => {
                self.end();
                let refused =
                    CloseReason::Refused { status: *status, body: body.clone(), retry_after: None };
                self.client.handle_close(self.socket(), refused, now);
            }
            What::Frame { from: Sender::Client, .. } => self.command(line, now),
            What::Frame { from: Sender::Server, frame } => {
                let frame = self.rewrite(frame);
                self.client.handle_frame(self.socket(), frame, now);
            }
            What::Close { from, code, reason } => {
                self.end();
                match (from, code) {
                    (Sender::Client, _) => self.client.disconnect(now),
                    // No frame carries these two: the first is a close without a code, the
                    // second is no close at all.
                    (Sender::Server, Some(1006)) => {
                        let lost = CloseReason::Lost { detail: reason.clone() };
                        self.client.handle_close(self.socket(), lost, now);
                    }
                    (Sender::Server, code) => {
                        let code = code.unwrap_or(1005);
                        let closed = CloseReason::Closed { code, reason: reason.clone() };
                        self.client.handle_close(self.socket(), closed, now);
                    }
                }
            }
            What::Elided { description } => {
                self.leave_out(line, format!("not in the recording: {description}"));
            }
            _ => {}
        }
        self.drain(line);
    }

    fn socket(&self) -> SocketId {
        self.socket.expect("a connection begins with its opening, and the client was told then")
    }

    /// The connection ends, as it was just before.
    fn end(&mut self) {
        let ended = self.look();
        self.ended = Some(ended);
    }

    fn look(&mut self) -> Ended {
        let ids: Vec<ChannelId> = self.client.channels().collect();
        let mut channels = Vec::new();
        for id in ids {
            let Some(channel) = self.client.channel(id) else { continue };
            let presence = channel.presence();
            let members = presence.members().map(|(key, metas)| (key.into(), metas.into()));
            channels.push(View {
                id,
                topic: channel.topic().into(),
                state: channel.state(),
                live: channel.is_live(),
                error: channel.error().cloned(),
                members: members.collect(),
                stale: presence.is_stale(),
            });
        }
        let (stats, events) = (self.client.stats(), self.replay.events.len());
        Ended { channels, stats, events }
    }

    fn leave_out(&mut self, line: usize, why: impl Into<String>) {
        self.replay.left_out.push((line, why.into()));
    }

    /// Gives the command that made the recorded client send a frame.
    fn command(&mut self, line: usize, now: Instant) {
        let told: &[Told] = self.told;
        let Some(told) = told.iter().find(|told| told.line == line) else {
            return self.leave_out(line, "no envelope");
        };
        if told.msg_ref.is_none() && told.event == "phx_join" {
            return self.leave_out(line, "a join without a ref");
        }
        match (&*told.topic, &*told.event) {
            ("phoenix", "heartbeat") => {
                self.expect(told);
                self.client.probe(now);
            }
            (_, "phx_join") => self.join(told, now),
            (_, "phx_leave") => self.leave(told, now),
            _ => self.push(told, now),
        }
    }

    fn expect(&mut self, told: &Told) {
        let Some(msg_ref) = told.msg_ref.clone() else { return };
        let key = (told.topic.clone(), told.event.clone());
        let expected = Expected { msg_ref, join_ref: told.join_ref.clone() };
        self.expected.entry(key).or_default().push_back(expected);
    }

    fn join(&mut self, told: &Told, now: Instant) {
        let payload = told.json().cloned().unwrap_or_default();
        let presence = self.told.iter().any(|other| {
            other.from == Sender::Server
                && other.topic == told.topic
                && other.event.starts_with("presence_")
        });
        let supabase = if told.topic.starts_with("realtime:") { typed(&payload) } else { None };
        let mut join = Join {
            line: told.line,
            topic: told.topic.clone(),
            msg_ref: told.msg_ref.clone(),
            join_ref: told.join_ref.clone(),
            channel: None,
            ours: Value::Null,
            supabase: supabase.is_some(),
            presence: supabase.as_ref().map_or(presence, |config| config.presence.enabled),
            bindings: Vec::new(),
            payload,
        };
        let config = match supabase {
            Some(config) => ChannelConfig::supabase(config),
            None => {
                let params = Payload::json(&join.payload).unwrap_or_default();
                let config = ChannelConfig::phoenix(params);
                if presence { config.with_presence() } else { config }
            }
        };
        // Recordings end before a grace does, and say at once what is so.
        let config = config.with_presence_grace(Duration::ZERO).with_presence_calls();
        let before = self.replay.joins.iter().rev().find(|before| before.topic == join.topic);
        let same = before.is_some_and(|before| before.payload == join.payload);
        let open = self.client.channel_by_topic(&join.topic);
        let errored = open.is_some_and(|id| {
            self.client.channel(id).is_some_and(|c| c.state() == ChannelState::Errored)
        });
        self.expect(told);
        let opened = match open {
            Some(id) if same && errored => Ok(id),
            // Ours joins a topic once; to join it twice it has to leave in between.
            Some(id) => {
                self.client.close_channel(id, now);
                self.client.open_channel(&join.topic, config, now)
            }
            None => self.client.open_channel(&join.topic, config, now),
        };
        match opened {
            Ok(id) => {
                if let Some(mut channel) = self.client.channel(id) {
                    channel.rejoin(now);
                    join.bindings = channel.bindings().map(|(binding, _)| binding).collect();
                }
                join.channel = Some(id);
            }
            Err(error) => {
                self.expected.remove(&(told.topic.clone(), told.event.clone()));
                self.leave_out(told.line, error.to_string());
            }
        }
        self.replay.joins.push(join);
    }

    /// The channel that a recorded command is for, if ours would send it now.
    fn target(&mut self, told: &Told) -> Result<ChannelId, &'static str> {
        let id = self.client.channel_by_topic(&told.topic).ok_or("nobody is on the topic")?;
        let state = self.client.channel(id).map_or(ChannelState::Closed, |it| it.state());
        if !matches!(state, ChannelState::Joining | ChannelState::Joined) {
            return Err("the channel is not joined");
        }
        let join = self.replay.joins.iter().rev().find(|join| join.channel == Some(id));
        let current = join.and_then(|join| join.join_ref.as_deref());
        match told.join_ref.as_deref() {
            None => Ok(id),
            named if named == current => Ok(id),
            Some(_) => Err("it names another join"),
        }
    }

    fn leave(&mut self, told: &Told, now: Instant) {
        match self.target(told) {
            Ok(_) if told.join_ref.is_none() => self.leave_out(told.line, "it names no join"),
            Ok(id) => {
                self.expect(told);
                self.client.close_channel(id, now);
            }
            Err(why) => self.leave_out(told.line, why),
        }
    }

    fn push(&mut self, told: &Told, now: Instant) {
        let id = match self.target(told) {
            Ok(id) => id,
            Err(why) => return self.leave_out(told.line, why),
        };
        let answered = self.told.iter().any(|reply| {
            reply.event == "phx_reply" && reply.topic == told.topic && reply.msg_ref == told.msg_ref
        });
        let Ok(envelope) = decode(self.vsn, Sender::Client, &told.frame) else {
            return self.leave_out(told.line, "no envelope");
        };
        self.expect(told);
        let event = told.event.as_str();
        let Some(mut channel) = self.client.channel(id) else { return };
        let made = match envelope.body {
            Body::Json(text) => Payload::from_json(text).map_err(Into::into).and_then(|payload| {
                if answered {
                    channel.push(event, payload, now)
                } else {
                    channel.cast(event, payload, now)
                }
            }),
            Body::Binary(bytes) if answered => channel.push(event, bytes.to_vec().into(), now),
            Body::Binary(bytes) => channel.cast(event, bytes.to_vec().into(), now),
            Body::UserBroadcast { event, encoding, payload, .. } => {
                let payload = match encoding {
                    Encoding::Binary => Ok(Payload::from(payload.to_vec())),
                    Encoding::Json => {
                        Payload::from_json(String::from_utf8_lossy(payload).into_owned())
                    }
                };
                match payload {
                    Ok(payload) => channel.broadcast(event, payload, now),
                    Err(error) => Err(error.into()),
                }
            }
            Body::Reply { .. } => return self.leave_out(told.line, "a client sends no reply"),
        };
        match made {
            Ok(push) => self.replay.pushes.push(Push {
                line: told.line,
                msg_ref: told.msg_ref.clone().unwrap_or_default(),
                event: told.event.clone(),
                channel: id,
                push,
            }),
            Err(error) => {
                let key = (told.topic.clone(), told.event.clone());
                self.expected.get_mut(&key).and_then(VecDeque::pop_back);
                self.leave_out(told.line, error.to_string());
            }
        }
    }

    /// Takes what the client has to say, and learns which refs it used.
    fn drain(&mut self, line: usize) {
        while let Some(transmit) = self.client.poll_transmit() {
            match transmit {
                Transmit::Open { socket, .. } => {
                    self.socket.get_or_insert(socket);
                }
                Transmit::Frame { frame, .. } => self.sent(line, &frame),
                _ => {}
            }
        }
        while let Some(event) = self.client.poll_event() {
            if let Event::Channel(id, ChannelEvent::Joined { .. } | ChannelEvent::Presence(_)) =
                event
            {
                self.look_at_members(id);
            }
            self.replay.events.push((line, event));
        }
    }

    fn look_at_members(&mut self, id: ChannelId) {
        let Some(channel) = self.client.channel(id) else { return };
        if channel.state() == ChannelState::Joined && !channel.presence().is_stale() {
            let members = channel.presence().members();
            let members = members.map(|(key, metas)| (key.to_owned(), metas.to_vec())).collect();
            let topic = channel.topic().to_owned();
            self.replay.members.insert(topic, members);
        }
    }

    fn sent(&mut self, line: usize, frame: &Frame) {
        let envelope = decode(self.vsn, Sender::Client, frame).expect("what we write can be read");
        let (topic, event) = (envelope.topic.into_owned(), envelope.event.into_owned());
        let key = (topic, event);
        let expected = self.expected.get_mut(&key).and_then(VecDeque::pop_front);
        let (topic, event) = key;
        let Some(expected) = expected else {
            self.replay.own_frames.push((line, topic, event));
            return;
        };
        let msg_ref = envelope.msg_ref.expect("every frame of ours has a ref").into_owned();
        if event == "phx_join" {
            let join = self.replay.joins.iter_mut().rev().find(|join| join.line == line);
            if let (Some(join), Body::Json(text)) = (join, &envelope.body) {
                join.ours = serde_json::from_str(text).unwrap_or_default();
            }
            if let Some(join_ref) = expected.join_ref {
                self.join_refs.insert(join_ref, msg_ref.clone());
            }
        }
        self.refs.insert(expected.msg_ref, msg_ref);
    }

    /// The server's frame with our refs in it.
    fn rewrite(&self, frame: &Frame) -> Frame {
        let Ok(mut envelope) = decode(self.vsn, Sender::Server, frame) else {
            return frame.clone();
        };
        let ours = |refs: &BTreeMap<String, String>, recorded: &str| match recorded {
            "" => String::new(),
            _ => refs.get(recorded).cloned().unwrap_or_else(|| format!("nobody's {recorded}")),
        };
        // A close or crash carries the join's ref in both places.
        let of_join = matches!(&*envelope.event, "phx_close" | "phx_error");
        let refs = if of_join { &self.join_refs } else { &self.refs };
        envelope.msg_ref = envelope.msg_ref.map(|recorded| ours(refs, &recorded).into());
        envelope.join_ref =
            envelope.join_ref.map(|recorded| ours(&self.join_refs, &recorded).into());
        let mut bytes = Vec::new();
        if encode(self.vsn, Sender::Server, &envelope, &mut bytes).is_err() {
            return frame.clone();
        }
        match frame {
            Frame::Text(_) => Frame::Text(bytes.into()),
            Frame::Binary(_) => Frame::Binary(bytes.into()),
        }
    }
}

/// The recorded configuration, if our types can say it word for word: they have no words for
/// values of the wrong type, for unknown kinds of change, or for the same binding twice, and what a
/// server must refuse they do not send.
fn typed(payload: &Value) -> Option<JoinConfig> {
    let recorded = payload.get("config").filter(|config| config.is_object())?;
    let config: JoinConfig = serde_json::from_value(recorded.clone()).ok()?;
    let asked = recorded.get("postgres_changes").cloned().unwrap_or_else(|| Value::Array(vec![]));
    let ours = serde_json::to_value(&config.postgres_changes).ok()?;
    let bindings = &config.postgres_changes;
    let twice = (1..bindings.len()).any(|at| bindings[..at].contains(&bindings[at]));
    let refused = bindings.iter().any(|binding| binding.check().is_err());
    (asked == ours && !twice && !refused).then_some(config)
}

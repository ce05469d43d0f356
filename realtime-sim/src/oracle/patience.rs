//! How long a client waits: for an answer no longer than it is set to, before it tries again as
//! long as it told, and at a hint not at all. All times are by the clock of its node, but where it
//! says otherwise.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::Instant;
use realtime_proto::supabase::CauseKind;
use realtime_proto::wire::Envelope;

use super::script::Script;
use super::{Verdict, must};
use crate::NodeId;
use crate::scenario::{TopicId, TopicSpec};
use crate::subject::Command;

#[derive(Debug, Default)]
pub(super) struct Patience {
    nodes: BTreeMap<NodeId, Waits>,
    links: BTreeMap<u64, Line>,
}

#[derive(Debug, Default)]
struct Waits {
    /// Since when it does all that it is asked for at once; `None` while something waits.
    prompt_since: Option<Instant>,
    /// Whether its clock went back once, so that it is not known what its client takes for the time, or
    /// its timers come whenever somebody chooses.
    is_late: bool,
    connections: BTreeMap<u32, Connection>,
    /// By topic: when it is to be joined again, as was told.
    rejoins: BTreeMap<String, Instant>,
    /// By topic: since when its channel is live.
    live: BTreeMap<TopicId, Instant>,
    /// By topic: when it was given up, by the clock of the world.
    given_up: BTreeMap<TopicId, Instant>,
    /// Whether its application wants to be connected.
    is_online: bool,
    /// Whether it was asked to look after its connections and did not carry that out yet.
    is_hinted: bool,
}

/// A connection, as far as there is something to wait for.
#[derive(Clone, Debug)]
enum Connection {
    /// There is a link, or an attempt to have one.
    Has { link: u64 },
    /// The link is gone; what heartbeat left last on it and was not answered.
    Lost { beat: Option<Instant> },
    /// It is to be tried again then.
    Waits { until: Instant },
    /// Nobody wants it, or it was given up.
    Off,
}

/// A link, and what was asked on it.
#[derive(Debug)]
struct Line {
    of: (NodeId, u32),
    is_open: bool,
    /// The heartbeat that left last, until it is answered.
    beat: Option<(String, Instant)>,
    /// By topic: the join that left last.
    joins: BTreeMap<String, Join>,
}

#[derive(Debug)]
struct Join {
    msg_ref: String,
    left_at: Instant,
    accepted: bool,
}

/// How a connection ended, as it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) connection: u32,
    pub(super) cause: CauseKind,
    pub(super) retry_at: Option<Instant>,
    /// Whether all that its application has was live.
    pub(super) was_live: bool,
}

/// A channel that was live for so long has to do with no trouble before.
const STABLE_AFTER: Duration = Duration::from_secs(60);

impl Patience {
    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.links.retain(|_, line| line.of.0 != node);
    }

    /// An application may ask for something without anybody's knowing.
    pub(super) fn on_app(&mut self, node: NodeId) {
        self.excuse(node);
        self.nodes.entry(node).or_default().given_up.clear();
    }

    /// An application asks for something, or may have; what was planned may happen at once.
    pub(super) fn excuse(&mut self, node: NodeId) {
        let Some(waits) = self.nodes.get_mut(&node) else { return };
        waits.rejoins.clear();
        for connection in waits.connections.values_mut() {
            if let Connection::Waits { until } = connection {
                *until = Instant::EPOCH;
            }
        }
    }

    /// An application asks for something; `is_needed` when its connection is, for a channel of its
    /// own. One that nobody needs may rest.
    pub(super) fn on_asked(&mut self, node: NodeId, command: &Command<'_>, is_needed: bool) {
        self.excuse(node);
        let waits = self.nodes.entry(node).or_default();
        match command {
            Command::Hint => {
                let may_rest = !is_needed || !waits.is_online;
                waits.is_hinted = !may_rest && waits.prompt_since.is_some();
            }
            Command::Connect => waits.is_online = true,
            Command::Open(topic) => _ = waits.given_up.remove(topic),
            Command::Disconnect => {
                waits.is_online = false;
                waits.given_up.clear();
            }
            _ => {}
        }
    }

    /// A channel is given up, at this time by the clock of the world.
    pub(super) fn on_given_up(&mut self, node: NodeId, topic: TopicId, now: Instant) {
        let waits = self.nodes.entry(node).or_default();
        waits.given_up.insert(topic, now);
        waits.live.remove(&topic);
    }

    /// From now on it is not known when a node is to do something.
    pub(super) fn on_late(&mut self, node: NodeId) {
        self.on_hindered(node);
        self.nodes.entry(node).or_default().is_late = true;
    }

    /// Something keeps a node from what it has to do, and its application from what it is told.
    pub(super) fn on_hindered(&mut self, node: NodeId) {
        self.excuse(node);
        let waits = self.nodes.entry(node).or_default();
        (waits.prompt_since, waits.is_hinted) = (None, false);
    }

    /// A node did all that it was asked for.
    pub(super) fn on_drained(&mut self, node: NodeId, clock: Instant) -> Verdict {
        let waits = self.nodes.entry(node).or_default();
        if waits.is_late {
            return Ok(());
        }
        waits.prompt_since.get_or_insert(clock);
        if !core::mem::take(&mut waits.is_hinted) {
            return Ok(());
        }
        for (number, connection) in &waits.connections {
            let is_looked_after = match connection {
                Connection::Waits { .. } => false,
                Connection::Has { link } => {
                    let line = self.links.get(link).filter(|line| line.is_open);
                    line.is_none_or(|line| line.beat.is_some())
                }
                Connection::Lost { .. } | Connection::Off => true,
            };
            must(is_looked_after, "manners", || {
                format!("it is asked to look after connection {number}, and does nothing")
            })?;
        }
        Ok(())
    }

    pub(super) fn on_attempt(&mut self, of: (NodeId, u32), link: u64, clock: Instant) -> Verdict {
        let line = Line { of, is_open: false, beat: None, joins: BTreeMap::new() };
        self.links.insert(link, line);
        let waits = self.nodes.entry(of.0).or_default();
        let before = waits.connections.insert(of.1, Connection::Has { link });
        let Some(Connection::Waits { until }) = before else { return Ok(()) };
        must(until <= clock || waits.is_late, "manners", || {
            format!("connection {} is tried at {clock}, and was to be at {until}", of.1)
        })
    }

    pub(super) fn on_renamed(&mut self, before: u64, after: u64) {
        let Some(line) = self.links.remove(&before) else { return };
        if let Some(Connection::Has { link }) = self.connection_mut(line.of, before) {
            *link = after;
        }
        self.links.insert(after, line);
    }

    fn connection_mut(&mut self, of: (NodeId, u32), on: u64) -> Option<&mut Connection> {
        let connection = self.nodes.get_mut(&of.0)?.connections.get_mut(&of.1)?;
        Some(connection).filter(|it| matches!(it, Connection::Has { link } if *link == on))
    }

    pub(super) fn on_opened(&mut self, link: u64) {
        if let Some(line) = self.links.get_mut(&link) {
            line.is_open = true;
        }
    }

    pub(super) fn on_gone(&mut self, link: u64) {
        let Some(line) = self.links.remove(&link) else { return };
        if let Some(connection) = self.connection_mut(line.of, link) {
            *connection = Connection::Lost { beat: line.beat.map(|(_, at)| at) };
        }
    }

    /// A frame leaves a node, at this time by its clock and by that of the world.
    pub(super) fn on_leaves(
        &mut self,
        (node, link): (NodeId, u64),
        envelope: &Envelope<'_>,
        script: &Script,
        (clock, now): (Instant, Instant),
    ) -> Verdict {
        let topic = &*envelope.topic;
        match &*envelope.event {
            "heartbeat" if topic == "phoenix" => {
                let msg_ref = envelope.msg_ref.as_deref().unwrap_or_default();
                if let Some(line) = self.links.get_mut(&link) {
                    line.beat = Some((msg_ref.into(), clock));
                }
                Ok(())
            }
            "phx_join" => {
                let msg_ref = envelope.msg_ref.as_deref().unwrap_or_default().into();
                if let Some(line) = self.links.get_mut(&link) {
                    let join = Join { msg_ref, left_at: clock, accepted: false };
                    line.joins.insert(topic.into(), join);
                }
                let waits = self.nodes.get_mut(&node).filter(|waits| !waits.is_late);
                let at = waits.and_then(|waits| waits.rejoins.remove(topic));
                must(at.is_none_or(|at| at <= clock), "manners", || {
                    format!("{topic} is joined at {clock}, and was to be at {at:?}")
                })
            }
            "phx_leave" if script.is_manager(node) => {
                let waits = self.nodes.get(&node);
                let id = script.topic(topic);
                let given_up = id.and_then(|id| waits?.given_up.get(&id));
                // A join that is not answered in time is taken back, whoever waits for it; be it one
                // that nobody wrote in time.
                let join = self.links.get(&link).and_then(|line| line.joins.get(topic));
                let named = envelope.join_ref.as_deref();
                let join = join.filter(|join| named.is_none_or(|named| named == join.msg_ref));
                let given_up = given_up.filter(|_| join.is_some_and(|join| join.accepted));
                let Some(until) = given_up.map(|at| *at + script.linger) else { return Ok(()) };
                must(until <= now, "manners", || {
                    format!("{topic} is left, and was to be kept until {until}")
                })
            }
            _ => Ok(()),
        }
    }

    /// A frame arrives at a node; `joins` when it is the acceptance of the newest join.
    pub(super) fn on_arrives(&mut self, link: u64, envelope: &Envelope<'_>, joins: bool) {
        let Some(line) = self.links.get_mut(&link) else { return };
        if let (true, Some(join)) = (joins, line.joins.get_mut(&*envelope.topic)) {
            join.accepted = true;
        }
        if envelope.topic == "phoenix" {
            let msg_ref = envelope.msg_ref.as_deref();
            line.beat.take_if(|(beat, _)| Some(&**beat) == msg_ref);
        }
    }

    /// A node tells that a connection ended, or was not had.
    pub(super) fn on_disconnected(
        &mut self,
        node: NodeId,
        ended: Ended,
        script: &Script,
        clock: Instant,
    ) -> Verdict {
        let Ended { connection, cause, retry_at, was_live } = ended;
        let waits = self.nodes.entry(node).or_default();
        // With the next connection everything joins at once.
        waits.rejoins.clear();
        let told_at_once = waits.prompt_since.is_some();
        let next = retry_at.map_or(Connection::Off, |until| Connection::Waits {
            until: if told_at_once { until } else { Instant::EPOCH },
        });
        let before = waits.connections.get(&connection);
        // It may be told so late that the next attempt is under way.
        if matches!(before, Some(Connection::Has { .. })) {
            return Ok(());
        }
        let before = waits.connections.insert(connection, next);
        if was_live {
            waits.check_first(retry_at, script, clock)?;
        }
        match (before, script.answered_within()) {
            (Some(Connection::Lost { beat: Some(beat) }), Some(within))
                if cause == CauseKind::HeartbeatTimeout =>
            {
                waits.check("a heartbeat", beat, within, clock)
            }
            _ => Ok(()),
        }
    }

    /// A node tells that a channel is live.
    pub(super) fn on_live(&mut self, node: NodeId, topic: TopicId, clock: Instant) {
        self.nodes.entry(node).or_default().live.insert(topic, clock);
    }

    /// A node tells that a channel is lost, and when it joins it again.
    pub(super) fn on_errored(
        &mut self,
        node: NodeId,
        topic: TopicId,
        (cause, retry_at): (CauseKind, Option<Instant>),
        script: &Script,
        clock: Instant,
    ) -> Verdict {
        let Some(spec) = script.spec(topic) else { return Ok(()) };
        let waits = self.nodes.entry(node).or_default();
        // What is told late may have been asked to happen earlier since.
        match retry_at.filter(|_| waits.prompt_since.is_some()) {
            Some(at) => _ = waits.rejoins.insert(spec.topic.clone(), at),
            None => _ = waits.rejoins.remove(&spec.topic),
        }
        let live_since = waits.live.remove(&topic);
        match cause {
            CauseKind::JoinTimeout => self.check_join(node, spec, script, clock),
            CauseKind::ChannelCrashed
                if live_since.is_some_and(|since| since + STABLE_AFTER <= clock) =>
            {
                waits.check_first(retry_at, script, clock)
            }
            _ => Ok(()),
        }
    }

    /// A join was not answered in time.
    fn check_join(
        &self,
        node: NodeId,
        spec: &TopicSpec,
        script: &Script,
        clock: Instant,
    ) -> Verdict {
        let topic = &spec.topic;
        let lines = self.links.values().filter(|line| line.of.0 == node);
        let joined_at =
            lines.filter_map(|line| line.joins.get(topic).map(|join| join.left_at)).max();
        let (Some(at), Some(waits)) = (joined_at, self.nodes.get(&node)) else { return Ok(()) };
        waits.check("a join", at, script.joined_within(spec), clock)
    }
}

impl Waits {
    /// What was well is tried again as if for the first time.
    fn check_first(&self, at: Option<Instant>, script: &Script, clock: Instant) -> Verdict {
        let Some(at) = at.filter(|_| self.prompt_since.is_some()) else { return Ok(()) };
        let after = at.saturating_duration_since(clock);
        must(after <= script.retry_first, "manners", || {
            format!("all was well, and the first retry is planned after {after:?}")
        })
    }

    /// What left at a time was waited for no longer than it may be, unless something else kept the
    /// node from noticing.
    fn check(&self, what: &str, left_at: Instant, within: Duration, clock: Instant) -> Verdict {
        let prompt = self.prompt_since.is_some_and(|since| since <= left_at);
        must(!prompt || clock <= left_at + within, "G8", || {
            format!("the answer to {what} of {left_at} is missed at {clock}, after {within:?}")
        })
    }
}

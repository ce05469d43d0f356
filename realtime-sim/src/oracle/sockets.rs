//! Sockets as they are seen from outside: which joins are on each, and what may leave on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use realtime_proto::Instant;
use realtime_proto::wire::Envelope;

use super::script::{STORM_WINDOW, Script};
use super::{Verdict, limits, must, read};
use crate::NodeId;

/// The sockets that nodes have or try to have, by link.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    by_link: BTreeMap<u64, Socket>,
    /// The nodes that may have a topic on a socket that the server ended.
    ended: BTreeSet<NodeId>,
    paces: BTreeMap<NodeId, Pace>,
}

#[derive(Debug)]
struct Socket {
    node: NodeId,
    connection: u32,
    server: usize,
    topics: Vec<Topic>,
    joins: limits::Bucket,
}

/// The joins of one topic on one socket.
#[derive(Debug)]
struct Topic {
    name: String,
    phase: Phase,
    /// The join that was sent last, and the ref its reply repeats.
    join_ref: String,
    msg_ref: String,
    presence_calls: limits::Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No join, or the last one came to nothing.
    Idle,
    /// The last join was accepted, and then ended by the server. What waited by then for a driver
    /// that is stuck in a write still leaves.
    Ended,
    /// The reply to the join was not delivered yet.
    Joining,
    Joined,
    /// A leave was sent.
    Left,
}

/// How often a node tries things, and what excuses it.
#[derive(Debug, Default)]
struct Pace {
    attempts: BTreeMap<u32, Recent>,
    joins: BTreeMap<String, Recent>,
    excuses: Recent,
}

/// Moments within the last window.
#[derive(Debug, Default)]
struct Recent(VecDeque<Instant>);

impl Recent {
    /// One more; how many there were in the window that ends now.
    fn add(&mut self, now: Instant) -> usize {
        self.0.push_back(now);
        self.len(now)
    }

    fn len(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|at| *at + STORM_WINDOW < now) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

/// Each excuse begins a ladder of retries anew, whose first steps are short.
const RETRIES_PER_EXCUSE: usize = 8;

/// What a message from a server is to the join it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// It names another join than the newest.
    pub(super) is_stale: bool,
    /// It is the acceptance of the join.
    pub(super) joins: bool,
}

impl Sockets {
    /// Something happened after which retries may begin anew: a command, or a channel was live.
    pub(super) fn excuse(&mut self, node: NodeId, now: Instant) {
        self.paces.entry(node).or_default().excuses.add(now);
    }

    pub(super) fn on_attempt(
        &mut self,
        (node, connection): (NodeId, u32),
        (link, server): (u64, usize),
        script: Option<&Script>,
        now: Instant,
    ) -> Verdict {
        let per_second = script.map_or(limits::JOINS_PER_SECOND_MAX, |script| script.joins_max);
        let joins = limits::Bucket::new(per_second, now);
        let socket = Socket { node, connection, server, topics: Vec::new(), joins };
        self.by_link.insert(link, socket);
        let pace = self.paces.entry(node).or_default();
        let attempts = pace.attempts.entry(connection).or_default().add(now);
        let Some(script) = script else { return Ok(()) };
        let max = script.retries_max + RETRIES_PER_EXCUSE * pace.excuses.len(now);
        must(attempts <= max, "G6", || {
            format!("connection {connection} is tried {attempts} times in {STORM_WINDOW:?}")
        })
    }

    pub(super) fn on_renamed(&mut self, before: u64, after: u64) {
        if let Some(socket) = self.by_link.remove(&before) {
            self.by_link.insert(after, socket);
        }
    }

    pub(super) fn on_gone(&mut self, link: u64) {
        self.by_link.remove(&link);
    }

    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.by_link.retain(|_, socket| socket.node != node);
        self.paces.remove(&node);
    }

    /// What a manager has besides its first connection is there for a channel; `is_known` tells of
    /// which nodes it is known what channels they have.
    pub(super) fn settle(&self, is_known: impl Fn(NodeId) -> bool) -> Verdict {
        let further = |socket: &&Socket| socket.connection > 0 && is_known(socket.node);
        for socket in self.by_link.values().filter(further) {
            let mut topics = socket.topics.iter();
            must(topics.any(|topic| topic.phase == Phase::Joined), "manners", || {
                format!("{} has connection {} for nothing", socket.node, socket.connection)
            })?;
        }
        Ok(())
    }

    /// The server behind the socket on which a node has joined a topic.
    pub(super) fn server_of(&self, node: NodeId, topic: &str) -> Option<usize> {
        let is_joined =
            |topic_of: &Topic| topic_of.name == topic && topic_of.phase == Phase::Joined;
        let mut sockets = self.by_link.values().filter(|socket| socket.node == node);
        sockets.find(|socket| socket.topics.iter().any(is_joined)).map(|socket| socket.server)
    }

    /// A frame leaves a node.
    pub(super) fn on_leaves(
        &mut self,
        link: u64,
        envelope: &Envelope<'_>,
        script: Option<&Script>,
        now: Instant,
    ) -> Verdict {
        let (topic, event) = (&*envelope.topic, &*envelope.event);
        if topic == "phoenix" {
            return Ok(());
        }
        let socket = self.by_link.get_mut(&link);
        let socket =
            socket.ok_or_else(|| ("G4", format!("{event} leaves on a socket nobody opened")))?;
        match event {
            "phx_join" => {
                let node = socket.node;
                socket.on_join(envelope, now)?;
                let Some(script) = script else { return Ok(()) };
                socket.check_channels(script)?;
                self.check_pace(node, topic, script, now)
            }
            "phx_leave" => socket.on_leave(envelope),
            // It is for the channel that the server has, if it has one.
            "access_token" => Ok(()),
            _ => socket.on_push(envelope, script.is_some(), now),
        }
    }

    fn check_pace(&mut self, node: NodeId, topic: &str, script: &Script, now: Instant) -> Verdict {
        let pace = self.paces.entry(node).or_default();
        if !pace.joins.contains_key(topic) {
            pace.joins.insert(topic.into(), Recent::default());
        }
        let joins = pace.joins.get_mut(topic).map_or(0, |joins| joins.add(now));
        let opened = pace.attempts.values_mut().map(|attempts| attempts.len(now)).sum::<usize>();
        let excuses = RETRIES_PER_EXCUSE * pace.excuses.len(now);
        let max = script.retries_max + opened + excuses;
        must(joins <= max, "G6", || format!("{topic} is joined {joins} times in {STORM_WINDOW:?}"))
    }

    /// All that waited for the driver of a node has left: what follows is of its own making.
    pub(super) fn on_drained(&mut self, node: NodeId) {
        if !self.ended.remove(&node) {
            return;
        }
        let sockets = self.by_link.values_mut().filter(|socket| socket.node == node);
        for topic in sockets.flat_map(|socket| &mut socket.topics) {
            if topic.phase == Phase::Ended {
                topic.phase = Phase::Idle;
            }
        }
    }

    /// A frame arrives at a node that has the socket.
    pub(super) fn on_arrives(&mut self, link: u64, envelope: &Envelope<'_>) -> Arrived {
        let none = Arrived { is_stale: false, joins: false };
        let Some(socket) = self.by_link.get_mut(&link) else { return none };
        let node = socket.node;
        let Some(topic) = socket.topic_mut(&envelope.topic) else { return none };
        let named = read::join_ref(envelope);
        let is_stale = named.is_some_and(|named| named != topic.join_ref);
        let msg_ref = envelope.msg_ref.as_deref();
        match &*envelope.event {
            "phx_reply" if topic.phase == Phase::Joining && msg_ref == Some(&topic.msg_ref) => {
                let joins = read::is_ok(envelope);
                topic.phase = if joins { Phase::Joined } else { Phase::Idle };
                Arrived { is_stale, joins }
            }
            "phx_close" | "phx_error" => {
                // Version 1 names the join in the ref.
                if named.or(msg_ref) == Some(&topic.join_ref) {
                    topic.phase = match topic.phase {
                        Phase::Joined | Phase::Ended => Phase::Ended,
                        Phase::Idle | Phase::Joining => Phase::Idle,
                        Phase::Left => Phase::Left,
                    };
                    self.ended.insert(node);
                }
                Arrived { is_stale, joins: false }
            }
            _ => Arrived { is_stale, joins: false },
        }
    }
}

impl Socket {
    fn topic_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.topics.iter_mut().find(|topic| topic.name == name)
    }

    fn on_join(&mut self, envelope: &Envelope<'_>, now: Instant) -> Verdict {
        let msg_ref = envelope.msg_ref.as_deref().unwrap_or_default();
        let join_ref = read::join_ref(envelope).unwrap_or(msg_ref);
        self.joins.check(now)?;
        let Some(topic) = self.topic_mut(&envelope.topic) else {
            self.topics.push(Topic {
                name: envelope.topic.as_ref().into(),
                phase: Phase::Joining,
                join_ref: join_ref.into(),
                msg_ref: msg_ref.into(),
                presence_calls: limits::Window::default(),
            });
            return Ok(());
        };
        must(topic.phase != Phase::Joining, "G6", || {
            format!("{} is joined again while join {} is in flight", topic.name, topic.join_ref)
        })?;
        topic.phase = Phase::Joining;
        (topic.join_ref, topic.msg_ref) = (join_ref.into(), msg_ref.into());
        topic.presence_calls = limits::Window::default();
        Ok(())
    }

    fn on_leave(&mut self, envelope: &Envelope<'_>) -> Verdict {
        let named = read::join_ref(envelope);
        let left = self.topic_mut(&envelope.topic);
        if let Some(left) = left.filter(|left| named.is_none_or(|named| named == left.join_ref)) {
            left.phase = Phase::Left;
            return Ok(());
        }
        // A join that was taken back before it left is left all the same: its ref is one
        // that this socket has made before. One of another socket need not be.
        let msg_ref = read::number_of_ref(envelope.msg_ref.as_deref());
        let withdrawn = read::number_of_ref(named)
            .is_none_or(|join_ref| msg_ref.is_none_or(|msg_ref| join_ref < msg_ref));
        must(withdrawn, "G4", || {
            format!("{} is left for join {named:?}, which this socket has not", envelope.topic)
        })
    }

    fn check_channels(&self, script: &Script) -> Verdict {
        let has = |topic: &&Topic| matches!(topic.phase, Phase::Joining | Phase::Joined);
        let channels = self.topics.iter().filter(has).count();
        let max = if script.is_manager(self.node) { script.channels_max } else { usize::MAX };
        must(channels <= max, "G11", || {
            format!("a connection holds {channels} channels, and {max} are allowed")
        })
    }

    fn on_push(&mut self, envelope: &Envelope<'_>, limited: bool, now: Instant) -> Verdict {
        let (name, event) = (&*envelope.topic, &*envelope.event);
        let Some(topic) = self.topic_mut(name) else {
            return Err(("G6", format!("{event} leaves on {name}, which was never joined")));
        };
        must(matches!(topic.phase, Phase::Joined | Phase::Ended), "G6", || {
            format!("{event} leaves on {name} while join {} is {:?}", topic.join_ref, topic.phase)
        })?;
        let named = read::join_ref(envelope);
        must(named.is_none_or(|named| named == topic.join_ref), "G4", || {
            format!("{event} leaves on {name} for join {named:?} after {}", topic.join_ref)
        })?;
        if event == "presence" && limited { topic.presence_calls.check(now) } else { Ok(()) }
    }
}

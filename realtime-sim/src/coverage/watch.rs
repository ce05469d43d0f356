//! What a run reached: connections and channels as their applications see them.

use std::collections::BTreeMap;

use realtime_proto::Frame;
use realtime_proto::wire::{self, Sender, Vsn};

use super::{
    ChannelView, Condition, ConnectionView, Count, Course, Coverage, Place, PushEnd, Sight, Silent,
};
use crate::NodeId;
use crate::scenario::{Act, Cast, Data, Fault, Part, TopicId};
use crate::subject::{ChannelKey, ChannelTold, Command, Missed, Note, Told};
use crate::trace::View;

/// Watches the nodes of a world and counts what they reach.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pub(crate) coverage: Coverage,
    nodes: BTreeMap<NodeId, Watch>,
    /// The topics of the scenario as they are on the wire.
    topics: Vec<String>,
    /// The same as the scenario names them.
    names: Vec<String>,
    /// What is seen otherwise since it was looked at last.
    changes: Vec<(NodeId, View)>,
}

/// One node as its application sees it.
#[derive(Debug)]
struct Watch {
    part: Part,
    connections: BTreeMap<u32, ConnectionView>,
    channels: BTreeMap<ChannelKey, ChannelView>,
    changes: Vec<View>,
}

/// How it is with an application; several may hold, for it may have several channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(u16);

impl Conditions {
    pub(crate) const fn insert(&mut self, condition: Condition) {
        self.0 |= 1 << condition as u16;
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn iter(self) -> impl Iterator<Item = Condition> {
        use super::axis::Axis as _;
        Condition::ALL
            .iter()
            .copied()
            .filter(move |condition| self.0 & (1 << *condition as u16) > 0)
    }
}

impl Observer {
    pub(crate) fn of(cast: &Cast) -> Self {
        let topics = cast.topics.iter().map(|topic| topic.topic.clone()).collect();
        let names = cast.topics.iter().map(|topic| topic.name.clone()).collect();
        let mut observer = Self { topics, names, ..Self::default() };
        let settings = &cast.settings;
        let is_manager = cast.actors.iter().any(|actor| actor.part == Part::Manager);
        for (course, holds) in [
            (Course::Servers, settings.servers > 1),
            (Course::Vsn1, settings.vsn1),
            (Course::Tokens, settings.tokens),
            (Course::Manager, is_manager),
            (Course::Several, cast.actors.len() > 1),
        ] {
            observer.coverage.courses.add(course, Count, u64::from(holds));
        }
        observer
    }

    /// What the scenario calls a topic, if there is a scenario.
    pub(crate) fn name(&self, topic: TopicId) -> Option<&str> {
        self.names.get(usize::from(topic.0)).map(String::as_str)
    }

    /// A node starts, or starts again.
    pub(crate) fn on_started(&mut self, node: NodeId, part: Part) {
        let watch = Watch {
            part,
            connections: BTreeMap::new(),
            channels: BTreeMap::new(),
            changes: Vec::new(),
        };
        if let Some(before) = self.nodes.get(&node) {
            let connections = before.connections.keys().map(|of| (*of, ConnectionView::Offline));
            let channels = before.channels.keys().map(|key| (*key, ChannelView::Gone));
            let views = connections.map(|(of, view)| View::Connection(of, view));
            let views = views.chain(channels.map(|(key, view)| View::Channel(key, view)));
            self.changes.extend(views.map(|view| (node, view)));
        }
        self.nodes.insert(node, watch);
    }

    fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Watch, &mut Coverage)) {
        if let Some(watch) = self.nodes.get_mut(&node) {
            act(watch, &mut self.coverage);
            self.changes.extend(watch.changes.drain(..).map(|view| (node, view)));
        }
    }

    /// What is seen otherwise since the last call.
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = (NodeId, View)> + '_ {
        self.changes.drain(..)
    }

    /// An application is about to ask its client for something.
    pub(crate) fn on_command(&mut self, node: NodeId, command: &Command<'_>) {
        self.with(node, |watch, coverage| match *command {
            Command::Disconnect => {
                let quiet = [ConnectionView::Waiting, ConnectionView::Stopped];
                let quiet = watch.connections.iter().filter(|(_, view)| quiet.contains(view));
                let quiet: Vec<u32> = quiet.map(|(connection, _)| *connection).collect();
                // What is open or on its way says so when it ended.
                for connection in quiet {
                    watch.connection(connection, ConnectionView::Offline, coverage);
                }
            }
            Command::Close(topic) => {
                let is_joined = |view| {
                    use ChannelView::{Joined, Joining, Live, Stopped};
                    matches!(view, Joining | Joined | Live | Stopped)
                };
                if let Some((key, view)) = watch.current(topic) {
                    if is_joined(view) {
                        watch.channel(key, ChannelView::Leaving, coverage);
                    }
                }
            }
            Command::Connect
            | Command::Hint
            | Command::Open(_)
            | Command::Send(..)
            | Command::Track(..)
            | Command::Untrack(_)
            | Command::Rebind(_)
            | Command::Rejoin(_)
            | Command::Token(_) => {}
        });
    }

    /// A channel was opened.
    pub(crate) fn on_opened(&mut self, node: NodeId, key: ChannelKey) {
        self.with(node, |watch, coverage| watch.opened(key, coverage));
    }

    /// A push was not even taken.
    pub(crate) fn on_refused(&mut self) {
        self.coverage.pushes.add(PushEnd::Refused, Count, 1);
    }

    /// A node asks for a socket.
    pub(crate) fn on_attempt(&mut self, node: NodeId, connection: u32) {
        self.with(node, |watch, coverage| {
            // Whoever does not take events does not know that the one before is over.
            if watch.connections.get(&connection) != Some(&ConnectionView::Open) {
                watch.connection(connection, ConnectionView::Connecting, coverage);
            }
        });
    }

    /// A node sends a frame: a join, perhaps.
    pub(crate) fn on_sends(&mut self, node: NodeId, frame: &Frame) {
        let Some(topic) = joins(frame) else { return };
        let Some(at) = self.topics.iter().position(|known| *known == topic) else { return };
        self.with(node, |watch, coverage| {
            let Some((key, view)) = watch.current(TopicId(at as u8)) else { return };
            if matches!(view, ChannelView::Asked | ChannelView::Retrying | ChannelView::Parked) {
                watch.channel(key, ChannelView::Joining, coverage);
            }
        });
    }

    /// A node tells its application something.
    pub(crate) fn on_told(&mut self, node: NodeId, told: &Told) {
        self.with(node, |watch, coverage| watch.on_told(told, coverage));
    }

    pub(crate) fn on_fault(&mut self, fault: &Fault, conditions: Conditions) {
        for condition in conditions.iter() {
            self.coverage.faults.add(fault.kind(), condition, 1);
        }
        let coverage = &mut self.coverage;
        match fault {
            Fault::Close { code, .. } => coverage.close_codes.add(*code, Count, 1),
            Fault::Refuse { status, .. } | Fault::RetryAfter { status, .. } => {
                coverage.statuses.add(*status, Count, 1);
            }
            Fault::RefuseJoins { why, .. } | Fault::RefuseJoinsAtOnce { why, .. } => {
                coverage.refusals.add(*why, Count, 1);
            }
            Fault::Shut { why, .. } => coverage.shuttings.add(*why, Count, 1),
            Fault::Garbage { what, .. } => coverage.garbage.add(*what, Count, 1),
            _ => {}
        }
    }

    pub(crate) fn on_act(&mut self, act: &Act, conditions: Conditions) {
        for condition in conditions.iter() {
            self.coverage.acts.add(act.kind(), condition, 1);
        }
    }

    pub(crate) fn on_data(&mut self, data: &Data) {
        self.coverage.data.add(data.kind(), Count, 1);
    }

    /// What a client counted until it was done with.
    pub(crate) fn on_stats(&mut self, stats: &realtime_proto::Stats) {
        for (silent, count) in [
            (Silent::StaleSocket, stats.stale_sockets),
            (Silent::StaleMessage, stats.stale_messages),
            (Silent::Duplicate, stats.duplicates),
            (Silent::UnknownTopic, stats.unknown_topics),
            (Silent::FrameDropped, stats.frames_dropped),
        ] {
            self.coverage.silent.add(silent, Count, count);
        }
    }

    pub(crate) fn on_course(&mut self, course: Course) {
        self.coverage.courses.add(course, Count, 1);
    }

    /// How it is with the channels of a node that is connected.
    pub(crate) fn channels(&self, node: NodeId) -> Conditions {
        let mut conditions = Conditions::default();
        let channels = self.nodes.get(&node).map(|watch| &watch.channels);
        for view in channels.into_iter().flat_map(BTreeMap::values) {
            conditions.insert(match view {
                ChannelView::Asked => Condition::Asked,
                ChannelView::Joining => Condition::Joining,
                ChannelView::Joined | ChannelView::Stopped => Condition::Joined,
                ChannelView::Live => Condition::Live,
                ChannelView::Retrying | ChannelView::Parked => Condition::Errored,
                ChannelView::Leaving => Condition::Leaving,
                ChannelView::Gone => continue,
            });
        }
        if conditions == Conditions::default() {
            conditions.insert(Condition::Bare);
        }
        conditions
    }

    /// How it is with a node that is neither connected nor about to be.
    pub(crate) fn connections(&self, node: NodeId) -> Conditions {
        let mut conditions = Conditions::default();
        let connections = self.nodes.get(&node).map(|watch| &watch.connections);
        for view in connections.into_iter().flat_map(BTreeMap::values) {
            match view {
                ConnectionView::Waiting => conditions.insert(Condition::Waiting),
                ConnectionView::Stopped => conditions.insert(Condition::Stopped),
                // It was open a moment ago, and its application was not told yet.
                ConnectionView::Offline | ConnectionView::Connecting | ConnectionView::Open => {}
            }
        }
        if conditions == Conditions::default() {
            conditions.insert(Condition::Offline);
        }
        conditions
    }
}

impl Watch {
    fn connection(&mut self, connection: u32, next: ConnectionView, coverage: &mut Coverage) {
        let view = self.connections.entry(connection).or_insert_with(|| {
            coverage.connections.add(ConnectionView::Offline, Count, 1);
            ConnectionView::Offline
        });
        if *view != next {
            coverage.connection_steps.add(*view, next, 1);
            coverage.connections.add(next, Count, 1);
            *view = next;
            self.changes.push(View::Connection(connection, next));
        }
    }

    fn opened(&mut self, key: ChannelKey, coverage: &mut Coverage) {
        let part = self.part;
        self.channels.entry(key).or_insert_with(|| {
            let states =
                if part == Part::Manager { &mut coverage.leases } else { &mut coverage.channels };
            states.add(ChannelView::Asked, Count, 1);
            self.changes.push(View::Channel(key, ChannelView::Asked));
            ChannelView::Asked
        });
    }

    fn channel(&mut self, key: ChannelKey, next: ChannelView, coverage: &mut Coverage) {
        self.opened(key, coverage);
        let Some(view) = self.channels.get_mut(&key) else { return };
        let (states, steps) = match self.part {
            Part::Client => (&mut coverage.channels, &mut coverage.channel_steps),
            Part::Manager => (&mut coverage.leases, &mut coverage.lease_steps),
        };
        if *view == ChannelView::Leaving && next != ChannelView::Gone {
            // It was told before it was given up, and is taken late.
            return;
        }
        let waits =
            matches!(view, ChannelView::Asked | ChannelView::Retrying | ChannelView::Parked);
        let between = match (self.part, next) {
            // A join that was written while nobody took events, or that waits to be.
            (_, ChannelView::Joined) if waits => Some(ChannelView::Joining),
            (Part::Client, ChannelView::Retrying) if waits => Some(ChannelView::Joining),
            (Part::Client, ChannelView::Parked) if *view == ChannelView::Asked => {
                Some(ChannelView::Joining)
            }
            (Part::Manager, ChannelView::Gone) if !waits => Some(ChannelView::Leaving),
            _ => None,
        };
        for next in between.into_iter().chain([next]) {
            if *view != next {
                steps.add(*view, next, 1);
                states.add(next, Count, 1);
                *view = next;
                self.changes.push(View::Channel(key, next));
            }
        }
        if next == ChannelView::Gone {
            self.channels.remove(&key);
        }
    }

    /// The channel of a topic that is not gone, the newest if an older one is being left.
    fn current(&self, topic: TopicId) -> Option<(ChannelKey, ChannelView)> {
        let of = |life| ChannelKey { topic, life };
        self.channels.range(of(0)..=of(u32::MAX)).next_back().map(|(key, view)| (*key, *view))
    }

    fn on_told(&mut self, told: &Told, coverage: &mut Coverage) {
        match told {
            Told::Connected { connection } => {
                // An attempt that was made while nobody took events.
                self.connection(*connection, ConnectionView::Connecting, coverage);
                self.connection(*connection, ConnectionView::Open, coverage);
            }
            Told::Disconnected { connection, cause, retry_at } => {
                use realtime_proto::supabase::CauseKind;
                coverage.causes.add(*cause, Place::Disconnected, 1);
                let view = match (cause, retry_at) {
                    (CauseKind::Requested | CauseKind::Empty, _) => ConnectionView::Offline,
                    (_, Some(_)) => ConnectionView::Waiting,
                    (_, None) => ConnectionView::Stopped,
                };
                let was_open = self.connections.get(connection) == Some(&ConnectionView::Open);
                if !was_open && view != ConnectionView::Offline {
                    self.connection(*connection, ConnectionView::Connecting, coverage);
                }
                self.connection(*connection, view, coverage);
            }
            Told::Channel(key, told) => self.on_channel(*key, told, coverage),
            Told::Note(note) => match note {
                Note::Cause(place, cause) => coverage.causes.add(*cause, *place, 1),
                Note::Violation(kind) => coverage.violations.add(*kind, Count, 1),
                Note::Sight(sight) => coverage.sights.add(*sight, Count, 1),
            },
            Told::TokenNeeded | Told::Violation => {}
        }
    }

    fn on_channel(&mut self, key: ChannelKey, told: &ChannelTold, coverage: &mut Coverage) {
        let mut sees = |sight| coverage.sights.add(sight, Count, 1);
        let next = match told {
            ChannelTold::Joined => ChannelView::Joined,
            ChannelTold::Live => ChannelView::Live,
            ChannelTold::Stopped { cause } => {
                coverage.causes.add(*cause, Place::Stopped, 1);
                ChannelView::Stopped
            }
            ChannelTold::Rejoining => match self.part {
                Part::Client => ChannelView::Joining,
                Part::Manager => ChannelView::Asked,
            },
            ChannelTold::Errored { cause, retry_at } => {
                coverage.causes.add(*cause, Place::Errored, 1);
                if retry_at.is_some() { ChannelView::Retrying } else { ChannelView::Parked }
            }
            ChannelTold::Closed => ChannelView::Gone,
            ChannelTold::Broadcast { has_id: true, .. } => return sees(Sight::BroadcastWithId),
            ChannelTold::Broadcast { has_id: false, .. } => return sees(Sight::BroadcastWithoutId),
            ChannelTold::Change { .. } => return sees(Sight::Change),
            ChannelTold::Gap { stream: Missed::Messages, .. } => return sees(Sight::GapOfMessages),
            ChannelTold::Gap { stream: Missed::Changes, .. } => return sees(Sight::GapOfChanges),
            ChannelTold::Recovered { contiguous: true, .. } => return sees(Sight::Contiguous),
            ChannelTold::Recovered { contiguous: false, .. } => return sees(Sight::NotContiguous),
            ChannelTold::Presence { synced: true, .. } => return sees(Sight::PresenceSynced),
            ChannelTold::Presence { synced: false, .. } => return sees(Sight::PresenceUnsynced),
            ChannelTold::Ended { end, .. } => return coverage.pushes.add(*end, Count, 1),
            ChannelTold::Other => return,
        };
        self.channel(key, next, coverage);
    }
}

/// The topic that a frame joins, if it does.
fn joins(frame: &Frame) -> Option<String> {
    const EVENT: &[u8] = b"\"phx_join\"";
    /// Refs, topic and event come before this.
    const HEAD_BYTES: usize = 300;
    let Frame::Text(text) = frame else { return None };
    let bytes: &[u8] = text.as_ref();
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    if !head.windows(EVENT.len()).any(|window| window == EVENT) {
        return None;
    }
    let vsn = if bytes.first() == Some(&b'{') { Vsn::V1 } else { Vsn::V2 };
    let envelope = wire::decode(vsn, Sender::Client, frame).ok()?;
    (envelope.event == "phx_join").then(|| envelope.topic.to_string())
}

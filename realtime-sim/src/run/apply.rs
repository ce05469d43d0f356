//! Steps that are carried out.

use core::time::Duration;

use realtime_proto::CloseReason;
use realtime_proto::server::RowChange;

use super::Stage;
use super::act::payload;
use crate::NodeId;
use crate::backend::{Backend, Fate, Mischief};
use crate::coverage::Conditions;
use crate::credentials::BEGIN;
use crate::fault::{Lasting, Sky, WhoNotices};
use crate::link::End;
use crate::node::{Reading, Reception, Sleep};
use crate::scenario::{ActorId, Data, Fault, Garbage, Op, ServerId, TopicId};
use crate::subject::TABLE;
use crate::world::Due;

/// So few bytes a second pass a slow link.
const SLOW_BYTES_PER_SECOND: u32 = 400;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the faults are shared out over several functions, each of which takes its own"
)]
impl Stage<'_> {
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Act(who, act) => self.act(*who, act),
            Op::Data(data) => {
                self.world.observer.on_data(data);
                self.data(data);
            }
            Op::Fault(fault) => {
                let conditions = self.conditions_of(fault);
                self.world.observer.on_fault(fault, conditions);
                self.break_something(fault);
            }
        }
        self.listen();
    }

    /// Something happens in the database, on every server alike, or once it is back; what the
    /// server's own application tells does not need it.
    pub(super) fn data(&mut self, data: &Data) {
        if self.world.is_database_away && !matches!(data, Data::Announce { .. }) {
            self.waiting.push(data.clone());
            return;
        }
        let (number, now) = (self.number(), self.world.now);
        let payload = payload(number);
        let row = || {
            let record = format!("{{\"id\":1,\"#\":{number}}}");
            realtime_proto::Payload::from_json(record).expect("a record is JSON")
        };
        match data {
            Data::Insert {} | Data::Update {} => {
                let change = if matches!(data, Data::Insert {}) {
                    RowChange::insert(TABLE, row())
                } else {
                    RowChange::update(TABLE, row(), None)
                };
                let change = change.expect("a record is an object");
                self.world.oracle.on_change(number, &self.world.nodes, now);
                for server in 0..self.world.backends.len() {
                    self.world.backends[server].server.change(&change, now);
                    self.world.flush_server(server);
                }
            }
            Data::Store { topic } | Data::Announce { topic } => {
                let spec = &self.scenario.cast.topics[usize::from(topic.0)];
                let stored = matches!(data, Data::Store { .. });
                let nodes = &self.world.nodes;
                self.world.oracle.on_announced(*topic, number, stored, nodes, now);
                for server in 0..self.world.backends.len() {
                    let backend = &mut self.world.backends[server].server;
                    if stored {
                        backend.send_from_database(&spec.topic, "n", &payload, spec.private, now);
                    } else {
                        backend.broadcast(&spec.topic, "n", &payload, now);
                    }
                    self.world.flush_server(server);
                }
            }
        }
    }

    /// How it is with those whom a fault hits.
    fn conditions_of(&self, fault: &Fault) -> Conditions {
        let all = self.actors.iter().map(|player| player.node);
        let hit = all.filter(|node| match (fault.actor(), fault.server()) {
            (Some(who), _) => *node == self.node(who),
            (None, Some(server)) => {
                let server = self.server(server);
                let mut links = self.world.links.values().filter(|link| link.node == *node);
                self.world.nodes[node.0].server == server || links.any(|link| link.server == server)
            }
            (None, None) => true,
        });
        hit.map(|node| self.conditions(node)).fold(Conditions::default(), Conditions::union)
    }

    pub(super) fn node(&self, who: ActorId) -> NodeId {
        self.actors[usize::from(who.0)].node
    }

    fn topic(&self, topic: TopicId) -> String {
        self.scenario.cast.topics[usize::from(topic.0)].topic.clone()
    }

    /// The server that the next connection of an application goes to.
    fn server_of(&self, who: ActorId) -> usize {
        self.world.nodes[self.node(who).0].server
    }

    fn break_something(&mut self, fault: &Fault) {
        self.break_link(fault);
        self.break_server(fault);
        self.break_machine(fault);
        for server in 0..self.world.backends.len() {
            self.world.flush_server(server);
        }
    }

    /// What happens to connections, and to attempts to have one.
    fn break_link(&mut self, fault: &Fault) {
        let world = &mut self.world;
        let node = |who: &ActorId| self.actors[usize::from(who.0)].node;
        match fault {
            Fault::Cut { who } => world.cut(node(who)),
            Fault::Vanish { who } => {
                for link in world.links_of(node(who)) {
                    world.break_link(link, WhoNotices::Node);
                }
            }
            Fault::Abandon { who } => {
                for link in world.links_of(node(who)) {
                    world.break_link(link, WhoNotices::Server);
                }
            }
            Fault::Mute { who, span } => world.hold(node(who), &[End::Server], Some(*span)),
            Fault::Deafen { who, span } => world.hold(node(who), &[End::Node], Some(*span)),
            Fault::Stall { who, span } => {
                world.hold(node(who), &[End::Server, End::Node], Some(*span));
            }
            Fault::Part { who, span } => {
                world.partition(node(who));
                world.plan(world.now + *span, Due::Over(Lasting::Parting(node(who))));
            }
            Fault::Close { who, code } => world.close(node(who), code.number(), ""),
            Fault::Refuse { who, status, times } => {
                let reason = refused(status.number(), None);
                world.receive_next(node(who), Reception::Fail(reason), *times);
            }
            Fault::RetryAfter { who, status, span } => {
                let reason = refused(status.number(), Some(*span));
                world.receive_next(node(who), Reception::Fail(reason), 1);
            }
            Fault::SlowUpgrade { who, span, times } => {
                world.receive_next(node(who), Reception::Late(*span), *times);
            }
            Fault::SilentUpgrade { who, times } => {
                world.receive_next(node(who), Reception::Silence, *times);
            }
            Fault::Unreachable { who, times } => {
                let detail = "no route to host".into();
                let reason = CloseReason::Unreachable { detail };
                world.receive_next(node(who), Reception::Fail(reason), *times);
            }
            Fault::Flap { who, times } => world.receive_next(node(who), Reception::Flap, *times),
            Fault::Delay { who, delay, span } => {
                world.nodes[node(who).0].weather.delay = *delay;
                world.last(Lasting::Weather(node(who), Sky::Delay), *span);
            }
            Fault::Jitter { who, jitter, span } => {
                world.nodes[node(who).0].weather.jitter = *jitter;
                world.last(Lasting::Weather(node(who), Sky::Jitter), *span);
            }
            Fault::SlowWriter { who, span } => {
                world.nodes[node(who).0].weather.up_rate = Some(SLOW_BYTES_PER_SECOND);
                world.last(Lasting::Weather(node(who), Sky::SlowWriter), *span);
            }
            Fault::SlowReader { who, span } => {
                world.nodes[node(who).0].weather.down_rate = Some(SLOW_BYTES_PER_SECOND);
                world.last(Lasting::Weather(node(who), Sky::SlowReader), *span);
            }
            Fault::Split { who, span } => {
                world.nodes[node(who).0].weather.splits = true;
                world.last(Lasting::Weather(node(who), Sky::Split), *span);
            }
            Fault::Coalesce { who, every, span } => {
                world.nodes[node(who).0].weather.coalesces = Some(*every);
                world.last(Lasting::Weather(node(who), Sky::Coalesce), *span);
            }
            Fault::Reroute { who } => {
                let server = (self.server_of(*who) + 1) % self.world.backends.len();
                self.world.reroute(self.node(*who), server);
            }
            _ => {}
        }
    }

    /// What a server does wrong.
    fn break_server(&mut self, fault: &Fault) {
        let now = self.world.now;
        match fault {
            Fault::Crash { who, topic } => {
                let topic = self.topic(*topic);
                let server = self.server_of(*who);
                for session in self.world.backends[server].sessions_of(self.node(*who)) {
                    self.world.backends[server].server.crash_channel(session, &topic, now);
                }
            }
            Fault::Shut { who, topic, why } => {
                let topic = self.topic(*topic);
                let server = self.server_of(*who);
                for session in self.world.backends[server].sessions_of(self.node(*who)) {
                    let text = why.text(&topic);
                    self.world.backends[server].server.shut_channel(session, &topic, &text, now);
                }
            }
            Fault::Kill { server, down } => {
                let server = self.server(*server);
                for link in self.links_to(server) {
                    self.world.break_link(link, WhoNotices::Both);
                }
                let detail = "connection refused".into();
                self.away(server, CloseReason::Unreachable { detail }, *down);
            }
            Fault::Restart { server, down } => {
                let server = self.server(*server);
                self.world.backends[server].server.close_all(1012, "", now);
                self.world.flush_server(server);
                self.away(server, refused(503, None), *down);
            }
            Fault::Drain { server, span } => {
                let server = self.server(*server);
                let links = self.links_to(server);
                let count = links.len().max(1) as u32;
                for (at, link) in links.into_iter().enumerate() {
                    self.world.drain_after(link, *span * at as u32 / count);
                }
                self.away(server, refused(503, None), *span);
            }
            Fault::ChangesFail { topic, span } => {
                let topic = self.topic(*topic);
                for backend in &mut self.world.backends {
                    let text = "Too many database timeouts";
                    backend.server.fail_changes(&topic, text, Some(*span), now);
                }
            }
            Fault::ChangesRefused { topic } => {
                let topic = self.topic(*topic);
                for backend in &mut self.world.backends {
                    let text = format!(
                        "Unable to subscribe to changes with given parameters. Please check \
                         Realtime is enabled for the given connect parameters: [event: *, schema: \
                         public, table: {TABLE}, filters: [], select: nil]"
                    );
                    backend.server.fail_changes(&topic, &text, None, now);
                }
            }
            Fault::DatabaseOutage { span } => self.world.take_database_away(*span),
            _ => self.make_mischief(fault),
        }
    }

    fn links_to(&self, server: usize) -> Vec<u64> {
        let links = self.world.links.iter().filter(|(_, link)| link.server == server);
        links.map(|(id, _)| *id).collect()
    }

    /// A server is away, and says so in the way of what keeps it away for longest.
    fn away(&mut self, server: usize, reason: CloseReason, span: Duration) {
        let (until, absence) = (self.world.now + span, Lasting::Absence(server));
        if self.world.ends.get(&absence).is_none_or(|end| *end <= until) {
            self.world.backends[server].away = Some(reason);
        }
        self.world.last(absence, span);
    }

    /// What a server does wrong frame by frame.
    fn make_mischief(&mut self, fault: &Fault) {
        let now = self.world.now;
        match fault {
            Fault::LateReplies { server, span, times } => {
                self.mischief(*server).late_replies.arm(*span, *times);
            }
            Fault::LostReplies { server, times } => {
                self.mischief(*server).lost_replies += *times;
            }
            Fault::TwiceFrames { server, times } => {
                self.mischief(*server).twice_frames += *times;
            }
            Fault::WrongRefs { server, times } => {
                self.mischief(*server).wrong_refs += *times;
            }
            Fault::LateSnapshot { server, late, times } => {
                self.mischief(*server).late_snapshots.arm(*late, *times);
            }
            Fault::OtherJoinRefs { server, times } => {
                self.mischief(*server).other_join_refs += *times;
            }
            Fault::PartialReplay { server, times } => {
                self.mischief(*server).partial_replays += *times;
            }
            Fault::TwiceReplay { server, times } => {
                self.mischief(*server).twice_replayed += *times;
            }
            Fault::OtherIds { server } => self.mischief(*server).shift_ids(),
            Fault::Heartless { server, span } => {
                self.mischief(*server).heartless_for(*span, now);
            }
            Fault::SlowSubscribe { server, late, span } => {
                self.subscribes_late = self.subscribes_late.max(*late);
                self.backend(*server).slow_subscriptions(*late, now + *span);
            }
            Fault::RefuseJoins { who, why, times } => {
                self.decide(*who, Fate::Refused { why: *why, holds: true }, *times);
            }
            Fault::RefuseJoinsAtOnce { who, why, times } => {
                self.decide(*who, Fate::Refused { why: *why, holds: false }, *times);
            }
            Fault::SlowJoin { who, span } => self.decide(*who, Fate::Slow(*span), 1),
            Fault::JoinRate { who, span } => self.decide(*who, Fate::OneTooMany(*span), 1),
            Fault::StaleClose { who, topic } => self.end_older_join(*who, *topic, "phx_close"),
            Fault::StaleError { who, topic } => self.end_older_join(*who, *topic, "phx_error"),
            Fault::Garbage { who, what } => self.send_garbage(*who, core::iter::once(*what)),
            Fault::GarbageFlood { who, count } => {
                let all = Garbage::ALL.iter().copied().cycle();
                self.send_garbage(*who, all.take(*count as usize));
            }
            Fault::TooLarge { who } => {
                let node = self.node(*who);
                for backend in &mut self.world.backends {
                    backend.mischief().too_large.insert(node);
                }
            }
            Fault::GiantFrame { who } => {
                let node = self.node(*who);
                for backend in &mut self.world.backends {
                    backend.send_giant(node, now);
                }
            }
            _ => {}
        }
    }

    /// Where a server is. A scenario that was made by hand may name one that is not there.
    fn server(&self, server: ServerId) -> usize {
        usize::from(server.0) % self.world.backends.len()
    }

    fn backend(&mut self, server: ServerId) -> &mut Backend {
        let server = self.server(server);
        &mut self.world.backends[server]
    }

    fn mischief(&mut self, server: ServerId) -> &mut Mischief {
        self.backend(server).mischief()
    }

    /// Decides about the next joins of an application, on the server where it is or comes to.
    fn decide(&mut self, who: ActorId, fate: Fate, times: u32) {
        let (node, next) = (self.node(who), self.server_of(who));
        let links = self.world.links.values();
        let now = links.filter(|link| link.node == node && link.session.is_some());
        let server = now.map(|link| link.server).next().unwrap_or(next);
        self.world.backends[server].mischief().decide(node, fate, times);
    }

    fn end_older_join(&mut self, who: ActorId, topic: TopicId, event: &str) {
        let (node, topic, now) = (self.node(who), self.topic(topic), self.world.now);
        for backend in &mut self.world.backends {
            backend.send_stale_end(node, &topic, event, now);
        }
    }

    fn send_garbage(&mut self, who: ActorId, what: impl Iterator<Item = Garbage> + Clone) {
        let (node, now) = (self.node(who), self.world.now);
        for backend in &mut self.world.backends {
            backend.send_garbage(node, what.clone(), now);
        }
    }

    /// What happens to machines, clocks and applications.
    fn break_machine(&mut self, fault: &Fault) {
        let now = self.world.now;
        match fault {
            Fault::Suspend { who, span } => self.world.suspend(self.node(*who), *span),
            Fault::Hibernate { who, hours } => {
                self.world.suspend(self.node(*who), Duration::from_secs(3_600) * *hours);
            }
            Fault::DriverStall { who, span } => {
                self.world.put_to_sleep(self.node(*who), Sleep::Hanging, *span);
            }
            Fault::ClockBack { who, span } => {
                let node = self.node(*who);
                self.world.nodes[node.0].clock.go_back(*span);
                self.world.oracle.on_clock_back(node, self.world.nodes[node.0].seen);
                self.backwards += *span;
                self.world.flush(node);
            }
            Fault::ClockStop { who, span } => {
                let node = self.node(*who);
                self.world.nodes[node.0].clock.stop(now);
                self.world.oracle.on_clock_stopped(node);
                self.world.refresh_deadline(node);
                self.world.last(Lasting::StoppedClock(node), *span);
            }
            Fault::WallForward { who, span } => {
                let unix = BEGIN + now.since_epoch() + *span;
                self.set_wall(self.node(*who), unix);
            }
            Fault::WallBack { who, span } => {
                let unix = (BEGIN + now.since_epoch()).saturating_sub(*span);
                self.set_wall(self.node(*who), unix);
            }
            Fault::StopReading { who, span } => {
                self.stop_reading(self.node(*who), Reading::Pauses, *span);
            }
            Fault::Overfeed { who, span } => {
                self.stop_reading(self.node(*who), Reading::IsOverfed, *span);
            }
            Fault::TokenEnds { who, within } => self.set_token(*who, *within),
            Fault::AppRestart { who } => self.restart(*who),
            _ => {}
        }
    }

    /// An application takes no events for a while.
    fn stop_reading(&mut self, node: NodeId, reading: Reading, span: Duration) {
        self.world.nodes[node.0].reading = reading;
        self.world.flush(node);
        self.world.last(Lasting::Deafness(node), span);
    }
}

fn refused(status: u16, retry_after: Option<Duration>) -> CloseReason {
    CloseReason::Refused { status, body: String::new(), retry_after }
}

//! One sequence of steps in a small world.

use core::panic::AssertUnwindSafe;
use std::collections::VecDeque;
use std::panic::catch_unwind;

use realtime_proto::Instant;

use super::explore::Exploration;
use super::{Stage, TOKEN_LIVES, words_of_panic};
use crate::link::{Carried, End, Parcel};
use crate::scenario::{Act, Fault, Op};
use crate::subject::Scripted;
use crate::trace::Who;
use crate::world::Due;
use crate::{NodeId, World};

/// What can happen next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// The first message of this lane arrives.
    Arrival(usize),
    NodeTimer(NodeId),
    ServerTimer(usize),
    /// Something else that was planned comes about.
    Due(usize),
    /// An application sets the token it was asked for.
    Plan,
    Op(usize),
}

/// One direction of one link, and what is on its way there.
#[derive(Debug)]
struct Lane {
    link: u64,
    to: End,
    parcels: VecDeque<(Instant, Parcel)>,
}

/// A sequence of steps on its way.
pub(super) struct Walk<'a> {
    exploration: &'a Exploration,
    pub(super) stage: Stage<'a>,
    lanes: Vec<Lane>,
    /// What else is planned, in order.
    dues: Vec<(Instant, Due)>,
    /// All that was given to each node and each server, with the times.
    nodes: Vec<History>,
    servers: Vec<History>,
    faults: u32,
    pub(super) taken: Vec<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new<S: Scripted>(
        exploration: &'a Exploration,
        dress: impl FnOnce(World) -> World,
    ) -> Self {
        let mut stage = Stage::new::<S>(&exploration.begin, dress);
        stage.enter();
        for node in stage.actors.iter().map(|player| player.node) {
            stage.world.oracle.on_timers_chosen(node);
        }
        // What happens at one instant has all been set off before anything of it arrives.
        for step in &exploration.begin.steps {
            if !step.after.is_zero() {
                stage.pass(step.after);
            }
            stage.apply(&step.op);
        }
        let world = &stage.world;
        let (nodes, servers) = (world.nodes.len(), world.backends.len());
        let mut walk = Self {
            exploration,
            stage,
            lanes: Vec::new(),
            dues: Vec::new(),
            nodes: vec![History::NEW; nodes],
            servers: vec![History::NEW; servers],
            faults: 0,
            taken: Vec::new(),
        };
        walk.collect();
        walk
    }

    /// Takes part of the walk; a panic on the way is a finding, and then there is no result.
    pub(super) fn guard<T>(&mut self, part: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| part(self))) {
            Ok(result) => Some(result),
            Err(panic) => {
                let (text, now) = (words_of_panic(&*panic), self.stage.world.now);
                self.stage.world.oracle.find("panic", now, || text);
                None
            }
        }
    }

    /// Takes over what the world has planned, so that nothing happens by itself.
    fn collect(&mut self) {
        let world = &mut self.stage.world;
        while let Some(at) = world.agenda.next_at() {
            let Some(due) = world.agenda.pop_due(at) else { break };
            match due {
                Due::Arrival { link, to, parcel } => {
                    let lane = self.lanes.iter_mut().find(|it| it.link == link && it.to == to);
                    match lane {
                        Some(lane) => lane.parcels.push_back((at, parcel)),
                        None => {
                            let parcels = VecDeque::from([(at, parcel)]);
                            self.lanes.push(Lane { link, to, parcels });
                        }
                    }
                }
                Due::Wake(_) | Due::WriteTimeout { .. } | Due::Over(_) => self.dues.push((at, due)),
            }
        }
        // What nobody waits for is lost whenever it arrives.
        self.lanes.retain(|lane| {
            let (Some(link), Some((_, first))) =
                (world.links.get(&lane.link), lane.parcels.front())
            else {
                return false;
            };
            match lane.to {
                End::Node => link.wanted,
                End::Server => {
                    link.session.is_some() || matches!(first.carried, Carried::Upgrade { .. })
                }
            }
        });
        // In an order that does not depend on which machine was first.
        let world = &self.stage.world;
        self.lanes.sort_by_key(|lane| {
            let link = &world.links[&lane.link];
            (link.node, link.socket, lane.to == End::Node)
        });
    }

    pub(super) fn choices(&self) -> Vec<Choice> {
        let world = &self.stage.world;
        let mut choices: Vec<Choice> = (0..self.lanes.len()).map(Choice::Arrival).collect();
        choices.extend(world.deadlines.iter().map(|(_, node)| Choice::NodeTimer(*node)));
        let servers = 0..world.backends.len();
        let with_timer = servers.filter(|it| world.backends[*it].poll_timeout().is_some());
        choices.extend(with_timer.map(Choice::ServerTimer));
        choices.extend((0..self.dues.len()).map(Choice::Due));
        choices.extend((!self.stage.plans.is_empty()).then_some(Choice::Plan));
        let ops = &self.exploration.choices;
        choices.extend((0..ops.len()).filter(|at| self.makes_sense(&ops[*at])).map(Choice::Op));
        choices
    }

    /// Whether something could come of it.
    fn makes_sense(&self, op: &Op) -> bool {
        match op {
            Op::Act(who, act) => {
                let player = &self.stage.actors[usize::from(who.0)];
                let (is_online, wanted) = (player.online, &player.wanted);
                match act {
                    Act::Connect {} => !is_online,
                    Act::Disconnect {} | Act::Hint {} => is_online,
                    Act::Open { topic } => !wanted.contains_key(topic),
                    Act::Close { topic }
                    | Act::Send { topic }
                    | Act::Flood { topic, .. }
                    | Act::Track { topic }
                    | Act::Untrack { topic }
                    | Act::Rebind { topic }
                    | Act::Rejoin { topic } => wanted.contains_key(topic),
                    Act::Token { .. } | Act::SignOut {} => true,
                }
            }
            Op::Data(_) => true,
            Op::Fault(fault) => {
                let is_of_a_link = matches!(
                    fault,
                    Fault::Cut { .. }
                        | Fault::Vanish { .. }
                        | Fault::Abandon { .. }
                        | Fault::Close { .. }
                        | Fault::Mute { .. }
                        | Fault::Deafen { .. }
                        | Fault::Stall { .. }
                        | Fault::Crash { .. }
                        | Fault::Shut { .. }
                        | Fault::StaleClose { .. }
                        | Fault::StaleError { .. }
                        | Fault::Garbage { .. }
                );
                let is_possible = !is_of_a_link || !self.stage.world.links.is_empty();
                self.faults < self.exploration.faults_max && is_possible
            }
        }
    }

    /// A choice as a path has it.
    pub(super) fn name(&self, choice: Choice) -> String {
        let (world, cast) = (&self.stage.world, &self.exploration.begin.cast);
        match choice {
            Choice::Arrival(lane) => {
                let lane = &self.lanes[lane];
                let link = &world.links[&lane.link];
                let way = if lane.to == End::Server { "up" } else { "down" };
                let whose = match link.node {
                    NodeId(0) => String::new(),
                    node => format!(" of {}", cast.actors[node.0].name),
                };
                format!("{way} socket{}{whose}", link.socket)
            }
            Choice::NodeTimer(node) => format!("timer of {}", cast.actors[node.0].name),
            Choice::ServerTimer(server) => format!("timer of {}", Who::Server(server)),
            Choice::Due(at) => format!("end {at}"),
            Choice::Plan => "token that was asked for".into(),
            Choice::Op(at) => cast.words(&self.exploration.choices[at]).join(" "),
        }
    }

    /// Lets it happen.
    pub(super) fn take(&mut self, choice: Choice) {
        let name = self.name(choice);
        let world = &mut self.stage.world;
        let now = world.now;
        world.trace.write(now, Who::World, "step", &name, || name.clone());
        match choice {
            Choice::Arrival(lane) => {
                let lane = &mut self.lanes[lane];
                let (link, to) = (lane.link, lane.to);
                let Some((_, parcel)) = lane.parcels.pop_front() else { return };
                let node = world.links[&link].node;
                let server = world.links[&link].server;
                let is_upgrade = matches!(parcel.carried, Carried::Upgrade { .. });
                // Whether an upgrade is taken depends on the client still wanting it.
                self.note(&name, (to == End::Node || is_upgrade).then_some(node), None);
                self.note(&name, None, (to == End::Server).then_some(server));
                self.stage.world.on_arrival(link, to, parcel);
            }
            Choice::NodeTimer(node) => {
                let at = world.nodes[node.0].deadline.unwrap_or(now);
                world.now = now.max(at);
                self.note(&name, Some(node), None);
                self.stage.world.let_time_out(node);
            }
            Choice::ServerTimer(server) => {
                let at = world.backends[server].poll_timeout().unwrap_or(now);
                world.now = now.max(at);
                self.note(&name, None, Some(server));
                let now = self.stage.world.now;
                self.stage.world.backends[server].handle_timeout(now);
                self.stage.world.flush_server(server);
            }
            Choice::Due(at) => {
                let (at, due) = self.dues.remove(at);
                world.now = now.max(at);
                self.note_all(&name);
                self.stage.world.come_about(due);
            }
            Choice::Plan => {
                if let Some(((at, _), who)) = self.stage.plans.pop_first() {
                    self.stage.world.now = now.max(at);
                    let node = self.stage.actors[usize::from(who.0)].node;
                    self.note(&name, Some(node), None);
                    self.stage.set_token(who, TOKEN_LIVES);
                }
            }
            Choice::Op(at) => {
                let op = &self.exploration.choices[at];
                match op {
                    Op::Act(who, _) => {
                        let node = self.stage.actors[usize::from(who.0)].node;
                        self.note(&name, Some(node), None);
                    }
                    // A number is drawn that the next send does not have, a fault is of both ends.
                    Op::Data(_) | Op::Fault(_) => self.note_all(&name),
                }
                self.faults += u32::from(matches!(op, Op::Fault(_)));
                self.stage.apply(op);
            }
        }
        self.taken.push(name);
        self.stage.listen();
        self.collect();
    }

    /// Writes down what is given to a machine now.
    fn note(&mut self, name: &str, node: Option<NodeId>, server: Option<usize>) {
        let now = self.stage.world.now;
        let node = node.map(|node| &mut self.nodes[node.0]);
        let server = server.map(|server| &mut self.servers[server]);
        for history in node.into_iter().chain(server) {
            history.write(name.as_bytes());
            history.write(&[0]);
            history.write(&now.since_epoch().as_micros().to_le_bytes());
        }
    }

    fn note_all(&mut self, name: &str) {
        (0..self.nodes.len()).for_each(|node| self.note(name, Some(NodeId(node)), None));
        (0..self.servers.len()).for_each(|server| self.note(name, None, Some(server)));
    }

    /// What settles all that can come: what everybody was given, and the time.
    pub(super) fn state(&self) -> u128 {
        let mut all = History::NEW;
        for history in self.nodes.iter().chain(&self.servers) {
            all.write(&history.0.to_le_bytes());
        }
        all.write(&self.stage.world.now.since_epoch().as_micros().to_le_bytes());
        all.0
    }

    /// Gives the world back what it had planned, heals it and lets it come to rest.
    pub(super) fn finish(&mut self) {
        let agenda = &mut self.stage.world.agenda;
        for lane in self.lanes.drain(..) {
            for (at, parcel) in lane.parcels {
                agenda.plan(at, Due::Arrival { link: lane.link, to: lane.to, parcel });
            }
        }
        for (at, due) in self.dues.drain(..) {
            agenda.plan(at, due);
        }
        self.stage.finish();
    }
}

/// All that was given to one machine, as one number: FNV-1a with 128 bits.
#[derive(Clone, Copy, Debug)]
struct History(u128);

impl History {
    const NEW: Self = Self(0x6C62_272E_07BB_0142_62B8_2175_6295_C58D);

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013B);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Beginning;
    use crate::subject::ClientSubject;

    #[test]
    fn orders_that_are_merged_leave_every_machine_the_same() {
        let steps = "ana send room, ana close room, ana disconnect, ana connect, ana open room, \
                     database insert, cut ana, crash ana room, twice 0 1, abandon ana";
        let small = Exploration::small(Beginning::Opening).with_depth(4);
        let small = small.with_choices(steps).expect("steps");
        let mut seen: BTreeMap<u128, String> = BTreeMap::new();
        let (mut paths, mut met) = (vec![Vec::new()], 0);
        while let Some(path) = paths.pop() {
            let mut walk = Walk::new::<ClientSubject>(&small, |world| world);
            path.iter().for_each(|step| walk.take(walk.choices()[*step]));
            let world = &walk.stage.world;
            let hosts = world.nodes.iter().map(|node| &node.host).collect::<Vec<_>>();
            let now = (hosts, &world.backends, &walk.lanes, &world.now);
            let before = seen.insert(walk.state(), format!("{now:?}"));
            if let Some(before) = before {
                met += 1;
                assert_eq!(before, format!("{now:?}"), "{:?}", walk.taken);
            } else if path.len() < 4 {
                paths.extend((0..walk.choices().len()).map(|at| [&*path, &[at]].concat()));
            }
        }
        assert!(met > 100, "{met} orders met");
    }
}

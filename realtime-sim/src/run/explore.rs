//! Every order of events in a small world, to a fixed depth.

use core::fmt;
use core::panic::AssertUnwindSafe;
use std::collections::{BTreeSet, VecDeque};
use std::panic::catch_unwind;

use realtime_proto::Instant;

use super::{Stage, TOKEN_LIVES, words_of_panic};
use crate::link::{Carried, End, Parcel};
use crate::oracle::Finding;
use crate::scenario::{Act, Fault, Op, Scenario};
use crate::subject::{ClientSubject, Scripted};
use crate::trace::Who;
use crate::world::Due;
use crate::{NodeId, World};

/// A small world and what may happen in it, in every order.
///
/// It begins as a scenario leaves it. From there on, each step is one of: the next message of one
/// direction of one socket arrives, the next timer of a client or a server fires, something that
/// lasted ends, an application sets the token it was asked for, something of
/// [`choices`](Self::choices) happens. All sequences of so many steps are played, the shorter ones
/// first, and at the end of each the world is healed and must come to rest as in every scenario.
///
/// # Which orders are merged
///
/// Clients and servers are deterministic and meet only through sockets that keep the order, so
/// what each of them was given, with the times, settles the state of everything. Two sequences
/// that give every machine the same are one state, and only the first goes on. That is decided by
/// what went in; no part of a machine is compared, hashed or trusted to print itself.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Beginning, Exploration};
///
/// let explored = Exploration::small(Beginning::Opening).with_depth(3).run(|_| {});
/// assert_eq!(explored.failure, None);
/// assert!(explored.states > 100 && explored.merged > 0);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exploration {
    /// Who takes part, and what happens before the exploration begins, in the usual order.
    pub begin: Scenario,
    /// What may happen besides what was set off before; each as often as it makes sense.
    pub choices: Vec<Op>,
    /// How many steps a sequence has at most. Default 4.
    pub depth: u32,
    /// How many faults a sequence has at most. Default 2.
    pub faults_max: u32,
}

/// Where the small world of an [`Exploration`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Beginning {
    /// Nobody has done anything.
    Offline,
    /// The socket is open, the client was told to open both channels, and nothing of that has
    /// arrived yet.
    Opening,
    /// Both channels are live.
    Live,
}

impl Beginning {
    /// Every beginning.
    pub const ALL: [Self; 3] = [Self::Offline, Self::Opening, Self::Live];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Opening => "opening",
            Self::Live => "live",
        }
    }
}

/// One client, one server, two topics, and no time on the way: whatever takes time is a choice.
const SMALL: &str = "\
seed 0
set delay 0ms
client ana
topic room realtime:room presence ack
topic rows realtime:rows rows
";
const OPEN: &str = "
+0ms ana connect
+1s ana open room
+0ms ana track room
+0ms ana open rows
";
const REST: &str = "+1s ana hint\n";
const CHOICES: &str = "
+0ms ana connect
+0ms ana disconnect
+0ms ana open room
+0ms ana open rows
+0ms ana close room
+0ms ana close rows
+0ms ana send room
+0ms ana rejoin room
+0ms ana hint
+0ms ana token 1h
+0ms database insert
+0ms cut ana
+0ms vanish ana
+0ms abandon ana
+0ms close ana 1001
+0ms refuse ana 503 1
+0ms flap ana 1
+0ms crash ana room
+0ms shut ana rows token-expired
+0ms refuse-joins-at-once ana unauthorized 1
+0ms lost-replies 0 1
+0ms twice 0 1
+0ms stale-close ana room
+0ms stale-error ana room
+0ms changes-fail rows 1s
+0ms suspend ana 1m
";

/// How far an exploration got.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Explored {
    /// Steps of the longest sequences.
    pub depth: u32,
    /// States that are different, each of which was healed and came to rest.
    pub states: u64,
    /// Steps that were tried.
    pub tried: u64,
    /// Steps that led to a state that another order had led to.
    pub merged: u64,
    /// Events of all worlds, with those that are played again to get to a state.
    pub events: u64,
    /// The first sequence that fails; there is no shorter one.
    pub failure: Option<Failure>,
}

/// A sequence of steps that ends with something that does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What does not hold.
    pub finding: Finding,
    /// The steps, as [`Exploration::replay`] takes them.
    pub path: String,
}

/// A step that was asked for cannot happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    step: String,
    why: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot happen: {}", self.step, self.why)
    }
}

impl core::error::Error for PathError {}

impl Exploration {
    /// One client with two channels, and what usually happens to them.
    #[must_use]
    pub fn small(beginning: Beginning) -> Self {
        let read = |text: &str| -> Scenario { text.parse().expect("a scenario") };
        let begin = match beginning {
            Beginning::Offline => SMALL.to_owned(),
            Beginning::Opening => [SMALL, OPEN].concat(),
            Beginning::Live => [SMALL, OPEN, REST].concat(),
        };
        let choices = read(&[SMALL, CHOICES].concat()).steps;
        let choices = choices.into_iter().map(|step| step.op).collect();
        Self { begin: read(&begin), choices, depth: 4, faults_max: 2 }
    }

    /// The same with sequences of so many steps.
    #[must_use]
    pub const fn with_depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// The same with so many faults in a sequence at most.
    #[must_use]
    pub const fn with_faults_max(mut self, faults_max: u32) -> Self {
        self.faults_max = faults_max;
        self
    }

    /// The same with other [`choices`](Self::choices): steps of a scenario without their times,
    /// commas between them.
    ///
    /// Fewer choices go deeper in the same time.
    ///
    /// # Errors
    ///
    /// When one of them is no step of the scenario it begins with.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Beginning, Exploration};
    ///
    /// let small = Exploration::small(Beginning::Live).with_choices("cut ana, ana send room")?;
    /// assert_eq!(small.choices.len(), 2);
    /// assert_eq!(small.with_depth(4).run(|_| {}).failure, None);
    /// # Ok::<(), realtime_sim::PathError>(())
    /// ```
    pub fn with_choices(mut self, choices: &str) -> Result<Self, PathError> {
        let read = |step: &str| {
            let words: Vec<&str> = step.split_whitespace().collect();
            let read = self.begin.cast.read_op(&words);
            read.map_err(|why| PathError { step: step.trim().into(), why })
        };
        self.choices = choices.split(',').map(read).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Tries every sequence, those with fewer steps first, until one fails; `progress` hears of
    /// each depth that is done.
    #[must_use]
    pub fn run(&self, progress: impl FnMut(&Explored)) -> Explored {
        self.run_with::<ClientSubject>(progress)
    }

    /// The same with any client that can be scripted, as [`run_with`](crate::run_with).
    #[must_use]
    pub fn run_with<S: Scripted>(&self, mut progress: impl FnMut(&Explored)) -> Explored {
        let mut explored = Explored::default();
        let mut visited = BTreeSet::new();
        let mut frontier: Vec<Vec<u16>> = vec![Vec::new()];
        while explored.depth < self.depth && !frontier.is_empty() {
            explored.depth += 1;
            let mut next = Vec::new();
            for path in &frontier {
                if !self.extend::<S>(path, &mut visited, &mut next, &mut explored) {
                    return explored;
                }
            }
            frontier = next;
            progress(&explored);
        }
        explored
    }

    /// Tries everything that can follow a path; false when something fails.
    fn extend<S: Scripted>(
        &self,
        path: &[u16],
        visited: &mut BTreeSet<u128>,
        next: &mut Vec<Vec<u16>>,
        explored: &mut Explored,
    ) -> bool {
        for last in 0.. {
            let mut course = Course::new::<S>(self, |world| world);
            let went = course.guard(|course| {
                for step in path {
                    let step = course.choices()[usize::from(*step)];
                    course.take(step);
                }
                let Some(step) = course.choices().get(usize::from(last)).copied() else {
                    return Went::NoFurther;
                };
                course.take(step);
                if !course.stage.is_over() {
                    if !visited.insert(course.state()) {
                        return Went::SomewhereKnown;
                    }
                    course.finish();
                }
                Went::SomewhereNew
            });
            explored.events += course.stage.world.tally().events();
            if let Some(finding) = course.stage.world.finding() {
                let path = course.taken.join(", ");
                explored.failure = Some(Failure { finding: finding.clone(), path });
                return false;
            }
            explored.tried += 1;
            match went {
                Some(Went::SomewhereKnown) => explored.merged += 1,
                Some(Went::SomewhereNew) => {
                    explored.states += 1;
                    next.push([path, &[last]].concat());
                }
                Some(Went::NoFurther) | None => {
                    explored.tried -= 1;
                    break;
                }
            }
        }
        true
    }

    /// Takes the steps of a path, commas between them, and tells what does not hold; each line of
    /// the trace goes to `sink`.
    ///
    /// # Errors
    ///
    /// When a step of the path cannot happen there.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Beginning, Exploration};
    ///
    /// let small = Exploration::small(Beginning::Live);
    /// assert_eq!(small.replay("cut ana, timer of ana, up socket2", |_| {}), Ok(None));
    /// let error = small.replay("timer of ben", |_| {}).unwrap_err();
    /// assert!(error.to_string().starts_with("`timer of ben` cannot happen"));
    /// ```
    pub fn replay(&self, path: &str, sink: fn(&str)) -> Result<Option<Finding>, PathError> {
        self.replay_with::<ClientSubject>(path, sink)
    }

    /// The same with any client that can be scripted.
    ///
    /// # Errors
    ///
    /// When a step of the path cannot happen there.
    pub fn replay_with<S: Scripted>(
        &self,
        path: &str,
        sink: fn(&str),
    ) -> Result<Option<Finding>, PathError> {
        let mut course = Course::new::<S>(self, |world| world.with_trace(sink));
        let mut wrong = None;
        course.guard(|course| {
            for word in path.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let choices = course.choices();
                let named = choices.iter().find(|choice| course.name(**choice) == word);
                let Some(choice) = named else {
                    let instead = choices.iter().map(|choice| course.name(*choice));
                    let why =
                        format!("there it is one of {}", instead.collect::<Vec<_>>().join(", "));
                    wrong = Some(PathError { step: word.into(), why });
                    return;
                };
                course.take(*choice);
                if course.stage.is_over() {
                    return;
                }
            }
            course.finish();
        });
        match wrong {
            Some(error) => Err(error),
            None => Ok(course.stage.world.finding().cloned()),
        }
    }
}

enum Went {
    NoFurther,
    SomewhereKnown,
    SomewhereNew,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
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
struct Course<'a> {
    exploration: &'a Exploration,
    stage: Stage<'a>,
    lanes: Vec<Lane>,
    /// What else is planned, in order.
    dues: Vec<(Instant, Due)>,
    /// All that was given to each node and each server, with the times.
    nodes: Vec<History>,
    servers: Vec<History>,
    faults: u32,
    taken: Vec<String>,
}

impl<'a> Course<'a> {
    fn new<S: Scripted>(exploration: &'a Exploration, dress: impl FnOnce(World) -> World) -> Self {
        let mut stage = Stage::new::<S>(&exploration.begin, dress);
        // What happens at one instant has all been set off before anything of it arrives.
        for step in &exploration.begin.steps {
            if !step.after.is_zero() {
                stage.pass(step.after);
            }
            stage.apply(&step.op);
        }
        let world = &stage.world;
        let (nodes, servers) = (world.nodes.len(), world.backends.len());
        let mut course = Self {
            exploration,
            stage,
            lanes: Vec::new(),
            dues: Vec::new(),
            nodes: vec![History::NEW; nodes],
            servers: vec![History::NEW; servers],
            faults: 0,
            taken: Vec::new(),
        };
        course.collect();
        course
    }

    /// Takes part of the course; a panic on the way is a finding, and then there is no result.
    fn guard<T>(&mut self, part: impl FnOnce(&mut Self) -> T) -> Option<T> {
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

    fn choices(&self) -> Vec<Choice> {
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
    fn name(&self, choice: Choice) -> String {
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
    fn take(&mut self, choice: Choice) {
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
    fn state(&self) -> u128 {
        let mut all = History::NEW;
        for history in self.nodes.iter().chain(&self.servers) {
            all.write(&history.0.to_le_bytes());
        }
        all.write(&self.stage.world.now.since_epoch().as_micros().to_le_bytes());
        all.0
    }

    /// Gives the world back what it had planned, heals it and lets it come to rest.
    fn finish(&mut self) {
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

    #[test]
    fn orders_that_are_merged_leave_every_machine_the_same() {
        let steps = "ana send room, ana close room, ana disconnect, ana connect, ana open room, \
                     database insert, cut ana, crash ana room, twice 0 1, abandon ana";
        let small = Exploration::small(Beginning::Opening).with_depth(4);
        let small = small.with_choices(steps).expect("steps");
        let mut seen: BTreeMap<u128, String> = BTreeMap::new();
        let (mut paths, mut met) = (vec![Vec::new()], 0);
        while let Some(path) = paths.pop() {
            let mut course = Course::new::<ClientSubject>(&small, |world| world);
            path.iter().for_each(|step| course.take(course.choices()[*step]));
            let world = &course.stage.world;
            let hosts = world.nodes.iter().map(|node| &node.host).collect::<Vec<_>>();
            let now = (hosts, &world.backends, &course.lanes, &world.now);
            let before = seen.insert(course.state(), format!("{now:?}"));
            if let Some(before) = before {
                met += 1;
                assert_eq!(before, format!("{now:?}"), "{:?}", course.taken);
            } else if path.len() < 4 {
                paths.extend((0..course.choices().len()).map(|at| [&*path, &[at]].concat()));
            }
        }
        assert!(met > 100, "{met} orders met");
    }
}

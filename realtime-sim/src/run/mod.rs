//! A scenario that runs: safety while things break, liveness once they are healed, and the
//! accounts at the end.

mod act;
mod apply;
mod explore;
mod rest;
mod setup;
#[cfg(test)]
mod tests;
mod walk;

use core::time::Duration;
use std::collections::BTreeMap;

pub use explore::{Beginning, Exploration, Explored, Failure, PathError};
use realtime_proto::Instant;
use realtime_proto::supabase::CauseKind;
pub use setup::{Run, run, run_app, run_manager_app, run_with};

use crate::coverage::{Condition, Conditions, Course, Coverage, Observer};
use crate::credentials::BEGIN;
use crate::host::{Host, Hosted};
use crate::node::Sleep;
use crate::oracle::{Finding, needs_somebody};
use crate::scenario::{ActorId, Op, Part, Scenario, TopicId};
use crate::subject::{ChannelKey, ChannelTold, ManagerSubject, Role, Scripted, Told};
use crate::trace::Who;
use crate::{Network, NodeId, World};

/// What a run found and what it was like.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What does not hold, if something does not.
    pub finding: Option<Finding>,
    /// What happened: frames that were taken, events that were told, timeouts.
    pub events: u64,
    /// How many applications the scenario has.
    pub actors: usize,
    /// How many of them were played by an [`App`](crate::App).
    pub apps: usize,
    /// The time that passed in it.
    pub simulated: Duration,
    /// How long after the healing every wanted channel was live; `None` when it was not.
    pub time_to_live: Option<Duration>,
    /// The hash of the trace.
    pub hash: u64,
    /// What it reached.
    pub coverage: Coverage,
}

/// A token that outlives every scenario but the longest sleeps.
const TOKEN_LIVES: Duration = Duration::from_secs(3_600);
/// After the healing: the longest that a push, or a session that died in silence, can still take at
/// a server. A client may take longer to notice.
const SETTLES_AFTER: Duration = Duration::from_secs(75);
/// At the end: the longest that a leave can take, and the end of a connection nobody needs.
const CLOSES_AFTER: Duration = Duration::from_secs(90);

/// Starts the client of an actor, from its seed and at this time.
type Start<'a> = dyn Fn(&Role<'_>, u64, Instant) -> Box<dyn Host> + 'a;

/// A scenario on its way.
struct Stage<'a> {
    scenario: &'a Scenario,
    world: World,
    actors: Vec<Player>,
    start: &'a Start<'a>,
    /// Whether everything is healed, and then since when every wanted channel is live.
    is_healed: bool,
    live_since: Option<Instant>,
    /// What applications will do at some time, in order.
    plans: BTreeMap<(Instant, u64), ActorId>,
    next_plan: u64,
    next_number: u64,
    tokens: u64,
    /// What the database will tell once it is back, in order.
    waiting: Vec<crate::scenario::Data>,
    backwards: Duration,
    /// How long a row subscription took at most that was slow.
    subscribes_late: Duration,
}

/// An application: what it wants, and how that stands by what it was told.
#[derive(Debug)]
struct Player {
    node: NodeId,
    part: Part,
    online: bool,
    wanted: BTreeMap<TopicId, Wanted>,
    restarts: u32,
    /// Why its connection is down, and whether it is tried again.
    down: Option<(CauseKind, bool)>,
}

/// A channel that an application wants.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    /// Which of the channels of its topic it is, if the client said.
    key: Option<ChannelKey>,
    /// Why it is not joined or not live, and whether it is tried again.
    trouble: Option<(CauseKind, bool)>,
    /// Whether the server closed it.
    closed: bool,
    /// The number it shows in the presence.
    shown: Option<u64>,
}

fn start<S: Scripted>(role: &Role<'_>, seed: u64, now: Instant) -> Box<dyn Host> {
    match role.actor.part {
        Part::Client => Box::new(Hosted::without_log(S::start(role, seed, now))),
        Part::Manager => Box::new(Hosted::without_log(ManagerSubject::start(role, seed, now))),
    }
}

impl<'a> Stage<'a> {
    fn new<S: Scripted>(scenario: &'a Scenario, dress: impl FnOnce(World) -> World) -> Self {
        Self::of(scenario, &start::<S>, dress)
    }

    fn of(
        scenario: &'a Scenario,
        start: &'a Start<'a>,
        dress: impl FnOnce(World) -> World,
    ) -> Self {
        let settings = &scenario.cast.settings;
        let config = realtime_proto::server::ServerConfig {
            reads_tokens: settings.tokens,
            subscribed_after: settings.subscribed_after,
            unix_time_at_epoch: BEGIN,
            ..realtime_proto::server::ServerConfig::default()
        };
        let network = Network { delay: settings.delay, jitter: settings.jitter };
        let world = World::seed(scenario.seed.0)
            .with_server(config)
            .with_servers(settings.servers as usize)
            .with_network(network);
        let mut world = dress(world);
        world.keeps_findings = true;
        world.listens = true;
        world = world.without_logs();
        world.oracle.follow(&scenario.cast);
        // Each run would be slower, and what one shows another shows, too.
        world.oracle.reads_events = scenario.seed.0 % 16 == 0;
        world.observer = Observer::of(&scenario.cast);
        Self {
            scenario,
            world,
            actors: Vec::new(),
            start,
            is_healed: false,
            live_since: None,
            plans: BTreeMap::new(),
            next_plan: 0,
            next_number: 0,
            tokens: 0,
            waiting: Vec::new(),
            backwards: Duration::ZERO,
            subscribes_late: Duration::ZERO,
        }
    }

    /// Everybody comes on.
    fn enter(&mut self) {
        let cast = &self.scenario.cast;
        for actor in &cast.actors {
            let role = Role { actor, cast, restarts: 0 };
            let host = (self.start)(&role, self.world.next_seed(), self.world.now);
            let node = self.world.host(host);
            self.actors.push(Player {
                node,
                part: actor.part,
                online: false,
                wanted: BTreeMap::new(),
                restarts: 0,
                down: None,
            });
        }
        for at in 0..self.actors.len() {
            self.dress(ActorId(at as u8));
        }
    }

    /// Gives a client that just started what it starts with: the time, and a token.
    fn dress(&mut self, who: ActorId) {
        let player = &self.actors[usize::from(who.0)];
        let node = player.node;
        self.world.observer.on_started(node, player.part);
        self.world.keep_changes();
        self.set_wall(node, BEGIN + self.world.now.since_epoch());
        if self.scenario.cast.settings.tokens {
            self.set_token(who, TOKEN_LIVES);
        }
    }

    fn set_wall(&mut self, node: NodeId, unix: Duration) {
        let player = &mut self.world.nodes[node.0];
        let clock = player.tell_time(self.world.now);
        player.host.set_unix_time(unix, clock);
        self.world.flush(node);
    }

    fn play(&mut self) -> Report {
        let played = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| self.run()));
        // Who panicked may be in no state to be asked anything.
        let is_sane = played.is_ok();
        let time_to_live = played.unwrap_or_else(|panic| {
            let now = self.world.now;
            self.world.oracle.find("panic", now, || words_of_panic(&*panic));
            None
        });
        Report {
            finding: self.world.finding().cloned(),
            events: self.world.tally().events(),
            actors: self.scenario.cast.actors.len(),
            apps: self.world.nodes.iter().filter(|node| node.host.app().is_some()).count(),
            simulated: self.world.now.since_epoch(),
            time_to_live,
            hash: self.world.trace_hash(),
            coverage: self.reached(time_to_live, is_sane),
        }
    }

    /// What the run reached, once it is over.
    fn reached(&mut self, time_to_live: Option<Duration>, is_sane: bool) -> Coverage {
        for player in self.actors.iter().filter(|_| is_sane) {
            if let Some(stats) = self.world.nodes[player.node.0].host.stats() {
                self.world.observer.on_stats(&stats);
            }
        }
        for backend in &self.world.backends {
            self.world.observer.coverage.add_effects(&backend.effects);
        }
        if let Some(took) = time_to_live {
            let at_once = took == Duration::ZERO;
            let course = if at_once { Course::LiveAtOnce } else { Course::LiveLater };
            self.world.observer.on_course(course);
        }
        core::mem::take(&mut self.world.observer.coverage)
    }

    /// How it is with a node at this moment.
    fn conditions(&self, node: NodeId) -> Conditions {
        let observer = &self.world.observer;
        let mut conditions = Conditions::default();
        if self.world.nodes[node.0].sleep != Sleep::Awake {
            conditions.insert(Condition::Asleep);
        }
        let mut links = self.world.links.values().filter(|link| link.node == node && link.wanted);
        if links.clone().any(|link| link.open) {
            conditions = conditions.union(observer.channels(node));
        }
        if links.clone().any(|link| !link.open) {
            conditions.insert(Condition::Connecting);
        }
        if links.next().is_none() {
            conditions = conditions.union(observer.connections(node));
        }
        conditions
    }

    fn is_over(&self) -> bool {
        self.world.finding().is_some()
    }

    fn run(&mut self) -> Option<Duration> {
        let scenario = self.scenario;
        if let Err(error) = scenario.check() {
            let now = self.world.now;
            self.world.oracle.find("scenario", now, || error.to_string());
            return None;
        }
        self.enter();
        for step in &scenario.steps {
            self.pass(step.after);
            if self.is_over() {
                return None;
            }
            self.note(&step.op);
            self.apply(&step.op);
        }
        self.finish()
    }

    /// Heals the world, waits until it is live, and has it come to rest and to its end.
    fn finish(&mut self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        self.heal();
        let time_to_live = self.wait_until_live()?;
        self.settle();
        if !self.is_over() {
            self.close();
        }
        Some(time_to_live)
    }

    fn note(&mut self, op: &Op) {
        let cast = &self.scenario.cast;
        let now = self.world.now;
        self.world.trace.write(now, Who::World, "step", (), || cast.words(op).join(" "));
    }

    /// Lets time pass, and applications do what they planned meanwhile.
    fn pass(&mut self, span: Duration) {
        let until = self.world.now + span;
        while !self.is_over() {
            let world_at = self.world.next_at().filter(|at| *at <= until);
            let plan_at = self.plans.first_key_value().map(|((at, _), _)| *at);
            let plan_at = plan_at.filter(|at| *at <= until);
            match (world_at, plan_at) {
                (world_at, Some(at)) if world_at.is_none_or(|world_at| at <= world_at) => {
                    self.world.now = self.world.now.max(at);
                    if let Some((_, who)) = self.plans.pop_first() {
                        self.set_token(who, TOKEN_LIVES);
                    }
                }
                (Some(_), _) => {
                    self.world.step();
                    self.listen();
                    self.look();
                }
                (None, _) => break,
            }
        }
        self.world.now = self.world.now.max(until);
    }

    /// What applications were told, and what they make of it; and what the database has to tell.
    fn listen(&mut self) {
        if !self.world.is_database_away {
            for data in core::mem::take(&mut self.waiting) {
                self.data(&data);
            }
        }
        self.heed();
        for (node, told) in core::mem::take(&mut self.world.overheard) {
            let Some(at) = self.actors.iter().position(|player| player.node == node) else {
                continue;
            };
            let is_manager = self.actors[at].part == Part::Manager;
            match told {
                Told::TokenNeeded => {
                    let at_time = self.world.now + self.scenario.cast.settings.token_after;
                    self.plans.insert((at_time, self.next_plan), ActorId(at as u8));
                    self.next_plan += 1;
                }
                Told::Connected { .. } => self.actors[at].down = None,
                Told::Disconnected { cause, retry_at, .. } => {
                    self.actors[at].down = Some((cause, retry_at.is_some()));
                }
                Told::Channel(key, told) => {
                    let Some(wanted) = self.actors[at].wanted.get_mut(&key.topic) else { continue };
                    if wanted.key.is_some_and(|newest| key.life < newest.life) {
                        continue;
                    }
                    match told {
                        ChannelTold::Live => wanted.trouble = None,
                        ChannelTold::Stopped { cause } => {
                            let again = is_manager || !needs_somebody(cause);
                            wanted.trouble = Some((cause, again));
                        }
                        ChannelTold::Errored { cause, retry_at } => {
                            let again = retry_at.is_some() || !is_manager && !needs_somebody(cause);
                            wanted.trouble = Some((cause, again));
                        }
                        ChannelTold::Closed => wanted.closed = true,
                        _ => {}
                    }
                }
                Told::Violation | Told::Note(_) => {}
            }
        }
    }
}

/// What a panic said.
fn words_of_panic(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").into()
}

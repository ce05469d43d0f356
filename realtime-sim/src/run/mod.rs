//! A scenario that runs: safety while things break, liveness once they are healed, and the
//! accounts at the end.

mod apply;
mod explore;

use core::time::Duration;
use std::collections::BTreeMap;

pub use explore::{Beginning, Exploration, Explored, Failure, PathError};
use realtime_proto::supabase::{CauseKind, Retry};
use realtime_proto::{Client, Event, Instant, Payload};

use crate::coverage::{Condition, Conditions, Course, Coverage, Observer};
use crate::credentials::{self, BEGIN};
use crate::host::{App, Host, Hosted};
use crate::node::Sleep;
use crate::oracle::Finding;
use crate::scenario::{Act, ActorId, Op, Part, Scenario, TopicId};
use crate::subject::{
    ChannelTold, ClientSubject, Command, ManagerSubject, Performed, Role, Scripted, Told,
    client_config, numbered,
};
use crate::trace::{Change, Record, Who};
use crate::{Network, NodeId, World};

/// What a run found and what it was like.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What does not hold, if something does not.
    pub finding: Option<Finding>,
    /// What happened: frames that were taken, events that were told, timeouts.
    pub events: u64,
    /// How many applications there were.
    pub actors: usize,
    /// The time that passed in it.
    pub simulated: Duration,
    /// How long after the healing every wanted channel was live; `None` when it was not.
    pub time_to_live: Option<Duration>,
    /// The hash of the trace.
    pub hash: u64,
    /// What it reached.
    pub coverage: Coverage,
}

/// Runs a scenario with our own client.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Scenario, Seed, run};
///
/// let report = run(&Scenario::of_seed(Seed(7)));
/// assert_eq!(report.finding, None);
/// ```
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    run_with::<ClientSubject>(scenario)
}

/// Runs a scenario with any client that can be scripted; managers are ours. The guide has a client
/// and what this finds in it.
#[must_use]
pub fn run_with<S: Scripted>(scenario: &Scenario) -> Report {
    Stage::new::<S>(scenario, |world| world).play()
}

/// Runs a scenario in which every client has an application, which `make` makes when the client
/// starts and whenever it starts again. It opens what the scenario says, hears of every event, and
/// at the end [`App::check`] says whether all is as it should be; a panic is a finding, too.
///
/// An [`App`] has an example.
#[must_use]
pub fn run_app<A: App<Client, Event>>(
    scenario: &Scenario,
    make: impl Fn(&Role<'_>) -> A,
) -> Report {
    let start = |role: &Role<'_>, seed: u64, now: Instant| -> Box<dyn Host> {
        if role.actor.part == Part::Manager {
            return start::<ClientSubject>(role, seed, now);
        }
        let mut hosted = Hosted::without_log(ClientSubject::start(role, seed, now));
        hosted.set_client_app(make(role));
        Box::new(hosted)
    };
    Stage::of(scenario, &start, |world| world).play()
}

/// Runs a scenario and hands out each line of its trace.
#[must_use]
pub fn run_traced(scenario: &Scenario, sink: fn(&str)) -> Report {
    Stage::new::<ClientSubject>(scenario, |world| world.with_trace(sink)).play()
}

/// Runs a scenario and keeps its trace.
#[must_use]
pub fn run_recorded(scenario: &Scenario) -> (Report, Vec<Record>) {
    let mut stage = Stage::new::<ClientSubject>(scenario, World::with_records);
    let report = stage.play();
    let records = stage.world.records().to_vec();
    (report, records)
}

/// Runs a scenario and keeps its trace, and how its connections and channels were seen.
pub(crate) fn run_seen(scenario: &Scenario) -> (Report, Vec<Record>, Vec<Change>) {
    let mut stage = Stage::new::<ClientSubject>(scenario, World::with_records);
    let report = stage.play();
    let changes = stage.world.trace.changes().to_vec();
    (report, stage.world.records().to_vec(), changes)
}

/// A token that outlives every scenario but the longest sleeps.
const TOKEN_LIVES: Duration = Duration::from_secs(3_600);
/// After the healing: the longest that a push, or a session that died in silence, can still take.
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
    /// What applications will do at some time, in order.
    plans: BTreeMap<(Instant, u64), ActorId>,
    next_plan: u64,
    next_number: u64,
    tokens: u64,
    /// What the database will tell once it is back, in order.
    outage_until: Option<Instant>,
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
        let mut stage = Self {
            scenario,
            world,
            actors: Vec::new(),
            start,
            plans: BTreeMap::new(),
            next_plan: 0,
            next_number: 0,
            tokens: 0,
            outage_until: None,
            waiting: Vec::new(),
            backwards: Duration::ZERO,
            subscribes_late: Duration::ZERO,
        };
        for actor in &scenario.cast.actors {
            let role = Role { actor, cast: &scenario.cast, restarts: 0 };
            let host = start(&role, stage.world.next_seed(), stage.world.now);
            let node = stage.world.host(host);
            stage.actors.push(Player {
                node,
                part: actor.part,
                online: false,
                wanted: BTreeMap::new(),
                restarts: 0,
                down: None,
            });
        }
        for at in 0..stage.actors.len() {
            stage.dress(ActorId(at as u8));
        }
        stage
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
        let time_to_live = match played {
            Ok(time_to_live) => time_to_live,
            Err(panic) => {
                let now = self.world.now;
                self.world.oracle.find("panic", now, || words_of_panic(&*panic));
                None
            }
        };
        Report {
            finding: self.world.finding().cloned(),
            events: self.world.tally().events(),
            actors: self.actors.len(),
            simulated: self.world.now.since_epoch(),
            time_to_live,
            hash: self.world.trace_hash(),
            coverage: self.reached(time_to_live),
        }
    }

    /// What the run reached, once it is over.
    fn reached(&mut self, time_to_live: Option<Duration>) -> Coverage {
        for player in &self.actors {
            if let Some(stats) = self.world.nodes[player.node.0].host.stats() {
                self.world.observer.on_stats(&stats);
            }
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
        // A clock that went back lets every timer wait for as long.
        self.pass(SETTLES_AFTER + self.backwards);
        if !self.is_over() {
            self.settle();
        }
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
                }
                (None, _) => break,
            }
            if self.outage_until.is_some_and(|at| at <= self.world.now) {
                self.end_outage();
            }
        }
        self.world.now = self.world.now.max(until);
        if self.outage_until.is_some_and(|at| at <= self.world.now) {
            self.end_outage();
        }
    }

    /// What applications were told, and what they make of it.
    fn listen(&mut self) {
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
                    match told {
                        ChannelTold::Live => wanted.trouble = None,
                        ChannelTold::Stopped { cause } => {
                            let again = is_manager || cause.retry() != Retry::Never;
                            wanted.trouble = Some((cause, again));
                        }
                        ChannelTold::Errored { cause, again } => {
                            let again =
                                if is_manager { again } else { cause.retry() != Retry::Never };
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

    fn perform(&mut self, who: ActorId, command: &Command<'_>) -> Performed {
        let node = self.actors[usize::from(who.0)].node;
        let now = self.world.nodes[node.0].tell_time(self.world.now);
        if !matches!(command, Command::Send(..) | Command::Track(..) | Command::Untrack(_)) {
            self.world.oracle.on_command(node, self.world.now);
        }
        self.world.oracle.on_asked(node, command, self.world.now);
        self.world.observer.on_command(node, command);
        self.world.keep_changes();
        let performed = self.world.nodes[node.0].host.perform(command, now);
        self.world.flush(node);
        self.listen();
        performed
    }

    fn set_token(&mut self, who: ActorId, lives: Duration) {
        self.tokens += 1;
        let expires = BEGIN + self.world.now.since_epoch() + lives;
        let name = &self.scenario.cast.actors[usize::from(who.0)].name;
        let token = credentials::token(name, expires, self.tokens);
        self.perform(who, &Command::Token(Some(&token)));
    }

    fn act(&mut self, who: ActorId, act: &Act) {
        let player = usize::from(who.0);
        let conditions = self.conditions(self.actors[player].node);
        self.world.observer.on_act(act, conditions);
        match act {
            Act::Connect {} => {
                self.actors[player].online = true;
                self.perform(who, &Command::Connect);
            }
            Act::Disconnect {} => {
                self.actors[player].online = false;
                self.perform(who, &Command::Disconnect);
            }
            Act::Open { topic } => self.open(who, *topic),
            Act::Close { topic } => {
                if self.actors[player].wanted.remove(topic).is_some() {
                    self.world.oracle.on_given_up(self.actors[player].node, *topic);
                    self.perform(who, &Command::Close(*topic));
                }
            }
            Act::Send { topic } => self.send(who, *topic),
            Act::Flood { topic, count } => {
                for _ in 0..*count {
                    self.send(who, *topic);
                }
            }
            Act::Track { topic } => {
                let number = self.number();
                if self.perform(who, &Command::Track(*topic, number)) == Performed::Done {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(topic) {
                        wanted.shown = Some(number);
                    }
                }
            }
            Act::Untrack { topic } => {
                // To a manager this is to go.
                if self.actors[player].part == Part::Manager {
                    return self.act(who, &Act::Close { topic: *topic });
                }
                if self.perform(who, &Command::Untrack(*topic)) == Performed::Done {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(topic) {
                        wanted.shown = None;
                    }
                }
            }
            Act::Rebind { topic } => {
                if self.scenario.cast.topics[usize::from(topic.0)].is_supabase() {
                    self.perform(who, &Command::Rebind(*topic));
                }
            }
            Act::Rejoin { topic } => {
                self.perform(who, &Command::Rejoin(*topic));
            }
            Act::Token { lives } => self.set_token(who, *lives),
            Act::SignOut {} => {
                self.perform(who, &Command::Token(None));
            }
            Act::Hint {} => {
                self.perform(who, &Command::Hint);
            }
        }
    }

    fn open(&mut self, who: ActorId, topic: TopicId) {
        let node = self.actors[usize::from(who.0)].node;
        let performed = self.perform(who, &Command::Open(topic));
        if performed != Performed::Refused {
            let wanted = self.actors[usize::from(who.0)].wanted.entry(topic).or_default();
            wanted.closed = false;
        }
        if let Performed::Opened(key) = performed {
            self.world.oracle.on_wanted(node, key);
            self.world.observer.on_opened(node, key);
            self.world.keep_changes();
            // Who opens a channel again shows there what it showed before.
            let shown = self.actors[usize::from(who.0)].wanted[&topic].shown;
            if let Some(number) = shown {
                self.perform(who, &Command::Track(topic, number));
            }
        }
    }

    fn send(&mut self, who: ActorId, topic: TopicId) {
        let number = self.number();
        let node = self.actors[usize::from(who.0)].node;
        // The oracle knows of it before anything can come of it.
        self.world.oracle.on_send(node, topic, number);
        if self.perform(who, &Command::Send(topic, number)) != Performed::Done {
            self.world.oracle.on_send_refused(node, number, self.world.now);
            self.world.observer.on_refused();
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Nothing breaks any more, and people do what people do when a program tells them that it
    /// gave up.
    fn heal(&mut self) {
        let now = self.world.now;
        self.world.trace.write(now, Who::World, "heal", (), String::new);
        for server in 0..self.world.backends.len() {
            self.world.backends[server].away = None;
            self.world.backends[server].calm(now);
            self.world.flush_server(server);
        }
        self.end_outage();
        for player in 0..self.actors.len() {
            let node = self.actors[player].node;
            self.world.heal(node);
            self.world.nodes[node.0].sleeps_until = now;
            self.world.wake(node);
            self.set_wall(node, BEGIN + now.since_epoch());
            if self.scenario.cast.settings.tokens {
                self.set_token(ActorId(player as u8), TOKEN_LIVES * 24);
            }
        }
        self.listen();
    }

    /// What gave up is asked for again.
    fn revive(&mut self) {
        for player in 0..self.actors.len() {
            let who = ActorId(player as u8);
            if self.actors[player].online && matches!(self.actors[player].down, Some((_, false))) {
                self.actors[player].down = None;
                self.perform(who, &Command::Connect);
            }
            for (topic, wanted) in self.actors[player].wanted.clone() {
                if wanted.closed {
                    self.open(who, topic);
                } else if matches!(wanted.trouble, Some((_, false))) {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(&topic) {
                        wanted.trouble = None;
                    }
                    self.perform(who, &Command::Rejoin(topic));
                }
            }
        }
    }

    /// How long after the healing every wanted channel is live at the latest, by the settings.
    fn live_within(&self) -> Duration {
        let settings = &self.scenario.cast.settings;
        let promised = client_config(&self.scenario.cast, "").live_within();
        let promised = promised.expect("the retries have no budget");
        let way = settings.delay + settings.jitter;
        // A server may hold a connection for what it refused last; a clock that went back lets
        // every timer wait for as long.
        promised
            + settings.subscribed_after.max(self.subscribes_late)
            + settings.token_after
            + 20 * way
            + Duration::from_secs(20)
            + self.backwards
    }

    fn wait_until_live(&mut self) -> Option<Duration> {
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        let (begin, within) = (self.world.now, self.live_within());
        loop {
            self.revive();
            if self.all_live() {
                return Some(self.world.now.saturating_duration_since(begin));
            }
            let waited = self.world.now.saturating_duration_since(begin);
            if self.is_over() {
                return None;
            }
            if waited > within {
                let what = self.what_is_not_live();
                let now = self.world.now;
                self.world
                    .oracle
                    .find("G8", now, || format!("{what} is not live {within:?} after the healing"));
                return None;
            }
            self.pass(LOOK_EVERY);
        }
    }

    fn all_live(&mut self) -> bool {
        self.not_live().is_none()
    }

    fn not_live(&mut self) -> Option<(ActorId, TopicId)> {
        for (at, player) in self.actors.iter().enumerate() {
            if !player.online {
                continue;
            }
            for topic in player.wanted.keys() {
                if !self.world.nodes[player.node.0].host.is_live(*topic) {
                    return Some((ActorId(at as u8), *topic));
                }
            }
        }
        None
    }

    fn what_is_not_live(&mut self) -> String {
        self.not_live().map_or_else(String::new, |(who, topic)| {
            let cast = &self.scenario.cast;
            let topic = &cast.topics[usize::from(topic.0)].name;
            format!("{topic} of {}", cast.actors[usize::from(who.0)].name)
        })
    }

    /// The accounts, once everything is at rest.
    fn settle(&mut self) {
        let now = self.world.now;
        for at in 0..self.actors.len() {
            let (node, online) = (self.actors[at].node, self.actors[at].online);
            for (topic, wanted) in self.actors[at].wanted.clone() {
                let spec = &self.scenario.cast.topics[usize::from(topic.0)];
                let host = &mut self.world.nodes[node.0].host;
                // What happened last may have taken a channel down again.
                if online && spec.presence && host.is_live(topic) {
                    let seen = host.present(topic);
                    self.world.oracle.check_presence(node, topic, seen, wanted.shown, now);
                }
            }
            if let Err(what) = self.world.nodes[node.0].host.check() {
                let name = &self.scenario.cast.actors[at].name;
                self.world.oracle.find("application", now, || format!("{name}: {what}"));
            }
            let shown = format!("{:?}", self.world.nodes[node.0].host);
            self.world.oracle.on_shown(node, "its client", &shown, now);
        }
        self.world.oracle.settle(now);
        self.check_servers(now);
    }

    /// What the servers have of the applications is what those want, with their newest tokens.
    fn check_servers(&mut self, now: Instant) {
        let (actors, topics) = (&self.actors, &self.scenario.cast.topics);
        let is_wanted = |node: NodeId, topic: &str| {
            let player = actors.iter().find(|player| player.node == node);
            player.is_some_and(|player| {
                let mut wanted = player.wanted.keys();
                player.online && wanted.any(|id| topics[usize::from(id.0)].topic == topic)
            })
        };
        self.world.oracle.check_joined(is_wanted, now);
        for player in actors.iter().filter(|player| player.online) {
            for topic in player.wanted.keys().map(|id| &topics[usize::from(id.0)]) {
                let links = self.world.links.values().filter(|link| link.node == player.node);
                let mut tokens = links.filter(|link| link.open).filter_map(|link| {
                    self.world.backends[link.server]
                        .server
                        .access_token(link.session?, &topic.topic)
                });
                if let Some(token) = tokens.next_back().map(|token| token.expose().to_owned()) {
                    let (node, topic) = (player.node, &topic.topic);
                    self.world.oracle.check_token(node, topic, Some(&token), now);
                }
            }
        }
    }

    /// Everybody goes, and nothing is left.
    fn close(&mut self) {
        for player in 0..self.actors.len() {
            let who = ActorId(player as u8);
            for topic in self.actors[player].wanted.clone().into_keys() {
                self.act(who, &Act::Close { topic });
            }
            self.act(who, &Act::Disconnect {});
        }
        self.pass(CLOSES_AFTER + self.backwards);
        // Who has a token watches over it, connected or not.
        for player in 0..self.actors.len() {
            self.act(ActorId(player as u8), &Act::SignOut {});
        }
        let now = self.world.now;
        if !self.is_over() {
            let sessions: usize =
                self.world.backends.iter().map(|backend| backend.server.stats().sessions).sum();
            let deadline = self.world.deadlines.first().copied();
            self.world.oracle.check_end(sessions, deadline, now);
        }
    }

    fn end_outage(&mut self) {
        self.outage_until = None;
        for data in core::mem::take(&mut self.waiting) {
            self.data(&data);
        }
    }
}

/// What a panic said.
fn words_of_panic(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").into()
}

/// A payload that bears a number.
fn payload(number: u64) -> Payload {
    Payload::from_json(numbered(number)).expect("a number is JSON")
}

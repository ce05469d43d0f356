//! A world of nodes, servers, and the links between them, on virtual time.

mod nodes;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::Instant;
use realtime_proto::server::{Server, ServerConfig, ServerEvent, SessionId};

use crate::agenda::Agenda;
use crate::app::Deed;
use crate::backend::Backend;
use crate::coverage::Observer;
use crate::fault::Lasting;
use crate::host::Log;
use crate::link::{End, Link, Network, Parcel};
use crate::node::{Node, Sleep};
use crate::oracle::Oracle;
use crate::seed::Seed;
use crate::subject::Told;
use crate::trace::{Record, Trace};
use crate::{Finding, NodeId};

/// What the agenda holds.
#[derive(Debug)]
pub(crate) enum Due {
    Arrival {
        link: u64,
        to: End,
        parcel: Parcel,
    },
    Wake(NodeId),
    /// A driver has been stuck in a write since then.
    WriteTimeout {
        node: NodeId,
        since: Instant,
    },
    /// Something that lasted is over.
    Over(Lasting),
}

/// Clients, servers and the links between them, all made from one seed.
///
/// Time passes only in [`run_until`](Self::run_until), [`run_for`](Self::run_for),
/// [`run_while_not`](Self::run_while_not) and [`step`](Self::step), and as fast as the machine can
/// compute. Whatever happens, the world checks after each step what must always hold: a timeout
/// makes progress, no frame is sent on a connection that is gone, every push ends once, nothing
/// follows a channel's last event. It does not know what you wanted: that all is live again, that
/// nothing is missing, and that [applications](Self::check_apps) are well is for you to ask.
///
/// Methods that take a [`NodeId`] panic when it is of a larger world than this.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::{ChannelConfig, Config, Payload};
/// use realtime_sim::World;
///
/// let mut world = World::seed(1);
/// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
/// let room = world.client(ana, |client, now| {
///     client.connect(now);
///     client.open_channel("room:lobby", ChannelConfig::phoenix(Payload::empty()), now)
/// })?;
/// world.run_for(Duration::from_secs(1));
/// assert!(world.client(ana, |client, _| client.channel(room).unwrap().is_live()));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct World {
    pub(crate) seed: Seed,
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) backends: Vec<Backend>,
    pub(crate) server_log: Log<ServerEvent>,
    pub(crate) keeps_logs: bool,
    pub(crate) nodes: Vec<Node>,
    /// The deadlines of the nodes, in order.
    pub(crate) deadlines: BTreeSet<(Instant, NodeId)>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) sessions: BTreeMap<(usize, SessionId), u64>,
    pub(crate) next_link: u64,
    pub(crate) agenda: Agenda<Due>,
    /// When that is over which lasts, of each kind the latest end.
    pub(crate) ends: BTreeMap<Lasting, Instant>,
    /// Whether the database that all servers share is away.
    pub(crate) is_database_away: bool,
    pub(crate) trace: Trace,
    pub(crate) oracle: Oracle,
    pub(crate) observer: Observer,
    /// Whether a finding is kept for whoever runs the world instead of ending it.
    pub(crate) keeps_findings: bool,
    /// Whether what nodes are told is overheard by whoever runs the world.
    pub(crate) listens: bool,
    pub(crate) overheard: Vec<(NodeId, Told)>,
    /// And so is what applications do of their own accord.
    pub(crate) done: Vec<(NodeId, Deed)>,
    pub(crate) told: Vec<Told>,
    pub(crate) tally: Tally,
    steps: u64,
    steps_at_this_instant: u32,
    /// How many of them were timeouts of nodes.
    timeouts_at_this_instant: u32,
}

/// How much happened in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Frames that servers took.
    pub to_servers: u64,
    /// Frames that clients took.
    pub to_nodes: u64,
    /// Events that applications were told.
    pub told: u64,
    /// Timeouts of clients and servers.
    pub timeouts: u64,
}

impl Tally {
    /// All of it.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.to_servers + self.to_nodes + self.told + self.timeouts
    }
}

/// A world takes no more steps without time passing.
const STEPS_PER_INSTANT_MAX: u32 = 1_000_000;
/// A world whose nodes time out so often without time passing does not move any more.
const TIMEOUTS_PER_INSTANT_MAX: u32 = 100_000;

impl World {
    /// A world with a server and nobody else in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// assert!(!world.step(), "nobody is there, and nothing happens");
    /// ```
    #[must_use]
    pub fn seed(seed: u64) -> Self {
        let (seed, now) = (Seed(seed), Instant::EPOCH);
        Self {
            seed,
            now,
            network: Network::default(),
            backends: vec![Backend::new(ServerConfig::default(), seed.child("server", 0).0, now)],
            server_log: Log::Kept(Vec::new()),
            keeps_logs: true,
            nodes: Vec::new(),
            deadlines: BTreeSet::new(),
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_link: 0,
            agenda: Agenda::new(),
            ends: BTreeMap::new(),
            is_database_away: false,
            trace: Trace::default(),
            oracle: Oracle::default(),
            observer: Observer::default(),
            keeps_findings: false,
            listens: false,
            overheard: Vec::new(),
            done: Vec::new(),
            told: Vec::new(),
            tally: Tally::default(),
            steps: 0,
            steps_at_this_instant: 0,
            timeouts_at_this_instant: 0,
        }
    }

    /// The same world with other server settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::server::ServerConfig;
    /// use realtime_sim::World;
    ///
    /// let mut slow = ServerConfig::default();
    /// slow.subscribed_after = Duration::from_secs(4);
    /// let world = World::seed(7).with_server(slow);
    /// # let _ = world;
    /// ```
    #[must_use]
    pub fn with_server(mut self, config: ServerConfig) -> Self {
        for backend in &mut self.backends {
            backend.server.set_config(config.clone());
        }
        self
    }

    /// The same world with so many servers behind the one address, all set alike. They share
    /// nothing; a node's connections go to the first until it is rerouted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7).with_servers(2);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.reroute(ana, 1);
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// assert!(world.server(|first, _| first.stats().accepted == 0));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_servers(mut self, count: usize) -> Self {
        let config = self.backends[0].server.config().clone();
        for number in self.backends.len()..count.max(1) {
            let seed = self.seed.child("server", number as u64).0;
            self.backends.push(Backend::new(config.clone(), seed, self.now));
        }
        self
    }

    /// The same world; nodes that are added from here on sit behind `network`.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_sim::{Network, World};
    ///
    /// let far = Network { delay: Duration::from_millis(150), jitter: Duration::from_millis(50) };
    /// let world = World::seed(7).with_network(far);
    /// # let _ = world;
    /// ```
    #[must_use]
    pub const fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The same world; each line of the trace goes to `sink` as it is written.
    ///
    /// ```
    /// use realtime_sim::World;
    ///
    /// let world = World::seed(1).with_trace(|line| println!("{line}"));
    /// # let _ = world;
    /// ```
    #[must_use]
    pub const fn with_trace(mut self, sink: fn(&str)) -> Self {
        self.trace.print_to(sink);
        self
    }

    /// The same world; each line of the trace is kept for [`records`](Self::records).
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7).with_records();
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// let words: Vec<&str> = world.records().iter().map(|record| record.word).collect();
    /// assert_eq!(words, ["opens", "tells", "opened", "tells"]);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn with_records(mut self) -> Self {
        self.trace.keep();
        self
    }

    /// The same world without logs of what servers and the nodes that are added from here on tell,
    /// for long runs.
    #[must_use]
    pub fn without_logs(mut self) -> Self {
        self.keeps_logs = false;
        self.server_log = Log::Dropped;
        self
    }

    /// What was recorded, with [`with_records`](Self::with_records).
    #[must_use]
    pub fn records(&self) -> &[Record] {
        self.trace.kept()
    }

    /// Gives the first server commands at this instant, a row change for instance.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Payload;
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let news = Payload::from_json(r#"{"n":1}"#.to_owned()).unwrap();
    /// world.server(|server, now| server.broadcast("realtime:room", "news", &news, now));
    /// ```
    pub fn server<T>(&mut self, command: impl FnOnce(&mut Server, Instant) -> T) -> T {
        let result = command(&mut self.backends[0].server, self.now);
        self.flush_server(0);
        self.complain();
        result
    }

    /// All that the servers told, with the time they did.
    #[must_use]
    pub fn server_log(&self) -> &[(Instant, ServerEvent)] {
        self.server_log.entries()
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How many steps the world took.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How much happened.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// One number for all that happened; the same seed and the same commands give the same one.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// What does not hold, in a world that keeps its findings.
    pub(crate) const fn finding(&self) -> Option<&Finding> {
        self.oracle.finding.as_ref()
    }

    /// When the next thing happens; `None` when nothing will without a command.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let node = self.deadlines.first().map(|(at, _)| *at);
        let servers = self.backends.iter().filter_map(Backend::poll_timeout);
        servers.chain(node).chain(self.agenda.next_at()).min()
    }

    /// Lets the next thing happen, and tells whether there was one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    /// let mut world = World::seed(1);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// while !world.client(ana, |client, _| client.is_connected()) {
    ///     assert!(world.step(), "something is on its way");
    /// }
    /// assert_eq!(world.steps(), 2, "there and back");
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When something does not hold that always must.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_at() else { return false };
        if at > self.now {
            self.now = at;
            self.steps_at_this_instant = 0;
            self.timeouts_at_this_instant = 0;
        }
        self.steps += 1;
        self.steps_at_this_instant += 1;
        let now = self.now;
        if self.timeouts_at_this_instant >= TIMEOUTS_PER_INSTANT_MAX {
            self.oracle.find("G7", now, || "the nodes do not get past this instant".into());
        } else if self.steps_at_this_instant >= STEPS_PER_INSTANT_MAX {
            self.flood(|| format!("{STEPS_PER_INSTANT_MAX} steps were taken at this instant"));
        }
        if self.finding().is_some() {
            self.complain();
            return false;
        }
        if let Some(due) = self.agenda.pop_due(now) {
            self.come_about(due);
        } else if let Some(server) =
            self.backends.iter().position(|it| it.poll_timeout().is_some_and(|at| at <= now))
        {
            self.tally.timeouts += 1;
            self.backends[server].handle_timeout(now);
            self.flush_server(server);
        } else if let Some((_, node)) = self.deadlines.first().copied() {
            self.timeouts_at_this_instant += 1;
            self.let_time_out(node);
        }
        self.complain();
        true
    }

    /// Plans something, as far as the agenda takes it.
    pub(crate) fn plan(&mut self, at: Instant, due: Due) {
        if self.agenda.is_full() {
            self.flood(|| "too many messages are under way".into());
        }
        self.agenda.plan(at, due);
    }

    /// More happens than a world takes: no client is to blame, the run ends all the same.
    pub(crate) fn flood(&mut self, what: impl FnOnce() -> String) {
        self.oracle.find("flood", self.now, || format!("{}; let the scenario be smaller", what()));
    }

    /// Something that was planned happens.
    pub(crate) fn come_about(&mut self, due: Due) {
        match due {
            Due::Arrival { link, to, parcel } => self.on_arrival(link, to, parcel),
            Due::Wake(node) => self.wake(node),
            Due::WriteTimeout { node, since } => self.on_write_timeout(node, since),
            Due::Over(lasting) => self.on_over(lasting),
        }
    }

    /// A world that nobody watches ends with the first thing that does not hold.
    pub(crate) fn complain(&self) {
        if let (false, Some(finding)) = (self.keeps_findings, self.finding()) {
            panic!("seed {}: {finding}", self.seed);
        }
    }

    /// Lets everything happen up to and including `until`, which is the time afterwards.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::Instant;
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let noon = Instant::EPOCH + Duration::from_secs(12 * 3_600);
    /// world.run_until(noon);
    /// assert_eq!(world.now(), noon);
    /// ```
    ///
    /// # Panics
    ///
    /// When something does not hold that always must, as [`step`](Self::step).
    pub fn run_until(&mut self, until: Instant) {
        while self.next_at().is_some_and(|at| at <= until) {
            if !self.step() || self.oracle.finding.is_some() {
                break;
            }
        }
        self.now = self.now.max(until);
    }

    /// Lets everything happen within `span` from now.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When something does not hold that always must, as [`step`](Self::step).
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Runs until `done` says so, or for `span` at most; tells how long it took, or `None` when it
    /// did not come about.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    /// let mut world = World::seed(1);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// let is_connected = |world: &mut World| world.client(ana, |client, _| client.is_connected());
    /// // There and back.
    /// let took = world.run_while_not(Duration::from_secs(1), is_connected);
    /// assert_eq!(took, Some(Duration::from_millis(40)));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When something does not hold that always must, as [`step`](Self::step).
    pub fn run_while_not(
        &mut self,
        span: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let until = start + span;
        loop {
            if done(self) {
                return Some(self.now.saturating_duration_since(start));
            }
            if self.oracle.finding.is_some() {
                return None;
            }
            if self.next_at().is_none_or(|at| at > until) {
                self.now = until;
                return None;
            }
            self.step();
        }
    }

    /// A node's own deadline came. Whatever it does, the next one is later (G7).
    pub(crate) fn let_time_out(&mut self, id: NodeId) {
        let now = self.now;
        let node = &mut self.nodes[id.0];
        let clock = node.tick(now);
        self.tally.timeouts += 1;
        node.host.handle_timeout(clock);
        self.flush(id);
        let node = &self.nodes[id.0];
        if !node.reads() || node.sleep != Sleep::Awake || node.write_blocked.is_some() {
            return;
        }
        let next = node.host.poll_timeout();
        if next.is_some_and(|next| next <= clock) {
            self.oracle.find("G7", now, || {
                format!("{id} does not get past {clock}: its next deadline is {next:?}")
            });
        }
    }
}

//! A world of nodes, one server, and the links between them, on virtual time.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
use realtime_proto::server::{Server, ServerConfig, ServerEvent, SessionId};
use realtime_proto::{Client, Config, Event, Instant};

use crate::NodeId;
use crate::agenda::Agenda;
use crate::link::{Carried, End, Link, Network};
use crate::machine::{Driven, Logged, Machine};
use crate::node::Node;
use crate::oracle::Oracle;
use crate::seed::Seed;
use crate::trace::Trace;

/// What the agenda holds.
#[derive(Debug)]
pub(crate) enum Due {
    Arrival { link: u64, to: End, carried: Carried },
    Wake(NodeId),
}

/// Clients, one server and the links between them, all made from one seed.
///
/// Time passes only in [`run_until`](Self::run_until), [`run_for`](Self::run_for) and
/// [`step`](Self::step), and as fast as the machine can compute. Whatever happens, the world checks
/// after each step what must always hold: a timeout makes progress, no frame is sent on a
/// connection that is gone, every push ends once, nothing follows a channel's last event.
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
    pub(crate) server: Server,
    pub(crate) server_log: Vec<(Instant, ServerEvent)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) sessions: BTreeMap<SessionId, u64>,
    pub(crate) next_link: u64,
    pub(crate) agenda: Agenda<Due>,
    pub(crate) trace: Trace,
    steps: u64,
    steps_at_this_instant: u32,
}

/// A world that takes more steps without time passing does not move any more.
const STEPS_PER_INSTANT_MAX: u32 = 100_000;

impl World {
    /// A world with a server and nobody else in it.
    #[must_use]
    pub fn seed(seed: u64) -> Self {
        let (seed, now) = (Seed(seed), Instant::EPOCH);
        Self {
            seed,
            now,
            network: Network::default(),
            server: Server::new(ServerConfig::default(), seed.child("server", 0).0, now),
            server_log: Vec::new(),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_link: 0,
            agenda: Agenda::new(),
            trace: Trace::new(),
            steps: 0,
            steps_at_this_instant: 0,
        }
    }

    /// The same world with other server settings.
    #[must_use]
    pub fn with_server(mut self, config: ServerConfig) -> Self {
        self.server.set_config(config);
        self
    }

    /// The same world; nodes that are added from here on sit behind `network`.
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

    /// Adds a client that is offline.
    pub fn add_client(&mut self, config: Config) -> NodeId {
        let client = Client::new(config, self.next_seed(), self.now);
        self.add(Driven::Client(Box::new(Logged::new(client)), Oracle::default()))
    }

    /// Adds a channel manager that is offline.
    pub fn add_manager(&mut self, config: ManagerConfig) -> NodeId {
        let manager = Manager::new(config, self.next_seed(), self.now);
        self.add(Driven::Manager(Box::new(Logged::new(manager))))
    }

    fn next_seed(&self) -> u64 {
        self.seed.child("node", self.nodes.len() as u64).0
    }

    fn add(&mut self, driven: Driven) -> NodeId {
        self.nodes.push(Node::new(driven, self.network));
        NodeId(self.nodes.len() - 1)
    }

    /// Gives a client commands at this instant, and carries out what it asks for.
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    pub fn client<T>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut Client, Instant) -> T,
    ) -> T {
        let Driven::Client(logged, _) = &mut self.nodes[node.0].driven else {
            panic!("{node} is a manager; use `manager`");
        };
        let result = command(&mut logged.machine, self.now);
        self.flush(node);
        result
    }

    /// Gives a manager commands at this instant, and carries out what it asks for.
    ///
    /// # Panics
    ///
    /// When the node is a client.
    pub fn manager<T>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut Manager, Instant) -> T,
    ) -> T {
        let Driven::Manager(logged) = &mut self.nodes[node.0].driven else {
            panic!("{node} is a client; use `client`");
        };
        let result = command(&mut logged.machine, self.now);
        self.flush(node);
        result
    }

    /// Gives the server commands at this instant, a row change for instance.
    pub fn server<T>(&mut self, command: impl FnOnce(&mut Server, Instant) -> T) -> T {
        let result = command(&mut self.server, self.now);
        self.flush_server();
        result
    }

    /// All that a client told, with the time it did.
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    #[must_use]
    pub fn log(&self, node: NodeId) -> &[(Instant, Event)] {
        match &self.nodes[node.0].driven {
            Driven::Client(logged, _) => &logged.log,
            Driven::Manager(_) => panic!("{node} is a manager; use `manager_log`"),
        }
    }

    /// All that a client told since the last call.
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    pub fn take_log(&mut self, node: NodeId) -> Vec<(Instant, Event)> {
        match &mut self.nodes[node.0].driven {
            Driven::Client(logged, _) => core::mem::take(&mut logged.log),
            Driven::Manager(_) => panic!("{node} is a manager; use `take_manager_log`"),
        }
    }

    /// All that a manager told, with the time it did.
    ///
    /// # Panics
    ///
    /// When the node is a client.
    #[must_use]
    pub fn manager_log(&self, node: NodeId) -> &[(Instant, ManagerEvent)] {
        match &self.nodes[node.0].driven {
            Driven::Manager(logged) => &logged.log,
            Driven::Client(..) => panic!("{node} is a client; use `log`"),
        }
    }

    /// All that a manager told since the last call.
    ///
    /// # Panics
    ///
    /// When the node is a client.
    pub fn take_manager_log(&mut self, node: NodeId) -> Vec<(Instant, ManagerEvent)> {
        match &mut self.nodes[node.0].driven {
            Driven::Manager(logged) => core::mem::take(&mut logged.log),
            Driven::Client(..) => panic!("{node} is a client; use `take_log`"),
        }
    }

    /// All that the server told, with the time it did.
    #[must_use]
    pub fn server_log(&self) -> &[(Instant, ServerEvent)] {
        &self.server_log
    }

    /// Every frame that a node sent: when, and in one line its refs, topic and event.
    #[must_use]
    pub fn sent(&self, node: NodeId) -> &[(Instant, String)] {
        &self.nodes[node.0].sent
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

    /// How many lines the trace has.
    #[must_use]
    pub const fn trace_lines(&self) -> u64 {
        self.trace.lines()
    }

    /// One number for all that happened; the same seed and the same commands give the same one.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// When the next thing happens; `None` when nothing will without a command.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let timeouts = self.nodes.iter().filter_map(Node::timeout);
        let next = [self.agenda.next_at(), self.server.poll_timeout()];
        next.into_iter().flatten().chain(timeouts).min()
    }

    /// Lets the next thing happen, and tells whether there was one.
    ///
    /// # Panics
    ///
    /// When something does not hold that always must.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_at() else { return false };
        if at > self.now {
            self.now = at;
            self.steps_at_this_instant = 0;
        }
        self.steps += 1;
        self.steps_at_this_instant += 1;
        assert!(
            self.steps_at_this_instant < STEPS_PER_INSTANT_MAX,
            "the world of seed {} does not get past {}",
            self.seed,
            self.now,
        );
        let now = self.now;
        if let Some(due) = self.agenda.pop_due(now) {
            match due {
                Due::Arrival { link, to, carried } => self.on_arrival(link, to, carried),
                Due::Wake(node) => self.wake(node),
            }
        } else if self.server.poll_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
            self.flush_server();
        } else if let Some(due) = self.nodes.iter().position(|node| node.is_due(now)) {
            self.let_time_out(NodeId(due));
        }
        true
    }

    /// Lets everything happen up to and including `until`, which is the time afterwards.
    pub fn run_until(&mut self, until: Instant) {
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Lets everything happen within `span` from now.
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
        self.nodes[id.0].driven.handle_timeout(now);
        self.flush(id);
        let next = self.nodes[id.0].driven.poll_timeout();
        assert!(
            next.is_none_or(|next| next > now),
            "{id} of seed {} does not get past {now}: its next deadline is {next:?} (G7)",
            self.seed,
        );
    }
}

//! The nodes of a world made by hand: adding them, their applications, commands, and what they
//! told.

use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
use realtime_proto::{Client, Config, Event, Instant};

use crate::NodeId;
use crate::host::{App, Host, Hosted, Log};
use crate::node::Node;
use crate::subject::{ClientSubject, ManagerSubject, Subject};
use crate::world::World;

impl World {
    /// Adds a client that is offline.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// assert!(!world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn add_client(&mut self, config: Config) -> NodeId {
        let client = Client::new(config, self.next_seed(), self.now);
        self.add(ClientSubject::plain(client))
    }

    /// Adds a channel manager that is offline.
    pub fn add_manager(&mut self, config: ManagerConfig) -> NodeId {
        let manager = Manager::new(config, self.next_seed(), self.now);
        self.add(ManagerSubject::plain(manager))
    }

    /// Adds a client of any kind: whatever has the verbs of a [`Subject`], as the naive client of
    /// the guide.
    pub fn add(&mut self, subject: impl Subject) -> NodeId {
        let mut hosted = Hosted::new(subject);
        if !self.keeps_logs {
            hosted.log = Log::Dropped;
        }
        self.host(Box::new(hosted))
    }

    pub(crate) fn host(&mut self, host: Box<dyn Host>) -> NodeId {
        self.nodes.push(Node::new(host, self.network));
        let id = NodeId(self.nodes.len() - 1);
        self.flush(id);
        id
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.seed.child("node", self.nodes.len() as u64).0
    }

    /// Sets the application of a node; it is asked what it makes of each event.
    ///
    /// For our own clients there are [`on_client_event`](Self::on_client_event), which takes a
    /// closure, and [`set_client_app`](Self::set_client_app).
    ///
    /// # Panics
    ///
    /// When the node is not an `S`.
    pub fn set_app<S: Subject>(&mut self, node: NodeId, app: impl App<S, S::Event>) {
        self.hosted_mut::<S>(node).set_app(app);
    }

    /// Sets the application of a client; see [`App`].
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Client, Config, Event, Instant};
    /// use realtime_sim::{App, World};
    ///
    /// struct Lamp;
    ///
    /// impl App<Client, Event> for Lamp {
    ///     fn handle_event(&mut self, event: &Event, _: &mut Client, _: Instant) {
    ///         match event {
    ///             Event::Connected { .. } => println!("green"),
    ///             Event::Disconnected { .. } => println!("red"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.set_client_app(ana, Lamp);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not a client.
    pub fn set_client_app(&mut self, node: NodeId, app: impl App<Client, Event>) {
        self.hosted_mut::<ClientSubject>(node).set_client_app(app);
    }

    /// Sets what the application of a client does when it is told something.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::{Client, Config, Event, Instant, Secret};
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(1);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.on_client_event(ana, |event: &Event, client: &mut Client, now: Instant| {
    ///     if matches!(event, Event::TokenNeeded { .. }) {
    ///         client.set_access_token(Some(Secret::from("a new one")), now);
    ///     }
    /// });
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not a client.
    pub fn on_client_event(
        &mut self,
        node: NodeId,
        mut react: impl FnMut(&Event, &mut Client, Instant) + 'static,
    ) {
        let app = move |event: &Event, subject: &mut ClientSubject, now: Instant| {
            react(event, &mut subject.client, now);
        };
        self.hosted_mut::<ClientSubject>(node).set_app(app);
    }

    /// Sets what the application of a manager does when it is told something.
    ///
    /// # Panics
    ///
    /// When the node is not a manager.
    pub fn on_manager_event(
        &mut self,
        node: NodeId,
        mut react: impl FnMut(&ManagerEvent, &mut Manager, Instant) + 'static,
    ) {
        let app = move |event: &ManagerEvent, subject: &mut ManagerSubject, now: Instant| {
            react(event, &mut subject.manager, now);
        };
        self.hosted_mut::<ManagerSubject>(node).set_app(app);
    }

    /// Gives a client of any kind commands at this instant, and carries out what it asks for.
    ///
    /// # Panics
    ///
    /// When the node is not an `S`.
    pub fn with<S: Subject, T>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut S, Instant) -> T,
    ) -> T {
        let now = self.nodes[node.0].tell_time(self.now);
        let result = command(&mut self.hosted_mut::<S>(node).subject, now);
        self.flush(node);
        self.complain();
        result
    }

    /// Gives a client commands at this instant, and carries out what it asks for.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    pub fn client<T>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut Client, Instant) -> T,
    ) -> T {
        self.with(node, |subject: &mut ClientSubject, now| command(&mut subject.client, now))
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
        self.with(node, |subject: &mut ManagerSubject, now| command(&mut subject.manager, now))
    }

    fn hosted<S: Subject>(&self, node: NodeId) -> &Hosted<S> {
        self.nodes[node.0].host.as_any().downcast_ref().unwrap_or_else(|| wrong_kind::<S>(node))
    }

    pub(crate) fn hosted_mut<S: Subject>(&mut self, node: NodeId) -> &mut Hosted<S> {
        let host = self.nodes[node.0].host.as_any_mut();
        host.downcast_mut().unwrap_or_else(|| wrong_kind::<S>(node))
    }

    /// All that a client told, with the time it did.
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    #[must_use]
    pub fn log(&self, node: NodeId) -> &[(Instant, Event)] {
        self.hosted::<ClientSubject>(node).log.entries()
    }

    /// All that a client told since the last call.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// assert_eq!(world.take_log(ana).len(), 1);
    /// assert_eq!(world.log(ana), []);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is a manager.
    pub fn take_log(&mut self, node: NodeId) -> Vec<(Instant, Event)> {
        self.hosted_mut::<ClientSubject>(node).log.take()
    }

    /// All that a manager told, with the time it did.
    ///
    /// # Panics
    ///
    /// When the node is a client.
    #[must_use]
    pub fn manager_log(&self, node: NodeId) -> &[(Instant, ManagerEvent)] {
        self.hosted::<ManagerSubject>(node).log.entries()
    }

    /// All that a manager told since the last call.
    ///
    /// # Panics
    ///
    /// When the node is a client.
    pub fn take_manager_log(&mut self, node: NodeId) -> Vec<(Instant, ManagerEvent)> {
        self.hosted_mut::<ManagerSubject>(node).log.take()
    }

    /// Every frame that a node sent: when, and in one line its refs, topic and event.
    #[must_use]
    pub fn sent(&self, node: NodeId) -> &[(Instant, String)] {
        &self.nodes[node.0].sent
    }
}

fn wrong_kind<S>(node: NodeId) -> ! {
    panic!("{node} is not a {}", core::any::type_name::<S>())
}

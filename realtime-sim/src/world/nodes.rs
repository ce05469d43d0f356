//! The nodes of a world made by hand: adding them, their applications, commands, and what they
//! told.

use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
use realtime_proto::{Client, Config, Event, Instant};

use crate::NodeId;
use crate::app::App;
use crate::host::{Host, Hosted, Log};
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
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::Config;
    /// use realtime_proto::manager::{Entity, EntityOptions, ManagerConfig};
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let config = Config::builder("wss://project.supabase.co/realtime/v1").build()?;
    /// let ana = world.add_manager(ManagerConfig::new(config));
    /// world.manager(ana, |manager, now| {
    ///     manager.connect(now);
    ///     manager.subscribe_to_entity(&Entity::new("contact", "1"), &EntityOptions::default(), now)
    /// })?;
    /// world.run_for(Duration::from_secs(1));
    /// world.manager(ana, |manager, _| assert_eq!(manager.channel_stats().by_status["live"], 1));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn add_manager(&mut self, config: ManagerConfig) -> NodeId {
        let manager = Manager::new(config, self.next_seed(), self.now);
        self.add(ManagerSubject::plain(manager))
    }

    /// Adds a client of any kind: whatever has the verbs of a [`Subject`], as the naive client of
    /// the guide.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::convert::Infallible;
    /// use core::time::Duration;
    /// use realtime_proto::{CloseReason, Frame, Instant};
    /// use realtime_sim::{Request, Subject, World};
    ///
    /// /// Opens one socket, and counts what happens to it.
    /// #[derive(Debug, Default)]
    /// struct Once {
    ///     asked: bool,
    ///     heard: Vec<&'static str>,
    /// }
    ///
    /// impl Subject for Once {
    ///     type Socket = u32;
    ///     type Event = Infallible;
    ///     fn handle_open(&mut self, _: u32, _: Instant) {
    ///         self.heard.push("open");
    ///     }
    ///     fn handle_frame(&mut self, _: u32, _: Frame, _: Instant) {}
    ///     fn handle_close(&mut self, _: u32, _: CloseReason, _: Instant) {
    ///         self.heard.push("closed");
    ///     }
    ///     fn handle_timeout(&mut self, _: Instant) {}
    ///     fn poll_transmit(&mut self) -> Option<Request<u32>> {
    ///         let url = "ws://server/socket/websocket?vsn=2.0.0".into();
    ///         (!core::mem::replace(&mut self.asked, true)).then_some(Request::Open { socket: 1, url })
    ///     }
    ///     fn poll_event(&mut self) -> Option<Infallible> {
    ///         None
    ///     }
    ///     fn poll_timeout(&self) -> Option<Instant> {
    ///         None
    ///     }
    /// }
    ///
    /// let mut world = World::seed(7);
    /// let once = world.add(Once::default());
    /// world.run_for(Duration::from_secs(1));
    /// world.cut(once);
    /// world.with(once, |once: &mut Once, _| assert_eq!(once.heard, ["open", "closed"]));
    /// ```
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

    /// Sets the application of a client of any kind; it is asked what it makes of each event.
    ///
    /// For our own there are [`set_client_app`](Self::set_client_app) and
    /// [`set_manager_app`](Self::set_manager_app), and for closures
    /// [`on_client_event`](Self::on_client_event) and [`on_manager_event`](Self::on_manager_event).
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Instant;
    /// use realtime_sim::{Scripted, World};
    ///
    /// fn listen<S: Scripted>(world: &mut World, subject: S) {
    ///     let node = world.add(subject);
    ///     let print = |event: &S::Event, _: &mut S, now: Instant| println!("{now} {event:?}");
    ///     world.set_app::<S>(node, print);
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not an `S` of this world.
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
    /// When the node is not a client of this world.
    pub fn set_client_app(&mut self, node: NodeId, app: impl App<Client, Event>) {
        self.hosted_mut::<ClientSubject>(node).set_client_app(app);
    }

    /// Sets the application of a manager; see [`App`].
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// use realtime_proto::{Config, Instant};
    /// use realtime_sim::{App, World};
    ///
    /// struct Lamp;
    ///
    /// impl App<Manager, ManagerEvent> for Lamp {
    ///     fn handle_event(&mut self, event: &ManagerEvent, _: &mut Manager, _: Instant) {
    ///         match event {
    ///             ManagerEvent::Connected { .. } => println!("green"),
    ///             ManagerEvent::Disconnected { .. } => println!("red"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    ///
    /// let mut world = World::seed(7);
    /// let config = Config::builder("ws://server/socket").build()?;
    /// let ana = world.add_manager(ManagerConfig::new(config));
    /// world.set_manager_app(ana, Lamp);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not a manager of this world.
    pub fn set_manager_app(&mut self, node: NodeId, app: impl App<Manager, ManagerEvent>) {
        self.hosted_mut::<ManagerSubject>(node).set_manager_app(app);
    }

    /// The application of a node, to look at.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::{Client, Config, Event, Instant};
    /// use realtime_sim::{App, World};
    ///
    /// #[derive(Default)]
    /// struct Counter(u32);
    ///
    /// impl App<Client, Event> for Counter {
    ///     fn handle_event(&mut self, _: &Event, _: &mut Client, _: Instant) {
    ///         self.0 += 1;
    ///     }
    /// }
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.set_client_app(ana, Counter::default());
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// assert_eq!(world.app::<Counter>(ana).0, 1);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the application of the node is not an `A`, or it has none.
    #[must_use]
    pub fn app<A: 'static>(&self, node: NodeId) -> &A {
        let app = self.nodes[node.0].host.app().and_then(|app| app.downcast_ref());
        app.unwrap_or_else(|| {
            panic!("the application of {node} is not a {}", core::any::type_name::<A>())
        })
    }

    /// Asks every application whether all is as it should be, as a scenario does at its end.
    ///
    /// # Errors
    ///
    /// What the first of them says does not hold, and of which node.
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::{Client, Config, Event, Instant};
    /// # use realtime_sim::{App, World};
    /// struct Demanding;
    ///
    /// impl App<Client, Event> for Demanding {
    ///     fn handle_event(&mut self, _: &Event, _: &mut Client, _: Instant) {}
    ///     fn check(&self, client: &mut Client) -> Result<(), String> {
    ///         if client.is_connected() { Ok(()) } else { Err("we are offline".into()) }
    ///     }
    /// }
    ///
    /// let mut world = World::seed(7);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// world.set_client_app(ana, Demanding);
    /// assert_eq!(world.check_apps(), Err("node0: we are offline".into()));
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// assert_eq!(world.check_apps(), Ok(()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn check_apps(&mut self) -> Result<(), String> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.host.check().map_err(|what| format!("{}: {what}", NodeId(at)))?;
        }
        Ok(())
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
    /// When the node is not a client of this world.
    pub fn on_client_event(
        &mut self,
        node: NodeId,
        react: impl FnMut(&Event, &mut Client, Instant) + 'static,
    ) {
        self.set_client_app(node, react);
    }

    /// Sets what the application of a manager does when it is told something.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::manager::{Manager, ManagerConfig, ManagerEvent};
    /// use realtime_proto::{Config, Instant, Secret};
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(1);
    /// let config = Config::builder("ws://server/socket").build()?;
    /// let ana = world.add_manager(ManagerConfig::new(config));
    /// world.on_manager_event(ana, |event: &ManagerEvent, manager: &mut Manager, now: Instant| {
    ///     if matches!(event, ManagerEvent::TokenNeeded { .. }) {
    ///         manager.set_access_token(Some(Secret::from("a new one")), now);
    ///     }
    /// });
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not a manager of this world.
    pub fn on_manager_event(
        &mut self,
        node: NodeId,
        react: impl FnMut(&ManagerEvent, &mut Manager, Instant) + 'static,
    ) {
        self.set_manager_app(node, react);
    }

    /// Gives a client of any kind commands at this instant, and carries out what it asks for.
    ///
    /// # Examples
    ///
    /// [`add`](Self::add) has one.
    ///
    /// # Panics
    ///
    /// When the node is not an `S` of this world.
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
    /// When the node is not a client of this world.
    pub fn client<T>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut Client, Instant) -> T,
    ) -> T {
        self.with(node, |subject: &mut ClientSubject, now| command(&mut subject.client, now))
    }

    /// Gives a manager commands at this instant, and carries out what it asks for.
    ///
    /// # Examples
    ///
    /// [`add_manager`](Self::add_manager) has one.
    ///
    /// # Panics
    ///
    /// When the node is not a manager of this world.
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
    /// When the node is not a client of this world.
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
    /// When the node is not a client of this world.
    pub fn take_log(&mut self, node: NodeId) -> Vec<(Instant, Event)> {
        self.hosted_mut::<ClientSubject>(node).log.take()
    }

    /// All that a manager told, with the time it did.
    ///
    /// # Panics
    ///
    /// When the node is not a manager of this world.
    #[must_use]
    pub fn manager_log(&self, node: NodeId) -> &[(Instant, ManagerEvent)] {
        self.hosted::<ManagerSubject>(node).log.entries()
    }

    /// Every frame that a node sent: when, and in one line its refs, topic and event.
    ///
    /// # Panics
    ///
    /// When the node is of a larger world than this.
    #[must_use]
    pub fn sent(&self, node: NodeId) -> &[(Instant, String)] {
        &self.nodes[node.0].sent
    }
}

fn wrong_kind<S>(node: NodeId) -> ! {
    panic!("{node} is not a {}", core::any::type_name::<S>())
}

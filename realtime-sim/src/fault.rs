//! What can go wrong between a node and its server, on a machine, and with an application.

use core::time::Duration;

use realtime_proto::{CloseReason, ConnectionId};

use crate::NodeId;
use crate::link::{Carried, End, Parcel, Weather};
use crate::node::{Reading, Reception, Sleep};
use crate::subject::ManagerSubject;
use crate::trace::Who;
use crate::world::{Due, World};

/// Something that lasts, and is over at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lasting {
    /// One hold of one direction of a link. Several are counted.
    Hold { link: u64, to: End },
    /// One parting of a node from everything. Several are counted.
    Parting(NodeId),
    /// One kind of bad weather of a node.
    Weather(NodeId, Sky),
    /// A clock that stands still.
    StoppedClock(NodeId),
    /// An application that does not take events.
    Deafness(NodeId),
    /// A server that is away.
    Absence(usize),
    /// A connection whose turn to be drained comes.
    Draining { link: u64 },
    /// A database that is away.
    Outage,
}

/// A kind of bad weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sky {
    Delay,
    Jitter,
    SlowWriter,
    SlowReader,
    Split,
    Coalesce,
}

/// Who is told that a link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhoNotices {
    Both,
    Node,
    Server,
}

impl World {
    /// Breaks the connection of a node at once, without a close frame; both ends notice. What was
    /// on its way is lost.
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
    /// world.cut(ana);
    /// assert!(!world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn cut(&mut self, node: NodeId) {
        self.cut_where(node, |_| true);
    }

    /// Breaks one connection of a manager, as [`cut`](Self::cut).
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
    /// let config = ManagerConfig::new(Config::builder("ws://server/socket").build()?);
    /// let ana = world.add_manager(config.with_channels_per_connection_max(1));
    /// world.manager(ana, |manager, now| manager.connect(now));
    /// for id in ["1", "2"] {
    ///     let contact = Entity::new("contact", id);
    ///     let options = EntityOptions::default();
    ///     world.manager(ana, |manager, now| manager.subscribe_to_entity(&contact, &options, now))?;
    /// }
    /// world.run_for(Duration::from_secs(1));
    /// let live = |world: &mut World| {
    ///     world.manager(ana, |manager, _| manager.channel_stats().by_status.get("live").copied())
    /// };
    /// assert_eq!(live(&mut world), Some(2));
    /// let second = world.manager(ana, |manager, _| manager.connections()[1].id);
    /// world.cut_connection(ana, second);
    /// assert_eq!(live(&mut world), Some(1), "the other one does not notice");
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the node is not a manager.
    pub fn cut_connection(&mut self, node: NodeId, connection: ConnectionId) {
        let number = self.hosted_mut::<ManagerSubject>(node).subject.number(connection);
        self.cut_where(node, |of| of == number);
    }

    fn cut_where(&mut self, node: NodeId, which: impl Fn(u32) -> bool) {
        for id in self.links_of(node) {
            if self.links.get(&id).is_some_and(|link| which(link.connection)) {
                self.break_link(id, WhoNotices::Both);
            }
        }
    }

    /// Breaks a link; what was on its way is lost.
    pub(crate) fn break_link(&mut self, id: u64, who: WhoNotices) {
        if who != WhoNotices::Node {
            self.end_session(id);
        }
        let Some(mut link) = self.links.remove(&id) else { return };
        let (node, socket) = (link.node, link.socket);
        self.trace.write(self.now, Who::Node(node), "cut", socket, || format!("socket {socket}"));
        // Under another name, so that nothing that was on its way arrives.
        let (before, id) = (id, self.next_link);
        self.next_link += 1;
        if let Some(session) = link.session {
            self.sessions.insert((link.server, session), id);
        }
        self.oracle.on_renamed(before, id);
        if let Some((blocked, _)) = &mut self.nodes[node.0].write_blocked {
            if *blocked == before {
                *blocked = id;
            }
        }
        if who != WhoNotices::Both {
            // Whoever does not notice goes on sending into nothing.
            link.hold(End::Server);
            link.hold(End::Node);
        }
        self.links.insert(id, link);
        if who != WhoNotices::Server {
            let detail = "connection reset".into();
            let carried = Carried::Failed(CloseReason::Lost { detail });
            self.deliver(id, End::Node, Parcel { carried, left_at: self.now });
        }
    }

    /// Breaks the connections of all nodes, as [`cut`](Self::cut).
    ///
    /// # Examples
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use realtime_proto::Config;
    /// # use realtime_sim::World;
    ///
    /// let mut world = World::seed(7);
    /// let config = Config::builder("ws://server/socket").build()?;
    /// let all = [(); 3].map(|()| world.add_client(config.clone()));
    /// all.iter().for_each(|node| world.client(*node, |client, now| client.connect(now)));
    /// world.run_for(Duration::from_secs(1));
    /// world.cut_all();
    /// assert!(all.iter().all(|node| !world.client(*node, |client, _| client.is_connected())));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn cut_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.cut(NodeId(node)));
    }

    /// Lets the server close the connections of a node with a close frame.
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
    /// world.close(ana, 1012, "restart");
    /// world.run_for(Duration::from_millis(20));
    /// assert!(!world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn close(&mut self, node: NodeId, code: u16, reason: &'static str) {
        for id in self.links_of(node) {
            self.end_by_server_saying(id, code, reason);
        }
    }

    pub(crate) fn end_by_server(&mut self, link: u64, code: u16) {
        self.end_by_server_saying(link, code, "");
    }

    fn end_by_server_saying(&mut self, link: u64, code: u16, reason: &'static str) {
        let Some(link) = self.links.get(&link) else { return };
        let (server, Some(session)) = (link.server, link.session) else { return };
        self.backends[server].server.close_session(session, code, reason, self.now);
        self.flush_server(server);
    }

    /// Ends the next attempt of a node to open a socket as `reason` says; several calls are for
    /// several attempts.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::time::Duration;
    /// use realtime_proto::{CloseReason, Config, Event};
    /// use realtime_sim::World;
    ///
    /// let mut world = World::seed(1);
    /// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
    /// let retry_after = Some(Duration::from_secs(30));
    /// world.refuse_next(ana, CloseReason::Refused { status: 503, body: "".into(), retry_after });
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(29));
    /// assert!(matches!(world.log(ana), [(_, Event::Disconnected { .. })]));
    /// world.run_for(Duration::from_secs(2));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn refuse_next(&mut self, node: NodeId, reason: CloseReason) {
        self.receive_next(node, Reception::Fail(reason), 1);
    }

    pub(crate) fn receive_next(&mut self, node: NodeId, reception: Reception, times: u32) {
        let receptions = &mut self.nodes[node.0].receptions;
        for _ in 1..times {
            receptions.push_back(match &reception {
                Reception::Fail(reason) => Reception::Fail(reason.clone()),
                Reception::Late(span) => Reception::Late(*span),
                Reception::Silence => Reception::Silence,
                Reception::Flap => Reception::Flap,
            });
        }
        receptions.push_back(reception);
    }

    /// Stalls the connection a node has now: it stays open at both ends and nothing gets through,
    /// until [`heal`](Self::heal). New connections work.
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
    /// world.stall(ana);
    /// // Two heartbeats later the client knows, and has another connection.
    /// world.run_for(Duration::from_secs(70));
    /// assert!(world.log(ana).len() > 1);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn stall(&mut self, node: NodeId) {
        self.hold(node, &[End::Node, End::Server], None);
    }

    /// Holds directions of the connections a node has now, for a while or until it is healed.
    pub(crate) fn hold(&mut self, node: NodeId, ends: &[End], span: Option<Duration>) {
        self.trace.write(self.now, Who::Node(node), "stalls", ends.len(), String::new);
        for link in self.links_of(node) {
            for &to in ends {
                if let Some(held) = self.links.get_mut(&link) {
                    held.hold(to);
                }
                if let Some(span) = span {
                    self.plan(self.now + span, Due::Over(Lasting::Hold { link, to }));
                }
            }
        }
    }

    /// Parts a node from the server: nothing gets through and nobody is told, until
    /// [`heal`](Self::heal). Attempts to connect get no answer.
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
    /// world.partition(ana);
    /// world.run_for(Duration::from_secs(60));
    /// assert!(!world.client(ana, |client, _| client.is_connected()));
    /// world.heal(ana);
    /// world.run_for(Duration::from_secs(60));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn partition(&mut self, node: NodeId) {
        self.trace.write(self.now, Who::Node(node), "parted", (), String::new);
        self.nodes[node.0].partings += 1;
    }

    /// Lets messages through again; those that were held arrive now, in order, and refusals that
    /// nobody ran into are forgotten. Its clock, its weather and its application are well again.
    pub fn heal(&mut self, node: NodeId) {
        let now = self.now;
        self.trace.write(now, Who::Node(node), "healed", (), String::new);
        let healed = &mut self.nodes[node.0];
        healed.partings = 0;
        healed.receptions.clear();
        healed.weather = Weather::default();
        healed.clock.go_on(now);
        healed.reading = Reading::Reads;
        for id in self.links_of(node) {
            if let Some(link) = self.links.get_mut(&id) {
                link.release_all();
            }
            self.deliver_released(id);
        }
        self.flush(node);
        self.complain();
    }

    /// Puts a node to sleep for `span`: its clock goes on, it does nothing, and what arrives waits.
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
    /// world.suspend(ana, Duration::from_secs(3_600));
    /// assert!(world.is_asleep(ana));
    /// world.run_for(Duration::from_secs(3_700));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    pub fn suspend(&mut self, node: NodeId, span: Duration) {
        self.put_to_sleep(node, Sleep::Suspended, span);
    }

    /// Puts a node to sleep, or lets it sleep until then if it would wake earlier.
    pub(crate) fn put_to_sleep(&mut self, node: NodeId, sleep: Sleep, span: Duration) {
        let until = self.now + span;
        let sleeper = &mut self.nodes[node.0];
        let was_awake = sleeper.sleep == Sleep::Awake;
        // A machine that sleeps looks at its timers first, whether or not its driver hung before.
        if was_awake || sleep == Sleep::Suspended {
            sleeper.sleep = sleep;
        }
        if !was_awake && sleeper.sleeps_until >= until {
            return;
        }
        sleeper.sleeps_until = until;
        if was_awake {
            self.oracle.on_sleeps(node, self.now);
        }
        self.trace.write(self.now, Who::Node(node), "sleeps", span, || format!("{span:?}"));
        self.plan(until, Due::Wake(node));
        self.refresh_deadline(node);
    }

    /// Whether a node sleeps.
    #[must_use]
    pub fn is_asleep(&self, node: NodeId) -> bool {
        self.nodes[node.0].sleep != Sleep::Awake
    }

    /// Sends the next connections of a node to another server, counted from 0.
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
    /// world.client(ana, |client, now| client.connect(now));
    /// world.run_for(Duration::from_secs(1));
    /// world.reroute(ana, 1);
    /// world.cut(ana);
    /// world.run_for(Duration::from_secs(10));
    /// assert!(world.client(ana, |client, _| client.is_connected()));
    /// assert_eq!(world.server(|first, _| first.stats().sessions), 0);
    /// # Ok::<(), realtime_proto::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When there is no such server.
    pub fn reroute(&mut self, node: NodeId, server: usize) {
        assert!(server < self.backends.len(), "there is no server {server}");
        self.nodes[node.0].server = server;
    }

    /// Lets something last for `span` at least.
    pub(crate) fn last(&mut self, lasting: Lasting, span: Duration) {
        let until = self.now + span;
        let end = self.ends.entry(lasting).or_insert(until);
        *end = until.max(*end);
        self.plan(until, Due::Over(lasting));
    }

    /// Lets a server end a connection so much later, unless its turn comes earlier.
    pub(crate) fn drain_after(&mut self, link: u64, span: Duration) {
        let (turn, draining) = (self.now + span, Lasting::Draining { link });
        if self.ends.get(&draining).is_none_or(|before| turn < *before) {
            self.ends.insert(draining, turn);
            self.plan(turn, Due::Over(draining));
        }
    }

    /// Something that lasted may be over.
    pub(crate) fn on_over(&mut self, lasting: Lasting) {
        let now = self.now;
        match lasting {
            Lasting::Hold { link, to } => {
                if let Some(held) = self.links.get_mut(&link) {
                    held.release(to);
                }
                return self.deliver_released(link);
            }
            Lasting::Parting(node) => {
                let partings = &mut self.nodes[node.0].partings;
                *partings = partings.saturating_sub(1);
                for id in self.links_of(node) {
                    self.deliver_released(id);
                }
                return;
            }
            Lasting::Weather(..)
            | Lasting::StoppedClock(_)
            | Lasting::Deafness(_)
            | Lasting::Absence(_)
            | Lasting::Draining { .. }
            | Lasting::Outage => {}
        }
        // It goes on when it began once more, and was forgotten when the world was healed.
        if self.ends.get(&lasting).is_none_or(|end| *end > now) {
            return;
        }
        self.ends.remove(&lasting);
        match lasting {
            Lasting::Hold { .. } | Lasting::Parting(_) => {}
            Lasting::Weather(node, sky) => self.nodes[node.0].weather.clear(sky),
            Lasting::StoppedClock(node) => {
                self.nodes[node.0].clock.go_on(now);
                self.flush(node);
            }
            Lasting::Deafness(node) => {
                self.nodes[node.0].reading = Reading::Reads;
                self.flush(node);
            }
            Lasting::Absence(server) => self.backends[server].away = None,
            Lasting::Draining { link } => self.end_by_server(link, 1001),
            Lasting::Outage => self.bring_database_back(),
        }
    }

    /// The database that all servers share is away for a while.
    pub(crate) fn take_database_away(&mut self, span: Duration) {
        self.is_database_away = true;
        for server in 0..self.backends.len() {
            self.backends[server].server.stop_database(self.now);
            self.flush_server(server);
        }
        self.last(Lasting::Outage, span);
    }

    /// The database is back, if it was away.
    pub(crate) fn bring_database_back(&mut self) {
        if !core::mem::take(&mut self.is_database_away) {
            return;
        }
        for server in 0..self.backends.len() {
            self.backends[server].server.start_database(self.now);
            self.flush_server(server);
        }
    }

    /// A process died: what was its end of every link is nobody's.
    pub(crate) fn forget_links_of(&mut self, node: NodeId) {
        for id in self.links_of(node) {
            if let Some(link) = self.links.get_mut(&id) {
                (link.wanted, link.open) = (false, false);
                if link.is_over() {
                    self.links.remove(&id);
                }
            }
        }
    }

    pub(crate) fn links_of(&self, node: NodeId) -> Vec<u64> {
        let links = self.links.iter().filter(|(_, link)| link.node == node);
        links.map(|(id, _)| *id).collect()
    }
}

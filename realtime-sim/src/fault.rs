//! What can go wrong between a node and the server.

use core::time::Duration;

use realtime_proto::{CloseReason, ConnectionId, SocketId};

use crate::NodeId;
use crate::link::{Carried, End};
use crate::world::{Due, World};

impl World {
    /// Breaks the connection of a node at once, without a close frame; both ends notice. What was
    /// on its way is lost.
    pub fn cut(&mut self, node: NodeId) {
        self.cut_where(node, |_| true);
    }

    /// Breaks one connection of a manager, as [`cut`](Self::cut).
    pub fn cut_connection(&mut self, node: NodeId, connection: ConnectionId) {
        self.cut_where(node, |socket| socket.connection() == connection);
    }

    fn cut_where(&mut self, node: NodeId, which: impl Fn(SocketId) -> bool) {
        let cut: Vec<u64> = self.links_of(node).collect();
        for id in cut {
            if self.links.get(&id).is_none_or(|link| !which(link.socket)) {
                continue;
            }
            let Some(mut link) = self.links.remove(&id) else { continue };
            self.trace.write(self.now, &node, "cut", &link.socket.to_string(), &[]);
            if let Some(session) = link.session.take() {
                self.sessions.remove(&session);
                self.server.handle_close(session, self.now);
                self.flush_server();
            }
            // Under another name, so that nothing that was on its way arrives.
            let id = self.next_link;
            self.next_link += 1;
            self.links.insert(id, link);
            let detail = "connection reset".into();
            self.deliver(id, End::Node, Carried::Failed(CloseReason::Lost { detail }));
        }
    }

    /// Breaks the connections of all nodes, as [`cut`](Self::cut).
    pub fn cut_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.cut(NodeId(node)));
    }

    /// Lets the server close the connections of a node with a close frame.
    pub fn close(&mut self, node: NodeId, code: u16, reason: &'static str) {
        let sessions: Vec<_> =
            self.links_of(node).filter_map(|id| self.links.get(&id)?.session).collect();
        for session in sessions {
            self.server.close_session(session, code, reason, self.now);
        }
        self.flush_server();
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
        self.nodes[node.0].refusals.push_back(reason);
    }

    /// Stalls the connection a node has now: it stays open at both ends and nothing gets through,
    /// until [`heal`](Self::heal). New connections work.
    pub fn stall(&mut self, node: NodeId) {
        self.trace.write(self.now, &node, "stalls", "", &[]);
        for link in self.links.values_mut().filter(|link| link.node == node) {
            link.stalled = true;
        }
    }

    /// Parts a node from the server: nothing gets through and nobody is told, until
    /// [`heal`](Self::heal). Attempts to connect get no answer.
    pub fn partition(&mut self, node: NodeId) {
        self.trace.write(self.now, &node, "parted", "", &[]);
        self.nodes[node.0].reachable = false;
    }

    /// Lets messages through again; those that were held arrive now, in order, and refusals that
    /// nobody ran into are forgotten.
    pub fn heal(&mut self, node: NodeId) {
        self.trace.write(self.now, &node, "healed", "", &[]);
        self.nodes[node.0].reachable = true;
        self.nodes[node.0].refusals.clear();
        let links: Vec<u64> = self.links_of(node).collect();
        for id in links {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.stalled = false;
            for (to, carried) in link.release() {
                self.deliver(id, to, carried);
            }
        }
    }

    /// Puts a node to sleep for `span`: its clock goes on, it does nothing, and what arrives waits.
    pub fn suspend(&mut self, node: NodeId, span: Duration) {
        if !self.nodes[node.0].asleep {
            self.trace.write(self.now, &node, "sleeps", &format!("{span:?}"), &[]);
            self.nodes[node.0].asleep = true;
            self.agenda.plan(self.now + span, Due::Wake(node));
        }
    }

    /// Whether a node sleeps.
    #[must_use]
    pub fn is_asleep(&self, node: NodeId) -> bool {
        self.nodes[node.0].asleep
    }

    fn links_of(&self, node: NodeId) -> impl Iterator<Item = u64> {
        let links = self.links.iter().filter(move |(_, link)| link.node == node);
        links.map(|(id, _)| *id)
    }
}

//! One node: a machine, the network it sits behind, and whether it is awake.

use core::fmt;
use std::collections::VecDeque;

use realtime_proto::server::ServerTransmit;
use realtime_proto::wire::Sender;
use realtime_proto::{CloseReason, Instant, SocketId, Transmit};

use crate::link::{Carried, End, Link, Network};
use crate::machine::{Driven, Machine};
use crate::trace::describe_frame;
use crate::world::{Due, World};

/// A client or a manager of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) driven: Driven,
    pub(crate) network: Network,
    /// Whether messages get through.
    pub(crate) reachable: bool,
    /// While it sleeps, what arrives on its links waits.
    pub(crate) asleep: bool,
    pub(crate) inbox: VecDeque<(u64, Carried)>,
    /// How the next attempts to open a socket end.
    pub(crate) refusals: VecDeque<CloseReason>,
    pub(crate) sent: Vec<(Instant, String)>,
}

/// More than this waits for no sleeping machine.
const INBOX_MAX: usize = 100_000;
/// More frames than this come from no scenario.
const SENT_MAX: usize = 1_000_000;

impl Node {
    pub(crate) const fn new(driven: Driven, network: Network) -> Self {
        Self {
            driven,
            network,
            reachable: true,
            asleep: false,
            inbox: VecDeque::new(),
            refusals: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Its own deadline, which it misses while it sleeps.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        if self.asleep { None } else { self.driven.poll_timeout() }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.timeout().is_some_and(|at| at <= now)
    }
}

impl World {
    /// Something got to one end of a link, unless the link is stalled.
    pub(crate) fn on_arrival(&mut self, id: u64, to: End, carried: Carried) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if self.nodes[link.node.0].reachable && !link.stalled {
            self.deliver(id, to, carried);
        } else {
            link.hold(to, carried);
        }
    }

    pub(crate) fn deliver(&mut self, id: u64, to: End, carried: Carried) {
        match to {
            End::Node => self.deliver_to_node(id, carried),
            End::Server => self.deliver_to_server(id, carried),
        }
        if self.links.get(&id).is_some_and(Link::is_over) {
            self.links.remove(&id);
        }
    }

    fn deliver_to_server(&mut self, id: u64, carried: Carried) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        match (carried, link.session) {
            (Carried::Upgrade { target }, _) if link.wanted => {
                let refusal = self.nodes[link.node.0].refusals.pop_front();
                let accepted = refusal.map_or_else(
                    || {
                        self.server.accept(&target, now).map_err(|refusal| CloseReason::Refused {
                            status: refusal.status,
                            body: refusal.body.to_string(),
                            retry_after: None,
                        })
                    },
                    Err,
                );
                match accepted {
                    Ok(session) => {
                        link.session = Some(session);
                        self.sessions.insert(session, id);
                        self.send(id, End::Node, Carried::Opened);
                    }
                    Err(reason) => self.send(id, End::Node, Carried::Failed(reason)),
                }
            }
            (Carried::Frame(frame), Some(session)) => self.server.handle_frame(session, frame, now),
            (Carried::Ended, Some(session)) => {
                link.session = None;
                self.sessions.remove(&session);
                self.server.handle_close(session, now);
            }
            // The attempt was given up, or the session is gone.
            _ => {}
        }
        self.flush_server();
    }

    /// Tells a node what arrived, as soon as it is awake.
    fn deliver_to_node(&mut self, id: u64, carried: Carried) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (name, socket) = (link.node, link.socket);
        let node = &mut self.nodes[name.0];
        if !link.wanted {
            return;
        }
        if node.asleep {
            assert!(node.inbox.len() < INBOX_MAX, "{INBOX_MAX} messages wait for {name} to wake");
            node.inbox.push_back((id, carried));
            return;
        }
        match carried {
            Carried::Opened => {
                link.open = true;
                node.driven.handle_open(socket, now);
            }
            Carried::Frame(frame) => {
                let line = describe_frame(&frame, Sender::Server);
                self.trace.write(now, &name, "receives", &line, frame.as_bytes());
                node.driven.handle_frame(socket, frame, now);
            }
            Carried::Failed(reason) => {
                (link.wanted, link.open) = (false, false);
                node.driven.handle_close(socket, reason, now);
            }
            Carried::Upgrade { .. } | Carried::Ended => unreachable!("those go to the server"),
        }
        self.flush(name);
    }

    /// A node that slept does first what its clock asks for, then reads what came meanwhile.
    pub(crate) fn wake(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        node.asleep = false;
        let inbox = core::mem::take(&mut node.inbox);
        self.trace.write(self.now, &id, "wakes", "", &[]);
        if self.nodes[id.0].is_due(self.now) {
            self.let_time_out(id);
        }
        for (link, carried) in inbox {
            self.deliver(link, End::Node, carried);
        }
    }

    /// Carries out what a node asks for, and writes down what it tells.
    pub(crate) fn flush(&mut self, id: NodeId) {
        let now = self.now;
        loop {
            let driven = &mut self.nodes[id.0].driven;
            if let Some(transmit) = driven.poll_transmit() {
                self.carry_out(id, transmit);
            } else if let Some(line) = driven.log_event(now) {
                self.trace.write(now, &id, "tells", &line, &[]);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, node: NodeId, transmit: Transmit) {
        let now = self.now;
        match transmit {
            Transmit::Open { socket, url } => {
                let second = self.links.values().any(|link| {
                    link.node == node
                        && link.wanted
                        && link.socket.connection() == socket.connection()
                });
                assert!(!second, "{node} opens {socket} while it has another");
                self.trace.write(now, &node, "opens", &socket.to_string(), &[]);
                let id = self.next_link;
                self.next_link += 1;
                let seed = self.seed.child("link", id);
                let network = self.nodes[node.0].network;
                self.links.insert(id, Link::new(node, socket, network, seed));
                let target = path_and_query(url.expose()).into();
                self.send(id, End::Server, Carried::Upgrade { target });
            }
            Transmit::Frame { socket, frame } => {
                let line = describe_frame(&frame, Sender::Client);
                self.trace.write(now, &node, "sends", &line, frame.as_bytes());
                let link = self.link_of(node, socket).filter(|(_, link)| link.open);
                let Some((id, _)) = link else {
                    panic!("{node} of seed {} sends on {socket}, which is not open", self.seed);
                };
                let sent = &mut self.nodes[node.0].sent;
                assert!(sent.len() < SENT_MAX, "{node} sent {SENT_MAX} frames");
                sent.push((now, line));
                self.send(id, End::Server, Carried::Frame(frame));
            }
            Transmit::Close { socket, code, reason } => {
                let line = format!("{socket}: {code} {reason}");
                self.trace.write(now, &node, "closes", &line, &[]);
                if let Some((id, link)) = self.link_of(node, socket) {
                    (link.wanted, link.open) = (false, false);
                    self.send(id, End::Server, Carried::Ended);
                }
            }
            other => panic!("{node} asks for something unknown: {other:?}"),
        }
    }

    fn link_of(&mut self, node: NodeId, socket: SocketId) -> Option<(u64, &mut Link)> {
        let mut links = self.links.iter_mut();
        let found =
            links.find(|(_, link)| link.node == node && link.socket == socket && link.wanted)?;
        Some((*found.0, found.1))
    }

    pub(crate) fn send(&mut self, id: u64, to: End, carried: Carried) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(&id) {
            let at = link.arrival(to, now);
            self.agenda.plan(at, Due::Arrival { link: id, to, carried });
        }
    }

    /// Carries out what the server asks for, and writes down what it tells.
    pub(crate) fn flush_server(&mut self) {
        let now = self.now;
        loop {
            if let Some(transmit) = self.server.poll_transmit() {
                match transmit {
                    ServerTransmit::Frame { session, frame } => {
                        if let Some(&id) = self.sessions.get(&session) {
                            self.send(id, End::Node, Carried::Frame(frame));
                        }
                    }
                    ServerTransmit::Close { session, code, reason } => {
                        let Some(id) = self.sessions.remove(&session) else { continue };
                        if let Some(link) = self.links.get_mut(&id) {
                            link.session = None;
                        }
                        let reason = CloseReason::Closed { code, reason: reason.into() };
                        self.send(id, End::Node, Carried::Failed(reason));
                    }
                    ServerTransmit::Cut { session } => {
                        let Some(id) = self.sessions.remove(&session) else { continue };
                        if let Some(link) = self.links.get_mut(&id) {
                            link.session = None;
                        }
                        let detail = "the server cut the connection".into();
                        self.send(id, End::Node, Carried::Failed(CloseReason::Lost { detail }));
                    }
                    other => panic!("the server asks for something unknown: {other:?}"),
                }
            } else if let Some(event) = self.server.poll_event() {
                assert!(self.server_log.len() < SENT_MAX, "the server told {SENT_MAX} events");
                self.trace.write(now, &"server", "tells", &format!("{event:?}"), &[]);
                self.server_log.push((now, event));
            } else {
                return;
            }
        }
    }
}

/// What an HTTP request asks for, of a URL.
fn path_and_query(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    behind_scheme.find('/').map_or("/", |at| &behind_scheme[at..])
}

//! What passes between nodes and servers: frames that leave, travel, arrive, and are taken.

use core::time::Duration;

use realtime_proto::server::SessionId;
use realtime_proto::wire::Sender;
use realtime_proto::{CloseReason, Instant};

use crate::NodeId;
use crate::app::Deed;
use crate::backend::Out;
use crate::host::Asked;
use crate::host::{Log, Shown};
use crate::link::{Carried, End, Link, Parcel};
use crate::node::{Reception, Sleep};
use crate::oracle::At;
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, Request, Told};
use crate::trace::{Who, describe_frame};
use crate::world::{Due, World};

/// More than this waits for no sleeping machine.
const INBOX_MAX: usize = 1_000_000;
/// More frames than this come from no scenario.
const SENT_MAX: usize = 1_000_000;
/// A write that is stuck for so long ends the connection, as in the adapter.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

impl World {
    /// Something got to one end of a link, unless the link is held.
    pub(crate) fn on_arrival(&mut self, id: u64, to: End, parcel: Parcel) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_full(to) {
            self.flood(|| "too many messages wait on a link that is held".into());
        } else if self.nodes[link.node.0].partings > 0 {
            link.wait(to, parcel);
        } else if let Some(parcel) = link.take(to, parcel) {
            self.deliver(id, to, parcel);
        }
    }

    /// Delivers what a link held and need not hold any more.
    pub(crate) fn deliver_released(&mut self, id: u64) {
        for to in [End::Server, End::Node] {
            while let Some(link) = self.links.get_mut(&id) {
                if self.nodes[link.node.0].partings > 0 {
                    break;
                }
                let Some(parcel) = link.next_released(to) else { break };
                self.deliver(id, to, parcel);
            }
        }
    }

    pub(crate) fn deliver(&mut self, id: u64, to: End, parcel: Parcel) {
        match to {
            End::Node => self.deliver_to_node(id, parcel),
            End::Server => self.deliver_to_server(id, parcel),
        }
        if self.links.get(&id).is_some_and(Link::is_over) {
            self.links.remove(&id);
        }
    }

    fn deliver_to_server(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (node, server) = (link.node, link.server);
        match (parcel.carried, link.session) {
            (Carried::Upgrade { target }, _) if link.wanted => self.receive(id, &target),
            (Carried::Frame(frame), Some(session)) => {
                let from = Some((Who::Node(node), parcel.left_at));
                self.trace.write_from(
                    now,
                    Who::Server(server),
                    "receives",
                    from,
                    frame.as_bytes(),
                    || describe_frame(&frame, Sender::Client),
                );
                self.tally.to_servers += 1;
                self.oracle.on_server_receives(At { server, session }, node, &frame, now);
                let relayed = self.backends[server].server.broadcast_count();
                self.backends[server].handle_frame(session, frame, now);
                let relays = self.backends[server].server.broadcast_count() > relayed;
                self.oracle.on_server_took(relays, &self.nodes, now);
            }
            (Carried::Ended, Some(session)) => {
                link.session = None;
                self.sessions.remove(&(server, session));
                self.backends[server].handle_close(session, now);
            }
            // The attempt was given up, or the session is gone.
            _ => {}
        }
        self.flush_server(server);
        self.unblock(node);
    }

    /// A server is asked for a connection.
    fn receive(&mut self, id: u64, target: &str) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (node, server) = (link.node, link.server);
        let mut late = Duration::ZERO;
        let mut flaps = false;
        match self.nodes[node.0].receptions.pop_front() {
            Some(Reception::Fail(reason)) => {
                return self.send(id, End::Node, Carried::Failed(reason));
            }
            Some(Reception::Silence) => return,
            Some(Reception::Late(span)) => late = span,
            Some(Reception::Flap) => flaps = true,
            None => {}
        }
        match self.backends[server].accept(target, node, now) {
            Ok(session) => {
                link.session = Some(session);
                self.sessions.insert((server, session), id);
                self.oracle.on_accepted(At { server, session }, node);
                self.send_late(id, End::Node, Carried::Opened, late);
                if flaps {
                    self.end_session(id);
                    let detail = "connection reset".into();
                    self.send(id, End::Node, Carried::Failed(CloseReason::Lost { detail }));
                }
            }
            Err(reason) => self.send_late(id, End::Node, Carried::Failed(reason), late),
        }
    }

    /// Ends a link's session, and tells its server.
    pub(crate) fn end_session(&mut self, id: u64) {
        if let Some((server, session)) = self.take_session(id) {
            self.backends[server].handle_close(session, self.now);
            self.flush_server(server);
        }
    }

    /// Takes from a link its session, which its server has ended or is to be told of.
    fn take_session(&mut self, id: u64) -> Option<(usize, SessionId)> {
        let link = self.links.get_mut(&id)?;
        let (server, session) = (link.server, link.session.take()?);
        self.sessions.remove(&(server, session));
        if link.is_over() {
            self.links.remove(&id);
        }
        Some((server, session))
    }

    /// Tells a node what arrived, as soon as it listens.
    fn deliver_to_node(&mut self, id: u64, parcel: Parcel) {
        let Some(link) = self.links.get(&id) else { return };
        let name = link.node;
        if !link.wanted {
            return;
        }
        let node = &mut self.nodes[name.0];
        if !node.inbox.is_empty() || !node.listens() {
            if node.inbox.len() < INBOX_MAX {
                node.inbox.push_back((id, parcel));
            } else {
                self.flood(|| format!("too many messages wait for {name}, which does not read"));
            }
            return;
        }
        self.tell_node(id, parcel);
        self.flush(name);
    }

    fn tell_node(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        if !link.wanted {
            return;
        }
        let (name, socket, server) = (link.node, link.socket, link.server);
        let node = &mut self.nodes[name.0];
        let clock = node.tick(now);
        let from = Some((Who::Server(server), parcel.left_at));
        match parcel.carried {
            Carried::Opened => {
                link.open = true;
                self.trace.write_from(now, Who::Node(name), "opened", from, socket, || {
                    format!("socket {socket}")
                });
                self.oracle.on_opened(id, clock);
                node.host.handle_open(socket, clock);
            }
            Carried::Frame(frame) => {
                self.trace.write_from(
                    now,
                    Who::Node(name),
                    "receives",
                    from,
                    frame.as_bytes(),
                    || describe_frame(&frame, Sender::Server),
                );
                self.tally.to_nodes += 1;
                if node.feed(socket, &frame, clock) {
                    self.oracle.on_node_receives(name, (id, server), &frame, (clock, now));
                } else {
                    self.oracle.on_node_drops(name, clock);
                }
            }
            Carried::Failed(reason) => {
                (link.wanted, link.open) = (false, false);
                self.trace.write_from(now, Who::Node(name), "lost", from, socket, || {
                    format!("socket {socket}: {reason:?}")
                });
                if let CloseReason::Refused { status, retry_after: Some(span), .. } = &reason {
                    self.oracle.on_told_to_wait(id, *status, clock + *span);
                }
                self.oracle.on_socket_gone(id, now);
                node.host.handle_close(socket, reason, clock);
                if node.write_blocked.is_some_and(|(blocked, _)| blocked == id) {
                    node.write_blocked = None;
                }
            }
            Carried::Upgrade { .. } | Carried::Ended => unreachable!("those go to the server"),
        }
    }

    /// A node that slept goes on. One that was suspended does first what its clock asks for, one
    /// whose driver hung reads first.
    pub(crate) fn wake(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        if node.sleep == Sleep::Awake || node.sleeps_until > self.now {
            return;
        }
        let slept = core::mem::take(&mut node.sleep);
        self.trace.write(self.now, Who::Node(id), "wakes", (), String::new);
        self.oracle.on_woke(id, slept == Sleep::Suspended, self.now);
        let due = node.next_deadline(self.now).is_some_and(|at| at <= self.now);
        if due && slept == Sleep::Suspended {
            self.let_time_out(id);
        }
        self.flush(id);
    }

    /// Carries out what a node asks for, tells its application, and lets it read on.
    pub(crate) fn flush(&mut self, id: NodeId) {
        loop {
            self.drain(id);
            let node = &mut self.nodes[id.0];
            if node.inbox.is_empty() || !node.listens() {
                break;
            }
            let Some((link, parcel)) = node.inbox.pop_front() else { break };
            self.tell_node(link, parcel);
            if self.links.get(&link).is_some_and(Link::is_over) {
                self.links.remove(&link);
            }
        }
        self.refresh_deadline(id);
    }

    /// Puts a node's deadline where it belongs in the order of all.
    pub(crate) fn refresh_deadline(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        let deadline = node.next_deadline(self.now);
        if deadline != node.deadline {
            if let Some(before) = node.deadline {
                self.deadlines.remove(&(before, id));
            }
            node.deadline = deadline;
            if let Some(at) = deadline {
                self.deadlines.insert((at, id));
            }
        }
    }

    fn drain(&mut self, id: NodeId) {
        let now = self.now;
        loop {
            let node = &mut self.nodes[id.0];
            if node.sleep != Sleep::Awake {
                return self.oracle.on_waits(id, node.clock.read(now));
            }
            let stuck = node.write_blocked.is_some();
            if let Some(asked) = if stuck { None } else { node.host.poll_request() } {
                self.carry_out(id, asked);
                continue;
            }
            if !node.reads() || stuck {
                return self.oracle.on_waits(id, node.clock.read(now));
            }
            let (clock, latest) = (node.clock.read(now), node.time(now).1);
            let mut told = core::mem::take(&mut self.told);
            let mut shown = Shown::default();
            let is_read = self.trace.is_read() || self.oracle.reads_events;
            let wanted = is_read.then_some(&mut shown);
            let deeds = node.host.take_event(clock, &mut told, wanted);
            if deeds.is_some() {
                self.tally.told += 1;
                self.oracle.on_shown(id, "an event", &shown.debug, now);
                self.oracle.on_shown(id, "a line of the trace", &shown.line, now);
                self.trace.write(now, Who::Node(id), "tells", &told, || {
                    match told.iter().find_map(topic_of).and_then(|it| self.observer.name(it)) {
                        Some(topic) => format!("{} of {topic}", shown.line),
                        None => shown.line,
                    }
                });
                for told in &told {
                    self.oracle.on_told(id, told, (clock, latest), now);
                    self.observer.on_told(id, told);
                }
                if let Some(record) = self.trace.last() {
                    record.topic = told.iter().find_map(topic_of);
                }
                self.keep_changes();
                if self.listens {
                    self.overheard.extend(told.drain(..).map(|told| (id, told)));
                }
            }
            told.clear();
            self.told = told;
            let Some(deeds) = deeds else { return self.oracle.on_drained(id, clock, now) };
            if self.listens && self.nodes[id.0].host.app().is_some() {
                self.on_app(id, deeds);
            }
        }
    }

    /// An application was told something, and did this of its own accord.
    fn on_app(&mut self, id: NodeId, deeds: Vec<Deed>) {
        self.oracle.on_app(id, &deeds, self.now);
        for deed in deeds {
            self.observer.on_command(id, &deed.command());
            self.keep_changes();
            self.done.push((id, deed));
        }
    }

    /// Keeps what is seen otherwise now.
    pub(crate) fn keep_changes(&mut self) {
        for (node, view) in self.observer.take_changes() {
            self.trace.keep_change(node, view);
        }
    }

    fn carry_out(&mut self, node: NodeId, asked: Asked) {
        let now = self.now;
        match asked.request {
            Request::Open { socket, url } => {
                let second = self.links.values().any(|link| {
                    link.node == node && link.wanted && link.connection == asked.connection
                });
                if second {
                    self.oracle.find("sockets", now, || {
                        format!("{node} opens a socket while its connection has another")
                    });
                }
                self.trace
                    .write(now, Who::Node(node), "opens", socket, || format!("socket {socket}"));
                let id = self.next_link;
                self.next_link += 1;
                let seed = self.seed.child("link", id);
                let network = self.nodes[node.0].network;
                let server = self.nodes[node.0].server;
                // For a client time does not go back.
                let latest = self.nodes[node.0].time(now).1;
                self.oracle.on_attempt((node, asked.connection), (id, server), now);
                self.oracle.on_connects((node, asked.connection), id, latest, now);
                self.observer.on_attempt(node, asked.connection);
                self.keep_changes();
                let link = Link::new(node, (socket, asked.connection), server, network, seed);
                self.links.insert(id, link);
                let target = path_and_query(&url).into();
                self.send(id, End::Server, Carried::Upgrade { target });
            }
            Request::Frame { socket, frame } => {
                self.trace.write(now, Who::Node(node), "sends", frame.as_bytes(), || {
                    describe_frame(&frame, Sender::Client)
                });
                let link = self.link_of(node, socket).filter(|(_, link)| link.open);
                let link = link.map(|(id, link)| (id, link.server));
                if let (Some(record), Some((_, server))) = (self.trace.last(), link) {
                    record.to = Some(Who::Server(server));
                }
                let Some((id, _)) = link else {
                    return self
                        .oracle
                        .find("G4", now, || format!("{node} sends on a socket that is not open"));
                };
                let clock = self.nodes[node.0].clock.read(now);
                self.oracle.on_node_sends((node, id), &frame, clock, now);
                if self.listens {
                    self.observer.on_sends(node, &frame);
                }
                self.keep_changes();
                if self.keeps_logs {
                    let sent = &mut self.nodes[node.0].sent;
                    assert!(sent.len() < SENT_MAX, "{node} sent {SENT_MAX} frames");
                    sent.push((now, describe_frame(&frame, Sender::Client)));
                }
                self.send(id, End::Server, Carried::Frame(frame));
                self.block(node, id);
            }
            Request::Close { socket, code, reason } => {
                self.trace.write(now, Who::Node(node), "closes", (socket, code), || {
                    format!("socket {socket}: {code} {reason}")
                });
                if let Some((id, link)) = self.link_of(node, socket) {
                    (link.wanted, link.open) = (false, false);
                    self.oracle.on_socket_gone(id, now);
                    self.send(id, End::Server, Carried::Ended);
                }
            }
        }
    }

    /// How much may be under way to a server before a write blocks: little in scenarios, where slow
    /// links are to be felt, and as much as anybody needs in worlds that are made by hand.
    const fn write_buffer_bytes(&self) -> usize {
        if self.keeps_findings { 2 << 10 } else { 256 << 10 }
    }

    /// Keeps a driver in its write while too much is under way.
    fn block(&mut self, node: NodeId, id: u64) {
        let now = self.now;
        let buffer_bytes = self.write_buffer_bytes();
        if self.links.get(&id).is_some_and(|link| link.blocks_writes(buffer_bytes)) {
            self.nodes[node.0].write_blocked = Some((id, now));
            self.plan(now + WRITE_TIMEOUT, Due::WriteTimeout { node, since: now });
        }
    }

    /// Lets a driver go on whose write went through.
    fn unblock(&mut self, node: NodeId) {
        let Some((id, _)) = self.nodes[node.0].write_blocked else { return };
        let buffer_bytes = self.write_buffer_bytes();
        if self.links.get(&id).is_none_or(|link| !link.blocks_writes(buffer_bytes)) {
            self.nodes[node.0].write_blocked = None;
            self.flush(node);
        }
    }

    /// A write did not go through in time: the adapter ends the connection.
    pub(crate) fn on_write_timeout(&mut self, node: NodeId, since: Instant) {
        let blocked = self.nodes[node.0].write_blocked;
        let Some((link, _)) = blocked.filter(|(_, of)| *of == since) else { return };
        self.nodes[node.0].write_blocked = None;
        self.send(link, End::Server, Carried::Ended);
        let carried = Carried::Failed(CloseReason::WriteTimeout);
        let parcel = Parcel { carried, left_at: self.now };
        if self.nodes[node.0].sleep == Sleep::Awake {
            // It is the driver's own, and does not wait behind what the driver does not read.
            self.tell_node(link, parcel);
        } else {
            self.deliver(link, End::Node, parcel);
        }
        self.flush(node);
    }

    fn link_of(&mut self, node: NodeId, socket: u32) -> Option<(u64, &mut Link)> {
        let mut links = self.links.iter_mut();
        let found =
            links.find(|(_, link)| link.node == node && link.socket == socket && link.wanted)?;
        Some((*found.0, found.1))
    }

    pub(crate) fn send(&mut self, id: u64, to: End, carried: Carried) {
        self.send_late(id, to, carried, Duration::ZERO);
    }

    fn send_late(&mut self, id: u64, to: End, carried: Carried, late: Duration) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(&id) {
            let weather = &self.nodes[link.node.0].weather;
            let at = link.arrival(to, &carried, weather, now + late);
            let parcel = Parcel { carried, left_at: now };
            self.plan(at, Due::Arrival { link: id, to, parcel });
        }
    }

    /// Carries out what a server asks for, and writes down what it tells.
    pub(crate) fn flush_server(&mut self, server: usize) {
        let now = self.now;
        self.backends[server].spoken = self.oracle.awaits_words().then(Vec::new);
        while let Some(out) = self.backends[server].poll(now) {
            match out {
                Out::Frame { session, frame } => {
                    if let Some(&id) = self.sessions.get(&(server, session)) {
                        self.trace.write(
                            now,
                            Who::Server(server),
                            "sends",
                            frame.as_bytes(),
                            || describe_frame(&frame, Sender::Server),
                        );
                        if let Some(record) = self.trace.last() {
                            record.to = self.links.get(&id).map(|link| Who::Node(link.node));
                        }
                        self.send(id, End::Node, Carried::Frame(frame));
                    }
                }
                Out::Close { session, reason } => {
                    if let Some(&id) = self.sessions.get(&(server, session)) {
                        self.trace.write(now, Who::Server(server), "closes", id, || {
                            format!("{session}: {reason:?}")
                        });
                        self.take_session(id);
                        self.send(id, End::Node, Carried::Failed(reason));
                    }
                }
                Out::Told(event) => {
                    self.oracle.on_server_told(server, &event);
                    let which = core::mem::discriminant(&event);
                    self.trace
                        .write(now, Who::Server(server), "tells", which, || format!("{event:?}"));
                    if let Log::Kept(log) = &mut self.server_log {
                        assert!(log.len() < SENT_MAX, "the server told {SENT_MAX} events");
                        log.push((now, event));
                    }
                }
            }
        }
        for frame in self.backends[server].spoken.take().unwrap_or_default() {
            self.oracle.on_server_says(server, &frame, &self.nodes, now);
        }
    }
}

/// The topic of a scenario that something was told of.
fn topic_of(told: &Told) -> Option<TopicId> {
    match told {
        Told::Channel(key, _) if key.topic != ChannelKey::OF_APP => Some(key.topic),
        _ => None,
    }
}

/// What an HTTP request asks for, of a URL.
fn path_and_query(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    behind_scheme.find('/').map_or("/", |at| &behind_scheme[at..])
}

//! Frames that pass, and the sockets they pass on.

use realtime_proto::wire::{Envelope, Sender};
use realtime_proto::{Frame, Instant};

use super::accounts::Arrival;
use super::{At, Held, Oracle, limits, read};
use crate::NodeId;
use crate::node::Node;
use crate::scenario::TopicSpec;
use crate::subject::Missed;

/// More broadcasts than this wait behind no join; older ones were dropped by the server.
const HELD_MAX: usize = 1_000;

impl Oracle {
    /// A node begins to connect, no later than at `clock` by its client's time.
    pub(crate) fn on_connects(
        &mut self,
        of: (NodeId, u32),
        link: u64,
        clock: Instant,
        now: Instant,
    ) {
        if self.script.is_some() {
            let verdict = self.conduct.on_attempt(of, link, clock);
            self.judge(of.0, now, verdict);
            let verdict = self.patience.on_attempt(of, link, clock);
            self.judge(of.0, now, verdict);
        }
    }

    pub(crate) fn on_attempt(&mut self, of: (NodeId, u32), to: (u64, usize), now: Instant) {
        self.whole.on_attempt(of, to.0);
        let verdict = self.sockets.on_attempt(of, to, self.script.as_ref(), now);
        self.judge(of.0, now, verdict);
    }

    pub(crate) fn on_accepted(&mut self, at: At, node: NodeId) {
        self.truth.on_accepted(at.server, at.session, node);
        self.conduct.on_accepted(at.server, at.session, node);
    }

    pub(crate) fn on_socket_gone(&mut self, link: u64, now: Instant) {
        self.sockets.on_gone(link);
        self.conduct.on_gone(link, now);
        self.pushes.on_gone(link);
        self.patience.on_gone(link);
        self.whole.on_gone(link);
    }

    /// A link goes on under another name.
    pub(crate) fn on_renamed(&mut self, before: u64, after: u64) {
        self.sockets.on_renamed(before, after);
        self.conduct.on_renamed(before, after);
        self.pushes.on_renamed(before, after);
        self.patience.on_renamed(before, after);
        self.whole.on_renamed(before, after);
    }

    /// A node's driver carried out all that it was asked for, and the application took all events.
    pub(crate) fn on_drained(&mut self, node: NodeId, clock: Instant, now: Instant) {
        self.sockets.on_drained(node);
        if self.script.is_some() {
            self.whole.on_drained(node);
            self.pushes.on_drained(node);
            let verdict = self.patience.on_drained(node, clock);
            self.judge(node, now, verdict);
        }
    }

    /// A node's driver does not get to all that it is asked for, at this time by its own clock.
    pub(crate) fn on_waits(&mut self, node: NodeId, clock: Instant) {
        if self.script.is_some() {
            self.whole.on_waits(node, clock);
            self.pushes.on_waits(node);
            self.patience.on_hindered(node);
        }
    }

    /// A node learns that a socket is open, at this time by its own clock.
    pub(crate) fn on_opened(&mut self, link: u64, clock: Instant) {
        self.whole.on_opened(link, clock);
        self.patience.on_opened(link);
    }

    /// A frame leaves a node; `clock` is its own time.
    pub(crate) fn on_node_sends(
        &mut self,
        (node, link): (NodeId, u64),
        frame: &Frame,
        clock: Instant,
        now: Instant,
    ) {
        let verdict = limits::check_frame(frame);
        self.judge(node, now, verdict);
        let Some(envelope) = read::read(Sender::Client, frame) else {
            return self.find("G6", now, || format!("{node} sends what nobody can read"));
        };
        if let Some(script) = &self.script {
            self.whole.on_leaves(link, &envelope, clock);
            let of = (node, link);
            let verdict = self.patience.on_leaves(of, &envelope, script, (clock, now));
            self.judge(node, now, verdict);
        }
        let verdict = self.sockets.on_leaves(link, &envelope, self.script.as_ref(), now);
        self.judge(node, now, verdict);
        let supabase = self.topic_of(&envelope).and_then(|topic| self.script.as_ref()?.spec(topic));
        let supabase = supabase.is_some_and(TopicSpec::is_supabase);
        let verdict = self.conduct.on_leaves(node, link, &envelope, supabase);
        self.judge(node, now, verdict);
        self.apps.on_leaves(node, &envelope);
        if envelope.event == "phx_join" {
            self.pushes.on_join(link, &envelope);
        }
        let Some(number) = broadcast_number(&envelope) else { return };
        let verdict = self.pushes.on_leaves((node, link), &envelope, number);
        self.judge(node, now, verdict);
        if let Some(topic) = self.topic_of(&envelope) {
            let verdict = self.accounts.on_leaves(node, topic, number);
            self.judge(node, now, verdict);
        }
    }

    pub(crate) fn on_node_receives(
        &mut self,
        node: NodeId,
        (link, server): (u64, usize),
        frame: &Frame,
        (clock, now): (Instant, Instant),
    ) {
        self.views.entry(node).or_default().backlog.on_read();
        let Some(envelope) = read::read(Sender::Server, frame) else { return };
        let arrived = self.sockets.on_arrives(link, &envelope);
        self.conduct.on_arrives(link, &envelope);
        if self.script.is_some() {
            self.whole.on_arrives(link, &envelope, arrived.joins, clock);
            self.patience.on_arrives(link, &envelope, arrived.joins);
        }
        if envelope.event == "phx_reply" {
            self.pushes.on_reply(link, &envelope);
        }
        let Some(topic) = self.topic_of(&envelope) else { return };
        if arrived.joins {
            self.accounts.on_joined(node, topic, server, now);
        }
        let stream = match &*envelope.event {
            "phx_reply" | "phx_close" | "phx_error" | "system" | "presence_state"
            | "presence_diff" => return,
            "postgres_changes" => Missed::Changes,
            _ => Missed::Messages,
        };
        if let Some(number) = read::number(&envelope) {
            let replayed = stream == Missed::Messages && read::is_replayed(&envelope);
            let (stale, whole_until) = (arrived.is_stale, self.whole.until(link));
            let arrival = Arrival { number, stream, replayed, stale, whole_until };
            self.accounts.on_arrives(node, topic, arrival);
        }
    }

    /// A frame came to a node that had no room for it.
    pub(crate) fn on_node_drops(&mut self, node: NodeId, clock: Instant) {
        self.accounts.on_dropped(node, clock);
    }

    /// A frame is about to be given to a server.
    pub(crate) fn on_server_receives(&mut self, at: At, node: NodeId, frame: &Frame, now: Instant) {
        if self.script.is_none() {
            return;
        }
        let Some(envelope) = read::read(Sender::Client, frame) else { return };
        if envelope.event == "presence" {
            self.truth.on_presence_call(at.server, at.session, &envelope);
        }
        let Some(topic) = self.topic_of(&envelope) else { return };
        if let Some(number) = broadcast_number(&envelope) {
            self.taken =
                Some(Held { server: at.server, topic, sender: node, number, came_at: now });
        }
    }

    /// The server has taken the frame; `relays` when it counts a broadcast more than before.
    pub(crate) fn on_server_took(&mut self, relays: bool, nodes: &[Node], now: Instant) {
        let Some(held) = self.taken.take() else { return };
        if relays {
            return self.on_relayed(held, nodes, now);
        }
        // It waits behind a join and passes when it is sent on, or it never does.
        self.held.push_back(held);
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }

    /// Whether it waits for a message that a server has and did not pass on yet.
    pub(crate) fn awaits_words(&self) -> bool {
        !self.held.is_empty()
    }

    /// The honest half of a server says something, whatever becomes of it on the way out.
    pub(crate) fn on_server_says(
        &mut self,
        server: usize,
        frame: &Frame,
        nodes: &[Node],
        now: Instant,
    ) {
        if self.held.is_empty() {
            return;
        }
        let Some(envelope) = read::read(Sender::Server, frame) else { return };
        let Some(number) = broadcast_number(&envelope) else { return };
        let at = self.held.iter().position(|held| (held.server, held.number) == (server, number));
        if let Some(held) = at.and_then(|at| self.held.remove(at)) {
            self.on_relayed(held, nodes, now);
        }
    }
}

/// The number of a broadcast, or of a message of a plain channel.
fn broadcast_number(envelope: &Envelope<'_>) -> Option<u64> {
    matches!(&*envelope.event, "broadcast" | "n").then(|| read::number(envelope)).flatten()
}

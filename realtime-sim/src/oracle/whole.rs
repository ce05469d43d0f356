//! Up to when a client knows that it got all that a server sent: the last moment it opened a
//! connection, or sent a heartbeat or a join that was answered. What it may have missed begins
//! there and no earlier.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::Instant;
use realtime_proto::wire::Envelope;

use crate::NodeId;

/// So long a client waits for the answer to a join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Whole {
    lines: BTreeMap<u64, Line>,
    /// By node and connection.
    until: BTreeMap<(NodeId, u32), Instant>,
    /// Since when something may wait for a driver that does not carry it out.
    waits_since: BTreeMap<NodeId, Instant>,
}

/// A socket, and what was asked on it; all times by the clock of the node.
#[derive(Debug)]
struct Line {
    of: (NodeId, u32),
    /// The heartbeat that left last.
    beat: Option<(String, Instant)>,
    /// By topic: when the join left that left last.
    joins: BTreeMap<String, Instant>,
}

impl Whole {
    pub(super) fn on_attempt(&mut self, of: (NodeId, u32), link: u64) {
        self.lines.insert(link, Line { of, beat: None, joins: BTreeMap::new() });
    }

    pub(super) fn on_renamed(&mut self, before: u64, after: u64) {
        if let Some(line) = self.lines.remove(&before) {
            self.lines.insert(after, line);
        }
    }

    pub(super) fn on_gone(&mut self, link: u64) {
        self.lines.remove(&link);
    }

    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.lines.retain(|_, line| line.of.0 != node);
        self.until.retain(|(of, _), _| *of != node);
        self.waits_since.remove(&node);
    }

    pub(super) fn on_drained(&mut self, node: NodeId) {
        self.waits_since.remove(&node);
    }

    pub(super) fn on_waits(&mut self, node: NodeId, clock: Instant) {
        self.waits_since.entry(node).or_insert(clock);
    }

    /// A node wakes. It asks anew whether its connections live, and may do so behind what waits to be
    /// written; of an answer to what it asked before, it need not take note.
    pub(super) fn on_woke(&mut self, node: NodeId) {
        for line in self.lines.values_mut().filter(|line| line.of.0 == node) {
            line.beat = None;
        }
    }

    /// A socket is open.
    pub(super) fn on_opened(&mut self, link: u64, clock: Instant) {
        self.on_answered(link, clock);
    }

    /// A frame leaves a node.
    pub(super) fn on_leaves(&mut self, link: u64, envelope: &Envelope<'_>, clock: Instant) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        // It may have been asked for as long ago as that.
        let at = self.waits_since.get(&line.of.0).map_or(clock, |since| clock.min(*since));
        match &*envelope.event {
            "heartbeat" if envelope.topic == "phoenix" => {
                let msg_ref = envelope.msg_ref.as_deref().unwrap_or_default();
                line.beat = Some((msg_ref.into(), at));
            }
            "phx_join" => _ = line.joins.insert(envelope.topic.as_ref().into(), at),
            _ => {}
        }
    }

    /// A frame arrives at a node at this time by its clock; `joins` when it is the acceptance of
    /// the newest join. Of a join that it waits for no longer, it need not take note.
    pub(super) fn on_arrives(
        &mut self,
        link: u64,
        envelope: &Envelope<'_>,
        joins: bool,
        clock: Instant,
    ) {
        let Some(line) = self.lines.get_mut(&link) else { return };
        let asked_at = if joins {
            let at = line.joins.get(&*envelope.topic).copied();
            at.filter(|at| clock.saturating_duration_since(*at) < JOIN_TIMEOUT)
        } else if envelope.topic == "phoenix" {
            let is_its =
                |(beat, _): &mut (String, Instant)| Some(&**beat) == envelope.msg_ref.as_deref();
            line.beat.take_if(is_its).map(|(_, at)| at)
        } else {
            None
        };
        if let Some(at) = asked_at {
            self.on_answered(link, at);
        }
    }

    fn on_answered(&mut self, link: u64, asked_at: Instant) {
        let Some(line) = self.lines.get(&link) else { return };
        let until = self.until.entry(line.of).or_insert(asked_at);
        *until = asked_at.max(*until);
    }

    /// Up to when all has come of what was sent on a socket and those before it.
    pub(super) fn until(&self, link: u64) -> Instant {
        let line = self.lines.get(&link);
        line.and_then(|line| self.until.get(&line.of)).copied().unwrap_or(Instant::EPOCH)
    }
}

//! What applications do besides what their scenario says, as far as frames show it.

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::wire::Envelope;

use super::read;
use crate::NodeId;

/// The nodes that have applications.
#[derive(Debug, Default)]
pub(super) struct Apps {
    /// The topics on which each shows something of its own, or nothing by its own will.
    showing: BTreeMap<NodeId, BTreeSet<String>>,
}

impl Apps {
    /// The application of a node is told something.
    pub(super) fn on_told(&mut self, node: NodeId) {
        self.showing.entry(node).or_default();
    }

    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.showing.remove(&node);
    }

    /// A frame leaves a node. The presence calls of the scenario bear numbers.
    pub(super) fn on_leaves(&mut self, node: NodeId, envelope: &Envelope<'_>) {
        let Some(topics) = self.showing.get_mut(&node) else { return };
        if envelope.event != "presence" {
            return;
        }
        if read::number(envelope).is_some() {
            topics.remove(&*envelope.topic);
        } else {
            topics.insert(envelope.topic.as_ref().into());
        }
    }

    /// Whether a node has an application that was told something.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.showing.contains_key(&node)
    }

    /// Whether what a node shows on a topic is its application's.
    pub(super) fn shows(&self, node: NodeId, topic: &str) -> bool {
        self.showing.get(&node).is_some_and(|topics| topics.contains(topic))
    }
}

//! How the pushes of applications end: once, and as it was (G3). What is told of one is held
//! against whether it left, and against the reply that came.

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::wire::{Body, Envelope};

use super::{Verdict, must, read};
use crate::NodeId;
use crate::coverage::PushEnd;
use crate::scenario::TopicId;

#[derive(Debug, Default)]
pub(super) struct Pushes {
    nodes: BTreeMap<NodeId, BTreeMap<u64, Push>>,
    /// Those that ended and no scenario sent.
    foreign: BTreeSet<(NodeId, u64)>,
    /// By link and ref: whose broadcast left so, and its number.
    left: BTreeMap<(u64, String), (NodeId, u64)>,
    /// By link: the topics that were joined with broadcasts that ask for a reply.
    acks: BTreeMap<u64, BTreeSet<String>>,
    /// The nodes whose applications were told all there is to tell.
    at_rest: BTreeSet<NodeId>,
}

/// A broadcast of a scenario.
#[derive(Debug)]
struct Push {
    topic: TopicId,
    left: Option<Left>,
    answer: Option<Answer>,
    end: Option<PushEnd>,
}

/// The frame of a push.
#[derive(Debug)]
struct Left {
    join_ref: String,
    /// Whether it asks for a reply.
    asks: bool,
    /// Whether the application was told all there was to tell before.
    at_rest: bool,
}

/// The reply that came first.
#[derive(Clone, Copy, Debug)]
struct Answer {
    says: PushEnd,
    /// Whether the application was still waiting for it for certain.
    in_time: bool,
}

impl Pushes {
    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.foreign.retain(|(of, _)| *of != node);
        self.left.retain(|_, (of, _)| *of != node);
        self.at_rest.remove(&node);
    }

    pub(super) fn on_drained(&mut self, node: NodeId) {
        self.at_rest.insert(node);
    }

    pub(super) fn on_waits(&mut self, node: NodeId) {
        self.at_rest.remove(&node);
    }

    pub(super) fn on_renamed(&mut self, before: u64, after: u64) {
        let of_link = |(link, _): &(u64, String)| *link == before;
        let refs: Vec<_> = self.left.keys().filter(|left| of_link(left)).cloned().collect();
        if let Some(acks) = self.acks.remove(&before) {
            self.acks.insert(after, acks);
        }
        for old in refs {
            if let Some(push) = self.left.remove(&old) {
                self.left.insert((after, old.1), push);
            }
        }
    }

    pub(super) fn on_gone(&mut self, link: u64) {
        self.left.retain(|(of, _), _| *of != link);
        self.acks.remove(&link);
    }

    pub(super) fn on_send(&mut self, node: NodeId, topic: TopicId, number: u64) {
        let push = Push { topic, left: None, answer: None, end: None };
        self.nodes.entry(node).or_default().insert(number, push);
    }

    pub(super) fn on_send_refused(&mut self, node: NodeId, number: u64) -> Verdict {
        self.end(node, number, PushEnd::Refused).map(|_| ())
    }

    /// A join leaves a node.
    pub(super) fn on_join(&mut self, link: u64, envelope: &Envelope<'_>) {
        let Body::Json(text) = envelope.body else { return };
        let topics = self.acks.entry(link).or_default();
        if text.contains("\"ack\":true") {
            topics.insert(envelope.topic.as_ref().into());
        } else {
            topics.remove(&*envelope.topic);
        }
    }

    /// A broadcast leaves a node.
    pub(super) fn on_leaves(
        &mut self,
        (node, link): (NodeId, u64),
        envelope: &Envelope<'_>,
        number: u64,
    ) -> Verdict {
        let pushes = self.nodes.get_mut(&node);
        let Some(push) = pushes.and_then(|pushes| pushes.get_mut(&number)) else { return Ok(()) };
        let join_ref = read::join_ref(envelope).unwrap_or_default().into();
        // What leaves on a plain channel asks for one, and broadcasts do where the join said so.
        let is_plain = !envelope.topic.starts_with("realtime:");
        let of_link = self.acks.get(&link);
        let asks = is_plain || of_link.is_some_and(|topics| topics.contains(&*envelope.topic));
        push.left = Some(Left { join_ref, asks, at_rest: self.at_rest.contains(&node) });
        if let Some(msg_ref) = envelope.msg_ref.as_deref() {
            self.left.insert((link, msg_ref.into()), (node, number));
        }
        let never_sent =
            |end: &PushEnd| matches!(end, PushEnd::Refused | PushEnd::Dropped | PushEnd::Expired);
        let end = push.end.filter(never_sent);
        must(end.is_none(), "G3", || format!("push {number} leaves, and its end was {end:?}"))
    }

    /// A reply arrives at a node.
    pub(super) fn on_reply(&mut self, link: u64, envelope: &Envelope<'_>) {
        let Some(msg_ref) = envelope.msg_ref.as_deref() else { return };
        let Some((node, number)) = self.left.remove(&(link, msg_ref.into())) else { return };
        let at_rest = self.at_rest.contains(&node);
        let pushes = self.nodes.get_mut(&node);
        let Some(push) = pushes.and_then(|pushes| pushes.get_mut(&number)) else { return };
        if push.end.is_none() {
            let says = match read::status(envelope) {
                Some("ok") => PushEnd::Ok,
                Some("error") => PushEnd::Error,
                _ => PushEnd::OtherReply,
            };
            // A client may doubt a reply that names another join.
            let join_ref = push.left.as_ref().map(|left| &*left.join_ref);
            let in_time = at_rest && read::join_ref(envelope).is_none_or(|it| join_ref == Some(it));
            push.answer = Some(Answer { says, in_time });
        }
    }

    /// An application is told how a push ended.
    pub(super) fn on_ended(&mut self, node: NodeId, number: u64, end: PushEnd) -> Verdict {
        let Some(push) = self.end(node, number, end)? else { return Ok(()) };
        let (left, answer) = (push.left.is_some(), push.answer);
        let asks = push.left.as_ref().map(|left| left.asks);
        let at_rest = push.left.as_ref().is_some_and(|left| left.at_rest);
        let says = answer.map(|answer| answer.says);
        let is_so = match end {
            PushEnd::Ok | PushEnd::Error | PushEnd::OtherReply => says == Some(end),
            PushEnd::Sent => asks == Some(false),
            PushEnd::TimedOut => asks != Some(false),
            // What waited for a driver that hung may leave after its channel has ended.
            PushEnd::Interrupted => asks != Some(false) || !at_rest,
            PushEnd::Expired | PushEnd::Dropped | PushEnd::Refused => !left,
        };
        must(is_so, "G3", || {
            format!("push {number} is told to be {end:?}; it left: {left}, and the reply: {says:?}")
        })?;
        let missed = answer.filter(|answer| answer.in_time && answer.says != end);
        must(missed.is_none(), "G3", || {
            format!("push {number} is told to be {end:?} after its reply came: {says:?}")
        })
    }

    /// A push ends, and only once; `None` for one that no scenario sent.
    fn end(
        &mut self,
        node: NodeId,
        number: u64,
        end: PushEnd,
    ) -> Result<Option<&Push>, (&'static str, String)> {
        let pushes = self.nodes.get_mut(&node);
        let Some(push) = pushes.and_then(|pushes| pushes.get_mut(&number)) else {
            let first = self.foreign.insert((node, number));
            return must(first, "G3", || format!("push {number} ends twice")).map(|()| None);
        };
        let before = push.end.replace(end);
        must(before.is_none(), "G3", || {
            format!("push {number} ends twice: {before:?}, then {end:?}")
        })?;
        Ok(Some(push))
    }

    /// Everything has come to its end, or everything that was sent on topics that are `at_rest`.
    pub(super) fn settle(&self, at_rest: impl Fn(NodeId, TopicId) -> bool) -> Verdict {
        for (node, pushes) in &self.nodes {
            for (number, push) in pushes {
                let waits = push.end.is_none() && at_rest(*node, push.topic);
                must(!waits, "G3", || format!("{node}: push {number} was taken and never ends"))?;
            }
        }
        Ok(())
    }
}

//! The accounts of numbered messages: what left, what passed a server, what came, and what an
//! application was told of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use realtime_proto::Instant;

use super::{Verdict, must};
use crate::NodeId;
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, ChannelTold, Missed};

/// A numbered message that a server tells its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Post {
    pub(super) number: u64,
    pub(super) stream: Missed,
    /// Whether a replay brings it back.
    pub(super) stored: bool,
}

#[derive(Debug, Default)]
pub(super) struct Accounts {
    seats: BTreeMap<(NodeId, TopicId), Seat>,
    books: BTreeMap<(NodeId, ChannelKey), Book>,
    /// When each that had no room for a frame had none the last time, by its clock, until it tells of
    /// it: any channel of its may do so then.
    dropped_at: BTreeMap<NodeId, Instant>,
}

/// What passed one node's end of one topic, whatever channels it had.
#[derive(Debug, Default)]
struct Seat {
    /// The server on which it joined the topic last, and when it was told, by the world's clock.
    home: Option<(usize, Instant)>,
    /// The number that left last.
    left: u64,
    /// What came and was not told yet, in order.
    arrived: VecDeque<Arrival>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) number: u64,
    pub(super) stream: Missed,
    /// From the store of the server.
    pub(super) replayed: bool,
    /// It names an older join.
    pub(super) stale: bool,
    /// Up to when the client knew, as it came, that all had come.
    pub(super) whole_until: Instant,
}

/// What one channel is owed and got.
#[derive(Debug, Default)]
struct Book {
    /// Whether it was live once: from then on it is owed what passes.
    flows: bool,
    due: Vec<Due>,
    delivered: BTreeSet<u64>,
    messages: Flow,
    changes: Flow,
}

/// A stream of a channel.
#[derive(Debug, Default)]
struct Flow {
    /// Up to when all had come for certain when the last number was delivered.
    whole_until: Instant,
    /// Whether it was lost since, and nothing was told yet of what may be missing.
    is_broken: bool,
    /// When a frame was dropped that may have been of it, until something is said to be missing then.
    dropped_at: Option<Instant>,
}

/// A message that a channel is owed, or a word that it is missing.
#[derive(Clone, Copy, Debug)]
struct Due {
    post: Post,
    /// When it passed, as the client took it: exact, but at least and at most where its clock
    /// went back.
    clock: (Instant, Instant),
    /// And by the clock of the world.
    at: Instant,
}

impl Accounts {
    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.seats.retain(|(of, _), _| *of != node);
        self.books.retain(|(of, _), _| *of != node);
        self.dropped_at.remove(&node);
    }

    fn book_mut(&mut self, node: NodeId, key: ChannelKey) -> &mut Book {
        let dropped_at = self.dropped_at.get(&node).copied();
        self.books.entry((node, key)).or_insert_with(|| Book::new(dropped_at))
    }

    /// The clock of a node goes back. What its client did not see of it never was.
    pub(super) fn on_clock_back(&mut self, node: NodeId, seen: Instant) {
        for (_, book) in self.books.iter_mut().filter(|((of, _), _)| *of == node) {
            for due in &mut book.due {
                due.clock.0 = due.clock.0.min(seen);
            }
        }
    }

    /// The channel of a topic is not wanted any more: nothing is owed to it.
    pub(super) fn on_given_up(&mut self, node: NodeId, topic: TopicId) {
        let of_topic = |(of, key): &(NodeId, ChannelKey)| (*of, key.topic) == (node, topic);
        for (_, book) in self.books.iter_mut().filter(|(of, _)| of_topic(of)) {
            book.flows = false;
            book.due.clear();
        }
    }

    /// A number leaves a node (G1).
    pub(super) fn on_leaves(&mut self, node: NodeId, topic: TopicId, number: u64) -> Verdict {
        let seat = self.seats.entry((node, topic)).or_default();
        let before = core::mem::replace(&mut seat.left, number);
        must(before < number, "G1", || format!("{number} leaves after {before}"))
    }

    /// A node joined a topic on a server.
    pub(super) fn on_joined(&mut self, node: NodeId, topic: TopicId, server: usize, now: Instant) {
        self.seats.entry((node, topic)).or_default().home = Some((server, now));
    }

    /// A frame came to a node that had no room for it: whatever is in it may be missing.
    pub(super) fn on_dropped(&mut self, node: NodeId, clock: Instant) {
        self.dropped_at.insert(node, clock);
        for (_, book) in self.books.iter_mut().filter(|((of, _), _)| *of == node) {
            (book.messages.dropped_at, book.changes.dropped_at) = (Some(clock), Some(clock));
        }
    }

    /// A numbered message comes to a node.
    pub(super) fn on_arrives(&mut self, node: NodeId, topic: TopicId, arrival: Arrival) {
        self.seats.entry((node, topic)).or_default().arrived.push_back(arrival);
    }

    /// A message passes the servers or, at a time since it came there, one of them; `concerns` tells
    /// which channels are to hear it, and when that is by the clock of their node.
    pub(super) fn on_passes(
        &mut self,
        post: Post,
        server: Option<(usize, Instant)>,
        now: Instant,
        concerns: impl Fn(NodeId, TopicId) -> Option<(Instant, Instant)>,
    ) {
        let mut owed = Vec::new();
        for (node, key) in self.books.iter().filter(|(_, book)| book.flows).map(|(of, _)| of) {
            let Some(clock) = concerns(*node, key.topic) else { continue };
            let home = self.seats.get(&(*node, key.topic)).and_then(|seat| seat.home);
            // Who joined after it came may have joined after it passed.
            let hears = server.is_none_or(|(server, came_at)| {
                home.is_some_and(|(home, since)| home == server && since <= came_at)
            });
            if hears {
                owed.push(((*node, *key), clock));
            }
        }
        for (of, clock) in owed {
            if let Some(book) = self.books.get_mut(&of) {
                if !book.delivered.contains(&post.number) {
                    book.due.push(Due { post, clock, at: now });
                }
            }
        }
    }

    /// An application is told something of a channel.
    pub(super) fn on_told(
        &mut self,
        node: NodeId,
        key: ChannelKey,
        told: &ChannelTold,
        is_manager: bool,
        latest: Instant,
    ) -> Verdict {
        match told {
            ChannelTold::Live => {
                self.book_mut(node, key).flows = true;
                Ok(())
            }
            ChannelTold::Broadcast { number: Some(number), has_id } => {
                self.on_delivered(node, key, *number, Missed::Messages, *has_id)
            }
            ChannelTold::Change { number: Some(number), misrouted } => {
                must(!misrouted, "manners", || {
                    format!("{key:?} is told {number} as of a table that it is not of")
                })?;
                self.on_delivered(node, key, *number, Missed::Changes, false)
            }
            ChannelTold::Gap { stream, from, to } => {
                let Some(book) = self.books.get_mut(&(node, key)) else { return Ok(()) };
                book.due.retain(|due| due.post.stream != *stream || !due.is_within(*from, *to));
                // Row changes may begin anew without a word; messages are lost with their join.
                let broken = book.messages.is_lost() || is_manager || *stream == Missed::Changes;
                must(broken, "G10", || {
                    format!("{key:?} has a gap from {from} to {to}, and nothing was lost")
                })?;
                let verdict = book.flow_mut(*stream).on_resumed(*from, *to, latest);
                if !is_manager {
                    // Who comes to a manager may share a channel whose turn is yet to come.
                    self.dropped_at.retain(|of, at| *of != node || *at > *to);
                }
                verdict
            }
            ChannelTold::Recovered { contiguous, from, to } => {
                let Some(book) = self.books.get_mut(&(node, key)) else { return Ok(()) };
                book.messages.on_resumed(*from, *to, latest)?;
                // A gap says what the store did not bring back.
                book.messages.is_broken = !contiguous;
                // What nobody stores is not in a replay, and may be missing.
                book.due.retain(|due| {
                    !contiguous
                        || due.post.stored
                        || due.post.stream == Missed::Changes
                        || !due.is_within(*from, *to)
                });
                Ok(())
            }
            ChannelTold::Closed => {
                self.books.remove(&(node, key));
                Ok(())
            }
            ChannelTold::Errored { .. } | ChannelTold::Rejoining | ChannelTold::Stopped { .. } => {
                let book = self.book_mut(node, key);
                book.changes.is_broken = true;
                // A manager says the same of a channel that joins again.
                book.messages.is_broken |=
                    is_manager || !matches!(told, ChannelTold::Stopped { .. });
                Ok(())
            }
            ChannelTold::Joined
            | ChannelTold::Broadcast { number: None, .. }
            | ChannelTold::Change { number: None, .. }
            | ChannelTold::Presence { .. }
            | ChannelTold::Ended { .. }
            | ChannelTold::Other => Ok(()),
        }
    }

    /// What is told came in a frame, in the order of the frames, and not before (G2, G4, G10).
    fn on_delivered(
        &mut self,
        node: NodeId,
        key: ChannelKey,
        number: u64,
        stream: Missed,
        has_id: bool,
    ) -> Verdict {
        let seat = self.seats.entry((node, key.topic)).or_default();
        let is_it = |arrival: &Arrival| (arrival.number, arrival.stream) == (number, stream);
        let is_good = |arrival: &Arrival| is_it(arrival) && !arrival.stale;
        let good = seat.arrived.iter().position(is_good);
        let Some(at) = good.or_else(|| seat.arrived.iter().position(is_it)) else {
            let what = format!("{key:?} is told {number}, which did not come, or before another");
            return Err(("G2", what));
        };
        let Some(arrival) = seat.arrived.drain(..=at).next_back() else { return Ok(()) };
        must(!arrival.stale, "G4", || format!("{key:?} is told {number} of an older join"))?;
        let book = self.book_mut(node, key);
        let first = book.delivered.insert(number);
        let flow = book.flow_mut(stream);
        if !flow.is_lost() {
            flow.whole_until = flow.whole_until.max(arrival.whole_until);
        }
        book.due.retain(|due| due.post.number != number);
        must(first || !has_id && !arrival.replayed, "G10", || {
            format!("{key:?} is told {number} twice")
        })
    }

    /// Nothing is owed any more to channels that are live (G10).
    pub(super) fn settle(&self, is_live: impl Fn(NodeId, ChannelKey) -> bool) -> Verdict {
        for ((node, key), book) in &self.books {
            let owed = book.due.first().filter(|_| book.flows && is_live(*node, *key));
            if let Some(Due { post, clock, at }) = owed {
                let of = match (post.stream, post.stored) {
                    (Missed::Changes, _) => "row change",
                    (Missed::Messages, true) => "stored broadcast",
                    (Missed::Messages, false) => "broadcast",
                };
                return Err((
                    "G10",
                    format!(
                        "{node}: {key:?} neither got {of} {} nor was told that it is missing; it \
                         passed at {at}, which is {} by the clock of the node",
                        post.number, clock.0
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Book {
    fn new(dropped_at: Option<Instant>) -> Self {
        let flow = || Flow { dropped_at, ..Flow::default() };
        Self { messages: flow(), changes: flow(), ..Self::default() }
    }

    const fn flow_mut(&mut self, stream: Missed) -> &mut Flow {
        match stream {
            Missed::Messages => &mut self.messages,
            Missed::Changes => &mut self.changes,
        }
    }
}

impl Flow {
    const fn is_lost(&self) -> bool {
        self.is_broken || self.dropped_at.is_some()
    }

    /// It flows again, and what it carried in this window may be missing.
    fn on_resumed(&mut self, from: Instant, to: Instant, latest: Instant) -> Verdict {
        self.is_broken = false;
        self.dropped_at.take_if(|at| *at <= to);
        let whole_until = self.whole_until;
        must(whole_until <= from, "G10", || {
            format!(
                "something is said to be missing since {from}, and all came until {whole_until}"
            )
        })?;
        must(from <= to && to <= latest, "G10", || {
            format!("something is said to be missing from {from} to {to}, and it is {latest}")
        })
    }
}

impl Due {
    fn is_within(&self, from: Instant, to: Instant) -> bool {
        from <= self.clock.1 && self.clock.0 <= to
    }
}

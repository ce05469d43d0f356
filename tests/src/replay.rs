//! Recordings played to a client, and what tests look for in them.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a recording holds many kinds of things, and each place looks for one of them"
)]

pub mod ledger;
pub mod verdict;

use realtime_proto::supabase::Cause;
use realtime_proto::{ChannelEvent, ChannelId, Event, Outcome, Violation};
pub use realtime_smol::recording::{Content, Join, Push, Replay, Told, View};

use crate::recording::{connections, load};

/// Plays every connection of a recording whose version our client has.
///
/// # Panics
///
/// When the recording cannot be read, or a connection cannot be played.
#[must_use]
pub fn all(recording: &str) -> Vec<Replay> {
    let connections = connections(&load(recording));
    let known = connections.iter().filter(|connection| connection.vsn.is_some());
    let play = |connection| Replay::new(recording, connection).expect("it is played");
    known.map(play).collect()
}

/// Plays one connection of a recording.
///
/// # Panics
///
/// When there is no such connection, or it cannot be played.
#[must_use]
pub fn one(recording: &str, connection: &str) -> Replay {
    let connections = connections(&load(recording));
    let found = connections.iter().find(|found| found.name == connection);
    let found = found.unwrap_or_else(|| panic!("{recording} has no {connection}"));
    Replay::new(recording, found).expect("it is played")
}

/// What tests look for, and do not go on without.
pub trait Look {
    /// What the peer did wrong, with the line that did it.
    #[must_use]
    fn violations(&self) -> Vec<(usize, &Violation)>;

    /// How a push ended while the connection was open; `None` when it had not.
    #[must_use]
    fn outcome(&self, push: &Push) -> Option<&Outcome>;

    /// The push that was recorded under a ref.
    ///
    /// # Panics
    ///
    /// When it was not made.
    #[must_use]
    fn push(&self, msg_ref: &str) -> &Push;

    /// The channel of the last join of a topic.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    fn channel(&self, topic: &str) -> ChannelId;

    /// The channel that is on a topic when the connection ends.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    fn view(&self, topic: &str) -> &View;

    /// The causes of the errors of a topic's channels, in order.
    #[must_use]
    fn errors(&self, topic: &str) -> Vec<Cause>;
}

impl Look for Replay {
    fn violations(&self) -> Vec<(usize, &Violation)> {
        let violation = |(line, event): &'_ (usize, Event)| match event {
            Event::Violation(_) => Some(*line),
            _ => None,
        };
        let lines: Vec<usize> = self.events.iter().filter_map(violation).collect();
        let violations = self.events.iter().filter_map(|(_, event)| match event {
            Event::Violation(violation) => Some(violation),
            _ => None,
        });
        lines.into_iter().zip(violations).collect()
    }

    fn outcome(&self, push: &Push) -> Option<&Outcome> {
        self.events_of(push.channel).find_map(|(_, event)| match event {
            ChannelEvent::PushEnded { push: ended, outcome } if *ended == push.push => {
                Some(outcome)
            }
            _ => None,
        })
    }

    fn push(&self, msg_ref: &str) -> &Push {
        let found = self.pushes.iter().find(|push| push.msg_ref == msg_ref);
        found.unwrap_or_else(|| panic!("{}: push {msg_ref} was not made", self.name))
    }

    fn channel(&self, topic: &str) -> ChannelId {
        let joins = self.joins.iter().rev();
        let found = joins.filter(|join| join.topic == topic).find_map(|join| join.channel);
        found.unwrap_or_else(|| panic!("{}: nobody joined {topic}", self.name))
    }

    fn view(&self, topic: &str) -> &View {
        let found = self.channels.iter().find(|view| view.topic == topic);
        found.unwrap_or_else(|| panic!("{}: no channel on {topic} at the end", self.name))
    }

    fn errors(&self, topic: &str) -> Vec<Cause> {
        let mut ids: Vec<ChannelId> = Vec::new();
        for join in self.joins.iter().filter(|join| join.topic == topic) {
            ids.extend(join.channel.filter(|id| !ids.contains(id)));
        }
        let events = ids.into_iter().flat_map(|id| self.events_of(id));
        let cause = |(_, event): (usize, &ChannelEvent)| match event {
            ChannelEvent::Errored { cause, .. } => Some(cause.clone()),
            _ => None,
        };
        events.filter_map(cause).collect()
    }
}

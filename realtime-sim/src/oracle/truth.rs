//! What the servers did: whose session is which, and who is present where.

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::server::{ServerEvent, SessionId};
use realtime_proto::wire::Envelope;

use super::{Verdict, must, read};
use crate::NodeId;
use crate::subject::Seen;

/// Each key with what its sessions show, in order; one may show no number.
pub(super) type Present = Vec<(String, Vec<Option<u64>>)>;

/// Who is present: by session, the key and the number it shows.
type There = BTreeMap<SessionId, (String, Option<u64>)>;

/// The number that a session asked to be shown last, by topic.
type Asked = Vec<(String, Option<u64>)>;

#[derive(Debug, Default)]
pub(super) struct Truth {
    sessions: BTreeMap<(usize, SessionId), NodeId>,
    /// By server and topic: the sessions that are present, with key and number.
    present: BTreeMap<(usize, String), There>,
    /// The number that a session asked to be shown last on a topic.
    asked: BTreeMap<(usize, SessionId), Asked>,
    keys: BTreeSet<String>,
}

impl Truth {
    pub(super) fn on_accepted(&mut self, server: usize, session: SessionId, node: NodeId) {
        self.sessions.insert((server, session), node);
    }

    /// A presence call got to a server. What it shows counts once the server says that it does.
    pub(super) fn on_presence_call(
        &mut self,
        server: usize,
        session: SessionId,
        envelope: &Envelope<'_>,
    ) {
        let number = read::number(envelope);
        let asked = self.asked.entry((server, session)).or_default();
        match asked.iter_mut().find(|(topic, _)| *topic == envelope.topic) {
            Some((_, last)) => *last = number,
            None => asked.push((envelope.topic.as_ref().into(), number)),
        }
    }

    pub(super) fn on_told(&mut self, server: usize, event: &ServerEvent) {
        match event {
            ServerEvent::Tracked { session, topic, key } => {
                let asked = self.asked.get(&(server, *session));
                let asked = asked.and_then(|asked| asked.iter().find(|(of, _)| of == topic));
                let number = asked.and_then(|(_, number)| *number);
                let there = self.present.entry((server, topic.clone())).or_default();
                there.insert(*session, (key.clone(), number));
                self.keys.insert(key.clone());
            }
            ServerEvent::Untracked { session, topic, .. } => {
                if let Some(there) = self.present.get_mut(&(server, topic.clone())) {
                    there.remove(session);
                }
            }
            ServerEvent::Closed { session } => {
                self.sessions.remove(&(server, *session));
                self.asked.remove(&(server, *session));
            }
            ServerEvent::Opened { .. }
            | ServerEvent::Joined { .. }
            | ServerEvent::Refused { .. }
            | ServerEvent::Left { .. }
            | ServerEvent::Subscribed { .. }
            | ServerEvent::Malformed { .. }
            | _ => {}
        }
    }

    /// Compares what is seen with who is there. A manager shows a user once, however many
    /// sessions have the key.
    pub(super) fn check(&self, seen: Seen, there: &Present, is_manager: bool) -> Verdict {
        let mut seen = match seen {
            Seen::Untold => return Ok(()),
            Seen::Stale => {
                return Err(("G9", "presence is out of date though the channel is live".into()));
            }
            Seen::Members(members) => members,
        };
        seen.sort();
        for (key, _) in &seen {
            must(self.keys.contains(key), "G9", || format!("{key} is shown and never was there"))?;
        }
        seen.iter_mut().for_each(|(_, numbers)| numbers.sort_unstable());
        let mut pairs = seen.iter().zip(there);
        let same = seen.len() == there.len()
            && pairs.all(|((key, shown), (there_key, there))| {
                let is_same = if is_manager {
                    there.contains(&shown.first().copied()) && shown.len() <= 1
                } else {
                    shown.iter().eq(there.iter().flatten())
                };
                key == there_key && is_same
            });
        must(same, "G9", || format!("{seen:?} is shown, and the server has {there:?}"))
    }

    /// Who is present on a topic of a server, to somebody who can read the numbers of the nodes that
    /// `reads` tells.
    pub(super) fn present(
        &self,
        server: usize,
        topic: &str,
        reads: impl Fn(NodeId) -> bool,
    ) -> Present {
        let there = self.present.get(&(server, topic.into()));
        let mut present: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
        for (session, (key, number)) in there.into_iter().flatten() {
            let node = self.sessions.get(&(server, *session));
            let number = number.filter(|_| node.is_some_and(|node| reads(*node)));
            present.entry(key).or_default().push(number);
        }
        let sorted = |(key, mut numbers): (&str, Vec<Option<u64>>)| {
            numbers.sort_unstable();
            (key.into(), numbers)
        };
        present.into_iter().map(sorted).collect()
    }

    /// The numbers that a node shows on a topic of a server.
    pub(super) fn shown_by(&self, node: NodeId, server: usize, topic: &str) -> Vec<u64> {
        let there = self.present.get(&(server, topic.into())).into_iter().flatten();
        let own = there.filter(|(id, _)| self.sessions.get(&(server, **id)) == Some(&node));
        own.filter_map(|(_, (_, number))| *number).collect()
    }
}

//! Who is present by what applications were told: whoever follows it knows whom the channel shows.

use std::collections::BTreeMap;

use super::{Verdict, must};
use crate::NodeId;
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, ChannelTold, MemberDiff, Seen};

/// What applications that follow what they are told know of each of their channels.
#[derive(Debug, Default)]
pub(super) struct Rosters(BTreeMap<(NodeId, ChannelKey), Roster>);

#[derive(Debug, Default)]
struct Roster {
    /// Each key with the numbers that were told last.
    members: BTreeMap<String, Vec<u64>>,
    /// Whether it was told to be up to date, and the channel was not away since.
    is_synced: bool,
}

impl Rosters {
    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.0.retain(|(of, _), _| *of != node);
    }

    pub(super) fn on_told(
        &mut self,
        node: NodeId,
        key: ChannelKey,
        told: &ChannelTold,
        is_manager: bool,
    ) -> Verdict {
        let at = (node, key);
        match told {
            ChannelTold::Presence { synced, diff } => {
                let roster = self.0.entry(at).or_default();
                roster.is_synced |= synced;
                roster.on_told(key, diff)
            }
            ChannelTold::Errored { .. } | ChannelTold::Rejoining => {
                self.0.entry(at).or_default().is_synced = false;
                Ok(())
            }
            // A manager says the same of a channel that joins again.
            ChannelTold::Stopped { .. } if is_manager => {
                self.0.entry(at).or_default().is_synced = false;
                Ok(())
            }
            ChannelTold::Closed => {
                self.0.remove(&at);
                Ok(())
            }
            ChannelTold::Joined
            | ChannelTold::Live
            | ChannelTold::Stopped { .. }
            | ChannelTold::Broadcast { .. }
            | ChannelTold::Change { .. }
            | ChannelTold::Gap { .. }
            | ChannelTold::Recovered { .. }
            | ChannelTold::Ended { .. }
            | ChannelTold::Other => Ok(()),
        }
    }

    /// Compares what was told of the channel that a topic has now with whom it shows.
    pub(super) fn check(&self, node: NodeId, topic: TopicId, seen: &Seen) -> Verdict {
        let Seen::Members(seen) = seen else { return Ok(()) };
        let of = |life| (node, ChannelKey { topic, life });
        let newest = self.0.range(of(0)..=of(u32::MAX)).next_back();
        let none = Roster::default();
        let roster = newest.map_or(&none, |(_, roster)| roster);
        let shown: BTreeMap<String, Vec<u64>> = seen.iter().cloned().collect();
        must(roster.members == shown, "G9", || {
            format!("{:?} was told to be present, and {shown:?} is shown", roster.members)
        })?;
        must(roster.is_synced, "G9", || "a live channel was not told to be up to date".into())
    }
}

impl Roster {
    fn on_told(&mut self, key: ChannelKey, diff: &MemberDiff) -> Verdict {
        for (member, numbers) in &diff.joined {
            let before = self.members.insert(member.clone(), numbers.clone());
            must(before.is_none(), "G9", || {
                format!("{key:?} is told that {member} comes, who was told to be there")
            })?;
        }
        for (member, numbers) in &diff.updated {
            let before = self.members.insert(member.clone(), numbers.clone());
            must(before.is_some(), "G9", || {
                format!("{key:?} is told that {member} changes, who was not told to be there")
            })?;
        }
        for (member, numbers) in &diff.left {
            let before = self.members.remove(member);
            must(before.as_ref() == Some(numbers), "G9", || {
                format!("{key:?} is told that {member} goes with {numbers:?}, and had {before:?}")
            })?;
        }
        Ok(())
    }
}

//! What one application was told: its connections, and how its channels stand.

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::Instant;
use realtime_proto::supabase::CauseKind;

use super::causes::{channel_comes_back, is_of_transport};
use super::limits::Backlog;
use super::{Verdict, must};
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, ChannelTold, Told};

/// What one node was told so far.
#[derive(Debug, Default)]
pub(super) struct View {
    connected: BTreeSet<u32>,
    /// By connection: why and when it ended last.
    disconnected: BTreeMap<u32, (CauseKind, Instant)>,
    channels: BTreeMap<ChannelKey, Standing>,
    /// Those that were given up and are not closed yet.
    leaving: BTreeSet<ChannelKey>,
    /// Whether a channel was told to be live since something was last asked of one, after which it
    /// may be about to join again.
    is_settled: bool,
    /// Those that were asked for something that takes another join, which may wait for its turn.
    joining: BTreeSet<TopicId>,
    /// Whether it was told anything: of whoever never is, nothing of this can be judged.
    pub(super) is_told: bool,
    pub(super) backlog: Backlog,
}

/// How a channel stands by what was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing was told of it.
    New,
    Away,
    Joined,
    Live,
    Closed,
}

impl Standing {
    /// The same, once something was told.
    const fn begun(self) -> Self {
        match self {
            Self::New => Self::Away,
            Self::Away | Self::Joined | Self::Live | Self::Closed => self,
        }
    }
}

impl View {
    /// A channel was opened.
    pub(super) fn on_wanted(&mut self, key: ChannelKey) {
        self.channels.entry(key).or_insert(Standing::New);
    }

    pub(super) fn is_live(&self, key: ChannelKey) -> bool {
        self.channels.get(&key) == Some(&Standing::Live)
    }

    /// Whether nothing was told of a channel yet.
    pub(super) fn is_new(&self, key: ChannelKey) -> bool {
        self.channels.get(&key).is_none_or(|standing| *standing == Standing::New)
    }

    pub(super) fn has_channels(&self) -> bool {
        self.channels.values().any(|standing| *standing != Standing::Closed)
    }

    /// The channels of a topic are given up.
    pub(super) fn on_given_up(&mut self, topic: TopicId) {
        let open = |(key, standing): &(&ChannelKey, &Standing)| {
            key.topic == topic && **standing != Standing::Closed
        };
        self.leaving.extend(self.channels.iter().filter(open).map(|(key, _)| *key));
        self.joining.remove(&topic);
    }

    /// Something is asked of a channel; `joins` is its topic when that takes another join.
    pub(super) fn on_asked(&mut self, joins: Option<TopicId>) {
        self.is_settled = false;
        self.joining.extend(joins);
    }

    /// Whether all channels are live for certain, and there is one.
    pub(super) fn is_all_live(&self) -> bool {
        if !self.is_settled || !self.joining.is_empty() || !self.leaving.is_empty() {
            return false;
        }
        let mut open = self.channels.values().filter(|it| **it != Standing::Closed).peekable();
        open.peek().is_some() && open.all(|standing| *standing == Standing::Live)
    }

    /// Whether a channel of a topic is live.
    pub(super) fn has_live(&self, topic: TopicId) -> bool {
        let is_it = |(key, standing): (&ChannelKey, &Standing)| {
            key.topic == topic && *standing == Standing::Live
        };
        self.channels.iter().any(is_it)
    }

    pub(super) fn on_told(
        &mut self,
        told: &Told,
        clock: Instant,
        events_max: Option<usize>,
        is_manager: bool,
    ) -> Verdict {
        self.is_told = true;
        match told {
            Told::Connected { connection } => {
                let first = self.connected.insert(*connection);
                must(first, "sockets", || "a socket opens while another is open".into())
            }
            Told::Disconnected { connection, cause, .. } => {
                self.connected.remove(connection);
                self.disconnected.insert(*connection, (*cause, clock));
                Ok(())
            }
            Told::Channel(key, told) => self.on_channel(*key, told, clock, events_max, is_manager),
            Told::TokenNeeded | Told::Note(_) => Ok(()),
            Told::Violation => self.backlog.on_told(events_max),
        }
    }

    fn on_channel(
        &mut self,
        key: ChannelKey,
        told: &ChannelTold,
        clock: Instant,
        events_max: Option<usize>,
        is_manager: bool,
    ) -> Verdict {
        // How a push ends is no matter of its channel.
        if matches!(told, ChannelTold::Ended { .. }) {
            return Ok(());
        }
        let standing = self.channels.get(&key).copied().unwrap_or(Standing::New);
        must(standing != Standing::Closed, "G3", || {
            format!("{key:?} goes on after it was closed: {told:?}")
        })?;
        let next = match told {
            ChannelTold::Joined => {
                must(!self.connected.is_empty(), "G5", || {
                    format!("{key:?} is joined without a connection")
                })?;
                Standing::Joined
            }
            ChannelTold::Live => {
                must(standing == Standing::Joined, "G5", || {
                    format!("{key:?} is live while it is {standing:?}")
                })?;
                self.is_settled = true;
                self.joining.remove(&key.topic);
                Standing::Live
            }
            ChannelTold::Errored { cause, retry_at } => {
                let is_told = self.disconnected.values().any(|told| *told == (*cause, clock));
                let lost = is_of_transport(*cause) || *cause == CauseKind::Requested;
                // A manager begins with how a channel stands that others have already.
                let caused = standing != Standing::New && lost;
                must(!caused || is_told, "G5", || {
                    format!("{key:?} errors before the disconnect that causes it is told")
                })?;
                // A manager tries so often and no more, as it is set.
                let given_up =
                    retry_at.is_none() && !is_manager && !is_told && channel_comes_back(*cause);
                must(!given_up, "G8", || format!("{key:?} is given up: {cause:?}"))?;
                Standing::Away
            }
            ChannelTold::Stopped { .. } if standing == Standing::Live => Standing::Joined,
            ChannelTold::Rejoining => Standing::Away,
            ChannelTold::Broadcast { .. }
            | ChannelTold::Change { .. }
            | ChannelTold::Presence { .. } => {
                self.backlog.on_told(events_max)?;
                standing.begun()
            }
            ChannelTold::Closed => {
                self.leaving.remove(&key);
                self.joining.remove(&key.topic);
                Standing::Closed
            }
            ChannelTold::Stopped { .. }
            | ChannelTold::Gap { .. }
            | ChannelTold::Recovered { .. }
            | ChannelTold::Ended { .. }
            | ChannelTold::Other => standing.begun(),
        };
        self.channels.insert(key, next);
        Ok(())
    }

    /// Everything is over: every channel is closed (G3).
    pub(super) fn check_end(&self) -> Verdict {
        if !self.is_told {
            return Ok(());
        }
        let of_scenario = |key: &ChannelKey| key.topic != ChannelKey::OF_APP;
        for (key, standing) in self.channels.iter().filter(|(key, _)| of_scenario(key)) {
            must(*standing == Standing::Closed, "G3", || {
                format!("{key:?} was given up and is never closed; it is {standing:?}")
            })?;
        }
        Ok(())
    }
}

//! What must hold for every client, whatever happens to it.
//!
//! The oracle knows what the servers did and what the applications were told, and nothing of how
//! either came about: it shares no state and no code with client or server.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::server::{ServerEvent, SessionId};
use realtime_proto::supabase::CauseKind;
use realtime_proto::{Frame, Instant};

use crate::NodeId;
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, ChannelTold, Told};

/// In every credential of a scenario; nothing that can be printed may contain it.
pub(crate) const SECRET: &str = "sesame";

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The guarantee that is broken, `G3` for instance, or `panic`.
    pub rule: &'static str,
    /// When, by the world's clock.
    pub at: Instant,
    /// What happened, in one sentence.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (at {})", self.rule, self.what, self.at)
    }
}

/// Watches a world and keeps the first thing that does not hold.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) finding: Option<Finding>,
    watches: BTreeMap<NodeId, Watch>,
}

/// What one node was told so far.
#[derive(Debug, Default)]
struct Watch {
    connected: BTreeSet<u32>,
    disconnected_at: Option<Instant>,
    channels: BTreeMap<ChannelKey, Standing>,
    ended: BTreeSet<u64>,
}

/// How a channel stands by what was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Away,
    Joined,
    Live,
    Closed,
}

impl Oracle {
    /// Writes down that something does not hold, unless something did not before.
    pub(crate) fn find(&mut self, rule: &'static str, at: Instant, what: impl FnOnce() -> String) {
        if self.finding.is_none() {
            self.finding = Some(Finding { rule, at, what: what() });
        }
    }

    /// A node tells its application something; `clock` is the node's own time.
    pub(crate) fn on_told(&mut self, node: NodeId, told: &Told, clock: Instant, now: Instant) {
        let watch = self.watches.entry(node).or_default();
        if let Err((rule, what)) = watch.on_told(told, clock) {
            self.find(rule, now, || format!("{node}: {what}"));
        }
    }
}

// What the world shows; so far nothing comes of it.
impl Oracle {
    pub(crate) fn on_restarted(&mut self, node: NodeId) {
        self.watches.remove(&node);
    }
    pub(crate) fn on_wanted(&mut self, _: NodeId, _: ChannelKey) {}
    pub(crate) fn on_given_up(&mut self, _: NodeId, _: TopicId) {}
    pub(crate) fn on_send(&mut self, _: NodeId, _: TopicId, _: u64, _: Instant) {}
    pub(crate) fn on_send_refused(&mut self, _: u64) {}
    pub(crate) fn on_change(&mut self, _: u64, _: Instant) {}
    pub(crate) fn on_announced(&mut self, _: TopicId, _: u64, _: bool, _: Instant) {}
    pub(crate) fn check_presence(
        &mut self,
        _: NodeId,
        _: TopicId,
        _: Option<Vec<(String, Vec<u64>)>>,
        _: Vec<(String, Vec<u64>)>,
        _: Instant,
    ) {
    }
    pub(crate) fn settle(&mut self, _: Instant) {}
    pub(crate) fn check_end(&mut self, _: usize, _: Instant) {}
    pub(crate) fn on_attempt(&mut self, _: NodeId, _: u32, _: Instant) {}
    pub(crate) fn on_accepted(&mut self, _: usize, _: SessionId, _: NodeId, _: Instant) {}
    pub(crate) fn on_socket_gone(&mut self, _: NodeId, _: u64) {}
    pub(crate) fn on_renamed(&mut self, _: NodeId, _: u64) {}
    pub(crate) fn on_node_sends(&mut self, _: NodeId, _: u64, _: &Frame, _: Instant) {}
    pub(crate) fn on_node_receives(&mut self, _: NodeId, _: u64, _: &Frame, _: Instant) {}
    pub(crate) fn on_server_receives(
        &mut self,
        _: usize,
        _: SessionId,
        _: NodeId,
        _: &Frame,
        _: Instant,
    ) {
    }
    pub(crate) fn on_server_sends(
        &mut self,
        _: usize,
        _: SessionId,
        _: u64,
        _: &Frame,
        _: Instant,
    ) {
    }
    pub(crate) fn on_server_told(&mut self, _: usize, _: &ServerEvent, _: Instant) {}
}

type Verdict = Result<(), (&'static str, String)>;

fn must(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err((rule, what())) }
}

impl Watch {
    fn on_told(&mut self, told: &Told, clock: Instant) -> Verdict {
        match told {
            Told::Connected { connection } => {
                let first = self.connected.insert(*connection);
                must(first, "sockets", || "a socket opens while another is open".into())
            }
            Told::Disconnected { connection, .. } => {
                self.connected.remove(connection);
                self.disconnected_at = Some(clock);
                Ok(())
            }
            Told::Channel(key, told) => self.on_channel(*key, told, clock),
            Told::TokenNeeded | Told::Violation => Ok(()),
        }
    }

    fn on_channel(&mut self, key: ChannelKey, told: &ChannelTold, clock: Instant) -> Verdict {
        let standing = self.channels.get(&key).copied().unwrap_or(Standing::Away);
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
                Standing::Live
            }
            ChannelTold::Ended { number, .. } => {
                let first = self.ended.insert(*number);
                return must(first, "G3", || format!("push {number} ends twice"));
            }
            ChannelTold::Errored { cause, .. } => {
                let lost = matches!(
                    cause,
                    CauseKind::ConnectionLost | CauseKind::HeartbeatTimeout | CauseKind::Requested
                );
                must(!lost || self.disconnected_at == Some(clock), "G5", || {
                    format!("{key:?} errors before the disconnect that causes it is told")
                })?;
                Standing::Away
            }
            ChannelTold::Stopped { .. } | ChannelTold::Rejoining if standing == Standing::Live => {
                Standing::Joined
            }
            ChannelTold::Closed => Standing::Closed,
            _ => standing,
        };
        self.channels.insert(key, next);
        Ok(())
    }
}

//! What must hold for every client, whatever happens to it.
//!
//! The oracle knows what the servers did and what the applications were told, and nothing of how
//! either came about: it shares no state and no code with client or server. It reads frames with
//! the same decoder, and that is all.
//!
//! | rule | where |
//! |---|---|
//! | G1, G2, G4, G10: numbered messages leave in order, come in order, once, or as a gap | `accounts` |
//! | G10: since when something may be missing | `whole` |
//! | G3: pushes end once, and as it was | `pushes` |
//! | G3, G5: channels close once, and in the right order | `view` |
//! | G4, G6: what may leave on which socket, and no storms | `sockets` |
//! | G9: presence as it is shown, and as it is told | `truth`, `roster` |
//! | what is nobody's guarantee and everybody's expectation | `conduct`, `patience` |
//! | what causes ask of a client | `causes` |
//! | G11, G12: limits | `limits` |
//! | G14: secrets | `secrets` |
//!
//! G7 is checked by the world, G8 by whoever runs a scenario. That a world is asked for more than it
//! takes is the rule `flood`, for which no client is to blame.

mod accounts;
mod apps;
mod causes;
mod conduct;
mod frames;
mod limits;
mod patience;
mod pushes;
mod read;
mod roster;
mod script;
mod secrets;
mod sockets;
#[cfg(test)]
mod tests;
mod told;
mod truth;
mod view;
mod whole;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use realtime_proto::Instant;
use realtime_proto::server::{ServerEvent, SessionId};
use realtime_proto::wire::Envelope;

pub(crate) use self::causes::{is_of_transport, needs_somebody};
pub(crate) use self::script::{live_within, noticed_within};
pub(crate) use self::secrets::SECRET;

use self::accounts::{Accounts, Post};
use self::apps::Apps;
use self::conduct::Conduct;
use self::patience::Patience;
use self::pushes::Pushes;
use self::roster::Rosters;
use self::script::Script;
use self::sockets::Sockets;
use self::truth::Truth;
use self::view::View;
use self::whole::Whole;
use crate::NodeId;
use crate::node::Node;
use crate::scenario::{Cast, Settings, TopicId};
use crate::subject::{Missed, Seen};

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The guarantee that is broken, `G3` for instance, or `panic`; `flood` when the world was asked
    /// for more than it takes, `scenario` when what was to be run is none.
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

/// What a rule says: nothing, or which one is broken and how.
type Verdict = Result<(), (&'static str, String)>;

fn must(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err((rule, what())) }
}

/// Watches a world and keeps the first thing that does not hold.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) finding: Option<Finding>,
    /// What is known of the scenario, in a world that plays one.
    script: Option<Script>,
    /// Whether every event is looked through for secrets, which takes its time.
    pub(crate) reads_events: bool,
    views: BTreeMap<NodeId, View>,
    sockets: Sockets,
    accounts: Accounts,
    pushes: Pushes,
    patience: Patience,
    conduct: Conduct,
    truth: Truth,
    rosters: Rosters,
    apps: Apps,
    whole: Whole,
    /// The broadcast that a server is about to take.
    taken: Option<Held>,
    /// Broadcasts that reached a server which has not told them yet.
    held: VecDeque<Held>,
}

/// A broadcast of a client at a server.
#[derive(Clone, Copy, Debug)]
struct Held {
    server: usize,
    topic: TopicId,
    sender: NodeId,
    number: u64,
    came_at: Instant,
}

/// A session of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) server: usize,
    pub(crate) session: SessionId,
}

impl Oracle {
    /// Judges by a scenario from now on.
    pub(crate) fn follow(&mut self, cast: &Cast) {
        self.script = Some(Script::new(cast));
    }

    /// Writes down that something does not hold, unless something did not before.
    pub(crate) fn find(&mut self, rule: &'static str, at: Instant, what: impl FnOnce() -> String) {
        if self.finding.is_none() {
            self.finding = Some(Finding { rule, at, what: what() });
        }
    }

    /// How soon a client promises to be live.
    pub(crate) fn check_promise(
        &mut self,
        settings: &Settings,
        promised: Option<Duration>,
        now: Instant,
    ) {
        if let Err((rule, what)) = script::check_promise(settings, promised) {
            self.find(rule, now, || what);
        }
    }

    fn judge(&mut self, node: NodeId, at: Instant, verdict: Verdict) {
        if let Err((rule, what)) = verdict {
            self.find(rule, at, || format!("{node}: {what}"));
        }
    }

    fn topic_of(&self, envelope: &Envelope<'_>) -> Option<TopicId> {
        self.script.as_ref()?.topic(&envelope.topic)
    }
}

/// What the database and the servers do.
impl Oracle {
    /// A row changes: whoever asked for rows is to hear it.
    pub(crate) fn on_change(&mut self, number: u64, nodes: &[Node], now: Instant) {
        let Some(script) = &self.script else { return };
        let post = Post { number, stream: Missed::Changes, stored: false };
        self.accounts.on_passes(post, None, now, |node, topic| {
            let rows = script.rows_are_judged && script.spec(topic).is_some_and(|spec| spec.rows);
            rows.then(|| nodes[node.0].time(now))
        });
    }

    /// The servers tell a topic something that no client sent.
    pub(crate) fn on_announced(
        &mut self,
        topic: TopicId,
        number: u64,
        stored: bool,
        nodes: &[Node],
        now: Instant,
    ) {
        let post = Post { number, stream: Missed::Messages, stored };
        self.accounts
            .on_passes(post, None, now, |node, of| (of == topic).then(|| nodes[node.0].time(now)));
    }

    /// A server took a broadcast of a client and tells it to the others.
    fn on_relayed(
        &mut self,
        Held { server, topic, sender, number, came_at }: Held,
        nodes: &[Node],
        now: Instant,
    ) {
        let Some(script) = &self.script else { return };
        let post = Post { number, stream: Missed::Messages, stored: false };
        self.accounts.on_passes(post, Some((server, came_at)), now, |node, of| {
            let hears = of == topic && (node != sender || script.echoes(node, topic));
            hears.then(|| nodes[node.0].time(now))
        });
    }

    pub(crate) fn on_server_told(&mut self, server: usize, event: &ServerEvent) {
        if self.script.is_some() {
            self.truth.on_told(server, event);
            self.conduct.on_server_told(server, event);
        }
    }
}

/// The accounts, once everything is at rest.
impl Oracle {
    /// Compares what a live channel shows with who is there (G9). `shown` is the number that the
    /// application wants to be shown; without one, it wants to show none.
    pub(crate) fn check_presence(
        &mut self,
        node: NodeId,
        topic: TopicId,
        seen: Seen,
        shown: Option<u64>,
        now: Instant,
    ) {
        let Some(script) = &self.script else { return };
        let Some(name) = script.spec(topic).map(|spec| &*spec.topic) else { return };
        let verdict = self.sockets.server_of(node, name).map_or_else(
            || Err(("G9", format!("{name} is live and joined on no connection"))),
            |server| {
                let own = self.truth.shown_by(node, server, name);
                let is_shown = shown.map_or(own.is_empty(), |shown| own.contains(&shown));
                must(is_shown || self.apps.shows(node, name), "G9", || {
                    format!("{name} is to show {shown:?}, and the server shows {own:?}")
                })?;
                // A manager reads what managers write; what clients show has another form.
                let is_manager = script.is_manager(node);
                let reads = |of| !is_manager || script.is_manager(of);
                let there = self.truth.present(server, name, reads);
                self.truth.check(seen, &there, is_manager)
            },
        );
        self.judge(node, now, verdict);
    }

    /// Compares what was told of presence with whom the channel shows (G9), once no member is missing
    /// any more who is yet to be told as gone.
    pub(crate) fn check_roster(&mut self, node: NodeId, topic: TopicId, seen: &Seen, now: Instant) {
        let verdict = self.rosters.check(node, topic, seen);
        self.judge(node, now, verdict);
    }

    pub(crate) fn settle(&mut self, now: Instant) {
        let views = &self.views;
        let is_live = |node, key| views.get(&node).is_some_and(|view: &View| view.is_live(key));
        let of_live = |node, topic| views.get(&node).is_some_and(|view| view.has_live(topic));
        let sockets = self.sockets.settle(|node| {
            let script = self.script.as_ref();
            script.is_some_and(|script| script.is_manager(node)) && !self.apps.has(node)
        });
        let verdict = self.accounts.settle(is_live).and_then(|()| self.pushes.settle(of_live));
        let verdict = verdict.and(sockets);
        if let Err((rule, what)) = verdict {
            self.find(rule, now, || what);
        }
    }

    /// Everybody has gone: so many sessions are left at the servers, and this is the next deadline
    /// of a node, if one has any.
    pub(crate) fn check_end(
        &mut self,
        sessions: usize,
        deadline: Option<(Instant, NodeId)>,
        now: Instant,
    ) {
        if sessions > 0 {
            self.find("end", now, || format!("{sessions} sessions are left at the servers"));
        }
        if let Some((at, node)) = deadline {
            self.find("end", now, || format!("{node} has left and still waits for {at}"));
        }
        let ends: Vec<_> =
            self.views.iter().map(|(node, view)| (*node, view.check_end())).collect();
        for (node, verdict) in ends {
            self.judge(node, now, verdict);
        }
        let views = &self.views;
        let is_told = |node, _| views.get(&node).is_some_and(|view: &View| view.is_told);
        if let Err((rule, what)) = self.pushes.settle(is_told) {
            self.find(rule, now, || what);
        }
    }
}

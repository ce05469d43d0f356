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
mod truth;
mod view;
mod whole;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use realtime_proto::server::{ServerEvent, SessionId};
use realtime_proto::wire::{Envelope, Sender};
use realtime_proto::{Frame, Instant};

pub(crate) use self::causes::{is_of_transport, needs_somebody};
pub(crate) use self::script::{live_within, noticed_within};
pub(crate) use self::secrets::SECRET;

use self::accounts::{Accounts, Arrival, Post};
use self::apps::Apps;
use self::conduct::Conduct;
use self::patience::{Ended, Patience};
use self::pushes::Pushes;
use self::roster::Rosters;
use self::script::Script;
use self::sockets::Sockets;
use self::truth::Truth;
use self::view::View;
use self::whole::Whole;
use crate::NodeId;
use crate::app::Deed;
use crate::node::Node;
use crate::scenario::{Cast, Settings, TopicId, TopicSpec};
use crate::subject::{ChannelKey, ChannelTold, Command, Missed, Seen, Told};

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
}

/// More broadcasts than this wait behind no join; older ones were dropped by the server.
const HELD_MAX: usize = 1_000;

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

/// What applications do and are told.
impl Oracle {
    /// An application asks its client for something.
    pub(crate) fn on_asked(&mut self, node: NodeId, command: &Command<'_>, now: Instant) {
        let script = self.script.as_ref();
        let is_manager = script.is_some_and(|script| script.is_manager(node));
        let name = |topic| Some(script?.spec(topic)?.topic.clone());
        self.conduct.on_asked(node, command, is_manager, name, now);
        if !matches!(command, Command::Send(..) | Command::Hint) {
            self.views.entry(node).or_default().on_asked();
        }
        if script.is_some() {
            // Of a manager it is not known which of its connections have channels.
            let is_needed = !is_manager && self.views.get(&node).is_some_and(View::has_channels);
            self.patience.on_asked(node, command, is_needed);
        }
    }

    /// An application was told something. It may ask its client again for anything then, and what
    /// it did for certain counts as a command of the scenario.
    pub(crate) fn on_app(&mut self, node: NodeId, deeds: &[Deed], now: Instant) {
        self.apps.on_told(node);
        self.on_command(node, now);
        self.conduct.on_app(node);
        self.patience.excuse(node);
        for deed in deeds {
            self.on_asked(node, &deed.command(), now);
            if let Deed::Close(topic) = deed {
                self.on_given_up(node, *topic, now);
            }
        }
    }

    pub(crate) fn on_sleeps(&mut self, node: NodeId, now: Instant) {
        self.conduct.on_sleeps(node, now);
        self.patience.on_hindered(node);
    }

    /// A node goes on; `suspended` when its machine slept and not only its driver.
    pub(crate) fn on_woke(&mut self, node: NodeId, suspended: bool, now: Instant) {
        self.conduct.on_woke(node, suspended, now);
        self.whole.on_woke(node);
        self.patience.on_hindered(node);
        self.patience.excuse(node);
    }

    /// A server refuses a connection and says how long to wait before the next.
    pub(crate) fn on_told_to_wait(&mut self, link: u64, until: Instant) {
        self.conduct.on_told_to_wait(link, until);
    }

    /// A server has this token for a channel of a node that is live.
    pub(crate) fn check_token(
        &mut self,
        node: NodeId,
        topic: &str,
        token: Option<&str>,
        now: Instant,
    ) {
        let verdict = self.conduct.check_token(node, topic, token);
        self.judge(node, now, verdict);
    }

    /// Only what is wanted is joined.
    pub(crate) fn check_joined(
        &mut self,
        is_held: impl Fn(usize, SessionId) -> bool,
        is_wanted: impl Fn(NodeId, &str) -> bool,
        now: Instant,
    ) {
        if let Err((rule, what)) = self.conduct.settle(is_held, is_wanted) {
            self.find(rule, now, || what);
        }
    }

    /// An application is given a command, or gives one.
    pub(crate) fn on_command(&mut self, node: NodeId, now: Instant) {
        self.sockets.excuse(node, now);
    }

    /// A node tells its application something, at this time by its own clock, and no later than
    /// that by its client's, for which time does not go back.
    pub(crate) fn on_told(
        &mut self,
        node: NodeId,
        told: &Told,
        (clock, latest): (Instant, Instant),
        now: Instant,
    ) {
        let events_max = self.script.as_ref().map(|script| script.events_max);
        let view = self.views.entry(node).or_default();
        let was_live = view.is_all_live();
        let is_new = matches!(told, Told::Channel(key, _) if view.is_new(*key));
        let is_manager = self.script.as_ref().is_some_and(|script| script.is_manager(node));
        let verdict = view.on_told(told, clock, events_max, is_manager);
        self.judge(node, now, verdict);
        let verdict = match told {
            Told::Disconnected { connection, cause, retry_at } => {
                let (connection, cause, retry_at) = (*connection, *cause, *retry_at);
                let ended = Ended { connection, cause, retry_at, was_live };
                self.on_disconnected(node, ended, clock, now)
            }
            Told::Channel(_, ChannelTold::Ended { number, end }) => {
                self.pushes.on_ended(node, *number, *end)
            }
            // A manager begins with how a channel stands that others have already.
            Told::Channel(_, ChannelTold::Errored { .. }) if is_new && is_manager => Ok(()),
            Told::Channel(key, told) => self.on_channel(node, *key, told, (clock, latest), now),
            Told::Connected { .. } | Told::TokenNeeded | Told::Violation | Told::Note(_) => Ok(()),
        };
        self.judge(node, now, verdict);
    }

    fn on_disconnected(
        &mut self,
        node: NodeId,
        ended: Ended,
        clock: Instant,
        now: Instant,
    ) -> Verdict {
        let Some(script) = &self.script else { return Ok(()) };
        let after = ended.retry_at.map(|at| at.saturating_duration_since(clock));
        self.conduct.on_disconnected((node, ended.connection), ended.cause, after, now)?;
        // A manager, or an application, may have channels that nobody knows of.
        let knows_all = !script.is_manager(node) && !self.apps.has(node);
        let ended = Ended { was_live: ended.was_live && knows_all, ..ended };
        self.patience.on_disconnected(node, ended, script, clock)
    }

    fn on_channel(
        &mut self,
        node: NodeId,
        key: ChannelKey,
        told: &ChannelTold,
        (clock, latest): (Instant, Instant),
        now: Instant,
    ) -> Verdict {
        let Some(script) = self.script.as_ref().filter(|_| key.topic != ChannelKey::OF_APP) else {
            return Ok(());
        };
        match told {
            ChannelTold::Live => {
                self.sockets.excuse(node, now);
                self.patience.on_live(node, key.topic, clock);
            }
            ChannelTold::Errored { cause, retry_at } => {
                let told = (*cause, *retry_at);
                self.patience.on_errored(node, key.topic, told, script, clock)?;
            }
            _ => {}
        }
        let is_manager = script.is_manager(node);
        self.accounts.on_told(node, key, told, is_manager, latest)?;
        self.rosters.on_told(node, key, told, is_manager)
    }

    /// What a node shows when it is printed, an event or all of it.
    pub(crate) fn on_shown(&mut self, node: NodeId, what: &str, text: &str, now: Instant) {
        if !text.is_empty() {
            let verdict = secrets::check(what, text);
            self.judge(node, now, verdict);
        }
    }

    pub(crate) fn on_wanted(&mut self, node: NodeId, key: ChannelKey) {
        self.views.entry(node).or_default().on_wanted(key);
    }

    pub(crate) fn on_given_up(&mut self, node: NodeId, topic: TopicId, now: Instant) {
        self.accounts.on_given_up(node, topic);
        self.patience.on_given_up(node, topic, now);
        self.views.entry(node).or_default().on_given_up(topic);
    }

    pub(crate) fn on_send(&mut self, node: NodeId, topic: TopicId, number: u64) {
        self.pushes.on_send(node, topic, number);
    }

    pub(crate) fn on_send_refused(&mut self, node: NodeId, number: u64, now: Instant) {
        let verdict = self.pushes.on_send_refused(node, number);
        self.judge(node, now, verdict);
    }

    /// A process died, and all that was owed to it is nobody's.
    pub(crate) fn on_restarted(&mut self, node: NodeId) {
        self.views.remove(&node);
        self.sockets.on_restarted(node);
        self.conduct.on_restarted(node);
        self.accounts.on_restarted(node);
        self.rosters.on_restarted(node);
        self.apps.on_restarted(node);
        self.pushes.on_restarted(node);
        self.patience.on_restarted(node);
        self.whole.on_restarted(node);
    }

    /// The clock of a node goes back, whose client saw nothing later than `seen`.
    pub(crate) fn on_clock_back(&mut self, node: NodeId, seen: Instant) {
        self.accounts.on_clock_back(node, seen);
        self.conduct.on_clock_back(node);
        self.patience.on_clock_back(node);
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
        Held { server, topic, sender, number }: Held,
        nodes: &[Node],
        now: Instant,
    ) {
        let Some(script) = &self.script else { return };
        let post = Post { number, stream: Missed::Messages, stored: false };
        self.accounts.on_passes(post, Some(server), now, |node, of| {
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

/// Frames and sockets.
impl Oracle {
    /// A node begins to connect, no later than at `clock` by its client's time.
    pub(crate) fn on_connects(
        &mut self,
        of: (NodeId, u32),
        link: u64,
        clock: Instant,
        now: Instant,
    ) {
        if self.script.is_some() {
            let verdict = self.conduct.on_attempt(of, link, clock);
            self.judge(of.0, now, verdict);
            let verdict = self.patience.on_attempt(of, link, clock);
            self.judge(of.0, now, verdict);
        }
    }

    pub(crate) fn on_attempt(&mut self, of: (NodeId, u32), to: (u64, usize), now: Instant) {
        self.whole.on_attempt(of, to.0);
        let verdict = self.sockets.on_attempt(of, to, self.script.as_ref(), now);
        self.judge(of.0, now, verdict);
    }

    pub(crate) fn on_accepted(&mut self, at: At, node: NodeId) {
        self.truth.on_accepted(at.server, at.session, node);
        self.conduct.on_accepted(at.server, at.session, node);
    }

    pub(crate) fn on_socket_gone(&mut self, link: u64, now: Instant) {
        self.sockets.on_gone(link);
        self.conduct.on_gone(link, now);
        self.pushes.on_gone(link);
        self.patience.on_gone(link);
        self.whole.on_gone(link);
    }

    /// A link goes on under another name.
    pub(crate) fn on_renamed(&mut self, before: u64, after: u64) {
        self.sockets.on_renamed(before, after);
        self.conduct.on_renamed(before, after);
        self.pushes.on_renamed(before, after);
        self.patience.on_renamed(before, after);
        self.whole.on_renamed(before, after);
    }

    /// A node's driver carried out all that it was asked for, and the application took all events.
    pub(crate) fn on_drained(&mut self, node: NodeId, clock: Instant, now: Instant) {
        self.sockets.on_drained(node);
        if self.script.is_some() {
            self.whole.on_drained(node);
            self.pushes.on_drained(node);
            let verdict = self.patience.on_drained(node, clock);
            self.judge(node, now, verdict);
        }
    }

    /// A node's driver does not get to all that it is asked for, at this time by its own clock.
    pub(crate) fn on_waits(&mut self, node: NodeId, clock: Instant) {
        if self.script.is_some() {
            self.whole.on_waits(node, clock);
            self.pushes.on_waits(node);
            self.patience.on_hindered(node);
        }
    }

    /// A node learns that a socket is open, at this time by its own clock.
    pub(crate) fn on_opened(&mut self, link: u64, clock: Instant) {
        self.whole.on_opened(link, clock);
        self.patience.on_opened(link);
    }

    /// A frame leaves a node; `clock` is its own time.
    pub(crate) fn on_node_sends(
        &mut self,
        (node, link): (NodeId, u64),
        frame: &Frame,
        clock: Instant,
        now: Instant,
    ) {
        let verdict = limits::check_frame(frame);
        self.judge(node, now, verdict);
        let Some(envelope) = read::read(Sender::Client, frame) else {
            return self.find("G6", now, || format!("{node} sends what nobody can read"));
        };
        if let Some(script) = &self.script {
            self.whole.on_leaves(link, &envelope, clock);
            let of = (node, link);
            let verdict = self.patience.on_leaves(of, &envelope, script, (clock, now));
            self.judge(node, now, verdict);
        }
        let verdict = self.sockets.on_leaves(link, &envelope, self.script.as_ref(), now);
        self.judge(node, now, verdict);
        let supabase = self.topic_of(&envelope).and_then(|topic| self.script.as_ref()?.spec(topic));
        let supabase = supabase.is_some_and(TopicSpec::is_supabase);
        let verdict = self.conduct.on_leaves(node, link, &envelope, supabase);
        self.judge(node, now, verdict);
        self.apps.on_leaves(node, &envelope);
        if envelope.event == "phx_join" {
            self.pushes.on_join(link, &envelope);
        }
        let Some(number) = broadcast_number(&envelope) else { return };
        let verdict = self.pushes.on_leaves((node, link), &envelope, number);
        self.judge(node, now, verdict);
        if let Some(topic) = self.topic_of(&envelope) {
            let verdict = self.accounts.on_leaves(node, topic, number);
            self.judge(node, now, verdict);
        }
    }

    pub(crate) fn on_node_receives(
        &mut self,
        node: NodeId,
        (link, server): (u64, usize),
        frame: &Frame,
        clock: Instant,
    ) {
        self.views.entry(node).or_default().backlog.on_read();
        let Some(envelope) = read::read(Sender::Server, frame) else { return };
        let arrived = self.sockets.on_arrives(link, &envelope);
        self.conduct.on_arrives(link, &envelope);
        if self.script.is_some() {
            self.whole.on_arrives(link, &envelope, arrived.joins, clock);
            self.patience.on_arrives(link, &envelope, arrived.joins);
        }
        if envelope.event == "phx_reply" {
            self.pushes.on_reply(link, &envelope);
        }
        let Some(topic) = self.topic_of(&envelope) else { return };
        if arrived.joins {
            self.accounts.on_joined(node, topic, server);
        }
        let stream = match &*envelope.event {
            "phx_reply" | "phx_close" | "phx_error" | "system" | "presence_state"
            | "presence_diff" => return,
            "postgres_changes" => Missed::Changes,
            _ => Missed::Messages,
        };
        if let Some(number) = read::number(&envelope) {
            let replayed = stream == Missed::Messages && read::is_replayed(&envelope);
            let (stale, whole_until) = (arrived.is_stale, self.whole.until(link));
            let arrival = Arrival { number, stream, replayed, stale, whole_until };
            self.accounts.on_arrives(node, topic, arrival);
        }
    }

    /// A frame is about to be given to a server.
    pub(crate) fn on_server_receives(&mut self, at: At, node: NodeId, frame: &Frame) {
        if self.script.is_none() {
            return;
        }
        let Some(envelope) = read::read(Sender::Client, frame) else { return };
        if envelope.event == "presence" {
            self.truth.on_presence_call(at.server, at.session, &envelope);
        }
        let Some(topic) = self.topic_of(&envelope) else { return };
        if let Some(number) = broadcast_number(&envelope) {
            self.taken = Some(Held { server: at.server, topic, sender: node, number });
        }
    }

    /// The server has taken the frame; `relays` when it counts a broadcast more than before.
    pub(crate) fn on_server_took(&mut self, relays: bool, nodes: &[Node], now: Instant) {
        let Some(held) = self.taken.take() else { return };
        if relays {
            return self.on_relayed(held, nodes, now);
        }
        // It waits behind a join and passes when it is sent on, or it never does.
        self.held.push_back(held);
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }

    /// Whether it waits for a message that a server has and did not pass on yet.
    pub(crate) fn awaits_words(&self) -> bool {
        !self.held.is_empty()
    }

    /// The honest half of a server says something, whatever becomes of it on the way out.
    pub(crate) fn on_server_says(
        &mut self,
        server: usize,
        frame: &Frame,
        nodes: &[Node],
        now: Instant,
    ) {
        if self.held.is_empty() {
            return;
        }
        let Some(envelope) = read::read(Sender::Server, frame) else { return };
        let Some(number) = broadcast_number(&envelope) else { return };
        let at = self.held.iter().position(|held| (held.server, held.number) == (server, number));
        if let Some(held) = at.and_then(|at| self.held.remove(at)) {
            self.on_relayed(held, nodes, now);
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
        let sockets = self.script.as_ref().map_or(Ok(()), |script| self.sockets.settle(script));
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

/// The number of a broadcast, or of a message of a plain channel.
fn broadcast_number(envelope: &Envelope<'_>) -> Option<u64> {
    matches!(&*envelope.event, "broadcast" | "n").then(|| read::number(envelope)).flatten()
}

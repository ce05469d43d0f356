//! What applications do and are told.

use realtime_proto::Instant;
use realtime_proto::server::SessionId;

use super::causes::waiting_helps;
use super::patience::Ended;
use super::script::Script;
use super::view::View;
use super::{Oracle, Verdict, secrets};
use crate::NodeId;
use crate::app::Deed;
use crate::scenario::TopicId;
use crate::subject::{ChannelKey, ChannelTold, Command, Told};

impl Oracle {
    /// An application asks its client for something.
    pub(crate) fn on_asked(&mut self, node: NodeId, command: &Command<'_>, now: Instant) {
        let script = self.script.as_ref();
        let is_manager = script.is_some_and(|script| script.is_manager(node));
        let name = |topic| Some(script?.spec(topic)?.topic.clone());
        self.conduct.on_asked(node, command, is_manager, name, now);
        if !matches!(command, Command::Send(..) | Command::Hint) {
            let joins = rejoined(command, script);
            self.views.entry(node).or_default().on_asked(joins);
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
        for deed in deeds {
            self.on_asked(node, &deed.command(), now);
            if let Deed::Close(topic) = deed {
                self.on_given_up(node, *topic, now);
            }
        }
        self.patience.on_app(node);
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
    }

    /// A server refuses a connection with a status and says how long to wait before the next. When
    /// no wait helps, whoever is asked to may try at once.
    pub(crate) fn on_told_to_wait(&mut self, link: u64, status: u16, until: Instant) {
        if waiting_helps(status) {
            self.conduct.on_told_to_wait(link, until);
        }
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
        let was_live = matches!(told, Told::Disconnected { .. }) && view.is_all_live();
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
        self.conduct.on_clock_late(node);
        self.patience.on_late(node);
    }

    /// The clock of a node stands still.
    pub(crate) fn on_clock_stopped(&mut self, node: NodeId) {
        self.conduct.on_clock_late(node);
    }

    /// The timers of a node come whenever somebody chooses.
    pub(crate) fn on_timers_chosen(&mut self, node: NodeId) {
        self.patience.on_late(node);
    }
}

/// The topic that is joined once more for what is asked.
fn rejoined(command: &Command<'_>, script: Option<&Script>) -> Option<TopicId> {
    match command {
        Command::Open(topic) | Command::Rebind(topic) | Command::Rejoin(topic) => Some(*topic),
        // Who shows something where nobody asked for presence asks for it.
        Command::Track(topic, _) => {
            let spec = script.and_then(|script| script.spec(*topic));
            spec.is_some_and(|spec| !spec.presence).then_some(*topic)
        }
        _ => None,
    }
}

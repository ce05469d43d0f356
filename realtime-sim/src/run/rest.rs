//! A world that is healed: everything is live again, comes to rest, and ends.

use core::time::Duration;

use realtime_proto::Instant;
use realtime_proto::server::SessionId;

use super::{CLOSES_AFTER, SETTLES_AFTER, Stage, TOKEN_LIVES};
use crate::NodeId;
use crate::credentials::BEGIN;
use crate::oracle::{live_within, noticed_within};
use crate::scenario::{Act, ActorId, TopicId};
use crate::subject::{Command, client_config};
use crate::trace::Who;

impl Stage<'_> {
    /// Nothing breaks any more, and people do what people do when a program tells them that it
    /// gave up.
    pub(super) fn heal(&mut self) {
        let now = self.world.now;
        self.world.trace.write(now, Who::World, "heal", (), String::new);
        for server in 0..self.world.backends.len() {
            self.world.backends[server].away = None;
            self.world.backends[server].calm(now);
            self.world.flush_server(server);
        }
        // What lasted does not end once more.
        self.world.ends.clear();
        self.world.bring_database_back();
        self.listen();
        for player in 0..self.actors.len() {
            let node = self.actors[player].node;
            self.world.heal(node);
            self.world.nodes[node.0].sleeps_until = now;
            self.world.wake(node);
            self.set_wall(node, BEGIN + now.since_epoch());
            if self.scenario.cast.settings.tokens {
                self.set_token(ActorId(player as u8), TOKEN_LIVES * 24);
            }
        }
        self.listen();
    }

    /// What gave up is asked for again.
    fn revive(&mut self) {
        for player in 0..self.actors.len() {
            let who = ActorId(player as u8);
            if self.actors[player].online && matches!(self.actors[player].down, Some((_, false))) {
                self.actors[player].down = None;
                self.perform(who, &Command::Connect);
            }
            for (topic, wanted) in self.actors[player].wanted.clone() {
                if wanted.closed {
                    self.open(who, topic);
                } else if matches!(wanted.trouble, Some((_, false))) {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(&topic) {
                        wanted.trouble = None;
                    }
                    self.perform(who, &Command::Rejoin(topic));
                }
            }
        }
    }

    /// How long after the healing every wanted channel is live at the latest, by the settings.
    fn live_within(&self) -> Duration {
        let settings = &self.scenario.cast.settings;
        let way = settings.delay + settings.jitter;
        // A server may hold a connection for what it refused last; a clock that went back lets
        // every timer wait for as long.
        live_within(settings, self.scenario.cast.topics.len())
            + settings.subscribed_after.max(self.subscribes_late)
            + settings.token_after
            + 20 * way
            + Duration::from_secs(20)
            + self.backwards
    }

    /// How long every channel is to stay live: so long that whatever died before has been noticed.
    fn stays_for(&self) -> Duration {
        noticed_within(&self.scenario.cast.settings).max(SETTLES_AFTER) + self.backwards
    }

    /// Waits until every wanted channel is live and has been so for long, and tells how long after
    /// the healing they were live for good.
    pub(super) fn wait_until_live(&mut self) -> Option<Duration> {
        const REVIVE_EVERY: Duration = Duration::from_secs(1);
        /// So long, after all must be live, what is under way yet is waited for.
        const ARRIVES_WITHIN: Duration = Duration::from_secs(600);
        let settings = &self.scenario.cast.settings;
        let promised = client_config(&self.scenario.cast, "").live_within();
        self.world.oracle.check_promise(settings, promised, self.world.now);
        let (begin, within, stays_for) = (self.world.now, self.live_within(), self.stays_for());
        self.is_healed = true;
        loop {
            self.revive();
            self.look();
            if self.is_over() {
                return None;
            }
            let (now, latest) = (self.world.now, begin + within);
            if now > latest && self.live_since.is_none_or(|since| since > latest) {
                let what = self.what_is_not_live();
                self.world
                    .oracle
                    .find("G8", now, || format!("{what} is not live {within:?} after the healing"));
                return None;
            }
            let until = self.live_since.map(|since| since + stays_for);
            match until.map(|until| until.saturating_duration_since(now)) {
                Some(Duration::ZERO) if self.is_quiet() || now > latest + ARRIVES_WITHIN => {
                    let since = self.live_since.unwrap_or(now);
                    return Some(since.saturating_duration_since(begin));
                }
                Some(Duration::ZERO) | None => self.pass(REVIVE_EVERY),
                Some(rest) => self.pass(rest.min(REVIVE_EVERY)),
            }
        }
    }

    /// Whether no server has a session yet that its client is done with: what was under way to it may
    /// take long, and its close is behind that.
    fn is_quiet(&self) -> bool {
        self.world.links.values().all(|link| link.wanted || link.session.is_none())
    }

    /// Whether everything is live at this moment, once it is healed.
    pub(super) fn look(&mut self) {
        if self.is_healed {
            let is_live = self.not_live().is_none();
            self.live_since = if is_live { self.live_since.or(Some(self.world.now)) } else { None };
        }
    }

    fn not_live(&mut self) -> Option<(ActorId, TopicId)> {
        for (at, player) in self.actors.iter().enumerate() {
            if !player.online {
                continue;
            }
            for topic in player.wanted.keys() {
                if !self.world.nodes[player.node.0].host.is_live(*topic) {
                    return Some((ActorId(at as u8), *topic));
                }
            }
        }
        None
    }

    fn what_is_not_live(&mut self) -> String {
        let Some((who, topic)) = self.not_live() else { return "some channel".into() };
        let cast = &self.scenario.cast;
        let topic = &cast.topics[usize::from(topic.0)].name;
        format!("{topic} of {}", cast.actors[usize::from(who.0)].name)
    }

    /// The accounts, once everything is at rest.
    pub(super) fn settle(&mut self) {
        let now = self.world.now;
        for at in 0..self.actors.len() {
            let (node, online) = (self.actors[at].node, self.actors[at].online);
            for (topic, wanted) in self.actors[at].wanted.clone() {
                let spec = &self.scenario.cast.topics[usize::from(topic.0)];
                let host = &mut self.world.nodes[node.0].host;
                // What happened last may have taken a channel down again.
                if online && spec.presence && host.is_live(topic) {
                    let (seen, is_told) = (host.present(topic), host.tells_members());
                    if is_told {
                        self.world.oracle.check_roster(node, topic, &seen, now);
                    }
                    self.world.oracle.check_presence(node, topic, seen, wanted.shown, now);
                }
            }
            if let Err(what) = self.world.nodes[node.0].host.check() {
                let name = &self.scenario.cast.actors[at].name;
                self.world.oracle.find("application", now, || format!("{name}: {what}"));
            }
            let shown = format!("{:?}", self.world.nodes[node.0].host);
            self.world.oracle.on_shown(node, "its client", &shown, now);
        }
        self.world.oracle.settle(now);
        self.check_servers(now);
    }

    /// What the servers have of the applications is what those want, with their newest tokens.
    fn check_servers(&mut self, now: Instant) {
        let (actors, topics) = (&self.actors, &self.scenario.cast.topics);
        // What an application opened itself is no ghost while its machine knows of it.
        let host = |node: NodeId| &self.world.nodes[node.0].host;
        let of_apps: Vec<(NodeId, Vec<String>)> =
            actors.iter().map(|player| (player.node, host(player.node).channels())).collect();
        let is_of_app = |node: NodeId, topic: &str| {
            let mut channels = of_apps.iter().filter(|(of, _)| *of == node).flat_map(|(_, of)| of);
            channels.any(|of| of == topic)
        };
        let is_wanted = |node: NodeId, topic: &str| {
            let player = actors.iter().find(|player| player.node == node);
            player.is_some_and(|player| {
                let mut wanted = player.wanted.keys();
                player.online && wanted.any(|id| topics[usize::from(id.0)].topic == topic)
            }) || is_of_app(node, topic)
        };
        let (sessions, links) = (&self.world.sessions, &self.world.links);
        let is_held = |server: usize, session: SessionId| {
            let link = sessions.get(&(server, session)).and_then(|id| links.get(id));
            link.is_some_and(|link| link.wanted)
        };
        self.world.oracle.check_joined(is_held, is_wanted, now);
        for player in actors.iter().filter(|player| player.online) {
            for topic in player.wanted.keys().map(|id| &topics[usize::from(id.0)]) {
                let links = self.world.links.values().filter(|link| link.node == player.node);
                let mut tokens = links.filter(|link| link.open).filter_map(|link| {
                    self.world.backends[link.server]
                        .server
                        .access_token(link.session?, &topic.topic)
                });
                if let Some(token) = tokens.next_back().map(|token| token.expose().to_owned()) {
                    let (node, topic) = (player.node, &topic.topic);
                    self.world.oracle.check_token(node, topic, Some(&token), now);
                }
            }
        }
    }

    /// Everybody goes, and nothing is left.
    pub(super) fn close(&mut self) {
        self.is_healed = false;
        for player in 0..self.actors.len() {
            let who = ActorId(player as u8);
            for topic in self.actors[player].wanted.clone().into_keys() {
                self.act(who, &Act::Close { topic });
            }
            self.act(who, &Act::Disconnect {});
        }
        self.pass(CLOSES_AFTER + self.backwards);
        // Who has a token watches over it, connected or not.
        for player in 0..self.actors.len() {
            self.act(ActorId(player as u8), &Act::SignOut {});
        }
        let now = self.world.now;
        if !self.is_over() {
            // An application may have come back.
            let back = self.actors.iter().filter(|player| player.online).map(|player| player.node);
            let back: Vec<NodeId> = back.collect();
            let servers = self.world.backends.iter();
            let all: usize = servers.clone().map(|backend| backend.server.stats().sessions).sum();
            let theirs = |node: &NodeId| {
                servers.clone().map(|backend| backend.sessions_of(*node).len()).sum::<usize>()
            };
            let sessions = all - back.iter().map(theirs).sum::<usize>();
            let mut deadlines = self.world.deadlines.iter();
            let deadline = deadlines.find(|(_, node)| !back.contains(node)).copied();
            self.world.oracle.check_end(sessions, deadline, now);
        }
    }
}

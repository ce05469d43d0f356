//! What applications do.

use core::time::Duration;

use realtime_proto::Payload;

use super::{Stage, Wanted};
use crate::NodeId;
use crate::app::Deed;
use crate::credentials::{self, BEGIN};
use crate::fault::WhoNotices;
use crate::node::{Reading, Sleep};
use crate::scenario::{Act, ActorId, Part, TopicId};
use crate::subject::{ChannelKey, Command, Performed, Role, numbered};

impl Stage<'_> {
    pub(super) fn perform(&mut self, who: ActorId, command: &Command<'_>) -> Performed {
        let node = self.actors[usize::from(who.0)].node;
        let now = self.world.nodes[node.0].tell_time(self.world.now);
        if !matches!(command, Command::Send(..) | Command::Track(..) | Command::Untrack(_)) {
            self.world.oracle.on_command(node, self.world.now);
        }
        self.world.oracle.on_asked(node, command, self.world.now);
        self.world.observer.on_command(node, command);
        self.world.keep_changes();
        let performed = self.world.nodes[node.0].host.perform(command, now);
        self.world.flush(node);
        self.listen();
        performed
    }

    pub(super) fn set_token(&mut self, who: ActorId, lives: Duration) {
        self.tokens += 1;
        let expires = BEGIN + self.world.now.since_epoch() + lives;
        let name = &self.scenario.cast.actors[usize::from(who.0)].name;
        let token = credentials::token(name, expires, self.tokens);
        self.perform(who, &Command::Token(Some(&token)));
    }

    pub(super) fn act(&mut self, who: ActorId, act: &Act) {
        let player = usize::from(who.0);
        let conditions = self.conditions(self.actors[player].node);
        self.world.observer.on_act(act, conditions);
        match act {
            Act::Connect {} => {
                self.actors[player].online = true;
                self.perform(who, &Command::Connect);
            }
            Act::Disconnect {} => {
                self.actors[player].online = false;
                self.perform(who, &Command::Disconnect);
            }
            Act::Open { topic } => self.open(who, *topic),
            Act::Close { topic } => {
                if self.actors[player].wanted.remove(topic).is_some() {
                    let (node, now) = (self.actors[player].node, self.world.now);
                    self.world.oracle.on_given_up(node, *topic, now);
                    self.perform(who, &Command::Close(*topic));
                }
            }
            Act::Send { topic } => self.send(who, *topic),
            Act::Flood { topic, count } => {
                for _ in 0..*count {
                    self.send(who, *topic);
                }
            }
            Act::Track { topic } => {
                let number = self.number();
                if self.perform(who, &Command::Track(*topic, number)) == Performed::Done {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(topic) {
                        wanted.shown = Some(number);
                    }
                }
            }
            Act::Untrack { topic } => {
                // To a manager this is to go.
                if self.actors[player].part == Part::Manager {
                    return self.act(who, &Act::Close { topic: *topic });
                }
                if self.perform(who, &Command::Untrack(*topic)) == Performed::Done {
                    if let Some(wanted) = self.actors[player].wanted.get_mut(topic) {
                        wanted.shown = None;
                    }
                }
            }
            Act::Rebind { topic } => {
                if self.scenario.cast.topics[usize::from(topic.0)].is_supabase() {
                    self.perform(who, &Command::Rebind(*topic));
                }
            }
            Act::Rejoin { topic } => {
                self.perform(who, &Command::Rejoin(*topic));
            }
            Act::Token { lives } => self.set_token(who, *lives),
            Act::SignOut {} => {
                self.perform(who, &Command::Token(None));
            }
            Act::Hint {} => {
                self.perform(who, &Command::Hint);
            }
        }
    }

    pub(super) fn open(&mut self, who: ActorId, topic: TopicId) {
        let at = usize::from(who.0);
        let node = self.actors[at].node;
        let has_app = self.has_app(node);
        // What is told of the new channel meanwhile is told of it already.
        let before = self.actors[at].wanted.get(&topic).copied();
        self.actors[at]
            .wanted
            .insert(topic, Wanted { closed: false, ..before.unwrap_or_default() });
        let performed = self.perform(who, &Command::Open(topic));
        let wanted = &mut self.actors[at].wanted;
        if has_app && !wanted.contains_key(&topic) {
            // The application has closed it in the meantime.
            return;
        }
        match (performed, before) {
            (Performed::Refused, _) if has_app => {
                // The application has the topic itself.
                wanted.remove(&topic);
                self.world.oracle.on_given_up(node, topic, self.world.now);
            }
            (Performed::Refused, Some(before)) => _ = wanted.insert(topic, before),
            (Performed::Refused, None) => _ = wanted.remove(&topic),
            (Performed::Opened(key), _) => self.on_opened(who, key),
            (Performed::Done, _) => {}
        }
    }

    fn on_opened(&mut self, who: ActorId, key: ChannelKey) {
        let player = &mut self.actors[usize::from(who.0)];
        let node = player.node;
        let wanted = player.wanted.entry(key.topic).or_default();
        wanted.key = Some(key);
        let shown = wanted.shown;
        self.world.oracle.on_wanted(node, key);
        self.world.observer.on_opened(node, key);
        self.world.keep_changes();
        // Who opens a channel again shows there what it showed before.
        if let Some(number) = shown {
            self.perform(who, &Command::Track(key.topic, number));
        }
    }

    pub(super) fn has_app(&self, node: NodeId) -> bool {
        self.world.nodes[node.0].host.app().is_some()
    }

    /// What applications did of their own accord counts as if the scenario had said so.
    pub(super) fn heed(&mut self) {
        for (node, deed) in core::mem::take(&mut self.world.done) {
            let Some(player) = self.actors.iter_mut().find(|player| player.node == node) else {
                continue;
            };
            match deed {
                Deed::Connect => player.online = true,
                Deed::Disconnect => player.online = false,
                Deed::Close(topic) => _ = player.wanted.remove(&topic),
                Deed::Token(_) => {}
            }
        }
    }

    fn send(&mut self, who: ActorId, topic: TopicId) {
        let number = self.number();
        let node = self.actors[usize::from(who.0)].node;
        // The oracle knows of it before anything can come of it.
        self.world.oracle.on_send(node, topic, number);
        if self.perform(who, &Command::Send(topic, number)) != Performed::Done {
            self.world.oracle.on_send_refused(node, number, self.world.now);
            self.world.observer.on_refused();
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// A process dies, and another one begins where it began.
    pub(super) fn restart(&mut self, who: ActorId) {
        let (scenario, at) = (self.scenario, usize::from(who.0));
        let node = self.node(who);
        for link in self.world.links_of(node) {
            self.world.break_link(link, WhoNotices::Server);
            self.world.forget_links_of(node);
        }
        self.actors[at].restarts += 1;
        let role = Role {
            actor: &scenario.cast.actors[at],
            cast: &scenario.cast,
            restarts: self.actors[at].restarts,
        };
        let seed = self.world.seed.child("restart", u64::from(role.restarts) << 8 | at as u64).0;
        let clock = self.world.nodes[node.0].clock.read(self.world.now);
        let host = (self.start)(&role, seed, clock);
        if let Some(stats) = self.world.nodes[node.0].host.stats() {
            self.world.observer.on_stats(&stats);
        }
        let player = &mut self.world.nodes[node.0];
        player.host = host;
        (player.seen, player.told) = (clock, clock);
        player.inbox.clear();
        player.write_blocked = None;
        player.sleep = Sleep::Awake;
        player.reading = Reading::Reads;
        self.world.oracle.on_restarted(node);
        self.world.refresh_deadline(node);
        let wanted = core::mem::take(&mut self.actors[at].wanted);
        self.actors[at].down = None;
        self.dress(who);
        if self.actors[at].online {
            self.act(who, &Act::Connect {});
        }
        for (topic, before) in wanted {
            self.open(who, topic);
            if before.shown.is_some() {
                self.act(who, &Act::Track { topic });
            }
        }
    }
}

/// A payload that bears a number.
pub(super) fn payload(number: u64) -> Payload {
    Payload::from_json(numbered(number)).expect("a number is JSON")
}

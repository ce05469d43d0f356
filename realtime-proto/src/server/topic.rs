//! Who is joined where, and what goes to all of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::Server;
use super::channel::{Channel, Kind};
use super::event::{ServerEvent, SessionId};
use super::presence::Presences;
use super::session::{Encoded, Gate};
use crate::wire::{Body, Envelope, Vsn};

/// The members of one topic. Private and public channels of the same name never meet.
#[derive(Default)]
pub(super) struct Topic {
    pub(super) public: Room,
    pub(super) private: Room,
}

/// What a message is about, which decides who may get it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Matter {
    /// Whatever is said on a plain channel.
    Plain,
    Broadcast,
    Presence,
}

/// One side of a topic.
#[derive(Default)]
pub(super) struct Room {
    /// In the order they joined.
    pub(super) members: Vec<SessionId>,
    pub(super) presences: Presences,
}

impl Topic {
    pub(super) const fn room(&self, private: bool) -> &Room {
        if private { &self.private } else { &self.public }
    }

    pub(super) const fn room_mut(&mut self, private: bool) -> &mut Room {
        if private { &mut self.private } else { &mut self.public }
    }
}

impl Server {
    pub(super) fn attach(&mut self, id: SessionId, topic: &str, channel: Channel) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let private = channel.is_private();
        session.channels.insert(topic.into(), channel);
        self.plan_sweep(id);
        let rooms = self.topics.entry(topic.into()).or_default();
        rooms.room_mut(private).members.push(id);
        self.tell(ServerEvent::Joined { session: id, topic: topic.into() });
    }

    /// Ends a channel without a word to its own session; the others hear that its presence left.
    pub(super) fn detach(&mut self, id: SessionId, topic: &str) -> Option<Channel> {
        let channel = self.sessions.get_mut(&id)?.channels.remove(topic)?;
        if let Kind::Supabase(supabase) = &channel.kind {
            let timers = [supabase.postgres.timer(), supabase.expiry, supabase.ready];
            for timer in timers.into_iter().flatten() {
                self.timers.disarm(timer);
            }
        }
        let private = channel.is_private();
        let diff = self.untrack(id, topic, private, |server| {
            if let Some(rooms) = server.topics.get_mut(topic) {
                rooms.room_mut(private).members.retain(|member| *member != id);
            }
        });
        // The word that it came may still wait for the session, and for the next join of the topic.
        let is_opening =
            self.sessions.get(&id).is_some_and(|it| matches!(it.gate, Gate::Opening { .. }));
        if let (Some(diff), true) = (diff, is_opening && channel.may_read(Matter::Presence)) {
            self.send(id, &presence_diff(topic, &diff));
        }
        let is_empty = self.topics.get(topic).is_some_and(|rooms| {
            rooms.public.members.is_empty() && rooms.private.members.is_empty()
        });
        if is_empty {
            self.topics.remove(topic);
        }
        self.tell(ServerEvent::Left { session: id, topic: topic.into() });
        Some(channel)
    }

    /// Takes a session's presence out of a topic, if it has one, and tells whoever is a member
    /// after `then`; what they are told.
    pub(super) fn untrack(
        &mut self,
        id: SessionId,
        topic: &str,
        private: bool,
        then: impl FnOnce(&mut Self),
    ) -> Option<String> {
        let left = self
            .topics
            .get_mut(topic)
            .and_then(|rooms| rooms.room_mut(private).presences.untrack(id));
        then(self);
        let (key, diff) = left?;
        let message = presence_diff(topic, &diff);
        self.fan_out(topic, private, Matter::Presence, None, &message);
        self.tell(ServerEvent::Untracked { session: id, topic: topic.into(), key });
        Some(diff)
    }

    pub(super) fn has_v2_member(&self, topic: &str, private: bool) -> bool {
        self.topics.get(topic).is_some_and(|rooms| {
            rooms
                .room(private)
                .members
                .iter()
                .filter_map(|id| self.sessions.get(id))
                .any(|session| session.vsn == Vsn::V2)
        })
    }

    /// Sends a message to every member of a room who may get it, but one; to how many it went.
    pub(super) fn fan_out(
        &mut self,
        topic: &str,
        private: bool,
        matter: Matter,
        except: Option<SessionId>,
        envelope: &Envelope<'_>,
    ) -> usize {
        self.fan_out_by_vsn(topic, private, matter, except, envelope, envelope)
    }

    /// The same with one message for V1 members and another for V2 members.
    pub(super) fn fan_out_by_vsn(
        &mut self,
        topic: &str,
        private: bool,
        matter: Matter,
        except: Option<SessionId>,
        v1: &Envelope<'_>,
        v2: &Envelope<'_>,
    ) -> usize {
        let Some(rooms) = self.topics.get(topic) else {
            return 0;
        };
        let members: Vec<SessionId> = rooms.room(private).members.clone();
        let mut encoded = Encoded::default();
        let mut reached = 0;
        for id in members.into_iter().filter(|id| Some(*id) != except) {
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            let (vsn, is_doomed) = (session.vsn, matches!(session.gate, Gate::Doomed));
            let channel = session.channels.get(topic);
            if is_doomed || !channel.is_some_and(|channel| channel.may_read(matter)) {
                continue;
            }
            if matter == Matter::Broadcast {
                let limit = self.config.events_per_second_max;
                if self.events_rate.is_over(limit, self.now) {
                    self.shut(id, topic, "Too many messages per second");
                    continue;
                }
                self.events_rate.count(self.now);
            }
            let envelope = match vsn {
                Vsn::V1 => v1,
                Vsn::V2 => v2,
            };
            if let Some(frame) = encoded.frame(vsn, envelope, &mut self.buffer) {
                self.deliver(id, frame);
                reached += 1;
            }
        }
        reached
    }
}

pub(super) fn presence_diff<'a>(topic: &'a str, diff: &'a str) -> Envelope<'a> {
    broadcast_of(topic, "presence_diff", Body::Json(diff))
}

/// A message that belongs to no join.
pub(super) fn broadcast_of<'a>(topic: &'a str, event: &'a str, body: Body<'a>) -> Envelope<'a> {
    Envelope { join_ref: None, msg_ref: None, topic: topic.into(), event: event.into(), body }
}

/// A message the server pushes into one join.
pub(super) fn push_of<'a>(
    join_ref: Option<&'a str>,
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
) -> Envelope<'a> {
    Envelope {
        join_ref: join_ref.map(Into::into),
        ..broadcast_of(topic, event, Body::Json(payload))
    }
}

/// `phx_close` or `phx_error`, whose ref is the join's.
pub(super) fn end_of<'a>(
    join_ref: Option<&'a str>,
    topic: &'a str,
    event: &'a str,
    payload: &'a str,
) -> Envelope<'a> {
    Envelope { msg_ref: join_ref.map(Into::into), ..push_of(join_ref, topic, event, payload) }
}

/// The payload of a `system` message.
pub(super) fn system(extension: &str, status: &str, message: &str, topic: &str) -> String {
    use super::json::quoted;
    let sub_topic = topic.strip_prefix("realtime:").unwrap_or(topic);
    alloc::format!(
        "{{\"message\":{},\"status\":\"{status}\",\"extension\":\"{extension}\",\"channel\":{}}}",
        quoted(message),
        quoted(sub_topic),
    )
}

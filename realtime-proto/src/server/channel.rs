//! One joined topic of one session, and what its messages do.

use alloc::boxed::Box;
use alloc::string::String;

use super::Server;
use super::event::{ServerEvent, SessionId};
use super::postgres::Postgres;
use super::presence::{Track, phx_ref};
use super::session::{Reply, reply_to};
use super::timer::TimerKey;
use super::token::Standing;
use super::topic::{Matter, broadcast_of, end_of, presence_diff, push_of, system};
use crate::secret::Secret;
use crate::supabase::{Row, System};
use crate::time::Instant;
use crate::wire::{Body, Envelope};

/// A joined channel.
pub(super) struct Channel {
    /// The `join_ref` of its join, or the join's `ref` when it had none.
    pub(super) join_ref: Option<String>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// Relays every event to the other members.
    Plain,
    /// Broadcasts, presence and row changes.
    Supabase(Box<Supabase>),
}

pub(super) struct Supabase {
    pub(super) private: bool,
    pub(super) ack: bool,
    pub(super) echo: bool,
    /// The presence key.
    pub(super) key: String,
    /// Whether it asked for presence.
    pub(super) presence: bool,
    /// When the presence window began, and how many messages came in it.
    pub(super) presence_calls: Option<(Instant, u32)>,
    pub(super) postgres: Postgres,
    /// Whether it was joined without `config` and takes row changes under their own names.
    pub(super) legacy: bool,
    pub(super) token: Option<Secret>,
    /// Who it is, and what it may do.
    pub(super) standing: Standing,
    /// When its token is looked at again.
    pub(super) expiry: Option<TimerKey>,
    /// When it is told that broadcasts of the database arrive.
    pub(super) ready: Option<TimerKey>,
}

impl Channel {
    pub(super) const fn is_private(&self) -> bool {
        match &self.kind {
            Kind::Plain => false,
            Kind::Supabase(supabase) => supabase.private,
        }
    }

    /// Whether it gets messages of a kind at all.
    pub(super) const fn may_read(&self, matter: Matter) -> bool {
        match (&self.kind, matter) {
            (Kind::Plain, _) | (Kind::Supabase(_), Matter::Plain) => true,
            (Kind::Supabase(supabase), Matter::Broadcast) => {
                supabase.standing.rights.read_broadcast
            }
            (Kind::Supabase(supabase), Matter::Presence) => supabase.standing.rights.read_presence,
        }
    }

    /// Whether a message belongs to an older join; null belongs to any.
    fn is_stale(&self, join_ref: Option<&str>) -> bool {
        match (join_ref, &self.kind) {
            (None, _) => false,
            // A binary frame cannot say null, and Supabase takes its empty ref for one.
            (Some(""), Kind::Supabase(_)) => false,
            (Some(join_ref), _) => Some(join_ref) != self.join_ref.as_deref(),
        }
    }
}

/// Where a message came from, once its channel is known.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) id: SessionId,
    pub(super) join_ref: Option<&'a str>,
    pub(super) msg_ref: Option<&'a str>,
    pub(super) topic: &'a str,
}

impl Server {
    /// Protocol §2.1.
    pub(super) fn dispatch(&mut self, id: SessionId, envelope: &Envelope<'_>) {
        let (topic, event) = (&*envelope.topic, &*envelope.event);
        let msg_ref = envelope.msg_ref.as_deref();
        if (topic, event) == ("phoenix", "heartbeat") {
            self.send_first(id, &reply_to(None, msg_ref, topic, &Reply::Ok.payload()));
            return;
        }
        if event == "phx_join" {
            self.join(id, envelope);
            return;
        }
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let Some(channel) = session.channels.get(topic) else {
            if event == "phx_leave" {
                let join_ref = envelope.join_ref.as_deref();
                self.reply(id, join_ref, msg_ref, topic, Reply::Ok);
            } else {
                self.reply(id, None, msg_ref, topic, Reply::Refused("unmatched topic"));
            }
            return;
        };
        if channel.is_stale(envelope.join_ref.as_deref()) {
            self.stats.stale += 1;
            return;
        }
        let is_plain = matches!(channel.kind, Kind::Plain);
        let private = channel.is_private();
        let join_ref = channel.join_ref.clone();
        let origin = Origin { id, join_ref: join_ref.as_deref(), msg_ref, topic };
        match event {
            "phx_leave" => {
                self.answer(origin, Reply::Ok);
                self.end_channel(id, topic, "phx_close", "{}");
            }
            _ if is_plain => self.relay(origin, event, &envelope.body),
            "broadcast" => self.broadcast_from(origin, private, &envelope.body),
            "presence" => self.presence_from(origin, private, &envelope.body),
            "access_token" => self.take_token(origin, &envelope.body),
            // Unknown events get no reply on Supabase.
            _ => {}
        }
    }

    pub(super) fn answer(&mut self, origin: Origin<'_>, reply: Reply<'_>) {
        self.reply(origin.id, origin.join_ref, origin.msg_ref, origin.topic, reply);
    }

    /// Ends a channel of either kind with its last message; whether there was one.
    fn end_channel(&mut self, id: SessionId, topic: &str, event: &str, payload: &str) -> bool {
        let Some(channel) = self.detach(id, topic) else {
            return false;
        };
        let join_ref = channel.join_ref.as_deref();
        self.send(id, &end_of(join_ref, topic, event, payload));
        true
    }

    pub(super) fn crash(&mut self, id: SessionId, topic: &str) -> bool {
        self.end_channel(id, topic, "phx_error", "{\"reason\":\"channel_crash\"}")
    }

    /// Protocol §6.3.
    pub(super) fn shut(&mut self, id: SessionId, topic: &str, message: &str) -> bool {
        let channel = self.sessions.get(&id).and_then(|session| session.channels.get(topic));
        let Some(channel) = channel else {
            return false;
        };
        if matches!(channel.kind, Kind::Plain) {
            return false;
        }
        let join_ref = channel.join_ref.clone();
        let payload = system("system", "error", message, topic);
        let push = push_of(join_ref.as_deref(), topic, "system", &payload);
        self.send(id, &push);
        self.end_channel(id, topic, "phx_close", "{}")
    }

    /// A channel that ends without words, as a plain one does.
    pub(super) fn stop(&mut self, id: SessionId, topic: &str) -> bool {
        self.end_channel(id, topic, "phx_close", "{}")
    }

    /// A plain channel: everything goes to the other members, and is acknowledged.
    fn relay(&mut self, origin: Origin<'_>, event: &str, body: &Body<'_>) {
        match body {
            Body::Json(text) if Row::read(text).is_none() => {
                // Phoenix broadcasts maps only.
                self.crash(origin.id, origin.topic);
            }
            Body::Json(_) | Body::Binary(_) => {
                let message = broadcast_of(origin.topic, event, body.clone());
                self.stats.broadcasts += 1;
                self.fan_out(origin.topic, false, Matter::Plain, Some(origin.id), &message);
                self.answer(origin, Reply::Ok);
            }
            // A plain Phoenix server does not know these frames.
            Body::Reply { .. } | Body::UserBroadcast { .. } => self.stats.stale += 1,
        }
    }

    /// Protocol §4.4.
    fn presence_from(&mut self, origin: Origin<'_>, private: bool, body: &Body<'_>) {
        if self.is_over_presence_limit(origin) {
            let message = "Client presence rate limit exceeded";
            self.shut(origin.id, origin.topic, message);
            return;
        }
        let limit = self.config.presence_events_per_second_max;
        if self.presence_rate.is_over(limit, self.now) {
            self.shut(origin.id, origin.topic, "Too many presence messages per second");
            return;
        }
        self.presence_rate.count(self.now);
        let text = match body {
            Body::Json(text) => *text,
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => "{}",
        };
        if text.len() > self.config.payload_bytes_max {
            self.shut(origin.id, origin.topic, "Track message size exceeded");
            return;
        }
        let may_write = match self.kind_of(origin) {
            Some(Kind::Supabase(supabase)) => supabase.standing.rights.write_presence,
            Some(Kind::Plain) | None => false,
        };
        if !may_write {
            self.answer(origin, Reply::Error);
            return;
        }
        let Some(message) = Row::read(text) else {
            self.answer(origin, Reply::Error);
            return;
        };
        let Some(event) = message.column("event") else {
            self.answer(origin, Reply::Ok);
            return;
        };
        let event = event.trim_matches('"');
        if event.eq_ignore_ascii_case("track") {
            let payload = message.column("payload").unwrap_or("{}");
            self.track_from(origin, private, payload);
        } else if event.eq_ignore_ascii_case("untrack") {
            self.answer(origin, Reply::Ok);
            self.untrack(origin.id, origin.topic, private, |_| {});
        } else {
            self.answer(origin, Reply::Error);
        }
    }

    fn track_from(&mut self, origin: Origin<'_>, private: bool, payload: &str) {
        if Row::read(payload).is_none() {
            let reason = "Presence track payload must be a map";
            self.answer(origin, Reply::Refused(reason));
            return;
        }
        let Some(Kind::Supabase(supabase)) = self.kind_of(origin) else {
            return;
        };
        let key = supabase.key.clone();
        self.refs += 1;
        let new_ref = phx_ref(&mut self.rng, self.refs);
        let Some(rooms) = self.topics.get_mut(origin.topic) else {
            return;
        };
        let presences = &mut rooms.room_mut(private).presences;
        let track = presences.track(origin.id, &key, payload, new_ref);
        self.answer(origin, Reply::Ok);
        match track {
            Track::Same => {}
            Track::Diff(diff) => {
                let message = presence_diff(origin.topic, &diff);
                self.fan_out(origin.topic, private, Matter::Presence, None, &message);
                self.tell(ServerEvent::Tracked {
                    session: origin.id,
                    topic: origin.topic.into(),
                    key,
                });
            }
        }
    }

    fn is_over_presence_limit(&mut self, origin: Origin<'_>) -> bool {
        let (now, window, max) =
            (self.now, self.config.presence_window, self.config.presence_calls_max);
        let Some(supabase) = self.supabase_mut(origin.id, origin.topic) else {
            return false;
        };
        let (since, calls) = match supabase.presence_calls {
            Some((since, calls)) if now < since + window => (since, calls.saturating_add(1)),
            _ => (now, 1),
        };
        supabase.presence_calls = Some((since, calls));
        calls > max
    }

    /// The database has answered a channel's request for row changes.
    pub(super) fn subscribed(&mut self, id: SessionId, topic: &str) {
        let Some(supabase) = self.supabase_mut(id, topic) else {
            return;
        };
        let postgres = core::mem::replace(&mut supabase.postgres, Postgres::Failed);
        let failure = match postgres {
            Postgres::Subscribing { outcome: Ok(bindings), .. }
            | Postgres::Live { bindings, .. } => {
                supabase.postgres = Postgres::Live { bindings, confirmation: None };
                None
            }
            Postgres::Subscribing { outcome: Err(message), .. } => Some(message),
            other @ (Postgres::Off | Postgres::Waiting { .. } | Postgres::Failed) => {
                supabase.postgres = other;
                return;
            }
        };
        let payload = match &failure {
            None => system("postgres_changes", "ok", System::SUBSCRIBED, topic),
            Some(message) => system("postgres_changes", "error", message, topic),
        };
        self.push_system(id, topic, &payload);
        if failure.is_none() {
            self.tell(ServerEvent::Subscribed { session: id, topic: topic.into() });
        }
    }

    /// Sends a `system` message to a channel.
    pub(super) fn push_system(&mut self, id: SessionId, topic: &str, payload: &str) {
        let channel = self.sessions.get(&id).and_then(|session| session.channels.get(topic));
        let Some(join_ref) = channel.map(|channel| channel.join_ref.clone()) else {
            return;
        };
        self.send(id, &push_of(join_ref.as_deref(), topic, "system", payload));
    }

    pub(super) fn kind_of(&self, origin: Origin<'_>) -> Option<&Kind> {
        let session = self.sessions.get(&origin.id)?;
        Some(&session.channels.get(origin.topic)?.kind)
    }

    pub(super) fn supabase_mut(&mut self, id: SessionId, topic: &str) -> Option<&mut Supabase> {
        let session = self.sessions.get_mut(&id)?;
        match &mut session.channels.get_mut(topic)?.kind {
            Kind::Plain => None,
            Kind::Supabase(supabase) => Some(supabase),
        }
    }
}

//! One joined topic of one session, and what its messages do.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::Server;
use super::event::{ServerEvent, SessionId};
use super::join::read_token;
use super::postgres::Postgres;
use super::presence::{Track, phx_ref};
use super::session::Reply;
use super::topic::{broadcast_of, end_of, presence_diff, push_of, system};
use crate::secret::Secret;
use crate::supabase::{Row, System, write_broadcast};
use crate::time::Instant;
use crate::wire::{Body, Encoding, Envelope};

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
    /// When the presence window began, and how many messages came in it.
    pub(super) presence_calls: Option<(Instant, u32)>,
    pub(super) postgres: Postgres,
    /// Whether it was joined without `config` and takes row changes under their own names.
    pub(super) legacy: bool,
    pub(super) token: Option<Secret>,
}

impl Channel {
    pub(super) const fn is_private(&self) -> bool {
        match &self.kind {
            Kind::Plain => false,
            Kind::Supabase(supabase) => supabase.private,
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
struct Origin<'a> {
    id: SessionId,
    join_ref: Option<&'a str>,
    msg_ref: Option<&'a str>,
    topic: &'a str,
}

impl Server {
    /// Protocol §2.1.
    pub(super) fn dispatch(&mut self, id: SessionId, envelope: &Envelope<'_>) {
        let (topic, event) = (&*envelope.topic, &*envelope.event);
        let msg_ref = envelope.msg_ref.as_deref();
        if (topic, event) == ("phoenix", "heartbeat") {
            self.reply(id, None, msg_ref, topic, Reply::Ok);
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

    fn answer(&mut self, origin: Origin<'_>, reply: Reply<'_>) {
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
                self.fan_out(origin.topic, false, Some(origin.id), &message);
                self.answer(origin, Reply::Ok);
            }
            // A plain Phoenix server does not know these frames.
            Body::Reply { .. } | Body::UserBroadcast { .. } => self.stats.stale += 1,
        }
    }

    /// Protocol §5.7 and §1.6.
    fn broadcast_from(&mut self, origin: Origin<'_>, private: bool, body: &Body<'_>) {
        let Some(Kind::Supabase(supabase)) = self.kind_of(origin) else {
            return;
        };
        let (ack, echo) = (supabase.ack, supabase.echo);
        let except = (!echo).then_some(origin.id);
        match body {
            Body::Json(text) => {
                let is_object = text.trim_start().starts_with('{');
                if !is_object && self.has_v2_member(origin.topic, private) {
                    // The V2 serializer of a real server takes maps only.
                    self.crash(origin.id, origin.topic);
                    return;
                }
                let message = broadcast_of(origin.topic, "broadcast", Body::Json(text));
                self.fan_out(origin.topic, private, except, &message);
            }
            Body::UserBroadcast { event, encoding, payload, .. } => {
                // The client's metadata goes no further.
                let v2 =
                    Body::UserBroadcast { event, encoding: *encoding, metadata: None, payload };
                let v2 = broadcast_of(origin.topic, "broadcast", v2);
                let text = json_broadcast(event, *encoding, payload);
                let v1 = match &text {
                    Some(text) => broadcast_of(origin.topic, "broadcast", Body::Json(text)),
                    // No V1 form: encoding it fails, and V1 members get nothing.
                    None => v2.clone(),
                };
                self.fan_out_by_vsn(origin.topic, private, except, &v1, &v2);
            }
            Body::Binary(_) | Body::Reply { .. } => return,
        }
        self.stats.broadcasts += 1;
        if ack {
            self.answer(origin, Reply::Ok);
        }
    }

    /// Protocol §4.4.
    fn presence_from(&mut self, origin: Origin<'_>, private: bool, body: &Body<'_>) {
        if self.is_over_presence_limit(origin) {
            let message = "Client presence rate limit exceeded";
            self.shut(origin.id, origin.topic, message);
            return;
        }
        let text = match body {
            Body::Json(text) => *text,
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => "{}",
        };
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
                self.fan_out(origin.topic, private, None, &message);
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

    /// Protocol §5.9: there is never a reply, and what is no token is ignored.
    fn take_token(&mut self, origin: Origin<'_>, body: &Body<'_>) {
        let token = match body {
            Body::Json(text) => {
                Row::read(text).and_then(|row| row.column("access_token")).and_then(read_token)
            }
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => None,
        };
        let supabase = self.supabase_mut(origin.id, origin.topic);
        if let (Some(supabase), Some(token)) = (supabase, token) {
            supabase.token = Some(token);
        }
    }

    /// The database has answered a channel's request for row changes.
    pub(super) fn subscribed(&mut self, id: SessionId, topic: &str) {
        let Some(supabase) = self.supabase_mut(id, topic) else {
            return;
        };
        let postgres = core::mem::replace(&mut supabase.postgres, Postgres::Failed);
        let failure = match postgres {
            Postgres::Subscribing { outcome: Ok(bindings), .. } => {
                supabase.postgres = Postgres::Live { bindings };
                None
            }
            Postgres::Subscribing { outcome: Err(message), .. } => Some(message),
            other @ (Postgres::Off | Postgres::Live { .. } | Postgres::Failed) => {
                supabase.postgres = other;
                return;
            }
        };
        let payload = match &failure {
            None => system("postgres_changes", "ok", System::SUBSCRIBED, topic),
            Some(message) => system("postgres_changes", "error", message, topic),
        };
        let join_ref = self
            .sessions
            .get(&id)
            .and_then(|session| session.channels.get(topic))
            .and_then(|channel| channel.join_ref.clone());
        self.send(id, &push_of(join_ref.as_deref(), topic, "system", &payload));
        if failure.is_none() {
            self.tell(ServerEvent::Subscribed { session: id, topic: topic.into() });
        }
    }

    fn kind_of(&self, origin: Origin<'_>) -> Option<&Kind> {
        let session = self.sessions.get(&origin.id)?;
        Some(&session.channels.get(origin.topic)?.kind)
    }

    fn supabase_mut(&mut self, id: SessionId, topic: &str) -> Option<&mut Supabase> {
        let session = self.sessions.get_mut(&id)?;
        match &mut session.channels.get_mut(topic)?.kind {
            Kind::Plain => None,
            Kind::Supabase(supabase) => Some(supabase),
        }
    }
}

/// The payload of a user broadcast as a text message; `None` for bytes. What claims to be JSON is
/// not checked, as on a real server, but text it must be.
pub(super) fn json_broadcast(event: &str, encoding: Encoding, payload: &[u8]) -> Option<String> {
    if encoding == Encoding::Binary {
        return None;
    }
    let payload = core::str::from_utf8(payload).ok()?;
    let mut out = Vec::new();
    write_broadcast(event, payload, &mut out);
    String::from_utf8(out).ok()
}

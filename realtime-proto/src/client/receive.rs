//! Reading frames: which channel a message belongs to, and what it is.

use alloc::string::ToString;

use bytes::Bytes;

use super::Client;
use crate::channel::{Fate, Input, Rows, Slot, State, Verdict};
use crate::context::Context;
use crate::event::{BindingSet, ChannelEvent, Outcome, Status, Violation};
use crate::ids::{ChannelId, Ref, SocketId};
use crate::payload::Payload;
use crate::presence::PresenceUpdate;
use crate::socket::Waiter;
use crate::supabase::{Broadcast, Cause, CauseKind, System, SystemStatus, read_changes};
use crate::timer::Timer;
use crate::transmit::Frame;
use crate::wire::{self, Body, Envelope, Sender, Vsn, json};

/// A reply, text or binary.
struct Reply {
    status: Status,
    response: Payload,
}

/// How a message relates to the current join of its topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// It names the current join.
    Current,
    /// It names no join, as broadcasts do.
    Unnamed,
    /// It names another join.
    Stale,
}

impl Client {
    /// Whether a frame is of the connection there is; then something was heard of it.
    pub(super) fn hears(&mut self, socket: SocketId) -> bool {
        let now = self.ctx.now;
        let connection = self.ctx.socket.connection_mut();
        let Some(connection) = connection.filter(|connection| connection.id == socket) else {
            self.ctx.stats.stale_sockets += 1;
            return false;
        };
        connection.heard_at = Some(now);
        self.ctx.stats.frames_received += 1;
        true
    }

    pub(super) fn on_frame(&mut self, socket: SocketId, frame: &Frame) {
        if !self.hears(socket) {
            return;
        }
        let limits = &self.ctx.config.limits;
        let (bytes, max) = (frame.as_bytes().len(), limits.frame_bytes_max);
        if self.ctx.events.len() >= 2 * limits.events_queued_max {
            return self.ctx.drop_frame();
        }
        if bytes > max {
            return self.ctx.violation(Violation::FrameTooLarge { bytes, max });
        }
        let (Frame::Text(shared) | Frame::Binary(shared)) = frame;
        match wire::decode(self.ctx.config.vsn, Sender::Server, frame) {
            Ok(envelope) => self.on_message(&envelope, shared),
            Err(error) => self.ctx.violation(Violation::Malformed(error)),
        }
    }

    fn on_message(&mut self, envelope: &Envelope<'_>, frame: &Bytes) {
        if envelope.event == "phx_reply" {
            return self.on_reply(envelope, frame);
        }
        let Some(id) = self.channels.by_topic(&envelope.topic) else {
            self.ctx.stats.unknown_topics += 1;
            return;
        };
        let vsn = self.ctx.config.vsn;
        let Some(slot) = self.channels.get_mut(id) else { return };
        let generation = generation(slot, envelope, vsn);
        if generation == Generation::Stale && envelope.event == "phx_close" {
            slot.on_older_closed();
        }
        // A channel that is not joined has nothing to receive; what comes is left over.
        let deaf = matches!(slot.state, State::Closed | State::Errored { .. });
        if generation == Generation::Stale || deaf {
            self.ctx.stats.stale_messages += 1;
            return;
        }
        // Without a ref these are broadcasts of an application that chose the name.
        let ours = generation == Generation::Current;
        let now = self.ctx.now;
        match (&*envelope.event, ours) {
            ("phx_close", true) => self.on_channel_input(id, Input::Shut, now),
            ("phx_error", true) => {
                let json = match envelope.body {
                    Body::Json(text) => text,
                    Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => "",
                };
                let cause = Cause::with_text(CauseKind::ChannelCrashed, json.to_string());
                self.with_channel(id, now, |slot, ctx| slot.on_trouble(Input::Crashed, cause, ctx));
            }
            _ => self.with_channel(id, now, |slot, ctx| {
                slot.on_message(envelope, frame, ctx);
                Fate::Stays
            }),
        }
    }

    /// Takes a reply, which is matched by its ref alone: a server that has no channel for the
    /// topic answers without naming the join.
    fn on_reply(&mut self, envelope: &Envelope<'_>, frame: &Bytes) {
        let msg_ref = envelope.msg_ref.as_deref().and_then(Ref::parse);
        if envelope.topic == "phoenix" {
            return self.on_heartbeat_reply(msg_ref);
        }
        let Some(reply) = read_reply(envelope, frame) else {
            let (topic, event) = (envelope.topic.to_string(), envelope.event.to_string());
            return self.ctx.violation(Violation::Payload { topic, event });
        };
        let waiter =
            self.ctx.socket.connection_mut().and_then(|connection| connection.on_reply(msg_ref?));
        let Some((waiter, made_at)) = waiter else {
            self.ctx.stats.stale_messages += 1;
            return;
        };
        self.ctx.on_answer(made_at);
        let now = self.ctx.now;
        match waiter {
            Waiter::Join(id) => self.on_join_reply(id, reply),
            Waiter::Leave(id) => self.on_channel_input(id, Input::LeaveAnswered, now),
            Waiter::Push(id, push) => {
                let gone = is_unmatched(&reply);
                let outcome = Outcome::Replied { status: reply.status, response: reply.response };
                self.with_channel(id, now, |slot, ctx| {
                    slot.pushes.on_reply(push, outcome, id, ctx);
                    if gone { slot.on_forgotten(msg_ref, ctx) } else { Fate::Stays }
                });
            }
            Waiter::Track(id) => self.with_channel(id, now, |slot, ctx| {
                if let Some(msg_ref) = msg_ref {
                    slot.track.on_reply(msg_ref, now);
                }
                if reply.status == Status::Ok {
                    return Fate::Stays;
                }
                let gone = is_unmatched(&reply);
                ctx.emit(id, ChannelEvent::TrackRefused { response: reply.response });
                if gone { slot.on_forgotten(msg_ref, ctx) } else { Fate::Stays }
            }),
        }
    }

    fn on_join_reply(&mut self, id: ChannelId, reply: Reply) {
        let now = self.ctx.now;
        self.with_channel(id, now, |slot, ctx| {
            if reply.status == Status::Ok {
                slot.on_join_accepted(reply.response, ctx);
                return Fate::Stays;
            }
            let cause = Cause::from_response(reply.response.as_json());
            slot.on_join_refused(cause, ctx)
        });
    }
}

impl Slot {
    /// The server says it has no such channel, though it had accepted the join. What was sent
    /// before the current join says nothing of it.
    fn on_forgotten(&mut self, sent: Option<Ref>, ctx: &mut Context) -> Fate {
        if sent < self.state.join_ref() {
            return Fate::Stays;
        }
        let cause = Cause::with_text(CauseKind::ChannelCrashed, UNMATCHED_TOPIC);
        self.on_trouble(Input::Crashed, cause, ctx)
    }

    /// Takes a message of the current join, or one that names none.
    fn on_message(&mut self, envelope: &Envelope<'_>, frame: &Bytes, ctx: &mut Context) {
        let supabase = self.config.is_supabase();
        let understood = match (&*envelope.event, &envelope.body) {
            ("presence_state", Body::Json(text)) if self.config.presence() => {
                self.on_presence_state(&slice(frame, text), ctx)
            }
            ("presence_diff", Body::Json(text)) if self.config.presence() => {
                self.on_presence_diff(&slice(frame, text), ctx)
            }
            // Nobody asked for them, and without a snapshot they mean nothing.
            ("presence_state" | "presence_diff", _) if supabase => true,
            ("broadcast", body) if supabase => match Broadcast::read(body, frame) {
                Some(broadcast) => {
                    self.on_broadcast(broadcast, envelope, ctx);
                    true
                }
                None => false,
            },
            ("postgres_changes", Body::Json(text)) if supabase => self.on_changes(text, frame, ctx),
            ("system", Body::Json(text)) if supabase => self.on_system(&slice(frame, text), ctx),
            (event, body) => {
                let payload = match body {
                    Body::Json(text) => slice(frame, text),
                    Body::Binary(bytes)
                    | Body::Reply { response: bytes, .. }
                    | Body::UserBroadcast { payload: bytes, .. } => {
                        Payload::binary(frame.slice_ref(bytes))
                    }
                };
                ctx.emit(self.id, ChannelEvent::Message { event: event.into(), payload });
                true
            }
        };
        if !understood {
            let (topic, event) = (self.topic.to_string(), envelope.event.to_string());
            ctx.violation(Violation::Payload { topic, event });
        }
    }

    fn on_broadcast(&mut self, broadcast: Broadcast, envelope: &Envelope<'_>, ctx: &mut Context) {
        let meta = broadcast.meta.as_ref();
        // A sender can write `replayed` into a text broadcast too, which the server relays as it
        // is, but only the server's own names the join.
        let trusted = match envelope.body {
            Body::Json(_) => envelope.join_ref.is_some() || ctx.config.vsn == Vsn::V1,
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => true,
        };
        let replayed = trusted && meta.is_some_and(|meta| meta.replayed);
        match self.streams.on_broadcast(meta, replayed, ctx.now) {
            Verdict::Deliver => ctx.emit(self.id, ChannelEvent::Broadcast(broadcast)),
            Verdict::Duplicate => ctx.stats.duplicates += 1,
        }
        if self.streams.is_replay_full() {
            self.finish_replay(ctx);
        }
    }

    fn on_presence_state(&mut self, payload: &Payload, ctx: &mut Context) -> bool {
        let Ok(told) = self.presence.handle_state(payload, ctx.now) else { return false };
        self.tell_presence(told, ctx);
        if let State::Joined(joined) = &mut self.state {
            joined.awaits_presence = false;
            self.check_live(ctx);
        }
        true
    }

    fn on_presence_diff(&mut self, payload: &Payload, ctx: &mut Context) -> bool {
        let Ok(told) = self.presence.handle_diff(payload) else { return false };
        self.tell_presence(told, ctx);
        true
    }

    fn tell_presence(&self, told: PresenceUpdate, ctx: &mut Context) {
        match self.presence.poll_timeout() {
            Some(at) => ctx.timers.set(Timer::PresenceGrace(self.id), at),
            None => ctx.timers.cancel(Timer::PresenceGrace(self.id)),
        }
        if told.overflow {
            ctx.violation(Violation::PresenceOverflow { topic: self.topic.to_string() });
        }
        if !told.calls.is_empty() {
            ctx.emit(self.id, ChannelEvent::PresenceCalls(told.calls));
        }
        if !told.diff.is_empty() {
            ctx.emit(self.id, ChannelEvent::Presence(told.diff));
        }
    }

    /// The grace is over for those that are missing since a reconnect.
    pub(super) fn on_presence_grace(&mut self, ctx: &mut Context) {
        let diff = self.presence.handle_timeout(ctx.now);
        if !diff.is_empty() {
            ctx.emit(self.id, ChannelEvent::Presence(diff));
        }
    }

    fn on_changes(&mut self, text: &str, frame: &Bytes, ctx: &mut Context) -> bool {
        let Some((ids, change)) = read_changes(text, frame) else { return false };
        let State::Joined(joined) = &self.state else {
            // It is for an older join, and lies in the gap that the next one tells.
            ctx.stats.stale_messages += 1;
            return true;
        };
        let (mut bindings, mut known) = (BindingSet::default(), false);
        let understood = ids.for_each(|id| {
            known |= joined.asked.iter().any(|(_, asked)| *asked == Some(id));
            let held = joined.ids.iter().filter(|(server_id, _)| *server_id == id);
            held.for_each(|(_, binding)| bindings.insert(*binding));
        });
        if !understood {
            return false;
        }
        if !known {
            ctx.violation(Violation::UnknownBinding { topic: self.topic.to_string() });
        } else if !bindings.is_empty() {
            self.streams.on_change(change.committed_unix(), ctx.whole_until);
            ctx.emit(self.id, ChannelEvent::Change { bindings, change });
        }
        true
    }

    fn on_system(&mut self, payload: &Payload, ctx: &mut Context) -> bool {
        let Some(system) = System::read(payload) else { return false };
        let subscribed = system.is_subscribed();
        let replicates = system.is_replication_ready();
        let trouble = (system.status == SystemStatus::Error)
            .then(|| Cause::from_system(&system.extension, &system.message));
        let extension = system.extension.clone();
        ctx.emit(self.id, ChannelEvent::System(system));
        let State::Joined(joined) = &mut self.state else { return true };
        match (trouble, &*extension) {
            (Some(cause), "system") => joined.trouble = Some(cause),
            // What the database extension says is no reason to close: the channel stays.
            (Some(cause), "postgres_changes") => self.on_changes_stopped(cause, ctx),
            (Some(_), _) => {}
            (None, _) if subscribed => {
                joined.rows = Rows::Flowing;
                self.on_subscribed(ctx);
            }
            (None, _) if replicates => {
                if core::mem::take(&mut joined.awaits_replication) {
                    self.on_replication_ready(ctx);
                }
            }
            (None, _) => {}
        }
        self.check_live(ctx);
        true
    }
}

const UNMATCHED_TOPIC: &str = "unmatched topic";

/// Whether the server says that it has no channel for the topic.
fn is_unmatched(reply: &Reply) -> bool {
    reply.status == Status::Error
        && Cause::from_response(reply.response.as_json()).kind == CauseKind::UnmatchedTopic
}

/// V2 names the join in `join_ref`. V1 has only `ref`, which `phx_close` and `phx_error` set to
/// the ref of the join (protocol §2.4).
fn generation(slot: &Slot, envelope: &Envelope<'_>, vsn: Vsn) -> Generation {
    let closing = matches!(&*envelope.event, "phx_close" | "phx_error");
    let named = match vsn {
        Vsn::V1 if closing => envelope.msg_ref.as_deref(),
        Vsn::V1 => None,
        Vsn::V2 => envelope.join_ref.as_deref(),
    };
    match named.filter(|named| !named.is_empty()) {
        None => Generation::Unnamed,
        Some(named) if Ref::parse(named) == slot.state.join_ref() => Generation::Current,
        Some(_) => Generation::Stale,
    }
}

fn read_reply(envelope: &Envelope<'_>, frame: &Bytes) -> Option<Reply> {
    match envelope.body {
        Body::Json(text) => {
            let [status, response] = json::members(text, ["status", "response"])?;
            let response = response.map_or_else(Payload::empty, |text| slice(frame, text));
            Some(Reply { status: Status::read(&json::string(status?)?), response })
        }
        Body::Reply { status, response } => Some(Reply {
            status: Status::read(status),
            response: Payload::binary(frame.slice_ref(response)),
        }),
        Body::Binary(_) | Body::UserBroadcast { .. } => None,
    }
}

/// A JSON part of a frame, without copying it.
fn slice(frame: &Bytes, text: &str) -> Payload {
    Payload::trusted_json(frame.slice_ref(text.as_bytes()))
}

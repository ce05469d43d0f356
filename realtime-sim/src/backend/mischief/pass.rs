//! What becomes of each frame of the honest half.

use realtime_proto::server::SessionId;
use realtime_proto::wire::{self, Body, Envelope, Sender, Vsn};
use realtime_proto::{Frame, Instant};

use super::{Late, take};
use crate::backend::gate::{Gate, Mail, Then};
use crate::backend::{Backend, Out, forge};
use crate::coverage::Effect;

impl Backend {
    /// Takes a frame of the honest half.
    pub(in crate::backend) fn pass_frame(
        &mut self,
        session: SessionId,
        frame: Frame,
        now: Instant,
    ) {
        let vsn = self.vsn(session);
        let Ok(envelope) = wire::decode(vsn, Sender::Server, &frame) else {
            return self.emit(session, frame, now);
        };
        let topic = &*envelope.topic;
        match &*envelope.event {
            "phx_reply" => self.pass_reply(session, vsn, &envelope, &frame, now),
            "phx_close" | "phx_error" => {
                self.release_of(session, topic, now);
                self.emit_once_or_twice(session, frame.clone(), now);
            }
            "system" => self.emit_once_or_twice(session, frame.clone(), now),
            "presence_state" | "presence_diff" => {
                self.pass_presence(session, vsn, &envelope, &frame, now);
            }
            "broadcast" if is_replayed(&envelope.body) => {
                let mischief = self.mischief();
                let begins =
                    mischief.replaying.take_if(|(of, joined)| *of == session && **joined == *topic);
                if begins.is_some() && take(&mut mischief.partial_replays) {
                    return self.effects.add(Effect::PartialReplay);
                }
                if take(&mut mischief.twice_replayed) {
                    self.effects.add(Effect::TwiceReplay);
                    self.emit(session, frame.clone(), now);
                }
                self.emit(session, frame.clone(), now);
            }
            "postgres_changes" => {
                let shifts = &self.mischief().shifts;
                let shift = shifts.get(&(session, topic.to_owned())).copied();
                let frame = match (shift, &envelope.body) {
                    (Some(shift), Body::Json(payload)) => {
                        let payload = forge::shift_change(payload, shift);
                        let body = Body::Json(&payload);
                        forge::encode(vsn, &Envelope { body, ..envelope.clone() })
                    }
                    _ => frame.clone(),
                };
                self.emit(session, frame, now);
            }
            // Messages of applications without an id: if they came twice, nobody could tell.
            _ => self.emit(session, frame.clone(), now),
        }
    }

    fn pass_reply(
        &mut self,
        session: SessionId,
        vsn: Vsn,
        envelope: &Envelope<'_>,
        frame: &Frame,
        now: Instant,
    ) {
        let mischief = self.mischief();
        let is_heartbeat = envelope.topic == "phoenix";
        if is_heartbeat && mischief.heartless_until.is_some_and(|until| now < until) {
            return self.effects.add(Effect::Heartless);
        }
        let mut envelope = envelope.clone();
        let is_join = is_join_reply(&envelope);
        if is_join {
            self.release_of(session, &envelope.topic, now);
        }
        let shifted = self.shifted_reply(session, &envelope);
        let mut is_changed = shifted.is_some();
        if let Some(payload) = &shifted {
            envelope.body = Body::Json(payload);
            self.effects.add(Effect::OtherIds);
        }
        let mischief = self.mischief();
        if is_join {
            mischief.replaying = Some((session, envelope.topic.as_ref().into()));
        }
        if take(&mut mischief.lost_replies) {
            return self.effects.add(Effect::LostReply);
        }
        if take(&mut mischief.wrong_refs) {
            self.effects.add(Effect::WrongRef);
            envelope.msg_ref = Some(forge::UNUSED_REF.into());
            is_changed = true;
        }
        let mischief = self.mischief();
        let is_held = mischief.gates.get(&session).is_some_and(Gate::holds);
        let late = if is_held { None } else { mischief.late_replies.take() };
        if late.is_some() {
            self.effects.add(Effect::LateReply);
        }
        let frame = if is_changed { forge::encode(vsn, &envelope) } else { frame.clone() };
        match late {
            None if is_join || is_heartbeat => {
                if take(&mut self.mischief().twice_frames) {
                    self.effects.add(Effect::TwiceFrame);
                    self.answer(session, frame.clone());
                }
                self.answer(session, frame);
            }
            None => self.emit_once_or_twice(session, frame, now),
            // Nothing gets past the reply to a join: the session waits for it.
            Some(late) if is_join => {
                self.hold(session, now + late, Some(Mail::Out(frame)), Then::GoesOn);
            }
            Some(late) => self.emit_late(session, None, frame, now + late),
        }
    }

    /// The payload of a join reply with other ids, if they are to be others.
    fn shifted_reply(&mut self, session: SessionId, envelope: &Envelope<'_>) -> Option<String> {
        let payload = bindings_of(envelope)?;
        let mischief = self.mischief();
        let (key, shift) = ((session, envelope.topic.as_ref().to_owned()), mischief.shift);
        if shift == 0 {
            mischief.shifts.remove(&key);
            return None;
        }
        mischief.shifts.insert(key, shift);
        Some(forge::shift_reply(payload, shift))
    }

    fn pass_presence(
        &mut self,
        session: SessionId,
        vsn: Vsn,
        envelope: &Envelope<'_>,
        frame: &Frame,
        now: Instant,
    ) {
        let is_snapshot = envelope.event == "presence_state";
        let mut frame = frame.clone();
        if vsn == Vsn::V2 && take(&mut self.mischief().other_join_refs) {
            self.effects.add(Effect::OtherJoinRef);
            let join_ref = match &envelope.join_ref {
                Some(_) => None,
                None => self.server.join_ref(session, &envelope.topic).map(Into::into),
            };
            frame = forge::encode(vsn, &Envelope { join_ref, ..envelope.clone() });
        }
        let mischief = self.mischief();
        let is_held = mischief.gates.contains_key(&session);
        let may_wait = is_snapshot && !is_held;
        match if may_wait { mischief.late_snapshots.take() } else { None } {
            Some(late) => {
                self.effects.add(Effect::LateSnapshot);
                let of = Some(envelope.topic.as_ref().into());
                self.emit_late(session, of, frame, now + late);
            }
            None => self.emit_once_or_twice(session, frame, now),
        }
    }

    /// Sends what a channel sent before it ended and what was late.
    pub(in crate::backend) fn release_of(&mut self, session: SessionId, topic: &str, now: Instant) {
        let late = &mut self.mischief().late;
        let is_of = |late: &Late| late.session == session && late.of.as_deref() == Some(topic);
        let keys = late.iter().filter(|(_, late)| is_of(late)).map(|(key, _)| *key);
        for key in keys.collect::<Vec<_>>() {
            if let Some(late) = self.mischief().late.remove(&key) {
                self.emit(session, late.frame, now);
            }
        }
    }

    fn emit_late(&mut self, session: SessionId, of: Option<String>, frame: Frame, at: Instant) {
        let mischief = self.mischief();
        mischief.next_late += 1;
        let key = (at, mischief.next_late);
        mischief.late.insert(key, Late { session, of, frame });
    }

    fn emit_once_or_twice(&mut self, session: SessionId, frame: Frame, now: Instant) {
        if take(&mut self.mischief().twice_frames) {
            self.effects.add(Effect::TwiceFrame);
            self.emit(session, frame.clone(), now);
        }
        self.emit(session, frame, now);
    }

    /// Sends a frame, unless its session is held.
    pub(in crate::backend) fn emit(&mut self, session: SessionId, frame: Frame, now: Instant) {
        if let Some(frame) = self.wait(session, Mail::Out(frame), now) {
            self.outbox.push_back(Out::Frame { session, frame });
        }
    }
}

/// Whether a reply is one to a join: such a push names itself as its join.
fn is_join_reply(reply: &Envelope<'_>) -> bool {
    let names_itself = reply.join_ref.is_some() && reply.join_ref == reply.msg_ref;
    names_itself || bindings_of(reply).is_some()
}

/// The payload of a reply to a Supabase join that was taken.
fn bindings_of<'a>(reply: &Envelope<'a>) -> Option<&'a str> {
    match reply.body {
        Body::Json(payload) => {
            payload.contains("\"response\":{\"postgres_changes\":").then_some(payload)
        }
        Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => None,
    }
}

/// Whether a broadcast comes from the store.
fn is_replayed(body: &Body<'_>) -> bool {
    let meta = match body {
        Body::Json(payload) => Some(*payload),
        Body::UserBroadcast { metadata, .. } => *metadata,
        Body::Binary(_) | Body::Reply { .. } => None,
    };
    meta.is_some_and(|meta| meta.contains("\"replayed\":true"))
}

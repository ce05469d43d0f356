//! What a server does wrong frame by frame: what is armed, and what becomes of each frame.

mod pass;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use realtime_proto::server::SessionId;
use realtime_proto::wire::{self, Sender};
use realtime_proto::{Frame, Instant};

use super::gate::{Gate, Mail, Then};
use super::{Backend, forge};
use crate::NodeId;
use crate::coverage::Effect;
use crate::scenario::Refusal;

/// What a server will do wrong, and what it has under way.
#[derive(Debug, Default)]
pub(crate) struct Mischief {
    pub(crate) late_replies: Delay,
    pub(crate) lost_replies: u32,
    pub(crate) wrong_refs: u32,
    pub(crate) twice_frames: u32,
    pub(crate) late_snapshots: Delay,
    pub(crate) other_join_refs: u32,
    pub(crate) partial_replays: u32,
    pub(crate) twice_replayed: u32,
    /// Whose next frame is too large.
    pub(crate) too_large: BTreeSet<NodeId>,
    /// Until when heartbeats are not answered.
    heartless_until: Option<Instant>,
    slow: Option<Slow>,
    /// By how much the ids of joins from now on differ from the honest ones.
    shift: u32,
    /// By how much those of each joined channel do.
    shifts: BTreeMap<(SessionId, String), u32>,
    /// What becomes of the next joins of each node, and how often.
    fates: BTreeMap<NodeId, VecDeque<(Fate, u32)>>,
    /// Until when there is no room for another connection.
    full_until: BTreeMap<NodeId, Instant>,
    /// The channel that was joined last, until its replay begins.
    replaying: Option<(SessionId, String)>,
    pub(super) gates: BTreeMap<SessionId, Gate>,
    /// What is late, by the time it comes.
    late: BTreeMap<(Instant, u64), Late>,
    next_late: u64,
}

/// So many of the next ones come so much later.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delay {
    by: Duration,
    times: u32,
}

impl Delay {
    pub(crate) const fn arm(&mut self, by: Duration, times: u32) {
        self.by = by;
        self.times = self.times.saturating_add(times);
    }

    fn take(&mut self) -> Option<Duration> {
        take(&mut self.times).then_some(self.by)
    }
}

/// Takes one of what is left, if there is one.
const fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// What becomes of a join.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is refused; it may hold its session first.
    Refused { why: Refusal, holds: bool },
    /// It holds its session for a while and is taken then.
    Slow(Duration),
    /// It is one too many: it is refused, its session is closed, and there is no room for another
    /// one for a while.
    OneTooMany(Duration),
}

/// Row subscriptions take longer than usual.
#[derive(Clone, Copy, Debug)]
struct Slow {
    until: Instant,
    usual: Duration,
}

/// A frame that is late.
#[derive(Debug)]
struct Late {
    session: SessionId,
    /// The topic, of what a channel cannot send behind its end.
    of: Option<String>,
    frame: Frame,
}

/// How long a join that is refused holds its session on a Supabase server (protocol §6.2).
const REFUSAL_HOLDS_FOR: Duration = Duration::from_secs(5);

impl Mischief {
    /// Decides about the next joins of a node.
    pub(crate) fn decide(&mut self, node: NodeId, fate: Fate, times: u32) {
        self.fates.entry(node).or_default().push_back((fate, times));
    }

    /// Lets heartbeats go unanswered for a while.
    pub(crate) fn heartless_for(&mut self, span: Duration, now: Instant) {
        self.heartless_until = self.heartless_until.max(Some(now + span));
    }

    /// Gives joins from now on other ids.
    pub(crate) const fn shift_ids(&mut self) {
        const STEP: u32 = 1_000_003;
        // Never back to the honest ones.
        self.shift = (self.shift + STEP) % (forge::IDS_END - STEP) + 1;
    }

    /// How long there is no room for another connection of a node.
    pub(super) fn full_for(&self, node: NodeId, now: Instant) -> Option<Duration> {
        let until = self.full_until.get(&node).filter(|until| **until > now)?;
        Some(until.saturating_duration_since(now))
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let late = self.late.first_key_value().map(|((at, _), _)| *at);
        self.gates.values().map(Gate::until).chain(late).min()
    }

    /// Whether nothing is armed and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        let left = [
            self.late_replies.times,
            self.lost_replies,
            self.wrong_refs,
            self.twice_frames,
            self.late_snapshots.times,
            self.other_join_refs,
            self.partial_replays,
            self.twice_replayed,
            self.shift,
        ];
        left == [0; 9]
            && self.too_large.is_empty()
            && self.heartless_until.is_none()
            && self.slow.is_none()
            && self.fates.is_empty()
            && self.full_until.is_empty()
            && self.gates.is_empty()
            && self.late.is_empty()
    }

    pub(super) fn forget(&mut self, gone: SessionId) {
        self.gates.remove(&gone);
        self.late.retain(|_, late| late.session != gone);
        self.shifts.retain(|(session, _), _| *session != gone);
    }

    fn take_fate(&mut self, node: NodeId) {
        let Some(fates) = self.fates.get_mut(&node) else { return };
        if let Some((_, left)) = fates.front_mut() {
            *left -= 1;
            if *left == 0 {
                fates.pop_front();
            }
        }
        if fates.is_empty() {
            self.fates.remove(&node);
        }
    }
}

impl Backend {
    /// Row subscriptions from now on take this long, for a while.
    pub(crate) fn slow_subscriptions(&mut self, late: Duration, until: Instant) {
        let mut config = self.server.config().clone();
        let slow = &mut self.mischief().slow;
        let usual = slow.map_or(config.subscribed_after, |slow| slow.usual);
        *slow = Some(Slow { until, usual });
        config.subscribed_after = late;
        self.server.set_config(config);
    }

    /// Ends all mischief but that ids are others than they were: what waited goes its way.
    pub(crate) fn calm(&mut self, now: Instant) {
        let Some(mischief) = &mut self.mischief else { return };
        let before = core::mem::take(&mut **mischief);
        mischief.shift = before.shift;
        mischief.shifts = before.shifts;
        mischief.gates = before.gates;
        mischief.late = before.late;
        if let Some(slow) = before.slow {
            self.end_slowness(slow);
        }
        self.release(now, |_| true);
    }

    pub(super) fn release_due(&mut self, now: Instant) {
        self.release(now, |at| at <= now);
    }

    /// Lets go of what waits for a time, in the order of that time.
    fn release(&mut self, now: Instant, is_due: impl Fn(Instant) -> bool) {
        loop {
            let mischief = self.mischief();
            let late = mischief.late.first_key_value().map(|((at, _), _)| *at);
            let gates = mischief.gates.iter().map(|(session, gate)| (gate.until(), *session));
            let gate = gates.min();
            match (late.filter(|at| is_due(*at)), gate.filter(|(at, _)| is_due(*at))) {
                (Some(late), Some((at, session))) if at < late => self.open_gate(session, now),
                (None, Some((_, session))) => self.open_gate(session, now),
                (Some(_), _) => {
                    if let Some((_, late)) = mischief.late.pop_first() {
                        self.emit(late.session, late.frame, now);
                    }
                }
                (None, None) => break,
            }
        }
    }

    fn end_slowness(&mut self, slow: Slow) {
        let mut config = self.server.config().clone();
        config.subscribed_after = slow.usual;
        self.server.set_config(config);
    }

    fn end_what_lasted(&mut self, now: Instant) {
        let mischief = self.mischief();
        mischief.heartless_until = mischief.heartless_until.filter(|until| *until > now);
        mischief.full_until.retain(|_, until| *until > now);
        if let Some(slow) = mischief.slow.take_if(|slow| slow.until <= now) {
            self.end_slowness(slow);
        }
    }

    /// Takes a frame of a client.
    pub(super) fn take(&mut self, session: SessionId, frame: Frame, now: Instant) {
        if let Some(frame) = self.wait(session, Mail::In(frame), now) {
            self.process(session, frame, now);
        }
    }

    /// Looks at a frame of a client.
    pub(super) fn process(&mut self, session: SessionId, frame: Frame, now: Instant) {
        self.end_what_lasted(now);
        let node = self.visitors.get(&session).map(|visitor| visitor.node);
        if node.is_some_and(|node| self.mischief().too_large.remove(&node)) {
            self.server.close_session(session, 1009, "", now);
            return;
        }
        let Some((node, fate, topic)) = self.fate_of(session, &frame) else {
            return self.server.handle_frame(session, frame, now);
        };
        let (why, holds) = match fate {
            Fate::Slow(span) => {
                self.mischief().take_fate(node);
                self.effects.add(Effect::SlowJoin);
                return self.hold(session, now + span, Some(Mail::In(frame)), Then::GoesOn);
            }
            Fate::Refused { why, holds } => (why, holds),
            Fate::OneTooMany(_) => (Refusal::TooManyJoins, true),
        };
        if !self.refuse(session, &topic, why, frame, now) {
            // The honest half is busy with another join of the session, or does not have it.
            return;
        }
        self.mischief().take_fate(node);
        self.effects.add(Effect::RefusedJoin);
        if let Fate::OneTooMany(span) = fate {
            self.effects.add(Effect::OneTooMany);
            self.mischief().full_until.insert(node, now + REFUSAL_HOLDS_FOR + span);
        }
        if holds && topic.starts_with("realtime:") && !why.is_of_phoenix() {
            let then = if why.ends_connection() { Then::Closes } else { Then::GoesOn };
            self.hold(session, now + REFUSAL_HOLDS_FOR, None, then);
        } else if why.ends_connection() {
            self.server.close_session(session, 1001, "", now);
        }
    }

    /// What is to become of a frame, if it is a join about which something was decided: whose it
    /// is, what becomes of it, and its topic.
    fn fate_of(&self, session: SessionId, frame: &Frame) -> Option<(NodeId, Fate, String)> {
        let visitor = self.visitors.get(&session)?;
        let (fate, _) = *self.mischief.as_ref()?.fates.get(&visitor.node)?.front()?;
        let join = wire::decode(visitor.vsn, Sender::Client, frame).ok()?;
        (join.event == "phx_join").then(|| (visitor.node, fate, join.topic.into_owned()))
    }

    /// Lets the honest half refuse a join at once; whether it looked at it.
    fn refuse(
        &mut self,
        session: SessionId,
        topic: &str,
        why: Refusal,
        frame: Frame,
        now: Instant,
    ) -> bool {
        let (refused, honest) = (self.server.stats().refused, self.server.config().clone());
        let mut config = honest.clone();
        config.refuse_joins.insert(0, (topic.into(), why.text(topic)));
        config.join_refusal_after = Duration::ZERO;
        self.server.set_config(config);
        self.server.handle_frame(session, frame, now);
        self.server.set_config(honest);
        self.server.stats().refused > refused
    }
}

#[cfg(test)]
mod tests {
    use realtime_proto::Payload;
    use realtime_proto::server::{RowChange, ServerConfig};

    use super::*;
    use crate::backend::Out;

    const JOIN: &str = r#"["1","1","realtime:room","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"t"}]}}]"#;

    fn sent(backend: &mut Backend, now: Instant) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(out) = backend.poll(now) {
            if let Out::Frame { frame, .. } = out {
                frames.push(String::from_utf8(frame.as_bytes().to_vec()).unwrap());
            }
        }
        frames
    }

    /// The number behind `key`.
    fn id(frame: &str, key: &str) -> u32 {
        let (_, rest) = frame.rsplit_once(key).unwrap();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        rest[..end].parse().unwrap()
    }

    #[test]
    fn the_ids_of_a_join_are_those_of_its_changes_whatever_joins_later_and_calms_down() {
        let mut now = Instant::EPOCH;
        let mut backend = Backend::new(ServerConfig::default(), 1, now);
        let mut ids = Vec::new();
        let mut sessions = Vec::new();
        for _ in 0..3 {
            let session = backend.accept("/socket/websocket?vsn=2.0.0", NodeId(0), now).unwrap();
            backend.handle_frame(session, Frame::text(JOIN), now);
            let reply = sent(&mut backend, now).remove(0);
            ids.push(id(&reply, "{\"id\":"));
            sessions.push(session);
            backend.mischief().shift_ids();
        }
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        backend.calm(now);
        now = now + Duration::from_secs(1);
        backend.handle_timeout(now);
        sent(&mut backend, now);
        let change = RowChange::insert("t", Payload::from_json(r#"{"id":1}"#).unwrap()).unwrap();
        backend.server.change(&change, now);
        let changes = sent(&mut backend, now);
        let told: Vec<u32> = changes.iter().map(|change| id(change, "\"ids\":[")).collect();
        assert_eq!(told, ids);
    }

    #[test]
    fn a_server_that_has_nothing_wrong_to_do_any_more_is_honest_again() {
        let now = Instant::EPOCH;
        let mut backend = Backend::new(ServerConfig::default(), 1, now);
        let session = backend.accept("/socket/websocket?vsn=2.0.0", NodeId(0), now).unwrap();
        backend.mischief().lost_replies = 1;
        backend.handle_frame(session, Frame::text(JOIN), now);
        assert!(sent(&mut backend, now).is_empty());
        assert!(backend.mischief.is_none());
    }
}

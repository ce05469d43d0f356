//! One connection: its channels, its outgoing frames, and the gate a refused join closes.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::channel::Channel;
use super::event::{ServerEvent, ServerTransmit, SessionId};
use super::join::Admission;
use super::timer::{Timer, TimerKey};
use super::{Server, json};
use crate::secret::Secret;
use crate::time::Instant;
use crate::transmit::Frame;
use crate::wire::{self, Body, Envelope, FrameKind, Sender, Vsn};

pub(super) struct Session {
    pub(super) vsn: Vsn,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) gate: Gate,
    /// Frames of this session in the server's queue.
    pub(super) queued: usize,
    /// When it last sent anything.
    pub(super) heard: Instant,
    pub(super) idle: Option<TimerKey>,
    /// When it is looked at for having no channel; a session that never had any is not.
    pub(super) sweep: Option<TimerKey>,
    /// What its channels without a token use.
    pub(super) apikey: Option<Secret>,
}

/// Whether a session's frames pass.
pub(super) enum Gate {
    Open,
    /// A join holds the session's one process, as on a real server, in both directions: one that
    /// is refused, or one that waits for the database.
    Joining {
        timer: TimerKey,
        mailbox: Mailbox,
        then: Then,
    },
    /// The join is over, and what waited for it is being worked off.
    Opening {
        mailbox: Mailbox,
    },
    /// Too much was waiting; it is closed as soon as the input at hand is done.
    Doomed,
}

/// What comes when a join has taken its time.
pub(super) enum Then {
    /// It is refused.
    Refuse(Frame),
    /// It is refused, and was one too many in a second.
    RefuseAndClose(Frame),
    /// Its channel is made.
    Admit(Box<Admission>),
}

/// What waits for a held session, in order.
#[derive(Default)]
pub(super) struct Mailbox {
    mails: VecDeque<Mail>,
    bytes: usize,
}

enum Mail {
    In(Frame),
    Out(Frame),
}

impl Mail {
    fn len(&self) -> usize {
        match self {
            Self::In(frame) | Self::Out(frame) => frame.as_bytes().len(),
        }
    }
}

impl Mailbox {
    fn push(&mut self, mail: Mail) {
        self.bytes = self.bytes.saturating_add(mail.len());
        self.mails.push_back(mail);
    }

    fn pop(&mut self) -> Option<Mail> {
        let mail = self.mails.pop_front()?;
        self.bytes = self.bytes.saturating_sub(mail.len());
        Some(mail)
    }
}

/// Frames of one message, encoded at most once for each version; `None` where it has no form.
#[derive(Default)]
pub(super) struct Encoded {
    v1: Option<Option<Frame>>,
    v2: Option<Option<Frame>>,
}

impl Encoded {
    pub(super) fn frame(
        &mut self,
        vsn: Vsn,
        envelope: &Envelope<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<Frame> {
        let slot = match vsn {
            Vsn::V1 => &mut self.v1,
            Vsn::V2 => &mut self.v2,
        };
        slot.get_or_insert_with(|| encode(vsn, envelope, buffer)).clone()
    }
}

fn encode(vsn: Vsn, envelope: &Envelope<'_>, buffer: &mut Vec<u8>) -> Option<Frame> {
    let kind = wire::encode(vsn, Sender::Server, envelope, buffer).ok()?;
    let bytes = Bytes::copy_from_slice(buffer);
    Some(match kind {
        FrameKind::Text => Frame::Text(bytes),
        FrameKind::Binary => Frame::Binary(bytes),
    })
}

impl Server {
    /// Takes a frame of a client, or lets it wait behind a join.
    pub(super) fn receive(&mut self, id: SessionId, frame: Frame) {
        self.stats.frames_in += 1;
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else {
            self.stats.stale += 1;
            return;
        };
        session.heard = now;
        if frame.as_bytes().len() > self.config.frame_bytes_max {
            self.stats.overflows += 1;
            self.end_session(id, Some((1009, "the frame is too large".into())));
            return;
        }
        match &mut session.gate {
            Gate::Open => self.process(id, &frame),
            Gate::Joining { mailbox, .. } | Gate::Opening { mailbox } => {
                mailbox.push(Mail::In(frame));
                self.check_mailbox(id);
            }
            Gate::Doomed => {}
        }
    }

    fn process(&mut self, id: SessionId, frame: &Frame) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        match wire::decode(session.vsn, Sender::Client, frame) {
            Ok(envelope) => self.dispatch(id, &envelope),
            Err(error) => {
                self.stats.malformed += 1;
                self.tell(ServerEvent::Malformed { session: id, error });
            }
        }
    }

    /// Sends one message to one session.
    pub(super) fn send(&mut self, id: SessionId, envelope: &Envelope<'_>) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        if let Some(frame) = encode(session.vsn, envelope, &mut self.buffer) {
            self.deliver(id, frame);
        }
    }

    /// Writes a message in the form of a session's version; `None` where it has no such form.
    pub(super) fn encode_for(&mut self, id: SessionId, envelope: &Envelope<'_>) -> Option<Frame> {
        let vsn = self.sessions.get(&id)?.vsn;
        encode(vsn, envelope, &mut self.buffer)
    }

    /// Sends a reply with a JSON response.
    pub(super) fn reply(
        &mut self,
        id: SessionId,
        join_ref: Option<&str>,
        msg_ref: Option<&str>,
        topic: &str,
        reply: Reply<'_>,
    ) {
        let payload = reply.payload();
        self.send(id, &reply_to(join_ref, msg_ref, topic, &payload));
    }

    /// Sends what the one process of a session says itself, the reply to a join or a heartbeat: it
    /// does not wait behind what channels sent to it meanwhile.
    pub(super) fn send_first(&mut self, id: SessionId, envelope: &Envelope<'_>) {
        if let Some(frame) = self.encode_for(id, envelope) {
            self.transmit(id, frame);
        }
    }

    /// Sends what a channel sent to the process of its session, behind all that waits there.
    pub(super) fn deliver(&mut self, id: SessionId, frame: Frame) {
        match self.sessions.get_mut(&id).map(|session| &mut session.gate) {
            Some(Gate::Joining { mailbox, .. } | Gate::Opening { mailbox }) => {
                mailbox.push(Mail::Out(frame));
                self.check_mailbox(id);
            }
            Some(Gate::Open | Gate::Doomed) | None => self.transmit(id, frame),
        }
    }

    fn transmit(&mut self, id: SessionId, frame: Frame) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if matches!(session.gate, Gate::Doomed) {
            return;
        }
        if session.queued >= self.config.waiting_frames_max {
            session.gate = Gate::Doomed;
            self.doomed.push(id);
            return;
        }
        session.queued += 1;
        self.stats.frames_out += 1;
        self.transmits.push_back(ServerTransmit::Frame { session: id, frame });
    }

    fn check_mailbox(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (mailbox, timer) = match &session.gate {
            Gate::Joining { mailbox, timer, .. } => (mailbox, Some(*timer)),
            Gate::Opening { mailbox } => (mailbox, None),
            Gate::Open | Gate::Doomed => return,
        };
        if mailbox.mails.len() > self.config.waiting_frames_max
            || mailbox.bytes > self.config.waiting_bytes_max
        {
            if let Some(timer) = timer {
                self.timers.disarm(timer);
            }
            session.gate = Gate::Doomed;
            self.doomed.push(id);
        }
    }

    /// Ends a join after a while, which holds everything behind it.
    pub(super) fn hold(&mut self, id: SessionId, span: Duration, then: Then) {
        if span.is_zero() {
            self.finish_join(id, then);
            return;
        }
        let at = self.now + span;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        // What is left of the mail that waited for the join before waits for this one.
        let mailbox = match &mut session.gate {
            Gate::Open => Mailbox::default(),
            Gate::Opening { mailbox } => core::mem::take(mailbox),
            Gate::Joining { .. } | Gate::Doomed => return,
        };
        let timer = self.timers.arm(at, Timer::Release(id));
        session.gate = Gate::Joining { timer, mailbox, then };
    }

    fn finish_join(&mut self, id: SessionId, then: Then) {
        match then {
            Then::Refuse(reply) => self.transmit(id, reply),
            Then::RefuseAndClose(reply) => {
                self.transmit(id, reply);
                self.end_session(id, Some((1001, "".into())));
            }
            Then::Admit(admission) => self.admit(id, *admission),
        }
    }

    /// The time of a join is over: it ends, then what waited is worked off in order. What channels
    /// send on that occasion, the replay of the join included, is behind it.
    pub(super) fn release(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let gate = core::mem::replace(&mut session.gate, Gate::Open);
        let (mailbox, then) = match gate {
            Gate::Joining { mailbox, then, .. } => (mailbox, then),
            gate @ (Gate::Open | Gate::Opening { .. } | Gate::Doomed) => {
                session.gate = gate;
                return;
            }
        };
        session.gate = Gate::Opening { mailbox };
        self.finish_join(id, then);
        while let Some(session) = self.sessions.get_mut(&id) {
            let Gate::Opening { mailbox } = &mut session.gate else {
                return;
            };
            match mailbox.pop() {
                Some(Mail::In(frame)) => self.process(id, &frame),
                Some(Mail::Out(frame)) => self.transmit(id, frame),
                None => session.gate = Gate::Open,
            }
        }
    }

    /// A session may have been silent for too long.
    pub(super) fn check_idle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.idle = None;
        let Some(idle_after) = self.config.idle_after else {
            return;
        };
        let at = session.heard + idle_after;
        if at > self.now {
            session.idle = Some(self.timers.arm(at, Timer::Idle(id)));
        } else {
            self.end_session(id, Some((1000, "".into())));
        }
    }

    /// A session may have no channel any more. Protocol §6.4.
    pub(super) fn sweep(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.sweep = None;
        if !session.channels.is_empty() {
            self.plan_sweep(id);
        } else if self.end_session(id, None) {
            self.closing += 1;
            self.transmits.push_back(ServerTransmit::Cut { session: id });
        }
    }

    pub(super) fn plan_sweep(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.sweep.is_none())
        else {
            return;
        };
        let span = self.config.no_channel_after;
        session.sweep = span.map(|span| self.timers.arm(self.now + span, Timer::Sweep(id)));
    }

    /// Closes the sessions for which too much was waiting.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.doomed.pop() {
            let close = (1011, "too many frames are waiting".into());
            if self.end_session(id, Some(close)) {
                self.stats.overflows += 1;
            }
        }
    }

    /// Ends a session and all its channels; with a code its socket is closed too.
    pub(super) fn end_session(
        &mut self,
        id: SessionId,
        close: Option<(u16, Cow<'static, str>)>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        for key in [session.idle, session.sweep].into_iter().flatten() {
            self.timers.disarm(key);
        }
        if let Gate::Joining { timer, .. } = &session.gate {
            self.timers.disarm(*timer);
        }
        // Nothing more reaches this session, its own presence leaving included.
        session.gate = Gate::Doomed;
        let topics: Vec<String> = session.channels.keys().cloned().collect();
        for topic in topics {
            self.detach(id, &topic);
        }
        self.sessions.remove(&id);
        match close {
            Some((code, reason)) => {
                self.closing += 1;
                self.transmits.push_back(ServerTransmit::Close { session: id, code, reason });
            }
            None => self.transmits.retain(|transmit| match transmit {
                ServerTransmit::Frame { session, .. } => *session != id,
                ServerTransmit::Close { .. } | ServerTransmit::Cut { .. } => true,
            }),
        }
        self.tell(ServerEvent::Closed { session: id });
        true
    }
}

/// The status and response of a reply.
#[derive(Clone, Copy)]
pub(super) enum Reply<'a> {
    /// `ok` with nothing to say.
    Ok,
    /// `ok` with a response.
    OkWith(&'a str),
    /// `error` with nothing to say.
    Error,
    /// `error` with a response.
    ErrorWith(&'a str),
    /// `error` with a reason.
    Refused(&'a str),
}

impl Reply<'_> {
    pub(super) fn payload(self) -> String {
        let (status, response): (_, Cow<'_, str>) = match self {
            Self::Ok => ("ok", "{}".into()),
            Self::OkWith(response) => ("ok", response.into()),
            Self::Error => ("error", "{}".into()),
            Self::ErrorWith(response) => ("error", response.into()),
            Self::Refused(reason) => {
                ("error", alloc::format!("{{\"reason\":{}}}", json::quoted(reason)).into())
            }
        };
        alloc::format!("{{\"status\":\"{status}\",\"response\":{response}}}")
    }
}

pub(super) fn reply_to<'a>(
    join_ref: Option<&'a str>,
    msg_ref: Option<&'a str>,
    topic: &'a str,
    payload: &'a str,
) -> Envelope<'a> {
    Envelope {
        join_ref: join_ref.map(Cow::Borrowed),
        msg_ref: msg_ref.map(Cow::Borrowed),
        topic: topic.into(),
        event: "phx_reply".into(),
        body: Body::Json(payload),
    }
}

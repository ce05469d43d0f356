//! A session whose one process is busy with a join: everything waits, in both directions.

use std::collections::VecDeque;

use realtime_proto::server::SessionId;
use realtime_proto::{Frame, Instant};

use super::{Backend, Out};

/// What waits for a session that is held.
#[derive(Debug)]
pub(super) struct Gate {
    until: Instant,
    mails: VecDeque<Mail>,
    /// Whether the connection is closed with 1001 behind the first reply.
    closes: bool,
}

#[derive(Debug)]
pub(super) enum Mail {
    /// From the client, not looked at yet.
    In(Frame),
    /// To the client.
    Out(Frame),
}

/// More frames than this wait for no session, as in the honest half.
const WAITING_FRAMES_MAX: usize = 10_000;

impl Gate {
    pub(super) const fn until(&self) -> Instant {
        self.until
    }
}

impl Backend {
    /// Holds a session until then, or for longer if it is held already.
    pub(super) fn hold(
        &mut self,
        session: SessionId,
        until: Instant,
        first: Option<Mail>,
        closes: bool,
    ) {
        let gate = Gate { until, mails: first.into_iter().collect(), closes };
        let before = self.mischief().gates.insert(session, gate);
        assert!(before.is_none(), "a session that is held takes no join");
    }

    /// Lets something wait if its session is held; hands it back otherwise.
    pub(super) fn wait(&mut self, session: SessionId, mail: Mail, now: Instant) -> Option<Frame> {
        let gates = self.mischief.as_mut().map(|mischief| &mut mischief.gates);
        let Some(gate) = gates.and_then(|gates| gates.get_mut(&session)) else {
            let (Mail::In(frame) | Mail::Out(frame)) = mail;
            return Some(frame);
        };
        gate.mails.push_back(mail);
        if gate.mails.len() > WAITING_FRAMES_MAX {
            self.server.close_session(session, 1011, "too many frames are waiting", now);
        }
        None
    }

    /// Lets everything that waited pass in order, until another join holds the session.
    pub(super) fn open_gate(&mut self, session: SessionId, now: Instant) {
        let Some(gate) = self.mischief().gates.remove(&session) else { return };
        let mut mails = gate.mails;
        while let Some(mail) = mails.pop_front() {
            match mail {
                Mail::Out(frame) => self.outbox.push_back(Out::Frame { session, frame }),
                Mail::In(frame) => {
                    self.take(session, frame, now);
                    self.drain(now);
                }
            }
            if gate.closes && !matches!(mails.front(), Some(Mail::Out(_))) {
                self.server.close_session(session, 1001, "", now);
                self.drain(now);
            }
            if !self.visitors.contains_key(&session) {
                return;
            }
            if let Some(next) = self.mischief().gates.get_mut(&session) {
                next.mails.append(&mut mails);
            }
        }
    }

    /// Takes all that the honest half asks for into the outbox, so that what follows comes behind.
    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.server.poll_transmit() {
            self.pass(transmit, now);
        }
    }
}

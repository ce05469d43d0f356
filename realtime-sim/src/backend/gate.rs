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
    then: Then,
    /// Whether what waited is being worked off.
    opens: bool,
}

/// What becomes of a session that was held, behind the reply to the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    GoesOn,
    /// It is closed with 1001.
    Closes,
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

    /// Whether a join holds the session.
    pub(super) const fn holds(&self) -> bool {
        !self.opens
    }
}

impl Backend {
    /// Lets a join hold its session until then; what is `first` comes before all that waits.
    pub(super) fn hold(
        &mut self,
        session: SessionId,
        until: Instant,
        first: Option<Mail>,
        then: Then,
    ) {
        let before = self.mischief().gates.remove(&session);
        assert!(!before.as_ref().is_some_and(Gate::holds), "a session that is held takes no join");
        let mut mails = before.map_or_else(VecDeque::new, |gate| gate.mails);
        if let Some(first) = first {
            mails.push_front(first);
        }
        let gate = Gate { until, mails, then, opens: false };
        self.mischief().gates.insert(session, gate);
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

    /// Sends the reply to a join or a heartbeat, which the process of the session gives itself:
    /// what its channels send meanwhile is behind all that waits for it.
    pub(super) fn answer(&mut self, session: SessionId, frame: Frame) {
        match self.mischief().gates.get_mut(&session) {
            Some(gate) if gate.holds() => gate.mails.push_front(Mail::Out(frame)),
            Some(_) | None => self.outbox.push_back(Out::Frame { session, frame }),
        }
    }

    /// Lets everything that waited pass in order, until another join holds the session.
    pub(super) fn open_gate(&mut self, session: SessionId, now: Instant) {
        if let Some(gate) = self.mischief().gates.get_mut(&session) {
            gate.opens = true;
        }
        while let Some(gate) = self.mischief().gates.get_mut(&session).filter(|gate| gate.opens) {
            let then = core::mem::replace(&mut gate.then, Then::GoesOn);
            match gate.mails.pop_front() {
                Some(Mail::Out(frame)) => self.outbox.push_back(Out::Frame { session, frame }),
                Some(Mail::In(frame)) => self.process(session, frame, now),
                None => {
                    self.mischief().gates.remove(&session);
                }
            }
            if then == Then::Closes {
                self.server.close_session(session, 1001, "", now);
            }
            // So that what follows comes behind.
            while let Some(transmit) = self.server.poll_transmit() {
                self.pass(transmit, now);
            }
        }
    }
}

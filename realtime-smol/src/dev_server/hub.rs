//! The protocol half of the server, as the driver's machine.

use std::collections::{BTreeSet, VecDeque};

use realtime_proto::server::{
    Refusal, RowChange, Server, ServerEvent, ServerStats, ServerTransmit, SessionId,
};
use realtime_proto::{CloseReason, Frame, Instant};

use crate::driver::{Machine, Request};
use crate::sockets::Opening;

/// The protocol half of the server, and the connections it does not know how to take or drop.
pub(crate) struct Hub {
    server: Server,
    sessions: BTreeSet<SessionId>,
    /// Connections to take or to drop, before anything the server itself has to send.
    requests: VecDeque<Request<SessionId>>,
}

impl Hub {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, sessions: BTreeSet::new(), requests: VecDeque::new() }
    }

    /// Makes a session of a connection, or says how to refuse it.
    pub(crate) fn accept(
        &mut self,
        target: &str,
        opening: Opening,
        now: Instant,
    ) -> Result<(), Refusal> {
        let session = self.server.accept(target, now)?;
        self.sessions.insert(session);
        self.requests.push_back(Request::Adopt { socket: session, opening });
        Ok(())
    }

    pub(crate) fn change(&mut self, change: &RowChange, now: Instant) -> usize {
        self.server.change(change, now)
    }

    /// The protocol half, to do with as a test likes.
    pub(crate) const fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Drops every connection without a word.
    pub(crate) fn cut_all(&mut self, now: Instant) -> usize {
        let sessions = core::mem::take(&mut self.sessions);
        for &socket in &sessions {
            self.server.handle_close(socket, now);
            self.requests.push_back(Request::Abort { socket });
        }
        sessions.len()
    }

    pub(crate) fn close_all(&mut self, code: u16, reason: &'static str, now: Instant) -> usize {
        self.server.close_all(code, reason, now)
    }

    pub(crate) fn stats(&self) -> ServerStats {
        self.server.stats()
    }
}

impl Machine for Hub {
    type Event = ServerEvent;
    type Socket = SessionId;

    fn handle_open(&mut self, _session: SessionId, _now: Instant) {}

    fn handle_frame(&mut self, session: SessionId, frame: Frame, now: Instant) {
        self.server.handle_frame(session, frame, now);
    }

    fn handle_close(&mut self, session: SessionId, _reason: CloseReason, now: Instant) {
        self.sessions.remove(&session);
        self.server.handle_close(session, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SessionId>> {
        if let Some(request) = self.requests.pop_front() {
            return Some(request);
        }
        match self.server.poll_transmit()? {
            ServerTransmit::Frame { session, frame } => {
                Some(Request::Frame { socket: session, frame })
            }
            ServerTransmit::Close { session, code, reason } => {
                self.sessions.remove(&session);
                Some(Request::Close { socket: session, code, reason })
            }
            ServerTransmit::Cut { session } => {
                self.sessions.remove(&session);
                Some(Request::Abort { socket: session })
            }
            other => {
                debug_assert!(false, "the server asks for what nobody can do: {other:?}");
                None
            }
        }
    }

    fn poll_event(&mut self) -> Option<ServerEvent> {
        self.server.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.requests.is_empty() { self.server.poll_timeout() } else { Some(Instant::EPOCH) }
    }

    fn wants_frames(&self) -> bool {
        true
    }
}

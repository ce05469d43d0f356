//! Our client with a flaw, for tests of what finds flaws.

use core::fmt;
use core::time::Duration;

use realtime_proto::{CloseReason, Event, Frame, Instant, SocketId, Stats};

use super::{ClientSubject, Command, Performed, Request, Role, Scripted, Seen, Subject, Told};
use crate::scenario::TopicId;

/// Our client with a flaw in what it tells, asks for or claims.
#[derive(Debug)]
pub(crate) struct Flawed<F> {
    client: ClientSubject,
    flaw: F,
}

pub(crate) trait Flaw: Default + fmt::Debug + 'static {
    /// What it tells of an event.
    fn tell(&mut self, told: &mut Vec<Told>) {
        let _ = told;
    }

    /// Whether its driver carries a request out.
    fn does(&mut self, request: &Request<SocketId>) -> bool {
        let _ = request;
        true
    }

    fn is_live(&self, is_live: bool) -> bool {
        is_live
    }

    /// Whom it shows.
    fn present(&self, seen: Seen) -> Seen {
        seen
    }

    /// Whether it says that it names everybody.
    fn tells_members(&self) -> bool {
        true
    }

    /// What it counted.
    fn stats(&self) -> Option<Stats> {
        None
    }
}

impl<F: Flaw> Scripted for Flawed<F> {
    fn start(role: &Role<'_>, seed: u64, now: Instant) -> Self {
        Self { client: ClientSubject::start(role, seed, now), flaw: F::default() }
    }
}

impl<F: Flaw> Subject for Flawed<F> {
    type Socket = SocketId;
    type Event = Event;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        self.client.handle_open(socket, now);
    }
    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.client.handle_frame(socket, frame, now);
    }
    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.client.handle_close(socket, reason, now);
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }
    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        loop {
            let request = self.client.poll_transmit()?;
            if self.flaw.does(&request) {
                return Some(request);
            }
        }
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.client.poll_event()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }
    fn poll_timer(&self) -> Option<Instant> {
        self.client.poll_timer()
    }
    fn wants_frames(&self) -> bool {
        self.client.wants_frames()
    }
    fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.client.set_unix_time(unix, now);
    }
    fn tell(&mut self, event: &Event, told: &mut Vec<Told>) {
        self.client.tell(event, told);
        self.flaw.tell(told);
    }
    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        self.client.perform(command, now)
    }
    fn present(&mut self, topic: TopicId) -> Seen {
        self.flaw.present(self.client.present(topic))
    }
    fn tells_members(&self) -> bool {
        self.flaw.tells_members()
    }
    fn stats(&self) -> Option<Stats> {
        self.flaw.stats()
    }
    fn is_live(&mut self, topic: TopicId) -> bool {
        self.flaw.is_live(self.client.is_live(topic))
    }
}

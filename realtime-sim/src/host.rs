//! A subject behind one face, whatever its types are, with its application and its log.

use core::any::Any;
use core::fmt;
use core::time::Duration;

use realtime_proto::{CloseReason, Frame, Instant, Stats};

use crate::scenario::TopicId;
use crate::subject::{Command, Performed, Request, Subject, Told};

/// What an application does when its client tells it something.
///
/// A closure of the same arguments is one.
pub trait App<S: Subject>: 'static {
    /// Takes one event, and gives the client commands if it likes.
    fn handle_event(&mut self, event: &S::Event, subject: &mut S, now: Instant);
}

impl<S: Subject, F: FnMut(&S::Event, &mut S, Instant) + 'static> App<S> for F {
    fn handle_event(&mut self, event: &S::Event, subject: &mut S, now: Instant) {
        self(event, subject, now);
    }
}

/// What the world needs of a subject; sockets are numbers, in the order they were asked for.
pub(crate) trait Host: fmt::Debug {
    fn handle_open(&mut self, socket: u32, now: Instant);
    fn handle_frame(&mut self, socket: u32, frame: Frame, now: Instant);
    fn handle_close(&mut self, socket: u32, reason: CloseReason, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_request(&mut self) -> Option<Asked>;
    /// Takes one event: to the oracle, to the application, and into the log. Tells whether there
    /// was one; `line` gets it as a line of the trace.
    fn take_event(&mut self, now: Instant, told: &mut Vec<Told>, line: Option<&mut Shown>) -> bool;
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_timer(&self) -> Option<Instant>;
    fn wants_frames(&self) -> bool;
    fn set_unix_time(&mut self, unix: Duration, now: Instant);
    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed;
    fn present(&mut self, topic: TopicId) -> Option<Vec<(String, Vec<u64>)>>;
    fn stats(&self) -> Option<Stats>;
    fn is_live(&mut self, topic: TopicId) -> bool;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// An event as it is printed.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// As a line of the trace.
    pub(crate) line: String,
    /// As `Debug` has it.
    pub(crate) debug: String,
}

/// A request and the connection it belongs to.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request<u32>,
    pub(crate) connection: u32,
}

/// A subject, its application, and all that it told.
pub(crate) struct Hosted<S: Subject> {
    pub(crate) subject: S,
    pub(crate) log: Log<S::Event>,
    app: Option<Box<dyn App<S>>>,
    sockets: Vec<(u32, S::Socket)>,
    next_socket: u32,
}

/// All that a subject told, unless nobody wants to know.
#[derive(Debug)]
pub(crate) enum Log<E> {
    Kept(Vec<(Instant, E)>),
    Dropped,
}

/// More events than this in one log is a flood; take them with `take_log` in long runs.
const LOG_MAX: usize = 1_000_000;

impl<S: Subject> Hosted<S> {
    pub(crate) const fn new(subject: S) -> Self {
        let log = Log::Kept(Vec::new());
        Self { subject, log, app: None, sockets: Vec::new(), next_socket: 0 }
    }

    pub(crate) fn without_log(subject: S) -> Self {
        Self { log: Log::Dropped, ..Self::new(subject) }
    }

    pub(crate) fn set_app(&mut self, app: impl App<S>) {
        self.app = Some(Box::new(app));
    }

    fn name(&self, socket: u32) -> Option<S::Socket> {
        self.sockets.iter().find(|(number, _)| *number == socket).map(|(_, name)| *name)
    }

    fn number(&self, socket: S::Socket) -> Option<u32> {
        self.sockets.iter().find(|(_, name)| *name == socket).map(|(number, _)| *number)
    }

    fn forget(&mut self, socket: u32) {
        self.sockets.retain(|(number, _)| *number != socket);
    }
}

impl<S: Subject> Host for Hosted<S> {
    fn handle_open(&mut self, socket: u32, now: Instant) {
        if let Some(name) = self.name(socket) {
            self.subject.handle_open(name, now);
        }
    }

    fn handle_frame(&mut self, socket: u32, frame: Frame, now: Instant) {
        if let Some(name) = self.name(socket) {
            self.subject.handle_frame(name, frame, now);
        }
    }

    fn handle_close(&mut self, socket: u32, reason: CloseReason, now: Instant) {
        if let Some(name) = self.name(socket) {
            self.subject.handle_close(name, reason, now);
            self.forget(socket);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.subject.handle_timeout(now);
    }

    fn poll_request(&mut self) -> Option<Asked> {
        let request = self.subject.poll_transmit()?;
        let (socket, name) = match &request {
            Request::Open { socket, .. } => {
                self.next_socket += 1;
                self.sockets.push((self.next_socket, *socket));
                (self.next_socket, *socket)
            }
            Request::Frame { socket, .. } | Request::Close { socket, .. } => {
                // Nothing has this number, so that the world complains.
                (self.number(*socket).unwrap_or(u32::MAX), *socket)
            }
        };
        let connection = self.subject.connection(name);
        let request = match request {
            Request::Open { url, .. } => Request::Open { socket, url },
            Request::Frame { frame, .. } => Request::Frame { socket, frame },
            Request::Close { code, reason, .. } => {
                self.forget(socket);
                Request::Close { socket, code, reason }
            }
        };
        Some(Asked { request, connection })
    }

    fn take_event(&mut self, now: Instant, told: &mut Vec<Told>, line: Option<&mut Shown>) -> bool {
        let Some(event) = self.subject.poll_event() else { return false };
        self.subject.tell(&event, told);
        if let Some(line) = line {
            *line = Shown { line: S::describe(&event), debug: format!("{event:?}") };
        }
        if let Some(app) = &mut self.app {
            app.handle_event(&event, &mut self.subject, now);
        }
        if let Log::Kept(log) = &mut self.log {
            assert!(log.len() < LOG_MAX, "{LOG_MAX} events are in the log: take them");
            log.push((now, event));
        }
        true
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.subject.poll_timeout()
    }

    fn poll_timer(&self) -> Option<Instant> {
        self.subject.poll_timer()
    }

    fn wants_frames(&self) -> bool {
        self.subject.wants_frames()
    }

    fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.subject.set_unix_time(unix, now);
    }

    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        self.subject.perform(command, now)
    }

    fn present(&mut self, topic: TopicId) -> Option<Vec<(String, Vec<u64>)>> {
        self.subject.present(topic)
    }

    fn stats(&self) -> Option<Stats> {
        self.subject.stats()
    }

    fn is_live(&mut self, topic: TopicId) -> bool {
        self.subject.is_live(topic)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl<S: Subject> fmt::Debug for Hosted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("subject", &self.subject).finish_non_exhaustive()
    }
}

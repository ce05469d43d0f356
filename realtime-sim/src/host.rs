//! A subject behind one face, whatever its types are, with its application and its log.

use core::any::Any;
use core::fmt;
use core::time::Duration;

use realtime_proto::manager::{Manager, ManagerEvent};
use realtime_proto::{Client, CloseReason, Event, Frame, Instant, Stats};

use crate::app::{App, Deed, OnMachine, OnSubject, Played};
use crate::scenario::TopicId;
use crate::subject::{
    ClientSubject, Command, ManagerSubject, Performed, Request, Seen, Subject, Told,
};

/// What the world needs of a subject; sockets are numbers, in the order they were asked for.
pub(crate) trait Host: fmt::Debug {
    fn handle_open(&mut self, socket: u32, now: Instant);
    fn handle_frame(&mut self, socket: u32, frame: Frame, now: Instant);
    fn handle_close(&mut self, socket: u32, reason: CloseReason, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_request(&mut self) -> Option<Asked>;
    /// Takes one event: to the oracle, to the application, and into the log. Tells whether there
    /// was one, and what the application did then; `line` gets it as a line of the trace.
    fn take_event(
        &mut self,
        now: Instant,
        told: &mut Vec<Told>,
        line: Option<&mut Shown>,
    ) -> Option<Vec<Deed>>;
    /// The topics of all channels that it has by its own account, when an application opens some.
    fn channels(&self) -> Vec<String>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_timer(&self) -> Option<Instant>;
    fn wants_frames(&self) -> bool;
    fn set_unix_time(&mut self, unix: Duration, now: Instant);
    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed;
    fn present(&mut self, topic: TopicId) -> Seen;
    fn tells_members(&self) -> bool;
    fn stats(&self) -> Option<Stats>;
    fn is_live(&mut self, topic: TopicId) -> bool;
    /// Its application.
    fn app(&self) -> Option<&dyn Any>;
    /// What does not hold of its application, now that everything is at rest.
    fn check(&mut self) -> Result<(), String>;
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
    app: Option<Box<dyn Played<S>>>,
    sockets: Vec<(u32, S::Socket)>,
    next_socket: u32,
}

/// All that a subject told, unless nobody wants to know.
#[derive(Debug)]
pub(crate) enum Log<E> {
    Kept(Vec<(Instant, E)>),
    Dropped,
}

impl<E> Log<E> {
    pub(crate) fn entries(&self) -> &[(Instant, E)] {
        match self {
            Self::Kept(entries) => entries,
            Self::Dropped => &[],
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(Instant, E)> {
        match self {
            Self::Kept(entries) => core::mem::take(entries),
            Self::Dropped => Vec::new(),
        }
    }
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

    pub(crate) fn set_app(&mut self, app: impl App<S, S::Event>) {
        self.app = Some(Box::new(OnSubject(app)));
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

impl Hosted<ClientSubject> {
    pub(crate) fn set_client_app(&mut self, app: impl App<Client, Event>) {
        self.app = Some(Box::new(OnMachine(app)));
    }
}

impl Hosted<ManagerSubject> {
    pub(crate) fn set_manager_app(&mut self, app: impl App<Manager, ManagerEvent>) {
        self.app = Some(Box::new(OnMachine(app)));
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

    fn take_event(
        &mut self,
        now: Instant,
        told: &mut Vec<Told>,
        line: Option<&mut Shown>,
    ) -> Option<Vec<Deed>> {
        let event = self.subject.poll_event()?;
        self.subject.tell(&event, told);
        if let Some(line) = line {
            *line = Shown { line: S::describe(&event), debug: format!("{event:?}") };
        }
        let deeds = match &mut self.app {
            Some(app) => app.handle_event(&event, &mut self.subject, now),
            None => Vec::new(),
        };
        if let Log::Kept(log) = &mut self.log {
            assert!(log.len() < LOG_MAX, "{LOG_MAX} events are in the log: take them");
            log.push((now, event));
        }
        Some(deeds)
    }

    fn app(&self) -> Option<&dyn Any> {
        self.app.as_ref().map(|app| app.as_any())
    }

    fn channels(&self) -> Vec<String> {
        self.app.as_ref().map_or_else(Vec::new, |app| app.channels(&self.subject))
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

    fn present(&mut self, topic: TopicId) -> Seen {
        self.subject.present(topic)
    }

    fn tells_members(&self) -> bool {
        self.subject.tells_members()
    }

    fn stats(&self) -> Option<Stats> {
        self.subject.stats()
    }

    fn is_live(&mut self, topic: TopicId) -> bool {
        self.subject.is_live(topic)
    }

    fn check(&mut self) -> Result<(), String> {
        self.app.as_ref().map_or(Ok(()), |app| app.check(&mut self.subject))
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

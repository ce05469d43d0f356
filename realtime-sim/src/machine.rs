//! A client and a manager have the same verbs, so that one world drives either.

use realtime_proto::manager::{Manager, ManagerEvent};
use realtime_proto::{Client, CloseReason, Event, Frame, Instant, SocketId, Transmit};

use crate::oracle::Oracle;
use crate::trace::{describe, describe_for_manager};

/// The verbs a driver needs.
pub(crate) trait Machine {
    fn handle_open(&mut self, socket: SocketId, now: Instant);
    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant);
    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self) -> Option<Transmit>;
    fn poll_timeout(&self) -> Option<Instant>;
    /// Takes one event into the log, and says what it was in one line.
    fn log_event(&mut self, now: Instant) -> Option<String>;
}

/// A machine and all that it told.
#[derive(Debug)]
pub(crate) struct Logged<M, E> {
    pub(crate) machine: M,
    pub(crate) log: Vec<(Instant, E)>,
}

/// More events than this in one log is a flood; take them with `take_log` in long runs.
const LOG_MAX: usize = 1_000_000;

impl<M, E> Logged<M, E> {
    pub(crate) const fn new(machine: M) -> Self {
        Self { machine, log: Vec::new() }
    }

    fn write(&mut self, now: Instant, event: E) {
        assert!(self.log.len() < LOG_MAX, "{LOG_MAX} events are in the log: take them");
        self.log.push((now, event));
    }
}

/// Which machine a node runs.
#[derive(Debug)]
pub(crate) enum Driven {
    Client(Box<Logged<Client, Event>>, Oracle),
    Manager(Box<Logged<Manager, ManagerEvent>>),
}

macro_rules! forward {
    ($($name:ident(&mut self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&mut self $(, $argument: $type)*) $(-> $result)? {
            match self {
                Self::Client(logged, _) => logged.machine.$name($($argument),*),
                Self::Manager(logged) => logged.machine.$name($($argument),*),
            }
        })*
    };
}

impl Machine for Driven {
    forward! {
        handle_open(&mut self, socket: SocketId, now: Instant);
        handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant);
        handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant);
        handle_timeout(&mut self, now: Instant);
        poll_transmit(&mut self) -> Option<Transmit>;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Client(logged, _) => logged.machine.poll_timeout(),
            Self::Manager(logged) => logged.machine.poll_timeout(),
        }
    }

    fn log_event(&mut self, now: Instant) -> Option<String> {
        match self {
            Self::Client(logged, oracle) => {
                let event = logged.machine.poll_event()?;
                oracle.check(&event, now);
                let line = describe(&event);
                logged.write(now, event);
                Some(line)
            }
            Self::Manager(logged) => {
                let event = logged.machine.poll_event()?;
                let line = describe_for_manager(&event);
                logged.write(now, event);
                Some(line)
            }
        }
    }
}

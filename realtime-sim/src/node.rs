//! One node: a subject, the network it sits behind, its clock, and how its machine and its
//! application are doing.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;

use realtime_proto::{CloseReason, Frame, Instant};

use crate::host::Host;
use crate::link::{Network, Parcel, Weather};

/// A client or a manager of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

/// How an attempt to open a socket goes when it does not simply succeed.
#[derive(Debug)]
pub(crate) enum Reception {
    /// It fails so.
    Fail(CloseReason),
    /// It is answered so much later.
    Late(Duration),
    /// It is never answered.
    Silence,
    /// It opens and breaks at once.
    Flap,
}

/// The clock of a node's machine, against the world's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far it is behind.
    behind: Duration,
    /// When it stopped, if it stands still.
    stopped_at: Option<Instant>,
}

impl Clock {
    pub(crate) fn read(&self, now: Instant) -> Instant {
        let now = self.stopped_at.unwrap_or(now);
        Instant::from_epoch(now.since_epoch().saturating_sub(self.behind))
    }

    /// When, by the world's clock, it will show `at`; never while it stands still.
    fn reaches(&self, at: Instant, now: Instant) -> Option<Instant> {
        if self.stopped_at.is_some() {
            return (at <= self.read(now)).then_some(now);
        }
        Some(at + self.behind)
    }

    pub(crate) fn go_back(&mut self, span: Duration) {
        self.behind = self.behind.saturating_add(span);
    }

    pub(crate) const fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(now);
        }
    }

    pub(crate) fn go_on(&mut self, now: Instant) {
        if let Some(stopped_at) = self.stopped_at.take() {
            self.behind += now.saturating_duration_since(stopped_at);
        }
    }
}

/// What keeps a node from doing anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sleep {
    #[default]
    Awake,
    /// The machine sleeps; when it wakes it looks at its timers first.
    Suspended,
    /// The driver hangs; when it goes on it reads first.
    Hanging,
}

/// What becomes of what is told to an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It takes every event at once.
    #[default]
    Reads,
    /// It takes none, and its driver hands on no more frames than the client wants.
    Pauses,
    /// It takes none, and its driver hands on all the same whatever arrives.
    IsOverfed,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Box<dyn Host>,
    pub(crate) network: Network,
    pub(crate) weather: Weather,
    pub(crate) clock: Clock,
    /// The latest time that its client was told, and for certain took note of: to a client, time
    /// never goes back.
    pub(crate) seen: Instant,
    /// The latest time that its client was told, be it with a command that it refused unread.
    pub(crate) told: Instant,
    /// How many faults part it from every server.
    pub(crate) partings: u32,
    pub(crate) sleep: Sleep,
    /// When it sleeps, until when.
    pub(crate) sleeps_until: Instant,
    pub(crate) reading: Reading,
    /// The link whose full buffer keeps the driver from writing, and since when.
    pub(crate) write_blocked: Option<(u64, Instant)>,
    /// What arrived while nobody could take it.
    pub(crate) inbox: VecDeque<(u64, Parcel)>,
    /// How the next attempts to open a socket go.
    pub(crate) receptions: VecDeque<Reception>,
    /// To which server its next connections go.
    pub(crate) server: usize,
    pub(crate) sent: Vec<(Instant, String)>,
    /// Its deadline by the world's clock, as it is in the world's order of deadlines.
    pub(crate) deadline: Option<Instant>,
}

impl Node {
    pub(crate) fn new(host: Box<dyn Host>, network: Network) -> Self {
        Self {
            host,
            network,
            weather: Weather::default(),
            clock: Clock::default(),
            seen: Instant::EPOCH,
            told: Instant::EPOCH,
            partings: 0,
            sleep: Sleep::Awake,
            sleeps_until: Instant::EPOCH,
            reading: Reading::Reads,
            write_blocked: None,
            inbox: VecDeque::new(),
            receptions: VecDeque::new(),
            server: 0,
            sent: Vec::new(),
            deadline: None,
        }
    }

    /// The time by its clock, as its client is told it now with an input.
    pub(crate) fn tick(&mut self, now: Instant) -> Instant {
        let clock = self.tell_time(now);
        self.seen = self.seen.max(clock);
        clock
    }

    /// The time by its clock, as its client is told it now with a command.
    pub(crate) fn tell_time(&mut self, now: Instant) -> Instant {
        let clock = self.clock.read(now);
        self.told = self.told.max(clock);
        clock
    }

    /// The time that its client would take it for now: at least and at most.
    pub(crate) fn time(&self, now: Instant) -> (Instant, Instant) {
        let clock = self.clock.read(now);
        (self.seen.max(clock), self.told.max(clock))
    }

    /// Its own deadline by the world's clock. A machine that sleeps misses it, and so does a
    /// driver that hangs in a write.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.sleep != Sleep::Awake || self.write_blocked.is_some() {
            return None;
        }
        // What waits for the application wakes nobody while the application does not look.
        let at = if self.reads() { self.host.poll_timeout() } else { self.host.poll_timer() };
        self.clock.reaches(at?, now).map(|at| at.max(now))
    }

    /// Whether its application takes events.
    pub(crate) fn reads(&self) -> bool {
        self.reading == Reading::Reads
    }

    /// Whether it takes what arrives.
    pub(crate) fn listens(&self) -> bool {
        let takes = self.reading == Reading::IsOverfed || self.host.wants_frames();
        self.sleep == Sleep::Awake && takes
    }

    /// Gives its client a frame, which tells whether it took it: one that has no room for more may
    /// drop it.
    pub(crate) fn feed(&mut self, socket: u32, frame: &Frame, clock: Instant) -> bool {
        let dropped = |host: &dyn Host| host.stats().map(|stats| stats.frames_dropped);
        let before = (!self.host.wants_frames()).then(|| dropped(&*self.host));
        self.host.handle_frame(socket, frame.clone(), clock);
        before.is_none_or(|before| before == dropped(&*self.host))
    }
}

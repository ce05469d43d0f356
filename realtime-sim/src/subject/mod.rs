//! What a world drives: any client that has the verbs of a sans-IO machine.

mod client;
#[cfg(test)]
mod flawed;
mod manager;
mod note;

use core::fmt;
use core::time::Duration;

pub(crate) use client::{ClientSubject, TABLE, client_config};
#[cfg(test)]
pub(crate) use flawed::{Flaw, Flawed};
pub(crate) use manager::{ManagerSubject, is_for_managers};
use realtime_proto::supabase::CauseKind;
use realtime_proto::{CloseReason, Frame, Instant, Stats, Transmit};

use crate::coverage::{Place, PushEnd, Sight, ViolationKind};
use crate::scenario::{Actor, Cast, TopicId};

/// A client that a world can drive, a script can use and the oracle can judge.
///
/// The verbs are those of `realtime_proto::Client`. [`tell`](Self::tell) says what an event means
/// in the words of the oracle, and [`perform`](Self::perform) does what a scenario asks for; a
/// client that only takes part in hand-written worlds may leave both at their defaults. Of one that
/// tells nothing, the oracle judges what it sends and whether it is live.
pub trait Subject: fmt::Debug + 'static {
    /// What it calls one attempt to connect, or the connection it became.
    type Socket: Copy + Eq + fmt::Display;
    /// What it tells its application.
    type Event: fmt::Debug;

    /// A socket is open.
    fn handle_open(&mut self, socket: Self::Socket, now: Instant);
    /// A frame arrived.
    fn handle_frame(&mut self, socket: Self::Socket, frame: Frame, now: Instant);
    /// A socket is gone, or was never had.
    fn handle_close(&mut self, socket: Self::Socket, reason: CloseReason, now: Instant);
    /// Its deadline came.
    fn handle_timeout(&mut self, now: Instant);
    /// The next thing its driver is to do.
    fn poll_transmit(&mut self) -> Option<Request<Self::Socket>>;
    /// The next thing for its application.
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// Its next deadline.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The deadline of its timers alone, whatever waits to be taken. Default: its next deadline.
    fn poll_timer(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    /// Which of its connections a socket is of, counted from 0. Default: it has one.
    fn connection(&mut self, socket: Self::Socket) -> u32 {
        let _ = socket;
        0
    }

    /// Whether it takes frames. Default: always.
    fn wants_frames(&self) -> bool {
        true
    }

    /// The wall clock of its machine, when it is started and when it is set.
    fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        let _ = (unix, now);
    }

    /// An event in one line of a trace, without secrets. Default: as `Debug` has it.
    fn describe(event: &Self::Event) -> String {
        format!("{event:?}")
    }

    /// What an event tells the oracle. Default: nothing.
    fn tell(&mut self, event: &Self::Event, told: &mut Vec<Told>) {
        let _ = (event, told);
    }

    /// Does what a scenario asks for. Default: nothing.
    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        let _ = (command, now);
        Performed::Refused
    }

    /// Who is present on a topic by its own account. Default: it does not say, and nobody asks.
    fn present(&mut self, topic: TopicId) -> Seen {
        let _ = topic;
        Seen::Untold
    }

    /// Whether what it tells of presence names everybody who comes, changes and goes, so that whoever
    /// follows it knows whom [`present`](Self::present) shows. Default: no; then it is to name nobody.
    fn tells_members(&self) -> bool {
        false
    }

    /// What it counted, if it counts what ours does. Default: nothing.
    fn stats(&self) -> Option<Stats> {
        None
    }

    /// Whether all that was asked for on a topic flows, by its own account.
    fn is_live(&mut self, topic: TopicId) -> bool {
        let _ = topic;
        false
    }
}

/// A subject that a scenario can start by itself.
pub trait Scripted: Subject + Sized {
    /// Starts it, offline, as an actor of a scenario.
    fn start(role: &Role<'_>, seed: u64, now: Instant) -> Self;
}

/// What a scripted subject is told at its start.
#[derive(Debug)]
pub struct Role<'a> {
    /// Who it is.
    pub actor: &'a Actor,
    /// Everything else there is.
    pub cast: &'a Cast,
    /// How often the actor was started before.
    pub restarts: u32,
}

/// Something for the driver to do.
#[derive(Debug)]
pub enum Request<S> {
    /// Open a socket.
    Open {
        /// Its name from now on.
        socket: S,
        /// Where to, with the query.
        url: String,
    },
    /// Send a frame.
    Frame {
        /// On which socket.
        socket: S,
        /// What.
        frame: Frame,
    },
    /// Close a socket, or give up the attempt to open it.
    Close {
        /// Which.
        socket: S,
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
    },
}

impl Request<realtime_proto::SocketId> {
    /// What a machine of `realtime-proto` asks for.
    ///
    /// # Panics
    ///
    /// When it asks for something that a later version of `realtime-proto` has and this one has not.
    #[must_use]
    pub fn of(transmit: Transmit) -> Self {
        match transmit {
            Transmit::Open { socket, url } => Self::Open { socket, url: url.expose().into() },
            Transmit::Frame { socket, frame } => Self::Frame { socket, frame },
            Transmit::Close { socket, code, reason } => {
                Self::Close { socket, code, reason: reason.into_owned() }
            }
            other => panic!("a machine asks for something unknown: {other:?}"),
        }
    }
}

/// What a scenario asks a subject to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Want to be connected.
    Connect,
    /// Want not to be connected.
    Disconnect,
    /// Check the connection now.
    Hint,
    /// Open a channel.
    Open(TopicId),
    /// Give a channel up.
    Close(TopicId),
    /// Broadcast a number: event `n`, and as [`numbered`] has it.
    Send(TopicId, u64),
    /// Show a number in the presence, as [`numbered`] has it.
    Track(TopicId, u64),
    /// Show nothing any more.
    Untrack(TopicId),
    /// Ask for the changes of one more table, or give them up.
    Rebind(TopicId),
    /// Join a channel again now.
    Rejoin(TopicId),
    /// Use a token, or none.
    Token(Option<&'a str>),
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performed {
    /// It was taken.
    Done,
    /// It opened this channel.
    Opened(ChannelKey),
    /// It was not taken, and nothing came of it.
    Refused,
}

/// Who is present on a topic, by the account of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It does not keep such an account.
    Untold,
    /// It does not claim to know at this moment.
    Stale,
    /// These are, each key with the numbers that it shows.
    Members(Vec<(String, Vec<u64>)>),
}

/// One channel of one subject: its topic and which of the channels that topic had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The topic; for a channel that no scenario opened, whatever tells topics apart.
    pub topic: TopicId,
    /// Counts the channels of a subject.
    pub life: u32,
}

impl ChannelKey {
    /// The topic of channels that no scenario opened.
    pub(crate) const OF_APP: TopicId = TopicId(u8::MAX);
}

/// What an event tells the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Told {
    /// A connection is open; connections are counted from 0.
    Connected {
        /// Which.
        connection: u32,
    },
    /// A connection ended, or was not had.
    Disconnected {
        /// Which.
        connection: u32,
        /// Why.
        cause: CauseKind,
        /// When the next attempt is made, if one is.
        retry_at: Option<Instant>,
    },
    /// Another token is needed.
    TokenNeeded,
    /// The peer sent what it should not have sent.
    Violation,
    /// Something about a channel.
    Channel(ChannelKey, ChannelTold),
    /// A detail of what was told before, which is counted and not judged.
    Note(Note),
}

/// A detail of an event, for the [`Coverage`](crate::Coverage) of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// A cause that nothing else names.
    Cause(Place, CauseKind),
    /// What the peer should not have sent.
    Violation(ViolationKind),
    /// What else was told.
    Sight(Sight),
}

/// What an event tells the oracle about a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelTold {
    /// It is joined.
    Joined,
    /// All that was asked for flows.
    Live,
    /// Row changes do not flow.
    Stopped {
        /// Why.
        cause: CauseKind,
    },
    /// It joins again, as planned.
    Rejoining,
    /// It is lost, and on its way back or given up.
    Errored {
        /// Why.
        cause: CauseKind,
        /// When it will be tried again without being asked, if it will.
        retry_at: Option<Instant>,
    },
    /// It is gone; nothing follows.
    Closed,
    /// A broadcast came.
    Broadcast {
        /// Its number; `None` when it has none.
        number: Option<u64>,
        /// Whether it names an id, by which it can be told from another.
        has_id: bool,
    },
    /// A row change came.
    Change {
        /// Its number; `None` when it has none.
        number: Option<u64>,
        /// Whether the bindings that it is told for are not those of its table.
        misrouted: bool,
    },
    /// Broadcasts or row changes of this window may be missing.
    Gap {
        /// Of what.
        stream: Missed,
        /// From when, by the subject's clock.
        from: Instant,
        /// To when.
        to: Instant,
    },
    /// Stored broadcasts were replayed; with `contiguous`, none is missing.
    Recovered {
        /// Whether all of them came.
        contiguous: bool,
        /// From when, by the subject's clock.
        from: Instant,
        /// To when.
        to: Instant,
    },
    /// Who is present changed.
    Presence {
        /// Whether the view equals the server's now.
        synced: bool,
        /// Whose presence changed, and how.
        diff: MemberDiff,
    },
    /// A broadcast that was sent came to its end.
    Ended {
        /// Which.
        number: u64,
        /// How.
        end: PushEnd,
    },
    /// Something else.
    Other,
}

/// Who came, changed and went: each key with the numbers that it shows, as [`Seen`] has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberDiff {
    /// Who came.
    pub joined: Vec<(String, Vec<u64>)>,
    /// Who stays and shows something else.
    pub updated: Vec<(String, Vec<u64>)>,
    /// Who went, with the numbers that it showed last.
    pub left: Vec<(String, Vec<u64>)>,
}

/// What a gap is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missed {
    /// Broadcasts.
    Messages,
    /// Row changes.
    Changes,
}

/// A payload that bears a number, as a scenario sends and tracks it. No application has such a key
/// in its own payloads, which would be taken for numbers of the scenario.
///
/// # Examples
///
/// ```
/// use realtime_sim::{number_of, numbered};
///
/// assert_eq!(numbered(7), r##"{"#":7}"##);
/// assert_eq!(number_of(numbered(7).as_bytes()), Some(7));
/// ```
#[must_use]
pub fn numbered(number: u64) -> String {
    format!("{{\"#\":{number}}}")
}

/// The number that a payload bears, if it does.
///
/// # Examples
///
/// ```
/// use realtime_sim::number_of;
///
/// assert_eq!(number_of(br##"{"id":1,"#":42}"##), Some(42));
/// assert_eq!(number_of(br#"{"n":42}"#), None);
/// ```
#[must_use]
pub fn number_of(payload: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"#\":";
    let at = payload.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let mut digits = payload[at..].iter().take_while(|byte| byte.is_ascii_digit()).peekable();
    digits.peek()?;
    digits.try_fold(0, |number: u64, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

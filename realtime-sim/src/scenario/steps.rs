//! What a step does: something an application does, something in the database, or a fault.

use core::time::Duration;

use super::Cast;
use super::words::{
    ActorId, CloseCode, Garbage, Refusal, ServerId, Shutting, TopicId, UpgradeStatus, Word,
};
use crate::seed::Draw;

/// Declares a set of steps: the enum, its kinds with their words and sentences, and how each is
/// written, read, drawn and made simpler. What is not listed here does not exist.
macro_rules! steps {
    (
        $(#[$doc:meta])* $name:ident $first:literal, $(#[$kind_doc:meta])* $kind:ident;
        $(#[doc = $sentence:literal] $variant:ident $word:literal
            { $($field:ident: $type:ty),* })+
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $(
                #[doc = $sentence]
                #[doc = concat!("\n\nIn a scenario: `", $first, $word $(, " ", parameter!($field))*, "`.")]
                #[doc(alias = $word)]
                $variant { $(#[doc = meaning!($field)] $field: $type),* },
            )+
        }

        $(#[$kind_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $kind {
            $(
                #[doc = $sentence]
                #[doc = concat!("\n\nIn a scenario: `", $first, $word $(, " ", parameter!($field))*, "`.")]
                #[doc(alias = $word)]
                $variant,
            )+
        }

        impl $kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word of a scenario.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// What it is, in one sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence.trim(),)+
                }
            }

            /// The names of its parameters, in the order in which they are written.
            #[must_use]
            pub const fn parameters(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$(stringify!($field)),*],)+
                }
            }
        }

        impl $name {
            /// Which kind it is.
            #[must_use]
            pub const fn kind(&self) -> $kind {
                match self {
                    $(Self::$variant { .. } => $kind::$variant,)+
                }
            }

            /// Whom it is about, if it is about one.
            #[allow(dead_code, reason = "faults alone are asked")]
            pub(crate) fn actor(&self) -> Option<ActorId> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        let found: &[Option<ActorId>] = &[$($field.actor()),*];
                        found.iter().find_map(|who| *who)
                    })+
                }
            }

            /// Which server it is about, if it is about one.
            #[allow(dead_code, reason = "faults alone are asked")]
            pub(crate) fn server(&self) -> Option<ServerId> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        let found: &[Option<ServerId>] = &[$($field.server()),*];
                        found.iter().find_map(|server| *server)
                    })+
                }
            }

            /// Whether a text could have said it: who and what it names is there.
            pub(super) fn fits(&self, cast: &Cast) -> bool {
                let _ = cast;
                match self {
                    $(Self::$variant { $($field),* } => true $(&& $field.fits(cast))*,)+
                }
            }

            /// The words behind the first, one a parameter.
            pub(super) fn write_parameters(&self, cast: &Cast) -> Vec<String> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        let _ = cast;
                        vec![$($field.write(cast)),*]
                    })+
                }
            }

            pub(super) fn read_parameters(
                kind: $kind,
                mut words: impl Iterator<Item = impl AsRef<str>>,
                cast: &Cast,
            ) -> Result<Self, String> {
                let read = match kind {
                    $($kind::$variant => Self::$variant { $($field: {
                        let word = words.next().ok_or_else(|| {
                            format!("`{}` needs: {}", $word, kind.parameters().join(", "))
                        })?;
                        <$type as Word>::read(word.as_ref(), cast)?
                    }),* },)+
                };
                match words.next() {
                    None => Ok(read),
                    Some(word) => Err(format!("`{}` is one word too many", word.as_ref())),
                }
            }

            /// A step of this kind with random parameters.
            pub(super) fn draw(kind: $kind, draw: &mut Draw, cast: &Cast) -> Self {
                match kind {
                    $($kind::$variant => {
                        let _ = (&draw, &cast);
                        Self::$variant { $($field: <$type as Word>::draw(draw, cast)),* }
                    })+
                }
            }

            /// The same step with one parameter that is simpler.
            pub(crate) fn simpler(&self) -> Vec<Self> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        #[allow(unused_mut, reason = "some kinds have no parameter")]
                        let mut found = Vec::new();
                        simpler_fields!(found, $name::$variant, [$($field)*], []);
                        found
                    })+
                }
            }
        }
    };
}

/// What a parameter of this name means in every step.
macro_rules! meaning {
    (who) => {
        "Whose, or who does it."
    };
    (topic) => {
        "Of which topic."
    };
    (server) => {
        "Which server."
    };
    (span) => {
        "How long it lasts."
    };
    (late) => {
        "How late."
    };
    (delay) => {
        "How much longer."
    };
    (jitter) => {
        "How much longer at most."
    };
    (down) => {
        "How long it is away."
    };
    (every) => {
        "How often they arrive."
    };
    (within) => {
        "How long it still serves."
    };
    (lives) => {
        "How long it serves."
    };
    (hours) => {
        "How many hours."
    };
    (times) => {
        "How often."
    };
    (count) => {
        "How many."
    };
    (code) => {
        "With which close code."
    };
    (status) => {
        "With which status."
    };
    (why) => {
        "In which words."
    };
    (what) => {
        "Of which kind."
    };
}

/// A parameter as it stands for a word in the documentation.
macro_rules! parameter {
    (who) => {
        "NAME"
    };
    (topic) => {
        "TOPIC"
    };
    (server) => {
        "SERVER"
    };
    (span) => {
        "SPAN"
    };
    (late) => {
        "LATE"
    };
    (delay) => {
        "DELAY"
    };
    (jitter) => {
        "JITTER"
    };
    (down) => {
        "DOWN"
    };
    (every) => {
        "EVERY"
    };
    (within) => {
        "WITHIN"
    };
    (lives) => {
        "LIVES"
    };
    (hours) => {
        "HOURS"
    };
    (times) => {
        "TIMES"
    };
    (count) => {
        "COUNT"
    };
    (code) => {
        "CODE"
    };
    (status) => {
        "STATUS"
    };
    (why) => {
        "WHY"
    };
    (what) => {
        "WHAT"
    };
}

/// For each field, the variant with that field replaced by each of its simpler values.
macro_rules! simpler_fields {
    ($found:ident, $name:ident :: $variant:ident, [], [$($done:ident)*]) => {};
    ($found:ident, $name:ident :: $variant:ident, [$field:ident $($rest:ident)*], [$($done:ident)*]) => {
        for simpler in $field.simpler() {
            $found.push($name::$variant {
                $field: simpler,
                $($done: $done.clone(),)*
                $($rest: $rest.clone(),)*
            });
        }
        simpler_fields!($found, $name::$variant, [$($rest)*], [$($done)* $field]);
    };
}

steps! {
    /// Something an application does with its client, written behind its name: `ana open room`.
    Act "NAME ",
    /// The kinds of [`Act`].
    ActKind;
    /// It wants to be connected.
    Connect "connect" {}
    /// It does not want to be connected any more.
    Disconnect "disconnect" {}
    /// It opens a channel as the cast describes the topic; nothing when it has it.
    Open "open" { topic: TopicId }
    /// It gives a channel up.
    Close "close" { topic: TopicId }
    /// It broadcasts the next number on a topic.
    Send "send" { topic: TopicId }
    /// It broadcasts several numbers at once, faster than anything takes them.
    Flood "flood" { topic: TopicId, count: u32 }
    /// It shows the next number in the presence of a topic.
    Track "track" { topic: TopicId }
    /// It goes from the presence of a topic and keeps the channel.
    Untrack "untrack" { topic: TopicId }
    /// It asks for the changes of one more table on a channel, or gives them up.
    Rebind "rebind" { topic: TopicId }
    /// It asks for a channel to be joined again now.
    Rejoin "rejoin" { topic: TopicId }
    /// It sets an access token that serves for a while.
    Token "token" { lives: Duration }
    /// It signs out: no access token any more.
    SignOut "sign-out" {}
    /// It passes on a hint that the network changed or the machine woke up.
    Hint "hint" {}
}

steps! {
    /// Something that happens in the database, written behind `database`.
    Data "database ",
    /// The kinds of [`Data`].
    DataKind;
    /// A row with the next number is inserted in the table that the topics are about.
    Insert "insert" {}
    /// A row is updated and bears the next number then.
    Update "update" {}
    /// The next number is broadcast to the private channel of a topic and kept for a replay.
    Store "store" { topic: TopicId }
    /// The next number is broadcast to a topic by the server's own application.
    Announce "announce" { topic: TopicId }
}

steps! {
    /// Something that goes wrong, as a WebSocket, a server, a clock or an application does.
    ///
    /// What lasts ends by itself, or when the world is healed. Faults of a link are about the
    /// connections an actor has at that moment, unless they say otherwise.
    Fault "",
    /// The kinds of [`Fault`].
    FaultKind;
    /// The connection breaks at once and without a close frame; both ends notice, what was under way is lost.
    Cut "cut" { who: ActorId }
    /// The client's side of the connection breaks and the server does not notice, as when a cable is pulled.
    Vanish "vanish" { who: ActorId }
    /// The server's side of the connection is gone and the client is not told.
    Abandon "abandon" { who: ActorId }
    /// Nothing gets from the client to the server, while the other direction works.
    Mute "mute" { who: ActorId, span: Duration }
    /// Nothing gets from the server to the client, while the other direction works.
    Deafen "deafen" { who: ActorId, span: Duration }
    /// Nothing gets through in either direction on the connections there are; new ones work.
    Stall "stall" { who: ActorId, span: Duration }
    /// Nothing gets through at all, and new connections get no answer.
    Part "part" { who: ActorId, span: Duration }
    /// The server ends the connection with a close frame.
    Close "close" { who: ActorId, code: CloseCode }
    /// The next upgrades are refused with an HTTP status.
    Refuse "refuse" { who: ActorId, status: UpgradeStatus, times: u32 }
    /// The next upgrade is refused with a status and a `Retry-After`.
    RetryAfter "retry-after" { who: ActorId, status: UpgradeStatus, span: Duration }
    /// The next upgrades are answered late.
    SlowUpgrade "slow-upgrade" { who: ActorId, span: Duration, times: u32 }
    /// The next upgrades are never answered.
    SilentUpgrade "silent-upgrade" { who: ActorId, times: u32 }
    /// The next attempts to connect fail before there is a server.
    Unreachable "unreachable" { who: ActorId, times: u32 }
    /// The next connections break right after they opened.
    Flap "flap" { who: ActorId, times: u32 }
    /// Every message takes this much longer for a while.
    Delay "delay" { who: ActorId, delay: Duration, span: Duration }
    /// Every message takes up to this much longer for a while, each another while.
    Jitter "jitter" { who: ActorId, jitter: Duration, span: Duration }
    /// The client's link to the server takes a few bytes a second, and its buffer is bounded.
    SlowWriter "slow-writer" { who: ActorId, span: Duration }
    /// The client takes a few bytes a second from the server.
    SlowReader "slow-reader" { who: ActorId, span: Duration }
    /// Frames come in pieces: each is complete only when its last piece came.
    Split "split" { who: ActorId, span: Duration }
    /// Frames come together: all of a while arrive at its end, at once.
    Coalesce "coalesce" { who: ActorId, every: Duration, span: Duration }
    /// The server sends a frame that is larger than the client takes.
    GiantFrame "giant-frame" { who: ActorId }
    /// The next frame of the client is too large for the server, which does not take it and ends the connection with 1009.
    TooLarge "too-large" { who: ActorId }
    /// The next replies of the server come late, and what it sends meanwhile comes before them.
    LateReplies "late-replies" { server: ServerId, span: Duration, times: u32 }
    /// The next replies of the server do not come.
    LostReplies "lost-replies" { server: ServerId, times: u32 }
    /// The next frames of the server come twice.
    TwiceFrames "twice" { server: ServerId, times: u32 }
    /// The next replies of the server bear a ref that nobody used.
    WrongRefs "wrong-refs" { server: ServerId, times: u32 }
    /// The next joins of a client are refused, and each holds the whole connection for five seconds.
    RefuseJoins "refuse-joins" { who: ActorId, why: Refusal, times: u32 }
    /// The next joins of a client are refused at once.
    RefuseJoinsAtOnce "refuse-joins-at-once" { who: ActorId, why: Refusal, times: u32 }
    /// The next join of a client holds the whole connection for a while and is then taken.
    SlowJoin "slow-join" { who: ActorId, span: Duration }
    /// A channel of a client fails on the server, which tells it with `phx_error`.
    Crash "crash" { who: ActorId, topic: TopicId }
    /// The server says why and closes a channel, with `system` and `phx_close`.
    Shut "shut" { who: ActorId, topic: TopicId, why: Shutting }
    /// A `phx_close` of an older join comes late.
    StaleClose "stale-close" { who: ActorId, topic: TopicId }
    /// A `phx_error` of an older join comes late.
    StaleError "stale-error" { who: ActorId, topic: TopicId }
    /// The server's process is killed and comes back after a while; what is stored stays.
    Kill "kill" { server: ServerId, down: Duration }
    /// The server announces a restart on every channel, closes with 1012 and is away for a while.
    Restart "restart" { server: ServerId, down: Duration }
    /// The server ends its connections one after another with 1001 and takes no new ones meanwhile.
    Drain "drain" { server: ServerId, span: Duration }
    /// The server does not answer heartbeats for a while.
    Heartless "heartless" { server: ServerId, span: Duration }
    /// Row changes fail with a `system` error, and flow again after a while.
    ChangesFail "changes-fail" { topic: TopicId, span: Duration }
    /// The database cannot serve what a channel asked for: row changes fail for good.
    ChangesRefused "changes-refused" { topic: TopicId }
    /// New row subscriptions take this long to be ready.
    SlowSubscribe "slow-subscribe" { server: ServerId, late: Duration, span: Duration }
    /// Joins from now on get other binding ids than before.
    OtherIds "other-ids" { server: ServerId }
    /// Presence snapshots come after diffs that were made later.
    LateSnapshot "late-snapshot" { server: ServerId, late: Duration, times: u32 }
    /// Presence snapshots and diffs come with the other kind of `join_ref`: set for null, null for set.
    OtherJoinRefs "other-join-refs" { server: ServerId, times: u32 }
    /// The project's limit of joins is hit: an error reply, a close with 1001, then 429 for a while.
    JoinRate "join-rate" { who: ActorId, span: Duration }
    /// The current access token of a client serves no longer than this.
    TokenEnds "token-ends" { who: ActorId, within: Duration }
    /// The next replays lack their first messages.
    PartialReplay "partial-replay" { server: ServerId, times: u32 }
    /// The next replayed messages come twice.
    TwiceReplay "twice-replay" { server: ServerId, times: u32 }
    /// The server sends a frame that should not be.
    Garbage "garbage" { who: ActorId, what: Garbage }
    /// The server sends many frames that should not be.
    GarbageFlood "garbage-flood" { who: ActorId, count: u32 }
    /// The database is away for a while: row changes stop, joins get none before it is back and no replay, and what happens in it waits.
    DatabaseOutage "database-outage" { span: Duration }
    /// New connections go to the next server.
    Reroute "reroute" { who: ActorId }
    /// The machine sleeps: its clock goes on and it does nothing.
    Suspend "suspend" { who: ActorId, span: Duration }
    /// The machine sleeps for hours.
    Hibernate "hibernate" { who: ActorId, hours: u32 }
    /// The driver does nothing for a while and then reads what came before it looks at its timers.
    DriverStall "driver-stall" { who: ActorId, span: Duration }
    /// The clock of the machine goes back.
    ClockBack "clock-back" { who: ActorId, span: Duration }
    /// The clock of the machine stands still for a while.
    ClockStop "clock-stop" { who: ActorId, span: Duration }
    /// The wall clock of the machine is set forward.
    WallForward "wall-forward" { who: ActorId, span: Duration }
    /// The wall clock of the machine is set back.
    WallBack "wall-back" { who: ActorId, span: Duration }
    /// The application takes no events for a while.
    StopReading "stop-reading" { who: ActorId, span: Duration }
    /// The application takes no events for a while, and its driver hands on more frames than the client wants.
    Overfeed "overfeed" { who: ActorId, span: Duration }
    /// The application is killed and starts again at once, without a goodbye.
    AppRestart "app-restart" { who: ActorId }
}

//! What is counted: closed sets, each with a word for every member.

use realtime_proto::supabase::CauseKind;

use crate::scenario::{
    ActKind, CloseCode, DataKind, FaultKind, Garbage, Refusal, Shutting, UpgradeStatus,
};

/// A closed set that a table of counts has a row or a column for each member of.
pub(super) trait Axis: Copy + 'static {
    /// Every member, in the order of its numbers.
    const ALL: &'static [Self];
    /// The number of a member.
    fn number(self) -> usize;
    /// The word of a member.
    fn word(self) -> String;
}

macro_rules! axis {
    ($($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$of:meta])* $member:ident $word:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            $vis enum $name {
                $($(#[$of])* $member,)+
            }

            impl Axis for $name {
                const ALL: &'static [Self] = &[$(Self::$member,)+];

                fn number(self) -> usize {
                    self as usize
                }

                fn word(self) -> String {
                    match self {
                        $(Self::$member => $word,)+
                    }
                    .into()
                }
            }
        )+
    };
}

/// Sets that are declared elsewhere, with a word for each member.
macro_rules! is_axis {
    ($($name:ident)+) => {
        $(impl Axis for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn number(self) -> usize {
                self as usize
            }

            fn word(self) -> String {
                self.word().into()
            }
        })+
    };
}

is_axis! { ActKind CloseCode DataKind FaultKind Garbage Refusal Shutting UpgradeStatus }

impl Axis for CauseKind {
    const ALL: &'static [Self] = Self::ALL;

    fn number(self) -> usize {
        self as usize
    }

    fn word(self) -> String {
        self.to_string()
    }
}

/// The only member: of tables with one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count;

impl Axis for Count {
    const ALL: &'static [Self] = &[Self];

    fn number(self) -> usize {
        0
    }

    fn word(self) -> String {
        "count".into()
    }
}

axis! {
    /// A connection as its application sees it.
    pub(crate) ConnectionView {
        /// Nobody wants it.
        Offline "offline",
        /// It is being opened.
        Connecting "connecting",
        /// It is open.
        Open "open",
        /// It is lost or was not had, and is tried again at a known time.
        Waiting "waiting",
        /// It is lost or was not had, and is not tried again before something changes.
        Stopped "stopped",
    }

    /// A channel as its application sees it.
    pub(crate) ChannelView {
        /// It is asked for and was not joined yet.
        Asked "asked for",
        /// The join is under way.
        Joining "joining",
        /// It is joined, and part of what it asked for does not flow yet.
        Joined "joined",
        /// All that it asked for flows.
        Live "live",
        /// It is joined, and its row changes do not flow any more.
        Stopped "stopped",
        /// It is lost or was refused, and is joined again at a known time.
        Retrying "retrying",
        /// It is lost or was refused, and waits for the connection, for a token, or to be asked.
        Parked "parked",
        /// It is given up, and the server was not heard yet.
        Leaving "leaving",
        /// It is gone.
        Gone "gone",
    }

    /// How an application is when something happens to it.
    pub(crate) Condition {
        /// It does not want to be connected.
        Offline "offline",
        /// A connection is being opened.
        Connecting "connecting",
        /// It waits to try again.
        Waiting "waiting",
        /// It does not try again by itself.
        Stopped "stopped",
        /// It is connected and wants no channel.
        Bare "bare",
        /// It is connected, and a channel waits for its first turn to join.
        Asked "asked for",
        /// It is connected, and a channel joins.
        Joining "joining",
        /// It is connected, and a channel is joined and not live.
        Joined "joined",
        /// It is connected, and a channel is live.
        Live "live",
        /// It is connected, and a channel waits to be joined again.
        Errored "errored",
        /// It is connected, and a channel is being left.
        Leaving "leaving",
        /// Its machine sleeps, or its driver hangs.
        Asleep "asleep",
    }

    /// Where a cause was told.
    pub Place {
        /// With the end of a connection, or of an attempt to have one.
        Disconnected "disconnected",
        /// With a channel that is lost or was refused.
        Errored "errored",
        /// With row changes that stopped.
        Stopped "changes stopped",
        /// With a channel that is joined anew though nothing failed.
        Rejoining "rejoining",
        /// With the end of a channel.
        Closed "closed",
        /// With a call for another token.
        Token "token needed",
        /// With a gap.
        Gap "gap",
        /// With a recovery.
        Recovered "recovered",
        /// With the end of a push.
        Push "push ended",
    }

    /// How a push ended.
    pub PushEnd {
        /// The server said ok.
        Ok "replied ok",
        /// The server said error.
        Error "replied error",
        /// The server said something else.
        OtherReply "replied something else",
        /// It asked for no reply.
        Sent "sent",
        /// No reply came in time.
        TimedOut "timed out",
        /// It was not sent in time.
        Expired "expired",
        /// Its connection or its join ended first.
        Interrupted "interrupted",
        /// It was given up before it was sent.
        Dropped "dropped",
        /// It was not even taken.
        Refused "not taken",
    }

    /// What a peer should not have sent.
    pub ViolationKind {
        /// A frame that could not be read.
        Malformed "malformed frame",
        /// A frame that was too large.
        FrameTooLarge "frame too large",
        /// A payload that does not fit its event.
        Payload "payload that does not fit",
        /// A row change of no binding.
        UnknownBinding "row change of no binding",
        /// More presence than fits.
        PresenceOverflow "more presence than fits",
    }

    /// What an application was told.
    pub Sight {
        /// A broadcast that names its id.
        BroadcastWithId "broadcast with an id",
        /// A broadcast that names none.
        BroadcastWithoutId "broadcast without an id",
        /// A row change.
        Change "row change",
        /// Presence that equals the server's.
        PresenceSynced "presence, synced",
        /// Presence on its way there.
        PresenceUnsynced "presence, not synced",
        /// Broadcasts may be missing.
        GapOfMessages "gap of messages",
        /// Row changes may be missing.
        GapOfChanges "gap of row changes",
        /// A replay closed the gap.
        Contiguous "recovered, contiguous",
        /// A replay brought something and did not close the gap.
        NotContiguous "recovered, not contiguous",
        /// A replay brought stored broadcasts.
        Replayed "recovered, with broadcasts",
        /// A replay brought nothing, for there was nothing.
        NothingReplayed "recovered, without broadcasts",
        /// Another token is needed though the current one still serves.
        TokenEarly "token needed in advance",
        /// Another token is needed, and none serves.
        TokenLate "token needed at once",
        /// The server refused what was tracked.
        TrackRefused "track refused",
        /// The server said something about a channel.
        System "system message",
    }

    /// What a client counts and tells nobody.
    pub(crate) Silent {
        /// Something about a socket that is gone.
        StaleSocket "input of a socket that is gone",
        /// A message of an older join, or a reply nobody waits for.
        StaleMessage "message of an older join",
        /// A replayed broadcast that had been delivered.
        Duplicate "duplicate that was removed",
        /// A message of a topic that is not open.
        UnknownTopic "message of a topic that is not open",
        /// A frame that was dropped because nobody took events.
        FrameDropped "frame dropped, events not taken",
    }

    /// What a server did wrong, counted where it took effect and not where it was armed.
    pub(crate) Effect {
        /// A reply came late.
        LateReply "reply that was late",
        /// A reply did not come.
        LostReply "reply that was lost",
        /// A reply was to something that was not asked.
        WrongRef "reply with another ref",
        /// A frame came twice.
        TwiceFrame "frame that came twice",
        /// A presence snapshot came late.
        LateSnapshot "snapshot that was late",
        /// Presence came with a `join_ref` where there is none, or without.
        OtherJoinRef "presence with or without a join_ref",
        /// A replay came without its first broadcast.
        PartialReplay "replay without its first broadcast",
        /// A replayed broadcast came twice.
        TwiceReplay "replayed broadcast that came twice",
        /// A join got other ids of its bindings than the honest ones.
        OtherIds "join with other ids",
        /// A heartbeat was not answered.
        Heartless "heartbeat that was not answered",
        /// A join was refused.
        RefusedJoin "join that was refused",
        /// A join held its session.
        SlowJoin "join that held its session",
        /// A join was one too many, and ended its session.
        OneTooMany "join that was one too many",
        /// There was no room for a connection after a join that was one too many.
        Full "connection without room",
        /// An older join was closed again.
        StaleClose "close of an older join",
        /// An older join failed again.
        StaleError "error of an older join",
        /// A frame that should not be.
        Garbage "frame that should not be",
        /// A frame larger than any client takes.
        Giant "frame larger than any client takes",
    }

    /// How a run went.
    pub(crate) Course {
        /// Every wanted channel was live at once after the healing.
        LiveAtOnce "live at the healing",
        /// Every wanted channel became live after the healing.
        LiveLater "live later",
        /// Several servers behind one address.
        Servers "with several servers",
        /// Clients of protocol version 1.
        Vsn1 "with protocol version 1",
        /// Tokens that count.
        Tokens "with tokens that expire",
        /// A manager takes part.
        Manager "with a manager",
        /// Several applications take part.
        Several "with several applications",
    }
}

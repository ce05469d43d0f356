//! The words of a scenario: whom, which topic, how long, how many, and what a server says.

use core::time::Duration;

use super::Cast;
use super::span::{SPAN_MAX, Span, read_span};
use crate::seed::Draw;

/// One client or manager of a scenario, by its place in the cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub(crate) u8);

/// One topic of a scenario, by its place in the cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub(crate) u8);

/// One server of a scenario, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub(crate) u8);

impl TopicId {
    /// Its place among the topics of the cast.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A parameter of a step: how it is written, read, drawn and made simpler.
pub(super) trait Word: Sized + Clone + PartialEq {
    fn write(&self, cast: &Cast) -> String;
    fn read(word: &str, cast: &Cast) -> Result<Self, String>;
    fn draw(draw: &mut Draw, cast: &Cast) -> Self;
    /// Whether a text could have said it: who and what it names is there, and how much is bounded.
    fn fits(&self, _: &Cast) -> bool {
        true
    }
    /// The application that it names, if it names one.
    fn actor(&self) -> Option<ActorId> {
        None
    }
    /// The server that it names, if it names one.
    fn server(&self) -> Option<ServerId> {
        None
    }
    /// Values that are easier to think about, the simplest first.
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// What is written for somebody who is not there; no name is like it.
fn nobody() -> String {
    "#".into()
}

impl Word for ActorId {
    fn actor(&self) -> Option<ActorId> {
        Some(*self)
    }

    fn write(&self, cast: &Cast) -> String {
        cast.actors.get(usize::from(self.0)).map_or_else(nobody, |actor| actor.name.clone())
    }

    fn fits(&self, cast: &Cast) -> bool {
        usize::from(self.0) < cast.actors.len()
    }

    fn read(word: &str, cast: &Cast) -> Result<Self, String> {
        let at = cast.actors.iter().position(|actor| actor.name == word);
        let at =
            at.ok_or_else(|| format!("nobody is called `{word}`; write `client {word}` first"))?;
        Ok(Self(at as u8))
    }

    fn draw(draw: &mut Draw, cast: &Cast) -> Self {
        Self(draw.below(cast.actors.len() as u64) as u8)
    }

    fn simpler(&self) -> Vec<Self> {
        if self.0 == 0 { Vec::new() } else { vec![Self(0)] }
    }
}

impl Word for TopicId {
    fn write(&self, cast: &Cast) -> String {
        cast.topics.get(usize::from(self.0)).map_or_else(nobody, |topic| topic.name.clone())
    }

    fn fits(&self, cast: &Cast) -> bool {
        usize::from(self.0) < cast.topics.len()
    }

    fn read(word: &str, cast: &Cast) -> Result<Self, String> {
        let at = cast.topics.iter().position(|topic| topic.name == word);
        let at = at.ok_or_else(|| {
            format!("no topic is called `{word}`; write `topic {word} realtime:{word}` first")
        })?;
        Ok(Self(at as u8))
    }

    fn draw(draw: &mut Draw, cast: &Cast) -> Self {
        Self(draw.below(cast.topics.len() as u64) as u8)
    }

    fn simpler(&self) -> Vec<Self> {
        if self.0 == 0 { Vec::new() } else { vec![Self(0)] }
    }
}

impl Word for ServerId {
    fn server(&self) -> Option<ServerId> {
        Some(*self)
    }

    fn write(&self, _: &Cast) -> String {
        self.0.to_string()
    }

    fn fits(&self, cast: &Cast) -> bool {
        u32::from(self.0) < cast.settings.servers
    }

    fn read(word: &str, cast: &Cast) -> Result<Self, String> {
        let at = word.parse::<u8>().ok().filter(|at| u32::from(*at) < cast.settings.servers);
        at.map(Self).ok_or_else(|| {
            format!("`{word}` is no server; there are {}, from 0", cast.settings.servers)
        })
    }

    fn draw(draw: &mut Draw, cast: &Cast) -> Self {
        Self(draw.below(cast.settings.servers.into()) as u8)
    }

    fn simpler(&self) -> Vec<Self> {
        if self.0 == 0 { Vec::new() } else { vec![Self(0)] }
    }
}

impl Word for Duration {
    fn write(&self, _: &Cast) -> String {
        Span(*self).to_string()
    }

    fn read(word: &str, _: &Cast) -> Result<Self, String> {
        read_span(word)
    }

    fn fits(&self, _: &Cast) -> bool {
        *self <= SPAN_MAX
    }

    /// Mostly short, sometimes up to a minute: what is longer has a word of its own.
    fn draw(draw: &mut Draw, _: &Cast) -> Self {
        let max = [100, 1_000, 5_000, 15_000, 60_000][draw.below(5) as usize];
        Self::from_millis(1 + draw.below(max))
    }

    fn simpler(&self) -> Vec<Self> {
        let millis = self.as_millis() as u64;
        let round = [1, 10, 100, 1_000, 10_000, 60_000].into_iter().filter(|round| *round < millis);
        let mut spans: Vec<Self> = round.map(Self::from_millis).collect();
        // What is not a round number may do as one.
        for unit in [60_000, 10_000, 1_000, 100, 10] {
            if millis > unit && millis % unit != 0 {
                spans.push(Self::from_millis(millis - millis % unit));
                spans.push(Self::from_millis(millis - millis % unit + unit));
            }
        }
        spans
    }
}

impl Word for u32 {
    fn write(&self, _: &Cast) -> String {
        self.to_string()
    }

    fn read(word: &str, cast: &Cast) -> Result<Self, String> {
        let count = word.parse().ok().filter(|count: &Self| count.fits(cast));
        count.ok_or_else(|| format!("`{word}` is no number from 1 to 10000"))
    }

    fn fits(&self, _: &Cast) -> bool {
        (1..=10_000).contains(self)
    }

    fn draw(draw: &mut Draw, _: &Cast) -> Self {
        let max = [1, 3, 8, 30][draw.below(4) as usize];
        1 + draw.below(max) as Self
    }

    fn simpler(&self) -> Vec<Self> {
        [1, 2, 3, *self / 2].into_iter().filter(|count| count < self && *count > 0).collect()
    }
}

/// What might have been meant by a word that is none of those that are known.
pub(super) fn instead<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known.iter().map(|known| (distance(word, known), known)).min();
    match near {
        Some((distance, near)) if distance <= 1 + word.chars().count() / 4 => {
            format!("do you mean `{near}`?")
        }
        _ => format!("write one of {}", known.join(", ")),
    }
}

/// How many letters have to be added, taken away or changed to get from one word to another.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (above, one) in from.chars().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], above + 1);
        for (at, other) in to.chars().enumerate() {
            let changed = diagonal + usize::from(one != other);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.chars().count()]
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident $what:literal { $($(#[$of:meta])* $variant:ident $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$of])* #[doc = concat!("\n\nIn a scenario: `", $word, "`.")] #[doc(alias = $word)] $variant,)+
        }

        impl $name {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word of a scenario.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Word for $name {
            fn write(&self, _: &Cast) -> String {
                self.word().into()
            }

            fn read(word: &str, _: &Cast) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|choice| choice.word() == word);
                found.ok_or_else(|| {
                    let all = Self::ALL.iter().map(|choice| choice.word());
                    format!("`{word}` is no {}; {}", $what, instead(word, all))
                })
            }

            fn draw(draw: &mut Draw, _: &Cast) -> Self {
                Self::ALL[draw.below(Self::ALL.len() as u64) as usize]
            }
        }
    };
}

choices! {
    /// A close code, and who would send it.
    CloseCode "close code" {
        /// 1000: idle, or a plain close.
        Normal "1000",
        /// 1001: the server goes away.
        GoingAway "1001",
        /// 1002: the server could not read a frame.
        Protocol "1002",
        /// 1003: the server does not take such a frame.
        Unsupported "1003",
        /// 1007: a text that is none.
        Invalid "1007",
        /// 1008: against the rules of the server.
        Policy "1008",
        /// 1009: a frame was too large.
        TooLarge "1009",
        /// 1011: the server failed.
        Failed "1011",
        /// 1012: the server restarts.
        Restart "1012",
        /// 1013: the server is busy.
        Busy "1013",
        /// 3000: an application's own.
        Library "3000",
        /// 4001: an application's own.
        Private "4001",
    }
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self.word().parse().expect("the word of a close code is its number")
    }
}

choices! {
    /// An HTTP status that refuses an upgrade.
    UpgradeStatus "status" {
        /// 401: the API key does not serve.
        Unauthorized "401",
        /// 403: not allowed.
        Forbidden "403",
        /// 404: no such project or path.
        NotFound "404",
        /// 429: too many connections or joins.
        TooMany "429",
        /// 500: the server failed.
        Failed "500",
        /// 502: a proxy without a server behind it.
        BadGateway "502",
        /// 503: the server is not ready.
        Unavailable "503",
    }
}

impl UpgradeStatus {
    /// The number in the response.
    #[must_use]
    pub fn number(self) -> u16 {
        self.word().parse().expect("the word of a status is its number")
    }
}

choices! {
    /// Why a join is refused, as in the reply of a server (protocol §6).
    Refusal "refusal" {
        /// The token has expired.
        TokenExpired "token-expired",
        /// The token cannot be read.
        MalformedToken "malformed-token",
        /// The signature does not fit.
        BadSignature "bad-signature",
        /// No policy lets the user read the topic.
        Unauthorized "unauthorized",
        /// Only private channels are allowed.
        PrivateOnly "private-only",
        /// Too many channels on the connection.
        TooManyChannels "too-many-channels",
        /// Too many joins of the project.
        TooManyJoins "too-many-joins",
        /// Too many connections of the project.
        TooManyUsers "too-many-users",
        /// The server restarts.
        Restarting "restarting",
        /// The project starts.
        Initializing "initializing",
        /// The project's database cannot be reached.
        NoDatabase "no-database",
        /// The database has no connection left.
        DatabaseBusy "database-busy",
        /// A node of the cluster does not answer.
        RpcTimeout "rpc-timeout",
        /// The replay could not be read.
        ReplayFailed "replay-failed",
        /// The project is disabled.
        TenantDisabled "tenant-disabled",
        /// No such project.
        TenantNotFound "tenant-not-found",
        /// Row changes are not to be had with such parameters.
        BadFilter "bad-filter",
        /// The database took too long to subscribe.
        SubscribeTimeout "subscribe-timeout",
        /// A topic is missing.
        NoTopic "no-topic",
        /// No channel of that name.
        Unmatched "unmatched",
        /// The channel's code failed.
        Crashed "crashed",
        /// Words that no sheet has.
        Unknown "unknown",
    }
}

impl Refusal {
    /// The reason in the reply to the join of `topic`.
    #[must_use]
    pub fn text(self, topic: &str) -> String {
        let text = match self {
            Self::TokenExpired => "InvalidJWTToken: Token has expired 3 seconds ago",
            Self::MalformedToken => "MalformedJWT: The token provided is not a valid JWT",
            Self::BadSignature => "JwtSignatureError: Failed to validate JWT signature",
            Self::Unauthorized => {
                let of = sub_topic(topic);
                return format!(
                    "Unauthorized: You do not have permissions to read from this Channel topic: {of}"
                );
            }
            Self::PrivateOnly => "PrivateOnly: This project only allows private channels",
            Self::TooManyChannels => "ChannelRateLimitReached: Too many channels",
            Self::TooManyJoins => "ClientJoinRateLimitReached: Too many joins per second",
            Self::TooManyUsers => "ConnectionRateLimitReached: Too many connected users",
            Self::Restarting => "RealtimeRestarting: Realtime is restarting, please standby",
            Self::Initializing => {
                "InitializingProjectConnection: Realtime is initializing the project connection"
            }
            Self::NoDatabase => {
                "UnableToConnectToProject: Realtime was unable to connect to the project database"
            }
            Self::DatabaseBusy => {
                "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't \
                 connect"
            }
            Self::RpcTimeout => "TimeoutOnRpcCall: Node request timeout",
            Self::ReplayFailed => "UnableToReplayMessages: Realtime was unable to replay messages",
            Self::TenantDisabled => "RealtimeDisabledForTenant: Realtime disabled for this tenant",
            Self::TenantNotFound => "TenantNotFound: Tenant with the given ID does not exist",
            Self::BadFilter => {
                "RealtimeDisabledForConfiguration: Error parsing `filter` params: [\"column\", \
                 \"=\", \"1\"]"
            }
            Self::SubscribeTimeout => {
                "PostgresChangesSubscribeTimeout: Timed out after 15000ms waiting for the \
                 postgres_changes subscription"
            }
            Self::NoTopic => "TopicNameRequired: You must provide a topic name",
            Self::Unmatched => "unmatched topic",
            Self::Crashed => "join crashed",
            Self::Unknown => "SomethingNew: nobody has heard of this before",
        };
        text.into()
    }

    /// Whether Phoenix itself says it, which does not take its time as Supabase does.
    #[must_use]
    pub const fn is_of_phoenix(self) -> bool {
        matches!(self, Self::Unmatched | Self::Crashed)
    }

    /// Whether the server closes the connection behind the reply, with 1001.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::TooManyJoins | Self::TenantNotFound)
    }
}

/// The topic as the texts of a Supabase server name it.
fn sub_topic(topic: &str) -> &str {
    topic.strip_prefix("realtime:").unwrap_or(topic)
}

choices! {
    /// What a server says before it closes a channel, with `system` and `phx_close`.
    Shutting "reason to close a channel" {
        /// The token has expired.
        TokenExpired "token-expired",
        /// The token lost a claim.
        TokenClaims "token-claims",
        /// Too many messages of the project.
        MessageRate "message-rate",
        /// Too many presence messages of the project.
        PresenceRate "presence-rate",
        /// Too many presence calls of the client.
        PresenceCalls "presence-calls",
        /// What was tracked is too large.
        TrackTooLarge "track-too-large",
        /// The user may not read the topic any more.
        PermissionLost "permission-lost",
        /// Replication could not be started.
        Replication "replication",
    }
}

impl Shutting {
    /// The message of the `system` event on `topic`.
    #[must_use]
    pub fn text(self, topic: &str) -> String {
        let text = match self {
            Self::TokenExpired => "Token has expired 0 seconds ago",
            Self::TokenClaims => "Fields `role` and `exp` are required in JWT",
            Self::MessageRate => "Too many messages per second",
            Self::PresenceRate => "Too many presence messages per second",
            Self::PresenceCalls => "Client presence rate limit exceeded",
            Self::TrackTooLarge => "Track message size exceeded",
            Self::PermissionLost => {
                let of = sub_topic(topic);
                return format!(
                    "You no longer have permission to read from this Channel topic: {of}"
                );
            }
            Self::Replication => "Replication connection was not established in time",
        };
        text.into()
    }
}

choices! {
    /// A frame that should not be.
    Garbage "garbage" {
        /// Text that is not JSON.
        NotJson "not-json",
        /// JSON that is no array.
        NotAnArray "not-an-array",
        /// An array that is too short.
        Short "short",
        /// A ref that is a number.
        NumericRef "numeric-ref",
        /// A binary frame that ends in its header.
        CutBinary "cut-binary",
        /// A binary frame of a kind nobody knows.
        UnknownKind "unknown-kind",
        /// A message of a topic nobody joined.
        UnknownTopic "unknown-topic",
        /// An event nobody knows.
        UnknownEvent "unknown-event",
        /// A reply to nothing.
        UnaskedReply "unasked-reply",
        /// A payload that is null.
        NullPayload "null-payload",
        /// A presence state that is no object.
        BadPresence "bad-presence",
        /// A row change with ids of no binding.
        UnknownIds "unknown-ids",
    }
}

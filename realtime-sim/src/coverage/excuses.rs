//! What need not be reached, and why: each exception is a sentence.

use realtime_proto::supabase::CauseKind;

use super::Need::{self, Impossible, Rare, Required};
use super::axis::{
    ChannelView, ConnectionView, Count, Place, PushEnd, Sight, Silent, ViolationKind,
};

const NO_CHANGE: Need = Impossible("that is no step");

pub(super) fn connection(from: ConnectionView, to: ConnectionView) -> Need {
    use ConnectionView::{Connecting, Offline, Open, Stopped, Waiting};
    match (from, to) {
        (from, to) if from == to => NO_CHANGE,
        (Offline | Waiting | Stopped, Open | Waiting | Stopped) => {
            Impossible("only an attempt to connect has an outcome")
        }
        (Open, Connecting) => Impossible("the end of a connection is told before the next one"),
        (Open, Stopped) => {
            Impossible("what ends an open connection says nothing against the next one")
        }
        (Offline | Connecting | Open | Waiting | Stopped, _) => Required,
    }
}

pub(super) fn channel(from: ChannelView, to: ChannelView) -> Need {
    use ChannelView::{Asked, Gone, Joined, Joining, Leaving, Live, Parked, Retrying, Stopped};
    match (from, to) {
        (from, to) if from == to => NO_CHANGE,
        (Gone, _) => Impossible("nothing follows the end of a channel"),
        (_, Asked) => Impossible("a channel that was tried is never as new"),
        (Leaving, Joining | Joined | Live | Stopped | Retrying | Parked) => {
            Impossible("a channel that is left does not come back")
        }
        (Asked | Retrying | Parked, Leaving) => {
            Impossible("there is nothing to leave, so that the end comes at once")
        }
        (Asked | Retrying | Parked, Joined | Live | Stopped) => {
            Impossible("the server answers joins alone")
        }
        (Joining, Live | Stopped) => Impossible("what is asked for flows after the join"),
        (Asked, Retrying | Parked) => Impossible("what was not tried does not fail"),
        (Live, Joined) => Impossible("only row changes stop on a channel that is joined"),
        (Stopped, Joined) => Impossible("row changes that come back make the channel live"),
        (Parked, Retrying) => Impossible("only another join can be refused"),
        (Joined, Gone) => Rare("a plain Phoenix channel has to be closed before it is live"),
        (Stopped, Gone) => Impossible(
            "a server closes a Supabase channel with words, after which it is joined again, and no \
             other has row changes",
        ),
        (Retrying, Parked) => Rare("the connection has to break in the seconds before a retry"),
        (Asked | Joining | Joined | Live | Stopped | Retrying | Parked | Leaving, _) => Required,
    }
}

pub(super) fn lease(from: ChannelView, to: ChannelView) -> Need {
    use ChannelView::{Asked, Gone, Joined, Joining, Leaving, Live, Parked, Retrying, Stopped};
    match (from, to) {
        (from, to) if from == to => NO_CHANGE,
        (Gone, _) => Impossible("nothing follows the end of a lease"),
        (Leaving, Asked | Joining | Joined | Live | Stopped | Retrying | Parked) => {
            Impossible("a lease that is released does not come back")
        }
        (Asked | Retrying | Parked, Leaving) => {
            Impossible("there is nothing to leave, so that the end comes at once")
        }
        (Joining | Joined | Live | Stopped, Gone) => Impossible("only its release ends a lease"),
        (Asked | Retrying | Parked, Joined | Live | Stopped) => {
            Impossible("the server answers joins alone")
        }
        (Joining, Live | Stopped) => Impossible("what is asked for flows after the join"),
        (Joined | Live | Stopped, Joining) => {
            Impossible("a manager says that a channel is on its way before it joins again")
        }
        (Joined, Stopped) => Impossible("to a manager, only what was live can stop"),
        (Live, Joined) => Impossible("to a manager, what was live and is not has stopped"),
        (Stopped, Joined) => Impossible("row changes that come back make the channel live"),
        (Stopped, Asked | Retrying | Parked | Leaving) => {
            Rare("another fault has to hit a channel whose row changes are refused")
        }
        (Asked | Joining | Joined | Live | Stopped | Retrying | Parked | Leaving, _) => Required,
    }
}

/// Which causes are told where, by at least one seed of twenty thousand.
const TOLD: [(Place, &[CauseKind]); 9] = {
    use CauseKind::*;
    [
        (
            Place::Disconnected,
            &[
                Requested,
                Empty,
                ConnectTimeout,
                HeartbeatTimeout,
                WriteTimeout,
                Unreachable,
                ConnectionLost,
                ClosedNormally,
                GoingAway,
                ServiceRestart,
                ProtocolError,
                FrameTooLarge,
                ServerFailed,
                ClosedOther,
                ApiKeyRejected,
                Forbidden,
                NotAnEndpoint,
                RefusedOther,
                JoinRateLimited,
                TooManyConnections,
            ],
        ),
        (
            Place::Errored,
            &[
                Requested,
                ConnectTimeout,
                HeartbeatTimeout,
                WriteTimeout,
                Unreachable,
                ConnectionLost,
                ClosedNormally,
                GoingAway,
                ServiceRestart,
                ProtocolError,
                FrameTooLarge,
                ServerFailed,
                ClosedOther,
                ApiKeyRejected,
                Forbidden,
                NotAnEndpoint,
                RefusedOther,
                TopicMissing,
                TokenExpired,
                TokenInvalid,
                Unauthorized,
                PrivateOnly,
                TooManyChannels,
                JoinRateLimited,
                TooManyConnections,
                TenantDisabled,
                TenantNotFound,
                ServerRestarting,
                ProjectInitializing,
                DatabaseUnavailable,
                ReplayFailed,
                PostgresRefused,
                PostgresTimeout,
                UnmatchedTopic,
                JoinCrashed,
                Unknown,
                JoinTimeout,
                MessagesRateLimited,
                PresenceRateLimited,
                PresenceTooLarge,
                PermissionLost,
                ReplicationFailed,
                ChannelCrashed,
            ],
        ),
        // What a manager's status says has no cause.
        (Place::Stopped, &[PostgresRefused, PostgresTimeout, Unknown]),
        (Place::Rejoining, &[EventsOverflowed, Rejoined]),
        (Place::Closed, &[Requested, ChannelClosed]),
        (
            Place::Token,
            &[
                ApiKeyRejected,
                Forbidden,
                TokenExpiring,
                TokenExpired,
                TokenInvalid,
                Unauthorized,
                PermissionLost,
            ],
        ),
        (
            Place::Gap,
            &[
                Requested,
                HeartbeatTimeout,
                WriteTimeout,
                ConnectionLost,
                ClosedNormally,
                GoingAway,
                ServiceRestart,
                ProtocolError,
                FrameTooLarge,
                ServerFailed,
                ClosedOther,
                TokenExpired,
                TokenInvalid,
                PostgresRefused,
                PostgresTimeout,
                MessagesRateLimited,
                PresenceRateLimited,
                PresenceTooLarge,
                PermissionLost,
                ReplicationFailed,
                ChannelCrashed,
                EventsOverflowed,
                Rejoined,
                ChangesRestarted,
            ],
        ),
        (
            Place::Recovered,
            &[
                Requested,
                HeartbeatTimeout,
                ConnectionLost,
                ClosedNormally,
                GoingAway,
                ServiceRestart,
                ProtocolError,
                FrameTooLarge,
                ServerFailed,
                ClosedOther,
                TokenExpired,
                TokenInvalid,
                MessagesRateLimited,
                PresenceRateLimited,
                PresenceTooLarge,
                PermissionLost,
                ReplicationFailed,
                ChannelCrashed,
                EventsOverflowed,
                Rejoined,
            ],
        ),
        (Place::Push, &[PushTimeout, PushExpired, PushDropped, Interrupted, UnmatchedTopic]),
    ]
};

/// The causes that no scenario can bring about, and those that hardly any does.
const fn untold(cause: CauseKind) -> Option<Need> {
    use CauseKind::*;
    Some(match cause {
        BroadcastInvalid | BroadcastEndpointMissing | BroadcastRateLimited | BroadcastFailed => {
            Impossible("there is no HTTP in a simulated world, and only broadcasts over it fail so")
        }
        ApiKeyMissing => Impossible("every application of a scenario has an API key"),
        PayloadTooLarge => Impossible("an application of a scenario sends numbers"),
        ReplayRefused => Impossible("an application of a scenario asks for no replay of its own"),
        BindingMismatch => {
            Impossible("no fault lets a server confirm other bindings than it was asked for")
        }
        DisconnectAnnounced => {
            Impossible("the close of the connection, which follows at once, has a cause of its own")
        }
        _ => return None,
    })
}

/// What a cause is about that is not told everywhere.
enum About {
    /// An attempt to connect.
    Attempt,
    /// The words of a server, about a channel or a push.
    Words,
    /// A channel, by what its client saw.
    Channel,
    /// One push.
    Push,
    /// A connection that no channel needs.
    Rest,
    /// A token that still serves.
    Warning,
    /// Whatever else.
    Other,
}

const fn about(cause: CauseKind) -> About {
    use CauseKind::*;
    match cause {
        ConnectTimeout | Unreachable | ApiKeyRejected | Forbidden | NotAnEndpoint
        | RefusedOther => About::Attempt,
        TopicMissing | TokenExpired | TokenInvalid | Unauthorized | PrivateOnly
        | TooManyChannels | JoinRateLimited | TooManyConnections | TenantDisabled
        | TenantNotFound | ServerRestarting | ProjectInitializing | DatabaseUnavailable
        | ReplayFailed | PostgresRefused | PostgresTimeout | UnmatchedTopic | JoinCrashed
        | MessagesRateLimited | PresenceRateLimited | PresenceTooLarge | PermissionLost
        | ReplicationFailed | Unknown => About::Words,
        JoinTimeout | ChannelCrashed | ChannelClosed | Rejoined | ChangesRestarted => {
            About::Channel
        }
        PushTimeout | PushExpired | PushDropped | Interrupted => About::Push,
        Empty => About::Rest,
        TokenExpiring => About::Warning,
        _ => About::Other,
    }
}

pub(super) fn cause(cause: CauseKind, place: Place) -> Need {
    use CauseKind::{
        ChangesRestarted, ChannelClosed, JoinTimeout, PostgresRefused, PostgresTimeout,
        WriteTimeout,
    };
    if TOLD.iter().any(|(at, causes)| *at == place && causes.contains(&cause)) {
        return Required;
    }
    if let Some(need) = untold(cause) {
        return need;
    }
    match (place, about(cause), cause) {
        (Place::Push, _, _) => Impossible("a server refuses a push as of another topic alone"),
        (_, About::Push, _) => Impossible("it ends one push"),
        (Place::Token, _, _) => Impossible("another token does not mend it"),
        (_, About::Warning, _) => Impossible("nothing ends while the token serves"),
        (Place::Stopped, _, _) => {
            Impossible("a server says of row changes that it tries again or that it refuses them")
        }
        (Place::Rejoining, _, _) => {
            Impossible("a channel that nothing failed is joined anew for what its application asks")
        }
        (Place::Closed, _, _) => {
            Impossible("a channel ends when its application or a Phoenix server closes it")
        }
        (_, About::Rest, _) => Impossible("a connection that rests has no channel"),
        (Place::Disconnected, About::Words, _) => {
            Impossible("a server of a scenario refuses a connection by its status, without words")
        }
        (Place::Disconnected, _, _) => Impossible("it is about one channel"),
        (Place::Errored, _, ChannelClosed) => {
            Rare("a server says why before it closes a channel that a manager has")
        }
        (Place::Errored, _, _) => Impossible("the channel is still joined, or joins at once"),
        (Place::Gap | Place::Recovered, About::Attempt, _) => {
            Impossible("the stream broke off before the attempt, and keeps the first cause")
        }
        (Place::Gap | Place::Recovered, _, ChannelClosed) => {
            Impossible("what is closed for good does not come back")
        }
        (Place::Recovered, _, PostgresRefused | PostgresTimeout | ChangesRestarted) => {
            Impossible("row changes are not replayed")
        }
        (Place::Gap | Place::Recovered, _, JoinTimeout) => {
            Impossible("the stream broke off before the join, and keeps the first cause")
        }
        (Place::Recovered, _, WriteTimeout) => {
            Rare("a write is seldom stuck so long on a connection with a replayed channel")
        }
        (Place::Gap | Place::Recovered, About::Words, _) => {
            Rare("the words that refuse a join hardly ever end a channel that is joined")
        }
        (Place::Gap | Place::Recovered, _, _) => Required,
    }
}

pub(super) fn sight(sight: Sight, _: Count) -> Need {
    match sight {
        Sight::TrackRefused => Rare("a server that takes a join takes what is tracked there"),
        _ => Required,
    }
}

pub(super) fn push(end: PushEnd, _: Count) -> Need {
    match end {
        PushEnd::OtherReply => Impossible("no server of a scenario has a word of its own"),
        _ => Required,
    }
}

pub(super) fn violation(kind: ViolationKind, _: Count) -> Need {
    match kind {
        ViolationKind::PresenceOverflow => {
            Impossible("so few applications are never more than the limits allow")
        }
        _ => Required,
    }
}

pub(super) const fn silent(_: Silent, _: Count) -> Need {
    Required
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_told_somewhere_or_has_a_reason_not_to_be() {
        for kind in CauseKind::ALL {
            let told = TOLD.iter().any(|(_, causes)| causes.contains(kind));
            assert_ne!(told, untold(*kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn what_seeds_reach_with_a_margin_is_required_and_not_excused() {
        use ChannelView::{Gone, Joined, Leaving, Live, Parked, Retrying, Stopped};
        for (from, to) in
            [(Stopped, Live), (Joined, Parked), (Retrying, Parked), (Parked, Retrying)]
        {
            assert_eq!(lease(from, to), Required, "a manager: {from:?} to {to:?}");
        }
        assert_eq!(channel(Stopped, Retrying), Required);
        assert_eq!(channel(Stopped, Leaving), Required);
        assert!(matches!(channel(Stopped, Gone), Impossible(_)));
        assert!(matches!(channel(Joined, Gone), Rare(_)));
        assert_eq!(push(PushEnd::Error, Count), Required);
        for (kind, place) in [
            (CauseKind::Unknown, Place::Stopped),
            (CauseKind::UnmatchedTopic, Place::Push),
            (CauseKind::TokenInvalid, Place::Recovered),
            (CauseKind::ReplicationFailed, Place::Recovered),
        ] {
            assert_eq!(cause(kind, place), Required, "{kind} at {place:?}");
        }
    }

    #[test]
    fn each_cause_that_is_not_told_somewhere_has_a_reason_that_is_its_own() {
        for (kind, place, reason) in [
            (CauseKind::PushTimeout, Place::Errored, "it ends one push"),
            (CauseKind::TenantNotFound, Place::Disconnected, "by its status, without words"),
            (CauseKind::JoinTimeout, Place::Disconnected, "it is about one channel"),
            (CauseKind::Unreachable, Place::Gap, "broke off before the attempt"),
            (CauseKind::PostgresRefused, Place::Recovered, "row changes are not replayed"),
        ] {
            let Impossible(why) = cause(kind, place) else { panic!("{kind} at {place:?}") };
            assert!(why.contains(reason), "{kind} at {place:?}: {why}");
        }
    }
}

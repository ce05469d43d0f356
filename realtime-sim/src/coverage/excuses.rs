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
        (Joined | Stopped, Gone) => {
            Rare("a plain Phoenix channel is closed before it is live, and one has no rows")
        }
        (Retrying, Parked) => Rare("the connection has to break in the seconds before a retry"),
        (Stopped, Retrying | Leaving) => {
            Rare("another fault has to hit a channel whose row changes are refused")
        }
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
        (Stopped, _) | (Retrying, Parked) | (Parked, Retrying) | (Joined, Parked) => {
            Rare("two faults have to hit one channel in turn")
        }
        (Asked | Joining | Joined | Live | Retrying | Parked | Leaving, _) => Required,
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
        (Place::Stopped, &[PostgresRefused, PostgresTimeout]),
        (Place::Rejoining, &[Rejoined]),
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
                PresenceRateLimited,
                ChannelCrashed,
                Rejoined,
            ],
        ),
        (Place::Push, &[PushTimeout, PushExpired, PushDropped, Interrupted]),
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
        EventsOverflowed => {
            Impossible("the driver of a world reads no frame while events wait, as ours does not")
        }
        DisconnectAnnounced => {
            Impossible("the close of the connection, which follows at once, has a cause of its own")
        }
        _ => return None,
    })
}

pub(super) fn cause(cause: CauseKind, place: Place) -> Need {
    if TOLD.iter().any(|(at, causes)| *at == place && causes.contains(&cause)) {
        return Required;
    }
    if let Some(need) = untold(cause) {
        return need;
    }
    match place {
        Place::Disconnected => Impossible("no connection ends for it"),
        Place::Errored if cause == CauseKind::ChannelClosed => {
            Rare("a server says why before it closes a channel that a manager has")
        }
        Place::Errored => Impossible("no channel is lost for it"),
        // What a manager's status says less about.
        Place::Stopped if cause == CauseKind::Unknown => Rare("a status of a manager has no cause"),
        Place::Stopped => Impossible("row changes do not stop for it"),
        Place::Rejoining => Impossible("no channel is joined anew for it"),
        Place::Closed => Impossible("no channel ends for it"),
        Place::Token => Impossible("no token is asked for because of it"),
        Place::Push if cause == CauseKind::UnmatchedTopic => {
            Rare("the reply of a join has to be lost, and nothing else may end the push")
        }
        Place::Push => Impossible("no push ends for it"),
        Place::Gap | Place::Recovered => {
            let lost =
                TOLD.iter().any(|(at, causes)| *at == Place::Errored && causes.contains(&cause));
            if lost {
                Rare("the words that refuse a join hardly ever end a channel that is joined")
            } else {
                Impossible("no stream breaks off for it")
            }
        }
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
        PushEnd::Error => Rare("a server refuses only what is too large or of another topic"),
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

pub(super) fn silent(silent: Silent, _: Count) -> Need {
    match silent {
        Silent::FrameDropped => {
            Impossible("the driver of a world reads no frame while events wait, as ours does not")
        }
        _ => Required,
    }
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
}

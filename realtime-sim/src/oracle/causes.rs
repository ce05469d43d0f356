//! What causes ask of a client, by the protocol (§6) and not by the client's own table.

use realtime_proto::supabase::CauseKind;

/// Whether only the end of a connection, or of the attempt to have one, has this cause.
pub(crate) const fn is_of_transport(cause: CauseKind) -> bool {
    matches!(
        cause,
        CauseKind::Empty
            | CauseKind::ConnectTimeout
            | CauseKind::HeartbeatTimeout
            | CauseKind::WriteTimeout
            | CauseKind::Unreachable
            | CauseKind::ConnectionLost
            | CauseKind::ClosedNormally
            | CauseKind::GoingAway
            | CauseKind::ServiceRestart
            | CauseKind::ProtocolError
            | CauseKind::FrameTooLarge
            | CauseKind::ServerFailed
            | CauseKind::ClosedOther
    )
}

/// Whether it is the trouble of one channel, which concerns no other.
pub(super) const fn is_of_channel(cause: CauseKind) -> bool {
    matches!(
        cause,
        CauseKind::ChannelCrashed
            | CauseKind::ChannelClosed
            | CauseKind::JoinTimeout
            | CauseKind::BindingMismatch
            | CauseKind::UnmatchedTopic
    )
}

/// Whether a connection that ended so can be had again without anybody's doing.
pub(super) const fn connection_comes_back(cause: CauseKind) -> bool {
    matches!(
        cause,
        CauseKind::ClosedNormally
            | CauseKind::GoingAway
            | CauseKind::ServiceRestart
            | CauseKind::ServerFailed
            | CauseKind::ClosedOther
            | CauseKind::ConnectionLost
            | CauseKind::Unreachable
            | CauseKind::HeartbeatTimeout
            | CauseKind::ConnectTimeout
            | CauseKind::WriteTimeout
    )
}

/// Whether an attempt that is refused with this status may go well later without anybody's doing.
pub(super) const fn waiting_helps(status: u16) -> bool {
    !matches!(status, 200..=405 | 426)
}

/// Whether a channel that was lost or refused so can be had again without anybody's doing.
pub(super) const fn channel_comes_back(cause: CauseKind) -> bool {
    matches!(
        cause,
        CauseKind::ServerRestarting
            | CauseKind::ProjectInitializing
            | CauseKind::DatabaseUnavailable
            | CauseKind::ReplicationFailed
            | CauseKind::ReplayFailed
            | CauseKind::PostgresTimeout
            | CauseKind::DisconnectAnnounced
            | CauseKind::TooManyChannels
            | CauseKind::TooManyConnections
            | CauseKind::JoinRateLimited
            | CauseKind::MessagesRateLimited
            | CauseKind::PresenceRateLimited
            | CauseKind::JoinTimeout
            | CauseKind::JoinCrashed
            | CauseKind::ChannelCrashed
            | CauseKind::Unknown
    )
}

/// Whether a channel that was lost or refused so stays away until somebody mends something and asks
/// for it again. What comes back by itself, or waits for a token, is nothing to ask for.
pub(crate) const fn needs_somebody(cause: CauseKind) -> bool {
    matches!(
        cause,
        CauseKind::TopicMissing
            | CauseKind::UnmatchedTopic
            | CauseKind::PrivateOnly
            | CauseKind::TenantDisabled
            | CauseKind::TenantNotFound
            | CauseKind::ReplayRefused
            | CauseKind::PostgresRefused
            | CauseKind::BindingMismatch
            | CauseKind::PresenceTooLarge
            | CauseKind::PayloadTooLarge
            | CauseKind::ChannelClosed
    )
}

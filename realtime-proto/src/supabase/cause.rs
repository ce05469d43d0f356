//! Why something ended or failed: one closed set, whatever layer it came from.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

use serde::Deserialize;

use crate::transmit::CloseReason;

/// Why a connection, a channel or a push ended or failed.
///
/// The kind decides what happens next, the text is what the server (or the transport) said, word
/// for word, and [`advice`](CauseKind::advice) tells a person what to do.
///
/// # Examples
///
/// ```
/// use realtime_proto::supabase::{Cause, CauseKind, Retry};
///
/// let cause = Cause::from_join_refusal("InvalidJWTToken: Token has expired 12 seconds ago");
/// assert_eq!(cause.kind, CauseKind::TokenExpired);
/// assert_eq!(cause.kind.retry(), Retry::NewToken);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind, which decides whether and how to try again.
    pub kind: CauseKind,
    /// The raw words behind it; empty when nobody said anything.
    pub text: Cow<'static, str>,
    /// How long the server asked to wait, when it did.
    pub retry_after: Option<Duration>,
}

/// Whether and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Retry {
    /// Again after the next delay of the schedule.
    Backoff,
    /// Not before a new access token is set.
    NewToken,
    /// Not before a person changes something.
    Never,
}

/// One row a kind: its name, its retry class, and what to do about it.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $retry:ident, $advice:literal;)*) => {
        /// The closed set of causes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CauseKind {
            $($(#[$doc])* $kind,)*
        }

        impl CauseKind {
            /// Every kind, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Whether and when to try again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$kind => Retry::$retry,)*
                }
            }

            /// One sentence on what to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$kind => $advice,)*
                }
            }
        }
    };
}

kinds! {
    /// The local side asked for it.
    Requested, Never, "Nothing to do: this side asked for it.";
    /// No channel needed the connection.
    Empty, Never, "Nothing to do: the next channel opens the connection again.";
    /// Opening the connection took longer than allowed.
    ConnectTimeout, Backoff, "Check the URL and the network.";
    /// The peer did not answer a heartbeat in time.
    HeartbeatTimeout, Backoff, "The connection was dead; the client reconnects.";
    /// A frame could not be written in time.
    WriteTimeout, Backoff, "The connection was stuck; the client reconnects.";
    /// The server could not be reached: name lookup, TCP or TLS failed.
    Unreachable, Backoff, "Check the host name, the port, TLS and the network.";
    /// The connection broke without a close frame.
    ConnectionLost, Backoff, "The network or the server dropped the connection; the client reconnects.";
    /// The server closed normally (1000), as idle timeouts do.
    ClosedNormally, Backoff, "The server ended the connection; the client reconnects.";
    /// The server sends clients away (1001), for instance after too many joins.
    GoingAway, Backoff, "The server asked to leave; the client reconnects after a delay.";
    /// The server restarts or its settings changed (1012).
    ServiceRestart, Backoff, "The server restarts; the client reconnects.";
    /// The peer found a frame wrong (1002, 1003, 1007).
    ProtocolError, Backoff, "The server could not read a frame; check that it speaks this protocol version.";
    /// A frame was larger than the server takes (1009).
    FrameTooLarge, Backoff, "Send smaller payloads: a Supabase server takes frames of up to 5 MB.";
    /// The server failed (1011).
    ServerFailed, Backoff, "The server failed; the client reconnects.";
    /// Any other close code.
    ClosedOther, Backoff, "The server ended the connection; the client reconnects.";

    /// The upgrade was refused because no API key was sent.
    ApiKeyMissing, NewToken, "Pass the project's API key.";
    /// The upgrade was refused because of the API key (401).
    ApiKeyRejected, NewToken, "Use a valid API key of this project.";
    /// The upgrade was refused without a reason (403).
    Forbidden, NewToken, "Check the protocol version, the origin and the credentials.";
    /// There is no WebSocket at this URL (404 without a reason, 400, 405, 426).
    NotAnEndpoint, Never, "Check the path of the URL: a Phoenix socket is mounted at /socket, a Supabase one at /realtime/v1.";
    /// Any other refusal of the upgrade.
    RefusedOther, Backoff, "The server refused the connection; the client tries again.";

    /// The join had no topic after `realtime:`.
    TopicMissing, Never, "Give the channel a name.";
    /// The token expires soon.
    TokenExpiring, NewToken, "Set a fresh access token before the deadline.";
    /// The token has expired.
    TokenExpired, NewToken, "Set a fresh access token.";
    /// The token is malformed, badly signed, or lacks claims.
    TokenInvalid, NewToken, "Set an access token that this project signed, with the claims role and exp.";
    /// The token does not grant this topic.
    Unauthorized, NewToken, "Sign in as someone whose policies allow this topic, or add a policy on realtime.messages.";
    /// The project allows private channels only.
    PrivateOnly, Never, "Open the channel as a private one.";
    /// The connection has as many channels as it may.
    TooManyChannels, Backoff, "Close channels that are not needed, or raise the limit of the project.";
    /// Too many joins in a second.
    JoinRateLimited, Backoff, "Open fewer channels at a time; the client slows down.";
    /// The project has as many connections as it may.
    TooManyConnections, Backoff, "Close connections or raise the limit of the project; the client tries again.";
    /// Realtime is switched off for the project.
    TenantDisabled, Never, "Enable Realtime for the project.";
    /// The project is unknown.
    TenantNotFound, Never, "Check the project in the URL.";
    /// The server is shutting down.
    ServerRestarting, Backoff, "The server restarts; the client tries again.";
    /// The project is being woken up.
    ProjectInitializing, Backoff, "The project starts; the client tries again.";
    /// The project's database cannot be reached or is overloaded.
    DatabaseUnavailable, Backoff, "The project's database is not available; the client tries again.";
    /// Replay was asked for in a way the server refuses.
    ReplayRefused, Never, "Ask for replay on a private channel, with a valid start and limit.";
    /// The server could not read the broadcasts it stores.
    ReplayFailed, Backoff, "The client joins again, and asks for no replay but the one of the application.";
    /// Row changes cannot be had as asked.
    PostgresRefused, Never, "Check table, column and filter, and that the table is in the publication supabase_realtime.";
    /// Row changes were not ready in time, or the database failed meanwhile.
    PostgresTimeout, Backoff, "The database was slow to subscribe; the client tries again.";
    /// No channel of the server matches the topic.
    UnmatchedTopic, Never, "Check the topic: the server has no channel for it.";
    /// The server's join raised an error.
    JoinCrashed, Backoff, "The server failed while joining; the client tries again.";
    /// A reason this version does not know.
    Unknown, Backoff, "Read the server's words; the client tries again.";
    /// The join was not answered in time.
    JoinTimeout, Backoff, "The server was slow to answer the join; the client tries again.";

    /// The server did not reply to a push in time.
    PushTimeout, Backoff, "The server did not reply; on a private channel it drops without a word what no policy allows.";
    /// A push outlived its time while it waited for the join.
    PushExpired, Backoff, "It was never sent; send it again once the channel is live.";
    /// A push was given up while it waited for the join.
    PushDropped, Never, "It was never sent: the channel ended, a newer one took its place, or too many waited.";
    /// The payload is larger than the project takes.
    PayloadTooLarge, Never, "Send a smaller payload, or raise the limit of the project.";
    /// A server could not read a broadcast over HTTP.
    BroadcastInvalid, Never, "Read the server's words: it could not take the broadcast as it was sent.";
    /// There is nothing at the URL of a broadcast over HTTP.
    BroadcastEndpointMissing, Never, "Check the URL; a single broadcast over HTTP takes Realtime 2.97 or newer, a batch does not.";
    /// Too many broadcasts over HTTP, or in one request.
    BroadcastRateLimited, Backoff, "Send fewer broadcasts or smaller batches, and try again after a delay.";
    /// The server failed over a broadcast over HTTP.
    BroadcastFailed, Backoff, "The server failed to take the broadcast; send it again after a delay.";
    /// The project sends more messages than it may.
    MessagesRateLimited, Backoff, "Send fewer messages; the channel is joined again after a delay.";
    /// Presence changes too often.
    PresenceRateLimited, Backoff, "Change presence less often, at most 5 times in 30 seconds a channel.";
    /// The presence payload is too large.
    PresenceTooLarge, Never, "Track a smaller value.";
    /// The right to read the topic was withdrawn.
    PermissionLost, NewToken, "Sign in as someone whose policies allow this topic.";
    /// The server's replication connection failed.
    ReplicationFailed, Backoff, "The server could not follow the database; the channel is joined again.";
    /// The server announced that it will close the connection.
    DisconnectAnnounced, Backoff, "The server restarts or its settings changed; the client reconnects.";

    /// The server's channel process crashed (`phx_error`).
    ChannelCrashed, Backoff, "The channel failed on the server; the client joins again.";
    /// The server closed the channel (`phx_close`).
    ChannelClosed, Never, "The server closed the channel; open it again if it is still wanted.";
    /// The server confirmed other row-change bindings than were asked for.
    BindingMismatch, Never, "Compare the bindings with the server's reply.";
    /// The channel joined again because what it asks for changed.
    Rejoined, Never, "Nothing to do but to fetch what changed meanwhile.";
    /// The server began to follow the database anew, without saying since when it had not.
    ChangesRestarted, Never, "Nothing to do but to fetch what changed meanwhile.";
    /// Frames were dropped because the application did not take its events.
    EventsOverflowed, Never, "Take events faster, or raise events_queued_max; then fetch what changed meanwhile.";
    /// A push was given up because its channel or connection ended first.
    Interrupted, Backoff, "It is not known whether the server acted on it; send it again if that is safe.";
}

/// Texts of a Supabase or Phoenix server and what they mean; the first prefix that fits wins.
///
/// Protocol §5.4, §6.2 and §6.3. A join refusal names a code before the text, a shutdown does not.
const TEXTS: &[(&str, CauseKind)] = {
    use CauseKind::*;
    &[
        ("TopicNameRequired", TopicMissing),
        ("InvalidJWTToken: Token has expired", TokenExpired),
        ("InvalidJWTToken", TokenInvalid),
        ("MalformedJWT", TokenInvalid),
        ("JwtSignatureError", TokenInvalid),
        ("JwtSignerError", TokenInvalid),
        ("Unauthorized", Unauthorized),
        ("PrivateOnly", PrivateOnly),
        ("ChannelRateLimitReached", TooManyChannels),
        ("too many channels joined", TooManyChannels),
        ("ClientJoinRateLimitReached", JoinRateLimited),
        ("ConnectionRateLimitReached", TooManyConnections),
        ("RealtimeDisabledForTenant", TenantDisabled),
        ("TenantNotFound", TenantNotFound),
        ("RealtimeRestarting", ServerRestarting),
        ("InitializingProjectConnection", ProjectInitializing),
        ("UnableToConnectToProject", DatabaseUnavailable),
        ("DatabaseLackOfConnections", DatabaseUnavailable),
        ("DatabaseConnectionRateLimitReached", DatabaseUnavailable),
        ("IncreaseConnectionPool", DatabaseUnavailable),
        ("QueryCanceled", DatabaseUnavailable),
        ("MissingPartition", DatabaseUnavailable),
        ("TimeoutOnRpcCall", DatabaseUnavailable),
        ("ErrorOnRpcCall", DatabaseUnavailable),
        ("MusterJoinError", DatabaseUnavailable),
        ("UnableToReplayMessages: Realtime was unable", ReplayFailed),
        ("UnableToReplayMessages", ReplayRefused),
        ("RealtimeDisabledForConfiguration", PostgresRefused),
        ("Error parsing `filter` params", PostgresRefused),
        ("Error parsing `select` params", PostgresRefused),
        ("No subscription params provided", PostgresRefused),
        ("Column selection is not supported", PostgresRefused),
        ("Unable to subscribe to changes with given parameters", PostgresRefused),
        ("PostgresChangesSubscribeTimeout", PostgresTimeout),
        ("unmatched topic", UnmatchedTopic),
        ("join crashed", JoinCrashed),
        ("payload_size_exceeded", PayloadTooLarge),
        ("Too many messages per second", MessagesRateLimited),
        ("Too many presence messages per second", PresenceRateLimited),
        ("Client presence rate limit exceeded", PresenceRateLimited),
        ("Track message size exceeded", PresenceTooLarge),
        ("Token has expired", TokenExpired),
        ("Fields `role` and `exp` are required in JWT", TokenInvalid),
        ("The token provided is not a valid JWT", TokenInvalid),
        ("Failed to validate JWT signature", TokenInvalid),
        // What a server says instead when a joined channel is given such a token.
        (":signature_error", TokenInvalid),
        ("Failed to generate JWT signer", TokenInvalid),
        ("You do not have permissions to read", Unauthorized),
        ("You no longer have permission to read", PermissionLost),
        ("Realtime was unable to connect to the project database", DatabaseUnavailable),
        ("Query was cancelled", DatabaseUnavailable),
        ("Node request timeout", DatabaseUnavailable),
        ("RPC call error", DatabaseUnavailable),
        ("Replication connection was not established", ReplicationFailed),
        ("Server requested disconnect", DisconnectAnnounced),
        ("API key is missing", ApiKeyMissing),
        ("Realtime was disabled for this tenant", TenantDisabled),
        ("Tenant not found", TenantNotFound),
        ("Too many connected users", TooManyConnections),
        ("Too many joins per second", JoinRateLimited),
    ]
};

fn kind_of(text: &str) -> Option<CauseKind> {
    TEXTS.iter().find(|(prefix, _)| text.starts_with(prefix)).map(|(_, kind)| *kind)
}

impl Cause {
    /// A cause that speaks for itself.
    #[must_use]
    pub const fn new(kind: CauseKind) -> Self {
        Self { kind, text: Cow::Borrowed(""), retry_after: None }
    }

    /// A cause with the words behind it.
    #[must_use]
    pub fn with_text(kind: CauseKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, text: text.into(), retry_after: None }
    }

    /// Reads the `reason` of a refused join.
    #[must_use]
    pub fn from_join_refusal(reason: &str) -> Self {
        Self::with_text(kind_of(reason).unwrap_or(CauseKind::Unknown), reason.to_string())
    }

    /// Reads the message of a `system` error, which tells why the channel is about to be closed
    /// or why row changes do not flow.
    #[must_use]
    pub fn from_system(extension: &str, message: &str) -> Self {
        let kind = match kind_of(message) {
            Some(kind) => kind,
            // What cannot work has words of its own; after all else the server tries again.
            None if extension == "postgres_changes" => CauseKind::PostgresTimeout,
            None => CauseKind::Unknown,
        };
        Self::with_text(kind, message.to_string())
    }

    /// Reads a `phx_error`, or a refused join or push, from its payload: `{"reason": …}`,
    /// `{"error": …}`, a bare string, or anything else, which is kept as it is.
    pub(crate) fn from_response(json: Option<&str>) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Refusal {
            Reason {
                #[serde(alias = "error")]
                reason: String,
            },
            Bare(String),
        }
        let json = json.unwrap_or_default();
        match serde_json::from_str(json) {
            Ok(Refusal::Reason { reason } | Refusal::Bare(reason)) => {
                Self::from_join_refusal(&reason)
            }
            Err(_) => Self::with_text(CauseKind::Unknown, json.to_string()),
        }
    }

    /// Reads what a driver reports about a connection that ended or never opened.
    #[must_use]
    pub fn from_close(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Closed { code, reason } => {
                let kind = match code {
                    1000 => CauseKind::ClosedNormally,
                    1001 => CauseKind::GoingAway,
                    1002 | 1003 | 1007 => CauseKind::ProtocolError,
                    1009 => CauseKind::FrameTooLarge,
                    1011 => CauseKind::ServerFailed,
                    1012 => CauseKind::ServiceRestart,
                    _ => CauseKind::ClosedOther,
                };
                let text = if reason.is_empty() {
                    alloc::format!("close code {code}")
                } else {
                    alloc::format!("close code {code}: {reason}")
                };
                Self::with_text(kind, text)
            }
            CloseReason::Refused { status, body, retry_after } => {
                let said = refusal_text(body);
                let kind = match (kind_of(&said), status) {
                    // The same words as about an access token, but an upgrade has only the key.
                    (Some(CauseKind::TokenExpired | CauseKind::TokenInvalid), _) => {
                        CauseKind::ApiKeyRejected
                    }
                    (Some(kind), _) => kind,
                    (None, 401) => CauseKind::ApiKeyRejected,
                    (None, 403) => CauseKind::Forbidden,
                    (None, 400 | 404 | 405 | 426 | 200..=399) => CauseKind::NotAnEndpoint,
                    (None, 429) => CauseKind::TooManyConnections,
                    (None, _) => CauseKind::RefusedOther,
                };
                let text = if said.is_empty() {
                    alloc::format!("HTTP {status}")
                } else {
                    alloc::format!("HTTP {status}: {said}")
                };
                Self { kind, text: text.into(), retry_after: *retry_after }
            }
            CloseReason::Lost { detail } => {
                Self::with_text(CauseKind::ConnectionLost, detail.clone())
            }
            CloseReason::Unreachable { detail } => {
                Self::with_text(CauseKind::Unreachable, detail.clone())
            }
            CloseReason::WriteTimeout => Self::new(CauseKind::WriteTimeout),
        }
    }
}

/// The words in the body of a refused upgrade: `{"error": …}`, `{"message": …}`, or short text.
fn refusal_text(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(alias = "message")]
        error: String,
    }
    /// A page of HTML is no reason; a sentence is.
    const TEXT_BYTES_MAX: usize = 200;
    match serde_json::from_str::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) if body.len() <= TEXT_BYTES_MAX && !body.contains('<') => body.trim().to_string(),
        Err(_) => String::new(),
    }
}

/// The kind in words, then what was said, then what to do.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "{}. {}", self.kind, self.kind.advice())
        } else {
            write!(f, "{} ({}). {}", self.kind, self.text, self.kind.advice())
        }
    }
}

/// The name of the kind, spelled as words: `heartbeat timeout`.
impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = alloc::format!("{self:?}");
        for (at, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && at > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_reads_as_a_sentence_a_person_can_act_on() {
        let cause = Cause::from_system("system", "Token has expired 3 seconds ago");
        assert_eq!(
            cause.to_string(),
            "token expired (Token has expired 3 seconds ago). Set a fresh access token.",
        );
    }

    #[test]
    fn an_http_refusal_is_read_from_its_body_before_its_status() {
        let refused = |status, body: &str| {
            let body = body.to_string();
            Cause::from_close(&CloseReason::Refused { status, body, retry_after: None })
        };
        let suspended = refused(403, r#"{"error":"Realtime was disabled for this tenant"}"#);
        assert_eq!(suspended.kind, CauseKind::TenantDisabled);
        assert_eq!(refused(403, "").kind, CauseKind::Forbidden);
        assert_eq!(refused(404, "<html>").text, "HTTP 404");
        assert_eq!(refused(503, "busy").text, "HTTP 503: busy");
    }
}

//! Every reason the protocol sheet lists (§5.4, §5.7, §5.8, §6.1 to §6.4), with what it means and what follows.

use std::collections::BTreeSet;

use realtime_proto::supabase::CauseKind::*;
use realtime_proto::supabase::Retry::{self, Backoff, Never, NewToken};
use realtime_proto::supabase::{BroadcastApi, Cause, CauseKind};
use realtime_proto::{CloseReason, Outcome, Payload, Status};

/// §6.1: the status and the `error` of a refused upgrade.
const REFUSED_UPGRADES: [(u16, &str, CauseKind, Retry); 15] = [
    (401, "API key is missing", ApiKeyMissing, NewToken),
    (401, "Token has expired", ApiKeyRejected, NewToken),
    (401, "Fields `role` and `exp` are required in JWT", ApiKeyRejected, NewToken),
    (401, "The token provided is not a valid JWT", ApiKeyRejected, NewToken),
    (401, "Failed to validate JWT signature", ApiKeyRejected, NewToken),
    (
        401,
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
        ApiKeyRejected,
        NewToken,
    ),
    (
        401,
        "Failed to generate JWT signer for key ID (kid) \"k1\", check your JWT secret or JWKS \
         configuration",
        ApiKeyRejected,
        NewToken,
    ),
    (403, "Realtime was disabled for this tenant", TenantDisabled, Never),
    (403, "", Forbidden, NewToken),
    (404, "Tenant not found", TenantNotFound, Never),
    (404, "", NotAnEndpoint, Never),
    (429, "Too many connected users", TooManyConnections, Backoff),
    (429, "Too many joins per second", JoinRateLimited, Backoff),
    (500, "Error connecting to Realtime", RefusedOther, Backoff),
    (400, "", NotAnEndpoint, Never),
];

/// §6.2: the `reason` of a refused join.
const REFUSED_JOINS: [(&str, CauseKind, Retry); 43] = [
    ("TopicNameRequired: You must provide a topic name", TopicMissing, Never),
    ("InvalidJWTToken: Token has expired 12 seconds ago", TokenExpired, NewToken),
    ("InvalidJWTToken: Fields `role` and `exp` are required in JWT", TokenInvalid, NewToken),
    ("InvalidJWTToken: Token expiration time is invalid", TokenInvalid, NewToken),
    ("MalformedJWT: The token provided is not a valid JWT", TokenInvalid, NewToken),
    ("JwtSignatureError: Failed to validate JWT signature", TokenInvalid, NewToken),
    (
        "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS \
         configuration",
        TokenInvalid,
        NewToken,
    ),
    (
        "Unauthorized: You do not have permissions to read from this Channel topic: room",
        Unauthorized,
        NewToken,
    ),
    ("PrivateOnly: This project only allows private channels", PrivateOnly, Never),
    ("ChannelRateLimitReached: Too many channels", TooManyChannels, Backoff),
    ("ClientJoinRateLimitReached: Too many joins per second", JoinRateLimited, Backoff),
    ("ConnectionRateLimitReached: Too many connected users", TooManyConnections, Backoff),
    ("RealtimeDisabledForTenant: Realtime disabled for this tenant", TenantDisabled, Never),
    ("TenantNotFound: Tenant with the given ID does not exist", TenantNotFound, Never),
    ("RealtimeRestarting: Realtime is restarting, please standby", ServerRestarting, Backoff),
    (
        "InitializingProjectConnection: Connecting to the project database",
        ProjectInitializing,
        Backoff,
    ),
    (
        "InitializingProjectConnection: Realtime is initializing the project connection",
        ProjectInitializing,
        Backoff,
    ),
    (
        "UnableToConnectToProject: Realtime was unable to connect to the project database",
        DatabaseUnavailable,
        Backoff,
    ),
    ("Realtime was unable to connect to the project database", DatabaseUnavailable, Backoff),
    (
        "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect",
        DatabaseUnavailable,
        Backoff,
    ),
    (
        "DatabaseConnectionRateLimitReached: Too many database connections attempts per second",
        DatabaseUnavailable,
        Backoff,
    ),
    (
        "IncreaseConnectionPool: Please increase your connection pool size",
        DatabaseUnavailable,
        Backoff,
    ),
    ("QueryCanceled: Query was cancelled, please try again", DatabaseUnavailable, Backoff),
    (
        "MissingPartition: Realtime was unable to find the expected messages partition",
        DatabaseUnavailable,
        Backoff,
    ),
    ("TimeoutOnRpcCall: Node request timeout", DatabaseUnavailable, Backoff),
    ("ErrorOnRpcCall: RPC call error: :nodedown", DatabaseUnavailable, Backoff),
    ("MusterJoinError: :timeout", DatabaseUnavailable, Backoff),
    // The server's failure, and the two that parameters of the join bring about.
    ("UnableToReplayMessages: Realtime was unable to replay messages", ReplayFailed, Backoff),
    ("UnableToReplayMessages: Replay params are not valid", ReplayRefused, Never),
    ("UnableToReplayMessages: Replay is not allowed for public channels", ReplayRefused, Never),
    (
        "RealtimeDisabledForConfiguration: Unable to subscribe to changes with given parameters",
        PostgresRefused,
        Never,
    ),
    (
        "PostgresChangesSubscribeTimeout: Timed out after 15000ms waiting for the \
         postgres_changes subscription",
        PostgresTimeout,
        Backoff,
    ),
    ("Unknown Error on Channel", Unknown, Backoff),
    ("UnknownErrorOnChannel: {:error, :boom}", Unknown, Backoff),
    ("unmatched topic", UnmatchedTopic, Never),
    ("join crashed", JoinCrashed, Backoff),
    ("too many channels joined", TooManyChannels, Backoff),
    // What no version of the sheet has.
    ("", Unknown, Backoff),
    ("SomethingNew: never heard of", Unknown, Backoff),
    // Only the beginning counts.
    ("It said Unauthorized", Unknown, Backoff),
    ("unauthorized", Unknown, Backoff),
    (" unmatched topic", Unknown, Backoff),
    ("Tenant", Unknown, Backoff),
];

/// §6.3 and §5.4: the message of a `system` error, before `phx_close` or instead of row changes.
const SYSTEM: [(&str, &str, CauseKind, Retry); 25] = [
    ("system", "Too many messages per second", MessagesRateLimited, Backoff),
    ("system", "Too many presence messages per second", PresenceRateLimited, Backoff),
    ("system", "Client presence rate limit exceeded", PresenceRateLimited, Backoff),
    ("system", "Track message size exceeded", PresenceTooLarge, Never),
    ("system", "Token has expired 3 seconds ago", TokenExpired, NewToken),
    ("system", "Fields `role` and `exp` are required in JWT", TokenInvalid, NewToken),
    ("system", "The token provided is not a valid JWT", TokenInvalid, NewToken),
    (
        "system",
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
        TokenInvalid,
        NewToken,
    ),
    (
        "system",
        "You do not have permissions to read from this Channel topic: room",
        Unauthorized,
        NewToken,
    ),
    (
        "system",
        "You no longer have permission to read from this Channel topic: room",
        PermissionLost,
        NewToken,
    ),
    (
        "system",
        "Realtime was unable to connect to the project database",
        DatabaseUnavailable,
        Backoff,
    ),
    ("system", "Query was cancelled, please try again", DatabaseUnavailable, Backoff),
    ("system", "Node request timeout", DatabaseUnavailable, Backoff),
    ("system", "RPC call error: :nodedown", DatabaseUnavailable, Backoff),
    ("system", "Replication connection was not established in time", ReplicationFailed, Backoff),
    ("system", "Server requested disconnect", DisconnectAnnounced, Backoff),
    ("postgres_changes", "Error parsing `filter` params: [\"x\"]", PostgresRefused, Never),
    (
        "postgres_changes",
        "No subscription params provided. Please provide at least a `schema` or `table` to \
         subscribe to: %{}",
        PostgresRefused,
        Never,
    ),
    (
        "postgres_changes",
        "Column selection is not supported for wildcard subscriptions. Name the table",
        PostgresRefused,
        Never,
    ),
    ("postgres_changes", "Error parsing `select` params: 7", PostgresRefused, Never),
    (
        "postgres_changes",
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled \
         for the given connect parameters: [event: INSERT, schema: public, table: t, filters: [], \
         select: []]",
        PostgresRefused,
        Never,
    ),
    (
        "postgres_changes",
        "Unable to subscribe to changes with given parameters. An exception happened so please \
         check your connect parameters: []. Exception: ERROR P0001",
        PostgresRefused,
        Never,
    ),
    // Any other text about row changes: the server tries again by itself.
    ("postgres_changes", "Too many database timeouts", PostgresTimeout, Backoff),
    ("postgres_changes", "%DBConnection.ConnectionError{}", PostgresTimeout, Backoff),
    ("system", "Something new", Unknown, Backoff),
];

/// §5.7: the response of a refused broadcast, as it is on the wire, and what it says.
const REFUSED_BROADCASTS: [(&str, &str, CauseKind, Retry); 3] = [
    (r#""payload_size_exceeded""#, "payload_size_exceeded", PayloadTooLarge, Never),
    (r#"{"error":"no room"}"#, "no room", Unknown, Backoff),
    (r#"{"reason":"unmatched topic"}"#, "unmatched topic", UnmatchedTopic, Never),
];

/// §5.8: the status and the body of the answer to a broadcast over HTTP, and the words in it.
const HTTP_BROADCASTS: [(u16, &str, &str, CauseKind, Retry); 30] = [
    (400, "Bad Request", "Bad Request", BroadcastInvalid, Never),
    (401, r#"{"message":"Unauthorized"}"#, "Unauthorized", TokenInvalid, NewToken),
    (401, MESSAGE, "Tenant not found in database", TenantNotFound, Never),
    (403, MESSAGE, "Tenant is suspended", TenantDisabled, Never),
    (403, MESSAGE, "Unauthorized", Unauthorized, NewToken),
    (403, "", "", Forbidden, NewToken),
    (404, MESSAGE, "Tenant not found", TenantNotFound, Never),
    (404, "<html>", "", BroadcastEndpointMissing, Never),
    (405, "", "", BroadcastEndpointMissing, Never),
    (413, "", "", PayloadTooLarge, Never),
    (
        415,
        ERROR,
        "Unsupported Media Type. Use application/json or application/octet-stream",
        BroadcastInvalid,
        Never,
    ),
    (
        422,
        r#"{"errors":{"messages":[{"payload":["can't be blank"]}]}}"#,
        r#"{"messages":[{"payload":["can't be blank"]}]}"#,
        BroadcastInvalid,
        Never,
    ),
    (
        422,
        r#"{"errors":{"payload":["Payload size exceeds tenant limit"]}}"#,
        r#"{"payload":["Payload size exceeds tenant limit"]}"#,
        PayloadTooLarge,
        Never,
    ),
    (422, MESSAGE, "RLS policy error", Unauthorized, NewToken),
    (422, MESSAGE, "Query canceled", DatabaseUnavailable, Backoff),
    (422, MESSAGE, "Missing messages partition", DatabaseUnavailable, Backoff),
    (422, MESSAGE, "Tenant database unavailable", DatabaseUnavailable, Backoff),
    (422, MESSAGE, "Tenant database initializing", ProjectInitializing, Backoff),
    (422, MESSAGE, "Tenant database connection initializing", ProjectInitializing, Backoff),
    (422, MESSAGE, "Tenant database has too many connections", DatabaseUnavailable, Backoff),
    (422, MESSAGE, "Connect rate limit reached", DatabaseUnavailable, Backoff),
    (429, MESSAGE, "Too many requests", BroadcastRateLimited, Backoff),
    (429, MESSAGE, "You have exceeded your rate limit", BroadcastRateLimited, Backoff),
    (
        429,
        MESSAGE,
        "Too many messages to broadcast, please reduce the batch size",
        BroadcastRateLimited,
        Backoff,
    ),
    (429, MESSAGE, "Connection pool exhausted", DatabaseUnavailable, Backoff),
    (500, MESSAGE, "RPC error", DatabaseUnavailable, Backoff),
    (500, MESSAGE, "Unable to authorize broadcast", DatabaseUnavailable, Backoff),
    (500, MESSAGE, "Something new", BroadcastFailed, Backoff),
    (503, "busy", "busy", BroadcastFailed, Backoff),
    // Only 202 says that the broadcast was taken; this is some other server.
    (200, "<html>welcome", "", BroadcastFailed, Backoff),
];

/// The words stand in `message` or in `error`.
const MESSAGE: &str = "message";
const ERROR: &str = "error";

/// §6.4: the code of a close frame. 1006 is what a client calls a connection without one.
const CLOSES: [(u16, CauseKind); 11] = [
    (1000, ClosedNormally),
    (1001, GoingAway),
    (1002, ProtocolError),
    (1007, ProtocolError),
    (1009, FrameTooLarge),
    (1011, ServerFailed),
    (1012, ServiceRestart),
    (1005, ClosedOther),
    (1006, ClosedOther),
    (3410, ClosedOther),
    (1008, ClosedOther),
];

/// What no server says in words: this side notices it, or a frame of its own says it.
const WITHOUT_WORDS: [CauseKind; 19] = [
    Requested,
    Empty,
    ConnectTimeout,
    HeartbeatTimeout,
    WriteTimeout,
    Unreachable,
    ConnectionLost,
    TokenExpiring,
    JoinTimeout,
    ChannelCrashed,
    ChannelClosed,
    BindingMismatch,
    Rejoined,
    ChangesRestarted,
    EventsOverflowed,
    Interrupted,
    PushTimeout,
    PushExpired,
    PushDropped,
];

/// The words of the table, what was made of them, and what should have been.
struct Row {
    said: String,
    cause: Cause,
    kind: CauseKind,
    retry: Retry,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |said: &str, cause, kind, retry| {
        rows.push(Row { said: said.to_owned(), cause, kind, retry });
    };
    for (status, said, kind, retry) in REFUSED_UPGRADES {
        let body = match said {
            "" => String::new(),
            said => serde_json::json!({ "error": said }).to_string(),
        };
        let cause = Cause::from_close(&CloseReason::Refused { status, body, retry_after: None });
        row(said, cause, kind, retry);
    }
    for (said, kind, retry) in REFUSED_JOINS {
        row(said, Cause::from_join_refusal(said), kind, retry);
    }
    for (extension, said, kind, retry) in SYSTEM {
        row(said, Cause::from_system(extension, said), kind, retry);
    }
    for (response, said, kind, retry) in REFUSED_BROADCASTS {
        let response = Payload::from_json(response).expect("JSON");
        let outcome = Outcome::Replied { status: Status::Error, response };
        row(said, outcome.cause().expect("it was refused"), kind, retry);
    }
    for (status, body, said, kind, retry) in HTTP_BROADCASTS {
        let body = match body {
            MESSAGE | ERROR => serde_json::json!({ body: said }).to_string(),
            body => body.to_owned(),
        };
        let cause = BroadcastApi::read_reply(status, body.as_bytes()).expect_err("it was refused");
        assert!(cause.text.starts_with(&format!("HTTP {status}")), "{cause}");
        row(said, cause, kind, retry);
    }
    for (code, kind) in CLOSES {
        let said = format!("{code}: bye");
        let cause = Cause::from_close(&CloseReason::Closed { code, reason: "bye".into() });
        row(&said, cause, kind, Backoff);
    }
    rows
}

#[test]
fn every_reason_of_the_sheet_is_known_and_leads_to_what_the_sheet_advises() {
    for Row { said, cause, kind, retry } in rows() {
        assert_eq!((cause.kind, cause.kind.retry()), (kind, retry), "{said:?}");
    }
}

#[test]
fn the_words_of_the_server_are_kept() {
    for Row { said, cause, .. } in rows() {
        assert!(cause.text.ends_with(&said), "{said:?} became {:?}", cause.text);
        assert!(cause.to_string().contains(&said), "{said:?} is shown as `{cause}`");
    }
}

#[test]
fn a_refusal_keeps_how_long_the_server_asked_to_wait() {
    let wait = Some(core::time::Duration::from_secs(7));
    let refused = CloseReason::Refused { status: 503, body: String::new(), retry_after: wait };
    assert_eq!(Cause::from_close(&refused).retry_after, wait);
}

#[test]
fn every_kind_advises_in_one_sentence() {
    for kind in CauseKind::ALL {
        let advice = kind.advice();
        let sentence = advice.strip_suffix('.').unwrap_or_default();
        assert!(!sentence.is_empty() && !sentence.contains(". "), "{kind:?}: {advice}");
        assert!(advice.starts_with(char::is_uppercase), "{kind:?}: {advice}");
    }
}

#[test]
fn every_kind_is_a_reason_of_the_sheet_or_noticed_by_this_side() {
    let said: BTreeSet<CauseKind> = rows().iter().map(|row| row.cause.kind).collect();
    let noticed = BTreeSet::from(WITHOUT_WORDS);
    assert_eq!(said.intersection(&noticed).collect::<Vec<_>>(), [&Requested; 0]);
    assert_eq!(&said | &noticed, CauseKind::ALL.iter().copied().collect());
}

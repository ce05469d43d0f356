//! What can go wrong with a call on a handle.

use realtime_proto::manager::ManagerError;
use realtime_proto::supabase::Cause;
use realtime_proto::{BindError, OpenError, Outcome, Payload, PushError, Status};

use crate::commands::Gone;

/// A call on a handle failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task behind the handle has ended.
    #[error("the client has been shut down; make another one")]
    Stopped,
    /// The manager of the process was set up before.
    #[error("the manager was set up before; use `manager()`, or make another one of your own")]
    AlreadySetUp,
    /// The manager of the process was not set up.
    #[error("the manager was not set up; call `set_up` with its settings first")]
    NotSetUp,
    /// The channel could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The row changes could not be asked for.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The message was not accepted.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The manager did not accept the request.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The channel is gone.
    #[error("the channel was closed; open it again")]
    Closed,
    /// The channel will not become live by itself.
    #[error("the channel is not live: {0}")]
    NotLive(Cause),
    /// The message was not answered, or not sent.
    #[error("{0}")]
    Unanswered(Unanswered),
    /// The server did not take a broadcast that was sent over HTTP.
    #[error("the broadcast was not taken: {0}")]
    NotTaken(Cause),
    /// The server could not be reached over HTTP, or did not answer.
    #[error("the broadcast could not be sent over HTTP: {0}")]
    Unreachable(String),
    /// The server refused the message.
    #[error("the server answered `{status}`: {response:?}")]
    Refused {
        /// Its status, anything but `ok`.
        status: Status,
        /// Its response.
        response: Payload,
    },
}

/// Why a message has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// No answer came in time.
    #[error("no answer came in time; check that the server knows the event")]
    TimedOut,
    /// The channel was not joined in time to send it.
    #[error("the channel was not joined in time to send it; check that it becomes live")]
    Expired,
    /// The connection or the join ended before the answer.
    #[error("the connection ended before the answer; whether the server acted is not known")]
    Interrupted,
    /// It was given up before it was sent.
    #[error("the message was given up before it was sent, because the channel ended first")]
    Dropped,
}

impl From<Gone> for Error {
    fn from(Gone: Gone) -> Self {
        Self::Stopped
    }
}

/// What the caller of a push is given: the response of an `ok`, or why there is none.
pub(crate) fn answer(outcome: Outcome) -> Result<Payload, Error> {
    match outcome {
        Outcome::Replied { status: Status::Ok, response } => Ok(response),
        Outcome::Replied { status, response } => Err(Error::Refused { status, response }),
        Outcome::Sent => Ok(Payload::empty()),
        Outcome::TimedOut => Err(Error::Unanswered(Unanswered::TimedOut)),
        Outcome::Expired => Err(Error::Unanswered(Unanswered::Expired)),
        Outcome::Interrupted => Err(Error::Unanswered(Unanswered::Interrupted)),
        // The enum grows with the core; what is new was not answered either.
        Outcome::Dropped | _ => Err(Error::Unanswered(Unanswered::Dropped)),
    }
}

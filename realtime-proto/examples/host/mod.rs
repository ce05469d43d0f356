//! What a host has and the core has not: a clock, entropy, and the words of a WebSocket library.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a host has a clock")]

use core::fmt;
use core::hash::BuildHasher;
use core::time::Duration;
use std::hash::RandomState;
use std::io::ErrorKind;
use std::time::{SystemTime, UNIX_EPOCH};

use realtime_proto::{CloseReason, Frame, Instant};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, Utf8Bytes};

/// A monotonic clock whose epoch is the moment it was made.
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_epoch(self.0.elapsed())
    }
}

/// The wall clock, by which tokens expire.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A seed from the operating system, by way of the standard library's hasher keys.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// Why an example failed; what ends a program is shown by `Debug`, so that is a sentence here.
pub(crate) struct Failure(String);

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A frame to write.
pub(crate) fn message(frame: Frame) -> Result<Message, Error> {
    Ok(match frame {
        Frame::Text(text) => Message::Text(
            Utf8Bytes::try_from(text)
                .map_err(|e| Error::Utf8(format!("byte {} of a text frame", e.valid_up_to())))?,
        ),
        Frame::Binary(bytes) => Message::Binary(bytes),
    })
}

/// What came: a frame, the end, or nothing for the client, as when a read timed out. The library
/// answers pings itself.
pub(crate) fn received(
    message: Option<Result<Message, Error>>,
) -> Result<Option<Frame>, CloseReason> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(Frame::Text(text.into()))),
        Some(Ok(Message::Binary(bytes))) => Ok(Some(Frame::Binary(bytes))),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
            Err(CloseReason::Closed { code: code.into(), reason: reason.as_str().into() })
        }
        Some(Ok(Message::Close(None))) => {
            Err(CloseReason::Closed { code: 1005, reason: String::new() })
        }
        Some(Err(Error::Io(error)))
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            Ok(None)
        }
        Some(Err(error)) => Err(lost(&error)),
        None => Err(CloseReason::Lost { detail: "there was no close frame".into() }),
    }
}

/// The close frame to end a connection with.
pub(crate) fn close_frame(code: u16, reason: &str) -> CloseFrame {
    CloseFrame { code: code.into(), reason: reason.into() }
}

/// Why a connection broke.
pub(crate) fn lost(error: &Error) -> CloseReason {
    CloseReason::Lost { detail: error.to_string() }
}

/// Why a connection could not be opened.
pub(crate) fn not_opened(error: Error) -> CloseReason {
    let Error::Http(answer) = error else {
        return CloseReason::Unreachable { detail: error.to_string() };
    };
    let (head, body) = answer.into_parts();
    let seconds =
        head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    CloseReason::Refused {
        status: head.status.as_u16(),
        body: String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

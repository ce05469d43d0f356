//! What the driver is asked to do, and the frames that pass either way.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use crate::ids::SocketId;
use crate::wire::ConnectUrl;

/// One WebSocket data frame, in or out.
///
/// The bytes are shared: hand the buffer of the WebSocket library in, and every payload that is
/// delivered is a slice of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text frame; bytes that are not UTF-8 are a violation, not a panic.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
}

impl Frame {
    /// A text frame from a string.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// A binary frame from bytes.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The bytes of the frame, text or binary.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// Frames can carry tokens, so `Debug` tells their size and kind only.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Text(bytes) => ("Text", bytes),
            Self::Binary(bytes) => ("Binary", bytes),
        };
        write!(f, "{kind}(<{} bytes>)", bytes.len())
    }
}

/// Something the driver has to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transmit {
    /// Open a WebSocket to `url`, then call `handle_open` or, if that fails, `handle_close`.
    Open {
        /// The name of this attempt.
        socket: SocketId,
        /// Where to, with the API key in the query; built anew for every attempt.
        url: ConnectUrl,
    },
    /// Write one frame.
    Frame {
        /// The connection it belongs to.
        socket: SocketId,
        /// The encoded frame.
        frame: Frame,
    },
    /// Close the WebSocket, or give up opening it; no answer is needed.
    Close {
        /// The connection or attempt to end.
        socket: SocketId,
        /// The close code to send.
        code: u16,
        /// The reason to send with it.
        reason: Cow<'static, str>,
    },
}

/// How a connection ended, or why it never opened, as the driver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent a close frame.
    Closed {
        /// Its code; 1005 when the frame had none.
        code: u16,
        /// Its reason, often empty.
        reason: String,
    },
    /// The connection broke without a close frame.
    Lost {
        /// What the transport said.
        detail: String,
    },
    /// The server answered the upgrade with another HTTP status.
    Refused {
        /// The status.
        status: u16,
        /// The body, which on Supabase says why; the driver may cut it at a few kilobytes.
        body: String,
        /// The `Retry-After` header, when there is one.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached: name lookup, TCP or TLS failed.
    Unreachable {
        /// What failed.
        detail: String,
    },
    /// The driver could not write a frame within its deadline.
    WriteTimeout,
}

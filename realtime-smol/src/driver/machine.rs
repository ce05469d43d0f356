//! What a driver drives, and what it is asked to do.

use core::fmt;
use std::borrow::Cow;

use realtime_proto::{CloseReason, Frame, Instant, Secret, SocketId, Transmit};

#[cfg(feature = "dev-server")]
use crate::sockets::Opening;

/// A sans-IO machine, as the driver sees it.
pub(crate) trait Machine: Send + 'static {
    /// What it tells the application.
    type Event: Send;
    /// How it names a connection.
    type Socket: Copy + Ord + fmt::Debug + Send;

    fn handle_open(&mut self, socket: Self::Socket, now: Instant);
    fn handle_frame(&mut self, socket: Self::Socket, frame: Frame, now: Instant);
    fn handle_close(&mut self, socket: Self::Socket, reason: CloseReason, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self) -> Option<Request<Self::Socket>>;
    fn poll_event(&mut self) -> Option<Self::Event>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn wants_frames(&self) -> bool;
}

/// Where the events of a machine go; it must not block.
pub(crate) trait Router<E>: Send + 'static {
    fn route(&mut self, event: E);
}

impl<E, F: FnMut(E) + Send + 'static> Router<E> for F {
    fn route(&mut self, event: E) {
        self(event);
    }
}

/// What a machine asks of the driver: `Transmit`, for any kind of socket name.
pub(crate) enum Request<S> {
    Open {
        socket: S,
        url: Secret,
    },
    Frame {
        socket: S,
        frame: Frame,
    },
    Close {
        socket: S,
        code: u16,
        reason: Cow<'static, str>,
    },
    /// Take over a connection that the peer opened.
    #[cfg(feature = "dev-server")]
    Adopt {
        socket: S,
        opening: Opening,
    },
    /// Drop the connection without a word.
    #[cfg(feature = "dev-server")]
    Abort {
        socket: S,
    },
}

impl From<Transmit> for Request<SocketId> {
    fn from(transmit: Transmit) -> Self {
        match transmit {
            Transmit::Open { socket, url } => Self::Open { socket, url: Secret::new(url.expose()) },
            Transmit::Frame { socket, frame } => Self::Frame { socket, frame },
            Transmit::Close { socket, code, reason } => Self::Close { socket, code, reason },
            // The core and this adapter are released together.
            other => {
                unreachable!("the core asks for something this driver does not know: {other:?}")
            }
        }
    }
}

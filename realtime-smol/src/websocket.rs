//! One open WebSocket, as frames.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use async_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use futures_sink::Sink;
use realtime_proto::{CloseReason, Frame};
use smol::Timer;
use smol::future::{self, FutureExt};
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smol::stream::Stream;

use crate::connector::Pipe;

/// The largest message that is accepted; a longer one ends the connection.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reading and writing go through buffers of this size; a received frame keeps its buffer alive.
const BUFFER_BYTES: usize = 32 * 1024;
/// A close frame holds at most this much text.
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// One open WebSocket, as frames.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: WebSocketStream<Transport>,
}

impl WebSocket {
    /// Takes over a connection whose handshake is done and from which `rest` was read already.
    pub(crate) async fn new(transport: Transport, rest: Vec<u8>, role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Self {
            stream: WebSocketStream::from_partially_read(transport, rest, role, Some(config)).await,
        }
    }

    /// The next data frame, or how the connection ended.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CloseReason>> {
        loop {
            let message = ready!(Pin::new(&mut self.stream).poll_next(cx));
            return Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => Ok(Frame::Text(text.into())),
                Some(Ok(Message::Binary(bytes))) => Ok(Frame::Binary(bytes)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(frame))) => Err(closed(frame)),
                Some(Err(error)) => Err(lost(&error)),
                None => Err(CloseReason::Lost {
                    detail: "the connection ended without a close frame".into(),
                }),
            });
        }
    }

    /// Ready when the next frame may be given to [`start_send`](Self::start_send).
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        Pin::new(&mut self.stream).poll_ready(cx).map_err(|error| lost(&error))
    }

    /// Takes one frame for sending; it goes out with the next flush at the latest.
    pub(crate) fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let message = match frame {
            Frame::Text(text) => Message::Text(utf8(text)?),
            Frame::Binary(bytes) => Message::Binary(bytes),
        };
        self.start_message(message)
    }

    /// Takes the close frame for sending; no frame may follow it.
    pub(crate) fn start_close(&mut self, code: u16, reason: &str) -> Result<(), CloseReason> {
        let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.start_message(Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: Utf8Bytes::from(&reason[..end]),
        })))
    }

    fn start_message(&mut self, message: Message) -> Result<(), CloseReason> {
        Pin::new(&mut self.stream).start_send(message).map_err(|error| lost(&error))
    }

    /// Ready when everything taken so far is with the operating system.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| lost(&error))
    }

    /// How many bytes the transport has taken, ever; a writer that sees it move is not stuck.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.stream.get_ref().bytes_written
    }

    /// Sends `frames` and a close frame, then waits for the peer to close, at most for `grace`.
    ///
    /// Without the wait a peer that still sends would have the connection reset, and could lose
    /// the close frame to that.
    pub(crate) async fn close(
        mut self,
        frames: VecDeque<Frame>,
        close: Option<(u16, &str)>,
        grace: Duration,
    ) {
        let farewell = async {
            for frame in frames {
                future::poll_fn(|cx| self.poll_ready(cx)).await?;
                self.start_send(frame)?;
            }
            if let Some((code, reason)) = close {
                future::poll_fn(|cx| self.poll_ready(cx)).await?;
                self.start_close(code, reason)?;
            }
            future::poll_fn(|cx| self.poll_flush(cx)).await?;
            loop {
                future::poll_fn(|cx| self.poll_frame(cx)).await?;
            }
        };
        let late = async {
            Timer::after(grace).await;
            Ok::<(), CloseReason>(())
        };
        // Nobody is left to be told how it went.
        let _ = farewell.or(late).await;
    }
}

/// What a WebSocket runs over.
#[derive(Debug)]
pub(crate) struct Transport {
    io: Io,
    bytes_written: u64,
}

#[derive(Debug)]
enum Io {
    Plain(Pipe),
    #[cfg(feature = "tls")]
    Tls(Box<crate::tls::TlsStream>),
}

impl From<Pipe> for Transport {
    fn from(pipe: Pipe) -> Self {
        Self { io: Io::Plain(pipe), bytes_written: 0 }
    }
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::from(Pipe::Tcp(stream))
    }
}

#[cfg(feature = "tls")]
impl From<crate::tls::TlsStream> for Transport {
    fn from(stream: crate::tls::TlsStream) -> Self {
        Self { io: Io::Tls(Box::new(stream)), bytes_written: 0 }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        })?;
        self.bytes_written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_close(cx),
            #[cfg(feature = "tls")]
            Io::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}

fn utf8(text: Bytes) -> Result<Utf8Bytes, CloseReason> {
    Utf8Bytes::try_from(text).map_err(|error| CloseReason::Lost {
        detail: format!("a text frame to send is not UTF-8: {error}"),
    })
}

fn closed(frame: Option<CloseFrame>) -> CloseReason {
    match frame {
        Some(CloseFrame { code, reason }) => {
            CloseReason::Closed { code: code.into(), reason: reason.as_str().into() }
        }
        None => CloseReason::Closed { code: 1005, reason: String::new() },
    }
}

fn lost(error: &Error) -> CloseReason {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's own sentence is good enough for the rest"
    )]
    let detail = match error {
        Error::Io(error) => format!("the connection broke: {error}"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the connection ended without a close frame".into()
        }
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("the peer sent a message of {size} bytes; at most {max_size} are accepted")
        }
        Error::Protocol(violation) => format!("the peer broke the WebSocket protocol: {violation}"),
        other => format!("the connection failed: {other}"),
    };
    CloseReason::Lost { detail }
}

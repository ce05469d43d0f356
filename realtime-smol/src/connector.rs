//! How the bytes of a connection get to the server: over TCP, or as the application says.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

use crate::tls::TlsConfig;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;
type Connect = dyn Fn(String, u16) -> Connecting + Send + Sync;

/// How a host is reached, and whom to trust there.
#[derive(Clone, Default)]
pub(crate) struct Connector {
    pub(crate) tls: TlsConfig,
    /// What is used in place of TCP.
    connect: Option<Arc<Connect>>,
}

impl Connector {
    #[cfg(test)]
    pub(crate) fn trusting(tls: TlsConfig) -> Self {
        Self { tls, connect: None }
    }

    /// Reaches hosts by calling `connect` with name and port.
    pub(crate) fn replace_tcp<F, S>(
        &mut self,
        connect: impl Fn(String, u16) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connect = Some(Arc::new(move |host, port| {
            let connecting = connect(host, port);
            Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Stream>) })
        }));
    }

    /// A stream of the application's own making; none where TCP is used.
    pub(crate) async fn own(&self, host: &str, port: u16) -> Option<io::Result<Pipe>> {
        let connect = self.connect.as_ref()?;
        Some(connect(host.to_owned(), port).await.map(Pipe::Own))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("tls", &self.tls)
            .field("replaces_tcp", &self.connect.is_some())
            .finish()
    }
}

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What TLS or a WebSocket runs over.
pub(crate) enum Pipe {
    Tcp(TcpStream),
    Own(Box<dyn Stream>),
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Own(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Own(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Own(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_close(cx),
            Self::Own(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Own(_) => "Own",
        })
    }
}

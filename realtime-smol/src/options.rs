//! What an adapter is told beside the settings of the core.

use core::future::Future;
use core::time::Duration;
use std::io;

use realtime_proto::Secret;
use smol::future::FutureExt;
use smol::io::{AsyncRead, AsyncWrite};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::commands::WeakCommands;
use crate::driver::DriverConfig;
use crate::tls::TlsConfig;
use crate::tokens::{Due, TokenError, TokenSource, TokenUser, Tokens};

/// The settings of the adapter.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_smol::Options;
///
/// let options = Options::default().with_write_timeout(Duration::from_secs(5));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    driver: DriverConfig,
    pub(crate) events_queued_max: usize,
    pub(crate) tokens: Option<TokenSource>,
    pub(crate) logger: Option<Dispatch>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: DriverConfig::default(),
            events_queued_max: 1_024,
            tokens: None,
            logger: None,
        }
    }
}

impl Options {
    /// Sets whom to trust on `wss` connections. Default: the roots that browsers trust.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.driver.connector.tls = tls;
        self
    }

    /// Sets how long a connection may take no byte at all before it counts as lost. Default 10 s.
    #[must_use]
    pub fn with_write_timeout(mut self, timeout: Duration) -> Self {
        self.driver.write_timeout = timeout;
        self
    }

    /// Sets how many events wait for one listener before more are dropped and counted. Default
    /// 1,024.
    #[must_use]
    pub const fn with_events_queued_max(mut self, events: usize) -> Self {
        self.events_queued_max = events;
        self
    }

    /// Sets where access tokens come from, instead of calls of `set_access_token`. Default: only
    /// from there.
    ///
    /// `tokens` is called before the first connection is opened, which waits for it for 10 s; on
    /// every heartbeat; whenever a connection was lost; and when a token is needed, then again
    /// every 5 s until it brings another one. It returns `None` when nobody is signed in. An error
    /// is logged, and the token stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::Options;
    /// use realtime_smol::proto::Secret;
    ///
    /// async fn session_token() -> Result<Option<Secret>, std::io::Error> {
    ///     Ok(Some(Secret::new("eyJhbGciOi")))
    /// }
    ///
    /// let options = Options::default().with_access_tokens(|| async { Ok(session_token().await?) });
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn with_access_tokens<F>(mut self, tokens: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Secret>, TokenError>> + Send + 'static,
    {
        self.tokens = Some(TokenSource::new(tokens));
        self
    }

    /// Sets where log lines go, and with the subscriber's filter which. Default: to the subscriber
    /// of the process.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::Options;
    /// use tracing::Dispatch;
    /// use tracing::subscriber::NoSubscriber;
    ///
    /// // This one says nothing, whatever the others say.
    /// let options = Options::default().with_logger(Dispatch::new(NoSubscriber::new()));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn with_logger(mut self, logger: impl Into<Dispatch>) -> Self {
        self.logger = Some(logger.into());
        self
    }

    /// Sets how the bytes of a connection get to a host and port: through a proxy, a tunnel, a
    /// pipe in a test. TLS and the WebSocket run over it. Default: over TCP.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::Options;
    /// use smol::net::unix::UnixStream;
    ///
    /// // Every host is behind the same gateway on this machine.
    /// let options = Options::default()
    ///     .with_connector(|_host, _port| UnixStream::connect("/run/gateway.sock"));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn with_connector<F, S>(
        mut self,
        connect: impl Fn(String, u16) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.driver.connector.replace_tcp(connect);
        self
    }

    /// What asks for tokens, and how it is told that one is due.
    pub(crate) fn tokens(&self) -> Option<(Tokens, Due)> {
        self.tokens.clone().map(Tokens::new)
    }

    /// The work of a driver, with what the settings put around it.
    pub(crate) fn surround<S: TokenUser>(
        &self,
        driver: impl Future<Output = ()> + Send + 'static,
        tokens: Option<Tokens>,
        commands: WeakCommands<S>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let logger = self.logger.clone();
        async move {
            let work = async move {
                match tokens {
                    Some(tokens) => driver.or(tokens.keep(commands)).await,
                    None => driver.await,
                }
            };
            match logger {
                Some(logger) => work.with_subscriber(logger).await,
                None => work.await,
            }
        }
    }

    pub(crate) fn driver(&self) -> DriverConfig {
        self.driver.clone()
    }
}

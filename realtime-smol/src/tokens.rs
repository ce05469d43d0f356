//! Access tokens that the application is asked for, rather than telling them.

use core::error::Error;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use realtime_proto::{Instant, Secret};
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{FutureExt, pending};
use tracing::warn;

use crate::commands::{Gone, WeakCommands};

/// Why the application has no token to give.
pub type TokenError = Box<dyn Error + Send + Sync>;

type Asking = Pin<Box<dyn Future<Output = Result<Option<Secret>, TokenError>> + Send>>;

/// How long a token is waited for.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon it is asked for again while another one is needed.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the application is asked with.
#[derive(Clone)]
pub(crate) struct TokenSource(Arc<dyn Fn() -> Asking + Send + Sync>);

impl TokenSource {
    pub(crate) fn new<F>(tokens: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Secret>, TokenError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(tokens())))
    }

    /// The token of this moment; `None` when the application could not tell.
    async fn ask(&self) -> Option<Option<Secret>> {
        let late = async {
            Timer::after(TOKEN_TIMEOUT).await;
            Err(format!("no answer came within {TOKEN_TIMEOUT:?}").into())
        };
        match (self.0)().or(late).await {
            Ok(token) => Some(token),
            Err(error) => {
                warn!(%error, "the application has no access token");
                None
            }
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// A state that uses access tokens.
pub(crate) trait TokenUser: Send + 'static {
    fn set_access_token(&mut self, token: Option<Secret>, now: Instant);
    fn connect(&mut self, now: Instant);
}

/// How the task that owns the state says that a token may be due; it never waits.
#[derive(Debug)]
pub(crate) struct Due {
    sender: Sender<()>,
    needed: Arc<AtomicBool>,
}

impl Due {
    /// It may have changed.
    pub(crate) fn tell(&self) {
        // One that waits already says the same.
        let _ = self.sender.try_send(());
    }

    /// The current one serves no more, or not for long.
    pub(crate) fn tell_needed(&self) {
        self.needed.store(true, Ordering::Release);
        self.tell();
    }
}

/// Asks for tokens when they are due.
pub(crate) struct Tokens {
    source: TokenSource,
    due: Receiver<()>,
    needed: Arc<AtomicBool>,
}

impl Tokens {
    pub(crate) fn new(source: TokenSource) -> (Self, Due) {
        let (sender, due) = bounded(1);
        let needed = Arc::new(AtomicBool::new(false));
        (Self { source, due, needed: Arc::clone(&needed) }, Due { sender, needed })
    }

    /// Asks for the first token, has the state connect, and asks again whenever one is due. Never
    /// ends, so that the driver beside it does.
    pub(crate) async fn keep<S: TokenUser>(self, commands: WeakCommands<S>) {
        let first = self.source.ask().await;
        let connected = commands.upgrade().map(|commands| async move {
            let connect = commands.call(move |state, now| {
                if let Some(token) = &first {
                    state.set_access_token(token.clone(), now);
                }
                state.connect(now);
                first
            });
            connect.await
        });
        if let Ok(connected) = connected {
            // The task is gone when this fails, and asking is over with it.
            if let Ok(first) = connected.await {
                let _ = self.renew(commands, first).await;
            }
        }
        pending().await
    }

    async fn renew<S: TokenUser>(
        &self,
        commands: WeakCommands<S>,
        mut told: Option<Option<Secret>>,
    ) -> Result<(), Gone> {
        loop {
            let again = async {
                if self.needed.load(Ordering::Acquire) {
                    Timer::after(AGAIN_AFTER).await;
                    return Ok(());
                }
                pending().await
            };
            self.due.recv().or(again).await.map_err(|_| Gone)?;
            let Some(token) = self.source.ask().await else { continue };
            if told.as_ref() == Some(&token) {
                continue;
            }
            // Whatever is said from here on is said of this one.
            self.needed.store(false, Ordering::Release);
            told = Some(token.clone());
            commands.upgrade()?.call(move |state, now| state.set_access_token(token, now)).await?;
        }
    }
}

//! A Realtime server on this machine, for development and tests.

mod hub;
#[cfg(test)]
mod tests;
mod visit;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use realtime_proto::Payload;
use realtime_proto::server::{RowChange, Server, ServerConfig, ServerEvent, ServerStats};
use smol::future::FutureExt;
use smol::lock::Semaphore;
use smol::{Async, Executor, Timer};

use self::hub::Hub;
use self::visit::visit;
use crate::clock::{self, Clock};
use crate::commands::{Commands, Gone, WeakCommands};
use crate::driver::{Driver, DriverConfig, Overflow};

/// The most frames that wait for one client; with more, the client is too slow and is cut off.
const OUTBOX_FRAMES_MAX: usize = 1024;
/// The most requests and handshakes at the same time; further connections wait.
const VISITS_MAX: usize = 64;
/// How long to wait after the system refused to give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Router = Box<dyn FnMut(ServerEvent) + Send>;

/// How a [`DevServer`] behaves.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DevServerConfig {
    /// What the protocol half does, for instance which joins it refuses.
    pub server: ServerConfig,
    /// The seed of its choices; drawn from the system when there is none.
    pub seed: Option<u64>,
}

/// A Realtime server on this machine, for development and tests.
///
/// It speaks the WebSocket protocol at `/socket/websocket` and `/realtime/v1/websocket`, and has
/// no database: row changes are told to it, by [`DevServerHandle::change`] or over HTTP.
///
/// | request | does |
/// |---|---|
/// | `POST /dev/changes` | tells a row change: `{"table", "type", "record", "old_record"}` |
/// | `POST /dev/broadcasts/TOPIC/EVENT` | broadcasts the body as the database does, privately unless with `?private=false` |
/// | `POST /dev/failures/TOPIC` | lets row changes fail, with the body as message; for good, or until `?again_after=SECONDS` |
/// | `POST /dev/cut` | drops every connection, as a broken network would |
/// | `POST /api/broadcast`, `POST /api/broadcast/TOPIC/events/EVENT` | broadcasts, as on Supabase |
/// | `GET /dev/stats` | counts connections, channels and frames |
///
/// # Examples
///
/// ```
/// use realtime_smol::proto::server::RowChange;
/// use realtime_smol::{DevServer, DevServerConfig};
///
/// # smol::block_on(async {
/// let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
/// let change = RowChange::from_json(
///     r#"{"table": "messages", "type": "INSERT", "record": {"id": 1}}"#,
/// )?;
/// assert_eq!(server.change(change).await?, 0, "nobody listens yet");
/// server.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "a server serves nobody until it runs"]
pub struct DevServer {
    listener: Async<TcpListener>,
    driver: Driver<Hub, Router>,
    handle: DevServerHandle,
}

impl DevServer {
    /// Listens on `address`; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// Whatever the system says, for instance that the port is taken.
    pub fn bind(address: impl Into<SocketAddr>, config: DevServerConfig) -> io::Result<Self> {
        let listener = Async::<TcpListener>::bind(address)?;
        let address = listener.get_ref().local_addr()?;
        let clock = Clock::start();
        let seed = config.seed.unwrap_or_else(clock::entropy);
        let hub = Hub::new(Server::new(config.server, seed, clock.now()));
        let (driver, commands) = Driver::new(
            hub,
            Box::new(|_| {}) as Router,
            clock,
            DriverConfig {
                outbox_frames_max: OUTBOX_FRAMES_MAX,
                overflow: Overflow::Drop,
                ..DriverConfig::default()
            },
        );
        let handle = DevServerHandle { address, commands };
        Ok(Self { listener, driver, handle })
    }

    /// Calls `on_event` for all that happens; it must not block.
    pub fn on_event(mut self, on_event: impl FnMut(ServerEvent) + Send + 'static) -> Self {
        self.driver.set_router(Box::new(on_event));
        self
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.address
    }

    /// The endpoint for clients, for instance `ws://127.0.0.1:4000/socket`.
    #[must_use]
    pub fn url(&self) -> String {
        self.handle.url()
    }

    /// A handle to it, of use once it runs.
    #[must_use]
    pub fn handle(&self) -> DevServerHandle {
        self.handle.clone()
    }

    /// Serves until [`DevServerHandle::shutdown`], on any executor.
    pub async fn run(self) {
        let _running_without_handles = self.handle.clone();
        self.serve().await;
    }

    /// Serves in the background until the last handle is dropped, or
    /// [`DevServerHandle::shutdown`].
    #[must_use = "the server ends when its last handle is dropped"]
    pub fn spawn(self) -> DevServerHandle {
        let handle = self.handle.clone();
        smol::spawn(self.serve()).detach();
        handle
    }

    async fn serve(self) {
        let Self { listener, driver, handle } = self;
        let commands = handle.commands.downgrade();
        drop(handle);
        let visits = Executor::new();
        visits.run(driver.or(accept(&listener, &commands, &visits))).await;
    }
}

/// Lets clients in, a bounded number at a time, each served by a task of its own.
async fn accept(
    listener: &Async<TcpListener>,
    commands: &WeakCommands<Hub>,
    visits: &Executor<'_>,
) {
    let room = Arc::new(Semaphore::new(VISITS_MAX));
    loop {
        let permit = room.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let commands = commands.clone();
                let served = async move {
                    visit(stream.into(), &commands).await;
                    drop(permit);
                };
                visits.spawn(served).detach();
            }
            // Out of file descriptors, most likely; some come back as clients go.
            Err(_) => {
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl fmt::Debug for DevServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevServer").field("address", &self.handle.address).finish_non_exhaustive()
    }
}

/// Reaches a running [`DevServer`].
#[derive(Clone, Debug)]
pub struct DevServerHandle {
    address: SocketAddr,
    commands: Commands<Hub>,
}

impl DevServerHandle {
    /// The address the server listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint for clients, for instance `ws://127.0.0.1:4000/socket`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/socket", self.address)
    }

    /// Tells a row change to every channel that listens for it, and returns how many did.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn change(&self, change: RowChange) -> Result<usize, DevServerGone> {
        let told = self.commands.call(move |hub, now| hub.change(&change, now));
        Ok(told.await?)
    }

    /// Broadcasts as the database does, with an id, and returns the id.
    ///
    /// The topic is whole, `realtime:` included. Private broadcasts are kept for replay. `None` for
    /// JSON that is no object, which is dropped.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn send_from_database(
        &self,
        topic: impl Into<String>,
        event: impl Into<String>,
        payload: Payload,
        private: bool,
    ) -> Result<Option<String>, DevServerGone> {
        let (topic, event) = (topic.into(), event.into());
        let sent = self.commands.call(move |hub, now| {
            hub.server().send_from_database(&topic, &event, &payload, private, now)
        });
        Ok(sent.await?)
    }

    /// Lets the row changes of a whole topic fail with a message, for good or for a while, and
    /// returns for how many channels.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn fail_changes(
        &self,
        topic: impl Into<String>,
        message: impl Into<String>,
        again_after: Option<Duration>,
    ) -> Result<usize, DevServerGone> {
        let (topic, message) = (topic.into(), message.into());
        let failed = self
            .commands
            .call(move |hub, now| hub.server().fail_changes(&topic, &message, again_after, now));
        Ok(failed.await?)
    }

    /// Changes how the server behaves from now on, for instance its policy.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_smol::proto::server::Policy;
    /// use realtime_smol::{DevServer, DevServerConfig};
    ///
    /// # smol::block_on(async {
    /// let server = DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default())?.spawn();
    /// server.configure(|config| config.policy = Policy::closed()).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn configure(
        &self,
        change: impl FnOnce(&mut ServerConfig) + Send + 'static,
    ) -> Result<(), DevServerGone> {
        let changed = self.commands.call(move |hub, _| {
            let mut config = hub.server().config().clone();
            change(&mut config);
            hub.server().set_config(config);
        });
        Ok(changed.await?)
    }

    /// Drops every connection without a word, as a broken network would, and returns how many.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn cut_all(&self) -> Result<usize, DevServerGone> {
        Ok(self.commands.call(Hub::cut_all).await?)
    }

    /// Closes every connection with code 1012, as a restart would, and returns how many.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn restart_all(&self) -> Result<usize, DevServerGone> {
        let closed = self.commands.call(|hub, now| hub.close_all(1012, "service restart", now));
        Ok(closed.await?)
    }

    /// What the server has and has done.
    ///
    /// # Errors
    ///
    /// [`DevServerGone`] when the server has ended.
    pub async fn stats(&self) -> Result<ServerStats, DevServerGone> {
        Ok(self.commands.call(|hub, _| hub.stats()).await?)
    }

    /// Closes every connection with code 1001 and ends the server.
    ///
    /// Returns once that is under way; a server that has ended already is no error.
    pub async fn shutdown(&self) {
        let closed = self.commands.call(|hub, now| hub.close_all(1001, "server shutdown", now));
        if closed.await.is_ok() {
            let _ = self.commands.shutdown().await;
        }
    }
}

/// The [`DevServer`] has ended, so it cannot do what was asked; start another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the development server has ended; start another")]
#[non_exhaustive]
pub struct DevServerGone;

impl From<Gone> for DevServerGone {
    fn from(_: Gone) -> Self {
        Self
    }
}

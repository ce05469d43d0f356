//! A Realtime server on this machine, for development and tests.

mod hub;
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

#[cfg(test)]
mod tests {
    use realtime_proto::{CloseReason, Frame};
    use smol::future::poll_fn;
    use smol::io::{AsyncReadExt, AsyncWriteExt};
    use smol::net::TcpStream;

    use super::*;
    use crate::connector::Connector;
    use crate::transport::dial;
    use crate::websocket::WebSocket;

    fn start() -> DevServerHandle {
        DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default()).unwrap().spawn()
    }

    async fn join(server: &DevServerHandle) -> WebSocket {
        let url = format!("{}/websocket?vsn=2.0.0", server.url());
        let mut socket = dial(&url, &Connector::default()).await.unwrap();
        let join = r#"["1","1","realtime:room","phx_join",{"config":{"postgres_changes":[
            {"event":"*","schema":"public","table":"messages"}]}}]"#;
        socket.start_send(Frame::text(join)).unwrap();
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
        while !hear(&mut socket).await.contains("Subscribed to PostgreSQL") {}
        socket
    }

    async fn next(socket: &mut WebSocket) -> Result<String, CloseReason> {
        let frame = poll_fn(|cx| socket.poll_frame(cx)).await?;
        Ok(String::from_utf8(frame.as_bytes().to_vec()).unwrap())
    }

    async fn hear(socket: &mut WebSocket) -> String {
        next(socket).await.unwrap()
    }

    async fn end(socket: &mut WebSocket) -> CloseReason {
        loop {
            if let Err(reason) = next(socket).await {
                return reason;
            }
        }
    }

    /// Sends `request` as it is and returns the whole answer.
    async fn exchange(server: &DevServerHandle, request: &str) -> String {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn post(server: &DevServerHandle, path: &str, body: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let answer = exchange(server, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        (status.to_owned(), body.to_owned())
    }

    #[test]
    fn a_change_posted_over_http_reaches_a_client() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            let change = r#"{"schema": "public", "table": "messages", "type": "INSERT",
                "record": {"id": 7}, "old_record": null}"#;
            assert_eq!(
                post(&server, "/dev/changes", change).await,
                ("HTTP/1.1 202 Accepted".into(), r#"{"delivered": 1}"#.into()),
            );
            let told = hear(&mut socket).await;
            assert!(told.contains("postgres_changes"), "{told}");
            assert!(told.contains(r#""id":7"#) || told.contains(r#""id": 7"#), "{told}");
        });
    }

    #[test]
    fn a_broadcast_posted_over_http_reaches_a_client() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            let batch = r#"{"messages":[{"topic":"room","event":"e","payload":{"n":1}}]}"#;
            let accepted = ("HTTP/1.1 202 Accepted".to_owned(), String::new());
            assert_eq!(post(&server, "/api/broadcast", batch).await, accepted);
            assert_eq!(
                hear(&mut socket).await,
                r#"[null,null,"realtime:room","broadcast",{"event":"e","payload":{"n":1},"type":"broadcast"}]"#
            );
            let (status, body) = post(&server, "/realtime/v1/api/broadcast", "{}").await;
            assert_eq!(status, "HTTP/1.1 422 Unprocessable Content");
            assert_eq!(body, r#"{"errors":{"messages":["can't be blank"]}}"#);
            let (status, _) = post(&server, "/api/broadcast/room", "{}").await;
            assert_eq!(status, "HTTP/1.1 404 Not Found");
        });
    }

    #[test]
    fn the_database_broadcasts_and_fails_over_http_too() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            let path = "/dev/broadcasts/room/moved?private=false";
            let (status, body) = post(&server, path, r#"{"x":1}"#).await;
            assert_eq!((&*status, body.len()), ("HTTP/1.1 202 Accepted", 46), "{body}");
            let told = poll_fn(|cx| socket.poll_frame(cx)).await.unwrap();
            let told = String::from_utf8_lossy(told.as_bytes()).into_owned();
            assert!(told.contains("moved") && told.contains(r#""x":1"#), "{told}");
            let (_, body) = post(&server, path, "[1]").await;
            assert_eq!(body, r#"{"error": "the payload is JSON and no object"}"#);

            let path = "/dev/failures/room?again_after=0";
            let (_, body) = post(&server, path, "Too many database timeouts").await;
            assert_eq!(body, r#"{"failed": 1}"#);
            assert!(hear(&mut socket).await.contains("Too many database timeouts"));
            assert!(hear(&mut socket).await.contains("Subscribed to PostgreSQL"));
        });
    }

    #[test]
    fn a_server_can_be_told_to_behave_otherwise_while_it_runs() {
        smol::block_on(async {
            let server = start();
            server.configure(|config| config.sessions_max = 0).await.unwrap();
            let url = format!("{}/websocket?vsn=2.0.0", server.url());
            let refused = dial(&url, &Connector::default()).await.unwrap_err();
            assert!(matches!(refused, CloseReason::Refused { status: 429, .. }));
        });
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused_with_the_reason() {
        smol::block_on(async {
            let server = start();
            assert_eq!(
                post(&server, "/dev/changes", r#"{"table": "messages"}"#).await,
                (
                    "HTTP/1.1 400 Bad Request".into(),
                    r#"{"error": "the row change has no `type`; write INSERT, UPDATE or DELETE"}"#
                        .into()
                ),
            );
        });
    }

    #[test]
    fn a_body_that_is_too_long_is_refused() {
        smol::block_on(async {
            let server = start();
            let body = " ".repeat(1024 * 1024 + 1);
            let (status, _) = post(&server, "/dev/changes", &body).await;
            assert_eq!(status, "HTTP/1.1 413 Content Too Large");
        });
    }

    #[test]
    fn a_cut_ends_every_connection_without_a_close_frame() {
        smol::block_on(async {
            let server = start();
            let mut sockets = [join(&server).await, join(&server).await];
            assert_eq!(post(&server, "/dev/cut", "").await.1, r#"{"cut": 2}"#.to_owned());
            for socket in &mut sockets {
                assert!(matches!(end(socket).await, CloseReason::Lost { .. }));
            }
            assert_eq!(server.stats().await.unwrap().sessions, 0);
        });
    }

    #[test]
    fn a_restart_closes_with_1012() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            assert_eq!(server.restart_all().await, Ok(1));
            let reason = "service restart".into();
            assert_eq!(end(&mut socket).await, CloseReason::Closed { code: 1012, reason });
        });
    }

    #[test]
    fn stats_are_json() {
        smol::block_on(async {
            let server = start();
            let _socket = join(&server).await;
            let answer = exchange(&server, "GET /dev/stats HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert!(answer.contains(r#"{"sessions": 1, "channels": 1,"#), "{answer}");
        });
    }

    #[test]
    fn an_unknown_path_is_a_404_that_names_the_known_ones() {
        smol::block_on(async {
            let server = start();
            let answer = exchange(&server, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
            assert!(answer.contains("POST /dev/changes"), "{answer}");
        });
    }

    #[test]
    fn an_upgrade_on_another_path_is_refused() {
        smol::block_on(async {
            let server = start();
            let url = format!("ws://{}/elsewhere", server.local_addr());
            let refused = dial(&url, &Connector::default()).await.unwrap_err();
            assert!(matches!(refused, CloseReason::Refused { status: 404, .. }));
        });
    }

    #[test]
    fn what_is_not_http_is_told_so() {
        smol::block_on(async {
            let answer = exchange(&start(), "\u{1}\u{2} nonsense\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
        });
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_off_and_others_go_on() {
        smol::block_on(async {
            let server = start();
            let _stuck = join(&server).await;
            let record = format!(r#"{{"id": 1, "text": "{}"}}"#, "x".repeat(100_000));
            let change = RowChange::from_json(&format!(
                r#"{{"table": "messages", "type": "INSERT", "record": {record}}}"#
            ))
            .unwrap();
            while server.stats().await.unwrap().sessions == 1 {
                server.change(change.clone()).await.unwrap();
            }
            join(&server).await;
        });
    }

    #[test]
    fn a_shutdown_closes_with_1001_and_later_calls_hear_of_it() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            server.shutdown().await;
            assert!(matches!(end(&mut socket).await, CloseReason::Closed { code: 1001, .. }));
            drop(socket);
            while server.stats().await.is_ok() {}
            server.shutdown().await;
        });
    }

    #[test]
    fn a_server_without_handles_ends() {
        smol::block_on(async {
            let server = start();
            let mut socket = join(&server).await;
            drop(server);
            assert!(matches!(end(&mut socket).await, CloseReason::Closed { .. }));
        });
    }
}

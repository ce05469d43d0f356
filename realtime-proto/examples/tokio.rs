//! Drives a client on tokio, over `tokio-tungstenite`, in one task.
//!
//! ```text
//! cargo realtime serve
//! cargo run --package realtime-proto --example tokio -- ws://127.0.0.1:4010/socket
//! ```

mod host;
mod room;

use core::time::Duration;

use futures_util::{SinkExt, StreamExt};
use host::{Clock, Failure};
use realtime_proto::{Client, CloseReason, Config, Instant, SocketId, Transmit};
use room::Room;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long opening, writing and closing may take.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:4010/socket".into());
    // Time and entropy are given: the core reads no clock and draws nothing.
    let (clock, now) = (Clock::start(), Instant::EPOCH);
    let mut client = Client::new(Config::builder(url).build()?, host::seed(), now);
    client.set_unix_time(host::unix_time(), now);
    let mut room = Room::enter(&mut client, format!("tokio-{}", std::process::id()), now)?;
    client.connect(now);
    let mut driver = Driver { client, clock, socket: None };
    while !room.is_left() {
        // 1. Do what there is to do.
        driver.transmit().await;
        // 2. Take what happened; what the application does about it is taken in the next round.
        while let Some(event) = driver.client.poll_event() {
            let now = driver.clock.now();
            room.on_event(&event, &mut driver.client, now)?;
        }
        // 3. Sleep until the deadline or a frame.
        driver.wait().await;
        room.check_deadline(driver.clock.now())?;
    }
    driver.client.disconnect(driver.clock.now());
    driver.transmit().await;
    Ok(())
}

struct Driver {
    client: Client,
    clock: Clock,
    socket: Option<(SocketId, WebSocketStream<MaybeTlsStream<TcpStream>>)>,
}

impl Driver {
    /// Step 1: opens, writes and closes, in the order asked for. Each is waited for, which is
    /// enough for one task that has nothing else to do; the timeouts keep it from being stuck.
    async fn transmit(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            match transmit {
                Transmit::Open { socket, url } => {
                    match timeout(IO_TIMEOUT, connect_async(url.expose())).await {
                        Ok(Ok((websocket, _))) => {
                            self.socket = Some((socket, websocket));
                            self.client.handle_open(socket, self.clock.now());
                        }
                        Ok(Err(error)) => self.lose(socket, host::not_opened(error)),
                        // The client has a deadline of its own for this.
                        Err(_) => self.client.handle_timeout(self.clock.now()),
                    }
                }
                Transmit::Frame { socket, frame } => {
                    let Some((_, websocket)) = &mut self.socket else { continue };
                    let write = async { websocket.send(host::message(frame)?).await };
                    match timeout(IO_TIMEOUT, write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => self.lose(socket, host::lost(&error)),
                        Err(_) => self.lose(socket, CloseReason::WriteTimeout),
                    }
                }
                Transmit::Close { code, reason, .. } => {
                    let Some((_, mut websocket)) = self.socket.take() else { continue };
                    let close = websocket.close(Some(host::close_frame(code, &reason)));
                    // A connection that cannot be told has ended as well.
                    let _ = timeout(IO_TIMEOUT, close).await;
                }
                other => unreachable!("this version asks for no {other:?}"),
            }
        }
    }

    /// Step 3: sleeps until the deadline, a frame, or the end of the connection.
    async fn wait(&mut self) {
        let deadline =
            self.client.poll_timeout().map_or(room::DEADLINE, |at| at.min(room::DEADLINE));
        let left = deadline.saturating_duration_since(self.clock.now());
        match &mut self.socket {
            Some((socket, websocket)) if self.client.wants_frames() => {
                let socket = *socket;
                let received = timeout(left, websocket.next()).await;
                match received.map_or(Ok(None), host::received) {
                    Ok(Some(frame)) => self.client.handle_frame(socket, frame, self.clock.now()),
                    Ok(None) => {}
                    Err(reason) => self.lose(socket, reason),
                }
            }
            Some(_) | None => sleep(left).await,
        }
        // Early calls do nothing.
        self.client.handle_timeout(self.clock.now());
    }

    fn lose(&mut self, socket: SocketId, reason: CloseReason) {
        self.socket = None;
        self.client.handle_close(socket, reason, self.clock.now());
    }
}

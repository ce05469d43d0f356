//! Drives a client over a blocking WebSocket: one thread, the standard library and `tungstenite`.
//!
//! ```text
//! cargo realtime serve
//! cargo run --package realtime-proto --example blocking -- ws://127.0.0.1:4010/socket
//! ```

mod host;
mod room;

use std::net::TcpStream;
use std::{io, thread};

use host::{Clock, Failure};
use realtime_proto::{Client, CloseReason, Config, Instant, SocketId, Transmit};
use room::Room;
use tungstenite::WebSocket;
use tungstenite::stream::MaybeTlsStream;

fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:4010/socket".into());
    // Time and entropy are given: the core reads no clock and draws nothing.
    let (clock, now) = (Clock::start(), Instant::EPOCH);
    let mut client = Client::new(Config::builder(url).build()?, host::seed(), now);
    client.set_unix_time(host::unix_time(), now);
    let mut room = Room::enter(&mut client, format!("blocking-{}", std::process::id()), now)?;
    client.connect(now);
    let mut driver = Driver { client, clock, socket: None };
    while !room.is_left() {
        // 1. Do what there is to do.
        driver.transmit();
        // 2. Take what happened; what the application does about it is taken in the next round.
        while let Some(event) = driver.client.poll_event() {
            let now = driver.clock.now();
            room.on_event(&event, &mut driver.client, now)?;
        }
        // 3. Sleep until the deadline or a frame.
        driver.wait()?;
        room.check_deadline(driver.clock.now())?;
    }
    driver.client.disconnect(driver.clock.now());
    driver.transmit();
    Ok(())
}

struct Driver {
    client: Client,
    clock: Clock,
    socket: Option<(SocketId, WebSocket<MaybeTlsStream<TcpStream>>)>,
}

impl Driver {
    /// Step 1: opens, writes and closes, in the order asked for.
    fn transmit(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            match transmit {
                Transmit::Open { socket, url } => match tungstenite::connect(url.expose()) {
                    Ok((websocket, _)) => {
                        self.socket = Some((socket, websocket));
                        self.client.handle_open(socket, self.clock.now());
                    }
                    Err(error) => self.lose(socket, host::not_opened(error)),
                },
                Transmit::Frame { socket, frame } => {
                    let Some((_, websocket)) = &mut self.socket else { continue };
                    if let Err(error) = host::message(frame).and_then(|sent| websocket.send(sent)) {
                        self.lose(socket, host::lost(&error));
                    }
                }
                Transmit::Close { code, reason, .. } => {
                    let Some((_, mut websocket)) = self.socket.take() else { continue };
                    // A connection that cannot be told has ended as well.
                    let _ = websocket.close(Some(host::close_frame(code, &reason)));
                }
                other => unreachable!("this version asks for no {other:?}"),
            }
        }
    }

    /// Step 3: sleeps until the deadline, a frame, or the end of the connection.
    fn wait(&mut self) -> io::Result<()> {
        let deadline =
            self.client.poll_timeout().map_or(room::DEADLINE, |at| at.min(room::DEADLINE));
        let left = deadline.saturating_duration_since(self.clock.now());
        match &mut self.socket {
            _ if left.is_zero() => {}
            Some((socket, websocket)) if self.client.wants_frames() => {
                let socket = *socket;
                if let MaybeTlsStream::Plain(stream) = websocket.get_ref() {
                    stream.set_read_timeout(Some(left))?;
                }
                match host::received(Some(websocket.read())) {
                    Ok(Some(frame)) => self.client.handle_frame(socket, frame, self.clock.now()),
                    Ok(None) => {}
                    Err(reason) => self.lose(socket, reason),
                }
            }
            Some(_) | None => thread::park_timeout(left),
        }
        // Early calls do nothing.
        self.client.handle_timeout(self.clock.now());
        Ok(())
    }

    fn lose(&mut self, socket: SocketId, reason: CloseReason) {
        self.socket = None;
        self.client.handle_close(socket, reason, self.clock.now());
    }
}

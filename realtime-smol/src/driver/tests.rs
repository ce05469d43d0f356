//! The driver with a machine that asks for what it is told to ask for.

use std::collections::VecDeque;

use async_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use async_tungstenite::{WebSocketStream, accept_async};
use realtime_proto::{Frame, Secret};
use smol::Task;
use smol::channel::Receiver;
use smol::io::AsyncReadExt;
use smol::net::{TcpListener, TcpStream};
use smol::stream::StreamExt;

use super::*;
use crate::commands::Gone;

const FLOOD_FRAMES: usize = 96;

/// A machine that asks for what it is told to ask for, and tells all it hears.
struct Fake {
    requests: VecDeque<Request<u8>>,
    heard: VecDeque<Heard>,
    deadline: Option<Instant>,
    wants_frames: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Open(u8),
    Text(u8, String),
    Close(u8, CloseReason),
    Timeout,
}

impl Machine for Fake {
    type Event = Heard;
    type Socket = u8;

    fn handle_open(&mut self, socket: u8, _now: Instant) {
        self.heard.push_back(Heard::Open(socket));
    }

    fn handle_frame(&mut self, socket: u8, frame: Frame, _now: Instant) {
        let text = String::from_utf8(frame.as_bytes().to_vec()).unwrap();
        self.heard.push_back(Heard::Text(socket, text));
    }

    fn handle_close(&mut self, socket: u8, reason: CloseReason, _now: Instant) {
        self.heard.push_back(Heard::Close(socket, reason));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.take_if(|at| *at <= now).is_some() {
            self.heard.push_back(Heard::Timeout);
        }
    }

    fn poll_transmit(&mut self) -> Option<Request<u8>> {
        self.requests.pop_front()
    }

    fn poll_event(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.requests.is_empty() && self.heard.is_empty() {
            self.deadline
        } else {
            Some(Instant::EPOCH)
        }
    }

    fn wants_frames(&self) -> bool {
        self.wants_frames
    }
}

struct World {
    listener: TcpListener,
    commands: Commands<Fake>,
    heard: Receiver<Heard>,
    driver: Task<()>,
}

impl World {
    async fn start() -> Self {
        Self::with(DriverConfig::default()).await
    }

    async fn with(config: DriverConfig) -> Self {
        let (sender, heard) = smol::channel::unbounded();
        let machine = Fake {
            requests: VecDeque::new(),
            heard: VecDeque::new(),
            deadline: None,
            wants_frames: true,
        };
        let router = move |event| {
            let _ = sender.try_send(event);
        };
        let (driver, commands) = Driver::new(machine, router, Clock::start(), config);
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            commands,
            heard,
            driver: smol::spawn(driver),
        }
    }

    async fn ask(&self, requests: impl IntoIterator<Item = Request<u8>>) {
        let requests: Vec<_> = requests.into_iter().collect();
        self.commands.call(|fake, _| fake.requests.extend(requests)).await.unwrap();
    }

    fn url(&self) -> Secret {
        let address = self.listener.local_addr().unwrap();
        Secret::new(format!("ws://{address}/socket/websocket?vsn=2.0.0"))
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Opens `socket` and returns the server's end of it.
    async fn open(&self, socket: u8) -> WebSocketStream<TcpStream> {
        let url = self.url();
        self.ask([Request::Open { socket, url }]).await;
        let server = accept_async(self.accept().await).await.unwrap();
        assert_eq!(self.hear().await, Heard::Open(socket));
        server
    }

    async fn hear(&self) -> Heard {
        self.heard.recv().await.unwrap()
    }

    /// Lets the driver do what it can, and checks that nothing came of it.
    async fn hear_nothing(&self) {
        for _ in 0..2 {
            self.commands.call(|_, _| {}).await.unwrap();
        }
        assert!(self.heard.is_empty());
    }
}

fn text(socket: u8, text: impl Into<String>) -> Request<u8> {
    let frame = Frame::text(text);
    Request::Frame { socket, frame }
}

fn close(socket: u8) -> Request<u8> {
    Request::Close { socket, code: 4000, reason: "bye".into() }
}

async fn receive(server: &mut WebSocketStream<TcpStream>) -> Message {
    server.next().await.unwrap().unwrap()
}

#[test]
fn frames_pass_both_ways_in_order() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.ask((0..1_000).map(|count| text(1, count.to_string()))).await;
        for count in 0..1_000 {
            let message = receive(&mut server).await;
            assert_eq!(message, Message::text(count.to_string()));
            server.send(message).await.unwrap();
        }
        for count in 0..1_000 {
            assert_eq!(world.hear().await, Heard::Text(1, count.to_string()));
        }
    });
}

#[test]
fn a_dial_that_fails_is_told_to_the_machine() {
    smol::block_on(async {
        let world = World::start().await;
        let url = Secret::new("ftp://h/socket");
        world.ask([Request::Open { socket: 7, url }]).await;
        let detail = "the URL ftp://h/socket does not start with ws:// or wss://".into();
        assert_eq!(world.hear().await, Heard::Close(7, CloseReason::Unreachable { detail }),);
    });
}

#[test]
fn a_close_while_dialling_drops_the_dial_without_a_word() {
    smol::block_on(async {
        let world = World::start().await;
        let url = world.url();
        world.ask([Request::Open { socket: 1, url }]).await;
        let mut stream = world.accept().await;
        world.ask([close(1)]).await;
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        world.hear_nothing().await;
    });
}

#[test]
fn a_close_sends_what_waits_and_the_close_frame_and_reports_nothing() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.ask([text(1, "last words"), close(1)]).await;
        assert_eq!(receive(&mut server).await, Message::text("last words"));
        let frame = CloseFrame { code: 4000.into(), reason: "bye".into() };
        assert_eq!(receive(&mut server).await, Message::Close(Some(frame)));
        assert!(server.next().await.is_none());
        world.hear_nothing().await;
    });
}

#[test]
fn a_close_frame_of_the_peer_is_told_and_answered() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        server.close(None).await.unwrap();
        let reason = CloseReason::Closed { code: 1005, reason: String::new() };
        assert_eq!(world.hear().await, Heard::Close(1, reason));
        assert_eq!(receive(&mut server).await, Message::Close(None));
    });
}

#[test]
fn a_deadline_wakes_the_machine_and_a_later_one_does_not() {
    smol::block_on(async {
        let world = World::start().await;
        let set = |after: Duration| {
            world.commands.call(move |fake, now| fake.deadline = Some(now + after))
        };
        set(Duration::from_secs(3_600)).await.unwrap();
        world.hear_nothing().await;
        set(Duration::from_millis(1)).await.unwrap();
        assert_eq!(world.hear().await, Heard::Timeout);
    });
}

#[test]
fn nothing_is_read_while_the_machine_wants_no_frames() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.commands.call(|fake, _| fake.wants_frames = false).await.unwrap();
        server.send(Message::text("later")).await.unwrap();
        world.hear_nothing().await;
        world.commands.call(|fake, _| fake.wants_frames = true).await.unwrap();
        assert_eq!(world.hear().await, Heard::Text(1, "later".into()));
    });
}

/// More than the buffers of a loopback connection hold, and less than an outbox does.
fn flood(socket: u8) -> impl Iterator<Item = Request<u8>> {
    let chunk = "x".repeat(128 * 1024);
    (0..FLOOD_FRAMES).map(move |_| text(socket, chunk.clone()))
}

#[test]
fn a_peer_that_does_not_read_is_a_write_timeout_and_others_go_on() {
    smol::block_on(async {
        let world = World::with(DriverConfig {
            write_timeout: Duration::from_millis(50),
            ..DriverConfig::default()
        })
        .await;
        let _stuck = world.open(1).await;
        let mut server = world.open(2).await;
        world.ask(flood(1)).await;
        world.ask([text(2, "unharmed")]).await;
        assert_eq!(receive(&mut server).await, Message::text("unharmed"));
        assert_eq!(world.hear().await, Heard::Close(1, CloseReason::WriteTimeout));
    });
}

#[test]
fn a_full_outbox_holds_the_machine_back_until_the_peer_reads() {
    smol::block_on(async {
        const FRAMES: usize = 512;
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.ask(flood(1)).await;
        world.ask((0..FRAMES).map(|count| text(1, count.to_string()))).await;
        let waiting = world.commands.call(|fake, _| fake.requests.len()).await;
        assert!(waiting.unwrap() > 0);
        for _ in 0..FLOOD_FRAMES {
            receive(&mut server).await;
        }
        for count in 0..FRAMES {
            let message = receive(&mut server).await;
            assert_eq!(message, Message::text(count.to_string()));
        }
    });
}

#[test]
fn without_handles_the_driver_sends_what_is_left_closes_and_ends() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.commands.post(|fake, _| {
            fake.requests.push_back(text(1, "leaving"));
        });
        drop(world.commands);
        assert_eq!(receive(&mut server).await, Message::text("leaving"));
        assert!(receive(&mut server).await.is_close());
        assert!(server.next().await.is_none());
        world.driver.await;
    });
}

#[test]
fn a_shutdown_ends_the_driver_and_later_callers_hear_of_it() {
    smol::block_on(async {
        let world = World::start().await;
        world.commands.shutdown().await.unwrap();
        world.driver.await;
        assert_eq!(world.commands.call(|_, _| {}).await, Err(Gone));
    });
}

#[test]
fn a_dropped_driver_drops_its_sockets() {
    smol::block_on(async {
        let world = World::start().await;
        let mut server = world.open(1).await;
        world.driver.cancel().await;
        assert!(server.next().await.unwrap().is_err());
        assert_eq!(world.commands.call(|_, _| {}).await, Err(Gone));
    });
}

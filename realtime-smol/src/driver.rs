//! The one task that owns a machine and does for it what it may not do: sockets and time.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::borrow::Cow;

use realtime_proto::{CloseReason, Frame, Instant, Secret, SocketId, Transmit};
use smol::Timer;

use crate::clock::Clock;
use crate::commands::{self, Command, CommandQueue, Commands};
use crate::connector::Connector;
#[cfg(feature = "dev-server")]
use crate::sockets::Opening;
use crate::sockets::{SocketEvent, SocketLimits, Sockets};
use crate::transport;

/// The most commands that wait for the task; further callers wait for room.
const COMMANDS_MAX: usize = 256;
/// The most bytes that wait for one socket.
const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many rounds one poll takes before other tasks have their turn.
const ROUNDS_MAX: usize = 128;
/// How long the last frames and close handshakes may take after the last handle is gone.
const GRACE: Duration = Duration::from_secs(2);

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

/// What a driver can be told.
#[derive(Clone, Debug)]
pub(crate) struct DriverConfig {
    pub(crate) connector: Connector,
    /// How long a socket may take no byte at all before it counts as lost.
    pub(crate) write_timeout: Duration,
    /// The most frames that wait for one socket.
    pub(crate) outbox_frames_max: usize,
    pub(crate) overflow: Overflow,
}

/// What happens when a socket has no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The machine is asked for nothing until there is room, at most for the write timeout.
    Wait,
    /// The socket is lost, so that a slow peer costs the others nothing.
    #[cfg(feature = "dev-server")]
    Drop,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            connector: Connector::default(),
            write_timeout: Duration::from_secs(10),
            outbox_frames_max: 256,
            overflow: Overflow::Wait,
        }
    }
}

/// The one task that owns a machine.
///
/// It ends when every [`Commands`] is gone, or on [`Commands::shutdown`], after it has sent what
/// the machine still had to send and closed the sockets.
#[must_use = "a driver does nothing unless it is polled"]
pub(crate) struct Driver<M: Machine, R> {
    machine: M,
    router: R,
    clock: Clock,
    connector: Connector,
    overflow: Overflow,
    commands: CommandQueue<M>,
    sockets: Sockets<M::Socket>,
    timer: Timer,
    /// The deadline the timer is set to.
    armed: Option<Instant>,
    stage: Stage,
}

/// How far the end of a driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// Nobody will give another command; what the machine has to send still goes out.
    Leaving {
        until: Instant,
    },
    /// The machine is not asked any more; close handshakes are waited for.
    Closing {
        until: Instant,
    },
}

impl<M: Machine, R: Router<M::Event>> Driver<M, R> {
    /// A driver for `machine`, whose instants are those of `clock`.
    pub(crate) fn new(
        machine: M,
        router: R,
        clock: Clock,
        config: DriverConfig,
    ) -> (Self, Commands<M>) {
        let (commands, queue) = commands::channel(COMMANDS_MAX);
        let driver = Self {
            machine,
            router,
            clock,
            connector: config.connector,
            overflow: config.overflow,
            commands: queue,
            sockets: Sockets::new(SocketLimits {
                outbox_frames_max: config.outbox_frames_max,
                outbox_bytes_max: OUTBOX_BYTES_MAX,
                write_timeout: config.write_timeout,
            }),
            timer: Timer::never(),
            armed: None,
            stage: Stage::Running,
        };
        (driver, commands)
    }

    /// Sends events elsewhere from now on.
    #[cfg(feature = "dev-server")]
    pub(crate) fn set_router(&mut self, router: R) {
        self.router = router;
    }

    /// Runs one command that waits.
    fn drive_commands(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.stage != Stage::Running {
            return false;
        }
        match self.commands.poll_next(cx) {
            Poll::Pending => return false,
            Poll::Ready(Some(Command::Call(call))) => call(&mut self.machine, now),
            Poll::Ready(Some(Command::Nudge)) => {}
            Poll::Ready(Some(Command::Shutdown) | None) => {
                self.commands.close();
                self.stage = Stage::Leaving { until: now + GRACE };
            }
        }
        true
    }

    /// Tells the machine one thing that happened on a socket.
    fn drive_sockets(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let reading = self.machine.wants_frames();
        let Poll::Ready((socket, event)) = self.sockets.poll_event(cx, now, reading) else {
            return false;
        };
        match event {
            SocketEvent::Opened => self.machine.handle_open(socket, now),
            SocketEvent::Frame(frame) => self.machine.handle_frame(socket, frame, now),
            SocketEvent::Closed(reason) => self.machine.handle_close(socket, reason, now),
        }
        true
    }

    /// Does what the machine asks.
    fn drive_transmit(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while self.is_heard() {
            let Some(request) = self.machine.poll_transmit() else {
                break;
            };
            changed = true;
            match request {
                Request::Open { socket, url } => {
                    let connector = self.connector.clone();
                    let dial = async move { transport::dial(url.expose(), &connector).await };
                    self.sockets.open(socket, Box::pin(dial));
                }
                Request::Frame { socket, frame } => {
                    if self.sockets.send(socket, frame).is_err() {
                        self.sockets.abort(socket);
                        let reason = CloseReason::WriteTimeout;
                        self.machine.handle_close(socket, reason, now);
                    }
                }
                Request::Close { socket, code, reason } => self.sockets.close(socket, code, reason),
                #[cfg(feature = "dev-server")]
                Request::Adopt { socket, opening } => self.sockets.open(socket, opening),
                #[cfg(feature = "dev-server")]
                Request::Abort { socket } => self.sockets.abort(socket),
            }
        }
        changed
    }

    /// Lets the deadlines that have passed act, and sets the timer to the next.
    fn drive_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut changed = false;
        let writes = self.sockets.poll_timeout();
        if writes.is_some_and(|at| at <= now) {
            self.sockets.handle_timeout(now);
            changed = true;
        }
        // A machine with output waiting says "now", which would spin while a socket is full.
        let machine = self.machine.poll_timeout().filter(|_| self.is_heard());
        if machine.is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
            changed = true;
        }
        if changed {
            return true;
        }
        let deadline = [writes, machine, self.stage.until()].into_iter().flatten().min();
        if self.armed != deadline {
            self.armed = deadline;
            match deadline.and_then(|at| self.clock.to_std(at)) {
                Some(at) => self.timer.set_at(at),
                None => self.timer.clear(),
            }
        }
        if Pin::new(&mut self.timer).poll(cx).is_ready() {
            self.armed = None;
            return true;
        }
        false
    }

    /// Passes on what the machine has to say.
    fn forward_events(&mut self) -> bool {
        let mut changed = false;
        while let Some(event) = self.machine.poll_event() {
            self.router.route(event);
            changed = true;
        }
        changed
    }

    /// Takes the next step towards the end, once nothing else is to be done.
    fn drive_end(&mut self) -> bool {
        let Stage::Leaving { until } = self.stage else {
            return false;
        };
        if !self.sockets.is_flushed() {
            return false;
        }
        self.sockets.close_all(1000, "");
        self.stage = Stage::Closing { until };
        true
    }

    /// Whether the machine may ask for something now.
    fn is_heard(&self) -> bool {
        let room = self.overflow != Overflow::Wait || self.sockets.has_room();
        room && !self.is_closing()
    }

    fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. })
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.stage.until().is_some_and(|until| until <= now)
    }
}

impl<M: Machine, R: Router<M::Event>> Future for Driver<M, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        for _ in 0..ROUNDS_MAX {
            let now = driver.clock.now();
            if driver.is_overdue(now) {
                return Poll::Ready(());
            }
            let mut changed = driver.drive_commands(cx, now);
            changed |= driver.drive_sockets(cx, now);
            changed |= driver.drive_transmit(now);
            changed |= driver.drive_timer(cx, now);
            changed |= driver.forward_events();
            if changed {
                continue;
            }
            if driver.sockets.flush(now) || driver.drive_end() {
                continue;
            }
            return if driver.is_closing() && driver.sockets.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            };
        }
        driver.sockets.flush(driver.clock.now());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Stage {
    fn until(self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Leaving { until } | Self::Closing { until } => Some(until),
        }
    }
}

/// No field is pinned in place: the futures inside are boxed.
impl<M: Machine, R> Unpin for Driver<M, R> {}

impl<M: Machine, R> fmt::Debug for Driver<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("sockets", &self.sockets)
            .field("armed", &self.armed)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_tungstenite::tungstenite::protocol::{CloseFrame, Message};
    use async_tungstenite::{WebSocketStream, accept_async};
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
}

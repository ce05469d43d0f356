//! The one task that owns a machine and does for it what it may not do: sockets and time.

mod machine;
#[cfg(test)]
mod tests;

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

pub(crate) use machine::{Machine, Request, Router};
use realtime_proto::{CloseReason, Instant};
use smol::Timer;

use crate::clock::Clock;
use crate::commands::{self, Command, CommandQueue, Commands};
use crate::connector::Connector;
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

//! The WebSockets of one machine: opening, open and closing, each at its own pace.

use core::fmt;
use core::future::Future;
use core::ops::Bound;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use realtime_proto::{CloseReason, Frame, Instant};

use crate::websocket::WebSocket;

/// How long a close handshake may take before the connection is dropped.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The most close handshakes that are waited for; with more, the oldest is cut short.
const CLOSING_MAX: usize = 16;

/// A WebSocket on its way.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<WebSocket, CloseReason>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happened on a socket.
#[derive(Debug)]
pub(crate) enum SocketEvent {
    Opened,
    Frame(Frame),
    /// It is gone; the last event of this socket.
    Closed(CloseReason),
}

/// The bounds of [`Sockets`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketLimits {
    /// The most frames that wait for one socket to take them.
    pub(crate) outbox_frames_max: usize,
    /// With this many bytes waiting a socket is full as well; one frame may go beyond.
    pub(crate) outbox_bytes_max: usize,
    /// How long a socket may take no byte at all before it counts as stuck.
    pub(crate) write_timeout: Duration,
}

/// The WebSockets of one machine, which knows each by a key `K`.
///
/// Each has its own waker, so that a wake for one does not read from all.
pub(crate) struct Sockets<K> {
    limits: SocketLimits,
    live: BTreeMap<K, Socket>,
    closing: VecDeque<Closing>,
    /// Whose turn it was last.
    turn: Option<K>,
    reading: bool,
    task: Arc<Task>,
}

struct Socket {
    state: State,
    outbox: VecDeque<Frame>,
    outbox_bytes: usize,
    unflushed: bool,
    stall: Option<Stall>,
    failed: Option<CloseReason>,
    wake: Arc<SocketWake>,
    waker: Waker,
}

enum State {
    Opening(Opening),
    Open(Box<WebSocket>),
}

/// A write that waits for the peer.
struct Stall {
    bytes_written: u64,
    until: Instant,
}

impl<K: Copy + Ord> Sockets<K> {
    pub(crate) fn new(limits: SocketLimits) -> Self {
        Self {
            limits,
            live: BTreeMap::new(),
            closing: VecDeque::new(),
            turn: None,
            reading: true,
            task: Arc::default(),
        }
    }

    /// Adds a socket that `opening` will deliver; frames for it wait until then.
    pub(crate) fn open(&mut self, key: K, opening: Opening) {
        let wake =
            Arc::new(SocketWake { woken: AtomicBool::new(true), task: Arc::clone(&self.task) });
        let socket = Socket {
            state: State::Opening(opening),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            unflushed: false,
            stall: None,
            failed: None,
            waker: Waker::from(Arc::clone(&wake)),
            wake,
        };
        let replaced = self.live.insert(key, socket);
        debug_assert!(replaced.is_none(), "a socket was opened twice");
    }

    /// Whether every socket can take at least one more frame.
    pub(crate) fn has_room(&self) -> bool {
        self.live.values().all(|socket| !socket.is_full(&self.limits))
    }

    /// Queues a frame; gives it back when the socket's outbox is full.
    ///
    /// A frame for a socket that is gone is dropped, as it would be a moment later.
    pub(crate) fn send(&mut self, key: K, frame: Frame) -> Result<(), Frame> {
        let Some(socket) = self.live.get_mut(&key) else {
            return Ok(());
        };
        if socket.is_full(&self.limits) {
            return Err(frame);
        }
        socket.outbox_bytes += frame.as_bytes().len();
        socket.outbox.push_back(frame);
        socket.wake.set();
        Ok(())
    }

    /// Sends what waits and a close frame, in the background; reports nothing more of it.
    pub(crate) fn close(&mut self, key: K, code: u16, reason: Cow<'static, str>) {
        let Some(socket) = self.live.remove(&key) else {
            return;
        };
        if let State::Open(socket_io) = socket.state {
            let outbox = socket.outbox;
            self.finish(async move {
                socket_io.close(outbox, Some((code, &reason)), CLOSE_TIMEOUT).await;
            });
        }
    }

    /// Closes every socket, and gives up those that are not open yet.
    pub(crate) fn close_all(&mut self, code: u16, reason: &'static str) {
        while let Some(&key) = self.live.keys().next() {
            self.close(key, code, Cow::Borrowed(reason));
        }
    }

    /// Drops a socket without a word to the peer.
    pub(crate) fn abort(&mut self, key: K) {
        self.live.remove(&key);
    }

    /// Whether there is no socket at all, closing ones included.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.closing.is_empty()
    }

    /// Whether every frame has left.
    pub(crate) fn is_flushed(&self) -> bool {
        let done = |socket: &Socket| socket.outbox.is_empty() && !socket.unflushed;
        self.live.values().all(done)
    }

    /// The next event; sockets take turns. Reads no frames unless `reading`.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        reading: bool,
    ) -> Poll<(K, SocketEvent)> {
        self.task.register(cx.waker());
        if reading && !self.reading {
            self.live.values().for_each(|socket| socket.wake.set());
        }
        self.reading = reading;
        self.closing.retain_mut(|closing| closing.as_mut().poll(cx).is_pending());

        while let Some(key) = self.next_woken() {
            self.turn = Some(key);
            let Some(socket) = self.live.get_mut(&key) else {
                continue;
            };
            match socket.poll(now, self.limits.write_timeout, reading) {
                Poll::Pending => {}
                Poll::Ready(event) => {
                    socket.wake.set();
                    if matches!(event, SocketEvent::Closed(_)) {
                        self.bury(key, &event);
                    }
                    return Poll::Ready((key, event));
                }
            }
        }
        Poll::Pending
    }

    /// Hands everything written so far to the operating system; whether an event came of it.
    pub(crate) fn flush(&mut self, now: Instant) -> bool {
        let mut failed = false;
        for socket in self.live.values_mut().filter(|socket| socket.unflushed) {
            failed |= socket.flush(now, self.limits.write_timeout);
        }
        failed
    }

    /// When a stuck write is given up, unless it moves by then.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let stalls = self.live.values().filter_map(|socket| socket.stall.as_ref());
        stalls.map(|stall| stall.until).min()
    }

    /// Fails every socket whose write has been stuck for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for socket in self.live.values_mut() {
            socket.check_stall(now, self.limits.write_timeout);
        }
    }

    /// The first socket behind the one whose turn it was that has something to do.
    fn next_woken(&self) -> Option<K> {
        let behind = match self.turn {
            Some(key) => Bound::Excluded(key),
            None => Bound::Unbounded,
        };
        let up_to = match self.turn {
            Some(key) => Bound::Included(key),
            None => Bound::Unbounded,
        };
        let rest = self.live.range((behind, Bound::Unbounded));
        let wrapped = self.live.range((Bound::Unbounded, up_to));
        rest.chain(wrapped).find(|(_, socket)| socket.wake.take()).map(|(&key, _)| key)
    }

    /// Removes a socket that has ended; one that the peer closed still answers the close frame.
    fn bury(&mut self, key: K, event: &SocketEvent) {
        let Some(socket) = self.live.remove(&key) else {
            return;
        };
        if let (State::Open(socket_io), SocketEvent::Closed(CloseReason::Closed { .. })) =
            (socket.state, event)
        {
            self.finish(async move {
                socket_io.close(VecDeque::new(), None, CLOSE_TIMEOUT).await;
            });
        }
    }

    fn finish(&mut self, closing: impl Future<Output = ()> + Send + 'static) {
        if self.closing.len() == CLOSING_MAX {
            self.closing.pop_front();
        }
        self.closing.push_back(Box::pin(closing));
        // The new future has to be polled once before it can wake anyone.
        self.task.wake();
    }
}

impl Socket {
    fn is_full(&self, limits: &SocketLimits) -> bool {
        self.outbox.len() >= limits.outbox_frames_max
            || self.outbox_bytes >= limits.outbox_bytes_max
    }

    fn poll(&mut self, now: Instant, write_timeout: Duration, reading: bool) -> Poll<SocketEvent> {
        if let Some(reason) = self.failed.take() {
            return Poll::Ready(SocketEvent::Closed(reason));
        }
        let cx = &mut Context::from_waker(&self.waker);
        let socket = match &mut self.state {
            State::Opening(opening) => {
                return Poll::Ready(match ready!(opening.as_mut().poll(cx)) {
                    Ok(socket) => {
                        self.state = State::Open(Box::new(socket));
                        SocketEvent::Opened
                    }
                    Err(reason) => SocketEvent::Closed(reason),
                });
            }
            State::Open(socket) => socket,
        };
        while !self.outbox.is_empty() {
            match socket.poll_ready(cx) {
                Poll::Pending => {
                    note_stall(&mut self.stall, socket, now, write_timeout);
                    break;
                }
                Poll::Ready(Err(reason)) => {
                    return Poll::Ready(SocketEvent::Closed(last_word(socket, cx, reason)));
                }
                Poll::Ready(Ok(())) => {}
            }
            let Some(frame) = self.outbox.pop_front() else {
                break;
            };
            self.outbox_bytes -= frame.as_bytes().len();
            self.unflushed = true;
            if let Err(reason) = socket.start_send(frame) {
                return Poll::Ready(SocketEvent::Closed(last_word(socket, cx, reason)));
            }
        }
        if !reading {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(socket.poll_frame(cx)) {
            Ok(frame) => SocketEvent::Frame(frame),
            Err(reason) => SocketEvent::Closed(reason),
        })
    }

    fn flush(&mut self, now: Instant, write_timeout: Duration) -> bool {
        let State::Open(socket) = &mut self.state else {
            return false;
        };
        let cx = &mut Context::from_waker(&self.waker);
        match socket.poll_flush(cx) {
            Poll::Pending => {
                note_stall(&mut self.stall, socket, now, write_timeout);
                false
            }
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.stall = None;
                if !self.outbox.is_empty() {
                    self.wake.set();
                }
                !self.outbox.is_empty()
            }
            Poll::Ready(Err(reason)) => {
                let reason = last_word(socket, cx, reason);
                self.fail(reason);
                true
            }
        }
    }

    fn check_stall(&mut self, now: Instant, write_timeout: Duration) {
        let (Some(stall), State::Open(socket)) = (&self.stall, &self.state) else {
            return;
        };
        if now < stall.until {
            return;
        }
        if stall.bytes_written == socket.bytes_written() {
            self.fail(CloseReason::WriteTimeout);
        } else {
            note_stall(&mut self.stall, socket, now, write_timeout);
        }
    }

    fn fail(&mut self, reason: CloseReason) {
        self.stall = None;
        self.unflushed = false;
        self.failed = Some(reason);
        self.wake.set();
    }
}

/// Why a socket ended that can no longer be written to: its close frame, if one came before that.
fn last_word(socket: &mut WebSocket, cx: &mut Context<'_>, broken: CloseReason) -> CloseReason {
    loop {
        match socket.poll_frame(cx) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(closed @ CloseReason::Closed { .. })) => return closed,
            Poll::Ready(Err(_)) | Poll::Pending => return broken,
        }
    }
}

fn note_stall(
    stall: &mut Option<Stall>,
    socket: &WebSocket,
    now: Instant,
    write_timeout: Duration,
) {
    let bytes_written = socket.bytes_written();
    let moved = stall.as_ref().is_none_or(|stall| stall.bytes_written != bytes_written);
    if moved {
        *stall = Some(Stall { bytes_written, until: now + write_timeout });
    }
}

/// Remembers that its socket has something to do, and wakes the task.
struct SocketWake {
    woken: AtomicBool,
    task: Arc<Task>,
}

impl SocketWake {
    fn set(&self) {
        self.woken.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.woken.swap(false, Ordering::Acquire)
    }
}

impl Wake for SocketWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
        self.task.wake();
    }
}

/// The task that polls the sockets.
#[derive(Default)]
struct Task(Mutex<Option<Waker>>);

impl Task {
    fn register(&self, waker: &Waker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<K: fmt::Debug> fmt::Debug for Sockets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets")
            .field("live", &self.live.keys())
            .field("closing", &self.closing.len())
            .finish_non_exhaustive()
    }
}

//! How handles reach the task that owns the machine.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use realtime_proto::Instant;
use smol::channel::{Receiver, Sender, WeakSender};
use smol::stream::Stream;

type Call<S> = Box<dyn FnOnce(&mut S, Instant) + Send>;

/// The sending side, shared by all handles of one task that owns a state `S`.
pub(crate) struct Commands<S> {
    queue: Sender<Command<S>>,
    posted: Arc<Posted<S>>,
}

/// A sending side that does not keep the task alive.
pub(crate) struct WeakCommands<S> {
    queue: WeakSender<Command<S>>,
    posted: Arc<Posted<S>>,
}

/// The receiving side, owned by the task.
pub(crate) struct CommandQueue<S> {
    queue: Pin<Box<Receiver<Command<S>>>>,
    posted: Arc<Posted<S>>,
}

/// What the task is told next.
pub(crate) enum Command<S> {
    /// Run this on the state.
    Call(Call<S>),
    /// Look at what was posted.
    Nudge,
    /// End now, without waiting for the handles to go.
    Shutdown,
}

/// Calls from places that can neither wait nor fail.
struct Posted<S>(Mutex<VecDeque<Call<S>>>);

/// The task that owned the state has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// A queue with room for `capacity` commands.
pub(crate) fn channel<S>(capacity: usize) -> (Commands<S>, CommandQueue<S>) {
    let (sender, receiver) = smol::channel::bounded(capacity);
    let posted = Arc::new(Posted(Mutex::new(VecDeque::new())));
    let commands = Commands { queue: sender, posted: Arc::clone(&posted) };
    let queue = CommandQueue { queue: Box::pin(receiver), posted };
    (commands, queue)
}

impl<S> Commands<S> {
    /// Runs `call` on the state and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`Gone`] when the task ended before it ran the call.
    ///
    /// # Cancel safety
    ///
    /// A future dropped before the queue had room does nothing; after that the call runs and its
    /// result is dropped.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut S, Instant) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = smol::channel::bounded(1);
        let call: Call<S> = Box::new(move |state, now| {
            // The caller may have stopped waiting, which is no fault.
            let _ = answer.try_send(call(state, now));
        });
        self.queue.send(Command::Call(call)).await.map_err(|_| Gone)?;
        answered.recv().await.map_err(|_| Gone)
    }

    /// Has `call` run soon, without waiting; for `Drop`, where a full queue must not lose it.
    ///
    /// What is posted lies beside the bounded queue, so each handle may post at most once in its
    /// life: that makes the number of handles the bound.
    pub(crate) fn post(&self, call: impl FnOnce(&mut S, Instant) + Send + 'static) {
        self.posted.push(Box::new(call));
        // When the queue is full, the task looks at the posted calls after the next command.
        let _ = self.queue.try_send(Command::Nudge);
    }

    /// The same without keeping the task alive.
    pub(crate) fn downgrade(&self) -> WeakCommands<S> {
        WeakCommands { queue: self.queue.downgrade(), posted: Arc::clone(&self.posted) }
    }

    /// Tells the task to end, as soon as the queue has room.
    ///
    /// # Errors
    ///
    /// [`Gone`] when it has ended already.
    pub(crate) async fn shutdown(&self) -> Result<(), Gone> {
        self.queue.send(Command::Shutdown).await.map_err(|_| Gone)
    }
}

impl<S> WeakCommands<S> {
    /// The full sending side, while the task has not ended.
    pub(crate) fn upgrade(&self) -> Result<Commands<S>, Gone> {
        Ok(Commands { queue: self.queue.upgrade().ok_or(Gone)?, posted: Arc::clone(&self.posted) })
    }
}

impl<S> CommandQueue<S> {
    /// The next command; `None` once every handle is gone and the queue is empty.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Command<S>>> {
        if let Some(call) = self.posted.pop() {
            return Poll::Ready(Some(Command::Call(call)));
        }
        self.queue.as_mut().poll_next(cx)
    }

    /// Refuses further commands and drops those that wait, so that their callers hear of it.
    pub(crate) fn close(&self) {
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
    }
}

impl<S> Posted<S> {
    fn push(&self, call: Call<S>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(call);
    }

    fn pop(&self) -> Option<Call<S>> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let call = calls.pop_front();
        if calls.is_empty() {
            // It is rarely used, and grows with the handles that are dropped at once.
            calls.shrink_to_fit();
        }
        call
    }
}

impl<S> Clone for Commands<S> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), posted: Arc::clone(&self.posted) }
    }
}

impl<S> Clone for WeakCommands<S> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), posted: Arc::clone(&self.posted) }
    }
}

impl<S> fmt::Debug for Commands<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use smol::future::{poll_fn, poll_once};

    use super::*;

    fn run(command: Option<Command<Vec<u8>>>, state: &mut Vec<u8>) {
        if let Some(Command::Call(call)) = command {
            call(state, Instant::EPOCH);
        }
    }

    #[test]
    fn a_posted_call_is_not_lost_when_the_queue_is_full() {
        smol::block_on(async {
            let (commands, mut queue) = channel::<Vec<u8>>(1);
            let mut state = Vec::new();
            let mut waiting = Box::pin(commands.call(|state, _| state.push(1)));
            assert!(poll_once(&mut waiting).await.is_none());
            commands.post(|state, _| state.push(2));
            for _ in 0..2 {
                let command = poll_fn(|cx| queue.poll_next(cx)).await;
                run(command, &mut state);
            }
            state.sort_unstable();
            assert_eq!(state, [1, 2]);
            assert_eq!(waiting.await, Ok(()));
        });
    }

    #[test]
    fn a_caller_hears_that_the_task_is_gone() {
        smol::block_on(async {
            let (commands, queue) = channel::<Vec<u8>>(4);
            let mut waiting = Box::pin(commands.call(|state, _| state.len()));
            assert!(poll_once(&mut waiting).await.is_none());
            queue.close();
            assert_eq!(waiting.await, Err(Gone));
            assert_eq!(commands.call(|state, _| state.len()).await, Err(Gone));
        });
    }

    #[test]
    fn the_queue_ends_when_every_handle_is_gone() {
        smol::block_on(async {
            let (commands, mut queue) = channel::<Vec<u8>>(4);
            commands.post(|state, _| state.push(1));
            drop(commands);
            let mut state = Vec::new();
            while let Some(command) = poll_fn(|cx| queue.poll_next(cx)).await {
                run(Some(command), &mut state);
            }
            assert_eq!(state, [1]);
        });
    }
}

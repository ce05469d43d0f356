//! Events on their way to one listener: a bounded queue that never makes its sender wait.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol::stream::Stream;

/// What a listener's stream yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery<E> {
    /// Something happened.
    Event(E),
    /// The listener was too slow, and this many events were dropped after the last one it got.
    Missed(u64),
}

impl<E> Delivery<E> {
    /// The event, unless events were missed.
    pub fn event(self) -> Option<E> {
        match self {
            Self::Event(event) => Some(event),
            Self::Missed(_) => None,
        }
    }
}

/// The sending end, kept by the task that owns the machine.
#[derive(Debug)]
pub(crate) struct Sender<E>(Arc<Mutex<Queue<E>>>);

/// The receiving end, a stream that ends when the sender is dropped.
#[derive(Debug)]
pub(crate) struct Mailbox<E>(Arc<Mutex<Queue<E>>>);

#[derive(Debug)]
struct Queue<E> {
    events: VecDeque<E>,
    capacity: usize,
    missed: u64,
    open: bool,
    waker: Option<Waker>,
}

/// A mailbox with room for `capacity` events; more are dropped and counted.
pub(crate) fn mailbox<E>(capacity: usize) -> (Sender<E>, Mailbox<E>) {
    let queue = Queue { events: VecDeque::new(), capacity, missed: 0, open: true, waker: None };
    let queue = Arc::new(Mutex::new(queue));
    (Sender(Arc::clone(&queue)), Mailbox(queue))
}

fn lock<E>(queue: &Mutex<Queue<E>>) -> MutexGuard<'_, Queue<E>> {
    // A listener that panicked while it held the queue has left it whole.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E> Sender<E> {
    /// Whether somebody still listens.
    pub(crate) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Adds an event, and tells whether it is the first that had no room.
    pub(crate) fn send(&self, event: E) -> bool {
        let mut queue = lock(&self.0);
        // Once something was dropped, the rest is dropped too until the listener knows.
        if queue.missed > 0 || queue.events.len() >= queue.capacity {
            queue.missed += 1;
        } else {
            queue.events.push_back(event);
        }
        let overflows = queue.missed == 1;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        overflows
    }
}

impl<E> Drop for Sender<E> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.open = false;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<E> Stream for Mailbox<E> {
    type Item = Delivery<E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery<E>>> {
        let mut queue = lock(&self.0);
        if let Some(event) = queue.events.pop_front() {
            return Poll::Ready(Some(Delivery::Event(event)));
        }
        if queue.missed > 0 {
            return Poll::Ready(Some(Delivery::Missed(core::mem::take(&mut queue.missed))));
        }
        if !queue.open {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use smol::future::block_on;
    use smol::stream::StreamExt;

    use super::*;

    #[test]
    fn a_slow_listener_is_told_how_much_it_missed_and_then_goes_on() {
        block_on(async {
            let (sender, mut mailbox) = mailbox(2);
            assert_eq!(
                [1, 2, 3, 4, 5].map(|event| sender.send(event)),
                [false, false, true, false, false]
            );
            assert_eq!(mailbox.next().await, Some(Delivery::Event(1)));
            sender.send(6);
            assert_eq!(mailbox.next().await, Some(Delivery::Event(2)));
            assert_eq!(mailbox.next().await, Some(Delivery::Missed(4)));
            sender.send(7);
            drop(sender);
            assert_eq!(mailbox.next().await, Some(Delivery::Event(7)));
            assert_eq!(mailbox.next().await, None);
        });
    }
}

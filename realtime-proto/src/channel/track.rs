//! What this client shows of itself: a level that is kept up, not a message that is sent.

use alloc::collections::VecDeque;

use crate::context::Context;
use crate::ids::{ChannelId, Ref};
use crate::outbox::Outgoing;
use crate::payload::Payload;
use crate::time::Instant;
use crate::timer::Timer;

/// What should be tracked, what the server was told on this join, and when it was told.
///
/// A server closes a channel at its sixth presence call within 30 s (protocol §4.4), so calls
/// beyond the budget wait, and only the newest value of those that waited is sent. The server
/// counts from when a call reaches it, which is known to be over when it is answered.
#[derive(Debug, Default)]
pub(crate) struct Track {
    wanted: Option<Payload>,
    told: Option<Payload>,
    /// Whether a call waits for the driver to take it.
    queued: bool,
    /// The calls that were taken and count.
    calls: VecDeque<Call>,
}

/// A presence call of this join.
#[derive(Debug)]
struct Call {
    msg_ref: Ref,
    /// When it was answered or, before that, when it was seen first that the driver has it: what is
    /// taken from the queue leaves after the latest time that any input brought.
    at: Option<Instant>,
}

impl Track {
    pub(crate) fn set(&mut self, wanted: Option<Payload>) {
        self.wanted = wanted;
    }

    /// A join begins with nothing tracked and a budget of its own.
    pub(crate) fn on_joined(&mut self, ctx: &mut Context) {
        self.told = None;
        self.forget(ctx);
    }

    /// Answers to calls of an older join that still come are stale.
    pub(crate) fn forget(&mut self, ctx: &mut Context) {
        self.queued = false;
        for call in self.calls.drain(..) {
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(call.msg_ref);
            }
        }
    }

    /// A call was answered, so it reached the server no later than now.
    pub(crate) fn on_reply(&mut self, msg_ref: Ref, now: Instant) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.msg_ref == msg_ref) {
            call.at = Some(now);
        }
    }

    /// Tells the server what it does not know yet, as far as the budget allows.
    pub(crate) fn flush(&mut self, channel: ChannelId, ctx: &mut Context) {
        if self.queued || self.wanted == self.told {
            return;
        }
        let limits = &ctx.config.limits;
        for call in &mut self.calls {
            call.at.get_or_insert(ctx.now);
        }
        while let Some(&Call { msg_ref, at }) = self.calls.front() {
            if at.is_some_and(|at| at + limits.presence_window > ctx.now) {
                break;
            }
            self.calls.pop_front();
            // A server that has not answered by now never will.
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(msg_ref);
            }
        }
        if self.calls.len() >= limits.presence_calls_max {
            let oldest = self.calls.front().and_then(|call| call.at);
            let again_at = oldest.unwrap_or(ctx.now) + limits.presence_window;
            ctx.timers.set(Timer::Presence(channel), again_at);
            return;
        }
        let Some(connection) = ctx.socket.connection() else {
            unreachable!("a joined channel has a connection");
        };
        self.queued = true;
        ctx.outbox.push(Outgoing::Track { socket: connection.id, channel });
    }

    /// The driver takes the call that was queued: what it tells the server, `None` when the server
    /// knows by now. The value is `None` when nothing is to be tracked.
    pub(crate) fn take(&mut self) -> Option<Option<&Payload>> {
        self.queued = false;
        if self.wanted == self.told {
            return None;
        }
        self.told.clone_from(&self.wanted);
        Some(self.told.as_ref())
    }

    /// A call was taken under this ref.
    pub(crate) fn on_taken(&mut self, msg_ref: Ref) {
        self.calls.push_back(Call { msg_ref, at: None });
    }
}

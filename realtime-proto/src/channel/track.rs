//! What this client shows of itself: a level that is kept up, not a message that is sent.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::context::Context;
use crate::ids::{ChannelId, Ref};
use crate::outbox::{Message, Outgoing};
use crate::payload::Payload;
use crate::socket::Waiter;
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
    /// The calls that count: the ref of each, and when it was answered or, before that, sent.
    calls: VecDeque<(Ref, Instant)>,
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
        for (msg_ref, _) in self.calls.drain(..) {
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(msg_ref);
            }
        }
    }

    /// A call was answered, so it reached the server no later than now.
    pub(crate) fn on_reply(&mut self, msg_ref: Ref, now: Instant) {
        let call = self.calls.iter_mut().find(|(call, _)| *call == msg_ref);
        if let Some((_, at)) = call {
            *at = now;
        }
    }

    /// Tells the server what it does not know yet, as far as the budget allows.
    pub(crate) fn flush(
        &mut self,
        channel: ChannelId,
        topic: &Arc<str>,
        join_ref: Ref,
        ctx: &mut Context,
    ) {
        if self.wanted == self.told {
            return;
        }
        let limits = &ctx.config.limits;
        while let Some(&(msg_ref, at)) = self.calls.front() {
            if at + limits.presence_window > ctx.now {
                break;
            }
            self.calls.pop_front();
            // A server that has not answered by now never will.
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(msg_ref);
            }
        }
        if self.calls.len() >= limits.presence_calls_max {
            if let Some(&(_, oldest)) = self.calls.front() {
                ctx.timers.set(Timer::Presence(channel), oldest + limits.presence_window);
            }
            return;
        }
        let Some(connection) = ctx.socket.connection_mut() else {
            unreachable!("a joined channel has a connection");
        };
        let socket = connection.id;
        let msg_ref = connection.make_ref_for(Waiter::Track(channel), ctx.now);
        let mut payload = Vec::from(&b"{\"type\":\"presence\",\"event\":"[..]);
        match &self.wanted {
            Some(wanted) => {
                payload.extend_from_slice(b"\"track\",\"payload\":");
                payload.extend_from_slice(wanted.as_bytes());
                payload.push(b'}');
            }
            None => payload.extend_from_slice(b"\"untrack\"}"),
        }
        let message = Message::Event {
            event: String::from("presence"),
            payload: Payload::trusted_json(Bytes::from(payload)),
        };
        let topic = Arc::clone(topic);
        ctx.outbox.push(Outgoing::Message { socket, topic, join_ref, msg_ref, message });
        self.calls.push_back((msg_ref, ctx.now));
        self.told.clone_from(&self.wanted);
    }
}

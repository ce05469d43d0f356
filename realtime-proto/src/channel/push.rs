//! Pushes of one channel: those that wait for the join, and those that wait for their reply.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crate::context::Context;
use crate::error::PushError;
use crate::event::{ChannelEvent, Outcome};
use crate::ids::{ChannelId, PushId, Ref};
use crate::outbox::{Message, Outgoing};
use crate::push::{Overflow, PushOptions};
use crate::socket::Waiter;
use crate::timer::Timer;
use crate::wire::{EncodeError, Vsn};

/// The pushes of one channel that have no outcome yet.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    /// In call order; sent when the join is accepted (G1, G6).
    waiting: VecDeque<Waiting>,
    in_flight: BTreeMap<PushId, Ref>,
    /// Those that ask for no reply, until the driver takes their frames; in call order.
    leaving: VecDeque<PushId>,
}

#[derive(Debug)]
struct Waiting {
    id: PushId,
    message: Message,
    key: Option<String>,
    reply: bool,
    timeout: Duration,
}

/// Where a push goes: the channel and, once it is joined, the join.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) channel: ChannelId,
    pub(crate) topic: &'a Arc<str>,
    pub(crate) joined: Option<Ref>,
    pub(crate) overflow: Overflow,
}

impl Pushes {
    /// Whether no push waits for the join or for its reply. Those whose frames wait for the driver go
    /// out before whatever ends the channel.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Accepts a push, to be sent now when the channel is joined and else after the join.
    pub(crate) fn push(
        &mut self,
        message: Message,
        options: PushOptions,
        target: Target<'_>,
        ctx: &mut Context,
    ) -> Result<PushId, PushError> {
        check(&message, target.topic, ctx)?;
        let PushOptions { timeout, time_to_live, key, reply } = options;
        let timeout = timeout.unwrap_or(ctx.config.push_timeout);
        let Some(join_ref) = target.joined else {
            let time_to_live = time_to_live.unwrap_or(ctx.config.push_timeout);
            let push = |id| Waiting { id, message, key, reply, timeout };
            return self.wait(push, time_to_live, target, ctx);
        };
        let limits = &ctx.config.limits;
        for (waiting, max) in [
            (ctx.outbox.len(), limits.transmits_queued_max),
            (self.in_flight.len(), limits.pushes_in_flight_max),
        ] {
            if waiting >= max {
                return Err(PushError::BufferFull { waiting });
            }
        }
        let id = ctx.make_push_id();
        self.send(Waiting { id, message, key, reply, timeout }, join_ref, target, ctx);
        Ok(id)
    }

    /// Keeps a push until the join, within the bound and by the policy of the channel.
    fn wait(
        &mut self,
        push: impl FnOnce(PushId) -> Waiting,
        time_to_live: Duration,
        target: Target<'_>,
        ctx: &mut Context,
    ) -> Result<PushId, PushError> {
        let (channel, max) = (target.channel, ctx.config.limits.pushes_buffered_max);
        // The id is taken by value: a push that is refused leaves no trace but a skipped number.
        let push = push(ctx.make_push_id());
        let id = push.id;
        let twin = |waiting: &Waiting| push.key.is_some() && waiting.key == push.key;
        if let Some(at) = self.waiting.iter().position(twin) {
            self.drop_at(at, channel, ctx);
        }
        if self.waiting.len() >= max {
            match target.overflow {
                Overflow::Refuse => {
                    return Err(PushError::BufferFull { waiting: self.waiting.len() });
                }
                Overflow::DropOldest if max > 0 => self.drop_at(0, channel, ctx),
                Overflow::DropOldest | Overflow::DropNewest => {
                    end(id, Outcome::Dropped, channel, ctx);
                    return Ok(id);
                }
            }
        }
        ctx.timers.set(Timer::Push(channel, id), ctx.now + time_to_live);
        self.waiting.push_back(push);
        Ok(id)
    }

    fn drop_at(&mut self, at: usize, channel: ChannelId, ctx: &mut Context) {
        if let Some(dropped) = self.waiting.remove(at) {
            end(dropped.id, Outcome::Dropped, channel, ctx);
        }
    }

    /// Sends what waited for the join, in call order.
    pub(crate) fn flush(&mut self, join_ref: Ref, target: Target<'_>, ctx: &mut Context) {
        while let Some(waiting) = self.waiting.pop_front() {
            ctx.timers.cancel(Timer::Push(target.channel, waiting.id));
            self.send(waiting, join_ref, target, ctx);
        }
    }

    fn send(&mut self, push: Waiting, join_ref: Ref, target: Target<'_>, ctx: &mut Context) {
        let Target { channel, topic, .. } = target;
        let Some(connection) = ctx.socket.connection_mut() else {
            unreachable!("a joined channel has a connection");
        };
        let socket = connection.id;
        let msg_ref = if push.reply {
            connection.make_ref_for(Waiter::Push(channel, push.id), ctx.now)
        } else {
            connection.make_ref()
        };
        let topic = Arc::clone(topic);
        let message = push.message;
        let ends = (!push.reply).then_some((channel, push.id));
        ctx.outbox.push(Outgoing::Message { socket, topic, join_ref, msg_ref, message, ends });
        if push.reply {
            self.in_flight.insert(push.id, msg_ref);
            ctx.timers.set(Timer::Push(channel, push.id), ctx.now + push.timeout);
        } else {
            self.leaving.push_back(push.id);
        }
    }

    /// The driver took the frame of a push that asks for no reply, or never will.
    pub(crate) fn on_left(
        &mut self,
        push: PushId,
        outcome: Outcome,
        channel: ChannelId,
        ctx: &mut Context,
    ) {
        if let Some(at) = self.leaving.iter().position(|leaving| *leaving == push) {
            self.leaving.remove(at);
            end(push, outcome, channel, ctx);
        }
    }

    /// A reply came for a push that was in flight.
    pub(crate) fn on_reply(
        &mut self,
        push: PushId,
        outcome: Outcome,
        channel: ChannelId,
        ctx: &mut Context,
    ) {
        if self.in_flight.remove(&push).is_some() {
            end(push, outcome, channel, ctx);
        }
    }

    /// A push waited long enough, for the join or for its reply.
    pub(crate) fn on_timeout(&mut self, push: PushId, channel: ChannelId, ctx: &mut Context) {
        if let Some(msg_ref) = self.in_flight.remove(&push) {
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(msg_ref);
            }
            end(push, Outcome::TimedOut, channel, ctx);
        } else if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == push) {
            self.waiting.remove(at);
            end(push, Outcome::Expired, channel, ctx);
        }
    }

    /// The join they were sent on is over; their replies cannot come any more.
    pub(crate) fn interrupt(&mut self, channel: ChannelId, ctx: &mut Context) {
        for (push, msg_ref) in core::mem::take(&mut self.in_flight) {
            if let Some(connection) = ctx.socket.connection_mut() {
                connection.forget(msg_ref);
            }
            end(push, Outcome::Interrupted, channel, ctx);
        }
    }

    /// The channel ends, and with it all that has no outcome yet.
    pub(crate) fn close(&mut self, channel: ChannelId, ctx: &mut Context) {
        self.interrupt(channel, ctx);
        for push in core::mem::take(&mut self.leaving) {
            end(push, Outcome::Interrupted, channel, ctx);
        }
        self.discard(channel, ctx);
    }

    /// The channel is left; what waited for the join is never sent.
    pub(crate) fn discard(&mut self, channel: ChannelId, ctx: &mut Context) {
        for waiting in core::mem::take(&mut self.waiting) {
            end(waiting.id, Outcome::Dropped, channel, ctx);
        }
    }
}

fn end(push: PushId, outcome: Outcome, channel: ChannelId, ctx: &mut Context) {
    ctx.timers.cancel(Timer::Push(channel, push));
    ctx.emit(channel, ChannelEvent::PushEnded { push, outcome });
}

/// Refuses at the call what could not be written later.
fn check(message: &Message, topic: &str, ctx: &Context) -> Result<(), PushError> {
    /// Room for refs, brackets and the keys of a V1 object.
    const ENVELOPE_BYTES: usize = 128;
    /// What one length byte can say.
    const FIELD_BYTES_MAX: usize = 255;
    let limits = &ctx.config.limits;
    let (event, payload, is_broadcast) = match message {
        Message::Event { event, payload } => (event, payload, false),
        Message::Broadcast { event, payload } | Message::UserBroadcast { event, payload, .. } => {
            (event, payload, true)
        }
    };
    if payload.is_binary() || matches!(message, Message::UserBroadcast { .. }) {
        if ctx.config.vsn == Vsn::V1 {
            return Err(EncodeError::BinaryOnV1.into());
        }
        for (field, text) in [("topic", topic), ("event", event.as_str())] {
            if text.len() > FIELD_BYTES_MAX {
                return Err(EncodeError::FieldTooLong { field, len: text.len() }.into());
            }
        }
    }
    let bytes = payload.as_bytes().len() + topic.len() + event.len() + ENVELOPE_BYTES;
    let payload_max = if is_broadcast { limits.broadcast_bytes_max } else { usize::MAX };
    for (bytes, max) in [(payload.as_bytes().len(), payload_max), (bytes, limits.frame_bytes_max)] {
        if bytes > max {
            return Err(PushError::TooLarge { bytes, max });
        }
    }
    Ok(())
}

//! Writing frames, at the moment the driver takes them.

use bytes::Bytes;

use super::Client;
use crate::channel::State;
use crate::config::Flavor;
use crate::event::Outcome;
use crate::ids::{ChannelId, Ref, SocketId};
use crate::outbox::{Message, Outgoing};
use crate::secret::Secret;
use crate::socket::Waiter;
use crate::supabase::{JoinConfig, JoinPayload, Persist, write_broadcast};
use crate::transmit::{Frame, Transmit};
use crate::wire::{self, Body, Encoding, Envelope, FrameKind, Sender};

impl Client {
    /// Writes one thing for the driver; `None` when it has no purpose any more.
    pub(super) fn write(&mut self, outgoing: Outgoing) -> Option<Transmit> {
        match outgoing {
            Outgoing::Open { socket } => (self.ctx.socket.id() == Some(socket))
                .then(|| Transmit::Open { socket, url: self.ctx.config.url() }),
            Outgoing::Close { socket, code, reason } => {
                Some(Transmit::Close { socket, code, reason })
            }
            Outgoing::Heartbeat { socket, msg_ref } => {
                self.frame(socket, None, Some(msg_ref), "phoenix", "heartbeat", Body::Json("{}"))
            }
            Outgoing::Join { socket, channel, join_ref } => self.join(socket, channel, join_ref),
            Outgoing::Leave { socket, topic, join_ref, msg_ref } => {
                let body = Body::Json("{}");
                self.frame(socket, Some(join_ref), Some(msg_ref), &topic, "phx_leave", body)
            }
            Outgoing::Token { socket, channel } => self.token(socket, channel),
            Outgoing::Track { socket, channel } => self.track(socket, channel),
            Outgoing::Message { socket, topic, join_ref, msg_ref, message, ends } => {
                self.end_pushes(ends, &Outcome::Sent);
                self.message(socket, &topic, join_ref, msg_ref, &message)
            }
        }
    }

    /// Writes a join from what the channel asks for now, unless another join has replaced it.
    fn join(&mut self, socket: SocketId, id: ChannelId, join_ref: Ref) -> Option<Transmit> {
        if self.ctx.socket.id() == Some(socket) {
            self.ctx.joins.on_taken();
        }
        let slot = self.channels.get_mut(id)?;
        let bindings = slot.distinct_bindings();
        let State::Joining { join_ref: current, sent } = &mut slot.state else {
            return None;
        };
        if *current != join_ref {
            return None;
        }
        sent.bindings.clone_from(&bindings);
        sent.presence = slot.config.presence();
        sent.replaces = None;
        slot.token_version = self.ctx.token.version;
        let payload = match &slot.config.flavor {
            Flavor::Phoenix { params, .. } => params.as_bytes().to_vec(),
            Flavor::Supabase(config) => {
                let mut config = JoinConfig { postgres_changes: bindings, ..config.clone() };
                let first = config.broadcast.replay;
                let missed = slot.streams.missed(first, |at| self.ctx.token.unix(at));
                if missed.is_some() && config.private {
                    config.broadcast.replay = missed;
                    sent.replay = true;
                }
                let access_token = self.ctx.token.current().map(Secret::expose);
                serde_json::to_vec(&JoinPayload { config: &config, access_token })
                    .expect("a join payload has nothing that JSON cannot say")
            }
        };
        let topic = alloc::sync::Arc::clone(&slot.topic);
        let body = json(&payload);
        self.frame(socket, Some(join_ref), Some(join_ref), &topic, "phx_join", body)
    }

    /// Writes the token of this moment, for a channel that is still joined.
    fn token(&mut self, socket: SocketId, id: ChannelId) -> Option<Transmit> {
        let slot = self.channels.get_mut(id)?;
        slot.token_queued = false;
        let join_ref = slot.joined()?;
        let topic = alloc::sync::Arc::clone(&slot.topic);
        let mut payload = core::mem::take(&mut self.payload.0);
        payload.clear();
        payload.extend_from_slice(b"{\"access_token\":");
        match self.ctx.token.current() {
            Some(token) => wire::write_json_string(token.expose(), &mut payload),
            None => payload.extend_from_slice(b"null"),
        }
        payload.push(b'}');
        let msg_ref = self.ctx.socket.connection_mut()?.make_ref();
        let (join_ref, msg_ref) = (Some(join_ref), Some(msg_ref));
        let body = json(&payload);
        let transmit = self.frame(socket, join_ref, msg_ref, &topic, "access_token", body);
        self.payload.0 = payload;
        transmit
    }

    /// Writes what is to be tracked at this moment, for a channel that is still joined.
    fn track(&mut self, socket: SocketId, id: ChannelId) -> Option<Transmit> {
        let slot = self.channels.get_mut(id)?;
        let join_ref = slot.joined()?;
        let tracked = slot.track.take()?;
        let mut payload = core::mem::take(&mut self.payload.0);
        payload.clear();
        payload.extend_from_slice(b"{\"type\":\"presence\",\"event\":");
        match tracked {
            Some(tracked) => {
                payload.extend_from_slice(b"\"track\",\"payload\":");
                payload.extend_from_slice(tracked.as_bytes());
                payload.push(b'}');
            }
            None => payload.extend_from_slice(b"\"untrack\"}"),
        }
        let waiter = Waiter::Track(id);
        let msg_ref = self.ctx.socket.connection_mut()?.make_ref_for(waiter, self.ctx.now);
        slot.track.on_taken(msg_ref);
        let topic = alloc::sync::Arc::clone(&slot.topic);
        let (join_ref, msg_ref) = (Some(join_ref), Some(msg_ref));
        let body = json(&payload);
        let transmit = self.frame(socket, join_ref, msg_ref, &topic, "presence", body);
        self.payload.0 = payload;
        transmit
    }

    fn message(
        &mut self,
        socket: SocketId,
        topic: &str,
        join_ref: Ref,
        msg_ref: Ref,
        message: &Message,
    ) -> Option<Transmit> {
        let (join_ref, msg_ref) = (Some(join_ref), Some(msg_ref));
        match message {
            Message::Event { event, payload } => {
                let body = match payload.as_json() {
                    Some(text) => Body::Json(text),
                    None => Body::Binary(payload.as_bytes()),
                };
                self.frame(socket, join_ref, msg_ref, topic, event, body)
            }
            Message::Broadcast { event, payload } => {
                let mut text = core::mem::take(&mut self.payload.0);
                text.clear();
                write_broadcast(event, payload.as_json().unwrap_or("{}"), &mut text);
                let body = json(&text);
                let transmit = self.frame(socket, join_ref, msg_ref, topic, "broadcast", body);
                self.payload.0 = text;
                transmit
            }
            Message::UserBroadcast { event, payload, persist } => {
                let encoding = if payload.is_binary() { Encoding::Binary } else { Encoding::Json };
                let metadata = persist.map(Persist::metadata);
                let (metadata, payload) = (metadata.as_deref(), payload.as_bytes());
                let body = Body::UserBroadcast { event, encoding, metadata, payload };
                self.frame(socket, join_ref, msg_ref, topic, "broadcast", body)
            }
        }
    }

    /// Writes an envelope into a frame of its own: one allocation, of exactly its size.
    fn frame(
        &mut self,
        socket: SocketId,
        join_ref: Option<Ref>,
        msg_ref: Option<Ref>,
        topic: &str,
        event: &str,
        body: Body<'_>,
    ) -> Option<Transmit> {
        let (join_ref, msg_ref) = (join_ref.map(Ref::digits), msg_ref.map(Ref::digits));
        let envelope = Envelope {
            join_ref: join_ref.as_ref().map(|digits| digits.as_str().into()),
            msg_ref: msg_ref.as_ref().map(|digits| digits.as_str().into()),
            topic: topic.into(),
            event: event.into(),
            body,
        };
        let vsn = self.ctx.config.vsn;
        let kind = wire::encode(vsn, Sender::Client, &envelope, &mut self.scratch.0)
            .expect("what cannot be written is refused when it is pushed");
        let bytes = Bytes::copy_from_slice(&self.scratch.0);
        self.ctx.stats.frames_sent += 1;
        let frame = match kind {
            FrameKind::Text => Frame::Text(bytes),
            FrameKind::Binary => Frame::Binary(bytes),
        };
        Some(Transmit::Frame { socket, frame })
    }
}

fn json(payload: &[u8]) -> Body<'_> {
    Body::Json(core::str::from_utf8(payload).expect("JSON that this crate wrote is UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::config::{ChannelConfig, Config};
    use crate::time::Instant;

    #[test]
    fn debug_output_does_not_show_the_frame_that_carried_the_token() {
        let token = "very-secret";
        let config = Config::builder("ws://h/s").access_token(token).build().unwrap();
        let now = Instant::EPOCH;
        let mut client = Client::new(config, 1, now);
        let channel = ChannelConfig::supabase(JoinConfig::default());
        client.open_channel("realtime:a", channel, now).unwrap();
        client.connect(now);
        let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
        client.handle_open(socket, now);
        assert!(matches!(client.poll_transmit(), Some(Transmit::Frame { .. })));
        let shown = format!("{client:?}");
        let bytes = format!("{:?}", token.as_bytes());
        assert!(!shown.contains(token));
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}

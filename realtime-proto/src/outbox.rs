//! What waits for the driver. Frames are written when they are taken, not when they are queued.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::{ChannelId, PushId, Ref, SocketId};
use crate::payload::Payload;
use crate::supabase::Persist;

/// One thing for the driver to do.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Open {
        socket: SocketId,
    },
    Close {
        socket: SocketId,
        code: u16,
        reason: Cow<'static, str>,
    },
    Heartbeat {
        socket: SocketId,
        msg_ref: Ref,
    },
    /// Written from the channel's live configuration and the current token.
    Join {
        socket: SocketId,
        channel: ChannelId,
        join_ref: Ref,
    },
    Leave {
        socket: SocketId,
        topic: Arc<str>,
        join_ref: Ref,
        msg_ref: Ref,
    },
    /// Written with the token that is current then.
    Token {
        socket: SocketId,
        channel: ChannelId,
    },
    /// Written with what is to be tracked then.
    Track {
        socket: SocketId,
        channel: ChannelId,
    },
    Message {
        socket: SocketId,
        topic: Arc<str>,
        join_ref: Ref,
        msg_ref: Ref,
        message: Message,
        /// The push that asks for no reply and ends as this is taken.
        ends: Option<(ChannelId, PushId)>,
    },
}

/// An application's message.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// An event of a Phoenix application.
    Event { event: String, payload: Payload },
    /// A Supabase broadcast of JSON, sent as text, which every server version relays.
    Broadcast { event: String, payload: Payload },
    /// A Supabase broadcast of bytes, or one to be kept, sent as a binary frame.
    UserBroadcast { event: String, payload: Payload, persist: Option<Persist> },
}

impl Outgoing {
    /// The connection that a frame belongs to; `None` for orders, which outlive it.
    const fn frame_of(&self) -> Option<SocketId> {
        match self {
            Self::Heartbeat { socket, .. }
            | Self::Join { socket, .. }
            | Self::Leave { socket, .. }
            | Self::Token { socket, .. }
            | Self::Track { socket, .. }
            | Self::Message { socket, .. } => Some(*socket),
            Self::Open { .. } | Self::Close { .. } => None,
        }
    }
}

/// The queue, in the order in which things have to be done.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Outgoing>,
}

impl Outbox {
    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.queue.push_back(outgoing);
    }

    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        self.queue.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Ends a connection or an attempt; one that the driver was not asked for yet is withdrawn.
    pub(crate) fn close(&mut self, socket: SocketId, reason: &'static str) {
        let asked = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Open { socket: open } if *open == socket);
        match self.queue.iter().position(asked) {
            Some(at) => drop(self.queue.remove(at)),
            None => self.push(Outgoing::Close { socket, code: 1000, reason: reason.into() }),
        }
    }

    /// Drops the frames of a connection that is gone, and tells which pushes end with theirs.
    pub(crate) fn discard_frames(&mut self, socket: SocketId) -> Vec<(ChannelId, PushId)> {
        let mut ended = Vec::new();
        self.queue.retain(|outgoing| {
            let stays = outgoing.frame_of() != Some(socket);
            if let (false, Outgoing::Message { ends, .. }) = (stays, outgoing) {
                ended.extend(*ends);
            }
            stays
        });
        ended
    }

    /// Drops all about a connection that the driver has no more, and tells which pushes end so.
    pub(crate) fn forget(&mut self, socket: SocketId) -> Vec<(ChannelId, PushId)> {
        let closes = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Close { socket: closed, .. } if *closed == socket);
        self.queue.retain(|outgoing| !closes(outgoing));
        self.discard_frames(socket)
    }
}

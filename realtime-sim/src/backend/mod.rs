//! A server of a world: the honest server half, and what makes it a bad one.
//!
//! What it does wrong is what a real server or what stands before it could do. While nothing is
//! armed, frames pass untouched and unread.

mod forge;
mod gate;
mod mischief;

use std::collections::{BTreeMap, VecDeque};

use realtime_proto::server::{Server, ServerConfig, ServerEvent, ServerTransmit, SessionId};
use realtime_proto::wire::Vsn;
use realtime_proto::{CloseReason, Frame, Instant};

pub(crate) use mischief::{Fate, Mischief};

use crate::NodeId;
use crate::coverage::{Effect, Effects};
use crate::scenario::Garbage;

/// The honest server half behind its mischief.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) server: Server,
    /// Who is behind each session.
    visitors: BTreeMap<SessionId, Visitor>,
    /// The last joins of each node and topic, by their refs, the newest last.
    joins: BTreeMap<(NodeId, String), Vec<String>>,
    /// While it is away it takes no connection, and says so in this way.
    pub(crate) away: Option<CloseReason>,
    /// What it does wrong, while it does anything wrong.
    mischief: Option<Box<Mischief>>,
    /// What goes out before anything else of the honest half.
    outbox: VecDeque<Out>,
    /// What the honest half said, whatever became of it, while somebody wants to know.
    pub(crate) spoken: Option<Vec<Frame>>,
    /// What it did wrong so far.
    pub(crate) effects: Effects,
}

#[derive(Debug)]
struct Visitor {
    node: NodeId,
    vsn: Vsn,
}

/// What comes out of a server.
#[derive(Debug)]
pub(crate) enum Out {
    Frame { session: SessionId, frame: Frame },
    Close { session: SessionId, reason: CloseReason },
    Told(ServerEvent),
}

/// How many joins of a node and topic are remembered.
const JOINS_MAX: usize = 8;

impl Backend {
    pub(crate) fn new(config: ServerConfig, seed: u64, now: Instant) -> Self {
        Self {
            server: Server::new(config, seed, now),
            visitors: BTreeMap::new(),
            joins: BTreeMap::new(),
            away: None,
            mischief: None,
            outbox: VecDeque::new(),
            spoken: None,
            effects: Effects::default(),
        }
    }

    pub(crate) fn accept(
        &mut self,
        target: &str,
        node: NodeId,
        now: Instant,
    ) -> Result<SessionId, CloseReason> {
        if let Some(reason) = &self.away {
            return Err(reason.clone());
        }
        if let Some(retry_after) = self.mischief.as_ref().and_then(|it| it.full_for(node, now)) {
            self.effects.add(Effect::Full);
            let body = r#"{"error":"Too many joins per second"}"#.into();
            return Err(CloseReason::Refused { status: 429, body, retry_after: Some(retry_after) });
        }
        let accepted = self.server.accept(target, now);
        let session = accepted.map_err(|refusal| CloseReason::Refused {
            status: refusal.status,
            body: refusal.body.to_string(),
            retry_after: None,
        })?;
        self.visitors.insert(session, Visitor { node, vsn: Vsn::V2 });
        Ok(session)
    }

    /// The sessions of a node.
    pub(crate) fn sessions_of(&self, node: NodeId) -> Vec<SessionId> {
        let visitors = self.visitors.iter().filter(|(_, visitor)| visitor.node == node);
        visitors.map(|(session, _)| *session).collect()
    }

    /// What it does wrong, to be added to.
    pub(crate) fn mischief(&mut self) -> &mut Mischief {
        self.mischief.get_or_insert_default()
    }

    pub(crate) fn handle_frame(&mut self, session: SessionId, frame: Frame, now: Instant) {
        if self.mischief.is_none() {
            self.server.handle_frame(session, frame, now);
        } else {
            self.take(session, frame, now);
        }
    }

    pub(crate) fn handle_close(&mut self, session: SessionId, now: Instant) {
        self.forget(session);
        self.server.handle_close(session, now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
        if self.mischief.is_some() {
            self.release_due(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let held = self.mischief.as_ref().and_then(|mischief| mischief.next_at());
        self.server.poll_timeout().into_iter().chain(held).min()
    }

    /// The next thing that comes out.
    ///
    /// # Panics
    ///
    /// When the server half asks for something this version does not know.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Out> {
        loop {
            if let Some(out) = self.outbox.pop_front() {
                return Some(out);
            }
            let Some(transmit) = self.server.poll_transmit() else { break };
            if let (Some(spoken), ServerTransmit::Frame { frame, .. }) =
                (&mut self.spoken, &transmit)
            {
                spoken.push(frame.clone());
            }
            match transmit {
                ServerTransmit::Frame { session, frame } if self.mischief.is_none() => {
                    return Some(Out::Frame { session, frame });
                }
                transmit => self.pass(transmit, now),
            }
        }
        if self.mischief.as_ref().is_some_and(|mischief| mischief.is_over()) {
            self.mischief = None;
        }
        let event = self.server.poll_event()?;
        self.note(&event);
        Some(Out::Told(event))
    }

    /// Takes what the honest half asks for through the mischief and into the outbox.
    fn pass(&mut self, transmit: ServerTransmit, now: Instant) {
        let (session, reason) = match transmit {
            ServerTransmit::Frame { session, frame } => {
                return self.pass_frame(session, frame, now);
            }
            ServerTransmit::Close { session, code, reason } => {
                (session, CloseReason::Closed { code, reason: reason.into() })
            }
            ServerTransmit::Cut { session } => {
                let detail = "the server cut the connection".into();
                (session, CloseReason::Lost { detail })
            }
            other => panic!("the server asks for something unknown: {other:?}"),
        };
        self.forget(session);
        self.outbox.push_back(Out::Close { session, reason });
    }

    /// Remembers of sessions and joins what mischief needs to know later.
    fn note(&mut self, event: &ServerEvent) {
        match event {
            ServerEvent::Opened { session, vsn } => {
                if let Some(visitor) = self.visitors.get_mut(session) {
                    visitor.vsn = *vsn;
                }
            }
            ServerEvent::Joined { session, topic } => {
                let node = self.visitors.get(session).map(|visitor| visitor.node);
                let join_ref = self.server.join_ref(*session, topic);
                if let (Some(node), Some(join_ref)) = (node, join_ref) {
                    let joins = self.joins.entry((node, topic.clone())).or_default();
                    if joins.len() >= JOINS_MAX {
                        joins.remove(0);
                    }
                    joins.push(join_ref.into());
                }
            }
            ServerEvent::Closed { .. }
            | ServerEvent::Refused { .. }
            | ServerEvent::Left { .. }
            | ServerEvent::Subscribed { .. }
            | ServerEvent::Tracked { .. }
            | ServerEvent::Untracked { .. }
            | ServerEvent::Malformed { .. }
            | _ => {}
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.visitors.remove(&session);
        if let Some(mischief) = &mut self.mischief {
            mischief.forget(session);
        }
    }
}

// Frames that come at once and that the honest half knows nothing of.
impl Backend {
    /// Sends the end of an older join of a joined channel, `phx_close` or `phx_error`; nothing
    /// when there was no older one.
    pub(crate) fn send_stale_end(&mut self, node: NodeId, topic: &str, event: &str, now: Instant) {
        let is_close = event == "phx_close";
        let effect = if is_close { Effect::StaleClose } else { Effect::StaleError };
        for session in self.sessions_of(node) {
            let Some(current) = self.server.join_ref(session, topic) else { continue };
            // Refs start anew with each connection, so that an older join of another connection
            // may bear a ref that this one has now or will have.
            let is_older = |older: &&String| {
                let number = |text: &str| text.parse::<u64>().ok();
                number(older)
                    .is_some_and(|older| number(current).is_some_and(|current| older < current))
            };
            let joins = self.joins.get(&(node, topic.to_owned()));
            let Some(older) = joins.and_then(|joins| joins.iter().rev().find(is_older)) else {
                continue;
            };
            let frame = forge::end(self.vsn(session), older, topic, event);
            self.effects.add(effect);
            // What a channel says comes behind the close of the one before.
            self.release_of(session, topic, now);
            self.emit(session, frame, now);
        }
    }

    /// Sends frames that should not be.
    pub(crate) fn send_garbage(
        &mut self,
        node: NodeId,
        what: impl Iterator<Item = Garbage>,
        now: Instant,
    ) {
        let sessions = self.sessions_of(node);
        for what in what {
            for session in &sessions {
                let place = self.place(*session, node);
                let place = place.as_ref().map(|(topic, join_ref)| (&**topic, &**join_ref));
                let frame = forge::garbage(what, self.vsn(*session), place);
                self.effects.add(Effect::Garbage);
                self.emit(*session, frame, now);
            }
        }
    }

    /// Sends a frame that is larger than any client takes.
    pub(crate) fn send_giant(&mut self, node: NodeId, now: Instant) {
        for session in self.sessions_of(node) {
            self.effects.add(Effect::Giant);
            self.emit(session, forge::giant(), now);
        }
    }

    /// A channel of a session that is joined.
    fn place(&self, session: SessionId, node: NodeId) -> Option<(String, String)> {
        self.joins.keys().filter(|(of, _)| *of == node).find_map(|(_, topic)| {
            let join_ref = self.server.join_ref(session, topic)?;
            Some((topic.clone(), join_ref.to_owned()))
        })
    }

    fn vsn(&self, session: SessionId) -> Vsn {
        self.visitors.get(&session).map_or_else(Vsn::default, |visitor| visitor.vsn)
    }
}

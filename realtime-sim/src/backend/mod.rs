//! A server of a world: the honest server half, and what makes it a bad one.

use std::collections::BTreeMap;

use realtime_proto::server::{Server, ServerConfig, ServerEvent, ServerTransmit, SessionId};
use realtime_proto::{CloseReason, Frame, Instant};

use crate::NodeId;

/// The honest server half behind its mischief.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) server: Server,
    /// Who is behind each session.
    visitors: BTreeMap<SessionId, NodeId>,
    /// While it is away it takes no connection, and says so in this way.
    pub(crate) away: Option<CloseReason>,
}

/// What comes out of a server.
#[derive(Debug)]
pub(crate) enum Out {
    Frame { session: SessionId, frame: Frame },
    Close { session: SessionId, reason: CloseReason },
    Told(ServerEvent),
}

impl Backend {
    pub(crate) fn new(config: ServerConfig, seed: u64, now: Instant) -> Self {
        Self { server: Server::new(config, seed, now), visitors: BTreeMap::new(), away: None }
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
        let accepted = self.server.accept(target, now);
        let session = accepted.map_err(|refusal| CloseReason::Refused {
            status: refusal.status,
            body: refusal.body.to_string(),
            retry_after: None,
        })?;
        self.visitors.insert(session, node);
        Ok(session)
    }

    /// The sessions of a node.
    pub(crate) fn sessions_of(&self, node: NodeId) -> Vec<SessionId> {
        let visitors = self.visitors.iter().filter(|(_, visitor)| **visitor == node);
        visitors.map(|(session, _)| *session).collect()
    }

    /// Ends all mischief.
    pub(crate) fn calm(&mut self, _: Instant) {}

    pub(crate) fn handle_frame(&mut self, session: SessionId, frame: Frame, now: Instant) {
        self.server.handle_frame(session, frame, now);
    }

    pub(crate) fn handle_close(&mut self, session: SessionId, now: Instant) {
        self.visitors.remove(&session);
        self.server.handle_close(session, now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    /// The next thing that comes out.
    ///
    /// # Panics
    ///
    /// When the server half asks for something this version does not know.
    pub(crate) fn poll(&mut self) -> Option<Out> {
        if let Some(transmit) = self.server.poll_transmit() {
            return Some(match transmit {
                ServerTransmit::Frame { session, frame } => Out::Frame { session, frame },
                ServerTransmit::Close { session, code, reason } => Out::Close {
                    session,
                    reason: CloseReason::Closed { code, reason: reason.into() },
                },
                ServerTransmit::Cut { session } => {
                    let detail = "the server cut the connection".into();
                    Out::Close { session, reason: CloseReason::Lost { detail } }
                }
                other => panic!("the server asks for something unknown: {other:?}"),
            });
        }
        self.server.poll_event().map(Out::Told)
    }
}

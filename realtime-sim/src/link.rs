//! One WebSocket between a node and the server, and the network a node sits behind.

use core::time::Duration;
use std::collections::VecDeque;

use realtime_proto::server::SessionId;
use realtime_proto::{CloseReason, Frame, Instant, SocketId};

use crate::NodeId;
use crate::seed::{Draw, Seed};

/// How long things take on the way.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_sim::Network;
///
/// let mobile = Network { delay: Duration::from_millis(80), jitter: Duration::from_millis(200) };
/// assert!(mobile.delay > Network::default().delay);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// What every message takes at least, one way. Default 20 ms.
    pub delay: Duration,
    /// The most that is added to it, drawn for each message. Default zero.
    pub jitter: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { delay: Duration::from_millis(20), jitter: Duration::ZERO }
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Node,
    Server,
}

/// What travels on a link, in order.
#[derive(Debug)]
pub(crate) enum Carried {
    /// The request to upgrade, with path and query; to the server.
    Upgrade {
        target: String,
    },
    /// The upgrade was accepted; to the node.
    Opened,
    /// The link never opened, or it ended; to the node.
    Failed(CloseReason),
    Frame(Frame),
    /// A close frame, or the end of the stream; to the server.
    Ended,
}

/// One WebSocket, from the attempt to open it until neither end has it any more.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) socket: SocketId,
    /// The server's name for it, once it was accepted and while it lasts.
    pub(crate) session: Option<SessionId>,
    /// Whether the node still has it; what arrives later is lost.
    pub(crate) wanted: bool,
    /// Whether the node was told that it is open.
    pub(crate) open: bool,
    /// Whether nothing gets through, though both ends have it.
    pub(crate) stalled: bool,
    network: Network,
    draw: Draw,
    /// When the last message to each end arrives; a WebSocket keeps the order.
    node_busy_until: Instant,
    server_busy_until: Instant,
    /// Messages that arrived nowhere, because the link is stalled.
    held: VecDeque<(End, Carried)>,
}

/// A stalled link that holds more than this has no real counterpart.
const HELD_MAX: usize = 100_000;

impl Link {
    pub(crate) fn new(node: NodeId, socket: SocketId, network: Network, seed: Seed) -> Self {
        Self {
            node,
            socket,
            session: None,
            wanted: true,
            open: false,
            stalled: false,
            network,
            draw: Draw::new(seed),
            node_busy_until: Instant::EPOCH,
            server_busy_until: Instant::EPOCH,
            held: VecDeque::new(),
        }
    }

    /// When something that leaves now arrives, behind all that left before it.
    pub(crate) fn arrival(&mut self, to: End, now: Instant) -> Instant {
        let at = now + self.network.delay + self.draw.up_to(self.network.jitter);
        let busy_until = match to {
            End::Node => &mut self.node_busy_until,
            End::Server => &mut self.server_busy_until,
        };
        *busy_until = at.max(*busy_until);
        *busy_until
    }

    /// Keeps something that arrived while the link was stalled.
    ///
    /// # Panics
    ///
    /// When it holds far more than any socket buffer would.
    pub(crate) fn hold(&mut self, to: End, carried: Carried) {
        assert!(self.held.len() < HELD_MAX, "a stalled link holds {HELD_MAX} messages");
        self.held.push_back((to, carried));
    }

    /// What was held, in order.
    pub(crate) fn release(&mut self) -> VecDeque<(End, Carried)> {
        core::mem::take(&mut self.held)
    }

    /// Whether neither end has it any more.
    pub(crate) const fn is_over(&self) -> bool {
        !self.wanted && self.session.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_never_changes_the_order() {
        let network = Network { jitter: Duration::from_secs(1), ..Network::default() };
        let mut client = realtime_proto::Client::new(
            realtime_proto::Config::builder("ws://server").build().unwrap(),
            0,
            Instant::EPOCH,
        );
        client.connect(Instant::EPOCH);
        let Some(realtime_proto::Transmit::Open { socket, .. }) = client.poll_transmit() else {
            panic!("no attempt to open");
        };
        let mut link = Link::new(NodeId(0), socket, network, Seed(1));
        let mut last = Instant::EPOCH;
        for millis in 0..1_000 {
            let now = Instant::EPOCH + Duration::from_millis(millis);
            let at = link.arrival(End::Node, now);
            assert!(at >= last && at >= now + network.delay);
            last = at;
        }
    }
}

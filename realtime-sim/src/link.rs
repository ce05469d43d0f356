//! One WebSocket between a node and a server, and the weather on the way.

use core::time::Duration;
use std::collections::VecDeque;

use realtime_proto::server::SessionId;
use realtime_proto::{CloseReason, Frame, Instant};

use crate::NodeId;
use crate::fault::Sky;
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

/// What makes the way of a node's messages worse than its network is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// How many bytes a second get to the server, if it is few.
    pub(crate) up_rate: Option<u32>,
    /// How many bytes a second get to the node, if it is few.
    pub(crate) down_rate: Option<u32>,
    /// Whether each frame is complete only when its last piece came.
    pub(crate) splits: bool,
    /// To the node, everything of such a span arrives at its end.
    pub(crate) coalesces: Option<Duration>,
}

impl Weather {
    /// One kind of it is over.
    pub(crate) const fn clear(&mut self, sky: Sky) {
        match sky {
            Sky::Delay => self.delay = Duration::ZERO,
            Sky::Jitter => self.jitter = Duration::ZERO,
            Sky::SlowWriter => self.up_rate = None,
            Sky::SlowReader => self.down_rate = None,
            Sky::Split => self.splits = false,
            Sky::Coalesce => self.coalesces = None,
        }
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Carried {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.as_bytes().len() + 14,
            Self::Upgrade { .. } | Self::Opened => 500,
            Self::Failed(_) | Self::Ended => 4,
        }
    }
}

/// Something on its way, and when it left.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) carried: Carried,
    pub(crate) left_at: Instant,
}

/// One direction of a link.
#[derive(Debug)]
struct Lane {
    /// How many faults keep it from delivering.
    holds: u32,
    /// What arrived while it was held, in order.
    held: VecDeque<Parcel>,
    /// When the last message arrives; a WebSocket keeps the order.
    busy_until: Instant,
    bytes: usize,
}

impl Lane {
    const fn new() -> Self {
        Self { holds: 0, held: VecDeque::new(), busy_until: Instant::EPOCH, bytes: 0 }
    }
}

/// One WebSocket, from the attempt to open it until neither end has it any more.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    /// The node's number for the socket, and the connection it is of.
    pub(crate) socket: u32,
    pub(crate) connection: u32,
    /// Which server it leads to.
    pub(crate) server: usize,
    /// The server's name for it, once it was accepted and while it lasts.
    pub(crate) session: Option<SessionId>,
    /// Whether the node still has it; what arrives later is lost.
    pub(crate) wanted: bool,
    /// Whether the node was told that it is open.
    pub(crate) open: bool,
    network: Network,
    draw: Draw,
    up: Lane,
    down: Lane,
}

/// More messages than this no held direction of a link takes.
const HELD_MAX: usize = 1_000_000;

impl Link {
    pub(crate) fn new(
        node: NodeId,
        (socket, connection): (u32, u32),
        server: usize,
        network: Network,
        seed: Seed,
    ) -> Self {
        Self {
            node,
            socket,
            connection,
            server,
            session: None,
            wanted: true,
            open: false,
            network,
            draw: Draw::new(seed),
            up: Lane::new(),
            down: Lane::new(),
        }
    }

    const fn lane(&mut self, to: End) -> &mut Lane {
        match to {
            End::Node => &mut self.down,
            End::Server => &mut self.up,
        }
    }

    /// When something that leaves now arrives, behind all that left before it.
    pub(crate) fn arrival(
        &mut self,
        to: End,
        carried: &Carried,
        weather: &Weather,
        now: Instant,
    ) -> Instant {
        let bytes = carried.bytes();
        let jitter = self.network.jitter + weather.jitter;
        let mut at = now + self.network.delay + weather.delay + self.draw.up_to(jitter);
        if weather.splits && bytes > 64 {
            // A few more packets, each of which takes its time.
            let pieces = 1 + self.draw.below(4) as u32;
            at = at + (self.network.delay + weather.delay) * pieces;
        }
        let lane = self.lane(to);
        at = at.max(lane.busy_until);
        let rate = match to {
            End::Node => weather.down_rate,
            End::Server => weather.up_rate,
        };
        if let Some(rate) = rate {
            at = at + Duration::from_millis(bytes as u64 * 1_000 / u64::from(rate));
        }
        if let (End::Node, Some(every)) = (to, weather.coalesces) {
            let every = every.max(Duration::from_millis(1)).as_micros();
            let micros = at.since_epoch().as_micros().div_ceil(every) * every;
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            at = Instant::from_epoch(Duration::from_micros(micros));
        }
        lane.busy_until = at;
        lane.bytes += bytes;
        at
    }

    /// Whether a direction holds so many messages that it takes no more.
    pub(crate) fn is_full(&self, to: End) -> bool {
        let lane = match to {
            End::Node => &self.down,
            End::Server => &self.up,
        };
        lane.held.len() >= HELD_MAX
    }

    /// Something got to an end: it is taken unless the lane is held.
    pub(crate) fn take(&mut self, to: End, parcel: Parcel) -> Option<Parcel> {
        let lane = self.lane(to);
        if lane.holds == 0 && lane.held.is_empty() {
            lane.bytes -= parcel.carried.bytes();
            return Some(parcel);
        }
        lane.held.push_back(parcel);
        None
    }

    /// Something got to an end that is parted from the other: it waits.
    pub(crate) fn wait(&mut self, to: End, parcel: Parcel) {
        self.lane(to).held.push_back(parcel);
    }

    /// Keeps one direction from delivering until it is released as often.
    pub(crate) const fn hold(&mut self, to: End) {
        self.lane(to).holds += 1;
    }

    /// Ends one hold of a direction.
    pub(crate) const fn release(&mut self, to: End) {
        let lane = self.lane(to);
        lane.holds = lane.holds.saturating_sub(1);
    }

    /// Ends every hold of both directions.
    pub(crate) const fn release_all(&mut self) {
        self.up.holds = 0;
        self.down.holds = 0;
    }

    /// The next message that was held and is not any more.
    pub(crate) fn next_released(&mut self, to: End) -> Option<Parcel> {
        let lane = self.lane(to);
        if lane.holds > 0 {
            return None;
        }
        let parcel = lane.held.pop_front()?;
        lane.bytes -= parcel.carried.bytes();
        Some(parcel)
    }

    /// Whether so much is under way to the server that a write would block.
    pub(crate) const fn blocks_writes(&self, buffer_bytes: usize) -> bool {
        self.up.bytes > buffer_bytes
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
    fn what_arrives_together_after_a_very_long_time_does_not_arrive_in_the_past() {
        let mut link = Link::new(NodeId(0), (0, 0), 0, Network::default(), Seed(1));
        let weather = Weather { coalesces: Some(Duration::from_secs(1)), ..Weather::default() };
        let millennia = Instant::from_epoch(Duration::from_micros(u64::MAX - 5_000_000));
        let now = millennia + Duration::from_secs(10);
        let at = link.arrival(End::Node, &Carried::Opened, &weather, now);
        assert!(at > millennia, "{at}");
    }

    #[test]
    fn jitter_never_changes_the_order() {
        let network = Network { jitter: Duration::from_secs(1), ..Network::default() };
        let mut link = Link::new(NodeId(0), (0, 0), 0, network, Seed(1));
        let mut last = Instant::EPOCH;
        for millis in 0..1_000 {
            let now = Instant::EPOCH + Duration::from_millis(millis);
            let at = link.arrival(End::Node, &Carried::Opened, &Weather::default(), now);
            assert!(at >= last && at >= now + network.delay);
            last = at;
        }
    }
}

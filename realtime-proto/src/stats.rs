//! Numbers an operator watches, as plain data.

use core::time::Duration;

/// What a client did since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were opened.
    pub connects: u64,
    /// Connections that ended, or could not be opened, without this side asking.
    pub disconnects: u64,
    /// Frames received on the current connection of their time.
    pub frames_received: u64,
    /// Frames handed to the driver.
    pub frames_sent: u64,
    /// Joins that were sent.
    pub joins: u64,
    /// Joins that were accepted.
    pub joins_accepted: u64,
    /// Input for a connection that is gone.
    pub stale_sockets: u64,
    /// Messages of an older join, and replies nobody waits for any more.
    pub stale_messages: u64,
    /// Replayed broadcasts that had been delivered before.
    pub duplicates: u64,
    /// Messages for topics that are not open.
    pub unknown_topics: u64,
    /// Frames and messages that were wrong, see [`Violation`](crate::Violation).
    pub violations: u64,
    /// Frames dropped because the application did not take its events.
    pub frames_dropped: u64,
    /// The last round trip of a heartbeat.
    pub round_trip: Option<Duration>,
    /// Channels now.
    pub channels: usize,
    /// Channels that are live now.
    pub channels_live: usize,
}

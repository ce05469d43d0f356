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

impl Stats {
    /// Adds what another client did; of the round trips the longer one stays.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.frames_received += other.frames_received;
        self.frames_sent += other.frames_sent;
        self.joins += other.joins;
        self.joins_accepted += other.joins_accepted;
        self.stale_sockets += other.stale_sockets;
        self.stale_messages += other.stale_messages;
        self.duplicates += other.duplicates;
        self.unknown_topics += other.unknown_topics;
        self.violations += other.violations;
        self.frames_dropped += other.frames_dropped;
        self.round_trip = self.round_trip.max(other.round_trip);
        self.channels += other.channels;
        self.channels_live += other.channels_live;
    }
}

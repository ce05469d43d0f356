//! The bound of every queue and map, in one place.

use core::time::Duration;

/// How much of everything one client keeps; beyond a bound something explicit happens.
///
/// The defaults stay inside what a hosted Supabase project allows (protocol §6.5).
///
/// # Examples
///
/// ```
/// use realtime_proto::Limits;
///
/// let mut limits = Limits::default();
/// limits.channels_max = 10_000;
/// assert_eq!(limits.pushes_buffered_max, 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Channels of one client; one more is [`OpenError::TooMany`](crate::OpenError). Default 100,
    /// which is what one connection may hold on Supabase and on Phoenix.
    pub channels_max: usize,
    /// Row-change bindings of one channel, at most 64. Default 64.
    pub bindings_max: usize,
    /// Pushes of one channel that wait for the join; one more is
    /// [`PushError::BufferFull`](crate::PushError). Default 100.
    pub pushes_buffered_max: usize,
    /// Pushes of one channel that wait for their reply. Default 1,000.
    pub pushes_in_flight_max: usize,
    /// Frames that wait for the driver to write them; with more, pushes are refused. Default 4,096.
    pub transmits_queued_max: usize,
    /// Events that wait for the application; from here on
    /// [`wants_frames`](crate::Client::wants_frames) is false, and at twice as many frames are
    /// dropped and counted. Default 4,096.
    pub events_queued_max: usize,
    /// Bytes of one frame, in either direction. Default 5,000,000.
    pub frame_bytes_max: usize,
    /// Bytes of a broadcast's payload; one more is
    /// [`PushError::TooLarge`](crate::PushError). Default 3,000,000, as a project has it; a server
    /// counts them in an encoding of its own, in which numbers can be larger than in JSON.
    pub broadcast_bytes_max: usize,
    /// Members of one presence; those beyond are left out and counted. Default 100,000.
    pub presence_keys_max: usize,
    /// Appearances of one member, as of one user in many tabs; those beyond are left out and counted.
    /// Default 1,000.
    pub presence_metas_max: usize,
    /// Presence diffs held while the snapshot of the current join is awaited. Default 1,000.
    pub presence_diffs_held_max: usize,
    /// Presence calls of one channel within [`presence_window`](Self::presence_window). Default 5.
    pub presence_calls_max: usize,
    /// The span the server counts presence calls in. Default 30 s.
    pub presence_window: Duration,
    /// Joins a second, which may come in one burst. Default 50.
    pub joins_per_second_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels_max: 100,
            bindings_max: 64,
            pushes_buffered_max: 100,
            pushes_in_flight_max: 1_000,
            transmits_queued_max: 4_096,
            events_queued_max: 4_096,
            frame_bytes_max: 5_000_000,
            broadcast_bytes_max: 3_000_000,
            presence_keys_max: 100_000,
            presence_metas_max: 1_000,
            presence_diffs_held_max: 1_000,
            presence_calls_max: 5,
            presence_window: Duration::from_secs(30),
            joins_per_second_max: 50,
        }
    }
}

//! Supabase Realtime and Phoenix Channels as sans-IO state machines.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backoff;
mod channel;
mod client;
mod config;
mod context;
mod error;
mod event;
mod ids;
mod limits;
pub mod manager;
mod outbox;
mod pacing;
mod payload;
mod presence;
mod rng;
mod secret;
#[cfg(feature = "server")]
pub mod server;
mod socket;
mod stats;
pub mod supabase;
mod time;
mod timer;
mod transmit;
pub mod wire;

pub use backoff::{Backoff, Schedule};
pub use bytes::Bytes;
pub use channel::{Channel, ChannelState};
pub use client::Client;
pub use config::{ChannelConfig, Config, ConfigBuilder, ConfigError};
pub use error::{BindError, OpenError, PushError};
pub use event::{BindingId, BindingSet, ChannelEvent, Event, Outcome, Status, Violation};
pub use ids::{ChannelId, PushId, SocketId};
pub use limits::Limits;
pub use payload::{Payload, PayloadError};
pub use presence::{Member, Meta, Presence, PresenceDiff};
pub use secret::Secret;
pub use stats::Stats;
pub use time::Instant;
pub use timer::Timer;
pub use transmit::{CloseReason, Frame, Transmit};

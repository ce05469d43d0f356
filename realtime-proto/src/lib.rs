//! Supabase Realtime and Phoenix Channels as sans-IO state machines.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ids;
mod payload;
mod rng;
mod secret;
#[cfg(feature = "server")]
pub mod server;
pub mod supabase;
mod time;
mod transmit;
pub mod wire;

pub use bytes::Bytes;
pub use ids::{ChannelId, PushId, SocketId};
pub use payload::{Payload, PayloadError};
pub use secret::Secret;
pub use time::Instant;
pub use transmit::{CloseReason, Frame, Transmit};

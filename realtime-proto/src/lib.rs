//! Supabase Realtime and Phoenix Channels as sans-IO state machines.
//!
//! [`Client`] is one logical connection: it joins channels, heartbeats, reconnects with jitter,
//! joins again, tracks presence, and matches replies. [`manager::Manager`] sits on top and owns
//! every channel of an application, keyed by entity and shared by all who ask. `server` (feature
//! `server`) is the other half of the protocol, for development and tests.
//!
//! # What it is not
//!
//! It opens no socket, reads no clock, draws no entropy, starts no thread and logs nothing. A
//! driver does that: `realtime-smol` is one for smol, `realtime-sim` one for simulated worlds,
//! and the loop below is the beginning of one of your own. It works in `no_std` with `alloc`.
//!
//! ```text
//!             connect, open_channel, push, track, …      (commands)
//!                              │
//!   handle_open  ─────▶ ┌──────▼──────┐ ─────▶ poll_transmit   open, write, close
//!   handle_frame ─────▶ │             │
//!   handle_close ─────▶ │   Client    │ ─────▶ poll_event      joined, message, presence, …
//!   handle_timeout ───▶ │             │
//!                       └─────────────┘ ─────▶ poll_timeout    when to call handle_timeout
//! ```
//!
//! # The contract
//!
//! After any call that takes `&mut self`:
//!
//! 1. take what there is to do from [`poll_transmit`](Client::poll_transmit) until it is `None`;
//! 2. take what happened from [`poll_event`](Client::poll_event) until it is `None`;
//! 3. sleep until [`poll_timeout`](Client::poll_timeout), a frame, or a command of the
//!    application; stop reading frames while [`wants_frames`](Client::wants_frames) is false.
//!
//! Breaking it is harmless: while something waits to be taken, the deadline is "now". Time is the
//! last argument of every call, must come from one monotonic clock, and is clamped if it goes
//! back.
//!
//! ```
//! use core::time::Duration;
//! use realtime_proto::{
//!     ChannelConfig, ChannelEvent, Client, Config, Event, Frame, Instant, Payload, Transmit,
//! };
//!
//! // Where a real driver has a WebSocket, this one has a peer that accepts whatever it is asked.
//! fn peer(frame: &Frame) -> Option<Frame> {
//!     let text = core::str::from_utf8(frame.as_bytes()).ok()?;
//!     let (join_ref, msg_ref, topic, _event, _payload): (
//!         Option<&str>, &str, &str, &str, serde_json::Value,
//!     ) = serde_json::from_str(text).ok()?;
//!     let reply = serde_json::json!([
//!         join_ref, msg_ref, topic, "phx_reply", { "status": "ok", "response": {} }
//!     ]);
//!     Some(Frame::text(reply.to_string()))
//! }
//!
//! let config = Config::builder("ws://localhost:4000/socket").build()?;
//! let mut now = Instant::EPOCH;
//! let mut client = Client::new(config, 42, now);
//! client.open_channel("room:lobby", ChannelConfig::phoenix(Payload::empty()), now)?;
//! client.connect(now);
//!
//! let mut live = false;
//! let mut heartbeats = 0;
//! loop {
//!     // 1. Do what there is to do.
//!     while let Some(transmit) = client.poll_transmit() {
//!         match transmit {
//!             Transmit::Open { socket, url } => {
//!                 assert_eq!(url.expose(), "ws://localhost:4000/socket/websocket?vsn=2.0.0");
//!                 client.handle_open(socket, now);
//!             }
//!             Transmit::Frame { socket, frame } => {
//!                 if let Some(reply) = peer(&frame) {
//!                     client.handle_frame(socket, reply, now + Duration::from_millis(5));
//!                 }
//!             }
//!             other => panic!("{other:?}"),
//!         }
//!     }
//!     // 2. Take what happened.
//!     while let Some(event) = client.poll_event() {
//!         match event {
//!             Event::Channel(_, ChannelEvent::Live) => live = true,
//!             Event::Heartbeat { round_trip } => {
//!                 assert_eq!(round_trip, Duration::from_millis(5));
//!                 heartbeats += 1;
//!             }
//!             _ => {}
//!         }
//!     }
//!     if heartbeats == 2 {
//!         break;
//!     }
//!     // 3. Sleep until the deadline; here, time just passes.
//!     if let Some(deadline) = client.poll_timeout() {
//!         now = deadline;
//!         client.handle_timeout(now);
//!     }
//! }
//! assert!(live);
//! assert_eq!(now, Instant::EPOCH + Duration::from_secs(50));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! | | guarantee |
//! |---|---|
//! | G1 | Pushes of one channel leave in call order. |
//! | G2 | Events of one channel follow the order of the frames. |
//! | G3 | Every push ends in exactly one [`Outcome`], every channel in exactly one `Closed`. |
//! | G4 | Nothing of an older join is delivered as if it were of the current one. |
//! | G5 | A disconnect is told before the channel errors that it causes. |
//! | G6 | No push is sent before its join is acknowledged. |
//! | G7 | After `handle_timeout` at the deadline and a drain, the next deadline is later. |
//! | G8 | While the server accepts, every channel is live within [`Config::live_within`]. |
//! | G10 | What was missed is never missed in silence: after an outage each stream of a channel tells a [`Gap`], or a [`Recovery`] from the server's store, and nothing is delivered twice. |
//! | G11 | The client stays within the limits it was told: joins a second, presence calls, channels, sizes of frames and broadcasts ([`Limits`]). |
//! | G12 | Memory stays within what [`Limits`] allow, whatever the peer sends. |
//! | G13 | The same seed and the same inputs give the same outputs, byte for byte. |
//! | G14 | Secrets never appear in `Debug`, events or errors. |
//!
//! # Errors
//!
//! They are of three kinds. A mistake of the caller is the `Err` of a command and changes nothing.
//! What the peer does wrong is an [`Event`] and a counter, never a panic. A mistake of this crate
//! is an assertion.
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
mod push;
mod rng;
mod secret;
#[cfg(feature = "server")]
pub mod server;
mod socket;
mod stats;
pub mod supabase;
mod time;
mod timer;
mod token;
mod transmit;
pub mod wire;

pub use backoff::{Backoff, Schedule};
pub use bytes::Bytes;
pub use channel::{Awaits, ChannelInfo, ChannelState, Gap, Recovery, Stream};
pub use client::{Channel, Client};
pub use config::{ChannelConfig, Config, ConfigBuilder, ConfigError};
pub use error::{BindError, OpenError, PushError};
pub use event::{BindingId, BindingSet, ChannelEvent, Event, Outcome, Status, Violation};
pub use ids::{ChannelId, ConnectionId, PushId, SocketId};
pub use limits::Limits;
pub use payload::{Payload, PayloadError};
pub use presence::{Member, Meta, Presence, PresenceCall, PresenceDiff, PresenceUpdate};
pub use push::{BroadcastOptions, Overflow, PushOptions};
pub use secret::Secret;
pub use socket::ConnectionState;
pub use stats::Stats;
pub use time::Instant;
pub use timer::Timer;
pub use transmit::{CloseReason, Frame, Transmit};

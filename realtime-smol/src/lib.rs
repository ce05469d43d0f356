//! Supabase Realtime and Phoenix Channels for smol: sockets, TLS and time around the sans-IO core.
//!
//! A [`Manager`] owns every realtime channel of an application, keyed by entity; a [`Client`] is
//! one connection with channels of your own naming. Both are cheap handles: one task owns the
//! state machine of [`realtime_proto`], does its I/O, and hands out what happens as streams. The
//! [`guide`] shows how to use the manager, operation by operation.
//!
//! ```no_run
//! use realtime_smol::Manager;
//! use realtime_smol::proto::Config;
//! use realtime_smol::proto::manager::{Entity, EntityOptions, LeaseEvent, ManagerConfig};
//! use smol::stream::StreamExt;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let config = Config::builder("ws://127.0.0.1:4010/socket").build()?;
//!     let manager = Manager::connect(ManagerConfig::new(config));
//!     let contact = Entity::new("contact", "123").in_tenant("acme");
//!     let mut rows = manager.subscribe_to_entity(&contact, EntityOptions::default()).await?;
//!     while let Some(delivery) = rows.next().await {
//!         if let Some(LeaseEvent::Change(change)) = delivery.event() {
//!             println!("{} {:?}", change.kind(), change.record());
//!         }
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `tls` (default) | `wss` URLs, with rustls and the roots that browsers trust |
//! | `dev-server` | `DevServer`, a local server to try everything on |
//! | `cli` | the `realtime` command, and [`recording`], which it replays |
//!
//! # What it is not
//!
//! It stores nothing, and refreshes no token: it tells when one is needed, or asks for it
//! ([`Options::with_access_tokens`]). On another runtime, spawn the future of
//! [`Manager::connect_with_driver`], or drive [`realtime_proto`] yourself.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod client;
mod clock;
mod commands;
mod connector;
#[cfg(feature = "dev-server")]
mod dev_server;
mod driver;
mod error;
pub mod guide;
mod http;
mod mailbox;
mod manager;
mod options;
#[cfg(feature = "cli")]
pub mod recording;
mod sockets;
mod tls;
mod tokens;
mod transport;
mod waiters;
mod websocket;

pub use client::{Channel, Client, ConnectionEvents};
#[cfg(feature = "dev-server")]
pub use dev_server::{DevServer, DevServerConfig, DevServerGone, DevServerHandle};
pub use error::{Error, Unanswered};
pub use mailbox::Delivery;
pub use manager::{
    EntityCallbacks, Lease, ListenError, Listener, Listening, Manager, ManagerEvents,
    PresenceCallbacks, manager, set_up,
};
pub use options::Options;
pub use realtime_proto as proto;
#[cfg(feature = "tls")]
pub use tls::RootCertificateError;
pub use tls::TlsConfig;
pub use tokens::TokenError;

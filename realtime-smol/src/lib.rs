//! Supabase Realtime and Phoenix Channels for smol: sockets, TLS and time around the sans-IO core.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `tls` | yes | `wss` URLs, with rustls on ring and Mozilla's root certificates |
//! | `dev-server` | no | a Realtime server on this machine, for development and tests |
//! | `cli` | no | the `realtime` command |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// The handles that use these modules come with the core's client and manager.
#![allow(dead_code)]

mod clock;
mod commands;
#[cfg(feature = "dev-server")]
mod dev_server;
mod driver;
mod http;
mod sockets;
mod tls;
mod transport;
mod websocket;

#[cfg(feature = "dev-server")]
pub use dev_server::{DevServer, DevServerConfig, DevServerGone, DevServerHandle};
pub use realtime_proto as proto;
#[cfg(feature = "tls")]
pub use tls::RootCertificateError;
pub use tls::TlsConfig;

//! Supabase Realtime and Phoenix Channels for smol: sockets, TLS and time around the sans-IO core.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// The handles that use these modules come with the core's client and manager.
#![allow(dead_code)]

mod clock;
mod commands;
mod driver;
mod http;
mod sockets;
mod tls;
mod transport;
mod websocket;

pub use realtime_proto as proto;
#[cfg(feature = "tls")]
pub use tls::RootCertificateError;
pub use tls::TlsConfig;

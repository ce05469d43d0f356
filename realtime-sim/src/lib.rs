//! Whole worlds of Realtime clients, links and a server on virtual time, from one seed.
//!
//! A [`World`] runs the state machines of `realtime-proto`, client and server half, without
//! sockets and without a clock: an hour takes milliseconds, and the same seed gives the same run,
//! byte for byte. Copy this into your tests and let your own application's code stand where the
//! commands are.
//!
//! ```
//! use core::time::Duration;
//! use realtime_proto::supabase::{CauseKind, JoinConfig};
//! use realtime_proto::{ChannelConfig, ChannelEvent, Config, Event};
//! use realtime_sim::World;
//!
//! let mut world = World::seed(42);
//! let ana = world.add_client(Config::builder("wss://project.supabase.co/realtime/v1").build()?);
//! let room = world.client(ana, |client, now| {
//!     client.connect(now);
//!     let config = ChannelConfig::supabase(JoinConfig::default()).with_presence();
//!     client.open_channel("realtime:room", config, now)
//! })?;
//! world.run_for(Duration::from_secs(1));
//! assert!(world.client(ana, |client, _| client.channel(room).unwrap().is_live()));
//!
//! // The connection breaks. The client says so, waits, connects and joins again.
//! world.take_log(ana);
//! world.cut(ana);
//! let back = world.run_while_not(Duration::from_secs(5), |world| {
//!     world.client(ana, |client, _| client.channel(room).unwrap().is_live())
//! });
//! assert!(back.is_some(), "the channel is live again within five seconds");
//!
//! let told: Vec<Event> = world.take_log(ana).into_iter().map(|(_, event)| event).collect();
//! assert!(matches!(&told[0], Event::Disconnected { cause, retry_at: Some(_), .. }
//!     if cause.kind == CauseKind::ConnectionLost));
//! assert!(matches!(told[1], Event::Channel(id, ChannelEvent::Errored { .. }) if id == room));
//! assert!(matches!(told[2], Event::Connected { .. }));
//! assert!(matches!(told[3], Event::Channel(_, ChannelEvent::Joined { .. })));
//! // A public channel keeps nothing, so the time that nobody listened is named.
//! assert!(matches!(told[4], Event::Channel(_, ChannelEvent::Gap(_))));
//! assert!(matches!(told[5], Event::Channel(_, ChannelEvent::Presence(_))));
//! assert!(matches!(told[6], Event::Channel(_, ChannelEvent::Live)));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Reading and replaying a run
//!
//! [`World::with_trace`] hands out one line for each change: the time, the node, what it does, and
//! of frames the `join_ref`, the `ref`, the topic and the event. Payloads are never shown.
//! `cargo sim run --seeds 0..1000` runs a [`Scenario`] for each seed; when one fails, its last line
//! is the command that shows it again.
#![doc = ""]
#![doc = include_str!("../GUIDE.md")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place is about a few of many kinds of steps and events"
)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agenda;
mod app;
mod backend;
mod check;
mod coverage;
mod credentials;
mod fault;
pub mod fuzz;
mod host;
mod link;
mod node;
mod oracle;
mod run;
mod scenario;
mod seed;
mod shrink;
mod subject;
mod timeline;
mod trace;
mod transport;
mod world;

pub use app::App;
pub use check::check_seeds;
pub use coverage::{Cell, Coverage, Need, Place, PushEnd, Sight, Table, ViolationKind};
pub use link::Network;
pub use node::NodeId;
pub use oracle::Finding;
pub use run::{
    Beginning, Exploration, Explored, Failure, PathError, Report, Run, run, run_app,
    run_manager_app, run_with,
};
pub use scenario::{
    Act, ActKind, Actor, ActorId, Cast, CloseCode, Data, DataKind, Fault, FaultKind, Garbage, Op,
    Part, Profile, Refusal, Scenario, ScenarioError, ServerId, Settings, Shutting, Step, TopicId,
    TopicSpec, UpgradeStatus,
};
pub use seed::{Seed, SeedError, seeds};
pub use shrink::shrink;
pub use subject::{
    ChannelKey, ChannelTold, Command, MemberDiff, Missed, Note, Performed, Request, Role, Scripted,
    Seen, Subject, Told, number_of, numbered,
};
pub use trace::{Record, Who, describe, describe_for_manager};
pub use world::{Tally, World};

//! Channels: joining, pushing, tracking, leaving.
//!
//! A channel exists as long as it is wanted, from [`open_channel`] to its `Closed` event; whether
//! it is joined at a given moment is a matter of its [`ChannelState`].
//!
//! [`open_channel`]: crate::Client::open_channel

mod gap;
mod info;
mod join;
mod push;
mod slot;
mod state;
mod table;
mod track;

pub(crate) use gap::Verdict;
pub use gap::{Gap, Recovery, Stream};
pub use info::{Awaits, ChannelInfo};
pub(crate) use join::{APPLICATION_ASKED, BINDINGS_CHANGED, Fate};
pub(crate) use slot::Slot;
pub use state::ChannelState;
pub(crate) use state::{Input, Joined, Rows, State};
pub(crate) use table::Table;

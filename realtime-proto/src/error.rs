//! Mistakes of the caller: the `Err` of a command.

use alloc::string::String;

use crate::ids::ChannelId;
use crate::payload::PayloadError;
use crate::supabase::BindingError;
use crate::wire::EncodeError;

/// A channel could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The topic is open already, as the channel named here.
    #[error("`{topic}` is open already; use the channel that is there")]
    TopicInUse {
        /// The topic.
        topic: String,
        /// The channel that has it.
        channel: ChannelId,
    },
    /// The topic cannot be joined with this configuration.
    #[error("`{topic}` is no topic of a Supabase channel; it starts with `realtime:` and goes on")]
    Topic {
        /// The topic.
        topic: String,
    },
    /// The client has as many channels as it may.
    #[error("the client has {max} channels, which is its limit; close one or raise channels_max")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The channel asks for a replay and is public, where nothing is stored.
    #[error("`{topic}` asks for a replay, which public channels do not have; make it private")]
    ReplayOnPublic {
        /// The topic.
        topic: String,
    },
    /// The channel asks for more bindings than a channel may have.
    #[error("a channel has at most {max} row-change bindings; open another channel for the rest")]
    TooManyBindings {
        /// The limit.
        max: usize,
    },
    /// A server would refuse one of the bindings, and with it all of them.
    #[error(transparent)]
    Binding(#[from] BindingError),
}

/// A push was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Too many pushes wait already.
    #[error("{waiting} pushes wait already, which is the limit; try again when some have ended")]
    BufferFull {
        /// How many wait.
        waiting: usize,
    },
    /// The frame, or the payload of a broadcast, would be larger than the limit.
    #[error("the message is {bytes} bytes long, and at most {max} may be sent")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The payload could not be written as JSON.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The message has no form on this connection.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The channel is being closed.
    #[error("the channel is being closed; open it again to push")]
    Closing,
    /// The channel does not talk to Supabase Realtime, which this call is for.
    #[error("the channel is a plain Phoenix one; use `push` with the event its server expects")]
    NotSupabase,
    /// The broadcast is to be kept and the channel is public, where nothing is.
    #[error("broadcasts of a public channel cannot be kept; open the channel with `private`")]
    PersistOnPublic,
    /// The broadcast is to be kept, which only protocol version 2 can ask for.
    #[error("a 1.0.0 connection cannot ask to keep a broadcast; connect with vsn 2.0.0")]
    PersistOnV1,
}

/// A binding could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The channel has as many as it may.
    #[error("the channel has {max} row-change bindings, which is the limit; remove one first")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The channel is being closed.
    #[error("the channel is being closed; open it again to add a binding")]
    Closing,
    /// The channel does not talk to Supabase Realtime.
    #[error("the channel is a plain Phoenix one, which has no row changes")]
    NotSupabase,
    /// A server would refuse the binding, and with it all others of the channel.
    #[error(transparent)]
    Binding(#[from] BindingError),
}

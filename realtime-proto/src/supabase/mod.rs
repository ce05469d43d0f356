//! The payload vocabulary of Supabase Realtime: pure data, read and written, no state.
//!
//! Client and server half share these types and nothing else, so a mistake in one side's
//! behaviour cannot cancel itself in the other's.

mod broadcast;
mod cause;
mod change;
mod column;
mod filter;
mod http_broadcast;
mod http_reply;
mod http_request;
mod join;
mod regex;
mod row;
mod system;
pub(crate) mod timestamp;
mod token;

pub use broadcast::{Broadcast, BroadcastChange, BroadcastConfig, BroadcastMeta, Persist, Replay};
pub use cause::{Cause, CauseKind, Retry};
pub use change::{Change, ChangeEvent, ChangeKind, Completeness};
pub use column::{Column, convert_row};
pub use filter::{
    ColumnFilter, Condition, Filter, FilterBuilder, FilterError, Operator, quote_filter_value,
};
pub use http_broadcast::{BroadcastApi, HttpBroadcast};
pub use http_request::{BroadcastRequest, HttpBroadcastError};
pub use join::{Binding, BindingError, JoinConfig, PostgresChangesOptions, PresenceConfig};
pub use system::{System, SystemStatus};
pub use token::token_expiry;

pub(crate) use broadcast::write_broadcast;
pub(crate) use change::read_changes;
pub(crate) use join::{JoinPayload, JoinResponse};
#[cfg(feature = "server")]
pub(crate) use row::Row;
#[cfg(feature = "server")]
pub(crate) use token::decode_base64url;

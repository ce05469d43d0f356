//! `system` messages: what a server says about a channel, beside its events.

use alloc::string::String;

use serde::Deserialize;

use crate::payload::Payload;

/// A `system` message.
///
/// Protocol §5.4.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct System {
    /// Who speaks: `system` or `postgres_changes`.
    pub extension: String,
    /// Whether it is good news.
    pub status: SystemStatus,
    /// The server's words, for instance `Subscribed to PostgreSQL`.
    pub message: String,
}

/// Whether a `system` message is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemStatus {
    /// It is.
    Ok,
    /// It is not.
    #[serde(other)]
    Error,
}

impl System {
    /// The words that say row changes flow.
    pub(crate) const SUBSCRIBED: &'static str = "Subscribed to PostgreSQL";

    pub(crate) fn read(payload: &Payload) -> Option<Self> {
        payload.to().ok()
    }

    /// Whether this says that row changes flow from now on.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.status == SystemStatus::Ok
            && self.extension == "postgres_changes"
            && self.message == Self::SUBSCRIBED
    }

    /// Whether this says that broadcasts of the database reach the channel from now on.
    #[must_use]
    pub fn is_replication_ready(&self) -> bool {
        self.status == SystemStatus::Ok
            && self.extension == "system"
            && self.message == "Replication connection established"
    }
}

//! Members and their metas.

use alloc::string::String;
use alloc::vec::Vec;

use serde::de::Deserialize;

use crate::payload::{Payload, PayloadError};

/// One appearance of a member: a device, a tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The server's name for this appearance, new with every update.
    pub phx_ref: String,
    /// The name it had before the update that made it.
    pub phx_ref_prev: Option<String>,
    /// The whole object, with what the client tracked and the server's refs.
    pub value: Payload,
}

impl Meta {
    /// Reads what was tracked as a `T`. The object has the keys `phx_ref` and, after an update,
    /// `phx_ref_prev` besides.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when it does not fit `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Viewer<'a> {
    ///     name: &'a str,
    /// }
    ///
    /// let state = r#"{"u1": {"metas": [{"name": "Ana", "phx_ref": "a"}]}}"#;
    /// let mut presence = Presence::default();
    /// presence.handle_state(&Payload::from_json(state)?, Instant::EPOCH)?;
    /// let viewer: Viewer<'_> = presence.metas("u1")[0].to()?;
    /// assert_eq!(viewer.name, "Ana");
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn to<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        self.value.to()
    }
}

/// A member: a key and its appearances, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// The appearances.
    pub metas: Vec<Meta>,
    /// What the `fetch` of a Phoenix application put beside the metas, as an object; `None` when
    /// it put nothing there, as Supabase does.
    pub extra: Option<Payload>,
}

impl Member {
    /// Reads what was tracked, oldest first, as [`Meta::to`] does.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when one of the metas does not fit `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::{Instant, Payload, Presence};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Viewer {
    ///     name: String,
    /// }
    ///
    /// let state = r#"{"u1": {"metas": [{"name": "Ana", "phx_ref": "a"}]}}"#;
    /// let mut presence = Presence::default();
    /// let told = presence.handle_state(&Payload::from_json(state)?, Instant::EPOCH)?;
    /// let viewers: Vec<Viewer> = told.diff.joined[0].to()?;
    /// assert_eq!(viewers[0].name, "Ana");
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn to<'a, T: Deserialize<'a>>(&'a self) -> Result<Vec<T>, PayloadError> {
        self.metas.iter().map(Meta::to).collect()
    }
}

/// What is kept of a member beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) metas: Vec<Meta>,
    pub(super) extra: Option<Payload>,
}

impl Entry {
    pub(super) fn to_member(&self, key: &str) -> Member {
        self.clone().into_member(key.into())
    }

    pub(super) fn into_member(self, key: String) -> Member {
        Member { key, metas: self.metas, extra: self.extra }
    }

    /// Takes in the metas of a join: those it had come first, but for the ones that came again.
    pub(super) fn merge(&mut self, mut joined: Self) {
        self.remove(&joined.metas);
        self.metas.append(&mut joined.metas);
        self.extra = joined.extra;
    }

    /// Takes out those of `metas` that are here.
    pub(super) fn remove(&mut self, metas: &[Meta]) {
        let refs = Refs::of(metas);
        self.metas.retain(|meta| !refs.hold(meta));
    }
}

/// The refs of some metas, to be looked up.
pub(super) enum Refs<'a> {
    /// Few enough to be looked through.
    Few(&'a [Meta]),
    Sorted(Vec<&'a str>),
}

impl<'a> Refs<'a> {
    pub(super) fn of(metas: &'a [Meta]) -> Self {
        if metas.len() <= 8 {
            return Self::Few(metas);
        }
        let mut refs: Vec<&str> = metas.iter().map(|meta| meta.phx_ref.as_str()).collect();
        refs.sort_unstable();
        Self::Sorted(refs)
    }

    pub(super) fn hold(&self, meta: &Meta) -> bool {
        match self {
            Self::Few(metas) => metas.iter().any(|other| other.phx_ref == meta.phx_ref),
            Self::Sorted(refs) => refs.binary_search(&meta.phx_ref.as_str()).is_ok(),
        }
    }
}

//! Who is looking: the user behind a member of a presence channel.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::payload::{Payload, PayloadError};
use crate::presence::{Member, Meta};
use crate::supabase::timestamp;

/// A user as others see it on an entity's presence channel.
///
/// # Examples
///
/// ```
/// use realtime_proto::manager::User;
///
/// let ana = User::new("user-1").with_name("Ana");
/// assert_eq!(ana.user_name.as_deref(), Some("Ana"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id, which is the presence key: several devices of one user are one entry.
    pub user_id: String,
    /// The name to show.
    pub user_name: Option<String>,
    /// The mail address.
    pub user_email: Option<String>,
    /// The URL of a picture.
    pub user_avatar: Option<String>,
    /// Whatever else the application shows, a JSON object.
    pub metadata: Payload,
    /// Since when the user is here, as Unix time: the oldest `online_at` of its devices. The
    /// manager tracks its own once it was told the time.
    pub online_since: Option<Duration>,
    /// How many appearances there are: devices, tabs. 0 for a user that nobody sees yet.
    pub devices: usize,
}

#[derive(Serialize, Deserialize)]
struct Tracked<'a> {
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_avatar: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    online_at: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

impl User {
    /// A user known by its id alone.
    #[must_use]
    pub fn new(user_id: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            user_name: None,
            user_email: None,
            user_avatar: None,
            metadata: Payload::empty(),
            online_since: None,
            devices: 0,
        }
    }

    /// The same user with a name to show.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.user_name = Some(name.into());
        self
    }

    /// The same user with a mail address.
    #[must_use]
    pub fn with_email(mut self, email: impl Into<String>) -> Self {
        self.user_email = Some(email.into());
        self
    }

    /// The same user with the URL of a picture.
    #[must_use]
    pub fn with_avatar(mut self, avatar: impl Into<String>) -> Self {
        self.user_avatar = Some(avatar.into());
        self
    }

    /// The same user with metadata, a JSON object.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Payload) -> Self {
        self.metadata = metadata;
        self
    }

    /// The metadata as a type of the application.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when the metadata is not of this type.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::Payload;
    /// use realtime_proto::manager::User;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Shown {
    ///     typing: bool,
    /// }
    ///
    /// let ana = User::new("user-1").with_metadata(Payload::from_json(r#"{"typing":true}"#)?);
    /// assert!(ana.metadata::<Shown>()?.typing);
    /// # Ok::<(), realtime_proto::PayloadError>(())
    /// ```
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        self.metadata.to()
    }

    /// The user that a member of a presence channel is.
    #[must_use]
    pub fn of_member(member: &Member) -> Self {
        Self::read(&Self::id_of(&member.key, &member.metas), &member.metas)
    }

    /// Whom the appearances under a key are of: the newest speaks, the key stands in for it.
    pub(super) fn id_of(key: &str, metas: &[Meta]) -> String {
        let named = metas.last().and_then(|meta| meta.value.to::<Tracked<'_>>().ok()?.user_id);
        named.unwrap_or_else(|| key.into())
    }

    /// Reads a user from its appearances, of which the newest, the last, speaks.
    pub(super) fn read<'a>(id: &str, metas: impl IntoIterator<Item = &'a Meta>) -> Self {
        let mut user = Self::new(id);
        for meta in metas {
            user.devices += 1;
            let Ok(tracked) = meta.value.to::<Tracked<'_>>() else { continue };
            let online_at = tracked.online_at.as_deref().and_then(timestamp::parse);
            user.online_since = [user.online_since, online_at].into_iter().flatten().min();
            user.user_name = tracked.user_name;
            user.user_email = tracked.user_email;
            user.user_avatar = tracked.user_avatar;
            let metadata = tracked.metadata.and_then(|raw| Payload::from_json(raw.get()).ok());
            user.metadata = metadata.unwrap_or_default();
        }
        user
    }

    /// The metadata with the members of `update`, a JSON object, in place of its own.
    pub(super) fn merge_metadata(&mut self, update: &Payload) -> Result<(), PayloadError> {
        if !update.is_object() {
            return Err(PayloadError::NotAnObject);
        }
        let mut merged: BTreeMap<String, &RawValue> = self.metadata.to()?;
        merged.extend(update.to::<BTreeMap<String, &RawValue>>()?);
        self.metadata = Payload::json(&merged)?;
        Ok(())
    }

    /// What is tracked.
    pub(super) fn to_payload(&self) -> Result<Payload, PayloadError> {
        if !self.metadata.is_object() {
            return Err(PayloadError::NotAnObject);
        }
        Payload::json(&Tracked {
            user_id: Some(self.user_id.clone()),
            user_name: self.user_name.clone(),
            user_email: self.user_email.clone(),
            user_avatar: self.user_avatar.clone(),
            online_at: self.online_since.map(timestamp::format),
            metadata: Some(self.metadata.to()?),
        })
    }
}

//! Who is looking: the user behind a member of a presence channel.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::payload::{Payload, PayloadError};
use crate::presence::{Member, Meta};

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
        }
    }

    /// The same user with a name to show.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.user_name = Some(name.into());
        self
    }

    /// The same user with metadata, a JSON object.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Payload) -> Self {
        self.metadata = metadata;
        self
    }

    /// The users among the members of a presence channel, one entry a user.
    #[must_use]
    pub fn of_member(member: &Member) -> Self {
        Self::read(&member.key, &member.metas)
    }

    /// Reads a member: the newest of its metas speaks, its key is the id when it names none.
    pub(crate) fn read(key: &str, metas: &[Meta]) -> Self {
        let mut user = Self::new(key);
        let Some(meta) = metas.last() else { return user };
        if let Ok(tracked) = meta.value.to::<Tracked<'_>>() {
            user.user_id = tracked.user_id.unwrap_or(user.user_id);
            user.user_name = tracked.user_name;
            user.user_email = tracked.user_email;
            user.user_avatar = tracked.user_avatar;
            if let Some(Ok(metadata)) = tracked.metadata.map(|raw| Payload::from_json(raw.get())) {
                user.metadata = metadata;
            }
        }
        user
    }

    /// What is tracked.
    pub(crate) fn to_payload(&self) -> Result<Payload, PayloadError> {
        if !self.metadata.is_object() {
            return Err(PayloadError::NotAnObject);
        }
        Payload::json(&Tracked {
            user_id: Some(self.user_id.clone()),
            user_name: self.user_name.clone(),
            user_email: self.user_email.clone(),
            user_avatar: self.user_avatar.clone(),
            metadata: Some(self.metadata.to()?),
        })
    }
}

/// The users among the members of a presence channel.
pub(crate) fn users<'a>(members: impl Iterator<Item = (&'a str, &'a [Meta])>) -> Vec<User> {
    members.map(|(key, metas)| User::read(key, metas)).collect()
}

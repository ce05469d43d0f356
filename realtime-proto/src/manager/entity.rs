//! What an application names, and the topic it becomes.

use alloc::string::String;
use core::fmt;

/// A thing of the application that people look at together: a contact, a document, an order.
///
/// # Examples
///
/// ```
/// use realtime_proto::manager::{Entity, EntityKey, Kind};
///
/// let contact = Entity::new("contact", "123").in_tenant("tenant-abc");
/// let key = EntityKey { kind: Kind::Presence, entity: contact };
/// assert_eq!(key.topic(), "realtime:tenant:tenant-abc:presence:contact:123");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    tenant: Option<String>,
    entity_type: String,
    entity_id: String,
}

impl Entity {
    /// Names an entity by its type and id.
    #[must_use]
    pub fn new(entity_type: impl Into<String>, entity_id: impl Into<String>) -> Self {
        Self { tenant: None, entity_type: entity_type.into(), entity_id: entity_id.into() }
    }

    /// The same entity, as one of a tenant: no topic of it meets one of another tenant.
    #[must_use]
    pub fn in_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The tenant, if the entity belongs to one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The type.
    #[must_use]
    pub fn entity_type(&self) -> &str {
        &self.entity_type
    }

    /// The id.
    #[must_use]
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }
}

/// The type and id as people write them: `contact:123`.
impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.entity_type, self.entity_id)
    }
}

/// What a channel of an entity is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Row changes and broadcasts of the entity.
    Subscription,
    /// Who is looking at it.
    Presence,
}

impl Kind {
    /// The word in the topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Presence => "presence",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of one shared channel: an entity and what the channel is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// What the channel is for.
    pub kind: Kind,
    /// Whose channel it is.
    pub entity: Entity,
}

impl EntityKey {
    /// A channel by its kind, and the type and id of its entity, which belongs to no tenant.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_proto::manager::{Entity, EntityKey, Kind};
    ///
    /// let key = EntityKey::new(Kind::Presence, "contact", "123");
    /// assert_eq!(key, EntityKey::presence(Entity::new("contact", "123")));
    /// ```
    #[must_use]
    pub fn new(kind: Kind, entity_type: impl Into<String>, entity_id: impl Into<String>) -> Self {
        Self { kind, entity: Entity::new(entity_type, entity_id) }
    }

    /// The channel of an entity's row changes and broadcasts.
    #[must_use]
    pub const fn subscription(entity: Entity) -> Self {
        Self { kind: Kind::Subscription, entity }
    }

    /// The channel of who is looking at an entity.
    #[must_use]
    pub const fn presence(entity: Entity) -> Self {
        Self { kind: Kind::Presence, entity }
    }

    /// The topic: `realtime:[tenant:{tenant}:]{kind}:{type}:{id}`.
    ///
    /// Colons, percent signs and control characters of the parts are percent-encoded, so that no
    /// two keys meet in one topic, whatever is in an id.
    #[must_use]
    pub fn topic(&self) -> String {
        let mut topic = String::from("realtime:");
        if let Some(tenant) = &self.entity.tenant {
            topic.push_str("tenant:");
            escape(tenant, &mut topic);
            topic.push(':');
        }
        topic.push_str(self.kind.as_str());
        topic.push(':');
        escape(&self.entity.entity_type, &mut topic);
        topic.push(':');
        escape(&self.entity.entity_id, &mut topic);
        topic
    }
}

fn escape(part: &str, topic: &mut String) {
    use fmt::Write;
    for letter in part.chars() {
        if letter == ':' || letter == '%' || letter.is_ascii_control() {
            write!(topic, "%{:02X}", u32::from(letter)).expect("writing to a String does not fail");
        } else {
            topic.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn no_crafted_id_reaches_another_topic() {
        let parts = ["", "a", ":", "a:b", "%3A", "tenant", "tenant:x", "presence", "b\n"];
        let mut tenants: Vec<Option<&str>> = parts.iter().copied().map(Some).collect();
        tenants.push(None);
        let mut seen = BTreeMap::new();
        for kind in [Kind::Subscription, Kind::Presence] {
            for tenant in &tenants {
                for entity_type in parts {
                    for entity_id in parts {
                        let mut entity = Entity::new(entity_type, entity_id);
                        if let Some(tenant) = tenant {
                            entity = entity.in_tenant(*tenant);
                        }
                        let key = EntityKey { kind, entity };
                        if let Some(other) = seen.insert(key.topic(), key.clone()) {
                            panic!("{key:?} and {other:?} meet in {}", key.topic());
                        }
                    }
                }
            }
        }
    }
}

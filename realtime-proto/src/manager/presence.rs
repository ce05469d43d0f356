//! Who is looking at an entity: joining, what one shows, and who is there.

use alloc::vec::Vec;

use super::Manager;
use super::config::{ManagerError, PresenceOptions};
use super::entity::{Entity, EntityKey};
use super::event::LeaseId;
use super::people::users_of;
use super::user::User;
use crate::error::PushError;
use crate::payload::Payload;
use crate::time::Instant;

impl Manager {
    /// Shows `user` as present on an entity and listens to who else is.
    ///
    /// # Errors
    ///
    /// [`ManagerError::OtherUser`] when this manager is present there as somebody else,
    /// [`ManagerError::Push`] when the metadata is not a JSON object, or a limit was reached.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1").with_name("Ana"), now)?;
    /// assert!(manager.join_presence(&contact, User::new("u2"), now).is_err(), "one user each");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_presence(
        &mut self,
        entity: &Entity,
        user: User,
        now: Instant,
    ) -> Result<LeaseId, ManagerError> {
        self.join_presence_with(entity, user, &PresenceOptions::default(), now)
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As [`join_presence`](Self::join_presence), and [`ManagerError::Conflict`] when the channel
    /// is shared by others who asked for another setting of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{
    /// #     ChannelSettings, Entity, Manager, ManagerConfig, PresenceOptions, User,
    /// # };
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// let private = ChannelSettings { private: true, ..ChannelSettings::default() };
    /// let options = PresenceOptions { channel: Some(private), ..PresenceOptions::default() };
    /// manager.join_presence_with(&contact, User::new("u1"), &options, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_presence_with(
        &mut self,
        entity: &Entity,
        mut user: User,
        options: &PresenceOptions,
        now: Instant,
    ) -> Result<LeaseId, ManagerError> {
        self.check_leases()?;
        let now = self.advance(now);
        let key = EntityKey::presence(entity.clone());
        user.online_since = self.pool.unix_now(self.now);
        if let Some(id) = self.registry.id(&key) {
            let shared = self.shared(id);
            match shared.user.as_ref() {
                Some(present) if present.user_id == user.user_id => {
                    user.online_since = present.online_since.or(user.online_since);
                }
                Some(present) if !shared.holders.is_empty() => {
                    return Err(ManagerError::OtherUser {
                        entity: entity.clone(),
                        present: present.user_id.clone(),
                        asked: user.user_id,
                    });
                }
                // Only the linger keeps the one who was here.
                Some(_) => self.leave(id, now),
                None => {}
            }
        }
        let tracked = user.to_payload().map_err(PushError::from)?;
        let id = self.open(&key, options.channel.as_ref(), Some(&user), now)?;
        self.shared_mut(id).user = Some(user);
        self.track(id, tracked, now)?;
        Ok(self.hold(id, None, options.label.clone(), now))
    }

    /// Ends every presence lease of an entity and leaves its channel at once. Tells whether there
    /// was one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1"), now)?;
    /// assert!(manager.leave_presence(&contact, now));
    /// assert!(!manager.leave_presence(&contact, now), "nobody is there any more");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leave_presence(&mut self, entity: &Entity, now: Instant) -> bool {
        self.unsubscribe(&EntityKey::presence(entity.clone()), now)
    }

    /// Merges `metadata` into what this manager's user shows on an entity: its members replace
    /// those of the same name, the others stay.
    ///
    /// Updates in quick succession go out as the newest one, within what a server takes: 5 calls
    /// in 30 s.
    ///
    /// # Errors
    ///
    /// [`ManagerError::NotPresent`] when nobody joined the presence of the entity here,
    /// [`ManagerError::Push`] when `metadata` is not a JSON object.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant, Payload};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1"), now)?;
    /// let typing = Payload::from_json(r#"{"typing":true}"#)?;
    /// manager.update_presence_metadata(&contact, &typing, now)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update_presence_metadata(
        &mut self,
        entity: &Entity,
        metadata: &Payload,
        now: Instant,
    ) -> Result<(), ManagerError> {
        let not_present = || ManagerError::NotPresent { entity: entity.clone() };
        let id = self.registry.id(&EntityKey::presence(entity.clone())).ok_or_else(not_present)?;
        let mut user = self.shared(id).user.clone().ok_or_else(not_present)?;
        user.merge_metadata(metadata).map_err(PushError::from)?;
        let tracked = user.to_payload().map_err(PushError::from)?;
        self.shared_mut(id).user = Some(user);
        self.track(id, tracked, now)?;
        self.pump(now);
        Ok(())
    }

    /// The users present on an entity as the server sees them, one entry a user however many
    /// devices; empty when nobody joined its presence here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1"), now)?;
    /// assert!(manager.presence_state(&contact).is_empty(), "the server told nothing yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence_state(&self, entity: &Entity) -> Vec<User> {
        let shared = self.registry.find(&EntityKey::presence(entity.clone()));
        let slot = shared.and_then(|shared| self.pool.slot(shared.wire?));
        slot.map(|slot| users_of(&slot.presence)).unwrap_or_default()
    }

    /// The same without the user that this manager shows there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::manager::{Entity, Manager, ManagerConfig, User};
    /// # use realtime_proto::{Config, Instant};
    /// # let config = Config::builder("ws://localhost/socket").build()?;
    /// # let now = Instant::EPOCH;
    /// # let mut manager = Manager::new(ManagerConfig::new(config), 1, now);
    /// # let contact = Entity::new("contact", "123");
    /// manager.join_presence(&contact, User::new("u1"), now)?;
    /// for other in manager.presence_of_others(&contact) {
    ///     println!("{} is here too", other.user_name.unwrap_or(other.user_id));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence_of_others(&self, entity: &Entity) -> Vec<User> {
        let shared = self.registry.find(&EntityKey::presence(entity.clone()));
        let own = shared.and_then(|shared| Some(shared.user.as_ref()?.user_id.clone()));
        let mut users = self.presence_state(entity);
        users.retain(|user| Some(&user.user_id) != own.as_ref());
        users
    }
}

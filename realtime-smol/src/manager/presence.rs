//! Who is looking at an entity, as async calls.

use realtime_proto::Payload;
use realtime_proto::manager::{Entity, EntityKey, PresenceOptions, User};

use super::{Lease, Manager};
use crate::error::Error;

impl Manager {
    /// Shows `user` as present on an entity and listens to who else is.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when another user is present through this manager, the metadata is not
    /// a JSON object, or a limit is reached.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no lease behind.
    pub async fn join_presence(&self, entity: &Entity, user: User) -> Result<Lease, Error> {
        self.join_presence_with(entity, user, PresenceOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As [`join_presence`](Self::join_presence), and when the channel is shared by others who
    /// asked for another setting of it.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no lease behind.
    pub async fn join_presence_with(
        &self,
        entity: &Entity,
        user: User,
        options: PresenceOptions,
    ) -> Result<Lease, Error> {
        let entity = entity.clone();
        self.lease(move |manager, now| {
            let lease = manager.join_presence_with(&entity, user, &options, now)?;
            Ok((lease, EntityKey::presence(entity)))
        })
        .await
    }

    /// Ends every presence lease of an entity and leaves its channel at once. Tells whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn leave_presence(&self, entity: &Entity) -> Result<bool, Error> {
        self.unsubscribe(&EntityKey::presence(entity.clone())).await
    }

    /// Merges `metadata` into what this manager's user shows on an entity; updates in quick
    /// succession go out as the newest one.
    ///
    /// # Errors
    ///
    /// [`Error::Manager`] when nobody is present there through this manager, or the metadata is
    /// not a JSON object.
    pub async fn update_presence_metadata(
        &self,
        entity: &Entity,
        metadata: Payload,
    ) -> Result<(), Error> {
        let entity = entity.clone();
        let updated = self
            .commands
            .call(move |task, now| task.manager.update_presence_metadata(&entity, &metadata, now));
        Ok(updated.await??)
    }

    /// The users present on an entity as the server sees them, one entry a user however many
    /// devices; empty when nobody joined its presence here.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn presence_state(&self, entity: &Entity) -> Result<Vec<User>, Error> {
        let entity = entity.clone();
        Ok(self.commands.call(move |task, _| task.manager.presence_state(&entity)).await?)
    }

    /// The same without the user that this manager shows there.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the manager has been shut down.
    pub async fn presence_of_others(&self, entity: &Entity) -> Result<Vec<User>, Error> {
        let entity = entity.clone();
        Ok(self.commands.call(move |task, _| task.manager.presence_of_others(&entity)).await?)
    }
}

//! Callbacks instead of a stream: what an application is called with, and who calls.

use core::fmt;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use realtime_proto::manager::{ChannelStatus, LeaseEvent, User, UserDiff};
use realtime_proto::supabase::{Broadcast, Cause, Change, ChangeKind};
use realtime_proto::{Gap, Payload, PayloadError};
use serde::de::DeserializeOwned;
use smol::Task;
use smol::future::poll_once;
use smol::stream::StreamExt;

use super::lease::Lease;
use crate::mailbox::Delivery;

type Callback<E> = Box<dyn FnMut(&E) + Send>;

/// What a listener is told besides what it listens for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The channel was lost or given up; [`ChannelStatus`] tells which.
    #[error("{0}")]
    Channel(Cause),
    /// A row is not of the type that was asked for.
    #[error("a row change is not of the type that was asked for: {0}")]
    Row(PayloadError),
    /// The server refused what was shown as presence.
    #[error("the server refused the presence: {response:?}")]
    PresenceRefused {
        /// What it answered.
        response: Payload,
    },
    /// The callbacks were too slow for what came.
    #[error("{0} events were dropped because the callbacks were slow")]
    Missed(u64),
}

/// What to call as an entity's row changes and as broadcasts about it come.
///
/// A callback that panics is logged and called again with the next event; no other listener
/// notices. All of one lease run one after the other, on a thread of smol's pool for what blocks: a
/// slow or blocking one delays its own, and is told by [`ListenError::Missed`] when it was too slow.
///
/// # Examples
///
/// ```no_run
/// use realtime_smol::{EntityCallbacks, Manager};
/// use realtime_smol::proto::Config;
/// use realtime_smol::proto::manager::{Entity, EntityOptions, ManagerConfig};
///
/// #[derive(serde::Deserialize)]
/// struct Contact {
///     id: i64,
///     name: String,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// smol::block_on(async {
///     let config = Config::builder("ws://127.0.0.1:4010/socket").build()?;
///     let manager = Manager::connect(ManagerConfig::new(config));
///     let contact = Entity::new("contact", "123");
///     let lease = manager.subscribe_to_entity(&contact, EntityOptions::default()).await?;
///     let listening = lease.listen(
///         EntityCallbacks::<Contact>::new()
///             .on_update(|change| println!("{:?}", change.new_row().map(|row| &row.name)))
///             .on_broadcast("cursor", |cursor| println!("{:?}", cursor.payload))
///             .on_status_change(|status| println!("{status}"))
///             .on_gap(|gap| println!("fetch what changed between {} and {}", gap.from, gap.to))
///             .on_error(|error| eprintln!("{error}")),
///     );
///     // Dropping it ends the callbacks and releases the lease.
///     drop(listening);
///     Ok(())
/// })
/// # }
/// ```
pub struct EntityCallbacks<T> {
    insert: Vec<Callback<Change<T>>>,
    update: Vec<Callback<Change<T>>>,
    delete: Vec<Callback<Change<T>>>,
    change: Vec<Callback<Change<T>>>,
    broadcast: Vec<(String, Callback<Broadcast>)>,
    common: Common,
}

/// What to call as users come to an entity, change and go.
///
/// # Examples
///
/// ```no_run
/// use realtime_smol::{Manager, PresenceCallbacks};
/// use realtime_smol::proto::Config;
/// use realtime_smol::proto::manager::{Entity, ManagerConfig, User};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// smol::block_on(async {
///     let config = Config::builder("ws://127.0.0.1:4010/socket").build()?;
///     let manager = Manager::connect(ManagerConfig::new(config));
///     let contact = Entity::new("contact", "123");
///     let seat = manager.join_presence(&contact, User::new("u1").with_name("Ana")).await?;
///     let listening = seat.listen(
///         PresenceCallbacks::new()
///             .on_join(|user| println!("{} is here", user.user_id))
///             .on_leave(|user| println!("{} went", user.user_id)),
///     );
///     drop(listening);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Default)]
pub struct PresenceCallbacks {
    sync: Vec<Callback<()>>,
    join: Vec<Callback<User>>,
    update: Vec<Callback<User>>,
    leave: Vec<Callback<User>>,
    common: Common,
}

/// What every listener can be called with.
#[derive(Default)]
struct Common {
    status: Vec<Callback<ChannelStatus>>,
    gap: Vec<Callback<Gap>>,
    error: Vec<Callback<ListenError>>,
}

/// Callbacks that are being called; dropping it ends them and releases the lease.
#[must_use = "dropping it ends the callbacks and releases the lease"]
#[derive(Debug)]
pub struct Listening {
    _task: Task<()>,
}

/// Something that takes the events of a lease: callbacks, or a type of the application's own.
pub trait Listener: Send + 'static {
    /// Takes one event, or how many were missed. It may block; a panic ends the listener and
    /// releases the lease.
    fn handle(&mut self, delivery: Delivery<LeaseEvent>);
}

/// The most events that are handled before other listeners have their turn on the thread.
const BATCH_MAX: usize = 64;

impl Lease {
    /// Has callbacks called with what comes, on smol's global executor and its pool of threads.
    pub fn listen(self, listener: impl Listener) -> Listening {
        Listening { _task: smol::spawn(self.listen_with_driver(listener)) }
    }

    /// The same as a future for any executor; it ends with the lease.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped releases the lease; a callback that runs just then runs to its end.
    pub async fn listen_with_driver(mut self, mut listener: impl Listener) {
        let log = self.log.clone();
        let span = log.span_of(&self.key);
        while let Some(delivery) = self.next().await {
            let (log, span) = (log.clone(), span.clone());
            let mut batch = vec![delivery];
            while batch.len() < BATCH_MAX {
                let Some(Some(delivery)) = poll_once(self.next()).await else { break };
                batch.push(delivery);
            }
            listener = smol::unblock(move || {
                log.within(&span, || {
                    batch.into_iter().for_each(|delivery| listener.handle(delivery));
                });
                listener
            })
            .await;
        }
    }
}

macro_rules! callbacks {
    ($($(#[doc = $doc:literal])+ $name:ident($field:ident $(. $inner:ident)?, $event:ty);)+) => { $(
        $(#[doc = $doc])+
        #[must_use]
        pub fn $name(mut self, callback: impl FnMut(&$event) + Send + 'static) -> Self {
            self.$field$(.$inner)?.push(Box::new(callback));
            self
        }
    )+ };
}

impl<T: DeserializeOwned + Send + 'static> EntityCallbacks<T> {
    /// No callbacks yet; rows will be read as `T`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            insert: Vec::new(),
            update: Vec::new(),
            delete: Vec::new(),
            change: Vec::new(),
            broadcast: Vec::new(),
            common: Common::default(),
        }
    }

    callbacks! {
        /// Adds what is called when a row was inserted.
        on_insert(insert, Change<T>);
        /// Adds what is called when the row was updated.
        on_update(update, Change<T>);
        /// Adds what is called when the row was deleted.
        on_delete(delete, Change<T>);
        /// Adds what is called when the row changed in any way.
        on_change(change, Change<T>);
        /// Adds what is called when the channel has another status, and first with the one it has.
        on_status_change(common.status, ChannelStatus);
        /// Adds what is called when something may have been missed, with the window to fetch.
        on_gap(common.gap, Gap);
        /// Adds what is called when something goes wrong.
        on_error(common.error, ListenError);
    }

    /// Adds what is called when a broadcast about the entity comes with this event name; `*` is
    /// any.
    #[must_use]
    pub fn on_broadcast(
        mut self,
        event: impl Into<String>,
        callback: impl FnMut(&Broadcast) + Send + 'static,
    ) -> Self {
        self.broadcast.push((event.into(), Box::new(callback)));
        self
    }

    fn on_row_change(&mut self, change: &Change) {
        let of_kind = match change.kind() {
            ChangeKind::Insert => &mut self.insert,
            ChangeKind::Update => &mut self.update,
            ChangeKind::Delete => &mut self.delete,
        };
        match change.typed() {
            Ok(change) => {
                call_all(of_kind, &change);
                call_all(&mut self.change, &change);
            }
            Err(error) => self.common.fail(&ListenError::Row(error)),
        }
    }

    fn on_broadcast_event(&mut self, broadcast: &Broadcast) {
        for (event, callback) in &mut self.broadcast {
            if broadcast.matches(event) {
                call(callback, broadcast);
            }
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Default for EntityCallbacks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl PresenceCallbacks {
    /// No callbacks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    callbacks! {
        /// Adds what is called when the view equals the server's, after each join of the channel.
        on_sync(sync, ());
        /// Adds what is called when a user came.
        on_join(join, User);
        /// Adds what is called when a user shows something else.
        on_update(update, User);
        /// Adds what is called when a user went, on all devices.
        on_leave(leave, User);
        /// Adds what is called when the channel has another status, and first with the one it has.
        on_status_change(common.status, ChannelStatus);
        /// Adds what is called when something goes wrong.
        on_error(common.error, ListenError);
    }

    fn on_diff(&mut self, diff: &UserDiff) {
        diff.joined.iter().for_each(|user| call_all(&mut self.join, user));
        diff.updated.iter().for_each(|user| call_all(&mut self.update, user));
        diff.left.iter().for_each(|user| call_all(&mut self.leave, user));
        if diff.synced {
            call_all(&mut self.sync, &());
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Listener for EntityCallbacks<T> {
    fn handle(&mut self, delivery: Delivery<LeaseEvent>) {
        match delivery {
            Delivery::Event(LeaseEvent::Change(change)) => self.on_row_change(&change),
            Delivery::Event(LeaseEvent::Broadcast(broadcast)) => {
                self.on_broadcast_event(&broadcast);
            }
            other @ (Delivery::Event(_) | Delivery::Missed(_)) => self.common.handle(other),
        }
    }
}

impl Listener for PresenceCallbacks {
    fn handle(&mut self, delivery: Delivery<LeaseEvent>) {
        match delivery {
            Delivery::Event(LeaseEvent::Presence(diff)) => self.on_diff(&diff),
            other @ (Delivery::Event(_) | Delivery::Missed(_)) => self.common.handle(other),
        }
    }
}

impl Common {
    fn handle(&mut self, delivery: Delivery<LeaseEvent>) {
        match delivery {
            Delivery::Event(LeaseEvent::Status(status)) => {
                call_all(&mut self.status, &status);
                if let ChannelStatus::Reconnecting { cause, .. } | ChannelStatus::Error { cause } =
                    status
                {
                    self.fail(&ListenError::Channel(cause));
                }
            }
            Delivery::Event(LeaseEvent::Gap(gap)) => call_all(&mut self.gap, &gap),
            Delivery::Event(LeaseEvent::TrackRefused { response }) => {
                self.fail(&ListenError::PresenceRefused { response });
            }
            Delivery::Event(_) => {}
            Delivery::Missed(missed) => self.fail(&ListenError::Missed(missed)),
        }
    }

    fn fail(&mut self, error: &ListenError) {
        call_all(&mut self.error, error);
    }
}

fn call_all<E>(callbacks: &mut [Callback<E>], event: &E) {
    callbacks.iter_mut().for_each(|callback| call(callback, event));
}

/// Calls a callback whose panic is its own affair.
fn call<E>(callback: &mut Callback<E>, event: &E) {
    // The panic hook has printed it; what it left half done is state of the application's own.
    if catch_unwind(AssertUnwindSafe(|| callback(event))).is_err() {
        tracing::error!("a callback panicked; it is called again with the next event");
    }
}

impl<T> fmt::Debug for EntityCallbacks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityCallbacks").finish_non_exhaustive()
    }
}

impl fmt::Debug for PresenceCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceCallbacks").finish_non_exhaustive()
    }
}

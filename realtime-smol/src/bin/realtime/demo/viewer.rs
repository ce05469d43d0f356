//! One person who looks at the contact: a connection of their own, and what they see.

use std::collections::BTreeSet;

use realtime_proto::manager::{ChannelStatus, Entity, EntityOptions, Kind, LeaseEvent, User};
use realtime_proto::supabase::{Broadcast, Change, System};
use realtime_smol::{Delivery, Lease};
use smol::Task;
use smol::channel::Sender;
use smol::stream::StreamExt;

use crate::arguments::ServerArguments;
use crate::output::Failure;
use crate::session::Session;

/// Who takes part.
pub(crate) const NAMES: [&str; 3] = ["ana", "ben", "cleo"];

/// Something a viewer sees.
pub(crate) enum Seen {
    Status(Kind, ChannelStatus),
    Change(Change),
    Broadcast(Broadcast),
    /// The people on the contact, whenever that changes.
    Viewing {
        joined: Vec<String>,
        left: Vec<String>,
        now: BTreeSet<String>,
    },
    System(System),
    Missed(u64),
}

/// A viewer on stage.
pub(crate) struct Viewer {
    pub(crate) name: &'static str,
    pub(crate) session: Session,
    /// Forward what the leases bring; dropping them releases the leases.
    _watching: [Task<()>; 2],
}

impl Viewer {
    /// Connects, listens to the row, and shows up in its presence.
    pub(crate) async fn enter(
        name: &'static str,
        at: &ServerArguments,
        contact: &Entity,
        seen: &Sender<(&'static str, Seen)>,
    ) -> Result<Self, Failure> {
        let session = Session::open(at).await?;
        let manager = &session.manager;
        let rows = manager.subscribe_to_entity(contact, EntityOptions::default()).await?;
        let user = User::new(name).with_name(name);
        let presence = manager.join_presence(contact, user).await?;
        let watch = |kind, lease| smol::spawn(forward(name, kind, lease, seen.clone()));
        let watching = [watch(Kind::Subscription, rows), watch(Kind::Presence, presence)];
        Ok(Self { name, session, _watching: watching })
    }
}

/// Passes on what a lease brings, until nobody listens.
async fn forward(
    name: &'static str,
    kind: Kind,
    mut lease: Lease,
    seen: Sender<(&'static str, Seen)>,
) {
    let mut people = BTreeSet::new();
    while let Some(delivery) = lease.next().await {
        let sight = match delivery {
            Delivery::Event(LeaseEvent::Status(status)) => Seen::Status(kind, status),
            Delivery::Event(LeaseEvent::Change(change)) => Seen::Change(change),
            Delivery::Event(LeaseEvent::Broadcast(broadcast)) => Seen::Broadcast(broadcast),
            Delivery::Event(LeaseEvent::System(system)) => Seen::System(system),
            Delivery::Event(LeaseEvent::Presence(diff)) => {
                let names = |users: &[User]| -> Vec<String> {
                    users.iter().map(|user| user.user_id.clone()).collect()
                };
                let (joined, left) = (names(&diff.joined), names(&diff.left));
                people.extend(joined.iter().cloned());
                people.retain(|name| !left.contains(name));
                Seen::Viewing { joined, left, now: people.clone() }
            }
            Delivery::Event(_) => continue,
            Delivery::Missed(missed) => Seen::Missed(missed),
        };
        if seen.send((name, sight)).await.is_err() {
            return;
        }
    }
}

//! Our channel manager as a subject: a topic of the scenario is an entity, a channel is a lease.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::manager::{
    ChannelSettings, ChannelStatus, Entity, EntityKey, EntityOptions, Kind, LeaseEvent, LeaseId,
    Manager, ManagerConfig, ManagerEvent, PresenceOptions, User, UserDiff,
};
use realtime_proto::{
    Backoff, CloseReason, ConnectionId, ConnectionState, Frame, Instant, Payload, PushId, SocketId,
    Stats, Stream,
};

use super::client::{client_config, token_of};
use super::{
    ChannelKey, ChannelTold, Command, MemberDiff, Missed, Performed, Request, Role, Scripted, Seen,
    Subject, Told, note, number_of, numbered,
};
use crate::app::{Ours, Wishes};
use crate::scenario::{TopicId, TopicSpec};
use crate::trace::describe_for_manager;

/// A manager, and which of its leases and pushes are which of the scenario.
#[derive(Debug)]
pub(crate) struct ManagerSubject {
    pub(crate) manager: Manager,
    topics: Vec<TopicSpec>,
    open: BTreeMap<TopicId, LeaseId>,
    keys: BTreeMap<LeaseId, ChannelKey>,
    statuses: BTreeMap<LeaseId, ChannelStatus>,
    pushes: BTreeMap<PushId, (TopicId, u64)>,
    connections: Vec<ConnectionId>,
    lives: u32,
    name: String,
}

/// The entity that a topic is about, when it is one.
fn entity_key(topic: &str) -> Option<EntityKey> {
    let mut parts = topic.strip_prefix("realtime:")?.split(':');
    let (kind, entity_type, entity_id) = (parts.next()?, parts.next()?, parts.next()?);
    let entity = Entity::new(entity_type, entity_id);
    match (kind, parts.next()) {
        ("subscription", None) => Some(EntityKey::subscription(entity)),
        ("presence", None) => Some(EntityKey::presence(entity)),
        _ => None,
    }
}

/// Whether a manager has a channel for such a topic.
pub(crate) fn is_for_managers(topic: &TopicSpec) -> bool {
    entity_key(&topic.topic).is_some()
}

impl ManagerSubject {
    pub(crate) const fn plain(manager: Manager) -> Self {
        Self {
            manager,
            topics: Vec::new(),
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            statuses: BTreeMap::new(),
            pushes: BTreeMap::new(),
            connections: Vec::new(),
            lives: 0,
            name: String::new(),
        }
    }

    fn entity(&self, topic: TopicId) -> Option<EntityKey> {
        entity_key(&self.topics.get(usize::from(topic.0))?.topic)
    }

    fn open(&mut self, topic: TopicId, now: Instant) -> Option<Performed> {
        if self.open.contains_key(&topic) {
            return Some(Performed::Done);
        }
        let key = self.entity(topic)?;
        let spec = &self.topics[usize::from(topic.0)];
        let channel = Some(ChannelSettings {
            private: spec.private,
            ack: spec.ack,
            ..ChannelSettings::default()
        });
        let lease = if key.kind == Kind::Presence {
            let options = PresenceOptions { channel, ..PresenceOptions::default() };
            self.manager.join_presence_with(&key.entity, User::new(&self.name), &options, now)
        } else {
            let options = EntityOptions { channel, ..EntityOptions::default() };
            self.manager.subscribe_to_entity(&key.entity, &options, now)
        };
        let lease = lease.ok()?;
        self.lives += 1;
        let channel = ChannelKey { topic, life: self.lives };
        self.open.insert(topic, lease);
        self.keys.insert(lease, channel);
        Some(Performed::Opened(channel))
    }

    /// The number of a connection of the manager.
    pub(crate) fn number(&mut self, id: ConnectionId) -> u32 {
        let known = self.connections.iter().position(|known| *known == id);
        let at = known.unwrap_or_else(|| {
            self.connections.push(id);
            self.connections.len() - 1
        });
        at as u32
    }

    fn lease_told(&mut self, lease: LeaseId, event: &LeaseEvent) -> ChannelTold {
        match event {
            LeaseEvent::Status(status) => {
                let before = self.statuses.insert(lease, status.clone());
                status_told(before.as_ref(), status)
            }
            LeaseEvent::Change(change) => ChannelTold::Change {
                number: change.record().and_then(|record| number_of(record.as_bytes())),
                misrouted: false,
            },
            LeaseEvent::Broadcast(broadcast) => ChannelTold::Broadcast {
                number: number_of(broadcast.payload.as_bytes()),
                has_id: broadcast.id().is_some(),
            },
            LeaseEvent::Gap(gap) => ChannelTold::Gap {
                stream: match gap.stream {
                    Stream::Changes { .. } => Missed::Changes,
                    Stream::Messages | _ => Missed::Messages,
                },
                from: gap.from,
                to: gap.to,
            },
            LeaseEvent::Recovered(recovery) => ChannelTold::Recovered {
                contiguous: recovery.contiguous,
                from: recovery.from,
                to: recovery.to,
            },
            LeaseEvent::Presence(diff) => {
                ChannelTold::Presence { synced: diff.synced, diff: member_diff(diff) }
            }
            LeaseEvent::Ended => {
                self.statuses.remove(&lease);
                if let Some(key) = self.keys.remove(&lease) {
                    if self.open.get(&key.topic) == Some(&lease) {
                        self.open.remove(&key.topic);
                    }
                }
                ChannelTold::Closed
            }
            LeaseEvent::System(_) | LeaseEvent::TrackRefused { .. } | _ => ChannelTold::Other,
        }
    }
}

fn member_diff(diff: &UserDiff) -> MemberDiff {
    let all = |users: &[User]| users.iter().map(shown).collect();
    MemberDiff { joined: all(&diff.joined), updated: all(&diff.updated), left: all(&diff.left) }
}

/// Whom a user is shown as.
fn shown(user: &User) -> (String, Vec<u64>) {
    (user.user_id.clone(), number_of(user.metadata.as_bytes()).into_iter().collect())
}

/// What another status means for a channel.
fn status_told(before: Option<&ChannelStatus>, status: &ChannelStatus) -> ChannelTold {
    match status {
        // After live this is a channel that joins again, or whose rows do not flow.
        ChannelStatus::Connected if before == Some(&ChannelStatus::Live) => {
            ChannelTold::Stopped { cause: realtime_proto::supabase::CauseKind::Unknown }
        }
        ChannelStatus::Connected => ChannelTold::Joined,
        ChannelStatus::Live => ChannelTold::Live,
        ChannelStatus::Reconnecting { next_at, cause, .. } => {
            ChannelTold::Errored { cause: cause.kind, retry_at: *next_at }
        }
        ChannelStatus::Error { cause } => {
            ChannelTold::Errored { cause: cause.kind, retry_at: None }
        }
        // The application disconnected, or the channel is another one.
        ChannelStatus::Connecting if before.is_some() => ChannelTold::Rejoining,
        ChannelStatus::Connecting | ChannelStatus::Closed | _ => ChannelTold::Other,
    }
}

impl Scripted for ManagerSubject {
    fn start(role: &Role<'_>, seed: u64, now: Instant) -> Self {
        let settings = &role.cast.settings;
        let rejoin = Backoff::exponential(settings.retry_first, settings.retry_max);
        let config = ManagerConfig::new(client_config(role.cast, &role.actor.name))
            .with_rejoin(rejoin.with_attempts_max(5))
            .with_linger(settings.linger)
            .with_channels_per_connection_max(settings.channels_max as usize);
        let mut subject = Self::plain(Manager::new(config, seed, now));
        subject.topics.clone_from(&role.cast.topics);
        subject.name.clone_from(&role.actor.name);
        subject
    }
}

impl Ours for ManagerSubject {
    type Machine = Manager;

    fn machine(&mut self) -> &mut Manager {
        &mut self.manager
    }

    fn is_scripted(&self) -> bool {
        !self.topics.is_empty()
    }

    fn wishes(&self) -> Wishes {
        let stats = self.manager.channel_stats();
        let is_wanted = |state| state != ConnectionState::Disconnected;
        let held = |lease: &LeaseId| stats.held.iter().any(|held| held.lease == *lease);
        let open = self.open.iter().filter(|(_, lease)| held(lease));
        Wishes {
            online: stats.connections.iter().any(|connection| is_wanted(connection.state)),
            token: token_of(&self.manager.broadcast_api()),
            open: open.map(|(topic, _)| *topic).collect(),
        }
    }

    fn channels(&self) -> Vec<String> {
        self.manager.active_channels().map(|channel| channel.key.topic()).collect()
    }

    fn give_up(&mut self, topic: TopicId) {
        self.open.remove(&topic);
    }
}

impl Subject for ManagerSubject {
    type Socket = SocketId;
    type Event = ManagerEvent;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        self.manager.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.manager.handle_frame(socket, frame, now);
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.manager.handle_close(socket, reason, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.manager.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.manager.poll_transmit().map(Request::of)
    }

    fn poll_event(&mut self) -> Option<ManagerEvent> {
        self.manager.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.manager.poll_timeout()
    }

    /// A manager whose events nobody takes is not driven at all.
    fn poll_timer(&self) -> Option<Instant> {
        None
    }

    fn connection(&mut self, socket: SocketId) -> u32 {
        self.number(socket.connection())
    }

    fn wants_frames(&self) -> bool {
        self.manager.wants_frames()
    }

    fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.manager.set_unix_time(unix, now);
    }

    fn describe(event: &ManagerEvent) -> String {
        describe_for_manager(event)
    }

    fn tell(&mut self, event: &ManagerEvent, told: &mut Vec<Told>) {
        told.extend(note::of_manager(event).map(Told::Note));
        if let ManagerEvent::Lease(lease, LeaseEvent::Status(ChannelStatus::Live)) = event {
            if let (Some(key), None) = (self.keys.get(lease), self.statuses.get(lease)) {
                // It shares a channel that was live before.
                told.push(Told::Channel(*key, ChannelTold::Joined));
            }
        }
        told.push(match event {
            ManagerEvent::Connected { connection } => {
                Told::Connected { connection: self.number(*connection) }
            }
            ManagerEvent::Disconnected { connection, cause, retry_at } => Told::Disconnected {
                connection: self.number(*connection),
                cause: cause.kind,
                retry_at: *retry_at,
            },
            ManagerEvent::TokenNeeded { .. } => Told::TokenNeeded,
            ManagerEvent::Violation(_) => Told::Violation,
            ManagerEvent::Lease(lease, event) => {
                let Some(key) = self.keys.get(lease).copied() else { return };
                Told::Channel(key, self.lease_told(*lease, event))
            }
            ManagerEvent::PushEnded { push, outcome } => {
                // One that no scenario sent has a number that no scenario gives.
                let foreign = (TopicId(u8::MAX), u64::MAX - self.pushes.len() as u64);
                let (topic, number) = *self.pushes.entry(*push).or_insert(foreign);
                // A broadcast is the manager's, whoever has a lease of the topic.
                let key = ChannelKey { topic, life: 0 };
                Told::Channel(key, ChannelTold::Ended { number, end: note::end(outcome) })
            }
            ManagerEvent::Channel { .. } | _ => return,
        });
    }

    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        let done = match *command {
            Command::Connect => {
                self.manager.connect(now);
                Some(())
            }
            Command::Disconnect => {
                self.manager.disconnect(now);
                Some(())
            }
            Command::Hint => {
                self.manager.probe(now);
                Some(())
            }
            Command::Open(topic) => return self.open(topic, now).unwrap_or(Performed::Refused),
            Command::Close(topic) | Command::Untrack(topic) => self
                .open
                .remove(&topic)
                .and_then(|lease| self.manager.release(lease, now).then_some(())),
            Command::Send(topic, number) => self.entity(topic).and_then(|key| {
                // A broadcast opens the channel; only who listens sends here.
                self.open.get(&topic)?;
                let payload = Payload::from_json(numbered(number)).ok()?;
                let push = self.manager.broadcast(&key.entity, "n", payload, now).ok()?;
                self.pushes.insert(push, (topic, number));
                Some(())
            }),
            Command::Track(topic, number) => self.entity(topic).and_then(|key| {
                // One entity may have two topics, and only one of them shows anybody.
                (key.kind == Kind::Presence).then_some(())?;
                let payload = Payload::from_json(numbered(number)).ok()?;
                self.manager.update_presence_metadata(&key.entity, &payload, now).ok()
            }),
            Command::Rejoin(topic) => {
                self.entity(topic).and_then(|key| self.manager.retry(&key, now).ok())
            }
            Command::Token(token) => {
                self.manager.set_access_token(token.map(Into::into), now);
                Some(())
            }
            Command::Rebind(_) => None,
        };
        done.map_or(Performed::Refused, |()| Performed::Done)
    }

    fn present(&mut self, topic: TopicId) -> Seen {
        let Some(key) = self.entity(topic).filter(|_| self.is_live(topic)) else {
            return Seen::Stale;
        };
        Seen::Members(self.manager.presence_state(&key.entity).iter().map(shown).collect())
    }

    fn tells_members(&self) -> bool {
        true
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.manager.stats())
    }

    fn is_live(&mut self, topic: TopicId) -> bool {
        let lease = self.open.get(&topic);
        lease.is_some_and(|lease| self.statuses.get(lease) == Some(&ChannelStatus::Live))
    }
}

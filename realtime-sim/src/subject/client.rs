//! Our client as a subject.

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::supabase::{
    Binding, BroadcastApi, ChangeEvent, HttpBroadcast, JoinConfig, PostgresChangesOptions,
};
use realtime_proto::{
    Backoff, BindingId, ChannelConfig, ChannelEvent, ChannelId, Client, CloseReason, Config,
    ConnectionState, Event, Frame, Instant, Limits, Member, Meta, Payload, PresenceDiff, PushId,
    SocketId, Stats, Stream,
};

use super::{
    ChannelKey, ChannelTold, Command, MemberDiff, Missed, Performed, Request, Role, Scripted, Seen,
    Subject, Told, note, number_of, numbered,
};
use crate::app::{Ours, Wishes};
use crate::credentials;
use crate::scenario::{Cast, TopicId, TopicSpec};
use crate::trace::describe;

/// The table that topics with rows are about, and the one a rebind asks for besides.
pub(crate) const TABLE: &str = "contacts";
const OTHER_TABLE: &str = "orders";

/// A client, and which of its channels and pushes are which of the scenario.
#[derive(Debug)]
pub(crate) struct ClientSubject {
    pub(crate) client: Client,
    topics: Vec<TopicSpec>,
    open: BTreeMap<TopicId, ChannelId>,
    keys: BTreeMap<ChannelId, ChannelKey>,
    pushes: BTreeMap<PushId, u64>,
    rebound: BTreeMap<TopicId, BindingId>,
    lives: u32,
    name: String,
}

/// The settings of a client of a scenario.
pub(crate) fn client_config(cast: &Cast, name: &str) -> Config {
    let settings = &cast.settings;
    let retries = Backoff::exponential(settings.retry_first, settings.retry_max);
    let mut limits = Limits::default();
    limits.events_queued_max = settings.events_max as usize;
    limits.joins_per_second_max = settings.joins_max.max(1);
    let vsn =
        if settings.vsn1 { realtime_proto::wire::Vsn::V1 } else { realtime_proto::wire::Vsn::V2 };
    Config::builder("wss://project.supabase.co/realtime/v1")
        .apikey(credentials::apikey(name))
        .vsn(vsn)
        .heartbeat_interval(settings.heartbeat.max(Duration::from_millis(100)))
        .join_timeout(settings.join_timeout.max(Duration::from_millis(100)))
        .reconnect(retries.clone())
        .rejoin(retries)
        .limits(limits)
        .build()
        .expect("the settings of a scenario are complete")
}

impl ClientSubject {
    pub(crate) const fn plain(client: Client) -> Self {
        Self {
            client,
            topics: Vec::new(),
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            pushes: BTreeMap::new(),
            rebound: BTreeMap::new(),
            lives: 0,
            name: String::new(),
        }
    }

    fn key(&mut self, id: ChannelId) -> ChannelKey {
        let lives = &mut self.lives;
        *self.keys.entry(id).or_insert_with(|| {
            *lives += 1;
            ChannelKey { topic: ChannelKey::OF_APP, life: *lives }
        })
    }

    fn open(&mut self, topic: TopicId, now: Instant) -> Performed {
        if self.open.contains_key(&topic) {
            return Performed::Done;
        }
        let spec = &self.topics[usize::from(topic.0)];
        let Ok(id) = self.client.open_channel(&spec.topic, channel_config(spec, &self.name), now)
        else {
            return Performed::Refused;
        };
        self.lives += 1;
        let key = ChannelKey { topic, life: self.lives };
        self.open.insert(topic, id);
        self.keys.insert(id, key);
        Performed::Opened(key)
    }

    fn with_channel(
        &mut self,
        topic: TopicId,
        act: impl FnOnce(&mut Self, ChannelId) -> Option<()>,
    ) -> Performed {
        let acted = self.open.get(&topic).copied().and_then(|id| act(self, id));
        acted.map_or(Performed::Refused, |()| Performed::Done)
    }

    fn send(&mut self, topic: TopicId, number: u64, now: Instant) -> Performed {
        self.with_channel(topic, |this, id| {
            let payload = Payload::from_json(numbered(number)).ok()?;
            let is_supabase = this.topics[usize::from(topic.0)].is_supabase();
            let mut channel = this.client.channel(id)?;
            let pushed = if is_supabase {
                channel.broadcast("n", payload, now)
            } else {
                channel.push("n", payload, now)
            };
            this.pushes.insert(pushed.ok()?, number);
            Some(())
        })
    }

    fn rebind(&mut self, topic: TopicId, now: Instant) -> Performed {
        self.with_channel(topic, |this, id| {
            let bound = this.rebound.remove(&topic);
            let mut channel = this.client.channel(id)?;
            if let Some(bound) = bound {
                return channel.unbind(bound, now).then_some(());
            }
            let binding = Binding::new(ChangeEvent::Insert, "public", OTHER_TABLE);
            let bound = channel.bind(binding, now).ok()?;
            this.rebound.insert(topic, bound);
            Some(())
        })
    }

    fn channel_told(&mut self, id: ChannelId, event: &ChannelEvent) -> ChannelTold {
        match event {
            ChannelEvent::Joined { .. } => ChannelTold::Joined,
            ChannelEvent::Live => ChannelTold::Live,
            ChannelEvent::ChangesStopped { cause } => ChannelTold::Stopped { cause: cause.kind },
            ChannelEvent::Rejoining { .. } => ChannelTold::Rejoining,
            ChannelEvent::Errored { cause, retry_at } => {
                ChannelTold::Errored { cause: cause.kind, retry_at: *retry_at }
            }
            ChannelEvent::Closed { .. } => {
                if let Some(key) = self.keys.remove(&id) {
                    if self.open.get(&key.topic) == Some(&id) {
                        self.open.remove(&key.topic);
                        self.rebound.remove(&key.topic);
                    }
                }
                ChannelTold::Closed
            }
            ChannelEvent::Broadcast(broadcast) => ChannelTold::Broadcast {
                number: number_of(broadcast.payload.as_bytes()),
                has_id: broadcast.id().is_some(),
            },
            ChannelEvent::Message { payload, .. } => {
                ChannelTold::Broadcast { number: number_of(payload.as_bytes()), has_id: false }
            }
            ChannelEvent::Change { bindings, change } => {
                let key = self.keys.get(&id);
                let other = key.and_then(|key| self.rebound.get(&key.topic));
                let is_of_other = change.table() == OTHER_TABLE;
                ChannelTold::Change {
                    number: change.record().and_then(|record| number_of(record.as_bytes())),
                    misrouted: other.is_some_and(|it| bindings.contains(*it) != is_of_other),
                }
            }
            ChannelEvent::Gap(gap) => ChannelTold::Gap {
                stream: match gap.stream {
                    Stream::Changes { .. } => Missed::Changes,
                    Stream::Messages | _ => Missed::Messages,
                },
                from: gap.from,
                to: gap.to,
            },
            ChannelEvent::Recovered(recovery) => ChannelTold::Recovered {
                contiguous: recovery.contiguous,
                from: recovery.from,
                to: recovery.to,
            },
            ChannelEvent::Presence(diff) => {
                ChannelTold::Presence { synced: diff.synced, diff: member_diff(diff) }
            }
            ChannelEvent::PushEnded { push, outcome } => {
                // One that no scenario sent has a number that no scenario gives.
                let foreign = u64::MAX - self.pushes.len() as u64;
                let number = *self.pushes.entry(*push).or_insert(foreign);
                ChannelTold::Ended { number, end: note::end(outcome) }
            }
            ChannelEvent::PresenceCalls(_)
            | ChannelEvent::System(_)
            | ChannelEvent::TrackRefused { .. }
            | _ => ChannelTold::Other,
        }
    }
}

fn member_diff(diff: &PresenceDiff) -> MemberDiff {
    let all = |members: &[Member]| {
        members.iter().map(|member| (member.key.clone(), numbers(&member.metas))).collect()
    };
    MemberDiff { joined: all(&diff.joined), updated: all(&diff.updated), left: all(&diff.left) }
}

fn numbers(metas: &[Meta]) -> Vec<u64> {
    metas.iter().filter_map(|meta| number_of(meta.value.as_bytes())).collect()
}

/// The access token that a machine has now.
pub(super) fn token_of(api: &BroadcastApi) -> Option<String> {
    let any = HttpBroadcast::new("realtime:any", "any", Payload::empty());
    let request = api.single(&any).ok()?;
    let mut headers = request.headers().filter(|(name, _)| *name == "authorization");
    headers.next()?.1.strip_prefix("Bearer ").map(str::to_owned)
}

/// How a channel of a topic is opened.
fn channel_config(spec: &TopicSpec, name: &str) -> ChannelConfig {
    if !spec.is_supabase() {
        return ChannelConfig::phoenix(Payload::empty());
    }
    let mut join = JoinConfig { private: spec.private, ..JoinConfig::default() };
    join.broadcast.ack = spec.ack;
    join.broadcast.echo = spec.echo;
    join.presence.enabled = spec.presence;
    join.presence.key = name.into();
    if spec.rows {
        join.postgres_changes.push(Binding::new(ChangeEvent::All, "public", TABLE));
        if spec.wait {
            join.postgres_changes_options =
                Some(PostgresChangesOptions { wait: true, ..PostgresChangesOptions::default() });
        }
    }
    ChannelConfig::supabase(join)
}

impl Scripted for ClientSubject {
    fn start(role: &Role<'_>, seed: u64, now: Instant) -> Self {
        let config = client_config(role.cast, &role.actor.name);
        let mut subject = Self::plain(Client::new(config, seed, now));
        subject.topics.clone_from(&role.cast.topics);
        subject.name.clone_from(&role.actor.name);
        subject
    }
}

impl Ours for ClientSubject {
    type Machine = Client;

    fn machine(&mut self) -> &mut Client {
        &mut self.client
    }

    fn is_scripted(&self) -> bool {
        !self.topics.is_empty()
    }

    fn wishes(&self) -> Wishes {
        let has = |(topic, id): &(&TopicId, &ChannelId)| {
            let name = &self.topics[usize::from(topic.0)].topic;
            self.client.channel_by_topic(name) == Some(**id)
        };
        Wishes {
            online: self.client.connection_state() != ConnectionState::Disconnected,
            token: token_of(&self.client.broadcast_api()),
            open: self.open.iter().filter(has).map(|(topic, _)| *topic).collect(),
        }
    }

    fn channels(&self) -> Vec<String> {
        let infos = self.client.channels().filter_map(|id| self.client.channel_info(id));
        infos.map(|info| info.topic.to_string()).collect()
    }

    fn give_up(&mut self, topic: TopicId) {
        self.open.remove(&topic);
        self.rebound.remove(&topic);
    }
}

impl Subject for ClientSubject {
    type Socket = SocketId;
    type Event = Event;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        self.client.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.client.handle_frame(socket, frame, now);
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.client.handle_close(socket, reason, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.client.poll_transmit().map(Request::of)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.client.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn poll_timer(&self) -> Option<Instant> {
        self.client.next_timer().map(|(at, _)| at)
    }

    fn wants_frames(&self) -> bool {
        self.client.wants_frames()
    }

    fn set_unix_time(&mut self, unix: Duration, now: Instant) {
        self.client.set_unix_time(unix, now);
    }

    fn describe(event: &Event) -> String {
        describe(event)
    }

    fn tell(&mut self, event: &Event, told: &mut Vec<Told>) {
        told.extend(note::of(event).map(Told::Note));
        told.push(match event {
            Event::Connected { .. } => Told::Connected { connection: 0 },
            Event::Disconnected { cause, retry_at, .. } => {
                Told::Disconnected { connection: 0, cause: cause.kind, retry_at: *retry_at }
            }
            Event::TokenNeeded { .. } => Told::TokenNeeded,
            Event::Violation(_) => Told::Violation,
            Event::Channel(id, event) => {
                let key = self.key(*id);
                Told::Channel(key, self.channel_told(*id, event))
            }
            Event::Heartbeat { .. } | _ => return,
        });
    }

    fn perform(&mut self, command: &Command<'_>, now: Instant) -> Performed {
        match *command {
            Command::Connect => self.client.connect(now),
            Command::Disconnect => self.client.disconnect(now),
            Command::Hint => self.client.probe(now),
            Command::Open(topic) => return self.open(topic, now),
            Command::Close(topic) => {
                let Some(id) = self.open.remove(&topic) else { return Performed::Refused };
                self.rebound.remove(&topic);
                self.client.close_channel(id, now);
            }
            Command::Send(topic, number) => return self.send(topic, number, now),
            Command::Track(topic, number) => {
                return self.with_channel(topic, |this, id| {
                    let payload = Payload::from_json(numbered(number)).ok()?;
                    this.client.channel(id)?.track(payload, now).ok()
                });
            }
            Command::Untrack(topic) => {
                return self
                    .with_channel(topic, |this, id| this.client.channel(id)?.untrack(now).ok());
            }
            Command::Rebind(topic) => return self.rebind(topic, now),
            Command::Rejoin(topic) => {
                return self.with_channel(topic, |this, id| {
                    this.client.channel(id)?.rejoin(now);
                    Some(())
                });
            }
            Command::Token(token) => self.client.set_access_token(token.map(Into::into), now),
        }
        Performed::Done
    }

    fn present(&mut self, topic: TopicId) -> Seen {
        let id = self.open.get(&topic).copied();
        let Some(channel) = id.and_then(|id| self.client.channel(id)) else { return Seen::Stale };
        let presence = channel.presence();
        if presence.is_stale() {
            return Seen::Stale;
        }
        Seen::Members(presence.members().map(|(key, metas)| (key.into(), numbers(metas))).collect())
    }

    fn tells_members(&self) -> bool {
        true
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.client.stats())
    }

    fn is_live(&mut self, topic: TopicId) -> bool {
        let Some(id) = self.open.get(&topic) else { return false };
        self.client.channel(*id).is_some_and(|channel| channel.is_live())
    }
}

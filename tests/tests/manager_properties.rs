//! Random use of a manager under random faults, against a model that only counts.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::manager::{
    ChannelSettings, CleanupId, Entity, EntityKey, EntityOptions, Kind, LeaseEvent, LeaseId,
    Manager, ManagerError, ManagerEvent, SendOptions, User,
};
use realtime_proto::server::{ServerConfig, ServerEvent};
use realtime_proto::supabase::ChangeEvent;
use realtime_proto::{CloseReason, Instant, Payload, PushId, PushOptions};
use realtime_sim::{Network, NodeId, World};
use realtime_tests::dice::Dice;
use realtime_tests::entities::{config, connected_with, millis, payload, secs};

const SEEDS: u64 = 500;
const STEPS: usize = 80;
const CHANNELS_PER_CONNECTION: usize = 3;
const LEAVE_TIMEOUT: Duration = secs(5);
/// How long a channel may stay that nobody holds: as long as a broadcast may wait for its join and
/// then for its answer, twice the linger, and the leave.
const UNHELD_MAX: Duration = secs(10 + 10 + 2 + 5);

/// What ought to be: who holds which key, as whom, and how.
#[derive(Debug, Default)]
struct Model {
    held: BTreeMap<LeaseId, EntityKey>,
    users: BTreeMap<EntityKey, String>,
    private: BTreeMap<EntityKey, bool>,
    /// When a key was last held or sent on.
    touched: BTreeMap<EntityKey, Instant>,
    /// Broadcasts that have not ended.
    sending: BTreeMap<PushId, EntityKey>,
    /// Clean-ups that have not ended, and when they were asked for.
    cleaning: BTreeMap<CleanupId, Instant>,
}

impl Model {
    fn holders(&self, key: &EntityKey) -> usize {
        self.held.values().filter(|held| *held == key).count()
    }

    fn keys(&self) -> BTreeSet<EntityKey> {
        self.held.values().cloned().collect()
    }

    fn forget(&mut self, gone: impl Fn(&EntityKey) -> bool) {
        self.held.retain(|_, key| !gone(key));
    }

    /// Whether others would notice if the channel of a key were another.
    fn is_in_use(&self, key: &EntityKey) -> bool {
        self.holders(key) > 0 || self.sending.values().any(|sending| sending == key)
    }
}

fn any_entity(dice: &mut Dice) -> Entity {
    // Ids that would meet in one topic if they were not escaped.
    let ids = ["1", "2", "1:2", "presence:contact:1", "%3A"];
    let entity = Entity::new("contact", *dice.pick(&ids));
    match dice.below(3) {
        0 => entity.in_tenant("acme"),
        1 => entity.in_tenant("acme:subscription"),
        _ => entity,
    }
}

struct Run {
    world: World,
    node: NodeId,
    model: Model,
    dice: Dice,
    wanted: bool,
    /// How much of the manager's log the model knows.
    read: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let jitter = millis([0, 15, 400][seed as usize % 3]);
        let mut world = World::seed(seed).with_network(Network { delay: millis(20), jitter });
        let settings = config().with_channels_per_connection_max(CHANNELS_PER_CONNECTION);
        let node = connected_with(&mut world, settings);
        Self { world, node, model: Model::default(), dice: Dice::new(seed), wanted: true, read: 0 }
    }

    fn step(&mut self) {
        for key in self.model.keys() {
            self.model.touched.insert(key, self.world.now());
        }
        match self.dice.below(29) {
            0..=5 => self.subscribe(),
            6..=8 => self.join_presence(),
            9..=12 => self.release(),
            13 | 14 => self.broadcast(),
            15 => {
                let (entity, node) = (any_entity(&mut self.dice), self.node);
                let update = payload(r#"{"n":1}"#);
                let updated = self.world.manager(node, |manager, now| {
                    manager.update_presence_metadata(&entity, &update, now)
                });
                let present = self.model.holders(&EntityKey::presence(entity)) > 0;
                assert!(updated.is_ok() || !present, "{updated:?}");
            }
            16 => self.unsubscribe(),
            17 => {
                let entity = any_entity(&mut self.dice);
                let there = self.manager(|manager, now| manager.leave_presence(&entity, now));
                let key = EntityKey::presence(entity);
                assert!(there || self.model.holders(&key) == 0);
                self.model.forget(|held| *held == key);
            }
            18 => {
                let tenant = ["acme", "acme:subscription"][self.dice.below(2)];
                self.clean_up(
                    |manager, now| manager.cleanup_tenant(tenant, now),
                    |key| key.entity.tenant() == Some(tenant),
                );
            }
            19 => {
                let key = EntityKey::subscription(any_entity(&mut self.dice));
                self.manager(|manager, now| manager.retry(&key, now)).unwrap();
            }
            20 => {
                self.wanted = !self.wanted;
                let wanted = self.wanted;
                self.manager(
                    |manager, now| {
                        if wanted { manager.connect(now) } else { manager.disconnect(now) }
                    },
                );
            }
            21..=26 => self.fault(),
            _ if self.dice.below(6) == 0 => self.clean_up(Manager::cleanup_all_channels, |_| true),
            _ => {}
        }
        let span = [0, 0, 1, 30, 400, 1_500, 5_000][self.dice.below(7)];
        self.world.run_for(millis(span));
        self.read_log();
    }

    /// Something that is nobody's wish.
    fn fault(&mut self) {
        let now = self.world.now();
        let topic = EntityKey::subscription(any_entity(&mut self.dice)).topic();
        let session = self.world.server_log().iter().rev().find_map(|(_, event)| match event {
            ServerEvent::Joined { session, topic: joined } if *joined == topic => Some(*session),
            _ => None,
        });
        match self.dice.below(9) {
            7 => self.world.stall(self.node),
            8 => self.world.heal(self.node),
            0 | 1 => self.world.cut(self.node),
            2 => {
                let detail = "no route to host".to_string();
                self.world.refuse_next(self.node, CloseReason::Unreachable { detail });
                self.world.cut(self.node);
            }
            3 => {
                let connections = self.manager(|manager, _| manager.connections());
                let which = self.dice.below(connections.len());
                self.world.cut_connection(self.node, connections[which].id);
            }
            4 => {
                self.world.server(|server, _| server.close_all(1012, "service restart", now));
            }
            5 => {
                self.world.server(|server, _| {
                    session.map(|session| server.crash_channel(session, &topic, now))
                });
            }
            _ => self.world.server(|server, _| {
                let mut config = server.config().clone();
                config.refuse_joins = vec![(topic, "UnableToConnectToProject: busy".into())];
                config.join_refusal_after = Duration::ZERO;
                server.set_config(config);
            }),
        }
    }

    /// What ended meanwhile.
    fn read_log(&mut self) {
        for (at, event) in &self.world.manager_log(self.node)[self.read..] {
            match event {
                ManagerEvent::PushEnded { push, .. } => {
                    let key = self.model.sending.remove(push).expect("a broadcast ends once");
                    self.model.touched.insert(key, *at);
                }
                ManagerEvent::CleanedUp { cleanup } => {
                    let begun = self.model.cleaning.remove(cleanup).expect("it ends once");
                    assert!(at.saturating_duration_since(begun) <= LEAVE_TIMEOUT, "{cleanup}");
                }
                _ => {}
            }
        }
        self.read = self.world.manager_log(self.node).len();
    }

    fn clean_up(
        &mut self,
        begin: impl FnOnce(&mut Manager, Instant) -> CleanupId,
        concerns: impl Fn(&EntityKey) -> bool,
    ) {
        let (cleanup, now) = self.manager(|manager, now| (begin(manager, now), now));
        self.model.cleaning.insert(cleanup, now);
        self.model.forget(concerns);
        self.read_log();
    }

    fn broadcast(&mut self) {
        let entity = any_entity(&mut self.dice);
        let key = EntityKey::subscription(entity.clone());
        let channel = self.channel();
        let ttl = PushOptions::new().with_time_to_live(millis(500 * self.dice.below(20) as u64));
        let options = SendOptions { broadcast: ttl.into(), channel };
        self.forget_setting(&key);
        let pushed = self.manager(|manager, now| {
            manager.broadcast_with(&entity, "e", Payload::empty(), options, now)
        });
        match pushed {
            Ok(push) => {
                self.note_setting(&key, channel);
                self.model.sending.insert(push, key.clone());
                self.model.touched.insert(key, self.world.now());
            }
            Err(error) => self.expect_conflict(&key, channel, &error),
        }
    }

    fn channel(&mut self) -> Option<ChannelSettings> {
        let private = self.dice.below(2) == 0;
        let settings = ChannelSettings { private, ..ChannelSettings::default() };
        (self.dice.below(4) == 0).then_some(settings)
    }

    fn note_setting(&mut self, key: &EntityKey, channel: Option<ChannelSettings>) {
        if let Some(channel) = channel {
            let differs = channel.private != self.is_private(key);
            assert!(!differs || !self.model.is_in_use(key), "{key:?} has one kind of channel");
            self.model.private.insert(key.clone(), channel.private);
        }
    }

    fn expect_conflict(
        &self,
        key: &EntityKey,
        channel: Option<ChannelSettings>,
        error: &ManagerError,
    ) {
        assert!(matches!(error, ManagerError::Conflict { setting: "private", .. }), "{error}");
        let asked = channel.expect("who asks for nothing conflicts with nothing").private;
        assert!(self.model.is_in_use(key) && asked != self.is_private(key), "{key:?}: {error}");
    }

    fn manager<T>(&mut self, call: impl FnOnce(&mut Manager, Instant) -> T) -> T {
        self.world.manager(self.node, call)
    }

    fn subscribe(&mut self) {
        let entity = any_entity(&mut self.dice);
        let key = EntityKey::subscription(entity.clone());
        let channel = self.channel();
        let table = (self.dice.below(3) == 0).then(|| "people".to_string());
        let event = [ChangeEvent::All, ChangeEvent::Insert, ChangeEvent::Delete];
        let event = event[self.dice.below(3)];
        let extra_filter = (self.dice.below(4) == 0).then(|| "state=eq.open".to_string());
        let options = EntityOptions { table, event, extra_filter, channel, ..Default::default() };
        self.forget_setting(&key);
        let lease =
            self.manager(|manager, now| manager.subscribe_to_entity(&entity, &options, now));
        match lease {
            Ok(lease) => {
                self.note_setting(&key, channel);
                self.model.held.insert(lease, key);
            }
            Err(error) => self.expect_conflict(&key, channel, &error),
        }
    }

    /// A channel that is gone, or on its way out, is opened as the manager's channels are.
    fn forget_setting(&mut self, key: &EntityKey) {
        let rows = self.manager(|manager, _| manager.active_channels().collect::<Vec<_>>());
        let row = rows.iter().find(|row| row.key == *key);
        if row.is_none_or(|row| row.connection.is_none() && row.listeners == 0) {
            self.model.private.remove(key);
        }
    }

    /// What the manager says of a key, held against what was asked for it last.
    fn is_private(&self, key: &EntityKey) -> bool {
        self.model.private.get(key).copied().unwrap_or(false)
    }

    fn join_presence(&mut self) {
        let entity = any_entity(&mut self.dice);
        let key = EntityKey::presence(entity.clone());
        let user = ["ana", "ben"][self.dice.below(2)];
        let lease =
            self.manager(|manager, now| manager.join_presence(&entity, User::new(user), now));
        let present = (self.model.holders(&key) > 0).then(|| self.model.users[&key].clone());
        match lease {
            Ok(lease) => {
                assert!(present.is_none_or(|present| present == user), "one user a key");
                self.model.users.insert(key.clone(), user.into());
                self.model.held.insert(lease, key);
            }
            Err(ManagerError::OtherUser { .. }) => assert_ne!(present.unwrap(), user),
            Err(other) => panic!("{other}"),
        }
    }

    fn release(&mut self) {
        let nth = self.dice.below(self.model.held.len().max(1));
        let Some(lease) = self.model.held.keys().nth(nth).copied() else { return };
        self.model.held.remove(&lease);
        assert!(self.manager(|manager, now| manager.release(lease, now)));
        assert!(!self.manager(|manager, now| manager.release(lease, now)), "released twice");
    }

    fn unsubscribe(&mut self) {
        let entity = any_entity(&mut self.dice);
        let kind = [Kind::Subscription, Kind::Presence][self.dice.below(2)];
        let key = EntityKey { kind, entity };
        let there = self.manager(|manager, now| manager.unsubscribe(&key, now));
        assert!(there || self.model.holders(&key) == 0);
        self.model.forget(|held| *held == key);
    }

    /// What must hold at every step, whatever the network does.
    fn check(&mut self) {
        let stats = self.manager(|manager, _| manager.channel_stats());
        let held: BTreeMap<LeaseId, EntityKey> =
            stats.held.iter().map(|held| (held.lease, held.key.clone())).collect();
        assert_eq!(held, self.model.held, "the leases are those that were not released");
        let rows: Vec<_> = self.manager(|manager, _| manager.active_channels().collect());
        let topics: BTreeSet<String> = rows.iter().map(|row| row.key.topic()).collect();
        assert_eq!(topics.len(), rows.len(), "no two keys share a topic");
        let keys: BTreeSet<EntityKey> = rows.iter().map(|row| row.key.clone()).collect();
        assert!(keys.is_superset(&self.model.keys()), "every lease has its channel");
        for row in &rows {
            assert_eq!(row.listeners, self.model.holders(&row.key), "{:?}", row.key);
        }
        assert_eq!(stats.total, rows.len());
        assert_eq!(stats.by_kind.values().sum::<usize>(), rows.len());
        assert_eq!(stats.by_status.values().sum::<usize>(), rows.len());
        for (tenant, of_tenant) in &stats.by_tenant {
            let is_theirs = |key: &EntityKey| key.entity.tenant() == Some(tenant);
            let rows = || rows.iter().filter(|row| is_theirs(&row.key));
            assert_eq!(of_tenant.channels, rows().count());
            assert_eq!(of_tenant.live, rows().filter(|row| row.status.as_str() == "live").count());
            let held = self.model.held.values().filter(|key| is_theirs(key));
            assert_eq!(of_tenant.listeners, held.count());
        }
        let now = self.world.now();
        for key in keys.difference(&self.model.keys()) {
            let touched = self.model.touched.get(key).copied().unwrap_or_default();
            let unheld = now.saturating_duration_since(touched);
            assert!(unheld <= UNHELD_MAX, "{key:?} is there though nobody wants it: {unheld:?}");
        }
        for (cleanup, begun) in &self.model.cleaning {
            assert!(now.saturating_duration_since(*begun) <= LEAVE_TIMEOUT, "{cleanup} hangs");
        }
        for connection in &stats.connections {
            assert!(connection.channels <= CHANNELS_PER_CONNECTION);
        }
    }

    /// What must hold once the faults are over and the lingers as well.
    fn check_settled(&mut self) {
        if !self.wanted {
            self.manager(Manager::connect);
        }
        self.world.server(|server, _| {
            let config = ServerConfig { refuse_joins: Vec::new(), ..server.config().clone() };
            server.set_config(config);
        });
        self.world.heal(self.node);
        // What spent its attempts meanwhile is asked for again, as a person would.
        let rows: Vec<_> = self.manager(|manager, _| manager.active_channels().collect());
        for row in rows {
            self.manager(|manager, now| manager.retry(&row.key, now)).unwrap();
        }
        self.world.run_for(secs(180));
        self.read_log();
        assert_eq!((self.model.sending.len(), self.model.cleaning.len()), (0, 0), "all ended");
        let keys = self.model.keys();
        let rows: Vec<_> = self.manager(|manager, _| manager.active_channels().collect());
        let there: BTreeSet<EntityKey> = rows.iter().map(|row| row.key.clone()).collect();
        assert_eq!(there, keys, "the channels are exactly those that leases want");
        for row in &rows {
            assert_eq!(row.status.as_str(), "live", "{row:?}");
        }
        let wanted: BTreeSet<String> = keys.iter().map(EntityKey::topic).collect();
        assert_eq!(self.on_the_wire(), wanted, "and so are those on the wire");
        let needed = keys.len().div_ceil(CHANNELS_PER_CONNECTION).max(1);
        let connections = self.manager(|manager, _| manager.connections());
        let idle = connections.iter().skip(1).filter(|connection| connection.channels == 0);
        assert_eq!(idle.count(), 0, "no further connection is idle");
        assert!(connections.len() >= needed);
    }

    /// The topics that the server has joined, each once.
    fn on_the_wire(&self) -> BTreeSet<String> {
        let mut joined = BTreeSet::new();
        for (_, event) in self.world.server_log() {
            match event {
                ServerEvent::Joined { session, topic } => {
                    joined.insert((*session, topic.clone()));
                }
                ServerEvent::Left { session, topic } => {
                    joined.remove(&(*session, topic.clone()));
                }
                _ => {}
            }
        }
        let topics: BTreeSet<String> = joined.iter().map(|(_, topic)| topic.clone()).collect();
        assert_eq!(topics.len(), joined.len(), "a topic is joined once, whatever the connections");
        topics
    }

    /// Every lease begins with a status and ends once, after which nothing comes.
    fn check_log(&self) {
        let mut ended = BTreeSet::new();
        let mut begun = BTreeSet::new();
        for (_, event) in self.world.manager_log(self.node) {
            let ManagerEvent::Lease(lease, event) = event else { continue };
            assert!(!ended.contains(lease), "{event:?} after the end of {lease}");
            if begun.insert(*lease) {
                assert!(matches!(event, LeaseEvent::Status(_)), "{lease} begins with {event:?}");
            }
            if *event == LeaseEvent::Ended {
                ended.insert(*lease);
            }
        }
        let held: BTreeSet<LeaseId> = self.model.held.keys().copied().collect();
        assert_eq!(&begun - &ended, held, "exactly the released ones ended");
    }
}

#[test]
fn the_wire_has_exactly_what_leases_want_whatever_happens() {
    for seed in 0..SEEDS {
        let told = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for step in 0..STEPS {
                run.step();
                run.check();
                if step % 20 == 19 {
                    run.check_settled();
                    run.wanted = true;
                }
            }
            run.check_log();
        });
        assert!(told.is_ok(), "seed {seed}");
    }
}

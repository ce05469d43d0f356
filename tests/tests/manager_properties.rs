//! Random use of a manager under random faults, against a model that only counts.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::manager::{
    ChannelSettings, Entity, EntityKey, EntityOptions, Kind, LeaseEvent, LeaseId, ManagerError,
    ManagerEvent, User,
};
use realtime_proto::server::ServerEvent;
use realtime_proto::{CloseReason, Payload};
use realtime_sim::{NodeId, World};
use realtime_tests::entities::{config, connected_with, millis, payload, secs};

const SEEDS: u64 = 200;
const STEPS: usize = 80;
const CHANNELS_PER_CONNECTION: usize = 3;

/// What ought to be: who holds which key, as whom, and how.
#[derive(Debug, Default)]
struct Model {
    held: BTreeMap<LeaseId, EntityKey>,
    users: BTreeMap<EntityKey, String>,
    private: BTreeMap<EntityKey, bool>,
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
}

/// Numbers from a seed, by splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn entity(&mut self) -> Entity {
        // Ids that would meet in one topic if they were not escaped.
        let ids = ["1", "2", "1:2", "presence:contact:1", "%3A"];
        let entity = Entity::new("contact", ids[self.roll(5) as usize]);
        match self.roll(3) {
            0 => entity.in_tenant("acme"),
            1 => entity.in_tenant("acme:subscription"),
            _ => entity,
        }
    }
}

struct Run {
    world: World,
    node: NodeId,
    model: Model,
    dice: Dice,
    wanted: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut world = World::seed(seed);
        let settings = config().with_channels_per_connection_max(CHANNELS_PER_CONNECTION);
        let node = connected_with(&mut world, settings);
        Self { world, node, model: Model::default(), dice: Dice(seed), wanted: true }
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0..=5 => self.subscribe(),
            6..=8 => self.join_presence(),
            9..=12 => self.release(),
            13 => {
                let entity = self.dice.entity();
                self.forget_setting(&EntityKey::subscription(entity.clone()));
                let pushed = self
                    .manager(|manager, now| manager.broadcast(&entity, "e", Payload::empty(), now));
                pushed.unwrap();
            }
            14 => {
                let (entity, node) = (self.dice.entity(), self.node);
                let update = payload(r#"{"n":1}"#);
                let updated = self.world.manager(node, |manager, now| {
                    manager.update_presence_metadata(&entity, &update, now)
                });
                let present = self.model.holders(&EntityKey::presence(entity)) > 0;
                assert!(updated.is_ok() || !present, "{updated:?}");
            }
            15 => self.unsubscribe(),
            16 => {
                let tenant = ["acme", "acme:subscription"][self.dice.roll(2) as usize];
                self.manager(|manager, now| manager.cleanup_tenant(tenant, now));
                self.model.forget(|key| key.entity.tenant() == Some(tenant));
            }
            17 => {
                let key = EntityKey::subscription(self.dice.entity());
                self.manager(|manager, now| manager.retry(&key, now)).unwrap();
            }
            18 => {
                self.wanted = !self.wanted;
                let wanted = self.wanted;
                self.manager(
                    |manager, now| {
                        if wanted { manager.connect(now) } else { manager.disconnect(now) }
                    },
                );
            }
            19 | 20 => self.world.cut(self.node),
            21 => {
                let detail = "no route to host".to_string();
                self.world.refuse_next(self.node, CloseReason::Unreachable { detail });
                self.world.cut(self.node);
            }
            22 => {
                let connections = self.manager(|manager, _| manager.connections());
                let which = self.dice.roll(connections.len() as u64) as usize;
                self.world.cut_connection(self.node, connections[which].id);
            }
            _ if self.dice.roll(6) == 0 => {
                self.manager(realtime_proto::manager::Manager::cleanup_all_channels);
                self.model.forget(|_| true);
            }
            _ => {}
        }
        let span = [0, 0, 1, 30, 400, 1_500, 5_000][self.dice.roll(7) as usize];
        self.world.run_for(millis(span));
    }

    fn manager<T>(
        &mut self,
        call: impl FnOnce(&mut realtime_proto::manager::Manager, realtime_proto::Instant) -> T,
    ) -> T {
        self.world.manager(self.node, call)
    }

    fn subscribe(&mut self) {
        let entity = self.dice.entity();
        let key = EntityKey::subscription(entity.clone());
        let channel = (self.dice.roll(4) == 0).then(|| ChannelSettings {
            private: self.dice.roll(2) == 0,
            ..ChannelSettings::default()
        });
        let table = (self.dice.roll(3) == 0).then(|| "people".to_string());
        let options = EntityOptions { table, channel, ..EntityOptions::default() };
        self.forget_setting(&key);
        let asked = options.channel.map(|channel| channel.private);
        let lease =
            self.manager(|manager, now| manager.subscribe_to_entity(&entity, &options, now));
        let shared = self.model.holders(&key) > 0;
        match lease {
            Ok(lease) => {
                let differs = asked.is_some_and(|asked| asked != self.is_private(&key));
                assert!(!shared || !differs, "{key:?} has one kind of channel");
                if let Some(asked) = asked {
                    self.model.private.insert(key.clone(), asked);
                }
                self.model.held.insert(lease, key);
            }
            Err(ManagerError::Conflict { setting, .. }) => {
                assert_eq!(setting, "private");
                assert!(shared && asked != Some(self.is_private(&key)), "{key:?} is no conflict");
            }
            Err(other) => panic!("{other}"),
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
        let entity = self.dice.entity();
        let key = EntityKey::presence(entity.clone());
        let user = ["ana", "ben"][self.dice.roll(2) as usize];
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
        let nth = self.dice.roll(self.model.held.len().max(1) as u64) as usize;
        let Some(lease) = self.model.held.keys().nth(nth).copied() else { return };
        self.model.held.remove(&lease);
        assert!(self.manager(|manager, now| manager.release(lease, now)));
        assert!(!self.manager(|manager, now| manager.release(lease, now)), "released twice");
    }

    fn unsubscribe(&mut self) {
        let entity = self.dice.entity();
        let kind = [Kind::Subscription, Kind::Presence][self.dice.roll(2) as usize];
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
        for (tenant, count) in &stats.by_tenant {
            let of_tenant = keys.iter().filter(|key| key.entity.tenant() == Some(tenant));
            assert_eq!(of_tenant.count(), *count);
        }
        for connection in &stats.connections {
            assert!(connection.channels <= CHANNELS_PER_CONNECTION);
        }
    }

    /// What must hold once the faults are over and the lingers as well.
    fn check_settled(&mut self) {
        if !self.wanted {
            self.manager(realtime_proto::manager::Manager::connect);
        }
        self.world.run_for(secs(180));
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

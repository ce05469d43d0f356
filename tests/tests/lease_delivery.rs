//! Several listeners of one entity, each with row changes of its own, under random faults: each gets
//! what it asked for and nothing else, once, or is told the window in which it was missed (G10).
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::manager::{
    ChannelStatus, Entity, EntityKey, EntityOptions, LeaseEvent, LeaseId, Manager, ManagerEvent,
};
use realtime_proto::server::{RowChange, ServerConfig, ServerEvent};
use realtime_proto::supabase::ChangeEvent;
use realtime_proto::{CloseReason, Gap, Instant, Payload, Stream};
use realtime_sim::{Network, NodeId, World};
use realtime_tests::dice::Dice;
use realtime_tests::entities::{config, connected_with, millis, payload, secs};

const SEEDS: u64 = 600;
const STEPS: usize = 60;
const ENTITIES: [&str; 2] = ["1", "2"];
/// How long anything may take to be live again once nothing breaks any more.
const LIVE_WITHIN: Duration = secs(240);

/// What happened to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Inserted,
    Updated,
    Said,
}

/// Something that the listeners of an entity are to hear of.
#[derive(Debug)]
struct Fact {
    at: Instant,
    entity: usize,
    what: What,
}

/// One listener: what it asked for and what it heard.
#[derive(Debug)]
struct Listener {
    entity: usize,
    event: ChangeEvent,
    /// When it was live first, and whether it is.
    live_since: Option<Instant>,
    is_live: bool,
    is_held: bool,
    heard: BTreeSet<usize>,
    gaps: Vec<Gap>,
}

impl Listener {
    fn asked_for(&self, fact: &Fact) -> bool {
        let event = match fact.what {
            What::Inserted => self.event != ChangeEvent::Update,
            What::Updated => self.event != ChangeEvent::Insert,
            What::Said => true,
        };
        fact.entity == self.entity && event
    }

    fn was_told_to_have_missed(&self, fact: &Fact) -> bool {
        self.gaps.iter().any(|gap| {
            let is_message = matches!(gap.stream, Stream::Messages);
            is_message == (fact.what == What::Said) && gap.from <= fact.at && fact.at <= gap.to
        })
    }
}

struct Run {
    world: World,
    node: NodeId,
    dice: Dice,
    listeners: BTreeMap<LeaseId, Listener>,
    facts: Vec<Fact>,
    /// How much of the manager's log was read.
    read: usize,
}

fn entity(which: usize) -> Entity {
    Entity::new("contact", ENTITIES[which])
}

/// The fact that a payload bears the number of.
fn number(payload: &Payload) -> usize {
    let value: serde_json::Value = serde_json::from_slice(payload.as_bytes()).unwrap();
    usize::try_from(value["n"].as_u64().unwrap()).unwrap()
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let jitter = millis([0, 15, 400][dice.below(3)]);
        let subscribed_after = millis([0, 300, 2_000][dice.below(3)]);
        let mut world = World::seed(seed)
            .with_server(ServerConfig { subscribed_after, ..ServerConfig::default() })
            .with_network(Network { delay: millis(20), jitter });
        let settings = config().with_channels_per_connection_max(1 + dice.below(2));
        let node = connected_with(&mut world, settings);
        Self { world, node, dice, listeners: BTreeMap::new(), facts: Vec::new(), read: 0 }
    }

    fn manager<T>(&mut self, call: impl FnOnce(&mut Manager, Instant) -> T) -> T {
        self.world.manager(self.node, call)
    }

    fn step(&mut self) {
        match self.dice.below(10) {
            0..=2 => self.subscribe(),
            3 => self.release(),
            4..=7 => self.let_something_happen(),
            _ => self.fault(),
        }
        self.read_log();
        // Often at the same instant, or while the answer is on its way.
        let span = [0, 0, 20, 40, 300, 2_000, 6_000][self.dice.below(7)];
        self.world.run_for(millis(span));
        self.read_log();
    }

    fn subscribe(&mut self) {
        let which = self.dice.below(ENTITIES.len());
        let event = [ChangeEvent::All, ChangeEvent::Insert, ChangeEvent::Update];
        let event = event[self.dice.below(3)];
        let options = EntityOptions { event, ..EntityOptions::default() };
        let lease = self
            .manager(|manager, now| manager.subscribe_to_entity(&entity(which), &options, now))
            .unwrap();
        let listener = Listener {
            entity: which,
            event,
            live_since: None,
            is_live: false,
            is_held: true,
            heard: BTreeSet::new(),
            gaps: Vec::new(),
        };
        self.listeners.insert(lease, listener);
    }

    fn release(&mut self) {
        let held = self.listeners.iter().filter(|(_, listener)| listener.is_held);
        let held: Vec<LeaseId> = held.map(|(lease, _)| *lease).collect();
        if !held.is_empty() {
            let lease = held[self.dice.below(held.len())];
            // A machine that sleeps hears of it only later.
            self.listeners.get_mut(&lease).unwrap().is_held = false;
            assert!(self.manager(|manager, now| manager.release(lease, now)));
        }
    }

    fn let_something_happen(&mut self) {
        let (number, which) = (self.facts.len(), self.dice.below(ENTITIES.len()));
        let what = [What::Inserted, What::Updated, What::Said][self.dice.below(3)];
        self.facts.push(Fact { at: self.world.now(), entity: which, what });
        let row = payload(&format!(r#"{{"id":{},"n":{number}}}"#, ENTITIES[which]));
        let change = match what {
            What::Inserted => RowChange::insert("contacts", row).unwrap(),
            What::Updated => RowChange::update("contacts", row, None).unwrap(),
            What::Said => {
                let topic = EntityKey::subscription(entity(which)).topic();
                self.world.server(|server, now| server.broadcast(&topic, "n", &row, now));
                return;
            }
        };
        self.world.server(|server, now| server.change(&change, now));
    }

    fn fault(&mut self) {
        let topic = EntityKey::subscription(entity(self.dice.below(ENTITIES.len()))).topic();
        let session = self.world.server_log().iter().rev().find_map(|(_, event)| match event {
            ServerEvent::Joined { session, topic: joined } if *joined == topic => Some(*session),
            _ => None,
        });
        match self.dice.below(9) {
            0 => self.world.cut(self.node),
            1 => {
                let detail = "no route to host".to_string();
                self.world.refuse_next(self.node, CloseReason::Unreachable { detail });
                self.world.cut(self.node);
            }
            2 => {
                let connections = self.manager(|manager, _| manager.connections());
                let which = self.dice.below(connections.len());
                self.world.cut_connection(self.node, connections[which].id);
            }
            3 => _ = self.world.server(|server, now| server.close_all(1012, "", now)),
            4 => self.world.server(|server, now| {
                if let Some(session) = session {
                    server.crash_channel(session, &topic, now);
                }
            }),
            5 => {
                let span = millis(1_000 * self.dice.below(4) as u64);
                self.world.server(|server, now| {
                    server.fail_changes(&topic, "Too many database timeouts", Some(span), now);
                });
            }
            6 => self.world.suspend(self.node, secs(1 + self.dice.below(40) as u64)),
            7 => {
                self.world.stall(self.node);
                self.world.run_for(millis(500 * self.dice.below(6) as u64));
                self.world.heal(self.node);
            }
            _ => self.manager(|manager, now| {
                manager.disconnect(now);
                manager.connect(now);
            }),
        }
    }

    fn read_log(&mut self) {
        for (at, event) in &self.world.manager_log(self.node)[self.read..] {
            let ManagerEvent::Lease(lease, event) = event else { continue };
            let listener = self.listeners.get_mut(lease).expect("a lease that was asked for");
            let mut hear = |payload: &Payload, is_message: bool| {
                let number = number(payload);
                let fact = &self.facts[number];
                let is_theirs = listener.asked_for(fact) && is_message == (fact.what == What::Said);
                assert!(is_theirs, "{lease} asked for {:?} and gets {fact:?}", listener.event);
                assert!(listener.heard.insert(number), "{lease} gets {fact:?} twice");
            };
            match event {
                LeaseEvent::Change(change) => hear(&change.record().unwrap(), false),
                LeaseEvent::Broadcast(broadcast) => hear(&broadcast.payload, true),
                LeaseEvent::Gap(gap) => listener.gaps.push(gap.clone()),
                LeaseEvent::Status(status) => {
                    listener.is_live = *status == ChannelStatus::Live;
                    if listener.is_live {
                        listener.live_since.get_or_insert(*at);
                    }
                }
                LeaseEvent::Ended => assert!(!listener.is_held, "{lease} was not released"),
                _ => {}
            }
        }
        self.read = self.world.manager_log(self.node).len();
    }

    /// Nothing breaks any more: all are live in time, and nothing was missed in silence.
    fn check_settled(&mut self) {
        self.world.heal(self.node);
        let healed_at = self.world.now();
        let is_settled = |run: &Self| run.listeners.values().all(|it| it.is_live || !it.is_held);
        // What comes within one linger of the last look may still bring a change.
        self.world.run_for(secs(60));
        self.read_log();
        while !is_settled(self) {
            let waited = self.world.now().saturating_duration_since(healed_at);
            assert!(waited < LIVE_WITHIN, "not live: {:?}", self.listeners);
            let rows: Vec<_> = self.manager(|manager, _| manager.active_channels().collect());
            for row in rows {
                if matches!(row.status, ChannelStatus::Error { .. }) {
                    self.manager(|manager, now| manager.retry(&row.key, now)).unwrap();
                }
            }
            self.world.run_for(secs(1));
            self.read_log();
        }
        for (lease, listener) in self.listeners.iter().filter(|(_, it)| it.is_held) {
            let since = listener.live_since.expect("it is live");
            let facts = self.facts.iter().enumerate().filter(|(_, fact)| fact.at >= since);
            for (number, fact) in facts.filter(|(_, fact)| listener.asked_for(fact)) {
                let is_known =
                    listener.heard.contains(&number) || listener.was_told_to_have_missed(fact);
                assert!(is_known, "{lease} missed {fact:?} in silence: {listener:?}");
            }
        }
    }
}

#[test]
fn each_listener_gets_what_it_asked_for_once_or_is_told_the_gap() {
    let mut heard = 0;
    for seed in 0..SEEDS {
        let told = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step();
            }
            run.check_settled();
            run.listeners.values().map(|listener| listener.heard.len()).sum::<usize>()
        });
        heard += told.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(heard > 10_000, "only {heard} of what happened was heard");
}

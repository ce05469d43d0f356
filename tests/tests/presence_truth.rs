//! Who is shown as present on a live channel is who the server has (G9), while applications track
//! and untrack, change what they ask for, and everything breaks.
//!
//! Whenever the server has been at rest for longer than a message travels, every channel that is
//! live and reachable is compared with the server's own state, ref by ref. And whoever only
//! follows what is told, knows the same people.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::server::{ServerConfig, ServerEvent};
use realtime_proto::supabase::{
    Binding, ChangeEvent, JoinConfig, PostgresChangesOptions, PresenceConfig,
};
use realtime_proto::{
    Backoff, Channel, ChannelConfig, ChannelEvent, ChannelId, Config, Event, Member, Payload,
};
use realtime_sim::{Network, NodeId, World};
use realtime_tests::dice::Dice;

const TOPIC: &str = "realtime:room";
const SEEDS: u64 = 300;
const STEPS: u32 = 120;

/// Longer than a message travels.
const REST: Duration = Duration::from_millis(500);

/// The refs of each member's metas.
type People = BTreeMap<String, BTreeSet<String>>;

struct App {
    node: NodeId,
    name: String,
    channel: ChannelId,
    /// Whom somebody knows who follows what is told.
    known: People,
    /// Whether it cannot hear the server, until it is healed.
    deaf: bool,
    /// Whether it asks for presence.
    follows: bool,
    tracked: u32,
}

/// What a run went through.
#[derive(Default)]
struct Counts {
    compared: u32,
    people: usize,
    rejoins: u32,
    left: usize,
}

fn people<'a>(members: impl Iterator<Item = &'a Member>) -> People {
    members.map(|member| (member.key.clone(), refs(member))).collect()
}

fn refs(member: &Member) -> BTreeSet<String> {
    member.metas.iter().map(|meta| meta.phx_ref.clone()).collect()
}

fn up_to(dice: &mut Dice, span: Duration) -> Duration {
    Duration::from_millis(dice.below(span.as_millis() as usize) as u64)
}

/// As the server has it, read naively.
fn truth(world: &mut World) -> People {
    let state = world.server(|server, _| server.presence_state(TOPIC, false));
    let state: BTreeMap<String, serde_json::Value> = state.to().unwrap();
    let refs = |entry: &serde_json::Value| {
        let metas = entry["metas"].as_array().unwrap().iter();
        metas.map(|meta| meta["phx_ref"].as_str().unwrap().to_owned()).collect()
    };
    state.iter().map(|(key, entry)| (key.clone(), refs(entry))).collect()
}

impl App {
    fn open(world: &mut World, number: u64, dice: &mut Dice) -> Self {
        let retries = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(5));
        let config = Config::builder("ws://server/socket")
            .reconnect(retries.clone())
            .rejoin(retries)
            .build()
            .unwrap();
        let node = world.add_client(config);
        // Two of them are one person.
        let name = format!("user{}", number % 3);
        let (channel, follows) = Self::open_channel(world, node, &name, dice);
        Self { node, name, channel, known: People::new(), deaf: false, follows, tracked: 0 }
    }

    /// A channel, and whether it asks for presence.
    fn open_channel(
        world: &mut World,
        node: NodeId,
        name: &str,
        dice: &mut Dice,
    ) -> (ChannelId, bool) {
        let follows = !dice.one_in(3);
        let options = PostgresChangesOptions { wait: dice.one_in(2), timeout_ms: None };
        let join = JoinConfig {
            presence: PresenceConfig { key: name.into(), enabled: follows },
            postgres_changes: vec![Binding::new(ChangeEvent::All, "public", "todos")],
            postgres_changes_options: Some(options),
            ..JoinConfig::default()
        };
        let grace = *dice.pick(&[0, 3, 6]);
        let config = ChannelConfig::supabase(join).with_presence_grace(Duration::from_secs(grace));
        let channel = world.client(node, |client, now| {
            client.connect(now);
            client.open_channel(TOPIC, config, now).unwrap()
        });
        (channel, follows)
    }

    fn with<T>(&self, world: &mut World, act: impl FnOnce(&mut Channel<'_>) -> T) -> T {
        world.client(self.node, |client, _| act(&mut client.channel(self.channel).unwrap()))
    }

    fn act(&mut self, world: &mut World, dice: &mut Dice) {
        let now = world.now();
        match dice.below(12) {
            0..5 => {
                self.tracked += 1;
                self.follows = true;
                let payload = Payload::json(&BTreeMap::from([("n", self.tracked)])).unwrap();
                self.with(world, |channel| channel.track(payload, now).unwrap());
            }
            5 => self.with(world, |channel| channel.untrack(now).unwrap()),
            6..9 => self.with(world, |channel| {
                let other = Binding::new(ChangeEvent::Insert, "public", "others");
                let held = channel.bindings().find(|(_, held)| **held == other).map(|(id, _)| id);
                match held {
                    Some(id) => assert!(channel.unbind(id, now)),
                    None => drop(channel.bind(other, now).unwrap()),
                }
            }),
            9 => {
                self.follows = true;
                self.with(world, |channel| channel.enable_presence(now).unwrap());
            }
            10 => self.with(world, |channel| channel.rejoin(now)),
            _ => {
                world.client(self.node, |client, now| client.close_channel(self.channel, now));
                world.run_for(up_to(dice, Duration::from_secs(8)));
                let open = world.client(self.node, |client, _| client.channel_by_topic(TOPIC));
                if open.is_none() {
                    (self.channel, self.follows) =
                        Self::open_channel(world, self.node, &self.name, dice);
                    self.known.clear();
                }
            }
        }
    }

    fn suffer(&mut self, world: &mut World, dice: &mut Dice) {
        match dice.below(24) {
            0 | 1 => world.cut(self.node),
            2 => world.close(self.node, 1012, "restart"),
            3 => {
                world.stall(self.node);
                self.deaf = true;
            }
            4 => {
                world.partition(self.node);
                self.deaf = true;
            }
            5..9 => {
                world.heal(self.node);
                self.deaf = false;
            }
            9 => world.suspend(self.node, up_to(dice, Duration::from_secs(20))),
            10 | 11 => {
                let joined = world.server_log().iter().rev().find_map(|(_, event)| match event {
                    ServerEvent::Joined { session, .. } => Some(*session),
                    _ => None,
                });
                if let Some(session) = joined {
                    world.server(|server, now| server.crash_channel(session, TOPIC, now));
                }
            }
            12 => world.client(self.node, |client, now| client.disconnect(now)),
            13 | 14 => world.client(self.node, |client, now| client.connect(now)),
            _ => {}
        }
    }

    /// Takes in what was told since the last call.
    fn follow(&mut self, world: &mut World, counts: &mut Counts) {
        for (_, event) in world.take_log(self.node) {
            let Event::Channel(id, event) = event else { continue };
            match event {
                ChannelEvent::Rejoining { .. } => counts.rejoins += 1,
                ChannelEvent::Presence(diff) if id == self.channel => {
                    counts.left += diff.left.len();
                    for member in &diff.joined {
                        let before = self.known.insert(member.key.clone(), refs(member));
                        assert_eq!(before, None, "{} joins and is here", member.key);
                    }
                    for member in &diff.updated {
                        let before = self.known.insert(member.key.clone(), refs(member));
                        assert!(before.is_some(), "{} is updated and not here", member.key);
                    }
                    for member in &diff.left {
                        let before = self.known.remove(&member.key);
                        assert!(before.is_some(), "{} leaves and is not here", member.key);
                    }
                }
                _ => {}
            }
        }
    }

    /// Compares what is shown with the server, if that can be expected now.
    fn check(&mut self, world: &mut World, truth: &People, counts: &mut Counts, seed: u64) {
        self.follow(world, counts);
        let (node, channel) = (self.node, self.channel);
        let asleep = world.is_asleep(node);
        let (shown, missed, live, stale) = world.client(node, |client, _| {
            let Some(channel) = client.channel(channel) else { return Default::default() };
            let members: Vec<Member> = channel.presence().list().collect();
            let missed: Vec<Member> = channel.presence().missed().collect();
            let stale = channel.presence().is_stale();
            (people(members.iter()), people(missed.iter()), channel.is_live(), stale)
        });
        let told: People =
            shown.iter().chain(&missed).map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(self.known, told, "seed {seed}: {node} told something else than it shows");
        if live && self.follows && !asleep && !self.deaf {
            assert!(!stale, "seed {seed}: {node} is live without a snapshot");
            assert_eq!(shown, *truth, "seed {seed}: {node} shows others than are there (G9)");
            counts.compared += 1;
            counts.people += truth.len();
        }
    }
}

fn run(seed: u64, counts: &mut Counts) {
    let mut dice = Dice::new(seed);
    let network = Network { delay: Duration::from_millis(100), jitter: Duration::from_millis(200) };
    let server = ServerConfig {
        subscribed_after: up_to(&mut dice, Duration::from_secs(3)),
        join_refusal_after: Duration::ZERO,
        ..ServerConfig::default()
    };
    let mut world = World::seed(seed).with_server(server).with_network(network);
    let mut apps: Vec<App> = (0..4).map(|n| App::open(&mut world, n, &mut dice)).collect();
    for _ in 0..STEPS {
        let (actor, victim) = (dice.below(apps.len()), dice.below(apps.len()));
        apps[actor].act(&mut world, &mut dice);
        apps[victim].suffer(&mut world, &mut dice);
        world.run_for(up_to(&mut dice, Duration::from_millis(1_500)));
        let done = world.server_log().len();
        world.run_for(REST);
        if world.server_log().len() == done {
            let truth = truth(&mut world);
            for app in &mut apps {
                app.check(&mut world, &truth, counts, seed);
            }
        }
    }
}

#[test]
fn a_live_channel_shows_who_the_server_has_and_tells_every_difference_once() {
    let mut counts = Counts::default();
    for seed in 0..SEEDS {
        run(seed, &mut counts);
    }
    let Counts { compared, people, rejoins, left } = counts;
    // Runs in which nobody is there, or nothing goes wrong, would prove nothing.
    assert!(compared > 20_000 && people > 40_000, "{compared} compared, {people} people");
    assert!(rejoins > 2_000 && left > 5_000, "{rejoins} rejoins, {left} left");
}

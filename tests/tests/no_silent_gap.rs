//! Ten thousand numbered broadcasts and as many row changes pass while a channel is cut, crashed,
//! stalled and rejoined: each number is delivered exactly once, or lies in a gap that was told (G10).
//! On a private channel, whose broadcasts the server stores, a short outage loses nothing at all.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::server::{RowChange, ServerConfig, ServerEvent};
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig, PostgresChangesOptions};
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, Client, Config, Event, Gap, Instant, Payload, Recovery,
    Stream,
};
use realtime_sim::{Network, NodeId, Seed, World};

const TOPIC: &str = "realtime:numbers";
const SEEDS: u64 = 20;
const NUMBERS: u32 = 10_000;
const STEP: Duration = Duration::from_millis(50);

/// So far apart come stored broadcasts: a replay, of 25 at most, covers ten seconds.
const STORED_STEP: Duration = Duration::from_millis(400);

/// How long a client waits for the word that row changes go on with another token.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

/// The wall clock when a run begins.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);

/// When each number was sent, and what came of it.
struct Books {
    sent: BTreeMap<u32, Instant>,
    delivered: BTreeMap<u32, u32>,
    gaps: Vec<Gap>,
}

impl Books {
    const fn new() -> Self {
        Self { sent: BTreeMap::new(), delivered: BTreeMap::new(), gaps: Vec::new() }
    }

    /// How many numbers lie in gaps.
    fn check(&self, what: &str, seed: u64) -> usize {
        let mut missing = 0;
        for (number, at) in &self.sent {
            let times = self.delivered.get(number).copied().unwrap_or(0);
            assert!(times <= 1, "seed {seed}: {what} {number} came {times} times");
            if times == 0 {
                missing += 1;
                // What a database has to be asked for begins with the last commit that came.
                let committed = at.since_epoch() + ServerConfig::default().unix_time_at_epoch;
                let told = self.gaps.iter().any(|gap| {
                    let goes_on_before = match gap.stream {
                        Stream::Changes { last_commit, .. } => {
                            last_commit.is_none_or(|last| last <= committed)
                        }
                        _ => true,
                    };
                    gap.from <= *at && *at <= gap.to && goes_on_before
                });
                assert!(told, "seed {seed}: {what} {number}, sent at {at}, is missing in silence");
            }
        }
        missing
    }
}

fn number(payload: &Payload) -> u32 {
    payload.to::<BTreeMap<String, u32>>().unwrap()["n"]
}

/// The number of a stored broadcast; the database added the id of the message to JSON.
fn stored_number(payload: &Payload) -> u32 {
    let numbered: serde_json::Value = serde_json::from_slice(payload.as_bytes()).unwrap();
    numbered["n"].as_u64().and_then(|n| n.try_into().ok()).unwrap()
}

/// Sends the numbers through a world of faults, and keeps the books of broadcasts and of changes.
fn run(seed: u64) -> (Books, Books) {
    let config =
        ServerConfig { subscribed_after: Duration::from_millis(700), ..ServerConfig::default() };
    let network = Network::default();
    let mut world = World::seed(seed).with_server(config).with_network(network);
    let config = Config::builder("ws://server/socket").build().unwrap();
    let ana = world.add_client(config);
    // Half of the channels have their join wait for the row changes.
    let options = PostgresChangesOptions { wait: seed % 2 == 1, timeout_ms: None };
    let join = JoinConfig {
        postgres_changes: vec![Binding::new(ChangeEvent::All, "public", "numbers")],
        postgres_changes_options: Some(options),
        ..JoinConfig::default()
    };
    let channel = world.client(ana, |client, now| {
        client.connect(now);
        client.open_channel(TOPIC, ChannelConfig::supabase(join), now).unwrap()
    });
    world.run_for(Duration::from_secs(5));
    let (mut broadcasts, mut changes) = (Books::new(), Books::new());
    let mut calm_until = world.now();
    for n in 0..NUMBERS {
        let luck = Seed(seed).child("luck", n.into()).0;
        if world.now() >= calm_until {
            calm_until = fault(&mut world, ana, channel, luck);
        }
        let payload = Payload::json(&BTreeMap::from([("n", n)])).unwrap();
        world.server(|server, now| {
            broadcasts.sent.insert(n, now);
            server.broadcast(TOPIC, "n", &payload, now);
            changes.sent.insert(n, now);
            let row = RowChange::insert("numbers", payload).unwrap();
            server.change(&row, now);
        });
        world.run_for(STEP);
    }
    world.heal(ana);
    world.run_for(Duration::from_secs(120));
    for (_, event) in world.take_log(ana) {
        match event {
            Event::Channel(_, ChannelEvent::Broadcast(broadcast)) => {
                *broadcasts.delivered.entry(number(&broadcast.payload)).or_default() += 1;
            }
            Event::Channel(_, ChannelEvent::Change { change, .. }) => {
                *changes.delivered.entry(number(&change.record().unwrap())).or_default() += 1;
            }
            Event::Channel(_, ChannelEvent::Gap(gap)) => match gap.stream {
                Stream::Changes { .. } => changes.gaps.push(gap),
                _ => broadcasts.gaps.push(gap),
            },
            _ => {}
        }
    }
    (broadcasts, changes)
}

/// Sends numbers from the database to a private channel through the same faults; tells the books
/// and what was recovered.
fn run_stored(seed: u64) -> (Books, Vec<Recovery>) {
    let config = ServerConfig {
        unix_time_at_epoch: BEGIN,
        replication_ready_after: Duration::from_millis(seed % 4 * 1_000),
        ..ServerConfig::default()
    };
    let mut world = World::seed(seed).with_server(config).with_network(Network::default());
    let ana = world.add_client(Config::builder("ws://server/socket").build().unwrap());
    // Half of the channels wait until the database says that its broadcasts come.
    let mut join = JoinConfig { private: true, ..JoinConfig::default() };
    join.broadcast.replication_ready = seed % 2 == 1;
    let channel = world.client(ana, |client, now| {
        client.set_unix_time(BEGIN + now.since_epoch(), now);
        client.connect(now);
        client.open_channel(TOPIC, ChannelConfig::supabase(join), now).unwrap()
    });
    world.run_for(Duration::from_secs(5));
    let mut stored = Books::new();
    let mut calm_until = world.now();
    for n in 0..NUMBERS {
        let luck = Seed(seed).child("luck", n.into()).0;
        if world.now() >= calm_until {
            calm_until = fault(&mut world, ana, channel, luck);
        }
        // Every third one is bytes, which a replay tells in another form than JSON.
        let json = Payload::json(&BTreeMap::from([("n", n)])).unwrap();
        let payload = if n % 3 == 0 { Payload::binary(json.into_bytes()) } else { json };
        world.server(|server, now| {
            stored.sent.insert(n, now);
            server.send_from_database(TOPIC, "n", &payload, true, now).unwrap();
        });
        world.run_for(STORED_STEP);
    }
    world.heal(ana);
    world.run_for(Duration::from_secs(120));
    let mut recoveries = Vec::new();
    for (_, event) in world.take_log(ana) {
        match event {
            Event::Channel(_, ChannelEvent::Broadcast(broadcast)) => {
                assert!(broadcast.id().is_some(), "seed {seed}: {broadcast:?}");
                *stored.delivered.entry(stored_number(&broadcast.payload)).or_default() += 1;
            }
            Event::Channel(_, ChannelEvent::Gap(gap)) if gap.stream == Stream::Messages => {
                stored.gaps.push(gap);
            }
            Event::Channel(_, ChannelEvent::Recovered(recovery)) => recoveries.push(recovery),
            _ => {}
        }
    }
    (stored, recoveries)
}

/// About once in sixty steps something goes wrong, or heals; tells when the next thing may.
fn fault(world: &mut World, ana: NodeId, channel: ChannelId, luck: u64) -> Instant {
    match luck % 2_000 {
        0..3 => world.cut(ana),
        3..5 => world.partition(ana),
        5..7 => world.stall(ana),
        7..17 => world.heal(ana),
        17..19 => world.close(ana, 1012, "restart"),
        19..21 => world.suspend(ana, Duration::from_millis(luck % 40_000)),
        21..23 => {
            world.client(ana, |client, now| {
                let mut channel = client.channel(channel).unwrap();
                let other = Binding::new(ChangeEvent::Insert, "public", "others");
                let held = channel.bindings().find(|(_, held)| **held == other).map(|(id, _)| id);
                match held {
                    Some(id) => assert!(channel.unbind(id, now)),
                    None => drop(channel.bind(other, now).unwrap()),
                }
            });
        }
        23..26 => {
            let joined = world.server_log().iter().rev().find_map(|(_, event)| match event {
                ServerEvent::Joined { session, .. } => Some(*session),
                _ => None,
            });
            if let Some(session) = joined {
                world.server(|server, now| server.crash_channel(session, TOPIC, now));
            }
        }
        26..28 => {
            // For so long, what is said for a token cannot be told from a restart, which is
            // nobody's fault. A server does nothing about a token that is none.
            let token = (luck % 3 > 0).then(|| format!("token-{luck}").into());
            world.client(ana, |client, now| client.set_access_token(token, now));
            return world.now() + RENEWED_WITHIN;
        }
        28..31 => {
            world.server(|server, now| {
                let again_after = Some(Duration::from_secs(luck % 10));
                server.fail_changes(TOPIC, "Too many database timeouts", again_after, now);
            });
        }
        31..36 => {
            // Without a word, so that it must not be mistaken for what happens besides.
            world.heal(ana);
            let is_live = |client: &mut Client, _| client.channel(channel).unwrap().is_live();
            if !world.is_asleep(ana) && world.client(ana, is_live) {
                let again_after = Duration::from_secs(luck % 10);
                world.server(|server, now| server.restart_changes(TOPIC, again_after, now));
                return world.now() + again_after + Duration::from_secs(1);
            }
        }
        _ => {}
    }
    world.now()
}

#[test]
fn every_number_is_delivered_once_or_lies_in_a_gap_that_was_told() {
    let (mut sent, mut missing, mut gaps) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (broadcasts, changes) = run(seed);
        missing += broadcasts.check("broadcast", seed) + changes.check("change", seed);
        sent += broadcasts.sent.len() + changes.sent.len();
        gaps += broadcasts.gaps.len() + changes.gaps.len();
    }
    assert_eq!(sent as u64, 2 * SEEDS * u64::from(NUMBERS));
    // A run in which nothing is lost, or nearly nothing comes, would prove nothing.
    assert!(missing > sent / 100 && missing < sent / 2, "{missing} of {sent} were missed");
    assert!(gaps > 100, "{gaps} gaps");
}

#[test]
fn every_stored_number_is_delivered_once_recovered_or_lies_in_a_gap_that_was_told() {
    let (mut sent, mut missing, mut gaps) = (0, 0, 0);
    let (mut whole, mut replayed) = (0, 0);
    for seed in 0..SEEDS {
        let (stored, recoveries) = run_stored(seed);
        missing += stored.check("stored broadcast", seed);
        sent += stored.sent.len();
        gaps += stored.gaps.len();
        whole += recoveries.iter().filter(|recovery| recovery.contiguous).count();
        replayed += recoveries.iter().map(|recovery| recovery.replayed).sum::<u32>();
    }
    assert_eq!(sent as u64, SEEDS * u64::from(NUMBERS));
    assert!(missing > 1_000 && missing < sent / 2, "{missing} of {sent} were missed");
    assert!(gaps > 100, "{gaps} gaps");
    // A run in which nothing could be recovered would prove nothing either.
    assert!(whole > 100 && replayed > 1_000, "{whole} whole, {replayed} replayed");
}

//! A run of random faults: safety while everything breaks, liveness once it is healed.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::server::{RowChange, ServerConfig};
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig, PresenceConfig};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, CloseReason, Config, Event, Outcome, Payload,
    PushId,
};

use crate::seed::Draw;
use crate::{Network, NodeId, Seed, World};

/// What a run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The steps the world took.
    pub steps: u64,
    /// The time that passed in it.
    pub simulated: Duration,
    /// How long after the faults ended every channel was live.
    pub time_to_live: Duration,
    /// The hash of the trace.
    pub hash: u64,
}

const RETRY_MAX: Duration = Duration::from_secs(30);
const TABLE: &str = "todos";

/// How long after the faults end every channel is live: what the settings of the clients promise
/// (G8), counted from when the last of them wakes, and some time for messages under way.
///
/// # Panics
///
/// Never: the settings have a bound.
#[must_use]
pub fn live_within() -> Duration {
    const UNDER_WAY: Duration = Duration::from_secs(5);
    let promised = settings().live_within().expect("the retries have no budget");
    SLEEP_MAX + promised + UNDER_WAY
}

fn settings() -> Config {
    let retries = Backoff::exponential(Duration::from_secs(1), RETRY_MAX);
    Config::builder("wss://project.supabase.co/realtime/v1")
        .reconnect(retries.clone())
        .rejoin(retries)
        .build()
        .expect("the settings are complete")
}

const SLEEP_MAX: Duration = Duration::from_secs(90);

/// One client of a run, and what it has to account for.
struct App {
    node: NodeId,
    channels: Vec<ChannelId>,
    pushes: BTreeSet<PushId>,
    name: String,
}

/// Runs one seed: two to four clients in one room, each with channels of its own, through two to
/// ten minutes of cuts, closes, stalls, partitions, refused upgrades and sleep.
///
/// # Panics
///
/// When a guarantee is broken: something that must hold at every step, a channel that is not live
/// in time, a push without an outcome, a presence that differs from the others'.
///
/// # Examples
///
/// ```
/// use realtime_sim::profile;
///
/// let report = profile::run(7, None);
/// assert!(report.time_to_live <= profile::live_within());
/// assert_eq!(report, profile::run(7, None));
/// ```
#[must_use]
pub fn run(seed: u64, trace: Option<fn(&str)>) -> Report {
    let mut draw = Draw::new(Seed(seed).child("profile", 0));
    let network = Network {
        delay: Duration::from_millis(1 + draw.below(100)),
        jitter: Duration::from_millis(draw.below(300)),
    };
    let server = ServerConfig {
        join_refusal_after: Duration::from_secs(draw.below(6)),
        ..ServerConfig::default()
    };
    let mut world = World::seed(seed).with_server(server).with_network(network);
    if let Some(sink) = trace {
        world = world.with_trace(sink);
    }
    let mut apps: Vec<App> = (0..2 + draw.below(3)).map(|n| add_app(&mut world, n)).collect();
    // Each seed has its own set of faults and its own pace, so that some runs are calm enough to
    // get deep and others never come to rest.
    let faults = draw.next();
    let pace = Duration::from_millis(200) * (1 + draw.below(60) as u32);
    for _ in 0..20 + draw.below(100) {
        let chosen = draw.below(apps.len() as u64) as usize;
        act(&mut world, &mut apps[chosen], &mut draw);
        let fault = draw.below(16);
        if faults & (1 << fault) != 0 {
            break_something(&mut world, apps[chosen].node, fault, &mut draw);
        }
        world.run_for(draw.up_to(pace));
    }
    for app in &apps {
        world.heal(app.node);
    }
    let within = live_within();
    let all_live = |world: &mut World| {
        apps.iter().all(|app| {
            let asleep = world.is_asleep(app.node);
            let live = |id: &ChannelId| {
                world.client(app.node, |client, _| client.channel(*id).is_some_and(|c| c.is_live()))
            };
            // Who sleeps only thinks that it is live.
            !asleep && app.channels.iter().all(live)
        })
    };
    let time_to_live = world.run_while_not(within, all_live);
    let Some(time_to_live) = time_to_live else {
        panic!("seed {seed}: not every channel is live {within:?} after the faults ended");
    };
    settle(&mut world, &apps);
    Report {
        steps: world.steps(),
        simulated: world.now().since_epoch(),
        time_to_live,
        hash: world.trace_hash(),
    }
}

fn add_app(world: &mut World, number: u64) -> App {
    let node = world.add_client(settings());
    let name = format!("user{number}");
    let mut room = JoinConfig {
        presence: PresenceConfig { key: name.clone(), enabled: true },
        ..JoinConfig::default()
    };
    room.broadcast.ack = true;
    let mut rows = JoinConfig::default();
    rows.postgres_changes.push(Binding::new(ChangeEvent::All, "public", TABLE));
    let channels = world.client(node, |client, now| {
        client.connect(now);
        let channels = [("realtime:room", room), ("realtime:rows", rows)];
        channels.map(|(topic, config)| {
            client
                .open_channel(topic, ChannelConfig::supabase(config), now)
                .expect("two channels are within the limits")
        })
    });
    let tracked = Payload::json(&BTreeMap::from([("n", 0)])).expect("a map of text is JSON");
    let room = channels[0];
    world.client(node, |client, now| {
        let mut room = client.channel(room).expect("it was just opened");
        room.track(tracked, now).expect("presence is on");
    });
    App { node, channels: channels.into(), pushes: BTreeSet::new(), name }
}

/// Something an application does.
fn act(world: &mut World, app: &mut App, draw: &mut Draw) {
    let number = draw.below(1_000);
    let payload = Payload::json(&BTreeMap::from([("n", number)])).expect("a map of text is JSON");
    let room = app.channels[0];
    match draw.below(6) {
        0..=2 => {
            let pushed = world.client(app.node, |client, now| {
                client.channel(room)?.broadcast("cursor", payload, now).ok()
            });
            app.pushes.extend(pushed);
        }
        3 => world.client(app.node, |client, now| {
            if let Some(mut room) = client.channel(room) {
                room.track(payload, now).expect("presence is on");
            }
        }),
        4 => {
            let record = Payload::json(&BTreeMap::from([("id", number)])).expect("a map is JSON");
            let change = RowChange::insert(TABLE, record).expect("the record is an object");
            world.server(|server, now| server.change(&change, now));
        }
        _ => world.client(app.node, |client, now| client.probe(now)),
    }
}

fn break_something(world: &mut World, node: NodeId, fault: u64, draw: &mut Draw) {
    match fault {
        0 | 1 => world.cut(node),
        2 => world.cut_all(),
        3 => world.close(node, 1000, ""),
        4 => world.close(node, 1001, ""),
        5 => world.close(node, 1012, "restart"),
        6 => world.stall(node),
        7 | 8 => world.partition(node),
        9 | 10 => world.heal(node),
        11 => {
            let detail = "no route to host".into();
            world.refuse_next(node, CloseReason::Unreachable { detail });
        }
        12 => {
            let retry_after = (draw.below(2) == 0).then(|| Duration::from_secs(draw.below(20)));
            let (status, body) = (503, String::new());
            world.refuse_next(node, CloseReason::Refused { status, body, retry_after });
        }
        13 => world.suspend(node, draw.up_to(SLEEP_MAX)),
        14 => world.client(node, |client, now| client.disconnect(now)),
        _ => world.client(node, |client, now| client.connect(now)),
    }
    if fault == 14 {
        world.run_for(draw.up_to(Duration::from_secs(5)));
        world.client(node, |client, now| client.connect(now));
    }
}

/// Nothing breaks any more: what must hold in the end.
fn settle(world: &mut World, apps: &[App]) {
    // The longest that a push, or a session that died in silence, can still take.
    world.run_for(Duration::from_secs(70));
    for app in apps {
        let mut ended = BTreeSet::new();
        for (_, event) in world.log(app.node) {
            if let Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) = event {
                assert_ne!(*outcome, Outcome::Dropped, "the channel of {push} never ended");
                ended.insert(*push);
            }
        }
        assert_eq!(app.pushes, ended, "each push of {} has an outcome (G3)", app.name);
        let everybody: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let mut seen: Vec<String> = world.client(app.node, |client, _| {
            let room = client.channel(app.channels[0]).expect("it is wanted");
            room.presence().members().map(|(key, _)| key.into()).collect()
        });
        seen.sort();
        assert_eq!(seen, everybody, "{} sees who is there (G9)", app.name);
    }
}

//! What holds for every order of commands and faults (G1 to G8, G11 to G14).
//!
//! The world itself checks after every step that no push ends twice, that nothing follows a
//! channel's last event, that a disconnect comes before the errors it causes, that a timeout makes
//! progress, and that no frame is for a connection that is gone.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::JoinConfig;
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, CloseReason, Config, Event, Limits, Payload, PushId,
};
use realtime_sim::{Network, NodeId, World};

const CLIENTS: usize = 2;
const TOPICS: [&str; 3] = ["room:a", "realtime:b", "realtime:c"];
const PUSHES_WAITING_MAX: usize = 8;
const SECRET: &str = "opensesame";

#[derive(Clone, Debug)]
enum Op {
    Connect(usize),
    Disconnect(usize),
    Open(usize, usize),
    Close(usize, usize),
    Push(usize, usize),
    Track(usize, usize),
    Rejoin(usize, usize),
    Token(usize, u8),
    Probe(usize),
    Cut(usize),
    CloseWith(usize, u16),
    Stall(usize),
    Partition(usize),
    Heal(usize),
    Refuse(usize, u16),
    Sleep(usize, u16),
    RefuseJoins(Option<&'static str>),
    Pass(u16),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let client = || 0..CLIENTS;
    let topic = || 0..TOPICS.len();
    let reasons = prop_oneof![
        Just(None),
        Just(Some("InvalidJWTToken: Token has expired 1 seconds ago")),
        Just(Some("UnableToConnectToProject: busy")),
        Just(Some("Unauthorized: no")),
    ];
    let op = prop_oneof![
        4 => client().prop_map(Op::Connect),
        1 => client().prop_map(Op::Disconnect),
        6 => (client(), topic()).prop_map(|(client, topic)| Op::Open(client, topic)),
        2 => (client(), topic()).prop_map(|(client, topic)| Op::Close(client, topic)),
        8 => (client(), topic()).prop_map(|(client, topic)| Op::Push(client, topic)),
        3 => (client(), topic()).prop_map(|(client, topic)| Op::Track(client, topic)),
        1 => (client(), topic()).prop_map(|(client, topic)| Op::Rejoin(client, topic)),
        1 => (client(), 0..3_u8).prop_map(|(client, token)| Op::Token(client, token)),
        1 => client().prop_map(Op::Probe),
        2 => client().prop_map(Op::Cut),
        1 => (client(), 1000..1013_u16).prop_map(|(client, code)| Op::CloseWith(client, code)),
        1 => client().prop_map(Op::Stall),
        1 => client().prop_map(Op::Partition),
        2 => client().prop_map(Op::Heal),
        1 => (client(), prop_oneof![Just(401), Just(404), Just(429), Just(503)])
            .prop_map(|(client, status)| Op::Refuse(client, status)),
        1 => (client(), any::<u16>()).prop_map(|(client, millis)| Op::Sleep(client, millis)),
        1 => reasons.prop_map(Op::RefuseJoins),
        8 => (0..500_u16).prop_map(Op::Pass),
        2 => any::<u16>().prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 1..60)
}

struct App {
    node: NodeId,
    channels: BTreeMap<&'static str, ChannelId>,
    opened: BTreeSet<ChannelId>,
    pushes: BTreeSet<PushId>,
    tracked: u32,
}

fn app(world: &mut World) -> App {
    let mut limits = Limits::default();
    limits.pushes_buffered_max = PUSHES_WAITING_MAX;
    let config = Config::builder("ws://server/socket").limits(limits).build().unwrap();
    App {
        node: world.add_client(config),
        channels: BTreeMap::new(),
        opened: BTreeSet::new(),
        pushes: BTreeSet::new(),
        tracked: 0,
    }
}

impl App {
    fn open(&mut self, world: &mut World, topic: &'static str) {
        let config = if topic.starts_with("realtime:") {
            let mut config = JoinConfig::default();
            config.broadcast.ack = true;
            ChannelConfig::supabase(config).with_presence()
        } else {
            ChannelConfig::phoenix(Payload::empty())
        };
        let opened = world.client(self.node, |client, now| client.open_channel(topic, config, now));
        if let Ok(id) = opened {
            assert!(self.opened.insert(id), "{id} is given twice");
            self.channels.insert(topic, id);
        }
    }

    fn close(&mut self, world: &mut World, topic: &str) {
        if let Some(id) = self.channels.remove(topic) {
            world.client(self.node, |client, now| client.close_channel(id, now));
        }
    }

    fn push(&mut self, world: &mut World, topic: &str) {
        let Some(&id) = self.channels.get(topic) else { return };
        // The number shows the order on the wire, by way of the trace of the other members.
        let payload = Payload::json(&BTreeMap::from([("n", self.pushes.len())])).unwrap();
        let pushed = world.client(self.node, |client, now| {
            let mut channel = client.channel(id)?;
            if topic.starts_with("realtime:") {
                channel.broadcast("news", payload, now).ok()
            } else {
                channel.push("news", payload, now).ok()
            }
        });
        if let Some(push) = pushed {
            assert!(self.pushes.insert(push), "{push} is given twice");
        }
    }

    fn track(&mut self, world: &mut World, topic: &str) {
        let Some(&id) = self.channels.get(topic) else { return };
        self.tracked += 1;
        let payload = Payload::json(&BTreeMap::from([("n", self.tracked)])).unwrap();
        world.client(self.node, |client, now| {
            if let Some(mut channel) = client.channel(id) {
                let _ = channel.track(payload, now);
            }
        });
    }
}

fn carry_out(world: &mut World, apps: &mut [App], op: &Op) {
    match *op {
        Op::Connect(of) => world.client(apps[of].node, |client, now| client.connect(now)),
        Op::Disconnect(of) => world.client(apps[of].node, |client, now| client.disconnect(now)),
        Op::Open(of, topic) => apps[of].open(world, TOPICS[topic]),
        Op::Close(of, topic) => apps[of].close(world, TOPICS[topic]),
        Op::Push(of, topic) => apps[of].push(world, TOPICS[topic]),
        Op::Track(of, topic) => apps[of].track(world, TOPICS[topic]),
        Op::Rejoin(of, topic) => {
            let id = apps[of].channels.get(TOPICS[topic]).copied();
            world.client(apps[of].node, |client, now| {
                if let Some(mut channel) = id.and_then(|id| client.channel(id)) {
                    channel.rejoin(now);
                }
            });
        }
        Op::Token(of, token) => world.client(apps[of].node, |client, now| {
            client.set_access_token(Some(format!("token{token}").into()), now);
        }),
        Op::Probe(of) => world.client(apps[of].node, |client, now| client.probe(now)),
        Op::Cut(of) => world.cut(apps[of].node),
        Op::CloseWith(of, code) => world.close(apps[of].node, code, ""),
        Op::Stall(of) => world.stall(apps[of].node),
        Op::Partition(of) => world.partition(apps[of].node),
        Op::Heal(of) => world.heal(apps[of].node),
        Op::Refuse(of, status) => {
            let reason = CloseReason::Refused { status, body: String::new(), retry_after: None };
            world.refuse_next(apps[of].node, reason);
        }
        Op::Sleep(of, millis) => {
            world.suspend(apps[of].node, Duration::from_millis(millis.into()));
        }
        Op::RefuseJoins(reason) => {
            let refuse_joins =
                reason.map(|reason| (TOPICS[1].to_string(), reason.to_string())).into_iter();
            let config =
                ServerConfig { refuse_joins: refuse_joins.collect(), ..ServerConfig::default() };
            world.server(|server, _| server.set_config(config));
        }
        Op::Pass(millis) => world.run_for(Duration::from_millis(millis.into())),
    }
}

/// Every push has one outcome and every channel one end, once all are closed (G3); what one sender
/// sent on one topic came in its order (G1, G2).
fn check(world: &World, apps: &[App]) {
    for app in apps {
        let (mut ended, mut closed) = (BTreeSet::new(), BTreeSet::new());
        let mut last: BTreeMap<ChannelId, u64> = BTreeMap::new();
        for (_, event) in world.log(app.node) {
            let Event::Channel(id, event) = event else { continue };
            let news = match event {
                ChannelEvent::PushEnded { push, .. } => {
                    assert!(ended.insert(*push), "{push} ended twice");
                    continue;
                }
                ChannelEvent::Closed { .. } => {
                    assert!(closed.insert(*id), "{id} closed twice");
                    continue;
                }
                ChannelEvent::Broadcast(broadcast) => &broadcast.payload,
                ChannelEvent::Message { payload, .. } => payload,
                ChannelEvent::Errored { .. } => {
                    assert!(!closed.contains(id));
                    continue;
                }
                _ => continue,
            };
            let number = news.to::<BTreeMap<String, u64>>().unwrap()["n"];
            let before = last.insert(*id, number);
            assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
        }
        assert_eq!(ended, app.pushes);
        assert_eq!(closed, app.opened);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn every_push_and_every_channel_ends_once_whatever_happens(
        seed in any::<u64>(),
        jitter in 0..200_u64,
        ops in ops(),
    ) {
        let network = Network { jitter: Duration::from_millis(jitter), ..Network::default() };
        let mut world = World::seed(seed).with_network(network);
        let mut apps: Vec<App> = (0..CLIENTS).map(|_| app(&mut world)).collect();
        for op in &ops {
            carry_out(&mut world, &mut apps, op);
        }
        for app in &mut apps {
            world.heal(app.node);
            for topic in TOPICS {
                app.close(&mut world, topic);
            }
        }
        // The longest sleep, then the longest a leave can take.
        world.run_for(Duration::from_secs(80));
        check(&world, &apps);
        for app in &apps {
            let stats = world.client(app.node, |client, _| client.stats());
            prop_assert_eq!((stats.channels, stats.channels_live), (0, 0));
            prop_assert_eq!((stats.violations, stats.frames_dropped), (0, 0));
        }
    }

    #[test]
    fn the_same_seed_and_the_same_commands_give_the_same_run(
        seed in any::<u64>(),
        ops in ops(),
    ) {
        let run = || {
            let mut world = World::seed(seed);
            let mut apps: Vec<App> = (0..CLIENTS).map(|_| app(&mut world)).collect();
            for op in &ops {
                carry_out(&mut world, &mut apps, op);
            }
            world.trace_hash()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn nothing_that_can_be_printed_shows_a_secret(
        seed in any::<u64>(),
        ops in ops(),
    ) {
        let mut world = World::seed(seed);
        let mut apps: Vec<App> = (0..CLIENTS).map(|_| app(&mut world)).collect();
        for app in &apps {
            world.client(app.node, |client, now| {
                client.set_param("apikey", Some(SECRET.into()), now);
                client.set_access_token(Some(SECRET.into()), now);
            });
        }
        for op in &ops {
            carry_out(&mut world, &mut apps, op);
        }
        for app in &apps {
            let events = format!("{:?}", world.log(app.node));
            let client = world.client(app.node, |client, _| format!("{client:?}"));
            prop_assert!(!events.contains(SECRET) && !client.contains(SECRET));
        }
    }

    #[test]
    fn whatever_is_wanted_is_live_in_the_end(
        seed in any::<u64>(),
        ops in ops(),
    ) {
        let mut world = World::seed(seed);
        let mut apps: Vec<App> = (0..CLIENTS).map(|_| app(&mut world)).collect();
        for op in &ops {
            carry_out(&mut world, &mut apps, op);
        }
        world.server(|server, _| server.set_config(ServerConfig::default()));
        world.run_for(Duration::from_secs(66));
        for (n, app) in apps.iter_mut().enumerate() {
            world.heal(app.node);
            let token = format!("fresh{n}");
            world.client(app.node, |client, now| {
                client.connect(now);
                client.set_access_token(Some(token.into()), now);
            });
            for topic in TOPICS {
                app.open(&mut world, topic);
            }
        }
        world.run_for(Duration::from_secs(25 + 10 + 10 + 30 + 10 + 30 + 5));
        for app in &apps {
            for (topic, &id) in &app.channels {
                let live = world.client(app.node, |client, _| {
                    client.channel(id).is_some_and(|channel| channel.is_live())
                });
                prop_assert!(live, "{} is not live", topic);
            }
        }
    }
}

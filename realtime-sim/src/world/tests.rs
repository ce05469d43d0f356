//! A world made by hand says at once what does not hold, and takes so much and no more.

use std::collections::VecDeque;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{ChannelConfig, CloseReason, Config, Frame, Payload};

use super::*;
use crate::link::Carried;
use crate::subject::{ChannelTold, Request, Subject};

/// It has its driver send whatever it is given, on a socket that nobody opened.
#[derive(Debug, Default)]
struct SendsAnywhere {
    requests: VecDeque<Request<u32>>,
    /// Whether it is to send once its driver looks.
    eager: bool,
}

fn request() -> Request<u32> {
    let frame = Frame::text(r#"["1","1","room","n",{}]"#);
    Request::Frame { socket: 7, frame }
}

impl Subject for SendsAnywhere {
    type Socket = u32;
    type Event = ();

    fn handle_open(&mut self, _: u32, _: Instant) {}
    fn handle_frame(&mut self, _: u32, _: Frame, _: Instant) {}
    fn handle_close(&mut self, _: u32, _: CloseReason, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_transmit(&mut self) -> Option<Request<u32>> {
        let eager = core::mem::take(&mut self.eager);
        self.requests.pop_front().or_else(|| eager.then(request))
    }
    fn poll_event(&mut self) -> Option<()> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[test]
#[should_panic(expected = "sends on a socket that is not open")]
fn what_a_command_does_wrong_is_told_at_once() {
    let mut world = World::seed(1);
    let node = world.add(SendsAnywhere::default());
    world.with(node, |subject: &mut SendsAnywhere, _| subject.requests.push_back(request()));
}

#[test]
#[should_panic(expected = "sends on a socket that is not open")]
fn what_healing_brings_to_light_is_told_at_once() {
    let mut world = World::seed(1);
    let node = world.add(SendsAnywhere::default());
    world.hosted_mut::<SendsAnywhere>(node).subject.eager = true;
    world.heal(node);
}

#[test]
#[should_panic(expected = "G9: what a server does")]
fn what_a_server_does_wrong_is_told_at_once() {
    let mut world = World::seed(1);
    world.oracle.find("G9", Instant::EPOCH, || "what a server does".into());
    world.server(|_, _| ());
}

#[test]
fn each_push_of_an_application_has_a_number_of_its_own_by_which_it_ends() {
    let mut world = World::seed(1);
    world.listens = true;
    let ana = world.add_client(Config::builder("ws://server/socket").build().unwrap());
    let opened = world.client(ana, |client, now| {
        client.connect(now);
        client.open_channel("realtime:room", ChannelConfig::supabase(JoinConfig::default()), now)
    });
    let room = opened.unwrap();
    for _ in 0..2 {
        world.client(ana, |client, now| {
            let mut room = client.channel(room).unwrap();
            room.broadcast("n", Payload::empty(), now).unwrap();
        });
    }
    world.run_for(Duration::from_secs(1));
    let ends = world.overheard.iter().filter_map(|(_, told)| match told {
        Told::Channel(_, ChannelTold::Ended { number, .. }) => Some(*number),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [u64::MAX, u64::MAX - 1]);
}

fn flooded(world: &World) -> bool {
    world.finding().is_some_and(|finding| finding.rule == "flood")
}

fn a_world() -> (World, NodeId, u64) {
    let mut world = World::seed(1);
    world.keeps_findings = true;
    let ana = world.add_client(Config::builder("ws://server/socket").build().unwrap());
    world.client(ana, |client, now| client.connect(now));
    world.run_for(Duration::from_secs(1));
    let link = *world.links.keys().next().unwrap();
    (world, ana, link)
}

fn fill(world: &mut World, mut one: impl FnMut(&mut World)) {
    let mut count = 0;
    while !flooded(world) {
        one(world);
        count += 1;
        assert!(count <= 1_000_001, "no end of it");
    }
    // It takes no more and panics not.
    one(world);
}

#[test]
fn more_than_a_world_takes_is_a_flood_and_neither_a_panic_nor_the_mistake_of_a_client() {
    let parcel = || Parcel { carried: Carried::Ended, left_at: Instant::EPOCH };
    let (mut world, ana, _) = a_world();
    fill(&mut world, |world| world.plan(Instant::EPOCH, Due::Wake(ana)));
    let (mut world, _, link) = a_world();
    world.links.get_mut(&link).unwrap().hold(End::Server);
    fill(&mut world, |world| world.on_arrival(link, End::Server, parcel()));
    let (mut world, ana, link) = a_world();
    world.suspend(ana, Duration::from_secs(1));
    let reason = CloseReason::WriteTimeout;
    fill(&mut world, |world| {
        let carried = Carried::Failed(reason.clone());
        world.deliver(link, End::Node, Parcel { carried, left_at: Instant::EPOCH });
    });
    let (mut world, ana, _) = a_world();
    world.steps_at_this_instant = STEPS_PER_INSTANT_MAX - 1;
    world.plan(world.now, Due::Wake(ana));
    assert!(!world.step() && flooded(&world));
}

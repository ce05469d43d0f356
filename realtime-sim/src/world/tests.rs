//! A world made by hand says at once what does not hold.

use std::collections::VecDeque;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{ChannelConfig, CloseReason, Config, Frame, Payload};

use super::*;
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

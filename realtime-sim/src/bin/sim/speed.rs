//! `sim speed`: how fast worlds run, on one core.

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{ChannelConfig, ChannelEvent, ChannelId, Client, Config, Event, Payload};
use realtime_sim::{Network, World};

/// How many rooms, with two clients each, talk.
const ROOMS: usize = 10;
/// How many broadcasts of each client are under way.
const UNDER_WAY: usize = 8;
/// How many clients are idle, and for how long.
const IDLE: usize = 100;
const IDLE_HOURS: u64 = 100;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How long each measurement takes.
    #[arg(long, value_name = "S", default_value_t = 3)]
    seconds: u64,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let measure = Duration::from_secs(arguments.seconds);
    let (events, took) = talk(measure);
    println!(
        "talking: {:>11.0} protocol events a second ({} clients; frames taken by either side, \
         events told, timeouts)",
        events as f64 / took.as_secs_f64(),
        2 * ROOMS,
    );
    let took = rest();
    let hours = (IDLE as u64 * IDLE_HOURS) as f64;
    println!(
        "idle:    {:>11.0} client-hours a minute ({IDLE} clients with heartbeats, {IDLE_HOURS} h)",
        hours / took.as_secs_f64() * 60.0,
    );
    ExitCode::SUCCESS
}

/// Clients that broadcast again as soon as the server acknowledged.
fn talk(measure: Duration) -> (u64, Duration) {
    let network = Network { delay: Duration::from_millis(1), jitter: Duration::from_millis(1) };
    let mut world = World::seed(1).with_network(network).without_logs();
    for room in 0..ROOMS {
        for _ in 0..2 {
            let node = world.add_client(config());
            world.on_client_event(node, answer);
            world.client(node, |client, now| {
                client.connect(now);
                let mut join = JoinConfig::default();
                join.broadcast.ack = true;
                let topic = format!("realtime:room{room}");
                let id = client.open_channel(&topic, ChannelConfig::supabase(join), now);
                let id = id.expect("a channel is within the limits");
                (0..UNDER_WAY).for_each(|_| send(client, id, now));
            });
        }
    }
    world.run_for(Duration::from_secs(1));
    let (before, begun) = (world.tally().events(), Instant::now());
    while begun.elapsed() < measure {
        world.run_for(Duration::from_millis(100));
    }
    (world.tally().events() - before, begun.elapsed())
}

fn answer(event: &Event, client: &mut Client, now: realtime_proto::Instant) {
    if let Event::Channel(id, ChannelEvent::PushEnded { .. }) = event {
        send(client, *id, now);
    }
}

fn send(client: &mut Client, id: ChannelId, now: realtime_proto::Instant) {
    let cursor = Payload::from_json(r#"{"x":512,"y":384,"user":"ana"}"#).expect("it is JSON");
    if let Some(mut channel) = client.channel(id) {
        channel.broadcast("cursor", cursor, now).expect("few are under way");
    }
}

/// Clients that do nothing but stay connected.
fn rest() -> Duration {
    let mut world = World::seed(1).without_logs();
    for number in 0..IDLE {
        let node = world.add_client(config());
        world.client(node, |client, now| {
            client.connect(now);
            let topic = format!("realtime:room{number}");
            let config = ChannelConfig::supabase(JoinConfig::default());
            client.open_channel(&topic, config, now).expect("a channel is within the limits");
        });
    }
    let begun = Instant::now();
    world.run_for(Duration::from_secs(3_600 * IDLE_HOURS));
    begun.elapsed()
}

fn config() -> Config {
    Config::builder("ws://server/socket").build().expect("a good URL")
}

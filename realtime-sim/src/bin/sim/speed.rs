//! `sim speed`: how fast worlds run, on one core.

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{ChannelConfig, ChannelEvent, ChannelId, Client, Config, Event, Payload};
use realtime_sim::{Network, World};

use crate::say::say;

/// How many rooms, with two clients each, talk.
const ROOMS: usize = 10;
/// How many broadcasts of each client are under way.
const UNDER_WAY: usize = 8;
/// How many clients are idle, and for how long.
const IDLE: usize = 100;
const IDLE_HOURS: u64 = 100;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How long talking is measured.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    seconds: u64,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (events, took) = talk(Duration::from_secs(arguments.seconds));
    say!(
        "talking: {:>10.0} protocol events a second of processor time ({} clients; a frame that a \
         server or a client takes, an event that an application is told, a timeout)",
        events as f64 / took.as_secs_f64(),
        2 * ROOMS,
    );
    let took = rest();
    let hours = (IDLE as u64 * IDLE_HOURS) as f64;
    say!(
        "idle:    {:>10.0} client-hours a minute of processor time ({IDLE} clients with \
         heartbeats, {IDLE_HOURS} hours)",
        hours / took.as_secs_f64() * 60.0,
    );
    ExitCode::SUCCESS
}

/// How long something keeps a processor busy, whatever else the machine does.
struct Busy {
    begun: Instant,
    /// The processor time of this thread so far, where the system tells.
    before: Option<Duration>,
}

impl Busy {
    fn begin() -> Self {
        Self { begun: Instant::now(), before: Self::so_far() }
    }

    fn took(&self) -> Duration {
        let on_processor = self.before.zip(Self::so_far()).map(|(before, now)| now - before);
        on_processor.unwrap_or_else(|| self.begun.elapsed())
    }

    /// Linux counts the nanoseconds that a thread ran, as the first number of this file.
    fn so_far() -> Option<Duration> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let nanos = text.split(' ').next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }
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
    let (before, busy) = (world.tally().events(), Busy::begin());
    while busy.took() < measure {
        world.run_for(Duration::from_millis(100));
    }
    (world.tally().events() - before, busy.took())
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
    let busy = Busy::begin();
    world.run_for(Duration::from_secs(3_600 * IDLE_HOURS));
    busy.took()
}

fn config() -> Config {
    Config::builder("ws://server/socket").build().expect("a good URL")
}

//! What one presence change costs in rooms of 10, 1,000 and 100,000 members: from the frame to the
//! event, an update of a member that is picked at random.
//!
//! `cargo bench -p realtime-tests --bench presence_cost` prints it, and fails when the largest room
//! costs twice as much as the smallest or more. What the largest costs beyond the smallest is
//! misses of the cache.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and fails on what it did not expect"
)]

use core::fmt::Write;
use core::time::Duration;
use std::process::ExitCode;
use std::time;

use realtime_proto::supabase::JoinConfig;
use realtime_proto::{
    ChannelConfig, ChannelEvent, Client, Config, Event, Frame, Instant, Limits, SocketId, Transmit,
};

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const ROUNDS: usize = 41;
const CHANGES: usize = 1_000;
const RATIO_MAX: f64 = 2.0;
const NOW: Instant = Instant::EPOCH;

/// A client in a room, and what the server says there.
struct Room {
    client: Client,
    socket: SocketId,
    /// How often each member was updated.
    updates: Vec<u32>,
    /// Picks members: Marsaglia's xorshift.
    random: u64,
    /// The cost of one change, of each round.
    costs: Vec<Duration>,
}

impl Room {
    fn new(members: usize) -> Self {
        let mut limits = Limits::default();
        limits.frame_bytes_max = usize::MAX;
        let config = Config::builder("ws://measured.test/socket").limits(limits).build().unwrap();
        let mut client = Client::new(config, 1, NOW);
        let room = ChannelConfig::supabase(JoinConfig::default()).with_presence();
        client.open_channel("realtime:room", room, NOW).unwrap();
        client.connect(NOW);
        let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else {
            panic!("a connection is opened");
        };
        client.handle_open(socket, NOW);
        while client.poll_transmit().is_some() {}
        let updates = vec![0; members];
        let mut room = Self { client, socket, updates, random: 0x2545_F491, costs: Vec::new() };
        room.hear(Frame::text(
            r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{}}]"#,
        ));
        let entries: Vec<String> = (0..members).map(|member| entry(member, 0)).collect();
        let state = entries.join(",");
        let told = room.hear(Frame::text(format!(
            r#"["1",null,"realtime:room","presence_state",{{{state}}}]"#
        )));
        assert_eq!(told, members);
        room
    }

    /// Takes a frame; how many members it is told to have changed.
    fn hear(&mut self, frame: Frame) -> usize {
        self.client.handle_frame(self.socket, frame, NOW);
        let mut told = 0;
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Channel(_, ChannelEvent::Presence(diff)) => {
                    told += diff.joined.len() + diff.updated.len() + diff.left.len();
                }
                Event::Violation(violation) => panic!("{violation}"),
                _ => {}
            }
        }
        told
    }

    fn next_update(&mut self) -> Frame {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let member = (self.random % self.updates.len() as u64) as usize;
        let before = entry(member, self.updates[member]);
        self.updates[member] += 1;
        let after = entry(member, self.updates[member]);
        Frame::text(format!(
            r#"[null,null,"realtime:room","presence_diff",{{"joins":{{{after}}},"leaves":{{{before}}}}}]"#
        ))
    }

    fn measure(&mut self) {
        let frames: Vec<Frame> = (0..CHANGES).map(|_| self.next_update()).collect();
        let begin = time::Instant::now();
        let told: usize = frames.into_iter().map(|frame| self.hear(frame)).sum();
        self.costs.push(begin.elapsed() / CHANGES as u32);
        assert_eq!(told, CHANGES, "each change is told");
    }

    fn median(&mut self) -> Duration {
        self.costs.sort();
        self.costs[self.costs.len() / 2]
    }
}

/// A member with one meta, as Supabase sends it.
fn entry(member: usize, update: u32) -> String {
    let mut entry = format!(r#""0f5e1b9c-7a64-4d2e-8c1f-{member:012}":{{"metas":[{{"phx_ref":"#);
    write!(entry, r#""F{member:07}{update:08}""#).unwrap();
    if let Some(before) = update.checked_sub(1) {
        write!(entry, r#","phx_ref_prev":"F{member:07}{before:08}""#).unwrap();
    }
    write!(entry, r#","name":"Member {member}","online_at":"2026-08-21T12:00:00Z"}}]}}"#).unwrap();
    entry
}

fn main() -> ExitCode {
    let mut rooms = SIZES.map(Room::new);
    // Rounds take turns, so that whatever else runs on the machine slows all of them.
    for _ in 0..ROUNDS {
        rooms.iter_mut().for_each(Room::measure);
    }
    let medians = rooms.each_mut().map(Room::median);
    for (size, median) in SIZES.iter().zip(medians) {
        println!("{size:>7} members: {:>5.2} us a change", median.as_secs_f64() * 1e6);
    }
    let ratio = medians[2].as_secs_f64() / medians[0].as_secs_f64();
    println!("100,000 members cost {ratio:.2} times what 10 do; {RATIO_MAX} is too much");
    ExitCode::from(u8::from(ratio >= RATIO_MAX))
}

//! Whatever a server sends and whenever, for as long as it likes.
//!
//! Memory is counted per thread: what is live, and the most that ever was.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::time::Duration;
use std::alloc::System;

use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
use realtime_proto::supabase::JoinConfig;
use realtime_proto::wire::{Sender, Vsn, decode};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelId, Client, CloseReason, Config, Event, Frame, Instant, Limits,
    Payload, SocketId, Transmit, Violation,
};
use realtime_sim::fuzz::{ARGUMENT_BYTES, BINARY_FRAME, TEXT_FRAME, client_frames};
use realtime_tests::dice::Dice;
use realtime_tests::golden::frames;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting the bytes that are live.
struct Counting;

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

#[expect(unsafe_code, reason = "a global allocator is unsafe to write; it passes everything on")]
// SAFETY: every call goes to the system's allocator as it came; counting touches thread-locals
// that need neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// So many operations for [`client_frames`]: one in sixteen is a frame of random bytes, one in
/// sixteen a golden frame with up to three bytes changed, the rest are drawn evenly.
fn operations(choice: u8, count: usize, golden: &[(u8, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
    let mut data = vec![choice];
    for _ in 0..count {
        match dice.below(16) {
            0 => {
                let half = dice.below(32);
                data.extend([[TEXT_FRAME, BINARY_FRAME][dice.below(2)], half as u8]);
                data.extend((0..2 * half).map(|_| dice.byte()));
            }
            1 => {
                let (operation, frame) = &golden[dice.below(golden.len())];
                let half = frame.len() / 2;
                data.extend([*operation, half as u8]);
                let start = data.len();
                data.extend(&frame[..2 * half]);
                for _ in 0..dice.below(4) {
                    let at = start + dice.below(2 * half);
                    data[at] = dice.byte();
                }
            }
            _ => {
                let first = BINARY_FRAME + 1;
                data.push(first + dice.below(usize::from(32 - first)) as u8);
                data.extend((0..ARGUMENT_BYTES).map(|_| dice.byte()));
            }
        }
    }
    data
}

/// The golden frames that the fuzzer's length byte has room for, without a last odd space.
fn golden() -> Vec<(u8, Vec<u8>)> {
    let frames = frames().into_iter().map(|golden| match golden.frame {
        Frame::Text(text) => (TEXT_FRAME, [&text[..], b" "].concat()),
        Frame::Binary(bytes) => (BINARY_FRAME, bytes.to_vec()),
    });
    frames.filter(|(_, frame)| (2..510).contains(&frame.len())).collect()
}

#[test]
fn no_panic_and_no_unbounded_growth_under_10_million_random_frames_and_operations() {
    const LIVES: usize = 32;
    const OPERATIONS_A_LIFE: usize = 312_500;
    /// Six channels with two members of two appearances, and queues of small frames.
    const BYTES_MAX: isize = 256 * 1024;
    let golden = golden();
    assert!(golden.len() > 40, "{} golden frames", golden.len());
    let live = |n: usize| {
        let dice = &mut Dice::new(n as u64);
        let data = operations(dice.byte() & !1 | (n as u8 & 1), OPERATIONS_A_LIFE, &golden, dice);
        let before = LIVE.get();
        PEAK.set(before);
        let operations = client_frames(&data);
        let (grown, left) = (PEAK.get() - before, LIVE.get() - before);
        assert!(grown < BYTES_MAX, "life {n} took {grown} bytes");
        assert_eq!(left, 0, "life {n} left bytes behind");
        operations
    };
    let workers = 2;
    let total: usize = std::thread::scope(|scope| {
        let live = &live;
        let worker = |first| scope.spawn(move || (first..LIVES).step_by(workers).map(live).sum());
        let running: Vec<_> = (0..workers).map(worker).collect();
        running.into_iter().map(|worker| -> usize { worker.join().expect("no panic") }).sum()
    });
    assert!(total >= 10_000_000, "only {total} operations");
}

/// A client on one connection, and the server that talks to it.
struct Line {
    client: Client,
    now: Instant,
    socket: SocketId,
    /// The refs of the last join.
    join_ref: String,
}

impl Line {
    /// Opens `realtime:room` with presence, joined and live.
    fn new(limits: Limits) -> (Self, ChannelId) {
        let now = Instant::EPOCH;
        let config = Config::builder("ws://h/s").limits(limits).build().unwrap();
        let mut client = Client::new(config, 1, now);
        let config = ChannelConfig::supabase(JoinConfig::default()).with_presence();
        let room = client.open_channel("realtime:room", config, now).unwrap();
        client.connect(now);
        let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
        client.handle_open(socket, now);
        let mut line = Self { client, now, socket, join_ref: String::new() };
        line.drain();
        let join_ref = line.join_ref.clone();
        line.say("phx_reply", &join_ref, r#"{"status":"ok","response":{}}"#);
        line.say("presence_state", "", "{}");
        assert!(line.client.channel(room).unwrap().is_live());
        (line, room)
    }

    fn say(&mut self, event: &str, msg_ref: &str, payload: &str) {
        let frame =
            format!(r#"["{}","{msg_ref}","realtime:room","{event}",{payload}]"#, self.join_ref);
        self.client.handle_frame(self.socket, Frame::text(frame), self.now);
        self.drain();
    }

    /// Takes everything and answers heartbeats, and nothing else.
    fn drain(&mut self) -> Vec<Violation> {
        while let Some(transmit) = self.client.poll_transmit() {
            let Transmit::Frame { frame, .. } = transmit else { panic!("{transmit:?}") };
            let envelope = decode(Vsn::V2, Sender::Client, &frame).unwrap();
            let msg_ref = envelope.msg_ref.unwrap();
            if envelope.event == "phx_join" {
                self.join_ref = msg_ref.into_owned();
            } else if envelope.event == "heartbeat" {
                let reply = format!(r#"[null,"{msg_ref}","phoenix","phx_reply",{{}}]"#);
                self.client.handle_frame(self.socket, Frame::text(reply), self.now);
            }
        }
        let mut violations = Vec::new();
        while let Some(event) = self.client.poll_event() {
            if let Event::Violation(violation) = event {
                violations.push(violation);
            }
        }
        violations
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(deadline) = self.client.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.client.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }
}

#[test]
fn an_attempt_that_was_never_asked_for_is_not_given_up() {
    let once = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(1));
    let config = Config::builder("ws://h/s").reconnect(once.without_jitter());
    let config = config.disconnect_when_empty_after(Some(Duration::from_secs(1)));
    let now = Instant::EPOCH;
    let mut client = Client::new(config.build().unwrap(), 1, now);
    let config = ChannelConfig::phoenix(Payload::empty());
    let room = client.open_channel("room:a", config, now).unwrap();
    client.connect(now);
    let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else { unreachable!() };
    client.close_channel(room, now);
    client.handle_close(socket, CloseReason::Lost { detail: "reset".into() }, now);
    while client.poll_event().is_some() {}
    // The machine slept: the next attempt is due, and by now there is nothing to connect for.
    client.handle_timeout(now + Duration::from_secs(60));
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn two_leaves_of_one_key_may_be_answered_in_any_order() {
    let now = Instant::EPOCH;
    let config = ManagerConfig::new(Config::builder("ws://h/s").build().unwrap());
    let mut manager = Manager::new(config, 1, now);
    manager.connect(now);
    let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    manager.handle_open(socket, now);
    let contact = Entity::new("contact", "123");
    for _ in 0..2 {
        manager.subscribe_to_entity(&contact, &EntityOptions::default(), now).unwrap();
        manager.cleanup_all_channels(now);
    }
    let mut leaves = Vec::new();
    while let Some(transmit) = manager.poll_transmit() {
        let Transmit::Frame { frame, .. } = transmit else { panic!("{transmit:?}") };
        let envelope = decode(Vsn::V2, Sender::Client, &frame).unwrap();
        if envelope.event == "phx_leave" {
            leaves.push((envelope.msg_ref.unwrap().into_owned(), envelope.topic.into_owned()));
        }
    }
    assert_eq!(leaves.len(), 2);
    for (msg_ref, topic) in leaves.iter().rev() {
        assert_eq!(manager.active_channels().count(), 1, "there is a leave to wait for");
        let reply = format!(r#"[null,"{msg_ref}","{topic}","phx_reply",{{"status":"ok"}}]"#);
        manager.handle_frame(socket, Frame::text(reply), now);
    }
    assert_eq!(manager.active_channels().count(), 0);
}

#[test]
fn presence_calls_that_are_never_answered_are_forgotten() {
    let (mut line, room) = Line::new(Limits::default());
    let mut calls = |count: u32| {
        for n in 0..count {
            let shown = Payload::json(&serde_json::json!({ "n": n })).unwrap();
            line.client.channel(room).unwrap().track(shown, line.now).unwrap();
            line.drain();
            line.pass(Duration::from_secs(10));
        }
        assert!(line.client.channel(room).unwrap().is_live());
        LIVE.get()
    };
    let warm = calls(100);
    let later = calls(5_000);
    assert!(later - warm < 1_024, "{} bytes more after 5,000 calls", later - warm);
}

#[test]
fn a_member_has_so_many_appearances_and_no_more() {
    let mut limits = Limits::default();
    limits.presence_metas_max = 3;
    let (mut line, room) = Line::new(limits);
    for n in 0..10 {
        let joins = format!(r#"{{"ana":{{"metas":[{{"phx_ref":"{n}"}}]}}}}"#);
        line.say("presence_diff", "", &format!(r#"{{"joins":{joins},"leaves":{{}}}}"#));
    }
    let metas = line.client.channel(room).unwrap().presence().metas("ana").to_vec();
    let refs: Vec<&str> = metas.iter().map(|meta| meta.phx_ref.as_str()).collect();
    assert_eq!(refs, ["0", "1", "2"], "those beyond are left out");
    assert_eq!(line.client.stats().violations, 7, "and counted");
}

/// How many events wait after so many days in which nobody took one and the server never answered.
macro_rules! unread_for_days {
    ($machine:expr, $days:expr) => {{
        let machine = &mut $machine;
        let mut now = Instant::EPOCH;
        let end = now + Duration::from_secs($days * 86_400);
        while now < end {
            let mut opened = None;
            while let Some(transmit) = machine.poll_transmit() {
                if let Transmit::Open { socket, .. } = transmit {
                    opened = Some(socket);
                }
            }
            if let Some(socket) = opened {
                machine.handle_open(socket, now);
            } else {
                now = now + Duration::from_secs(1);
                machine.handle_timeout(now);
            }
        }
        core::iter::from_fn(|| machine.poll_event()).count()
    }};
}

#[test]
fn events_that_nobody_takes_do_not_pile_up_while_attempts_fail() {
    let mut limits = Limits::default();
    limits.events_queued_max = 16;
    let config = Config::builder("ws://h/s").limits(limits).build().unwrap();
    let mut client = Client::new(config.clone(), 1, Instant::EPOCH);
    let mut manager = Manager::new(ManagerConfig::new(config), 1, Instant::EPOCH);
    for n in 0..10 {
        let room = ChannelConfig::supabase(JoinConfig::default());
        client.open_channel(&format!("realtime:{n}"), room, Instant::EPOCH).unwrap();
        let contact = Entity::new("contact", n.to_string());
        let options = EntityOptions::default();
        manager.subscribe_to_entity(&contact, &options, Instant::EPOCH).unwrap();
    }
    client.connect(Instant::EPOCH);
    manager.connect(Instant::EPOCH);
    let events = unread_for_days!(client, 7);
    assert!(events < 100, "{events} events of a client wait");
    let events = unread_for_days!(manager, 7);
    assert!(events < 200, "{events} events of a manager wait");
}

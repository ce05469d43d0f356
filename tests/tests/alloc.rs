//! How often the client allocates for what it does all day, counted.
//!
//! Queues and buffers are warm: each case runs a few times before it is counted, since what a
//! queue grows by is paid once. Frames are shared already, as a WebSocket library's read buffer
//! is, so that slicing them is a reference count; a `Vec` turned into [`Bytes`] would allocate
//! the count with its first slice.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::time::Duration;
use std::alloc::System;

use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
use realtime_proto::wire::{Body, Sender, Vsn, decode};
use realtime_proto::{
    Bytes, ChannelConfig, ChannelEvent, ChannelId, Client, Config, Event, Frame, Instant, Outcome,
    Payload, Presence, Secret, SocketId, Transmit,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread.
struct Counting;

#[expect(unsafe_code, reason = "a global allocator is unsafe to write; it passes everything on")]
// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local
// that needs neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NOW: Instant = Instant::EPOCH;
const TOPIC: &str = "realtime:room";

/// A client with one joined channel.
struct Warm {
    client: Client,
    vsn: Vsn,
    socket: SocketId,
    channel: ChannelId,
}

impl Warm {
    fn new(vsn: Vsn) -> Self {
        let mut join = JoinConfig::default();
        join.broadcast.ack = true;
        join.postgres_changes.push(Binding::new(ChangeEvent::All, "public", "todos"));
        let config = Config::builder("ws://counted.test/socket").vsn(vsn).build().unwrap();
        let mut client = Client::new(config, 1, NOW);
        let channel = client.open_channel(TOPIC, ChannelConfig::supabase(join), NOW).unwrap();
        client.connect(NOW);
        let Some(Transmit::Open { socket, .. }) = client.poll_transmit() else {
            panic!("a connection is opened");
        };
        client.handle_open(socket, NOW);
        let mut warm = Self { client, vsn, socket, channel };
        let (_, join_ref) = warm.transmit();
        let binding = r#"{"id":7,"event":"*","schema":"public","table":"todos"}"#;
        let accepted =
            format!(r#"{{"status":"ok","response":{{"postgres_changes":[{binding}]}}}}"#);
        warm.client.handle_frame(
            socket,
            warm.message(TOPIC, "phx_reply", Some(&join_ref), &accepted),
            NOW,
        );
        warm.drain();
        warm
    }

    fn both() -> [Self; 2] {
        [Self::new(Vsn::V1), Self::new(Vsn::V2)]
    }

    /// A text frame of the server, shared already.
    fn message(&self, topic: &str, event: &str, msg_ref: Option<&str>, payload: &str) -> Frame {
        let msg_ref = msg_ref.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\""));
        shared(match self.vsn {
            Vsn::V1 => format!(
                r#"{{"ref":{msg_ref},"event":"{event}","topic":"{topic}","payload":{payload}}}"#
            ),
            Vsn::V2 => format!(r#"[null,{msg_ref},"{topic}","{event}",{payload}]"#),
        })
    }

    /// Takes one frame: how often taking it allocated, and its ref.
    fn transmit(&mut self) -> (usize, String) {
        let (count, transmit) = counted(|| self.client.poll_transmit());
        let Some(Transmit::Frame { frame, .. }) = transmit else { panic!("{transmit:?}") };
        let envelope = decode(self.vsn, Sender::Client, &frame).unwrap();
        assert!(!matches!(envelope.body, Body::Reply { .. }));
        (count, envelope.msg_ref.unwrap().into_owned())
    }

    fn receive(&mut self, frame: Frame, now: Instant) -> usize {
        counted(|| self.client.handle_frame(self.socket, frame, now)).0
    }

    fn drain(&mut self) -> Vec<Event> {
        while self.client.poll_transmit().is_some() {}
        core::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn push(&mut self) -> String {
        let payload = Payload::from_json(r#"{"a":1}"#).unwrap();
        self.client.channel(self.channel).unwrap().push("echo", payload, NOW).unwrap();
        self.transmit().1
    }
}

fn shared(text: String) -> Frame {
    let bytes = Bytes::from(text);
    // The first clone makes the count that all slices share.
    drop(bytes.clone());
    Frame::Text(bytes)
}

fn counted<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

/// The count of the last of several runs.
fn warmed(mut run: impl FnMut() -> usize) -> usize {
    (0..9).map(|_| run()).last().unwrap()
}

#[test]
fn the_counter_counts() {
    assert_eq!(counted(|| Box::new(1)).0, 1);
    assert_eq!(counted(|| vec![1; 10].into_iter().sum::<i32>()), (1, 10));
    assert_eq!(counted(|| 1 + 1), (0, 2));
}

#[test]
fn a_heartbeat_reply_allocates_nothing() {
    for mut warm in Warm::both() {
        let count = warmed(|| {
            warm.client.probe(NOW);
            let (_, beat) = warm.transmit();
            let answer = r#"{"status":"ok","response":{}}"#;
            let frame = warm.message("phoenix", "phx_reply", Some(&beat), answer);
            let count = warm.receive(frame, NOW);
            assert!(matches!(warm.drain()[..], [Event::Heartbeat { .. }]));
            count
        });
        assert_eq!(count, 0, "{}", warm.vsn);
    }
}

#[test]
fn a_reply_to_a_push_allocates_nothing() {
    for mut warm in Warm::both() {
        let count = warmed(|| {
            let push = warm.push();
            let answer = r#"{"status":"ok","response":{"b":2}}"#;
            let frame = warm.message(TOPIC, "phx_reply", Some(&push), answer);
            let count = warm.receive(frame, NOW);
            let events = warm.drain();
            assert!(matches!(
                &events[..],
                [Event::Channel(
                    _,
                    ChannelEvent::PushEnded { outcome: Outcome::Replied { .. }, .. }
                )]
            ));
            count
        });
        assert_eq!(count, 0, "{}", warm.vsn);
    }
}

#[test]
fn a_second_reply_to_a_push_allocates_nothing() {
    for mut warm in Warm::both() {
        let push = warm.push();
        let answer = r#"{"status":"ok","response":{"b":2}}"#;
        let frame = warm.message(TOPIC, "phx_reply", Some(&push), answer);
        warm.receive(frame.clone(), NOW);
        warm.drain();
        let count = warmed(|| warm.receive(frame.clone(), NOW));
        assert_eq!(count, 0, "{}", warm.vsn);
        assert_eq!(warm.client.stats().stale_messages, 9);
    }
}

#[test]
fn a_message_for_a_topic_that_is_not_open_costs_nothing() {
    for mut warm in Warm::both() {
        let frame = warm.message("realtime:elsewhere", "broadcast", None, r#"{"event":"e"}"#);
        assert_eq!(warmed(|| warm.receive(frame.clone(), NOW)), 0, "{}", warm.vsn);
        assert_eq!(warm.client.stats().unknown_topics, 9);
    }
}

#[test]
fn a_timeout_with_nothing_due_costs_nothing() {
    for mut warm in Warm::both() {
        let later = NOW + Duration::from_secs(1);
        assert_eq!(warmed(|| counted(|| warm.client.handle_timeout(later)).0), 0);
        assert_eq!(warm.drain(), []);
    }
}

#[test]
fn a_delivered_message_costs_its_event_name_at_most() {
    for mut warm in Warm::both() {
        for (event, payload, most) in [
            ("broadcast", r#"{"type":"broadcast","event":"cursor","payload":1}"#, 1),
            ("broadcast", r#"{"type":"broadcast","event":"cursor","payload":{"x":1}}"#, 1),
            ("custom", r#"{"x":1}"#, 1),
            ("postgres_changes", r#"{"ids":[7],"data":{"type":"INSERT","record":{"id":1}}}"#, 1),
        ] {
            let frame = warm.message(TOPIC, event, None, payload);
            let count = warmed(|| {
                let count = warm.receive(frame.clone(), NOW);
                assert!(matches!(warm.drain()[..], [Event::Channel(..)]), "{event}");
                count
            });
            assert!(count <= most, "{}: {event} took {count}", warm.vsn);
        }
    }
    let mut warm = Warm::new(Vsn::V2);
    // Kind 4, topic of 13 bytes, event of 1, no metadata, JSON.
    let mut bytes = vec![4, 13, 1, 0, 1];
    bytes.extend_from_slice(b"realtime:roome{}");
    let Frame::Text(bytes) = shared(String::from_utf8(bytes).unwrap()) else { unreachable!() };
    let count = warmed(|| {
        let count = warm.receive(Frame::Binary(bytes.clone()), NOW);
        assert!(matches!(warm.drain()[..], [Event::Channel(_, ChannelEvent::Broadcast(_))]));
        count
    });
    assert!(count <= 1, "{count}");
}

/// A member with one meta that was updated so many times.
fn entry(member: usize, update: usize) -> String {
    format!(r#""member{member:06}":{{"metas":[{{"phx_ref":"F{update:08}","name":"Ana"}}]}}"#)
}

#[test]
fn a_presence_change_allocates_as_often_among_a_hundred_thousand_as_among_ten() {
    let counts = [10, 1_000, 100_000].map(|members| {
        let mut presence = Presence::default();
        let entries: Vec<String> = (0..members).map(|member| entry(member, 0)).collect();
        let state = Payload::from_json(format!("{{{}}}", entries.join(","))).unwrap();
        presence.handle_state(&state, NOW).unwrap();
        let mut change = |joins: &str, leaves: &str| {
            let diff = format!(r#"{{"joins":{{{joins}}},"leaves":{{{leaves}}}}}"#);
            let diff = Payload::from_json(diff).unwrap();
            let (count, told) = counted(|| presence.handle_diff(&diff).unwrap());
            let told = told.diff;
            assert_eq!(told.joined.len() + told.updated.len() + told.left.len(), 1);
            count
        };
        let mut update = 0;
        let updates = warmed(|| {
            update += 1;
            change(&entry(7, update), &entry(7, update - 1))
        });
        // The leave makes room for the join, so that no queue grows.
        let leaves = change("", &entry(members - 1, 0));
        let joins = change(&entry(members - 1, 0), "");
        [updates, leaves, joins]
    });
    assert_eq!(counts[1..], [counts[0]; 2]);
}

#[test]
fn a_written_frame_costs_its_own_memory() {
    for mut warm in Warm::both() {
        let id = warm.channel;
        let pushes = warmed(|| {
            let payload = Payload::from_json(r#"{"a":1}"#).unwrap();
            warm.client.channel(id).unwrap().push("echo", payload, NOW).unwrap();
            warm.transmit().0
        });
        let broadcasts = warmed(|| {
            let payload = Payload::from_json(r#"{"a":1}"#).unwrap();
            warm.client.channel(id).unwrap().broadcast("cursor", payload, NOW).unwrap();
            warm.transmit().0
        });
        let heartbeats = warmed(|| {
            warm.client.probe(NOW);
            let (count, beat) = warm.transmit();
            // A beat that is under way is not sent twice.
            let answer = r#"{"status":"ok","response":{}}"#;
            warm.receive(warm.message("phoenix", "phx_reply", Some(&beat), answer), NOW);
            count
        });
        let mut tokens = ["one", "two"].into_iter().cycle();
        let tokens = warmed(|| {
            let token = tokens.next().map(Secret::from);
            warm.client.set_access_token(token, NOW);
            warm.transmit().0
        });
        assert!(warm.client.close_channel(id, NOW));
        let leave = warm.transmit().0;
        assert_eq!([pushes, broadcasts, heartbeats, tokens, leave], [1; 5], "{}", warm.vsn);
    }
    let mut warm = Warm::new(Vsn::V2);
    let id = warm.channel;
    let binary = warmed(|| {
        let payload = Payload::from(vec![1, 2, 3]);
        warm.client.channel(id).unwrap().broadcast("cursor", payload, NOW).unwrap();
        warm.transmit().0
    });
    assert_eq!(binary, 1);
}

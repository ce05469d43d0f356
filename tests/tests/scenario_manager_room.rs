//! A manager whose application or driver takes its time: what waits for them, and what is dropped.

use realtime_proto::manager::{
    ChannelSettings, ChannelStatus, EntityOptions, LeaseEvent, Manager, ManagerConfig, ManagerEvent,
};
use realtime_proto::{
    CloseReason, Config, Frame, Instant, Limits, Payload, SocketId, Stream, Transmit,
};
use realtime_tests::entities::{contact, millis, secs};

const TOPIC: &str = "realtime:subscription:contact:123";

/// The binding of a subscription to the contact, as a server confirms it.
const ROW: &str =
    r#"{"id":1,"event":"*","schema":"public","table":"contacts","filter":"id=eq.123"}"#;

/// A manager that is connected and reads only when it is asked to, and its socket.
fn by_hand(limits: Limits) -> (Manager, SocketId) {
    let config = Config::builder("ws://server/realtime/v1")
        .limits(limits)
        .build()
        .expect("a valid configuration");
    let mut manager = Manager::new(ManagerConfig::new(config), 1, Instant::EPOCH);
    manager.connect(Instant::EPOCH);
    let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    manager.handle_open(socket, Instant::EPOCH);
    (manager, socket)
}

/// The server says so, in the words of the newest join.
fn says(manager: &mut Manager, socket: SocketId, frame: String, now: Instant) {
    manager.handle_frame(socket, Frame::text(frame), now);
}

fn accepts(manager: &mut Manager, socket: SocketId, join_ref: u32, rows: &str, now: Instant) {
    let response = format!(r#"{{"postgres_changes":[{rows}]}}"#);
    let reply = format!(r#"{{"status":"ok","response":{response}}}"#);
    let frame = format!(r#"["{join_ref}","{join_ref}","{TOPIC}","phx_reply",{reply}]"#);
    says(manager, socket, frame, now);
}

#[test]
fn pushes_that_end_as_their_frames_are_taken_count_among_what_waits_for_the_application() {
    let mut limits = Limits::default();
    limits.events_queued_max = 3;
    let (mut manager, socket) = by_hand(limits);
    let now = Instant::EPOCH;
    for _ in 0..3 {
        manager.broadcast(&contact(), "n", Payload::empty(), now).unwrap();
    }
    while manager.poll_transmit().is_some() {}
    accepts(&mut manager, socket, 1, "", now);
    while manager.poll_event().is_some() {}
    assert!(manager.wants_frames());
    while manager.poll_transmit().is_some() {}
    assert!(!manager.wants_frames(), "three ends wait to be read");
    assert!((0..3).all(|_| matches!(manager.poll_event(), Some(ManagerEvent::PushEnded { .. }))));
}

#[test]
fn a_broadcast_that_waits_for_the_driver_stands_in_nobodys_way() {
    let (mut manager, socket) = by_hand(Limits::default());
    let now = Instant::EPOCH;
    manager.broadcast(&contact(), "n", Payload::empty(), now).unwrap();
    while manager.poll_transmit().is_some() {}
    accepts(&mut manager, socket, 1, "", now);
    let private = ChannelSettings { private: true, ..ChannelSettings::default() };
    let options = EntityOptions { channel: Some(private), ..EntityOptions::default() };
    manager.subscribe_to_entity(&contact(), &options, now).unwrap();
    let mut written = Vec::new();
    while let Some(Transmit::Frame { frame, .. }) = manager.poll_transmit() {
        let frame: serde_json::Value = serde_json::from_slice(frame.as_bytes()).unwrap();
        written.push(frame[3].as_str().unwrap().to_owned());
    }
    assert_eq!(written, ["broadcast", "phx_leave", "phx_join"]);
}

#[test]
fn who_comes_between_an_overflow_and_the_join_it_takes_is_told_what_that_costs() {
    let mut limits = Limits::default();
    (limits.events_queued_max, limits.joins_per_second_max) = (3, 1);
    let (mut manager, socket) = by_hand(limits);
    let now = Instant::EPOCH;
    let options = EntityOptions::default();
    let subscribe = |manager: &mut Manager| {
        manager.subscribe_to_entity(&contact(), &options, Instant::EPOCH).unwrap()
    };
    let early = subscribe(&mut manager);
    let join = |manager: &mut Manager, join_ref: u32, now| {
        while manager.poll_transmit().is_some() {}
        accepts(manager, socket, join_ref, ROW, now);
        let told = r#"{"status":"ok","message":"Subscribed to PostgreSQL","extension":"postgres_changes","channel":"x"}"#;
        says(manager, socket, format!(r#"["{join_ref}",null,"{TOPIC}","system",{told}]"#), now);
    };
    join(&mut manager, 1, now);
    while manager.poll_event().is_some() {}
    // More comes than the application takes, and then it takes it.
    (0..10).for_each(|_| says(&mut manager, socket, broadcast(), now));
    while manager.poll_event().is_some() {}
    says(&mut manager, socket, broadcast(), now);
    while manager.poll_event().is_some() {}
    let late = subscribe(&mut manager);
    let events = core::iter::from_fn(|| manager.poll_event()).collect::<Vec<_>>();
    let live = ManagerEvent::Lease(late, LeaseEvent::Status(ChannelStatus::Live));
    assert!(events.contains(&live), "the join has to wait for its turn: {events:?}");
    let later = now + secs(1);
    manager.handle_timeout(later);
    while manager.poll_event().is_some() {}
    join(&mut manager, 2, later);
    let mut missed = Vec::new();
    while let Some(event) = manager.poll_event() {
        if let ManagerEvent::Lease(lease, LeaseEvent::Gap(gap)) = event {
            missed.push((lease, gap.stream == Stream::Messages));
        }
    }
    missed.sort_unstable();
    assert_eq!(missed, [(early, false), (early, true), (late, false), (late, true)]);
}

fn broadcast() -> String {
    format!(r#"["1",null,"{TOPIC}","broadcast",{{"event":"n","payload":{{}}}}]"#)
}

/// A manager that has no room left and had to drop frames, and its socket.
fn overfed() -> (Manager, SocketId) {
    let mut limits = Limits::default();
    limits.events_queued_max = 3;
    let (mut manager, socket) = by_hand(limits);
    let now = Instant::EPOCH;
    let options = EntityOptions::default();
    manager.subscribe_to_entity(&contact(), &options, now).expect("the only subscription");
    while manager.poll_transmit().is_some() {}
    accepts(&mut manager, socket, 1, ROW, now);
    while manager.poll_event().is_some() {}
    (0..10).for_each(|_| says(&mut manager, socket, broadcast(), now));
    assert!(manager.stats().frames_dropped > 0, "ten frames are more than six events");
    (manager, socket)
}

#[test]
fn an_overflow_is_healed_as_soon_as_there_is_room_and_not_before() {
    let (mut manager, _) = overfed();
    let now = Instant::EPOCH;
    // Neither a command nor a deadline has it join meanwhile.
    manager.probe(now);
    let Some(Transmit::Frame { frame, .. }) = manager.poll_transmit() else { panic!("it probes") };
    assert!(String::from_utf8_lossy(frame.as_bytes()).contains("heartbeat"), "{frame:?}");
    let then = now + secs(1);
    manager.handle_timeout(then);
    assert!(manager.poll_transmit().is_none(), "nobody would hear of the join");
    while manager.poll_event().is_some() {}
    let later = manager.poll_timeout().unwrap();
    assert_eq!(later, then + millis(1));
    manager.handle_timeout(later);
    let Some(Transmit::Frame { frame, .. }) = manager.poll_transmit() else { panic!("it joins") };
    assert!(String::from_utf8_lossy(frame.as_bytes()).contains("phx_join"), "{frame:?}");
}

#[test]
fn a_frame_of_a_connection_that_is_gone_is_none_that_was_dropped() {
    let (mut manager, socket) = overfed();
    let now = Instant::EPOCH;
    let dropped = manager.stats().frames_dropped;
    manager.handle_close(socket, CloseReason::Lost { detail: "reset".into() }, now);
    says(&mut manager, socket, broadcast(), now);
    let stats = manager.stats();
    assert_eq!((stats.frames_dropped, stats.stale_sockets), (dropped, 1));
}

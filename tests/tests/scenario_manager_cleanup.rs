//! What goes goes for good: clean-ups, channels for one send, and what is left afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::manager::{CleanupId, EntityKey, EntityOptions, Manager, ManagerEvent, User};
use realtime_proto::{Frame, Instant, Payload, Transmit};
use realtime_sim::{NodeId, World};
use realtime_tests::entities::{
    config, connected, connected_with, contact, millis, nth, secs, statuses, subscribe,
    subscribe_to, subscribe_to_many,
};

/// The clean-ups whose end was told, and when.
fn cleaned_up(world: &World, node: NodeId) -> Vec<(CleanupId, Duration)> {
    let ended = world.manager_log(node).iter().filter_map(|(at, event)| match event {
        ManagerEvent::CleanedUp { cleanup } => Some((*cleanup, at.since_epoch())),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_clean_up_ends_with_its_own_leaves_whoever_asks_for_what_meanwhile() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    subscribe_to_many(&mut world, node, 3);
    world.run_for(secs(1));
    let cleanup = world.manager(node, |manager, now| manager.cleanup_all_channels(now));
    let again = subscribe_to_many(&mut world, node, 3);
    world.run_for(secs(10));
    let told = cleaned_up(&world, node);
    assert!(matches!(told[..], [(told, _)] if told == cleanup), "{told:?}");
    for lease in again {
        assert_eq!(statuses(&world, node, lease), ["connecting", "connected", "live"]);
    }
}

/// A manager on a line on which nothing is answered but the first join.
fn joined(now: Instant) -> Manager {
    let mut manager = Manager::new(config(), 1, now);
    manager.connect(now);
    let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    manager.handle_open(socket, now);
    manager.join_presence(&contact(), User::new("ana"), now).unwrap();
    while manager.poll_transmit().is_some() {}
    let topic = EntityKey::presence(contact()).topic();
    let joined = format!(r#"["1","1","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
    manager.handle_frame(socket, Frame::text(joined), now);
    while manager.poll_transmit().is_some() {}
    manager
}

/// Whether the end of the clean-up is told among what happened.
fn ends(manager: &mut Manager, cleanup: CleanupId) -> bool {
    while manager.poll_transmit().is_some() {}
    let mut events = core::iter::from_fn(|| manager.poll_event());
    events.any(|event| event == ManagerEvent::CleanedUp { cleanup })
}

#[test]
fn a_clean_up_ends_when_its_leaves_time_out() {
    let now = Instant::EPOCH;
    let mut manager = joined(now);
    let cleanup = manager.cleanup_all_channels(now);
    manager.handle_timeout(now + millis(4_999));
    assert!(!ends(&mut manager, cleanup));
    manager.handle_timeout(now + secs(5));
    assert!(ends(&mut manager, cleanup));
}

#[test]
fn a_clean_up_ends_when_the_connection_does() {
    let now = Instant::EPOCH;
    let mut manager = joined(now);
    let cleanup = manager.cleanup_all_channels(now);
    assert!(!ends(&mut manager, cleanup));
    manager.disconnect(now);
    assert!(ends(&mut manager, cleanup));
    // Offline there is nothing to wait for.
    let cleanup = manager.cleanup_all_channels(now);
    assert!(ends(&mut manager, cleanup));
}

#[test]
fn a_clean_up_of_a_tenant_waits_for_that_tenant_only() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let acme = contact().in_tenant("acme");
    subscribe(&mut world, node);
    subscribe_to(&mut world, node, &acme, &EntityOptions::default());
    world.run_for(secs(1));
    let cleanup = world.manager(node, |manager, now| manager.cleanup_tenant("acme", now));
    world.run_for(secs(1));
    assert_eq!(cleaned_up(&world, node).len(), 1);
    assert_eq!(cleaned_up(&world, node)[0].0, cleanup);
    assert_eq!(world.manager(node, |manager, _| manager.active_channels().count()), 1);
    let nobody = world.manager(node, |manager, now| manager.cleanup_tenant("nobody", now));
    world.run_for(millis(1));
    assert_eq!(cleaned_up(&world, node)[1].0, nobody, "nothing to leave is left at once");
}

#[test]
fn after_a_clean_up_nothing_is_left_to_wait_for() {
    let mut world = World::seed(1);
    let node = connected_with(&mut world, config().with_channels_per_connection_max(10));
    subscribe_to_many(&mut world, node, 300);
    world.run_for(secs(20));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    assert_eq!((stats.by_status["live"], stats.connections.len()), (300, 30));
    world.manager(node, |manager, now| manager.cleanup_all_channels(now));
    world.run_for(secs(60));
    world.manager(node, |manager, _| {
        let stats = manager.channel_stats();
        assert_eq!((stats.total, stats.held.len(), stats.connections.len()), (0, 0, 1));
        assert_eq!(manager.poll_timeout(), None, "not even a heartbeat: it is offline until asked");
    });
    assert_eq!(world.server(|server, _| server.stats().sessions), 0);
}

#[test]
fn a_channel_that_was_made_for_one_send_is_given_up_after_it() {
    // supabase-js#1204, #1729, #1840: memory that grows with every send.
    let mut world = World::seed(1);
    let node = connected(&mut world);
    for n in 0..500 {
        let sent = world
            .manager(node, |manager, now| manager.broadcast(&nth(n), "hi", Payload::empty(), now));
        sent.unwrap();
        world.run_for(millis(100));
        let there = world.manager(node, |manager, _| manager.active_channels().count());
        assert!(there <= 15, "{there} channels after {n} sends");
    }
    world.run_for(secs(5));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    assert_eq!((stats.total, stats.connections.len()), (0, 1));
    assert_eq!(world.server(|server, _| server.stats().channels), 0);
}

#[test]
fn the_last_word_on_a_channel_is_that_it_is_closed() {
    let now = Instant::EPOCH;
    let mut manager = Manager::new(config(), 1, now);
    manager.connect(now);
    let Some(Transmit::Open { socket, .. }) = manager.poll_transmit() else { unreachable!() };
    manager.handle_open(socket, now);
    manager.broadcast(&contact(), "hi", Payload::empty(), now).unwrap();
    while manager.poll_transmit().is_some() {}
    // Nobody holds it when the server closes it for good.
    let topic = EntityKey::subscription(contact()).topic();
    for frame in [
        format!(r#"["1","1","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
        format!(r#"["1","1","{topic}","phx_close",{{}}]"#),
    ] {
        manager.handle_frame(socket, Frame::text(frame), now);
        while manager.poll_transmit().is_some() {}
    }
    assert_eq!(manager.active_channels().count(), 0);
    let mut told = Vec::new();
    while let Some(event) = manager.poll_event() {
        if let ManagerEvent::Channel { status, .. } = event {
            told.push(status.as_str());
        }
    }
    assert_eq!(told.last(), Some(&"closed"), "{told:?}");
}

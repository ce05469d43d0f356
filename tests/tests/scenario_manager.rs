//! The channel manager: many listeners, one channel on the wire.

use core::time::Duration;

use realtime_proto::manager::{
    ChannelSettings, ChannelStatus, EntityKey, EntityOptions, Kind, LeaseEvent, LeaseId,
    ManagerConfig, ManagerError, ManagerEvent, User,
};
use realtime_proto::server::{RowChange, ServerConfig, ServerEvent};
use realtime_proto::supabase::ChangeEvent;
use realtime_proto::{CloseReason, Config, Outcome, Payload, Stream};
use realtime_sim::{Network, NodeId, World};
use realtime_tests::entities::{
    changes, connected, contact, frames, millis, payload, release, secs, statuses, subscribe,
    subscribe_to, told,
};

const TOPIC: &str = "realtime:subscription:contact:123";

fn key(kind: Kind) -> EntityKey {
    EntityKey { kind, entity: contact() }
}

#[test]
fn three_leases_share_one_wire_channel() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let leases = [(); 3].map(|()| subscribe(&mut world, node));
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join"]);
    let change = RowChange::insert("contacts", payload(r#"{"id":123}"#)).unwrap();
    assert_eq!(world.server(|server, now| server.change(&change, now)), 1);
    let other = RowChange::insert("contacts", payload(r#"{"id":124}"#)).unwrap();
    assert_eq!(world.server(|server, now| server.change(&other, now)), 0);
    world.run_for(secs(1));
    for lease in leases {
        assert_eq!(statuses(&world, node, lease), ["connecting", "connected", "live"]);
        assert_eq!(changes(&world, node, lease), 1);
    }
}

#[test]
fn the_wire_channel_asks_for_the_union_and_each_lease_gets_its_own() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let with = |event| EntityOptions { event, ..EntityOptions::default() };
    let inserts = subscribe_to(&mut world, node, &contact(), &with(ChangeEvent::Insert));
    world.run_for(secs(1));
    let deletes = subscribe_to(&mut world, node, &contact(), &with(ChangeEvent::Delete));
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join", "phx_join"], "one join for the new one");
    let row = payload(r#"{"id":123}"#);
    let insert = RowChange::insert("contacts", row.clone()).unwrap();
    let delete = RowChange::delete("contacts", row).unwrap();
    world.server(|server, now| {
        server.change(&insert, now);
        server.change(&delete, now);
    });
    world.run_for(secs(1));
    assert_eq!(changes(&world, node, inserts), 1);
    assert_eq!(changes(&world, node, deletes), 1);
    assert_eq!(world.server(|server, _| server.stats().channels), 1);
}

#[test]
fn a_listener_that_asks_for_more_of_a_live_channel_is_told_live_once_that_flows() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let with = |event| EntityOptions { event, ..EntityOptions::default() };
    let inserts = subscribe_to(&mut world, node, &contact(), &with(ChangeEvent::Insert));
    world.run_for(secs(1));
    let deletes = subscribe_to(&mut world, node, &contact(), &with(ChangeEvent::Delete));
    assert_eq!(statuses(&world, node, deletes), ["connected"], "its deletes do not flow yet");
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, deletes), ["connected", "live"]);
    let all = ["connecting", "connected", "live", "connected", "live"];
    assert_eq!(statuses(&world, node, inserts), all);
    // What is asked for already costs nobody anything.
    let again = subscribe_to(&mut world, node, &contact(), &with(ChangeEvent::Insert));
    assert_eq!(statuses(&world, node, again), ["live"]);
}

/// How many words of missed messages, and of missed row changes, a listener was told.
fn gaps(world: &World, node: NodeId, lease: LeaseId) -> (usize, usize) {
    let streams = told(world, node, lease).filter_map(|event| match event {
        LeaseEvent::Gap(gap) => Some(gap.stream == Stream::Messages),
        _ => None,
    });
    let (messages, changes): (Vec<bool>, Vec<bool>) = streams.partition(|is_messages| *is_messages);
    (messages.len(), changes.len())
}

#[test]
fn who_comes_while_the_channel_is_away_is_told_only_of_what_is_missed_later() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let early = subscribe(&mut world, node);
    world.run_for(secs(1));
    // At the very moment of the loss, too.
    world.manager(node, |manager, now| manager.disconnect(now));
    let at_once = subscribe(&mut world, node);
    world.run_for(millis(10));
    world.manager(node, |manager, now| manager.connect(now));
    let late = subscribe(&mut world, node);
    world.run_for(secs(1));
    assert_eq!(gaps(&world, node, early), (1, 1));
    for lease in [at_once, late] {
        assert_eq!(statuses(&world, node, lease), ["connecting", "connected", "live"]);
        assert_eq!(gaps(&world, node, lease), (0, 0), "{lease} had missed nothing");
    }
    world.cut(node);
    world.run_for(secs(10));
    for (lease, missed) in [(early, (2, 2)), (at_once, (1, 1)), (late, (1, 1))] {
        assert_eq!(statuses(&world, node, lease).last(), Some(&"live"));
        assert_eq!(gaps(&world, node, lease), missed, "{lease}");
    }
}

#[test]
fn who_opens_a_channel_anew_at_the_moment_of_its_loss_is_told_nothing_of_it() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let once = ChannelSettings { auto_reconnect: false, ..ChannelSettings::default() };
    let options = EntityOptions { channel: Some(once), ..EntityOptions::default() };
    let early = subscribe_to(&mut world, node, &contact(), &options);
    world.run_for(secs(1));
    world.cut(node);
    assert_eq!(statuses(&world, node, early).last(), Some(&"error"));
    let late = subscribe_to(&mut world, node, &contact(), &options);
    world.run_for(secs(10));
    assert_eq!(statuses(&world, node, late), ["connecting", "connected", "live"]);
    assert_eq!(gaps(&world, node, early), (1, 1));
    assert_eq!(gaps(&world, node, late), (0, 0));
}

#[test]
fn the_last_release_leaves_after_the_linger() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let first = subscribe(&mut world, node);
    let second = subscribe(&mut world, node);
    world.run_for(secs(1));
    let mut from = 1;
    release(&mut world, node, first);
    world.run_for(secs(5));
    release(&mut world, node, second);
    world.run_for(millis(999));
    assert_eq!(frames(&world, node, &mut from), [] as [&str; 0]);
    world.run_for(millis(1));
    assert_eq!(frames(&world, node, &mut from), ["phx_leave"]);
    world.run_for(secs(1));
    assert!(!world.manager(node, |manager, _| manager.has_channel(&key(Kind::Subscription))));
    assert_eq!(world.server(|server, _| server.stats().channels), 0);
    assert_eq!(statuses(&world, node, second).last(), Some(&"ended"));
}

#[test]
fn a_component_that_goes_and_comes_back_costs_no_frame() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let mut lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    for _ in 0..10 {
        release(&mut world, node, lease);
        world.run_for(millis(500));
        lease = subscribe(&mut world, node);
    }
    world.run_for(secs(5));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join"]);
    assert_eq!(statuses(&world, node, lease), ["live"]);
}

#[test]
fn an_entity_asked_for_while_its_channel_is_left_is_joined_anew() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    release(&mut world, node, lease);
    world.run_for(millis(1_010));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join", "phx_leave"]);
    let again = subscribe(&mut world, node);
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 2), ["phx_join"]);
    assert_eq!(statuses(&world, node, again), ["connecting", "connected", "live"]);
    assert_eq!(world.server(|server, _| server.stats().channels), 1);
}

#[test]
fn tenants_never_meet() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let [a, b] = ["a", "b"].map(|tenant| contact().in_tenant(tenant));
    let options = EntityOptions::default();
    let leases = [&a, &b].map(|entity| {
        world.manager(node, |manager, now| {
            manager.subscribe_to_entity(entity, &options, now).unwrap()
        })
    });
    let other = connected(&mut world);
    world.run_for(secs(1));
    world
        .manager(other, |manager, now| manager.broadcast(&a, "hi", Payload::empty(), now))
        .unwrap();
    world.run_for(secs(1));
    let got = |lease| {
        let is_broadcast = |(_, event): &&(_, ManagerEvent)| matches!(event, ManagerEvent::Lease(of, LeaseEvent::Broadcast(_)) if *of == lease);
        world.manager_log(node).iter().filter(is_broadcast).count()
    };
    assert_eq!(leases.map(got), [1, 0]);
}

#[test]
fn cleanup_leaves_every_channel_and_ends_every_lease() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let rows = subscribe(&mut world, node);
    let seat = world
        .manager(node, |manager, now| manager.join_presence(&contact(), User::new("u1"), now))
        .unwrap();
    world.run_for(secs(1));
    assert_eq!(world.server(|server, _| server.stats().channels), 2);
    world.manager(node, |manager, now| manager.cleanup_all_channels(now));
    assert_eq!(statuses(&world, node, rows).last(), Some(&"ended"));
    assert_eq!(statuses(&world, node, seat).last(), Some(&"ended"));
    world.run_for(millis(100));
    assert_eq!(world.manager(node, |manager, _| manager.active_channels().count()), 0);
    let stats = world.server(|server, _| server.stats());
    assert_eq!((stats.channels, stats.presences, stats.sessions), (0, 0, 1));
}

#[test]
fn five_attempts_then_an_error_then_retry_works() {
    let refusing = ServerConfig {
        refuse_joins: vec![(TOPIC.into(), "UnableToConnectToProject: busy".into())],
        join_refusal_after: Duration::ZERO,
        ..ServerConfig::default()
    };
    let mut world = World::seed(1).with_server(refusing);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(600));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join"; 6], "the first and five more");
    let mut expected = vec!["connecting"];
    expected.extend(["reconnecting"; 5]);
    expected.push("error");
    assert_eq!(statuses(&world, node, lease), expected);
    let at: Vec<u64> = world
        .sent(node)
        .iter()
        .filter(|(_, line)| line.ends_with("phx_join"))
        .map(|(at, _)| at.since_epoch().as_secs())
        .collect();
    assert_eq!(at, [0, 3, 9, 21, 45, 93], "3 s, doubling");

    world.server(|server, _| server.set_config(ServerConfig::default()));
    world.cut(node);
    world.run_for(secs(60));
    assert_eq!(statuses(&world, node, lease).len(), 7, "another connection is no reason to try");
    world.manager(node, |manager, now| manager.retry(&key(Kind::Subscription), now)).unwrap();
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease)[7..], ["connecting", "connected", "live"]);
}

#[test]
fn a_broadcast_before_the_join_arrives_however_short_the_linger_is() {
    for linger in [secs(1), Duration::ZERO] {
        // A slow network: the channel is joined long after nobody holds it any more.
        let mut world = World::seed(1);
        let bob = connected(&mut world);
        subscribe(&mut world, bob);
        let slow = Network { delay: millis(800), ..Network::default() };
        let mut world = world.with_network(slow);
        let config = Config::builder("ws://server/socket").build().unwrap();
        let ana = world.add_manager(ManagerConfig::new(config).with_linger(linger));
        let push = world
            .manager(ana, |manager, now| {
                manager.connect(now);
                manager.broadcast(&contact(), "hi", Payload::empty(), now)
            })
            .unwrap();
        world.run_for(secs(10));
        let ended = world.manager_log(ana).iter().filter_map(|(_, event)| match event {
            ManagerEvent::PushEnded { push, outcome } => Some((*push, outcome.clone())),
            _ => None,
        });
        assert_eq!(ended.collect::<Vec<_>>(), [(push, Outcome::Sent)]);
        let arrived = world
            .manager_log(bob)
            .iter()
            .filter(|(_, event)| matches!(event, ManagerEvent::Lease(_, LeaseEvent::Broadcast(_))));
        assert_eq!(arrived.count(), 1);
        world.run_for(secs(5));
        let rows = world.manager(ana, |manager, _| manager.active_channels().count());
        assert_eq!(rows, 0, "it is left");
    }
}

#[test]
fn a_second_user_on_one_presence_key_is_refused() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let join = |world: &mut World, user: &str| {
        let user = User::new(user);
        world.manager(node, |manager, now| manager.join_presence(&contact(), user, now))
    };
    let seat = join(&mut world, "u1").unwrap();
    let refused = join(&mut world, "u2").unwrap_err();
    assert_eq!(
        refused,
        ManagerError::OtherUser { entity: contact(), present: "u1".into(), asked: "u2".into() },
    );
    assert!(join(&mut world, "u1").is_ok(), "the same user may hold it twice");
    world.run_for(secs(1));
    assert_eq!(world.server(|server, _| server.stats().presences), 1);
    release(&mut world, node, seat);
}

#[test]
fn another_user_may_follow_at_once_when_nobody_holds_the_seat_any_more() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let join = |world: &mut World, user: &str| {
        let user = User::new(user);
        world.manager(node, |manager, now| manager.join_presence(&contact(), user, now)).unwrap()
    };
    let seat = join(&mut world, "u1");
    world.run_for(secs(1));
    release(&mut world, node, seat);
    join(&mut world, "u2");
    world.run_for(secs(1));
    let users = world.manager(node, |manager, _| manager.presence_state(&contact()));
    assert_eq!(users.iter().map(|user| &*user.user_id).collect::<Vec<_>>(), ["u2"]);
    let tracked = world.server_log().iter().filter_map(|(_, event)| match event {
        ServerEvent::Tracked { key, .. } => Some(&**key),
        _ => None,
    });
    assert_eq!(tracked.collect::<Vec<_>>(), ["u1", "u2"]);
}

#[test]
fn every_listener_hears_that_the_channel_is_lost_and_back() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let leases = [(); 2].map(|()| subscribe(&mut world, node));
    world.run_for(secs(1));
    world.cut(node);
    world.run_for(secs(3));
    for lease in leases {
        assert_eq!(
            statuses(&world, node, lease),
            ["connecting", "connected", "live", "reconnecting", "connected", "live"],
        );
    }
}

#[test]
fn a_status_says_when_the_next_attempt_is_made() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    subscribe(&mut world, node);
    world.run_for(secs(1));
    world.cut(node);
    let row = world.manager(node, |manager, _| manager.active_channels().next()).unwrap();
    let ChannelStatus::Reconnecting { attempt: 1, next_at: Some(at), .. } = row.status else {
        panic!("{row:?}");
    };
    assert!(at > world.now() && at <= world.now() + secs(1));
    let before = world.now();
    world.run_until(at);
    assert!(world.now() > before);
}

#[test]
fn a_connection_that_is_given_up_is_an_error_for_every_listener() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    let (status, body) = (401, String::new());
    world.refuse_next(node, CloseReason::Refused { status, body, retry_after: None });
    world.cut(node);
    world.run_for(secs(60));
    assert_eq!(statuses(&world, node, lease)[3..], ["reconnecting", "error"]);
    world.manager(node, |manager, now| manager.set_access_token(Some("fresh".into()), now));
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease)[5..], ["connecting", "connected", "live"]);
}

#[test]
fn each_failed_attempt_to_connect_says_when_the_next_one_is() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    let detail = || "no route to host".to_string();
    (0..3).for_each(|_| world.refuse_next(node, CloseReason::Unreachable { detail: detail() }));
    world.cut(node);
    world.run_for(secs(60));
    let next_at = world.manager_log(node).iter().filter_map(|(told_at, event)| match event {
        ManagerEvent::Lease(_, LeaseEvent::Status(ChannelStatus::Reconnecting { next_at, .. })) => {
            Some((*told_at, next_at.unwrap()))
        }
        _ => None,
    });
    let next_at: Vec<_> = next_at.collect();
    assert_eq!(next_at.len(), 4, "one loss and three failures");
    assert!(next_at.iter().all(|(told_at, next_at)| next_at > told_at));
    assert_eq!(statuses(&world, node, lease).last(), Some(&"live"));
}

#[test]
fn failed_connections_are_counted_and_cost_a_channel_none_of_its_attempts() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    // More than the five that a channel has.
    for _ in 0..8 {
        let detail = "no route to host".to_string();
        world.refuse_next(node, CloseReason::Unreachable { detail });
    }
    world.cut(node);
    world.run_for(secs(600));
    let attempts = told(&world, node, lease).filter_map(|event| match event {
        LeaseEvent::Status(ChannelStatus::Reconnecting { attempt, .. }) => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempts.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(statuses(&world, node, lease).last(), Some(&"live"));
    let rows: Vec<_> = world.manager(node, |manager, _| manager.active_channels().collect());
    assert_eq!(rows[0].attempts, 0, "it is live again");
}

#[test]
fn nothing_is_reconnecting_once_the_application_disconnects() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    world.cut(node);
    world.manager(node, |manager, now| manager.disconnect(now));
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease)[3..], ["reconnecting", "connecting"]);
}

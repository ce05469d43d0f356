//! What shared channels are like: their settings, tenants, quotas, and the connections they are on.

use realtime_proto::manager::{
    ChannelSettings, ChannelStatus, Connection, EntityKey, EntityOptions, LeaseEvent,
    ManagerConfig, ManagerError, ManagerEvent, PresenceOptions, SendOptions, User,
};
use realtime_proto::server::{RowChange, ServerConfig};
use realtime_proto::supabase::CauseKind;
use realtime_proto::{CloseReason, ConnectionState, Outcome, Payload, PushId, PushOptions, Status};
use realtime_sim::{NodeId, World};
use realtime_tests::entities::{
    changes, config, connected, connected_with, contact, frames, millis, nth, payload, release,
    secs, statuses, subscribe, subscribe_to, subscribe_to_many, told,
};

fn with(channel: ChannelSettings) -> EntityOptions {
    EntityOptions { channel: Some(channel), ..EntityOptions::default() }
}

fn connections(world: &mut World, node: NodeId) -> Vec<usize> {
    let there = world.manager(node, |manager, _| manager.connections());
    let open = |it: &&Connection| it.state == ConnectionState::Connected;
    there.iter().filter(open).map(|it| it.channels).collect()
}

#[test]
fn a_private_channel_and_a_public_one_do_not_share_a_key() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let private = ChannelSettings { private: true, ..ChannelSettings::default() };
    let lease = subscribe_to(&mut world, node, &contact(), &with(private));
    let public = with(ChannelSettings::default());
    let conflict = world
        .manager(node, |manager, now| manager.subscribe_to_entity(&contact(), &public, now))
        .unwrap_err();
    let key = EntityKey::subscription(contact());
    assert_eq!(conflict, ManagerError::Conflict { key, setting: "private" });
    assert_eq!(
        conflict.to_string(),
        "the subscription channel of contact:123 is shared, and its `private` is not what was \
         asked for; leave the setting out to take part, or wait until leases and broadcasts of it have ended",
    );
    // Whoever does not care takes part.
    let other = subscribe(&mut world, node);
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join"]);
    for lease in [lease, other] {
        release(&mut world, node, lease);
    }
    // Nobody holds it any more, so that another kind may follow at once.
    let lease = subscribe_to(&mut world, node, &contact(), &public);
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 1), ["phx_leave", "phx_join"]);
    assert_eq!(statuses(&world, node, lease), ["connecting", "connected", "live"]);
}

#[test]
fn a_presence_channel_has_settings_of_its_own() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let private = ChannelSettings { private: true, ..ChannelSettings::default() };
    let options = PresenceOptions { channel: Some(private), ..PresenceOptions::default() };
    let seat = |world: &mut World, options: &PresenceOptions| {
        world.manager(node, |manager, now| {
            manager.join_presence_with(&contact(), User::new("u1"), options, now)
        })
    };
    seat(&mut world, &options).unwrap();
    subscribe(&mut world, node);
    let public = PresenceOptions { channel: Some(ChannelSettings::default()), ..options };
    assert!(matches!(seat(&mut world, &public), Err(ManagerError::Conflict { .. })));
}

#[test]
fn a_channel_that_is_not_to_come_back_waits_until_it_is_asked_for() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let once = ChannelSettings { auto_reconnect: false, ..ChannelSettings::default() };
    let lease = subscribe_to(&mut world, node, &contact(), &with(once));
    let other = subscribe_to(&mut world, node, &nth(1), &EntityOptions::default());
    world.run_for(secs(1));
    world.cut(node);
    world.run_for(secs(600));
    assert_eq!(statuses(&world, node, lease)[2..], ["live", "error"]);
    assert_eq!(statuses(&world, node, other)[2..], ["live", "reconnecting", "connected", "live"]);
    let key = EntityKey::subscription(contact());
    world.manager(node, |manager, now| manager.retry(&key, now)).unwrap();
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease)[4..], ["connecting", "connected", "live"]);
}

#[test]
fn a_channel_may_have_a_first_delay_of_its_own() {
    let refusing = ServerConfig {
        refuse_joins: vec![(EntityKey::subscription(contact()).topic(), "JoinError: no".into())],
        join_refusal_after: millis(0),
        ..ServerConfig::default()
    };
    let mut world = World::seed(1).with_server(refusing);
    let node = connected(&mut world);
    let patient =
        ChannelSettings { reconnect_delay: Some(secs(100)), ..ChannelSettings::default() };
    let lease = subscribe_to(&mut world, node, &contact(), &with(patient));
    world.run_for(secs(2_000));
    let joins: Vec<u64> = world
        .sent(node)
        .iter()
        .filter(|(_, line)| line.ends_with("phx_join"))
        .map(|(at, _)| at.since_epoch().as_secs())
        .collect();
    assert_eq!(joins, [0, 100, 200, 300, 400, 500], "no delay is longer than the first");
    assert_eq!(statuses(&world, node, lease).last(), Some(&"error"));
}

#[test]
fn an_error_tells_its_cause_and_what_to_do() {
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic";
    let refusing = ServerConfig {
        refuse_joins: vec![(EntityKey::subscription(contact()).topic(), reason.into())],
        ..ServerConfig::default()
    };
    let mut world = World::seed(1).with_server(refusing);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(60));
    let error = told(&world, node, lease).find_map(|event| match event {
        LeaseEvent::Status(ChannelStatus::Error { cause }) => Some(cause.clone()),
        _ => None,
    });
    let cause = error.unwrap();
    assert_eq!(cause.kind, CauseKind::Unauthorized);
    assert_eq!(cause.text, reason);
    assert!(cause.kind.advice().contains("policies"));
    let row = world.manager(node, |manager, _| manager.active_channels().next()).unwrap();
    assert_eq!(row.last_error, Some(cause));
    assert_eq!((row.attempts, row.listeners), (1, 1));
}

#[test]
fn a_broadcast_is_acknowledged_where_that_was_asked_for() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let ack = ChannelSettings { ack: true, ..ChannelSettings::default() };
    subscribe_to(&mut world, node, &contact(), &with(ack));
    subscribe_to(&mut world, node, &nth(1), &EntityOptions::default());
    let pushes = [contact(), nth(1)].map(|entity| {
        let sent = |manager: &mut realtime_proto::manager::Manager, now| {
            manager.broadcast(&entity, "hi", Payload::empty(), now)
        };
        world.manager(node, sent).unwrap()
    });
    world.run_for(secs(1));
    let outcomes = pushes.map(|push| {
        let mut log = world.manager_log(node).iter();
        log.find_map(|(_, event)| match event {
            ManagerEvent::PushEnded { push: of, outcome } if *of == push => Some(outcome.clone()),
            _ => None,
        })
    });
    let [Some(Outcome::Replied { status, .. }), Some(Outcome::Sent)] = outcomes else {
        panic!("{outcomes:?}");
    };
    assert_eq!(status, Status::Ok);
}

#[test]
fn unsubscribing_ends_all_leases_of_a_key_and_of_no_other() {
    // Thread 33: removing one channel must not remove others, and must remove it.
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let leases = [(); 2].map(|()| subscribe(&mut world, node));
    let other = subscribe_to(&mut world, node, &nth(1), &EntityOptions::default());
    world.run_for(secs(1));
    let key = EntityKey::subscription(contact());
    assert!(world.manager(node, |manager, now| manager.unsubscribe(&key, now)));
    assert!(!world.manager(node, |manager, now| manager.unsubscribe(&key, now)), "it is gone");
    world.run_for(secs(1));
    for lease in leases {
        assert_eq!(statuses(&world, node, lease)[2..], ["live", "closed", "ended"]);
    }
    assert_eq!(statuses(&world, node, other), ["connecting", "connected", "live"]);
    assert!(!world.manager(node, |manager, _| manager.has_channel(&key)));
    assert_eq!(world.server(|server, _| server.stats().channels), 1);
}

#[test]
fn a_tenant_has_its_quota_its_numbers_and_its_clean_up() {
    let mut world = World::seed(1);
    let node = connected_with(&mut world, config().with_tenant_channels_max(2));
    let of = |tenant: &str, n: usize| nth(n).in_tenant(tenant);
    let options = EntityOptions::default();
    for (tenant, n) in [("acme", 1), ("acme", 2), ("initech", 1)] {
        subscribe_to(&mut world, node, &of(tenant, n), &options);
    }
    // A second lease on what is there takes no room.
    let lease = subscribe_to(&mut world, node, &of("acme", 1), &options);
    let full = world
        .manager(node, |manager, now| manager.subscribe_to_entity(&of("acme", 3), &options, now))
        .unwrap_err();
    assert_eq!(full, ManagerError::TenantFull { tenant: "acme".into(), max: 2 });
    world.run_for(secs(1));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    let by_tenant: Vec<_> = stats
        .by_tenant
        .iter()
        .map(|(name, of)| (&**name, of.channels, of.channels_max, of.live, of.listeners))
        .collect();
    assert_eq!(by_tenant, [("acme", 2, Some(2), 2, 3), ("initech", 1, Some(2), 1, 1)]);
    let change = RowChange::insert("contacts", payload(r#"{"id":1}"#)).unwrap();
    assert_eq!(world.server(|server, now| server.change(&change, now)), 2, "one of each tenant");
    world.run_for(secs(1));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    assert_eq!(stats.by_tenant["acme"].delivered, 1, "it came once, however many listen");
    world.manager(node, |manager, now| manager.cleanup_tenant("acme", now));
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease).last(), Some(&"ended"));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    assert_eq!((stats.total, stats.by_tenant["initech"].channels), (1, 1));
    subscribe_to(&mut world, node, &of("acme", 3), &options);
}

#[test]
fn the_audit_tells_who_holds_what_since_when() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let labelled =
        |label: &str| EntityOptions { label: Some(label.into()), ..EntityOptions::default() };
    let card = subscribe_to(&mut world, node, &contact(), &labelled("card"));
    world.run_for(secs(5));
    let list = subscribe_to(&mut world, node, &contact(), &labelled("list"));
    world.run_for(secs(1));
    let stats = world.manager(node, |manager, _| manager.channel_stats());
    let held: Vec<_> = stats
        .held
        .iter()
        .map(|held| (held.lease, held.label.as_deref().unwrap(), held.since.since_epoch()))
        .collect();
    assert_eq!(held, [(card, "card", millis(100)), (list, "list", millis(5_100))]);
    assert_eq!((stats.total, stats.by_status["live"]), (1, 1));
}

#[test]
fn more_channels_than_one_connection_takes_are_spread_over_more() {
    let mut world = World::seed(1);
    let node = connected_with(&mut world, config().with_channels_per_connection_max(10));
    let leases = subscribe_to_many(&mut world, node, 35);
    world.run_for(secs(2));
    assert_eq!(connections(&mut world, node), [10, 10, 10, 5]);
    for lease in &leases {
        assert_eq!(statuses(&world, node, *lease).last(), Some(&"live"));
    }
    assert_eq!(world.server(|server, _| server.stats().sessions), 4);
    // What goes leaves room, and a connection without channels is closed after a while.
    for lease in &leases[10..] {
        release(&mut world, node, *lease);
    }
    world.run_for(secs(3));
    assert_eq!(connections(&mut world, node), [10, 0, 0, 0]);
    world.run_for(secs(60));
    assert_eq!(connections(&mut world, node), [10]);
    assert_eq!(world.server(|server, _| server.stats().sessions), 1);
    assert_eq!(world.manager(node, |manager, _| manager.stats()).joins, 35, "all are counted");
}

#[test]
fn one_failing_connection_does_not_touch_the_others() {
    let mut world = World::seed(1);
    let node = connected_with(&mut world, config().with_channels_per_connection_max(2));
    let leases = subscribe_to_many(&mut world, node, 6);
    world.run_for(secs(1));
    let second = world.manager(node, |manager, _| manager.connections())[1].id;
    let (status, body) = (401, String::new());
    world.refuse_next(node, CloseReason::Refused { status, body, retry_after: None });
    world.cut_connection(node, second);
    world.run_for(secs(60));
    let all: Vec<_> = leases.iter().map(|lease| statuses(&world, node, *lease)).collect();
    for untouched in [0, 1, 4, 5] {
        assert_eq!(all[untouched], ["connecting", "connected", "live"]);
    }
    for lost in [2, 3] {
        assert_eq!(all[lost][3..], ["reconnecting", "error"]);
    }
    // Asking for one of them asks for its connection.
    let key = EntityKey::subscription(nth(2));
    world.manager(node, |manager, now| manager.retry(&key, now)).unwrap();
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, leases[2]).last(), Some(&"live"));
}

#[test]
fn a_manager_that_is_full_says_so_and_takes_more_once_there_is_room() {
    let mut world = World::seed(1);
    let settings = config().with_channels_per_connection_max(2).with_connections_max(2);
    let node = connected_with(&mut world, settings.with_leases_max(5));
    let leases = subscribe_to_many(&mut world, node, 4);
    let refused = |world: &mut World, n| {
        let options = EntityOptions::default();
        world
            .manager(node, |manager, now| manager.subscribe_to_entity(&nth(n), &options, now))
            .unwrap_err()
    };
    assert_eq!(refused(&mut world, 9), ManagerError::Full { max: 4 });
    subscribe_to(&mut world, node, &nth(0), &EntityOptions::default());
    assert_eq!(refused(&mut world, 0), ManagerError::TooManyLeases { max: 5 });
    release(&mut world, node, leases[3]);
    world.run_for(secs(2));
    subscribe_to(&mut world, node, &nth(9), &EntityOptions::default());
}

#[test]
fn a_token_that_all_connections_miss_is_asked_for_once() {
    let guarded = ServerConfig { apikey: Some("good".into()), ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(guarded);
    let client = realtime_proto::Config::builder("ws://server/socket").apikey("good");
    let settings = ManagerConfig::new(client.build().unwrap()).with_channels_per_connection_max(1);
    let node = connected_with(&mut world, settings);
    let leases = subscribe_to_many(&mut world, node, 5);
    world.run_for(secs(1));
    assert_eq!(connections(&mut world, node), [1; 5]);
    world.manager(node, |manager, now| manager.set_param("apikey", Some("bad".into()), now));
    world.cut(node);
    world.run_for(secs(60));
    let asked = world.manager_log(node).iter();
    let asked = asked.filter(|(_, event)| matches!(event, ManagerEvent::TokenNeeded { .. }));
    assert_eq!(asked.count(), 1);
    world.manager(node, |manager, now| manager.set_param("apikey", Some("good".into()), now));
    world.run_for(secs(60));
    for lease in leases {
        assert_eq!(statuses(&world, node, lease).last(), Some(&"live"));
    }
    // A connection that is opened later has the key as well.
    let late = subscribe_to(&mut world, node, &nth(9), &EntityOptions::default());
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, late).last(), Some(&"live"));
}

#[test]
fn a_broadcast_waits_for_its_join_as_long_as_it_was_given() {
    let mut world = World::seed(1);
    let node = world.add_manager(config());
    let send = |world: &mut World, options| {
        world
            .manager(node, |manager, now| {
                manager.broadcast_with(&contact(), "hi", Payload::empty(), options, now)
            })
            .unwrap()
    };
    let brief = PushOptions::new().with_time_to_live(secs(2));
    let brief = SendOptions { broadcast: brief.into(), ..SendOptions::default() };
    let brief = send(&mut world, brief);
    let patient = send(&mut world, SendOptions::default());
    world.run_for(secs(5));
    world.manager(node, |manager, now| manager.connect(now));
    world.run_for(secs(1));
    assert_eq!(ended(&world, node), [(brief, Outcome::Expired), (patient, Outcome::Sent)]);
    // Where the server's word is asked for, the outcome is that.
    let channel = Some(ChannelSettings { ack: true, ..ChannelSettings::default() });
    let acknowledged = SendOptions { channel, ..SendOptions::default() };
    world.run_for(secs(5));
    let acknowledged = send(&mut world, acknowledged);
    world.run_for(secs(1));
    let last = ended(&world, node).pop().unwrap();
    assert!(matches!(&last, (push, Outcome::Replied { .. }) if *push == acknowledged), "{last:?}");
}

/// The broadcasts that have ended, and how.
fn ended(world: &World, node: NodeId) -> Vec<(PushId, Outcome)> {
    let ended = world.manager_log(node).iter().filter_map(|(_, event)| match event {
        ManagerEvent::PushEnded { push, outcome } => Some((*push, outcome.clone())),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_broadcast_that_waits_is_not_given_up_for_other_settings() {
    let mut world = World::seed(1);
    let node = world.add_manager(config());
    let private = ChannelSettings { private: true, ..ChannelSettings::default() };
    world
        .manager(node, |manager, now| manager.broadcast(&contact(), "hi", Payload::empty(), now))
        .unwrap();
    let conflict = world
        .manager(node, |manager, now| manager.subscribe_to_entity(&contact(), &with(private), now))
        .unwrap_err();
    assert!(matches!(conflict, ManagerError::Conflict { setting: "private", .. }), "{conflict}");
    world.manager(node, |manager, now| manager.connect(now));
    world.run_for(secs(1));
    assert!(matches!(ended(&world, node)[..], [(_, Outcome::Sent)]));
    subscribe_to(&mut world, node, &contact(), &with(private));
}

#[test]
fn a_row_has_to_fulfil_the_extra_filter_too() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let extra_filter = Some("state=eq.open".into());
    let options = EntityOptions { extra_filter, ..EntityOptions::default() };
    let lease = subscribe_to(&mut world, node, &contact(), &options);
    world.run_for(secs(1));
    for (row, told) in [
        (r#"{"id":123,"state":"open"}"#, 1),
        (r#"{"id":123,"state":"done"}"#, 0),
        (r#"{"id":124,"state":"open"}"#, 0),
    ] {
        let change = RowChange::insert("contacts", payload(row)).unwrap();
        assert_eq!(world.server(|server, now| server.change(&change, now)), told, "{row}");
    }
    world.run_for(secs(1));
    assert_eq!(changes(&world, node, lease), 1);
}

#[test]
fn what_is_tried_again_is_not_shown_as_given_up() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    let (status, body) = (401, String::new());
    world.refuse_next(node, CloseReason::Refused { status, body, retry_after: None });
    world.cut(node);
    world.run_for(secs(60));
    assert_eq!(statuses(&world, node, lease).last(), Some(&"error"));
    // Another token is a reason to try, and so is the application's word.
    world.manager(node, |manager, now| manager.set_access_token(Some("new".into()), now));
    assert_eq!(statuses(&world, node, lease).last(), Some(&"connecting"));
    world.run_for(secs(1));
    assert_eq!(statuses(&world, node, lease).last(), Some(&"live"));
}

#[test]
fn every_heartbeat_is_told_with_its_connection() {
    let mut world = World::seed(1);
    let node = connected_with(&mut world, config().with_channels_per_connection_max(1));
    subscribe_to_many(&mut world, node, 2);
    world.run_for(secs(60));
    let beats = world.manager_log(node).iter().filter_map(|(_, event)| match event {
        ManagerEvent::Heartbeat { connection, .. } => Some(connection.to_string()),
        _ => None,
    });
    assert_eq!(beats.collect::<Vec<_>>(), ["connection0", "connection1"].repeat(2));
}

#[test]
fn who_wants_rows_of_a_channel_that_has_none_is_not_told_live_before_they_flow() {
    let mut world = World::seed(1);
    let node = connected(&mut world);
    // A broadcast opens the channel of an entity that nobody listens to.
    world
        .manager(node, |manager, now| manager.broadcast(&contact(), "hi", Payload::empty(), now))
        .unwrap();
    world.run_for(millis(500));
    let lease = subscribe(&mut world, node);
    world.run_for(secs(1));
    assert_eq!(frames(&world, node, &mut 0), ["phx_join", "broadcast", "phx_join"]);
    assert_eq!(statuses(&world, node, lease), ["connected", "live"]);
}

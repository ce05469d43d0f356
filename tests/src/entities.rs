//! A world with managers in it, and what their listeners were told.

use core::time::Duration;

use realtime_proto::manager::{
    Entity, EntityOptions, LeaseEvent, LeaseId, ManagerConfig, ManagerEvent, User, UserDiff,
};
use realtime_proto::{Backoff, Config, Payload};
use realtime_sim::{NodeId, World};

/// So many seconds.
#[must_use]
pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// So many milliseconds.
#[must_use]
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The entity most tests are about.
#[must_use]
pub fn contact() -> Entity {
    Entity::new("contact", "123")
}

/// A JSON payload.
///
/// # Panics
///
/// When `text` is not JSON.
#[must_use]
pub fn payload(text: &str) -> Payload {
    Payload::from_json(text).expect("a payload of a test is JSON")
}

/// Settings of a manager whose retries have no jitter.
///
/// # Panics
///
/// Never: the URL is a good one.
#[must_use]
pub fn config() -> ManagerConfig {
    let retries = Backoff::exponential(secs(3), secs(60)).without_jitter().with_attempts_max(5);
    let config = Config::builder("ws://server/socket").build().expect("a good URL");
    ManagerConfig::new(config).with_rejoin(retries)
}

/// A manager that is connected.
pub fn connected(world: &mut World) -> NodeId {
    connected_with(world, config())
}

/// A manager with these settings that is connected.
pub fn connected_with(world: &mut World, config: ManagerConfig) -> NodeId {
    let node = world.add_manager(config);
    world.manager(node, |manager, now| manager.connect(now));
    world.run_for(millis(100));
    node
}

/// A lease on the row of [`contact`].
///
/// # Panics
///
/// When the manager refuses.
pub fn subscribe(world: &mut World, node: NodeId) -> LeaseId {
    subscribe_to(world, node, &contact(), &EntityOptions::default())
}

/// A lease on the row of an entity.
///
/// # Panics
///
/// When the manager refuses.
pub fn subscribe_to(
    world: &mut World,
    node: NodeId,
    entity: &Entity,
    options: &EntityOptions,
) -> LeaseId {
    world
        .manager(node, |manager, now| manager.subscribe_to_entity(entity, options, now))
        .expect("the manager takes the lease")
}

/// One of many contacts.
#[must_use]
pub fn nth(n: usize) -> Entity {
    Entity::new("contact", n.to_string())
}

/// Leases on so many contacts.
///
/// # Panics
///
/// When the manager refuses.
pub fn subscribe_to_many(world: &mut World, node: NodeId, count: usize) -> Vec<LeaseId> {
    let options = EntityOptions::default();
    (0..count).map(|n| subscribe_to(world, node, &nth(n), &options)).collect()
}

/// A lease on the presence of [`contact`].
///
/// # Panics
///
/// When the manager refuses.
pub fn join(world: &mut World, node: NodeId, user: User) -> LeaseId {
    world
        .manager(node, |manager, now| manager.join_presence(&contact(), user, now))
        .expect("the manager takes the lease")
}

/// Releases a lease that is held.
///
/// # Panics
///
/// When it is not.
pub fn release(world: &mut World, node: NodeId, lease: LeaseId) {
    assert!(world.manager(node, |manager, now| manager.release(lease, now)), "{lease} is held");
}

/// The events of the frames that were sent since the last call, without topics and refs.
///
/// # Panics
///
/// Never: a frame's line has words.
pub fn frames(world: &World, node: NodeId, from: &mut usize) -> Vec<String> {
    let sent = &world.sent(node)[*from..];
    *from += sent.len();
    let events = sent.iter().filter_map(|(_, line)| Some(line.rsplit(' ').next()?.to_string()));
    events.filter(|event| event != "heartbeat").collect()
}

/// What a listener was told so far.
pub fn told(world: &World, node: NodeId, lease: LeaseId) -> impl Iterator<Item = &LeaseEvent> {
    world.manager_log(node).iter().filter_map(move |(_, event)| match event {
        ManagerEvent::Lease(of, event) if *of == lease => Some(event),
        _ => None,
    })
}

/// The statuses a listener was told, and `ended`.
#[must_use]
pub fn statuses(world: &World, node: NodeId, lease: LeaseId) -> Vec<&'static str> {
    let words = told(world, node, lease).filter_map(|event| match event {
        LeaseEvent::Status(status) => Some(status.as_str()),
        LeaseEvent::Ended => Some("ended"),
        _ => None,
    });
    words.collect()
}

/// How many row changes a listener was told.
#[must_use]
pub fn changes(world: &World, node: NodeId, lease: LeaseId) -> usize {
    told(world, node, lease).filter(|event| matches!(event, LeaseEvent::Change(_))).count()
}

/// Who a listener was told came, changed and went.
#[must_use]
pub fn people(world: &World, node: NodeId, lease: LeaseId) -> Vec<UserDiff> {
    let diffs = told(world, node, lease).filter_map(|event| match event {
        LeaseEvent::Presence(diff) => Some(diff.clone()),
        _ => None,
    });
    diffs.collect()
}

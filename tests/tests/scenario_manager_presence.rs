//! Who is looking at an entity: users instead of keys, and what one shows.

use core::time::Duration;

use realtime_proto::manager::{EntityKey, ManagerError, User, UserDiff};
use realtime_proto::server::ServerConfig;
use realtime_sim::{NodeId, World};
use realtime_tests::entities::{
    connected, contact, frames, join, millis, payload, people, release, secs, statuses,
};

/// 2026-11-22T20:39:54.250Z.
const UNIX: Duration = Duration::from_millis(1_795_379_994_250);

fn users(world: &mut World, node: NodeId) -> Vec<User> {
    world.manager(node, |manager, _| manager.presence_state(&contact()))
}

fn update(world: &mut World, node: NodeId, metadata: &str) -> Result<(), ManagerError> {
    let metadata = payload(metadata);
    world.manager(node, |manager, now| manager.update_presence_metadata(&contact(), &metadata, now))
}

fn ids(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| &*user.user_id).collect()
}

#[test]
fn a_user_is_seen_with_all_it_shows_and_since_when() {
    let mut world = World::seed(1);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    world.manager(ana, |manager, now| manager.set_unix_time(UNIX, now));
    let shown = User::new("u1")
        .with_name("Ana")
        .with_email("ana@example.com")
        .with_avatar("https://example.com/ana.png")
        .with_metadata(payload(r#"{"typing":false}"#));
    join(&mut world, ana, shown.clone());
    let seat = join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    let seen = users(&mut world, ben);
    assert_eq!(ids(&seen), ["u1", "u2"]);
    let expected = User { online_since: Some(UNIX), devices: 1, ..shown };
    assert_eq!(seen[0], expected);
    let told = people(&world, ben, seat);
    assert_eq!(told.iter().flat_map(|diff| &diff.joined).next(), Some(&expected));
    assert_eq!(seen[1].online_since, None, "ben's manager was never told the time");
}

#[test]
fn a_user_on_many_devices_is_one_entry_that_goes_with_the_last() {
    let mut world = World::seed(1);
    let ben = connected(&mut world);
    let seat = join(&mut world, ben, User::new("u2"));
    let devices = [(); 3].map(|()| connected(&mut world));
    let seats = devices.map(|node| join(&mut world, node, User::new("u1").with_name("Ana")));
    world.run_for(secs(1));
    let seen = users(&mut world, ben);
    assert_eq!(ids(&seen), ["u1", "u2"]);
    assert_eq!(seen[0].devices, 3);
    for (node, lease) in devices.into_iter().zip(seats) {
        release(&mut world, node, lease);
        world.run_for(secs(10));
    }
    let told = people(&world, ben, seat);
    let count = |of: fn(&UserDiff) -> &Vec<User>| {
        told.iter().flat_map(of).filter(|user| user.user_id == "u1").count()
    };
    assert_eq!(count(|diff| &diff.joined), 1, "one user came");
    assert_eq!(count(|diff| &diff.left), 1, "and went once");
    assert_eq!(told.last().unwrap().left[0].user_name.as_deref(), Some("Ana"));
}

#[test]
fn one_can_be_left_out_of_those_who_are_here() {
    let mut world = World::seed(1);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    join(&mut world, ana, User::new("u1"));
    join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    let others = world.manager(ana, |manager, _| manager.presence_of_others(&contact()));
    assert_eq!(ids(&others), ["u2"]);
    assert_eq!(ids(&users(&mut world, ana)), ["u1", "u2"]);
}

#[test]
fn metadata_is_merged_and_not_replaced() {
    let mut world = World::seed(1);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    let shown = User::new("u1").with_metadata(payload(r#"{"page":"notes","typing":false}"#));
    join(&mut world, ana, shown);
    let seat = join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    update(&mut world, ana, r#"{"typing":true,"line":[3,4]}"#).unwrap();
    world.run_for(secs(1));
    let updated = &people(&world, ben, seat).last().unwrap().updated[0].clone();
    assert_eq!(updated.metadata, payload(r#"{"line":[3,4],"page":"notes","typing":true}"#));
}

#[test]
fn a_typing_indicator_stays_within_what_the_server_takes() {
    // Thread 43: five calls in 30 s, then the channel is closed.
    let strict = ServerConfig { presence_calls_max: 5, ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(strict);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    let seat = join(&mut world, ana, User::new("u1"));
    join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    for keystroke in 0..600 {
        update(&mut world, ana, &format!(r#"{{"keystroke":{keystroke}}}"#)).unwrap();
        world.run_for(millis(100));
    }
    world.run_for(secs(30));
    assert_eq!(statuses(&world, ana, seat), ["connecting", "connected", "live"], "never closed");
    let calls = frames(&world, ana, &mut 0).iter().filter(|event| *event == "presence").count();
    assert!((5..=20).contains(&calls), "{calls} calls in 90 s");
    let seen = users(&mut world, ben);
    assert_eq!(seen[0].metadata, payload(r#"{"keystroke":599}"#), "the newest one arrived");
}

#[test]
fn what_cannot_be_shown_is_refused_and_changes_nothing() {
    let mut world = World::seed(1);
    let ana = connected(&mut world);
    let absent = update(&mut world, ana, r#"{"typing":true}"#).unwrap_err();
    assert_eq!(absent, ManagerError::NotPresent { entity: contact() });
    join(&mut world, ana, User::new("u1").with_metadata(payload(r#"{"page":1}"#)));
    world.run_for(secs(1));
    assert!(matches!(update(&mut world, ana, "[1]"), Err(ManagerError::Push(_))));
    let list = User::new("u1").with_metadata(payload("[1]"));
    let refused = world.manager(ana, |manager, now| manager.join_presence(&contact(), list, now));
    assert!(matches!(refused, Err(ManagerError::Push(_))));
    world.run_for(secs(1));
    assert_eq!(users(&mut world, ana)[0].metadata, payload(r#"{"page":1}"#));
}

#[test]
fn leaving_the_presence_ends_its_leases_and_everyone_sees_it() {
    let mut world = World::seed(1);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    let seats = [(); 2].map(|()| join(&mut world, ana, User::new("u1")));
    let watching = join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    assert!(world.manager(ana, |manager, now| manager.leave_presence(&contact(), now)));
    world.run_for(millis(100));
    for seat in seats {
        assert_eq!(statuses(&world, ana, seat)[2..], ["live", "closed", "ended"]);
    }
    assert_eq!(ids(&people(&world, ben, watching).last().unwrap().left), ["u1"]);
    let key = EntityKey::presence(contact());
    assert!(!world.manager(ana, |manager, _| manager.has_channel(&key)));
}

#[test]
fn nobody_comes_or_goes_while_the_connection_is_away() {
    let mut world = World::seed(1);
    let (ana, ben) = (connected(&mut world), connected(&mut world));
    join(&mut world, ana, User::new("u1"));
    let seat = join(&mut world, ben, User::new("u2"));
    world.run_for(secs(1));
    let before = people(&world, ben, seat).len();
    world.cut(ben);
    world.run_for(secs(10));
    assert_eq!(statuses(&world, ben, seat).last(), Some(&"live"));
    let told = people(&world, ben, seat);
    assert!(told[before..].iter().all(|diff| diff.joined.is_empty()), "{told:?}");
    assert!(told[before..].iter().any(|diff| diff.synced), "the view equals the server's again");
}

#[test]
fn whoever_comes_to_a_room_where_nobody_is_yet_is_told_that_nobody_is() {
    let mut world = World::seed(1);
    let ana = connected(&mut world);
    let first = join(&mut world, ana, User::new("u1"));
    while statuses(&world, ana, first).last() != Some(&"live") {
        world.run_for(millis(1));
    }
    let nobody = [UserDiff { synced: true, ..UserDiff::default() }];
    assert_eq!(people(&world, ana, first), nobody, "what it tracked is on its way");
    let second = join(&mut world, ana, User::new("u1"));
    assert_eq!(people(&world, ana, second), nobody);
    world.run_for(secs(1));
    assert_eq!(people(&world, ana, second), people(&world, ana, first));
}

#[test]
fn whoever_comes_while_the_channel_is_away_is_told_the_view_and_later_that_it_is_up_to_date() {
    let mut world = World::seed(1);
    let ana = connected(&mut world);
    join(&mut world, ana, User::new("u1"));
    let early = join(&mut world, ana, User::new("u1"));
    assert_eq!(people(&world, ana, early), [], "nobody knows who is here");
    world.run_for(secs(1));
    assert!(people(&world, ana, early)[0].synced);
    world.cut(ana);
    world.run_for(millis(100));
    let late = join(&mut world, ana, User::new("u1"));
    let told = people(&world, ana, late);
    assert_eq!((told.len(), ids(&told[0].joined), told[0].synced), (1, vec!["u1"], false));
    world.run_for(secs(10));
    let told = people(&world, ana, late);
    assert!(told[1..].iter().all(|diff| diff.joined.is_empty()), "{told:?}");
    assert!(told[1..].iter().any(|diff| diff.synced), "{told:?}");
}

#[test]
fn a_key_of_another_client_names_its_user_by_what_it_tracks() {
    let mut world = World::seed(1);
    let ana = connected(&mut world);
    let seat = join(&mut world, ana, User::new("u1"));
    world.run_for(secs(1));
    // Two keys of one user, as a client without a presence key of its own makes them, and a
    // stranger that tracks nothing this manager knows.
    let topic = EntityKey::presence(contact()).topic();
    let other =
        world.add_client(realtime_proto::Config::builder("ws://server/socket").build().unwrap());
    let third =
        world.add_client(realtime_proto::Config::builder("ws://server/socket").build().unwrap());
    for (node, tracked) in
        [(other, r#"{"user_id":"u9","user_name":"Cleo"}"#), (third, r#"{"user_id":"u9"}"#)]
    {
        world.client(node, |client, now| {
            client.connect(now);
            let config = realtime_proto::ChannelConfig::supabase(Default::default());
            let id = client.open_channel(&topic, config.with_presence(), now).unwrap();
            client.channel(id).unwrap().track(payload(tracked), now).unwrap();
        });
    }
    world.run_for(secs(1));
    let seen = users(&mut world, ana);
    assert_eq!(ids(&seen), ["u1", "u9"]);
    assert_eq!(seen[1].devices, 2);
    let joined = people(&world, ana, seat).iter().flat_map(|diff| diff.joined.clone()).count();
    assert_eq!(joined, 2, "each user came once");
}

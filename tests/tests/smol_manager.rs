//! What listeners of the adapter's manager are called with, and what they cannot break.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use realtime_proto::manager::{
    ChannelStatus, Entity, EntityKey, EntityOptions, ManagerConfig, User,
};
use realtime_proto::server::{RowChange, ServerConfig};
use realtime_proto::{Backoff, Config, Payload};
use realtime_smol::{
    Delivery, DevServer, DevServerConfig, DevServerHandle, EntityCallbacks, Error, ListenError,
    Manager, Options, PresenceCallbacks,
};
use realtime_tests::dice::Dice;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::{FutureExt, block_on, poll_once, zip};
use smol::stream::StreamExt;

#[derive(serde::Deserialize)]
struct Contact {
    id: i64,
    name: String,
}

fn serve() -> DevServerHandle {
    let mut settings = DevServerConfig::default();
    settings.server = ServerConfig::default();
    DevServer::bind(([127, 0, 0, 1], 0), settings).unwrap().spawn()
}

fn config(server: &DevServerHandle) -> ManagerConfig {
    ManagerConfig::new(Config::builder(server.url()).build().unwrap())
}

/// Runs a test, and ends it when it hangs.
fn run(test: impl Future<Output = ()>) {
    let hangs = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the test did not end in 20 s");
    };
    block_on(test.or(hangs));
}

fn contact() -> Entity {
    Entity::new("contact", "123")
}

fn insert(name: &str) -> RowChange {
    let row = Payload::json(&serde_json::json!({ "id": 123, "name": name })).unwrap();
    RowChange::insert("contacts", row).unwrap()
}

/// Notes what callbacks were called with.
fn notes() -> (impl Fn(String) + Clone + Send + 'static, Receiver<String>) {
    let (sender, receiver): (Sender<String>, _) = unbounded();
    (move |note| sender.try_send(note).unwrap(), receiver)
}

#[test]
fn callbacks_are_called_with_typed_rows_broadcasts_and_statuses() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        let (note, noted) = notes();
        let [on_insert, on_change, on_cursor, on_any, on_status, on_error] =
            [(); 6].map(|()| note.clone());
        let callbacks = EntityCallbacks::<Contact>::new()
            .on_insert(move |change| {
                let row = change.new_row().unwrap();
                on_insert(format!("insert {} {}", row.id, row.name));
            })
            .on_change(move |change| on_change(format!("change {}", change.kind())))
            .on_broadcast("CURSOR", move |broadcast| {
                on_cursor(format!("cursor {}", broadcast.payload.as_json().unwrap()));
            })
            .on_broadcast("*", move |broadcast| on_any(format!("any {}", broadcast.event)))
            .on_status_change(move |status| on_status(status.to_string()))
            .on_error(move |error| on_error(error.to_string()));
        let _listening = lease.listen(callbacks);
        for expected in ["connecting", "connected", "live"] {
            assert_eq!(noted.recv().await.unwrap(), expected);
        }
        server.change(insert("Ana")).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "insert 123 Ana");
        assert_eq!(noted.recv().await.unwrap(), "change INSERT");
        // Another connection's broadcast, since one's own does not come back.
        let other = Manager::connect(config(&server));
        other.broadcast(&contact(), "cursor", Payload::json(&(3, 4)).unwrap()).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "cursor [3,4]");
        assert_eq!(noted.recv().await.unwrap(), "any cursor");
        // A row of another type than asked for is an error with its reason, and no call.
        let row = Payload::json(&serde_json::json!({ "id": 123 })).unwrap();
        server.change(RowChange::insert("contacts", row).unwrap()).await.unwrap();
        let error = noted.recv().await.unwrap();
        assert!(error.starts_with("a row change is not of the type"), "{error}");
        assert!(error.contains("name"), "{error}");
    });
}

#[test]
fn each_kind_of_change_a_loss_and_a_gap_have_their_callbacks() {
    run(async {
        let server = serve();
        let at_once = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
        let client = Config::builder(server.url()).reconnect(at_once.clone());
        let config = ManagerConfig::new(client.build().unwrap()).with_rejoin(at_once);
        let manager = Manager::connect(config);
        let rows = manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        let seat = manager.join_presence(&contact(), User::new("ana")).await.unwrap();
        rows.live().await.unwrap();
        seat.live().await.unwrap();
        let (note, noted) = notes();
        let [on_update, on_delete, on_gap, on_error, sync, lost] = [(); 6].map(|()| note.clone());
        let _rows = rows.listen(
            EntityCallbacks::<Contact>::new()
                .on_insert(move |change| note(format!("insert {}", change.new_row().unwrap().id)))
                .on_update(move |change| on_update(change.new_row().unwrap().name.clone()))
                .on_delete(move |change| on_delete(format!("{:?}", change.new_row().is_none())))
                .on_gap(move |gap| on_gap(format!("gap: {}", gap.why.kind)))
                .on_error(move |error| on_error(format!("error: {error}"))),
        );
        let row =
            |name: &str| Payload::json(&serde_json::json!({ "id": 123, "name": name })).unwrap();
        server.change(insert("Ana")).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "insert 123");
        server.change(RowChange::update("contacts", row("Anna"), None).unwrap()).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "Anna");
        server.change(RowChange::delete("contacts", row("Anna")).unwrap()).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "true", "a deleted row has no new version");

        let _seat = seat.listen(
            PresenceCallbacks::new()
                .on_sync(move |()| sync("synced".into()))
                .on_error(move |error| lost(format!("presence: {error}"))),
        );
        assert_eq!(noted.recv().await.unwrap(), "synced", "whoever is here is told first");
        server.cut_all().await.unwrap();
        let mut heard: BTreeSet<&str> = BTreeSet::new();
        let wanted = ["error: connection lost", "presence: connection lost", "gap: ", "synced"];
        while heard.len() < wanted.len() {
            let note = noted.recv().await.unwrap();
            heard.extend(wanted.iter().find(|wanted| note.starts_with(**wanted)));
        }
    });
}

#[test]
fn a_callback_that_panics_stops_nobody() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        let (note, noted) = notes();
        let after = note.clone();
        let _listening = lease.listen(
            EntityCallbacks::<Contact>::new()
                .on_insert(move |change| {
                    note(format!("first {}", change.new_row().unwrap().name));
                    panic!("a bug of the application");
                })
                .on_change(move |_| after("second".into())),
        );
        for name in ["Ana", "Ben"] {
            server.change(insert(name)).await.unwrap();
            assert_eq!(noted.recv().await.unwrap(), format!("first {name}"));
            assert_eq!(noted.recv().await.unwrap(), "second");
        }
    });
}

#[test]
fn presence_callbacks_name_users_and_each_once() {
    run(async {
        let server = serve();
        let (ana, ben) = (Manager::connect(config(&server)), Manager::connect(config(&server)));
        let seat = ana.join_presence(&contact(), User::new("ana")).await.unwrap();
        seat.live().await.unwrap();
        let (note, noted) = notes();
        let [on_sync, on_join, on_update, on_leave] = [(); 4].map(|()| note.clone());
        let _listening = seat.listen(
            PresenceCallbacks::new()
                .on_sync(move |()| on_sync("sync".into()))
                .on_join(move |user| on_join(format!("join {}", user.user_id)))
                .on_update(move |user| {
                    on_update(format!(
                        "update {:?}",
                        user.metadata::<serde_json::Value>().unwrap()
                    ));
                })
                .on_leave(move |user| on_leave(format!("leave {}", user.user_id))),
        );
        let until = async |wanted: &str| {
            while noted.recv().await.unwrap() != wanted {}
        };
        until("join ana").await;
        let there = ben.join_presence(&contact(), User::new("ben")).await.unwrap();
        until("join ben").await;
        let typing = Payload::from_json(r#"{"typing":true}"#).unwrap();
        ben.update_presence_metadata(&contact(), typing).await.unwrap();
        until(r#"update Object {"typing": Bool(true)}"#).await;
        assert_eq!(ana.presence_of_others(&contact()).await.unwrap()[0].user_id, "ben");
        assert!(ben.leave_presence(&contact()).await.unwrap());
        until("leave ben").await;
        drop(there);
    });
}

#[test]
fn a_slow_listener_is_told_how_much_it_missed_and_the_others_miss_nothing() {
    run(async {
        let server = serve();
        let options = Options::default().with_events_queued_max(8);
        let (manager, driver) = Manager::connect_with_driver(config(&server), &options);
        let driver = smol::spawn(driver);
        let slow = manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        let mut quick =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        slow.live().await.unwrap();
        let mut rows = 0;
        for _ in 0..40 {
            server.change(insert("Ana")).await.unwrap();
            loop {
                match quick.next().await.unwrap() {
                    Delivery::Event(realtime_proto::manager::LeaseEvent::Change(_)) => break,
                    Delivery::Event(_) => {}
                    Delivery::Missed(missed) => panic!("the quick one missed {missed}"),
                }
            }
            rows += 1;
        }
        assert_eq!(rows, 40);
        let (note, noted) = notes();
        let _listening = slow.listen(EntityCallbacks::<Contact>::new().on_error(move |error| {
            if let ListenError::Missed(missed) = error {
                note(missed.to_string());
            }
        }));
        // Three statuses, the word of the database and four rows had room.
        assert_eq!(noted.recv().await.unwrap(), "36");
        drop((manager, quick));
        drop(driver);
    });
}

#[test]
fn a_process_has_one_shared_manager_and_any_number_of_its_own() {
    run(async {
        assert_eq!(realtime_smol::manager().unwrap_err(), Error::NotSetUp);
        let server = serve();
        let shared = realtime_smol::set_up(config(&server)).unwrap();
        assert_eq!(realtime_smol::set_up(config(&server)).unwrap_err(), Error::AlreadySetUp);
        let lease = shared.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        let own = Manager::connect(config(&server));
        let seen = realtime_smol::manager().unwrap().active_channels().await.unwrap();
        assert_eq!(seen.len(), 1, "every handle is on the same manager");
        assert_eq!(own.active_channels().await.unwrap().len(), 0);
    });
}

#[test]
fn a_clean_up_ends_every_stream_and_returns_when_the_server_knows() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let ended = Arc::new(Mutex::new(0));
        let mut streams = Vec::new();
        for id in 0..20 {
            let entity = Entity::new("contact", id.to_string()).in_tenant("acme");
            let lease =
                manager.subscribe_to_entity(&entity, EntityOptions::default()).await.unwrap();
            lease.live().await.unwrap();
            let ended = Arc::clone(&ended);
            streams.push(smol::spawn(async move {
                let last = lease.fold(None, |_, event| Some(event)).await;
                *ended.lock().unwrap() += 1;
                last
            }));
        }
        let stats = manager.channel_stats().await.unwrap();
        assert_eq!((stats.total, stats.by_tenant["acme"].channels, stats.held.len()), (20, 20, 20));
        manager.cleanup_all_channels().await.unwrap();
        assert_eq!(server.stats().await.unwrap().channels, 0, "the leaves were acknowledged");
        for stream in streams {
            let last = stream.await.unwrap();
            assert_eq!(last, Delivery::Event(realtime_proto::manager::LeaseEvent::Ended));
        }
        assert_eq!(*ended.lock().unwrap(), 20);
        assert!(manager.channel_stats().await.unwrap().held.is_empty());
    });
}

#[test]
fn a_clean_up_ends_when_the_application_disconnects_or_asks_anew_meanwhile() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let (contact, options) = (contact(), EntityOptions::default());
        let lease = manager.subscribe_to_entity(&contact, options.clone()).await.unwrap();
        lease.live().await.unwrap();
        // The next component is quicker than the server's acknowledgement.
        let next = manager.subscribe_to_entity(&contact, options);
        let (cleaned_up, next) = zip(manager.cleanup_all_channels(), next).await;
        cleaned_up.unwrap();
        let next = next.unwrap();
        next.live().await.unwrap();
        // And so is the end of the connection.
        let (cleaned_up, offline) = zip(manager.cleanup_all_channels(), manager.disconnect()).await;
        assert_eq!((cleaned_up, offline), (Ok(()), Ok(())));
        // A manager that is gone can promise nothing.
        manager.reconnect().await.unwrap();
        let lease = manager.join_presence(&contact, User::new("ana")).await.unwrap();
        lease.live().await.unwrap();
        let (cleaned_up, shut_down) = zip(manager.cleanup_all_channels(), manager.shutdown()).await;
        assert_eq!((cleaned_up, shut_down), (Err(Error::Stopped), Ok(())));
    });
}

#[test]
fn a_callback_that_blocks_its_thread_stops_nobody() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let [blocked, other] = [(); 2].map(|()| {
            block_on(manager.subscribe_to_entity(&contact(), EntityOptions::default())).unwrap()
        });
        blocked.live().await.unwrap();
        let (note, noted) = notes();
        let (go_on, wait) = std::sync::mpsc::channel();
        let (blocks, manager_inside) = (note.clone(), manager.clone());
        let _blocked = blocked.listen(EntityCallbacks::<Contact>::new().on_insert(move |_| {
            blocks("blocked".into());
            wait.recv().unwrap();
            // Whatever else an application does from within a callback.
            let key = EntityKey::subscription(contact());
            assert!(block_on(manager_inside.unsubscribe(&key)).unwrap());
            blocks("unsubscribed".into());
        }));
        let _other = other.listen(EntityCallbacks::<Contact>::new().on_update(move |_| {
            note("updated".into());
        }));
        server.change(insert("Ana")).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "blocked");
        let row = Payload::json(&serde_json::json!({ "id": 123, "name": "Ben" })).unwrap();
        server.change(RowChange::update("contacts", row, None).unwrap()).await.unwrap();
        assert_eq!(noted.recv().await.unwrap(), "updated");
        go_on.send(()).unwrap();
        assert_eq!(noted.recv().await.unwrap(), "unsubscribed");
    });
}

/// One part of an application: it asks, waits or does not, and gives back or forgets.
async fn part(manager: Manager, server: DevServerHandle, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut held = Vec::new();
    for _ in 0..100 {
        let entity = Entity::new("contact", dice.below(3).to_string()).in_tenant("acme");
        match dice.below(12) {
            0..=3 => {
                let asked = manager.subscribe_to_entity(&entity, EntityOptions::default());
                held.push(asked.await.unwrap());
            }
            4 | 5 => held.push(manager.join_presence(&entity, User::new("ana")).await.unwrap()),
            6 => {
                // Whoever stops waiting for the answer has asked for nothing.
                let asked = manager.subscribe_to_entity(&entity, EntityOptions::default());
                drop(poll_once(asked).await);
            }
            7 | 8 => drop(held.pop()),
            9 => match manager.broadcast(&entity, "hi", Payload::empty()).await {
                // Others clean up while it is under way, and the network is not good.
                Ok(()) | Err(Error::Unanswered(_)) => {}
                Err(other) => panic!("{other}"),
            },
            10 if dice.below(4) == 0 => manager.cleanup_tenant("acme").await.unwrap(),
            11 if dice.below(4) == 0 => drop(server.cut_all().await.unwrap()),
            _ => drop(manager.unsubscribe(&EntityKey::presence(entity)).await.unwrap()),
        }
    }
}

#[test]
fn parts_that_come_and_go_at_once_on_a_bad_network_leave_nothing_behind() {
    for round in 0..4 {
        run(async move {
            let server = serve();
            let at_once = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
            let client = Config::builder(server.url()).reconnect(at_once.clone());
            let config = ManagerConfig::new(client.build().unwrap())
                .with_rejoin(at_once)
                .with_channels_per_connection_max(2)
                .with_linger(Duration::from_millis(1));
            let (manager, driver) = Manager::connect_with_driver(config, &Options::default());
            let driver = smol::spawn(driver);
            let parts: Vec<_> = (0..8)
                .map(|n| smol::spawn(part(manager.clone(), server.clone(), 100 * round + n)))
                .collect();
            for part in parts {
                part.await;
            }
            manager.cleanup_all_channels().await.unwrap();
            let stats = manager.channel_stats().await.unwrap();
            assert_eq!((stats.total, stats.held.len()), (0, 0));
            drop(manager);
            driver.await;
            // The server hears of the last connection's end a moment later.
            while server.stats().await.unwrap().sessions > 0 {}
            assert_eq!(server.stats().await.unwrap().channels, 0);
        });
    }
}

#[test]
fn a_status_tells_that_a_channel_is_closed_for_good() {
    run(async {
        let server = serve();
        let manager = Manager::connect(config(&server));
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        assert!(manager.unsubscribe(lease.key()).await.unwrap());
        let events: Vec<_> = lease.collect().await;
        let closed =
            Delivery::Event(realtime_proto::manager::LeaseEvent::Status(ChannelStatus::Closed));
        assert!(events.contains(&closed), "{events:?}");
    });
}

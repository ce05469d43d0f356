//! The handles of the adapter over real sockets, against the local server.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::manager::{
    ChannelStatus, Entity, EntityOptions, LeaseEvent, ManagerConfig, ManagerEvent, User,
};
use realtime_proto::server::{RowChange, ServerConfig};
use realtime_proto::supabase::{
    Binding, Broadcast, BroadcastApi, BroadcastConfig, CauseKind, ChangeEvent, ChangeKind,
    HttpBroadcast, JoinConfig, Persist, Replay,
};
use realtime_proto::{Backoff, ChannelConfig, ChannelEvent, Config, Payload, PushOptions, Status};
use realtime_smol::{
    Client, Delivery, DevServer, DevServerConfig, DevServerHandle, Error, Lease, Manager, Options,
};
use smol::future::{FutureExt, block_on};
use smol::stream::{Stream, StreamExt};

fn serve(config: ServerConfig) -> DevServerHandle {
    let mut settings = DevServerConfig::default();
    settings.server = config;
    DevServer::bind(([127, 0, 0, 1], 0), settings).unwrap().spawn()
}

/// Runs a test, and ends it when it hangs.
fn run(test: impl Future<Output = ()>) {
    let hangs = async {
        smol::Timer::after(Duration::from_secs(60)).await;
        panic!("the test did not end in 60 s");
    };
    block_on(test.or(hangs));
}

/// The connection settings of these tests: they reconnect at once, so that no test waits.
fn config(server: &DevServerHandle) -> Config {
    let at_once = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
    Config::builder(server.url()).reconnect(at_once).build().unwrap()
}

fn manage(server: &DevServerHandle) -> Manager {
    Manager::connect(ManagerConfig::new(config(server)))
}

/// The first event of a stream for which `wanted` gives something.
async fn first<E, T>(
    stream: &mut (impl Stream<Item = Delivery<E>> + Unpin),
    wanted: impl Fn(E) -> Option<T>,
) -> T {
    while let Some(delivery) = stream.next().await {
        if let Some(found) = delivery.event().and_then(&wanted) {
            return found;
        }
    }
    panic!("the stream ended");
}

async fn status(lease: &mut Lease, wanted: ChannelStatus) {
    first(lease, |event| (event == LeaseEvent::Status(wanted.clone())).then_some(())).await;
}

fn contact() -> Entity {
    Entity::new("contact", "123").in_tenant("acme")
}

fn row(id: u32) -> RowChange {
    RowChange::insert("contacts", Payload::json(&serde_json::json!({ "id": id })).unwrap()).unwrap()
}

#[test]
fn two_listeners_share_one_channel_and_each_gets_the_row() {
    run(async {
        let server = serve(ServerConfig::default());
        let manager = manage(&server);
        let options = EntityOptions::default;
        let mut one = manager.subscribe_to_entity(&contact(), options()).await.unwrap();
        let mut two = manager.subscribe_to_entity(&contact(), options()).await.unwrap();
        one.live().await.unwrap();
        two.live().await.unwrap();
        assert_eq!(server.stats().await.unwrap().channels, 1);
        assert_eq!(server.change(row(123)).await.unwrap(), 1, "one channel gets the change");
        for lease in [&mut one, &mut two] {
            let change = first(lease, |event| match event {
                LeaseEvent::Change(change) => Some(change),
                _ => None,
            });
            let change = change.await;
            assert_eq!(change.kind(), ChangeKind::Insert);
            assert_eq!(change.typed::<serde_json::Value>().unwrap().new_row().unwrap()["id"], 123);
        }
    });
}

#[test]
fn another_contact_is_not_told() {
    run(async {
        let server = serve(ServerConfig::default());
        let manager = manage(&server);
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        assert_eq!(server.change(row(124)).await.unwrap(), 0);
    });
}

#[test]
fn presence_and_rows_come_back_after_a_cut() {
    run(async {
        let server = serve(ServerConfig::default());
        let (ana, ben) = (manage(&server), manage(&server));
        let mut rows = ana.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        let ana_here = ana.join_presence(&contact(), User::new("ana")).await.unwrap();
        let mut ben_here = ben.join_presence(&contact(), User::new("ben")).await.unwrap();
        rows.live().await.unwrap();
        ana_here.live().await.unwrap();
        ben_here.live().await.unwrap();

        assert_eq!(server.cut_all().await.unwrap(), 2);
        first(&mut ben_here, |event| match event {
            LeaseEvent::Status(ChannelStatus::Reconnecting { .. }) => Some(()),
            _ => None,
        })
        .await;
        status(&mut rows, ChannelStatus::Connecting).await;
        first(&mut rows, |event| match event {
            LeaseEvent::Status(ChannelStatus::Reconnecting { cause, .. }) => Some(cause),
            _ => None,
        })
        .await;
        status(&mut rows, ChannelStatus::Live).await;
        server.change(row(123)).await.unwrap();
        first(&mut rows, |event| match event {
            LeaseEvent::Change(change) => Some(change),
            _ => None,
        })
        .await;
        // Ben sees Ana again, whoever of the two came back first.
        while ben.presence_state(&contact()).await.unwrap().len() < 2 {
            first(&mut ben_here, |event| match event {
                LeaseEvent::Presence(_) => Some(()),
                _ => None,
            })
            .await;
        }
    });
}

#[test]
fn the_last_release_leaves_after_the_linger_and_cleanup_at_once() {
    run(async {
        let server = serve(ServerConfig::default());
        let settings = ManagerConfig::new(config(&server)).with_linger(Duration::from_millis(10));
        let manager = Manager::connect(settings);
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        drop(lease);
        while !manager.active_channels().await.unwrap().is_empty() {
            smol::future::yield_now().await;
        }
        let again =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        again.live().await.unwrap();
        manager.cleanup_all_channels().await.unwrap();
        assert!(manager.active_channels().await.unwrap().is_empty());
        assert_eq!(server.stats().await.unwrap().channels, 0);
        assert_eq!(again.live().await, Err(Error::Closed));
    });
}

#[test]
fn a_broadcast_before_the_join_arrives() {
    run(async {
        let server = serve(ServerConfig::default());
        let (ana, ben) = (manage(&server), manage(&server));
        let mut lease =
            ben.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        lease.live().await.unwrap();
        let payload = Payload::from_json(r#"{"x":1}"#).unwrap();
        ana.broadcast(&contact(), "cursor", payload.clone()).await.unwrap();
        let broadcast = first(&mut lease, |event| match event {
            LeaseEvent::Broadcast(broadcast) => Some(broadcast),
            _ => None,
        });
        assert_eq!(broadcast.await.payload, payload);
    });
}

#[test]
fn a_refused_connection_tells_why_and_a_late_listener_hears_it_too() {
    run(async {
        let server = serve(ServerConfig { apikey: Some("k".into()), ..ServerConfig::default() });
        let manager = manage(&server);
        for _ in 0..2 {
            let mut events = manager.events().await.unwrap();
            let cause = first(&mut events, |event| match event {
                ManagerEvent::Disconnected { cause, retry_at: None, .. } => Some(cause),
                _ => None,
            });
            assert_eq!(cause.await.kind, CauseKind::ApiKeyMissing);
        }
    });
}

#[test]
fn a_phoenix_channel_pushes_and_gets_the_reply_and_the_message() {
    run(async {
        let server = serve(ServerConfig::default());
        let (ana, ben) = (Client::connect(config(&server)), Client::connect(config(&server)));
        let params = || ChannelConfig::phoenix(Payload::empty());
        let room = ana.open_channel("room:lobby", params()).await.unwrap();
        let mut other = ben.open_channel("room:lobby", params()).await.unwrap();
        other.live().await.unwrap();
        let body = Payload::from_json(r#"{"body":"hi"}"#).unwrap();
        assert_eq!(room.push("new_msg", body.clone()).await.unwrap(), Payload::empty());
        let got = first(&mut other, |event| match event {
            ChannelEvent::Message { event, payload } => Some((event, payload)),
            _ => None,
        });
        assert_eq!(got.await, ("new_msg".to_owned(), body));
    });
}

#[test]
fn a_refused_join_is_an_error_with_its_cause() {
    run(async {
        let reason = "PrivateOnly: This project only allows private channels";
        let server = serve(ServerConfig {
            refuse_joins: vec![("realtime:room".into(), reason.into())],
            join_refusal_after: Duration::ZERO,
            ..ServerConfig::default()
        });
        let client = Client::connect(config(&server));
        let config = ChannelConfig::supabase(JoinConfig::default());
        let room = client.open_channel("realtime:room", config).await.unwrap();
        let Err(Error::NotLive(cause)) = room.live().await else {
            panic!("the join is refused");
        };
        assert_eq!((cause.kind, &*cause.text), (CauseKind::PrivateOnly, reason));
    });
}

#[test]
fn a_refused_push_carries_the_servers_answer() {
    run(async {
        let server = serve(ServerConfig::default());
        let client = Client::connect(config(&server));
        let config = ChannelConfig::supabase(JoinConfig::default()).with_presence();
        let room = client.open_channel("realtime:room", config).await.unwrap();
        let bad = Payload::from_json(r#"{"type":"presence","event":"track","payload":1}"#).unwrap();
        let Err(Error::Refused { status, response }) = room.push("presence", bad).await else {
            panic!("only an object can be tracked");
        };
        assert_eq!(status, Status::Error);
        let text = response.as_json().unwrap_or_default();
        assert_eq!(text, r#"{"reason":"Presence track payload must be a map"}"#);
    });
}

#[test]
fn the_driver_ends_when_the_last_handle_is_gone_and_the_leave_is_sent() {
    run(async {
        let server = serve(ServerConfig::default());
        let (client, driver) = Client::connect_with_driver(config(&server), &Options::default());
        let driver = smol::spawn(driver);
        let params = ChannelConfig::phoenix(Payload::empty());
        let room = client.open_channel("room:lobby", params).await.unwrap();
        room.live().await.unwrap();
        drop((room, client));
        driver.await;
        while server.stats().await.unwrap().sessions > 0 {
            smol::future::yield_now().await;
        }
    });
}

#[test]
fn whoever_waits_for_row_changes_that_are_refused_is_told_why() {
    run(async {
        let unpublished = vec![("public".into(), "contacts".into())];
        let refusing = ServerConfig { unpublished_tables: unpublished, ..ServerConfig::default() };
        let server = serve(refusing);
        let client = Client::connect(config(&server));
        let rows = Binding::new(ChangeEvent::All, "public", "contacts");
        let join = JoinConfig { postgres_changes: vec![rows], ..JoinConfig::default() };
        let channel =
            client.open_channel("realtime:rows", ChannelConfig::supabase(join)).await.unwrap();
        // Whether it waited before or asks afterwards.
        for _ in 0..2 {
            let Err(Error::NotLive(cause)) = channel.live().await else {
                panic!("it never will be live");
            };
            assert_eq!(cause.kind, CauseKind::PostgresRefused);
            assert!(cause.text.contains("table: contacts"), "{cause}");
        }
        let manager = manage(&server);
        let lease =
            manager.subscribe_to_entity(&contact(), EntityOptions::default()).await.unwrap();
        for _ in 0..2 {
            let Err(Error::NotLive(cause)) = lease.live().await else {
                panic!("it never will be live");
            };
            assert_eq!(cause.kind, CauseKind::PostgresRefused);
        }
    });
}

#[test]
fn row_changes_are_asked_for_and_given_up_while_the_channel_is_joined() {
    run(async {
        let unpublished = vec![("public".into(), "secrets".into())];
        let refusing = ServerConfig { unpublished_tables: unpublished, ..ServerConfig::default() };
        let server = serve(refusing);
        let client = Client::connect(config(&server));
        let room = ChannelConfig::supabase(JoinConfig::default());
        let mut channel = client.open_channel("realtime:rows", room).await.unwrap();
        channel.live().await.unwrap();
        let all = |table| Binding::new(ChangeEvent::All, "public", table);
        let rows = channel.bind(all("contacts")).await.unwrap();
        channel.live().await.unwrap();
        assert_eq!(server.change(row(1)).await.unwrap(), 1);
        let bindings = first(&mut channel, |event| match event {
            ChannelEvent::Change { bindings, .. } => Some(bindings),
            _ => None,
        });
        assert!(bindings.await.contains(rows));
        // One that is refused takes the other with it, until it is given up.
        let secrets = channel.bind(all("secrets")).await.unwrap();
        assert!(matches!(channel.live().await, Err(Error::NotLive(_))));
        assert_eq!(server.change(row(2)).await.unwrap(), 0);
        assert!(channel.unbind(secrets).await.unwrap());
        channel.live().await.unwrap();
        assert_eq!(server.change(row(3)).await.unwrap(), 1);
        let refused = channel.bind(all("contacts").with_filter("id")).await;
        assert!(matches!(refused, Err(Error::Bind(_))), "{refused:?}");
    });
}

#[test]
fn a_broadcast_that_is_kept_is_told_to_whoever_comes_later() {
    run(async {
        let server = serve(ServerConfig::default());
        let client = Client::connect(config(&server));
        let broadcast = BroadcastConfig::default().with_ack();
        let config = JoinConfig { broadcast, private: true, ..JoinConfig::default() };
        let room = client.open_channel("realtime:room", ChannelConfig::supabase(config)).await;
        let kept = PushOptions::new().persisted(Persist::Longest);
        let reply = room.unwrap().broadcast_with("paid", Payload::empty(), kept).await.unwrap();
        let reply: BTreeMap<String, String> = reply.to().unwrap();

        let later = Client::connect(self::config(&server));
        let broadcast = BroadcastConfig::default().with_replay(Replay::since(Duration::ZERO));
        let config = JoinConfig { broadcast, private: true, ..JoinConfig::default() };
        let room = later.open_channel("realtime:room", ChannelConfig::supabase(config)).await;
        let paid = first(&mut room.unwrap(), broadcast_of).await;
        assert_eq!(paid.event, "paid");
        assert_eq!(paid.id(), Some(&*reply["id"]));
    });
}

fn tick() -> HttpBroadcast {
    HttpBroadcast::new("realtime:room", "tick", Payload::empty())
}

fn broadcast_of(event: ChannelEvent) -> Option<Broadcast> {
    match event {
        ChannelEvent::Broadcast(broadcast) => Some(broadcast),
        _ => None,
    }
}

#[test]
fn a_broadcast_over_http_arrives_and_a_refusal_has_its_cause() {
    run(async {
        let server = serve(ServerConfig::default());
        let client = Client::connect(config(&server));
        let listener = ChannelConfig::supabase(JoinConfig::default());
        let mut room = client.open_channel("realtime:room", listener).await.unwrap();
        room.live().await.unwrap();
        let api = client.broadcast_api().await.unwrap();
        let moved = HttpBroadcast::new("realtime:room", "moved", Payload::binary(vec![0, 255]));
        client.broadcast_http(&api.single(&moved).unwrap()).await.unwrap();
        let told = first(&mut room, broadcast_of).await;
        assert_eq!((&*told.event, told.payload.as_bytes()), ("moved", &[0, 255][..]));
        let nowhere = BroadcastApi::new(&format!("{}/nowhere", server.url())).unwrap();
        let refused = client.broadcast_http(&nowhere.single(&moved).unwrap()).await.unwrap_err();
        let Error::NotTaken(cause) = refused else { panic!("{refused:?}") };
        assert_eq!(cause.kind, CauseKind::BroadcastEndpointMissing);
        // A manager sends as well, to the topic of an entity.
        let manager = manage(&server);
        let contact = Entity::new("contact", "123");
        let mut rows =
            manager.subscribe_to_entity(&contact, EntityOptions::default()).await.unwrap();
        rows.live().await.unwrap();
        let bye = HttpBroadcast::new(rows.key().topic(), "bye", Payload::empty());
        let api = manager.broadcast_api().await.unwrap();
        manager.broadcast_http(&api.batch(&[bye]).unwrap()).await.unwrap();
        let told = first(&mut rows, |event| match event {
            LeaseEvent::Broadcast(broadcast) => Some(broadcast.event),
            _ => None,
        });
        assert_eq!(told.await, "bye");
        server.shutdown().await;
        let gone = loop {
            let sent = manager.broadcast_http(&api.batch(&[tick()]).unwrap()).await;
            if let Err(Error::Unreachable(detail)) = sent {
                break detail;
            }
        };
        assert!(!gone.contains("apikey"), "{gone}");
    });
}

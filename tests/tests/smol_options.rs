//! What the adapter can be told beside the settings of the core.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::future::pending;
use core::time::Duration;
use std::time::SystemTime;

use realtime_proto::manager::{Entity, EntityOptions, ManagerConfig, ManagerEvent};
use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::JoinConfig;
use realtime_proto::{
    Backoff, ChannelConfig, ChannelState, Config, ConnectionState, Event, Secret,
};
use realtime_smol::{
    Client, Delivery, DevServer, DevServerConfig, DevServerHandle, Manager, Options,
};
use realtime_tests::token;
use smol::channel::{Receiver, Sender, unbounded};
use smol::future::{FutureExt, block_on};
use smol::net::TcpStream;
use smol::stream::StreamExt;

fn serve(config: ServerConfig) -> DevServerHandle {
    let mut settings = DevServerConfig::default();
    settings.server = config;
    DevServer::bind(([127, 0, 0, 1], 0), settings).unwrap().spawn()
}

/// Connection settings that reconnect at once and beat often, so that no test waits.
fn config(url: String) -> Config {
    let at_once = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
    let beats = Duration::from_millis(20);
    let config = Config::builder(url).apikey(expires_in(3_600)).reconnect(at_once);
    config.heartbeat_interval(beats).build().unwrap()
}

/// Runs a test, and ends it when it hangs.
fn run(test: impl Future<Output = ()>) {
    let hangs = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the test did not end in 20 s");
    };
    block_on(test.or(hangs));
}

/// What an application says when it is asked for a token.
type Answer = Result<Option<Secret>, &'static str>;

/// A source of tokens that is answered by hand: it tells that it was asked, and waits.
fn by_hand() -> (Options, Receiver<()>, Sender<Answer>) {
    let (asked, asks) = unbounded();
    let (answers, answer) = unbounded();
    let options = Options::default().with_access_tokens(move || {
        asked.try_send(()).unwrap();
        let answer = answer.clone();
        async move { Ok(answer.recv().await??) }
    });
    (options, asks, answers)
}

fn expires_in(span: i64) -> Secret {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    token(now.checked_add_signed(span).unwrap())
}

#[test]
fn the_first_connection_waits_for_the_first_token() {
    run(async {
        let server = serve(ServerConfig::default());
        let (options, asks, answers) = by_hand();
        let (client, driver) = Client::connect_with_driver(config(server.url()), &options);
        let driver = smol::spawn(driver);
        let mut events = client.events().await.unwrap();
        asks.recv().await.unwrap();
        assert_eq!(client.connection_state().await.unwrap(), ConnectionState::Disconnected);
        answers.send(Ok(None)).await.unwrap();
        let connected = events.next().await;
        assert!(matches!(connected, Some(Delivery::Event(Event::Connected { .. }))));
        assert_eq!(client.connection_state().await.unwrap(), ConnectionState::Connected);
        drop((client, events));
        driver.await;
    });
}

#[test]
fn another_token_is_asked_for_when_one_is_needed_and_after_every_loss_and_heartbeat() {
    run(async {
        let server = serve(ServerConfig { reads_tokens: true, ..ServerConfig::default() });
        let (options, asks, answers) = by_hand();
        let settings = ManagerConfig::new(config(server.url()));
        let (manager, driver) = Manager::connect_with_driver(settings, &options);
        let driver = smol::spawn(driver);
        let mut events = manager.events().await.unwrap();
        let contact = Entity::new("contact", "123");
        let lease = manager.subscribe_to_entity(&contact, EntityOptions::default()).await.unwrap();
        // A token that has expired is known not to do.
        asks.recv().await.unwrap();
        answers.send(Ok(Some(expires_in(-60)))).await.unwrap();
        while !matches!(
            events.next().await,
            Some(Delivery::Event(ManagerEvent::TokenNeeded { deadline: None, .. }))
        ) {}
        asks.recv().await.unwrap();
        // An application that has none for the moment is asked again.
        answers.send(Err("the session is being refreshed")).await.unwrap();
        asks.recv().await.unwrap();
        answers.send(Ok(Some(expires_in(3_600)))).await.unwrap();
        lease.live().await.unwrap();
        // The heartbeats go on asking, and so does a lost connection.
        asks.recv().await.unwrap();
        answers.send(Ok(Some(expires_in(7_200)))).await.unwrap();
        server.cut_all().await.unwrap();
        asks.recv().await.unwrap();
        drop((manager, events, lease));
        // Nobody waits for an application that never answers.
        driver.await;
    });
}

#[test]
fn an_application_that_never_answers_keeps_no_driver() {
    run(async {
        let server = serve(ServerConfig::default());
        let options = Options::default().with_access_tokens(pending);
        let (client, driver) = Client::connect_with_driver(config(server.url()), &options);
        let driver = smol::spawn(driver);
        drop(client);
        driver.await;
    });
}

#[test]
fn a_connection_runs_over_what_the_application_connects() {
    run(async {
        let server = serve(ServerConfig::default());
        let address = server.local_addr();
        let (asked, asks) = unbounded();
        let options = Options::default().with_connector(move |host, port| {
            asked.try_send((host, port)).unwrap();
            TcpStream::connect(address)
        });
        let (client, driver) =
            Client::connect_with_driver(config("ws://realtime.invalid/socket".into()), &options);
        smol::spawn(driver).detach();
        let room = ChannelConfig::supabase(JoinConfig::default());
        let room = client.open_channel("realtime:room", room).await.unwrap();
        room.live().await.unwrap();
        assert_eq!(asks.recv().await.unwrap(), ("realtime.invalid".into(), 80));
        let there = client.channels().await.unwrap();
        let there: Vec<_> = there.iter().map(|channel| (&*channel.topic, channel.state)).collect();
        assert_eq!(there, [("realtime:room", ChannelState::Joined)]);
        room.leave().await.unwrap();
        assert_eq!(server.stats().await.unwrap().channels, 0, "the leave was acknowledged");
        assert_eq!(client.channels().await.unwrap().len(), 0);
    });
}

#[test]
fn every_heartbeat_is_told() {
    run(async {
        let server = serve(ServerConfig::default());
        let client = Client::connect(config(server.url()));
        let manager = Manager::connect(ManagerConfig::new(config(server.url())));
        let mut events = client.events().await.unwrap();
        while !matches!(events.next().await, Some(Delivery::Event(Event::Heartbeat { .. }))) {}
        let mut events = manager.events().await.unwrap();
        while !matches!(events.next().await, Some(Delivery::Event(ManagerEvent::Heartbeat { .. })))
        {
        }
    });
}

//! What a manager logs through a whole session: what an operator looks for, and no secret.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::fmt::{Debug, Write};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use realtime_proto::manager::{
    ChannelStatus, Entity, EntityKey, EntityOptions, LeaseEvent, ManagerConfig, User,
};
use realtime_proto::server::{Refusal, RowChange, ServerConfig};
use realtime_proto::{Backoff, Config, Payload, Secret};
use realtime_smol::{
    Delivery, DevServer, DevServerConfig, EntityCallbacks, Error, Lease, Manager, Options,
    Unanswered,
};
use smol::future::{FutureExt, block_on, zip};
use smol::stream::StreamExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// A logger that keeps every line of every level, with all its fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Whether there is a line of this level with all these words.
    fn has(&self, level: &str, words: &[&str]) -> bool {
        let level = format!("{level} realtime_smol");
        self.all()
            .iter()
            .any(|line| line.starts_with(&level) && words.iter().all(|word| line.contains(word)))
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let metadata = event.metadata();
        let mut fields = Fields(format!("{} {}:", metadata.level(), metadata.target()));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Waits for a status.
async fn until(lease: &mut Lease, wanted: impl Fn(&ChannelStatus) -> bool) {
    loop {
        match lease.next().await.unwrap() {
            Delivery::Event(LeaseEvent::Status(status)) if wanted(&status) => return,
            Delivery::Event(_) | Delivery::Missed(_) => {}
        }
    }
}

async fn session(lines: &Lines) {
    let mut settings = DevServerConfig::default();
    settings.server = ServerConfig { apikey: Some("hush-apikey".into()), ..Default::default() };
    let server = DevServer::bind(([127, 0, 0, 1], 0), settings).unwrap().spawn();
    let at_once = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
    let config = Config::builder(server.url())
        .apikey("hush-apikey")
        .access_token("hush-token")
        .reconnect(at_once.clone())
        .heartbeat_interval(Duration::from_millis(20));
    let config = ManagerConfig::new(config.build().unwrap()).with_rejoin(at_once);
    let options = Options::default().with_logger(lines.clone()).with_events_queued_max(4);
    let (manager, driver) = Manager::connect_with_driver(config.clone(), &options);
    smol::spawn(driver).detach();
    let contact = Entity::new("contact", "123").in_tenant("acme");

    // A channel is opened, lost with its connection and live again.
    let mut rows = manager.subscribe_to_entity(&contact, EntityOptions::default()).await.unwrap();
    until(&mut rows, |status| *status == ChannelStatus::Live).await;
    server.cut_all().await.unwrap();
    until(&mut rows, |status| matches!(status, ChannelStatus::Reconnecting { .. })).await;
    until(&mut rows, |status| *status == ChannelStatus::Live).await;

    // People come and go.
    let seat = manager.join_presence(&contact, User::new("ana")).await.unwrap();
    seat.live().await.unwrap();
    let other = Manager::connect(config.clone());
    let there = other.join_presence(&contact, User::new("ben")).await.unwrap();
    there.live().await.unwrap();
    while manager.presence_state(&contact).await.unwrap().len() < 2 {}
    other.leave_presence(&contact).await.unwrap();
    while manager.presence_state(&contact).await.unwrap().len() == 2 {}

    // One listener sleeps.
    for _ in 0..20 {
        let row = Payload::from_json(r#"{"id":123}"#).unwrap();
        server.change(RowChange::insert("contacts", row).unwrap()).await.unwrap();
    }
    while !lines.has("WARN", &["slow"]) {
        manager.probe().await.unwrap();
    }

    // Another token is told to the server, which then refuses the connection.
    manager.set_access_token(Some(Secret::new("hush-another"))).await.unwrap();
    let refusal = Refusal { status: 401, body: String::new() };
    server.configure(|config| config.refuse_upgrades = Some(refusal)).await.unwrap();
    server.cut_all().await.unwrap();
    while !lines.has("ERROR", &["given up"]) {
        manager.channel_stats().await.unwrap();
    }
    server.configure(|config| config.refuse_upgrades = None).await.unwrap();
    manager.retry(&EntityKey::subscription(contact.clone())).await.unwrap();
    rows.live().await.unwrap();
    drop((seat, rows));

    // A broadcast comes to nothing, and everything is left.
    manager.disconnect().await.unwrap();
    let broadcast = manager.broadcast(&contact, "hi", Payload::empty());
    let (sent, cleaned_up) = zip(broadcast, manager.cleanup_all_channels()).await;
    assert_eq!((sent, cleaned_up), (Err(Error::Unanswered(Unanswered::Dropped)), Ok(())));
    manager.shutdown().await.unwrap();
}

#[test]
fn a_session_is_logged_at_the_levels_of_an_operator_and_without_a_secret() {
    let lines = Lines::default();
    let rest = Lines::default();
    // What is logged outside of the manager's own task, by its callbacks for instance.
    tracing::subscriber::set_global_default(rest.clone()).unwrap();
    let hangs = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the session did not end in 20 s: {:#?}", lines.all());
    };
    block_on(session(&lines).or(hangs));
    let rows = "realtime:tenant:acme:subscription:contact:123";
    let seats = "realtime:tenant:acme:presence:contact:123";
    for (level, words) in [
        ("INFO", &["connected", "connection0"][..]),
        ("DEBUG", &["connecting", rows]),
        ("DEBUG", &["joined", rows]),
        ("INFO", &["live", rows]),
        ("WARN", &["disconnected, connecting again", "connection lost"]),
        ("WARN", &["lost, joining again", rows, "attempt=1", "connection lost"]),
        ("WARN", &["something may be missing", rows]),
        ("DEBUG", &["presence", seats, r#"joined=["ana""#]),
        ("DEBUG", &["presence", seats, r#"left=["ben"]"#]),
        ("WARN", &["a listener is slow", rows]),
        ("ERROR", &["disconnected, given up", "connection0", "advice="]),
        ("ERROR", &["given up", rows, "cause=", "advice="]),
        ("DEBUG", &["released", rows]),
        ("DEBUG", &["a broadcast came to nothing"]),
        ("DEBUG", &["closed", rows]),
        ("INFO", &["disconnected", "connection0"]),
        ("TRACE", &["heartbeat", "connection0"]),
    ] {
        assert!(lines.has(level, words), "no {level} line with {words:?} in {:#?}", lines.all());
    }
    for line in lines.all().iter().chain(&rest.all()) {
        assert!(!line.contains("hush"), "a secret shows in {line}");
    }
    assert!(!rest.has("WARN", &["slow"]), "the manager's lines went where its options say");
}

#[test]
fn what_is_logged_of_a_callback_that_panics_goes_to_the_logger_too() {
    let lines = Lines::default();
    let dispatch = Dispatch::new(lines.clone());
    // Callbacks are called on a thread of the pool; the logger goes along.
    let listening = block_on(async {
        let server =
            DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default()).unwrap().spawn();
        let config = ManagerConfig::new(Config::builder(server.url()).build().unwrap());
        let options = Options::default().with_logger(dispatch);
        let (manager, driver) = Manager::connect_with_driver(config, &options);
        smol::spawn(driver).detach();
        let contact = Entity::new("contact", "123");
        let lease = manager.subscribe_to_entity(&contact, EntityOptions::default()).await.unwrap();
        let listening = lease.listen(
            EntityCallbacks::<()>::new().on_status_change(|_| panic!("a bug of the application")),
        );
        while !lines.has("ERROR", &["a callback panicked"]) {
            manager.channel_stats().await.unwrap();
        }
        listening
    });
    drop(listening);
}

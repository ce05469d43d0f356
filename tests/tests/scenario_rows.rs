//! Row changes: what is asked for, when they flow, whom they reach, and how they fail.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{
    Binding, BindingError, ChangeEvent, Filter, JoinConfig, PostgresChangesOptions,
};
use realtime_proto::{
    Backoff, BindError, ChannelConfig, ChannelId, Client, Config, ConfigBuilder, Instant, OpenError,
};
use realtime_sim::{World, describe};
use realtime_tests::peer::Peer;

const TOPIC: &str = "realtime:room";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

fn all(table: &str) -> Binding {
    Binding::new(ChangeEvent::All, "public", table)
}

fn config(bindings: &[Binding]) -> ChannelConfig {
    let postgres_changes = bindings.to_vec();
    ChannelConfig::supabase(JoinConfig { postgres_changes, ..JoinConfig::default() })
}

fn open(bindings: &[Binding]) -> impl FnOnce(&mut Client, Instant) -> ChannelId {
    let config = config(bindings);
    move |client, now| client.open_channel(TOPIC, config, now).unwrap()
}

#[test]
fn what_a_server_would_refuse_is_refused_before_it_is_sent() {
    let mut peer = Peer::connected(settings());
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let whole_schema = Binding { table: None, ..all("") };
    for (binding, words) in [
        (
            all("a").with_filter("id=1"),
            "the filter `id=1` cannot be read: `id=1` has no operator; write column=op.value",
        ),
        (
            all("a").with_filter("done=is.maybe"),
            "the filter `done=is.maybe` cannot be read: `is` takes null, true, false or unknown, \
             and got `maybe`",
        ),
        (
            whole_schema.clone().with_filter("id=eq.1"),
            "the filter `id=eq.1` has no table to apply to; name a schema and a table",
        ),
        (
            whole_schema.with_select(["id"]),
            "`select` chooses columns of one table; name a schema and a table, neither of them `*`",
        ),
        (
            all("*").with_select(["id"]),
            "`select` chooses columns of one table; name a schema and a table, neither of them `*`",
        ),
    ] {
        let refused = peer.command(|c, now| c.open_channel(TOPIC, config(&[binding]), now));
        let Err(OpenError::Binding(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.to_string(), words);
    }
    let long = all("a").with_filter(format!("id=in.({})", many.join(",")));
    let id = peer.command(open(&[all("a")]));
    peer.take_frames();
    let refused = peer.command(|c, now| c.channel(id).unwrap().bind(long, now));
    let Err(BindError::Binding(BindingError::Filter { error, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        error.to_string(),
        "`in` takes at most 100 values and got 101; use several bindings"
    );
    assert_eq!(peer.take_frames(), [""; 0]);
}

#[test]
fn a_filter_and_a_choice_of_columns_are_asked_for_as_written() {
    let mut peer = Peer::connected(settings());
    let filter = Filter::builder().column("room").eq(7).column("name").neq("a,b").build().unwrap();
    peer.command(open(&[all("messages").with_filter(filter).with_select(["id", "body"])]));
    let join = peer.take_frames().remove(0);
    let asked = concat!(
        r#""postgres_changes":[{"event":"*","schema":"public","table":"messages","#,
        r#""filter":"room=eq.7,name=neq.\"a,b\"","select":["id","body"]}]"#
    );
    assert!(join.contains(asked), "{join}");
}

#[test]
fn a_listener_with_a_filter_that_cannot_be_read_leaves_the_others_alone() {
    let client = settings().build().unwrap();
    let mut manager = Manager::new(ManagerConfig::new(client), 1, Instant::EPOCH);
    let contact = Entity::new("contact", "123");
    let good = EntityOptions::default();
    let bad = EntityOptions { filter: Some("id".into()), ..EntityOptions::default() };
    for _ in 0..2 {
        let refused = manager.subscribe_to_entity(&contact, &bad, Instant::EPOCH);
        assert!(
            refused.is_err_and(|error| error.to_string().contains("`id` has no column")),
            "the mistake is told"
        );
        manager.subscribe_to_entity(&contact, &good, Instant::EPOCH).unwrap();
    }
    let listeners: Vec<usize> =
        manager.active_channels().map(|channel| channel.listeners).collect();
    assert_eq!(listeners, [2]);
}

/// A client that asks the server to wait for its row changes.
fn waiting(timeout_ms: Option<u32>) -> ChannelConfig {
    ChannelConfig::supabase(JoinConfig {
        postgres_changes: vec![all("a")],
        postgres_changes_options: Some(PostgresChangesOptions { wait: true, timeout_ms }),
        ..JoinConfig::default()
    })
}

#[test]
fn a_join_that_waits_for_its_rows_has_ten_seconds_more_than_the_server() {
    for (timeout_ms, option, gives_up_at) in [
        (None, r#""postgres_changes_options":{"wait":true}"#, "25.000s"),
        (Some(700), r#""postgres_changes_options":{"wait":true,"timeout":700}"#, "10.700s"),
        (Some(20_000), r#""postgres_changes_options":{"wait":true,"timeout":20000}"#, "30.000s"),
    ] {
        let mut peer = Peer::connected(settings().heartbeat_interval(secs(100)));
        peer.command(|client, now| client.open_channel(TOPIC, waiting(timeout_ms), now).unwrap());
        assert!(peer.take_frames()[0].contains(option), "{option}");
        while peer.take_frames().is_empty() {
            peer.pass(Duration::from_millis(100));
        }
        assert_eq!(peer.now().to_string(), gives_up_at);
    }
    // Without row changes there is nothing to wait for.
    let mut peer = Peer::connected(settings());
    let id = peer.command(|client, now| client.open_channel(TOPIC, waiting(None), now).unwrap());
    peer.command(|client, now| client.close_channel(id, now));
    let nothing = JoinConfig {
        postgres_changes_options: Some(PostgresChangesOptions { wait: true, timeout_ms: None }),
        ..JoinConfig::default()
    };
    peer.command(|c, now| c.open_channel(TOPIC, ChannelConfig::supabase(nothing), now).unwrap());
    peer.take_events();
    peer.pass(secs(10));
    assert_eq!(
        peer.take_lines(),
        ["ch0.1 closed: requested", "ch1.1 errored: join timeout, again at 11.000s"]
    );
}

/// What a client is told that joins after `opened_at` and whose server takes `subscribed_after`.
fn told_by_a_server_that_waits(opened_at: Duration, subscribed_after: Duration) -> Vec<String> {
    let server = ServerConfig { subscribed_after, ..ServerConfig::default() };
    let mut world = World::seed(1).with_server(server);
    let ana = world.add_client(settings().build().unwrap());
    world.client(ana, Client::connect);
    world.run_for(opened_at);
    let config = waiting(Some(20_000));
    world.client(ana, |client, now| client.open_channel(TOPIC, config, now).unwrap());
    world.run_for(secs(60));
    let events = world.log(ana).iter().map(|(at, event)| format!("{at} {}", describe(event)));
    events.filter(|line| !line.contains("heartbeat")).collect()
}

#[test]
fn a_channel_that_waited_for_its_rows_is_live_with_the_answer_to_its_join() {
    let told = told_by_a_server_that_waits(secs(1), secs(8));
    let [.., joined, system, live] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(joined, "9.040s ch0.1 joined");
    assert_eq!((system.as_str(), live.as_str()), ("9.040s ch0.1 system", "9.040s ch0.1 live"));
    // What the server does not have in time, it refuses, and the client asks again.
    let told = told_by_a_server_that_waits(secs(1), secs(21));
    assert!(told[1].starts_with("26.040s ch0.1 errored: postgres timeout, again at"), "{told:?}");
}

#[test]
fn a_connection_that_a_waiting_join_holds_is_not_taken_for_dead() {
    // The heartbeat of 25 s is answered when the join is, more than ten seconds later.
    let told = told_by_a_server_that_waits(secs(20), secs(19));
    assert!(told.iter().all(|line| !line.contains("disconnected")), "{told:?}");
    assert_eq!(told.last().unwrap(), "39.040s ch0.1 live");
}

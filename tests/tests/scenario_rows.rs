//! Row changes: what is asked for, when they flow, whom they reach, and how they fail.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::collections::BTreeMap;

use realtime_proto::manager::{Entity, EntityOptions, Manager, ManagerConfig};
use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{
    Binding, BindingError, CauseKind, ChangeEvent, Completeness, Filter, JoinConfig,
    PostgresChangesOptions,
};
use realtime_proto::{
    Awaits, Backoff, BindError, BindingId, BindingSet, ChannelConfig, ChannelEvent, ChannelId,
    ChannelState, Client, Config, ConfigBuilder, Event, Instant, OpenError, Payload, Stream,
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

/// Says something on the topic, on the first join.
fn say(peer: &mut Peer, event: &str, payload: &str) {
    peer.say(&format!(r#"["1",null,"{TOPIC}","{event}",{payload}]"#));
}

/// Accepts a join for all changes of these tables, with these ids.
fn accept(peer: &mut Peer, join_ref: u32, tables: &[(&str, u64)]) {
    let bindings = tables.iter().map(|(table, id)| {
        format!(r#"{{"id":{id},"event":"*","schema":"public","table":"{table}","filter":null}}"#)
    });
    let bindings: Vec<String> = bindings.collect();
    peer.say(&format!(
        r#"["{join_ref}","{join_ref}","{TOPIC}","phx_reply",{{"status":"ok","response":{{"postgres_changes":[{}]}}}}]"#,
        bindings.join(",")
    ));
}

fn system(peer: &mut Peer, status: &str, message: &str) {
    let text = Payload::json(message).unwrap();
    let text = text.as_json().unwrap();
    say(
        peer,
        "system",
        &format!(
            r#"{{"extension":"postgres_changes","status":"{status}","message":{text},"channel":"room"}}"#
        ),
    );
}

const SUBSCRIBED: &str = "Subscribed to PostgreSQL";

const UNPUBLISHED: &str = "Unable to subscribe to changes with given parameters. Please check \
    Realtime is enabled for the given connect parameters: [event: *, schema: public, table: b, \
    filters: [], select: nil]";

fn change(peer: &mut Peer, ids: &str) {
    say(
        peer,
        "postgres_changes",
        &format!(
            r#"{{"ids":{ids},"data":{{"schema":"public","table":"a","type":"INSERT","columns":[],
            "commit_timestamp":"2026-01-01T00:00:00Z","errors":null,"record":{{"id":1}}}}}}"#
        ),
    );
}

/// The bindings that the next change of the events was for.
fn delivered(peer: &mut Peer) -> Vec<BindingSet> {
    let of_change = |event| match event {
        Event::Channel(_, ChannelEvent::Change { bindings, .. }) => Some(bindings),
        _ => None,
    };
    peer.take_events().into_iter().filter_map(of_change).collect()
}

/// A channel with these tables, joined with the ref 1 and live.
fn live(tables: &[(&str, u64)]) -> (Peer, ChannelId, Vec<BindingId>) {
    let mut peer = Peer::connected(settings());
    let bindings: Vec<Binding> = tables.iter().map(|(table, _)| all(table)).collect();
    let id = peer.command(open(&bindings));
    peer.take_frames();
    accept(&mut peer, 1, tables);
    system(&mut peer, "ok", SUBSCRIBED);
    assert_eq!(peer.take_lines(), ["ch0.1 joined", "ch0.1 system", "ch0.1 live"]);
    let places = peer
        .command(|client, _| client.channel(id).unwrap().bindings().map(|(id, _)| id).collect());
    (peer, id, places)
}

fn bind(table: &str, id: ChannelId) -> impl FnOnce(&mut Client, Instant) -> BindingId {
    let binding = all(table);
    move |client, now| client.channel(id).unwrap().bind(binding, now).unwrap()
}

fn unbind(binding: BindingId, id: ChannelId) -> impl FnOnce(&mut Client, Instant) {
    move |client, now| assert!(client.channel(id).unwrap().unbind(binding, now))
}

#[test]
fn the_same_row_changes_are_asked_for_once_and_reach_all_who_asked() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open(&[all("a"), all("a")]));
    assert_eq!(peer.take_frames()[0].matches(r#""table":"a""#).count(), 1);
    accept(&mut peer, 1, &[("a", 7)]);
    let late = peer.command(bind("a", id));
    assert_eq!(peer.take_frames(), [""; 0], "the join has it already");
    peer.take_events();
    // A server may name an id as often as it was asked for.
    change(&mut peer, "[7,7]");
    let delivered = delivered(&mut peer);
    let [bindings] = delivered.as_slice() else { panic!("{delivered:?}") };
    let places: Vec<BindingId> = peer
        .command(|client, _| client.channel(id).unwrap().bindings().map(|(id, _)| id).collect());
    assert_eq!(places.len(), 3);
    assert!(places.contains(&late) && places.into_iter().all(|place| bindings.contains(place)));
}

#[test]
fn bindings_that_change_while_joined_are_one_more_join() {
    let (mut peer, id, _) = live(&[("a", 7)]);
    peer.command(|client, now| {
        bind("b", id)(client, now);
        bind("c", id)(client, now);
    });
    let frames = peer.take_frames();
    let [join] = frames.as_slice() else { panic!("{frames:?}") };
    assert!(join.contains("phx_join") && ["a", "b", "c"].iter().all(|t| join.contains(*t)));
    accept(&mut peer, 2, &[("a", 7), ("b", 8), ("c", 9)]);
    assert_eq!(peer.take_frames(), [""; 0]);
}

#[test]
fn a_binding_that_is_removed_while_joining_needs_no_second_join() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open(&[all("a"), all("b")]));
    let places: Vec<BindingId> = peer
        .command(|client, _| client.channel(id).unwrap().bindings().map(|(id, _)| id).collect());
    peer.take_frames();
    peer.command(unbind(places[1], id));
    accept(&mut peer, 1, &[("a", 7), ("b", 8)]);
    system(&mut peer, "ok", SUBSCRIBED);
    assert_eq!(peer.take_frames(), [""; 0]);
    assert_eq!(peer.take_lines(), ["ch0.1 joined", "ch0.1 system", "ch0.1 live"]);
    change(&mut peer, "[8]");
    assert_eq!(peer.take_lines(), [""; 0], "the server may not know, so it is no violation");
    change(&mut peer, "[7,8]");
    assert!(delivered(&mut peer)[0].contains(places[0]));
}

#[test]
fn a_binding_that_is_added_while_joining_is_joined_for_afterwards() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open(&[all("a")]));
    peer.take_frames();
    peer.command(bind("b", id));
    assert_eq!(peer.take_frames(), [""; 0], "one join at a time");
    accept(&mut peer, 1, &[("a", 7)]);
    let frames = peer.take_frames();
    let [join] = frames.as_slice() else { panic!("{frames:?}") };
    assert!(join.contains(r#""table":"a""#) && join.contains(r#""table":"b""#), "{join}");
}

#[test]
fn a_reply_whose_ids_cannot_be_read_is_an_error_and_no_channel_without_row_changes() {
    for bindings in [r#"[{"id":null,"event":"*","schema":"public","table":"a"}]"#, r#"{"a":7}"#] {
        let mut peer = Peer::connected(settings());
        peer.command(open(&[all("a")]));
        peer.say(&format!(
            r#"["1","1","{TOPIC}","phx_reply",{{"status":"ok","response":{{"postgres_changes":{bindings}}}}}]"#
        ));
        let told = peer.take_lines();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("ch0.1 errored: binding mismatch"), "{told:?}");
    }
}

#[test]
fn a_change_for_the_older_join_while_the_next_is_under_way_is_stale_and_no_violation() {
    let (mut peer, id, _) = live(&[("a", 7)]);
    peer.command(bind("b", id));
    peer.take_lines();
    let stale = peer.command(|client, _| client.stats().stale_messages);
    // A server names no join in a change, and tells both joins the same ids.
    peer.say(
        r#"[null,null,"realtime:room","postgres_changes",{"ids":[7],"data":{"schema":"public",
            "table":"a","type":"INSERT","columns":[],"commit_timestamp":"2026-01-01T00:00:00Z",
            "errors":null,"record":{"id":1}}}]"#,
    );
    assert_eq!(peer.take_lines(), [""; 0]);
    assert_eq!(peer.command(|client, _| client.stats().stale_messages), stale + 1);
}

#[test]
fn a_binding_that_goes_and_comes_back_costs_no_join() {
    let (mut peer, id, places) = live(&[("a", 7), ("b", 8)]);
    peer.command(unbind(places[1], id));
    let back = peer.command(bind("b", id));
    assert_eq!(peer.take_frames(), [""; 0]);
    change(&mut peer, "[8]");
    assert!(delivered(&mut peer)[0].contains(back));
}

#[test]
fn row_changes_that_are_refused_for_good_are_told_with_their_cause() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open(&[all("a"), all("b")]));
    peer.take_frames();
    accept(&mut peer, 1, &[("a", 7), ("b", 8)]);
    peer.take_events();
    system(&mut peer, "error", UNPUBLISHED);
    assert_eq!(peer.take_lines(), ["ch0.1 system", "ch0.1 changes stopped: postgres refused"]);
    peer.command(|client, _| {
        let awaits = client.channel_info(id).unwrap().awaits;
        assert_eq!(awaits, Some(Awaits::Application));
        let channel = client.channel(id).unwrap();
        assert_eq!((channel.state(), channel.is_live()), (ChannelState::Joined, false));
        assert_eq!(channel.error().unwrap().text, UNPUBLISHED);
    });
    // Trying again is of no use, and nothing else of the channel is concerned.
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [""; 0]);
    say(&mut peer, "broadcast", r#"{"type":"broadcast","event":"e","payload":{}}"#);
    assert_eq!(peer.take_lines(), ["ch0.1 broadcast e"]);
    // One bad binding fails them all, so without it the others can be had.
    let bad = peer.command(|client, _| {
        let channel = client.channel(id).unwrap();
        let bad = channel.bindings().find(|(_, binding)| **binding == all("b"));
        bad.map(|(id, _)| id).unwrap()
    });
    peer.command(unbind(bad, id));
    let frames = peer.take_frames();
    let [join] = frames.as_slice() else { panic!("{frames:?}") };
    assert!(join.contains("phx_join") && !join.contains(r#""table":"b""#), "{join}");
}

#[test]
fn a_join_that_a_binding_takes_back_has_all_its_time_however_quiet_it_was_before() {
    let (mut peer, id, places) = live(&[("a", 7), ("b", 8)]);
    system(&mut peer, "error", UNPUBLISHED);
    peer.take_events();
    peer.pass(secs(20));
    peer.command(unbind(places[1], id));
    assert!(peer.take_frames()[0].contains("phx_join"));
    assert_eq!(peer.take_lines(), ["ch0.1 rejoining: rejoined"]);
    peer.pass(secs(9));
    assert_eq!(peer.take_lines(), [""; 0]);
}

#[test]
fn refused_row_changes_are_asked_for_again_when_the_application_says_so() {
    let (mut peer, id, _) = live(&[("b", 8)]);
    system(&mut peer, "error", UNPUBLISHED);
    peer.command(|client, now| client.channel(id).unwrap().rejoin(now));
    assert!(peer.take_frames()[0].contains("phx_join"));
}

#[test]
fn row_changes_that_fail_for_now_flow_again_after_a_gap() {
    let (mut peer, id, places) = live(&[("a", 7)]);
    peer.pass(secs(3));
    system(&mut peer, "error", "Too many database timeouts");
    assert_eq!(peer.take_lines(), ["ch0.1 system", "ch0.1 changes stopped: postgres timeout"]);
    let awaits = peer.command(|client, _| client.channel_info(id).unwrap().awaits);
    assert_eq!(awaits, Some(Awaits::Postgres));
    peer.pass(secs(7));
    assert_eq!(peer.take_frames(), [""; 0], "the server tries again by itself");
    system(&mut peer, "ok", SUBSCRIBED);
    let events = peer.take_events();
    let [_, Event::Channel(_, ChannelEvent::Gap(gap)), Event::Channel(_, ChannelEvent::Live)] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    let Stream::Changes { bindings, .. } = gap.stream else { panic!("{gap:?}") };
    assert!(bindings.contains(places[0]));
    assert_eq!(gap.why.text, "Too many database timeouts");
    assert_eq!(gap.to.to_string(), "10.000s");
}

#[test]
fn a_reply_that_says_null_for_what_was_not_asked_is_no_mismatch() {
    let mut peer = Peer::connected(settings());
    let whole_schema = Binding { table: None, ..all("") };
    peer.command(open(&[whole_schema, all("a")]));
    peer.say(&format!(
        r#"["1","1","{TOPIC}","phx_reply",{{"status":"ok","response":{{"postgres_changes":[null,
        {{"id":7,"event":"*","schema":"public","table":null,"filter":null,"select":null}},
        {{"id":8,"event":"*","schema":"public","table":"a","other":1}},null]}}}}]"#
    ));
    system(&mut peer, "ok", SUBSCRIBED);
    assert_eq!(peer.take_lines(), ["ch0.1 joined", "ch0.1 system", "ch0.1 live"]);
}

#[test]
fn every_join_asks_for_the_bindings_of_its_moment() {
    let (mut peer, id, places) = live(&[("a", 7), ("b", 8)]);
    peer.close(1012);
    peer.take_frames();
    // What changes while there is no connection counts, too.
    peer.command(unbind(places[0], id));
    peer.command(bind("c", id));
    peer.pass(secs(1));
    peer.accept();
    let join = peer.take_frames().remove(0);
    for (table, asked) in [("a", false), ("b", true), ("c", true)] {
        assert_eq!(join.contains(&format!(r#""table":"{table}""#)), asked, "{join}");
    }
    // The free place was taken by the new one, so that it is asked for first.
    accept(&mut peer, 1, &[("c", 9), ("b", 8)]);
    peer.take_events();
    change(&mut peer, "[8]");
    assert!(delivered(&mut peer)[0].contains(places[1]));
}

#[test]
fn a_large_value_that_an_update_left_alone_is_missing_and_not_null() {
    let (mut peer, _, _) = live(&[("a", 7)]);
    say(
        &mut peer,
        "postgres_changes",
        r#"{"ids":[7],"data":{"schema":"public","table":"a","type":"UPDATE",
        "columns":[{"name":"id","type":"int8"},{"name":"body","type":"text"}],
        "commit_timestamp":"2026-01-01T00:00:00Z","errors":null,
        "record":{"id":9007199254740993},"old_record":{"id":9007199254740993}}}"#,
    );
    let events = peer.take_events();
    let [Event::Channel(_, ChannelEvent::Change { change, .. })] = events.as_slice() else {
        panic!("{events:?}")
    };
    let missing = vec!["body".into()];
    assert_eq!(change.completeness(), Completeness::UnchangedMissing { missing });
    let row = change.typed::<BTreeMap<String, i64>>().unwrap().into_new_row().unwrap();
    assert_eq!(row, BTreeMap::from([("id".into(), 9_007_199_254_740_993)]));
}

#[test]
fn a_join_without_an_answer_says_when_the_server_was_last_heard() {
    for (speaks, words) in [
        (false, "no answer in 10s, and no other frame of the server"),
        (true, "no answer in 10s; the last frame of the server came 4s ago"),
    ] {
        let mut peer = Peer::connected(settings());
        let id = peer.command(open(&[all("a")]));
        peer.pass(secs(6));
        if speaks {
            peer.say(r#"[null,null,"realtime:other","broadcast",{}]"#);
        }
        peer.pass(secs(4));
        let cause = peer.command(|c, _| c.channel(id).unwrap().error().cloned()).unwrap();
        assert_eq!((cause.kind, &*cause.text), (CauseKind::JoinTimeout, words));
    }
}

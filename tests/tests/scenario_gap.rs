//! What was missed while a channel was away: reported as a gap, or recovered from the server's
//! store (G10).
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig, Replay};
use realtime_proto::{
    Backoff, ChannelConfig, ChannelEvent, ChannelId, Config, ConfigBuilder, Event, Gap, Limits,
    Payload, Stream,
};
use realtime_tests::peer::Peer;

const TOPIC: &str = "realtime:room";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

/// A live channel of Supabase, with the join ref 1.
fn live(config: JoinConfig) -> (Peer, ChannelId) {
    let mut peer = Peer::connected(settings());
    peer.command(|client, now| client.set_unix_time(secs(1_800_000_000), now));
    let id = peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(config), now).unwrap()
    });
    accept(&mut peer, "1");
    peer.take_events();
    peer.take_frames();
    (peer, id)
}

fn private() -> JoinConfig {
    JoinConfig { private: true, ..JoinConfig::default() }
}

fn rows() -> JoinConfig {
    let binding = Binding::new(ChangeEvent::All, "public", "messages");
    JoinConfig { postgres_changes: vec![binding], ..JoinConfig::default() }
}

/// Answers the join; with the binding of [`rows`] when the join asked for it.
fn accept(peer: &mut Peer, join_ref: &str) {
    let asked = peer.take_frames().iter().any(|frame| frame.contains(r#""table":"messages""#));
    let changes =
        if asked { r#"[{"id":7,"event":"*","schema":"public","table":"messages"}]"# } else { "[]" };
    peer.say(&format!(
        r#"["{join_ref}","{join_ref}","{TOPIC}","phx_reply",{{"status":"ok","response":{{"postgres_changes":{changes}}}}}]"#
    ));
}

fn subscribed(peer: &mut Peer, join_ref: &str) {
    peer.say(&format!(
        r#"["{join_ref}",null,"{TOPIC}","system",{{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room"}}]"#
    ));
}

fn change(peer: &mut Peer, join_ref: &str, committed: &str) {
    peer.say(&format!(
        r#"["{join_ref}",null,"{TOPIC}","postgres_changes",{{"ids":[7],"data":{{"schema":"public","table":"messages","type":"INSERT","commit_timestamp":"{committed}","columns":[],"record":{{"id":1}},"errors":null}}}}]"#
    ));
}

/// A stored broadcast as it is relayed live.
fn stored(peer: &mut Peer, id: u8) {
    peer.say(&format!(
        r#"[null,null,"{TOPIC}","broadcast",{{"type":"broadcast","event":"e{id}","payload":{{}},"meta":{{"id":"{}"}}}}]"#,
        uuid(id)
    ));
}

/// The same as the server replays it.
fn replayed(peer: &mut Peer, join_ref: &str, id: u8) {
    peer.say(&format!(
        r#"["{join_ref}",null,"{TOPIC}","broadcast",{{"type":"broadcast","event":"e{id}","payload":{{}},"meta":{{"id":"{}","replayed":true}}}}]"#,
        uuid(id)
    ));
}

fn uuid(id: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{id:02x}")
}

/// Cuts the connection and lets it come back; the channel has asked to join with `1` again.
fn cut(peer: &mut Peer) {
    peer.close(1012);
    peer.take_opens();
    while peer.take_opens().is_empty() {
        peer.pass(secs(1));
    }
    peer.accept();
}

fn gaps(peer: &mut Peer) -> Vec<Gap> {
    let gap = |event| match event {
        Event::Channel(_, ChannelEvent::Gap(gap)) => Some(gap),
        _ => None,
    };
    peer.take_events().into_iter().filter_map(gap).collect()
}

/// What the last join asked to have replayed.
fn asked_since(peer: &mut Peer) -> Option<String> {
    let frames = peer.take_frames();
    let join = frames.iter().rfind(|frame| frame.contains("phx_join"))?;
    let (_, rest) = join.split_once(r#""replay":{"since":"#)?;
    Some(rest.split(['}', ',']).next()?.to_owned())
}

#[test]
fn a_public_channel_tells_the_window_in_which_broadcasts_may_be_missing() {
    let (mut peer, _) = live(JoinConfig::default());
    // The heartbeat proves that all that was sent before it has come.
    peer.pass(secs(25));
    peer.say(r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    peer.pass(secs(5));
    cut(&mut peer);
    assert_eq!(gaps(&mut peer), [], "nothing flows yet");
    accept(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.stream, Stream::Messages);
    assert_eq!((gap.from.to_string(), gap.to.to_string()), ("25.000s".into(), "31.000s".into()));
    assert_eq!(gap.from_unix, Some(secs(1_800_000_025)));
    assert_eq!(gap.why.kind.to_string(), "service restart");
}

#[test]
fn a_channel_that_joins_for_the_first_time_has_missed_nothing() {
    let mut peer = Peer::connected(settings());
    peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(rows()), now).unwrap();
    });
    // The first join is refused, the second works: nothing had flowed before.
    peer.say(&format!(
        r#"["1","1","{TOPIC}","phx_reply",{{"status":"error","response":{{"reason":"RealtimeRestarting: wait"}}}}]"#
    ));
    peer.pass(secs(1));
    accept(&mut peer, "2");
    subscribed(&mut peer, "2");
    assert!(peer.take_lines().iter().all(|line| !line.contains("gap")));
}

#[test]
fn a_phoenix_channel_tells_it_too() {
    let mut peer = Peer::connected(settings());
    peer.command(|client, now| {
        client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    });
    peer.say_ok("1", "1", "room:a");
    peer.say(r#"["1",null,"room:a","phx_error",{}]"#);
    peer.pass(secs(1));
    peer.say_ok("2", "2", "room:a");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.why.kind.to_string(), "channel crashed");
}

#[test]
fn row_changes_tell_where_to_go_on_from_once_they_flow_again() {
    let (mut peer, id) = live(rows());
    subscribed(&mut peer, "1");
    change(&mut peer, "1", "2026-11-22T20:39:54.250Z");
    cut(&mut peer);
    accept(&mut peer, "1");
    let messages = gaps(&mut peer);
    assert_eq!(messages.iter().map(|gap| &gap.stream).collect::<Vec<_>>(), [&Stream::Messages]);
    peer.pass(secs(3));
    subscribed(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    let Stream::Changes { bindings, last_commit } = gap.stream else { panic!("{gap:?}") };
    assert_eq!(last_commit, Some(Duration::from_millis(1_795_379_994_250)));
    let binding =
        peer.command(|client, _| client.channel(id).unwrap().bindings().next().unwrap().0);
    assert!(bindings.contains(binding));
    assert_eq!(gap.to.to_string(), "4.000s");
}

#[test]
fn a_gap_begins_with_the_first_of_several_cuts() {
    let (mut peer, _) = live(rows());
    subscribed(&mut peer, "1");
    cut(&mut peer);
    accept(&mut peer, "1");
    peer.take_events();
    // Row changes did not flow before the second cut, so they are missing since the first.
    peer.pass(secs(2));
    cut(&mut peer);
    accept(&mut peer, "1");
    subscribed(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [messages, changes] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(messages.from.to_string(), "1.000s");
    assert_eq!(changes.from.to_string(), "0.000s");
}

#[test]
fn a_binding_that_is_added_has_no_gap_but_the_others_have() {
    let (mut peer, id) = live(rows());
    subscribed(&mut peer, "1");
    peer.take_events();
    let added = peer.command(|client, now| {
        let binding = Binding::new(ChangeEvent::Insert, "public", "users");
        client.channel(id).unwrap().bind(binding, now).unwrap()
    });
    peer.say(&format!(
        r#"["2","2","{TOPIC}","phx_reply",{{"status":"ok","response":{{"postgres_changes":[{{"id":7,"event":"*","schema":"public","table":"messages"}},{{"id":8,"event":"INSERT","schema":"public","table":"users"}}]}}}}]"#
    ));
    subscribed(&mut peer, "2");
    let gaps = gaps(&mut peer);
    let [messages, changes] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(messages.why.kind.to_string(), "rejoined");
    let Stream::Changes { bindings, .. } = changes.stream else { panic!("{changes:?}") };
    assert!(!bindings.contains(added) && !bindings.is_empty());
}

#[test]
fn a_subscription_that_the_server_began_anew_has_a_gap() {
    let (mut peer, _) = live(rows());
    subscribed(&mut peer, "1");
    peer.pass(secs(1));
    peer.take_events();
    subscribed(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.why.kind.to_string(), "changes restarted");
}

/// A server that loses what follows the database says nothing, tries to begin anew, and tells when
/// that fails.
#[test]
fn a_stop_that_the_server_tells_of_may_have_begun_with_the_last_change() {
    let (mut peer, _) = live(rows());
    subscribed(&mut peer, "1");
    peer.pass(secs(10));
    change(&mut peer, "1", "2026-11-22T20:39:54.250Z");
    peer.pass(secs(15));
    peer.say(r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    peer.pass(secs(1));
    peer.say(&format!(
        r#"["1",null,"{TOPIC}","system",{{"extension":"postgres_changes","status":"error","message":"Too many database timeouts","channel":"room"}}]"#
    ));
    peer.pass(secs(5));
    subscribed(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    // Nothing was answered between the join and the change.
    assert_eq!((gap.from.to_string(), gap.to.to_string()), ("0.000s".into(), "31.000s".into()));
}

#[test]
fn a_subscription_that_goes_on_with_another_token_has_none() {
    let (mut peer, _) = live(rows());
    subscribed(&mut peer, "1");
    peer.command(|client, now| client.set_access_token(Some("another".into()), now));
    subscribed(&mut peer, "1");
    assert_eq!(gaps(&mut peer), []);
}

#[test]
fn a_token_that_is_told_before_the_rows_flow_begins_no_gap() {
    let (mut peer, _) = live(rows());
    peer.command(|client, now| client.set_access_token(Some("one".into()), now));
    peer.command(|client, now| client.set_access_token(Some("two".into()), now));
    // For the join, and for each token.
    for _ in 0..3 {
        subscribed(&mut peer, "1");
    }
    assert_eq!(gaps(&mut peer), []);
    subscribed(&mut peer, "1");
    assert_eq!(gaps(&mut peer).len(), 1);
}

#[test]
fn a_token_that_the_server_does_not_mind_hides_no_restart() {
    // For none, and for an API key, a server does not begin anew.
    for token in [None, Some("sb_publishable_key".into())] {
        let (mut peer, _) = live(rows());
        subscribed(&mut peer, "1");
        peer.command(|client, now| client.set_access_token(Some("one".into()), now));
        subscribed(&mut peer, "1");
        assert_eq!(gaps(&mut peer), []);
        peer.command(|client, now| client.set_access_token(token, now));
        peer.pass(secs(20));
        subscribed(&mut peer, "1");
        let gaps = gaps(&mut peer);
        let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
        assert_eq!(gap.why.kind.to_string(), "changes restarted");
    }
}

#[test]
fn a_private_channel_has_the_stored_broadcasts_replayed_and_delivers_each_once() {
    let (mut peer, _) = live(private());
    peer.pass(secs(10));
    stored(&mut peer, 1);
    stored(&mut peer, 2);
    assert_eq!(peer.take_lines(), ["ch0.1 broadcast e1", "ch0.1 broadcast e2"]);
    cut(&mut peer);
    peer.take_events();
    // The last stored one came after 10 s; a minute is allowed for clocks that differ.
    assert_eq!(asked_since(&mut peer).as_deref(), Some("1799999950000"));
    accept(&mut peer, "1");
    for id in [1, 2, 3, 4] {
        replayed(&mut peer, "1", id);
    }
    stored(&mut peer, 4);
    let told = ["ch0.1 joined", "ch0.1 live", "ch0.1 broadcast e3", "ch0.1 broadcast e4"];
    assert_eq!(peer.take_lines(), told);
    peer.pass(secs(2));
    assert_eq!(peer.take_lines(), ["ch0.1 recovered 2, contiguous"]);
}

#[test]
fn what_the_application_had_replayed_is_a_place_to_go_on_from() {
    let mut config = private();
    let last_seen = secs(1_799_990_000);
    config.broadcast.replay = Some(Replay::since(last_seen).with_limit(10));
    let (mut peer, _) = live(config);
    for id in [1, 2] {
        replayed(&mut peer, "1", id);
    }
    peer.pass(secs(20));
    cut(&mut peer);
    peer.take_events();
    // They were stored at some time after the one that was asked for.
    assert_eq!(asked_since(&mut peer).as_deref(), Some("1799990000000"));
    accept(&mut peer, "1");
    for id in [1, 2, 3] {
        replayed(&mut peer, "1", id);
    }
    peer.pass(secs(2));
    let told =
        ["ch0.1 joined", "ch0.1 live", "ch0.1 broadcast e3", "ch0.1 recovered 1, contiguous"];
    assert_eq!(peer.take_lines(), told);
}

#[test]
fn a_replay_that_does_not_reach_back_is_no_proof() {
    let (mut peer, _) = live(private());
    peer.pass(secs(20));
    stored(&mut peer, 1);
    cut(&mut peer);
    assert_eq!(asked_since(&mut peer).as_deref(), Some("1799999960000"));
    accept(&mut peer, "1");
    for id in 10..35 {
        replayed(&mut peer, "1", id);
    }
    let told = peer.take_lines();
    let [.., recovered, gap] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(recovered, "ch0.1 recovered 25, not contiguous", "25 are all that can come");
    assert!(gap.starts_with("ch0.1 gap of messages"), "{gap}");
}

#[test]
fn a_channel_that_never_got_a_stored_broadcast_cannot_recover() {
    let (mut peer, _) = live(private());
    cut(&mut peer);
    assert_eq!(asked_since(&mut peer), None);
    accept(&mut peer, "1");
    assert_eq!(gaps(&mut peer).len(), 1);
}

#[test]
fn a_replay_that_is_cut_short_is_asked_for_from_the_same_place_again() {
    let (mut peer, _) = live(private());
    peer.pass(secs(20));
    stored(&mut peer, 1);
    cut(&mut peer);
    let since = asked_since(&mut peer);
    accept(&mut peer, "1");
    replayed(&mut peer, "1", 1);
    replayed(&mut peer, "1", 2);
    cut(&mut peer);
    assert_eq!(asked_since(&mut peer), since);
    peer.take_events();
    accept(&mut peer, "1");
    for id in [1, 2, 3] {
        replayed(&mut peer, "1", id);
    }
    peer.pass(secs(2));
    let told =
        ["ch0.1 joined", "ch0.1 live", "ch0.1 broadcast e3", "ch0.1 recovered 1, contiguous"];
    assert_eq!(peer.take_lines(), told);
}

#[test]
fn a_server_that_cannot_replay_is_joined_without_it_and_the_gap_is_told() {
    for reason in ["Realtime was unable to replay messages", "Replay params are not valid"] {
        let (mut peer, _) = live(private());
        peer.pass(secs(20));
        stored(&mut peer, 1);
        cut(&mut peer);
        peer.take_events();
        assert!(asked_since(&mut peer).is_some());
        peer.say(&format!(
            r#"["1","1","{TOPIC}","phx_reply",{{"status":"error","response":{{"reason":"UnableToReplayMessages: {reason}"}}}}]"#
        ));
        let told = peer.take_lines();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("ch0.1 errored: replay failed"), "{told:?}");
        peer.pass(secs(2));
        let frames = peer.take_frames();
        assert!(frames.iter().any(|frame| frame.contains("phx_join")), "{frames:?}");
        assert!(frames.iter().all(|frame| !frame.contains("replay")), "{frames:?}");
        accept(&mut peer, "2");
        let told = gaps(&mut peer);
        let [gap] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(
            (&gap.stream, &*gap.why.kind.to_string()),
            (&Stream::Messages, "service restart")
        );
        // The next time it may well be able to.
        stored(&mut peer, 2);
        cut(&mut peer);
        assert!(asked_since(&mut peer).is_some());
    }
}

#[test]
fn a_sender_cannot_pass_a_broadcast_off_as_a_replay() {
    let (mut peer, _) = live(private());
    stored(&mut peer, 1);
    cut(&mut peer);
    accept(&mut peer, "1");
    peer.take_events();
    // Relayed as its sender wrote it: the join is not named.
    peer.say(&format!(
        r#"[null,null,"{TOPIC}","broadcast",{{"type":"broadcast","event":"forged","payload":{{}},"meta":{{"id":"{}","replayed":true}}}}]"#,
        uuid(1)
    ));
    peer.pass(secs(2));
    let told = peer.take_lines();
    assert!(told.contains(&"ch0.1 recovered 0, not contiguous".to_owned()), "{told:?}");
}

#[test]
fn without_the_wall_clock_nothing_is_replayed_and_the_gap_is_told() {
    let mut peer = Peer::connected(settings());
    peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(private()), now).unwrap()
    });
    accept(&mut peer, "1");
    stored(&mut peer, 1);
    cut(&mut peer);
    assert_eq!(asked_since(&mut peer), None);
    accept(&mut peer, "1");
    let gaps = gaps(&mut peer);
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.from_unix, None);
}

#[test]
fn frames_that_were_dropped_for_want_of_room_are_a_gap_too() {
    let mut limits = Limits::default();
    limits.events_queued_max = 4;
    let config = settings().limits(limits).build().unwrap();
    let now = realtime_proto::Instant::EPOCH;
    let mut client = realtime_proto::Client::new(config, 1, now);
    client.connect(now);
    let Some(realtime_proto::Transmit::Open { socket, .. }) = client.poll_transmit() else {
        panic!("the client opens a socket")
    };
    client.handle_open(socket, now);
    client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), now).unwrap();
    let text = |frame: &str| realtime_proto::Frame::text(frame.to_owned());
    let ok = |join_ref: u8| {
        text(&format!(
            r#"["{join_ref}","{join_ref}","room:a","phx_reply",{{"status":"ok","response":{{}}}}]"#
        ))
    };
    while client.poll_transmit().is_some() {}
    client.handle_frame(socket, ok(1), now);
    for n in 0..20 {
        client.handle_frame(socket, text(&format!(r#"["1",null,"room:a","n{n}",{{}}]"#)), now);
    }
    assert!(client.stats().frames_dropped > 0);
    while client.poll_event().is_some() {}
    let later = client.poll_timeout().expect("now that there is room, it is healed");
    assert_eq!(later, now + Duration::from_millis(1));
    client.handle_timeout(later);
    while client.poll_transmit().is_some() {}
    client.handle_frame(socket, ok(2), later);
    let told: Vec<String> = core::iter::from_fn(|| client.poll_event())
        .map(|event| realtime_sim::describe(&event))
        .collect();
    let expected = [
        "ch0.1 rejoining: events overflowed",
        "ch0.1 joined",
        "ch0.1 gap of messages from 0.000s to 0.001s: events overflowed",
        "ch0.1 live",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_gap_begins_before_what_was_dropped_whatever_is_answered_later() {
    let mut limits = Limits::default();
    limits.events_queued_max = 2;
    let config = settings().limits(limits).build().unwrap();
    let at = |seconds| realtime_proto::Instant::from_epoch(secs(seconds));
    let mut client = realtime_proto::Client::new(config, 1, at(0));
    let open = |client: &mut realtime_proto::Client| loop {
        match client.poll_transmit() {
            Some(realtime_proto::Transmit::Open { socket, .. }) => return socket,
            Some(_) => {}
            None => panic!("the client opens a socket"),
        }
    };
    let text = |frame: &str| realtime_proto::Frame::text(frame.to_owned());
    let ok = text(r#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#);
    client.open_channel("room:a", ChannelConfig::phoenix(Payload::empty()), at(0)).unwrap();
    client.connect(at(0));
    let socket = open(&mut client);
    client.handle_open(socket, at(0));
    while client.poll_transmit().is_some() {}
    client.handle_frame(socket, ok.clone(), at(0));
    while client.poll_event().is_some() {}
    for n in 0..5 {
        client.handle_frame(socket, text(&format!(r#"["1",null,"room:a","n{n}",{{}}]"#)), at(1));
    }
    assert_eq!(client.stats().frames_dropped, 1);
    // Some of the events are taken, a heartbeat is answered, and the connection is lost.
    assert!(client.poll_event().is_some() && client.poll_event().is_some());
    client.probe(at(2));
    while client.poll_transmit().is_some() {}
    client.handle_frame(socket, text(r#"[null,"2","phoenix","phx_reply",{"status":"ok"}]"#), at(2));
    let lost = realtime_proto::CloseReason::Lost { detail: "reset".into() };
    client.handle_close(socket, lost, at(3));
    while client.poll_event().is_some() {}
    client.handle_timeout(client.reconnect_at().unwrap());
    let socket = open(&mut client);
    client.handle_open(socket, at(5));
    while client.poll_transmit().is_some() {}
    client.handle_frame(socket, ok, at(5));
    let gap = core::iter::from_fn(|| client.poll_event()).find_map(|event| match event {
        Event::Channel(_, ChannelEvent::Gap(gap)) => Some(gap),
        _ => None,
    });
    let gap = gap.unwrap();
    assert!(gap.from <= at(1) && gap.to == at(5), "{gap:?}");
}

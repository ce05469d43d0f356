//! Broadcasts: what is sent, what comes of it, and what is received.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::server::ServerConfig;
use realtime_proto::supabase::{
    Broadcast, BroadcastConfig, CauseKind, ChangeKind, JoinConfig, Persist, Replay,
};
use realtime_proto::wire::Vsn;
use realtime_proto::{
    Awaits, Backoff, BroadcastOptions, ChannelConfig, ChannelEvent, ChannelId, Client, Config,
    ConfigBuilder, Event, Limits, OpenError, Outcome, Payload, PushError, PushId, PushOptions,
    Status, Stream,
};
use realtime_sim::{NodeId, World};
use realtime_tests::peer::Peer;

const TOPIC: &str = "realtime:ub";

/// What a server says when broadcasts of the database reach the channel.
const READY: &str = r#"["1",null,"realtime:ub","system",{"message":"Replication connection established","status":"ok","extension":"system","channel":"ub"}]"#;

/// The wall clock when a test begins.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

fn public(broadcast: BroadcastConfig) -> JoinConfig {
    JoinConfig { broadcast, ..JoinConfig::default() }
}

fn private(broadcast: BroadcastConfig) -> JoinConfig {
    JoinConfig { private: true, ..public(broadcast) }
}

fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

/// A client whose channel asked to join, with the ref 1.
fn joining(settings: ConfigBuilder, config: JoinConfig) -> (Peer, ChannelId) {
    let mut peer = Peer::connected(settings);
    let room = peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(config), now).unwrap()
    });
    (peer, room)
}

/// The same, live.
fn live(settings: ConfigBuilder, config: JoinConfig) -> (Peer, ChannelId) {
    let (mut peer, room) = joining(settings, config);
    peer.say_ok("1", "1", TOPIC);
    peer.take_frames();
    peer.take_events();
    (peer, room)
}

fn broadcast(
    peer: &mut Peer,
    room: ChannelId,
    payload: Payload,
    options: impl Into<BroadcastOptions>,
) -> Result<PushId, PushError> {
    peer.command(|client, now| {
        client.channel(room).unwrap().broadcast_with("uj", payload, options, now)
    })
}

/// How the pushes ended, in order.
fn ended(peer: &mut Peer) -> Vec<(PushId, Outcome)> {
    let events = peer.take_events().into_iter();
    let ended = events.filter_map(|event| match event {
        Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) => Some((push, outcome)),
        _ => None,
    });
    ended.collect()
}

fn received(event: &Event) -> Option<&Broadcast> {
    match event {
        Event::Channel(_, ChannelEvent::Broadcast(broadcast)) => Some(broadcast),
        _ => None,
    }
}

/// A client of a world, which knows the wall clock, and its channel.
fn add(world: &mut World, config: JoinConfig) -> (NodeId, ChannelId) {
    let node = world.add_client(settings().build().unwrap());
    let config = ChannelConfig::supabase(config);
    let channel = world.client(node, |client, now| {
        client.set_unix_time(BEGIN + now.since_epoch(), now);
        client.connect(now);
        client.open_channel(TOPIC, config, now).unwrap()
    });
    (node, channel)
}

fn world() -> World {
    World::seed(1)
        .with_server(ServerConfig { unix_time_at_epoch: BEGIN, ..ServerConfig::default() })
}

/// What a node received since the last call: events, and whether they were replayed.
fn heard(world: &mut World, node: NodeId) -> Vec<(String, bool)> {
    let log = world.take_log(node);
    let broadcasts = log.iter().filter_map(|(_, event)| received(event));
    broadcasts
        .map(|broadcast| {
            let replayed = broadcast.meta.as_ref().is_some_and(|meta| meta.replayed);
            (broadcast.event.clone(), replayed)
        })
        .collect()
}

#[test]
fn a_join_asks_for_what_the_broadcast_settings_say() {
    let replay = Replay::since(Duration::from_millis(1_795_376_394_970)).with_limit(4);
    let everything = BroadcastConfig::default().with_ack().with_echo().with_replay(replay);
    let asked = |config: JoinConfig| {
        let (mut peer, _) = joining(settings(), config);
        let frame: serde_json::Value = serde_json::from_str(&peer.take_frames()[0]).unwrap();
        frame[4]["config"]["broadcast"].to_string()
    };
    // As a recorded client asks.
    assert_eq!(
        asked(private(everything.with_replication_ready())),
        r#"{"ack":true,"replay":{"limit":4,"since":1795376394970},"replication_ready":true,"self":true}"#
    );
    assert_eq!(asked(public(BroadcastConfig::default())), r#"{"ack":false,"self":false}"#);
}

#[test]
fn a_replay_on_a_public_channel_is_refused_before_anything_is_sent() {
    let mut peer = Peer::connected(settings());
    let config = public(BroadcastConfig::default().with_replay(Replay::since(BEGIN)));
    let refused = peer.command(|client, now| {
        client.open_channel(TOPIC, ChannelConfig::supabase(config), now).unwrap_err()
    });
    assert_eq!(refused, OpenError::ReplayOnPublic { topic: TOPIC.into() });
    assert_eq!(
        refused.to_string(),
        "`realtime:ub` asks for a replay, which public channels do not have; make it private"
    );
    assert_eq!(peer.take_frames(), [""; 0]);
}

#[test]
fn json_travels_as_text_and_bytes_as_a_binary_frame() {
    let (mut peer, room) = live(settings(), public(BroadcastConfig::default()));
    broadcast(&mut peer, room, json(r#"{"n":1}"#), PushOptions::new()).unwrap();
    broadcast(&mut peer, room, Payload::binary(b"\0\x01~".to_vec()), PushOptions::new()).unwrap();
    let frames = [
        r#"["1","2","realtime:ub","broadcast",{"type":"broadcast","event":"uj","payload":{"n":1}}]"#,
        "\x03\x01\x01\x0b\x02\x00\x0013realtime:ubuj\0\x01~",
    ];
    assert_eq!(peer.take_frames(), frames);
}

#[test]
fn both_forms_are_received_and_their_bytes_are_the_senders() {
    let (mut peer, _) = live(settings(), public(BroadcastConfig::default()));
    peer.say(
        r#"[null,null,"realtime:ub","broadcast",{"event":"Hello","payload":[1],"type":"broadcast"}]"#,
    );
    // From the recording of a real server: JSON and bytes in binary frames.
    peer.say_bytes(b"\x04\x0b\x02\x00\x01realtime:ubuj{\"n\":1}");
    peer.say_bytes(b"\x04\x0b\x02\x00\x00realtime:ubub\x00\x01\xfe\xff");
    let events = peer.take_events();
    let [hello, uj, ub] = &*events.iter().map(|e| received(e).unwrap()).collect::<Vec<_>>() else {
        panic!("{events:?}")
    };
    assert!(hello.matches("hello") && hello.matches("*") && !hello.matches("uj"));
    assert_eq!((hello.payload.as_json(), uj.payload.as_json()), (Some("[1]"), Some(r#"{"n":1}"#)));
    assert_eq!((ub.payload.as_json(), ub.payload.as_bytes()), (None, &b"\x00\x01\xfe\xff"[..]));
    assert_eq!(ub.id(), None, "nobody keeps it");
}

#[test]
fn a_message_of_the_database_names_its_id_and_its_row() {
    let (mut peer, _) = live(settings(), private(BroadcastConfig::default()));
    let id = "74101cdd-63b7-4aed-8bea-14999527d6fb";
    let meta = format!(r#"{{"id":"{id}"}}"#);
    let payload = format!(
        r#"{{"id": "{id}", "table": "notes", "record": {{"id": 9007199254740993}}, "schema": "public", "operation": "UPDATE", "old_record": {{"id": 9007199254740992}}}}"#
    );
    let mut frame = vec![4, 11, 6, meta.len().try_into().unwrap(), 1];
    frame.extend_from_slice(format!("{TOPIC}UPDATE{meta}{payload}").as_bytes());
    peer.say_bytes(&frame);
    let events = peer.take_events();
    let told = received(&events[0]).unwrap();
    assert_eq!(told.id(), Some(id));
    let change = told.change::<std::collections::BTreeMap<String, u64>>().unwrap();
    assert_eq!(change.operation, ChangeKind::Update);
    // Numbers that no double holds.
    assert_eq!(change.record.unwrap()["id"], 9_007_199_254_740_993);
    assert_eq!(change.old_record.unwrap()["id"], 9_007_199_254_740_992);
}

#[test]
fn with_ack_a_broadcast_ends_with_the_reply_and_without_it_when_it_is_sent() {
    let (mut peer, room) = live(settings(), public(BroadcastConfig::default()));
    let push = broadcast(&mut peer, room, json("{}"), PushOptions::new()).unwrap();
    assert_eq!(ended(&mut peer), [(push, Outcome::Sent)]);
    let (mut peer, room) = live(settings(), public(BroadcastConfig::default().with_ack()));
    let push = broadcast(&mut peer, room, json("{}"), PushOptions::new()).unwrap();
    assert_eq!(ended(&mut peer), []);
    peer.say_ok("1", "2", TOPIC);
    let replied = Outcome::Replied { status: Status::Ok, response: Payload::empty() };
    assert_eq!((replied.cause(), ended(&mut peer)), (None, vec![(push, replied)]));
}

#[test]
fn a_broadcast_that_came_to_nothing_says_why_and_what_to_do() {
    let (mut peer, room) = live(settings(), private(BroadcastConfig::default().with_ack()));
    for _ in 0..2 {
        broadcast(&mut peer, room, json("{}"), PushOptions::new()).unwrap();
    }
    peer.say(
        r#"["1","2","realtime:ub","phx_reply",{"status":"error","response":"payload_size_exceeded"}]"#,
    );
    // The second one is never answered: so a server refuses what no policy allows.
    peer.pass(secs(10));
    let causes: Vec<String> =
        ended(&mut peer).iter().map(|(_, outcome)| outcome.cause().unwrap().to_string()).collect();
    let expected = [
        "payload too large (payload_size_exceeded). \
         Send a smaller payload, or raise the limit of the project.",
        "push timeout. The server did not reply; \
         on a private channel it drops without a word what no policy allows.",
    ];
    assert_eq!(causes, expected);
    // The newer servers that keep broadcasts say it in an object.
    broadcast(&mut peer, room, json("{}"), PushOptions::new()).unwrap();
    peer.say(
        r#"["1","4","realtime:ub","phx_reply",{"status":"error","response":{"error":"full"}}]"#,
    );
    let cause = ended(&mut peer)[0].1.cause().unwrap();
    assert_eq!((cause.kind, &*cause.text), (CauseKind::Unknown, "full"));
}

#[test]
fn a_payload_that_no_project_takes_is_refused_at_the_call() {
    let mut limits = Limits::default();
    assert_eq!(limits.broadcast_bytes_max, 3_000_000);
    limits.broadcast_bytes_max = 10;
    let (mut peer, room) =
        live(settings().limits(limits), public(BroadcastConfig::default().with_ack()));
    let tell = |peer: &mut Peer, payload| broadcast(peer, room, payload, PushOptions::new());
    assert!(tell(&mut peer, json(r#""12345678""#)).is_ok());
    assert!(tell(&mut peer, Payload::binary(vec![0; 10])).is_ok());
    let refused = Err(PushError::TooLarge { bytes: 11, max: 10 });
    assert_eq!(tell(&mut peer, json(r#""123456789""#)), refused);
    assert_eq!(tell(&mut peer, Payload::binary(vec![0; 11])), refused);
    assert_eq!(peer.take_frames().len(), 2);
    // Other events are none of the broadcasts, and their server has limits of its own.
    let push = peer.command(|client, now| {
        client.channel(room).unwrap().push("event", json(r#""123456789""#), now)
    });
    assert!(push.is_ok());
}

#[test]
fn a_broadcast_to_be_kept_says_so_beside_its_payload() {
    let (mut peer, room) = live(settings(), private(BroadcastConfig::default()));
    let kept = |persist| PushOptions::new().persisted(persist);
    let minute = Persist::For(secs(60));
    broadcast(&mut peer, room, json(r#"{"n":1}"#), kept(Persist::Longest)).unwrap();
    broadcast(&mut peer, room, json(r#"{"n":1}"#), kept(minute)).unwrap();
    broadcast(&mut peer, room, Payload::binary(b"~".to_vec()), kept(minute)).unwrap();
    let frames = [
        "\x03\x01\x01\x0b\x02\x10\x0112realtime:ubuj{\"persist\":true}{\"n\":1}",
        "\x03\x01\x01\x0b\x02\x16\x0113realtime:ubuj{\"persist\":{\"ttl\":60}}{\"n\":1}",
        "\x03\x01\x01\x0b\x02\x16\x0014realtime:ubuj{\"persist\":{\"ttl\":60}}~",
    ];
    assert_eq!(peer.take_frames(), frames);
}

#[test]
fn a_broadcast_that_no_server_would_keep_is_refused_at_the_call() {
    let kept = || PushOptions::new().persisted(Persist::Longest);
    let (mut peer, room) = live(settings(), public(BroadcastConfig::default()));
    let refused = broadcast(&mut peer, room, json("{}"), kept());
    assert_eq!(refused, Err(PushError::PersistOnPublic));
    assert_eq!(peer.take_frames(), [""; 0]);
    let (mut peer, room) = joining(settings().vsn(Vsn::V1), private(BroadcastConfig::default()));
    let refused = broadcast(&mut peer, room, json("{}"), kept());
    assert_eq!(refused, Err(PushError::PersistOnV1));
    // A name that has no binary form can be relayed as text, and not be kept.
    let (mut peer, room) = live(settings(), private(BroadcastConfig::default()));
    let name = "e".repeat(256);
    let named = |peer: &mut Peer, options: BroadcastOptions| {
        peer.command(|client, now| {
            client.channel(room).unwrap().broadcast_with(&*name, json("{}"), options, now)
        })
    };
    assert!(matches!(named(&mut peer, kept()), Err(PushError::Encode(_))));
    assert!(named(&mut peer, PushOptions::new().into()).is_ok());
}

#[test]
fn a_channel_is_live_once_broadcasts_of_the_database_reach_it() {
    let (mut peer, room) =
        joining(settings(), public(BroadcastConfig::default().with_replication_ready()));
    let awaits = |client: &mut Client, room| client.channel_info(room).unwrap().awaits;
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(peer.command(|client, _| awaits(client, room)), Some(Awaits::Replication));
    peer.take_events();
    peer.say(READY);
    assert_eq!(peer.command(|client, _| awaits(client, room)), None);
    assert!(peer.take_lines().contains(&"ch0.1 live".to_owned()));

    // After an outage the window in which they may be missing ends only then.
    peer.pass(secs(5));
    peer.close(1012);
    peer.pass(secs(1));
    peer.accept();
    peer.say_ok("1", "1", TOPIC);
    peer.pass(secs(4));
    let gap = |event: &Event| matches!(event, Event::Channel(_, ChannelEvent::Gap(_)));
    assert!(!peer.take_events().iter().any(gap), "they do not flow yet");
    peer.say(READY);
    let gaps: Vec<String> = peer
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Channel(_, ChannelEvent::Gap(gap)) => {
                assert_eq!(gap.stream, Stream::Messages);
                Some(format!("{} to {}", gap.from, gap.to))
            }
            _ => None,
        })
        .collect();
    assert_eq!(gaps, ["0.000s to 10.000s"]);
}

#[test]
fn a_replay_does_not_hide_that_the_database_came_late() {
    let config = private(BroadcastConfig::default().with_replication_ready());
    let (mut peer, _) = joining(settings(), config);
    peer.command(|client, now| client.set_unix_time(BEGIN, now));
    let stored = |replayed: &str| {
        format!(
            r#"["1",null,"realtime:ub","broadcast",{{"event":"e","payload":{{}},"meta":{{"id":"00000000-0000-4000-8000-000000000001"{replayed}}}}}]"#
        )
    };
    peer.say_ok("1", "1", TOPIC);
    peer.say(READY);
    peer.say(&stored(""));
    let recovered = "ch0.1 recovered 0, contiguous";
    let gap = "ch0.1 gap of messages from 8.000s to 15.000s: changes restarted";
    // The word comes at once, and then when the replay is long over.
    for (late, told) in [(secs(1), vec![recovered]), (secs(7), vec![recovered, gap])] {
        peer.close(1012);
        peer.take_opens();
        while peer.take_opens().is_empty() {
            peer.pass(secs(1));
        }
        peer.accept();
        peer.say_ok("1", "1", TOPIC);
        peer.say(&stored(r#","replayed":true"#));
        peer.take_events();
        peer.pass(late);
        peer.say(READY);
        peer.pass(secs(5));
        let lines = peer.take_lines();
        let about = |line: &&String| line.contains("recovered") || line.contains("gap");
        assert_eq!(lines.iter().filter(about).collect::<Vec<_>>(), told);
    }
}

#[test]
fn a_replay_that_was_asked_for_at_the_start_is_not_told_twice() {
    // Where the application's replay began is known without the wall clock.
    let replay = Replay::since(BEGIN);
    let (mut peer, _) =
        joining(settings(), private(BroadcastConfig::default().with_replay(replay)));
    let replayed = |peer: &mut Peer, ids: core::ops::Range<u8>| {
        for id in ids {
            peer.say(&format!(
                r#"["1",null,"realtime:ub","broadcast",{{"event":"e{id}","payload":{{}},"meta":{{"id":"00000000-0000-4000-8000-0000000000{id:02x}","replayed":true}}}}]"#
            ));
        }
    };
    peer.say_ok("1", "1", TOPIC);
    replayed(&mut peer, 0..25);
    let told = peer.take_lines();
    assert_eq!(told.iter().filter(|line| line.contains("broadcast")).count(), 25);
    peer.close(1012);
    peer.pass(secs(1));
    peer.accept();
    let asked = peer.take_frames();
    assert!(asked.last().unwrap().contains(r#""replay":{"since":1800000000000}"#), "{asked:?}");
    peer.take_events();
    peer.say_ok("1", "1", TOPIC);
    replayed(&mut peer, 1..26);
    let told = peer.take_lines();
    // What it brings is new or known, and it reaches back to what was told last.
    let about = |line: &&String| !line.contains("joined") && !line.contains("live");
    let recovered = "ch0.1 recovered 1, contiguous";
    assert_eq!(told.iter().filter(about).collect::<Vec<_>>(), ["ch0.1 broadcast e25", recovered]);
}

#[test]
fn one_hears_oneself_only_on_request() {
    let mut world = world();
    let (ana, room) = add(&mut world, public(BroadcastConfig::default().with_echo()));
    let (ben, other) = add(&mut world, public(BroadcastConfig::default()));
    world.run_for(secs(2));
    for (node, channel, event) in [(ana, room, "from ana"), (ben, other, "from ben")] {
        world.client(node, |client, now| {
            client.channel(channel).unwrap().broadcast(event, json("{}"), now).unwrap();
        });
        world.run_for(secs(1));
    }
    let live = |event: &str| (event.to_owned(), false);
    assert_eq!(heard(&mut world, ana), [live("from ana"), live("from ben")]);
    assert_eq!(heard(&mut world, ben), [live("from ana")]);
}

#[test]
fn what_is_kept_reaches_those_who_come_later_and_ask_for_it() {
    let mut world = world();
    let (ana, room) = add(&mut world, private(BroadcastConfig::default().with_ack()));
    world.run_for(secs(2));
    for n in 0..6 {
        let options = BroadcastOptions::from(PushOptions::new());
        let kept = PushOptions::new().persisted(Persist::For(secs(60)));
        let options = if n % 2 == 0 { kept } else { options };
        world.client(ana, |client, now| {
            let mut channel = client.channel(room).unwrap();
            channel.broadcast_with(format!("e{n}"), json("{}"), options, now).unwrap();
        });
        world.run_for(secs(1));
    }
    // What was kept is acknowledged with the id that listeners are told.
    let log = world.take_log(ana);
    let ids = log.iter().filter_map(|(_, event)| match event {
        Event::Channel(_, ChannelEvent::PushEnded { outcome, .. }) => match outcome {
            Outcome::Replied { status: Status::Ok, response } => {
                Some(response.as_json().unwrap().contains(r#""id":"#))
            }
            other => panic!("{other:?}"),
        },
        _ => None,
    });
    assert_eq!(ids.collect::<Vec<_>>(), [true, false, true, false, true, false]);
    let replay = Replay::since(BEGIN).with_limit(2);
    let (ben, _) = add(&mut world, private(BroadcastConfig::default().with_replay(replay)));
    world.run_for(secs(2));
    let again = |event: &str| (event.to_owned(), true);
    assert_eq!(heard(&mut world, ben), [again("e2"), again("e4")], "the newest two");
    // Their time is over.
    world.run_for(secs(60));
    let (cleo, _) = add(&mut world, private(BroadcastConfig::default().with_replay(replay)));
    world.run_for(secs(2));
    assert_eq!(heard(&mut world, cleo), []);
}

#[test]
fn what_was_missed_is_told_again_on_a_private_channel_and_its_window_on_a_public_one() {
    for config in [public(BroadcastConfig::default()), private(BroadcastConfig::default())] {
        let is_private = config.private;
        let mut world = world();
        let (ana, _) = add(&mut world, config);
        world.run_for(secs(2));
        let mut sent = Vec::new();
        for n in 0..12 {
            match n {
                4 => world.partition(ana),
                8 => {
                    world.cut(ana);
                    world.heal(ana);
                    world.run_for(secs(5));
                }
                _ => {}
            }
            let event = format!("e{n}");
            world.server(|server, now| {
                server.send_from_database(TOPIC, &event, &json("{}"), is_private, now).unwrap();
                sent.push((event, now));
            });
            world.run_for(Duration::from_millis(500));
        }
        world.run_for(secs(30));
        let log = world.take_log(ana);
        let received: Vec<&Broadcast> = log.iter().filter_map(|(_, e)| received(e)).collect();
        let told = |event: &str| received.iter().filter(|b| b.event == event).count();
        let (mut gaps, mut recoveries) = (Vec::new(), Vec::new());
        for (_, event) in &log {
            match event {
                Event::Channel(_, ChannelEvent::Gap(gap)) => gaps.push(gap),
                Event::Channel(_, ChannelEvent::Recovered(recovery)) => recoveries.push(recovery),
                _ => {}
            }
        }
        if is_private {
            assert!(sent.iter().all(|(event, _)| told(event) == 1), "{received:?}");
            let [recovery] = &*recoveries else { panic!("{recoveries:?}") };
            assert_eq!((recovery.replayed, recovery.contiguous, gaps.len()), (4, true, 0));
        } else {
            let [gap] = &*gaps else { panic!("{gaps:?}") };
            for (event, at) in &sent {
                let within = gap.from <= *at && *at <= gap.to;
                assert!(told(event) == 1 || (told(event) == 0 && within), "{event} at {at}");
            }
            assert_eq!((received.len(), recoveries.len()), (8, 0));
        }
    }
}

//! Pushes that wait: how long, how many, and which of them.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, Client, CloseReason, Config, Event, Instant, Limits,
    Outcome, Overflow, Payload, PushError, PushId, PushOptions,
};
use realtime_tests::peer::Peer;

const TOPIC: &str = "room:a";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A client of which two pushes may wait, and a channel whose join is not answered yet.
fn waiting(overflow: Overflow) -> (Peer, ChannelId) {
    let mut limits = Limits::default();
    limits.pushes_buffered_max = 2;
    let settings = Config::builder("ws://server/socket").limits(limits).join_timeout(secs(3_600));
    let mut peer = Peer::connected(settings.heartbeat_interval(secs(3_600)));
    let config = ChannelConfig::phoenix(Payload::empty()).with_overflow(overflow);
    let room = peer.command(|client, now| client.open_channel(TOPIC, config, now).unwrap());
    peer.take_frames();
    (peer, room)
}

fn push(
    peer: &mut Peer,
    room: ChannelId,
    event: &str,
    options: PushOptions,
) -> Result<PushId, PushError> {
    peer.command(|client, now| {
        client.channel(room).unwrap().push_with(event, Payload::empty(), options, now)
    })
}

/// The pushes that ended, in order.
fn ended(peer: &mut Peer) -> Vec<(PushId, Outcome)> {
    let events = peer.take_events().into_iter();
    let ended = events.filter_map(|event| match event {
        Event::Channel(_, ChannelEvent::PushEnded { push, outcome }) => Some((push, outcome)),
        _ => None,
    });
    ended.collect()
}

/// The events of the frames that were written, in order.
fn written(peer: &mut Peer) -> Vec<String> {
    let event = |frame: &String| {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        frame[3].as_str().unwrap().to_owned()
    };
    peer.take_frames().iter().map(event).collect()
}

#[test]
fn one_too_many_is_refused_and_those_that_wait_are_kept() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    for event in ["a", "b"] {
        push(&mut peer, room, event, PushOptions::new()).unwrap();
    }
    let third = push(&mut peer, room, "c", PushOptions::new());
    assert_eq!(third, Err(PushError::BufferFull { waiting: 2 }));
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(written(&mut peer), ["a", "b"]);
}

#[test]
fn one_too_many_drops_the_oldest_where_the_channel_says_so() {
    let (mut peer, room) = waiting(Overflow::DropOldest);
    let first = push(&mut peer, room, "a", PushOptions::new()).unwrap();
    for event in ["b", "c"] {
        push(&mut peer, room, event, PushOptions::new()).unwrap();
    }
    assert_eq!(ended(&mut peer), [(first, Outcome::Dropped)]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(written(&mut peer), ["b", "c"]);
}

#[test]
fn one_too_many_drops_the_newest_where_the_channel_says_so() {
    let (mut peer, room) = waiting(Overflow::DropNewest);
    for event in ["a", "b"] {
        push(&mut peer, room, event, PushOptions::new()).unwrap();
    }
    let third = push(&mut peer, room, "c", PushOptions::new()).unwrap();
    assert_eq!(ended(&mut peer), [(third, Outcome::Dropped)]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(written(&mut peer), ["a", "b"]);
}

#[test]
fn the_newest_push_of_a_key_takes_the_place_of_the_one_that_waits() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    let keyed = || PushOptions::new().coalesced_by("cursor");
    let first = push(&mut peer, room, "old", keyed()).unwrap();
    push(&mut peer, room, "other", PushOptions::new()).unwrap();
    push(&mut peer, room, "new", keyed()).unwrap();
    assert_eq!(ended(&mut peer), [(first, Outcome::Dropped)]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(written(&mut peer), ["other", "new"]);
    // What was sent already is not taken back.
    push(&mut peer, room, "newer", keyed()).unwrap();
    assert_eq!(written(&mut peer), ["newer"]);
    assert_eq!(ended(&mut peer), []);
}

#[test]
fn a_push_that_outlives_its_time_is_never_sent() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    let brief = PushOptions::new().with_time_to_live(secs(1));
    let brief = push(&mut peer, room, "brief", brief).unwrap();
    let usual = push(&mut peer, room, "usual", PushOptions::new()).unwrap();
    peer.pass(secs(1));
    assert_eq!(ended(&mut peer), [(brief, Outcome::Expired)]);
    peer.pass(secs(9));
    assert_eq!(ended(&mut peer), [(usual, Outcome::Expired)]);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(written(&mut peer), [""; 0]);
}

#[test]
fn the_reply_to_a_push_has_the_time_the_push_says() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    peer.say_ok("1", "1", TOPIC);
    peer.take_events();
    let quick = PushOptions::new().with_timeout(secs(1));
    let quick = push(&mut peer, room, "quick", quick).unwrap();
    let usual = push(&mut peer, room, "usual", PushOptions::new()).unwrap();
    peer.pass(secs(1));
    assert_eq!(ended(&mut peer), [(quick, Outcome::TimedOut)]);
    peer.pass(secs(9));
    assert_eq!(ended(&mut peer), [(usual, Outcome::TimedOut)]);
}

#[test]
fn a_push_that_wants_no_reply_ends_when_it_is_sent() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    let cast = push(&mut peer, room, "cast", PushOptions::new().without_reply()).unwrap();
    assert_eq!(ended(&mut peer), []);
    peer.say_ok("1", "1", TOPIC);
    assert_eq!(ended(&mut peer), [(cast, Outcome::Sent)]);
}

#[test]
fn a_push_is_not_sent_while_the_driver_has_not_taken_its_frame() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    peer.say_ok("1", "1", TOPIC);
    peer.take_events();
    let socket = peer.socket();
    let cast = peer.command(|client, now| {
        let options = PushOptions::new().without_reply();
        let mut channel = client.channel(room).unwrap();
        let cast = channel.push_with("cast", Payload::empty(), options, now).unwrap();
        assert_eq!(client.poll_event(), None);
        client.handle_close(socket, CloseReason::Lost { detail: "reset".into() }, now);
        cast
    });
    assert_eq!(written(&mut peer), [] as [&str; 0]);
    assert_eq!(ended(&mut peer), [(cast, Outcome::Interrupted)]);
}

#[test]
fn a_push_goes_out_before_its_channel_is_left_or_its_connection_closed() {
    type End = fn(&mut Client, ChannelId, Instant);
    let leave: End = |client, room, now| _ = client.close_channel(room, now);
    let disconnect: End = |client, _, now| client.disconnect(now);
    for (end, frames) in [(leave, &["cast", "phx_leave"][..]), (disconnect, &["cast"])] {
        let (mut peer, room) = waiting(Overflow::Refuse);
        peer.say_ok("1", "1", TOPIC);
        peer.take_events();
        let cast = peer.command(|client, now| {
            let options = PushOptions::new().without_reply();
            let mut channel = client.channel(room).unwrap();
            let cast = channel.push_with("cast", Payload::empty(), options, now).unwrap();
            end(client, room, now);
            cast
        });
        assert_eq!(written(&mut peer), frames);
        assert_eq!(ended(&mut peer), [(cast, Outcome::Sent)]);
    }
}

#[test]
fn what_cannot_be_written_is_refused_at_the_call() {
    let (mut peer, room) = waiting(Overflow::Refuse);
    let long = "x".repeat(256);
    let refused = peer.command(|client, now| {
        let payload = Payload::binary(vec![1]);
        client.channel(room).unwrap().push(long.as_str(), payload, now)
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the event is 256 bytes long, and a binary frame holds at most 255",
    );
    let large = Payload::json(&"x".repeat(5_000_000)).unwrap();
    let refused =
        peer.command(|client, now| client.channel(room).unwrap().push("large", large, now));
    assert!(matches!(refused, Err(PushError::TooLarge { max: 5_000_000, .. })));
    peer.command(|client, now| client.close_channel(room, now));
    let late = push(&mut peer, room, "late", PushOptions::new());
    assert_eq!(late, Err(PushError::Closing));
}

#[test]
fn a_connection_without_channels_rests_until_the_next_one() {
    let settings = Config::builder("ws://server/socket").heartbeat_interval(secs(86_400));
    let mut peer = Peer::connected(settings);
    let open = |client: &mut Client, now| {
        client.open_channel(TOPIC, ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    };
    let room = peer.command(open);
    peer.say_ok("1", "1", TOPIC);
    peer.command(|client, now| client.close_channel(room, now));
    peer.say_ok("1", "2", TOPIC);
    peer.take_opens();
    // A channel in between keeps the connection.
    peer.pass(secs(10));
    let between = peer.command(open);
    peer.command(|client, now| client.close_channel(between, now));
    peer.say_ok("3", "4", TOPIC);
    peer.pass(secs(49));
    assert_eq!(peer.take_closes(), []);
    peer.pass(secs(1));
    assert_eq!(peer.take_closes(), [(1000, String::new())]);
    peer.pass(secs(3_600));
    assert_eq!(peer.take_opens(), [], "nobody needs it");
    peer.command(open);
    assert_eq!(peer.take_opens().len(), 1, "somebody does");
}

#[test]
fn a_delay_that_the_server_asked_for_is_kept_by_a_channel_that_is_opened_meanwhile() {
    let settings = Config::builder("ws://server/socket").heartbeat_interval(secs(86_400));
    let mut peer = Peer::connected(settings);
    let open = |client: &mut Client, now| {
        client.open_channel(TOPIC, ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    };
    let refused = |peer: &mut Peer| {
        let socket = peer.socket();
        let retry_after = Some(secs(120));
        let reason = CloseReason::Refused { status: 503, body: String::new(), retry_after };
        peer.command(|client, now| client.handle_close(socket, reason, now));
        peer.take_opens();
    };
    // Nobody needs the connection any more long before it may be had again.
    for asks_again in [true, false] {
        let room = peer.command(open);
        refused(&mut peer);
        peer.command(|client, now| client.close_channel(room, now));
        peer.pass(secs(100));
        if asks_again {
            peer.command(open);
        }
        peer.pass(secs(19));
        assert_eq!(peer.take_opens(), []);
        peer.pass(secs(1));
        assert_eq!(peer.take_opens().len(), usize::from(asks_again));
        if asks_again {
            let room = peer.command(|client, _| client.channel_by_topic(TOPIC).unwrap());
            peer.command(|client, now| client.close_channel(room, now));
        }
    }
    peer.pass(secs(3_600));
    assert_eq!(peer.take_opens(), [], "nobody needs it");
    peer.command(open);
    assert_eq!(peer.take_opens().len(), 1, "somebody does");
}

//! Access tokens: who is told, who waits, who goes on.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
use realtime_proto::{
    Awaits, Backoff, ChannelConfig, ChannelId, Client, Config, ConfigBuilder, Instant, Payload,
};
use realtime_tests::peer::Peer;
use realtime_tests::token;

const EXPIRED: &str = "InvalidJWTToken: Token has expired 5 seconds ago";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    let config = Config::builder("ws://server/socket").access_token("old");
    config.reconnect(retries.clone()).rejoin(retries)
}

fn open(topic: &str) -> impl FnOnce(&mut Client, Instant) -> ChannelId {
    let config = ChannelConfig::supabase(JoinConfig::default());
    move |client, now| client.open_channel(topic, config, now).unwrap()
}

fn set(peer: &mut Peer, token: &str) {
    peer.command(|client, now| client.set_access_token(Some(token.into()), now));
}

fn refuse(peer: &mut Peer, join_ref: &str, topic: &str, reason: &str) {
    peer.say(&format!(
        r#"["{join_ref}","{join_ref}","{topic}","phx_reply",
        {{"status":"error","response":{{"reason":"{reason}"}}}}]"#
    ));
}

#[test]
fn a_new_token_is_told_to_joined_channels_only_and_only_once() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    peer.command(open("realtime:b"));
    peer.command(|client, now| {
        client.open_channel("room:c", ChannelConfig::phoenix(Payload::empty()), now).unwrap()
    });
    peer.say_ok("1", "1", "realtime:a");
    peer.say_ok("3", "3", "room:c");
    peer.take_frames();
    set(&mut peer, "new");
    let told = [r#"["1","4","realtime:a","access_token",{"access_token":"new"}]"#];
    assert_eq!(peer.take_frames(), told);
    set(&mut peer, "new");
    assert_eq!(peer.take_frames(), [] as [&str; 0]);
    // The join of b was written with the old token; the new one follows its acceptance.
    peer.say_ok("2", "2", "realtime:b");
    let told = [r#"["2","5","realtime:b","access_token",{"access_token":"new"}]"#];
    assert_eq!(peer.take_frames(), told);
}

#[test]
fn of_the_tokens_that_wait_for_the_driver_the_newest_is_told_once() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    peer.say_ok("1", "1", "realtime:a");
    peer.take_frames();
    peer.command(|client, now| {
        for number in 0..1_000 {
            client.set_access_token(Some(format!("new {number}").into()), now);
        }
    });
    let told = [r#"["1","2","realtime:a","access_token",{"access_token":"new 999"}]"#];
    assert_eq!(peer.take_frames(), told);
    set(&mut peer, "newer");
    assert_eq!(peer.take_frames().len(), 1);
}

#[test]
fn heartbeats_carry_no_tokens() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    peer.say_ok("1", "1", "realtime:a");
    peer.take_frames();
    peer.pass(secs(25));
    assert_eq!(peer.take_frames(), [r#"[null,"2","phoenix","heartbeat",{}]"#]);
}

#[test]
fn a_join_refused_for_an_expired_token_pauses_all_joins_until_a_new_token_comes() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    peer.take_frames();
    refuse(&mut peer, "1", "realtime:a", EXPIRED);
    let told = ["ch0.1 errored: token expired", "token needed: token expired"];
    assert_eq!(peer.take_lines(), told);
    peer.command(open("realtime:b"));
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [] as [&str; 0], "each refusal would hold the socket for 5 s");
    set(&mut peer, "new");
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|join| join.contains(r#""access_token":"new""#)), "{frames:?}");
}

#[test]
fn a_reconnect_does_not_try_the_expired_token_again() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    refuse(&mut peer, "1", "realtime:a", EXPIRED);
    peer.close(1006);
    peer.pass(secs(1));
    peer.accept();
    peer.take_frames();
    peer.pass(secs(9));
    assert_eq!(peer.take_frames(), [] as [&str; 0]);
    set(&mut peer, "new");
    assert!(peer.take_frames()[0].contains("phx_join"));
}

#[test]
fn a_channel_closed_for_an_expired_token_asks_for_one_and_joins_again_with_it() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open("realtime:a"));
    peer.say_ok("1", "1", "realtime:a");
    peer.take_events();
    peer.take_frames();
    peer.say(
        r#"["1",null,"realtime:a","system",{"message":"Token has expired 3 seconds ago",
        "status":"error","extension":"system","channel":"a"}]"#,
    );
    peer.say(r#"["1","1","realtime:a","phx_close",{}]"#);
    let told = ["ch0.1 system", "ch0.1 errored: token expired", "token needed: token expired"];
    assert_eq!(peer.take_lines(), told);
    peer.pass(secs(20));
    assert_eq!(peer.take_frames(), [] as [&str; 0]);
    set(&mut peer, "new");
    let frames = peer.take_frames();
    assert!(frames.len() == 1 && frames[0].contains(r#""access_token":"new""#), "{frames:?}");
    peer.say_ok("2", "2", "realtime:a");
    assert!(peer.command(|client, _| client.channel(id).unwrap().is_live()));
}

#[test]
fn a_signed_out_client_joins_without_the_old_token() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    assert!(peer.take_frames()[0].contains(r#""access_token":"old""#));
    peer.say_ok("1", "1", "realtime:a");
    peer.command(|client, now| client.set_access_token(None, now));
    peer.close(1006);
    peer.take_frames();
    peer.pass(secs(1));
    peer.accept();
    let frames = peer.take_frames();
    assert!(frames[0].contains("phx_join") && !frames[0].contains("old"), "{frames:?}");
}

#[test]
fn a_refusal_of_the_token_before_does_not_ask_for_another_one() {
    let mut peer = Peer::connected(settings());
    let id = peer.command(open("realtime:a"));
    peer.take_frames();
    set(&mut peer, "new");
    refuse(&mut peer, "1", "realtime:a", EXPIRED);
    assert_eq!(peer.take_lines(), ["ch0.1 errored: token expired, again at 1.000s"]);
    peer.pass(secs(1));
    assert!(peer.take_frames()[0].contains(r#""access_token":"new""#));
    peer.say_ok("2", "2", "realtime:a");
    assert!(peer.command(|client, _| client.channel(id).unwrap().is_live()));
}

#[test]
fn an_expiry_that_crosses_the_new_token_on_the_way_joins_again_with_it() {
    let mut peer = Peer::connected(settings());
    peer.command(open("realtime:a"));
    peer.say_ok("1", "1", "realtime:a");
    peer.pass(secs(20));
    peer.take_events();
    peer.take_frames();
    set(&mut peer, "new");
    peer.say(
        r#"["1",null,"realtime:a","system",{"message":"Token has expired 1 seconds ago",
        "status":"error","extension":"system","channel":"a"}]"#,
    );
    peer.say(r#"["1","1","realtime:a","phx_close",{}]"#);
    let told = ["ch0.1 system", "ch0.1 errored: token expired, again at 21.000s"];
    assert_eq!(peer.take_lines(), told);
    peer.take_frames();
    peer.pass(secs(1));
    assert!(peer.take_frames()[0].contains(r#""access_token":"new""#));
    // The new one is no better: now another one is needed.
    refuse(&mut peer, "3", "realtime:a", EXPIRED);
    let told = ["ch0.1 errored: token expired", "token needed: token expired"];
    assert_eq!(peer.take_lines(), told);
}

#[test]
fn a_wall_clock_that_was_ahead_and_is_corrected_lets_the_joins_go_on() {
    let mut peer = Peer::connected(settings().access_token(token(1_000)));
    peer.command(|client, now| client.set_unix_time(secs(2_000), now));
    peer.command(open("realtime:a"));
    assert_eq!(peer.take_lines(), ["token needed: token expired"]);
    assert_eq!(peer.take_frames(), [] as [&str; 0]);
    peer.command(|client, now| client.set_unix_time(secs(500), now));
    assert_eq!(peer.take_frames().len(), 1, "the join");
    peer.say_ok("1", "1", "realtime:a");
    // And when it does expire, the application is told again.
    peer.pass(secs(600));
    let lines = peer.take_lines();
    assert!(lines.iter().any(|line| line.starts_with("token needed: token expiring")), "{lines:?}");
}

#[test]
fn a_channel_that_has_to_join_again_and_has_no_token_for_it_says_so() {
    let mut peer = Peer::connected(settings().access_token(token(1_000)));
    peer.command(|client, now| client.set_unix_time(secs(995), now));
    let id = peer.command(open("realtime:a"));
    peer.say_ok("1", "1", "realtime:a");
    peer.pass(secs(6));
    let is_live = |peer: &mut Peer| peer.command(|client, _| client.channel(id).unwrap().is_live());
    assert!(is_live(&mut peer));
    peer.command(|client, now| {
        let rows = Binding::new(ChangeEvent::All, "public", "messages");
        client.channel(id).unwrap().bind(rows, now).unwrap();
    });
    assert!(!is_live(&mut peer), "the rows do not flow");
    let info = peer.command(|client, _| client.channel_info(id).unwrap());
    assert_eq!(info.awaits, Some(Awaits::Token));
}

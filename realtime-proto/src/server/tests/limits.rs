//! What is too much.

use super::*;

fn say(n: u32) -> String {
    format!(
        r#"["1","b{n}","realtime:e","broadcast",{{"type":"broadcast","event":"e","payload":{{}}}}]"#
    )
}

fn shut(message: &str) -> [String; 2] {
    [
        format!(
            r#"["1",null,"realtime:e","system",{{"message":"{message}","status":"error","extension":"system","channel":"e"}}]"#
        ),
        r#"["1","1","realtime:e","phx_close",{}]"#.into(),
    ]
}

#[test]
fn too_many_broadcasts_close_every_channel_that_is_to_get_one() {
    let mut rig = Rig::with(ServerConfig {
        idle_after: None,
        events_per_second_max: Some(10),
        ..ServerConfig::default()
    });
    let (alice, ben) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:e", r#"{"broadcast":{"self":true,"ack":true}}"#);
    rig.join(ben, "realtime:e", "{}");
    for n in 0..50 {
        rig.send(alice, &say(n));
    }
    assert_eq!(rig.server.stats().channels, 2, "a burst passes");
    rig.sent();
    rig.wait(Duration::from_secs(5));
    rig.send(alice, &say(50));
    rig.send(alice, &say(51));
    let sent = rig.sent();
    let to = |id| -> Vec<String> {
        sent.iter().filter(|(to, _)| *to == id).map(|(_, text)| text.clone()).collect()
    };
    assert_eq!(to(alice)[..2], shut("Too many messages per second"));
    assert_eq!(
        to(alice)[2..],
        [
            r#"[null,"b51","realtime:e","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#
        ]
    );
    assert_eq!(to(ben), shut("Too many messages per second"));

    // Row changes are left out without a word, and the database's broadcasts are dropped.
    let config = r#"{"postgres_changes":[{"event":"*","schema":"public","table":"todos"}]}"#;
    rig.join(ben, "realtime:e", config);
    rig.wait(Duration::from_secs(1));
    rig.sent();
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":1}}"#);
    assert_eq!(rig.server.change(&change, rig.now), 0);
    let payload = Payload::from_json("{}").unwrap();
    rig.server.send_from_database("realtime:e", "e", &payload, false, rig.now).unwrap();
    assert_eq!(rig.sent(), []);
    rig.wait(Duration::from_secs(65));
    assert_eq!(rig.server.change(&change, rig.now), 1);
}

#[test]
fn too_many_joins_are_refused_with_a_close_and_then_at_the_upgrade() {
    let mut rig = Rig::with(ServerConfig {
        idle_after: None,
        joins_per_second_max: Some(5),
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    for _ in 0..25 {
        rig.join(alice, "realtime:q", "{}");
    }
    rig.wait(Duration::from_secs(5));
    rig.send(alice, r#"["2","2","realtime:q","phx_join",{"config":{}}]"#);
    rig.wait(Duration::from_secs(5));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["2","2","realtime:q","phx_reply",{"status":"error","response":{"reason":"ClientJoinRateLimitReached: Too many joins per second"}}]"#,
            "close 1001 ",
        ]
    );
    rig.wait(Duration::ZERO);
    let config = ServerConfig { joins_per_second_max: Some(1), ..rig.server.config().clone() };
    rig.server.set_config(config);
    let refusal = rig.server.accept(V2, rig.now).unwrap_err();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, r#"{"error":"Too many joins per second"}"#);
}

#[test]
fn too_many_presence_messages_of_all_close_the_channel_of_the_next() {
    let mut rig = Rig::with(ServerConfig {
        idle_after: None,
        presence_calls_max: 1_000,
        presence_events_per_second_max: Some(2),
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    rig.join(alice, "realtime:e", "{}");
    let track = r#"["1","2","realtime:e","presence",{"event":"untrack"}]"#;
    for _ in 0..10 {
        rig.send(alice, track);
    }
    rig.wait(Duration::from_secs(5));
    rig.sent();
    rig.send(alice, track);
    assert_eq!(rig.sent_to(alice), shut("Too many presence messages per second"));
}

#[test]
fn a_payload_that_is_too_large_is_an_error_with_ack_and_else_nothing_and_ends_a_presence() {
    let mut rig = Rig::with(ServerConfig { payload_bytes_max: 100, ..ServerConfig::default() });
    let (alice, ben) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:e", r#"{"broadcast":{"ack":true}}"#);
    rig.join(ben, "realtime:e", "{}");
    let large = format!(r#"{{"event":"track","payload":{{"d":"{}"}}}}"#, "x".repeat(100));
    for id in [alice, ben] {
        rig.send(id, &format!(r#"["1","3","realtime:e","broadcast",{large}]"#));
    }
    assert_eq!(
        rig.sent(),
        [(
            alice,
            r#"["1","3","realtime:e","phx_reply",{"status":"error","response":"payload_size_exceeded"}]"#
                .into()
        )]
    );
    rig.send(alice, &format!(r#"["1","4","realtime:e","presence",{large}]"#));
    assert_eq!(rig.sent_to(alice), shut("Track message size exceeded"));
}

#[test]
fn a_frame_that_is_too_large_closes_with_1009() {
    let mut rig = Rig::with(ServerConfig { frame_bytes_max: 10, ..ServerConfig::default() });
    let alice = rig.open(V2);
    rig.send(alice, "           ");
    assert_eq!(rig.sent_to(alice), ["close 1009 the frame is too large"]);
}

#[test]
fn a_session_that_left_all_its_channels_is_cut_and_one_that_never_had_any_is_kept() {
    let mut rig = Rig::with(ServerConfig { idle_after: None, ..ServerConfig::default() });
    let (left, joined, fresh) = (rig.open(V2), rig.open(V2), rig.open(V2));
    rig.join(left, "realtime:e", "{}");
    rig.join(joined, "realtime:e", "{}");
    rig.send(left, r#"["1","2","realtime:e","phx_leave",{}]"#);
    rig.sent();
    rig.wait(Duration::from_secs(599));
    assert_eq!(rig.sent(), []);
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.sent(), [(left, "cut".into())]);
    rig.wait(Duration::from_secs(600));
    assert_eq!(rig.sent(), []);
    rig.send(fresh, r#"[null,"5","phoenix","heartbeat",{}]"#);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn upgrades_can_be_refused_with_any_answer() {
    let refusal = Refusal::new(403, r#"{"error":"Realtime was disabled for this tenant"}"#);
    let mut rig = Rig::with(ServerConfig {
        refuse_upgrades: Some(refusal.clone()),
        ..ServerConfig::default()
    });
    assert_eq!(rig.server.accept(V2, rig.now), Err(refusal));
}

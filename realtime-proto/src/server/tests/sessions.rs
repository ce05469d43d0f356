//! Connections, and what they may do.

use super::*;

#[test]
fn a_heartbeat_is_answered_in_the_version_of_the_session() {
    let mut rig = Rig::new();
    let (v1, v2) = (rig.open(V1), rig.open(V2));
    rig.send(v2, r#"[null,"7","phoenix","heartbeat",{}]"#);
    rig.send(
        v1,
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"hb","join_ref":null}"#,
    );
    let sent = rig.sent();
    assert_eq!(sent[0].1, r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(
        json(&sent[1].1),
        json(
            r#"{"ref":"hb","event":"phx_reply","topic":"phoenix","payload":{"status":"ok","response":{}}}"#
        )
    );
}

#[test]
fn a_malformed_frame_is_dropped_and_the_session_is_kept() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.events();
    for text in [
        "",
        "hello",
        "[]",
        r#"["1","1","realtime:m","phx_join"]"#,
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#,
        r#"["1","1",7,"phx_join",{}]"#,
    ] {
        rig.send(alice, text);
    }
    rig.send_binary(alice, b"");
    rig.send_binary(alice, b"\x09zz");
    rig.send_binary(alice, b"\x03\xff");
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.server.stats().malformed, 9);
    let events = rig.events();
    assert_eq!(events.len(), 9);
    assert_eq!(events[6], ServerEvent::Malformed { session: alice, error: DecodeError::Empty });
    rig.send(alice, r#"[null,"hb","phoenix","heartbeat",{}]"#);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn too_many_sessions_are_refused_until_a_socket_is_closed() {
    let mut rig = Rig::with(ServerConfig { sessions_max: 1, ..ServerConfig::default() });
    let alice = rig.open(V2);
    let refusal = rig.server.accept(V2, rig.now).unwrap_err();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, r#"{"error":"Too many connected users"}"#);
    rig.server.handle_close(alice, rig.now);
    assert_ne!(rig.open(V2), alice);
}

#[test]
fn a_silent_session_is_closed_and_one_that_speaks_is_not() {
    let mut rig = Rig::with(ServerConfig::default());
    let (silent, alive) = (rig.open(V2), rig.open(V2));
    rig.wait(Duration::from_secs(30));
    rig.send(alive, r#"[null,"1","phoenix","heartbeat",{}]"#);
    rig.sent();
    rig.wait(Duration::from_secs(30));
    assert_eq!(rig.sent(), [(silent, "close 1000 ".to_string())]);
    rig.wait(Duration::from_secs(30));
    assert_eq!(rig.sent(), [(alive, "close 1000 ".to_string())]);
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None, "no timer is left behind");
}

#[test]
fn a_restart_is_announced_on_every_supabase_channel() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:td", "{}");
    assert_eq!(rig.server.close_all(1012, "restart", rig.now), 1);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"[null,null,"realtime:td","system",{"message":"Server requested disconnect","status":"ok","extension":"system"}]"#,
            "close 1012 restart",
        ]
    );
    assert!(!rig.server.close_session(alice, 1000, "", rig.now));
    assert_eq!(rig.server.stats().channels, 0);
}

#[test]
fn a_session_for_which_too_much_waits_is_closed() {
    let config =
        ServerConfig { waiting_frames_max: 3, idle_after: None, ..ServerConfig::default() };
    let mut rig = Rig::with(config);
    let alice = rig.open(V2);
    for _ in 0..10 {
        rig.send(alice, r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    let sent = rig.sent_to(alice);
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3], "close 1011 too many frames are waiting");

    let bob = rig.open(V2);
    rig.send(bob, r#"["1","1","realtime:","phx_join",{}]"#);
    for _ in 0..10 {
        rig.send(bob, r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    assert_eq!(rig.sent_to(bob), ["close 1011 too many frames are waiting"]);
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None);
    assert_eq!(rig.server.stats().overflows, 2);
}

#[test]
fn while_output_waits_the_deadline_is_now() {
    let mut rig = Rig::new();
    assert_eq!(rig.server.poll_timeout(), None);
    rig.now = rig.now + Duration::from_secs(3);
    rig.open(V2);
    assert_eq!(rig.server.poll_timeout(), Some(rig.now));
    rig.events();
    assert_eq!(rig.server.poll_timeout(), None);
}

#[test]
fn the_same_seed_and_inputs_give_the_same_bytes() {
    let run = || {
        let mut rig = Rig::new();
        let alice = rig.open(V2);
        rig.join(alice, "realtime:p", "{}");
        rig.presence(alice, "2", r#"{"event":"track"}"#);
        rig.sent()
    };
    assert_eq!(run(), run());
}

/// Frames put together at random and then damaged, from many sessions, with time passing.
#[test]
fn whatever_arrives_nothing_panics_and_nothing_is_left_behind() {
    const TOPICS: [&str; 5] = ["realtime:a", "realtime:", "room:b", "phoenix", "x"];
    const EVENTS: [&str; 8] = [
        "phx_join",
        "phx_join",
        "phx_leave",
        "broadcast",
        "presence",
        "access_token",
        "heartbeat",
        "other",
    ];
    const PAYLOADS: [&str; 11] = [
        "{}",
        r#"{"config":{"private":true,"broadcast":{"replay":{"since":0},"replication_ready":true}}}"#,
        r#"{"config":{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true}}}"#,
        // {"role":"authenticated","sub":"u","exp":1000000020}
        r#"{"access_token":"e30.eyJyb2xlIjoiYXV0aGVudGljYXRlZCIsInN1YiI6InUiLCJleHAiOjEwMDAwMDAwMjB9.x"}"#,
        "[1]",
        "null",
        r#"{"config":{"presence":{"enabled":true},"broadcast":{"ack":true,"self":true}}}"#,
        r#"{"config":{"private":true,"postgres_changes":[{"table":"t","schema":"*","filter":"id=gt.1"}]}}"#,
        r#"{"event":"track","payload":{"n":1}}"#,
        r#"{"event":"untrack"}"#,
        r#"{"access_token":"t"}"#,
    ];
    let key = tokens::token(r#"{"role":"anon","exp":1000000040}"#);
    let targets = [V1, V2].map(|target| {
        let and = if target.contains('?') { '&' } else { '?' };
        format!("{target}{and}apikey={key}")
    });
    let strict = ServerConfig {
        reads_tokens: true,
        policy: Policy::closed().allow("*@authenticated".parse().unwrap()),
        events_per_second_max: Some(2),
        joins_per_second_max: Some(3),
        presence_events_per_second_max: Some(2),
        payload_bytes_max: 40,
        stored_broadcasts_max: 3,
        replication_ready_after: Duration::from_millis(80),
        no_channel_after: Some(Duration::from_millis(700)),
        ..ServerConfig::default()
    };
    let mut total = ServerStats::default();
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut draw = move |below: usize| (rng.next_u64() % below as u64) as usize;
        let mut rig = Rig::with(ServerConfig {
            sessions_max: 8,
            channels_per_session_max: 2,
            waiting_frames_max: 6,
            events_max: 5,
            join_refusal_after: Duration::from_millis(50),
            idle_after: Some(Duration::from_secs(1)),
            ..if seed % 2 == 0 { ServerConfig::default() } else { strict.clone() }
        });
        let mut sessions = Vec::new();
        for step in 0..2_000 {
            match draw(14) {
                0 => sessions.extend(rig.server.accept(&targets[draw(2)], rig.now)),
                1 if !sessions.is_empty() && draw(8) == 0 => {
                    let at = draw(sessions.len());
                    rig.server.handle_close(sessions[at], rig.now);
                }
                2 => rig.wait(Duration::from_millis(draw(200) as u64)),
                3 => {
                    let change = row_change(r#"{"table":"t","type":"INSERT","record":{"id":2}}"#);
                    rig.server.change(&change, rig.now);
                }
                4 => {
                    let topic = TOPICS[draw(TOPICS.len())];
                    rig.server.broadcast(topic, "e", &Payload::binary(Vec::new()), rig.now);
                }
                5 => {
                    let topic = TOPICS[draw(TOPICS.len())];
                    let payload = Payload::from_json(r#"{"n":1}"#).unwrap();
                    match draw(3) {
                        0 => {
                            let again_after = Some(Duration::from_millis(50));
                            rig.server.fail_changes(topic, "no", again_after, rig.now);
                        }
                        private => {
                            let private = private == 1;
                            rig.server.send_from_database(topic, "e", &payload, private, rig.now);
                        }
                    }
                }
                6 => {
                    let mut body =
                        br#"{"messages":[{"topic":"a","event":"e","payload":{},"private":true}]}"#
                            .to_vec();
                    let at = draw(body.len());
                    body[at] = draw(256) as u8;
                    let request = HttpRequest {
                        method: "POST",
                        target: ["/api/broadcast", "/api/broadcast/a/events/%"][draw(2)],
                        apikey: Some(&key),
                        content_type: Some("application/json"),
                        body: &body,
                        ..HttpRequest::default()
                    };
                    rig.server.handle_http(&request, rig.now).unwrap();
                }
                _ if !sessions.is_empty() => {
                    // Mostly the newest, since the oldest are gone.
                    let session = sessions[sessions.len() - 1 - draw(sessions.len().min(6))];
                    let (topic, event) = (TOPICS[draw(5)], EVENTS[draw(8)]);
                    let payload = PAYLOADS[draw(PAYLOADS.len())];
                    let join_ref = ["null", "\"1\"", "\"2\""][draw(3)];
                    let mut bytes = if draw(2) == 0 {
                        format!(r#"[{join_ref},"{step}","{topic}","{event}",{payload}]"#)
                    } else {
                        format!(
                            r#"{{"topic":"{topic}","event":"{event}","payload":{payload},"ref":"{step}","join_ref":{join_ref}}}"#
                        )
                    }
                    .into_bytes();
                    match draw(8) {
                        0 => {
                            let at = draw(bytes.len());
                            bytes[at] = draw(256) as u8;
                        }
                        1 => bytes.truncate(draw(bytes.len())),
                        _ => {}
                    }
                    let frame = if draw(8) == 0 {
                        bytes.splice(..bytes.len().min(1), [draw(5) as u8]);
                        Frame::binary(bytes)
                    } else {
                        Frame::Text(bytes.into())
                    };
                    rig.server.handle_frame(session, frame, rig.now);
                }
                _ => {}
            }
            if draw(3) == 0 {
                rig.sent();
                rig.events();
                let next = rig.server.poll_timeout();
                assert!(next.is_none_or(|next| next >= rig.now));
            }
        }
        rig.server.close_all(1001, "", rig.now);
        rig.sent();
        rig.events();
        let stats = rig.server.stats();
        assert_eq!((stats.sessions, stats.channels, stats.presences), (0, 0, 0));
        total.joins += stats.joins;
        total.refused += stats.refused;
        total.malformed += stats.malformed;
        total.overflows += stats.overflows;
        total.stale += stats.stale;
        assert!(rig.server.topics.is_empty() && rig.server.doomed.is_empty());
        assert_eq!((rig.server.poll_timeout(), rig.server.closing), (None, 0));
    }
    // The mix is worth something only if it gets everywhere.
    assert!(total.joins > 500 && total.refused > 200, "{total:?}");
    assert!(total.malformed > 1_000 && total.stale > 100, "{total:?}");
    assert!(total.overflows > 10, "{total:?}");
}

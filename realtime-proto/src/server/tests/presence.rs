//! Who is there.

use super::*;

#[test]
fn a_presence_is_told_as_state_diff_update_and_leave() {
    let mut rig = Rig::new();
    let (observer, alice) = (rig.open(V2), rig.open(V2));
    rig.send(
        observer,
        r#"["1","1","realtime:p","phx_join",{"config":{"presence":{"key":"observer","enabled":true}}}]"#,
    );
    assert_eq!(
        rig.sent_to(observer),
        [
            r#"["1","1","realtime:p","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#,
            r#"["1",null,"realtime:p","presence_state",{}]"#,
        ]
    );
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"alice","enabled":false}}"#);

    rig.presence(
        alice,
        "2",
        r#"{"type":"presence","event":"TRACK","payload":{"who":"alice","n":1}}"#,
    );
    let sent = rig.sent();
    let to: Vec<SessionId> = sent.iter().map(|(id, _)| *id).collect();
    assert_eq!(to, [alice, observer, alice]);
    assert_eq!(sent[0].1, r#"["1","2","realtime:p","phx_reply",{"status":"ok","response":{}}]"#);
    assert!(sent[1].1.starts_with(r#"[null,null,"realtime:p","presence_diff","#));
    let diff = payload(&sent[1].1);
    let first = diff["joins"]["alice"]["metas"][0].clone();
    let first_ref = first["phx_ref"].as_str().unwrap();
    assert_eq!((&first["who"], &first["n"]), (&json("\"alice\""), &json("1")));
    assert_eq!(first_ref.len(), 16);
    assert_eq!(diff["leaves"], json("{}"));

    // The same payload again is fine, and nobody is told.
    rig.presence(
        alice,
        "3",
        r#"{"type":"presence","event":"track","payload":{"n":1,"who":"alice"}}"#,
    );
    assert_eq!(
        rig.sent(),
        [(
            alice,
            r#"["1","3","realtime:p","phx_reply",{"status":"ok","response":{}}]"#.to_string()
        )]
    );

    // Another payload is one diff that says both what came and what went.
    rig.presence(
        alice,
        "4",
        r#"{"type":"presence","event":"track","payload":{"who":"alice","n":2}}"#,
    );
    let diff = payload(&rig.sent_to(observer)[0]);
    let second = diff["joins"]["alice"]["metas"][0].clone();
    assert_eq!(second["phx_ref_prev"].as_str(), Some(first_ref));
    assert_ne!(second["phx_ref"], first["phx_ref"]);
    assert_eq!(second["n"], json("2"));
    assert_eq!(diff["leaves"]["alice"]["metas"], Value::Array(Vec::from([first])));

    // A second device under the same key, and one without a key.
    let (device, nameless) = (rig.open(V2), rig.open(V2));
    rig.join(device, "realtime:p", r#"{"presence":{"key":"alice"}}"#);
    rig.join(nameless, "realtime:p", r#"{"presence":{"key":null}}"#);
    rig.presence(device, "2", r#"{"type":"presence","event":"track"}"#);
    rig.presence(nameless, "2", r#"{"event":"track","payload":{"phx_ref":"mine"}}"#);
    rig.sent();
    let late = rig.open(V2);
    rig.send(late, r#"["1","1","realtime:p","phx_join",{"config":{"presence":{"enabled":true}}}]"#);
    let state = payload(&rig.sent_to(late)[1]);
    let metas = state["alice"]["metas"].as_array().unwrap();
    assert_eq!(metas.len(), 2);
    assert_eq!(metas[0], second, "the oldest comes first");
    let (key, entry) = state.as_object().unwrap().iter().find(|(key, _)| *key != "alice").unwrap();
    assert_eq!(key.len(), 36);
    assert_ne!(entry["metas"][0]["phx_ref"], json("\"mine\""));

    // Leaving and dying say goodbye to those who stay.
    rig.events();
    rig.send(alice, r#"["1","9","realtime:p","phx_leave",{}]"#);
    rig.server.handle_close(nameless, rig.now);
    let told: Vec<Value> = rig.sent_to(observer).iter().map(|t| payload(t)).collect();
    assert_eq!(told[0]["joins"], json("{}"));
    assert_eq!(told[0]["leaves"]["alice"]["metas"][0], second);
    assert_eq!(told[1]["leaves"][key]["metas"][0], entry["metas"][0]);
    assert_eq!(rig.server.stats().presences, 1);
    assert!(rig.events().contains(&ServerEvent::Untracked {
        session: alice,
        topic: "realtime:p".into(),
        key: "alice".into(),
    }));
}

#[test]
fn odd_presence_messages_get_the_recorded_replies() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"a"}}"#);
    for (message, reply) in [
        (r#"{"event":"untrack"}"#, r#"{"status":"ok","response":{}}"#),
        (
            r#"{"event":"track","payload":"x"}"#,
            r#"{"status":"error","response":{"reason":"Presence track payload must be a map"}}"#,
        ),
        (r#"{"event":"zzz"}"#, r#"{"status":"error","response":{}}"#),
        ("{}", r#"{"status":"ok","response":{}}"#),
    ] {
        rig.presence(alice, "7", message);
        assert_eq!(rig.sent_to(alice), [format!(r#"["1","7","realtime:p","phx_reply",{reply}]"#)]);
    }
}

#[test]
fn the_sixth_presence_message_of_a_window_closes_the_channel_without_a_reply() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"p"}}"#);
    for n in 0..5 {
        rig.presence(alice, "2", &format!(r#"{{"event":"track","payload":{{"i":{n}}}}}"#));
    }
    rig.sent();
    rig.presence(alice, "p5", r#"{"event":"track","payload":{"i":5}}"#);
    rig.presence(alice, "p6", r#"{"event":"track","payload":{"i":6}}"#);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:p","system",{"message":"Client presence rate limit exceeded","status":"error","extension":"system","channel":"p"}]"#,
            r#"["1","1","realtime:p","phx_close",{}]"#,
            r#"[null,"p6","realtime:p","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        ]
    );

    // A new window, a new budget.
    rig.join(alice, "realtime:p", r#"{"presence":{"key":"p"}}"#);
    for _ in 0..20 {
        rig.presence(alice, "2", r#"{"event":"untrack"}"#);
        rig.wait(Duration::from_secs(7));
    }
    assert_eq!(rig.server.stats().channels, 1);
}

#[test]
fn a_join_that_waits_is_told_who_is_there_at_its_end_and_nothing_of_what_came_before() {
    let mut rig = Rig::with(ServerConfig {
        subscribed_after: Duration::from_secs(3),
        ..ServerConfig::default()
    });
    let (alice, bob, eve) = (rig.open(V2), rig.open(V2), rig.open(V2));
    for (session, key) in [(bob, "bob"), (eve, "eve")] {
        rig.join(session, "realtime:p", &format!(r#"{{"presence":{{"key":"{key}"}}}}"#));
        rig.presence(session, "2", r#"{"event":"track","payload":{}}"#);
    }
    rig.send(
        alice,
        r#"["1","1","realtime:p","phx_join",{"config":{"presence":{"enabled":true},
            "postgres_changes":[{"event":"*","schema":"public","table":"todos"}],
            "postgres_changes_options":{"wait":true}}}]"#,
    );
    rig.presence(eve, "3", r#"{"event":"untrack"}"#);
    rig.wait(Duration::from_secs(3));
    let sent = rig.sent_to(alice);
    assert!(sent.iter().all(|text| !text.contains("presence_diff")), "{sent:?}");
    let state = sent.iter().find(|text| text.contains("presence_state")).unwrap();
    let state = payload(state);
    assert_eq!(state.as_object().unwrap().keys().collect::<Vec<_>>(), ["bob"]);
    let kept: Value = rig.server.presence_state("realtime:p", false).to().unwrap();
    assert_eq!(kept, state);
    let nobody = rig.server.presence_state("realtime:p", true);
    assert_eq!(nobody.as_json(), Some("{}"), "private channels are another world");
}

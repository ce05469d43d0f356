//! Broadcasts of the database, replay, and what the database says of itself.

use super::*;

fn private(extra: &str) -> String {
    format!(r#"{{"private":true,"broadcast":{{{extra}}}}}"#)
}

impl Rig {
    /// Sends a private broadcast from the database; its id.
    fn insert(&mut self, topic: &str, n: u32) -> String {
        let payload = Payload::from_json(format!(r#"{{"n":{n}}}"#)).unwrap();
        self.server.send_from_database(topic, "ev", &payload, true, self.now).unwrap()
    }

    /// What a new private channel is told after its join reply.
    fn replayed(&mut self, topic: &str, replay: &str) -> Vec<Value> {
        let id = self.open(V2);
        self.send(
            id,
            &format!(
                r#"["1","1","{topic}","phx_join",{{"config":{}}}]"#,
                private(&format!("\"replay\":{replay}"))
            ),
        );
        let sent = self.sent_to(id);
        sent[1..].iter().map(|text| json(text)).collect()
    }
}

#[test]
fn a_database_broadcast_has_an_id_beside_it_and_in_its_payload() {
    let mut rig = Rig::new();
    let (v2, v1, public) = (rig.open(V2), rig.open(V1), rig.open(V2));
    rig.join(v2, "realtime:d", &private(""));
    rig.send(
        v1,
        r#"{"topic":"realtime:d","event":"phx_join","payload":{"config":{"private":true}},"ref":"1"}"#,
    );
    rig.join(public, "realtime:d", "{}");
    rig.sent();
    let id = rig.insert("realtime:d", 2);
    let sent = rig.sent();
    assert_eq!(sent.len(), 2, "the public channel is another one");
    let meta = format!(r#"{{\"id\":\"{id}\"}}"#);
    let payload = format!(r#"{{\"id\":\"{id}\",\"n\":2}}"#);
    assert_eq!(sent[0].1, format!("\\x04\\n\\x02-\\x01realtime:dev{meta}{payload}"));
    assert_eq!(
        super::payload(&sent[1].1),
        json(&format!(
            r#"{{"event":"ev","meta":{{"id":"{id}"}},"payload":{{"id":"{id}","n":2}},"type":"broadcast"}}"#
        ))
    );

    // An id of the sender's own stays, and what is no object is dropped.
    let own = Payload::from_json(r#"{"id":"own id","n":4}"#).unwrap();
    rig.server.send_from_database("realtime:d", "ev", &own, false, rig.now).unwrap();
    assert!(rig.sent_to(public)[0].ends_with(r#"}{\"id\":\"own id\",\"n\":4}"#));
    let list = Payload::from_json("[1,2]").unwrap();
    assert_eq!(rig.server.send_from_database("realtime:d", "ev", &list, false, rig.now), None);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_row_change_as_broadcast_looks_as_the_trigger_of_a_database_writes_it() {
    let mut rig = Rig::new();
    let change = row_change(r#"{"table":"notes","type":"DELETE","old_record":{"id":3}}"#);
    let id = rig.server.broadcast_change("realtime:d", &change, rig.now).unwrap();
    let [replayed] = rig.replayed("realtime:d", r#"{"since":0}"#).try_into().unwrap();
    assert_eq!(
        replayed,
        json(&format!(
            r#"["1",null,"realtime:d","broadcast",{{"event":"DELETE","type":"broadcast",
                "meta":{{"id":"{id}","replayed":true}},
                "payload":{{"id":"{id}","schema":"public","table":"notes","operation":"DELETE",
                    "record":null,"old_record":{{"id":3}}}}}}]"#
        ))
    );
}

#[test]
fn a_replay_is_the_newest_since_a_time_oldest_first_and_at_most_25() {
    let mut rig = Rig::new();
    let unix_ms = rig.server.config().unix_time_at_epoch.as_millis();
    for n in 0..30 {
        rig.insert("realtime:d", n);
        rig.insert("realtime:other", n);
        rig.now = rig.now + Duration::from_millis(1);
    }
    let numbers = |rig: &mut Rig, replay: &str| -> Vec<u64> {
        let told = rig.replayed("realtime:d", replay);
        told.iter().map(|message| message[4]["payload"]["n"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&mut rig, r#"{"since":0,"limit":3}"#), [27, 28, 29]);
    assert_eq!(numbers(&mut rig, r#"{"since":0}"#), (5..30).collect::<Vec<_>>());
    assert_eq!(numbers(&mut rig, r#"{"since":0,"limit":1000}"#).len(), 25);
    assert_eq!(numbers(&mut rig, r#"{"since":0,"limit":-1}"#), [29]);
    let since = format!(r#"{{"since":{}}}"#, unix_ms + 28);
    assert_eq!(numbers(&mut rig, &since), [28, 29]);
}

#[test]
fn what_is_stored_is_bounded_in_count_and_age() {
    let mut rig = Rig::with(ServerConfig {
        idle_after: None,
        stored_broadcasts_max: 2,
        ..ServerConfig::default()
    });
    for n in 0..3 {
        rig.insert("realtime:d", n);
    }
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 2);
    rig.wait(Duration::from_secs(72 * 3_600 - 1));
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 2);
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 0);
}

#[test]
fn bytes_are_replayed_as_bytes_to_v2_only() {
    let mut rig = Rig::new();
    let bytes = Payload::binary(vec![1, 2, 255]);
    let id = rig.server.send_from_database("realtime:d", "b", &bytes, true, rig.now).unwrap();
    let join = r#""replay":{"since":0}"#;
    let (v2, v1) = (rig.open(V2), rig.open(V1));
    rig.send(v2, &format!(r#"["1","1","realtime:d","phx_join",{{"config":{}}}]"#, private(join)));
    let told = rig.sent_to(v2);
    let meta = format!(r#"{{\"id\":\"{id}\",\"replayed\":true}}"#);
    assert_eq!(told[1], format!("\\x04\\n\\x01=\\x00realtime:db{meta}\\x01\\x02\\xff"));
    rig.send(
        v1,
        &format!(
            r#"{{"topic":"realtime:d","event":"phx_join","ref":"1","payload":{{"config":{}}}}}"#,
            private(join)
        ),
    );
    assert_eq!(rig.sent_to(v1).len(), 1);
}

#[test]
fn a_client_that_asks_for_it_has_its_private_broadcast_kept_and_hears_the_id() {
    let mut rig = Rig::new();
    let (alice, ben) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:d", &private(r#""ack":true"#));
    rig.join(ben, "realtime:d", &private(""));
    // Kind 3: lengths of join_ref, ref, topic, event, metadata, then JSON.
    let push = |metadata: &str| -> &'static [u8] {
        let mut frame = vec![3, 1, 1, 10, 1, metadata.len() as u8, 1];
        frame.extend_from_slice(format!("17realtime:de{metadata}{{\"n\":1}}").as_bytes());
        frame.leak()
    };
    rig.send_binary(alice, push(r#"{"persist":{"ttl":60}}"#));
    let sent = rig.sent();
    let id = payload(&sent[1].1)["response"]["id"].as_str().unwrap().to_string();
    let meta = format!(r#"{{\"id\":\"{id}\"}}"#);
    assert_eq!(sent[0], (ben, format!("\\x04\\n\\x01-\\x01realtime:de{meta}{{\\\"n\\\":1}}")));
    let [replayed] = rig.replayed("realtime:d", r#"{"since":0}"#).try_into().unwrap();
    assert_eq!(replayed[4]["meta"], json(&format!(r#"{{"id":"{id}","replayed":true}}"#)));
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 0);

    // Without the wish nothing is kept and nothing said.
    rig.send_binary(alice, push("{}"));
    assert_eq!(payload(&rig.sent_to(alice)[0])["response"], json("{}"));
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 0);

    // On a public channel the wish counts for nothing.
    rig.send(alice, r#"["1","2","realtime:d","phx_leave",{}]"#);
    rig.join(alice, "realtime:d", r#"{"broadcast":{"ack":true}}"#);
    rig.send_binary(alice, push(r#"{"persist":true}"#));
    assert_eq!(payload(&rig.sent_to(alice)[0])["response"], json("{}"));
    assert_eq!(rig.replayed("realtime:d", r#"{"since":0}"#).len(), 0);
}

#[test]
fn replay_on_a_public_channel_or_with_bad_parameters_is_refused() {
    let mut rig =
        Rig::with(ServerConfig { join_refusal_after: Duration::ZERO, ..ServerConfig::default() });
    let alice = rig.open(V2);
    for (private, replay, reason) in [
        (false, "{\"since\":0}", "Replay is not allowed for public channels"),
        (true, r#"{"since":"x","limit":1000}"#, "Replay params are not valid"),
        (true, r#"{"limit":5}"#, "Replay params are not valid"),
    ] {
        rig.send(
            alice,
            &format!(
                r#"["2","2","realtime:d","phx_join",{{"config":{{"private":{private},"broadcast":{{"replay":{replay}}}}}}}]"#
            ),
        );
        let sent = rig.sent_to(alice);
        let expected = format!("UnableToReplayMessages: {reason}");
        assert_eq!(payload(&sent[0])["response"]["reason"], expected);
    }
}

#[test]
fn a_channel_that_asks_hears_when_the_database_reaches_it_or_is_closed() {
    for (after, expected) in [
        (
            0,
            vec![
                r#"["1",null,"realtime:d","system",{"message":"Replication connection established","status":"ok","extension":"system","channel":"d"}]"#,
            ],
        ),
        (
            59,
            vec![
                r#"["1",null,"realtime:d","system",{"message":"Replication connection established","status":"ok","extension":"system","channel":"d"}]"#,
            ],
        ),
        (
            61,
            vec![
                r#"["1",null,"realtime:d","system",{"message":"Replication connection was not established in time","status":"error","extension":"system","channel":"d"}]"#,
                r#"["1","1","realtime:d","phx_close",{}]"#,
            ],
        ),
    ] {
        let mut rig = Rig::with(ServerConfig {
            idle_after: None,
            replication_ready_after: Duration::from_secs(after),
            ..ServerConfig::default()
        });
        let alice = rig.open(V2);
        rig.send(
            alice,
            r#"["1","1","realtime:d","phx_join",{"config":{"broadcast":{"replication_ready":true}}}]"#,
        );
        rig.wait(Duration::from_secs(after.min(60)));
        assert_eq!(rig.sent_to(alice)[1..], expected, "{after}");
    }
}

const TODOS: &str = r#""postgres_changes":[{"event":"*","schema":"public","table":"todos"}]"#;

fn wait_join(options: &str) -> String {
    format!(
        r#"["1","1","realtime:d","phx_join",{{"config":{{{TODOS},"postgres_changes_options":{options}}}}}]"#
    )
}

#[test]
fn a_join_that_waits_is_answered_when_its_row_changes_flow() {
    let mut rig = Rig::with(ServerConfig {
        subscribed_after: Duration::from_secs(3),
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    rig.send(alice, &wait_join(r#"{"wait":true}"#));
    rig.send(alice, r#"[null,"2","phoenix","heartbeat",{}]"#);
    rig.wait(Duration::from_millis(2_999));
    assert_eq!(rig.sent(), [], "a join holds its session");
    rig.wait(Duration::from_millis(1));
    let sent = rig.sent_to(alice);
    assert_eq!(sent.len(), 3);
    assert!(sent[0].starts_with(r#"["1","1","realtime:d","phx_reply",{"status":"ok""#));
    assert!(sent.iter().any(|text| text.contains("Subscribed to PostgreSQL")));
}

#[test]
fn a_join_that_waits_too_long_or_in_vain_is_refused() {
    let refusal = |config: ServerConfig, options: &str| {
        let mut rig = Rig::with(config);
        let alice = rig.open(V2);
        rig.send(alice, &wait_join(options));
        rig.wait(Duration::from_secs(30));
        payload(&rig.sent_to(alice)[0])["response"]["reason"].as_str().unwrap().to_string()
    };
    let slow = ServerConfig {
        idle_after: None,
        subscribed_after: Duration::from_secs(25),
        ..ServerConfig::default()
    };
    for (options, millis) in [
        (r#"{"wait":true}"#, 15_000),
        (r#"{"wait":true,"timeout":700}"#, 700),
        (r#"{"wait":true,"timeout":60000}"#, 20_000),
    ] {
        assert_eq!(
            refusal(slow.clone(), options),
            format!(
                "PostgresChangesSubscribeTimeout: Timed out after {millis}ms waiting for the \
                 postgres_changes subscription"
            )
        );
    }
    let unpublished = ServerConfig {
        idle_after: None,
        unpublished_tables: Vec::from([("public".into(), "todos".into())]),
        ..ServerConfig::default()
    };
    let reason = refusal(unpublished, r#"{"wait":true}"#);
    let start = "RealtimeDisabledForConfiguration: Unable to subscribe to changes";
    assert!(reason.starts_with(start), "{reason}");
}

#[test]
fn row_changes_that_fail_for_now_come_back_and_those_that_fail_for_good_do_not() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:d", &format!("{{{TODOS}}}"));
    rig.wait(Duration::from_secs(1));
    rig.sent();
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":1}}"#);
    let again_after = Some(Duration::from_secs(5));
    let text = "Too many database timeouts";
    assert_eq!(rig.server.fail_changes("realtime:d", text, again_after, rig.now), 1);
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:d","system",{"message":"Too many database timeouts","status":"error","extension":"postgres_changes","channel":"d"}]"#
        ]
    );
    assert_eq!(rig.server.change(&change, rig.now), 0);
    rig.wait(Duration::from_secs(5));
    assert!(rig.sent_to(alice)[0].contains("Subscribed to PostgreSQL"));
    assert_eq!(rig.server.change(&change, rig.now), 1);

    assert_eq!(rig.server.fail_changes("realtime:d", text, None, rig.now), 1);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.server.change(&change, rig.now), 0);
    assert_eq!(rig.server.fail_changes("realtime:d", text, None, rig.now), 0);
}

#[test]
fn row_changes_that_stop_without_a_word_come_back_with_one() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:d", &format!("{{{TODOS}}}"));
    rig.wait(Duration::from_secs(1));
    rig.sent();
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":1}}"#);
    assert_eq!(rig.server.restart_changes("realtime:d", Duration::from_secs(5), rig.now), 1);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.server.change(&change, rig.now), 0);
    rig.wait(Duration::from_secs(5));
    assert!(rig.sent_to(alice)[0].contains("Subscribed to PostgreSQL"));
    assert_eq!(rig.server.change(&change, rig.now), 1);
}

#[test]
fn what_a_join_that_waited_brings_is_behind_the_older_mail_of_its_session() {
    let mut rig = Rig::with(ServerConfig {
        subscribed_after: Duration::from_secs(3),
        idle_after: None,
        ..ServerConfig::default()
    });
    let (alice, ben) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:a", "{}");
    rig.join(ben, "realtime:a", "{}");
    rig.insert("realtime:d", 1);
    rig.send(
        alice,
        &format!(
            r#"["2","2","realtime:d","phx_join",{{"config":{{"private":true,
                "broadcast":{{"replay":{{"since":0}}}},"presence":{{"enabled":true}},{TODOS},
                "postgres_changes_options":{{"wait":true}}}}}}]"#
        ),
    );
    // While the join holds the session: a push and a heartbeat of alice, a broadcast of ben.
    let send = |from: &str| {
        format!(
            r#"["1","{from}","realtime:a","broadcast",{{"type":"broadcast","event":"{from}","payload":{{}}}}]"#
        )
    };
    rig.send(ben, &send("ben"));
    rig.send(alice, r#"[null,"4","phoenix","heartbeat",{}]"#);
    rig.send(
        alice,
        r#"["2","5","realtime:d","presence",{"type":"presence","event":"track","payload":{}}]"#,
    );
    assert_eq!(rig.sent_to(alice), Vec::<String>::new());
    rig.wait(Duration::from_secs(3));
    let sent = rig.sent_to(alice);
    let place = |what: &str| sent.iter().position(|text| text.contains(what)).expect(what);
    // The process of the session answers joins and heartbeats itself; what channels send to it
    // comes in the order in which it was sent.
    let order = [
        place(r#"["2","2","realtime:d","phx_reply""#),
        place(r#""event":"ben""#),
        place(r#"[null,"4","phoenix","phx_reply""#),
        place(r#""replayed":true"#),
        place(r#""presence_state""#),
        place(r#"["2","5","realtime:d","phx_reply""#),
    ];
    assert!(order.is_sorted(), "{sent:#?}");
}

#[test]
fn the_end_of_an_older_join_is_the_first_behind_the_reply_of_one_that_waited() {
    let mut rig = Rig::with(ServerConfig {
        subscribed_after: Duration::from_secs(3),
        idle_after: None,
        ..ServerConfig::default()
    });
    let (alice, ben) = (rig.open(V2), rig.open(V2));
    rig.join(alice, "realtime:a", "{}");
    rig.join(alice, "realtime:d", "{}");
    rig.join(ben, "realtime:a", "{}");
    rig.send(alice, &wait_join(r#"{"wait":true}"#).replace(r#"["1","1""#, r#"["3","3""#));
    rig.send(
        ben,
        r#"["1","7","realtime:a","broadcast",{"type":"broadcast","event":"e","payload":{}}]"#,
    );
    rig.wait(Duration::from_secs(3));
    let sent = rig.sent_to(alice);
    assert!(sent[0].starts_with(r#"["3","3","realtime:d","phx_reply""#), "{sent:#?}");
    assert_eq!(sent[1], r#"["1","1","realtime:d","phx_close",{}]"#);
    assert!(sent[2].contains(r#""event":"e""#), "{sent:#?}");
}

#[test]
fn row_changes_wait_for_a_database_that_is_away_and_nothing_is_replayed() {
    let mut rig = Rig::new();
    let (live, asks) = (rig.open(V2), rig.open(V2));
    rig.insert("realtime:d", 1);
    rig.join(live, "realtime:d", &format!("{{{TODOS}}}"));
    rig.wait(Duration::from_millis(100));
    rig.sent();
    rig.server.stop_database(rig.now);
    let away = json(
        r#"{"message":"Too many database timeouts","status":"error","extension":"postgres_changes","channel":"d"}"#,
    );
    assert_eq!(payload(&rig.sent_to(live)[0]), away);
    rig.server.stop_database(rig.now);
    assert_eq!(rig.sent(), [], "it is away already");
    rig.send(asks, &format!(r#"["1","1","realtime:d","phx_join",{{"config":{{{TODOS}}}}}]"#));
    let sent = rig.sent_to(asks);
    assert!(sent[0].contains(r#""status":"ok""#));
    assert_eq!(payload(&sent[1]), away);
    let todo = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":1}}"#);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.server.change(&todo, rig.now), 0);
    let late = rig.open(V2);
    rig.send(
        late,
        &format!(
            r#"["1","1","realtime:d","phx_join",{{"config":{}}}]"#,
            private(r#""replay":{"since":0}"#)
        ),
    );
    rig.wait(Duration::from_secs(5));
    let refusal = payload(&rig.sent_to(late)[0]);
    assert_eq!(
        refusal["response"]["reason"],
        "UnableToReplayMessages: Realtime was unable to replay messages"
    );

    rig.server.start_database(rig.now);
    assert_eq!(rig.sent(), []);
    rig.wait(Duration::from_millis(100));
    let told = rig.sent();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, text)| text.contains("Subscribed to PostgreSQL")), "{told:?}");
    assert_eq!(rig.server.change(&todo, rig.now), 2);
    let told = rig.replayed("realtime:d", r#"{"since":0}"#);
    assert_eq!(told.len(), 1);
}

#[test]
fn a_join_that_waits_for_row_changes_waits_in_vain_for_a_database_that_is_away() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.server.stop_database(rig.now);
    rig.send(alice, &wait_join(r#"{"wait":true,"timeout":700}"#));
    rig.wait(Duration::from_secs(30));
    let reason = payload(&rig.sent_to(alice)[0])["response"]["reason"].to_string();
    assert!(reason.contains("PostgresChangesSubscribeTimeout: Timed out after 700ms"), "{reason}");
}

#[test]
fn who_joins_again_behind_a_join_that_waited_hears_that_its_older_self_went() {
    let mut rig = Rig::with(ServerConfig {
        subscribed_after: Duration::from_secs(3),
        idle_after: None,
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    rig.join(alice, "realtime:p", r#"{"presence":{"enabled":true,"key":"alice"}}"#);
    rig.send(alice, &wait_join(r#"{"wait":true}"#).replace(r#"["1","1""#, r#"["2","2""#));
    rig.presence(alice, "3", r#"{"type":"presence","event":"track","payload":{}}"#);
    rig.send(
        alice,
        r#"["4","4","realtime:p","phx_join",{"config":{"presence":{"enabled":true,"key":"alice"}}}]"#,
    );
    rig.wait(Duration::from_secs(3));
    let sent = rig.sent_to(alice);
    let diffs = sent.iter().filter(|text| text.contains("presence_diff")).map(|text| payload(text));
    let [came, went] = diffs.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(came["joins"], went["leaves"]);
    assert!(came["joins"]["alice"].is_object(), "{came}");
    let place = |what: &str| sent.iter().position(|text| text.contains(what)).expect(what);
    assert!(place(r#"["4","4","realtime:p","phx_reply""#) < place("presence_diff"));
}

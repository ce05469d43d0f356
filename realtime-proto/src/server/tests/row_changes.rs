//! What the database tells.

use super::*;

#[test]
fn a_join_echoes_the_bindings_with_ids_that_equal_parameters_share() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(
        alice,
        r#"["1","1","realtime:pg","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"},null,{"table":"todos","schema":"public","event":"*"},{"event":"FOO","schema":"public","table":"todos","filter":"id=eq.1","custom":[1]}]}}]"#,
    );
    let reply = payload(&rig.sent_to(alice)[0]);
    let bindings = reply["response"]["postgres_changes"].as_array().unwrap();
    let ids: Vec<u64> = bindings.iter().map(|b| b["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert!(ids.iter().all(|id| *id <= 134_217_727));
    assert_eq!(bindings[2]["event"], json("\"FOO\""));
    assert_eq!(bindings[2]["custom"], json("[1]"));
}

#[test]
fn a_row_change_goes_once_to_each_subscribed_channel_with_all_matching_ids() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(
        alice,
        r#"["1","1","realtime:pg2","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"},{"event":"insert","schema":"public","table":"todos","filter":"id=eq.1"},{"event":"UPDATE","schema":"public","table":"todos","filter":"task=in.(two,three)"},{"event":"DELETE","schema":"public","table":"todos"},{"event":"*","schema":"public"},{"event":"*","schema":"*"},{"event":"*","schema":"public","table":"todos","select":["task"]}]}}]"#,
    );
    let reply = payload(&rig.sent_to(alice)[0]);
    let ids: Vec<Value> = reply["response"]["postgres_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|binding| binding["id"].clone())
        .collect();
    let ids_of = |at: &[usize]| -> Value { at.iter().map(|at| ids[*at].clone()).collect() };

    let insert = row_change(
        r#"{"table":"todos","type":"INSERT","record":{"id":1,"done":true,"price":1.5,"meta":{"a":[1]},"task":"one","user_id":null,"big":9007199254740993}}"#,
    );
    assert_eq!(rig.server.change(&insert, rig.now), 0, "not subscribed yet");
    rig.wait(Duration::from_millis(100));
    assert_eq!(
        rig.sent_to(alice),
        [
            r#"["1",null,"realtime:pg2","system",{"message":"Subscribed to PostgreSQL","status":"ok","extension":"postgres_changes","channel":"pg2"}]"#
        ]
    );

    assert_eq!(rig.server.change(&insert, rig.now), 1);
    let sent = rig.sent_to(alice);
    assert_eq!(sent.len(), 2, "a binding with select gets a message of its own");
    assert!(sent[0].starts_with(r#"[null,null,"realtime:pg2","postgres_changes",{"#));
    assert!(sent[0].contains(r#""big":9007199254740993"#));
    let told = payload(&sent[0]);
    assert_eq!(told["ids"], ids_of(&[0, 1, 4, 5]));
    assert_eq!(told["data"]["commit_timestamp"], json("\"2001-09-09T01:46:40.100Z\""));
    assert_eq!(told["data"]["errors"], Value::Null);
    assert!(told["data"].get("old_record").is_none());
    let types: Vec<&str> = told["data"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["int8", "bool", "numeric", "jsonb", "text", "text", "int8"]);
    let chosen = payload(&sent[1]);
    assert_eq!(chosen["ids"], ids_of(&[6]));
    assert_eq!(chosen["data"]["record"], json(r#"{"id":1,"task":"one"}"#));
    assert_eq!(
        chosen["data"]["columns"],
        json(r#"[{"name":"id","type":"int8"},{"name":"task","type":"text"}]"#)
    );

    let update = row_change(
        r#"{"table":"todos","type":"UPDATE","record":{"id":1,"task":"three"},"commit_timestamp":"2026-11-22T20:36:01.447Z"}"#,
    );
    rig.server.change(&update, rig.now);
    let told = payload(&rig.sent_to(alice)[0]);
    assert_eq!(told["ids"], ids_of(&[0, 2, 4, 5]));
    assert_eq!(told["data"]["old_record"], json(r#"{"id":1}"#));
    assert_eq!(told["data"]["commit_timestamp"], json("\"2026-11-22T20:36:01.447Z\""));

    let delete = row_change(r#"{"table":"todos","type":"DELETE","old_record":{"id":1}}"#);
    rig.server.change(&delete, rig.now);
    let told = payload(&rig.sent_to(alice)[0]);
    assert_eq!(told["ids"], ids_of(&[0, 3, 4, 5]));
    assert!(told["data"].get("record").is_none());

    let elsewhere =
        row_change(r#"{"schema":"other","table":"t","type":"INSERT","record":{"id":1}}"#);
    rig.server.change(&elsewhere, rig.now);
    assert_eq!(payload(&rig.sent_to(alice)[0])["ids"], ids_of(&[5]));
}

#[test]
fn one_bad_binding_fails_them_all_in_the_words_of_a_real_server() {
    let config = ServerConfig {
        unpublished_tables: Vec::from([("public".into(), "nosuch".into())]),
        ..ServerConfig::default()
    };
    let mut rig = Rig::with(config);
    let alice = rig.open(V2);
    for (binding, message) in [
        (
            r#"{"event":"*","schema":"public","table":"nosuch"}"#,
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: nosuch, filters: [], select: nil]",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id"}"#,
            r#"Error parsing `filter` params: ["id"]"#,
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id=zz.1"}"#,
            r#"Error parsing `filter` params: ["zz", "1"]"#,
        ),
        (
            "{}",
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{}",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","select":"id,task"}"#,
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#,
        ),
        (
            r#"{"event":"*","schema":"public","select":["id"]}"#,
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
        ),
        (
            r#"{"event":"*","schema":"public","table":"todos","filter":"id=match.(a"}"#,
            "Error parsing `filter` params: invalid regular expression: parentheses () not \
             balanced",
        ),
    ] {
        rig.join(
            alice,
            "realtime:pgerr",
            &format!(r#"{{"postgres_changes":[{{"schema":"public","table":"ok"}},{binding}]}}"#),
        );
        rig.wait(Duration::from_millis(100));
        let told = payload(&rig.sent_to(alice)[0]);
        assert_eq!(told["message"].as_str(), Some(message));
        assert_eq!(
            (&told["status"], &told["extension"], &told["channel"]),
            (&json("\"error\""), &json("\"postgres_changes\""), &json("\"pgerr\""))
        );
        let change = row_change(r#"{"table":"ok","type":"INSERT","record":{}}"#);
        assert_eq!(rig.server.change(&change, rig.now), 0);
    }
}

#[test]
fn a_join_without_config_subscribes_to_its_topic_as_schema_and_table() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.send(alice, r#"["3","3","realtime:public:todos","phx_join",{}]"#);
    let reply = payload(&rig.sent_to(alice)[0]);
    let binding = &reply["response"]["postgres_changes"][0];
    assert_eq!((&binding["schema"], &binding["table"]), (&json("\"public\""), &json("\"todos\"")));
    rig.wait(Duration::from_millis(100));
    rig.sent();
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":7}}"#);
    assert_eq!(rig.server.change(&change, rig.now), 1);
    let sent = rig.sent_to(alice);
    assert!(sent[0].starts_with(r#"[null,null,"realtime:public:todos","INSERT",{"#));
    assert_eq!(payload(&sent[0])["record"], json(r#"{"id":7}"#));
}

//! The official clients against our local server, beside our own client.

use core::time::Duration;

use realtime_proto::server::{RowChange, ServerConfig};
use realtime_proto::supabase::{Binding, ChangeEvent, JoinConfig};
use realtime_proto::{Backoff, ChannelConfig, ChannelEvent, Config, Payload};
use realtime_smol::{Channel, Client, Delivery, DevServer, DevServerConfig, DevServerHandle};
use realtime_tests::encoding::unhex;
use realtime_tests::node::Script;
use serde_json::{Value, json};
use smol::future::{FutureExt, block_on};
use smol::stream::StreamExt;

fn serve(config: ServerConfig) -> DevServerHandle {
    let mut settings = DevServerConfig::default();
    settings.server = config;
    DevServer::bind(([127, 0, 0, 1], 0), settings).unwrap().spawn()
}

/// Runs a test, and ends it when it hangs.
fn run(test: impl Future<Output = ()>) {
    let hangs = async {
        smol::Timer::after(Duration::from_secs(60)).await;
        panic!("the test did not end in 60 s");
    };
    block_on(test.or(hangs));
}

fn connect(server: &DevServerHandle) -> Client {
    let at_once = || Backoff::exponential(Duration::from_millis(1), Duration::from_millis(1));
    let config = Config::builder(server.url()).reconnect(at_once()).rejoin(at_once());
    Client::connect(config.build().unwrap())
}

fn payload(value: &Value) -> Payload {
    Payload::json(value).unwrap()
}

/// An official client in its script. What it told and nobody asked for yet is kept.
struct Npm {
    script: Script,
    kept: Vec<Value>,
}

impl Npm {
    fn start(name: &str) -> Option<Self> {
        Some(Self { script: Script::start(name)?, kept: Vec::new() })
    }

    async fn tell(&mut self, command: Value) {
        self.script.tell(&command.to_string()).await;
    }

    /// The first thing it told for which `wanted` gives something.
    async fn hear<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        if let Some(at) = self.kept.iter().position(|line| wanted(line).is_some()) {
            let line = self.kept.remove(at);
            return wanted(&line).unwrap();
        }
        loop {
            let line = serde_json::from_str(&self.script.line().await).unwrap();
            if let Some(found) = wanted(&line) {
                return found;
            }
            self.kept.push(line);
        }
    }

    /// The first thing it told under `key`.
    async fn told(&mut self, key: &str) -> Value {
        self.hear(|line| line.get(key).cloned()).await
    }

    /// Waits until it has this status.
    async fn status(&mut self, wanted: &str) {
        self.hear(|line| (line["status"] == wanted).then_some(())).await;
    }

    /// Waits until the database subscription stands.
    async fn subscribed(&mut self) {
        let said = "Subscribed to PostgreSQL";
        self.hear(|line| (line["system"]["message"] == said).then_some(())).await;
    }

    /// Waits until it sees exactly these members, and returns them.
    async fn members(&mut self, wanted: &[&str]) -> Value {
        self.hear(|line| {
            let members = line.get("members")?;
            let keys = members.as_object().unwrap().keys();
            keys.eq(wanted).then(|| members.clone())
        })
        .await
    }

    /// Gives it a command, and returns what came of it.
    async fn done(&mut self, command: Value) -> Value {
        let name = command["do"].clone();
        self.tell(command).await;
        self.hear(|line| (line["did"] == name).then(|| line["result"].clone())).await
    }
}

/// Says what nobody waited for, which is where a test that hangs went wrong.
impl Drop for Npm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in &self.kept {
                eprintln!("kept {line}");
            }
        }
    }
}

/// The first event of our channel for which `wanted` gives something.
async fn first<T>(channel: &mut Channel, wanted: impl Fn(ChannelEvent) -> Option<T>) -> T {
    loop {
        let delivery: Delivery<ChannelEvent> = channel.next().await.expect("the channel ended");
        if let Some(found) = delivery.event().and_then(&wanted) {
            return found;
        }
    }
}

/// Waits for a broadcast, and returns its event and payload.
async fn broadcast(channel: &mut Channel) -> (String, Payload) {
    first(channel, |event| match event {
        ChannelEvent::Broadcast(broadcast) => Some((broadcast.event, broadcast.payload)),
        _ => None,
    })
    .await
}

/// Waits until our client sees exactly these members, by key.
async fn members(channel: &mut Channel, wanted: &[&str]) {
    loop {
        let members = channel.presence().await.unwrap();
        let mut keys: Vec<&str> = members.iter().map(|member| &*member.key).collect();
        keys.sort_unstable();
        if keys == wanted {
            return;
        }
        first(channel, |event| matches!(event, ChannelEvent::Presence(_)).then_some(())).await;
    }
}

/// Waits until the server has so many channels: the official clients do not wait for its answer
/// when they leave.
async fn until_channels(server: &DevServerHandle, wanted: usize) {
    while server.stats().await.unwrap().channels != wanted {
        smol::future::yield_now().await;
    }
}

/// What our client asks for: rows of contact 7, presence as `ours`, and acknowledged broadcasts.
fn room() -> ChannelConfig {
    let mut config = JoinConfig::default();
    config.broadcast.ack = true;
    config.presence.key = "ours".into();
    config.postgres_changes =
        vec![Binding::new(ChangeEvent::All, "public", "contacts").with_filter("id=eq.7")];
    ChannelConfig::supabase(config).with_presence()
}

fn subscribe(server: &DevServerHandle, vsn: &str) -> Value {
    let config = json!({"broadcast": {"ack": true, "self": false}, "presence": {"key": "npm"}});
    let row = json!({"event": "*", "schema": "public", "table": "contacts", "filter": "id=eq.7"});
    json!({
        "do": "subscribe", "url": server.url(), "vsn": vsn, "topic": "contact:7",
        "config": config, "changes": [row],
    })
}

#[test]
fn realtime_js_shares_a_channel_of_our_server_with_our_client() {
    for vsn in ["1.0.0", "2.0.0"] {
        let Some(mut npm) = Npm::start("realtime") else { return };
        run(async {
            let npm = &mut npm;
            let server = serve(ServerConfig::default());
            let client = connect(&server);
            let mut ours = client.open_channel("realtime:contact:7", room()).await.unwrap();
            ours.live().await.unwrap();
            npm.tell(subscribe(&server, vsn)).await;
            npm.status("SUBSCRIBED").await;
            npm.subscribed().await;

            ours.track(payload(&json!({"name": "Ours"}))).await.unwrap();
            let joined = npm
                .hear(|line| {
                    (line["presence"]["event"] == "join").then(|| line["presence"].clone())
                })
                .await;
            assert_eq!(
                (&joined["key"], &joined["newPresences"][0]["name"]),
                (&"ours".into(), &"Ours".into())
            );
            let track = json!({"do": "track", "payload": {"name": "Npm"}});
            assert_eq!(npm.done(track).await, "ok");
            members(&mut ours, &["npm", "ours"]).await;
            npm.members(&["npm", "ours"]).await;

            ours.broadcast("cursor", payload(&json!({"x": 1}))).await.unwrap();
            let heard = npm.told("broadcast").await;
            assert_eq!(heard, json!({"event": "cursor", "payload": {"x": 1}}));
            let send = json!({"do": "broadcast", "event": "cursor", "payload": {"y": [2, "é"]}});
            assert_eq!(npm.done(send).await, "ok");
            let sent = ("cursor".to_owned(), Payload::from_json(r#"{"y":[2,"é"]}"#).unwrap());
            assert_eq!(broadcast(&mut ours).await, sent);

            let post = json!({"do": "post", "event": "posted", "payload": {"z": 3}});
            assert_eq!(npm.done(post).await, json!({"success": true}));
            let sent = ("posted".to_owned(), Payload::from_json(r#"{"z":3}"#).unwrap());
            assert_eq!(broadcast(&mut ours).await, sent);
            assert_eq!(npm.told("broadcast").await["event"], "posted");

            let row = payload(&json!({"id": 7, "name": "Acme"}));
            let change = RowChange::insert("contacts", row).unwrap();
            assert_eq!(server.change(change).await.unwrap(), 2);
            let heard = npm.told("change").await;
            assert_eq!(heard["eventType"], "INSERT");
            assert_eq!(heard["new"], json!({"id": 7, "name": "Acme"}));
            let heard = first(&mut ours, |event| match event {
                ChannelEvent::Change { change, .. } => Some(change),
                _ => None,
            })
            .await;
            assert_eq!(heard.typed::<Value>().unwrap().new_row().unwrap()["name"], "Acme");

            assert_eq!(npm.done(json!({"do": "untrack"})).await, "ok");
            members(&mut ours, &["ours"]).await;
            assert_eq!(npm.done(json!({"do": "leave"})).await, "ok");
            until_channels(&server, 1).await;
        });
    }
}

#[test]
fn bytes_pass_between_realtime_js_and_our_client() {
    let Some(mut npm) = Npm::start("realtime") else { return };
    run(async {
        let npm = &mut npm;
        let server = serve(ServerConfig::default());
        let client = connect(&server);
        let mut ours = client.open_channel("realtime:contact:7", room()).await.unwrap();
        ours.live().await.unwrap();
        npm.tell(subscribe(&server, "2.0.0")).await;
        npm.status("SUBSCRIBED").await;
        ours.broadcast("bytes", Payload::binary(vec![0, 255, 34])).await.unwrap();
        let heard = npm.told("broadcast").await;
        assert_eq!(heard, json!({"event": "bytes", "payload": {"hex": "00ff22"}}));
        for how in ["broadcast", "post"] {
            let send = json!({"do": how, "event": "bytes", "payload": {"hex": "0080ff"}});
            npm.tell(send).await;
            let sent = ("bytes".to_owned(), Payload::binary(vec![0, 0x80, 255]));
            assert_eq!(broadcast(&mut ours).await, sent, "{how}");
        }
    });
}

#[test]
fn our_server_takes_a_newer_token_of_realtime_js_and_ends_the_channel_of_one_that_expired() {
    let Some(mut npm) = Npm::start("realtime") else { return };
    run(async {
        let server = serve(ServerConfig {
            apikey: Some("key".into()),
            reads_tokens: true,
            ..ServerConfig::default()
        });
        let claims = |exp: u64| json!({"role": "authenticated", "sub": "npm", "exp": exp});
        let mut subscribe = subscribe(&server, "2.0.0");
        subscribe["claims"] = claims(u32::MAX.into());
        subscribe["config"]["private"] = true.into();
        npm.tell(subscribe).await;
        npm.status("SUBSCRIBED").await;
        npm.subscribed().await;
        // The subscription is made anew for what the new token may see.
        npm.tell(json!({"do": "token", "claims": claims(u64::from(u32::MAX) + 1)})).await;
        npm.subscribed().await;
        let row = payload(&json!({"id": 7}));
        server.change(RowChange::insert("contacts", row).unwrap()).await.unwrap();
        assert_eq!(npm.told("change").await["new"], json!({"id": 7}));

        npm.tell(json!({"do": "token", "claims": claims(1)})).await;
        let said = npm.told("system").await;
        let message = said["message"].as_str().unwrap();
        assert!(message.starts_with("Token has expired "), "{message}");
        npm.status("CLOSED").await;
        assert_eq!(server.stats().await.unwrap().channels, 0);
    });
}

#[test]
fn realtime_js_is_told_why_our_server_refuses_it() {
    let Some(mut npm) = Npm::start("realtime") else { return };
    run(async {
        let server = serve(ServerConfig {
            private_only: true,
            join_refusal_after: Duration::ZERO,
            ..ServerConfig::default()
        });
        npm.tell(subscribe(&server, "2.0.0")).await;
        let refused = npm.hear(|line| (line["status"] == "CHANNEL_ERROR").then(|| line.clone()));
        let reason = "PrivateOnly: This project only allows private channels";
        assert_eq!(refused.await["error"], reason);
    });
}

#[test]
fn realtime_js_and_our_client_come_back_after_a_cut() {
    for vsn in ["1.0.0", "2.0.0"] {
        let Some(mut npm) = Npm::start("realtime") else { return };
        run(async {
            let npm = &mut npm;
            let server = serve(ServerConfig::default());
            let client = connect(&server);
            let mut ours = client.open_channel("realtime:contact:7", room()).await.unwrap();
            ours.track(payload(&json!({"name": "Ours"}))).await.unwrap();
            ours.live().await.unwrap();
            npm.tell(subscribe(&server, vsn)).await;
            npm.status("SUBSCRIBED").await;
            let before = npm.members(&["ours"]).await;

            assert_eq!(server.cut_all().await.unwrap(), 2);
            npm.status("CHANNEL_ERROR").await;
            npm.status("SUBSCRIBED").await;
            npm.subscribed().await;
            first(&mut ours, |event| matches!(event, ChannelEvent::Live).then_some(())).await;
            // Ours shows itself again by itself.
            while npm.members(&["ours"]).await == before {}

            let row = payload(&json!({"id": 7}));
            server.change(RowChange::insert("contacts", row).unwrap()).await.unwrap();
            assert_eq!(npm.told("change").await["new"], json!({"id": 7}));
            let send = json!({"do": "broadcast", "event": "back", "payload": {}});
            assert_eq!(npm.done(send).await, "ok");
            assert_eq!(broadcast(&mut ours).await.0, "back");
        });
    }
}

/// `presenceState()` makes an object of the keys, and `__proto__` is none of its own.
#[test]
fn realtime_js_hides_a_member_named_like_a_prototype_and_ours_does_not() {
    let Some(mut npm) = Npm::start("realtime") else { return };
    run(async {
        let server = serve(ServerConfig::default());
        let client = connect(&server);
        let mut config = JoinConfig::default();
        config.presence.key = "__proto__".into();
        let config = ChannelConfig::supabase(config).with_presence();
        let mut ours = client.open_channel("realtime:contact:7", config).await.unwrap();
        ours.track(payload(&json!({"name": "Ours"}))).await.unwrap();
        members(&mut ours, &["__proto__"]).await;
        let mut subscribe = subscribe(&server, "2.0.0");
        subscribe["config"]["presence"]["key"] = "constructor".into();
        npm.tell(subscribe).await;
        let joined = npm.hear(|line| {
            (line["presence"]["key"] == "__proto__").then(|| line["presence"].clone())
        });
        assert_eq!(joined.await["newPresences"][0]["name"], "Ours");
        npm.tell(json!({"do": "track", "payload": {"name": "Npm"}})).await;
        members(&mut ours, &["__proto__", "constructor"]).await;
        npm.members(&["constructor"]).await;
    });
}

/// The members that the Phoenix client lists, and the callbacks since it last did.
async fn listed(npm: &mut Npm, wanted: &[&str]) -> (Value, Value) {
    npm.hear(|line| {
        let members = line.get("members")?.as_array().unwrap();
        let keys = members.iter().map(|member| member[0].as_str().unwrap());
        keys.eq(wanted.iter().copied()).then(|| (line["members"].clone(), line["calls"].clone()))
    })
    .await
}

#[test]
fn the_phoenix_client_and_ours_talk_on_a_plain_channel() {
    let Some(mut npm) = Npm::start("phoenix") else { return };
    run(async {
        let server = serve(ServerConfig::default());
        let client = connect(&server);
        let params = ChannelConfig::phoenix(Payload::empty());
        let mut ours = client.open_channel("room:lobby", params).await.unwrap();
        ours.live().await.unwrap();
        npm.tell(json!({
            "do": "join", "url": server.url(), "topic": "room:lobby", "params": {},
            "events": ["new_msg", "bytes"],
        }))
        .await;
        npm.told("joined").await;
        for (event, ours_sends, npm_sends) in [
            ("new_msg", json!({"body": "hi"}), json!({"body": "ключ \u{2028}"})),
            ("bytes", json!({"hex": "00ff"}), json!({"hex": "80"})),
        ] {
            let sent = |value: &Value| match value.get("hex") {
                Some(hex) => Payload::binary(unhex(hex.as_str().unwrap())),
                None => payload(value),
            };
            let answered = ours.push(event, sent(&ours_sends)).await.unwrap();
            assert_eq!(answered, Payload::empty());
            assert_eq!(
                npm.hear(|line| (line["message"] == event).then(|| line["payload"].clone())).await,
                ours_sends
            );
            npm.tell(json!({"do": "push", "event": event, "payload": npm_sends})).await;
            let heard = first(&mut ours, |event| match event {
                ChannelEvent::Message { event, payload } => Some((event, payload)),
                _ => None,
            });
            assert_eq!(heard.await, (event.to_owned(), sent(&npm_sends)));
            assert_eq!(npm.told("reply").await, "ok");
        }
        npm.tell(json!({"do": "leave"})).await;
        npm.told("closed").await;
        until_channels(&server, 1).await;
    });
}

#[test]
fn the_phoenix_client_sees_the_presence_that_ours_does_across_a_cut() {
    let Some(mut npm) = Npm::start("phoenix") else { return };
    run(async {
        let server = serve(ServerConfig::default());
        let client = connect(&server);
        let mut ours = client.open_channel("realtime:contact:7", room()).await.unwrap();
        ours.track(payload(&json!({"name": "Ours"}))).await.unwrap();
        ours.live().await.unwrap();
        members(&mut ours, &["ours"]).await;
        let params = json!({"config": {"presence": {"key": "npm", "enabled": true}}});
        npm.tell(json!({
            "do": "join", "url": server.url(), "topic": ours.topic(), "params": params,
            "events": [],
        }))
        .await;
        let (list, calls) = listed(&mut npm, &["ours"]).await;
        assert_eq!(
            (&list[0][1][0]["name"], calls),
            (&"Ours".into(), json!([["join", "ours", false]]))
        );
        let track = json!({"type": "presence", "event": "track", "payload": {"name": "Npm"}});
        npm.tell(json!({"do": "push", "event": "presence", "payload": track})).await;
        assert_eq!(npm.told("reply").await, "ok");
        members(&mut ours, &["npm", "ours"]).await;
        let (_, calls) = listed(&mut npm, &["ours", "npm"]).await;
        assert_eq!(calls, json!([["join", "npm", false]]));

        ours.track(payload(&json!({"name": "Renamed"}))).await.unwrap();
        let (list, calls) = listed(&mut npm, &["ours", "npm"]).await;
        assert_eq!(list[0][1][0]["name"], "Renamed");
        assert_eq!(calls, json!([["join", "ours", true], ["leave", "ours", true]]));

        assert_eq!(server.cut_all().await.unwrap(), 2);
        npm.told("errored").await;
        // Its own entry is gone with its connection; ours is shown again by itself.
        npm.hear(|line| {
            let members = line.get("members")?.as_array().unwrap();
            let [member] = members.as_slice() else { return None };
            (member[0] == "ours" && member[1] != list[0][1]).then_some(())
        })
        .await;
        members(&mut ours, &["ours"]).await;
    });
}

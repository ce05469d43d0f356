//! What the npm `phoenix` and `@supabase/realtime-js` ask a server for, and what ours does: the URL
//! of the connection, and broadcasts over HTTP.

use core::time::Duration;

use realtime_proto::supabase::{
    BroadcastApi, BroadcastRequest, HttpBroadcast, HttpBroadcastError, Persist,
};
use realtime_proto::{Client, Config, Instant, Payload, Transmit};
use realtime_tests::dice::Dice;
use realtime_tests::encoding::hex;
use realtime_tests::node::Script;
use serde_json::{Map, Value, json};

const REQUESTS: u64 = 5_000;

const ENDPOINTS: [&str; 5] = [
    "wss://project.supabase.co/realtime/v1",
    "ws://127.0.0.1:4010/socket",
    "ws://localhost:4000",
    "wss://example.com/a%20b/socket",
    "ws://[::1]:4000/socket",
];

/// Names that a URL has to escape, and plain ones.
fn name(dice: &mut Dice) -> String {
    const PIECES: [&str; 16] = [
        "a",
        "Room",
        "7",
        ":",
        "/",
        "?",
        "#",
        "&",
        "=",
        "%2F",
        " ",
        "+",
        "é\u{1F600}",
        "!~*'()",
        "[x]",
        "..",
    ];
    let name = (0..1 + dice.below(4)).map(|_| *dice.pick(&PIECES)).collect::<String>();
    // A name of spaces is refused by ours, and one of dots is a test of its own.
    if name.trim().is_empty() || name == ".." { "room".into() } else { name }
}

fn connect_url(endpoint: &str, params: &[(String, String)]) -> String {
    let config = Config::builder(endpoint);
    let config = params.iter().fold(config, |config, (key, value)| config.param(key, &**value));
    let mut client = Client::new(config.build().unwrap(), 1, Instant::EPOCH);
    client.connect(Instant::EPOCH);
    match client.poll_transmit() {
        Some(Transmit::Open { url, .. }) => url.expose().into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ours_connects_to_the_url_that_the_official_clients_connect_to() {
    let Some(mut npm) = Script::start("requests") else { return };
    let drawn: Vec<(&str, Vec<(String, String)>)> = (0..REQUESTS)
        .map(|seed| {
            let dice = &mut Dice::new(seed);
            let endpoint = *dice.pick(&ENDPOINTS);
            let mut params = vec![("apikey".to_owned(), name(dice))];
            // A letter first: JavaScript would move a number before all others.
            params
                .extend((0..dice.below(3)).map(|at| (format!("p{at}{}", name(dice)), name(dice))));
            (endpoint, params)
        })
        .collect();
    let question = |(endpoint, params): &(&str, Vec<(String, String)>)| {
        // The order counts, which a map of serde's does not keep.
        let params = params.iter().map(|(key, value)| format!("{}:{}", json!(key), json!(value)));
        let params = params.collect::<Vec<_>>().join(",");
        format!(r#"{{"endpoint":{},"params":{{{params}}}}}"#, json!(endpoint))
    };
    let questions: Vec<String> = drawn.iter().map(question).collect();
    npm.ask_all(&questions, |at, answer| {
        let (endpoint, params) = &drawn[at];
        let ours = connect_url(endpoint, params);
        let npms: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(npms, json!({"phoenix": ours, "realtime-js": ours}), "{endpoint} {params:?}");
    });
}

/// A broadcast, and where it goes.
#[derive(Debug)]
struct Drawn {
    endpoint: &'static str,
    token: Option<String>,
    topic: String,
    event: String,
    payload: Payload,
    private: bool,
    persist: Option<Persist>,
}

impl Drawn {
    fn draw(seed: u64) -> Self {
        let mut owned = Dice::new(seed);
        let dice = &mut owned;
        let payload = if dice.one_in(3) {
            Payload::binary((0..dice.below(6)).map(|_| dice.byte()).collect::<Vec<u8>>())
        } else {
            Payload::json(&json!({"n": dice.below(100), "text": name(dice)})).unwrap()
        };
        let private = dice.one_in(2);
        let persist = match dice.below(6) {
            0 if private => Some(Persist::Longest),
            1 if private => Some(Persist::For(Duration::from_secs(1 + dice.below(100) as u64))),
            _ => None,
        };
        let token = dice.one_in(2).then(|| format!("token{}", dice.below(10)));
        let (topic, event) = (name(dice), name(dice));
        let endpoint = *dice.pick(&ENDPOINTS);
        Self { endpoint, token, topic, event, payload, private, persist }
    }

    fn question(&self) -> String {
        let persist = match self.persist {
            None => Value::Null,
            Some(Persist::Longest) => true.into(),
            Some(Persist::For(span)) => json!({"ttl": span.as_secs()}),
        };
        let payload = match self.payload.as_json() {
            Some(text) => serde_json::from_str(text).unwrap(),
            None => json!({"hex": hex(self.payload.as_bytes())}),
        };
        json!({
            "endpoint": self.endpoint, "token": self.token, "topic": self.topic,
            "private": self.private, "event": self.event, "payload": payload, "persist": persist,
        })
        .to_string()
    }

    fn api(&self) -> BroadcastApi {
        let api = BroadcastApi::new(self.endpoint).unwrap().with_apikey("key");
        self.token.iter().fold(api, |api, token| api.with_access_token(&**token))
    }

    fn broadcast(&self) -> HttpBroadcast {
        let topic = format!("realtime:{}", self.topic);
        let broadcast = HttpBroadcast::new(topic, &*self.event, self.payload.clone());
        let broadcast = if self.private { broadcast.private() } else { broadcast };
        self.persist.iter().fold(broadcast, |broadcast, persist| broadcast.persisted(*persist))
    }
}

/// A request of ours as requests.mjs shows one of npm's.
fn shown(request: &BroadcastRequest) -> Value {
    let (url, query) = request.url().split_once('?').unwrap_or_else(|| (request.url(), ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs =
        pairs.map(|(key, value)| [key.replace("%5B", "[").replace("%5D", "]"), value.into()]);
    let headers: Map<String, Value> =
        request.headers().map(|(name, value)| (name.into(), value.into())).collect();
    let body = match request.content_type() {
        "application/json" => json!(serde_json::from_slice::<Value>(request.body()).unwrap()),
        _ => json!(hex(request.body())),
    };
    let query = pairs.collect::<Vec<_>>();
    json!({"method": "POST", "url": url, "query": query, "headers": headers, "body": body})
}

/// One of npm's, with the names of its headers in lower case and its body read.
fn read(request: &Value) -> Value {
    let headers = request["headers"].as_object().unwrap().iter();
    let headers: Map<String, Value> =
        headers.map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    let body = match request["text"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap(),
        None => request["hex"].clone(),
    };
    json!({
        "method": request["method"], "url": request["url"], "query": request["query"],
        "headers": headers, "body": body,
    })
}

#[test]
fn ours_asks_for_broadcasts_over_http_as_realtime_js_does() {
    let Some(mut npm) = Script::start("requests") else { return };
    let drawn: Vec<Drawn> = (0..REQUESTS).map(Drawn::draw).collect();
    let questions: Vec<String> = drawn.iter().map(Drawn::question).collect();
    npm.ask_all(&questions, |at, answer| {
        let drawn = &drawn[at];
        let npms: Value = serde_json::from_str(answer).unwrap();
        assert!(npms.is_array(), "{npms} for {drawn:?}");
        let single = drawn.api().single(&drawn.broadcast()).unwrap();
        assert_eq!(read(&npms[0]), shown(&single), "{drawn:?}");
        if drawn.payload.is_binary() || drawn.persist.is_some() {
            return;
        }
        let mut batch = shown(&drawn.api().batch(&[drawn.broadcast()]).unwrap());
        // Ours says it only where it is so.
        batch["body"]["messages"][0]["private"] = drawn.private.into();
        assert_eq!(read(&npms[1]), batch, "{drawn:?}");
    });
}

/// A URL resolves `..` even where it is escaped, so realtime-js broadcasts to another address.
#[test]
fn ours_refuses_a_topic_of_dots_that_realtime_js_loses() {
    let Some(mut npm) = Script::start("requests") else { return };
    let drawn = Drawn { topic: "..".into(), persist: None, ..Drawn::draw(1) };
    npm.ask_all(&[drawn.question()], |_, answer| {
        let npms: Value = serde_json::from_str(answer).unwrap();
        let url = npms[0]["url"].as_str().unwrap();
        assert!(url.contains("/api/events/"), "the topic took the path along: {url}");
    });
    let refused = drawn.api().single(&drawn.broadcast());
    assert_eq!(refused.unwrap_err(), HttpBroadcastError::Dots);
}

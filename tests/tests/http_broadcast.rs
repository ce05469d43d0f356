//! Broadcasts over HTTP: the requests a real server was recorded to take, and what it answered;
//! and the same requests at our server half.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::collections::BTreeMap;

use realtime_proto::server::{HttpRequest, Server, ServerConfig, ServerTransmit, SessionId};
use realtime_proto::supabase::{
    BroadcastApi, BroadcastRequest, Cause, CauseKind, HttpBroadcast, HttpBroadcastError, Persist,
};
use realtime_proto::{Client, Config, Frame, Instant, Payload};
use realtime_tests::encoding::unbase64;
use realtime_tests::fixture;
use serde_json::Value;

/// A request of the recording, and its answer.
struct Exchange {
    line: usize,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    status: u16,
    answer: String,
}

fn exchanges() -> Vec<Exchange> {
    let text = fixture("transcripts/supabase-v1-http-broadcast.jsonl");
    let lines = text.lines().enumerate();
    let http: Vec<(usize, Value)> = lines
        .map(|(at, line)| (at + 1, serde_json::from_str::<Value>(line).unwrap()))
        .filter(|(_, line)| line["kind"] == "http")
        .collect();
    let exchange = |pair: &[(usize, Value)]| {
        let [(line, request), (_, answer)] = pair else { panic!("a request and its answer") };
        let body = request["body"].as_str().unwrap();
        let headers = request["headers"].as_object().unwrap();
        Exchange {
            line: *line,
            target: request["data"].as_str().unwrap().strip_prefix("POST ").unwrap().into(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            body: body.strip_prefix("base64:").map_or_else(|| body.into(), unbase64),
            status: answer["status"].as_u64().unwrap().try_into().unwrap(),
            answer: answer["data"].as_str().unwrap().into(),
        }
    };
    http.chunks(2).map(exchange).collect()
}

/// Makes the recorded request with what an application would call.
fn make(exchange: &Exchange) -> Result<BroadcastRequest, String> {
    let header = |name: &str| exchange.headers.get(name);
    let mut api = BroadcastApi::new("ws://server/socket").unwrap();
    if let Some(apikey) = header("apikey") {
        api = api.with_apikey(apikey.as_str());
    }
    if let Some(bearer) = header("authorization") {
        api = api.with_access_token(bearer.strip_prefix("Bearer ").unwrap());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |error: HttpBroadcastError| error.to_string();
    let payload = |value: &Value| Payload::json(value).unwrap();
    let broadcast = |topic: &str, event: &str, payload, private| {
        let broadcast = HttpBroadcast::new(format!("realtime:{topic}"), event, payload);
        if private { broadcast.private() } else { broadcast }
    };
    let (path, query) = exchange.target.split_once('?').unwrap_or((&exchange.target, ""));
    if let Some(rest) = path.strip_prefix("/api/broadcast/") {
        let (topic, event) = rest.split_once("/events/").unwrap();
        let payload = match header("content-type").unwrap().as_str() {
            "application/json" => payload(&serde_json::from_slice(&exchange.body).unwrap()),
            "application/octet-stream" => Payload::binary(exchange.body.clone()),
            other => return Err(format!("{other} is no type of ours")),
        };
        return api
            .single(&broadcast(topic, event, payload, query == "private=true"))
            .map_err(told);
    }
    let body: Value = serde_json::from_slice(&exchange.body).map_err(|_| "no JSON".to_owned())?;
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let broadcasts: Vec<HttpBroadcast> = messages
        .iter()
        .map(|message| {
            let (topic, event) = (text(&message["topic"]), text(&message["event"]));
            broadcast(&topic, &event, payload(&message["payload"]), message["private"] == true)
        })
        .collect();
    api.batch(&broadcasts).map_err(told)
}

#[test]
fn requests_are_those_that_a_real_server_was_recorded_to_take() {
    let (mut made, mut refused) = (0, Vec::new());
    for exchange in exchanges() {
        match make(&exchange) {
            Ok(request) => {
                let line = exchange.line;
                let target = request.url().strip_prefix("http://server").unwrap();
                // The recorder wrote a colon into the path as it is.
                assert_eq!(target.replace("%3A", ":"), exchange.target, "line {line}");
                let headers: BTreeMap<String, String> = request
                    .headers()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                assert_eq!(headers, exchange.headers, "line {line}");
                let read = |body: &[u8]| {
                    let mut json = serde_json::from_slice::<Value>(body).ok()?;
                    for message in json["messages"].as_array_mut().into_iter().flatten() {
                        // Said or not, it is the same.
                        let private = message.as_object_mut().unwrap();
                        if private.get("private") == Some(&Value::Bool(false)) {
                            private.remove("private");
                        }
                    }
                    Some(json)
                };
                match read(&exchange.body) {
                    Some(json) => assert_eq!(read(request.body()), Some(json), "line {line}"),
                    None => assert_eq!(request.body(), exchange.body, "line {line}"),
                }
                assert!(matches!(exchange.status, 202 | 403), "line {line} {}", exchange.status);
                made += 1;
            }
            Err(why) => refused.push(format!("{} {}: {why}", exchange.line, exchange.status)),
        }
    }
    // What the server refused is refused before it is sent, and so is a payload that would arrive
    // as another.
    let empty = "the batch is empty; a server takes at least one broadcast";
    let object = "the payload is not a JSON object, and over HTTP it has to be; write it as {…}";
    let expected = [
        format!("30 401: {empty}"),
        format!("32 401: {empty}"),
        format!("34 401: {empty}"),
        format!("36 422: {empty}"),
        format!("38 422: {empty}"),
        format!("40 422: {object}"),
        "42 422: the broadcast has no event; name it".to_owned(),
        "44 400: no JSON".to_owned(),
        format!("47 401: {empty}"),
        format!("60 202: {object}"),
        "62 415: text/plain is no type of ours".to_owned(),
    ];
    assert_eq!(refused, expected);
    assert_eq!(made, 9);
}

#[test]
fn answers_mean_what_the_recorded_server_meant() {
    use CauseKind::*;
    let read: Vec<(usize, Option<CauseKind>)> = exchanges()
        .iter()
        .map(|exchange| {
            let read = BroadcastApi::read_reply(exchange.status, exchange.answer.as_bytes());
            (exchange.line, read.err().map(|cause| cause.kind))
        })
        .filter(|(_, kind)| kind.is_some())
        .collect();
    let expected = [
        (30, TokenInvalid),
        (32, TokenInvalid),
        (34, TokenInvalid),
        (36, BroadcastInvalid),
        (38, BroadcastInvalid),
        (40, BroadcastInvalid),
        (42, BroadcastInvalid),
        (44, BroadcastInvalid),
        (47, TenantNotFound),
        (58, Unauthorized),
        (62, BroadcastInvalid),
    ];
    assert_eq!(read, expected.map(|(line, kind)| (line, Some(kind))));
    let limits = fixture("transcripts/supabase-v1-limits.jsonl");
    let limited = limits.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let status = u16::try_from(line["status"].as_u64()?).unwrap();
        (line["kind"] == "http" && line["dir"] == "in" && status == 429)
            .then(|| BroadcastApi::read_reply(status, line["data"].as_str().unwrap().as_bytes()))
    });
    let limited: Vec<CauseKind> = limited.map(|read| read.unwrap_err().kind).collect();
    assert_eq!(limited, [BroadcastRateLimited]);
}

/// Our server half behind the URL that a client is given.
struct Rig {
    server: Server,
    now: Instant,
}

impl Rig {
    fn new(config: ServerConfig) -> Self {
        Self { server: Server::new(config, 1, Instant::EPOCH), now: Instant::EPOCH }
    }

    /// A listener of the topic `realtime:room`.
    fn join(&mut self, config: &str) -> SessionId {
        let session = self.server.accept("/socket/websocket?vsn=2.0.0", self.now).unwrap();
        let join = format!(r#"["1","1","realtime:room","phx_join",{{"config":{config}}}]"#);
        self.server.handle_frame(session, Frame::text(join), self.now);
        self.told(session);
        session
    }

    /// Does what an HTTP client would do with a request.
    fn send(&mut self, request: &BroadcastRequest) -> Result<(), Cause> {
        let headers: BTreeMap<&str, &str> = request.headers().collect();
        let (_, path) = request.url().split_once("://").unwrap();
        let request = HttpRequest {
            method: BroadcastRequest::METHOD,
            target: &path[path.find('/').unwrap()..],
            authorization: headers.get("authorization").copied(),
            apikey: headers.get("apikey").copied(),
            content_type: headers.get("content-type").copied(),
            body: request.body(),
        };
        let response = self.server.handle_http(&request, self.now).unwrap();
        BroadcastApi::read_reply(response.status, response.body.as_bytes())
    }

    /// What a session was sent since the last call.
    fn told(&mut self, session: SessionId) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            if let ServerTransmit::Frame { session: to, frame } = transmit {
                assert_eq!(to, session);
                told.push(frame.as_bytes().escape_ascii().to_string().replace("\\\"", "\""));
            }
        }
        told
    }
}

fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

#[test]
fn what_the_client_makes_reaches_listeners_of_the_local_server() {
    let mut rig = Rig::new(ServerConfig::default());
    let listener = rig.join("{}");
    let config = Config::builder("ws://127.0.0.1:4010/socket/websocket").build().unwrap();
    let api = Client::new(config, 1, rig.now).broadcast_api();
    let single = |event: &str, payload| {
        api.single(&HttpBroadcast::new("realtime:room", event, payload)).unwrap()
    };
    assert_eq!(rig.send(&single("a/b ü", json(r#"{"x":1}"#))), Ok(()));
    assert_eq!(rig.send(&single("bytes", Payload::binary(vec![0, 255]))), Ok(()));
    let batch = ["e1", "e2"].map(|event| {
        HttpBroadcast::new("realtime:room", event, json(r#"{"x":2}"#))
            .with_id("b420e064-9ce7-4682-9ead-1a64970c756b")
    });
    assert_eq!(rig.send(&api.batch(&batch).unwrap()), Ok(()));
    let told = rig.told(listener);
    let id = r#""meta":{"id":"b420e064-9ce7-4682-9ead-1a64970c756b"}"#;
    let expected = [
        r#"\x04\r\x06\x00\x01realtime:rooma/b \xc3\xbc{"x":1}"#.to_owned(),
        r"\x04\r\x05\x00\x00realtime:roombytes\x00\xff".to_owned(),
        format!(
            r#"[null,null,"realtime:room","broadcast",{{"event":"e1",{id},"payload":{{"x":2}},"type":"broadcast"}}]"#
        ),
        format!(
            r#"[null,null,"realtime:room","broadcast",{{"event":"e2",{id},"payload":{{"x":2}},"type":"broadcast"}}]"#
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_private_broadcast_goes_to_the_private_channel_and_can_be_kept() {
    let mut rig = Rig::new(ServerConfig::default());
    let listener = rig.join(r#"{"private":true}"#);
    let api = BroadcastApi::new("ws://127.0.0.1:4010/socket").unwrap();
    let public = HttpBroadcast::new("realtime:room", "public", json("{}"));
    assert_eq!(rig.send(&api.single(&public).unwrap()), Ok(()));
    assert_eq!(rig.told(listener), [""; 0]);
    let day = Persist::For(core::time::Duration::from_secs(86_400));
    for persist in [Persist::Longest, day] {
        let kept = HttpBroadcast::new("realtime:room", "kept", json("{}")).private();
        assert_eq!(rig.send(&api.single(&kept.persisted(persist)).unwrap()), Ok(()));
        let told = rig.told(listener);
        assert!(matches!(&*told, [one] if one.contains(r#"kept{"id":""#)), "{told:?}");
    }
    // Whoever comes later is told of both.
    let later = rig.server.accept("/socket/websocket?vsn=2.0.0", rig.now).unwrap();
    let join = r#"["1","1","realtime:room","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0}}}}]"#;
    rig.server.handle_frame(later, Frame::text(join), rig.now);
    let told = rig.told(later);
    assert_eq!(told.iter().filter(|frame| frame.contains(r#""replayed":true"#)).count(), 2);
}

#[test]
fn what_the_local_server_refuses_has_the_cause_that_a_real_one_would_give() {
    let apikey = Some("key".into());
    let mut rig =
        Rig::new(ServerConfig { apikey, payload_bytes_max: 20, ..ServerConfig::default() });
    let api = || BroadcastApi::new("ws://127.0.0.1:4010/socket").unwrap();
    let ping = HttpBroadcast::new("realtime:room", "ping", json("{}"));
    let refused = rig.send(&api().single(&ping).unwrap()).unwrap_err();
    assert_eq!(refused.kind, CauseKind::TokenInvalid);
    assert_eq!(
        refused.to_string(),
        "token invalid (HTTP 401: Unauthorized). \
         Set an access token that this project signed, with the claims role and exp.",
    );
    let api = || api().with_apikey("key");
    assert_eq!(rig.send(&api().single(&ping).unwrap()), Ok(()));
    let large =
        HttpBroadcast::new("realtime:room", "large", json(r#"{"x":"12345678901234567890"}"#));
    for request in [api().single(&large), api().batch(core::slice::from_ref(&large))] {
        let refused = rig.send(&request.unwrap()).unwrap_err();
        assert_eq!(refused.kind, CauseKind::PayloadTooLarge);
    }
    // Told the limit of the project, it is not even sent.
    let told = api().with_payload_bytes_max(20).single(&large).unwrap_err();
    assert_eq!(told, HttpBroadcastError::TooLarge { bytes: 28, max: 20 });
}

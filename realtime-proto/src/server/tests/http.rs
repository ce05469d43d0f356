//! Broadcasts over HTTP; statuses and bodies are those that a real server gave.

use super::tokens::token;
use super::*;

fn request<'a>(target: &'a str, body: &'a str) -> HttpRequest<'a> {
    HttpRequest {
        method: "POST",
        target,
        content_type: Some("application/json"),
        body: body.as_bytes(),
        ..HttpRequest::default()
    }
}

impl Rig {
    fn post(&mut self, request: &HttpRequest<'_>) -> (u16, String) {
        let response = self.server.handle_http(request, self.now).unwrap();
        (response.status, response.body)
    }
}

#[test]
fn a_batch_goes_out_as_text_and_a_single_message_as_kind_4() {
    let mut rig = Rig::new();
    let alice = rig.open(V2);
    rig.join(alice, "realtime:h1", "{}");
    let batch = r#"{"messages":[{"topic":"h1","event":"e1","payload":{"n":1}},
        {"topic":"h1","event":"e2","payload":{"n":2},"private":false,"id":"x"},
        {"topic":"realtime:h1","event":"e3","payload":{}}]}"#;
    assert_eq!(rig.post(&request("/api/broadcast", batch)), (202, String::new()));
    let told = rig.sent_to(alice);
    assert_eq!(
        told,
        [
            r#"[null,null,"realtime:h1","broadcast",{"event":"e1","payload":{"n":1},"type":"broadcast"}]"#,
            r#"[null,null,"realtime:h1","broadcast",{"event":"e2","meta":{"id":"x"},"payload":{"n":2},"type":"broadcast"}]"#,
        ]
    );
    let single = "/realtime/v1/api/broadcast/h%31/events/a%20b";
    assert_eq!(rig.post(&request(single, "[1]")), (202, String::new()));
    assert_eq!(rig.sent_to(alice), [r#"\x04\x0b\x03\x00\x01realtime:h1a b{\"_json\":[1]}"#]);
    let bytes = HttpRequest {
        content_type: Some("application/octet-stream"),
        ..request(single, "\u{1}\u{2}")
    };
    assert_eq!(rig.post(&bytes), (202, String::new()));
    assert_eq!(rig.sent_to(alice), [r"\x04\x0b\x03\x00\x00realtime:h1a b\x01\x02"]);
}

#[test]
fn what_is_wrong_with_a_request_is_said_as_recorded() {
    let mut rig = Rig::new();
    let blank = r#"{"errors":{"messages":["can't be blank"]}}"#;
    let payload = r#"{"errors":{"messages":[{"payload":["is invalid"]}]}}"#;
    let event = r#"{"errors":{"messages":[{"event":["can't be blank"]}]}}"#;
    for (body, status, expected) in [
        ("{}", 422, blank),
        (r#"{"messages":[]}"#, 422, blank),
        (r#"{"messages":[{"topic":"h1","event":"e","payload":"str"}]}"#, 422, payload),
        (r#"{"messages":[{"topic":"h1","payload":{}}]}"#, 422, event),
        ("{nope", 400, "Bad Request"),
    ] {
        assert_eq!(rig.post(&request("/api/broadcast", body)), (status, expected.into()));
    }
    let text = HttpRequest {
        content_type: Some("text/plain"),
        ..request("/api/broadcast/h1/events/e", "")
    };
    let unsupported =
        r#"{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}"#;
    assert_eq!(rig.post(&text), (415, unsupported.into()));
    for (method, target) in [
        ("GET", "/api/broadcast"),
        ("POST", "/api/broadcasts"),
        ("POST", "/api/broadcast/a/event/b"),
        ("POST", "/api/broadcast/a/events/b/c"),
    ] {
        let other = HttpRequest { method, ..request(target, "{}") };
        assert_eq!(rig.server.handle_http(&other, rig.now), None);
    }
}

#[test]
fn a_private_message_without_permission_is_skipped_in_a_batch_and_refused_alone() {
    let policy = Policy::closed().allow("room@authenticated".parse().unwrap());
    let mut rig = Rig::with(ServerConfig { policy, ..ServerConfig::default() });
    let user = token(r#"{"role":"authenticated","exp":2000000000}"#);
    let user = format!("Bearer {user}");
    let batch = r#"{"messages":[{"topic":"room","event":"e","payload":{},"private":true}]}"#;
    let single = "/api/broadcast/room/events/e?private=true&persist[ttl]=60";
    for (authorization, told, status) in [(None, 0, 403), (Some(&*user), 1, 202)] {
        let by = |target, body| HttpRequest { authorization, ..request(target, body) };
        let before = rig.server.stats().broadcasts;
        assert_eq!(rig.post(&by("/api/broadcast", batch)).0, 202);
        assert_eq!(rig.server.stats().broadcasts, before + told);
        assert_eq!(rig.post(&by(single, "{}")).0, status);
    }
}

#[test]
fn a_request_needs_a_key_or_a_token_and_obeys_the_rate() {
    let mut rig = Rig::with(ServerConfig {
        apikey: Some("key".into()),
        events_per_second_max: Some(1),
        ..ServerConfig::default()
    });
    let batch = |n: usize| {
        let message = r#"{"topic":"h1","event":"e","payload":{}}"#;
        format!("{{\"messages\":[{}]}}", [message].repeat(n).join(","))
    };
    let (one, two) = (batch(1), batch(2));
    let unauthorized = (401, r#"{"message":"Unauthorized"}"#.to_string());
    assert_eq!(rig.post(&request("/api/broadcast", &one)), unauthorized);
    let by_key = HttpRequest { apikey: Some("key"), ..request("/api/broadcast", &one) };
    for _ in 0..5 {
        assert_eq!(rig.post(&by_key).0, 202);
    }
    let reduce = "Too many messages to broadcast, please reduce the batch size";
    let large = HttpRequest { body: two.as_bytes(), ..by_key };
    assert_eq!(rig.post(&large), (429, format!(r#"{{"message":"{reduce}"}}"#)));
    rig.wait(Duration::from_secs(5));
    let over = r#"{"message":"You have exceeded your rate limit"}"#;
    assert_eq!(rig.post(&by_key), (429, over.into()));

    let mut rig = Rig::with(ServerConfig { reads_tokens: true, ..ServerConfig::default() });
    for authorization in [None, Some("Bearer abc")] {
        let by = HttpRequest { authorization, ..request("/api/broadcast", &one) };
        assert_eq!(rig.post(&by), unauthorized);
    }
}

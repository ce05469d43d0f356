//! Tokens, what they allow, and their end.

use super::*;

/// The Unix time at which a rig begins.
const BEGIN: u64 = 1_000_000_000;

/// A token with these claims, whose signature is none.
pub(super) fn token(claims: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from("e30.");
    for chunk in claims.as_bytes().chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(bytes);
        for at in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text + ".x"
}

fn user(sub: &str, lives: u64) -> String {
    token(&format!(r#"{{"role":"authenticated","sub":"{sub}","exp":{}}}"#, BEGIN + lives))
}

fn reading(policy: Policy) -> Rig {
    Rig::with(ServerConfig {
        idle_after: None,
        reads_tokens: true,
        join_refusal_after: Duration::ZERO,
        policy,
        ..ServerConfig::default()
    })
}

impl Rig {
    fn enter(&mut self, lives: u64) -> SessionId {
        let key = token(&format!(r#"{{"role":"anon","exp":{}}}"#, BEGIN + lives));
        self.open(&format!("{V2}&apikey={key}"))
    }

    fn join_as(&mut self, id: SessionId, topic: &str, config: &str, token: &str) -> Vec<String> {
        self.send(
            id,
            &format!(
                r#"["1","1","{topic}","phx_join",{{"config":{config},"access_token":"{token}"}}]"#
            ),
        );
        self.sent_to(id)
    }

    fn refresh(&mut self, id: SessionId, topic: &str, token: &str) -> Vec<String> {
        self.send(
            id,
            &format!(r#"["1","9","{topic}","access_token",{{"access_token":"{token}"}}]"#),
        );
        self.sent_to(id)
    }
}

fn shut(sub_topic: &str, message: &str) -> [String; 2] {
    [
        format!(
            r#"["1",null,"realtime:{sub_topic}","system",{{"message":"{message}","status":"error","extension":"system","channel":"{sub_topic}"}}]"#
        ),
        format!(r#"["1","1","realtime:{sub_topic}","phx_close",{{}}]"#),
    ]
}

#[test]
fn an_upgrade_needs_a_key_that_is_a_token_in_date() {
    let mut rig = reading(Policy::open());
    let mut refused = |key: &str| {
        let refusal = rig.server.accept(&format!("{V2}{key}"), rig.now).unwrap_err();
        assert_eq!(refusal.status, 401);
        json(&refusal.body)["error"].as_str().unwrap().to_string()
    };
    assert_eq!(refused(""), "API key is missing");
    assert_eq!(refused("&apikey=abc"), "The token provided is not a valid JWT");
    assert_eq!(refused("&apikey=sb_publishable_abc"), "The token provided is not a valid JWT");
    let key = token(r#"{"exp":2000000000}"#);
    let missing = "Fields `role` and `exp` are required in JWT";
    assert_eq!(refused(&format!("&apikey={key}")), missing);
    let key = token(r#"{"role":"anon","exp":999999999}"#);
    assert_eq!(refused(&format!("&apikey={key}")), "Token has expired");
    rig.enter(60);
}

#[test]
fn a_join_with_a_token_that_is_none_is_refused_and_an_sb_key_means_the_api_key() {
    let mut rig = reading(Policy::open());
    let alice = rig.enter(60);
    rig.wait(Duration::from_secs(20));
    for (token, reason) in [
        (user("a", 4), "InvalidJWTToken: Token has expired 16 seconds ago"),
        ("abc".into(), "MalformedJWT: The token provided is not a valid JWT"),
        (
            token(r#"{"exp":2000000000}"#),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        ),
    ] {
        let sent = rig.join_as(alice, "realtime:j", "{}", &token);
        assert_eq!(payload(&sent[0])["response"]["reason"], reason);
    }
    assert_eq!(payload(&rig.join_as(alice, "realtime:j", "{}", "sb_x")[0])["status"], "ok");
}

#[test]
fn a_channel_ends_with_its_token_and_one_without_with_the_api_key_but_not_the_session() {
    let mut rig = reading(Policy::open());
    let alice = rig.enter(4);
    rig.join(alice, "realtime:k", "{}");
    rig.join_as(alice, "realtime:k2", "{}", &user("a", 3_600));
    rig.wait(Duration::from_millis(3_999));
    assert_eq!(rig.sent(), []);
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.sent_to(alice), shut("k", "Token has expired 0 seconds ago"));
    // It is looked at every five minutes, and at its end.
    for _ in 0..11 {
        rig.wait(Duration::from_secs(300));
    }
    assert_eq!(rig.sent(), []);
    rig.wait(Duration::from_secs(296));
    assert_eq!(rig.sent_to(alice), shut("k2", "Token has expired 0 seconds ago"));
    rig.send(alice, r#"[null,"5","phoenix","heartbeat",{}]"#);
    assert_eq!(rig.sent_to(alice).len(), 1);
}

#[test]
fn a_new_token_in_time_keeps_the_channel_and_has_the_database_confirm_again() {
    let mut rig = reading(Policy::open());
    let alice = rig.enter(3_600);
    let config = r#"{"postgres_changes":[{"event":"*","schema":"public","table":"todos"}]}"#;
    rig.join_as(alice, "realtime:r", config, &user("a", 5));
    rig.wait(Duration::from_secs(1));
    assert!(rig.sent_to(alice)[0].contains("Subscribed to PostgreSQL"));
    assert_eq!(rig.refresh(alice, "realtime:r", &user("a", 3_600)), [""; 0]);
    let change = row_change(r#"{"table":"todos","type":"INSERT","record":{"id":1}}"#);
    assert_eq!(rig.server.change(&change, rig.now), 1, "nothing is lost meanwhile");
    rig.sent();
    rig.wait(Duration::from_secs(1));
    assert!(rig.sent_to(alice)[0].contains("Subscribed to PostgreSQL"));
    rig.wait(Duration::from_secs(10));
    assert_eq!(rig.sent(), []);

    // The same token, none, and an API key change nothing.
    for token in [r#""sb_x""#, "null", "42", &format!("\"{}\"", user("a", 3_600))] {
        rig.send(
            alice,
            &format!(r#"["1","9","realtime:r","access_token",{{"access_token":{token}}}]"#),
        );
    }
    rig.wait(Duration::from_secs(10));
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_pushed_token_that_is_not_taken_closes_the_channel_with_the_reason() {
    let policy = Policy::closed().allow("*@authenticated".parse().unwrap());
    let mut rig = reading(policy);
    rig.wait(Duration::from_secs(20));
    let alice = rig.enter(3_600);
    for (token, message) in [
        (user("a", 10), "Token has expired 10 seconds ago"),
        ("abc.def".into(), "The token provided is not a valid JWT"),
        (token(r#"{"role":"anon"}"#), "Fields `role` and `exp` are required in JWT"),
        (
            token(r#"{"role":"anon","exp":2000000000}"#),
            "You do not have permissions to read from this Channel topic: t",
        ),
    ] {
        rig.join_as(alice, "realtime:t", r#"{"private":true}"#, &user("a", 3_600));
        assert_eq!(rig.refresh(alice, "realtime:t", &token), shut("t", message));
    }
}

#[test]
fn the_loss_of_one_right_that_was_used_closes_the_channel_too() {
    let policy = Policy::closed()
        .allow("t=read:broadcast".parse().unwrap())
        .allow("t@authenticated".parse().unwrap());
    let mut rig = reading(policy);
    let alice = rig.enter(3_600);
    let anon = token(r#"{"role":"anon","exp":2000000000}"#);
    let config = r#"{"private":true,"presence":{"enabled":true}}"#;
    rig.join_as(alice, "realtime:t", config, &user("a", 3_600));
    let message = "You no longer have permission to read from this Channel topic: t";
    assert_eq!(rig.refresh(alice, "realtime:t", &anon), shut("t", message));
    // A right that was not asked for is not missed.
    rig.join_as(alice, "realtime:t", r#"{"private":true}"#, &user("a", 3_600));
    assert_eq!(rig.refresh(alice, "realtime:t", &anon), [""; 0]);
}

#[test]
fn a_policy_refuses_and_withholds_as_recorded() {
    let policy = Policy::closed()
        .allow("room*@authenticated".parse().unwrap())
        .allow("readonly*=read".parse().unwrap())
        .allow("bconly*=broadcast".parse().unwrap())
        .allow("user:{sub}".parse().unwrap());
    let mut rig = reading(policy);
    let alice = rig.enter(3_600);
    let config = r#"{"private":true,"broadcast":{"ack":true,"self":true},"presence":{"key":"k","enabled":true}}"#;
    let token = user("a", 3_600);
    let refused = "Unauthorized: You do not have permissions to read from this Channel topic: nope";
    let sent = rig.join_as(alice, "realtime:nope", config, &token);
    assert_eq!(payload(&sent[0])["response"]["reason"], refused);
    assert_eq!(rig.join_as(alice, "realtime:user:a", config, &token).len(), 2);
    assert_eq!(rig.join_as(alice, "realtime:user:b", config, &token).len(), 1);

    // Read only: an acknowledgement never comes, and presence is an error.
    let push = |rig: &mut Rig, topic: &str, event: &str, payload: &str| {
        rig.send(alice, &format!(r#"["1","7","realtime:{topic}","{event}",{payload}]"#));
        rig.sent_to(alice)
    };
    let (say, track) = (r#"{"type":"broadcast","event":"e","payload":{}}"#, r#"{"event":"track"}"#);
    assert_eq!(rig.join_as(alice, "realtime:readonly1", config, &token).len(), 2);
    assert_eq!(push(&mut rig, "readonly1", "broadcast", say), [""; 0]);
    let error = r#"["1","7","realtime:readonly1","phx_reply",{"status":"error","response":{}}]"#;
    assert_eq!(push(&mut rig, "readonly1", "presence", track), [error]);

    // Broadcast only: no state and no diffs.
    assert_eq!(rig.join_as(alice, "realtime:bconly1", config, &token).len(), 1);
    assert_eq!(push(&mut rig, "bconly1", "broadcast", say).len(), 2);
    let error = r#"["1","7","realtime:bconly1","phx_reply",{"status":"error","response":{}}]"#;
    assert_eq!(push(&mut rig, "bconly1", "presence", track), [error]);
}

#[test]
fn a_policy_can_change_while_the_server_runs_and_holds_from_the_next_join() {
    let mut rig = reading(Policy::open());
    let alice = rig.enter(3_600);
    let private = r#"{"private":true}"#;
    rig.join_as(alice, "realtime:t", private, &user("a", 3_600));
    let config = ServerConfig { policy: Policy::closed(), ..rig.server.config().clone() };
    rig.server.set_config(config);
    rig.send(alice, r#"["1","2","realtime:t","phx_leave",{}]"#);
    rig.sent();
    let sent = rig.join_as(alice, "realtime:t", private, &user("a", 3_600));
    assert_eq!(payload(&sent[0])["status"], "error");
}

#[test]
fn a_private_only_server_refuses_public_channels() {
    let mut rig = Rig::with(ServerConfig {
        private_only: true,
        join_refusal_after: Duration::ZERO,
        ..ServerConfig::default()
    });
    let alice = rig.open(V2);
    rig.send(alice, r#"["1","1","realtime:x","phx_join",{"config":{}}]"#);
    let reason = "PrivateOnly: This project only allows private channels";
    assert_eq!(payload(&rig.sent_to(alice)[0])["response"]["reason"], reason);
}

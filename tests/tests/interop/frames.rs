//! Frames through the serializers of the npm `phoenix` and `@supabase/realtime-js` and through
//! ours: what a client of theirs sends is what ours sends, and what our server sends they read.

use realtime_proto::Frame;
use realtime_proto::wire::{Body, Encoding, Envelope, FrameKind, Sender, Vsn, decode, encode};
use realtime_tests::dice::Dice;
use realtime_tests::encoding::{hex, unhex};
use realtime_tests::node::Script;
use serde_json::{Value, json};

const FRAMES: u64 = 20_000;
const LIBRARIES: [&str; 2] = ["phoenix", "realtime-js"];

/// A message and the library that knows its form.
#[derive(Debug)]
struct Message {
    library: &'static str,
    join_ref: Option<String>,
    msg_ref: Option<String>,
    topic: String,
    event: String,
    body: Kind,
}

#[derive(Debug)]
enum Kind {
    Json(String),
    Binary(Vec<u8>),
    Reply(String, Vec<u8>),
    /// Event, metadata, and payload as JSON or bytes.
    UserBroadcast(String, Option<String>, Result<String, Vec<u8>>),
}

fn text(dice: &mut Dice) -> String {
    const PIECES: [&str; 10] =
        ["a", "room:1", ":", "é", "\u{1F600}", "\"", "\\", "\n", "\u{2028}", "\u{0}"];
    (0..dice.below(5)).map(|_| *dice.pick(&PIECES)).collect()
}

/// A text that fits into a binary header, or now and then one that is a little too long.
fn short(dice: &mut Dice) -> String {
    match dice.below(40) {
        0 => "é".repeat(126 + dice.below(4)),
        1 => "x".repeat(253 + dice.below(4)),
        _ => text(dice),
    }
}

fn bytes(dice: &mut Dice) -> Vec<u8> {
    (0..dice.below(8)).map(|_| dice.byte()).collect()
}

fn document(dice: &mut Dice) -> String {
    json!({"text": text(dice), "n": dice.below(1000), "list": [null, true, {}]}).to_string()
}

fn number(dice: &mut Dice) -> String {
    dice.below(1000).to_string()
}

impl Message {
    fn draw(seed: u64, from: Sender) -> Self {
        let mut owned = Dice::new(seed);
        let dice = &mut owned;
        let library = *dice.pick(&LIBRARIES);
        let supabase = library == "realtime-js";
        let body = match (dice.below(3), supabase, from) {
            (0, ..) => Kind::Json(document(dice)),
            (_, true, _) => {
                let payload = if dice.one_in(2) { Ok(document(dice)) } else { Err(bytes(dice)) };
                let metadata = match from {
                    // What a client can say beside its payload.
                    Sender::Client => r#"{"persist":true}"#.to_owned(),
                    Sender::Server => json!({"id": text(dice), "replayed": true}).to_string(),
                };
                Kind::UserBroadcast(short(dice), dice.one_in(2).then_some(metadata), payload)
            }
            (1, false, Sender::Server) => Kind::Reply(short(dice), bytes(dice)),
            (_, false, _) => Kind::Binary(bytes(dice)),
        };
        let binary = !matches!(body, Kind::Json(_));
        let event = match &body {
            Kind::Reply(..) => "phx_reply".into(),
            Kind::UserBroadcast(..) => "broadcast".into(),
            Kind::Json(_) | Kind::Binary(_) => short(dice),
        };
        // The binary forms of a server's push, broadcast and user broadcast each lack some refs.
        let has_refs = !binary || from == Sender::Client || matches!(body, Kind::Reply(..));
        let is_push = matches!(body, Kind::Binary(_)) && dice.one_in(2);
        let always = binary && has_refs;
        let join_ref = ((always || has_refs && dice.one_in(2)) || is_push).then(|| number(dice));
        let msg_ref = (always || has_refs && dice.one_in(2)).then(|| number(dice));
        Self { library, join_ref, msg_ref, topic: short(dice), event, body }
    }

    fn envelope(&self) -> Envelope<'_> {
        let body = match &self.body {
            Kind::Json(text) => Body::Json(text),
            Kind::Binary(bytes) => Body::Binary(bytes),
            Kind::Reply(status, response) => Body::Reply { status, response },
            Kind::UserBroadcast(event, metadata, payload) => Body::UserBroadcast {
                event,
                encoding: if payload.is_ok() { Encoding::Json } else { Encoding::Binary },
                metadata: metadata.as_deref(),
                payload: payload.as_ref().map_or_else(|bytes| &**bytes, |text| text.as_bytes()),
            },
        };
        Envelope {
            join_ref: self.join_ref.as_deref().map(Into::into),
            msg_ref: self.msg_ref.as_deref().map(Into::into),
            topic: self.topic.as_str().into(),
            event: self.event.as_str().into(),
            body,
        }
    }

    /// The message as the libraries have it.
    fn value(&self, from: Sender) -> Value {
        let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
        let payload = match &self.body {
            Kind::Json(text) => read(text),
            Kind::Binary(bytes) => json!({ "hex": hex(bytes) }),
            Kind::Reply(status, bytes) => {
                json!({"status": status, "response": {"hex": hex(bytes)}})
            }
            Kind::UserBroadcast(event, metadata, payload) => {
                let payload = match payload {
                    Ok(text) => read(text),
                    Err(bytes) => json!({ "hex": hex(bytes) }),
                };
                let mut message = json!({"type": "broadcast", "event": event, "payload": payload});
                match (metadata.as_ref().map(read), from) {
                    (None, _) => {}
                    (Some(metadata), Sender::Server) => message["meta"] = metadata,
                    (Some(metadata), Sender::Client) => {
                        message["persist"] = metadata["persist"].clone()
                    }
                }
                message
            }
        };
        json!({
            "join_ref": self.join_ref, "ref": self.msg_ref, "topic": self.topic,
            "event": self.event, "payload": payload,
        })
    }

    /// The frame that ours writes, as the script shows it.
    fn frame(&self, from: Sender) -> Option<Value> {
        let mut out = Vec::new();
        let kind = encode(Vsn::V2, from, &self.envelope(), &mut out).ok()?;
        Some(match kind {
            FrameKind::Text => json!({ "text": String::from_utf8(out).unwrap() }),
            FrameKind::Binary => json!({ "hex": hex(&out) }),
        })
    }
}

fn drawn(from: Sender) -> Vec<Message> {
    (0..FRAMES).map(|seed| Message::draw(seed, from)).collect()
}

#[test]
fn ours_writes_byte_for_byte_what_the_official_clients_send_and_reads_it() {
    let Some(mut npm) = Script::start("frames") else { return };
    let messages = drawn(Sender::Client);
    let question = |message: &Message| {
        json!({"library": message.library, "encode": message.value(Sender::Client)}).to_string()
    };
    let questions: Vec<String> = messages.iter().map(question).collect();
    let mut refused = 0;
    npm.ask_all(&questions, |at, answer| {
        let message = &messages[at];
        let npms: Value = serde_json::from_str(answer).unwrap();
        let Some(ours) = message.frame(Sender::Client) else {
            assert!(npms["throws"].is_string(), "{npms} for {message:?}");
            refused += 1;
            return;
        };
        assert_eq!(npms, ours, "{message:?}");
        let frame = match npms["text"].as_str() {
            Some(text) => Frame::text(text),
            None => Frame::binary(unhex(npms["hex"].as_str().unwrap())),
        };
        let read = decode(Vsn::V2, Sender::Client, &frame);
        assert_eq!(read, Ok(message.envelope()));
    });
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_official_clients_read_what_our_server_writes() {
    let Some(mut npm) = Script::start("frames") else { return };
    let mut messages = drawn(Sender::Server);
    messages.retain(|message| message.frame(Sender::Server).is_some());
    let question = |message: &Message| {
        let frame = message.frame(Sender::Server);
        json!({"library": message.library, "decode": frame}).to_string()
    };
    let questions: Vec<String> = messages.iter().map(question).collect();
    npm.ask_all(&questions, |at, answer| {
        let npms: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(npms, messages[at].value(Sender::Server));
    });
}

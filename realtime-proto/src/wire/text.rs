//! V1 objects and V2 arrays.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::json::{Cursor, JsonError, for_each_member};
use super::{Body, DecodeError, Envelope, Sender, Vsn};

pub(super) fn decode_v1(text: &str) -> Result<Envelope<'_>, DecodeError> {
    read_v1(&mut Cursor::new(text))
        .map_err(|e| DecodeError::Text { vsn: Vsn::V1, what: e.to_string() })
}

pub(super) fn decode_v2(text: &str) -> Result<Envelope<'_>, DecodeError> {
    read_v2(&mut Cursor::new(text))
        .map_err(|e| DecodeError::Text { vsn: Vsn::V2, what: e.to_string() })
}

/// Key order as the official client writes it; a server leaves `join_ref` out.
pub(super) fn encode_v1(from: Sender, envelope: &Envelope<'_>, payload: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_json_string(&envelope.topic, out);
    out.extend_from_slice(b",\"event\":");
    write_json_string(&envelope.event, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(b",\"ref\":");
    write_ref(envelope.msg_ref.as_deref(), out);
    if from == Sender::Client && envelope.join_ref.is_some() {
        out.extend_from_slice(b",\"join_ref\":");
        write_ref(envelope.join_ref.as_deref(), out);
    }
    out.push(b'}');
}

pub(super) fn encode_v2(envelope: &Envelope<'_>, payload: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    write_ref(envelope.join_ref.as_deref(), out);
    out.push(b',');
    write_ref(envelope.msg_ref.as_deref(), out);
    out.push(b',');
    write_json_string(&envelope.topic, out);
    out.push(b',');
    write_json_string(&envelope.event, out);
    out.push(b',');
    out.extend_from_slice(payload.as_bytes());
    out.push(b']');
}

fn write_ref(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_json_string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends `text` as a JSON string, escaping only what JSON demands.
pub(crate) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..=0x1F => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xF)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A ref: a string, null, or (servers echo what they were sent) an integer.
fn read_ref<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, JsonError> {
    const REF: &str = "a ref, which is a string or null";
    match cursor.peek() {
        Some(b'n' | b'-' | b'0'..=b'9') => {
            let start = cursor.clone();
            let text = cursor.value()?;
            if text == "null" {
                Ok(None)
            } else if text.bytes().all(|b| b == b'-' || b.is_ascii_digit()) {
                Ok(Some(Cow::Borrowed(text)))
            } else {
                Err(start.error(REF))
            }
        }
        _ => cursor.string(REF).map(Some),
    }
}

fn read_v2<'a>(cursor: &mut Cursor<'a>) -> Result<Envelope<'a>, JsonError> {
    cursor.expect(b'[', "an array [join_ref, ref, topic, event, payload]")?;
    let join_ref = read_ref(cursor)?;
    cursor.expect(b',', "`,` and a ref")?;
    let msg_ref = read_ref(cursor)?;
    cursor.expect(b',', "`,` and a topic")?;
    let topic = cursor.string("a topic, which is a string")?;
    cursor.expect(b',', "`,` and an event")?;
    let event = cursor.string("an event, which is a string")?;
    cursor.expect(b',', "`,` and a payload")?;
    let payload = cursor.value()?;
    while cursor.accept(b',') {
        cursor.value()?;
    }
    cursor.expect(b']', "`,` or `]`")?;
    cursor.end()?;
    Ok(Envelope { join_ref, msg_ref, topic, event, body: Body::Json(payload) })
}

fn read_v1<'a>(cursor: &mut Cursor<'a>) -> Result<Envelope<'a>, JsonError> {
    let (mut topic, mut event, mut payload) = (None, None, None);
    let (mut msg_ref, mut join_ref) = (None, None);
    for_each_member(cursor, |key, at, value| {
        let mut cursor = Cursor::at(value, at);
        match key {
            "topic" => topic = Some(cursor.string("a topic, which is a string")?),
            "event" => event = Some(cursor.string("an event, which is a string")?),
            "payload" => payload = Some(value),
            "ref" => msg_ref = Some(read_ref(&mut cursor)?),
            "join_ref" => join_ref = read_ref(&mut cursor)?,
            _ => {}
        }
        Ok(())
    })?;
    cursor.end()?;
    let missing = |key| JsonError::missing(key);
    Ok(Envelope {
        join_ref,
        msg_ref: msg_ref.ok_or_else(|| missing("ref"))?,
        topic: topic.ok_or_else(|| missing("topic"))?,
        event: event.ok_or_else(|| missing("event"))?,
        body: Body::Json(payload.ok_or_else(|| missing("payload"))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_is_left_alone() {
        let mut out = Vec::new();
        write_json_string("a\"\\\n\u{1}é\u{7f}", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001é\u{7f}\"".as_bytes());
    }

    #[test]
    fn a_deeply_nested_payload_is_skipped_without_recursion() {
        let depth = 100_000;
        let text =
            ["[null,null,\"t\",\"e\",", &"[".repeat(depth), &"]".repeat(depth), "]"].concat();
        assert!(decode_v2(&text).is_ok());
    }

    #[test]
    fn an_escaped_topic_is_unescaped() {
        let envelope = decode_v2(r#"[null,null,"a\"b\u00e9","e",{}]"#).unwrap();
        assert_eq!(envelope.topic, "a\"bé");
    }
}

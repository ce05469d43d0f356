//! V1 objects and V2 arrays.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Body, DecodeError, Envelope, Sender, Vsn};

pub(super) fn decode_v1(text: &str) -> Result<Envelope<'_>, DecodeError> {
    serde_json::from_str::<V1<'_>>(text)
        .map(|v1| v1.0)
        .map_err(|e| DecodeError::Text { vsn: Vsn::V1, what: e.to_string() })
}

pub(super) fn decode_v2(text: &str) -> Result<Envelope<'_>, DecodeError> {
    serde_json::from_str::<V2<'_>>(text)
        .map(|v2| v2.0)
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

/// A string that borrows from the frame unless it holds an escape.
struct Str<'a>(Cow<'a, str>);

/// A ref: a string, null, or (servers echo what they were sent) an integer.
struct MaybeRef<'a>(Option<Cow<'a, str>>);

struct V1<'a>(Envelope<'a>);

struct V2<'a>(Envelope<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;

        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.into())))
            }
        }

        deserializer.deserialize_str(StrVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MaybeRef<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefVisitor;

        impl<'de> Visitor<'de> for RefVisitor {
            type Value = MaybeRef<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a ref, which is a string or null")
            }

            fn visit_unit<E: Error>(self) -> Result<MaybeRef<'de>, E> {
                Ok(MaybeRef(None))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<MaybeRef<'de>, E> {
                Ok(MaybeRef(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MaybeRef<'de>, E> {
                Ok(MaybeRef(Some(Cow::Owned(text.into()))))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<MaybeRef<'de>, E> {
                Ok(MaybeRef(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<MaybeRef<'de>, E> {
                Ok(MaybeRef(Some(Cow::Owned(number.to_string()))))
            }
        }

        deserializer.deserialize_any(RefVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for V2<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V2Visitor;

        impl<'de> Visitor<'de> for V2Visitor {
            type Value = V2<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array [join_ref, ref, topic, event, payload]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<V2<'de>, A::Error> {
                let missing = |len| Error::invalid_length(len, &self);
                let join_ref: MaybeRef<'de> = seq.next_element()?.ok_or_else(|| missing(0))?;
                let msg_ref: MaybeRef<'de> = seq.next_element()?.ok_or_else(|| missing(1))?;
                let topic: Str<'de> = seq.next_element()?.ok_or_else(|| missing(2))?;
                let event: Str<'de> = seq.next_element()?.ok_or_else(|| missing(3))?;
                let payload: &'de RawValue = seq.next_element()?.ok_or_else(|| missing(4))?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(V2(Envelope {
                    join_ref: join_ref.0,
                    msg_ref: msg_ref.0,
                    topic: topic.0,
                    event: event.0,
                    body: Body::Json(payload.get()),
                }))
            }
        }

        deserializer.deserialize_seq(V2Visitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for V1<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V1Visitor;

        impl<'de> Visitor<'de> for V1Visitor {
            type Value = V1<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with topic, event, payload and ref")
            }

            /// A key that comes twice counts as it was last, as in JavaScript and Elixir.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V1<'de>, A::Error> {
                let (mut topic, mut event, mut payload) = (None, None, None);
                let (mut msg_ref, mut join_ref) = (None, None);
                while let Some(key) = map.next_key::<Str<'de>>()? {
                    match &*key.0 {
                        "topic" => topic = Some(map.next_value::<Str<'de>>()?.0),
                        "event" => event = Some(map.next_value::<Str<'de>>()?.0),
                        "payload" => payload = Some(map.next_value::<&'de RawValue>()?.get()),
                        "ref" => msg_ref = Some(map.next_value::<MaybeRef<'de>>()?.0),
                        "join_ref" => join_ref = map.next_value::<MaybeRef<'de>>()?.0,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(V1(Envelope {
                    join_ref,
                    msg_ref: msg_ref.ok_or_else(|| Error::missing_field("ref"))?,
                    topic: topic.ok_or_else(|| Error::missing_field("topic"))?,
                    event: event.ok_or_else(|| Error::missing_field("event"))?,
                    body: Body::Json(payload.ok_or_else(|| Error::missing_field("payload"))?),
                }))
            }
        }

        deserializer.deserialize_map(V1Visitor)
    }
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

//! `realtime inspect`: frames in, one a line; what is in them out, one JSON object a line.
//!
//! A text frame is the line itself, a binary one is `hex:` and its bytes in hexadecimal. Every line
//! gets exactly one object, so line `n` of the output is about line `n` of the input. A line that
//! is no frame of this version and sender gives `{"error": …}`; that includes an empty line, which
//! is an empty text frame.
//!
//! | kind | fields |
//! |---|---|
//! | all | `join_ref`, `ref`, `topic`, `event`, …, `kind` |
//! | `text` | `payload` |
//! | `push`, `broadcast` | `payload_hex` |
//! | `reply` | `status`, `payload_hex` |
//! | `user_broadcast_push` | `user_event`, `encoding`, `metadata`, `payload` or `payload_hex` |
//! | `user_broadcast` | the same; `payload` is the whole object that listeners get |
//!
//! JSON is copied from the frame as it is, so numbers keep every digit.

use core::fmt::Write as _;
use std::io::{self, BufRead, Write};

use realtime_proto::wire::{Body, Encoding, Sender, Vsn, decode};
use realtime_proto::{Frame, Payload};

/// Three times the largest frame a Supabase server takes, or that frame in hexadecimal.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Describes every line of `input` on `output`, read as `from` would have sent it.
///
/// # Errors
///
/// Only what reading and writing give; a broken frame is a line of output.
pub(crate) fn run(
    vsn: Vsn,
    from: Sender,
    mut input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let mut line = Vec::new();
    while let Some(length) = read_line(&mut input, &mut line)? {
        let described = if length > MAX_LINE_BYTES {
            error(&format!("the line has {length} bytes, and at most {MAX_LINE_BYTES} are read"))
        } else {
            describe(vsn, from, core::mem::take(&mut line))
        };
        writeln!(output, "{described}")?;
    }
    output.flush()
}

/// Reads up to the next line feed, without it and without a carriage return before it.
///
/// Gives the length of the line, which is more than what is in `line` when it was too long, or
/// `None` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    line.clear();
    let mut length = None;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        // One byte more than is allowed, for the carriage return that does not count.
        let room = (MAX_LINE_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        length = Some(length.unwrap_or(0) + part.len());
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    if length == Some(line.len()) && line.last() == Some(&b'\r') {
        line.pop();
        length = Some(line.len());
    }
    Ok(length)
}

/// The JSON object for one line.
fn describe(vsn: Vsn, from: Sender, line: Vec<u8>) -> String {
    match parse(line).and_then(|frame| object(vsn, from, &frame)) {
        Ok(object) => object,
        Err(what) => error(&what),
    }
}

fn error(what: &str) -> String {
    let mut object = Object::default();
    object.text("error", what);
    object.finish()
}

fn parse(line: Vec<u8>) -> Result<Frame, String> {
    if line.is_empty() {
        return Err("the line is empty, and an empty text frame is no message".into());
    }
    let Some(digits) = line.strip_prefix(b"hex:") else {
        return Ok(Frame::Text(line.into()));
    };
    let digit = |at: usize| {
        let found = char::from(digits[at]).to_digit(16);
        let found = found.and_then(|digit| u8::try_from(digit).ok());
        found.ok_or_else(|| format!("column {} is no hexadecimal digit", "hex:".len() + at + 1))
    };
    let digits_of = |at| Ok(digit(at)? << 4 | digit(at + 1)?);
    let even = digits.len() - digits.len() % 2;
    let bytes: Result<Vec<u8>, String> = (0..even).step_by(2).map(digits_of).collect();
    let bytes = bytes?;
    if even < digits.len() {
        digit(even)?;
        return Err(format!("{} hexadecimal digits do not make whole bytes", digits.len()));
    }
    Ok(Frame::binary(bytes))
}

fn object(vsn: Vsn, from: Sender, frame: &Frame) -> Result<String, String> {
    let envelope = decode(vsn, from, frame).map_err(|e| e.to_string())?;
    let mut object = Object::default();
    object.text_or_null("join_ref", envelope.join_ref.as_deref());
    object.text_or_null("ref", envelope.msg_ref.as_deref());
    object.text("topic", &envelope.topic);
    object.text("event", &envelope.event);
    let kind = match (&envelope.body, from) {
        (Body::Json(payload), _) => {
            object.json("payload", payload);
            "text"
        }
        (Body::Binary(payload), from) => {
            object.hex("payload_hex", payload);
            match (from, &envelope.join_ref) {
                (Sender::Server, None) => "broadcast",
                (Sender::Client, _) | (Sender::Server, Some(_)) => "push",
            }
        }
        (Body::Reply { status, response }, _) => {
            object.text("status", status);
            object.hex("payload_hex", response);
            "reply"
        }
        (Body::UserBroadcast { event, encoding, metadata, payload }, from) => {
            let payload_at = frame.as_bytes().len() - payload.len();
            if let Some(text) = metadata {
                let at = payload_at - text.len();
                checked_json("metadata", at, text.as_bytes())?;
            }
            object.text("user_event", event);
            object.text(
                "encoding",
                match encoding {
                    Encoding::Binary => "binary",
                    Encoding::Json => "json",
                },
            );
            object.json("metadata", metadata.unwrap_or("null"));
            match encoding {
                Encoding::Binary => object.hex("payload_hex", payload),
                Encoding::Json => {
                    let text = checked_json("user payload", payload_at, payload)?;
                    match from {
                        Sender::Client => object.json("payload", text),
                        Sender::Server => {
                            object.json("payload", &delivered(event, text, *metadata));
                        }
                    }
                }
            }
            match from {
                Sender::Client => "user_broadcast_push",
                Sender::Server => "user_broadcast",
            }
        }
    };
    object.text("kind", kind);
    Ok(object.finish())
}

/// What the listeners of a client get for a user broadcast with a JSON payload.
fn delivered(event: &str, payload: &str, metadata: Option<&str>) -> String {
    let mut object = Object::default();
    object.text("type", "broadcast");
    object.text("event", event);
    object.json("payload", payload);
    if let Some(metadata) = metadata {
        object.json("meta", metadata);
    }
    object.finish()
}

/// The JSON of a user broadcast, which servers relay without looking inside.
fn checked_json<'a>(part: &str, at: usize, bytes: &'a [u8]) -> Result<&'a str, String> {
    let text = core::str::from_utf8(bytes)
        .map_err(|e| format!("the {part} is not UTF-8 at byte {}", at + e.valid_up_to()))?;
    match Payload::from_json(text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("the {part} from byte {at} on: {error}")),
    }
}

/// A JSON object whose fields are written in the order they come, on one line.
#[derive(Default)]
struct Object(String);

impl Object {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.quote(key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        self.quote(text);
    }

    fn text_or_null(&mut self, key: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(key, text),
            None => self.json(key, "null"),
        }
    }

    /// Valid JSON has line breaks between its tokens only, where a space means the same.
    fn json(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.extend(json.trim().chars().map(|c| match c {
            '\n' | '\r' => ' ',
            c => c,
        }));
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        self.key(key);
        self.0.push('"');
        for byte in bytes {
            self.0.push(DIGITS[usize::from(byte >> 4)]);
            self.0.push(DIGITS[usize::from(byte & 0xF)]);
        }
        self.0.push('"');
    }

    fn quote(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                // Besides what JSON demands, what a terminal would obey.
                c if c.is_control() => {
                    write!(self.0, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn inspect(vsn: Vsn, from: Sender, input: &[u8]) -> Vec<String> {
        let mut output = Vec::new();
        run(vsn, from, input, &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        assert!(output.is_empty() || output.ends_with('\n'));
        output.lines().map(str::to_owned).collect()
    }

    fn one(vsn: Vsn, from: Sender, line: &str) -> String {
        let lines = inspect(vsn, from, line.as_bytes());
        let [line] = &*lines else {
            panic!("{lines:?}");
        };
        line.clone()
    }

    // Frames and what the official clients read from them.

    #[test]
    fn a_text_frame_of_either_version_shows_its_envelope_and_payload() {
        assert_eq!(
            one(
                Vsn::V1,
                Sender::Server,
                r#"{"event":"phx_close","payload":{},"ref":"6","topic":"realtime:room1"}"#,
            ),
            r#"{"join_ref":null,"ref":"6","topic":"realtime:room1","event":"phx_close","payload":{},"kind":"text"}"#,
        );
        assert_eq!(
            one(Vsn::V2, Sender::Client, r#"[null,"5","room:lobby","new_msg",{"body":"hi"}]"#,),
            r#"{"join_ref":null,"ref":"5","topic":"room:lobby","event":"new_msg","payload":{"body":"hi"},"kind":"text"}"#,
        );
    }

    #[test]
    fn each_binary_kind_shows_its_own_fields() {
        for (from, line, expected) in [
            (
                Sender::Client,
                "hex:000202070531323334726f6f6d3ac3a96576e29c9300",
                r#"{"join_ref":"12","ref":"34","topic":"room:é","event":"ev✓","payload_hex":"00","kind":"push"}"#,
            ),
            (
                Sender::Server,
                "hex:0001040233726f6f6d6576FF00",
                r#"{"join_ref":"3","ref":null,"topic":"room","event":"ev","payload_hex":"ff00","kind":"push"}"#,
            ),
            (
                Sender::Server,
                "hex:0100010a0238726f6f6d3a6c6f6262796f6b01",
                r#"{"join_ref":"","ref":"8","topic":"room:lobby","event":"phx_reply","status":"ok","payload_hex":"01","kind":"reply"}"#,
            ),
            (
                Sender::Server,
                "hex:0101010a023336726f6f6d3a6c6f6262796f6bbeef",
                r#"{"join_ref":"3","ref":"6","topic":"room:lobby","event":"phx_reply","status":"ok","payload_hex":"beef","kind":"reply"}"#,
            ),
            (
                Sender::Server,
                "hex:020a04726f6f6d3a6c6f6262797469636b0707",
                r#"{"join_ref":null,"ref":null,"topic":"room:lobby","event":"tick","payload_hex":"0707","kind":"broadcast"}"#,
            ),
            (
                Sender::Client,
                "hex:0301010e03160136397265616c74696d653a726f6f6d316d73677b2270657273697374223a7b2274746c223a36307d7d7b2274223a317d",
                r#"{"join_ref":"6","ref":"9","topic":"realtime:room1","event":"broadcast","user_event":"msg","encoding":"json","metadata":{"persist":{"ttl":60}},"payload":{"t":1},"kind":"user_broadcast_push"}"#,
            ),
            (
                Sender::Client,
                "hex:0301020e0300003631307265616c74696d653a726f6f6d3162696e0102ff",
                r#"{"join_ref":"6","ref":"10","topic":"realtime:room1","event":"broadcast","user_event":"bin","encoding":"binary","metadata":null,"payload_hex":"0102ff","kind":"user_broadcast_push"}"#,
            ),
            (
                Sender::Server,
                "hex:040e0600017265616c74696d653a726f6f6d31637572736f727b2278223a317d",
                r#"{"join_ref":null,"ref":null,"topic":"realtime:room1","event":"broadcast","user_event":"cursor","encoding":"json","metadata":null,"payload":{"type":"broadcast","event":"cursor","payload":{"x":1}},"kind":"user_broadcast"}"#,
            ),
            (
                Sender::Server,
                "hex:040e033d007265616c74696d653a726f6f6d3162696e7b226964223a2236623966336331652d396430612d346331632d396136372d326634663361366237633838222c227265706c61796564223a747275657d010203",
                r#"{"join_ref":null,"ref":null,"topic":"realtime:room1","event":"broadcast","user_event":"bin","encoding":"binary","metadata":{"id":"6b9f3c1e-9d0a-4c1c-9a67-2f4f3a6b7c88","replayed":true},"payload_hex":"010203","kind":"user_broadcast"}"#,
            ),
        ] {
            assert_eq!(one(Vsn::V2, from, line), expected);
        }
    }

    /// Protocol §1.6: the object that listeners get has `meta` when the frame had metadata.
    #[test]
    fn metadata_of_a_json_broadcast_is_delivered_with_it() {
        assert_eq!(
            one(Vsn::V2, Sender::Server, "hex:0401010a0174657b226964223a2278227d31",),
            r#"{"join_ref":null,"ref":null,"topic":"t","event":"broadcast","user_event":"e","encoding":"json","metadata":{"id":"x"},"payload":{"type":"broadcast","event":"e","payload":1,"meta":{"id":"x"}},"kind":"user_broadcast"}"#,
        );
    }

    #[test]
    fn every_line_gets_exactly_one_object() {
        let lines = inspect(
            Vsn::V2,
            Sender::Client,
            b"[null,\"1\",\"t\",\"e\",1]\r\n\nhex:\n\"\xFF\"\nhello\n[]",
        );
        assert_eq!(
            lines,
            [
                r#"{"join_ref":null,"ref":"1","topic":"t","event":"e","payload":1,"kind":"text"}"#,
                r#"{"error":"the line is empty, and an empty text frame is no message"}"#,
                r#"{"error":"the binary frame is empty"}"#,
                r#"{"error":"the text frame is not UTF-8 at byte 1"}"#,
                r#"{"error":"not a 2.0.0 text frame: expected value at line 1 column 1"}"#,
                r#"{"error":"not a 2.0.0 text frame: invalid length 0, expected an array [join_ref, ref, topic, event, payload] at line 1 column 2"}"#,
            ],
        );
        assert_eq!(inspect(Vsn::V2, Sender::Client, b"").len(), 0);
        assert_eq!(inspect(Vsn::V2, Sender::Client, b"\n").len(), 1);
    }

    #[test]
    fn an_error_says_where() {
        for (vsn, line, expected) in [
            (Vsn::V2, "hex:0g", "column 6 is no hexadecimal digit"),
            (Vsn::V2, "hex:00 ", "column 7 is no hexadecimal digit"),
            (Vsn::V2, "hex:000", "3 hexadecimal digits do not make whole bytes"),
            (
                Vsn::V2,
                "hex:0001010a063336726f6f6d",
                "the topic at byte 7 needs 10 bytes and 4 are left",
            ),
            (Vsn::V2, "hex:09000000", "byte 0 is 9, which is no binary kind a client sends"),
            (Vsn::V1, "hex:00", "a binary frame on a 1.0.0 connection, which has none"),
            (
                Vsn::V2,
                "hex:0300000101000174657b",
                "the user payload from byte 9 on: the payload is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (Vsn::V2, "hex:03000001010001746522ff", "the user payload is not UTF-8 at byte 10"),
            (
                Vsn::V2,
                "hex:0300000101010074657b",
                "the metadata from byte 9 on: the payload is not JSON: EOF while parsing an object at line 1 column 1",
            ),
        ] {
            let expected = format!(r#"{{"error":"{expected}"}}"#);
            assert_eq!(one(vsn, Sender::Client, line), expected);
        }
    }

    #[test]
    fn a_user_payload_over_several_lines_stays_on_one() {
        // {<LF>"a":<CR>9007199254740993}
        assert_eq!(
            one(
                Vsn::V2,
                Sender::Client,
                "hex:030000010100017465\
                 7b0a2261223a0d393030373139393235343734303939337d",
            ),
            r#"{"join_ref":"","ref":"","topic":"t","event":"broadcast","user_event":"e","encoding":"json","metadata":null,"payload":{ "a": 9007199254740993},"kind":"user_broadcast_push"}"#,
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            one(Vsn::V2, Sender::Server, r#"[null,null,"\n\u001b\"","\u009b",{}]"#),
            r#"{"join_ref":null,"ref":null,"topic":"\u000a\u001b\"","event":"\u009b","payload":{},"kind":"text"}"#,
        );
    }

    #[test]
    fn a_line_above_the_limit_is_an_error_and_the_next_one_is_read() {
        let limit = MAX_LINE_BYTES as u64;
        let line = |len: u64| io::repeat(b' ').take(len);
        let input = line(limit)
            .chain(&b"\r\n"[..])
            .chain(line(limit + 1))
            .chain(&b"\n"[..])
            .chain(line(limit + 1))
            .chain(&b"\r\n"[..])
            // A carriage return where the buffer ends, but not the line.
            .chain(line(limit))
            .chain(&b"\rx\n"[..])
            .chain(&b"[null,null,\"t\",\"e\",{}]"[..]);
        let mut output = Vec::new();
        run(Vsn::V2, Sender::Server, BufReader::new(input), &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"error":"not a 2.0.0 text frame: EOF while parsing a value at line 1 column 16777216"}"#,
                r#"{"error":"the line has 16777217 bytes, and at most 16777216 are read"}"#,
                r#"{"error":"the line has 16777218 bytes, and at most 16777216 are read"}"#,
                r#"{"error":"the line has 16777218 bytes, and at most 16777216 are read"}"#,
                r#"{"join_ref":null,"ref":null,"topic":"t","event":"e","payload":{},"kind":"text"}"#,
            ],
        );
    }
}

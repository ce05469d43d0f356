//! Frames that no honest server sends, and what of honest ones is made into something else.

use std::sync::OnceLock;

use realtime_proto::wire::{self, Body, Envelope, FrameKind, Sender, Vsn};
use realtime_proto::{Bytes, Frame};

use crate::scenario::Garbage;

/// One more byte than the largest frame that a client takes by default.
const GIANT_BYTES: usize = 5_000_001;
/// No client counts up to this one.
pub(super) const UNUSED_REF: &str = "987654321";
/// Ids of a real server are below it.
pub(super) const IDS_END: u32 = 1 << 27;

/// # Panics
///
/// When the envelope has no form in this version, which is so for none that was read in it.
pub(super) fn encode(vsn: Vsn, envelope: &Envelope<'_>) -> Frame {
    let mut bytes = Vec::new();
    let kind = wire::encode(vsn, Sender::Server, envelope, &mut bytes);
    match kind.expect("what was read can be written") {
        FrameKind::Text => Frame::Text(bytes.into()),
        FrameKind::Binary => Frame::Binary(bytes.into()),
    }
}

/// `phx_close` or `phx_error` of a join.
pub(super) fn end(vsn: Vsn, join_ref: &str, topic: &str, event: &str) -> Frame {
    let payload = if event == "phx_error" { r#"{"reason":"channel_crash"}"# } else { "{}" };
    message(vsn, (Some(join_ref), Some(join_ref)), topic, event, payload)
}

fn message(
    vsn: Vsn,
    (join_ref, msg_ref): (Option<&str>, Option<&str>),
    topic: &str,
    event: &str,
    payload: &str,
) -> Frame {
    let envelope = Envelope {
        join_ref: join_ref.map(Into::into),
        msg_ref: msg_ref.map(Into::into),
        topic: topic.into(),
        event: event.into(),
        body: Body::Json(payload),
    };
    encode(vsn, &envelope)
}

/// A frame that is larger than a client takes. All share one allocation.
pub(super) fn giant() -> Frame {
    static GIANT: OnceLock<Bytes> = OnceLock::new();
    Frame::Text(GIANT.get_or_init(|| vec![b'9'; GIANT_BYTES].into()).clone())
}

/// A frame that should not be, about a channel of the session if there is one.
pub(super) fn garbage(what: Garbage, vsn: Vsn, place: Option<(&str, &str)>) -> Frame {
    let (topic, join_ref) =
        place.map_or(("realtime:nowhere", None), |(topic, join_ref)| (topic, Some(join_ref)));
    let nobody = (None, None);
    match (what, vsn) {
        (Garbage::NotJson, _) => Frame::text("{no json"),
        (Garbage::NotAnArray, Vsn::V2) => Frame::text(r#"{"topic":"phoenix"}"#),
        (Garbage::NotAnArray, Vsn::V1) => Frame::text(r#"[null,null,"phoenix","phx_reply",{}]"#),
        (Garbage::Short, Vsn::V2) => Frame::text(r#"["1","1","phoenix"]"#),
        (Garbage::Short, Vsn::V1) => Frame::text(r#"{"topic":"phoenix"}"#),
        (Garbage::NumericRef, Vsn::V2) => Frame::text(format!(
            r#"[null,{UNUSED_REF},"phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#
        )),
        (Garbage::NumericRef, Vsn::V1) => Frame::text(format!(
            r#"{{"topic":"phoenix","event":"phx_reply","payload":{{}},"ref":{UNUSED_REF}}}"#
        )),
        // On version 1 every binary frame is one too many.
        (Garbage::CutBinary, _) => Frame::binary(&[4, 200][..]),
        (Garbage::UnknownKind, _) => Frame::binary(&[77, 1, 1, 1, b'a', b'b', b'c'][..]),
        (Garbage::UnknownTopic, _) => message(vsn, nobody, "realtime:nowhere", "broadcast", "{}"),
        (Garbage::UnknownEvent, _) => message(vsn, (join_ref, None), topic, "nobody_knows", "{}"),
        (Garbage::UnaskedReply, _) => {
            let payload = r#"{"status":"ok","response":{}}"#;
            message(vsn, (join_ref, Some(UNUSED_REF)), topic, "phx_reply", payload)
        }
        (Garbage::NullPayload, _) => message(vsn, nobody, topic, "presence_diff", "null"),
        (Garbage::BadPresence, _) => {
            message(vsn, (join_ref, None), topic, "presence_state", "[1,2]")
        }
        (Garbage::UnknownIds, _) => {
            let payload = format!(
                r#"{{"data":{{"schema":"public","table":"elsewhere","type":"INSERT","commit_timestamp":"2001-09-09T01:46:40Z","errors":null,"columns":[],"record":{{}}}},"ids":[{IDS_END}]}}"#
            );
            message(vsn, nobody, topic, "postgres_changes", &payload)
        }
    }
}

/// The payload of a join reply whose ids are others by `shift`.
pub(super) fn shift_reply(payload: &str, shift: u32) -> String {
    // A quote of the client's own text is escaped, so that this begins a binding wherever it is.
    const BINDING: &str = "{\"id\":";
    let mut shifted = String::with_capacity(payload.len());
    let mut rest = payload;
    while let Some(at) = rest.find(BINDING) {
        let (before, behind) = rest.split_at(at + BINDING.len());
        shifted.push_str(before);
        rest = push_shifted(behind, shift, &mut shifted);
    }
    shifted.push_str(rest);
    shifted
}

/// The payload of a row change whose ids are others by `shift`.
pub(super) fn shift_change(payload: &str, shift: u32) -> String {
    // They stand behind the row.
    const IDS: &str = "\"ids\":[";
    let Some(at) = payload.rfind(IDS) else { return payload.into() };
    let (before, mut rest) = payload.split_at(at + IDS.len());
    let mut shifted = String::from(before);
    loop {
        rest = push_shifted(rest, shift, &mut shifted);
        let Some(behind) = rest.strip_prefix(',') else { break };
        shifted.push(',');
        rest = behind;
    }
    shifted.push_str(rest);
    shifted
}

/// Appends the number that `text` begins with as another one; what is behind it.
fn push_shifted<'a>(text: &'a str, shift: u32, out: &mut String) -> &'a str {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    if let Ok(number) = number.parse::<u32>() {
        out.push_str(&(number.wrapping_add(shift) % IDS_END).to_string());
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ids_of_a_reply_and_of_a_change_are_shifted_alike() {
        let reply = r#"{"status":"ok","response":{"postgres_changes":[{"id":5,"filter":"a=eq.{\"id\":1"},{"id":134217727,"table":"t"}]}}"#;
        let shifted = r#"{"status":"ok","response":{"postgres_changes":[{"id":8,"filter":"a=eq.{\"id\":1"},{"id":2,"table":"t"}]}}"#;
        assert_eq!(shift_reply(reply, 3), shifted);
        let change = r#"{"data":{"record":{"id":1,"ids":[4]}},"ids":[5,134217727]}"#;
        let shifted = r#"{"data":{"record":{"id":1,"ids":[4]}},"ids":[8,2]}"#;
        assert_eq!(shift_change(change, 3), shifted);
    }

    #[test]
    fn garbage_is_what_its_name_says() {
        for vsn in [Vsn::V1, Vsn::V2] {
            for what in Garbage::ALL {
                let frame = garbage(*what, vsn, Some(("realtime:room", "4")));
                let is_read = wire::decode(vsn, Sender::Server, &frame).is_ok();
                let is_unreadable = matches!(
                    what,
                    Garbage::NotJson
                        | Garbage::NotAnArray
                        | Garbage::Short
                        | Garbage::CutBinary
                        | Garbage::UnknownKind
                );
                assert_eq!(is_read, !is_unreadable, "{what:?} on {vsn}");
            }
        }
    }
}

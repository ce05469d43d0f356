//! Every data frame that real servers sent or took decodes; every one that they refused does not.

use realtime_proto::Frame;
use realtime_proto::wire::{Body, Envelope, FrameKind, Sender, Vsn, decode, encode};
use realtime_tests::recording::{self, Connection, Step, What, connections};

/// Each recording with its data frames from the client and from the server, counted in the files
/// by another program.
const FRAMES: [(&str, usize, usize); 39] = [
    ("phoenix-1.7-v2-crash", 24, 25),
    ("phoenix-bandit-v2-server-close", 6, 3),
    ("phoenix-connect", 3, 3),
    ("phoenix-external-broadcast", 1, 3),
    ("phoenix-js-client-v2", 13, 18),
    ("phoenix-strict-timeout", 3, 3),
    ("phoenix-v1-basic", 18, 20),
    ("phoenix-v1-join-errors", 13, 13),
    ("phoenix-v1-presence", 14, 51),
    ("phoenix-v2-basic", 18, 20),
    ("phoenix-v2-binary", 18, 19),
    ("phoenix-v2-crash", 24, 25),
    ("phoenix-v2-join-errors", 13, 13),
    ("phoenix-v2-malformed", 25, 16),
    ("phoenix-v2-presence", 14, 51),
    ("phoenix-v2-server-close", 6, 3),
    ("phoenix-zz-server-kill9", 1, 1),
    ("supabase-idle-timeout", 1, 1),
    ("supabase-tenant-disconnect", 2, 4),
    ("supabase-v1-apikey-expires", 4, 6),
    ("supabase-v1-connect-errors", 5, 5),
    ("supabase-v1-http-broadcast", 2, 9),
    ("supabase-v1-limits", 40, 167),
    ("supabase-v1-malformed", 29, 19),
    ("supabase-v1-postgres-changes-errors", 26, 51),
    ("supabase-v1-postgres-rls", 5, 35),
    ("supabase-v1-presence", 22, 87),
    ("supabase-v1-too-large", 3, 8),
    ("supabase-v2-access-token", 25, 28),
    ("supabase-v2-broadcast", 11, 18),
    ("supabase-v2-database-broadcast", 4, 18),
    ("supabase-v2-join-errors", 24, 35),
    ("supabase-v2-official-client", 11, 21),
    ("supabase-v2-postgres-changes", 2, 19),
    ("supabase-v2-postgres-filters", 3, 16),
    ("supabase-v2-presence", 22, 87),
    ("supabase-v2-private", 16, 25),
    ("supabase-v2-refused-join-blocks", 11, 21),
    ("supabase-v2-user-broadcast-binary", 15, 43),
];

/// Frames that are no envelopes, by recording and connection; the connections of the two
/// recordings of malformed frames are named after what they send.
const REFUSED: [(&str, &str, Sender); 20] = [
    ("phoenix-v2-malformed", "not JSON", Sender::Client),
    ("phoenix-v2-malformed", "empty text frame", Sender::Client),
    ("phoenix-v2-malformed", "JSON of the other version", Sender::Client),
    ("phoenix-v2-malformed", "JSON null", Sender::Client),
    ("phoenix-v2-malformed", "array of 4", Sender::Client),
    ("phoenix-v2-malformed", "empty binary frame", Sender::Client),
    ("phoenix-v2-malformed", "binary with unknown kind 9", Sender::Client),
    ("phoenix-v2-malformed", "binary push truncated", Sender::Client),
    ("phoenix-v2-malformed", "binary reply kind sent by a client", Sender::Client),
    ("supabase-v1-malformed", "not JSON", Sender::Client),
    ("supabase-v1-malformed", "empty text frame", Sender::Client),
    ("supabase-v1-malformed", "JSON of the other version", Sender::Client),
    ("supabase-v1-malformed", "array of 4", Sender::Client),
    // A V2 array on a V1 connection.
    ("supabase-v1-malformed", "array of 6", Sender::Client),
    ("supabase-v1-malformed", "invalid UTF-8", Sender::Client),
    ("supabase-v1-malformed", "empty binary frame", Sender::Client),
    ("supabase-v1-malformed", "binary of unknown kind 9", Sender::Client),
    ("supabase-v1-malformed", "user broadcast push truncated", Sender::Client),
    // Legal on V2; V1 has no binary frames, and the server gave no answer.
    ("supabase-v1-malformed", "Phoenix binary push (kind 0) on a joined channel", Sender::Client),
    // The server pastes the unchecked JSON of a V2 sender into `"payload":not json`.
    ("supabase-v2-user-broadcast-binary", "v1client", Sender::Server),
];

fn frames(connection: &Connection) -> impl Iterator<Item = (&Step, Vsn, Sender, &Frame)> {
    connection.steps.iter().filter_map(|step| {
        let What::Frame { from, frame } = &step.what else {
            return None;
        };
        let vsn = connection.vsn.expect("an open connection has a version");
        Some((step, vsn, *from, frame))
    })
}

#[test]
fn every_recorded_frame_decodes_but_those_that_are_no_envelopes() {
    let names: Vec<&str> = FRAMES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(recording::names(), names);
    let mut refused = Vec::new();
    for (name, from_client, from_server) in FRAMES {
        let (mut sent, mut received) = (0, 0);
        for connection in connections(&recording::load(name)) {
            for (_, vsn, from, frame) in frames(&connection) {
                match from {
                    Sender::Client => sent += 1,
                    Sender::Server => received += 1,
                }
                if decode(vsn, from, frame).is_err() {
                    refused.push((name, connection.name.clone(), from));
                }
            }
        }
        assert_eq!((sent, received), (from_client, from_server), "{name}");
    }
    let mut expected = REFUSED.map(|(name, connection, from)| (name, connection.into(), from));
    let by_name = |entry: &(&'static str, String, Sender)| (entry.0, entry.1.clone());
    refused.sort_by_key(by_name);
    expected.sort_by_key(by_name);
    assert_eq!(refused, expected);
}

/// Phoenix closes with 1011 at once when it cannot decode, which shows what it thinks of a frame
/// without asking anyone's list.
#[test]
fn what_phoenix_cannot_decode_is_exactly_what_we_cannot() {
    let (mut bad, mut good) = (0, 0);
    for connection in connections(&recording::load("phoenix-v2-malformed")) {
        let crashed = connection.steps.iter().any(|step| {
            matches!(&step.what, What::Close { from: Sender::Server, code: Some(1011), .. })
        });
        let error =
            frames(&connection).any(|(_, vsn, from, frame)| decode(vsn, from, frame).is_err());
        assert_eq!(error, crashed, "{}", connection.name);
        if crashed { bad += 1 } else { good += 1 }
    }
    assert_eq!((bad, good), (9, 8));
}

#[test]
fn a_version_is_known_exactly_if_phoenix_upgrades_a_connection_that_asks_for_it() {
    let connections = connections(&recording::load("phoenix-connect"));
    let asking = connections.iter().filter(|c| c.name.contains("vsn"));
    let known: Vec<(&str, Option<Vsn>, bool)> = asking
        .map(|connection| {
            let upgraded = |step: &Step| matches!(step.what, What::Upgraded);
            let upgraded = connection.steps.iter().any(upgraded);
            (connection.name.as_str(), connection.vsn, upgraded)
        })
        .collect();
    assert_eq!(
        known,
        [
            ("no vsn (V1 is the default)", Some(Vsn::V1), true),
            ("vsn=1.0.0", Some(Vsn::V1), true),
            ("vsn=2.0.0", Some(Vsn::V2), true),
            ("vsn=2.1.0", None, false),
            ("vsn=3.0.0 (unknown)", None, false),
            ("vsn=abc", None, false),
        ],
    );
}

#[test]
fn every_recorded_binary_frame_is_written_byte_for_byte() {
    let mut kinds = [[0; 5]; 2];
    for name in recording::names() {
        for connection in connections(&recording::load(&name)) {
            for (step, vsn, from, frame) in frames(&connection) {
                let (Frame::Binary(bytes), Ok(envelope)) = (frame, decode(vsn, from, frame)) else {
                    continue;
                };
                let mut ours = Vec::new();
                let kind = encode(vsn, from, &envelope, &mut ours);
                assert_eq!(kind, Ok(FrameKind::Binary), "{name}:{}", step.line);
                assert!(ours == *bytes, "{name}:{} differs", step.line);
                kinds[usize::from(from == Sender::Server)][usize::from(bytes[0])] += 1;
            }
        }
    }
    assert_eq!(kinds, [[11, 0, 0, 12, 0], [2, 7, 2, 0, 30]]);
}

#[test]
fn every_recorded_text_frame_reads_the_same_after_it_was_written_again() {
    let mut texts = 0;
    for name in recording::names() {
        for connection in connections(&recording::load(&name)) {
            for (step, vsn, from, frame) in frames(&connection) {
                let (Frame::Text(_), Ok(envelope)) = (frame, decode(vsn, from, frame)) else {
                    continue;
                };
                let mut ours = Vec::new();
                let kind = encode(vsn, from, &envelope, &mut ours);
                assert_eq!(kind, Ok(FrameKind::Text), "{name}:{}", step.line);
                let again = Frame::Text(ours.into());
                assert_eq!(decode(vsn, from, &again), Ok(envelope), "{name}:{}", step.line);
                texts += 1;
            }
        }
    }
    assert_eq!(texts, 1423);
}

/// An echo of 300 kB, so nothing in between cuts at a buffer size.
#[test]
fn the_largest_recorded_push_and_its_echo_arrive_whole() {
    let connections = connections(&recording::load("phoenix-v2-binary"));
    let payloads: Vec<(Sender, usize)> = connections
        .iter()
        .flat_map(frames)
        .filter(|(.., frame)| frame.as_bytes().len() > 200_000)
        .map(|(_, vsn, from, frame)| match decode(vsn, from, frame) {
            Ok(Envelope {
                body: Body::Binary(payload) | Body::Reply { response: payload, .. },
                ..
            }) => (from, payload.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [(Sender::Client, 300_000), (Sender::Server, 300_000)]);
}

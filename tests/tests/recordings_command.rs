//! `realtime replay` on every connection of every recording, held against the naive reading of it.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use realtime_tests::replay::ledger::accounts;
use realtime_tests::replay::{self, Look, Replay};
use realtime_tests::{fixture_path, recording};
use serde_json::{Value, json};

/// The command lies beside the folder that this test was built into.
fn realtime(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path: PathBuf = profile.join(format!("realtime{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not there: `cargo test --workspace` builds it, and so does \
         `cargo build --package realtime-smol --features cli`",
        path.display(),
    );
    Command::new(path).args(arguments).output().unwrap()
}

fn file(recording: &str) -> String {
    fixture_path(&format!("transcripts/{recording}.jsonl")).to_str().unwrap().to_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = core::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The summary that the frames of a connection lead to.
fn expected(replay: &Replay) -> BTreeMap<String, Value> {
    let mut topics: BTreeMap<String, Value> = BTreeMap::new();
    for (join, account) in replay.joins.iter().zip(accounts(replay)) {
        let topic = topics.entry(join.topic.clone()).or_insert_with(|| {
            json!({
                "state": "closed", "presence": {}, "changes": 0, "broadcasts": 0, "violations": 0,
            })
        });
        if join.channel.is_none() {
            continue;
        }
        for kind in ["change", "broadcast"] {
            let count = account.seen.iter().filter(|seen| seen[0] == kind).count();
            let key = format!("{kind}s");
            topic[&*key] = json!(topic[&*key].as_u64().unwrap() + count as u64);
        }
        if account.accepted && join.presence && account.has_snapshot() {
            topic["presence"] = json!(account.members());
        }
        let ended = account.seen.last().map(|seen| seen[0].clone()).unwrap_or_default();
        topic["state"] = json!(match (account.accepted, account.over) {
            (true, false) => "joined",
            (false, false) => "joining",
            (_, true) if ended == "errored" => "errored",
            (_, true) => "closed",
        });
    }
    for (line, _) in replay.violations() {
        let told = replay.told.iter().find(|told| told.line == line);
        let topic = told.map_or("", |told| &told.topic);
        if let Some(topic) = topics.get_mut(topic) {
            topic["violations"] = json!(topic["violations"].as_u64().unwrap() + 1);
        }
    }
    topics
}

#[test]
fn the_summary_of_every_recorded_connection_is_what_its_frames_say() {
    let (mut connections, mut topics) = (0, 0);
    for name in recording::names() {
        for replay in replay::all(&name) {
            let connection = replay.name[name.len() + 2..].to_owned();
            let output = realtime(&["replay", &file(&name), "--conn", &connection, "--json"]);
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: {complaint}", replay.name);
            let lines = lines(&output);
            let (last, told) = lines.split_last().unwrap();
            let summary = last["summary"].as_object().unwrap();
            for (topic, expected) in expected(&replay) {
                let mut shown = summary[&topic].clone();
                if shown["state"] == "leaving" {
                    // The answer to a leave may be missing, which the reading does not look for.
                    shown["state"] = json!("closed");
                }
                assert_eq!(shown, expected, "{}: {topic}", replay.name);
                for (event, count) in [("change", "changes"), ("broadcast", "broadcasts")] {
                    let of_topic = told.iter().filter(|line| line["topic"] == *topic);
                    let shown = of_topic.filter(|line| line["event"] == event).count();
                    assert_eq!(json!(shown), expected[count], "{}: {topic}", replay.name);
                }
                topics += 1;
            }
            connections += 1;
        }
    }
    assert_eq!((connections, topics), (141, 175));
}

#[test]
fn without_a_connection_the_first_that_a_client_can_have_is_replayed() {
    for name in recording::names() {
        let output = realtime(&["replay", &file(&name), "--json"]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {complaint}");
        assert!(lines(&output).last().unwrap()["summary"].is_object(), "{name}");
    }
    let people = realtime(&["replay", &file("supabase-v2-presence")]);
    let text = String::from_utf8(people.stdout).unwrap();
    assert!(text.starts_with("replaying `observer`, the first of alice, "), "{text}");
}

#[test]
fn no_secret_of_a_recording_is_printed() {
    for name in recording::names() {
        let steps = recording::load(&name);
        let secrets: Vec<String> = steps
            .steps
            .iter()
            .filter_map(|step| match &step.what {
                recording::What::Open { url } => Some(url.clone()),
                _ => None,
            })
            .flat_map(|url| {
                let query = url.split_once('?').map_or("", |(_, query)| query).to_owned();
                let values = query.split('&').filter_map(|pair| pair.split_once('='));
                let secret = |(key, value): (&str, &str)| {
                    (key == "apikey" && value.len() > 8).then(|| value.to_owned())
                };
                values.filter_map(secret).collect::<Vec<_>>()
            })
            .collect();
        for connection in recording::connections(&steps) {
            if connection.vsn.is_none() {
                continue;
            }
            for extra in [&[][..], &["--json"][..]] {
                let path = file(&name);
                let mut arguments = vec!["replay", &*path, "--conn", &*connection.name];
                arguments.extend(extra);
                let output = realtime(&arguments);
                let told = String::from_utf8_lossy(&output.stdout);
                let found = secrets.iter().find(|secret| told.contains(&***secret));
                assert_eq!(found, None, "{name}, {}", connection.name);
            }
        }
    }
}

#[test]
fn what_cannot_be_replayed_is_said_with_its_place_and_what_there_is() {
    let complaint = |arguments: &[&str]| {
        let output = realtime(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let path = file("supabase-v2-presence");
    let unknown = complaint(&["replay", &path, "--conn", "eve"]);
    assert!(unknown.contains("no connection `eve`; there are: alice, alice2, bob"), "{unknown}");
    let missing = complaint(&["replay", "nowhere.jsonl"]);
    assert!(missing.contains("nowhere.jsonl cannot be read"), "{missing}");
    let readme = fixture_path("transcripts/README.md");
    let no_recording = complaint(&["replay", readme.to_str().unwrap()]);
    assert!(no_recording.contains("line 1: this is no JSON object"), "{no_recording}");
    let path = file("phoenix-connect");
    let steps = recording::load("phoenix-connect");
    let connections = recording::connections(&steps);
    let stranger = connections.iter().find(|connection| connection.vsn.is_none()).unwrap();
    let version = complaint(&["replay", &path, "--conn", &stranger.name]);
    assert!(version.contains("speaks another protocol version"), "{version}");
}

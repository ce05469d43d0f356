//! The `sim` command as a person uses it.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::path::PathBuf;
use std::process::{Command, Output};

use realtime_sim::{Scenario, Seed, run};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap()
}

/// A file of this test run with such a text.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_run_in_another_process_and_on_all_cores_sees_what_a_run_here_sees() {
    let output = sim(&["run", "--seeds", "0..200"]);
    assert!(output.status.success(), "{output:?}");
    let events = |seed| run(&Scenario::of_seed(Seed(seed))).events;
    let events: u64 = (0..200).map(events).sum();
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert!(lines[0].contains(" 200 "), "how many seeds: {}", lines[0]);
    assert!(lines[1].contains(&format!(" {events} ")), "how many events: {}", lines[1]);
    assert!(lines.iter().any(|line| line.starts_with("time to live p99")));
}

#[test]
fn the_scenario_of_a_seed_and_its_file_replay_in_the_same_way() {
    let scenario = Scenario::of_seed(Seed(7));
    let path = file("seven.scenario", &scenario.to_string());
    let (seed, of_file) = (sim(&["replay", "7"]), sim(&["replay", path.to_str().unwrap()]));
    assert_eq!(text(&seed.stdout), text(&of_file.stdout));
    let hash = format!("{:016x}", run(&scenario).hash);
    assert!(text(&seed.stdout).contains(&hash), "trace hash {hash}: {}", text(&seed.stdout));
    assert!(text(&seed.stdout).lines().last().unwrap().starts_with("ok: "));
}

#[test]
fn a_trace_is_one_record_a_line_for_people_and_for_programs() {
    let (lines, objects) = (sim(&["trace", "3"]), sim(&["trace", "3", "--json"]));
    let count = text(&lines.stdout).lines().count();
    assert!(count > 100, "{count} lines");
    assert_eq!(text(&objects.stdout).lines().count(), count);
    for line in text(&objects.stdout).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record["at_us"].is_u64() && record["who"].is_string(), "{line}");
    }
}

#[test]
fn mistakes_are_told_in_a_sentence_and_are_not_failures_of_the_scenario() {
    let odd = file("odd.scenario", "client ana\n+1s ana sings\n");
    let odd = odd.to_str().unwrap();
    for (arguments, sentence) in [
        (vec!["replay", "nowhere.scenario"], "neither a seed nor a file that can be read"),
        (
            vec!["replay", odd],
            "odd.scenario: line 2: `sings` is no act of an application; write one of connect, ",
        ),
        (vec!["run", "--seeds", "9..9"], "`9..9` has no seed in it"),
        (vec!["run", "--seeds", "all"], "`all` is no seed; write a decimal number"),
        (vec!["run", "--profile", "mild"], "`mild` is no profile; write swarm, calm or storm"),
        (vec!["shrink", "3"], "seed 3 does not fail, so there is nothing to shrink"),
    ] {
        let output = sim(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains(sentence), "{arguments:?}: {told}");
    }
}

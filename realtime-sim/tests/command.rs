//! The `sim` command as a person uses it.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use realtime_sim::{Scenario, Seed, run};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).env("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn sim(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
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
    let count = text(&lines.stdout).lines().filter(|line| !line.starts_with("# ")).count();
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
    let nobody = file("nobody.scenario", "seed 7\n");
    let nobody = nobody.to_str().unwrap();
    let idle = file("idle.scenario", "client ana\n");
    let idle = idle.to_str().unwrap();
    for (arguments, sentence) in [
        (vec!["replay", "nowhere.scenario"], "neither a seed nor a file that can be read"),
        (
            vec!["replay", odd],
            "odd.scenario: line 2: `sings` is no act of an application; write one of connect, ",
        ),
        (vec!["run", "--seeds", "9..9"], "`9..9` has no seed in it"),
        (vec!["run", "--seeds", "all"], "`all` is no seed; write a decimal number"),
        (vec!["run", "--seeds", "18446744073709551615"], "is the one seed that no range holds"),
        (vec!["run", "--seeds", "0..99999999999999999999999"], "is too large for a seed"),
        (vec!["run", "--seeds", "-1..3"], "`-1` is no seed; write a decimal number"),
        (vec!["coverage", "--seeds", "-1..3"], "`-1` is no seed; write a decimal number"),
        (vec!["run", "--minutes", "0"], "write a number above 0 that a clock can count"),
        (vec!["run", "--minutes", "-5"], "write a number above 0 that a clock can count"),
        (vec!["run", "--minutes", "1e300"], "write a number above 0 that a clock can count"),
        (vec!["run", "--minutes", "1e-9"], "no seed was played in so short a time"),
        (vec!["run", "--profile", "mild"], "[possible values: swarm, calm, storm]"),
        (vec!["replay", nobody], "nobody.scenario has nobody in it; write for instance `client"),
        (vec!["trace", idle], "idle.scenario has no step in it; write for instance `+0ms ana"),
        (vec!["explore", "--depth", "0"], "invalid value '0' for '--depth <DEPTH>'"),
        (vec!["explore", "--begin", "live", "--path", "foo"], "`foo` cannot happen: there it is"),
        (vec!["speed", "--seconds", "0"], "invalid value '0' for '--seconds <S>'"),
        (vec!["zoo", "nosuch"], "error: there is no bug `nosuch`"),
        (vec!["shrink", "3"], "seed 3 does not fail, so there is nothing to shrink"),
    ] {
        let output = sim(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains(sentence), "{arguments:?}: {told}");
        assert!(
            told.starts_with("error: ") && output.stdout.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}

/// A world that fails: on such a network no join is answered in time.
const SLOW: &str = "\
seed 7
set delay 6s
client ana
topic feed realtime:feed
topic spare realtime:spare

+0ms     ana connect
+0ms     ana open feed
+5s      ana hint
";

/// The words behind `cargo sim` in the last line, as a shell reads them.
fn last_command(printed: &[u8]) -> Vec<String> {
    let line = text(printed).lines().last().unwrap();
    let words = line.strip_prefix("cargo sim ").unwrap_or_else(|| panic!("no command: {line}"));
    let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {words}")]).output();
    text(&output.unwrap().stdout).lines().map(Into::into).collect()
}

/// Plays again what the last line says, and sees that it fails as the scenario did.
fn assert_replays(printed: &[u8]) -> String {
    let words = last_command(printed);
    let output = sim(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    let last = text(&output.stdout).lines().last().unwrap().to_owned();
    assert!(last.starts_with("failed: G8: feed of ana is not live"), "{last}");
    words[1].clone()
}

#[test]
fn a_shrunk_scenario_fails_and_its_last_line_replays_it() {
    let path = file("slow.scenario", SLOW);
    let output = sim(&["shrink", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let small: Scenario = text(&output.stdout).parse().unwrap();
    assert!(small.steps.len() < 3, "{small}");
    let kept = assert_replays(&output.stderr);
    assert!(kept.ends_with("sim/slow.small.scenario"), "{kept}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), small.to_string());

    let here = path.with_file_name("to whom it concerns.scenario");
    let output = sim(&["shrink", path.to_str().unwrap(), "-o", here.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(Path::new(&assert_replays(&output.stderr)), here);
}

#[test]
fn where_no_file_can_be_written_the_last_line_replays_it_all_the_same() {
    let path = file("slow too.scenario", SLOW);
    let arguments = ["shrink", path.to_str().unwrap()];
    let output = command(&arguments).env("CARGO_TARGET_DIR", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains(" cannot be written: "), "{output:?}");
    assert_eq!(Path::new(&assert_replays(&output.stderr)), path);
}

#[test]
fn the_page_of_a_run_that_fails_is_drawn_and_the_failure_is_named() {
    let path = file("slow-page.scenario", SLOW);
    let output = sim(&["timeline", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).starts_with("failed: G8: feed of ana"), "{output:?}");
    let page = text(&output.stdout).trim_end();
    assert!(page.ends_with("sim/slow-page.html"), "{page}");
    assert!(std::fs::read_to_string(page).unwrap().contains("feed of ana is not live"));
}

#[test]
fn a_run_is_the_same_whether_anybody_watches_or_not() {
    for seed in ["7", "8"] {
        let (run, traced) = (sim(&["replay", seed]), sim(&["replay", seed, "--trace"]));
        let hash = |output: &Output| {
            let (_, hash) = text(&output.stdout).split_once("trace hash ").unwrap();
            hash[..16].to_owned()
        };
        assert_eq!(hash(&run), hash(&traced), "seed {seed}");
    }
}

#[test]
fn a_trace_begins_with_who_is_who() {
    let path = file("names.scenario", &SLOW.replace("set delay 6s\n", ""));
    let path = path.to_str().unwrap();
    for arguments in [vec!["trace", path], vec!["replay", path, "--trace"]] {
        let output = sim(&arguments);
        let printed = text(&output.stdout);
        let legend: Vec<&str> = printed.lines().filter(|line| line.starts_with("# ")).collect();
        assert_eq!(
            legend,
            [
                "# node0 is the client ana",
                "# realtime:feed is the topic feed",
                "# realtime:spare is the topic spare"
            ]
        );
        assert!(printed.contains(" joined of feed\n"), "{printed}");
    }
}

#[test]
fn who_reads_no_further_ends_the_command_in_silence() {
    let mut child = command(&["trace", "3"]);
    child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&["replay", "7"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.starts_with("error: the output cannot be written: No space left"), "{told}");
}

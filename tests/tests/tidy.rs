//! Rules of the house that no compiler checks, checked on the source text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the core and the simulator never ask for: they are given time and entropy, do no I/O, and
/// have no maps whose order changes from run to run. A command is a program and not of the library:
/// it has files, threads and a clock to measure with, and what it runs still cannot see them.
const NEVER: [&str; 10] = [
    "std::time",
    "Instant::now",
    "SystemTime",
    "std::net",
    "std::thread",
    "HashMap",
    "HashSet",
    "thread_rng",
    "getrandom",
    "std::fs",
];

/// Each module of the core with those it never names. A module may use what stands to its left in
/// `time, rng, ids, limits → wire → supabase → timer, backoff, presence → channel → client →
/// manager`; the server half shares the wire and the vocabulary with the client half, and nothing
/// else.
const ARROWS: [(&str, &[&str]); 12] = [
    ("time.rs", &["wire", "supabase", "presence", "channel", "client", "manager", "server"]),
    ("rng.rs", &["wire", "supabase", "presence", "channel", "client", "manager", "server"]),
    ("ids.rs", &["wire", "supabase", "presence", "channel", "client", "manager", "server"]),
    ("limits.rs", &["wire", "supabase", "presence", "channel", "client", "manager", "server"]),
    (
        "wire",
        &["supabase", "timer", "backoff", "presence", "channel", "client", "manager", "server"],
    ),
    ("supabase", &["timer", "backoff", "presence", "channel", "client", "manager", "server"]),
    ("timer.rs", &["presence", "channel", "client", "manager", "server"]),
    ("backoff.rs", &["presence", "channel", "client", "manager", "server"]),
    ("presence", &["channel", "client", "manager", "server"]),
    ("channel", &["client", "manager", "server"]),
    ("client", &["manager", "server"]),
    ("server", &["client", "channel", "presence", "manager", "timer", "backoff"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").into()
}

/// The Rust files under a path, or the file that it is.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.into()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "rs"))
        .flat_map(|path| sources(&path))
        .collect();
    files.sort();
    files
}

/// The lines of a source file with their numbers, without comments and without the unit tests at
/// its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines.take_while(|(_, line)| !line.starts_with("mod tests")).map(|(number, line)| {
        // A URL in a string has two slashes as well, but nothing that is looked for behind them.
        (number, line.split_once("//").map_or(line, |(code, _)| code))
    })
}

/// The places where the code of `path` has a word that `bad` objects to.
fn offences<'a>(path: &str, bad: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let root = workspace();
    let mut found = Vec::new();
    for file in sources(&root.join(path)) {
        let text = fs::read_to_string(&file).expect("a source file");
        let name = file.strip_prefix(&root).expect("inside").display().to_string();
        let lines = code(&text).filter_map(|(line, code)| Some((line, bad(code)?)));
        found.extend(lines.map(|(line, word)| format!("{name}:{line} {word}")));
    }
    found
}

/// Whether a line names a module of the crate: `crate::wire::…` or `crate::{wire, …}`. A group that
/// spans lines is not seen through; the core imports line by line.
fn names_module(code: &str, module: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(module).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + module.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        // A whole path, or one item of a group that starts at the root.
        let grouped = before.rsplit_once("crate::{").is_some_and(|(_, items)| !items.contains('}'));
        whole && (before.ends_with("crate::") || grouped)
    })
}

#[test]
fn the_core_and_the_simulator_read_no_clock_draw_no_entropy_and_have_no_hash_maps() {
    for path in ["realtime-proto/src", "realtime-sim/src"] {
        let mut found = offences(path, |code| NEVER.into_iter().find(|word| code.contains(word)));
        found.retain(|place| !place.starts_with(&format!("{path}/bin/")));
        assert_eq!(found, [""; 0], "time and entropy are arguments; maps are ordered");
    }
}

#[test]
fn modules_of_the_core_use_only_what_stands_to_their_left() {
    for (module, never) in ARROWS {
        let path = format!("realtime-proto/src/{module}");
        let found =
            offences(&path, |code| never.iter().copied().find(|other| names_module(code, other)));
        assert_eq!(found, [""; 0], "what {module} must not name");
    }
}

#[test]
fn every_module_of_the_core_has_its_place_or_is_plumbing_of_the_client() {
    let root = workspace().join("realtime-proto/src");
    let modules: BTreeSet<String> = fs::read_dir(root)
        .expect("the source")
        .map(|entry| entry.expect("a directory entry").file_name().into_string().expect("a name"))
        .collect();
    let placed: BTreeSet<String> = ARROWS.iter().map(|(module, _)| (*module).to_owned()).collect();
    let plumbing = [
        "config.rs",
        "context.rs",
        "error.rs",
        "event.rs",
        "lib.rs",
        "manager",
        "outbox.rs",
        "pacing.rs",
        "payload.rs",
        "push.rs",
        "secret.rs",
        "socket.rs",
        "stats.rs",
        "token.rs",
        "transmit.rs",
    ];
    let plumbing: BTreeSet<String> = plumbing.map(str::to_owned).into();
    assert_eq!(modules, &placed | &plumbing, "name a new module here, and its arrows above");
}

#[test]
fn a_forbidden_use_would_be_found() {
    for code in [
        "use crate::client::Client;",
        "use crate::{client, ids};",
        "use crate::{ids, client::Client};",
        "let x = crate::client::f();",
    ] {
        assert!(names_module(code, "client"), "{code}");
    }
    for code in [
        "use crate::clients::Client;",
        "use crate::ids::client;",
        "use crate::{ids}; let client = 1;",
        "let client = 1;",
        "client::f()",
    ] {
        assert!(!names_module(code, "client"), "{code}");
    }
    let kept: Vec<&str> =
        code("a // HashMap\n/// HashMap\nb\nmod tests {\nHashMap").map(|l| l.1).collect();
    assert_eq!(kept, ["a ", "", "b"]);
}

/// The map of the code names files and items as `path` or `path::item`. Only what it names is
/// checked: without the file, or without its table, there is nothing to be wrong.
#[test]
fn every_place_that_the_map_of_the_code_names_is_there() {
    let Ok(text) = fs::read_to_string(workspace().join("ARCHITECTURE.md")) else { return };
    let mut missing = Vec::new();
    for (path, item) in places(&text) {
        match fs::read_to_string(workspace().join(path)) {
            Ok(source) if item.is_none_or(|item| has_word(&source, item)) => {}
            Ok(_) => missing.push(format!("{path} has no {}", item.unwrap_or_default())),
            Err(_) if item.is_none() && workspace().join(path).is_dir() => {}
            Err(_) => missing.push(format!("{path} is not there")),
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_places_of_a_map_are_read_from_its_table() {
    let map = "# Where is…?\n\nProse with `a/b.rs`.\n\n\
        | question | place |\n|---|---|\n\
        | how? | `realtime-proto/src/time.rs` |\n\
        | and | `realtime-proto/src/rng.rs::Rng::next`, `realtime-proto/src/wire/` |\n\
        | a word | `join_ref` |\n\n# Next\n\n| x | `other/file.rs` |\n";
    let read: Vec<_> = places(map).collect();
    assert_eq!(
        read,
        [
            ("realtime-proto/src/time.rs", None),
            ("realtime-proto/src/rng.rs", Some("next")),
            ("realtime-proto/src/wire/", None),
        ],
    );
    assert!(has_word("fn next()", "next") && !has_word("fn next_one()", "next"));
}

/// The paths in the table under "Where is…?", each with the last name behind it.
fn places(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let heading = |line: &&str| line.starts_with('#');
    let section =
        text.lines().skip_while(move |line| !(heading(line) && line.contains("Where is")));
    let rows = section.skip(1).take_while(move |line| !heading(line));
    let rows = rows.filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let paths = quoted.filter(|quoted| quoted.contains('/'));
    paths.map(|quoted| match quoted.split_once("::") {
        Some((path, item)) => (path, item.rsplit("::").next()),
        None => (quoted, None),
    })
}

fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

//! The examples of the core and of the adapter, as a newcomer runs them, against the local server.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use realtime_smol::{DevServer, DevServerConfig, DevServerHandle};

const EXAMPLES: [&str; 2] = ["blocking", "tokio"];

/// What each example of the adapter tells.
const TOLD: [(&str, &str); 5] = [
    ("live_rows", "contacts: Ana\ncontacts: Ana, Ben\ncontacts: Ana, Benno\ncontacts: Benno\n"),
    (
        "who_is_viewing",
        "Ana is here\nBen is here\nBen {\"typing\":true}\nwith Ana: Ben on 1 device\nBen left\n",
    ),
    ("cursors", "500 moves, few broadcasts, the last one at Cursor { x: 500, y: 1000 }\n"),
    (
        "logout",
        "6 channels before the logout
  realtime:tenant:acme:subscription:contact:1 is held by the card of contact 1
  realtime:tenant:acme:presence:contact:1 is held by the faces on contact 1
  realtime:tenant:acme:subscription:contact:2 is held by the card of contact 2
  realtime:tenant:acme:presence:contact:2 is held by the faces on contact 2
  realtime:tenant:acme:subscription:contact:3 is held by the card of contact 3
  realtime:tenant:acme:presence:contact:3 is held by the faces on contact 3
0 channels after it, 0 on the server
",
    ),
    (
        "accounts",
        "acme heard: hello acme\ninitech heard: hello initech\n\
             realtime:tenant:initech:subscription:inbox:1 is still live\n",
    ),
];

fn serve() -> DevServerHandle {
    DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default()).unwrap().spawn()
}

/// The examples lie beside the folder that this test was built into.
fn run(example: &str, url: &str) -> Output {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let name = format!("{example}{}", std::env::consts::EXE_SUFFIX);
    let path: PathBuf = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not there: `cargo test --workspace` builds it, and so does \
         `cargo build --workspace --examples`",
        path.display(),
    );
    Command::new(path).arg(url).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_example_joins_tracks_broadcasts_and_leaves() {
    let server = serve();
    for example in EXAMPLES {
        let output = run(example, &server.url());
        let (told, complaint) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{example}: {complaint}\n{told}");
        assert_eq!(complaint, "", "{example}");
        for word in ["Connected", "Joined", "Live", "Presence", "Replied", "Closed"] {
            assert!(told.contains(word), "{example} did not tell {word}:\n{told}");
        }
        let stats = smol::block_on(server.stats()).unwrap();
        assert_eq!(stats.channels, 0, "{example} left");
    }
}

#[test]
fn an_example_that_finds_no_socket_says_what_to_check() {
    let server = serve();
    let nowhere = server.url().replace("/socket", "/nowhere");
    for example in EXAMPLES {
        let output = run(example, &nowhere);
        let complaint = text(&output.stderr);
        assert!(!output.status.success(), "{example}");
        assert!(complaint.contains("Check the path of the URL"), "{example}: {complaint}");
    }
}

#[test]
fn an_example_refuses_what_is_no_url() {
    for example in EXAMPLES {
        let output = run(example, "nonsense");
        let complaint = text(&output.stderr);
        assert!(!output.status.success(), "{example}");
        assert!(complaint.contains("`nonsense` is not a WebSocket URL"), "{example}: {complaint}");
    }
}

#[test]
fn each_example_of_the_adapter_is_run_here_and_fits_on_a_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../realtime-smol/examples");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 100, "{} has {lines} lines", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(TOLD.iter().any(|(example, _)| *example == name), "{name} is not run");
    }
}

#[test]
fn each_example_of_the_adapter_shows_what_it_is_for() {
    for (example, told) in TOLD {
        let output = run(example, "");
        assert!(output.status.success(), "{example}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), told, "{example}");
    }
}

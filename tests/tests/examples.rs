//! The examples of the core, as a newcomer runs them, against the local server.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::path::PathBuf;
use std::process::{Command, Output};

use realtime_smol::{DevServer, DevServerConfig, DevServerHandle};

const EXAMPLES: [&str; 2] = ["blocking", "tokio"];

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
         `cargo build --package realtime-proto --examples`",
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

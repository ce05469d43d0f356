//! Scenarios that once failed, as the simulator shrank them: each is a file of its own, with what
//! was wrong in its remarks.

use std::fs;
use std::path::Path;

use realtime_sim::{Scenario, run};

#[test]
fn what_failed_once_does_not_fail_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of the scenarios")
        .map(|entry| entry.expect("a file of it").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no scenario", folder.display());
    for file in files {
        let text = fs::read_to_string(&file).expect("a scenario is a text");
        let scenario: Scenario =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(run(&scenario).finding, None, "{}", file.display());
    }
}

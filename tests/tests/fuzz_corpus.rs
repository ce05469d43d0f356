//! The corpus of every fuzz target, through the same functions, on a stable compiler.

use std::fs;
use std::path::Path;

use realtime_sim::fuzz;

type Target = (&'static str, fn(&[u8]), usize);

/// Each target with the number of inputs that must at least be there.
const TARGETS: [Target; 6] = [
    ("client_frames", |data| _ = fuzz::client_frames(data), 8),
    ("decode_binary", fuzz::decode_binary, 23),
    ("decode_text", fuzz::decode_text, 21),
    ("roundtrip", fuzz::roundtrip, 15),
    ("scenario", fuzz::scenario, 12),
    ("scenario_text", fuzz::scenario_text, 10),
];

#[test]
fn every_input_of_the_corpus_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut found: Vec<String> = fs::read_dir(&corpus)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.map(|(name, ..)| name));
    for (name, target, at_least) in TARGETS {
        let mut replayed = 0;
        for entry in fs::read_dir(corpus.join(name)).expect("the corpus of a target") {
            let path = entry.expect("an entry").path();
            // The test runner shows this when an input fails.
            eprintln!("{}", path.display());
            target(&fs::read(&path).expect("an input"));
            replayed += 1;
        }
        assert!(replayed >= at_least, "{name} has {replayed} inputs only");
    }
}

//! The same seed gives the same run.

use realtime_sim::profile;

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hashes: Vec<u64> = (0..8).map(|seed| profile::run(seed, None).hash).collect();
    let again: Vec<u64> = (0..8).map(|seed| profile::run(seed, None).hash).collect();
    assert_eq!(hashes, again);
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[at + 1..].contains(hash), "seed {at} runs as another one does");
    }
}

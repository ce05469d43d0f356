//! The profile of random faults: the same seed gives the same run, and every run ends live.

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

#[test]
fn three_hundred_seeds_of_faults_end_live_within_the_bound_of_the_settings() {
    for seed in 0..300 {
        // The run itself fails when a channel is not live in time; this says what time that is.
        let report = profile::run(seed, None);
        assert!(report.time_to_live <= profile::live_within(), "seed {seed}");
    }
}

//! Seeds and the scenarios they make: the same seed gives the same run, and every run ends well.

use std::collections::BTreeMap;

use realtime_sim::{Scenario, Seed, run};

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hash = |seed| run(&Scenario::of_seed(Seed(seed))).hash;
    let mut hashes = BTreeMap::new();
    for seed in 0..1_000 {
        let first = hash(seed);
        assert_eq!(first, hash(seed), "seed {seed} runs twice in the same way");
        if let Some(other) = hashes.insert(first, seed) {
            panic!("seed {seed} runs as seed {other} does");
        }
    }
}

#[test]
fn a_thousand_seeds_of_faults_end_live_within_the_bound_of_the_settings() {
    for seed in 0..1_000 {
        let scenario = Scenario::of_seed(Seed(seed));
        let report = run(&scenario);
        assert_eq!(report.finding, None, "seed {seed}:\n{scenario}");
    }
}

#[test]
fn a_scenario_is_read_as_it_was_written() {
    for seed in 0..1_000 {
        let scenario = Scenario::of_seed(Seed(seed));
        assert_eq!(scenario.to_string().parse(), Ok(scenario), "seed {seed}");
    }
}

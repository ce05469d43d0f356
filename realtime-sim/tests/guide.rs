//! The examples of the guide do what it says, on the scenarios that it shows.
#![allow(dead_code, reason = "examples have a main of their own")]

#[path = "../examples/naive.rs"]
mod naive;
#[path = "../examples/roster.rs"]
mod roster;

use realtime_sim::{Finding, Scenario, check_seeds, run_app, run_with};

/// The scenario that the guide puts into a file.
const FORGETS: &str = include_str!("the-sidebar-forgets.scenario");

/// The scenarios that the guide shows, in order.
fn shown() -> Vec<Scenario> {
    let guide = include_str!("../GUIDE.md");
    let blocks = guide.split("```").filter_map(|block| block.strip_prefix("text\n"));
    let scenarios = blocks.map(|block| {
        // From its first line to its last step; around it is what the command says besides.
        let from = block.find("\nseed 0").expect("a scenario");
        let steps = block.rfind("\n+").expect("a step");
        let to = block[steps + 1..].find('\n').map_or(block.len(), |end| steps + 1 + end);
        block[from..to].parse().expect("a scenario")
    });
    scenarios.collect()
}

/// What the guide says that seeds print, in order.
fn printed() -> Vec<&'static str> {
    let guide = include_str!("../GUIDE.md");
    let blocks = guide.split("```").filter_map(|block| block.strip_prefix("text\n"));
    blocks.filter(|block| block.starts_with("seed ")).collect()
}

/// What the seeds of an example say when one fails.
fn said(seeds: impl FnOnce() + core::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(seeds).expect_err("one fails");
    *panic.downcast::<String>().expect("a text")
}

#[test]
fn the_guide_shows_what_the_examples_print() {
    if std::env::var_os("REALTIME_SIM_SEED").is_some() {
        // Whoever asks for other seeds gets another text.
        return;
    }
    let first_try = || roster::Roster { clears_when_offline: true, ..Default::default() };
    let of_roster = said(|| check_seeds(0..200, |scenario| run_app(scenario, |_| first_try())));
    let of_naive = said(|| check_seeds(0..1_000, naive::is_live_in_the_end::<false>));
    assert_eq!(printed(), [of_roster, of_naive]);
}

fn rule(finding: Option<Finding>) -> Option<&'static str> {
    finding.map(|finding| finding.rule)
}

#[test]
fn the_sidebar_forgets_and_the_mended_one_does_not() {
    let scenario = &shown()[0];
    let first_try = || roster::Roster { clears_when_offline: true, ..Default::default() };
    assert_eq!(rule(run_app(scenario, |_| first_try()).finding), Some("application"));
    assert_eq!(run_app(scenario, |_| roster::Roster::default()).finding, None);
    assert_eq!(FORGETS.parse().as_ref(), Ok(scenario));
}

#[test]
fn the_naive_client_stays_down_and_the_mended_one_does_not() {
    let scenario = &shown()[1];
    assert_eq!(rule(run_with::<naive::Naive<false>>(scenario).finding), Some("G8"));
    assert_eq!(run_with::<naive::Naive<true>>(scenario).finding, None);
}

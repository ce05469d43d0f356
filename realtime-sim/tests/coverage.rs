//! What is counted is what happened, and not what was about to.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use realtime_sim::{Scenario, run};

/// How often servers did something wrong that took effect.
fn effects(steps: &str, effect: &str) -> u64 {
    let head = "seed 7\nclient ana\ntopic room realtime:room private\n\n\
                +0ms ana connect\n+0ms ana open room\n+2s database store room\n+1s ";
    let scenario: Scenario = [head, steps, "+9s ana hint\n"].concat().parse().unwrap();
    let report = run(&scenario);
    assert_eq!(report.finding, None);
    let tables = report.coverage.tables();
    let table = tables.iter().find(|table| table.name.starts_with("what servers did wrong"));
    let table = table.unwrap();
    table.cells[table.rows.iter().position(|row| row == effect).unwrap()].count
}

#[test]
fn an_older_join_is_closed_again_only_where_there_was_one() {
    let of = |steps| effects(steps, "close of an older join");
    assert_eq!(of("stale-close ana room\n"), 0);
    assert_eq!(of("ana close room\n+2s ana open room\n+2s stale-close ana room\n"), 1);
}

#[test]
fn a_replay_is_cut_short_only_where_something_is_replayed() {
    let of = |steps| effects(steps, "replay without its first broadcast");
    assert_eq!(of("partial-replay 0 1\n"), 0);
    assert_eq!(of("partial-replay 0 1\n+0ms cut ana\n"), 1);
}

#[test]
fn replies_are_lost_only_where_there_are_some() {
    let of = |steps| effects(steps, "reply that was lost");
    assert_eq!(of("lost-replies 0 2\n"), 0);
    assert_eq!(of("lost-replies 0 2\n+0ms ana close room\n+2s ana open room\n"), 2);
}

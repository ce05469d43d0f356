//! What lasts goes on for as long as its step says, whatever else begins or ends meanwhile.

use core::time::Duration;

use realtime_sim::{Record, Report, Run, Scenario};

const ANA: &str = "\
seed 1
client ana
topic room realtime:room ack rows
+0ms ana connect
+0ms ana open room
";

fn run(cast: &str, steps: &str) -> (Report, Vec<Record>) {
    let scenario: Scenario = format!("{cast}{steps}").parse().expect("the scenario is one");
    Run::new(&scenario).recorded()
}

/// Plays a cast with further steps. Nothing may be found.
fn play(cast: &str, steps: &str) -> Vec<Record> {
    let (report, records) = run(cast, steps);
    assert_eq!(report.finding, None, "{cast}{steps}");
    records
}

/// When somebody did something of which the details contain `what`, in milliseconds.
fn times(records: &[Record], who: &str, word: &str, what: &str) -> Vec<u128> {
    let is_it = |record: &&Record| {
        record.who.to_string() == who && record.word == word && record.detail.contains(what)
    };
    records.iter().filter(is_it).map(|record| record.at.since_epoch().as_millis()).collect()
}

/// How long each frame of the first client was on its way to the server, by when it left.
fn ways(records: &[Record]) -> Vec<(u128, u128)> {
    let received = records.iter().filter(|it| it.who.to_string() == "server");
    let received = received.filter(|it| it.word == "receives");
    let ways = received.filter_map(|it| {
        let (_, left_at) = it.from?;
        Some((
            left_at.since_epoch().as_millis(),
            it.at.saturating_duration_since(left_at).as_millis(),
        ))
    });
    ways.collect()
}

#[test]
fn a_short_fault_does_not_end_a_long_one_of_another_kind() {
    let steps = "+1s delay ana 1s 60s\n+0ms jitter ana 1ms 100ms\n+5s ana send room\n\
                 +60s ana send room\n";
    let ways = ways(&play(ANA, steps));
    let way = |at| ways.iter().find(|(left_at, _)| *left_at == at).expect("it was sent").1;
    assert_eq!((way(6_000), way(66_000)), (1_020, 20));
}

#[test]
fn a_short_fault_does_not_end_a_long_one_of_its_own_kind() {
    let steps = "+1s delay ana 1s 60s\n+0ms delay ana 2s 100ms\n+5s ana send room\n";
    assert!(ways(&play(ANA, steps)).contains(&(6_000, 2_020)));
}

#[test]
fn a_server_that_is_killed_for_a_minute_is_not_back_after_a_restart_of_a_second() {
    let records = play(ANA, "+1s kill 0 60s\n+0ms restart 0 1s\n+100s ana send room\n");
    let opened = times(&records, "node0", "opened", "");
    assert!(opened[0] == 40 && opened[1] > 61_000, "{opened:?}");
    assert!(times(&records, "node0", "lost", "connection refused").len() > 1);
}

#[test]
fn a_machine_that_sleeps_is_not_woken_by_the_end_of_a_shorter_sleep() {
    let steps = "+1s suspend ana 10s\n+1s suspend ana 60s\n+0ms driver-stall ana 1s\n\
                 +100s ana send room\n";
    assert_eq!(times(&play(ANA, steps), "node0", "wakes", ""), [62_000]);
}

#[test]
fn a_clock_that_stands_still_for_a_minute_goes_on_after_a_minute() {
    let cast = ANA.replace("seed 1\n", "seed 1\nset heartbeat 5s\n");
    let steps = "+1s clock-stop ana 60s\n+1s clock-stop ana 1s\n+90s ana send room\n";
    let beats = times(&play(&cast, steps), "node0", "sends", "heartbeat");
    assert!(beats.iter().all(|at| !(1_000..61_000).contains(at)), "{beats:?}");
}

#[test]
fn an_application_that_takes_nothing_for_a_minute_takes_nothing_for_a_minute() {
    let steps = "+1s stop-reading ana 60s\n+1s stop-reading ana 1s\n+5s database insert\n\
                 +90s ana send room\n";
    assert_eq!(times(&play(ANA, steps), "node0", "tells", "change INSERT"), [61_000]);
}

#[test]
fn a_client_that_is_fed_more_than_it_wants_drops_frames_and_says_so_when_its_application_reads() {
    let cast = ANA.replace("seed 1\n", "seed 1\nset events-max 4\n");
    let records =
        play(&cast, "+1s overfeed ana 10s\n+1s garbage-flood ana 400\n+20s ana send room\n");
    assert_eq!(times(&records, "node0", "tells", "rejoining: events overflowed"), [11_000]);
    assert_eq!(times(&records, "node0", "tells", "gap of messages").len(), 1);
}

#[test]
fn a_drain_is_over_when_the_world_is_healed() {
    let cast = "seed 1\nclient ana\nclient ben\ntopic room realtime:room\n\
                +0ms ana connect\n+0ms ben connect\n+0ms ana open room\n+0ms ben open room\n";
    let records = play(cast, "+1s drain 0 1m\n+1s ana hint\n");
    assert_eq!(times(&records, "server", "closes", "code: 1001"), [1_000]);
}

#[test]
fn a_connection_is_drained_when_its_first_turn_comes() {
    let cast = "seed 1\nclient ana\nclient ben\nclient cleo\ntopic room realtime:room\n\
                +0ms ana connect\n+0ms ben connect\n+0ms cleo connect\n+0ms ana open room\n";
    let records = play(cast, "+1s drain 0 20s\n+1s drain 0 2m\n+200s ana send room\n");
    // The second drain begins with the second connection; the third keeps its turn in the first.
    assert_eq!(times(&records, "server", "closes", "code: 1001"), [1_000, 2_000, 14_333]);
}

#[test]
fn a_driver_that_is_stuck_in_a_write_hears_at_once_that_its_connection_is_cut() {
    let steps = "+1s slow-writer ana 30s\n+0ms ana flood room 60\n+2s cut ana\n";
    let records = play(ANA, steps);
    assert_eq!(times(&records, "node0", "cut", ""), [3_000]);
    assert_eq!(times(&records, "node0", "tells", "disconnected")[0], 3_000);
}

#[test]
fn a_driver_that_is_stuck_in_a_write_to_nobody_gives_up_after_ten_seconds() {
    let steps = "+1s slow-writer ana 30s\n+0ms ana flood room 60\n+2s abandon ana\n+20s ana hint\n";
    let records = play(ANA, steps);
    // The last write before went through at 2.805 s.
    assert_eq!(times(&records, "node0", "lost", "WriteTimeout"), [12_805]);
    assert_eq!(times(&records, "node0", "tells", "disconnected")[0], 12_805);
}

#[test]
fn no_client_is_to_blame_for_a_flood_that_the_world_takes() {
    let steps = format!("+1s suspend ana 1h\n{}", "+0ms garbage-flood ana 10000\n".repeat(11));
    assert_eq!(run(ANA, &steps).0.finding, None);
}

#[test]
fn a_frame_that_is_too_large_is_not_taken_and_ends_the_connection() {
    let records = play(ANA, "+1s too-large ana\n+4s ana send room\n+30s ana send room\n");
    assert_eq!(times(&records, "server", "closes", "code: 1009"), [5_020]);
    assert_eq!(times(&records, "node0", "tells", "disconnected")[0], 5_040);
    assert_eq!(times(&records, "server", "sends", "  2 realtime:room phx_reply"), []);
}

#[test]
fn row_changes_stop_while_the_database_is_away_and_flow_again_when_it_is_back() {
    let steps =
        "+1s database-outage 10s\n+1s database insert\n+30s database insert\n+1s ana hint\n";
    let records = play(ANA, steps);
    assert_eq!(times(&records, "server", "tells", "Subscribed"), [160, 11_100]);
    assert_eq!(times(&records, "node0", "tells", "changes stopped"), [1_020]);
    assert_eq!(times(&records, "node0", "tells", "gap of changes"), [11_120]);
    // The first came before the channel was subscribed anew.
    assert_eq!(times(&records, "node0", "tells", "change INSERT"), [32_020]);
}

#[test]
fn a_channel_that_asks_for_rows_while_the_database_is_away_is_told_so_and_gets_them_later() {
    let cast = ANA.replace("+0ms ana connect", "+0ms database-outage 10s\n+0ms ana connect");
    let records = play(&cast, "+30s database insert\n+1s ana hint\n");
    assert_eq!(times(&records, "server", "sends", "realtime:room system")[0], 60);
    assert_eq!(times(&records, "node0", "tells", "changes stopped").len(), 1);
    assert_eq!(times(&records, "server", "tells", "Subscribed"), [10_100]);
    assert_eq!(times(&records, "node0", "tells", "change INSERT"), [30_020]);
}

#[test]
fn nothing_is_replayed_while_the_database_is_away() {
    let cast = "seed 1\nclient ana\ntopic feed realtime:feed private\n+0ms ana connect\n\
                +0ms ana open feed\n+1s database store feed\n";
    let records = play(cast, "+1s database-outage 30s\n+0ms cut ana\n+60s ana hint\n");
    let why = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert!(!times(&records, "server", "tells", why).is_empty());
    assert_eq!(times(&records, "node0", "tells", "recovered"), []);
    assert!(!times(&records, "node0", "tells", "gap of messages").is_empty());
}

#[test]
fn what_happens_in_a_database_that_is_away_happens_when_it_is_back() {
    let records = play(
        ANA,
        "+1s database-outage 10s\n+0ms database-outage 1s\n+1s database insert\n+60s ana hint\n",
    );
    assert_eq!(times(&records, "server", "tells", "Subscribed"), [160, 11_100]);
    let span = Duration::from_secs(11).as_millis();
    let gap = records.iter().find(|it| it.word == "tells" && it.detail.contains("gap of changes"));
    assert!(gap.expect("a gap").at.since_epoch().as_millis() > span);
}

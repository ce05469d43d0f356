//! What servers do wrong: each fault happens as its sentence says, and no client makes a mistake
//! because of it.

use core::time::Duration;

use realtime_sim::{Garbage, Record, Run, Scenario};

/// A client with one channel that has everything; steps follow.
const ANA: &str = "\
seed 1
client ana
topic room realtime:room presence ack rows
+0ms ana connect
+0ms ana open room
";

/// Two clients in one room.
const TWO: &str = "\
seed 1
client ana
client ben
topic room realtime:room presence ack rows
+0ms ben connect
+0ms ben open room
+0ms ben track room
+1s ana connect
";

/// A client with a channel whose broadcasts are stored, three of them before an outage and three in
/// it.
const FEED: &str = "\
seed 1
client ana
topic feed realtime:feed private
+0ms ana connect
+0ms ana open feed
+1s database store feed
+100ms database store feed
+100ms database store feed
+1s cut ana
+0ms database store feed
+0ms database store feed
+0ms database store feed
";

/// Plays a cast with further steps. Nothing may be found.
fn play(cast: &str, steps: &str) -> Vec<Record> {
    let scenario: Scenario = format!("{cast}{steps}").parse().expect("the scenario is one");
    let (report, records) = Run::new(&scenario).recorded();
    assert_eq!(report.finding, None, "{scenario}");
    records
}

/// When somebody did something, and the details of it that contain `what`.
fn all<'a>(records: &'a [Record], who: &str, word: &str, what: &str) -> Vec<(Duration, &'a str)> {
    let is_it = |record: &&Record| {
        record.who.to_string() == who && record.word == word && record.detail.contains(what)
    };
    records
        .iter()
        .filter(is_it)
        .map(|record| (record.at.since_epoch(), record.detail.trim_start()))
        .collect()
}

fn times(records: &[Record], who: &str, word: &str, what: &str) -> Vec<u64> {
    let found = all(records, who, word, what);
    found.into_iter().map(|(at, _)| at.as_millis() as u64).collect()
}

/// How many of `times` are within a span, in milliseconds.
fn within(times: &[u64], from: u64, to: u64) -> usize {
    times.iter().filter(|at| (from..to).contains(at)).count()
}

#[test]
fn a_late_reply_comes_behind_what_the_server_sent_meanwhile() {
    let steps =
        "+1s late-replies 0 2s 1\n+0ms ana send room\n+500ms database insert\n+9s ana send room\n";
    let records = play(ANA, steps);
    let replies = all(&records, "server", "sends", "  2 realtime:room phx_reply");
    assert_eq!(replies[0].0, Duration::from_millis(3_020));
    assert_eq!(times(&records, "server", "sends", "postgres_changes"), [1_500]);
}

#[test]
fn nothing_gets_past_the_late_reply_to_a_join() {
    let cast = ANA.replace("+0ms ana open room", "+0ms late-replies 0 2s 1\n+0ms ana open room");
    let records = play(&cast, "+500ms database insert\n+9s database insert\n");
    let first =
        records.iter().find(|record| record.word == "sends" && record.who.to_string() == "server");
    let first = first.expect("the server sends");
    assert_eq!(first.detail, "  1   1 realtime:room phx_reply");
    assert_eq!(first.at.since_epoch(), Duration::from_millis(2_060));
    assert_eq!(times(&records, "server", "sends", "presence_state")[0], 2_060);
}

#[test]
fn a_lost_reply_lets_a_push_time_out() {
    let records = play(
        ANA,
        "+1s lost-replies 0 1\n+0ms ana send room\n+40s hint ana\n"
            .replace("hint ana", "ana hint")
            .as_str(),
    );
    assert_eq!(all(&records, "server", "sends", "  2 realtime:room phx_reply"), []);
    assert_eq!(all(&records, "node0", "tells", "timed out").len(), 1);
}

#[test]
fn frames_come_twice() {
    let records = play(ANA, "+1s twice 0 1\n+0ms ana send room\n+2s ana send room\n");
    assert_eq!(all(&records, "server", "sends", "  2 realtime:room phx_reply").len(), 2);
    assert_eq!(all(&records, "server", "sends", "  3 realtime:room phx_reply").len(), 1);
}

#[test]
fn a_reply_bears_a_ref_that_nobody_used() {
    let records = play(ANA, "+1s wrong-refs 0 1\n+0ms ana send room\n+40s ana hint\n");
    assert_eq!(times(&records, "server", "sends", "987654321 realtime:room phx_reply"), [1_020]);
    assert_eq!(all(&records, "node0", "tells", "timed out").len(), 1);
}

#[test]
fn a_refused_join_holds_the_whole_connection_for_five_seconds() {
    let cast = "seed 1\nclient ana\ntopic room realtime:room\ntopic hall realtime:hall\n";
    let steps = "+0ms ana connect\n+0ms refuse-joins ana initializing 1\n+0ms ana open room\n\
                 +500ms ana open hall\n+10s ana send hall\n";
    let records = play(cast, steps);
    assert_eq!(times(&records, "server", "sends", "realtime:room phx_reply")[0], 5_060);
    assert_eq!(times(&records, "server", "receives", "realtime:hall phx_join"), [520]);
    assert_eq!(times(&records, "server", "sends", "realtime:hall phx_reply")[0], 5_060);
    assert_eq!(times(&records, "server", "tells", "Refused")[0], 60);
}

#[test]
fn a_join_is_refused_at_once() {
    let cast =
        ANA.replace("+0ms ana open", "+0ms refuse-joins-at-once ana initializing 2\n+0ms ana open");
    let records = play(&cast, "+20s ana send room\n");
    let refused = all(&records, "server", "tells", "Refused");
    assert_eq!(refused.len(), 2);
    assert!(refused[0].1.contains("Realtime is initializing the project connection"));
    assert_eq!(times(&records, "server", "sends", "phx_reply")[0], 60);
}

#[test]
fn a_refusal_for_a_tenant_that_is_not_there_ends_the_connection() {
    let cast =
        ANA.replace("+0ms ana open", "+0ms refuse-joins ana tenant-not-found 1\n+0ms ana open");
    let records = play(&cast, "+60s ana send room\n");
    assert_eq!(times(&records, "server", "sends", "phx_reply")[0], 5_060);
    assert_eq!(all(&records, "server", "closes", "code: 1001").len(), 1);
    assert_eq!(times(&records, "server", "closes", "code: 1001")[0], 5_060);
}

#[test]
fn a_slow_join_is_taken_in_the_end() {
    let cast = ANA.replace("+0ms ana open", "+0ms slow-join ana 3s\n+0ms ana open");
    let records = play(&cast, "+20s ana send room\n");
    assert_eq!(times(&records, "server", "receives", "phx_join"), [60]);
    assert_eq!(times(&records, "server", "tells", "Joined"), [3_060]);
}

#[test]
fn the_end_of_an_older_join_comes_late_and_ends_nothing() {
    for (fault, event) in [("stale-close", "phx_close"), ("stale-error", "phx_error")] {
        let records =
            play(ANA, &format!("+1s ana rebind room\n+1s {fault} ana room\n+1s ana send room\n"));
        let ends = all(&records, "server", "sends", event);
        let late = ends.iter().find(|(at, _)| *at == Duration::from_secs(2));
        assert_eq!(late.map(|(_, detail)| *detail), Some(&*format!("1   1 realtime:room {event}")));
        assert_eq!(within(&times(&records, "node0", "tells", "errored"), 1_500, 20_000), 0);
        assert_eq!(within(&times(&records, "node0", "sends", "phx_join"), 1_500, 20_000), 0);
    }
}

#[test]
fn heartbeats_are_not_answered_for_a_while() {
    let cast = ANA.replace("seed 1\n", "seed 1\nset heartbeat 5s\n");
    let records = play(&cast, "+1s heartless 0 20s\n+60s ana send room\n");
    let replies = times(&records, "server", "sends", "phoenix phx_reply");
    assert_eq!(within(&replies, 1_000, 21_000), 0);
    assert!(within(&replies, 21_000, 61_000) > 0);
    assert!(!all(&records, "node0", "tells", "disconnected socket1: heartbeat").is_empty());
}

#[test]
fn a_row_subscription_takes_long() {
    let cast = ANA.replace("+0ms ana connect", "+0ms slow-subscribe 0 7s 1s\n+0ms ana connect");
    let records = play(&cast, "+10s ana rebind room\n+10s ana send room\n");
    // The second one is as usual again.
    assert_eq!(times(&records, "server", "tells", "Subscribed"), [7_060, 10_120]);
}

#[test]
fn a_snapshot_comes_behind_diffs_that_were_made_later() {
    let steps =
        "+0ms late-snapshot 0 2s 1\n+0ms ana open room\n+1s ben track room\n+9s ana send room\n";
    let records = play(TWO, steps);
    let diffs = times(&records, "node0", "receives", "presence_diff");
    let states = times(&records, "node0", "receives", "presence_state");
    assert_eq!((states[0], diffs[0]), (3_080, 2_040));
}

#[test]
fn a_late_snapshot_does_not_outlive_its_channel() {
    let steps =
        "+0ms late-snapshot 0 20s 1\n+0ms ana open room\n+1s ana rebind room\n+9s ana send room\n";
    let records = play(TWO, steps);
    let sent = all(&records, "server", "sends", "presence_state");
    let of_ana: Vec<u64> =
        sent.iter().map(|(at, _)| at.as_millis() as u64).filter(|at| *at > 1_000).collect();
    // Right before the reply to the second join, and behind it.
    assert_eq!(of_ana, [2_020, 2_020]);
}

#[test]
fn presence_comes_with_the_other_kind_of_join_ref() {
    let steps =
        "+0ms other-join-refs 0 3\n+0ms ana open room\n+1s ben track room\n+9s ana send room\n";
    let records = play(TWO, steps);
    let state = all(&records, "server", "sends", "presence_state");
    assert_eq!(state[1].1, "-   - realtime:room presence_state");
    let diffs = all(&records, "server", "sends", "1   - realtime:room presence_diff");
    assert_eq!(diffs.len(), 2);
}

#[test]
fn the_limit_of_joins_is_hit() {
    let cast = ANA.replace("+0ms ana open", "+0ms join-rate ana 10s\n+0ms ana open");
    let records = play(&cast, "+90s ana send room\n");
    assert!(all(&records, "server", "tells", "Refused")[0].1.contains("Too many joins per second"));
    assert_eq!(times(&records, "server", "sends", "phx_reply")[0], 5_060);
    assert_eq!(times(&records, "server", "closes", "code: 1001"), [5_060]);
    let lost = all(&records, "node0", "lost", "status: 429");
    assert!(lost.len() == 1 && lost[0].1.contains("retry_after: Some("), "{lost:?}");
}

#[test]
fn a_replay_lacks_its_first_message() {
    let whole = play(FEED, "+60s ana send feed\n");
    let partial = play(FEED, "+0ms partial-replay 0 1\n+60s ana send feed\n");
    let replayed = |records: &[Record]| {
        within(&times(records, "node0", "receives", "broadcast"), 2_300, 60_000)
    };
    assert_eq!((replayed(&whole), replayed(&partial)), (6, 5));
    assert_eq!(all(&partial, "node0", "tells", "recovered 3").len(), 1);
}

#[test]
fn a_replayed_message_comes_twice_and_is_told_once() {
    let records = play(FEED, "+0ms twice-replay 0 4\n+60s ana send feed\n");
    assert_eq!(within(&times(&records, "node0", "receives", "broadcast"), 2_300, 60_000), 10);
    assert_eq!(all(&records, "node0", "tells", "broadcast n").len(), 6);
}

#[test]
fn every_kind_of_garbage_comes_on_both_versions_and_harms_nothing() {
    for vsn in ["", "set vsn1 on\n"] {
        for what in Garbage::ALL {
            let cast = ANA.replace("client ana", &format!("{vsn}client ana"));
            let steps = format!(
                "+1s garbage ana {}\n+1s database insert\n+1s ana send room\n",
                what.word()
            );
            let records = play(&cast, &steps);
            assert_eq!(
                times(&records, "node0", "receives", "").iter().filter(|at| **at == 1_020).count(),
                1
            );
            assert_eq!(all(&records, "node0", "tells", "change INSERT").len(), 1, "{what:?}");
            assert_eq!(all(&records, "node0", "tells", "disconnected").len(), 1, "{what:?}");
        }
    }
}

#[test]
fn garbage_comes_in_floods() {
    let records = play(ANA, "+1s garbage-flood ana 120\n+1s database insert\n+1s ana send room\n");
    assert_eq!(within(&times(&records, "node0", "receives", ""), 1_020, 1_021), 120);
    assert_eq!(all(&records, "node0", "tells", "change INSERT").len(), 1);
}

#[test]
fn a_giant_frame_is_not_taken() {
    let records = play(ANA, "+1s giant-frame ana\n+1s database insert\n+1s ana send room\n");
    assert_eq!(times(&records, "node0", "receives", "5000001 bytes"), [1_020]);
    assert_eq!(times(&records, "node0", "tells", "violation"), [1_020]);
    assert_eq!(all(&records, "node0", "tells", "change INSERT").len(), 1);
}

#[test]
fn ids_change_with_the_next_join_and_changes_arrive_all_the_same() {
    let steps = "+1s other-ids 0\n+0ms database insert\n+1s ana rebind room\n+1s database insert\n\
                 +1s other-ids 0\n+0ms ana rebind room\n+1s database insert\n+1s ana send room\n";
    let records = play(ANA, steps);
    assert_eq!(all(&records, "node0", "tells", "change INSERT").len(), 3);
}

#[test]
fn a_reply_from_before_the_current_join_ends_nothing() {
    // The server has shut the channel when the push comes, and takes the join behind it.
    let steps = "+1s shut ana room presence-rate\n+0ms ana send room\n+0ms ana rebind room\n\
                 +5s ana send room\n";
    let records = play(ANA, steps);
    assert_eq!(all(&records, "server", "sends", "  2 realtime:room phx_reply").len(), 1);
    assert_eq!(all(&records, "node0", "tells", "errored"), []);
    assert_eq!(all(&records, "server", "tells", "Joined").len(), 2);
}

#[test]
fn a_late_snapshot_of_an_older_join_is_not_the_one_of_the_next_on_version_1() {
    // Without a join_ref nothing but the order tells them apart: a join is answered first.
    let cast = "seed 1\nset vsn1 on\nclient ana\ntopic seat realtime:seat presence\n";
    let steps = "+0ms ana connect\n+0ms ana open seat\n+0ms ana track seat\n\
                 +0ms late-snapshot 0 100ms 2\n+100ms ana rebind seat\n+5s ana send seat\n";
    let records = play(cast, steps);
    assert_eq!(times(&records, "server", "sends", "presence_state"), [120, 220]);
    assert_eq!(all(&records, "node0", "tells", "presence +0 ~0 -1"), []);
}

//! The accounts of numbered messages, and what may be said to be missing.

use super::*;

#[test]
fn numbers_that_leave_out_of_order_are_found() {
    let mut bench = Bench::live(ANA);
    bench.sends_number(ANA, 2);
    assert_eq!(bench.found(), "");
    bench.sends_number(ANA, 1);
    assert_eq!(bench.found(), "G1");
}

#[test]
fn numbers_that_are_told_in_another_order_than_they_came_are_found() {
    let mut bench = Bench::live(ANA);
    bench.receives_number(ANA, "null", 1, "");
    bench.receives_number(ANA, "null", 2, "");
    bench.tells_of(ANA, 1, came(2));
    assert_eq!(bench.found(), "");
    bench.tells_of(ANA, 1, came(1));
    assert_eq!(bench.found(), "G2");
}

#[test]
fn a_row_change_that_is_told_as_of_another_table_is_found() {
    let mut bench = Bench::live(ANA);
    for (number, misrouted, rule) in [(1, false, ""), (2, true, "manners")] {
        let changes =
            format!(r##"["1",null,"realtime:room","postgres_changes",{{"#":{number}}}]"##);
        bench.receives(ANA, &changes);
        bench.tells_of(ANA, 1, ChannelTold::Change { number: Some(number), misrouted });
        assert_eq!(bench.found(), rule, "{number}");
    }
}

#[test]
fn a_number_that_never_came_is_found() {
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, came(5));
    assert_eq!(bench.found(), "G2");
}

#[test]
fn a_gap_begins_where_all_had_come_and_does_not_end_in_the_future() {
    let second = Duration::from_secs(1);
    let beats = r#"[null,"2","phoenix","heartbeat",{}]"#;
    let answers = r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    for (from, to, rule) in [
        (7, 10, ""),
        (10, 10, ""),
        // The heartbeat left at 7 s, and its answer came before the number.
        (6, 10, "G10"),
        (7, 11, "G10"),
        (10, 9, "G10"),
    ] {
        for is_gap in [true, false] {
            let mut bench = Bench::live(ANA);
            bench.pass(7_000);
            bench.sends(ANA, beats);
            bench.pass(1_000);
            bench.receives(ANA, answers);
            bench.receives_number(ANA, "null", 1, "");
            bench.tells_of(ANA, 1, came(1));
            bench.pass(2_000);
            bench.tells_of(ANA, 1, ChannelTold::Rejoining);
            let (from, to) = (Instant::EPOCH + second * from, Instant::EPOCH + second * to);
            let stream = Missed::Messages;
            let gap = ChannelTold::Gap { stream, from, to };
            let recovered = ChannelTold::Recovered { contiguous: true, from, to };
            bench.tells_of(ANA, 1, if is_gap { gap } else { recovered });
            assert_eq!(bench.found(), rule, "{from} {to} {is_gap}");
        }
    }
}

#[test]
fn the_answer_to_a_join_that_nobody_waits_for_any_more_proves_nothing() {
    for (answered_after, rule) in [(9_000, "G10"), (11_000, "")] {
        let mut bench = Bench::live(ANA);
        bench.pass(1_000);
        bench.join(ANA, "2");
        bench.pass(answered_after);
        bench.accepted(ANA, "2");
        bench.receives_number(ANA, "null", 1, "");
        bench.tells_of(ANA, 1, came(1));
        let (from, to) = (Instant::EPOCH, bench.now);
        bench.tells_of(ANA, 1, ChannelTold::Rejoining);
        bench.tells_of(ANA, 1, ChannelTold::Gap { stream: Missed::Messages, from, to });
        assert_eq!(bench.found(), rule, "{answered_after}");
    }
}

#[test]
fn what_comes_before_a_gap_is_told_does_not_end_it() {
    let mut bench = Bench::live(ANA);
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.pass(1_000);
    bench.sends(ANA, r#"[null,"2","phoenix","heartbeat",{}]"#);
    bench.receives(ANA, r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    bench.receives_number(ANA, "null", 1, "");
    bench.tells_of(ANA, 1, came(1));
    let (from, to) = (Instant::EPOCH, bench.now);
    bench.tells_of(ANA, 1, ChannelTold::Gap { stream: Missed::Messages, from, to });
    assert_eq!(bench.found(), "");
}

#[test]
fn a_heartbeat_that_waited_for_its_driver_was_asked_for_earlier() {
    let mut bench = Bench::live(ANA);
    bench.pass(1_000);
    let stuck_since = bench.now;
    bench.oracle.on_waits(ANA, stuck_since);
    bench.pass(1_000);
    bench.sends(ANA, r#"[null,"2","phoenix","heartbeat",{}]"#);
    bench.receives(ANA, r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    bench.receives_number(ANA, "null", 1, "");
    bench.tells_of(ANA, 1, came(1));
    let gap = |from| ChannelTold::Gap { stream: Missed::Messages, from, to: from };
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.tells_of(ANA, 1, gap(stuck_since));
    assert_eq!(bench.found(), "");
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.tells_of(ANA, 1, gap(Instant::EPOCH));
    assert_eq!(bench.found(), "G10");
}

#[test]
fn a_message_that_neither_comes_nor_is_in_a_gap_is_found() {
    let mut bench = Bench::live(ANA);
    bench.pass(1_000);
    bench.announces(1, false);
    bench.settles();
    assert_eq!(bench.found(), "G10");
}

#[test]
fn a_message_that_comes_or_is_in_a_gap_is_owed_no_more() {
    let mut bench = Bench::live(ANA);
    bench.announces(1, false);
    bench.receives_number(ANA, "null", 1, "");
    bench.tells_of(ANA, 1, came(1));
    bench.pass(1_000);
    bench.announces(2, false);
    let (from, to) = (bench.now, bench.now);
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.tells_of(ANA, 1, ChannelTold::Gap { stream: Missed::Messages, from, to });
    bench.settles();
    assert_eq!(bench.found(), "");
}

#[test]
fn a_gap_of_another_stream_or_another_time_excuses_nothing() {
    for (stream, millis) in [(Missed::Changes, 0), (Missed::Messages, 1)] {
        let mut bench = Bench::live(ANA);
        bench.announces(1, false);
        let from = bench.now + Duration::from_millis(millis);
        bench.pass(millis);
        bench.tells_of(ANA, 1, ChannelTold::Rejoining);
        bench.tells_of(ANA, 1, ChannelTold::Gap { stream, from, to: from });
        bench.tells_of(ANA, 1, ChannelTold::Joined);
        bench.tells_of(ANA, 1, ChannelTold::Live);
        assert_eq!(bench.found(), "", "{stream:?}");
        bench.settles();
        assert_eq!(bench.found(), "G10", "{stream:?}");
    }
}

#[test]
fn a_row_change_that_is_missing_is_found() {
    let mut bench = Bench::live(ANA);
    bench.oracle.on_change(1, &bench.world.nodes, bench.now);
    bench.settles();
    assert_eq!(bench.found(), "G10");
}

#[test]
fn a_broadcast_of_another_client_that_is_missing_is_found_and_ones_own_is_not() {
    for (sender, rule) in [(ANA, ""), (BEN, "G10")] {
        let mut bench = Bench::live(ANA);
        let at = At { server: 0, session: bench.sessions[sender.0] };
        let frame = Frame::text(r##"["1","2","realtime:room","broadcast",{"payload":{"#":1}}]"##);
        bench.oracle.on_server_receives(at, sender, &frame, bench.now);
        bench.oracle.on_server_took(true, &bench.world.nodes, bench.now);
        bench.settles();
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn a_broadcast_that_waited_at_the_server_is_owed_once_it_is_sent_on_to_who_was_there_before_it() {
    for (joins_again, rule) in [(false, "G10"), (true, "")] {
        let mut bench = Bench::live(ANA);
        let at = At { server: 0, session: bench.sessions[1] };
        let frame = Frame::text(r##"["1","2","realtime:room","broadcast",{"payload":{"#":1}}]"##);
        bench.oracle.on_server_receives(at, BEN, &frame, bench.now);
        bench.oracle.on_server_took(false, &bench.world.nodes, bench.now);
        bench.settles();
        assert_eq!(bench.found(), "");
        bench.pass(1_000);
        if joins_again {
            bench.join(ANA, "2");
            bench.accepted(ANA, "2");
        }
        let sent = Frame::text(r##"[null,null,"realtime:room","broadcast",{"payload":{"#":1}}]"##);
        bench.oracle.on_server_says(0, &sent, &bench.world.nodes, bench.now);
        bench.settles();
        assert_eq!(bench.found(), rule, "{joins_again}");
    }
}

/// The heartbeat is answered, a number comes behind that, and then all since the beginning is said to
/// be missing.
fn answers_and_loses(bench: &mut Bench) {
    bench.receives(ANA, r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    bench.receives_number(ANA, "null", 1, "");
    bench.tells_of(ANA, 1, came(1));
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    let (from, to) = (Instant::EPOCH, bench.now);
    bench.tells_of(ANA, 1, ChannelTold::Gap { stream: Missed::Messages, from, to });
}

#[test]
fn what_comes_behind_a_frame_that_was_dropped_is_no_proof_that_all_came() {
    for (drops, rule) in [(false, "G10"), (true, "")] {
        let mut bench = Bench::live(ANA);
        if drops {
            bench.oracle.on_node_drops(ANA, bench.now);
        }
        bench.pass(1_000);
        bench.sends(ANA, r#"[null,"2","phoenix","heartbeat",{}]"#);
        answers_and_loses(&mut bench);
        assert_eq!(bench.found(), rule, "{drops}");
    }
}

#[test]
fn once_it_is_told_what_was_dropped_a_further_channel_has_lost_nothing() {
    for (is_told, rule) in [(false, ""), (true, "G10")] {
        let mut bench = Bench::live(ANA);
        bench.oracle.on_node_drops(ANA, bench.now);
        let gap =
            ChannelTold::Gap { stream: Missed::Messages, from: Instant::EPOCH, to: bench.now };
        if is_told {
            bench.tells_of(ANA, 1, ChannelTold::Rejoining);
            bench.tells_of(ANA, 1, gap.clone());
        }
        bench.tells_of(ANA, 2, ChannelTold::Joined);
        bench.tells_of(ANA, 2, ChannelTold::Live);
        assert_eq!(bench.found(), "");
        bench.tells_of(ANA, 2, gap);
        assert_eq!(bench.found(), rule, "{is_told}");
    }
}

#[test]
fn a_contiguous_replay_that_lacks_a_stored_message_is_found() {
    for (stored, rule) in [(false, ""), (true, "G10")] {
        let mut bench = Bench::live(ANA);
        bench.announces(1, stored);
        let (from, to) = (Instant::EPOCH, bench.now);
        bench.tells_of(ANA, 1, ChannelTold::Recovered { contiguous: true, from, to });
        bench.settles();
        assert_eq!(bench.found(), rule);
    }
}

#[test]
fn a_message_that_is_told_twice_is_found_when_it_was_replayed_or_has_an_id() {
    let replayed = ",\"meta\":{\"replayed\":true}";
    for (meta, has_id, rule) in [("", false, ""), ("", true, "G10"), (replayed, false, "G10")] {
        let mut bench = Bench::live(ANA);
        for meta in ["", meta] {
            bench.receives_number(ANA, "null", 1, meta);
            bench.tells_of(ANA, 1, ChannelTold::Broadcast { number: Some(1), has_id });
        }
        assert_eq!(bench.found(), rule, "{meta} {has_id}");
    }
}

#[test]
fn a_clock_that_goes_back_takes_what_its_client_did_not_see_with_it() {
    let mut bench = Bench::live(ANA);
    bench.pass(10_000);
    bench.announces(1, false);
    bench.oracle.on_clock_back(ANA, Instant::EPOCH);
    let (from, to) = (Instant::EPOCH, Instant::EPOCH);
    bench.tells_of(ANA, 1, ChannelTold::Rejoining);
    bench.tells_of(ANA, 1, ChannelTold::Gap { stream: Missed::Messages, from, to });
    bench.settles();
    assert_eq!(bench.found(), "");
}

#[test]
fn an_answer_to_what_was_asked_before_a_sleep_proves_nothing() {
    for (sleeps, rule) in [(false, "G10"), (true, "")] {
        let mut bench = Bench::live(ANA);
        bench.pass(1_000);
        bench.sends(ANA, r#"[null,"2","phoenix","heartbeat",{}]"#);
        if sleeps {
            bench.oracle.on_woke(ANA, true, bench.now);
        }
        answers_and_loses(&mut bench);
        assert_eq!(bench.found(), rule, "{sleeps}");
    }
}

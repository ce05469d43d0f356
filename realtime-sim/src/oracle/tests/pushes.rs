//! How pushes end.

use super::*;

/// A push of a channel whose broadcasts ask for a reply, or do not; it left, or did not.
fn pushed(asks: bool, leaves: bool) -> Bench {
    let mut bench = Bench::new();
    bench.tells(ANA, Told::Connected { connection: 0 });
    let config = format!("{{\"config\":{{\"broadcast\":{{\"ack\":{asks}}}}}}}");
    bench.sends(ANA, &format!("[\"1\",\"1\",\"realtime:room\",\"phx_join\",{config}]"));
    bench.accepted(ANA, "1");
    bench.tells_of(ANA, 1, ChannelTold::Joined);
    bench.oracle.on_send(ANA, ROOM, 5);
    bench.oracle.on_drained(ANA, bench.now, bench.now);
    if leaves {
        bench.sends_number(ANA, 5);
    }
    assert_eq!(bench.found(), "");
    bench
}

fn replies(bench: &mut Bench, status: &str) {
    let reply = format!("{{\"status\":\"{status}\",\"response\":{{}}}}");
    bench.receives(ANA, &format!("[\"1\",\"9\",\"realtime:room\",\"phx_reply\",{reply}]"));
}

fn ends(bench: &mut Bench, end: PushEnd) -> &'static str {
    bench.tells_of(ANA, 1, ChannelTold::Ended { number: 5, end });
    bench.found()
}

#[test]
fn an_end_that_cannot_be_is_found() {
    use PushEnd::{Dropped, Error, Expired, Interrupted, Ok, Sent, TimedOut};
    for (asks, leaves, fine) in [
        (true, true, &[TimedOut, Interrupted][..]),
        (false, true, &[Sent]),
        (true, false, &[Dropped, Expired, TimedOut, Interrupted]),
        (false, false, &[Dropped, Expired, TimedOut, Interrupted]),
    ] {
        for end in [Ok, Error, Sent, TimedOut, Interrupted, Expired, Dropped] {
            let rule = if fine.contains(&end) { "" } else { "G3" };
            assert_eq!(ends(&mut pushed(asks, leaves), end), rule, "{asks} {leaves} {end:?}");
        }
    }
}

#[test]
fn a_reply_is_told_as_it_came() {
    use PushEnd::{Error, Interrupted, Ok, TimedOut};
    for (status, says) in [("ok", Ok), ("error", Error)] {
        for end in [Ok, Error, Interrupted, TimedOut] {
            let mut bench = pushed(true, true);
            replies(&mut bench, status);
            let rule = if end == says { "" } else { "G3" };
            assert_eq!(ends(&mut bench, end), rule, "{status} {end:?}");
        }
    }
}

#[test]
fn a_reply_may_come_while_its_push_has_ended_and_nobody_took_the_news() {
    let mut bench = pushed(true, true);
    bench.oracle.on_waits(ANA, bench.now);
    replies(&mut bench, "ok");
    assert_eq!(ends(&mut bench, PushEnd::TimedOut), "");
}

#[test]
fn a_push_that_leaves_after_it_was_given_up_is_found() {
    for (end, rule) in [(PushEnd::Dropped, "G3"), (PushEnd::Expired, "G3"), (PushEnd::TimedOut, "")]
    {
        let mut bench = pushed(true, false);
        ends(&mut bench, end);
        bench.sends_number(ANA, 5);
        assert_eq!(bench.found(), rule, "{end:?}");
    }
}

#[test]
fn a_push_of_a_live_channel_that_never_ends_is_found_while_it_is_live() {
    let mut bench = pushed(true, true);
    bench.settles();
    assert_eq!(bench.found(), "", "it is not live yet");
    bench.tells_of(ANA, 1, ChannelTold::Live);
    bench.settles();
    assert_eq!(bench.found(), "G3");
}

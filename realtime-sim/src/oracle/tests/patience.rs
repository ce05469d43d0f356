//! How long clients wait.

use realtime_proto::wire::Sender;

use super::*;
use crate::oracle::patience::{Ended, Patience};
use crate::oracle::read;
use crate::subject::Command;

/// A manager.
const BEN: NodeId = NodeId(1);

const fn at(seconds: u64) -> Instant {
    Instant::from_epoch(Duration::from_secs(seconds))
}

fn script() -> Script {
    let scenario: Scenario = "client ana\nmanager ben\ntopic room realtime:room\n".parse().unwrap();
    Script::new(&scenario.cast)
}

/// A node that is connected and does at once what it is asked for.
fn connected(node: NodeId) -> Patience {
    let mut patience = Patience::default();
    patience.on_asked(node, &Command::Connect, true);
    assert_eq!(patience.on_attempt((node, 0), LINK, at(0)), Ok(()));
    patience.on_opened(LINK);
    assert_eq!(patience.on_drained(node, at(0)), Ok(()));
    patience
}

fn leaves(patience: &mut Patience, node: NodeId, event: &str, now: u64) -> Verdict {
    let topic = if event == "heartbeat" { "phoenix" } else { "realtime:room" };
    let frame = Frame::text(format!("[\"1\",\"1\",\"{topic}\",\"{event}\",{{}}]"));
    let envelope = read::read(Sender::Client, &frame).unwrap();
    patience.on_leaves((node, LINK), &envelope, &script(), (at(now), at(now)))
}

fn answers(patience: &mut Patience, topic: &str) {
    let reply = "{\"status\":\"ok\",\"response\":{}}";
    let frame = Frame::text(format!("[\"1\",\"1\",\"{topic}\",\"phx_reply\",{reply}]"));
    let envelope = read::read(Sender::Server, &frame).unwrap();
    patience.on_arrives(LINK, &envelope, topic != "phoenix");
}

fn lost(
    patience: &mut Patience,
    cause: CauseKind,
    was_live: bool,
    after: u64,
    now: u64,
) -> Verdict {
    patience.on_gone(LINK);
    let retry_at = Some(at(now + after));
    let ended = Ended { connection: 0, cause, retry_at, was_live };
    patience.on_disconnected(ANA, ended, &script(), at(now))
}

fn errored(patience: &mut Patience, cause: CauseKind, after: u64, now: u64) -> Verdict {
    let told = (cause, Some(at(now + after)));
    patience.on_errored(ANA, ROOM, told, &script(), at(now))
}

#[track_caller]
fn fails(verdict: Verdict, rule: &str) {
    assert_eq!(verdict.map_err(|(broken, _)| broken), Err(rule));
}

#[test]
fn what_is_tried_before_the_time_that_was_told_is_found_unless_somebody_asks() {
    type Cause = fn(&mut Patience);
    let nothing: Cause = |_| {};
    let asked: Cause = |patience| patience.on_asked(ANA, &Command::Connect, true);
    let hung: Cause = |patience| patience.on_hindered(ANA);
    for (cause, rule) in [(nothing, Err("manners")), (asked, Ok(())), (hung, Ok(()))] {
        let mut patience = connected(ANA);
        assert_eq!(lost(&mut patience, CauseKind::GoingAway, false, 5, 10), Ok(()));
        cause(&mut patience);
        let verdict = patience.on_attempt((ANA, 0), LINK, at(14));
        assert_eq!(verdict.map_err(|(broken, _)| broken), rule);

        let mut patience = connected(ANA);
        assert_eq!(errored(&mut patience, CauseKind::ServerRestarting, 5, 10), Ok(()));
        cause(&mut patience);
        let verdict = leaves(&mut patience, ANA, "phx_join", 14);
        assert_eq!(verdict.map_err(|(broken, _)| broken), rule);
    }
}

#[test]
fn an_answer_that_is_waited_for_too_long_is_found() {
    let mut patience = connected(ANA);
    assert_eq!(leaves(&mut patience, ANA, "heartbeat", 25), Ok(()));
    assert_eq!(lost(&mut patience, CauseKind::HeartbeatTimeout, false, 1, 35), Ok(()));
    let mut patience = connected(ANA);
    assert_eq!(leaves(&mut patience, ANA, "heartbeat", 25), Ok(()));
    fails(lost(&mut patience, CauseKind::HeartbeatTimeout, false, 1, 36), "G8");
    let mut patience = connected(ANA);
    assert_eq!(leaves(&mut patience, ANA, "heartbeat", 25), Ok(()));
    patience.on_hindered(ANA);
    assert_eq!(lost(&mut patience, CauseKind::HeartbeatTimeout, false, 1, 36), Ok(()));

    let mut patience = connected(ANA);
    assert_eq!(leaves(&mut patience, ANA, "phx_join", 1), Ok(()));
    assert_eq!(errored(&mut patience, CauseKind::JoinTimeout, 1, 11), Ok(()));
    fails(errored(&mut patience, CauseKind::JoinTimeout, 1, 12), "G8");
}

#[test]
fn whoever_is_asked_to_look_after_its_connection_does_it_at_once() {
    let hint = |patience: &mut Patience| patience.on_asked(ANA, &Command::Hint, true);
    let mut patience = connected(ANA);
    hint(&mut patience);
    fails(patience.on_drained(ANA, at(1)), "manners");
    hint(&mut patience);
    assert_eq!(leaves(&mut patience, ANA, "heartbeat", 1), Ok(()));
    assert_eq!(patience.on_drained(ANA, at(1)), Ok(()));
    answers(&mut patience, "phoenix");
    hint(&mut patience);
    fails(patience.on_drained(ANA, at(1)), "manners");

    assert_eq!(lost(&mut patience, CauseKind::GoingAway, false, 5, 10), Ok(()));
    hint(&mut patience);
    fails(patience.on_drained(ANA, at(11)), "manners");
    hint(&mut patience);
    assert_eq!(patience.on_attempt((ANA, 0), LINK, at(11)), Ok(()));
    assert_eq!(patience.on_drained(ANA, at(11)), Ok(()));
}

#[test]
fn a_manager_keeps_what_nobody_holds_for_as_long_as_it_is_set() {
    let mut patience = connected(BEN);
    assert_eq!(leaves(&mut patience, BEN, "phx_join", 1), Ok(()));
    patience.on_given_up(BEN, ROOM, at(5));
    assert_eq!(leaves(&mut patience, BEN, "phx_leave", 5), Ok(()), "it was not joined");
    answers(&mut patience, "realtime:room");
    fails(leaves(&mut patience, BEN, "phx_leave", 5), "manners");
    assert_eq!(leaves(&mut patience, BEN, "phx_leave", 6), Ok(()));
}

#[test]
fn what_was_well_is_tried_again_as_if_for_the_first_time() {
    assert_eq!(lost(&mut connected(ANA), CauseKind::GoingAway, true, 1, 10), Ok(()));
    assert_eq!(lost(&mut connected(ANA), CauseKind::GoingAway, false, 9, 10), Ok(()));
    fails(lost(&mut connected(ANA), CauseKind::GoingAway, true, 2, 10), "manners");
    for (live_at, after, rule) in [(0, 1, Ok(())), (0, 2, Err("manners")), (1, 2, Ok(()))] {
        let mut patience = connected(ANA);
        patience.on_live(ANA, ROOM, at(live_at));
        let verdict = errored(&mut patience, CauseKind::ChannelCrashed, after, 60);
        assert_eq!(verdict.map_err(|(broken, _)| broken), rule, "{live_at} {after}");
    }
}

//! What is nobody's guarantee and everybody's expectation.

use realtime_proto::wire::Sender;

use super::*;
use crate::oracle::conduct::Conduct;
use crate::oracle::read;
use crate::subject::Command;

const fn at(seconds: u64) -> Instant {
    Instant::from_epoch(Duration::from_secs(seconds))
}

const JOIN: &str = r#"["1","1","realtime:a","phx_join",{}]"#;
const REFUSAL: &str = r#"["1","1","realtime:a","phx_reply",{"status":"error",
    "response":{"reason":"InvalidJWTToken: Token has expired 3 seconds ago"}}]"#;

/// A node that wants to be connected and has begun to.
fn connecting() -> Conduct {
    let mut conduct = Conduct::default();
    asks(&mut conduct, Command::Connect, 0);
    assert_eq!(conduct.on_attempt((ANA, 0), LINK, at(0)), Ok(()));
    conduct
}

fn asks(conduct: &mut Conduct, command: Command<'_>, now: u64) {
    let name = |topic: TopicId| Some(["realtime:a", "realtime:b"][topic.index()].to_owned());
    conduct.on_asked(ANA, &command, false, name, at(now));
}

fn leaves(conduct: &mut Conduct, text: &'static str) -> Verdict {
    let frame = Frame::text(text);
    let envelope = read::read(Sender::Client, &frame).expect("a frame of a client");
    conduct.on_leaves(ANA, LINK, &envelope, envelope.topic.starts_with("realtime:"))
}

fn arrives(conduct: &mut Conduct, text: &'static str) {
    let frame = Frame::text(text);
    let envelope = read::read(Sender::Server, &frame).expect("a frame of a server");
    conduct.on_arrives(LINK, &envelope);
}

fn ends(conduct: &mut Conduct, cause: CauseKind, after: Option<u64>, now: u64) -> Verdict {
    conduct.on_disconnected((ANA, 0), cause, after.map(Duration::from_secs), at(now))
}

#[track_caller]
fn fails(verdict: Verdict, rule: &str) {
    assert_eq!(verdict.map_err(|(broken, _)| broken), Err(rule));
}

#[test]
fn whoever_disconnected_may_not_connect() {
    let mut conduct = connecting();
    asks(&mut conduct, Command::Disconnect, 1);
    fails(conduct.on_attempt((ANA, 0), LINK + 1, at(2)), "manners");
}

#[test]
fn who_was_told_to_wait_waits_unless_asked() {
    let mut conduct = connecting();
    conduct.on_told_to_wait(LINK, at(5));
    fails(conduct.on_attempt((ANA, 0), LINK + 1, at(4)), "manners");
    conduct.on_told_to_wait(LINK, at(9));
    assert_eq!(conduct.on_attempt((ANA, 0), LINK + 2, at(9)), Ok(()));
    conduct.on_told_to_wait(LINK, at(19));
    asks(&mut conduct, Command::Hint, 10);
    assert_eq!(conduct.on_attempt((ANA, 0), LINK + 3, at(10)), Ok(()));
}

#[test]
fn what_is_asked_of_a_channel_does_not_hurry_the_connection() {
    let topic = TopicId(0);
    for command in [Command::Send(topic, 1), Command::Open(topic), Command::Rejoin(topic)] {
        let mut conduct = connecting();
        conduct.on_told_to_wait(LINK, at(5));
        asks(&mut conduct, command, 1);
        fails(conduct.on_attempt((ANA, 0), LINK + 1, at(4)), "manners");
    }
}

#[test]
fn who_gave_up_need_not_wait_once_asked() {
    let mut conduct = connecting();
    conduct.on_told_to_wait(LINK, at(5));
    assert_eq!(ends(&mut conduct, CauseKind::NotAnEndpoint, None, 1), Ok(()));
    assert_eq!(conduct.on_attempt((ANA, 0), LINK + 1, at(2)), Ok(()));
}

#[test]
fn equal_delays_are_no_chance() {
    let mut conduct = connecting();
    let lost = CauseKind::ConnectionLost;
    for link in 1..=2 {
        assert_eq!(ends(&mut conduct, lost, Some(1), 1), Ok(()));
        assert_eq!(conduct.on_attempt((ANA, 0), LINK + link, at(2)), Ok(()));
    }
    fails(ends(&mut conduct, lost, Some(1), 3), "storm");
}

#[test]
fn what_comes_back_is_not_given_up() {
    fails(ends(&mut connecting(), CauseKind::ClosedNormally, None, 1), "G8");
    assert_eq!(ends(&mut connecting(), CauseKind::NotAnEndpoint, None, 1), Ok(()));
}

#[test]
fn one_channel_does_not_cost_the_others_their_connection() {
    fails(ends(&mut connecting(), CauseKind::ChannelCrashed, Some(1), 1), "manners");
}

#[test]
fn only_a_heartbeat_without_an_answer_is_missed() {
    let missed = CauseKind::HeartbeatTimeout;
    fails(ends(&mut connecting(), missed, Some(1), 1), "manners");
    let mut conduct = connecting();
    assert_eq!(leaves(&mut conduct, r#"[null,"3","phoenix","heartbeat",{}]"#), Ok(()));
    let answer = r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    arrives(&mut conduct, answer);
    fails(ends(&mut conduct, missed, Some(1), 1), "manners");
    let mut conduct = connecting();
    assert_eq!(leaves(&mut conduct, r#"[null,"3","phoenix","heartbeat",{}]"#), Ok(()));
    assert_eq!(ends(&mut conduct, missed, Some(1), 11), Ok(()));
}

#[test]
fn a_sleeper_gives_the_server_a_moment() {
    for (wakes, ends_at, well) in [(50, 50, false), (50, 52, true), (12, 12, true)] {
        let mut conduct = connecting();
        assert_eq!(leaves(&mut conduct, r#"[null,"3","phoenix","heartbeat",{}]"#), Ok(()));
        conduct.on_sleeps(ANA, at(1));
        conduct.on_woke(ANA, true, at(wakes));
        let verdict = ends(&mut conduct, CauseKind::HeartbeatTimeout, Some(1), ends_at);
        assert_eq!(verdict.is_ok(), well, "{wakes} {ends_at}");
    }
}

#[test]
fn what_is_told_late_is_judged_by_how_it_was_when_it_ended() {
    let missed = CauseKind::HeartbeatTimeout;
    // A hint while it slept had it look at once, and the application reads much later.
    let mut conduct = connecting();
    conduct.on_sleeps(ANA, at(1));
    asks(&mut conduct, Command::Hint, 2);
    conduct.on_woke(ANA, true, at(10));
    conduct.on_gone(LINK, at(10));
    assert_eq!(ends(&mut conduct, missed, Some(1), 20), Ok(()));
    // It ended long before the application disconnected and connected again.
    let mut conduct = connecting();
    assert_eq!(leaves(&mut conduct, r#"[null,"3","phoenix","heartbeat",{}]"#), Ok(()));
    conduct.on_gone(LINK, at(10));
    assert_eq!(conduct.on_attempt((ANA, 0), LINK + 1, at(12)), Ok(()));
    asks(&mut conduct, Command::Disconnect, 20);
    asks(&mut conduct, Command::Connect, 20);
    assert_eq!(conduct.on_attempt((ANA, 0), LINK + 2, at(20)), Ok(()));
    assert_eq!(ends(&mut conduct, missed, Some(1), 30), Ok(()));
    assert_eq!(ends(&mut conduct, CauseKind::Requested, None, 30), Ok(()));
    // The one that goes on has missed nothing.
    fails(ends(&mut conduct, missed, Some(1), 31), "manners");
}

#[test]
fn joins_carry_the_newest_token() {
    let mut conduct = connecting();
    asks(&mut conduct, Command::Token(Some("new")), 0);
    let join = r#"["1","1","realtime:a","phx_join",{"access_token":"old"}]"#;
    fails(leaves(&mut conduct, join), "token");
    asks(&mut conduct, Command::Token(None), 0);
    fails(leaves(&mut conduct, join), "token");
}

#[test]
fn a_token_that_was_refused_is_not_tried_again() {
    let mut conduct = connecting();
    assert_eq!(leaves(&mut conduct, JOIN), Ok(()));
    arrives(&mut conduct, REFUSAL);
    fails(leaves(&mut conduct, JOIN), "token");
    arrives(&mut conduct, REFUSAL);
    asks(&mut conduct, Command::Rejoin(TopicId(0)), 1);
    assert_eq!(leaves(&mut conduct, JOIN), Ok(()), "it was asked to");
}

#[test]
fn what_is_said_of_a_token_that_was_changed_meanwhile_is_old() {
    let mut conduct = connecting();
    assert_eq!(leaves(&mut conduct, JOIN), Ok(()));
    asks(&mut conduct, Command::Token(Some("new")), 1);
    asks(&mut conduct, Command::Token(None), 1);
    arrives(&mut conduct, REFUSAL);
    assert_eq!(leaves(&mut conduct, JOIN), Ok(()));
}

#[test]
fn a_refused_token_is_tried_again_on_the_channel_that_somebody_asks_for_and_on_no_other() {
    let (a, b) = (TopicId(0), TopicId(1));
    for (command, may) in [
        (Command::Open(a), true),
        (Command::Rejoin(a), true),
        (Command::Token(Some("new")), true),
        (Command::Token(None), false),
        (Command::Open(b), false),
        (Command::Rejoin(b), false),
        (Command::Close(b), false),
        (Command::Untrack(a), false),
        (Command::Rebind(a), false),
        (Command::Hint, false),
        (Command::Connect, false),
    ] {
        let mut conduct = connecting();
        assert_eq!(leaves(&mut conduct, JOIN), Ok(()));
        arrives(&mut conduct, REFUSAL);
        asks(&mut conduct, command, 1);
        // Signed out again, so that the token is the one that was refused.
        if matches!(command, Command::Token(Some(_))) {
            asks(&mut conduct, Command::Token(None), 1);
        }
        assert_eq!(leaves(&mut conduct, JOIN).is_ok(), may, "{command:?}");
    }
}

#[test]
fn a_broadcast_asks_for_a_channel_with_a_manager_and_with_no_client() {
    for is_manager in [true, false] {
        let mut conduct = connecting();
        assert_eq!(leaves(&mut conduct, JOIN), Ok(()));
        arrives(&mut conduct, REFUSAL);
        conduct.on_asked(ANA, &Command::Send(TopicId(0), 1), is_manager, |_| None, at(1));
        assert_eq!(leaves(&mut conduct, JOIN).is_ok(), is_manager);
    }
}

#[test]
fn the_servers_have_what_is_wanted_and_the_newest_token() {
    let mut conduct = connecting();
    let mut server = Server::new(ServerConfig::default(), 1, at(0));
    let session = server.accept("/socket/websocket?vsn=2.0.0", at(0)).expect("room for one");
    conduct.on_accepted(0, session, ANA);
    let joined = ServerEvent::Joined { session, topic: "room".into() };
    conduct.on_server_told(0, &joined);
    assert_eq!(conduct.settle(|_, _| true, |_, _| true), Ok(()));
    fails(conduct.settle(|_, _| true, |_, _| false), "ghost");
    assert_eq!(conduct.settle(|_, _| false, |_, _| false), Ok(()), "its close is under way");
    conduct.on_server_told(0, &ServerEvent::Left { session, topic: "room".into() });
    assert_eq!(conduct.settle(|_, _| true, |_, _| false), Ok(()));
    asks(&mut conduct, Command::Token(Some("new")), 0);
    assert_eq!(conduct.check_token(ANA, "room", Some("new")), Ok(()));
    fails(conduct.check_token(ANA, "room", Some("old")), "token");
}

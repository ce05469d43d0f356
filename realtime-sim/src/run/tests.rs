//! Whatever a client does wrong is found in the end.

use realtime_proto::{Client, Event, SocketId, Stats};

use super::*;
use crate::subject::{ClientSubject, Flaw, Flawed, MemberDiff, Request, Seen};

/// Plays steps of a client that has one channel, and tells what is found.
fn found<F: Flaw>(steps: &str) -> Option<Finding> {
    let text = format!("client ana\ntopic room realtime:room presence\n{steps}");
    run_with::<Flawed<F>>(&text.parse().expect("a scenario")).finding
}

fn rule<F: Flaw>(steps: &str) -> &'static str {
    found::<F>(steps).map_or("", |finding| finding.rule)
}

/// It opens one socket and no other.
#[derive(Debug, Default)]
struct OpensOnce {
    opened: bool,
}

impl Flaw for OpensOnce {
    fn does(&mut self, request: &Request<SocketId>) -> bool {
        !matches!(request, Request::Open { .. }) || !core::mem::replace(&mut self.opened, true)
    }
}

#[test]
fn whoever_seems_live_and_is_not_is_found_once_that_is_noticed() {
    let steps = "+0ms ana connect\n+0ms ana open room\n+1s abandon ana";
    assert_eq!(rule::<OpensOnce>(steps), "G8");
    // However late that is.
    let text = format!("set heartbeat 10m\nclient ana\ntopic room realtime:room\n{steps}");
    let scenario = text.parse().expect("a scenario");
    let finding = run_with::<Flawed<OpensOnce>>(&scenario).finding;
    assert_eq!(finding.map(|finding| finding.rule), Some("G8"));
}

/// It is live for a while and away for a while, for ever.
#[derive(Debug, Default)]
struct ComesAndGoes {
    told: u32,
}

impl Flaw for ComesAndGoes {
    fn tell(&mut self, _: &mut Vec<Told>) {
        self.told += 1;
    }

    fn is_live(&self, is_live: bool) -> bool {
        // It tells of each heartbeat.
        is_live && self.told % 2 == 0
    }
}

#[test]
fn whoever_is_live_again_and_again_and_never_for_good_is_found() {
    assert_eq!(rule::<ComesAndGoes>("+0ms ana connect\n+0ms ana open room"), "G8");
}

#[test]
fn the_time_to_live_is_that_of_the_last_word_and_no_round_number() {
    let text = "client ana\ntopic room realtime:room\n+0ms ana connect\n+0ms ana open room\n\
                +5s cut ana";
    let (report, records) = Run::new(&text.parse().expect("a scenario")).recorded();
    let at = |word: &str, what: &str| {
        let mut records = records.iter().rev();
        let found = records.find(|record| record.word == word && record.detail.contains(what));
        found.expect("it happened").at
    };
    let took = at("tells", "live").saturating_duration_since(at("heal", ""));
    assert_eq!(report.time_to_live, Some(took));
    assert_ne!(took.subsec_millis(), 0, "the retry has a random delay");
}

/// A client of a scenario that has opened its room for the second time.
fn reopened(scenario: &Scenario) -> Stage<'_> {
    let mut stage = Stage::new::<ClientSubject>(scenario, |world| world);
    stage.enter();
    for step in &scenario.steps {
        stage.pass(step.after);
        stage.apply(&step.op);
    }
    stage
}

#[test]
fn what_is_told_of_an_older_channel_is_not_said_of_the_newest() {
    let text = "client ana\ntopic room realtime:room\n+0ms ana connect\n+0ms ana open room\n\
                +1s ana close room\n+1s ana open room";
    let scenario: Scenario = text.parse().expect("a scenario");
    let topic = TopicId(0);
    let errored = ChannelTold::Errored { cause: CauseKind::PrivateOnly, retry_at: None };
    for (life, is_heard) in [(1, false), (2, true)] {
        let mut stage = reopened(&scenario);
        for told in [errored.clone(), ChannelTold::Closed] {
            let key = ChannelKey { topic, life };
            stage.world.overheard.push((NodeId(0), Told::Channel(key, told)));
        }
        stage.listen();
        let wanted = stage.actors[0].wanted[&topic];
        assert_eq!(wanted.closed, is_heard, "{life}");
        assert_eq!(wanted.trouble.is_some(), is_heard, "{life}");
    }
}

#[test]
fn a_person_asks_again_for_what_needs_somebody_and_for_nothing_else() {
    let text = "client ana\ntopic room realtime:room\n+0ms ana connect\n+0ms ana open room";
    let scenario: Scenario = text.parse().expect("a scenario");
    for (cause, comes_back) in [
        (CauseKind::PrivateOnly, false),
        (CauseKind::PostgresRefused, false),
        (CauseKind::ServerRestarting, true),
        (CauseKind::ConnectionLost, true),
        (CauseKind::TokenExpired, true),
    ] {
        let mut stage = reopened(&scenario);
        let key = stage.actors[0].wanted[&TopicId(0)].key.expect("ours says which");
        for told in [ChannelTold::Errored { cause, retry_at: None }, ChannelTold::Stopped { cause }]
        {
            stage.world.overheard.push((NodeId(0), Told::Channel(key, told)));
            stage.listen();
            let trouble = stage.actors[0].wanted[&TopicId(0)].trouble;
            assert_eq!(trouble, Some((cause, comes_back)));
        }
    }
}

/// It does all that it is asked for, and says nothing of it.
#[derive(Debug, Default)]
struct SaysNothing;

impl Flaw for SaysNothing {
    fn tell(&mut self, told: &mut Vec<Told>) {
        told.clear();
    }

    fn present(&self, _: Seen) -> Seen {
        Seen::Untold
    }
}

#[test]
fn of_a_client_that_says_nothing_only_what_it_does_is_judged() {
    let steps = "+0ms ana connect\n+0ms ana open room\n+1s ana send room\n+0ms ana track room";
    assert_eq!(found::<SaysNothing>(steps), None);
}

/// It names nobody who comes, changes or goes, and may or may not say that it does.
#[derive(Debug, Default)]
struct NamesNobody<const FOLLOWED: bool>;

impl<const FOLLOWED: bool> Flaw for NamesNobody<FOLLOWED> {
    fn tell(&mut self, told: &mut Vec<Told>) {
        for told in told {
            if let Told::Channel(_, ChannelTold::Presence { diff, .. }) = told {
                *diff = MemberDiff::default();
            }
        }
    }

    fn tells_members(&self) -> bool {
        FOLLOWED
    }
}

#[test]
fn a_client_that_shows_who_is_there_and_does_not_tell_it_is_found_if_it_says_that_it_does() {
    let steps = "+0ms ana connect\n+0ms ana open room\n+1s ana track room";
    assert_eq!(rule::<NamesNobody<true>>(steps), "G9");
    assert_eq!(found::<NamesNobody<false>>(steps), None);
}

/// It panics when it is to send something, and then whenever it is asked something.
#[derive(Debug, Default)]
struct Panics;

impl Flaw for Panics {
    fn does(&mut self, request: &Request<SocketId>) -> bool {
        assert!(matches!(request, Request::Open { .. }), "nothing to say");
        true
    }

    fn stats(&self) -> Option<Stats> {
        panic!("it was asked")
    }
}

#[test]
fn a_client_that_panicked_is_asked_nothing_more() {
    let finding = found::<Panics>("+0ms ana connect\n+0ms ana open room").expect("it panics");
    assert_eq!((finding.rule, &*finding.what), ("panic", "nothing to say"));
}

#[test]
fn an_application_that_panics_when_it_is_made_is_found() {
    type Closure = fn(&Event, &mut Client, Instant);
    let scenario = "client ana\n".parse().expect("a scenario");
    let report = run_app(&scenario, |_| -> Closure { panic!("no application") });
    assert_eq!(report.finding.expect("it panics").rule, "panic");
}

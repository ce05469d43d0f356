//! What an application does of its own accord is not taken for a mistake of its client.
#![expect(clippy::wildcard_enum_match_arm, reason = "each is about a few of many events")]

use realtime_proto::manager::{Entity, EntityOptions, LeaseId, Manager, ManagerEvent, User};
use realtime_proto::supabase::JoinConfig;
use realtime_proto::{
    ChannelConfig, ChannelEvent, ChannelId, Client, Event, Instant, Payload, Secret,
};
use realtime_sim::{App, Report, Run, Scenario, check_seeds, run_app, run_manager_app};

fn json(text: &'static str) -> Payload {
    Payload::from_json(text).expect("it is JSON")
}

fn supabase() -> ChannelConfig {
    ChannelConfig::supabase(JoinConfig::default())
}

/// Runs many scenarios with an application that is a closure.
#[track_caller]
fn check(app: impl FnMut(&Event, &mut Client, Instant) + Clone + 'static) {
    check_seeds(0..150, |scenario| run_app(scenario, |_| app.clone()));
}

/// Runs those of many scenarios that have managers.
#[track_caller]
fn check_manager(app: impl FnMut(&ManagerEvent, &mut Manager, Instant) + Clone + 'static) {
    let played = core::cell::Cell::new(0);
    check_seeds(0..300, |scenario| {
        let report = run_manager_app(scenario, |_| app.clone());
        played.set(played.get() + report.apps);
        report
    });
    assert!(played.get() > 0 || std::env::var_os("REALTIME_SIM_SEED").is_some());
}

#[test]
fn an_application_may_open_channels_of_its_own() {
    check(|event, client, now| {
        if let Event::Connected { .. } = event {
            let _ = client.open_channel("realtime:mine", supabase(), now);
        }
    });
}

#[test]
fn an_application_may_open_a_topic_before_its_scenario_does() {
    check(|event, client, now| {
        if let Event::Connected { .. } = event {
            let _ = client.open_channel("realtime:room", supabase(), now);
        }
    });
}

#[test]
fn an_application_may_show_what_it_likes() {
    check(|event, client, now| {
        if let Event::Channel(id, ChannelEvent::Joined { .. }) = event {
            if let Some(mut room) = client.channel(*id) {
                let _ = room.track(json(r#"{"name":"x"}"#), now);
            }
        }
    });
}

#[test]
fn an_application_may_show_nothing() {
    check(|event, client, now| {
        if let Event::Channel(id, ChannelEvent::Live) = event {
            if let Some(mut room) = client.channel(*id) {
                let _ = room.untrack(now);
            }
        }
    });
}

#[test]
fn an_application_may_send_numbers() {
    check(|event, client, now| {
        if let Event::Channel(id, ChannelEvent::Live) = event {
            if let Some(mut room) = client.channel(*id) {
                let _ = room.broadcast("n", json(r#"{"n":1,"x":2}"#), now);
                let _ = room.push("n", json(r#"{"n":1}"#), now);
            }
        }
    });
}

#[test]
fn an_application_may_go_offline() {
    check(|event, client, now| {
        if let Event::Channel(_, ChannelEvent::Live) = event {
            client.disconnect(now);
        }
    });
}

#[test]
fn an_application_may_come_back() {
    check(|event, client, now| {
        if let Event::Disconnected { retry_at: None, .. } = event {
            client.connect(now);
        }
    });
}

#[test]
fn an_application_may_close_what_its_scenario_opened() {
    check(|event, client, now| {
        if let Event::Channel(id, ChannelEvent::Live) = event {
            client.close_channel(*id, now);
        }
    });
}

#[test]
fn an_application_may_take_a_topic_over() {
    check(|event, client, now| {
        if let Event::Channel(_, ChannelEvent::Closed { .. }) = event {
            let _ = client.open_channel("realtime:room", supabase(), now);
        }
    });
}

#[test]
fn an_application_may_ask_again_at_once() {
    check(|event, client, now| match event {
        Event::Disconnected { .. } => client.probe(now),
        Event::Channel(id, ChannelEvent::Errored { .. }) => {
            if let Some(mut room) = client.channel(*id) {
                room.rejoin(now);
            }
        }
        _ => {}
    });
}

#[test]
fn an_application_may_sign_in_by_itself() {
    check(|event, client, now| {
        if let Event::TokenNeeded { .. } = event {
            client.set_access_token(Some(Secret::from("what.ever.else")), now);
        }
    });
}

#[test]
fn an_application_of_a_manager_may_listen_and_send_and_show_itself() {
    check_manager(|event, manager, now| {
        if let ManagerEvent::Connected { .. } = event {
            for id in ["1", "mine"] {
                let contact = Entity::new("contact", id);
                let _ = manager.subscribe_to_entity(&contact, &EntityOptions::default(), now);
                let _ = manager.join_presence(&contact, User::new("x"), now);
                let _ = manager.broadcast(&contact, "n", json(r#"{"n":1}"#), now);
                let shown = json(r#"{"name":"x"}"#);
                let _ = manager.update_presence_metadata(&contact, &shown, now);
            }
        }
    });
}

#[test]
fn an_application_of_a_manager_may_go_offline() {
    check_manager(|event, manager, now| {
        if let ManagerEvent::Lease(..) = event {
            manager.disconnect(now);
        }
    });
}

#[test]
fn an_application_of_a_manager_may_come_back() {
    check_manager(|event, manager, now| {
        if let ManagerEvent::Disconnected { retry_at: None, .. } = event {
            manager.connect(now);
        }
    });
}

#[test]
fn an_application_of_a_manager_may_close_everything() {
    check_manager(|event, manager, now| {
        if let ManagerEvent::Disconnected { .. } = event {
            manager.cleanup_all_channels(now);
        }
    });
}

#[test]
fn an_application_of_a_manager_may_release_what_its_scenario_opened() {
    check_manager(|event, manager, now| {
        if let ManagerEvent::Lease(lease, _) = event {
            manager.release(*lease, now);
        }
    });
}

/// A card that trusts whatever it is told first.
#[derive(Default)]
struct Card(Vec<LeaseId>);

impl App<Manager, ManagerEvent> for Card {
    fn handle_event(&mut self, event: &ManagerEvent, _: &mut Manager, _: Instant) {
        if let ManagerEvent::Lease(lease, _) = event {
            self.0.push(*lease);
        }
    }

    fn check(&self, _: &mut Manager) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("it heard of {}", self.0[0])) }
    }
}

const CARD: &str = "\
manager ana
client ben
topic contact realtime:subscription:contact:1 rows
+0ms ana connect
+0ms ana open contact
";

#[test]
fn an_application_of_a_manager_is_asked_what_it_thinks() {
    let scenario: Scenario = CARD.parse().expect("a scenario");
    let report = run_manager_app(&scenario, |_| Card::default());
    let finding = report.finding.expect("it does not agree");
    assert_eq!((finding.rule, report.apps), ("application", 1));
    assert_eq!(finding.what, "ana: it heard of lease1");
}

#[test]
fn clients_and_managers_have_applications_in_one_run() {
    let scenario: Scenario = CARD.parse().expect("a scenario");
    let run = Run::new(&scenario)
        .with_app(|_| |_: &Event, _: &mut Client, _: Instant| {})
        .with_manager_app(|_| Card::default());
    assert_eq!(run.report().apps, 2);
    let (Report { finding, .. }, records) = run.recorded();
    assert_eq!(finding.map(|finding| finding.rule), Some("application"));
    assert!(records.iter().any(|record| record.word == "tells"));
    assert!(run.timeline("a card").contains("it heard of lease1"));
}

#[test]
fn what_an_application_breaks_itself_is_still_found() {
    let scenario: Scenario = "client ana\ntopic room realtime:room\n\
                              +0ms ana connect\n+0ms ana open room\n"
        .parse()
        .expect("a scenario");
    let opened = |id: ChannelId| format!("{id} is joined");
    let panics = move |event: &Event, _: &mut Client, _: Instant| {
        if let Event::Channel(id, ChannelEvent::Joined { .. }) = event {
            panic!("{}", opened(*id));
        }
    };
    let finding = run_app(&scenario, |_| panics).finding.expect("a panic");
    assert_eq!((finding.rule, &*finding.what), ("panic", "ch0.1 is joined"));
}

//! A real bug in an application, found, shrunk and fixed; `GUIDE.md` tells the story.
//!
//! ```console
//! $ cargo run --package realtime-sim --example roster
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::{ChannelEvent, ChannelId, Client, Event, Instant};
use realtime_sim::{App, Scenario, Seed, run_app, seeds, shrink};

/// Who is in each room, as a sidebar shows it.
#[derive(Default)]
pub(crate) struct Roster {
    pub(crate) here: BTreeMap<ChannelId, BTreeSet<String>>,
    /// The bug: nobody is there while we are offline, so the sidebar is cleared.
    pub(crate) clears_when_offline: bool,
}

impl App<Client, Event> for Roster {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the roster is about three of many events")]
    fn handle_event(&mut self, event: &Event, _: &mut Client, _: Instant) {
        match event {
            Event::Disconnected { .. } if self.clears_when_offline => self.here.clear(),
            Event::Channel(id, ChannelEvent::Presence(diff)) => {
                let here = self.here.entry(*id).or_default();
                here.extend(diff.joined.iter().map(|member| member.key.to_string()));
                diff.left.iter().for_each(|member| _ = here.remove(&*member.key));
            }
            Event::Channel(id, ChannelEvent::Closed { .. }) => _ = self.here.remove(id),
            _ => {}
        }
    }

    /// The property: at rest, the sidebar shows who is there.
    fn check(&self, client: &mut Client) -> Result<(), String> {
        for id in client.channels().collect::<Vec<_>>() {
            let Some(room) = client.channel(id) else { continue };
            let there: BTreeSet<String> =
                room.presence().members().map(|(key, _)| key.to_owned()).collect();
            let shown = self.here.get(&id).cloned().unwrap_or_default();
            if shown != there {
                let topic = room.topic();
                return Err(format!("{topic} shows {shown:?}, and {there:?} are there"));
            }
        }
        Ok(())
    }
}

/// The first seed whose scenario the property does not survive, and what does not hold.
fn find(make: fn() -> Roster) -> Option<(Seed, String)> {
    // One seed again: REALTIME_SIM_SEED=17 cargo run …
    let asked = std::env::var("REALTIME_SIM_SEED").ok();
    let seeds = seeds(0..200, asked.as_deref()).expect("a seed or a range of seeds");
    seeds.map(Seed).find_map(|seed| {
        let finding = run_app(&Scenario::of_seed(seed), |_| make()).finding?;
        Some((seed, finding.to_string()))
    })
}

fn main() {
    let first_try = || Roster { clears_when_offline: true, ..Roster::default() };
    let Some((seed, finding)) = find(first_try) else {
        return println!("the property holds");
    };
    println!("seed {seed}: {finding}\n");

    let scenario = Scenario::of_seed(seed);
    let fails = |scenario: &Scenario| {
        run_app(scenario, |_| first_try()).finding.is_some_and(|it| it.rule == "application")
    };
    let (small, runs) = shrink(&scenario, 2_000, fails);
    println!("{} steps, shrunk to {} in {runs} runs:\n", scenario.steps.len(), small.steps.len());
    println!("{small}");

    // The channel keeps its view across a reconnect and tells what is different then: who came
    // and who went. Whoever was told before is not told again, so the sidebar must not forget.
    let mended = Roster::default;
    assert_eq!(run_app(&small, |_| mended()).finding, None);
    assert_eq!(find(mended), None);
    println!("mended: neither this scenario nor any other finds anything");
}

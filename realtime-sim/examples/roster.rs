//! A real bug in an application, found, shrunk and fixed; `GUIDE.md` tells the story.
//!
//! ```console
//! $ cargo run --package realtime-sim --example roster
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::{ChannelEvent, ChannelId, Client, Event, Instant};
use realtime_sim::{App, check_seeds, run_app};

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

fn main() {
    // One seed again: REALTIME_SIM_SEED=17 cargo run …
    let found = std::panic::catch_unwind(|| {
        let first_try = || Roster { clears_when_offline: true, ..Roster::default() };
        check_seeds(0..200, |scenario| run_app(scenario, |_| first_try()));
    });
    assert!(found.is_err(), "what it says is on standard error");

    // The channel keeps its view across a reconnect and tells what is different then: who came
    // and who went. Whoever was told before is not told again, so the sidebar must not forget.
    check_seeds(0..200, |scenario| run_app(scenario, |_| Roster::default()));
    println!("mended: no seed finds anything");
}

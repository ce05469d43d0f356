//! Who plays in a scenario, and what is kept of the run.

use core::fmt;

use realtime_proto::manager::{Manager, ManagerEvent};
use realtime_proto::{Client, Event, Instant};

use super::{Report, Stage, Start, start};
use crate::World;
use crate::app::App;
use crate::host::{Host, Hosted};
use crate::scenario::{Part, Scenario};
use crate::subject::{ClientSubject, ManagerSubject, Role, Scripted};
use crate::timeline;
use crate::trace::{Change, Record};

/// A scenario, who plays in it, and what is kept of the run.
///
/// [`run`], [`run_with`], [`run_app`] and [`run_manager_app`] are short for the usual ones.
///
/// # Examples
///
/// Each line of the trace of an application's run:
///
/// ```
/// use realtime_proto::{Client, Event, Instant};
/// use realtime_sim::{Run, Scenario};
///
/// let scenario: Scenario = "client ana\n+0ms ana connect\n".parse()?;
/// let lamp = |event: &Event, _: &mut Client, _: Instant| println!("{event:?}");
/// let report = Run::new(&scenario).with_app(|_| lamp).traced(|line| println!("{line}"));
/// assert_eq!((report.finding, report.apps), (None, 1));
/// # Ok::<(), realtime_sim::ScenarioError>(())
/// ```
pub struct Run<'a> {
    scenario: &'a Scenario,
    clients: Box<Start<'a>>,
    managers: Box<Start<'a>>,
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("scenario", self.scenario).finish_non_exhaustive()
    }
}

impl<'a> Run<'a> {
    /// A run with our own client and our own manager, without applications of anybody else.
    #[must_use]
    pub fn new(scenario: &'a Scenario) -> Self {
        let (clients, managers) = (start::<ClientSubject>, start::<ClientSubject>);
        Self { scenario, clients: Box::new(clients), managers: Box::new(managers) }
    }

    /// The same with any client that can be scripted; managers stay ours.
    ///
    /// # Examples
    ///
    /// [`run_with`] has one.
    #[must_use]
    pub fn with_client<S: Scripted>(mut self) -> Self {
        self.clients = Box::new(start::<S>);
        self
    }

    /// The same with an application on every client, which is ours; `make` makes one when a client
    /// starts and whenever it starts again.
    ///
    /// # Examples
    ///
    /// [`run_app`] has one.
    #[must_use]
    pub fn with_app<A: App<Client, Event>>(mut self, make: impl Fn(&Role<'_>) -> A + 'a) -> Self {
        self.clients = Box::new(move |role, seed, now| {
            let mut hosted = Hosted::without_log(ClientSubject::start(role, seed, now));
            hosted.set_client_app(make(role));
            Box::new(hosted)
        });
        self
    }

    /// The same with an application on every manager.
    ///
    /// # Examples
    ///
    /// [`run_manager_app`] has one.
    #[must_use]
    pub fn with_manager_app<A: App<Manager, ManagerEvent>>(
        mut self,
        make: impl Fn(&Role<'_>) -> A + 'a,
    ) -> Self {
        self.managers = Box::new(move |role, seed, now| {
            let mut hosted = Hosted::without_log(ManagerSubject::start(role, seed, now));
            hosted.set_manager_app(make(role));
            Box::new(hosted)
        });
        self
    }

    /// Runs it.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Run, Scenario, Seed};
    ///
    /// assert_eq!(Run::new(&Scenario::of_seed(Seed(7))).report().finding, None);
    /// ```
    #[must_use]
    pub fn report(&self) -> Report {
        self.play(|world| world, |_| ()).0
    }

    /// Runs it and hands out each line of its trace.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Run, Scenario, Seed};
    ///
    /// let report = Run::new(&Scenario::of_seed(Seed(7))).traced(|line| println!("{line}"));
    /// assert_eq!(report.finding, None);
    /// ```
    #[must_use]
    pub fn traced(&self, sink: fn(&str)) -> Report {
        self.play(|world| world.with_trace(sink), |_| ()).0
    }

    /// Runs it and keeps its trace.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Run, Scenario};
    ///
    /// let scenario: Scenario = "client ana\n+0ms ana connect\n+1s cut ana\n".parse()?;
    /// let (report, records) = Run::new(&scenario).recorded();
    /// assert_eq!(report.finding, None);
    /// assert_eq!(records.iter().filter(|record| record.word == "cut").count(), 1);
    /// # Ok::<(), realtime_sim::ScenarioError>(())
    /// ```
    #[must_use]
    pub fn recorded(&self) -> (Report, Vec<Record>) {
        self.play(World::with_records, |world| world.records().to_vec())
    }

    /// Runs it and draws the run as a page of HTML that needs nothing else, no network either.
    ///
    /// Time goes down; each client has a lane for its connection and for each of its channels,
    /// whose colours say how its application sees it, and each server has a lane. Frames are arrows
    /// from where they left to where they arrived.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Run, Scenario, Seed};
    ///
    /// let page = Run::new(&Scenario::of_seed(Seed(7))).timeline("seed 7");
    /// assert!(page.starts_with("<!doctype html>"));
    /// // std::fs::write("seed-7.html", page)?;
    /// ```
    #[must_use]
    pub fn timeline(&self, name: &str) -> String {
        let (report, (records, changes)) = self.seen();
        timeline::page(name, self.scenario, &report, &records, &changes)
    }

    /// Runs it and keeps its trace, and how its connections and channels were seen.
    pub(crate) fn seen(&self) -> (Report, (Vec<Record>, Vec<Change>)) {
        let keep = |world: &World| (world.records().to_vec(), world.trace.changes().to_vec());
        self.play(World::with_records, keep)
    }

    fn play<T>(
        &self,
        dress: impl FnOnce(World) -> World,
        keep: impl FnOnce(&World) -> T,
    ) -> (Report, T) {
        let start = |role: &Role<'_>, seed: u64, now: Instant| -> Box<dyn Host> {
            match role.actor.part {
                Part::Client => (self.clients)(role, seed, now),
                Part::Manager => (self.managers)(role, seed, now),
            }
        };
        let mut stage = Stage::of(self.scenario, &start, dress);
        let report = stage.play();
        let kept = keep(&stage.world);
        (report, kept)
    }
}

/// Runs a scenario with our own client.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Scenario, Seed, run};
///
/// let report = run(&Scenario::of_seed(Seed(7)));
/// assert_eq!(report.finding, None);
/// ```
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    Run::new(scenario).report()
}

/// Runs a scenario with any client that can be scripted; managers are ours.
///
/// The guide has a client and what this finds in it.
///
/// # Examples
///
/// ```
/// use realtime_sim::{Scripted, check_seeds, run_with};
///
/// fn check<S: Scripted>() {
///     check_seeds(0..1_000, run_with::<S>);
/// }
/// ```
#[must_use]
pub fn run_with<S: Scripted>(scenario: &Scenario) -> Report {
    Run::new(scenario).with_client::<S>().report()
}

/// Runs a scenario in which every client has an application, which `make` makes when the client
/// starts and whenever it starts again.
///
/// It opens what the scenario says, hears of every event, and at the end [`App::check`] says whether
/// all is as it should be; a panic is a finding, too. Managers have none; see [`run_manager_app`].
///
/// # Examples
///
/// [`App`] has a longer one.
///
/// ```
/// use realtime_proto::{Client, Event, Instant};
/// use realtime_sim::{check_seeds, run_app};
///
/// let app = |event: &Event, client: &mut Client, now: Instant| {
///     if let Event::Disconnected { retry_at: None, .. } = event {
///         client.probe(now);
///     }
/// };
/// check_seeds(0..20, |scenario| run_app(scenario, |_| app));
/// ```
#[must_use]
pub fn run_app<A: App<Client, Event>>(
    scenario: &Scenario,
    make: impl Fn(&Role<'_>) -> A,
) -> Report {
    Run::new(scenario).with_app(make).report()
}

/// Runs a scenario in which every manager has an application, as [`run_app`] does for clients.
///
/// About every third seed has a manager; [`Report::apps`] tells how many applications there were.
///
/// # Examples
///
/// ```
/// use std::collections::BTreeMap;
/// use realtime_proto::Instant;
/// use realtime_proto::manager::{ChannelStatus, LeaseEvent, LeaseId, Manager, ManagerEvent};
/// use realtime_sim::{App, check_seeds, run_manager_app};
///
/// /// A dot beside each card: green while it is up to date.
/// #[derive(Default)]
/// struct Dots(BTreeMap<LeaseId, bool>);
///
/// impl App<Manager, ManagerEvent> for Dots {
///     fn handle_event(&mut self, event: &ManagerEvent, _: &mut Manager, _: Instant) {
///         match event {
///             ManagerEvent::Lease(lease, LeaseEvent::Status(status)) => {
///                 self.0.insert(*lease, *status == ChannelStatus::Live);
///             }
///             ManagerEvent::Lease(lease, LeaseEvent::Ended) => _ = self.0.remove(lease),
///             _ => {}
///         }
///     }
///
///     fn check(&self, manager: &mut Manager) -> Result<(), String> {
///         let live = manager.channel_stats().by_status.get("live").copied().unwrap_or(0);
///         let green = self.0.values().filter(|green| **green).count();
///         if live > 0 && green == 0 { Err("all is live, and no dot is green".into()) } else { Ok(()) }
///     }
/// }
///
/// check_seeds(0..20, |scenario| run_manager_app(scenario, |_| Dots::default()));
/// ```
#[must_use]
pub fn run_manager_app<A: App<Manager, ManagerEvent>>(
    scenario: &Scenario,
    make: impl Fn(&Role<'_>) -> A,
) -> Report {
    Run::new(scenario).with_manager_app(make).report()
}

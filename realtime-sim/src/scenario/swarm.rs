//! Scenarios from a seed: each draws which faults exist in it, how strong they are, and the rest.

use core::time::Duration;

use super::{
    Act, ActKind, Actor, ActorId, Cast, Data, DataKind, Fault, FaultKind, Op, Part, Scenario,
    Settings, Step, TopicSpec,
};
use crate::Seed;
use crate::seed::Draw;
use crate::subject::is_for_managers;

const NAMES: [&str; 4] = ["ana", "ben", "cleo", "dan"];

/// What kind of scenarios seeds make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Each seed draws which faults there are, how many and how close.
    #[default]
    Swarm,
    /// Few faults far apart, so that runs get deep.
    Calm,
    /// Many faults close together, so that nothing comes to rest.
    Storm,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Swarm, Self::Calm, Self::Storm];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Calm => "calm",
            Self::Storm => "storm",
        }
    }

    /// The scenario that a seed makes with this profile.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Profile, Scenario, Seed};
    ///
    /// assert_eq!(Profile::Swarm.scenario(Seed(7)), Scenario::of_seed(Seed(7)));
    /// assert_ne!(Profile::Storm.scenario(Seed(7)), Scenario::of_seed(Seed(7)));
    /// ```
    #[must_use]
    pub fn scenario(self, seed: Seed) -> Scenario {
        draw(seed, self, &mut Draw::new(seed.child("scenario", 0)))
    }
}

impl Scenario {
    /// The scenario of a seed. Most seeds have few kinds of fault, so that some runs get deep and
    /// others never come to rest.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Scenario, Seed};
    ///
    /// let scenario = Scenario::of_seed(Seed(7));
    /// assert_eq!(scenario, Scenario::of_seed(Seed(7)));
    /// assert_eq!(scenario.to_string().parse(), Ok(scenario));
    /// ```
    #[must_use]
    pub fn of_seed(seed: Seed) -> Self {
        Profile::Swarm.scenario(seed)
    }

    /// The scenario that a fuzzer chose.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        draw(Seed(0), Profile::Swarm, &mut Draw::chosen(bytes))
    }
}

fn draw(seed: Seed, profile: Profile, draw: &mut Draw) -> Scenario {
    let mut cast = draw_cast(draw);
    let mut steps = Vec::new();
    for at in 0..cast.actors.len() {
        begin(ActorId(at as u8), draw, &cast, &mut steps);
    }
    let faults = enabled(profile, draw);
    if faults.contains(&FaultKind::Overfeed) {
        // Who has room for hundreds of events is hardly ever fed too much.
        cast.settings.events_max = 4 + draw.below(8) as u32;
    }
    let acts = subset(draw, ActKind::ALL, 2);
    // How often what kind of step comes, how far apart, and how many there are.
    let mut weights = [1 + draw.below(8), 1 + draw.below(6), draw.below(8)];
    let mut pace = [50, 300, 1_500, 6_000, 20_000][draw.below(5) as usize];
    let mut count = 8 + draw.below(60);
    match profile {
        Profile::Swarm => {}
        Profile::Calm => {
            (weights[2], pace) = (1, pace.max(6_000));
            count *= 4;
        }
        Profile::Storm => (weights[2], pace) = (20, pace.min(1_500)),
    }
    for _ in 0..count {
        if draw.is_over() {
            break;
        }
        // Things that meet are more interesting than things that do not.
        let after = if draw.below(3) == 0 { 0 } else { draw.below(pace) };
        let after = Duration::from_millis(after);
        let mut which = draw.below(weights.iter().sum());
        let op = if which < weights[0] {
            draw_act(&acts, draw, &cast)
        } else {
            which -= weights[0];
            if which < weights[1] || faults.is_empty() {
                draw_data(draw, &cast)
            } else {
                let kind = faults[draw.below(faults.len() as u64) as usize];
                Op::Fault(draw_fault(kind, draw, &cast))
            }
        };
        steps.push(Step { after, op });
    }
    Scenario { seed, cast, steps }
}

fn draw_cast(draw: &mut Draw) -> Cast {
    let mut settings = Settings::draw(draw);
    let actors: Vec<Actor> = NAMES[..1 + draw.below(4) as usize]
        .iter()
        .map(|name| {
            let part = if draw.below(6) == 0 { Part::Manager } else { Part::Client };
            Actor { name: (*name).into(), part }
        })
        .collect();
    let mut topics = Vec::new();
    let has_managers = actors.iter().any(|actor| actor.part == Part::Manager);
    if has_managers || draw.below(3) == 0 {
        let mut contact = TopicSpec::new("contact", "realtime:subscription:contact:1");
        contact.rows = true;
        contact.ack = draw.below(2) == 0;
        topics.push(contact);
        let mut seat = TopicSpec::new("seat", "realtime:presence:contact:1");
        seat.presence = true;
        topics.push(seat);
    }
    if topics.is_empty() || draw.below(2) == 0 {
        let mut room = TopicSpec::new("room", "realtime:room");
        room.presence = draw.below(2) == 0;
        room.ack = draw.below(2) == 0;
        room.echo = draw.below(4) == 0;
        room.rows = draw.below(3) == 0;
        room.wait = room.rows && draw.below(3) == 0;
        topics.push(room);
    }
    if draw.below(2) == 0 {
        let mut feed = TopicSpec::new("feed", "realtime:feed");
        feed.private = true;
        feed.ack = draw.below(2) == 0;
        topics.push(feed);
    }
    if draw.below(4) == 0 {
        topics.push(TopicSpec::new("lobby", "room:lobby"));
    }
    if topics.iter().any(|topic| topic.private) {
        // A database that two servers share would have to give its messages one id.
        settings.servers = 1;
    }
    Cast { settings, actors, topics }
}

/// An application starts: it connects and opens some of what there is.
fn begin(who: ActorId, draw: &mut Draw, cast: &Cast, steps: &mut Vec<Step>) {
    let mut act = |act| steps.push(Step { after: Duration::ZERO, op: Op::Act(who, act) });
    act(Act::Connect {});
    let is_manager = cast.actors[usize::from(who.0)].part == Part::Manager;
    for (at, spec) in cast.topics.iter().enumerate() {
        if is_manager && !is_for_managers(spec) || draw.below(4) == 0 {
            continue;
        }
        let topic = super::TopicId(at as u8);
        act(Act::Open { topic });
        if spec.presence {
            act(Act::Track { topic });
        }
    }
}

/// The kinds of fault of a seed: hardly any, a few, or many.
fn enabled(profile: Profile, draw: &mut Draw) -> Vec<FaultKind> {
    let drawn = [40, 12, 4][draw.below(3) as usize];
    let one_in = match profile {
        Profile::Swarm => drawn,
        Profile::Calm => 12,
        Profile::Storm => 2,
    };
    subset(draw, FaultKind::ALL, one_in)
}

fn subset<T: Copy>(draw: &mut Draw, all: &[T], one_in: u64) -> Vec<T> {
    all.iter().copied().filter(|_| draw.below(one_in) == 0).collect()
}

fn draw_act(kinds: &[ActKind], draw: &mut Draw, cast: &Cast) -> Op {
    let who = ActorId(draw.below(cast.actors.len() as u64) as u8);
    // Most of the time applications send; that is what they are for.
    let kind = match kinds.len() as u64 {
        0 => ActKind::Send,
        count if draw.below(2) == 0 => kinds[draw.below(count) as usize],
        _ => ActKind::Send,
    };
    Op::Act(who, Act::draw(kind, draw, cast))
}

fn draw_data(draw: &mut Draw, cast: &Cast) -> Op {
    let mut kind = DataKind::ALL[draw.below(DataKind::ALL.len() as u64) as usize];
    let private = cast.topics.iter().position(|topic| topic.private);
    if kind == DataKind::Store {
        match private {
            Some(topic) => return Op::Data(Data::Store { topic: super::TopicId(topic as u8) }),
            None => kind = DataKind::Insert,
        }
    }
    Op::Data(Data::draw(kind, draw, cast))
}

fn draw_fault(kind: FaultKind, draw: &mut Draw, cast: &Cast) -> Fault {
    match Fault::draw(kind, draw, cast) {
        // Hours are cheap for who sleeps and dear for who does not.
        Fault::Hibernate { who, .. } => Fault::Hibernate { who, hours: 1 + draw.below(3) as u32 },
        Fault::GarbageFlood { who, count } => Fault::GarbageFlood { who, count: count * 40 },
        Fault::Overfeed { who, span } => Fault::Overfeed { who, span: span * 8 },
        fault => fault,
    }
}

//! Applications on a client or a manager, and what they do of their own accord.

use core::any::Any;

use realtime_proto::Instant;

use crate::scenario::TopicId;
use crate::subject::{Command, Subject};

/// An application on a machine `M`, a `Client` or a `Manager`, that tells it of `E`.
///
/// A closure of the arguments of [`handle_event`](Self::handle_event) is one.
///
/// # What it may do, and what is judged then
///
/// In a scenario, an application may give its machine any command besides those of the scenario.
/// The simulator notices which, and goes by the last word, whoever had it:
///
/// * When it connects or disconnects, or uses another token, that counts as if the scenario had
///   said so. While it stays offline, nothing has to become live, and at the end it may be online.
/// * When it closes a channel that the scenario opened, the channel is given up.
/// * Channels that it opens are its own. What comes on them is not judged, nor whether they become
///   live, nor that they are closed. A topic that it opened before the scenario did is its own, too.
/// * What it sends is its own, as long as no payload has the key `"#"`, by which the numbers of the
///   scenario are known ([`numbered`](crate::numbered)). So what the scenario sent it may pass on on
///   topics of its own only.
/// * When it tracks or untracks, what it shows of itself on that topic is not judged.
/// * It may ask again whenever it is told something. So for a client with an application there is no
///   rule about how often it connects and joins, nor about trying a refused token again.
///
/// Everything else is judged as without an application: that the channels of the scenario are live
/// within the bound (G8), in order, once, and with every gap told (G1, G2, G4, G10), that pushes and
/// channels end once (G3), who is present (G9), what leaves when and how large (G5, G6, G11, G12),
/// secrets (G14), and that a server has no channel of a client that the client itself has not. Only
/// one thing is not noticed: an application that takes bindings from a channel of the scenario is
/// blamed for the row changes that are missing then.
///
/// # Examples
///
/// An application that shows how many are in a room, and what must hold of it in every scenario:
///
/// ```
/// use realtime_proto::{ChannelEvent, ChannelId, Client, Event, Instant};
/// use realtime_sim::{App, check_seeds, run_app};
///
/// #[derive(Default)]
/// struct Headcount(Vec<(ChannelId, usize)>);
///
/// impl App<Client, Event> for Headcount {
///     fn handle_event(&mut self, event: &Event, client: &mut Client, _: Instant) {
///         if let Event::Channel(id, ChannelEvent::Presence(_)) = event {
///             let count = client.channel(*id).map_or(0, |room| room.presence().members().count());
///             self.0.retain(|(other, _)| other != id);
///             self.0.push((*id, count));
///         }
///     }
///
///     fn check(&self, client: &mut Client) -> Result<(), String> {
///         for (id, shown) in &self.0 {
///             let Some(room) = client.channel(*id) else { continue };
///             let there = room.presence().members().count();
///             if *shown != there {
///                 return Err(format!("{id} shows {shown} and there are {there}"));
///             }
///         }
///         Ok(())
///     }
/// }
///
/// check_seeds(0..20, |scenario| run_app(scenario, |_| Headcount::default()));
/// ```
pub trait App<M, E>: 'static {
    /// Takes one event, and gives the machine commands if it likes.
    fn handle_event(&mut self, event: &E, machine: &mut M, now: Instant);

    /// What must hold once a scenario is healed and everything is at rest, or what does not.
    /// Default: nothing.
    ///
    /// # Errors
    ///
    /// When it does not hold.
    fn check(&self, machine: &mut M) -> Result<(), String> {
        let _ = machine;
        Ok(())
    }
}

impl<M, E, F: FnMut(&E, &mut M, Instant) + 'static> App<M, E> for F {
    fn handle_event(&mut self, event: &E, machine: &mut M, now: Instant) {
        self(event, machine, now);
    }
}

/// Something that an application did by itself and that counts as if a scenario had said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Connect,
    Disconnect,
    Token(Option<String>),
    Close(TopicId),
}

impl Deed {
    pub(crate) fn command(&self) -> Command<'_> {
        match self {
            Self::Connect => Command::Connect,
            Self::Disconnect => Command::Disconnect,
            Self::Token(token) => Command::Token(token.as_deref()),
            Self::Close(topic) => Command::Close(*topic),
        }
    }
}

/// What a machine wants, as far as it shows.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) online: bool,
    pub(crate) token: Option<String>,
    /// Which channels of the scenario it has.
    pub(crate) open: Vec<TopicId>,
}

impl Wishes {
    /// What was done since `before`.
    fn since(self, before: Self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.online != before.online {
            deeds.push(if self.online { Deed::Connect } else { Deed::Disconnect });
        }
        let closed = before.open.into_iter().filter(|topic| !self.open.contains(topic));
        deeds.extend(closed.map(Deed::Close));
        if self.token != before.token {
            deeds.push(Deed::Token(self.token));
        }
        deeds
    }
}

/// An application as the subject it is on has it.
pub(crate) trait Played<S: Subject> {
    fn handle_event(&mut self, event: &S::Event, subject: &mut S, now: Instant) -> Vec<Deed>;
    fn check(&self, subject: &mut S) -> Result<(), String>;
    /// The topics of all channels that its machine has, as far as that shows.
    fn channels(&self, subject: &S) -> Vec<String>;
    fn as_any(&self) -> &dyn Any;
}

/// An application on a client of any kind.
pub(crate) struct OnSubject<A>(pub(crate) A);

/// An application on the machine inside one of our own subjects.
pub(crate) struct OnMachine<A>(pub(crate) A);

/// One of our own subjects: a machine, and the channels that a scenario has on it.
pub(crate) trait Ours: Subject {
    type Machine;
    fn machine(&mut self) -> &mut Self::Machine;
    /// Whether a scenario plays with it, and not somebody who made a world by hand.
    fn is_scripted(&self) -> bool;
    /// What the machine wants, whoever told it to.
    fn wishes(&self) -> Wishes;
    /// The topics of all channels that the machine has, whoever opened them.
    fn channels(&self) -> Vec<String>;
    /// The application gave up a channel of the scenario.
    fn give_up(&mut self, topic: TopicId);
}

impl<S: Subject, A: App<S, S::Event>> Played<S> for OnSubject<A> {
    fn handle_event(&mut self, event: &S::Event, subject: &mut S, now: Instant) -> Vec<Deed> {
        self.0.handle_event(event, subject, now);
        Vec::new()
    }

    fn check(&self, subject: &mut S) -> Result<(), String> {
        self.0.check(subject)
    }

    fn channels(&self, _: &S) -> Vec<String> {
        Vec::new()
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}

impl<S: Ours, A: App<S::Machine, S::Event>> Played<S> for OnMachine<A> {
    fn handle_event(&mut self, event: &S::Event, subject: &mut S, now: Instant) -> Vec<Deed> {
        if !subject.is_scripted() {
            self.0.handle_event(event, subject.machine(), now);
            return Vec::new();
        }
        let before = subject.wishes();
        self.0.handle_event(event, subject.machine(), now);
        let deeds = subject.wishes().since(before);
        for deed in &deeds {
            if let Deed::Close(topic) = deed {
                subject.give_up(*topic);
            }
        }
        deeds
    }

    fn check(&self, subject: &mut S) -> Result<(), String> {
        self.0.check(subject.machine())
    }

    fn channels(&self, subject: &S) -> Vec<String> {
        subject.channels()
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}

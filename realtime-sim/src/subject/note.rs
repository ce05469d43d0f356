//! Details of our own events that are counted.

use realtime_proto::manager::{LeaseEvent, ManagerEvent};
use realtime_proto::supabase::Cause;
use realtime_proto::{ChannelEvent, Event, Instant, Outcome, Recovery, Status, Violation};

use super::Note;
use crate::coverage::{Place, PushEnd, Sight, ViolationKind};

/// At most two details of an event.
type Notes = core::iter::Flatten<core::array::IntoIter<Option<Note>, 2>>;

fn notes(first: Option<Note>, second: Option<Note>) -> Notes {
    [first, second].into_iter().flatten()
}

/// The details of an event of a client.
pub(super) fn of(event: &Event) -> Notes {
    match event {
        Event::TokenNeeded { cause, deadline } => token(cause, *deadline),
        Event::Violation(what) => notes(Some(violation(what)), None),
        Event::Channel(_, event) => of_channel(event),
        _ => notes(None, None),
    }
}

fn of_channel(event: &ChannelEvent) -> Notes {
    let one = |note| notes(Some(note), None);
    match event {
        ChannelEvent::Rejoining { cause } => one(Note::Cause(Place::Rejoining, cause.kind)),
        ChannelEvent::Closed { cause } => one(Note::Cause(Place::Closed, cause.kind)),
        ChannelEvent::Gap(gap) => one(Note::Cause(Place::Gap, gap.why.kind)),
        ChannelEvent::Recovered(recovery) => recovered(recovery),
        ChannelEvent::PushEnded { outcome, .. } => push(outcome),
        ChannelEvent::TrackRefused { .. } => one(Note::Sight(Sight::TrackRefused)),
        ChannelEvent::System(_) => one(Note::Sight(Sight::System)),
        _ => notes(None, None),
    }
}

/// The details of an event of a manager.
pub(super) fn of_manager(event: &ManagerEvent) -> Notes {
    let one = |note| notes(Some(note), None);
    match event {
        ManagerEvent::TokenNeeded { cause, deadline } => token(cause, *deadline),
        ManagerEvent::Violation(what) => one(violation(what)),
        ManagerEvent::PushEnded { outcome, .. } => push(outcome),
        ManagerEvent::Lease(_, event) => match event {
            LeaseEvent::Gap(gap) => one(Note::Cause(Place::Gap, gap.why.kind)),
            LeaseEvent::Recovered(recovery) => recovered(recovery),
            LeaseEvent::TrackRefused { .. } => one(Note::Sight(Sight::TrackRefused)),
            LeaseEvent::System(_) => one(Note::Sight(Sight::System)),
            _ => notes(None, None),
        },
        _ => notes(None, None),
    }
}

fn token(cause: &Cause, deadline: Option<Instant>) -> Notes {
    let sight = if deadline.is_some() { Sight::TokenEarly } else { Sight::TokenLate };
    notes(Some(Note::Cause(Place::Token, cause.kind)), Some(Note::Sight(sight)))
}

fn recovered(recovery: &Recovery) -> Notes {
    let sight = match recovery.replayed {
        0 => Sight::NothingReplayed,
        _ => Sight::Replayed,
    };
    notes(Some(Note::Cause(Place::Recovered, recovery.why.kind)), Some(Note::Sight(sight)))
}

fn push(outcome: &Outcome) -> Notes {
    notes(outcome.cause().map(|cause| Note::Cause(Place::Push, cause.kind)), None)
}

/// How a push ended.
pub(super) fn end(outcome: &Outcome) -> PushEnd {
    match outcome {
        Outcome::Replied { status: Status::Ok, .. } => PushEnd::Ok,
        Outcome::Replied { status: Status::Error, .. } => PushEnd::Error,
        Outcome::Replied { .. } => PushEnd::OtherReply,
        Outcome::Sent => PushEnd::Sent,
        Outcome::TimedOut => PushEnd::TimedOut,
        Outcome::Interrupted => PushEnd::Interrupted,
        Outcome::Dropped => PushEnd::Dropped,
        Outcome::Expired | _ => PushEnd::Expired,
    }
}

const fn violation(violation: &Violation) -> Note {
    Note::Violation(match violation {
        Violation::FrameTooLarge { .. } => ViolationKind::FrameTooLarge,
        Violation::Payload { .. } => ViolationKind::Payload,
        Violation::UnknownBinding { .. } => ViolationKind::UnknownBinding,
        Violation::PresenceOverflow { .. } => ViolationKind::PresenceOverflow,
        Violation::Malformed(_) | _ => ViolationKind::Malformed,
    })
}

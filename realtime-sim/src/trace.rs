//! One line for every change, and one number for all of them.
//!
//! Lines have fixed columns: when, at which node, what, and the details. They never show payloads,
//! so no token that travels in one can end up in a log; the hash covers the frames all the same.

use core::fmt;

use realtime_proto::manager::{LeaseEvent, ManagerEvent};
use realtime_proto::wire::{self, Sender, Vsn};
use realtime_proto::{ChannelEvent, Event, Frame, Gap, Instant, Recovery, Stream};

use crate::seed::Hash;

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Hash,
    lines: u64,
    sink: Option<fn(&str)>,
}

impl Trace {
    pub(crate) const fn new() -> Self {
        Self { hash: Hash::new(), lines: 0, sink: None }
    }

    pub(crate) const fn print_to(&mut self, sink: fn(&str)) {
        self.sink = Some(sink);
    }

    /// Writes down one change; `bytes` count for the hash and are not shown.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        who: &dyn fmt::Display,
        what: &str,
        detail: &str,
        bytes: &[u8],
    ) {
        let line = format!("{:>12}  {:<6} {what:<8} {detail}", now.to_string(), who.to_string());
        self.lines += 1;
        self.hash.write(line.as_bytes());
        self.hash.write(bytes);
        if let Some(sink) = self.sink {
            sink(&line);
        }
    }

    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash.value()
    }
}

/// A frame in one line, without its payload.
pub(crate) fn describe_frame(frame: &Frame, from: Sender) -> String {
    let bytes = frame.as_bytes().len();
    let read = [Vsn::V2, Vsn::V1].into_iter().find_map(|vsn| wire::decode(vsn, from, frame).ok());
    let Some(envelope) = read else { return format!("unreadable, {bytes} bytes") };
    let join_ref = envelope.join_ref.as_deref().unwrap_or("-");
    let msg_ref = envelope.msg_ref.as_deref().unwrap_or("-");
    format!("{join_ref:>3} {msg_ref:>3} {} {}", envelope.topic, envelope.event)
}

/// An event of a client in one line, without its payload; short enough to compare whole logs.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::Config;
/// use realtime_sim::{World, describe};
///
/// let mut world = World::seed(1);
/// let ana = world.add_client(Config::builder("ws://server/socket").build()?);
/// world.client(ana, |client, now| client.connect(now));
/// world.run_for(Duration::from_secs(1));
/// world.client(ana, |client, now| client.disconnect(now));
/// let told: Vec<String> = world.log(ana).iter().map(|(_, event)| describe(event)).collect();
/// assert_eq!(told, ["connected socket1", "disconnected socket1: requested"]);
/// # Ok::<(), realtime_proto::ConfigError>(())
/// ```
#[must_use]
pub fn describe(event: &Event) -> String {
    match event {
        Event::Connected { socket } => format!("connected {socket}"),
        Event::Disconnected { socket, cause, retry_at } => {
            format!("disconnected {socket}: {}{}", cause.kind, again(*retry_at))
        }
        Event::Heartbeat { round_trip } => format!("heartbeat answered in {round_trip:?}"),
        Event::TokenNeeded { cause, .. } => format!("token needed: {}", cause.kind),
        Event::Channel(id, event) => format!("{id} {}", describe_channel(event)),
        Event::Violation(_) => "violation".into(),
        _ => "event".into(),
    }
}

fn describe_channel(event: &ChannelEvent) -> String {
    match event {
        ChannelEvent::Joined { .. } => "joined".into(),
        ChannelEvent::Live => "live".into(),
        ChannelEvent::Broadcast(broadcast) => format!("broadcast {}", broadcast.event),
        ChannelEvent::Change { change, .. } => format!("change {}", change.kind()),
        ChannelEvent::Presence(diff) => {
            let counts = (diff.joined.len(), diff.updated.len(), diff.left.len());
            format!("presence +{} ~{} -{}", counts.0, counts.1, counts.2)
        }
        ChannelEvent::Rejoining { cause } => format!("rejoining: {}", cause.kind),
        ChannelEvent::Gap(gap) => describe_gap(gap),
        ChannelEvent::Recovered(recovery) => describe_recovery(recovery),
        ChannelEvent::System(_) => "system".into(),
        ChannelEvent::ChangesStopped { cause } => format!("changes stopped: {}", cause.kind),
        ChannelEvent::Message { event, .. } => format!("message {event}"),
        ChannelEvent::PushEnded { push, outcome } => {
            use realtime_proto::Outcome;
            let outcome = match outcome {
                Outcome::Replied { .. } => "replied",
                Outcome::Sent => "sent",
                Outcome::TimedOut => "timed out",
                Outcome::Interrupted => "interrupted",
                Outcome::Dropped => "dropped",
                Outcome::Expired | _ => "expired",
            };
            format!("{push} {outcome}")
        }
        ChannelEvent::TrackRefused { .. } => "track refused".into(),
        ChannelEvent::Errored { cause, retry_at } => {
            format!("errored: {}{}", cause.kind, again(*retry_at))
        }
        ChannelEvent::Closed { cause } => format!("closed: {}", cause.kind),
        ChannelEvent::PresenceCalls(calls) => format!("{} presence calls", calls.len()),
        _ => "event".into(),
    }
}

/// An event of a manager in one line, without its payload, as [`describe`] does.
#[must_use]
pub fn describe_for_manager(event: &ManagerEvent) -> String {
    match event {
        ManagerEvent::Connected { connection } => format!("{connection} open"),
        ManagerEvent::Disconnected { connection, cause, retry_at } => {
            format!("{connection} lost: {}{}", cause.kind, again(*retry_at))
        }
        ManagerEvent::TokenNeeded { cause, .. } => format!("token needed: {}", cause.kind),
        ManagerEvent::Lease(lease, event) => format!("{lease} {}", describe_lease(event)),
        ManagerEvent::Channel { key, status } => format!("{} {status}", key.topic()),
        ManagerEvent::PushEnded { push, .. } => format!("{push} ended"),
        ManagerEvent::CleanedUp { cleanup } => format!("{cleanup} ended"),
        ManagerEvent::Heartbeat { connection, .. } => format!("{connection} heartbeat answered"),
        ManagerEvent::Violation(_) => "violation".into(),
        _ => "event".into(),
    }
}

fn describe_lease(event: &LeaseEvent) -> String {
    match event {
        LeaseEvent::Status(status) => status.to_string(),
        LeaseEvent::Change(change) => format!("change {}", change.kind()),
        LeaseEvent::Broadcast(broadcast) => format!("broadcast {}", broadcast.event),
        LeaseEvent::Presence(diff) => {
            let counts = (diff.joined.len(), diff.updated.len(), diff.left.len());
            format!("presence +{} ~{} -{}", counts.0, counts.1, counts.2)
        }
        LeaseEvent::Gap(gap) => describe_gap(gap),
        LeaseEvent::Recovered(recovery) => describe_recovery(recovery),
        LeaseEvent::System(_) => "system".into(),
        LeaseEvent::TrackRefused { .. } => "track refused".into(),
        LeaseEvent::Ended => "ended".into(),
        _ => "event".into(),
    }
}

fn describe_gap(gap: &Gap) -> String {
    let of = match gap.stream {
        Stream::Messages => "messages",
        Stream::Changes { .. } => "changes",
        _ => "something",
    };
    format!("gap of {of} from {} to {}: {}", gap.from, gap.to, gap.why.kind)
}

fn describe_recovery(recovery: &Recovery) -> String {
    let Recovery { replayed, contiguous, .. } = recovery;
    let whole = if *contiguous { "contiguous" } else { "not contiguous" };
    format!("recovered {replayed}, {whole}")
}

fn again(retry_at: Option<Instant>) -> String {
    retry_at.map_or_else(String::new, |at| format!(", again at {at}"))
}

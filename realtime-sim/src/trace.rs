//! One line for every change, and one number for all of them.
//!
//! Lines have fixed columns: when, at which node, what, and the details. They never show payloads,
//! so no token that travels in one can end up in a log; the hash covers the frames all the same.

use core::fmt;
use core::hash::{Hash, Hasher};

use realtime_proto::manager::{LeaseEvent, ManagerEvent};
use realtime_proto::wire::{self, Sender, Vsn};
use realtime_proto::{ChannelEvent, Event, Frame, Gap, Instant, Recovery, Stream};

use crate::NodeId;
use crate::coverage::{ChannelView, ConnectionView};
use crate::scenario::TopicId;
use crate::subject::ChannelKey;

/// Where something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// At a client or a manager.
    Node(NodeId),
    /// At a server, counted from 0.
    Server(usize),
    /// In the world at large.
    World,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Server(0) => f.write_str("server"),
            Self::Server(number) => write!(f, "server{number}"),
            Self::World => f.write_str("world"),
        }
    }
}

/// One change of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the world's clock.
    pub at: Instant,
    /// Where.
    pub who: Who,
    /// What, in one word: `opens`, `sends`, `receives`, `closes`, `tells`, or the word of a fault.
    pub word: &'static str,
    /// The details, without payloads.
    pub detail: String,
    /// Of what was received: where it came from and when it left.
    pub from: Option<(Who, Instant)>,
    /// Of a frame that was sent: where it goes.
    pub to: Option<Who>,
    /// Of what was told of a channel that a scenario opened: its topic.
    pub topic: Option<TopicId>,
}

/// A connection or a channel that is seen otherwise from some record on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// How many records there were before.
    pub(crate) record: usize,
    pub(crate) node: NodeId,
    pub(crate) view: View,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Connection(u32, ConnectionView),
    Channel(ChannelKey, ChannelView),
}

/// Fixed columns: when, where, what, and the details.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, who) = (self.at.to_string(), self.who.to_string());
        write!(f, "{at:>12}  {who:<6} {:<8} {}", self.word, self.detail)
    }
}

impl Record {
    /// The record as one JSON object: `at_us`, `who`, `word`, `detail`, and of what was received
    /// `from` and `left_at_us`.
    ///
    /// # Examples
    ///
    /// ```
    /// use realtime_sim::{Run, Scenario};
    ///
    /// let scenario: Scenario = "client ana\n+0ms ana connect\n".parse()?;
    /// let (_, records) = Run::new(&scenario).recorded();
    /// let first = r#"{"at_us":0,"who":"world","word":"step","detail":"ana connect"}"#;
    /// assert_eq!(records[0].to_json(), first);
    /// # Ok::<(), realtime_sim::ScenarioError>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            at_us: u128,
            who: String,
            word: &'a str,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            from: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            left_at_us: Option<u128>,
        }
        let micros = |at: Instant| at.since_epoch().as_micros();
        let line = Line {
            at_us: micros(self.at),
            who: self.who.to_string(),
            word: self.word,
            detail: &self.detail,
            from: self.from.map(|(who, _)| who.to_string()),
            left_at_us: self.from.map(|(_, at)| micros(at)),
        };
        serde_json::to_string(&line).expect("texts and numbers are JSON")
    }
}

/// Where the lines of a trace go.
#[derive(Clone, Copy, Debug, Default)]
enum Sink {
    #[default]
    Nowhere,
    Print(fn(&str)),
    Keep,
}

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Rolling,
    sink: Sink,
    kept: Vec<Record>,
    changes: Vec<Change>,
}

/// More records than this are no trace that anybody reads.
const RECORDS_MAX: usize = 5_000_000;

impl Trace {
    pub(crate) const fn print_to(&mut self, sink: fn(&str)) {
        self.sink = Sink::Print(sink);
    }

    pub(crate) const fn keep(&mut self) {
        self.sink = Sink::Keep;
    }

    pub(crate) fn kept(&self) -> &[Record] {
        &self.kept
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The record that was written last, to say more of it; nothing of it counts for the hash.
    pub(crate) fn last(&mut self) -> Option<&mut Record> {
        self.kept.last_mut()
    }

    /// Keeps a change beside the records.
    pub(crate) fn keep_change(&mut self, node: NodeId, view: View) {
        if matches!(self.sink, Sink::Keep) {
            self.changes.push(Change { record: self.kept.len(), node, view });
        }
    }

    /// Whether anybody reads the lines; otherwise details need not be made.
    pub(crate) const fn is_read(&self) -> bool {
        !matches!(self.sink, Sink::Nowhere)
    }

    /// Writes down one change. `counts` is what counts for the hash besides the time, the place
    /// and the word; `detail` is asked for only when somebody reads it.
    pub(crate) fn write(
        &mut self,
        at: Instant,
        who: Who,
        word: &'static str,
        counts: impl Hash,
        detail: impl FnOnce() -> String,
    ) {
        self.write_from(at, who, word, None, counts, detail);
    }

    pub(crate) fn write_from(
        &mut self,
        at: Instant,
        who: Who,
        word: &'static str,
        from: Option<(Who, Instant)>,
        counts: impl Hash,
        detail: impl FnOnce() -> String,
    ) {
        (at, who, word).hash(&mut self.hash);
        counts.hash(&mut self.hash);
        match self.sink {
            Sink::Nowhere => {}
            Sink::Print(print) => {
                let (to, topic) = (None, None);
                print(&Record { at, who, word, detail: detail(), from, to, topic }.to_string());
            }
            Sink::Keep => {
                assert!(self.kept.len() < RECORDS_MAX, "the trace has {RECORDS_MAX} records");
                let (to, topic) = (None, None);
                self.kept.push(Record { at, who, word, detail: detail(), from, to, topic });
            }
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash.0
    }
}

/// A hash of all that was written, eight bytes at a time; the same on every platform.
#[derive(Debug, Default)]
struct Rolling(u64);

impl Rolling {
    const fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for Rolling {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a chunk of eight"));
        let mut blocks = bytes.chunks_exact(32);
        // In four lanes, since in one each word waits for the multiplication of the one before it;
        // some frames have five million bytes.
        if bytes.len() >= 32 {
            let mut lanes = [self.0, 1, 2, 3].map(Self);
            for block in &mut blocks {
                for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                    lane.mix(word(bytes));
                }
            }
            lanes.iter().for_each(|lane| self.mix(lane.0));
        }
        let mut words = blocks.remainder().chunks_exact(8);
        for bytes in &mut words {
            self.mix(word(bytes));
        }
        let (rest, mut last) = (words.remainder(), [0; 8]);
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    // What is left to the default is hashed in the byte order of the platform.
    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_u128(&mut self, number: u128) {
        self.mix(number as u64);
        self.mix((number >> 64) as u64);
    }

    fn write_i8(&mut self, number: i8) {
        self.write_u8(number as u8);
    }

    fn write_i16(&mut self, number: i16) {
        self.write_u16(number as u16);
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u32(number as u32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn write_i128(&mut self, number: i128) {
        self.write_u128(number as u128);
    }

    // As wide as the platform is, and the same on all.
    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_counts_as_its_number_and_not_as_the_bytes_of_the_platform() {
        let hash = |write: fn(&mut Rolling)| {
            let mut hash = Rolling::default();
            write(&mut hash);
            hash.0
        };
        // The number times the constant of the mixing, worked out beside this code.
        let numbers: [fn(&mut Rolling); 5] = [
            |it| it.write_u16(0x0102),
            |it| it.write_u32(0x0102),
            |it| it.write_u64(0x0102),
            |it| it.write_i16(0x0102),
            |it| it.write_usize(0x0102),
        ];
        for write in numbers {
            assert_eq!(hash(write), 0x0102_u64.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        assert_ne!(hash(|it| it.write_u128(1)), hash(|it| it.write_u128(1 << 64)));
    }

    #[test]
    fn every_byte_counts_for_the_hash_and_so_does_where_it_is_and_what_was_before() {
        let hash = |bytes: &[u8]| {
            let mut hash = Rolling::default();
            hash.write_u8(1);
            hash.write(bytes);
            hash.0
        };
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..100 {
            let mut bytes = vec![0; length];
            assert!(seen.insert(hash(&bytes)), "{length} zeros");
            for at in 0..length {
                bytes[at] = 7;
                assert!(seen.insert(hash(&bytes)), "byte {at} of {length}");
                bytes[at] = 0;
            }
        }
        let mut other = Rolling::default();
        other.write_u8(2);
        other.write(&[0; 64]);
        assert_ne!(hash(&[0; 64]), other.0);
    }
}

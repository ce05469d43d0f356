//! A hostile server, a careless driver and a restless application, out of the fuzzer's bytes.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use realtime_proto::manager::{CleanupId, LeaseId, Manager, ManagerConfig};
use realtime_proto::supabase::Cause;
use realtime_proto::wire::{Body, Encoding, Envelope, FrameKind, Sender, Vsn, encode};
use realtime_proto::{
    Backoff, BindingId, ChannelId, Client, CloseReason, Config, Frame, Instant, Limits, PushId,
    Secret, SocketId,
};

use super::Input;

macro_rules! either {
    ($machine:expr, $either:ident => $call:expr) => {
        match &mut $machine {
            Machine::Client($either) => $call,
            Machine::Manager($either) => $call,
        }
    };
}

mod checks;
mod commands;

/// The operation whose bytes are a text frame: one that counts twos, then so many bytes.
pub const TEXT_FRAME: u8 = 0;
/// The operation whose bytes are a binary frame, counted as those of [`TEXT_FRAME`].
pub const BINARY_FRAME: u8 = 1;
/// What follows every other operation; those that need less leave the rest.
pub const ARGUMENT_BYTES: usize = 5;

const APIKEY: &str = "hush-apikey";
/// Claims `exp` 1,000, `exp` 4,000,000,000 and none.
const TOKENS: [&str; 3] = [
    "hush.eyJyb2xlIjoiYSIsImV4cCI6MTAwMH0.hush",
    "hush.eyJyb2xlIjoiYSIsImV4cCI6NDAwMDAwMDAwMH0.hush",
    "hush.eyJyb2xlIjoiYSJ9.hush",
];
const SENT_KEPT: usize = 24;
const EVENTS_A_STEP_MAX: usize = 2_000;

/// Any bytes as a server that may send anything at any time, to a [`Client`] or a [`Manager`] that
/// is driven and used in any order; tells how many operations there were.
///
/// After each operation the queues are drained, and
///
/// * after `handle_timeout` the next deadline is later (G7), and nothing else is left to take;
/// * every push has one outcome, every channel one `Closed` and every lease one `Ended`, which is
///   the last that is heard of it (G3);
/// * a disconnect is told before the channel errors it causes (G5);
/// * frames are for the connection there is, and a server can read them;
/// * queues, channels and presence are within their limits (G12);
/// * nothing that can be printed shows a secret (G14).
///
/// # Panics
///
/// When one of these does not hold.
pub fn client_frames(data: &[u8]) -> usize {
    let mut input = Input(data);
    let mut siege = Siege::new(&mut input);
    let mut steps = 0;
    while !input.0.is_empty() {
        siege.step(&mut input);
        steps += 1;
    }
    siege.end();
    steps
}

/// What is driven.
enum Machine {
    Client(Box<Client>),
    Manager(Box<Manager>),
}

/// A frame the client sent: what an answer has to name.
#[derive(Clone)]
struct Sent {
    topic: String,
    join_ref: Option<String>,
    msg_ref: Option<String>,
    /// The bindings of a join, as a server would confirm them.
    bindings: String,
    answered: bool,
}

/// The machine, all that was asked of it, and what is still owed.
struct Siege {
    machine: Machine,
    vsn: Vsn,
    limits: Limits,
    now: Instant,
    /// The connection or attempt the driver has, and whether it was reported as open.
    socket: Option<(SocketId, bool)>,
    /// The one before.
    stale: Option<SocketId>,
    sent: Vec<Sent>,
    /// The cause of the disconnect since which there was no connection.
    down: Option<Cause>,
    /// Channels that are not closed, and the bindings added to them.
    channels: BTreeMap<ChannelId, Vec<BindingId>>,
    /// Pushes that have no outcome.
    pushes: BTreeSet<PushId>,
    /// Leases that have not ended, and whether their status was told.
    leases: BTreeMap<LeaseId, bool>,
    /// Clean-ups whose end was not told yet.
    cleanups: BTreeSet<CleanupId>,
    shown: String,
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.channels_max = 6;
    limits.bindings_max = 4;
    limits.pushes_buffered_max = 4;
    limits.pushes_in_flight_max = 5;
    limits.transmits_queued_max = 16;
    limits.events_queued_max = 32;
    limits.frame_bytes_max = 400;
    limits.presence_keys_max = 2;
    limits.presence_metas_max = 2;
    limits.presence_diffs_held_max = 3;
    limits.presence_calls_max = 3;
    limits.joins_per_second_max = 4;
    limits
}

impl Siege {
    fn new(input: &mut Input<'_>) -> Self {
        let choice = input.byte();
        let vsn = if choice & 2 == 0 { Vsn::V2 } else { Vsn::V1 };
        let mut config = Config::builder("ws://siege.test/socket").vsn(vsn).apikey(APIKEY);
        config = config.limits(limits());
        if choice & 4 != 0 {
            config = config.access_token(TOKENS[usize::from(choice >> 6) % TOKENS.len()]);
        }
        if choice & 8 != 0 {
            let once = Backoff::exponential(Duration::from_millis(1), Duration::from_secs(1));
            config = config.reconnect(once.clone().with_attempts_max(3)).rejoin(once);
        }
        if choice & 16 != 0 {
            config = config.disconnect_when_empty_after(Some(Duration::from_secs(1)));
        }
        let config = config.build().expect("these settings work");
        let (seed, now) = (u64::from(choice), Instant::EPOCH);
        let machine = if choice & 1 == 0 {
            Machine::Client(Box::new(Client::new(config, seed, now)))
        } else {
            Machine::Manager(Box::new(Manager::new(ManagerConfig::new(config), seed, now)))
        };
        Self {
            machine,
            vsn,
            limits: limits(),
            now,
            socket: None,
            stale: None,
            sent: Vec::new(),
            down: None,
            channels: BTreeMap::new(),
            pushes: BTreeSet::new(),
            leases: BTreeMap::new(),
            cleanups: BTreeSet::new(),
            shown: String::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 32 {
            TEXT_FRAME => self.receive(Frame::Text(input.bytes().to_vec().into())),
            BINARY_FRAME => self.receive(Frame::Binary(input.bytes().to_vec().into())),
            operation => self.operate(operation, &mut Input(input.take(ARGUMENT_BYTES))),
        }
        self.drain();
    }

    fn operate(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation {
            2..=7 => self.answer(),
            8 | 9 => self.reply(input),
            10..=14 => self.tell(input),
            15 => self.lose(input),
            16 | 17 => self.open(input),
            18 | 19 => self.timeout(Duration::ZERO),
            20 => {
                let hours = input.byte();
                self.timeout(Duration::from_secs(3_600 * u64::from(hours.saturating_sub(240))));
            }
            21 => self.now = self.now + Duration::from_millis(u64::from(input.byte())),
            22 => self.early(input),
            23 => self.interrupt(input),
            _ => match self.machine {
                Machine::Client(_) => self.command_client(input),
                Machine::Manager(_) => self.command_manager(input),
            },
        }
    }

    fn receive(&mut self, frame: Frame) {
        if let Some((socket, _)) = self.socket {
            either!(self.machine, machine => machine.handle_frame(socket, frame, self.now));
        }
    }

    fn send(&mut self, envelope: &Envelope<'_>) {
        let mut buffer = Vec::new();
        // Not everything has a form in every version.
        let Ok(kind) = encode(self.vsn, Sender::Server, envelope, &mut buffer) else { return };
        self.receive(match kind {
            FrameKind::Text => Frame::Text(buffer.into()),
            FrameKind::Binary => Frame::Binary(buffer.into()),
        });
    }

    /// Answers the oldest frame that asks for it, as a server that means well.
    fn answer(&mut self) {
        let oldest = self.sent.iter_mut().find(|sent| !sent.answered && sent.msg_ref.is_some());
        let Some(sent) = oldest else { return };
        sent.answered = true;
        let sent = sent.clone();
        let response = format!(r#"{{"postgres_changes":[{}]}}"#, sent.bindings);
        self.send_reply(&sent, "ok", &response);
    }

    fn send_reply(&mut self, to: &Sent, status: &str, response: &str) {
        self.send(&Envelope {
            join_ref: to.join_ref.as_deref().map(Into::into),
            msg_ref: to.msg_ref.as_deref().map(Into::into),
            topic: to.topic.as_str().into(),
            event: "phx_reply".into(),
            body: Body::Json(&format!(r#"{{"status":"{status}","response":{response}}}"#)),
        });
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<Sent> {
        let at = usize::from(input.byte());
        self.sent.get(at % self.sent.len().max(1)).cloned()
    }

    /// Answers anything with anything.
    fn reply(&mut self, input: &mut Input<'_>) {
        let Some(sent) = self.pick(input) else { return };
        let choice = input.byte();
        let reason = |text: &str| format!(r#"{{"reason":"{text}"}}"#);
        match choice % 12 {
            0 => self.send_reply(&sent, "ok", "{}"),
            1 => self.send_reply(&sent, "ok", r#"{"postgres_changes":[{"id":1}]}"#),
            2 => {
                self.send_reply(&sent, "ok", r#"{"postgres_changes":[null,{"id":7,"event":"*"}]}"#)
            }
            3 => self.send_reply(&sent, "error", &reason("unmatched topic")),
            4 => self.send_reply(&sent, "error", &reason("InvalidJWTToken: Token has expired 1")),
            5 => self.send_reply(&sent, "error", &reason("Unauthorized: no")),
            6 => self.send_reply(&sent, "error", &reason("PrivateOnly: private")),
            7 => self.send_reply(&sent, "error", &reason("RealtimeRestarting: wait")),
            8 => self.send_reply(&sent, "error", "7"),
            9 => self.send_reply(&sent, "maybe", "[[]]"),
            10 => self.send(&Envelope {
                join_ref: sent.join_ref.as_deref().map(Into::into),
                msg_ref: sent.msg_ref.as_deref().map(Into::into),
                topic: sent.topic.as_str().into(),
                event: "phx_reply".into(),
                body: Body::Reply { status: "ok", response: &[choice] },
            }),
            _ => self.send_reply(&sent, "error", r#"{"reason":7}"#),
        }
    }

    /// Says anything about any join, by its own name, by none or by another.
    fn tell(&mut self, input: &mut Input<'_>) {
        let Some(sent) = self.pick(input) else { return };
        let choice = input.byte();
        let named = match choice >> 6 {
            0 | 1 => sent.join_ref.clone(),
            2 => None,
            _ => Some(input.byte().to_string()),
        };
        let (key, phx_ref) = (input.byte() % 8, input.byte());
        let meta = |phx_ref: u8| format!(r#"{{"metas":[{{"phx_ref":"{phx_ref}","n":{key}}}]}}"#);
        let (event, payload) = match choice % 16 {
            0 => ("phx_close", "{}".into()),
            1 => ("phx_error", r#"{"reason":"channel_crash"}"#.into()),
            2 | 3 => ("presence_state", format!(r#"{{"k{key}":{}}}"#, meta(phx_ref))),
            4 | 5 => (
                "presence_diff",
                format!(r#"{{"joins":{{"k{key}":{}}},"leaves":{{}}}}"#, meta(phx_ref)),
            ),
            6 => (
                "presence_diff",
                format!(r#"{{"joins":{{}},"leaves":{{"k{key}":{}}}}}"#, meta(phx_ref)),
            ),
            7 => ("broadcast", r#"{"type":"broadcast","event":"e","payload":{"x":1}}"#.into()),
            8 => (
                "postgres_changes",
                format!(
                    r#"{{"ids":[{key}],"data":{{"schema":"public","table":"t","type":"INSERT",
                    "commit_timestamp":null,"columns":[],"errors":null,"record":{{"id":1}}}}}}"#,
                ),
            ),
            9 => ("system", system("postgres_changes", "ok", "Subscribed to PostgreSQL")),
            10 => ("system", system("system", "error", "Token has expired 3 seconds ago")),
            11 => ("system", system("system", "error", "Too many messages per second")),
            12 => ("system", system("postgres_changes", "error", "Error parsing `filter` params")),
            13 => ("shout", "[1,2]".into()),
            14 => ("presence_state", "{}".into()),
            _ => {
                return self.send(&Envelope {
                    join_ref: None,
                    msg_ref: None,
                    topic: sent.topic.as_str().into(),
                    event: "broadcast".into(),
                    body: Body::UserBroadcast {
                        event: "e",
                        encoding: Encoding::Json,
                        metadata: None,
                        payload: b"{}",
                    },
                });
            }
        };
        // V1 names the join where V2 names the message.
        let closing = matches!(event, "phx_close" | "phx_error");
        let msg_ref = if self.vsn == Vsn::V1 && closing { named.clone() } else { None };
        self.send(&Envelope {
            join_ref: named.map(Into::into),
            msg_ref: msg_ref.map(Into::into),
            topic: sent.topic.as_str().into(),
            event: event.into(),
            body: Body::Json(&payload),
        });
    }

    /// The socket an input is about: the one there is or, now and then, the one before.
    fn socket(&self, input: &mut Input<'_>) -> Option<SocketId> {
        let current = self.socket.map(|(socket, _)| socket);
        if input.byte() % 8 == 0 { self.stale } else { current }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let Some(socket) = self.socket(input) else { return };
        if let Some((_, open)) = self.socket.as_mut().filter(|(current, _)| *current == socket) {
            *open = true;
        }
        either!(self.machine, machine => machine.handle_open(socket, self.now));
    }

    /// Ends the connection or the attempt, now and then.
    fn lose(&mut self, input: &mut Input<'_>) {
        const CODES: [u16; 10] = [1000, 1001, 1002, 1005, 1006, 1009, 1011, 1012, 3410, 4999];
        const ANSWERS: [(u16, &str); 8] = [
            (500, "<html>"),
            (503, "busy"),
            (429, r#"{"error":"Too many connected users"}"#),
            (200, ""),
            (401, r#"{"error":"Token has expired"}"#),
            (403, ""),
            (403, r#"{"error":"Realtime was disabled for this tenant"}"#),
            (404, r#"{"error":"Tenant not found"}"#),
        ];
        let (whether, which, wait) = (input.byte(), usize::from(input.byte()), input.byte());
        let reason = match whether {
            0..=7 => CloseReason::Closed { code: CODES[which % CODES.len()], reason: "".into() },
            8 | 9 => CloseReason::Lost { detail: "reset".into() },
            10 => CloseReason::WriteTimeout,
            11 | 12 => {
                let (status, body) = ANSWERS[which % ANSWERS.len()];
                let retry_after = (wait % 2 == 0).then(|| Duration::from_secs(wait.into()));
                CloseReason::Refused { status, body: body.into(), retry_after }
            }
            _ => return,
        };
        let Some(socket) = self.socket(input) else { return };
        if self.socket.is_some_and(|(current, _)| current == socket) {
            self.stale = Some(socket);
            self.socket = None;
        }
        either!(self.machine, machine => machine.handle_close(socket, reason, self.now));
    }

    /// Wakes the machine at its deadline, or as late as a machine that slept.
    fn timeout(&mut self, late: Duration) {
        let Some(deadline) = either!(self.machine, machine => machine.poll_timeout()) else {
            return;
        };
        self.now = self.now.max(deadline) + late;
        either!(self.machine, machine => machine.handle_timeout(self.now));
        self.drain();
        let next = either!(self.machine, machine => machine.poll_timeout());
        assert!(next.is_none_or(|at| at > self.now), "woken at {}, again at {next:?}", self.now);
    }

    /// Wakes the machine before its deadline, or with a clock that went back.
    fn early(&mut self, input: &mut Input<'_>) {
        let back = Duration::from_secs(u64::from(input.byte()));
        let earlier = Instant::from_epoch(self.now.since_epoch().saturating_sub(back));
        either!(self.machine, machine => machine.handle_timeout(earlier));
    }

    /// What an application rarely does.
    fn interrupt(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let now = self.now;
        match choice % 32 {
            0 => either!(self.machine, machine => machine.disconnect(now)),
            1..=8 => either!(self.machine, machine => machine.connect(now)),
            9..=16 => either!(self.machine, machine => machine.probe(now)),
            17..=24 => {
                let token = TOKENS.get(usize::from(choice >> 6)).map(|token| Secret::new(*token));
                either!(self.machine, machine => machine.set_access_token(token, now));
            }
            25..=27 => {
                let unix = Duration::from_secs(u64::from(choice) * 4);
                either!(self.machine, machine => machine.set_unix_time(unix, now));
            }
            28 => match &mut self.machine {
                Machine::Client(client) => {
                    let all: Vec<ChannelId> = client.channels().collect();
                    all.into_iter().for_each(|id| {
                        client.close_channel(id, now);
                    });
                }
                Machine::Manager(manager) => {
                    self.cleanups.insert(manager.cleanup_all_channels(now));
                }
            },
            _ => {}
        }
    }

    /// Closes everything and offline: nothing is owed any more.
    fn end(mut self) {
        match &mut self.machine {
            Machine::Client(client) => {
                let all: Vec<ChannelId> = client.channels().collect();
                for id in all {
                    assert!(client.close_channel(id, self.now), "{id} is there");
                }
            }
            Machine::Manager(manager) => {
                self.cleanups.insert(manager.cleanup_all_channels(self.now));
            }
        }
        self.drain();
        self.timeout(Duration::ZERO);
        either!(self.machine, machine => machine.disconnect(self.now));
        self.drain();
        assert_eq!(self.channels.len(), 0, "channels that were closed go");
        assert_eq!(self.pushes, BTreeSet::new(), "pushes without an outcome");
        assert_eq!(self.leases.len(), 0, "leases that did not end");
        assert_eq!(self.cleanups, BTreeSet::new(), "clean-ups whose end was not told");
        assert_eq!(either!(self.machine, machine => machine.stats()).channels, 0);
        let shown = match &mut self.machine {
            Machine::Client(client) => format!("{client:?}"),
            Machine::Manager(manager) => {
                assert_eq!(manager.active_channels().count(), 0);
                format!("{manager:?}")
            }
        };
        assert!(!shown.contains("hush"), "a secret shows in {shown}");
        for _ in 0..8 {
            self.timeout(Duration::ZERO);
        }
        let deadline = either!(self.machine, machine => machine.poll_timeout());
        assert_eq!(deadline, None, "a machine with nothing to do sleeps");
    }
}

fn system(extension: &str, status: &str, message: &str) -> String {
    format!(r#"{{"extension":"{extension}","status":"{status}","message":"{message}"}}"#)
}

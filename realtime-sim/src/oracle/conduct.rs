//! What a client owes its server, its user and the network besides what it delivers: it connects
//! when it is wanted and not otherwise, asks again when the server said, gives nothing up that
//! comes back, ends no connection that works, uses the newest token, and leaves nothing behind.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use realtime_proto::Instant;
use realtime_proto::server::{ServerEvent, SessionId};
use realtime_proto::supabase::CauseKind;
use realtime_proto::wire::{Body, Envelope};

use super::causes::{connection_comes_back, is_of_channel};
use super::{Verdict, must};
use crate::NodeId;
use crate::scenario::TopicId;
use crate::subject::Command;

#[derive(Debug, Default)]
pub(super) struct Conduct {
    nodes: BTreeMap<NodeId, Manners>,
    /// By link: whose it is, and of which of its connections.
    links: BTreeMap<u64, (NodeId, u32)>,
    /// How often a retry was planned after exactly such a delay, by whomever.
    delays: BTreeMap<Duration, u32>,
    /// By server and session: whose it is, and which topics it has joined.
    joined: BTreeMap<(usize, SessionId), (NodeId, BTreeSet<String>)>,
}

/// One node, as far as its manners are concerned.
#[derive(Debug, Default)]
struct Manners {
    wants: bool,
    token: Option<String>,
    /// How often the token changed.
    tokens: u32,
    /// By topic: the join that left last.
    joins: BTreeMap<String, Join>,
    /// By connection: its sockets, those first whose end was not told yet.
    sockets: BTreeMap<u32, VecDeque<Socket>>,
    /// By connection: when it may be tried again, by the clock of the node.
    not_before: BTreeMap<u32, Instant>,
    /// When it was asked to look after its connections, which takes a heartbeat.
    hinted_at: Option<Instant>,
    /// Since when it sleeps, or slept the last time.
    asleep_since: Instant,
    woke: Option<Woke>,
    is_late: bool,
}

/// A node that slept.
#[derive(Clone, Copy, Debug)]
struct Woke {
    at: Instant,
    /// Whether it looks at its timers before it reads, and was away for long.
    is_late: bool,
    /// Whether it was asked meanwhile to look after its connections: that heartbeat leaves now.
    hinted: bool,
}

#[derive(Debug)]
struct Join {
    msg_ref: String,
    token: Option<String>,
    /// How often the token had changed when it left.
    tokens: u32,
    /// Whether the server refused it for its token, and nothing was asked of the node since.
    rejected: bool,
}

#[derive(Debug)]
struct Socket {
    link: u64,
    /// The heartbeat that left last, and whether it was answered.
    beat: Option<(String, bool)>,
    /// Whether the server said how long to wait.
    hinted: bool,
    /// How it ended, if it did. What is told of it may be told much later.
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// Whether the node had just woken.
    woke: Option<Woke>,
    /// Whether the application asked for it.
    requested: bool,
}

/// Fewer equal delays than this are chance.
const EQUAL_DELAYS_MAX: u32 = 2;
/// Delays are never shorter, so that many are as short as this.
const DELAY_FLOOR: Duration = Duration::from_millis(1);
/// Whoever slept for so long cannot blame the server for its silence.
const LONG_SLEEP: Duration = Duration::from_secs(30);
/// So long the server has after that at least.
const PROBE: Duration = Duration::from_millis(1_900);

impl Conduct {
    /// An application asks for something; with a manager, a broadcast opens what it leaves on.
    pub(super) fn on_asked(
        &mut self,
        node: NodeId,
        command: &Command<'_>,
        is_manager: bool,
        name: impl Fn(TopicId) -> Option<String>,
        now: Instant,
    ) {
        let manners = self.nodes.entry(node).or_default();
        match command {
            Command::Hint => {
                manners.not_before.clear();
                manners.hinted_at = Some(now);
            }
            Command::Connect => {
                manners.not_before.clear();
                manners.wants = true;
            }
            Command::Disconnect => {
                manners.not_before.clear();
                manners.wants = false;
                for socket in manners.sockets.values_mut().flatten() {
                    socket.end.get_or_insert(End { woke: None, requested: true });
                }
            }
            Command::Token(token) => {
                manners.not_before.clear();
                if manners.token.as_deref() != *token {
                    manners.joins.values_mut().for_each(|join| join.rejected = false);
                    manners.token = token.map(Into::into);
                    manners.tokens += 1;
                }
            }
            Command::Open(topic) | Command::Rejoin(topic) => {
                if let Some(join) = name(*topic).and_then(|name| manners.joins.get_mut(&name)) {
                    join.rejected = false;
                }
            }
            Command::Send(..) if is_manager => {
                manners.joins.values_mut().for_each(|join| join.rejected = false);
            }
            Command::Close(_)
            | Command::Send(..)
            | Command::Track(..)
            | Command::Untrack(_)
            | Command::Rebind(_) => {}
        }
    }

    /// An application may ask for something without anybody's knowing.
    pub(super) fn on_app(&mut self, node: NodeId) {
        let manners = self.nodes.entry(node).or_default();
        manners.not_before.clear();
        manners.joins.values_mut().for_each(|join| join.rejected = false);
    }

    pub(super) fn on_restarted(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.links.retain(|_, (of, _)| *of != node);
    }

    /// The clock of a node goes back or stands still, and its deadlines are further away than they were.
    pub(super) fn on_clock_late(&mut self, node: NodeId) {
        self.nodes.entry(node).or_default().is_late = true;
    }

    pub(super) fn on_sleeps(&mut self, node: NodeId, now: Instant) {
        self.nodes.entry(node).or_default().asleep_since = now;
    }

    /// A node goes on; `suspended` when its machine slept and not only its driver.
    pub(super) fn on_woke(&mut self, node: NodeId, suspended: bool, now: Instant) {
        let manners = self.nodes.entry(node).or_default();
        let slept = now.saturating_duration_since(manners.asleep_since);
        manners.woke = Some(Woke {
            at: now,
            is_late: suspended && slept >= LONG_SLEEP,
            hinted: manners.hinted_at.is_some_and(|at| at >= manners.asleep_since),
        });
    }

    pub(super) fn on_attempt(
        &mut self,
        (node, connection): (NodeId, u32),
        link: u64,
        clock: Instant,
    ) -> Verdict {
        self.links.insert(link, (node, connection));
        let manners = self.nodes.entry(node).or_default();
        let socket = Socket { link, beat: None, hinted: false, end: None };
        manners.sockets.entry(connection).or_default().push_back(socket);
        must(manners.wants, "manners", || "it connects though nobody wants it to".into())?;
        let early = manners.not_before.remove(&connection).filter(|at| clock < *at);
        must(early.is_none(), "manners", || {
            format!("it tries again at {clock}, and the server asked it to wait until {early:?}")
        })
    }

    /// An attempt was refused, and the server said how long to wait.
    pub(super) fn on_told_to_wait(&mut self, link: u64, until: Instant) {
        let Some((node, connection)) = self.links.get(&link).copied() else { return };
        let manners = self.nodes.entry(node).or_default();
        manners.not_before.insert(connection, until);
        if let Some(socket) = manners.socket_mut(connection, link) {
            socket.hinted = true;
        }
    }

    pub(super) fn on_renamed(&mut self, before: u64, after: u64) {
        let Some((node, connection)) = self.links.remove(&before) else { return };
        self.links.insert(after, (node, connection));
        let manners = self.nodes.entry(node).or_default();
        if let Some(socket) = manners.socket_mut(connection, before) {
            socket.link = after;
        }
    }

    /// A socket is over, for whatever reason.
    pub(super) fn on_gone(&mut self, link: u64, now: Instant) {
        let Some((node, connection)) = self.links.get(&link) else { return };
        let Some(manners) = self.nodes.get_mut(node) else { return };
        let woke = manners.woke.filter(|woke| now < woke.at + PROBE);
        if let Some(socket) = manners.socket_mut(*connection, link) {
            socket.end.get_or_insert(End { woke, requested: false });
        }
    }

    fn socket_mut(&mut self, link: u64) -> Option<&mut Socket> {
        let (node, connection) = self.links.get(&link)?;
        self.nodes.get_mut(node)?.socket_mut(*connection, link)
    }

    /// A frame leaves a node; `supabase` when its topic is one of Supabase.
    pub(super) fn on_leaves(
        &mut self,
        node: NodeId,
        link: u64,
        envelope: &Envelope<'_>,
        supabase: bool,
    ) -> Verdict {
        let msg_ref = envelope.msg_ref.as_deref().unwrap_or_default();
        match &*envelope.event {
            "heartbeat" if envelope.topic == "phoenix" => {
                if let Some(socket) = self.socket_mut(link) {
                    socket.beat = Some((msg_ref.into(), false));
                }
                Ok(())
            }
            // What the server says of the join after that is nobody's concern.
            "phx_leave" => {
                let manners = self.nodes.entry(node).or_default();
                manners.joins.remove(&*envelope.topic);
                Ok(())
            }
            "phx_join" if supabase => {
                let (manners, topic) = (self.nodes.entry(node).or_default(), &envelope.topic);
                let token = token_of(envelope);
                must(token == manners.token.as_deref(), "token", || {
                    format!("the join of {topic} carries another token than the newest")
                })?;
                let token = token.map(str::to_owned);
                let join = Join {
                    msg_ref: msg_ref.into(),
                    token: token.clone(),
                    tokens: manners.tokens,
                    rejected: false,
                };
                let before = manners.joins.insert(topic.as_ref().into(), join);
                let again = before.is_some_and(|join| join.rejected && join.token == token);
                must(!again, "token", || {
                    format!("{topic} is joined again with the token that it was refused for")
                })
            }
            _ => Ok(()),
        }
    }

    /// A frame arrives at a node.
    pub(super) fn on_arrives(&mut self, link: u64, envelope: &Envelope<'_>) {
        if envelope.topic != "phoenix" {
            return self.on_refusal(link, envelope);
        }
        let socket = self.socket_mut(link);
        if let Some((beat, answered)) = socket.and_then(|socket| socket.beat.as_mut()) {
            *answered |= envelope.msg_ref.as_deref() == Some(beat);
        }
    }

    /// A server says of a join that its token will not do.
    fn on_refusal(&mut self, link: u64, envelope: &Envelope<'_>) {
        const WORDS: [&str; 3] = ["InvalidJWTToken", "MalformedJWT", "Unauthorized"];
        let Body::Json(text) = envelope.body else { return };
        if envelope.event != "phx_reply" || !WORDS.iter().any(|word| text.contains(word)) {
            return;
        }
        let Some((node, _)) = self.links.get(&link) else { return };
        let Some(manners) = self.nodes.get_mut(node) else { return };
        let Some(join) = manners.joins.get_mut(&*envelope.topic) else { return };
        // What is said of a token that was changed meanwhile, back and forth even, is old.
        if envelope.msg_ref.as_deref() == Some(&join.msg_ref) && join.tokens == manners.tokens {
            join.rejected = true;
        }
    }

    /// A node tells that a connection ended, or was not had.
    pub(super) fn on_disconnected(
        &mut self,
        (node, connection): (NodeId, u32),
        cause: CauseKind,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Verdict {
        let Some(manners) = self.nodes.get_mut(&node) else { return Ok(()) };
        if retry_after.is_none() {
            // Whoever gave up tries again when asked to, and then at once.
            manners.not_before.remove(&connection);
        }
        let sockets = manners.sockets.entry(connection).or_default();
        let first_is_its = cause != CauseKind::Requested
            || sockets.front().is_some_and(|socket| socket.end.is_some_and(|end| end.requested));
        // An attempt may be withdrawn that nobody has seen.
        let socket = if first_is_its { sockets.pop_front() } else { None };
        must(
            !manners.wants || retry_after.is_some() || !connection_comes_back(cause),
            "G8",
            || format!("connection {connection} is given up: {cause:?}"),
        )?;
        must(!is_of_channel(cause), "manners", || {
            format!("connection {connection} ends for the sake of one channel: {cause:?}")
        })?;
        let Some(Socket { beat, hinted, end, .. }) = socket else { return Ok(()) };
        let woke = match end {
            Some(end) => end.woke,
            None => manners.woke.filter(|woke| now < woke.at + PROBE),
        };
        if cause == CauseKind::HeartbeatTimeout && !woke.is_some_and(|woke| woke.hinted) {
            must(beat.is_some_and(|(_, answered)| !answered), "manners", || {
                "it misses the answer to a heartbeat, and each that left was answered".into()
            })?;
            let too_early = woke.is_some_and(|woke| woke.is_late) && !manners.is_late;
            must(!too_early, "manners", || {
                "it wakes and misses an answer that it did not look for".into()
            })?;
        }
        let Some(delay) = retry_after.filter(|delay| *delay > DELAY_FLOOR && !hinted) else {
            return Ok(());
        };
        let equal = self.delays.entry(delay).or_default();
        *equal += 1;
        must(*equal <= EQUAL_DELAYS_MAX, "storm", || {
            format!("again a retry is planned after {delay:?}, as if nobody else did")
        })
    }

    pub(super) fn on_accepted(&mut self, server: usize, session: SessionId, node: NodeId) {
        self.joined.insert((server, session), (node, BTreeSet::new()));
    }

    pub(super) fn on_server_told(&mut self, server: usize, event: &ServerEvent) {
        if let ServerEvent::Joined { session, topic } = event {
            if let Some((_, topics)) = self.joined.get_mut(&(server, *session)) {
                topics.insert(topic.clone());
            }
        } else if let ServerEvent::Left { session, topic } = event {
            if let Some((_, topics)) = self.joined.get_mut(&(server, *session)) {
                topics.remove(topic);
            }
        } else if let ServerEvent::Closed { session } = event {
            self.joined.remove(&(server, *session));
        }
    }

    /// Everything is at rest: what the servers have of a node is what it wants. `is_held` tells of
    /// a session whether its node has the socket: one that it closed, of which the server has not
    /// heard yet, it can do nothing about.
    pub(super) fn settle(
        &self,
        is_held: impl Fn(usize, SessionId) -> bool,
        is_wanted: impl Fn(NodeId, &str) -> bool,
    ) -> Verdict {
        let held = self.joined.iter().filter(|((server, session), _)| is_held(*server, *session));
        for (_, (node, topics)) in held {
            let ghost = topics.iter().find(|topic| !is_wanted(*node, topic));
            if let Some(topic) = ghost {
                return Err(("ghost", format!("{node} is joined to {topic}, which it gave up")));
            }
        }
        Ok(())
    }

    /// A server has this token for a topic of a node.
    pub(super) fn check_token(&self, node: NodeId, topic: &str, token: Option<&str>) -> Verdict {
        let newest = self.nodes.get(&node).and_then(|manners| manners.token.as_deref());
        must(newest.is_none() || token == newest, "token", || {
            format!("the server was not told the newest token of {topic}")
        })
    }
}

impl Manners {
    fn socket_mut(&mut self, connection: u32, link: u64) -> Option<&mut Socket> {
        self.sockets.get_mut(&connection)?.iter_mut().find(|socket| socket.link == link)
    }
}

/// The token in the payload of a join.
fn token_of<'a>(envelope: &'a Envelope<'_>) -> Option<&'a str> {
    let Body::Json(text) = envelope.body else { return None };
    let (_, behind) = text.split_once("\"access_token\":\"")?;
    behind.split_once('"').map(|(token, _)| token)
}

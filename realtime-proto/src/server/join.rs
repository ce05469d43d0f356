//! `phx_join`: what it asks for, and whether it gets it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::Server;
use super::channel::{Channel, Kind, Supabase};
use super::claims::BadToken;
use super::event::{ServerEvent, SessionId};
use super::json;
use super::postgres::{Asked, Postgres};
use super::presence::generated_key;
use super::session::{Reply, Then, reply_to};
use super::store::Replay;
use super::timer::Timer;
use super::token::{NO_PERMISSION, Standing, read_token};
use super::topic::{end_of, push_of};
use crate::secret::Secret;
use crate::supabase::Row;
use crate::wire::{Body, Envelope};

/// What the payload of a Supabase join asks for.
struct Request {
    ack: bool,
    echo: bool,
    private: bool,
    presence: bool,
    replay: Wanted,
    replication_ready: bool,
    /// How long the join may wait for its row changes, if it is to wait.
    wait: Option<Duration>,
    /// Empty lets the server choose.
    key: String,
    token: Option<Secret>,
    asked: Asked,
    legacy: bool,
}

/// What of the past a join wants to hear.
enum Wanted {
    Nothing,
    Replay(Replay),
    Nonsense,
}

/// A join that is not let in.
struct Denial {
    reason: String,
    /// How long it took to find out, beside the delay of every refusal.
    found_after: Duration,
    /// Whether the session ends with it.
    closes: bool,
}

/// A join that is let in.
pub(super) struct Admission {
    topic: String,
    join_ref: Option<String>,
    msg_ref: Option<String>,
    /// What the channel takes for the ref of its join.
    stored_ref: Option<String>,
    /// The channel that it replaces.
    old: Option<Channel>,
    request: Request,
    standing: Standing,
    /// How long after the channel is made its row changes flow.
    subscribed_after: Duration,
}

impl<T: Into<String>> From<T> for Denial {
    fn from(reason: T) -> Self {
        Self { reason: reason.into(), found_after: Duration::ZERO, closes: false }
    }
}

impl Request {
    /// Reads a payload as leniently as a real server; the error is the reason of the refusal.
    ///
    /// Protocol §5.1.
    fn read(
        body: &Body<'_>,
        sub_topic: &str,
        config: &super::ServerConfig,
    ) -> Result<Self, String> {
        let text = match body {
            Body::Json(text) => *text,
            Body::Binary(_) | Body::Reply { .. } | Body::UserBroadcast { .. } => "null",
        };
        let Some(payload) = Row::read(text) else {
            let got = json::inspect(text);
            return Err(format!(
                "UnknownErrorOnChannel: expected params to be a :map, got: `{got}`"
            ));
        };
        let config_text = payload.column("config");
        let section = |raw: Option<&str>| match raw {
            None | Some("null") => Ok(empty_row()),
            Some(raw) => Row::read(raw).map(|_| raw.to_string()).ok_or_else(|| {
                String::from("UnknownErrorOnChannel: no function clause matching in Access.get/3")
            }),
        };
        let config_text_or_empty = section(config_text)?;
        let config_row = Row::read(&config_text_or_empty).ok_or_else(String::new)?;
        let broadcast_text = section(config_row.column("broadcast"))?;
        let broadcast = Row::read(&broadcast_text).ok_or_else(String::new)?;
        let presence_text = section(config_row.column("presence"))?;
        let presence = Row::read(&presence_text).ok_or_else(String::new)?;
        let private = flag(config_row.column("private"));
        let replay = match broadcast.column("replay") {
            None | Some("null") => Wanted::Nothing,
            Some(raw) => Replay::read(raw).map_or(Wanted::Nonsense, Wanted::Replay),
        };
        let options_text = section(config_row.column("postgres_changes_options"))?;
        let options = Row::read(&options_text).ok_or_else(String::new)?;
        let timeout = options.column("timeout").and_then(|raw| raw.parse().ok());
        let timeout = timeout.map_or(WAIT, Duration::from_millis).min(WAIT_MAX);
        let legacy = config_text.is_none();
        let asked = if legacy {
            Asked::legacy(sub_topic, config)?
        } else {
            Asked::read(config_row.column("postgres_changes"), config)?
        };
        let key = presence.column("key").unwrap_or("null");
        Ok(Self {
            ack: flag(broadcast.column("ack")),
            echo: flag(broadcast.column("self")),
            private,
            presence: flag(presence.column("enabled")),
            replay,
            replication_ready: flag(broadcast.column("replication_ready")),
            wait: flag(options.column("wait")).then_some(timeout),
            key: match serde_json::from_str::<Option<String>>(key) {
                Ok(key) => key.unwrap_or_default(),
                // Whatever it is, it is turned into text.
                Err(_) => key.into(),
            },
            token: ["user_token", "access_token"]
                .into_iter()
                .find_map(|name| read_token(payload.column(name)?)),
            asked,
            legacy,
        })
    }
}

/// How long a join waits for its row changes that names no time, and how long at most.
const WAIT: Duration = Duration::from_secs(15);
const WAIT_MAX: Duration = Duration::from_secs(20);

fn empty_row() -> String {
    "{}".into()
}

/// A boolean, or the word for it in any case.
fn flag(raw: Option<&str>) -> bool {
    raw.is_some_and(|raw| raw.trim_matches('"').eq_ignore_ascii_case("true"))
}

impl Server {
    /// Protocol §2.1 and §5.1.
    pub(super) fn join(&mut self, id: SessionId, envelope: &Envelope<'_>) {
        let topic = &*envelope.topic;
        let (join_ref, msg_ref) = (envelope.join_ref.as_deref(), envelope.msg_ref.as_deref());
        let sub_topic = topic.strip_prefix("realtime:");
        let is_plain = sub_topic.is_none()
            && self.config.plain_topics.iter().any(|prefix| topic.starts_with(&**prefix));
        if sub_topic.is_none() && !is_plain {
            let reason = "unmatched topic";
            self.refused(id, topic, reason);
            let payload = Reply::Refused(reason).payload();
            self.send_first(id, &reply_to(None, msg_ref, topic, &payload));
            return;
        }
        // The old channel ends first, but its phx_close goes out behind the reply.
        let old = self.detach(id, topic);
        let verdict = match sub_topic {
            Some(sub_topic) => {
                self.check_supabase_join(id, topic, sub_topic, &envelope.body).map(Some)
            }
            None => self
                .check_join(id, topic, "too many channels joined")
                .map(|()| None)
                .map_err(Denial::from),
        };
        let stored_ref = join_ref.or(msg_ref).filter(|text| !text.is_empty());
        match verdict {
            Ok(None) => {
                let channel = Channel { join_ref: stored_ref.map(Into::into), kind: Kind::Plain };
                self.stats.joins += 1;
                self.attach(id, topic, channel);
                let payload = Reply::Ok.payload();
                self.send_first(id, &reply_to(join_ref, msg_ref, topic, &payload));
                self.close_old(id, topic, old);
            }
            Ok(Some((request, standing))) => {
                let waits = request.wait.is_some() && request.asked.outcome.is_some();
                let took = self.config.subscribed_after;
                let [held_for, subscribed_after] =
                    if waits { [took, Duration::ZERO] } else { [Duration::ZERO, took] };
                // Of a join that takes its time the end of the old channel is the first that waits
                // behind the reply.
                let (old, first) = if held_for.is_zero() { (old, None) } else { (None, old) };
                let admission = Admission {
                    topic: topic.into(),
                    join_ref: join_ref.map(Into::into),
                    msg_ref: msg_ref.map(Into::into),
                    stored_ref: stored_ref.map(Into::into),
                    old,
                    request,
                    standing,
                    subscribed_after,
                };
                self.hold(id, held_for, Then::Admit(Box::new(admission)));
                self.close_old(id, topic, first);
            }
            Err(denial) => {
                self.refused(id, topic, &denial.reason);
                let payload = Reply::Refused(&denial.reason).payload();
                let reply = reply_to(join_ref, msg_ref, topic, &payload);
                if is_plain {
                    self.send_first(id, &reply);
                } else if let Some(reply) = self.encode_for(id, &reply) {
                    let reply_after = denial.found_after + self.config.join_refusal_after;
                    let then = match denial.closes {
                        true => Then::RefuseAndClose(reply),
                        false => Then::Refuse(reply),
                    };
                    self.hold(id, reply_after, then);
                }
                self.close_old(id, topic, old);
            }
        }
    }

    /// Makes the channel of a join. Only from now on it is told what others do.
    pub(super) fn admit(&mut self, id: SessionId, admission: Admission) {
        let Admission { topic, join_ref, msg_ref, stored_ref, old, request, standing, .. } =
            admission;
        let (topic, stored_ref) = (&*topic, stored_ref.as_deref());
        let postgres = match request.asked.outcome {
            None => Postgres::Off,
            Some(Ok(bindings)) if self.is_database_away => Postgres::Waiting { bindings },
            Some(outcome) => Postgres::Subscribing {
                timer: self.timers.arm(
                    self.now + admission.subscribed_after,
                    Timer::Subscribed(id, topic.into()),
                ),
                outcome,
            },
        };
        let asks_in_vain = matches!(postgres, Postgres::Waiting { .. });
        let rights = standing.rights;
        let channel = Channel {
            join_ref: stored_ref.map(Into::into),
            kind: Kind::Supabase(Box::new(Supabase {
                private: request.private,
                ack: request.ack,
                echo: request.echo,
                key: if request.key.is_empty() {
                    generated_key(&mut self.rng)
                } else {
                    request.key
                },
                presence: request.presence,
                presence_calls: None,
                postgres,
                legacy: request.legacy,
                token: request.token,
                standing,
                expiry: None,
                ready: None,
            })),
        };
        self.stats.joins += 1;
        self.attach(id, topic, channel);
        let response = format!("{{\"postgres_changes\":{}}}", request.asked.reply);
        let payload = Reply::OkWith(&response).payload();
        self.send_first(id, &reply_to(join_ref.as_deref(), msg_ref.as_deref(), topic, &payload));
        self.close_old(id, topic, old);
        self.watch_token(id, topic);
        if let Wanted::Replay(replay) = request.replay {
            self.replay(id, topic, stored_ref, replay);
        }
        if request.presence && rights.read_presence {
            let state = self
                .topics
                .get(topic)
                .map_or_else(empty_row, |rooms| rooms.room(request.private).presences.state());
            self.send(id, &push_of(stored_ref, topic, "presence_state", &state));
        }
        if asks_in_vain {
            self.tell_database_away(id, topic);
        }
        if request.replication_ready {
            self.await_replication(id, topic);
        }
    }

    /// Finds the first reason to refuse a join, in the order of a real server. Protocol §5.1.
    fn check_supabase_join(
        &mut self,
        id: SessionId,
        topic: &str,
        sub_topic: &str,
        body: &Body<'_>,
    ) -> Result<(Request, Standing), Denial> {
        let is_over = self.joins_rate.is_over(self.config.joins_per_second_max, self.now);
        self.joins_rate.count(self.now);
        if sub_topic.is_empty() {
            return Err("TopicNameRequired: You must provide a topic name".into());
        }
        let request = Request::read(body, sub_topic, &self.config)?;
        if self.config.private_only && !request.private {
            return Err("PrivateOnly: This project only allows private channels".into());
        }
        if is_over {
            let reason = "ClientJoinRateLimitReached: Too many joins per second";
            return Err(Denial { closes: true, ..reason.into() });
        }
        self.check_join(id, topic, "ChannelRateLimitReached: Too many channels")?;
        let claims = self.claims_of(id, request.token.as_ref()).map_err(BadToken::reason)?;
        let rights = self.rights(request.private, sub_topic, &claims);
        let wants_replay = !matches!(request.replay, Wanted::Nothing);
        let reads_any = rights.read_broadcast || (request.presence && rights.read_presence);
        if !reads_any || (request.private && wants_replay && !rights.read_broadcast) {
            return Err(format!("Unauthorized: {NO_PERMISSION}{sub_topic}").into());
        }
        match request.replay {
            Wanted::Replay(_) | Wanted::Nonsense if !request.private => {
                const PUBLIC: &str =
                    "UnableToReplayMessages: Replay is not allowed for public channels";
                return Err(PUBLIC.into());
            }
            Wanted::Nonsense => {
                return Err("UnableToReplayMessages: Replay params are not valid".into());
            }
            Wanted::Replay(_) if self.is_database_away => {
                return Err("UnableToReplayMessages: Realtime was unable to replay messages".into());
            }
            Wanted::Nothing | Wanted::Replay(_) => {}
        }
        self.check_wait(&request)?;
        Ok((request, Standing { claims, rights }))
    }

    /// A join that waits for its row changes is refused when they do not come in time.
    fn check_wait(&self, request: &Request) -> Result<(), Denial> {
        let (Some(timeout), Some(outcome)) = (request.wait, &request.asked.outcome) else {
            return Ok(());
        };
        let subscribed_after = self.config.subscribed_after;
        if subscribed_after > timeout || self.is_database_away {
            let reason = format!(
                "PostgresChangesSubscribeTimeout: Timed out after {}ms waiting for the \
                 postgres_changes subscription",
                timeout.as_millis()
            );
            return Err(Denial { found_after: timeout, ..reason.into() });
        }
        match outcome {
            Ok(_) => Ok(()),
            Err(message) => {
                let reason = format!("RealtimeDisabledForConfiguration: {message}");
                Err(Denial { found_after: subscribed_after, ..reason.into() })
            }
        }
    }

    fn check_join(&self, id: SessionId, topic: &str, full: &str) -> Result<(), String> {
        let refusal = self.config.refuse_joins.iter();
        if let Some((_, reason)) = refusal.into_iter().find(|(refused, _)| refused == topic) {
            return Err(reason.clone());
        }
        let joined = self.sessions.get(&id).map_or(0, |session| session.channels.len());
        if joined >= self.config.channels_per_session_max {
            return Err(full.into());
        }
        Ok(())
    }

    fn close_old(&mut self, id: SessionId, topic: &str, old: Option<Channel>) {
        if let Some(old) = old {
            let join_ref = old.join_ref.as_deref();
            self.send(id, &end_of(join_ref, topic, "phx_close", "{}"));
        }
    }

    fn refused(&mut self, id: SessionId, topic: &str, reason: &str) {
        self.stats.refused += 1;
        self.tell(ServerEvent::Refused { session: id, topic: topic.into(), reason: reason.into() });
    }
}

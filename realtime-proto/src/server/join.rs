//! `phx_join`: what it asks for, and whether it gets it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use super::Server;
use super::channel::{Channel, Kind, Supabase};
use super::event::{ServerEvent, SessionId};
use super::json;
use super::postgres::{Asked, Postgres};
use super::presence::generated_key;
use super::session::{Reply, reply_to};
use super::timer::Timer;
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
    /// Empty lets the server choose.
    key: String,
    token: Option<Secret>,
    asked: Asked,
    legacy: bool,
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
        if !private && broadcast.column("replay").is_some_and(|raw| raw != "null") {
            return Err("UnableToReplayMessages: Replay is not allowed for public channels".into());
        }
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

fn empty_row() -> String {
    "{}".into()
}

/// A token that counts: a string that is not one of the new API keys.
pub(super) fn read_token(raw: &str) -> Option<Secret> {
    let token: String = serde_json::from_str(raw).ok()?;
    (!token.starts_with("sb_")).then(|| Secret::new(token))
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
            && self
                .config
                .plain_topics
                .iter()
                .any(|prefix| topic.starts_with(&**prefix));
        if sub_topic.is_none() && !is_plain {
            let reason = "unmatched topic";
            self.refused(id, topic, reason);
            self.reply(id, None, msg_ref, topic, Reply::Refused(reason));
            return;
        }
        // The old channel ends first, but its phx_close goes out behind the reply.
        let old = self.detach(id, topic);
        let verdict = match sub_topic {
            Some(sub_topic) => self
                .check_join(id, topic, "ChannelRateLimitReached: Too many channels")
                .and_then(|()| match sub_topic {
                    "" => Err("TopicNameRequired: You must provide a topic name".into()),
                    _ => Request::read(&envelope.body, sub_topic, &self.config).map(Some),
                }),
            None => self
                .check_join(id, topic, "too many channels joined")
                .map(|()| None),
        };
        let stored_ref = join_ref.or(msg_ref).filter(|text| !text.is_empty());
        match verdict {
            Ok(None) => {
                let channel = Channel {
                    join_ref: stored_ref.map(Into::into),
                    kind: Kind::Plain,
                };
                self.stats.joins += 1;
                self.attach(id, topic, channel);
                self.reply(id, join_ref, msg_ref, topic, Reply::Ok);
                self.close_old(id, topic, old);
            }
            Ok(Some(request)) => self.admit(id, envelope, stored_ref, old, request),
            Err(reason) => {
                self.refused(id, topic, &reason);
                let payload = Reply::Refused(&reason).payload();
                let reply = reply_to(join_ref, msg_ref, topic, &payload);
                if is_plain {
                    self.send(id, &reply);
                } else {
                    self.hold(id, &reply);
                }
                self.close_old(id, topic, old);
            }
        }
    }

    fn admit(
        &mut self,
        id: SessionId,
        envelope: &Envelope<'_>,
        stored_ref: Option<&str>,
        old: Option<Channel>,
        request: Request,
    ) {
        let topic = &*envelope.topic;
        let (join_ref, msg_ref) = (envelope.join_ref.as_deref(), envelope.msg_ref.as_deref());
        let postgres = match request.asked.outcome {
            None => Postgres::Off,
            Some(outcome) => Postgres::Subscribing {
                timer: self.timers.arm(
                    self.now + self.config.subscribed_after,
                    Timer::Subscribed(id, topic.into()),
                ),
                outcome,
            },
        };
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
                presence_calls: None,
                postgres,
                legacy: request.legacy,
                token: request.token,
            })),
        };
        self.stats.joins += 1;
        self.attach(id, topic, channel);
        let response = format!("{{\"postgres_changes\":{}}}", request.asked.reply);
        self.reply(id, join_ref, msg_ref, topic, Reply::OkWith(&response));
        self.close_old(id, topic, old);
        if request.presence {
            let state = self.topics.get(topic).map_or_else(empty_row, |rooms| {
                rooms.room(request.private).presences.state()
            });
            self.send(id, &push_of(stored_ref, topic, "presence_state", &state));
        }
    }

    fn check_join(&self, id: SessionId, topic: &str, full: &str) -> Result<(), String> {
        let refusal = self.config.refuse_joins.iter();
        if let Some((_, reason)) = refusal.into_iter().find(|(refused, _)| refused == topic) {
            return Err(reason.clone());
        }
        let joined = self
            .sessions
            .get(&id)
            .map_or(0, |session| session.channels.len());
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
        self.tell(ServerEvent::Refused {
            session: id,
            topic: topic.into(),
            reason: reason.into(),
        });
    }
}

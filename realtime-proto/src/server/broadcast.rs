//! Broadcasts: of clients, of the database, and those that are told again.

use alloc::string::String;
use alloc::vec::Vec;

use super::Server;
use super::channel::{Kind, Origin};
use super::event::SessionId;
use super::json;
use super::presence::generated_key;
use super::session::Reply;
use super::store::{Persist, Replay, Stored};
use super::topic::{Matter, broadcast_of, push_of};
use crate::payload::Payload;
use crate::supabase::{Row, write_broadcast};
use crate::wire::{Body, Encoding, Envelope};

/// A name that is longer has no binary form; text still carries it.
const NAME_BYTES_MAX: usize = 255;

impl Server {
    /// Sends a broadcast that no client sent to all channels of a topic; to how many it went.
    ///
    /// `topic` is the whole topic, `realtime:` included. On Supabase channels, private and public,
    /// V2 clients receive the binary form that the HTTP endpoint for single messages gives, and V1
    /// clients a JSON object or, for bytes, nothing. On plain channels `event` is the event itself.
    pub fn broadcast(
        &mut self,
        topic: &str,
        event: &str,
        payload: &Payload,
        now: crate::time::Instant,
    ) -> usize {
        self.advance(now);
        self.stats.broadcasts += 1;
        let reached = if topic.starts_with("realtime:") {
            let encoding = if payload.is_binary() { Encoding::Binary } else { Encoding::Json };
            let tell = |private| {
                self.tell_unread(topic, private, None, event, encoding, payload.as_bytes())
            };
            [false, true].into_iter().map(tell).sum()
        } else {
            let body =
                payload.as_json().map_or_else(|| Body::Binary(payload.as_bytes()), Body::Json);
            self.fan_out(topic, false, Matter::Plain, None, &broadcast_of(topic, event, body))
        };
        self.settle();
        reached
    }

    /// Protocol §5.7 and §1.6.
    pub(super) fn broadcast_from(&mut self, origin: Origin<'_>, private: bool, body: &Body<'_>) {
        let Some(Kind::Supabase(supabase)) = self.kind_of(origin) else {
            return;
        };
        let (ack, echo) = (supabase.ack, supabase.echo);
        if !supabase.standing.rights.write_broadcast {
            return;
        }
        let (topic, except) = (origin.topic, (!echo).then_some(origin.id));
        let size = match body {
            Body::Json(text) => text.len(),
            Body::UserBroadcast { payload, .. } => payload.len(),
            Body::Binary(_) | Body::Reply { .. } => return,
        };
        if size > self.config.payload_bytes_max {
            if ack {
                self.answer(origin, Reply::ErrorWith("\"payload_size_exceeded\""));
            }
            return;
        }
        self.events_rate.count(self.now);
        let mut response = String::from("{}");
        match body {
            Body::Json(text) => {
                let is_object = text.trim_start().starts_with('{');
                if !is_object && self.has_v2_member(topic, private) {
                    // The V2 serializer of a real server takes maps only.
                    self.crash(origin.id, topic);
                    return;
                }
                let message = broadcast_of(topic, "broadcast", Body::Json(text));
                self.fan_out(topic, private, Matter::Broadcast, except, &message);
            }
            Body::UserBroadcast { event, encoding, payload, metadata } => {
                let persist = metadata.and_then(Persist::read).filter(|_| private);
                if let Some(persist) = persist {
                    let stored = self.store(topic, event, *encoding, payload.to_vec(), persist);
                    response = stored.meta(false);
                    self.tell_stored(&stored, private, except);
                } else {
                    // The client's metadata goes no further.
                    self.tell_unread(topic, private, except, event, *encoding, payload);
                }
            }
            Body::Binary(_) | Body::Reply { .. } => return,
        }
        self.stats.broadcasts += 1;
        // A limit may have closed the channel, and then nothing follows.
        if ack && self.kind_of(origin).is_some() {
            self.answer(origin, Reply::OkWith(&response));
        }
    }

    /// Sends a broadcast as the function `realtime.send` of the database does, and gives its id.
    ///
    /// `topic` is the whole topic, `realtime:` included, and `private` decides which of its two
    /// channels gets the message. A payload without `id` gets the id of the message. Private
    /// messages are kept for replay. `None` when the payload is JSON but no object, which a real
    /// server drops. Protocol §5.7.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::server::{Server, ServerConfig};
    /// # use realtime_proto::{Instant, Payload};
    /// # let now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// let payload = Payload::from_json(r#"{"n":1}"#)?;
    /// let id = server.send_from_database("realtime:room:1", "moved", &payload, true, now);
    /// assert_eq!(id.unwrap().len(), 36);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_from_database(
        &mut self,
        topic: &str,
        event: &str,
        payload: &Payload,
        private: bool,
        now: crate::time::Instant,
    ) -> Option<String> {
        self.advance(now);
        let id = generated_key(&mut self.rng);
        let (encoding, payload) = match payload.as_json() {
            None => (Encoding::Binary, payload.as_bytes().to_vec()),
            Some(text) => (Encoding::Json, with_id(text, &id)?.into_bytes()),
        };
        let stored = self.stored(id, topic, event, encoding, payload, Persist::Longest);
        if private {
            self.keep(stored.clone());
        }
        let limit = self.config.events_per_second_max;
        if !self.events_rate.is_over(limit, self.now) {
            self.stats.broadcasts += 1;
            self.tell_stored(&stored, private, None);
        }
        self.settle();
        Some(stored.id)
    }

    /// Sends a row change as a trigger with `realtime.broadcast_changes` does, and gives its id.
    ///
    /// The message is private, its event the operation, and its payload
    /// `{id, schema, table, operation, record, old_record}`. Protocol §5.7.
    pub fn broadcast_change(
        &mut self,
        topic: &str,
        change: &super::RowChange,
        now: crate::time::Instant,
    ) -> Option<String> {
        let record = |payload: Option<&Payload>| {
            payload.and_then(|payload| payload.as_json()).unwrap_or("null").into()
        };
        let (new, old): (String, String) = (record(change.record()), record(change.old_record()));
        let operation = change.kind().as_str();
        let payload = alloc::format!(
            "{{\"schema\":{},\"table\":{},\"operation\":\"{operation}\",\"record\":{new},\
             \"old_record\":{old}}}",
            json::quoted(change.schema()),
            json::quoted(change.table()),
        );
        let payload = Payload::trusted_json(payload.into());
        self.send_from_database(topic, operation, &payload, true, now)
    }

    /// Gives a private broadcast an id and keeps it.
    pub(super) fn store(
        &mut self,
        topic: &str,
        event: &str,
        encoding: Encoding,
        payload: Vec<u8>,
        persist: Persist,
    ) -> Stored {
        let id = generated_key(&mut self.rng);
        let stored = self.stored(id, topic, event, encoding, payload, persist);
        self.keep(stored.clone());
        stored
    }

    pub(super) fn stored(
        &self,
        id: String,
        topic: &str,
        event: &str,
        encoding: Encoding,
        payload: Vec<u8>,
        persist: Persist,
    ) -> Stored {
        let inserted_at = self.unix_now();
        let span = persist.span(self.config.stored_for);
        Stored {
            id,
            topic: topic.into(),
            event: event.into(),
            encoding,
            payload,
            inserted_at,
            expires_at: inserted_at.saturating_add(span),
        }
    }

    fn keep(&mut self, stored: Stored) {
        self.store.insert(stored, self.config.stored_broadcasts_max);
    }

    /// Sends a broadcast that has an id, which is said beside it; to how many it went.
    pub(super) fn tell_stored(
        &mut self,
        stored: &Stored,
        private: bool,
        except: Option<SessionId>,
    ) -> usize {
        let (meta, text) = (stored.meta(false), stored.text(false));
        let v2 =
            binary(&stored.topic, &stored.event, stored.encoding, Some(&meta), &stored.payload);
        self.tell_either(&stored.topic, private, except, text.as_deref(), &stored.event, v2)
    }

    /// Sends a broadcast without an id whose payload nobody read; to how many it went.
    pub(super) fn tell_unread(
        &mut self,
        topic: &str,
        private: bool,
        except: Option<SessionId>,
        event: &str,
        encoding: Encoding,
        payload: &[u8],
    ) -> usize {
        let text = json_broadcast(event, encoding, payload);
        let v2 = binary(topic, event, encoding, None, payload);
        self.tell_either(topic, private, except, text.as_deref(), event, v2)
    }

    fn tell_either(
        &mut self,
        topic: &str,
        private: bool,
        except: Option<SessionId>,
        text: Option<&str>,
        event: &str,
        v2: Envelope<'_>,
    ) -> usize {
        let v1 = match text {
            Some(text) => broadcast_of(topic, "broadcast", Body::Json(text)),
            // No V1 form: encoding it fails, and V1 members get nothing.
            None => v2.clone(),
        };
        let fits = topic.len() <= NAME_BYTES_MAX && event.len() <= NAME_BYTES_MAX;
        let v2 = if fits { &v2 } else { &v1 };
        self.fan_out_by_vsn(topic, private, Matter::Broadcast, except, &v1, v2)
    }

    /// Tells a channel that has just joined what it missed.
    pub(super) fn replay(
        &mut self,
        id: SessionId,
        topic: &str,
        join_ref: Option<&str>,
        wanted: Replay,
    ) {
        for stored in self.store.replay(topic, wanted, self.unix_now()) {
            match stored.text(true) {
                Some(text) => self.send(id, &push_of(join_ref, topic, "broadcast", &text)),
                None => {
                    let meta = stored.meta(true);
                    let (event, payload) = (&stored.event, &stored.payload);
                    let message = binary(topic, event, stored.encoding, Some(&meta), payload);
                    self.send(id, &message);
                }
            }
        }
    }
}

fn binary<'a>(
    topic: &'a str,
    event: &'a str,
    encoding: Encoding,
    metadata: Option<&'a str>,
    payload: &'a [u8],
) -> Envelope<'a> {
    broadcast_of(topic, "broadcast", Body::UserBroadcast { event, encoding, metadata, payload })
}

/// A JSON object with an `id`, its own or the one given; `None` for any other JSON.
fn with_id(text: &str, id: &str) -> Option<String> {
    let row = Row::read(text)?;
    if row.column("id").is_some() {
        return Some(text.into());
    }
    let mut object = alloc::format!("{{\"id\":{}", json::quoted(id));
    json::extend_object(&mut object, text, &[]);
    object.push('}');
    Some(object)
}

/// The payload of a user broadcast as a text message; `None` for bytes. What claims to be JSON is
/// not checked, as on a real server, but text it must be.
fn json_broadcast(event: &str, encoding: Encoding, payload: &[u8]) -> Option<String> {
    if encoding == Encoding::Binary {
        return None;
    }
    let payload = core::str::from_utf8(payload).ok()?;
    let mut out = Vec::new();
    write_broadcast(event, payload, &mut out);
    String::from_utf8(out).ok()
}

//! Broadcasts over HTTP, as plain requests and responses.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::value::RawValue;

use super::Server;
use super::claims::Claims;
use super::json;
use super::store::{Persist, Stored};
use super::topic::{Matter, broadcast_of};
use super::upgrade::{parameter, percent_decode};
use crate::secret::Secret;
use crate::supabase::Row;
use crate::time::Instant;
use crate::wire::{Body, Encoding};

/// What a [`Server`] needs to know of an HTTP request.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpRequest<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path and query.
    pub target: &'a str,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
    /// The header `apikey`.
    pub apikey: Option<&'a str>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// The answer to an [`HttpRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The body: a JSON object, plain text, or empty.
    pub body: String,
}

impl HttpResponse {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into() }
    }

    fn message(status: u16, message: &str) -> Self {
        Self::new(status, format!("{{\"message\":{}}}", json::quoted(message)))
    }

    fn accepted() -> Self {
        Self::new(202, "")
    }
}

/// Where a request leads.
enum Endpoint<'a> {
    Batch,
    Single { sub_topic: Cow<'a, str>, event: Cow<'a, str>, query: &'a str },
}

impl<'a> Endpoint<'a> {
    fn find(method: &str, target: &'a str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix("/realtime/v1").unwrap_or(path);
        let rest = path.strip_prefix("/api/broadcast").filter(|_| method == "POST")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Batch);
        }
        let mut parts = rest.strip_prefix('/')?.split('/');
        let (Some(topic), Some("events"), Some(event), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let decode = |text| Cow::Owned(percent_decode(text));
        Some(Self::Single { sub_topic: decode(topic), event: decode(event), query })
    }
}

impl Server {
    /// Answers an HTTP request that broadcasts, and sends what it says; `None` when it is for
    /// another path or method.
    ///
    /// `POST /api/broadcast` takes `{"messages":[{"topic","event","payload","private"}]}` and
    /// `POST /api/broadcast/TOPIC/events/EVENT` one payload, both with or without `/realtime/v1`
    /// in front. Topics are without `realtime:` here. Protocol §5.8.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::server::{HttpRequest, Server, ServerConfig};
    /// # use realtime_proto::Instant;
    /// # let now = Instant::EPOCH;
    /// # let mut server = Server::new(ServerConfig::default(), 0, now);
    /// let request = HttpRequest {
    ///     method: "POST",
    ///     target: "/api/broadcast/room:1/events/moved",
    ///     content_type: Some("application/json"),
    ///     body: br#"{"x":1}"#,
    ///     ..HttpRequest::default()
    /// };
    /// assert_eq!(server.handle_http(&request, now).unwrap().status, 202);
    /// ```
    pub fn handle_http(&mut self, request: &HttpRequest<'_>, now: Instant) -> Option<HttpResponse> {
        let endpoint = Endpoint::find(request.method, request.target)?;
        self.advance(now);
        let response = self.respond(request, &endpoint);
        self.settle();
        Some(match response {
            Ok(response) | Err(response) => response,
        })
    }

    fn respond(
        &mut self,
        request: &HttpRequest<'_>,
        endpoint: &Endpoint<'_>,
    ) -> Result<HttpResponse, HttpResponse> {
        let claims = self.bearer(request)?;
        let limit = self.config.events_per_second_max;
        if self.events_rate.is_over(limit, self.now) {
            return Err(HttpResponse::message(429, "You have exceeded your rate limit"));
        }
        match endpoint {
            Endpoint::Batch => self.batch(request.body, &claims),
            Endpoint::Single { sub_topic, event, query } => {
                self.single(request, sub_topic, event, query, &claims)
            }
        }
    }

    fn bearer(&self, request: &HttpRequest<'_>) -> Result<Claims, HttpResponse> {
        let unauthorized = || HttpResponse::message(401, "Unauthorized");
        let bearer = request.authorization.and_then(|text| text.strip_prefix("Bearer "));
        let token = bearer.or(request.apikey).map(Secret::new);
        match (&self.config.apikey, self.config.reads_tokens, &token) {
            (_, true, Some(_)) | (None, false, _) => {}
            (_, true, None) => return Err(unauthorized()),
            (Some(apikey), false, _) => {
                let is_known = [bearer, request.apikey].contains(&Some(apikey.expose()));
                if !is_known {
                    return Err(unauthorized());
                }
            }
        }
        self.claims(token.as_ref()).map_err(|_| unauthorized())
    }

    fn batch(&mut self, body: &[u8], claims: &Claims) -> Result<HttpResponse, HttpResponse> {
        let messages = Message::read_all(body, self.config.payload_bytes_max)?;
        if self.config.events_per_second_max.is_some_and(|max| messages.len() > max as usize) {
            let text = "Too many messages to broadcast, please reduce the batch size";
            return Err(HttpResponse::message(429, text));
        }
        for message in messages {
            let rights = self.rights(message.private, &message.sub_topic, claims);
            if !rights.write_broadcast {
                continue;
            }
            let meta = message.id.as_ref().map(|id| format!(",\"meta\":{{\"id\":{id}}}"));
            let text = format!(
                "{{\"event\":{}{},\"payload\":{},\"type\":\"broadcast\"}}",
                json::quoted(&message.event),
                meta.unwrap_or_default(),
                message.payload,
            );
            let topic = format!("realtime:{}", message.sub_topic);
            self.stats.broadcasts += 1;
            self.events_rate.count(self.now);
            let told = broadcast_of(&topic, "broadcast", Body::Json(&text));
            self.fan_out(&topic, message.private, Matter::Broadcast, None, &told);
        }
        Ok(HttpResponse::accepted())
    }

    fn single(
        &mut self,
        request: &HttpRequest<'_>,
        sub_topic: &str,
        event: &str,
        query: &str,
        claims: &Claims,
    ) -> Result<HttpResponse, HttpResponse> {
        let kind = request.content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let (encoding, payload): (_, Vec<u8>) = match kind.trim() {
            "application/octet-stream" => (Encoding::Binary, request.body.to_vec()),
            "application/json" => (Encoding::Json, object(request.body)?.into_bytes()),
            _ => {
                let text = "Unsupported Media Type. Use application/json or \
                            application/octet-stream";
                let body = format!("{{\"error\":{}}}", json::quoted(text));
                return Err(HttpResponse::new(415, body));
            }
        };
        let private = parameter(query, "private").as_deref() == Some("true");
        if !self.rights(private, sub_topic, claims).write_broadcast {
            return Err(HttpResponse::message(403, "Unauthorized"));
        }
        if payload.len() > self.config.payload_bytes_max {
            let errors = "{\"errors\":{\"payload\":[\"Payload size exceeds tenant limit\"]}}";
            return Err(HttpResponse::new(422, errors));
        }
        let persist = match parameter(query, "persist").as_deref() {
            Some("true") => Some(Persist::Longest),
            Some(_) | None => {
                parameter(query, "persist[ttl]").as_deref().and_then(Persist::seconds)
            }
        };
        let topic = format!("realtime:{sub_topic}");
        self.stats.broadcasts += 1;
        self.events_rate.count(self.now);
        match persist.filter(|_| private) {
            Some(persist) => {
                let stored: Stored = self.store(&topic, event, encoding, payload, persist);
                self.tell_stored(&stored, private, None);
            }
            None => {
                self.tell_unread(&topic, private, None, event, encoding, &payload);
            }
        }
        Ok(HttpResponse::accepted())
    }
}

/// A body as a JSON object; what is none comes under `_json`, as in Plug.
fn object(body: &[u8]) -> Result<String, HttpResponse> {
    let raw: &RawValue =
        serde_json::from_slice(body).map_err(|_| HttpResponse::new(400, "Bad Request"))?;
    Ok(match Row::read(raw.get()) {
        Some(_) => raw.get().into(),
        None => format!("{{\"_json\":{}}}", raw.get()),
    })
}

/// One message of a batch.
struct Message {
    sub_topic: String,
    event: String,
    payload: String,
    private: bool,
    /// Raw JSON.
    id: Option<String>,
}

impl Message {
    fn read_all(body: &[u8], payload_bytes_max: usize) -> Result<Vec<Self>, HttpResponse> {
        let errors = |what: String| {
            HttpResponse::new(422, format!("{{\"errors\":{{\"messages\":[{what}]}}}}"))
        };
        let text = object(body)?;
        let raw = Row::read(&text).and_then(|row| row.column("messages"));
        let Some(raw) = raw.filter(|raw| *raw != "null") else {
            return Err(errors("\"can't be blank\"".into()));
        };
        let Ok(raws) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
            return Err(errors("\"is invalid\"".into()));
        };
        if raws.is_empty() {
            return Err(errors("\"can't be blank\"".into()));
        }
        let read = raws.iter().map(|raw| Self::read(raw.get(), payload_bytes_max));
        let read: Vec<Result<Self, String>> = read.collect();
        if read.iter().all(Result::is_ok) {
            return Ok(read.into_iter().flatten().collect());
        }
        let faults: Vec<String> =
            read.into_iter().map(|r| r.err().unwrap_or_else(|| "{}".into())).collect();
        Err(errors(faults.join(",")))
    }

    /// The error is an object of what is wrong with which field.
    fn read(raw: &str, payload_bytes_max: usize) -> Result<Self, String> {
        let row = Row::read(raw);
        let column = |name: &'static str| {
            row.as_ref().and_then(|row| row.column(name)).filter(|v| *v != "null")
        };
        let mut faults = Vec::new();
        let mut text = |name: &'static str| match column(name).map(serde_json::from_str::<String>) {
            Some(Ok(text)) if !text.trim().is_empty() => text,
            Some(Err(_)) => {
                faults.push(format!("\"{name}\":[\"is invalid\"]"));
                String::new()
            }
            Some(Ok(_)) | None => {
                faults.push(format!("\"{name}\":[\"can't be blank\"]"));
                String::new()
            }
        };
        let (sub_topic, event) = (text("topic"), text("event"));
        let payload = column("payload");
        match payload {
            None => faults.push("\"payload\":[\"can't be blank\"]".into()),
            Some(payload) if Row::read(payload).is_none() => {
                faults.push("\"payload\":[\"is invalid\"]".into());
            }
            Some(payload) if payload.len() > payload_bytes_max => {
                faults.push("\"payload\":[\"Payload size exceeds tenant limit\"]".into());
            }
            Some(_) => {}
        }
        if !faults.is_empty() {
            return Err(format!("{{{}}}", faults.join(",")));
        }
        Ok(Self {
            sub_topic,
            event,
            payload: payload.unwrap_or("{}").to_string(),
            private: column("private") == Some("true"),
            id: column("id").map(ToString::to_string),
        })
    }
}

//! Broadcasts over HTTP, as plain parts of requests: this crate sends none itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::broadcast::Persist;
use super::cause::Cause;
use super::http_reply;
use super::http_request::{BroadcastRequest, HttpBroadcastError};
use crate::payload::Payload;
use crate::secret::Secret;
use crate::wire::percent_encode;

/// Where broadcasts over HTTP go, and as whom.
///
/// A broadcast over HTTP needs no connection and no joined channel: it suits a backend that only
/// sends, or what is said while a page is closed. This makes requests for any HTTP client, and
/// reads the answers. Protocol §5.8.
///
/// # Examples
///
/// ```
/// use realtime_proto::Payload;
/// use realtime_proto::supabase::{BroadcastApi, HttpBroadcast};
///
/// let api = BroadcastApi::new("wss://project.supabase.co/realtime/v1")?.with_apikey("anon-key");
/// let moved = HttpBroadcast::new("realtime:room", "moved", Payload::from_json(r#"{"x":1}"#)?);
/// let request = api.single(&moved)?;
/// assert_eq!(
///     request.url(),
///     "https://project.supabase.co/realtime/v1/api/broadcast/room/events/moved",
/// );
/// assert_eq!(request.body(), br#"{"x":1}"#);
/// for (name, value) in request.headers() {
///     // The header `apikey`, and the type of the content.
/// #   let _ = (name, value);
/// }
/// // The HTTP client of your choice sends it, and says what came back.
/// let (status, body) = (403, r#"{"message":"Unauthorized"}"#);
/// let cause = BroadcastApi::read_reply(status, body.as_bytes()).unwrap_err();
/// println!("{cause}");
/// # assert!(cause.to_string().starts_with("unauthorized (HTTP 403: Unauthorized). "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BroadcastApi {
    /// `https://host/path/api/broadcast`.
    base: String,
    /// The query of the socket's URL.
    query: Secret,
    apikey: Option<Secret>,
    access_token: Option<Secret>,
    payload_bytes_max: usize,
}

/// What a server's HTTP side reads of one body, at most.
const BODY_BYTES_MAX: usize = 8_000_000;

/// One broadcast to be sent over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBroadcast {
    topic: String,
    event: String,
    payload: Payload,
    private: bool,
    persist: Option<Persist>,
    id: Option<String>,
}

impl HttpBroadcast {
    /// A broadcast to a public channel; `topic` is the whole topic, `realtime:` included. The
    /// payload is a JSON object or, in a request of its own, bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::HttpBroadcast;
    /// let ping = HttpBroadcast::new("realtime:room", "ping", Payload::empty());
    /// # let _ = ping;
    /// ```
    #[must_use]
    pub fn new(topic: impl Into<String>, event: impl Into<String>, payload: Payload) -> Self {
        let (topic, event) = (topic.into(), event.into());
        Self { topic, event, payload, private: false, persist: None, id: None }
    }

    /// The same, to the private channel of that topic; the access token must be allowed to send.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::HttpBroadcast;
    /// let ping = HttpBroadcast::new("realtime:room", "ping", Payload::empty()).private();
    /// # let _ = ping;
    /// ```
    #[must_use]
    pub const fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The same, to be kept for those who are away: private, and in a request of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{HttpBroadcast, Persist};
    /// let paid = HttpBroadcast::new("realtime:room", "paid", Payload::empty())
    ///     .private()
    ///     .persisted(Persist::Longest);
    /// # let _ = paid;
    /// ```
    #[must_use]
    pub const fn persisted(mut self, persist: Persist) -> Self {
        self.persist = Some(persist);
        self
    }

    /// The same, with an id that receivers are told, so that they know it when it comes twice: a
    /// UUID, and in a batch only.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::HttpBroadcast;
    /// let paid = HttpBroadcast::new("realtime:room", "paid", Payload::empty())
    ///     .with_id("b420e064-9ce7-4682-9ead-1a64970c756b");
    /// # let _ = paid;
    /// ```
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The topic as the server's HTTP side has it, after checking what both requests need.
    fn sub_topic(&self, payload_bytes_max: usize) -> Result<&str, HttpBroadcastError> {
        let sub_topic = self.topic.strip_prefix("realtime:");
        let sub_topic = sub_topic.filter(|sub_topic| !sub_topic.trim().is_empty());
        let Some(sub_topic) = sub_topic else {
            return Err(HttpBroadcastError::Topic { topic: self.topic.clone() });
        };
        if self.event.trim().is_empty() {
            return Err(HttpBroadcastError::EventMissing);
        }
        if !self.payload.is_binary() && !self.payload.is_object() {
            return Err(HttpBroadcastError::NotAnObject);
        }
        let bytes = self.payload.as_bytes().len();
        if bytes > payload_bytes_max {
            return Err(HttpBroadcastError::TooLarge { bytes, max: payload_bytes_max });
        }
        Ok(sub_topic)
    }
}

impl BroadcastApi {
    /// Finds the HTTP side of the server whose socket is at `endpoint`, with or without
    /// `/websocket` behind it; a query is kept.
    ///
    /// # Errors
    ///
    /// [`HttpBroadcastError::Endpoint`] when it is no WebSocket or HTTP URL.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastApi;
    /// assert!(BroadcastApi::new("ws://localhost:4000/socket").is_ok());
    /// assert!(BroadcastApi::new("localhost:4000").is_err());
    /// ```
    pub fn new(endpoint: &str) -> Result<Self, HttpBroadcastError> {
        let (url, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
        let refused = || HttpBroadcastError::Endpoint { endpoint: url.into() };
        let (scheme, rest) = url.split_once("://").ok_or_else(refused)?;
        let scheme = match scheme {
            "ws" | "http" => "http",
            "wss" | "https" => "https",
            _ => return Err(refused()),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() {
            return Err(refused());
        }
        let mut path = path.trim_end_matches('/');
        for suffix in ["/socket/websocket", "/socket", "/websocket"] {
            path = without_suffix(path, suffix);
        }
        Ok(Self {
            base: format!("{scheme}://{host}{path}/api/broadcast"),
            query: query.into(),
            apikey: None,
            access_token: None,
            payload_bytes_max: 3_000_000,
        })
    }

    /// The same, with the API key of the project.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastApi;
    /// let api = BroadcastApi::new("wss://project.supabase.co/realtime/v1")?.with_apikey("anon-key");
    /// # let _ = api;
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    #[must_use]
    pub fn with_apikey(mut self, apikey: impl Into<Secret>) -> Self {
        self.apikey = Some(apikey.into());
        self
    }

    /// The same, on behalf of whom the token names. Without one the API key counts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastApi;
    /// let api = BroadcastApi::new("wss://project.supabase.co/realtime/v1")?
    ///     .with_apikey("anon-key")
    ///     .with_access_token("a-jwt");
    /// # let _ = api;
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    #[must_use]
    pub fn with_access_token(mut self, token: impl Into<Secret>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// The same, for a project that takes payloads of so many bytes. Default 3,000,000.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::BroadcastApi;
    /// let api = BroadcastApi::new("ws://localhost/socket")?.with_payload_bytes_max(10_000);
    /// # let _ = api;
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    #[must_use]
    pub const fn with_payload_bytes_max(mut self, payload_bytes_max: usize) -> Self {
        self.payload_bytes_max = payload_bytes_max;
        self
    }

    /// A request that sends one broadcast. It takes Realtime 2.97 or newer.
    ///
    /// The server says when it may not be sent, which it does not for a [`batch`](Self::batch).
    ///
    /// # Errors
    ///
    /// [`HttpBroadcastError`] with what no server would take.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{BroadcastApi, HttpBroadcast};
    /// # let api = BroadcastApi::new("wss://project.supabase.co/realtime/v1")?;
    /// let bytes = Payload::binary(vec![1, 2, 3]);
    /// let request = api.single(&HttpBroadcast::new("realtime:room", "blob", bytes).private())?;
    /// assert!(request.url().ends_with("/room/events/blob?private=true"));
    /// assert_eq!(request.content_type(), "application/octet-stream");
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    pub fn single(
        &self,
        broadcast: &HttpBroadcast,
    ) -> Result<BroadcastRequest, HttpBroadcastError> {
        let sub_topic = broadcast.sub_topic(self.payload_bytes_max)?;
        if broadcast.id.is_some() {
            return Err(HttpBroadcastError::IdInSingle);
        }
        if broadcast.persist.is_some() && !broadcast.private {
            return Err(HttpBroadcastError::PersistOnPublic);
        }
        let mut url = self.base.clone();
        for (prefix, segment) in [("/", sub_topic), ("/events/", &*broadcast.event)] {
            // HTTP clients resolve these, however they are escaped, and end at another path.
            if matches!(segment, "." | "..") {
                return Err(HttpBroadcastError::Dots);
            }
            url.push_str(prefix);
            percent_encode(segment, &mut url);
        }
        let mut query: Vec<String> = Vec::new();
        if broadcast.private {
            query.push("private=true".into());
        }
        query.extend(broadcast.persist.map(|persist| match persist.ttl_secs() {
            None => "persist=true".into(),
            Some(secs) => format!("persist%5Bttl%5D={secs}"),
        }));
        let content_type = if broadcast.payload.is_binary() {
            "application/octet-stream"
        } else {
            "application/json"
        };
        self.request(url, &query, content_type, broadcast.payload.clone().into_bytes())
    }

    /// A request that sends several broadcasts, which arrive in this order.
    ///
    /// A private one that may not be sent is dropped without a word.
    ///
    /// # Errors
    ///
    /// [`HttpBroadcastError`] with what no server would take.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{BroadcastApi, HttpBroadcast};
    /// # let api = BroadcastApi::new("wss://project.supabase.co/realtime/v1")?;
    /// let tick = |topic: &str| HttpBroadcast::new(topic, "tick", Payload::empty());
    /// let request = api.batch(&[tick("realtime:a"), tick("realtime:b").private()])?;
    /// assert_eq!(request.url(), "https://project.supabase.co/realtime/v1/api/broadcast");
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    pub fn batch(
        &self,
        broadcasts: &[HttpBroadcast],
    ) -> Result<BroadcastRequest, HttpBroadcastError> {
        #[derive(Serialize)]
        struct Batch<'a> {
            messages: Vec<Message<'a>>,
        }
        #[derive(Serialize)]
        struct Message<'a> {
            topic: &'a str,
            event: &'a str,
            payload: &'a RawValue,
            #[serde(skip_serializing_if = "core::ops::Not::not")]
            private: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
        }
        if broadcasts.is_empty() {
            return Err(HttpBroadcastError::Empty);
        }
        let messages = broadcasts.iter().map(|broadcast| {
            let topic = broadcast.sub_topic(self.payload_bytes_max)?;
            if broadcast.persist.is_some() {
                return Err(HttpBroadcastError::PersistInBatch);
            }
            let payload = broadcast.payload.to().map_err(|_| HttpBroadcastError::BytesInBatch)?;
            let HttpBroadcast { event, private, id, .. } = broadcast;
            Ok(Message { topic, event, payload, private: *private, id: id.as_deref() })
        });
        let batch = Batch { messages: messages.collect::<Result<_, _>>()? };
        let body = serde_json::to_vec(&batch).expect("strings and JSON can be written as JSON");
        self.request(self.base.clone(), &[], "application/json", body.into())
    }

    /// Reads the answer to a request: `Ok` when the server has taken it, else why not.
    ///
    /// # Errors
    ///
    /// The [`Cause`], with the server's words and the advice for them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::supabase::{BroadcastApi, CauseKind, Retry};
    /// assert_eq!(BroadcastApi::read_reply(202, b""), Ok(()));
    /// let limited = BroadcastApi::read_reply(429, br#"{"message":"Too many requests"}"#);
    /// let cause = limited.unwrap_err();
    /// assert_eq!(cause.kind, CauseKind::BroadcastRateLimited);
    /// assert_eq!(cause.kind.retry(), Retry::Backoff);
    /// ```
    pub fn read_reply(status: u16, body: &[u8]) -> Result<(), Cause> {
        http_reply::read(status, body)
    }

    fn request(
        &self,
        mut url: String,
        query: &[String],
        content_type: &'static str,
        body: Bytes,
    ) -> Result<BroadcastRequest, HttpBroadcastError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(HttpBroadcastError::TooLarge { bytes: body.len(), max: BODY_BYTES_MAX });
        }
        let kept = Some(self.query.expose()).filter(|query| !query.is_empty());
        let pairs = kept.into_iter().chain(query.iter().map(String::as_str));
        for (at, pair) in pairs.enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(pair);
        }
        let bearer = self.access_token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let authorization = bearer.map(Secret::new);
        for (name, value) in [("apikey", &self.apikey), ("authorization", &authorization)] {
            let fits = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if value.as_ref().is_some_and(|value| !fits(value.expose())) {
                return Err(HttpBroadcastError::Header { name });
            }
        }
        let apikey = self.apikey.clone();
        Ok(BroadcastRequest { url, content_type, apikey, authorization, body })
    }
}

/// Without the query, which may hold an API key (G14).
impl fmt::Debug for BroadcastApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastApi")
            .field("base", &self.base)
            .field("apikey", &self.apikey)
            .field("access_token", &self.access_token)
            .field("payload_bytes_max", &self.payload_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The same path without `suffix`, which counts in any case.
fn without_suffix<'a>(path: &'a str, suffix: &str) -> &'a str {
    let split = path.len().checked_sub(suffix.len()).and_then(|at| path.split_at_checked(at));
    match split {
        Some((before, end)) if end.eq_ignore_ascii_case(suffix) => before,
        Some(_) | None => path,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn api() -> BroadcastApi {
        BroadcastApi::new("ws://h/socket").unwrap()
    }

    fn ping(topic: &str) -> HttpBroadcast {
        HttpBroadcast::new(topic, "ping", Payload::empty())
    }

    #[test]
    fn the_endpoint_is_found_as_the_official_client_finds_it() {
        for (socket, api) in [
            ("wss://ref.supabase.co/realtime/v1", "https://ref.supabase.co/realtime/v1"),
            ("wss://ref.supabase.co/realtime/v1/websocket", "https://ref.supabase.co/realtime/v1"),
            ("ws://h:4000/socket", "http://h:4000"),
            ("ws://h:4000/socket/websocket//", "http://h:4000"),
            ("http://h/a/Socket/WebSocket/", "http://h/a"),
            ("https://h", "https://h"),
            ("ws://socket", "http://socket"),
            ("ws://h/websocket/socket", "http://h"),
            ("ws://h/socketé", "http://h/socketé"),
        ] {
            let request = BroadcastApi::new(socket).unwrap().batch(&[ping("realtime:a")]).unwrap();
            assert_eq!(request.url(), format!("{api}/api/broadcast"), "{socket}");
        }
        for endpoint in ["", "h", "ftp://h", "ws://", "ws:///socket", "://h"] {
            assert!(BroadcastApi::new(endpoint).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn the_query_of_the_socket_is_kept_in_front() {
        let api = BroadcastApi::new("ws://h/socket?a=1&b=2").unwrap();
        let single = api.single(&ping("realtime:a").private().persisted(Persist::Longest)).unwrap();
        assert_eq!(
            single.url(),
            "http://h/api/broadcast/a/events/ping?a=1&b=2&private=true&persist=true"
        );
        let minute = Persist::For(core::time::Duration::from_secs(60));
        let single = self::api().single(&ping("realtime:a").private().persisted(minute)).unwrap();
        assert_eq!(
            single.url(),
            "http://h/api/broadcast/a/events/ping?private=true&persist%5Bttl%5D=60"
        );
    }

    #[test]
    fn no_topic_or_event_reaches_another_path() {
        let to = |topic: &str, event: &str| {
            let broadcast = HttpBroadcast::new(topic, event, Payload::empty());
            api().single(&broadcast).map(|request| request.url().to_string())
        };
        assert_eq!(
            to("realtime:a/b?c#d", "é +%2e").unwrap(),
            "http://h/api/broadcast/a%2Fb%3Fc%23d/events/%C3%A9%20%2B%252e"
        );
        for dots in [".", ".."] {
            let topic = format!("realtime:{dots}");
            assert_eq!(to(&topic, "e"), Err(HttpBroadcastError::Dots));
            assert_eq!(to("realtime:a", dots), Err(HttpBroadcastError::Dots));
            assert!(api().batch(&[ping(&topic)]).is_ok());
        }
        assert!(to("realtime:...", "e").is_ok());
    }

    #[test]
    fn what_no_server_would_do_is_refused() {
        use HttpBroadcastError::*;
        let with = |payload| HttpBroadcast::new("realtime:a", "e", payload);
        let single = |broadcast: &HttpBroadcast| api().single(broadcast).unwrap_err();
        let batch = |broadcasts: &[HttpBroadcast]| api().batch(broadcasts).unwrap_err();
        for topic in ["a", "realtime:", "realtime: ", "Realtime:a", ""] {
            assert_eq!(single(&ping(topic)), Topic { topic: topic.into() });
            assert_eq!(batch(&[ping("realtime:a"), ping(topic)]), Topic { topic: topic.into() });
        }
        let nameless = HttpBroadcast::new("realtime:a", " ", Payload::empty());
        assert_eq!(single(&nameless), EventMissing);
        assert_eq!(single(&with(Payload::json(&[1]).unwrap())), NotAnObject);
        assert_eq!(batch(&[with(Payload::json("x").unwrap())]), NotAnObject);
        assert_eq!(batch(&[]), Empty);
        assert_eq!(batch(&[with(Payload::binary(Vec::new()))]), BytesInBatch);
        let kept = ping("realtime:a").persisted(Persist::Longest);
        assert_eq!(single(&kept), PersistOnPublic);
        assert_eq!(batch(&[kept.private()]), PersistInBatch);
        assert_eq!(single(&ping("realtime:a").with_id("1")), IdInSingle);
        let small = api().with_payload_bytes_max(1).single(&ping("realtime:a"));
        assert_eq!(small.unwrap_err(), TooLarge { bytes: 2, max: 1 });
        let big = with(
            Payload::json(
                &["x".repeat(2_900_000)]
                    .map(|x| ("k", x))
                    .into_iter()
                    .collect::<alloc::collections::BTreeMap<_, _>>(),
            )
            .unwrap(),
        );
        assert!(api().batch(&[big.clone(), big.clone()]).is_ok());
        assert!(matches!(batch(&[big.clone(), big.clone(), big]), TooLarge { max: 8_000_000, .. }));
    }

    #[test]
    fn a_credential_cannot_write_a_header_of_its_own() {
        let ping = ping("realtime:a");
        for text in ["a\r\nx: y", "é", "\0", "a\x7f"] {
            let refused = api().with_access_token(text).single(&ping).unwrap_err();
            assert_eq!(refused, HttpBroadcastError::Header { name: "authorization" });
            assert!(!format!("{refused} {refused:?}").contains(text));
            let refused = api().with_apikey(text).batch(core::slice::from_ref(&ping)).unwrap_err();
            assert_eq!(refused, HttpBroadcastError::Header { name: "apikey" });
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let api = BroadcastApi::new("ws://h/socket?apikey=secret-1").unwrap();
        let api = api.with_apikey("secret-2").with_access_token("secret-3");
        let request = api.single(&ping("realtime:a")).unwrap();
        let shown = format!("{api:?} {request:?}");
        assert!(!shown.contains("secret-"), "{shown}");
        assert!(shown.contains("http://h/api/broadcast/a/events/ping"), "{shown}");
        let refused = BroadcastApi::new("x://h/socket?apikey=secret-4").unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("secret-"));
    }
}

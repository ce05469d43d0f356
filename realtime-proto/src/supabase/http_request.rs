//! The parts of a broadcast over HTTP, and why they were not made.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;

use crate::secret::Secret;

/// The parts of a request that broadcasts, from
/// [`BroadcastApi`](super::BroadcastApi). `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BroadcastRequest {
    pub(super) url: String,
    pub(super) content_type: &'static str,
    pub(super) apikey: Option<Secret>,
    pub(super) authorization: Option<Secret>,
    pub(super) body: Bytes,
}

impl BroadcastRequest {
    /// The method of every such request.
    pub const METHOD: &'static str = "POST";

    /// The URL, with the query of the socket's URL, whatever is in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers, with the credentials among them; their names are in lower case.
    ///
    /// # Examples
    ///
    /// ```
    /// # use realtime_proto::Payload;
    /// # use realtime_proto::supabase::{BroadcastApi, HttpBroadcast};
    /// let api = BroadcastApi::new("ws://localhost/socket")?.with_access_token("a-jwt");
    /// let request = api.single(&HttpBroadcast::new("realtime:a", "b", Payload::empty()))?;
    /// let headers: Vec<_> = request.headers().collect();
    /// assert_eq!(headers, [("content-type", "application/json"), ("authorization", "Bearer a-jwt")]);
    /// # Ok::<(), realtime_proto::supabase::HttpBroadcastError>(())
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let secrets = [("apikey", &self.apikey), ("authorization", &self.authorization)];
        let secrets = secrets
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name, value.expose())));
        core::iter::once(("content-type", self.content_type)).chain(secrets)
    }

    /// The header `content-type`: `application/json` or `application/octet-stream`.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Gives the body away without copying.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl fmt::Debug for BroadcastRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastRequest")
            .field("url", &self.url.split('?').next().unwrap_or_default())
            .field("content_type", &self.content_type)
            .field("apikey", &self.apikey)
            .field("authorization", &self.authorization)
            .field("body", &format_args!("<{} bytes>", self.body.len()))
            .finish()
    }
}

/// A request was not made, because no server would do what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpBroadcastError {
    /// The endpoint is not a URL of a socket.
    #[error("`{endpoint}` is not the URL of a socket; write ws://host/path or wss://host/path")]
    Endpoint {
        /// The endpoint as given, without its query.
        endpoint: String,
    },
    /// The topic is none of a Supabase channel.
    #[error("`{topic}` is no topic of a Supabase channel; it starts with `realtime:` and goes on")]
    Topic {
        /// The topic.
        topic: String,
    },
    /// The event has no name.
    #[error("the broadcast has no event; name it")]
    EventMissing,
    /// The payload is JSON and no object.
    #[error("the payload is not a JSON object, and over HTTP it has to be; write it as {{…}}")]
    NotAnObject,
    /// The topic or the event is `.` or `..`.
    #[error("a topic or event that is `.` or `..` cannot be part of a URL; send it in a batch")]
    Dots,
    /// The payload or the body is larger than the limit.
    #[error("the broadcast is {bytes} bytes long, and at most {max} may be sent")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The batch has no broadcast.
    #[error("the batch is empty; a server takes at least one broadcast")]
    Empty,
    /// Bytes have no form in a batch.
    #[error("a batch carries JSON only; send bytes in a request of their own")]
    BytesInBatch,
    /// A batch cannot ask to keep a broadcast.
    #[error("a batch cannot ask to keep a broadcast; send it in a request of its own")]
    PersistInBatch,
    /// Broadcasts of public channels are not kept.
    #[error("broadcasts of a public channel cannot be kept; make it `private`")]
    PersistOnPublic,
    /// Only broadcasts of a batch have ids.
    #[error("a broadcast in a request of its own cannot have an id; send it in a batch")]
    IdInSingle,
    /// A credential has a character that no header may have.
    #[error("the header {name} cannot be written: it holds a character that is no visible ASCII")]
    Header {
        /// The header.
        name: &'static str,
    },
}

//! What a message carries: raw JSON or opaque bytes, never parsed before someone asks.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Serialize, de::Deserialize};

/// The payload of a message: JSON text or opaque bytes.
///
/// A received payload is a slice of the frame it came in, so receiving copies nothing; keeping
/// one keeps its frame in memory. Cloning is a reference count.
///
/// # Examples
///
/// ```
/// use realtime_proto::Payload;
///
/// let payload = Payload::json(&[1, 2, 3])?;
/// assert_eq!(payload.as_json(), Some("[1,2,3]"));
/// assert_eq!(payload.to::<Vec<u8>>()?, [1, 2, 3]);
/// # Ok::<(), realtime_proto::PayloadError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Bytes,
    json: bool,
}

impl Payload {
    /// Serialises `value` as JSON.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when the value cannot be written as JSON, for instance a map whose keys
    /// are not strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let text =
            serde_json::to_vec(value).map_err(|e| PayloadError::Unwritable(e.to_string()))?;
        Ok(Self { bytes: Bytes::from(text), json: true })
    }

    /// Takes JSON text as it is, after checking that it is JSON.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] with the position of the first mistake.
    ///
    /// ```
    /// use realtime_proto::Payload;
    ///
    /// assert!(Payload::from_json(r#"{"x": 1}"#).is_ok());
    /// assert_eq!(
    ///     Payload::from_json("{x: 1}").unwrap_err().to_string(),
    ///     "the payload is not JSON: key must be a string at line 1 column 2",
    /// );
    /// ```
    pub fn from_json(text: impl Into<String>) -> Result<Self, PayloadError> {
        let text = text.into();
        serde_json::from_str::<&serde_json::value::RawValue>(&text)
            .map_err(|e| PayloadError::NotJson(e.to_string()))?;
        Ok(Self { bytes: Bytes::from(text), json: true })
    }

    /// Takes opaque bytes, sent as a binary frame where the protocol version has one.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), json: false }
    }

    /// The empty JSON object, which Phoenix sends where there is nothing to say.
    #[must_use]
    pub const fn empty() -> Self {
        Self { bytes: Bytes::from_static(b"{}"), json: true }
    }

    /// JSON that was just written or checked by this crate.
    pub(crate) const fn trusted_json(bytes: Bytes) -> Self {
        Self { bytes, json: true }
    }

    /// Reads the payload as a `T`.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] when the payload is binary or its JSON does not fit `T`.
    pub fn to<'a, T: Deserialize<'a>>(&'a self) -> Result<T, PayloadError> {
        if !self.json {
            return Err(PayloadError::Binary);
        }
        serde_json::from_slice(&self.bytes).map_err(|e| PayloadError::Mismatch(e.to_string()))
    }

    /// The JSON text, or `None` for a binary payload.
    #[must_use]
    pub fn as_json(&self) -> Option<&str> {
        if self.json { core::str::from_utf8(&self.bytes).ok() } else { None }
    }

    /// Whether the payload is a JSON object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.json && self.bytes.trim_ascii_start().starts_with(b"{")
    }

    /// The bytes of the payload, JSON or not.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the payload is opaque bytes rather than JSON.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        !self.json
    }

    /// Gives the shared bytes away without copying.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_json() {
            Some(text) => f.write_str(text),
            None => write!(f, "<{} bytes>", self.bytes.len()),
        }
    }
}

/// A payload could not be written or read as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The text is not JSON.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// The JSON is not of the type it was to be read as.
    #[error("the payload does not fit: {0}")]
    Mismatch(String),
    /// The value has no form in JSON.
    #[error("the value cannot be written as JSON: {0}")]
    Unwritable(String),
    /// The payload is bytes.
    #[error("the payload is bytes, not JSON")]
    Binary,
    /// Only an object will do here.
    #[error("the payload is not a JSON object; write it as {{…}}")]
    NotAnObject,
}

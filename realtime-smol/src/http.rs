//! As much of HTTP/1.1 as a WebSocket handshake and a few development requests need.

use core::time::Duration;
use std::io;
use std::time::SystemTime;

use async_tungstenite::tungstenite::handshake::client::generate_key;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use realtime_proto::supabase::BroadcastRequest;
use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest head that is read, request or answer.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header lines a head may have.
const HEADERS_MAX: usize = 64;
/// The most of a refusal's body that is kept.
pub(crate) const REFUSAL_BYTES_MAX: usize = 4 * 1024;
/// How long the body of a refusal is waited for; what came by then is kept.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A head and its length, or `None` while it is not complete.
pub(crate) type Parsed<T> = Result<Option<(usize, T)>, httparse::Error>;

/// Why a head could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the connection was closed before it was complete")]
    Closed,
    #[error("it is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not HTTP: {0}")]
    Malformed(#[from] httparse::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The answer to an upgrade that the server did not accept.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) retry_after: Option<Duration>,
}

/// How an upgrade ended, when it did not end well.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    Refused(Refusal),
    Head(HeadError),
    /// The server said yes to something else than a WebSocket.
    NotWebSocket(&'static str),
}

/// Header lines, names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    fn from_parsed(parsed: &[httparse::Header<'_>]) -> Self {
        let line = |header: &httparse::Header<'_>| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), value)
        };
        Self(parsed.iter().map(line).collect())
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.trim())
    }

    /// Whether a comma-separated header names `token`.
    pub(crate) fn names(&self, name: &str, token: &str) -> bool {
        self.0
            .iter()
            .filter(|(known, _)| known == name)
            .flat_map(|(_, value)| value.split(','))
            .any(|piece| piece.trim().eq_ignore_ascii_case(token))
    }

    pub(crate) fn content_length(&self) -> Option<usize> {
        self.value("content-length")?.parse().ok()
    }
}

/// Asks the server behind `stream` for a WebSocket and returns what came behind its answer.
pub(crate) async fn upgrade<S>(
    stream: &mut S,
    host: &str,
    path_and_query: &str,
) -> Result<Vec<u8>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let request = format!(
        "GET {path_and_query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         User-Agent: realtime-smol/{version}\r\n\r\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| UpgradeError::Head(error.into()))?;

    let (answer, rest) = read_head(stream, parse_response).await.map_err(UpgradeError::Head)?;
    let (status, headers) = answer;
    if status != 101 {
        let mut body = Body::new(&headers, rest, REFUSAL_BYTES_MAX);
        let late = async {
            Timer::after(REFUSAL_TIMEOUT).await;
            Ok(())
        };
        // A body cut short still says more than none.
        let _ = body.read(stream).or(late).await;
        return Err(UpgradeError::Refused(Refusal {
            status,
            body: String::from_utf8_lossy(&body.into_bytes()).into_owned(),
            retry_after: headers
                .value("retry-after")
                .and_then(|value| retry_after(value, SystemTime::now())),
        }));
    }
    if !headers.names("upgrade", "websocket") || !headers.names("connection", "upgrade") {
        return Err(UpgradeError::NotWebSocket("it upgraded to another protocol"));
    }
    if headers.value("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return Err(UpgradeError::NotWebSocket("its accept key does not match"));
    }
    Ok(rest)
}

/// Sends a broadcast and returns the status and the body of the answer.
pub(crate) async fn post<S>(
    stream: &mut S,
    host: &str,
    path_and_query: &str,
    request: &BroadcastRequest,
) -> Result<(u16, Vec<u8>), HeadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let method = BroadcastRequest::METHOD;
    let mut head = format!("{method} {path_and_query} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in request.headers() {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str(&format!(
        "Content-Length: {length}\r\nConnection: close\r\n\
         User-Agent: realtime-smol/{version}\r\n\r\n",
        length = request.body().len(),
        version = env!("CARGO_PKG_VERSION"),
    ));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(request.body()).await?;
    stream.flush().await?;
    let ((status, headers), rest) = read_head(stream, parse_response).await?;
    let mut body = Body::new(&headers, rest, REFUSAL_BYTES_MAX);
    // A body cut short still says more than none.
    let _ = body.read(stream).await;
    Ok((status, body.into_bytes()))
}

/// `Retry-After`, in seconds or as a date; a date that has passed is no delay.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Reads until `parse` has a whole head; returns it and what was read behind it.
pub(crate) async fn read_head<S, T>(
    stream: &mut S,
    parse: impl Fn(&[u8]) -> Parsed<T>,
) -> Result<(T, Vec<u8>), HeadError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    let mut chunk = [0; 2048];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(HeadError::Closed);
        }
        bytes.extend_from_slice(&chunk[..count]);
        if let Some((length, head)) = parse(&bytes)? {
            return Ok((head, bytes.split_off(length)));
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
    }
}

/// The status and the headers of an answer.
fn parse_response(bytes: &[u8]) -> Parsed<(u16, Headers)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let headers = Headers::from_parsed(response.headers);
    Ok(Some((length, (status, headers))))
}

/// The head of a request.
#[cfg(feature = "dev-server")]
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Headers,
}

/// The head of a request, for [`read_head`].
#[cfg(feature = "dev-server")]
pub(crate) fn parse_request(bytes: &[u8]) -> Parsed<RequestHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else {
        return Ok(None);
    };
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: Headers::from_parsed(request.headers),
    };
    Ok(Some((length, head)))
}

/// A body that is being read, up to a limit.
pub(crate) struct Body {
    bytes: Vec<u8>,
    bytes_max: usize,
    chunked: bool,
}

impl Body {
    /// A body whose first bytes, `rest`, came with its head.
    pub(crate) fn new(headers: &Headers, rest: Vec<u8>, bytes_max: usize) -> Self {
        let chunked = headers.names("transfer-encoding", "chunked");
        let length = headers.content_length().filter(|_| !chunked);
        Self {
            bytes: rest,
            bytes_max: length.map_or(bytes_max, |length| length.min(bytes_max)),
            chunked,
        }
    }

    /// Reads to the end of the body or to the limit, whichever comes first.
    ///
    /// # Cancel safety
    ///
    /// A dropped future keeps what it has read.
    pub(crate) async fn read<S>(&mut self, stream: &mut S) -> io::Result<()>
    where
        S: AsyncRead + Unpin,
    {
        let mut chunk = [0; 2048];
        while self.bytes.len() < self.bytes_max && !self.has_last_chunk() {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            self.bytes.extend_from_slice(&chunk[..count]);
        }
        Ok(())
    }

    /// What was read.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.bytes_max);
        if self.chunked { unchunk(&self.bytes) } else { self.bytes }
    }

    fn has_last_chunk(&self) -> bool {
        self.chunked && (self.bytes.ends_with(b"\r\n0\r\n\r\n") || self.bytes == b"0\r\n\r\n")
    }
}

/// The text of the chunks that are there, whole or not.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let chunk = &bytes[start..];
        let chunk = &chunk[..size.min(chunk.len())];
        if chunk.is_empty() {
            break;
        }
        text.extend_from_slice(chunk);
        bytes = &bytes[start + chunk.len()..];
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    }
    text
}

#[cfg(test)]
mod tests {
    use smol::io::Cursor;

    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        // The date is the example of RFC 9110, which is 784,111,777 s after the epoch.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let read = |value| retry_after(value, at(784_111_770)).map(|delay| delay.as_secs());
        assert_eq!([read("120"), read(date), read("soon")], [Some(120), Some(7), None]);
        assert_eq!(retry_after(date, at(784_111_800)), Some(Duration::ZERO));
    }

    fn head(bytes: &[u8]) -> Result<(u16, Headers, Vec<u8>), HeadError> {
        let mut stream = Cursor::new(bytes);
        let ((status, headers), rest) = smol::block_on(read_head(&mut stream, parse_response))?;
        Ok((status, headers, rest))
    }

    fn body(headers: &[(&str, &str)], text: &[u8]) -> Vec<u8> {
        let headers =
            headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut stream = Cursor::new(text);
        let mut body = Body::new(&Headers(headers), Vec::new(), 4096);
        smol::block_on(body.read(&mut stream)).unwrap();
        body.into_bytes()
    }

    #[test]
    fn what_comes_behind_a_head_is_kept() {
        let (status, headers, rest) =
            head(b"HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\n\r\nabc")
                .unwrap();
        assert_eq!(status, 101);
        assert!(headers.names("connection", "upgrade"));
        assert_eq!(rest, b"abc");
    }

    #[test]
    fn a_head_that_does_not_end_is_given_up() {
        let mut endless = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        endless.resize(2 * HEAD_BYTES_MAX, b'a');
        assert!(matches!(head(&endless), Err(HeadError::TooLong)));
    }

    #[test]
    fn another_protocol_is_told_from_a_closed_connection() {
        assert!(matches!(head(b"SSH-2.0-OpenSSH_9.6\r\n"), Err(HeadError::Malformed(_))));
        assert!(matches!(head(b"HTTP/1.1 2"), Err(HeadError::Closed)));
    }

    #[test]
    fn a_body_is_read_to_its_length_and_no_further() {
        assert_eq!(body(&[("content-length", "3")], b"abcdef"), b"abc");
    }

    #[test]
    fn a_chunked_body_is_put_together() {
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(body(&chunked, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(body(&chunked, b"ff\r\ncut"), b"cut");
    }
}

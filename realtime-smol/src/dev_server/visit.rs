//! One connection, from its first byte to the answer or the WebSocket.

use core::time::Duration;
use std::io;

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::Role;
use realtime_proto::server::{HttpRequest, RowChange, ServerStats};
use realtime_proto::{CloseReason, Payload};
use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use super::hub::Hub;
use crate::commands::{Gone, WeakCommands};
use crate::http::{self, Body, HeadError, RequestHead};
use crate::websocket::{Transport, WebSocket};

/// The longest body of a request.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to make a request, and to take the answer.
const VISIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may go on sending after the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// An HTTP answer.
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn new(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self { status, body }
    }

    fn error(status: u16, what: &str) -> Self {
        let what = Payload::json(what).unwrap_or_default();
        let what = what.as_json().unwrap_or_default();
        Self::new(status, format!(r#"{{"error": {what}}}"#))
    }
}

/// Serves one connection: one request, or the handshake of a WebSocket.
pub(crate) async fn visit(mut stream: TcpStream, hub: &WeakCommands<Hub>) {
    let served = async {
        let (head, rest) = match http::read_head(&mut stream, http::parse_request).await {
            Ok(request) => request,
            Err(HeadError::Closed | HeadError::Io(_)) => return Ok(()),
            Err(error @ HeadError::TooLong) => {
                let answer = Answer::error(431, &format!("the request head is bad: {error}"));
                return send(&mut stream, &answer).await;
            }
            Err(error @ HeadError::Malformed(_)) => {
                let answer = Answer::error(400, &format!("the request head is bad: {error}"));
                return send(&mut stream, &answer).await;
            }
        };
        let answer = if head.headers.names("upgrade", "websocket") {
            upgrade(&stream, &head, rest, hub).await
        } else {
            respond(&mut stream, &head, rest, hub).await.map(Some)
        };
        match answer {
            Ok(Some(answer)) => send(&mut stream, &answer).await,
            Ok(None) | Err(Gone) => Ok(()),
        }
    };
    let late = async {
        Timer::after(VISIT_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    // A client that went away needs no answer.
    let _: io::Result<()> = served.or(late).await;
}

/// Hands the connection to the hub as a WebSocket, or says why not.
async fn upgrade(
    stream: &TcpStream,
    head: &RequestHead,
    rest: Vec<u8>,
    hub: &WeakCommands<Hub>,
) -> Result<Option<Answer>, Gone> {
    let version = head.headers.value("sec-websocket-version");
    let key = head.headers.value("sec-websocket-key");
    let (Some(key), Some("13"), "GET") = (key, version, head.method.as_str()) else {
        return Ok(Some(Answer::error(
            400,
            "a WebSocket handshake is a GET with Sec-WebSocket-Version: 13 and a \
             Sec-WebSocket-Key",
        )));
    };
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes()),
    );
    let opening = open(stream.clone(), accepted, rest);
    let target = head.target.clone();
    let commands = hub.upgrade()?;
    let answered = commands.call(move |hub, now| hub.accept(&target, Box::pin(opening), now));
    Ok(match answered.await? {
        Ok(()) => None,
        Err(refusal) => Some(Answer::new(refusal.status, refusal.body)),
    })
}

async fn open(
    mut stream: TcpStream,
    accepted: String,
    rest: Vec<u8>,
) -> Result<WebSocket, CloseReason> {
    let written = async {
        stream.set_nodelay(true)?;
        stream.write_all(accepted.as_bytes()).await
    };
    let late = async {
        Timer::after(VISIT_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    written.or(late).await.map_err(|error| CloseReason::Lost {
        detail: format!("the handshake was not taken: {error}"),
    })?;
    Ok(WebSocket::new(Transport::from(stream), rest, Role::Server).await)
}

/// Does what a request asks.
async fn respond(
    stream: &mut TcpStream,
    head: &RequestHead,
    rest: Vec<u8>,
    hub: &WeakCommands<Hub>,
) -> Result<Answer, Gone> {
    let path = head.target.split('?').next().unwrap_or_default();
    Ok(match (head.method.as_str(), path) {
        ("POST", "/dev/changes") => match read_change(stream, head, rest).await {
            Ok(change) => {
                let commands = hub.upgrade()?;
                let told = commands.call(move |hub, now| hub.change(&change, now));
                Answer::new(202, format!(r#"{{"delivered": {}}}"#, told.await?))
            }
            Err(answer) => answer,
        },
        ("POST", path) if path.starts_with("/dev/broadcasts/") => {
            match read_database_broadcast(stream, head, rest).await {
                Ok((topic, event, payload, private)) => {
                    let commands = hub.upgrade()?;
                    let sent = commands.call(move |hub, now| {
                        hub.server().send_from_database(&topic, &event, &payload, private, now)
                    });
                    match sent.await? {
                        Some(id) => Answer::new(202, format!(r#"{{"id": "{id}"}}"#)),
                        None => Answer::error(400, "the payload is JSON and no object"),
                    }
                }
                Err(answer) => answer,
            }
        }
        ("POST", path) if path.starts_with("/dev/failures/") => {
            match read_body(stream, head, rest).await.and_then(utf8) {
                Ok(message) => {
                    let topic = format!("realtime:{}", &path["/dev/failures/".len()..]);
                    let again_after = query(&head.target, "again_after");
                    let again_after = again_after.and_then(|text| text.parse().ok());
                    let again_after = again_after.map(Duration::from_secs);
                    let commands = hub.upgrade()?;
                    let failed = commands.call(move |hub, now| {
                        hub.server().fail_changes(&topic, &message, again_after, now)
                    });
                    Answer::new(202, format!(r#"{{"failed": {}}}"#, failed.await?))
                }
                Err(answer) => answer,
            }
        }
        ("POST", path) if is_broadcast(path) => match read_body(stream, head, rest).await {
            Ok(body) => match broadcast(head, body, hub).await? {
                Some(answer) => answer,
                None => Answer::error(404, "there is no such endpoint for broadcasts"),
            },
            Err(answer) => answer,
        },
        ("POST", "/dev/cut") => {
            let cut = hub.upgrade()?.call(Hub::cut_all).await?;
            Answer::new(202, format!(r#"{{"cut": {cut}}}"#))
        }
        ("GET", "/dev/stats") => {
            let stats = hub.upgrade()?.call(|hub, _| hub.stats()).await?;
            Answer::new(200, stats_json(&stats))
        }
        _ => Answer::error(
            404,
            &format!(
                "there is no {} {path} here; there are POST /dev/changes, POST \
                 /dev/broadcasts/TOPIC/EVENT, POST /dev/failures/TOPIC, POST /dev/cut, POST \
                 /api/broadcast and GET /dev/stats, and a WebSocket at /socket/websocket",
                head.method,
            ),
        ),
    })
}

async fn read_change(
    stream: &mut TcpStream,
    head: &RequestHead,
    rest: Vec<u8>,
) -> Result<RowChange, Answer> {
    let text = utf8(read_body(stream, head, rest).await?)?;
    RowChange::from_json(&text).map_err(|error| Answer::error(400, &error.to_string()))
}

/// The whole topic, the event and the payload, and whether it is private.
async fn read_database_broadcast(
    stream: &mut TcpStream,
    head: &RequestHead,
    rest: Vec<u8>,
) -> Result<(String, String, Payload, bool), Answer> {
    let path = head.target.split('?').next().unwrap_or_default();
    let names = path.trim_start_matches("/dev/broadcasts/").rsplit_once('/');
    let Some((topic, event)) = names else {
        return Err(Answer::error(404, "write /dev/broadcasts/TOPIC/EVENT"));
    };
    let private = query(&head.target, "private") != Some("false");
    let (topic, event) = (format!("realtime:{topic}"), event.to_owned());
    let body = read_body(stream, head, rest).await?;
    let payload = if head.headers.names("content-type", "application/octet-stream") {
        Payload::binary(body)
    } else {
        Payload::from_json(utf8(body)?).map_err(|error| Answer::error(400, &error.to_string()))?
    };
    Ok((topic, event, payload, private))
}

/// Lets the protocol half answer; `None` when it knows no such endpoint.
async fn broadcast(
    head: &RequestHead,
    body: Vec<u8>,
    hub: &WeakCommands<Hub>,
) -> Result<Option<Answer>, Gone> {
    let header = |name| head.headers.value(name).map(str::to_owned);
    let (method, target) = (head.method.clone(), head.target.clone());
    let (authorization, apikey) = (header("authorization"), header("apikey"));
    let content_type = header("content-type");
    let commands = hub.upgrade()?;
    let answered = commands.call(move |hub, now| {
        let request = HttpRequest {
            method: &method,
            target: &target,
            authorization: authorization.as_deref(),
            apikey: apikey.as_deref(),
            content_type: content_type.as_deref(),
            body: &body,
        };
        hub.server().handle_http(&request, now)
    });
    Ok(answered.await?.map(|response| Answer::new(response.status, response.body)))
}

fn is_broadcast(path: &str) -> bool {
    path.strip_prefix("/realtime/v1").unwrap_or(path).starts_with("/api/broadcast")
}

fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn utf8(body: Vec<u8>) -> Result<String, Answer> {
    String::from_utf8(body)
        .map_err(|_| Answer::error(400, "the body is not UTF-8, so it is no text"))
}

async fn read_body(
    stream: &mut TcpStream,
    head: &RequestHead,
    rest: Vec<u8>,
) -> Result<Vec<u8>, Answer> {
    let chunked = head.headers.names("transfer-encoding", "chunked");
    if !chunked && head.headers.content_length().is_none() {
        return Err(Answer::error(411, "the request has no Content-Length"));
    }
    if head.headers.names("expect", "100-continue") {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        // A client that does not take it will not send its body either.
        let _ = stream.write_all(go_on).await;
    }
    let mut body = Body::new(&head.headers, rest, BODY_BYTES_MAX + 1);
    let read = body.read(stream).await;
    read.map_err(|_| Answer::error(400, "the body of the request ended early"))?;
    let body = body.into_bytes();
    if body.len() > BODY_BYTES_MAX {
        return Err(Answer::error(413, "the body is longer than 1 MiB"));
    }
    Ok(body)
}

fn stats_json(stats: &ServerStats) -> String {
    let counts = [
        ("sessions", stats.sessions as u64),
        ("channels", stats.channels as u64),
        ("presences", stats.presences as u64),
        ("accepted", stats.accepted),
        ("frames_in", stats.frames_in),
        ("frames_out", stats.frames_out),
        ("malformed", stats.malformed),
        ("joins", stats.joins),
        ("refused", stats.refused),
        ("broadcasts", stats.broadcasts),
        ("changes", stats.changes),
    ];
    let counts = counts.map(|(name, count)| format!(r#""{name}": {count}"#));
    format!("{{{}}}", counts.join(", "))
}

/// Writes an answer and ends the connection.
async fn send(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let Answer { status, body } = answer;
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain; charset=utf-8" };
    let text = format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}",
        phrase = phrase(*status),
        length = body.len(),
    );
    stream.write_all(text.as_bytes()).await?;
    stream.close().await?;

    // Closing with unread bytes would reset the connection, and the answer with it.
    let mut unread = [0; 2048];
    let drained = async {
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    let late = async {
        Timer::after(LINGER_TIMEOUT).await;
        Ok(())
    };
    drained.or(late).await
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        411 => "Length Required",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

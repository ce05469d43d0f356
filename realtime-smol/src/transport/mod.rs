//! From a URL to an open WebSocket, or to one sentence that says why not.

mod target;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use async_tungstenite::tungstenite::protocol::Role;
use realtime_proto::CloseReason;
use realtime_proto::supabase::{BroadcastApi, BroadcastRequest};
use smol::Timer;
use smol::future::FutureExt;
use smol::net::{self, TcpStream};
use target::Target;

use crate::connector::{Connector, Pipe};
use crate::error::Error;
use crate::http::{self, Refusal, UpgradeError};
use crate::websocket::{Transport, WebSocket};

/// How long one address may take to answer before the next is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request over HTTP may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a WebSocket to `url`, which may have a secret in its query.
///
/// Only a silent address is given up here, for the next one; how long the whole may take is for
/// the machine to say, by closing the socket.
///
/// # Errors
///
/// [`CloseReason::Refused`] when the server answered with HTTP, otherwise
/// [`CloseReason::Unreachable`].
///
/// # Cancel safety
///
/// A dropped future drops the half-open connection.
pub(crate) async fn dial(url: &str, connector: &Connector) -> Result<WebSocket, CloseReason> {
    let target = Target::parse(url, ["ws://", "wss://"])?;
    let mut transport = connect(&target, connector).await?;
    let rest = http::upgrade(&mut transport, target.authority, &target.request_path())
        .await
        .map_err(|error| refused(&target, error))?;
    Ok(WebSocket::new(transport, rest, Role::Client).await)
}

/// Sends a broadcast over HTTP, on a connection of its own.
///
/// # Errors
///
/// [`Error::NotTaken`] with the server's answer, [`Error::Unreachable`] when there was none.
pub(crate) async fn post(request: &BroadcastRequest, connector: &Connector) -> Result<(), Error> {
    let detail = |reason: CloseReason| {
        let CloseReason::Unreachable { detail } = reason else {
            unreachable!("no upgrade was asked for that could be refused: {reason:?}");
        };
        Error::Unreachable(detail)
    };
    let asked = async {
        let target = Target::parse(request.url(), ["http://", "https://"]).map_err(detail)?;
        let mut transport = connect(&target, connector).await.map_err(detail)?;
        http::post(&mut transport, target.authority, &target.request_path(), request)
            .await
            .map_err(|error| Error::Unreachable(format!("the answer of {target}: {error}")))
    };
    let late = async {
        Timer::after(ANSWER_TIMEOUT).await;
        Err(Error::Unreachable(format!("no answer came within {ANSWER_TIMEOUT:?}")))
    };
    let (status, body) = asked.or(late).await?;
    BroadcastApi::read_reply(status, &body).map_err(Error::NotTaken)
}

#[cfg(feature = "tls")]
async fn connect(target: &Target<'_>, connector: &Connector) -> Result<Transport, CloseReason> {
    let pipe = reach(target, connector).await?;
    if !target.tls {
        return Ok(pipe.into());
    }
    let stream = connector.tls.handshake(target.host, pipe).await;
    stream.map(Transport::from).map_err(unreachable)
}

#[cfg(not(feature = "tls"))]
async fn connect(target: &Target<'_>, connector: &Connector) -> Result<Transport, CloseReason> {
    if target.tls {
        return Err(unreachable(format!(
            "{target} needs TLS, which this build leaves out; enable the feature `tls` of \
             realtime-smol"
        )));
    }
    reach(target, connector).await.map(Transport::from)
}

async fn reach(target: &Target<'_>, connector: &Connector) -> Result<Pipe, CloseReason> {
    let (host, port) = (target.host, target.port);
    match connector.own(host, port).await {
        Some(own) => own.map_err(|error| unreachable(format!("cannot reach {host}: {error}"))),
        None => connect_tcp(target).await.map(Pipe::Tcp),
    }
}

async fn connect_tcp(target: &Target<'_>) -> Result<TcpStream, CloseReason> {
    let host = target.host;
    let addresses = net::resolve((host, target.port))
        .await
        .map_err(|error| unreachable(format!("cannot look up host {host}: {error}")))?;
    if addresses.is_empty() {
        return Err(unreachable(format!("cannot look up host {host}: it has no address")));
    }
    let mut failures = Vec::new();
    for address in addresses {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(connect_failure(address, &error)),
        }
    }
    Err(unreachable(failures.join("; ")))
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let late = async {
        Timer::after(ADDRESS_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let stream = TcpStream::connect(address).or(late).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect_failure(address: SocketAddr, error: &io::Error) -> String {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system's own words are good enough for the rest"
    )]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused by {address}"),
        io::ErrorKind::TimedOut => format!("no answer from {address}"),
        _ => format!("cannot connect to {address}: {error}"),
    }
}

fn refused(target: &Target<'_>, error: UpgradeError) -> CloseReason {
    match error {
        UpgradeError::Refused(Refusal { status, body, retry_after }) => {
            CloseReason::Refused { status, body, retry_after }
        }
        UpgradeError::Head(error) => unreachable(format!(
            "the WebSocket handshake with {target} failed: cannot read the answer: {error}",
        )),
        UpgradeError::NotWebSocket(what) => unreachable(format!(
            "the WebSocket handshake with {target} failed: {what}; check that the URL is that of \
             a Realtime server",
        )),
    }
}

fn unreachable(detail: String) -> CloseReason {
    CloseReason::Unreachable { detail }
}

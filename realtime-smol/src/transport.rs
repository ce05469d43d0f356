//! From a URL to an open WebSocket, or to one sentence that says why not.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use async_tungstenite::tungstenite::protocol::Role;
use realtime_proto::CloseReason;
use realtime_proto::supabase::{BroadcastApi, BroadcastRequest};
use smol::Timer;
use smol::future::FutureExt;
use smol::net::{self, TcpStream};

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

/// The pieces of a URL that a connection needs.
struct Target<'a> {
    tls: bool,
    /// The host and the port as written, which is what the `Host` header wants.
    authority: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads a URL of one of two schemes, without and with TLS.
    fn parse(url: &'a str, schemes: [&str; 2]) -> Result<Self, CloseReason> {
        let without_query = url.split('?').next().unwrap_or_default();
        let invalid = |what: &str| unreachable(format!("the URL {without_query} {what}"));

        let [plain, secure] = schemes;
        let (tls, rest) = if let Some(rest) = url.strip_prefix(plain) {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix(secure) {
            (true, rest)
        } else {
            return Err(invalid(&format!("does not start with {plain} or {secure}")));
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("has a character that must be percent-encoded"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if authority.contains('@') {
            return Err(unreachable(
                "the URL has a user name or password in it, which Realtime does not use; remove it"
                    .into(),
            ));
        }
        let (host, port) = split_port(authority);
        if host.is_empty() {
            return Err(invalid("names no host"));
        }
        let port = match port {
            Some(port) => port
                .parse()
                .map_err(|_| invalid("has a port that is not a number from 0 to 65535"))?,
            None if tls => 443,
            None => 80,
        };
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        Ok(Self { tls, authority, host, port, path, query })
    }

    fn request_path(&self) -> String {
        let slash = if self.path.is_empty() { "/" } else { "" };
        match self.query {
            Some(query) => format!("{slash}{}?{query}", self.path),
            None => format!("{slash}{}", self.path),
        }
    }
}

/// The URL without its query, where the API key is.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, port.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
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

#[cfg(test)]
mod tests {
    use core::future::Future;

    use async_tungstenite::tungstenite::protocol::{CloseFrame, Message};
    use async_tungstenite::{WebSocketStream, accept_async};
    use smol::future;
    use smol::io::{AsyncReadExt, AsyncWriteExt};
    use smol::net::TcpListener;

    use super::*;
    use crate::tls::TlsConfig;

    /// Runs `serve` for one connection while `url` is dialled.
    async fn dial_while<F>(
        scheme: &str,
        tls: TlsConfig,
        serve: impl FnOnce(TcpStream) -> F,
    ) -> Result<WebSocket, CloseReason>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://localhost:{port}/socket/websocket?apikey=top-secret");
        let connector = Connector::trusting(tls);
        let dialled = dial(&url, &connector);
        let served = async {
            let (stream, _) = listener.accept().await.unwrap();
            smol::spawn(serve(stream)).detach();
        };
        future::zip(dialled, served).await.0
    }

    async fn answer(mut stream: TcpStream, text: &str) {
        let mut request = [0; 1024];
        let count = stream.read(&mut request).await.unwrap();
        assert!(request[..count].starts_with(b"GET /socket/websocket?apikey=top-secret HTTP/1.1"));
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    fn detail(result: Result<WebSocket, CloseReason>) -> String {
        match result {
            Err(CloseReason::Unreachable { detail }) => {
                assert!(!detail.contains("top-secret"), "{detail}");
                detail
            }
            other => panic!("expected an unreachable server, got {other:?}"),
        }
    }

    async fn dial_plain(url: &str) -> String {
        detail(dial(url, &Connector::default()).await)
    }

    #[test]
    fn a_refused_upgrade_gives_status_body_and_delay() {
        smol::block_on(async {
            let result = dial_while("ws", TlsConfig::default(), |stream| async {
                let text = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\
                            Content-Length: 16\r\n\r\ntoo many tenants";
                answer(stream, text).await;
            });
            assert_eq!(
                result.await.unwrap_err(),
                CloseReason::Refused {
                    status: 429,
                    body: "too many tenants".into(),
                    retry_after: Some(Duration::from_secs(7)),
                },
            );
        });
    }

    #[test]
    fn a_wrong_path_is_a_refusal_with_the_status() {
        smol::block_on(async {
            let result = dial_while("ws", TlsConfig::default(), |stream| async {
                answer(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
            });
            assert!(matches!(result.await, Err(CloseReason::Refused { status: 404, .. })));
        });
    }

    #[test]
    fn the_body_of_a_refusal_is_cut_at_four_kilobytes() {
        smol::block_on(async {
            let result = dial_while("ws", TlsConfig::default(), |stream| async {
                let body = "x".repeat(10_000);
                answer(stream, &format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}")).await;
            });
            let Err(CloseReason::Refused { body, .. }) = result.await else {
                panic!("expected a refusal");
            };
            assert_eq!(body.len(), http::REFUSAL_BYTES_MAX);
        });
    }

    #[test]
    fn an_answer_without_the_accept_key_is_not_a_websocket() {
        smol::block_on(async {
            let result = dial_while("ws", TlsConfig::default(), |stream| async {
                let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                            Upgrade: websocket\r\n\r\n";
                answer(stream, text).await;
            });
            let detail = detail(result.await);
            assert!(detail.contains("its accept key does not match"), "{detail}");
        });
    }

    #[test]
    fn a_server_that_hangs_up_is_named_without_the_query() {
        smol::block_on(async {
            let result = dial_while("ws", TlsConfig::default(), answer_nothing);
            let detail = detail(result.await);
            assert!(detail.contains("/socket/websocket failed"), "{detail}");
            assert!(detail.contains("was closed before"), "{detail}");
        });
    }

    async fn answer_nothing(stream: TcpStream) {
        answer(stream, "").await;
    }

    #[test]
    fn a_refused_connection_names_the_address() {
        smol::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            assert_eq!(
                dial_plain(&format!("ws://{address}/socket")).await,
                format!("connection refused by {address}"),
            );
        });
    }

    #[test]
    fn a_host_that_does_not_exist_is_named() {
        smol::block_on(async {
            let detail = dial_plain("ws://no-such-host.invalid/socket?apikey=top-secret").await;
            assert!(detail.starts_with("cannot look up host no-such-host.invalid: "), "{detail}");
        });
    }

    #[test]
    fn a_url_that_cannot_be_dialled_says_what_is_wrong() {
        smol::block_on(async {
            for (url, sentence) in [
                (
                    "ftp://h/x?apikey=top-secret",
                    "the URL ftp://h/x does not start with ws:// or wss://",
                ),
                ("ws:///x", "the URL ws:///x names no host"),
                (
                    "ws://h:port/x",
                    "the URL ws://h:port/x has a port that is not a number from 0 to 65535",
                ),
                (
                    "ws://h/x\r\ny: z",
                    "the URL ws://h/x\r\ny: z has a character that must be percent-encoded",
                ),
                (
                    "ws://user:top-secret@h/x",
                    "the URL has a user name or password in it, which Realtime does not use; \
                     remove it",
                ),
            ] {
                assert_eq!(dial_plain(url).await, sentence);
            }
        });
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (authority, pieces) in [
            ("h", ("h", None)),
            ("h:4000", ("h", Some("4000"))),
            ("[::1]:4000", ("::1", Some("4000"))),
            ("[::1]", ("::1", None)),
        ] {
            assert_eq!(split_port(authority), pieces);
        }
    }

    async fn end_of(socket: Result<WebSocket, CloseReason>) -> CloseReason {
        let mut socket = socket.unwrap();
        future::poll_fn(|cx| socket.poll_frame(cx)).await.unwrap_err()
    }

    #[test]
    fn a_close_frame_is_told_with_its_code() {
        smol::block_on(async {
            let socket = dial_while("ws", TlsConfig::default(), |stream| async {
                let mut socket: WebSocketStream<_> = accept_async(stream).await.unwrap();
                let frame = CloseFrame { code: 1012.into(), reason: "service restart".into() };
                socket.close(Some(frame)).await.unwrap();
            });
            assert_eq!(
                end_of(socket.await).await,
                CloseReason::Closed { code: 1012, reason: "service restart".into() },
            );
        });
    }

    #[test]
    fn a_close_frame_without_a_code_is_1005() {
        smol::block_on(async {
            let socket = dial_while("ws", TlsConfig::default(), |stream| async {
                let mut socket = accept_async(stream).await.unwrap();
                socket.close(None).await.unwrap();
            });
            assert_eq!(
                end_of(socket.await).await,
                CloseReason::Closed { code: 1005, reason: String::new() },
            );
        });
    }

    #[test]
    fn a_connection_that_ends_without_a_word_is_lost() {
        smol::block_on(async {
            let socket = dial_while("ws", TlsConfig::default(), |stream| async {
                accept_async(stream).await.unwrap();
            });
            assert_eq!(
                end_of(socket.await).await,
                CloseReason::Lost { detail: "the connection ended without a close frame".into() },
            );
        });
    }

    #[test]
    fn frames_come_through_and_pings_do_not() {
        smol::block_on(async {
            let socket = dial_while("ws", TlsConfig::default(), |stream| async {
                let mut socket = accept_async(stream).await.unwrap();
                for message in [
                    Message::Ping("are you there".into()),
                    Message::text("a"),
                    Message::binary(vec![1, 2]),
                ] {
                    socket.send(message).await.unwrap();
                }
                let pong = smol::stream::StreamExt::next(&mut socket).await;
                assert_eq!(pong.unwrap().unwrap(), Message::Pong("are you there".into()));
                socket.close(None).await.unwrap();
            });
            let mut socket = socket.await.unwrap();
            for frame in
                [realtime_proto::Frame::text("a"), realtime_proto::Frame::binary(vec![1, 2])]
            {
                let received = future::poll_fn(|cx| socket.poll_frame(cx)).await;
                assert_eq!(received, Ok(frame));
            }
            let end = future::poll_fn(|cx| socket.poll_frame(cx)).await;
            assert!(matches!(end, Err(CloseReason::Closed { .. })));
        });
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_a_wss_url_says_which_feature_is_missing() {
        smol::block_on(async {
            assert_eq!(
                dial_plain("wss://h/socket?apikey=top-secret").await,
                "wss://h/socket needs TLS, which this build leaves out; enable the feature `tls` \
                 of realtime-smol",
            );
        });
    }

    #[cfg(feature = "tls")]
    mod tls {
        use std::sync::Arc;

        use futures_rustls::TlsAcceptor;
        use futures_rustls::rustls::{ServerConfig, crypto::ring};

        use super::*;

        struct Identity {
            pem: String,
            acceptor: TlsAcceptor,
        }

        fn identity(host: &str) -> Identity {
            let own = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
            let key = own.signing_key.serialize_der().try_into().unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![own.cert.der().clone()], key)
                .unwrap();
            Identity { pem: own.cert.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
        }

        /// Accepts as `identity`; a handshake that fails is the dialler's to report.
        async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
            if let Ok(stream) = acceptor.accept(stream).await {
                let mut socket = accept_async(stream).await.unwrap();
                socket.send(Message::text("hello")).await.unwrap();
            }
        }

        async fn dial_identity(
            identity: &Identity,
            tls: &TlsConfig,
        ) -> Result<WebSocket, CloseReason> {
            let acceptor = identity.acceptor.clone();
            dial_while("wss", tls.clone(), |stream| serve(acceptor, stream)).await
        }

        #[test]
        fn a_server_is_trusted_by_its_root() {
            smol::block_on(async {
                let server = identity("localhost");
                let tls = TlsConfig::default().with_root_pem(server.pem.as_bytes()).unwrap();
                let mut socket = dial_identity(&server, &tls).await.unwrap();
                let frame = future::poll_fn(|cx| socket.poll_frame(cx)).await;
                assert_eq!(frame, Ok(realtime_proto::Frame::text("hello")));
            });
        }

        #[test]
        fn a_server_with_another_root_is_not_trusted() {
            smol::block_on(async {
                let stranger = identity("localhost");
                let tls = TlsConfig::default().with_root_pem(stranger.pem.as_bytes()).unwrap();
                let result = dial_identity(&identity("localhost"), &tls).await;
                assert_eq!(
                    detail(result),
                    "TLS: the certificate of localhost is not trusted: its issuer is unknown; add \
                     its root certificate with TlsConfig::with_root_pem",
                );
            });
        }

        #[test]
        fn a_certificate_for_another_host_is_told_apart() {
            smol::block_on(async {
                let server = identity("elsewhere.example");
                let tls = TlsConfig::default().with_root_pem(server.pem.as_bytes()).unwrap();
                assert_eq!(
                    detail(dial_identity(&server, &tls).await),
                    "TLS: the certificate that localhost sent is for another name; check the host \
                     in the URL",
                );
            });
        }

        #[test]
        fn a_server_without_tls_is_told_apart() {
            smol::block_on(async {
                let result = dial_while("wss", TlsConfig::default(), |mut stream| async move {
                    let text = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                    stream.write_all(text).await.unwrap();
                });
                assert_eq!(
                    detail(result.await),
                    "TLS: localhost did not answer with TLS; use ws:// if the server has none, \
                     and check the port",
                );
            });
        }

        #[test]
        fn a_pem_text_without_a_certificate_is_refused() {
            assert_eq!(
                TlsConfig::default().with_root_pem(b"nothing here").unwrap_err().to_string(),
                "the PEM text holds no certificate; it needs a BEGIN CERTIFICATE section",
            );
        }
    }
}

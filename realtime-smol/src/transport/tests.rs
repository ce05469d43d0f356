//! Dialling servers that answer in every way they know.

use core::future::Future;

use async_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use async_tungstenite::{WebSocketStream, accept_async};
use smol::future;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpListener;

use super::target::split_port;
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
        for frame in [realtime_proto::Frame::text("a"), realtime_proto::Frame::binary(vec![1, 2])] {
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

    async fn dial_identity(identity: &Identity, tls: &TlsConfig) -> Result<WebSocket, CloseReason> {
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

//! The local server over real sockets.

use realtime_proto::{CloseReason, Frame};
use smol::future::poll_fn;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use super::*;
use crate::connector::Connector;
use crate::transport::dial;
use crate::websocket::WebSocket;

fn start() -> DevServerHandle {
    DevServer::bind(([127, 0, 0, 1], 0), DevServerConfig::default()).unwrap().spawn()
}

async fn join(server: &DevServerHandle) -> WebSocket {
    let url = format!("{}/websocket?vsn=2.0.0", server.url());
    let mut socket = dial(&url, &Connector::default()).await.unwrap();
    let join = r#"["1","1","realtime:room","phx_join",{"config":{"postgres_changes":[
        {"event":"*","schema":"public","table":"messages"}]}}]"#;
    socket.start_send(Frame::text(join)).unwrap();
    poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
    while !hear(&mut socket).await.contains("Subscribed to PostgreSQL") {}
    socket
}

async fn next(socket: &mut WebSocket) -> Result<String, CloseReason> {
    let frame = poll_fn(|cx| socket.poll_frame(cx)).await?;
    Ok(String::from_utf8(frame.as_bytes().to_vec()).unwrap())
}

async fn hear(socket: &mut WebSocket) -> String {
    next(socket).await.unwrap()
}

async fn end(socket: &mut WebSocket) -> CloseReason {
    loop {
        if let Err(reason) = next(socket).await {
            return reason;
        }
    }
}

/// Sends `request` as it is and returns the whole answer.
async fn exchange(server: &DevServerHandle, request: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn post(server: &DevServerHandle, path: &str, body: &str) -> (String, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let answer = exchange(server, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_change_posted_over_http_reaches_a_client() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        let change = r#"{"schema": "public", "table": "messages", "type": "INSERT",
            "record": {"id": 7}, "old_record": null}"#;
        assert_eq!(
            post(&server, "/dev/changes", change).await,
            ("HTTP/1.1 202 Accepted".into(), r#"{"delivered": 1}"#.into()),
        );
        let told = hear(&mut socket).await;
        assert!(told.contains("postgres_changes"), "{told}");
        assert!(told.contains(r#""id":7"#) || told.contains(r#""id": 7"#), "{told}");
    });
}

#[test]
fn a_broadcast_posted_over_http_reaches_a_client() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        let batch = r#"{"messages":[{"topic":"room","event":"e","payload":{"n":1}}]}"#;
        let accepted = ("HTTP/1.1 202 Accepted".to_owned(), String::new());
        assert_eq!(post(&server, "/api/broadcast", batch).await, accepted);
        assert_eq!(
            hear(&mut socket).await,
            r#"[null,null,"realtime:room","broadcast",{"event":"e","payload":{"n":1},"type":"broadcast"}]"#
        );
        let (status, body) = post(&server, "/realtime/v1/api/broadcast", "{}").await;
        assert_eq!(status, "HTTP/1.1 422 Unprocessable Content");
        assert_eq!(body, r#"{"errors":{"messages":["can't be blank"]}}"#);
        let (status, _) = post(&server, "/api/broadcast/room", "{}").await;
        assert_eq!(status, "HTTP/1.1 404 Not Found");
    });
}

#[test]
fn the_database_broadcasts_and_fails_over_http_too() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        let path = "/dev/broadcasts/room/moved?private=false";
        let (status, body) = post(&server, path, r#"{"x":1}"#).await;
        assert_eq!((&*status, body.len()), ("HTTP/1.1 202 Accepted", 46), "{body}");
        let told = poll_fn(|cx| socket.poll_frame(cx)).await.unwrap();
        let told = String::from_utf8_lossy(told.as_bytes()).into_owned();
        assert!(told.contains("moved") && told.contains(r#""x":1"#), "{told}");
        let (_, body) = post(&server, path, "[1]").await;
        assert_eq!(body, r#"{"error": "the payload is JSON and no object"}"#);

        let path = "/dev/failures/room?again_after=0";
        let (_, body) = post(&server, path, "Too many database timeouts").await;
        assert_eq!(body, r#"{"failed": 1}"#);
        assert!(hear(&mut socket).await.contains("Too many database timeouts"));
        assert!(hear(&mut socket).await.contains("Subscribed to PostgreSQL"));
    });
}

#[test]
fn a_server_can_be_told_to_behave_otherwise_while_it_runs() {
    smol::block_on(async {
        let server = start();
        server.configure(|config| config.sessions_max = 0).await.unwrap();
        let url = format!("{}/websocket?vsn=2.0.0", server.url());
        let refused = dial(&url, &Connector::default()).await.unwrap_err();
        assert!(matches!(refused, CloseReason::Refused { status: 429, .. }));
    });
}

#[test]
fn a_change_that_makes_no_sense_is_refused_with_the_reason() {
    smol::block_on(async {
        let server = start();
        assert_eq!(
            post(&server, "/dev/changes", r#"{"table": "messages"}"#).await,
            (
                "HTTP/1.1 400 Bad Request".into(),
                r#"{"error": "the row change has no `type`; write INSERT, UPDATE or DELETE"}"#
                    .into()
            ),
        );
    });
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    smol::block_on(async {
        let server = start();
        let body = " ".repeat(1024 * 1024 + 1);
        let (status, _) = post(&server, "/dev/changes", &body).await;
        assert_eq!(status, "HTTP/1.1 413 Content Too Large");
    });
}

#[test]
fn a_cut_ends_every_connection_without_a_close_frame() {
    smol::block_on(async {
        let server = start();
        let mut sockets = [join(&server).await, join(&server).await];
        assert_eq!(post(&server, "/dev/cut", "").await.1, r#"{"cut": 2}"#.to_owned());
        for socket in &mut sockets {
            assert!(matches!(end(socket).await, CloseReason::Lost { .. }));
        }
        assert_eq!(server.stats().await.unwrap().sessions, 0);
    });
}

#[test]
fn a_restart_closes_with_1012() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        assert_eq!(server.restart_all().await, Ok(1));
        let reason = "service restart".into();
        assert_eq!(end(&mut socket).await, CloseReason::Closed { code: 1012, reason });
    });
}

#[test]
fn stats_are_json() {
    smol::block_on(async {
        let server = start();
        let _socket = join(&server).await;
        let answer = exchange(&server, "GET /dev/stats HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.contains(r#"{"sessions": 1, "channels": 1,"#), "{answer}");
    });
}

#[test]
fn an_unknown_path_is_a_404_that_names_the_known_ones() {
    smol::block_on(async {
        let server = start();
        let answer = exchange(&server, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.contains("POST /dev/changes"), "{answer}");
    });
}

#[test]
fn an_upgrade_on_another_path_is_refused() {
    smol::block_on(async {
        let server = start();
        let url = format!("ws://{}/elsewhere", server.local_addr());
        let refused = dial(&url, &Connector::default()).await.unwrap_err();
        assert!(matches!(refused, CloseReason::Refused { status: 404, .. }));
    });
}

#[test]
fn what_is_not_http_is_told_so() {
    smol::block_on(async {
        let answer = exchange(&start(), "\u{1}\u{2} nonsense\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_others_go_on() {
    smol::block_on(async {
        let server = start();
        let _stuck = join(&server).await;
        let record = format!(r#"{{"id": 1, "text": "{}"}}"#, "x".repeat(100_000));
        let change = RowChange::from_json(&format!(
            r#"{{"table": "messages", "type": "INSERT", "record": {record}}}"#
        ))
        .unwrap();
        while server.stats().await.unwrap().sessions == 1 {
            server.change(change.clone()).await.unwrap();
        }
        join(&server).await;
    });
}

#[test]
fn a_shutdown_closes_with_1001_and_later_calls_hear_of_it() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        server.shutdown().await;
        assert!(matches!(end(&mut socket).await, CloseReason::Closed { code: 1001, .. }));
        drop(socket);
        while server.stats().await.is_ok() {}
        server.shutdown().await;
    });
}

#[test]
fn a_server_without_handles_ends() {
    smol::block_on(async {
        let server = start();
        let mut socket = join(&server).await;
        drop(server);
        assert!(matches!(end(&mut socket).await, CloseReason::Closed { .. }));
    });
}

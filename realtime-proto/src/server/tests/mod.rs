//! Scenarios with hand-written frames; what is expected comes from the protocol sheet and from
//! recordings of real servers.

mod broadcasts;
mod channels;
mod database;
mod http;
mod limits;
mod presence;
mod row_changes;
mod sessions;
mod tokens;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::Value;

use super::*;
use crate::payload::Payload;
use crate::wire::DecodeError;

const V1: &str = "/socket/websocket";
const V2: &str = "/realtime/v1/websocket?vsn=2.0.0";

struct Rig {
    server: Server,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(ServerConfig {
            idle_after: None,
            no_channel_after: None,
            ..ServerConfig::default()
        })
    }

    fn with(config: ServerConfig) -> Self {
        Self { server: Server::new(config, 1, Instant::EPOCH), now: Instant::EPOCH }
    }

    fn open(&mut self, target: &str) -> SessionId {
        self.server.accept(target, self.now).unwrap()
    }

    fn send(&mut self, session: SessionId, text: &str) {
        self.server.handle_frame(session, Frame::text(text), self.now);
    }

    fn send_binary(&mut self, session: SessionId, bytes: &'static [u8]) {
        self.server.handle_frame(session, Frame::binary(bytes), self.now);
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.server.handle_timeout(self.now);
    }

    /// What was sent since the last call: who got it, and its text (bytes as Rust shows them).
    fn sent(&mut self) -> Vec<(SessionId, String)> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            sent.push(match transmit {
                ServerTransmit::Frame { session, frame } => match frame {
                    Frame::Text(bytes) => (session, String::from_utf8(bytes.to_vec()).unwrap()),
                    Frame::Binary(bytes) => (session, bytes.escape_ascii().to_string()),
                },
                ServerTransmit::Close { session, code, reason } => {
                    (session, format!("close {code} {reason}"))
                }
                ServerTransmit::Cut { session } => (session, "cut".into()),
            });
        }
        sent
    }

    fn sent_to(&mut self, session: SessionId) -> Vec<String> {
        let sent = self.sent().into_iter();
        sent.filter(|(id, _)| *id == session).map(|(_, text)| text).collect()
    }

    fn events(&mut self) -> Vec<ServerEvent> {
        core::iter::from_fn(|| self.server.poll_event()).collect()
    }

    fn join(&mut self, session: SessionId, topic: &str, config: &str) {
        self.send(session, &format!(r#"["1","1","{topic}","phx_join",{{"config":{config}}}]"#));
        self.sent();
        self.events();
    }

    fn presence(&mut self, session: SessionId, msg_ref: &str, payload: &str) {
        self.send(session, &format!(r#"["1","{msg_ref}","realtime:p","presence",{payload}]"#));
    }
}

fn payload(text: &str) -> Value {
    let frame = json(text);
    if frame.is_array() { frame[4].clone() } else { frame["payload"].clone() }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn row_change(text: &str) -> RowChange {
    RowChange::from_json(text).unwrap()
}

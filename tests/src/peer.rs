//! A client and a peer that says whatever the test makes it say.
//!
//! The server half of the core behaves as recorded servers do; a test about a server that does
//! not writes the frames itself.

use core::time::Duration;

use realtime_proto::{
    Client, CloseReason, ConfigBuilder, Event, Frame, Instant, SocketId, Transmit,
};
use realtime_sim::describe;

/// A client whose frames the test reads and answers by hand.
#[derive(Debug)]
pub struct Peer {
    client: Client,
    now: Instant,
    socket: Option<SocketId>,
    frames: Vec<String>,
    closes: Vec<(u16, String)>,
    opens: Vec<Instant>,
    events: Vec<Event>,
}

impl Peer {
    /// A client that is offline.
    ///
    /// # Panics
    ///
    /// When the settings cannot work.
    #[must_use]
    pub fn new(config: ConfigBuilder) -> Self {
        let config = config.build().expect("the settings work");
        Self {
            client: Client::new(config, 1, Instant::EPOCH),
            now: Instant::EPOCH,
            socket: None,
            frames: Vec::new(),
            closes: Vec::new(),
            opens: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A client whose connection is open.
    #[must_use]
    pub fn connected(config: ConfigBuilder) -> Self {
        let mut peer = Self::new(config);
        peer.command(Client::connect);
        peer.accept();
        peer.take_events();
        peer
    }

    /// Gives the client a command.
    pub fn command<T>(&mut self, command: impl FnOnce(&mut Client, Instant) -> T) -> T {
        let result = command(&mut self.client, self.now);
        self.drain();
        result
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The socket of the last attempt to open one.
    ///
    /// # Panics
    ///
    /// When there was none.
    #[must_use]
    pub fn socket(&self) -> SocketId {
        self.socket.expect("the client asked for a socket")
    }

    /// Lets the last attempt to open a socket succeed.
    pub fn accept(&mut self) {
        let socket = self.socket();
        self.command(|client, now| client.handle_open(socket, now));
    }

    /// Says something to the client.
    pub fn say(&mut self, frame: &str) {
        let socket = self.socket();
        self.command(|client, now| client.handle_frame(socket, Frame::text(frame), now));
    }

    /// Says something to the client in a binary frame.
    pub fn say_bytes(&mut self, frame: &[u8]) {
        let (socket, frame) = (self.socket(), Frame::binary(frame.to_vec()));
        self.command(|client, now| client.handle_frame(socket, frame, now));
    }

    /// Accepts the join, or answers another message, with an empty `ok`.
    pub fn say_ok(&mut self, join_ref: &str, msg_ref: &str, topic: &str) {
        self.say(&format!(
            r#"["{join_ref}","{msg_ref}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#
        ));
    }

    /// Ends the connection with a close frame.
    pub fn close(&mut self, code: u16) {
        let (socket, reason) = (self.socket(), CloseReason::Closed { code, reason: String::new() });
        self.command(|client, now| client.handle_close(socket, reason, now));
    }

    /// Lets time pass while nobody calls the client, as on a machine that sleeps.
    pub fn sleep(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Lets time pass, with every deadline at its time.
    ///
    /// # Panics
    ///
    /// When a deadline makes no progress (G7).
    pub fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= until) {
            self.now = due;
            self.command(Client::handle_timeout);
            let next = self.client.poll_timeout();
            assert!(next.is_none_or(|next| next > due), "no progress at {due}: {next:?}");
        }
        self.now = until;
    }

    /// The frames the client sent since the last call.
    pub fn take_frames(&mut self) -> Vec<String> {
        core::mem::take(&mut self.frames)
    }

    /// The code and reason of each close the client asked for since the last call.
    pub fn take_closes(&mut self) -> Vec<(u16, String)> {
        core::mem::take(&mut self.closes)
    }

    /// When the client asked for a socket since the last call.
    pub fn take_opens(&mut self) -> Vec<Instant> {
        core::mem::take(&mut self.opens)
    }

    /// What the client told since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// What the client told since the last call, one line an event.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.take_events().iter().map(describe).collect()
    }

    fn drain(&mut self) {
        loop {
            match self.client.poll_transmit() {
                Some(Transmit::Open { socket, .. }) => {
                    self.socket = Some(socket);
                    self.opens.push(self.now);
                }
                Some(Transmit::Frame { socket, frame }) => {
                    assert_eq!(Some(socket), self.socket, "a frame for a socket that is gone");
                    self.frames.push(String::from_utf8_lossy(frame.as_bytes()).into_owned());
                }
                Some(Transmit::Close { code, reason, .. }) => {
                    self.closes.push((code, reason.into_owned()));
                }
                Some(other) => panic!("unknown: {other:?}"),
                None => match self.client.poll_event() {
                    Some(event) => self.events.push(event),
                    None => return,
                },
            }
        }
    }
}

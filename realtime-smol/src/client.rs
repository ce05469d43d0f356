//! Handles of one client: its connection and its channels, as async calls and streams.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::BTreeMap;

use realtime_proto::supabase::{Binding, BroadcastApi, Retry};
use realtime_proto::{
    self as proto, Awaits, BindingId, BroadcastOptions, ChannelConfig, ChannelEvent, ChannelId,
    ChannelState, CloseReason, Config, Event, Frame, Instant, Member, Outcome, Payload, PushError,
    PushId, Secret, SocketId, Stats,
};
use smol::stream::Stream;

use crate::clock::{self, Clock};
use crate::commands::Commands;
use crate::driver::{Driver, Machine, Request};
use crate::error::{Error, answer};
use crate::mailbox::{Delivery, Mailbox, Sender, mailbox};
use crate::options::Options;
use crate::waiters::{Waiters, Waiting};

/// A handle on one logical connection; clones share it.
///
/// The connection is closed when the last handle and the last channel of it are dropped.
///
/// # Examples
///
/// ```no_run
/// use realtime_smol::Client;
/// use realtime_smol::proto::{ChannelConfig, Config, Payload};
/// use smol::stream::StreamExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// smol::block_on(async {
///     let client = Client::connect(Config::builder("ws://localhost:4000/socket").build()?);
///     let params = Payload::empty();
///     let mut room = client.open_channel("room:lobby", ChannelConfig::phoenix(params)).await?;
///     let reply = room.push("new_msg", Payload::from_json(r#"{"body":"hi"}"#)?).await?;
///     println!("the server answered {reply:?}");
///     while let Some(event) = room.next().await {
///         println!("{event:?}");
///     }
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    commands: Commands<Task>,
    events_queued_max: usize,
}

/// A channel: a stream of its events, and the calls on it. Dropping it leaves the channel.
pub struct Channel {
    commands: Commands<Task>,
    id: ChannelId,
    topic: String,
    events: Mailbox<ChannelEvent>,
}

/// What happens to the connection, as a stream.
pub struct ConnectionEvents {
    events: Mailbox<Event>,
}

impl Client {
    /// Makes a client and has it connect, on smol's global executor.
    #[must_use]
    pub fn connect(config: Config) -> Self {
        let (client, driver) = Self::connect_with_driver(config, &Options::default());
        smol::spawn(driver).detach();
        client
    }

    /// Makes a client whose work is done by the future that is returned with it, on any executor.
    ///
    /// The future ends after the last handle was dropped and the leaves are sent.
    pub fn connect_with_driver(
        config: Config,
        options: &Options,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let clock = Clock::start();
        let mut client = proto::Client::new(config, clock::entropy(), clock.now());
        client.set_unix_time(clock::unix_time(), clock.now());
        client.connect(clock.now());
        let task = Task {
            client,
            channels: BTreeMap::new(),
            answers: BTreeMap::new(),
            live: BTreeMap::new(),
            connection: Vec::new(),
            last: None,
        };
        let (driver, commands) = Driver::new(task, |()| (), clock, options.driver());
        (Self { commands, events_queued_max: options.events_queued_max }, driver)
    }

    /// Opens a channel; it joins now, and again after every fault, until it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] when the topic is open already, not a Supabase one, or a limit is reached.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves no channel behind.
    pub async fn open_channel(&self, topic: &str, config: ChannelConfig) -> Result<Channel, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        let (commands, wanted) = (self.commands.clone(), topic.to_owned());
        let id = self.commands.call(move |task, now| {
            let id = task.client.open_channel(&wanted, config, now)?;
            task.channels.insert(id, sender);
            // When the caller is gone, dropping the channel inside the answer leaves it.
            Ok(Channel { commands, id, topic: wanted, events })
        });
        id.await?
    }

    /// What happens to the connection from now on, after one event that tells how it is.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn events(&self) -> Result<ConnectionEvents, Error> {
        let (sender, events) = mailbox(self.events_queued_max);
        self.commands.call(move |task, _| task.listen(sender)).await?;
        Ok(ConnectionEvents { events })
    }

    /// Uses another access token from now on, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn set_access_token(&self, token: Option<Secret>) -> Result<(), Error> {
        Ok(self.commands.call(move |task, now| task.client.set_access_token(token, now)).await?)
    }

    /// What makes requests for broadcasts over HTTP, to the same server and as the same user: with
    /// the API key and the access token of this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn broadcast_api(&self) -> Result<BroadcastApi, Error> {
        Ok(self.commands.call(|task, _| task.client.broadcast_api()).await?)
    }

    /// Checks the connection now, after a hint that the network changed or the machine woke up.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn probe(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.client.probe(now)).await?)
    }

    /// Closes the connection; the channels stay and join again after [`reconnect`].
    ///
    /// [`reconnect`]: Self::reconnect
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn disconnect(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.client.disconnect(now)).await?)
    }

    /// Opens the connection again, after [`disconnect`](Self::disconnect) or after giving up.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn reconnect(&self) -> Result<(), Error> {
        Ok(self.commands.call(|task, now| task.client.connect(now)).await?)
    }

    /// What happened so far, in numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.commands.call(|task, _| task.client.stats()).await?)
    }

    /// Ends the client for every handle.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when it has been shut down before.
    pub async fn shutdown(&self) -> Result<(), Error> {
        Ok(self.commands.shutdown().await?)
    }
}

impl Channel {
    /// The topic, as it is on the wire.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits until everything the channel asked for flows.
    ///
    /// # Errors
    ///
    /// [`Error::NotLive`] with the cause when the channel gave up or its row changes were refused
    /// for good, [`Error::Closed`] when it is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: no event is taken from the stream.
    pub async fn live(&self) -> Result<(), Error> {
        let id = self.id;
        match self.commands.call(move |task, _| task.wait_until_live(id)).await?? {
            Some(waiting) => waiting.recv().await.map_err(|_| Error::Stopped)?,
            None => Ok(()),
        }
    }

    /// Sends an event and returns the response of the server's `ok`.
    ///
    /// # Errors
    ///
    /// [`Error::Push`] when it was not accepted, [`Error::Refused`] when the server did not answer
    /// `ok`, [`Error::Unanswered`] when it did not answer.
    ///
    /// # Cancel safety
    ///
    /// The message is sent all the same when the future is dropped after its first poll.
    pub async fn push(&self, event: &str, payload: Payload) -> Result<Payload, Error> {
        let event = event.to_owned();
        self.send(move |mut channel, now| channel.push(event, payload, now)).await
    }

    /// Sends an event that nobody answers.
    ///
    /// # Errors
    ///
    /// [`Error::Push`] when it was not accepted, [`Error::Unanswered`] when the channel was not
    /// joined in time.
    pub async fn cast(&self, event: &str, payload: Payload) -> Result<(), Error> {
        let event = event.to_owned();
        self.send(move |mut channel, now| channel.cast(event, payload, now)).await.map(drop)
    }

    /// Broadcasts to the other members of a Supabase channel; with `ack` in its configuration the
    /// server has received it when this returns.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn broadcast(&self, event: &str, payload: Payload) -> Result<(), Error> {
        let event = event.to_owned();
        self.send(move |mut channel, now| channel.broadcast(event, payload, now)).await.map(drop)
    }

    /// Broadcasts as [`broadcast`](Self::broadcast) does, with a deadline, a time to live or a key
    /// of its own, or to be kept by the server; returns the response of the server's `ok`, which
    /// names the `id` of a broadcast that is kept. Without `ack` it is empty.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// The message is sent all the same when the future is dropped after its first poll.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn send(room: realtime_smol::Channel) -> Result<(), Box<dyn std::error::Error>> {
    /// use realtime_smol::proto::supabase::Persist;
    /// use realtime_smol::proto::{Payload, PushOptions};
    ///
    /// let kept = PushOptions::new().persisted(Persist::Longest);
    /// room.broadcast_with("paid", Payload::from_json(r#"{"sum":7}"#)?, kept).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn broadcast_with(
        &self,
        event: &str,
        payload: Payload,
        options: impl Into<BroadcastOptions>,
    ) -> Result<Payload, Error> {
        let (event, options) = (event.to_owned(), options.into());
        self.send(move |mut channel, now| channel.broadcast_with(event, payload, options, now))
            .await
    }

    /// Follows the presence of a Supabase channel that was opened without it. A channel that is
    /// joined joins again for it, once.
    ///
    /// # Errors
    ///
    /// [`Error::Push`] on a plain Phoenix channel.
    pub async fn enable_presence(&self) -> Result<(), Error> {
        self.with(|mut channel, now| channel.enable_presence(now)).await?.map_err(Error::from)
    }

    /// Shows `payload`, a JSON object, as this client's presence, now and after every rejoin.
    /// Enables presence if it was off.
    ///
    /// # Errors
    ///
    /// [`Error::Push`] on a plain Phoenix channel, and when the payload is not an object.
    pub async fn track(&self, payload: Payload) -> Result<(), Error> {
        self.with(move |mut channel, now| channel.track(payload, now)).await?.map_err(Error::from)
    }

    /// Stops showing this client's presence.
    ///
    /// # Errors
    ///
    /// [`Error::Push`] on a plain Phoenix channel.
    pub async fn untrack(&self) -> Result<(), Error> {
        self.with(move |mut channel, now| channel.untrack(now)).await?.map_err(Error::from)
    }

    /// Asks for row changes. A channel that is joined joins again for them, once; ask for
    /// [`live`](Self::live) to know when they flow.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] when the channel has as many bindings as it may, or a server would refuse
    /// this one; [`Error::Closed`] when the channel is gone.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use realtime_smol::Channel;
    /// use realtime_smol::proto::ChannelEvent;
    /// use realtime_smol::proto::supabase::{Binding, ChangeEvent};
    /// use smol::stream::StreamExt;
    ///
    /// async fn follow(mut channel: Channel) -> Result<(), Box<dyn std::error::Error>> {
    ///     let rows = channel.bind(Binding::new(ChangeEvent::All, "public", "messages")).await?;
    ///     channel.live().await?;
    ///     while let Some(delivery) = channel.next().await {
    ///         match delivery.event() {
    ///             Some(ChannelEvent::Change { bindings, change }) if bindings.contains(rows) => {
    ///                 println!("{} {:?}", change.kind(), change.record());
    ///             }
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = follow;
    /// ```
    pub async fn bind(&self, binding: Binding) -> Result<BindingId, Error> {
        Ok(self.with(move |mut channel, now| channel.bind(binding, now)).await??)
    }

    /// Gives up row changes, and tells whether they had been asked for. None of them is delivered
    /// from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the channel is gone.
    pub async fn unbind(&self, binding: BindingId) -> Result<bool, Error> {
        self.with(move |mut channel, _| channel.unbind(binding)).await
    }

    /// Joins again now, after the channel gave up or its row changes were refused, or before the
    /// delay of the next attempt is over.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the channel is gone.
    pub async fn rejoin(&self) -> Result<(), Error> {
        self.with(|mut channel, now| channel.rejoin(now)).await
    }

    /// The members of the channel, in the order in which they came.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the channel is gone.
    pub async fn presence(&self) -> Result<Vec<Member>, Error> {
        self.with(|channel, _| channel.presence().list().collect()).await
    }

    /// The state of the channel.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the channel is gone.
    pub async fn state(&self) -> Result<ChannelState, Error> {
        self.with(|channel, _| channel.state()).await
    }

    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(proto::Channel<'_>, Instant) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let id = self.id;
        let result =
            self.commands.call(move |task, now| Some(call(task.client.channel(id)?, now))).await?;
        result.ok_or(Error::Closed)
    }

    async fn send(
        &self,
        push: impl FnOnce(proto::Channel<'_>, Instant) -> Result<PushId, PushError> + Send + 'static,
    ) -> Result<Payload, Error> {
        let (answers, answered) = smol::channel::bounded(1);
        let id = self.id;
        let pushed = self.commands.call(move |task, now| {
            let channel = task.client.channel(id).ok_or(Error::Closed)?;
            let push = push(channel, now)?;
            task.answers.insert(push, answers);
            Ok::<(), Error>(())
        });
        pushed.await??;
        answer(answered.recv().await.map_err(|_| Error::Stopped)?)
    }
}

impl Stream for Channel {
    type Item = Delivery<ChannelEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Stream for ConnectionEvents {
    type Item = Delivery<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let id = self.id;
        self.commands.post(move |task, now| {
            task.channels.remove(&id);
            task.client.close_channel(id, now);
        });
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionEvents").finish_non_exhaustive()
    }
}

/// The machine and whom its events concern, owned by one task.
struct Task {
    client: proto::Client,
    channels: BTreeMap<ChannelId, Sender<ChannelEvent>>,
    answers: BTreeMap<PushId, smol::channel::Sender<Outcome>>,
    live: BTreeMap<ChannelId, Waiters>,
    connection: Vec<Sender<Event>>,
    /// The last word on whether there is a connection.
    last: Option<Event>,
}

impl Task {
    fn listen(&mut self, listener: Sender<Event>) {
        self.last.iter().for_each(|event| listener.send(event.clone()));
        self.connection.push(listener);
    }

    /// A place to wait at until the channel is live; none when it is.
    fn wait_until_live(&mut self, id: ChannelId) -> Result<Option<Waiting>, Error> {
        let awaits = self.client.channel_info(id).ok_or(Error::Closed)?.awaits;
        let channel = self.client.channel(id).ok_or(Error::Closed)?;
        if channel.is_live() {
            return Ok(None);
        }
        if let (Some(Awaits::Application | Awaits::Token), Some(cause)) = (awaits, channel.error())
        {
            return Err(Error::NotLive(cause.clone()));
        }
        Ok(Some(self.live.entry(id).or_default().wait()))
    }

    fn on_channel_event(&mut self, id: ChannelId, event: ChannelEvent) {
        if event == ChannelEvent::Live {
            self.end_wait(id, &Ok(()));
        }
        if let ChannelEvent::Errored { cause, retry_at: None } = &event {
            // Without a connection the channel is back when the connection is.
            if self.client.is_connected() {
                self.end_wait(id, &Err(Error::NotLive(cause.clone())));
            }
        }
        if let ChannelEvent::ChangesStopped { cause } = &event {
            // Otherwise the server tries again by itself.
            if cause.kind.retry() == Retry::Never {
                self.end_wait(id, &Err(Error::NotLive(cause.clone())));
            }
        }
        if let ChannelEvent::Closed { cause } = &event {
            self.end_wait(id, &Err(Error::NotLive(cause.clone())));
        }
        if let ChannelEvent::PushEnded { push, outcome } = &event {
            if let Some(answers) = self.answers.remove(push) {
                // The caller may have stopped waiting, which is no fault.
                let _ = answers.try_send(outcome.clone());
            }
        }
        let last = matches!(event, ChannelEvent::Closed { .. });
        if let Some(sender) = self.channels.get(&id) {
            sender.send(event);
        }
        if last {
            self.channels.remove(&id);
        }
    }

    fn end_wait(&mut self, id: ChannelId, result: &Result<(), Error>) {
        if let Some(waiters) = self.live.remove(&id) {
            waiters.end(result);
        }
    }
}

impl Machine for Task {
    type Event = ();
    type Socket = SocketId;

    fn handle_open(&mut self, socket: SocketId, now: Instant) {
        // The wall clock may have been corrected since the last connection.
        self.client.set_unix_time(clock::unix_time(), now);
        self.client.handle_open(socket, now);
    }

    fn handle_frame(&mut self, socket: SocketId, frame: Frame, now: Instant) {
        self.client.handle_frame(socket, frame, now);
    }

    fn handle_close(&mut self, socket: SocketId, reason: CloseReason, now: Instant) {
        self.client.handle_close(socket, reason, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<Request<SocketId>> {
        self.client.poll_transmit().map(Request::from)
    }

    fn poll_event(&mut self) -> Option<()> {
        let event = self.client.poll_event()?;
        if let Event::Channel(id, event) = event {
            self.on_channel_event(id, event);
        } else {
            self.connection.retain(|listener| listener.is_wanted());
            self.connection.iter().for_each(|listener| listener.send(event.clone()));
            if matches!(event, Event::Connected { .. } | Event::Disconnected { .. }) {
                self.last = Some(event);
            }
        }
        Some(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn wants_frames(&self) -> bool {
        self.client.wants_frames()
    }
}

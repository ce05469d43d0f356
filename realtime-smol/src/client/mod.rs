//! Handles of one client: its connection and its channels, as async calls and streams.

mod channel;
mod task;

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

pub use channel::Channel;
use realtime_proto::supabase::{BroadcastApi, BroadcastRequest};
use realtime_proto::{
    self as proto, ChannelConfig, ChannelInfo, Config, ConnectionState, Event, Secret, Stats,
};
use smol::stream::Stream;
use task::Task;

use crate::clock::{self, Clock};
use crate::commands::Commands;
use crate::connector::Connector;
use crate::driver::Driver;
use crate::error::Error;
use crate::mailbox::{Delivery, Mailbox, mailbox};
use crate::options::Options;
use crate::transport;

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
    connector: Connector,
    events_queued_max: usize,
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
    /// The future ends after the last handle was dropped, when what they asked for was sent and
    /// the connection is closed.
    pub fn connect_with_driver(
        config: Config,
        options: &Options,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let clock = Clock::start();
        let mut client = proto::Client::new(config, clock::entropy(), clock.now());
        client.set_unix_time(clock::unix_time(), clock.now());
        let (tokens, due) = options.tokens().unzip();
        if tokens.is_none() {
            client.connect(clock.now());
        }
        let task = Task::new(client, due);
        let config = options.driver();
        let connector = config.connector.clone();
        let (driver, commands) = Driver::new(task, |()| (), clock, config);
        let driver = options.surround(driver, tokens, commands.downgrade());
        (Self { commands, connector, events_queued_max: options.events_queued_max }, driver)
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

    /// Sends a request for broadcasts over HTTP, on a connection of its own: to a channel that
    /// this client did not join, or without any connection.
    ///
    /// # Errors
    ///
    /// [`Error::NotTaken`] with the server's words, [`Error::Unreachable`] when it could not be
    /// asked or did not answer within 10 s.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn send(client: realtime_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use realtime_smol::proto::Payload;
    /// use realtime_smol::proto::supabase::HttpBroadcast;
    ///
    /// let paid = HttpBroadcast::new("realtime:orders", "paid", Payload::json(&7)?).private();
    /// client.broadcast_http(&client.broadcast_api().await?.single(&paid)?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn broadcast_http(&self, request: &BroadcastRequest) -> Result<(), Error> {
        transport::post(request, &self.connector).await
    }

    /// How the connection is.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn connection_state(&self) -> Result<ConnectionState, Error> {
        Ok(self.commands.call(|task, _| task.client.connection_state()).await?)
    }

    /// The channels there are, and what each of them waits for.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, Error> {
        let infos = self.commands.call(|task, _| {
            let client = &task.client;
            client.channels().filter_map(|id| client.channel_info(id)).collect()
        });
        Ok(infos.await?)
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

impl Stream for ConnectionEvents {
    type Item = Delivery<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionEvents").finish_non_exhaustive()
    }
}

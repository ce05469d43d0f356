//! A channel of one client, as async calls and a stream.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use realtime_proto::supabase::Binding;
use realtime_proto::{
    self as proto, BindingId, BroadcastOptions, ChannelEvent, ChannelId, ChannelState, Instant,
    Member, Payload, PushError, PushId,
};
use smol::stream::{Stream, StreamExt};

use super::task::Task;
use crate::commands::Commands;
use crate::error::{Error, answer};
use crate::mailbox::{Delivery, Mailbox};

/// A channel: a stream of its events, and the calls on it. Dropping it leaves the channel.
pub struct Channel {
    pub(super) commands: Commands<Task>,
    pub(super) id: ChannelId,
    pub(super) topic: String,
    pub(super) events: Mailbox<ChannelEvent>,
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

    /// Leaves the channel, and returns when the server has acknowledged that or does not answer.
    /// Dropping the channel leaves it as well, without a wait.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] when the client has been shut down.
    ///
    /// # Cancel safety
    ///
    /// The channel is left all the same when the future is dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn go(room: realtime_smol::Channel) -> Result<(), realtime_smol::Error> {
    /// room.leave().await
    /// # }
    /// ```
    pub async fn leave(mut self) -> Result<(), Error> {
        let id = self.id;
        self.commands.call(move |task, now| task.client.close_channel(id, now)).await?;
        // Its last event is that it is closed.
        while self.events.next().await.is_some() {}
        Ok(())
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
        self.with(move |mut channel, now| channel.unbind(binding, now)).await
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

impl Drop for Channel {
    fn drop(&mut self) {
        let id = self.id;
        self.commands.post(move |task, now| {
            task.channels.remove(&id);
            task.client.close_channel(id, now);
        });
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

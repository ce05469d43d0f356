//! The channel manager from the first line to production; there is no code in here.
//!
//! A [`Manager`] is the one place that owns an application's realtime channels. You name an
//! [`Entity`], a thing people look at together such as a contact or an order, and say what you want
//! of it: its row, broadcasts about it, who is looking. You get a [`Lease`]. However many parts of
//! the application ask for the same entity, there is one channel for it on the wire; the last
//! lease that goes closes it; and whatever breaks meanwhile is mended without you.
//!
//! 1. [Quick start](#quick-start)
//! 2. [What you can do, and the defaults](#what-you-can-do-and-the-defaults)
//! 3. [What comes back](#what-comes-back)
//! 4. [Errors](#errors)
//! 5. [Debugging](#debugging)
//! 6. [Best practices](#best-practices)
//!
//! # Quick start
//!
//! ```toml
//! [dependencies]
//! realtime-smol = "0.1"
//! serde = { version = "1", features = ["derive"] }
//! smol = "2"
//! ```
//!
//! Set the manager up once, and ask for it anywhere:
//!
//! ```no_run
//! use realtime_smol::proto::Config;
//! use realtime_smol::proto::manager::{Entity, EntityOptions, ManagerConfig, User};
//! use realtime_smol::{EntityCallbacks, PresenceCallbacks};
//!
//! #[derive(serde::Deserialize)]
//! struct Contact {
//!     name: String,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     smol::block_on(async {
//!         let config = Config::builder("wss://project.supabase.co/realtime/v1").apikey("anon-key");
//!         realtime_smol::set_up(ManagerConfig::new(config.build()?))?;
//!
//!         // Somewhere else in the application: the row of contact 123 in the table `contacts`.
//!         let manager = realtime_smol::manager()?;
//!         let contact = Entity::new("contact", "123").in_tenant("acme");
//!         let rows = manager.subscribe_to_entity(&contact, EntityOptions::default()).await?;
//!         let listening = rows.listen(
//!             EntityCallbacks::<Contact>::new()
//!                 .on_update(|change| match change.new_row() {
//!                     Some(contact) => println!("now called {}", contact.name),
//!                     None => println!("something else changed"),
//!                 })
//!                 .on_gap(|_| println!("fetch it anew: something may have been missed"))
//!                 .on_error(|error| eprintln!("{error}")),
//!         );
//!
//!         // And who else is looking at it.
//!         let seat = manager.join_presence(&contact, User::new("u1").with_name("Ana")).await?;
//!         let watching = seat.listen(
//!             PresenceCallbacks::new()
//!                 .on_join(|user| println!("{} is here", user.user_id))
//!                 .on_leave(|user| println!("{} went", user.user_id)),
//!         );
//!
//!         // Dropping what you hold gives it back; at logout everything goes at once.
//!         drop((listening, watching));
//!         manager.cleanup_all_channels().await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! To try it without a project, run `cargo realtime serve` and use the URL it prints, or start a
//! `DevServer` (feature `dev-server`) in a test. The folder `examples` has five small programs:
//! live rows in a view model, who is viewing, cursors, the logout, and several accounts.
//!
//! # What you can do, and the defaults
//!
//! | operation | does | defaults |
//! |---|---|---|
//! | [`set_up`](crate::set_up), [`manager`](crate::manager()) | the one manager of the process | connects at once; a second set-up is an error |
//! | [`Manager::connect`] | a manager of your own, for another account or a test | as above |
//! | [`subscribe_to_entity`] | the row of an entity, and broadcasts about it | table `{entity_type}s`, schema `public`, all events, filter `id=eq.{entity_id}` ([`EntityOptions`]) |
//! | [`join_presence`] | shows a user as present, and tells who else is | one user an entity and manager; metadata `{}` ([`User`], [`PresenceOptions`]) |
//! | [`update_presence_metadata`] | merges into what the user shows | at most 5 calls in 30 s go out, the newest wins |
//! | [`leave_presence`] | stops showing the user | at once, for every lease |
//! | [`presence_state`], [`presence_of_others`] | who is present, one entry a user however many devices | empty before the first answer |
//! | [`broadcast`], [`broadcast_with`] | tells all others who listen | without the server's word; waits up to 10 s for the join ([`SendOptions`]) |
//! | [`broadcast_http`] | the same without a connection | 10 s for the answer |
//! | [`has_channel`], [`active_channels`] | what there is: name, kind, status, listeners, since when, attempts, last error | |
//! | [`channel_stats`] | numbers by kind, status and tenant, connections, and who holds what since when | |
//! | [`retry`] | tries a channel again that was given up | |
//! | [`unsubscribe`] | ends every lease of one channel and leaves it | at once |
//! | [`cleanup_all_channels`], [`cleanup_tenant`] | the same for all, or for one tenant; returns when the server knows | gives up waiting after 5 s |
//! | [`set_access_token`] | another token, for what is joined and for what joins | the API key, before there is one |
//! | [`disconnect`], [`reconnect`], [`probe`] | the connection by hand: offline mode, a hint of the system | |
//! | [`shutdown`] | ends the manager for every handle | |
//!
//! What every channel is like is set in [`ManagerConfig`] for all, or in [`ChannelSettings`] for
//! one:
//!
//! | setting | default |
//! |---|---|
//! | `private`: row level security decides who may join | `false` |
//! | `ack`: a broadcast ends with the server's word | `false` |
//! | `auto_reconnect` | `true` |
//! | `reconnect_delay`: ceiling of the first delay, the next ones double up to 60 s, full jitter | 3 s |
//! | attempts of one channel before it is given up ([`with_rejoin`]) | 5 |
//! | attempts to connect, apart from those ([`reconnect`](crate::proto::ConfigBuilder::reconnect)) | no limit, 1 s doubling to 30 s |
//! | a channel stays after its last lease ([`with_linger`]) | 1 s |
//! | channels a connection, connections ([`with_channels_per_connection_max`], [`with_connections_max`]) | 100, 256 |
//! | channels a tenant ([`with_tenant_channels_max`]) | no limit |
//! | leases ([`with_leases_max`]) | 100,000 |
//! | events that wait for one listener ([`with_events_queued_max`]) | 1,024 |
//!
//! # What comes back
//!
//! A [`Lease`] is a stream of [`Delivery`], or calls your callbacks
//! ([`EntityCallbacks`], [`PresenceCallbacks`]). Each event carries what happened:
//!
//! | event | callback | what to do |
//! |---|---|---|
//! | [`Status`](crate::proto::manager::LeaseEvent::Status), first of all | `on_status_change` | show it |
//! | [`Change`](crate::proto::manager::LeaseEvent::Change) | `on_insert`, `on_update`, `on_delete`, `on_change` | update the view; rows are read as your type |
//! | [`Broadcast`](crate::proto::manager::LeaseEvent::Broadcast) | `on_broadcast` | whatever it means to you |
//! | [`Presence`](crate::proto::manager::LeaseEvent::Presence) | `on_join`, `on_update`, `on_leave`, `on_sync` | show who is here |
//! | [`Gap`](crate::proto::manager::LeaseEvent::Gap) | `on_gap` | fetch what changed between its `from` and `to` |
//! | [`TrackRefused`](crate::proto::manager::LeaseEvent::TrackRefused) | `on_error` | show less |
//! | [`Delivery::Missed`] | `on_error` | fetch anew, and be quicker |
//! | [`Ended`](crate::proto::manager::LeaseEvent::Ended) | | the lease is over; the stream ends |
//!
//! The statuses are made to be shown:
//!
//! | status | means |
//! |---|---|
//! | [`Connecting`](crate::proto::manager::ChannelStatus::Connecting) | on its way for the first time, or again after it was given up |
//! | [`Connected`](crate::proto::manager::ChannelStatus::Connected) | joined; not all that was asked for flows yet |
//! | [`Live`](crate::proto::manager::ChannelStatus::Live) | all that was asked for flows |
//! | [`Reconnecting`](crate::proto::manager::ChannelStatus::Reconnecting) | lost, with the number of the attempt, when it is made, and why |
//! | [`Error`](crate::proto::manager::ChannelStatus::Error) | given up, with the cause and advice, until [`retry`] or another token |
//! | [`Closed`](crate::proto::manager::ChannelStatus::Closed) | nobody wants it any more |
//!
//! # Errors
//!
//! There are three places, for three kinds.
//!
//! *A call fails* when you asked for what cannot be had: an [`Error`](crate::Error), most often
//! [`Error::Manager`](crate::Error::Manager). Nothing was changed then.
//!
//! ```no_run
//! use realtime_smol::proto::manager::{Entity, EntityOptions, ManagerError};
//! use realtime_smol::{Error, Lease, Manager};
//!
//! async fn open(manager: &Manager, contact: &Entity) -> Result<Option<Lease>, Error> {
//!     match manager.subscribe_to_entity(contact, EntityOptions::default()).await {
//!         Ok(lease) => Ok(Some(lease)),
//!         // Something does not give its leases back; the audit tells which.
//!         Err(Error::Manager(ManagerError::TenantFull { tenant, max })) => {
//!             let stats = manager.channel_stats().await?;
//!             for held in stats.held.iter().take(10) {
//!                 eprintln!("{tenant} has {max} channels: {} {:?}", held.key.topic(), held.label);
//!             }
//!             Ok(None)
//!         }
//!         Err(other) => Err(other),
//!     }
//! }
//! # let _ = open;
//! ```
//!
//! *A channel has trouble*: that is its status, [`ListenError::Channel`](crate::ListenError::Channel)
//! in `on_error`, or the error of [`Lease::live`]. A [`Cause`] has a kind, the server's own words, and
//! [`advice`](crate::proto::supabase::CauseKind::advice); [`retry`](crate::proto::supabase::CauseKind::retry)
//! says whether it comes back by itself.
//!
//! ```no_run
//! use realtime_smol::proto::manager::ChannelStatus;
//! use realtime_smol::proto::supabase::Retry;
//!
//! fn shown(status: &ChannelStatus) -> String {
//!     match status {
//!         ChannelStatus::Reconnecting { attempt, .. } => format!("connecting again ({attempt})"),
//!         ChannelStatus::Error { cause } if cause.kind.retry() == Retry::NewToken => {
//!             "please sign in again".into()
//!         }
//!         ChannelStatus::Error { cause } => format!("{}. {}", cause.kind, cause.kind.advice()),
//!         other => other.to_string(),
//!     }
//! }
//! # let _ = shown;
//! ```
//!
//! *The connection has trouble*: [`Manager::events`] tells of it, and of tokens that are needed
//! ([`TokenNeeded`](crate::proto::manager::ManagerEvent::TokenNeeded)), unless
//! [`Options::with_access_tokens`] asks your session for them.
//!
//! # Debugging
//!
//! The manager writes to [`tracing`](https://docs.rs/tracing), target `realtime_smol`. No line has
//! a token or an API key in it. Without a subscriber nothing is written;
//! `RUST_LOG=realtime_smol=debug` is what to start with if yours is that of `tracing-subscriber`.
//!
//! | level | what is told |
//! |---|---|
//! | error | a channel or a connection was given up, a callback panicked |
//! | warn | a channel or a connection was lost and comes back, a token is needed, something may be missing, a listener is slow, the server refused or broke something |
//! | info | a connection opened or was closed as asked, a channel is live |
//! | debug | channels opened, joined and closed, leases released, who came and went, what the server said, broadcasts that came to nothing |
//! | trace | heartbeats |
//!
//! | question | where to look |
//! |---|---|
//! | Why is nothing coming? | [`active_channels`]: the status, and `last_error` with its advice |
//! | It is `connected` and never `live` | debug line `system`: the database's own words, for instance that the table is not in the publication `supabase_realtime` |
//! | Is anybody listening at all? | [`channel_stats`]: `held`, the oldest first, each with the label it was given |
//! | Do channels leak? | [`channel_stats`] twice, some time apart: what `held` has from long ago |
//! | Why is it slow? | warn line `a listener is slow`; [`Manager::stats`] counts joins, frames and reconnects |
//! | What went over the wire? | `cargo realtime inspect`, which reads frames; `cargo realtime listen URL --entity contact:123` beside your application |
//! | Does it survive a bad network? | `cargo realtime serve` and `POST /dev/cut`; the crate `realtime-sim` for a thousand of them |
//!
//! The WebSocket library below logs whole frames, tokens included, where the `log` level `trace` is
//! on for `tungstenite`.
//!
//! # Best practices
//!
//! *Handle errors.* Give every listener an `on_error` and an `on_gap`, or match their events. After
//! a gap fetch the entity once; what is live afterwards is complete again.
//!
//! *Clean up.* Keep a [`Lease`] or [`Listening`](crate::Listening) in the component that shows it, and
//! let it drop with it; the linger makes going and coming back free. At logout call
//! [`cleanup_all_channels`], which also ends the streams of components that are still there, and
//! then [`set_access_token`] with `None`.
//!
//! *Do not flap presence.* Join once a page, not once a widget. Call [`update_presence_metadata`]
//! as often as you like, only the newest value within the server's budget goes out; what moves many
//! times a second, such as a cursor, is a broadcast.
//!
//! *Isolate tenants.* Name the tenant in the [`Entity`]; ids are escaped, so that no crafted one
//! reaches another tenant's topic. Give each a quota ([`with_tenant_channels_max`]), and use
//! `private` channels: a topic is a name, not a permission.
//!
//! *Watch the statistics.* Export [`channel_stats`] every minute: channels by status, by tenant, and
//! the age of the oldest in `held`. Label leases ([`EntityOptions::label`]) before you need it.
//!
//! *Let callbacks be.* They may block, which delays only their own lease; one that panics is called
//! again with the next event. Each call costs a hop to a thread of smol's pool; where thousands
//! listen at once, or you want to `await`, read the lease as a stream.
//!
//! [`Cause`]: crate::proto::supabase::Cause
//! [`ChannelSettings`]: crate::proto::manager::ChannelSettings
//! [`ChannelStatus`]: crate::proto::manager::ChannelStatus
//! [`Delivery`]: crate::Delivery
//! [`Entity`]: crate::proto::manager::Entity
//! [`EntityCallbacks`]: crate::EntityCallbacks
//! [`EntityOptions`]: crate::proto::manager::EntityOptions
//! [`EntityOptions::label`]: crate::proto::manager::EntityOptions::label
//! [`Lease`]: crate::Lease
//! [`Manager`]: crate::Manager
//! [`ManagerConfig`]: crate::proto::manager::ManagerConfig
//! [`PresenceCallbacks`]: crate::PresenceCallbacks
//! [`PresenceOptions`]: crate::proto::manager::PresenceOptions
//! [`SendOptions`]: crate::proto::manager::SendOptions
//! [`User`]: crate::proto::manager::User
//! [`active_channels`]: crate::Manager::active_channels
//! [`broadcast_http`]: crate::Manager::broadcast_http
//! [`broadcast_with`]: crate::Manager::broadcast_with
//! [`broadcast`]: crate::Manager::broadcast
//! [`channel_stats`]: crate::Manager::channel_stats
//! [`cleanup_all_channels`]: crate::Manager::cleanup_all_channels
//! [`cleanup_tenant`]: crate::Manager::cleanup_tenant
//! [`disconnect`]: crate::Manager::disconnect
//! [`has_channel`]: crate::Manager::has_channel
//! [`join_presence`]: crate::Manager::join_presence
//! [`leave_presence`]: crate::Manager::leave_presence
//! [`presence_of_others`]: crate::Manager::presence_of_others
//! [`presence_state`]: crate::Manager::presence_state
//! [`probe`]: crate::Manager::probe
//! [`reconnect`]: crate::Manager::reconnect
//! [`retry`]: crate::Manager::retry
//! [`set_access_token`]: crate::Manager::set_access_token
//! [`shutdown`]: crate::Manager::shutdown
//! [`subscribe_to_entity`]: crate::Manager::subscribe_to_entity
//! [`unsubscribe`]: crate::Manager::unsubscribe
//! [`update_presence_metadata`]: crate::Manager::update_presence_metadata
//! [`with_channels_per_connection_max`]: crate::proto::manager::ManagerConfig::with_channels_per_connection_max
//! [`with_connections_max`]: crate::proto::manager::ManagerConfig::with_connections_max
//! [`with_events_queued_max`]: crate::Options::with_events_queued_max
//! [`with_leases_max`]: crate::proto::manager::ManagerConfig::with_leases_max
//! [`with_linger`]: crate::proto::manager::ManagerConfig::with_linger
//! [`with_rejoin`]: crate::proto::manager::ManagerConfig::with_rejoin
//! [`with_tenant_channels_max`]: crate::proto::manager::ManagerConfig::with_tenant_channels_max
//! [`Delivery::Missed`]: crate::Delivery::Missed
//! [`Lease::live`]: crate::Lease::live
//! [`Manager::connect`]: crate::Manager::connect
//! [`Manager::events`]: crate::Manager::events
//! [`Manager::stats`]: crate::Manager::stats
//! [`Options::with_access_tokens`]: crate::Options::with_access_tokens

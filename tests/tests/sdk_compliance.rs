//! The declaration for Supabase's capability matrix says what is there, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};

use realtime_smol::proto;

const DECLARATION: &str = include_str!("../../realtime-smol/sdk-compliance.yaml");

/// The ids of the realtime area (protocol §8).
const IDS: [&str; 33] = [
    "realtime.client.channel",
    "realtime.client.connect",
    "realtime.client.disconnect",
    "realtime.client.connection_state",
    "realtime.client.get_channels",
    "realtime.client.remove_channel",
    "realtime.client.remove_all_channels",
    "realtime.client.set_auth_token",
    "realtime.client.listen_heartbeats",
    "realtime.channel.subscribe",
    "realtime.channel.unsubscribe",
    "realtime.channel.broadcast",
    "realtime.channel.broadcast_http",
    "realtime.subscriptions.broadcast",
    "realtime.subscriptions.broadcast_self",
    "realtime.subscriptions.broadcast_ack",
    "realtime.subscriptions.broadcast_replay",
    "realtime.subscriptions.postgres_changes",
    "realtime.subscriptions.postgres_changes_filter",
    "realtime.subscriptions.postgres_changes_multiple_filters",
    "realtime.subscriptions.private_channel",
    "realtime.subscriptions.subscribe_presence",
    "realtime.presence.presence_state",
    "realtime.presence.track",
    "realtime.presence.untrack",
    "realtime.presence.presence_key",
    "realtime.configuration.access_token_callback",
    "realtime.configuration.binary_protocol",
    "realtime.configuration.custom_logger",
    "realtime.configuration.custom_websocket_transport",
    "realtime.configuration.deferred_disconnect",
    "realtime.configuration.heartbeat_interval",
    "realtime.configuration.reconnect_backoff",
];

/// One capability, as declared.
#[derive(Debug, Default)]
struct Feature {
    status: String,
    symbols: Vec<String>,
}

/// The declaration: its capabilities, and all symbols it names.
fn read() -> (BTreeMap<String, Feature>, BTreeSet<String>) {
    let (mut features, mut symbols) = (BTreeMap::<String, Feature>::new(), BTreeSet::new());
    let (mut id, mut list) = (String::new(), String::new());
    for line in DECLARATION.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if let Some(symbol) = text.strip_prefix("- ") {
            symbols.insert(symbol.to_owned());
            if list == "symbols" {
                features.get_mut(&id).unwrap().symbols.push(symbol.to_owned());
            }
        } else if let (2, Some(new)) = (indent, text.strip_suffix(':')) {
            id = new.to_owned();
            assert!(features.insert(id.clone(), Feature::default()).is_none(), "{id} twice");
        } else if let (4, Some((key, value))) = (indent, text.split_once(':')) {
            list = key.to_owned();
            if key == "status" {
                features.get_mut(&id).unwrap().status = value.trim().to_owned();
            }
        }
    }
    (features, symbols)
}

/// Names symbols to the compiler, which refuses what is not public, and gives the names back.
///
/// An `impl Trait` among the arguments keeps a method from being named without a call, and a field
/// is named on a value; `use` gives the name and does that.
macro_rules! public {
    ($(type $type:path;)* $(fn $function:path;)* $(use $named:path => $call:expr;)*) => {{
        $(let _ = size_of::<$type>();)*
        $(let _ = $function;)*
        $(let _ = $call;)*
        [$(stringify!($type),)* $(stringify!($function),)* $(stringify!($named),)*]
    }};
}

/// What the declaration may name.
fn public() -> BTreeSet<String> {
    use proto::manager::{
        ChannelSettings, ChannelStats, Connection, EntityOptions, LeaseEvent, ManagerEvent, User,
    };
    use proto::supabase::{Binding, JoinConfig, PresenceConfig};
    use proto::{ChannelEvent, Event};
    use realtime_smol::{
        Channel, Client, ConnectionEvents, EntityCallbacks, Error, Lease, Manager, ManagerEvents,
        Options, PresenceCallbacks, TokenError, Unanswered, manager, set_up,
    };
    type Delivery = realtime_smol::Delivery<()>;

    let names = public! {
        type ConnectionEvents;
        type Delivery;
        type Error;
        type ManagerEvents;
        type Options;
        type TokenError;
        type Unanswered;
        type proto::Backoff;
        type proto::Config;
        type proto::ConnectionState;
        type proto::Payload;
        type proto::Transmit;
        type proto::manager::Entity;
        type proto::manager::EntityKey;
        type proto::manager::ManagerConfig;
        type proto::manager::SendOptions;
        type proto::supabase::Cause;
        type proto::supabase::Replay;
        type proto::wire::Vsn;

        fn Channel::bind;
        fn Channel::broadcast;
        fn Channel::leave;
        fn Channel::live;
        fn Channel::presence;
        fn Channel::track;
        fn Channel::untrack;
        fn Client::broadcast_api;
        fn Client::broadcast_http;
        fn Client::channels;
        fn Client::connect;
        fn Client::connect_with_driver;
        fn Client::connection_state;
        fn Client::disconnect;
        fn Client::events;
        fn Client::open_channel;
        fn Client::reconnect;
        fn Client::set_access_token;
        fn Client::shutdown;
        fn Lease::live;
        fn Manager::active_channels;
        fn Manager::broadcast;
        fn Manager::broadcast_api;
        fn Manager::broadcast_http;
        fn Manager::broadcast_with;
        fn Manager::channel_stats;
        fn Manager::cleanup_all_channels;
        fn Manager::cleanup_tenant;
        fn Manager::connect;
        fn Manager::connect_with_driver;
        fn Manager::disconnect;
        fn Manager::events;
        fn Manager::has_channel;
        fn Manager::join_presence;
        fn Manager::leave_presence;
        fn Manager::presence_of_others;
        fn Manager::presence_state;
        fn Manager::reconnect;
        fn Manager::set_access_token;
        fn Manager::shutdown;
        fn Manager::subscribe_to_entity;
        fn Manager::unsubscribe;
        fn Manager::update_presence_metadata;
        fn manager;
        fn proto::ConfigBuilder::disconnect_when_empty_after;
        fn proto::ConfigBuilder::heartbeat_interval;
        fn proto::ConfigBuilder::reconnect;
        fn proto::ConfigBuilder::vsn;
        fn proto::Schedule::Custom;
        fn proto::supabase::BroadcastApi::batch;
        fn proto::supabase::BroadcastApi::single;
        fn proto::supabase::BroadcastConfig::with_ack;
        fn proto::supabase::BroadcastConfig::with_echo;
        fn proto::supabase::BroadcastConfig::with_replay;
        fn proto::supabase::Filter::builder;
        fn set_up;

        use Channel::broadcast_with => |it: Channel| async move {
            it.broadcast_with("", proto::Payload::empty(), proto::PushOptions::new()).await
        };
        use EntityCallbacks::on_broadcast => |it: EntityCallbacks<()>| it.on_broadcast("", |_| ());
        use EntityCallbacks::on_change => |it: EntityCallbacks<()>| it.on_change(|_| ());
        use EntityCallbacks::on_delete => |it: EntityCallbacks<()>| it.on_delete(|_| ());
        use EntityCallbacks::on_insert => |it: EntityCallbacks<()>| it.on_insert(|_| ());
        use EntityCallbacks::on_update => |it: EntityCallbacks<()>| it.on_update(|_| ());
        use Lease::listen => |it: Lease| it.listen(PresenceCallbacks::new());
        use Lease::listen_with_driver => |it: Lease| it.listen_with_driver(PresenceCallbacks::new());
        use Options::with_access_tokens => |it: Options| it.with_access_tokens(core::future::pending);
        use Options::with_connector => |it: Options| {
            it.with_connector(|_, _| core::future::pending::<std::io::Result<smol::net::TcpStream>>())
        };
        use Options::with_logger => |it: Options| it.with_logger(tracing::Dispatch::none());
        use PresenceCallbacks::on_join => |it: PresenceCallbacks| it.on_join(|_| ());
        use PresenceCallbacks::on_leave => |it: PresenceCallbacks| it.on_leave(|_| ());
        use PresenceCallbacks::on_sync => |it: PresenceCallbacks| it.on_sync(|()| ());
        use PresenceCallbacks::on_update => |it: PresenceCallbacks| it.on_update(|_| ());
        use proto::ChannelEvent::Broadcast => |it| matches!(it, ChannelEvent::Broadcast(_));
        use proto::ChannelEvent::Change => |it| matches!(it, ChannelEvent::Change { .. });
        use proto::ChannelEvent::Presence => |it| matches!(it, ChannelEvent::Presence(_));
        use proto::Event::Heartbeat => |it| matches!(it, Event::Heartbeat { .. });
        use proto::manager::ChannelSettings::ack => |it: ChannelSettings| it.ack;
        use proto::manager::ChannelSettings::private => |it: ChannelSettings| it.private;
        use proto::manager::ChannelStats::connections => |it: ChannelStats| it.connections;
        use proto::manager::Connection::state => |it: Connection| it.state;
        use proto::manager::EntityOptions::extra_filter => |it: EntityOptions| it.extra_filter;
        use proto::manager::EntityOptions::filter => |it: EntityOptions| it.filter;
        use proto::manager::LeaseEvent::Broadcast => |it| matches!(it, LeaseEvent::Broadcast(_));
        use proto::manager::LeaseEvent::Change => |it| matches!(it, LeaseEvent::Change(_));
        use proto::manager::LeaseEvent::Presence => |it| matches!(it, LeaseEvent::Presence(_));
        use proto::manager::ManagerEvent::Heartbeat => |it| {
            matches!(it, ManagerEvent::Heartbeat { .. })
        };
        use proto::manager::User::user_id => |it: User| it.user_id;
        use proto::supabase::Binding::with_filter => |it: Binding| it.with_filter("");
        use proto::supabase::JoinConfig::private => |it: JoinConfig| it.private;
        use proto::supabase::PresenceConfig::key => |it: PresenceConfig| it.key;
    };
    names.into_iter().map(|name| name.replace(' ', "")).collect()
}

#[test]
fn every_capability_of_the_realtime_area_is_declared_with_the_symbols_that_implement_it() {
    let (features, _) = read();
    let declared: BTreeSet<&str> = features.keys().map(String::as_str).collect();
    assert_eq!(declared, BTreeSet::from(IDS));
    for (id, feature) in &features {
        assert_eq!(feature.status, "implemented", "{id}");
        assert!(!feature.symbols.is_empty(), "{id} names no symbol");
    }
}

#[test]
fn every_symbol_that_is_named_is_public() {
    let (_, named) = read();
    let public = public();
    let strange: Vec<&String> = named.difference(&public).collect();
    assert_eq!(strange, [""; 0], "add it to the list above, where the compiler looks for it");
    let unnamed: Vec<&String> = public.difference(&named).collect();
    assert_eq!(unnamed, [""; 0], "the list names what the declaration does not");
}

//! Row changes: what is asked for, when they flow, whom they reach, and how they fail.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;

use realtime_proto::supabase::{Binding, BindingError, ChangeEvent, Filter, JoinConfig};
use realtime_proto::{
    Backoff, BindError, ChannelConfig, ChannelId, Client, Config, ConfigBuilder, Instant, OpenError,
};
use realtime_tests::peer::Peer;

const TOPIC: &str = "realtime:room";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn settings() -> ConfigBuilder {
    let retries = Backoff::exponential(secs(1), secs(30)).without_jitter();
    Config::builder("ws://server/socket").reconnect(retries.clone()).rejoin(retries)
}

fn all(table: &str) -> Binding {
    Binding::new(ChangeEvent::All, "public", table)
}

fn config(bindings: &[Binding]) -> ChannelConfig {
    let postgres_changes = bindings.to_vec();
    ChannelConfig::supabase(JoinConfig { postgres_changes, ..JoinConfig::default() })
}

fn open(bindings: &[Binding]) -> impl FnOnce(&mut Client, Instant) -> ChannelId {
    let config = config(bindings);
    move |client, now| client.open_channel(TOPIC, config, now).unwrap()
}

#[test]
fn what_a_server_would_refuse_is_refused_before_it_is_sent() {
    let mut peer = Peer::connected(settings());
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let whole_schema = Binding { table: None, ..all("") };
    for (binding, words) in [
        (
            all("a").with_filter("id=1"),
            "the filter `id=1` cannot be read: `id=1` has no operator; write column=op.value",
        ),
        (
            all("a").with_filter("done=is.maybe"),
            "the filter `done=is.maybe` cannot be read: `is` takes null, true, false or unknown, \
             and got `maybe`",
        ),
        (
            whole_schema.clone().with_filter("id=eq.1"),
            "the filter `id=eq.1` has no table to apply to; name a schema and a table",
        ),
        (
            whole_schema.with_select(["id"]),
            "`select` chooses columns of one table; name a schema and a table, neither of them `*`",
        ),
        (
            all("*").with_select(["id"]),
            "`select` chooses columns of one table; name a schema and a table, neither of them `*`",
        ),
    ] {
        let refused = peer.command(|c, now| c.open_channel(TOPIC, config(&[binding]), now));
        let Err(OpenError::Binding(error)) = refused else { panic!("{refused:?}") };
        assert_eq!(error.to_string(), words);
    }
    let long = all("a").with_filter(format!("id=in.({})", many.join(",")));
    let id = peer.command(open(&[all("a")]));
    peer.take_frames();
    let refused = peer.command(|c, now| c.channel(id).unwrap().bind(long, now));
    let Err(BindError::Binding(BindingError::Filter { error, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        error.to_string(),
        "`in` takes at most 100 values and got 101; use several bindings"
    );
    assert_eq!(peer.take_frames(), [""; 0]);
}

#[test]
fn a_filter_and_a_choice_of_columns_are_asked_for_as_written() {
    let mut peer = Peer::connected(settings());
    let filter = Filter::builder().column("room").eq(7).column("name").neq("a,b").build().unwrap();
    peer.command(open(&[all("messages").with_filter(filter).with_select(["id", "body"])]));
    let join = peer.take_frames().remove(0);
    let asked = concat!(
        r#""postgres_changes":[{"event":"*","schema":"public","table":"messages","#,
        r#""filter":"room=eq.7,name=neq.\"a,b\"","select":["id","body"]}]"#
    );
    assert!(join.contains(asked), "{join}");
}

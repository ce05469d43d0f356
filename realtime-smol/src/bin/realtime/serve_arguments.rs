//! What the local server can be told to do.

use core::net::SocketAddr;
use core::time::Duration;

use clap::Args;
use realtime_proto::server::{Policy, Refusal, Rule, ServerConfig};

use crate::arguments::KeyArguments;

const ACCESS: &str = "Who may do what";
const LIMITS: &str = "Limits";
const TIMES: &str = "Times, in seconds";
const FAILURES: &str = "What goes wrong";

/// Without options the server lets everyone do everything at any rate, keeps the delays of a real
/// one where clients have to live with them, and is fast everywhere else.
#[derive(Args)]
pub(crate) struct ServeArguments {
    /// The address to listen on; port 0 takes any that is free.
    #[arg(long, default_value = "127.0.0.1:4010")]
    pub(crate) addr: SocketAddr,
    #[command(flatten)]
    pub(crate) key: KeyArguments,

    /// Grant rights on private channels, for instance 'room:*', 'user:{sub}', 'news:*=read' or
    /// 'room:*@authenticated=read,write:broadcast'. Given once or more, all else is refused.
    #[arg(long, value_name = "TOPIC[@ROLE][=RIGHTS]", help_heading = ACCESS)]
    allow: Vec<Rule>,
    /// Refuse public channels.
    #[arg(long, help_heading = ACCESS)]
    private_only: bool,
    /// Read tokens: refuse what is no JWT, has no role or exp, or has expired, and close channels
    /// when their token expires. Signatures are not verified.
    #[arg(long, help_heading = ACCESS)]
    read_tokens: bool,

    /// Connections at a time; more get status 429.
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = LIMITS)]
    max_connections: usize,
    /// Channels of one connection; more are refused.
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = LIMITS)]
    max_channels: usize,
    /// Broadcasts a second, on average over a minute; more close channels. Supabase allows 100.
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    max_events: Option<u32>,
    /// Joins a second, on average over a minute; more close the connection. Supabase allows 100.
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    max_joins: Option<u32>,
    /// Presence messages a second, on average over a minute; more close channels. Supabase allows
    /// 1000.
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    max_presence_events: Option<u32>,
    /// Presence messages of one channel in 30 s; more close it.
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = LIMITS)]
    max_presence_calls: u32,
    /// Bytes of a broadcast's or a presence's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 3_000_500, help_heading = LIMITS)]
    max_payload: usize,
    /// Bytes of a frame; more close the connection with 1009.
    #[arg(long, value_name = "BYTES", default_value_t = 5_000_000, help_heading = LIMITS)]
    max_frame: usize,
    /// Private broadcasts kept for replay, for 72 hours at most.
    #[arg(long, value_name = "N", default_value_t = 1_000, help_heading = LIMITS)]
    max_stored: usize,

    /// How long a refused join holds its connection.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, help_heading = TIMES)]
    refusal_delay: Duration,
    /// How long the database takes to say "Subscribed to PostgreSQL"; a join that waits for it
    /// waits as long.
    #[arg(long, value_name = "S", default_value = "0.1", value_parser = seconds, help_heading = TIMES)]
    subscribe_delay: Duration,
    /// How long until broadcasts of the database arrive, for those who ask; over 60 they never do.
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds, help_heading = TIMES)]
    replication_delay: Duration,
    /// How often tokens are looked at again.
    #[arg(long, value_name = "S", default_value = "300", value_parser = seconds, help_heading = TIMES)]
    token_check_interval: Duration,
    /// How long a connection may say nothing.
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds, help_heading = TIMES)]
    idle_timeout: Duration,
    /// How often connections that left all their channels are cut.
    #[arg(long, value_name = "S", default_value = "600", value_parser = seconds, help_heading = TIMES)]
    no_channel_timeout: Duration,

    /// Refuse every join of a topic with a reason, for instance 'realtime:room=Unauthorized: no'.
    #[arg(long, value_name = "TOPIC=REASON", value_parser = pair, help_heading = FAILURES)]
    refuse_join: Vec<(String, String)>,
    /// Refuse every connection with a status and an error, for instance '403=Realtime was disabled
    /// for this tenant'.
    #[arg(long, value_name = "STATUS=TEXT", value_parser = refusal, help_heading = FAILURES)]
    refuse_connections: Option<Refusal>,
    /// A table whose row changes cannot be had.
    #[arg(long, value_name = "SCHEMA.TABLE", value_parser = table, help_heading = FAILURES)]
    unpublished: Vec<(String, String)>,
}

impl ServeArguments {
    pub(crate) fn config(&self, unix_time_at_epoch: Duration) -> ServerConfig {
        let rules = self.allow.iter().cloned();
        ServerConfig {
            apikey: self.key.apikey.as_deref().map(Into::into),
            refuse_upgrades: self.refuse_connections.clone(),
            reads_tokens: self.read_tokens,
            token_check_interval: self.token_check_interval,
            policy: if self.allow.is_empty() {
                Policy::open()
            } else {
                rules.fold(Policy::closed(), Policy::allow)
            },
            private_only: self.private_only,
            sessions_max: self.max_connections,
            channels_per_session_max: self.max_channels,
            refuse_joins: self.refuse_join.clone(),
            join_refusal_after: self.refusal_delay,
            subscribed_after: self.subscribe_delay,
            replication_ready_after: self.replication_delay,
            unpublished_tables: self.unpublished.clone(),
            presence_calls_max: self.max_presence_calls,
            events_per_second_max: self.max_events,
            joins_per_second_max: self.max_joins,
            presence_events_per_second_max: self.max_presence_events,
            payload_bytes_max: self.max_payload,
            stored_broadcasts_max: self.max_stored,
            no_channel_after: Some(self.no_channel_timeout),
            idle_after: Some(self.idle_timeout),
            unix_time_at_epoch,
            frame_bytes_max: self.max_frame,
            ..ServerConfig::default()
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "write a number of seconds, for instance 0.5".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (topic, reason) = text.split_once('=').ok_or("write TOPIC=REASON")?;
    Ok((topic.to_owned(), reason.to_owned()))
}

fn refusal(text: &str) -> Result<Refusal, String> {
    let (status, error) = text.split_once('=').unwrap_or((text, ""));
    let status = status.parse().ok().filter(|status| (400..600).contains(status));
    let status = status.ok_or("write STATUS=TEXT, where the status is 400 to 599")?;
    let body = match error {
        "" => String::new(),
        error => serde_json::json!({ "error": error }).to_string(),
    };
    Ok(Refusal { status, body })
}

fn table(text: &str) -> Result<(String, String), String> {
    let (schema, table) = text.split_once('.').unwrap_or(("public", text));
    if schema.is_empty() || table.is_empty() {
        return Err("write SCHEMA.TABLE, for instance public.contacts".to_owned());
    }
    Ok((schema.to_owned(), table.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArguments,
    }

    fn config(arguments: &[&str]) -> ServerConfig {
        let line = ["serve"].iter().chain(arguments);
        Line::try_parse_from(line).unwrap().serve.config(Duration::ZERO)
    }

    #[test]
    fn without_options_the_server_is_the_default_one() {
        Line::command().debug_assert();
        let default =
            ServerConfig { unix_time_at_epoch: Duration::ZERO, ..ServerConfig::default() };
        assert_eq!(config(&[]), default);
    }

    #[test]
    fn options_become_the_configuration() {
        let config = config(&[
            "--allow=room:*@authenticated=read",
            "--refuse-join=realtime:x=Unauthorized: a=b",
            "--refuse-connections=403=Realtime was disabled for this tenant",
            "--unpublished=secrets",
            "--subscribe-delay=2.5",
        ]);
        let rule = "room:*@authenticated=read".parse().unwrap();
        assert_eq!(config.policy, Policy::closed().allow(rule));
        let refused = ("realtime:x".to_owned(), "Unauthorized: a=b".to_owned());
        assert_eq!(config.refuse_joins, [refused]);
        let refusal = config.refuse_upgrades.unwrap();
        assert_eq!(refusal.status, 403);
        assert_eq!(refusal.body, r#"{"error":"Realtime was disabled for this tenant"}"#);
        assert_eq!(config.unpublished_tables, [("public".to_owned(), "secrets".to_owned())]);
        assert_eq!(config.subscribed_after, Duration::from_millis(2_500));
    }

    #[test]
    fn an_option_that_makes_no_sense_says_what_to_write() {
        for (argument, expected) in [
            ("--subscribe-delay=soon", "write a number of seconds, for instance 0.5"),
            ("--allow=room=all", "`all` is not a right; write read, write, broadcast"),
            ("--refuse-join=x", "write TOPIC=REASON"),
            ("--refuse-connections=200=ok", "write STATUS=TEXT, where the status is 400 to 599"),
            ("--unpublished=.", "write SCHEMA.TABLE, for instance public.contacts"),
        ] {
            let error = Line::try_parse_from(["serve", argument]).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

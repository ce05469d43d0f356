//! The HTTP upgrade: path, protocol version, API key.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::claims::Claims;
use super::{ServerConfig, json};
use crate::secret::Secret;
use crate::wire::Vsn;

/// A refused upgrade: the HTTP answer to give instead of 101.
///
/// Protocol §6.1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upgrade was refused with status {status}: {body}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body: a JSON object with the key `error`, plain text, or empty.
    pub body: String,
}

impl Refusal {
    pub(super) fn new(status: u16, body: &str) -> Self {
        Self { status, body: body.into() }
    }
}

/// Reads the target of an upgrade and decides all that needs no state.
///
/// `now` is the Unix time.
pub(super) fn check(
    target: &str,
    config: &ServerConfig,
    now: Duration,
) -> Result<(Vsn, Option<Secret>), Refusal> {
    if let Some(refusal) = &config.refuse_upgrades {
        return Err(refusal.clone());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !matches!(path, "/socket/websocket" | "/realtime/v1/websocket") {
        return Err(Refusal::new(404, "not found"));
    }
    // Without the parameter Phoenix speaks V1.
    let vsn = match parameter(query, "vsn") {
        None => Some(Vsn::V1),
        Some(text) => Vsn::parse(&text),
    };
    let Some(vsn) = vsn else {
        return Err(Refusal::new(403, ""));
    };
    let key = parameter(query, "apikey").map(Secret::new);
    check_key(key.as_ref(), config, now)?;
    Ok((vsn, key))
}

fn check_key(key: Option<&Secret>, config: &ServerConfig, now: Duration) -> Result<(), Refusal> {
    if config.apikey.is_none() && !config.reads_tokens {
        return Ok(());
    }
    let Some(key) = key else {
        return Err(Refusal::new(401, r#"{"error":"API key is missing"}"#));
    };
    if config.apikey.as_ref() == Some(key) {
        return Ok(());
    }
    if config.reads_tokens {
        if let Err(error) = Claims::read(key.expose(), now) {
            let body = alloc::format!("{{\"error\":{}}}", json::quoted(&error.refusal()));
            return Err(Refusal { status: 401, body });
        }
        if config.apikey.is_none() {
            return Ok(());
        }
    }
    // Three parts look like a JWT, and then it is the signature that is wrong.
    Err(Refusal::new(
        401,
        if key.expose().split('.').count() == 3 {
            r#"{"error":"Failed to validate JWT signature"}"#
        } else {
            r#"{"error":"The token provided is not a valid JWT"}"#
        },
    ))
}

/// The last value of a query parameter, as Plug has it.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key) == name).then(|| percent_decode(value))
        })
        .next_back()
}

pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match tail {
                [high, low, tail @ ..] => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        rest = tail;
                        high << 4 | low
                    }
                    _ => b'%',
                },
                _ => b'%',
            },
            _ => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_those_of_a_real_server() {
        let config = ServerConfig { apikey: Some("a b&c".into()), ..ServerConfig::default() };
        let refused = |target: &str| {
            let refusal = check(target, &config, Duration::ZERO).unwrap_err();
            (refusal.status, refusal.body)
        };
        assert_eq!(refused("/nosocket/websocket?vsn=2.0.0"), (404, "not found".into()));
        for vsn in ["3.0.0", "abc", "2.1.0", ""] {
            let target = alloc::format!("/socket/websocket?apikey=x&vsn={vsn}");
            assert_eq!(refused(&target), (403, String::new()));
        }
        assert_eq!(refused("/socket/websocket"), (401, r#"{"error":"API key is missing"}"#.into()));
        assert_eq!(
            refused("/socket/websocket?apikey=abc"),
            (401, r#"{"error":"The token provided is not a valid JWT"}"#.into())
        );
        assert_eq!(
            refused("/socket/websocket?apikey=a.b.c"),
            (401, r#"{"error":"Failed to validate JWT signature"}"#.into())
        );
        let vsn = |target: &str| check(target, &config, Duration::ZERO).map(|(vsn, _)| vsn);
        assert_eq!(vsn("/socket/websocket?apikey=a%20b%26c"), Ok(Vsn::V1));
        assert_eq!(vsn("/realtime/v1/websocket?apikey=a+b%26c&vsn=2.0.0"), Ok(Vsn::V2));
    }

    #[test]
    fn a_broken_escape_is_taken_as_it_stands() {
        assert_eq!(percent_decode("%4"), "%4");
        assert_eq!(percent_decode("%zz%41%"), "%zzA%");
    }
}

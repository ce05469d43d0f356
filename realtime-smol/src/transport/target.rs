//! The pieces of a URL that a connection needs.

use core::fmt;

use realtime_proto::CloseReason;

use super::unreachable;

/// A URL in pieces.
pub(super) struct Target<'a> {
    pub(super) tls: bool,
    /// The host and the port as written, which is what the `Host` header wants.
    pub(super) authority: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads a URL of one of two schemes, without and with TLS.
    pub(super) fn parse(url: &'a str, schemes: [&str; 2]) -> Result<Self, CloseReason> {
        let without_query = url.split('?').next().unwrap_or_default();
        let invalid = |what: &str| unreachable(format!("the URL {without_query} {what}"));

        let [plain, secure] = schemes;
        let (tls, rest) = if let Some(rest) = url.strip_prefix(plain) {
            (false, rest)
        } else if let Some(rest) = url.strip_prefix(secure) {
            (true, rest)
        } else {
            return Err(invalid(&format!("does not start with {plain} or {secure}")));
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("has a character that must be percent-encoded"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if authority.contains('@') {
            return Err(unreachable(
                "the URL has a user name or password in it, which Realtime does not use; remove it"
                    .into(),
            ));
        }
        let (host, port) = split_port(authority);
        if host.is_empty() {
            return Err(invalid("names no host"));
        }
        let port = match port {
            Some(port) => port
                .parse()
                .map_err(|_| invalid("has a port that is not a number from 0 to 65535"))?,
            None if tls => 443,
            None => 80,
        };
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        Ok(Self { tls, authority, host, port, path, query })
    }

    pub(super) fn request_path(&self) -> String {
        let slash = if self.path.is_empty() { "/" } else { "" };
        match self.query {
            Some(query) => format!("{slash}{}?{query}", self.path),
            None => format!("{slash}{}", self.path),
        }
    }
}

/// The URL without its query, where the API key is.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, port.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

//! The URL of a connection.

use alloc::string::String;
use core::fmt;
use core::fmt::Write;

use super::Vsn;

/// Where a connection goes, with everything the server reads from the query.
///
/// `Debug` and `Display` leave the query out, because the API key is in it (G14).
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectUrl(String);

impl ConnectUrl {
    /// The full URL, API key included.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Builds the URL as the official clients do: `/websocket` behind the endpoint, then the user's
/// parameters, then `vsn`.
///
/// Protocol §1.1. An endpoint that already ends in `/websocket` is taken as it is, and `http` and
/// `https` mean `ws` and `wss`, as the Supabase client has it.
pub(crate) fn build<'a>(
    endpoint: &str,
    params: impl IntoIterator<Item = (&'a str, &'a str)>,
    vsn: Vsn,
) -> ConnectUrl {
    let (base, query) = match endpoint.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (endpoint, None),
    };
    let mut url = String::new();
    let base = base.trim_end_matches('/');
    if let Some(rest) = base.strip_prefix("http") {
        url.push_str("ws");
        url.push_str(rest);
    } else {
        url.push_str(base);
    }
    if !base.ends_with("/websocket") {
        url.push_str("/websocket");
    }
    url.push('?');
    for piece in query.into_iter().filter(|query| !query.is_empty()) {
        url.push_str(piece);
        url.push('&');
    }
    for (key, value) in params {
        percent_encode(key, &mut url);
        url.push('=');
        percent_encode(value, &mut url);
        url.push('&');
    }
    url.push_str("vsn=");
    url.push_str(vsn.as_str());
    ConnectUrl(url)
}

/// The alphabet of JavaScript's `encodeURIComponent`.
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phoenix_example_of_the_protocol_sheet() {
        let params = [("user_token", "a b&c"), ("nested[k]", "1")];
        assert_eq!(
            build("ws://h/socket", params, Vsn::V2).expose(),
            "ws://h/socket/websocket?user_token=a%20b%26c&nested%5Bk%5D=1&vsn=2.0.0",
        );
    }

    #[test]
    fn the_supabase_example_of_the_protocol_sheet() {
        let params = [("apikey", "key"), ("log_level", "info")];
        assert_eq!(
            build("https://ref.supabase.co/realtime/v1/", params, Vsn::V2).expose(),
            "wss://ref.supabase.co/realtime/v1/websocket?apikey=key&log_level=info&vsn=2.0.0",
        );
    }

    #[test]
    fn a_query_in_the_endpoint_is_kept_and_the_suffix_is_not_doubled() {
        assert_eq!(
            build("ws://h/socket/websocket?a=1", [("b", "2")], Vsn::V1).expose(),
            "ws://h/socket/websocket?a=1&b=2&vsn=1.0.0",
        );
    }

    #[test]
    fn a_printed_url_has_no_query() {
        let url = build("wss://h/socket", [("apikey", "top-secret")], Vsn::V2);
        assert_eq!(
            alloc::format!("{url} {url:?}"),
            "wss://h/socket/websocket wss://h/socket/websocket"
        );
    }
}

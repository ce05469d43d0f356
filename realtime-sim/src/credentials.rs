//! Access tokens of a scenario: readable claims, and a signature that nobody verifies.

use core::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use crate::oracle::SECRET;

/// Unix time when a scenario begins.
pub(crate) const BEGIN: Duration = Duration::from_secs(1_000_000_000);

/// An API key, which outlives every scenario.
pub(crate) fn apikey(name: &str) -> String {
    token(name, BEGIN * 2, 0)
}

/// A token of a user that serves until `expires`; the number makes each another one.
pub(crate) fn token(name: &str, expires: Duration, number: u64) -> String {
    let claims = format!(
        "{{\"role\":\"authenticated\",\"sub\":\"{name}\",\"exp\":{},\"jti\":\"{number}\"}}",
        expires.as_secs()
    );
    let claims = BASE64URL_NOPAD.encode(claims.as_bytes());
    format!("{}.{claims}.{SECRET}-token-{number}", BASE64URL_NOPAD.encode(b"{}"))
}

//! What the HTTP side of a server answers to a broadcast.

use alloc::format;
use alloc::string::{String, ToString};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::cause::{Cause, CauseKind};

/// Statuses, what their text has in it, and what they mean; the first row that fits wins.
///
/// Protocol §5.8. What is not here, such as a 500, is the server's failure.
const REPLIES: &[(u16, &str, CauseKind)] = {
    use CauseKind::*;
    &[
        (400, "", BroadcastInvalid),
        (401, "Tenant not found", TenantNotFound),
        (401, "", TokenInvalid),
        (403, "Tenant is suspended", TenantDisabled),
        (403, "Unauthorized", Unauthorized),
        (403, "", Forbidden),
        (404, "Tenant not found", TenantNotFound),
        (404, "", BroadcastEndpointMissing),
        (405, "", BroadcastEndpointMissing),
        (413, "", PayloadTooLarge),
        (415, "", BroadcastInvalid),
        (422, "Payload size exceeds tenant limit", PayloadTooLarge),
        (422, "RLS policy error", Unauthorized),
        (422, "initializing", ProjectInitializing),
        (422, "Query canceled", DatabaseUnavailable),
        (422, "Missing messages partition", DatabaseUnavailable),
        (422, "Tenant database unavailable", DatabaseUnavailable),
        (422, "too many connections", DatabaseUnavailable),
        (422, "Connect rate limit reached", DatabaseUnavailable),
        (422, "", BroadcastInvalid),
        (429, "Connection pool exhausted", DatabaseUnavailable),
        (429, "", BroadcastRateLimited),
        (500, "RPC error", DatabaseUnavailable),
        (500, "Unable to authorize broadcast", DatabaseUnavailable),
    ]
};

/// `Ok` when the server has taken the broadcast, which it says with 202 alone.
pub(super) fn read(status: u16, body: &[u8]) -> Result<(), Cause> {
    if status == 202 {
        return Ok(());
    }
    let said = words(body);
    let fits = |(code, text, _): &&(u16, &str, _)| *code == status && said.contains(text);
    let known = REPLIES.iter().find(fits).map_or(CauseKind::BroadcastFailed, |(.., kind)| *kind);
    let text =
        if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    Err(Cause::with_text(known, text))
}

/// The words of an answer: its `error` or `message`, its `errors` as JSON, or short text.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer<'a> {
        error: Option<String>,
        message: Option<String>,
        #[serde(borrow)]
        errors: Option<&'a RawValue>,
    }
    /// A page of HTML is no reason; a sentence is.
    const TEXT_BYTES_MAX: usize = 200;
    let Ok(text) = core::str::from_utf8(body) else { return String::new() };
    match serde_json::from_str::<Answer<'_>>(text) {
        Ok(Answer { error, message, errors }) => {
            let errors = errors.map(|raw| raw.get().to_string());
            error.or(message).or(errors).unwrap_or_default()
        }
        Err(_) if text.len() <= TEXT_BYTES_MAX && !text.contains('<') => text.trim().to_string(),
        Err(_) => String::new(),
    }
}

//! What can be read from an access token without knowing its secret.

use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;

/// When a token expires, as the time since the Unix epoch: the claim `exp` of a JWT.
///
/// `None` for what is no JWT or has no `exp`, as API keys that start with `sb_`. The signature is
/// not looked at.
///
/// # Examples
///
/// ```
/// use core::time::Duration;
/// use realtime_proto::supabase::token_expiry;
///
/// // {"alg":"HS256"}.{"role":"anon","exp":1761264000}
/// let token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiIsImV4cCI6MTc2MTI2NDAwMH0.c2ln";
/// assert_eq!(token_expiry(token), Some(Duration::from_secs(1_761_264_000)));
/// assert_eq!(token_expiry("sb_publishable_key"), None);
/// ```
#[must_use]
pub fn token_expiry(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Claims = serde_json::from_slice(&decode_base64url(claims)?).ok()?;
    Duration::try_from_secs_f64(claims.exp).ok()
}

/// Base64 in the alphabet of URLs; padding is tolerated.
pub(crate) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_decode() {
        let vectors: [(&str, &[u8]); 5] =
            [("", b""), ("Zg", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("-_8", &[0xFB, 0xFF])];
        for (text, bytes) in vectors {
            assert_eq!(decode_base64url(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(decode_base64url("a b"), None);
    }

    #[test]
    fn what_is_no_jwt_has_no_expiry() {
        for token in ["", "a", "a.b", "a.b.c", "..", "e30.e30.", "\u{e9}.\u{e9}.\u{e9}"] {
            assert_eq!(token_expiry(token), None, "{token}");
        }
        // {"exp":-1} and {"exp":1e300}
        assert_eq!(token_expiry("e30.eyJleHAiOi0xfQ.x"), None);
        assert_eq!(token_expiry("e30.eyJleHAiOjFlMzAwfQ.x"), None);
    }
}

//! What a server reads in a token.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::supabase::{Row, decode_base64url};

/// The claims of a token that decide what its bearer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) role: String,
    /// The user; empty when the token names none.
    pub(super) sub: String,
    /// The end of its validity since the Unix epoch; `None` for a bearer without a token.
    pub(super) exp: Option<Duration>,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    Malformed,
    ClaimsMissing,
    ExpiryInvalid,
    Expired { seconds_ago: u64 },
}

impl Claims {
    /// Whoever brings no token that can be read.
    pub(super) fn anonymous() -> Self {
        Self { role: "anon".into(), sub: String::new(), exp: None }
    }

    /// Reads a token at the Unix time `now`; its signature is not looked at.
    pub(super) fn read(token: &str, now: Duration) -> Result<Self, BadToken> {
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadToken::Malformed);
        };
        let text = |part| {
            let bytes = decode_base64url(part).ok_or(BadToken::Malformed)?;
            String::from_utf8(bytes).map_err(|_| BadToken::Malformed)
        };
        Row::read(&text(header)?).ok_or(BadToken::Malformed)?;
        let body = text(body)?;
        let body = Row::read(&body).ok_or(BadToken::Malformed)?;
        let claim = |name| serde_json::from_str::<String>(body.column(name)?).ok();
        let (Some(role), Some(exp)) = (claim("role"), body.column("exp")) else {
            return Err(BadToken::ClaimsMissing);
        };
        let exp: i64 = exp.parse().map_err(|_| BadToken::ExpiryInvalid)?;
        let exp = Duration::from_secs(exp.max(0).unsigned_abs());
        let claims = Self { role, sub: claim("sub").unwrap_or_default(), exp: Some(exp) };
        claims.check(now)?;
        Ok(claims)
    }

    /// Whether the token is still in date.
    pub(super) fn check(&self, now: Duration) -> Result<(), BadToken> {
        match self.exp {
            Some(exp) if exp <= now => {
                Err(BadToken::Expired { seconds_ago: (now - exp).as_secs() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl BadToken {
    /// The text of a `system` error. Protocol §6.3.
    pub(super) fn text(self) -> Cow<'static, str> {
        match self {
            Self::Malformed => "The token provided is not a valid JWT".into(),
            Self::ClaimsMissing => "Fields `role` and `exp` are required in JWT".into(),
            Self::ExpiryInvalid => "Token expiration time is invalid".into(),
            Self::Expired { seconds_ago } => {
                format!("Token has expired {seconds_ago} seconds ago").into()
            }
        }
    }

    /// The reason of a refused join. Protocol §6.2.
    pub(super) fn reason(self) -> String {
        let code = match self {
            Self::Malformed => "MalformedJWT",
            Self::ClaimsMissing | Self::ExpiryInvalid | Self::Expired { .. } => "InvalidJWTToken",
        };
        format!("{code}: {}", self.text())
    }

    /// The text of a refused upgrade. Protocol §6.1.
    pub(super) fn refusal(self) -> Cow<'static, str> {
        match self {
            Self::Expired { .. } => "Token has expired".into(),
            Self::Malformed | Self::ClaimsMissing | Self::ExpiryInvalid => self.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // {"alg":"HS256"}.{"role":"anon","exp":1761264000}
    const ANON: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiIsImV4cCI6MTc2MTI2NDAwMH0.c2ln";

    fn read(token: &str, now: u64) -> Result<Claims, BadToken> {
        Claims::read(token, Duration::from_secs(now))
    }

    #[test]
    fn a_token_ends_with_the_second_it_names() {
        let claims = read(ANON, 1_761_263_999).unwrap();
        assert_eq!((&*claims.role, &*claims.sub), ("anon", ""));
        assert_eq!(read(ANON, 1_761_264_000), Err(BadToken::Expired { seconds_ago: 0 }));
        let expired = read(ANON, 1_761_264_016).unwrap_err();
        assert_eq!(expired.reason(), "InvalidJWTToken: Token has expired 16 seconds ago");
        assert_eq!(expired.refusal(), "Token has expired");
    }

    #[test]
    fn what_is_no_token_is_told_in_the_words_of_a_real_server() {
        for token in ["", "abc", "abc.def", "a.b.c", "e30.e30.x.y", "e30.\u{e9}.x", "e30.W10.x"] {
            let error = read(token, 0).unwrap_err();
            assert_eq!(error.reason(), "MalformedJWT: The token provided is not a valid JWT");
        }
        // {}, {"role":"a"} and {"exp":1}
        for token in ["e30.e30.x", "e30.eyJyb2xlIjoiYSJ9.x", "e30.eyJleHAiOjF9.x"] {
            let reason = "InvalidJWTToken: Fields `role` and `exp` are required in JWT";
            assert_eq!(read(token, 0).unwrap_err().reason(), reason);
        }
        // {"role":"a","exp":"x"}
        let error = read("e30.eyJyb2xlIjoiYSIsImV4cCI6IngifQ.x", 0).unwrap_err();
        assert_eq!(error.reason(), "InvalidJWTToken: Token expiration time is invalid");
    }
}

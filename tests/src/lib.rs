//! Fixtures, and what tests that cross crates share to read them.
//!
//! Everything here panics on a fixture that is not as described: a test must not pass on nothing.
#![deny(missing_docs)]

pub mod dice;
pub mod encoding;
pub mod entities;
pub mod golden;
pub mod node;
pub mod peer;
pub mod recording;
pub mod replay;

use std::fs;
use std::path::{Path, PathBuf};

use realtime_proto::Secret;

/// Where `tests/fixtures/{name}` lies.
#[must_use]
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The text of `tests/fixtures/{name}`.
///
/// # Panics
///
/// When there is no such file.
#[must_use]
pub fn fixture(name: &str) -> String {
    let path = fixture_path(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A JWT that says when it expires, in seconds since the Unix epoch.
#[must_use]
pub fn token(exp: u64) -> Secret {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from("e30.");
    for chunk in format!(r#"{{"role":"anon","exp":{exp}}}"#).as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for letter in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * letter)) & 63;
            text.push(char::from(alphabet[index as usize]));
        }
    }
    Secret::new(text + ".c2ln")
}

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

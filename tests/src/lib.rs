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

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

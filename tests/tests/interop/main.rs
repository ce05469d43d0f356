//! The official JavaScript clients beside ours: the same input, and the same results.
//!
//! `tests/interop` holds the scripts and pins the packages; `realtime_tests::node` says what
//! happens where there is no Node.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

mod clients;
mod columns;
mod filters;
mod frames;
mod history;
mod presence;
mod recordings;
mod shown;

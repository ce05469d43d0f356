//! Where a scenario comes from: a seed or a file; and ranges of seeds.

use core::str::FromStr;
use std::path::PathBuf;

use realtime_sim::{Profile, Scenario, Seed, SeedError, seeds};

/// A seed, or the path of a scenario.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Seed(Seed),
    File(PathBuf),
}

impl FromStr for Source {
    type Err = core::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(word.parse().map_or_else(|_| Self::File(word.into()), Self::Seed))
    }
}

impl Source {
    /// The scenario, or why there is none.
    pub(super) fn scenario(&self, profile: Profile) -> Result<Scenario, String> {
        match self {
            Self::Seed(seed) => Ok(profile.scenario(*seed)),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    format!(
                        "{} is neither a seed nor a file that can be read: {error}",
                        path.display()
                    )
                })?;
                text.parse().map_err(|error| format!("{}: {error}", path.display()))
            }
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Seed(seed) => format!("seed {seed}"),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// The seeds from one up to, and not including, another; or one.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeedRange {
    pub(super) first: u64,
    pub(super) end: u64,
}

impl FromStr for SeedRange {
    type Err = SeedError;

    fn from_str(word: &str) -> Result<Self, SeedError> {
        let range = seeds(0..0, Some(word))?;
        Ok(Self { first: range.start, end: range.end })
    }
}

/// A profile by its name.
pub(super) fn profile(word: &str) -> Result<Profile, String> {
    let found = Profile::ALL.into_iter().find(|profile| profile.word() == word);
    found.ok_or_else(|| format!("`{word}` is no profile; write swarm, calm or storm"))
}

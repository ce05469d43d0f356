//! Where a scenario comes from: a seed or a file; and ranges of seeds.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use realtime_sim::{Profile, Scenario, Seed, SeedError, seeds};

use crate::made::quoted;

/// A seed, or the path of a scenario.
#[derive(Clone, Debug)]
enum Source {
    Seed(Seed),
    File(PathBuf),
}

impl FromStr for Source {
    type Err = core::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(word.parse().map_or_else(|_| Self::File(word.into()), Self::Seed))
    }
}

/// Where one scenario comes from.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Origin {
    /// A seed, or the file of a scenario.
    source: Source,
    /// What kind of scenario a seed makes.
    #[arg(long, value_parser = profile(), default_value = "swarm")]
    profile: Profile,
}

/// As it is written behind a command.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Seed(seed) if self.profile == Profile::Swarm => seed.fmt(f),
            Source::Seed(seed) => write!(f, "{seed} --profile {}", self.profile.word()),
            Source::File(path) => f.write_str(&quoted(path)),
        }
    }
}

impl Origin {
    pub(super) const fn of_seed(seed: Seed, profile: Profile) -> Self {
        Self { source: Source::Seed(seed), profile }
    }

    /// The scenario, or why there is none to play.
    pub(super) fn scenario(&self) -> Result<Scenario, String> {
        let path = match &self.source {
            Source::Seed(seed) => return Ok(self.profile.scenario(*seed)),
            Source::File(path) => path,
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("{} is neither a seed nor a file that can be read: {error}", path.display())
        })?;
        let scenario: Scenario =
            text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        match missing(&scenario) {
            Some(missing) => Err(format!("{} has {missing}", path.display())),
            None => Ok(scenario),
        }
    }

    pub(super) fn name(&self) -> String {
        match &self.source {
            Source::Seed(seed) if self.profile == Profile::Swarm => format!("seed {seed}"),
            Source::Seed(seed) => format!("seed {seed} of {}", self.profile.word()),
            Source::File(path) => path.display().to_string(),
        }
    }

    /// The name of a file that is made of it.
    pub(super) fn file(&self, extension: &str) -> String {
        match &self.source {
            Source::Seed(seed) => format!("seed-{seed}-{}.{extension}", self.profile.word()),
            Source::File(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                format!("{stem}.{extension}")
            }
        }
    }
}

/// What a scenario lacks in which nothing happens.
pub(super) fn missing(scenario: &Scenario) -> Option<&'static str> {
    match (scenario.cast.actors.is_empty(), scenario.steps.is_empty()) {
        (true, _) => Some("nobody in it; write for instance `client ana`"),
        (_, true) => Some("no step in it; write for instance `+0ms ana connect`"),
        (false, false) => None,
    }
}

/// The seeds from one up to, and not including, another; or one.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeedRange {
    pub(super) first: u64,
    pub(super) count: u64,
}

impl FromStr for SeedRange {
    type Err = SeedError;

    fn from_str(word: &str) -> Result<Self, SeedError> {
        let range = seeds(0..0, Some(word))?;
        Ok(Self { first: range.start, count: range.end - range.start })
    }
}

/// A profile by its name.
pub(super) fn profile() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::word)).map(|word| {
        let found = Profile::ALL.into_iter().find(|profile| profile.word() == word);
        found.unwrap_or(Profile::Swarm)
    })
}

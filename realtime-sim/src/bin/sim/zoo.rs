//! `sim zoo`: bugs that real clients had, put back by patches, for the simulator to find.
//!
//! Each patch is applied to a scratch copy of the two crates, and the simulator that is built there
//! plays one seed after the other until something does not hold. What does not hold without the
//! patch either does not count.

use core::fmt::Write as _;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use realtime_sim::{Scenario, Seed};

use crate::failed::play;
use crate::failure;
use crate::interrupt::Interrupt;
use crate::say::{say, tell};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The bugs to look for, by the names of their patches; all of them when none is named.
    names: Vec<String>,
    /// How many seeds are tried for each bug.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Only see whether every patch applies and compiles.
    #[arg(long)]
    check: bool,
    /// Write the table of all bugs to `realtime-sim/ZOO.md`.
    #[arg(long, conflicts_with_all = ["names", "check"])]
    write: bool,
    /// Play seeds from this one on until one fails, and print which: what a scratch copy is asked.
    #[arg(long, hide = true)]
    hunt_from: Option<u64>,
}

/// One bug: its patch, and what the patch says about it.
struct Bug {
    name: String,
    patch: PathBuf,
    /// Which clients had it, and where it was reported.
    source: String,
}

/// Where and how a bug showed.
struct Found {
    seed: u64,
    rule: String,
    /// The scenario, once it is as small as it still fails.
    small: Scenario,
}

type Outcome<T> = Result<T, String>;

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some(from) = arguments.hunt_from {
        return Ok(hunt_here(from, arguments.seeds));
    }
    let is_well = visit(arguments)?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks for every bug that was asked for; tells whether each was found.
fn visit(arguments: &Arguments) -> Outcome<bool> {
    let bugs = bugs(&arguments.names)?;
    let scratch = Scratch::new()?;
    let mut table = Vec::new();
    for bug in &bugs {
        tell!("{}: is applied", bug.name);
        let outcome = scratch.with(bug, || {
            if arguments.check {
                scratch.check(bug).map(|()| None)
            } else {
                scratch.hunt(bug, arguments.seeds)
            }
        });
        let (what, well) = match &outcome {
            Ok(Some(found)) => (
                format!("seed {}, {}, {} steps", found.seed, found.rule, found.small.steps.len()),
                true,
            ),
            Ok(None) if arguments.check => ("applies and compiles".into(), true),
            Ok(None) => (format!("not found in {} seeds", arguments.seeds), false),
            Err(error) => (error.clone(), false),
        };
        say!("{:<52} {what}", bug.name);
        table.push((bug, well, outcome.ok().flatten()));
    }
    let found = table.iter().filter(|(_, well, _)| *well).count();
    say!("{found} of {}", table.len());
    if arguments.write {
        let path = workspace().join("realtime-sim/ZOO.md");
        fs::write(&path, page(&table)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(found == table.len())
}

/// The page that is kept.
fn page(table: &[(&Bug, bool, Option<Found>)]) -> String {
    let found = table.iter().filter(|(_, _, found)| found.is_some()).count();
    let mut page = format!(
        "# The bug zoo\n\n\
         Bugs that real clients of this field had, each put back into the core by a small patch in \
         [`zoo/`](zoo). No test was written for any of them: the simulator finds them with the \
         scenarios it draws for everything else.\n\n\
         `cargo sim zoo --write` makes this page anew. Seeds are played from 0 on until something \
         does not hold; the last column is how many steps the scenario has once it is shrunk. What \
         the bug was and what users saw is at the head of each patch.\n\n\
         Found: {found} of {}.\n\n\
         | bug | where it was seen | found at seed | what does not hold | steps |\n\
         |---|---|---:|---|---:|\n",
        table.len(),
    );
    for (Bug { name, source, .. }, _, found) in table {
        let (seed, rule, steps) = found.as_ref().map_or_else(
            || ("not found".into(), "".into(), String::new()),
            |found| {
                (found.seed.to_string(), found.rule.clone(), found.small.steps.len().to_string())
            },
        );
        writeln!(page, "| [{name}](zoo/{name}.patch) | {source} | {seed} | {rule} | {steps} |")
            .expect("writing to a String does not fail");
    }
    page
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace")
}

/// The patches of these names, or all there are.
fn bugs(names: &[String]) -> Outcome<Vec<Bug>> {
    let zoo = workspace().join("realtime-sim/zoo");
    let entries = fs::read_dir(&zoo).map_err(|error| format!("{}: {error}", zoo.display()))?;
    let mut bugs = Vec::new();
    for entry in entries {
        let patch = entry.map_err(|error| error.to_string())?.path();
        if patch.extension() != Some(OsStr::new("patch")) {
            continue;
        }
        let name = patch.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        if names.is_empty() || names.contains(&name) {
            bugs.push(read(name, patch)?);
        }
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    match names.iter().find(|name| bugs.iter().all(|bug| bug.name != **name)) {
        None => Ok(bugs),
        Some(name) => Err(format!("there is no bug `{name}` in {}", zoo.display())),
    }
}

/// Reads the head of a patch, and sees that it is about the core as it is shipped.
fn read(name: String, patch: PathBuf) -> Outcome<Bug> {
    let text = fs::read_to_string(&patch).map_err(|error| format!("{name}: {error}"))?;
    let source = text.lines().find_map(|line| line.strip_prefix("Peer: "));
    let source = source.ok_or_else(|| format!("{name}: no line says `Peer: …`"))?.to_owned();
    for path in text.lines().filter_map(|line| line.strip_prefix("+++ b/")) {
        let core = path.strip_prefix("realtime-proto/src/");
        if core.is_none_or(|path| path.starts_with("server/")) {
            return Err(format!("{name}: {path} is no part of the shipped core"));
        }
    }
    Ok(Bug { name, patch, source })
}

/// A copy of the two crates in a workspace of their own, where a patch does no harm.
struct Scratch {
    tree: PathBuf,
    /// What is built is kept, so that a patch costs the build of two crates.
    target: PathBuf,
}

impl Scratch {
    fn new() -> Outcome<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| workspace().join("target"), PathBuf::from);
        let (tree, target) = (target.join("zoo/tree"), target.join("zoo/target"));
        let scratch = Self { tree, target };
        scratch.fill().map_err(|error| format!("{}: {error}", scratch.tree.display()))?;
        Ok(scratch)
    }

    fn fill(&self) -> std::io::Result<()> {
        if self.tree.exists() {
            fs::remove_dir_all(&self.tree)?;
        }
        for part in ["realtime-proto", "realtime-sim"] {
            copy(&workspace().join(part), &self.tree.join(part))?;
        }
        fs::copy(workspace().join("Cargo.lock"), self.tree.join("Cargo.lock"))?;
        let manifest = fs::read_to_string(workspace().join("Cargo.toml"))?;
        let members = |line: &str| match line.starts_with("members = ") {
            true => "members = [\"realtime-proto\", \"realtime-sim\"]".to_owned(),
            false => line.to_owned(),
        };
        let manifest: Vec<String> = manifest.lines().map(members).collect();
        fs::write(self.tree.join("Cargo.toml"), manifest.join("\n"))
    }

    /// Does something while a patch is applied.
    fn with<T>(&self, bug: &Bug, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        self.apply(bug, &[])?;
        let outcome = work();
        self.apply(bug, &["--reverse"])?;
        outcome
    }

    fn apply(&self, bug: &Bug, options: &[&str]) -> Outcome<()> {
        let mut git = Command::new("git");
        git.arg("apply").args(options).arg(&bug.patch).current_dir(&self.tree);
        // The copy may lie in a repository, whose paths the patch must not be looked for in.
        git.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        output(&mut git).map(drop).map_err(|error| format!("does not apply: {error}"))
    }

    fn cargo(&self, verb: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([verb, "--quiet", "--offline", "--package", "realtime-sim"]);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        // From one patch to the next little changes.
        command.env("CARGO_INCREMENTAL", "1");
        command
    }

    fn check(&self, bug: &Bug) -> Outcome<()> {
        tell!("{}: is compiled", bug.name);
        let checked = output(&mut self.cargo("check"));
        checked.map(drop).map_err(|error| format!("does not compile: {error}"))
    }

    /// Plays seeds until one fails that does not fail without the patch.
    fn hunt(&self, bug: &Bug, seeds: u64) -> Outcome<Option<Found>> {
        tell!("{}: is built", bug.name);
        let mut build = self.cargo("build");
        build.args(["--release", "--features", "cli", "--bin", "sim"]);
        output(&mut build).map_err(|error| format!("does not compile: {error}"))?;
        let sim = self.target.join("release/sim");
        let mut from = 0;
        while from < seeds {
            tell!("{}: is hunted in seeds {from}..{seeds}", bug.name);
            let mut hunt = Command::new(&sim);
            hunt.args(["zoo", "--hunt-from", &from.to_string(), "--seeds", &seeds.to_string()]);
            let Some(found) = parse(&output(&mut hunt)?) else { break };
            let played = [&Scenario::of_seed(Seed(found.seed)), &found.small];
            let is_well = |scenario: &Scenario| play(scenario).1.is_none();
            if played.iter().all(|scenario| is_well(scenario)) {
                return Ok(Some(found));
            }
            from = found.seed + 1;
        }
        Ok(None)
    }
}

/// Plays seeds in this process, prints the first that fails, and how small its scenario gets.
fn hunt_here(from: u64, to: u64) -> ExitCode {
    for seed in from..to {
        let scenario = Scenario::of_seed(Seed(seed));
        if let (_, Some(failed)) = play(&scenario) {
            let (small, _) = failure::smallest(&scenario, failed.rule, &Interrupt::default());
            say!("{seed} {}\n{}", failed.rule, small.to_string().trim_end());
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Reads what [`hunt_here`] printed; `None` when nothing was found.
fn parse(printed: &str) -> Option<Found> {
    let (seed, printed) = printed.split_once(' ')?;
    let (rule, small) = printed.split_once('\n')?;
    Some(Found {
        seed: seed.parse().ok()?,
        rule: rule.into(),
        small: small.trim_end().parse().ok()?,
    })
}

/// What a command prints, or the first lines of why it failed.
fn output(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("error")).collect();
    let words = if errors.is_empty() { words.trim().to_owned() } else { errors.join("; ") };
    Err(format!("{} ({})", words, output.status))
}

/// Copies a folder; what was built in it is not a part of it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if !entry.file_type()?.is_dir() {
            fs::copy(&path, to.join(name))?;
        } else if name != "target" {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

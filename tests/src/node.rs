//! The scripts of `tests/interop`, in which the official JavaScript clients answer line by line.
//!
//! Where there is no Node, or the packages are not installed, the tests that need them pass and
//! one line on stderr says what was left out. With `REALTIME_INTEROP=required` in the environment
//! they fail instead.

use core::time::Duration;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, process};

use serde_json::Value;
use smol::Timer;
use smol::future::{self, FutureExt};
use smol::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use smol::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use smol::stream::StreamExt;

/// The oldest Node that the scripts run on.
const NODE_MIN: u32 = 20;
/// So many lines are on their way at once.
const BATCH: usize = 256;
/// How long they may take, which is a thousand times what they do take.
const BATCH_WITHIN: Duration = Duration::from_secs(60);

/// A running script; it ends when it is dropped.
#[derive(Debug)]
pub struct Script {
    name: String,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Script {
    /// Starts `tests/interop/{name}.mjs`; `None` where it cannot run.
    ///
    /// # Panics
    ///
    /// When it cannot run, and `REALTIME_INTEROP` is `required`.
    #[must_use]
    pub fn start(name: &str) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let mut child = Command::new("node")
            .arg(folder().join(name).with_extension("mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts, as it did to tell its version");
        let input = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        let lines = BufReader::new(output).lines();
        Some(Self { name: name.into(), input, lines, _child: child })
    }

    /// Writes one line.
    ///
    /// # Panics
    ///
    /// When the script has ended.
    pub async fn tell(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.unwrap_or_else(|error| panic!("{}.mjs does not listen: {error}", self.name));
    }

    /// Reads one line.
    ///
    /// # Panics
    ///
    /// When the script has ended; what it complained of is on stderr.
    pub async fn line(&mut self) -> String {
        match self.lines.next().await {
            Some(Ok(line)) => line,
            Some(Err(error)) => panic!("{}.mjs cannot be read: {error}", self.name),
            None => panic!("{}.mjs ended", self.name),
        }
    }

    /// Writes every question, and gives each answer to `check` as it comes, with the number of its
    /// question.
    ///
    /// # Panics
    ///
    /// When the script ends before the last answer.
    pub fn ask_all(&mut self, questions: &[String], mut check: impl FnMut(usize, &str)) {
        for (batch, questions) in questions.chunks(BATCH).enumerate() {
            let Self { name, input, lines, .. } = self;
            let text: String = questions.iter().flat_map(|line| [line, "\n"]).collect();
            let ask = async { input.write_all(text.as_bytes()).await };
            let hear = async {
                let mut answers = Vec::new();
                while answers.len() < questions.len() {
                    match lines.next().await {
                        Some(Ok(line)) => answers.push(line),
                        ended => panic!("{name}.mjs stopped answering: {ended:?}"),
                    }
                }
                answers
            };
            let hangs = async {
                Timer::after(BATCH_WITHIN).await;
                panic!("{name}.mjs did not answer in {BATCH_WITHIN:?}");
            };
            let (asked, answers) = smol::block_on(future::zip(ask, hear).or(hangs));
            asked.expect("it answered all");
            for (at, answer) in answers.iter().enumerate() {
                check(batch * BATCH + at, answer);
            }
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// Whether scripts can run; says once why not.
fn can_run() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        let missing = missing();
        if let Some(why) = &missing {
            // Not by a macro, so that it is seen though the tests pass.
            let _ = writeln!(io::stderr(), "left out: comparisons with the npm clients; {why}");
        }
        missing
    });
    let required = env::var("REALTIME_INTEROP").is_ok_and(|value| value == "required");
    match missing {
        Some(why) if required => panic!("REALTIME_INTEROP is `required`, but {why}"),
        missing => missing.is_none(),
    }
}

/// What keeps the scripts from running.
fn missing() -> Option<String> {
    let version = process::Command::new("node").arg("--version").output();
    let Ok(version) = version else {
        return Some(format!("there is no `node`; install Node {NODE_MIN} or newer"));
    };
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default().parse();
    if !major.is_ok_and(|major: u32| major >= NODE_MIN) {
        return Some(format!("node is {version}; install Node {NODE_MIN} or newer"));
    }
    let versions = |path: &str| -> Option<Vec<(String, Value)>> {
        let text = fs::read_to_string(folder().join(path)).ok()?;
        let lock: Value = serde_json::from_str(&text).ok()?;
        let packages = lock["packages"].as_object()?.iter().filter(|(name, _)| !name.is_empty());
        Some(packages.map(|(name, package)| (name.clone(), package["version"].clone())).collect())
    };
    let wanted = versions("package-lock.json").expect("the lock file is part of the repository");
    let wrong = match versions("node_modules/.package-lock.json") {
        None => "not installed",
        Some(installed) if installed != wanted => "not the locked ones",
        Some(_) => return None,
    };
    Some(format!("the packages are {wrong}; run `npm ci` in tests/interop"))
}

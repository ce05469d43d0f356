//! The `realtime` command as a person uses it: several terminals, Ctrl-C, and mistakes.
#![expect(clippy::unwrap_used, reason = "a test fails on what it did not expect")]

use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

/// How long a line may take before the test fails; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn realtime(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_realtime"));
    command.args(arguments).env_remove("REALTIME_APIKEY");
    command
}

fn output(arguments: &[&str]) -> Output {
    realtime(arguments).output().unwrap()
}

/// A command in a terminal of its own; what it prints comes line by line.
struct Terminal {
    child: Child,
    lines: Receiver<String>,
}

impl Terminal {
    fn open(arguments: &[&str]) -> Self {
        let mut child =
            realtime(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The first line to come for which `wanted` holds.
    fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("it did not come; what came: {seen:#?}");
            };
            let value: Value = serde_json::from_str(&line).unwrap();
            if wanted(&value) {
                return value;
            }
            seen.push(line);
        }
    }

    fn wait_for_event(&self, event: &str) -> Value {
        self.wait_for(|line| line["event"] == event)
    }

    fn wait_for_status(&self, status: &str) {
        self.wait_for(|line| line["status"] == status);
    }

    /// Presses Ctrl-C and returns whether the command ended well.
    fn interrupt(mut self) -> bool {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in a terminal, and its URL.
fn serve() -> (Terminal, String) {
    serve_with(&[])
}

fn serve_with(options: &[&str]) -> (Terminal, String) {
    let server = Terminal::open(&[&["--json", "serve", "--addr", "127.0.0.1:0"], options].concat());
    let url = server.wait_for_event("serving")["url"].as_str().unwrap().to_owned();
    (server, url)
}

/// Sends one HTTP request and returns the status line and the body.
fn post(url: &str, path: &str, body: &str) -> (String, String) {
    let address = url.strip_prefix("ws://").unwrap().strip_suffix("/socket").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn a_listener_gets_row_changes_and_broadcasts_and_leaves_on_ctrl_c() {
    let (server, url) = serve();
    let entity = ["--entity", "contact:123", "--tenant", "acme"];
    let mut arguments = vec!["--json", "listen", &url];
    arguments.extend(entity);
    let listener = Terminal::open(&arguments);
    listener.wait_for_status("live");

    let change = r#"{"table":"contacts","type":"INSERT","record":{"id":123,"n":9007199254740993}}"#;
    let (status, body) = post(&url, "/dev/changes", change);
    assert!(status.contains("202"), "{status}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["delivered"], 1);
    let seen = listener.wait_for_event("change");
    assert_eq!(seen["type"], "INSERT");
    assert_eq!(seen["record"]["n"], 9_007_199_254_740_993_i64);

    let mut arguments = vec!["--json", "broadcast", &url, "--event", "cursor", r#"{"x":1}"#];
    arguments.extend(entity);
    assert!(output(&arguments).status.success());
    let seen = listener.wait_for_event("broadcast");
    assert_eq!((&seen["name"], &seen["payload"]["x"]), (&"cursor".into(), &1.into()));

    assert!(listener.interrupt(), "Ctrl-C is a proper end");
    // The broadcaster left first; the second leave is the listener's.
    let first = server.wait_for_event("left");
    let second = server.wait_for_event("left");
    assert_ne!(first["session"], second["session"]);
    assert!(server.interrupt());
}

#[test]
fn people_see_each_other_come_and_go() {
    let (server, url) = serve();
    let present = |name| {
        Terminal::open(&["--json", "presence", &url, "--entity", "contact:1", "--name", name])
    };
    let ana = present("Ana");
    ana.wait_for(|line| line["event"] == "joined" && line["user_name"] == "Ana");
    let ben = present("Ben");
    ana.wait_for(|line| line["event"] == "joined" && line["user_name"] == "Ben");
    ben.wait_for(|line| line["event"] == "joined" && line["user_name"] == "Ana");
    assert!(ben.interrupt());
    ana.wait_for(|line| line["event"] == "left" && line["user_name"] == "Ben");
    assert!(ana.interrupt());
    server.wait_for_event("left");
}

#[test]
fn a_listener_survives_a_cut_and_is_told_what_it_may_have_missed() {
    let (_server, url) = serve();
    let listener = Terminal::open(&["--json", "listen", &url, "--entity", "contact:1"]);
    listener.wait_for_status("live");
    post(&url, "/dev/cut", "");
    listener.wait_for_status("reconnecting");
    let gap = listener.wait_for_event("gap");
    assert!(gap["of"] == "broadcasts" && gap["from_unix_ms"].is_number(), "{gap}");
    let gap = listener.wait_for_event("gap");
    assert_eq!(gap["of"], "changes");
    listener.wait_for_status("live");
}

#[test]
fn a_private_channel_has_what_was_stored_replayed_and_recovers_it_after_a_cut() {
    let (_server, url) = serve_with(&["--allow", "chat:*", "--replication-delay", "0.2"]);
    let say =
        |text: &str| post(&url, "/dev/broadcasts/chat:1/said", &format!("{{\"n\":\"{text}\"}}"));
    say("before");
    let topic = ["realtime:chat:1", "--private", "--replay", "60", "--replication"];
    let channel = Terminal::open(&[&["--json", "channel", &url], &topic[..]].concat());
    assert_eq!(channel.wait_for_event("broadcast")["payload"]["n"], "before");
    let ready = channel.wait_for_event("system");
    assert_eq!(ready["message"], "Replication connection established");
    channel.wait_for_event("live");
    say("after");
    assert_eq!(channel.wait_for_event("broadcast")["payload"]["n"], "after");
    post(&url, "/dev/cut", "");
    let recovered = channel.wait_for_event("recovered");
    assert_eq!(recovered["contiguous"], true, "{recovered}");
    assert!(channel.interrupt());
}

#[test]
fn a_channel_that_waits_for_its_rows_gets_the_chosen_columns_of_those_its_filter_lets_through() {
    let (_server, url) = serve_with(&["--subscribe-delay", "0.2", "--refusal-delay", "0"]);
    let rows = |filter: &'static str| {
        let asked = ["realtime:rows", "--table", "todos", "--wait", "--event", "insert"];
        let chosen = ["--filter", filter, "--select", "task"];
        Terminal::open(&[&["--json", "channel", &url], &asked[..], &chosen].concat())
    };
    let channel = rows("id=gt.1,done=is.true");
    channel.wait_for_event("live");
    for id in [1, 2] {
        let row = format!("{{\"id\":{id},\"task\":\"t{id}\",\"done\":true,\"secret\":1}}");
        let change = format!("{{\"table\":\"todos\",\"type\":\"INSERT\",\"record\":{row}}}");
        post(&url, "/dev/changes", &change);
    }
    let record = &channel.wait_for_event("change")["record"];
    assert_eq!(record, &serde_json::json!({ "id": 2, "task": "t2" }));
    assert!(channel.interrupt());
}

#[test]
fn every_mistake_is_one_clear_sentence_and_a_failure() {
    let (_server, url) = serve();
    let nowhere = url.replace("/socket", "/nowhere");
    let at = |url: &str| ["listen", url, "--entity", "contact:1"].map(str::to_owned);
    let broadcast =
        ["broadcast", &url, "--entity", "contact:1", "--event", "e", "{bad"].map(str::to_owned);
    let mistakes: [(&[String], &str); 5] = [
        (&at("foo"), "`foo` is not a WebSocket URL; write ws://host/path or wss://host/path"),
        (&at("ws://127.0.0.1:1/socket"), "connection refused by 127.0.0.1:1"),
        (&at("ws://nowhere.invalid/socket"), "cannot look up host nowhere.invalid"),
        (&at(&nowhere), "not an endpoint (HTTP 404: not found)"),
        (&broadcast, "the payload is not JSON: key must be a string at line 1 column 2"),
    ];
    for (arguments, sentence) in mistakes {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = output(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        assert!(said.starts_with("error: ") && said.contains(sentence), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_mistake_is_an_object_for_programs() {
    let arguments = ["--json", "listen", "ws://127.0.0.1:1/socket", "--entity", "contact:1"];
    let output = output(&arguments);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said["error"].as_str().unwrap().contains("connection refused"));
    assert!(output.stderr.is_empty() && !output.status.success());
}

#[test]
fn an_api_key_is_sent_and_never_printed() {
    let server =
        Terminal::open(&["--json", "serve", "--addr", "127.0.0.1:0", "--apikey", "s3cret"]);
    let url = server.wait_for_event("serving")["url"].as_str().unwrap().to_owned();
    let wrong = output(&["listen", &url, "--entity", "contact:1", "--apikey", "wr0ng"]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("HTTP 401") && !said.contains("wr0ng"), "{said}");
    let right = realtime(&["broadcast", &url, "--entity", "contact:1", "--event", "e", "{}"])
        .env("REALTIME_APIKEY", "s3cret")
        .output()
        .unwrap();
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
}

#[test]
fn the_demo_ends_well_and_in_json() {
    let output = output(&["--json", "demo"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["ok"], true);
    let reconnected = lines.iter().filter(|line| line["connects"] == 2).count();
    assert_eq!(reconnected, 4, "two channels of each of the two viewers who stayed");
}

#[test]
fn the_demo_runs_against_any_server_and_says_what_it_leaves_out() {
    let (_server, url) = serve();
    let output = output(&["demo", "--url", &url]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("leaving out row changes and the cut"), "{said}");
    assert!(said.contains("Everything arrived"), "{said}");
}

#[test]
fn inspect_describes_every_line_and_ends_well() {
    let mut child = realtime(&["inspect", "--vsn", "2.0.0", "--from", "client"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let frames = "[null,\"4\",\"phoenix\",\"heartbeat\",{}]\n\nhex:00\n";
    child.stdin.take().unwrap().write_all(frames.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["event"], "heartbeat");
    assert!(lines[1]["error"].is_string() && lines[2]["error"].is_string());
}

#[test]
fn a_server_that_was_told_to_refuse_does_and_says_so() {
    let server = Terminal::open(&[
        "--json",
        "serve",
        "--addr",
        "127.0.0.1:0",
        "--allow=elsewhere",
        "--private-only",
        "--refusal-delay=0",
    ]);
    let url = server.wait_for_event("serving")["url"].as_str().unwrap().to_owned();
    let _listener = Terminal::open(&["--json", "listen", &url, "--entity", "contact:123"]);
    let refused = server.wait_for_event("refused");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("This project only allows private channels"), "{detail}");
}

//! One of our nodes and one of Oban for Python on one database: each does its own jobs, and each hears what the other
//! says.
//!
//! Needs a Python in which `import oban` finds version 0.7: that of `OBAN_PYTHON`, or the virtual environment in
//! `target/oban-python`, which `.ci/run` makes where it can. Without it the test says so and ends.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue, Tell};
use singularity::postgres::notifier::message::Signal;
use singularity::postgres::notifier::{self, encoding};
use singularity::queue::{Engine, NewJob, State};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::db::TestDb;
use crate::support::node::{FIXTURE, Fixture, TestNode, job, until};
use crate::support::process::DEADLINE;
use crate::support::said::Ear;
use crate::support::skipped;

/// The version whose behaviour is known.
const VERSION: &str = "0.7.";
/// The worker of the Python node.
const ECHO: &str = "__main__.Echo";

struct Python {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// Said between a command and its answer.
    earlier: VecDeque<Value>,
}

/// The interpreter, or why there is none.
async fn interpreter() -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let path = std::env::var_os("OBAN_PYTHON").map_or_else(|| target.join("oban-python/bin/python"), PathBuf::from);
    let asked = Command::new(&path).args(["-c", "import oban; print(oban.__version__)"]).output().await;
    let output = asked.map_err(|error| format!("{} cannot be run: {error}", path.display()))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if version.starts_with(VERSION) { Ok(path) } else { Err(format!("{} has no oban {VERSION}x", path.display())) }
}

impl Python {
    async fn start(interpreter: PathBuf, db: &TestDb) -> Self {
        let mut child = Command::new(interpreter)
            .arg("-c")
            .arg(include_str!("support/oban_python.py"))
            .arg(db.url().expose_secret())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let stdout = BufReader::new(stdout).lines();
        let mut python = Self { _child: child, stdin, stdout, earlier: VecDeque::new() };
        python.hears("ready", None).await;
        python
    }

    async fn read(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.stdout.next_line()).await.expect("a line in time").unwrap();
        serde_json::from_str(&line.expect("the Python node to run")).unwrap()
    }

    /// Waits until it says that something happened to a job.
    async fn hears(&mut self, event: &str, id: Option<i64>) -> Value {
        let wanted = |said: &Value| said["event"] == event && id.is_none_or(|id| said["id"] == id);
        if let Some(at) = self.earlier.iter().position(wanted) {
            return self.earlier.remove(at).unwrap();
        }
        loop {
            let said = self.read().await;
            if wanted(&said) {
                return said;
            }
            self.earlier.push_back(said);
        }
    }

    /// Lets it do something and returns its answer.
    async fn tell(&mut self, command: Value) -> Value {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = self.hears("answer", None).await;
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }
}

fn settings(config: &mut Config) {
    // Jobs are found because somebody says so, or not in time.
    let queue = Queue { limit: 5, poll_interval: Period::from_secs(3_600), ..Queue::default() };
    config.queues.insert("default".into(), queue);
    config.services.gossip.send = Tell::Always;
    config.services.metrics.send = Tell::Always;
}

#[tokio::test]
async fn a_python_node_and_ours_share_a_database() {
    let interpreter = match interpreter().await {
        Ok(interpreter) => interpreter,
        Err(reason) => return skipped(&reason),
    };
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let mut ear = Ear::new(&database).await;
    let node = TestNode::start(db.url(), "rust-1", &fixture, settings).await;
    let mut python = Python::start(interpreter, &db).await;

    let engine = Engine::new(database.clone());

    // Jobs, both ways: inserted by one, done by the other, as soon as it is told.
    let ours = engine.insert(NewJob::new(ECHO, json!({"from": "rust"})).queue("python")).await.unwrap().id;
    assert_eq!(python.hears("finished", Some(ours)).await["args"], json!({"from": "rust"}));
    node.reaches(ours, State::Completed).await;
    let fails_once = json!({"do": "enqueue", "worker": FIXTURE, "queue": "default", "args": {"do": "error_once"}});
    let theirs = python.tell(fails_once).await["id"].as_i64().unwrap();
    let done = node.reaches(theirs, State::Completed).await;
    assert_eq!((done.attempt, done.errors.len(), done.attempted_by[0].as_str()), (2, 1, "rust-1"));

    // Cancel, both ways, while it runs.
    let held = engine.insert(job(json!({"do": "hold"}))).await.unwrap().id;
    fixture.started(held).await;
    python.tell(json!({"do": "cancel", "id": held})).await;
    fixture.ended(held).await;
    node.reaches(held, State::Cancelled).await;
    assert_eq!(fixture.starts_of(held), 1);
    let held = engine.insert(NewJob::new(ECHO, json!({"do": "hold"})).queue("python")).await.unwrap().id;
    python.hears("started", Some(held)).await;
    engine.cancel(held).await.unwrap();
    python.hears("cancelled", Some(held)).await;
    node.reaches(held, State::Cancelled).await;

    // Queue control, both ways.
    let queue = node.queues().get("default").unwrap();
    for (command, paused) in [("pause", true), ("resume", false)] {
        python.tell(json!({"do": command, "queue": "default"})).await;
        until(command, || async { (queue.is_paused() == paused).then_some(()) }).await;
    }
    python.tell(json!({"do": "scale", "queue": "default", "limit": 7})).await;
    until("scaling", || async { (queue.limit() == 7).then_some(()) }).await;
    let ident = || Some("any".to_owned());
    let signals = [
        Signal::Scale { queue: "python".into(), ident: ident(), limit: 2 },
        Signal::Pause { queue: "python".into(), ident: ident() },
    ];
    notifier::notify(database.pool(), &database.channel("signal"), &signals).await.unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let check = python.tell(json!({"do": "check"})).await;
        if check["paused"] == true && check["limit"] == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{check}");
    }

    // Compressed texts, both ways.
    let long = json!({"checks": vec!["the same again"; 1_000]});
    let written = encoding::write(&long).unwrap();
    assert!(written.as_str().starts_with("H4sI"));
    assert_eq!(python.tell(json!({"do": "decode", "payload": written.as_str()})).await["json"], long);
    let theirs = python.tell(json!({"do": "encode", "json": {"queue": "default"}})).await["payload"].clone();
    assert_eq!(encoding::read(theirs.as_str().unwrap()).unwrap(), r#"{"queue":"default"}"#);

    // Both talk to dashboards in the same words: the ear refuses every key that it does not expect.
    let mut seen = (false, false);
    while seen != (true, true) {
        let said = ear.next().await;
        if said.channel == "gossip" {
            let node = said.json["checks"][0]["node"].as_str().unwrap().to_owned();
            assert_eq!(said.text.starts_with("H4sI"), node == "python-1", "{node} wrote {}", said.text);
            seen = (seen.0 || node == "rust-1", seen.1 || node == "python-1");
        }
    }
    node.shutdown().await;
}

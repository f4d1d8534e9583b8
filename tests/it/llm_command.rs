//! Local programs as models, with real programs: what they are given, what their answers are, and that nothing of them
//! outlives a call.

use std::path::Path;
use std::time::{Duration, Instant};

use singularity::config::{
    Command, CommandOutput, Config, ExitMeaning, Model, Period, Price, Provider, ProviderKind, SecretRef, Timeouts,
};
use singularity::llm::{ChatRequest, ErrorClass, Gateway, LlmError, Message, Role, Usage};

use crate::support::node::until;

/// A shell script as a program; the shell is the program's, not ours.
fn script(text: &str, args: &[&str]) -> Command {
    let args = ["-c", text, "sh"].iter().chain(args).map(|text| (*text).to_owned()).collect();
    Command { program: "sh".into(), args, ..Command::default() }
}

fn config(command: Command, total: Period) -> Config {
    let provider = Provider {
        kind: ProviderKind::Command,
        command: Some(command),
        timeouts: Timeouts { total, ..Timeouts::default() },
        ..Provider::default()
    };
    let model = Model { provider: "cli".into(), name: "local-1".into(), ..Model::default() };
    Config {
        providers: [("cli".to_owned(), provider)].into(),
        models: [("m".to_owned(), model)].into(),
        ..Config::default()
    }
}

fn gateway(command: Command) -> Gateway {
    Gateway::new(&config(command, Period::from_secs(60))).unwrap()
}

async fn fail(command: Command) -> LlmError {
    gateway(command).chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap_err()
}

/// Whether a process is there and has not ended.
fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

async fn written(path: &Path) -> String {
    let text = || async { std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')) };
    until("the script to say who it is", text).await.trim().to_owned()
}

async fn is_gone(pid: &str) {
    until(&format!("process {pid} to be gone"), || async { (!is_alive(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn a_program_gets_prompt_and_arguments_and_prints_the_answer() {
    let command = script(
        r#"printf 'model=%s max=%s system=%s prompt=' "$1" "$2" "$3"; cat"#,
        &["{model}", "{max_tokens}", "{system}"],
    );
    let mut request = ChatRequest { max_tokens: Some(9), ..ChatRequest::prompt("what's $HOME?") };
    request.messages.insert(0, Message { role: Role::System, content: "be \"brief\"; rm -rf /nowhere".into() });
    let answer = gateway(command).chat("m", &request, 1).await.unwrap();
    let expected = r#"model=local-1 max=9 system=be "brief"; rm -rf /nowhere prompt=what's $HOME?"#;
    assert_eq!(answer.text, expected);
    assert_eq!((answer.model.as_str(), answer.provider.as_str(), answer.simulated), ("m", "cli", false));
    assert!(answer.usage_estimated && answer.usage.output > 0);
    // No price is known, so the cost is unknown and not nothing.
    assert_eq!(answer.cost.nanousd, None);
}

#[tokio::test]
async fn a_json_document_holds_answer_and_usage() {
    let document =
        r#"{"result":"forty-two","usage":{"input_tokens":2,"cache_read_input_tokens":1000,"output_tokens":3}}"#;
    let command = Command {
        output: CommandOutput::Json,
        text_at: Some("/result".into()),
        usage_at: Some("/usage".into()),
        ..script(&format!("cat >/dev/null; printf '%s' '{document}'"), &[])
    };
    let mut config = config(command, Period::from_secs(60));
    let price = Price { input: 2.0, output: 10.0, cache_read: Some(0.1), cache_write: None };
    config.models.get_mut("m").unwrap().price = Some(price);
    let answer = Gateway::new(&config).unwrap().chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap();
    let usage = Usage { input_fresh: 2, input_cache_read: 1000, output: 3, ..Usage::default() };
    assert_eq!((answer.text.as_str(), answer.usage, answer.usage_estimated), ("forty-two", usage, false));
    assert_eq!(answer.cost.nanousd, Some(4_000 + 100_000 + 30_000));
    assert_eq!(answer.raw_usage["cache_read_input_tokens"], 1000);
}

#[tokio::test]
async fn a_large_prompt_passes_also_when_nobody_reads_it() {
    let large = "x".repeat(1024 * 1024);
    let answer = gateway(script("wc -c", &[])).chat("m", &ChatRequest::prompt(&large), 1).await.unwrap();
    assert_eq!(answer.text.trim(), "1048576");
    let answer = gateway(script("echo ok", &[])).chat("m", &ChatRequest::prompt(&large), 1).await.unwrap();
    assert_eq!(answer.text, "ok");
}

#[tokio::test]
async fn time_out_kills_the_program_and_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    // The child ignores what can be ignored, and so does its parent.
    let text = r#"trap '' TERM HUP INT; (trap '' TERM HUP INT; sleep 1000) & echo $! > "$1"; wait"#;
    let config = config(script(text, &[file.to_str().unwrap()]), Period::from_millis(1_500));
    let error = Gateway::new(&config).unwrap().chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.message.contains("did not end within 1500ms, the time limit total"), "{}", error.message);
    is_gone(&written(&file).await).await;
}

#[tokio::test]
async fn a_dropped_call_kills_the_program_and_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let gateway = gateway(script(r#"sleep 1000 & echo $$ $! > "$1"; wait"#, &[file.to_str().unwrap()]));
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move { gateway.chat("m", &ChatRequest::prompt("hi"), 1).await.map(drop) });
    let pids = written(&file).await;
    assert!(pids.split(' ').all(is_alive), "{pids}");
    calls.abort_all();
    assert!(calls.join_next().await.unwrap().unwrap_err().is_cancelled());
    for pid in pids.split(' ') {
        is_gone(pid).await;
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_children_that_go_on_and_kills_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    // The child keeps standard output open.
    let command = script(r#"sleep 1000 & echo $! > "$1"; echo done"#, &[file.to_str().unwrap()]);
    let started = Instant::now();
    let answer = gateway(command).chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap();
    assert_eq!(answer.text, "done");
    assert!(started.elapsed() < Duration::from_secs(50), "the limit of the call is what ended it");
    is_gone(&written(&file).await).await;
}

#[tokio::test]
async fn too_much_output_is_refused_by_its_limit() {
    let error = fail(script("yes", &[])).await;
    assert_eq!(error.class, ErrorClass::Permanent);
    assert!(error.message.contains("printed more than 8388608 bytes"), "{}", error.message);
}

#[tokio::test]
async fn a_failure_has_the_class_of_its_exit_code_and_the_end_of_its_errors() {
    let text = "i=0; while [ $i -lt 2000 ]; do echo noise >&2; i=$((i + 1)); done; echo 'quota used up until 5 pm' >&2; exit 3";
    let mut command = script(text, &[]);
    let error = fail(command.clone()).await;
    assert_eq!((error.class, error.sent), (ErrorClass::Transient, true));
    assert!(error.message.starts_with("the program ended with exit code 3: …"), "{}", error.message);
    assert!(error.message.ends_with("noise quota used up until 5 pm"), "{}", error.message);
    assert!(error.message.len() < 600, "{}", error.message.len());
    command.exit_codes.insert("3".into(), ExitMeaning::Throttled);
    assert_eq!(fail(command).await.class, ErrorClass::Throttled);
    assert_eq!(fail(script("kill -9 $$", &[])).await.message, "the program was ended by signal 9");
    assert_eq!(fail(script("exit 0", &[])).await.message, "the program printed nothing");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_mistake_of_the_configuration() {
    let command = Command { program: "singularity-no-such-program".into(), ..Command::default() };
    let error = fail(command).await;
    assert_eq!((error.class, error.sent), (ErrorClass::Misconfigured, false));
    assert!(error.message.contains("install it, or write its path"), "{}", error.message);
}

#[tokio::test]
async fn a_program_does_not_get_the_secrets_of_others() {
    let mut config = config(script("echo \"[$HOME] [$USER_FOR_TEST] [$PATH]\"", &[]), Period::from_secs(60));
    // Any variable that is set; what it holds is not a secret here.
    let other = Provider { api_key: Some(SecretRef::env("HOME")), ..Provider::default() };
    config.providers.insert("other".into(), other);
    config.database.url = SecretRef::env("USER_FOR_TEST");
    let answer = Gateway::new(&config).unwrap().chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap();
    assert!(answer.text.starts_with("[] [] [/"), "{}", answer.text);
    // Its own it gets.
    let own = config.providers.get_mut("cli").unwrap();
    own.api_key = Some(SecretRef::env("HOME"));
    let answer = Gateway::new(&config).unwrap().chat("m", &ChatRequest::prompt("hi"), 1).await.unwrap();
    assert!(answer.text.starts_with("[/"), "{}", answer.text);
}

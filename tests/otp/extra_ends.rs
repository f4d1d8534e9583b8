//! How lives end here and not on BEAM: panics, kills, runtimes that go down, time-outs, code that hogs its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use singularity::supervision::*;

use super::kit::{Do, Kit, Script, Start, WIDE, Worker, ms, root, until, within};
use super::log::Log;

#[tokio::test(start_paused = true)]
async fn x01_exit_reasons_are_distinct() {
    let kit = Kit::new();
    let [panics, fails, killed] = kit.workers(["panics", "fails", "killed"]);
    let (_running, _) = kit.root(Strategy::OneForOne, [&panics, &fails, &killed]).await;
    panics.panics();
    fails.tell(Do::Fail);
    kit.kill("/killed");
    for path in ["/panics", "/fails", "/killed"] {
        kit.runs(path, 2).await;
    }
    let [ExitReason::Panic(crash)] = &kit.exits("/panics")[..] else { panic!("not a panic") };
    assert_eq!((crash.text.as_str(), crash.doing.as_str()), ("told to panic", "panic"));
    assert_eq!((crash.path.as_str(), crash.incarnation, crash.actor.as_str()), ("/panics", 1, "Puppet"));
    assert!(crash.location.as_ref().unwrap().contains("kit.rs:"));
    assert_eq!(kit.exits("/fails"), [ExitReason::Error(Box::new(ErrorInfo::text("told to fail")))]);
    assert_eq!(kit.exits("/killed"), [ExitReason::Killed]);
    assert!(!kit.system.kill("/none"));
}

#[tokio::test(start_paused = true)]
async fn x01_a_panic_in_cleanup_is_a_panic() {
    let kit = Kit::new();
    let x = Worker::new(Script { stop_panics: true, ..kit.script("x") });
    let (running, _) = kit.root(Strategy::OneForOne, [&x]).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert!(matches!(&kit.exits("/x")[..], [ExitReason::Panic(crash)] if crash.doing == "stopped"));
}

#[test]
fn x01_a_runtime_that_goes_down_aborts() {
    let kit = Kit::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let running = runtime.block_on(kit.start(root(Strategy::OneForOne).child(kit.worker("a").spec)));
    runtime.shutdown_background();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(other.block_on(within(running.wait())), ExitReason::Aborted);
}

#[tokio::test(start_paused = true)]
async fn x02_a_panic_in_a_start_is_an_error_value() {
    let kit = Kit::new();
    let x = kit.worker("x");
    for (start, doing) in [(Start::Panics, "init"), (Start::PanicsEarly, "start")] {
        x.starts(start);
        let error = kit.system.start(root(Strategy::OneForOne).child(x.spec.clone())).await.unwrap_err();
        let StartError::Child { source, .. } = error else { panic!("not the child") };
        let StartError::Panic(crash) = *source else { panic!("not a panic") };
        assert_eq!((crash.doing.as_str(), crash.location.is_some(), x.is_up()), (doing, true, false));
    }
    // And in a restart it is tried again.
    x.starts(Start::Runs);
    let (_running, _) = kit.root(Strategy::OneForOne, [&x]).await;
    x.next_starts([Start::Panics, Start::PanicsEarly]);
    x.panics();
    until(|| kit.node("/x").restarts_total == 3).await;
    until(|| x.is_up()).await;
}

#[tokio::test(start_paused = true)]
async fn x03_start_timeout() {
    let kit = Kit::new();
    let slow = Worker::new(Script { init_takes: ms(60_000), notes_drop: true, ..kit.script("slow") });
    let slow = slow.with(|spec| spec.start_timeout(ms(500)).registered("slow"));
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    let began = tokio::time::Instant::now();
    let error = handle.start_child(slow.spec.clone()).await.unwrap_err();
    assert_eq!(error, StartChildError::Start(StartError::Timeout(ms(500))));
    assert_eq!((began.elapsed(), slow.is_up()), (ms(500), false));
    super::kit::settle().await;
    assert!(kit.system.registered().is_empty() && kit.find("/slow").is_none());
    let quick = kit.worker("slow").with(|spec| spec.registered("slow"));
    assert!(handle.start_child(quick.spec).await.is_ok(), "name and place are free");
    // In the first list it fails the start, and those before it are stopped.
    let kit = Kit::new();
    let error = kit.system.start(root(Strategy::OneForOne).children([kit.worker("a").spec, slow.spec])).await;
    assert_eq!(error.unwrap_err().to_string(), "child \"slow\" failed to start: did not start within 500 ms");
    assert_eq!(kit.journal.take(), ["start a", "stop a"]);
}

/// Makes an actor hog its thread until the result is set.
async fn hog(worker: &Worker) -> Arc<AtomicBool> {
    // A task that wakes another and then hogs its thread keeps that other one waiting in tokio's LIFO slot. So its
    // supervisor must have heard of its start before.
    worker.ping().await.unwrap();
    tokio::time::sleep(ms(10)).await;
    let released = Arc::new(AtomicBool::new(false));
    worker.tell(Do::Hog(released.clone()));
    until(|| worker.address.depth() == 0).await;
    released
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_a_child_that_hogs_its_thread() {
    let kit = Kit::new();
    let first = kit.worker("first");
    let stuck = kit.worker("stuck").with(|spec| spec.shutdown(Shutdown::Timeout(ms(50))));
    let (running, handle) = kit.root(Strategy::OneForAll, [&first, &stuck]).await;
    let mut events = kit.system.events();
    let released = hog(&stuck).await;
    first.panics();
    kit.is("/stuck", NodeState::Zombie).await;
    assert_eq!(handle.terminate_child("stuck").await, Err(ChildError::Zombie));
    assert_eq!(handle.restart_child("stuck").await, Err(ChildError::Zombie));
    first.panics();
    kit.runs("/first", 3).await;
    assert_eq!((kit.node("/stuck").state, kit.lives(["/stuck"])), (NodeState::Zombie, [1]));
    released.store(true, Ordering::SeqCst);
    kit.runs("/stuck", 2).await;
    assert_eq!(kit.journal.take(), ["start first", "start first", "start stuck"]);
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        kinds.push(event.kind);
    }
    assert!(kinds.contains(&SupervisionEventKind::Zombie) && kinds.contains(&SupervisionEventKind::ZombieGone));
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_an_end_with_a_hog_returns_in_time_and_leaves_a_zombie_in_the_tree() {
    let kit = Kit::new();
    let stuck = kit.worker("stuck").with(|spec| spec.shutdown(Shutdown::Timeout(ms(50))));
    let (running, _) = kit.root(Strategy::OneForOne, [&stuck]).await;
    let released = hog(&stuck).await;
    let began = std::time::Instant::now();
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert!(began.elapsed() < ms(50) + 3 * KILL_WAIT_MAX, "{:?}", began.elapsed());
    assert_eq!(kit.node("/stuck").state, NodeState::Zombie);
    released.store(true, Ordering::SeqCst);
    until(|| !stuck.is_up()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_the_policy_may_replace_it() {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(1, WIDE).await;
    let timed = |spec: ChildSpec| spec.restart(Restart::Temporary).shutdown(Shutdown::Timeout(ms(50)));
    let stuck = kit.worker("stuck").with(timed);
    let child = handle.start_child(stuck.spec.clone()).await.unwrap();
    let released = hog(&stuck).await;
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::Zombie));
    assert!(handle.start_child(kit.worker("next").spec).await.is_ok(), "replace is the default of dynamic children");
    released.store(true, Ordering::SeqCst);
    assert_eq!(within(child.ended()).await, ExitReason::Killed);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn x06_stop_twice() {
    let kit = Kit::new();
    let x = kit.slow("x", ms(1_000));
    let (running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    let (first, second) = tokio::join!(running.stop(), running.stop());
    assert_eq!((first, second), (ExitReason::Shutdown, ExitReason::Shutdown));
    assert_eq!(kit.journal.take(), ["stop x"]);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    // A child: the second request waits for the first.
    let (_running, handle2) = kit.root(Strategy::OneForOne, [&x]).await;
    let both = tokio::join!(handle2.terminate_child("x"), handle2.terminate_child("x"));
    assert_eq!((both, kit.journal.take()), ((Ok(()), Ok(())), vec!["stop x".to_owned()]));
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn x12_snapshot_during_a_long_shutdown() {
    let kit = Kit::new();
    let minute = Duration::from_secs(60);
    let slow = kit.slow("slow", minute).with(|spec| spec.shutdown(Shutdown::Timeout(2 * minute)));
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(slow.spec).into_child();
    let running = kit.start(root(Strategy::OneForOne).child(sub)).await;
    let watch = async {
        kit.journal.lines(1).await;
        tokio::time::sleep(minute / 2).await;
        for path in ["/", "/sub", "/sub/slow"] {
            assert_eq!(kit.node(path).state, NodeState::Stopping, "{path}");
        }
        let slow = kit.node("/sub/slow");
        assert_eq!(slow.current_message.as_deref(), Some("stopped"));
        assert!(slow.busy_ms.unwrap() >= 29_000);
    };
    tokio::join!(running.stop(), watch);
    assert_eq!(kit.node("/sub/slow").state, NodeState::Stopped);
}

#[test]
fn x16_panic_abort_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let library = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/supervision/mod.rs")).unwrap();
    let begin = library.find("#[cfg(panic = \"abort\")]").expect("the library refuses it");
    let length = library[begin..].find(");").unwrap() + 2;
    let guard = &library[begin..begin + length];
    assert!(guard.contains("compile_error!"), "{guard}");
    // The compiler does as it says.
    let file = folder.path().join("guard.rs");
    std::fs::write(&file, guard).unwrap();
    let compile = |panic: &str| {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let arguments = ["--edition=2024", "--crate-type=lib", "--emit=metadata", "-C"];
        let mut command = std::process::Command::new(rustc);
        command.args(arguments).arg(format!("panic={panic}")).arg("--out-dir").arg(folder.path()).arg(&file);
        command.output().expect("the compiler runs")
    };
    let unwind = compile("unwind");
    assert!(unwind.status.success(), "{}", String::from_utf8_lossy(&unwind.stderr));
    let abort = compile("abort");
    assert!(!abort.status.success());
    let said = String::from_utf8_lossy(&abort.stderr).into_owned();
    assert!(said.contains("a crash of one actor must not end the process"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn s90_format_log_2() {
    let log = Log::default();
    let logging = log.here();
    let kit = Kit::new();
    let text = "line one\nline two ".repeat(ERROR_TEXT_BYTES_MAX);
    let x = ChildSpec::supervisor("x", move || Err(ActorError::msg(text.clone())));
    assert!(kit.system.start(root(Strategy::OneForOne).child(x)).await.is_err());
    let reports = log.lines(&["ERROR sup.report", "errorContext=\"start_error\"", "offender.id=x"]);
    assert_eq!(reports.len(), 1);
    assert!(reports[0].len() < 3 * ERROR_TEXT_BYTES_MAX, "{} bytes", reports[0].len());
    assert!(!reports[0].contains('\n') && reports[0].contains("… (cut)"));
    drop(logging);
}

#[tokio::test(start_paused = true)]
async fn s90_reports_carry_the_field_names_of_otp() {
    let log = Log::default();
    let _logging = log.here();
    let kit = Kit::new();
    let x = kit.worker("x");
    let spec = root(Strategy::OneForOne).intensity(super::kit::restarts(1)).child(x.spec.clone());
    let running = kit.start(spec).await;
    x.panics();
    kit.runs("/x", 2).await;
    x.panics();
    running.wait().await;
    let started = ["INFO sup.progress", "supervisor=/ ", "started.id=x", "started.restart_type=permanent"];
    assert_eq!(log.lines(&started).len(), 2);
    assert_eq!(log.lines(&["sup.progress", "started.shutdown=5000ms", "started.child_type=worker"]).len(), 2);
    let ended = ["ERROR sup.report", "errorContext=\"child_terminated\"", "offender.id=x", "offender.pid=/x"];
    assert_eq!(log.lines(&ended).len(), 2);
    let crashed = ["ERROR sup.crash", "initial_call=\"Puppet\"", "pid=/x ", "message_queue_len=0", "location=\"tests/"];
    assert_eq!(log.lines(&crashed).len(), 2);
    let melted = ["ERROR sup.report", "errorContext=\"shutdown\"", "reached_max_restart_intensity"];
    assert_eq!(log.lines(&melted).len(), 1);
}

//! Tasks, after Elixir's Task.Supervisor suite: names that begin with a row of it are its cases.

use std::sync::{Arc, mpsc};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::kit::{Journal, Kit, ms, root, until};
use crate::supervision::*;

/// A dynamic supervisor at `/tasks`.
async fn tasks(kit: &Kit, max_children: usize) -> (Running, DynamicHandle) {
    let handle = DynamicHandle::new();
    let spec = DynamicSupervisorSpec::new("tasks", max_children).into_child(&handle);
    (kit.start(root(Strategy::OneForOne).child(spec)).await, handle)
}

/// Runs until it is dropped, heeding nothing; notes when it begins and is dropped.
fn stubborn(journal: &Journal) -> ChildSpec {
    let journal = journal.clone();
    ChildSpec::task("stubborn", move |_| {
        let journal = journal.clone();
        async move {
            journal.note("begin");
            let _noted = NotesDrop(journal);
            std::future::pending().await
        }
    })
}

/// Ends as soon as it is told to.
fn heedful() -> ChildSpec {
    ChildSpec::task("heedful", |ctx| async move {
        ctx.cancellation().cancelled().await;
        Ok(())
    })
}

struct NotesDrop(Journal);

impl Drop for NotesDrop {
    fn drop(&mut self) {
        self.0.note("drop");
    }
}

/// How the child ended last.
async fn exit(probe: &Probe) -> ExitReason {
    until(|| !probe.history().is_empty()).await;
    probe.history().last().unwrap().reason.clone()
}

async fn started(handle: &DynamicHandle, spec: ChildSpec) -> ChildRef {
    handle.start_child(spec).await.expect("the task starts")
}

fn text(reason: &ExitReason) -> String {
    reason.to_string()
}

#[tokio::test(start_paused = true)]
async fn t07_t12_tasks_above_the_limit_are_refused() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 1).await;
    let first = started(&handle, heedful()).await;
    assert_eq!(handle.start_child(heedful()).await.unwrap_err(), StartChildError::MaxChildren(1));
    handle.terminate_child(&first).await.unwrap();
    started(&handle, heedful()).await;
}

#[tokio::test(start_paused = true)]
async fn t14_a_task_runs_to_its_end_and_is_forgotten() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let journal = kit.journal.clone();
    let spec = ChildSpec::task("x", move |ctx| {
        journal.note(format!("{} in life {}", ctx.path(), ctx.incarnation().0));
        async { Ok(()) }
    });
    assert_eq!((spec.rules().restart, spec.rules().kind), (Restart::Temporary, ChildKind::Worker));
    let task = started(&handle, spec).await;
    assert_eq!(task.ended().await, ExitReason::Normal);
    assert_eq!(kit.journal.take(), ["/tasks/x in life 1"]);
    until(|| kit.system.probe("/tasks/x").is_none()).await;
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts::default());
}

#[tokio::test(start_paused = true)]
async fn an_error_and_a_panic_are_told_with_text_and_place() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let fails = started(&handle, ChildSpec::task("fails", |_| async { Err(ActorError::msg("no luck")) })).await;
    assert_eq!(fails.ended().await, ExitReason::Error(Box::new(ErrorInfo::text("no luck"))));
    let permits = Arc::new(Semaphore::new(1));
    let panics = ChildSpec::task("panics", |_| async { panic!("number {}", 7) });
    let blocks = ChildSpec::blocking_task("blocks", &permits, |_| panic!("number {}", 7));
    for spec in [panics, blocks] {
        let ExitReason::Panic(crash) = started(&handle, spec).await.ended().await else { panic!("it panicked") };
        assert_eq!((crash.text.as_str(), crash.doing.as_str(), crash.actor.as_str()), ("number 7", "run", "Task"));
        assert!(crash.location.as_deref().is_some_and(|place| place.contains("tests/tasks.rs:")), "{crash:?}");
    }
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn t16_a_stop_is_told_by_the_token_and_then_waits_for_the_shutdown_time() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let task = started(&handle, heedful()).await;
    let before = tokio::time::Instant::now();
    handle.terminate_child(&task).await.unwrap();
    assert_eq!((exit(task.probe()).await, before.elapsed()), (ExitReason::Shutdown, ms(0)));

    let task = started(&handle, stubborn(&kit.journal).shutdown(Shutdown::Timeout(ms(300)))).await;
    assert_eq!(kit.journal.lines(1).await, ["begin"]);
    let before = tokio::time::Instant::now();
    handle.terminate_child(&task).await.unwrap();
    assert_eq!(kit.journal.take(), ["drop"], "dropped before the stop is done");
    assert_eq!((exit(task.probe()).await, before.elapsed()), (ExitReason::Killed, ms(300)));
}

#[tokio::test(start_paused = true)]
async fn t17_the_restart_type_is_honoured() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let journal = kit.journal.clone();
    let spec = ChildSpec::task("x", move |ctx| {
        let journal = journal.clone();
        async move {
            journal.note(format!("life {}", ctx.incarnation().0));
            if ctx.incarnation().0 < 3 { Err(ActorError::msg("again")) } else { Ok(()) }
        }
    });
    let task = started(&handle, spec.restart(Restart::Transient)).await;
    until(|| kit.system.probe("/tasks/x").is_none()).await;
    assert_eq!(kit.journal.take(), ["life 1", "life 2", "life 3"]);
    let ends: Vec<_> = task.probe().history().iter().map(|end| text(&end.reason)).collect();
    assert_eq!(ends, ["error: again", "error: again", "normal"]);
}

#[tokio::test(start_paused = true)]
async fn t19_a_terminated_task_is_not_found_again() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let task = started(&handle, heedful()).await;
    handle.terminate_child(&task).await.unwrap();
    assert_eq!(handle.terminate_child(&task).await.unwrap_err(), ChildError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn t20_code_that_is_over_its_time_is_told_and_then_dropped() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let before = tokio::time::Instant::now();
    let task = started(&handle, heedful().task_time_limit(ms(200))).await;
    assert_eq!(text(&task.ended().await), "error: timed out after 200 ms");
    assert_eq!(before.elapsed(), ms(200));

    let stubborn = stubborn(&kit.journal).task_time_limit(ms(200)).shutdown(Shutdown::Timeout(ms(300)));
    let before = tokio::time::Instant::now();
    assert_eq!(text(&started(&handle, stubborn).await.ended().await), "error: timed out after 200 ms");
    assert_eq!(before.elapsed(), ms(500));
    assert_eq!(kit.journal.take(), ["begin", "drop"]);

    let quick = ChildSpec::task("quick", |_| async { Ok(()) }).task_time_limit(ms(200));
    assert_eq!(started(&handle, quick).await.ended().await, ExitReason::Normal);
}

#[tokio::test(start_paused = true)]
async fn t26_no_code_outlives_its_task() {
    let kit = Kit::new();
    let (running, handle) = tasks(&kit, 10).await;
    let task = started(&handle, stubborn(&kit.journal)).await;
    assert_eq!(kit.journal.lines(1).await, ["begin"]);
    task.kill();
    assert_eq!(task.ended().await, ExitReason::Killed);
    assert_eq!(kit.journal.take(), ["drop"]);

    for _ in 0..3 {
        started(&handle, stubborn(&kit.journal)).await;
    }
    kit.journal.lines(3).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["drop"; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_a_task_started_by_its_token_learns_of_a_kill() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let (sender, mut tokens) = tokio::sync::mpsc::unbounded_channel::<CancellationToken>();
    let spec = ChildSpec::task("x", move |ctx| {
        sender.send(ctx.cancellation().clone()).unwrap();
        std::future::pending()
    });
    let task = started(&handle, spec).await;
    let token = tokens.recv().await.unwrap();
    assert!(!token.is_cancelled());
    task.kill();
    task.ended().await;
    assert!(token.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn code_that_uses_up_what_it_owns_runs_once() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let (journal, owned) = (kit.journal.clone(), String::from("owned"));
    let spec = ChildSpec::task_once("x", move |_| async move {
        journal.note(owned);
        Ok(())
    });
    started(&handle, spec.clone()).await.ended().await;
    assert_eq!(kit.journal.take(), ["owned"]);
    let again = handle.start_child(spec).await.unwrap_err();
    assert!(again.to_string().contains("only once"), "{again}");
}

/// A blocking child that ends when it is sent something, whatever it is told.
fn blocking(permits: &Arc<Semaphore>, journal: &Journal) -> (ChildSpec, mpsc::Sender<()>) {
    let (sender, end) = mpsc::channel();
    let (end, journal) = (std::sync::Mutex::new(end), journal.clone());
    let spec = ChildSpec::blocking_task("x", permits, move |ctx| {
        journal.note(format!("begin {}", ctx.incarnation().0));
        end.lock().unwrap().recv().unwrap();
        journal.note(format!("end {}", ctx.incarnation().0));
        Ok(())
    });
    (spec.shutdown(Shutdown::Timeout(ms(100))), sender)
}

/// Waits while code blocks: tokio then does not move the paused clock by itself.
async fn until_blocked(mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "the condition holds in time");
        tokio::time::advance(ms(10)).await;
        std::thread::yield_now();
    }
}

#[tokio::test(start_paused = true)]
async fn blocking_code_waits_for_a_permit_and_keeps_it_to_its_end() {
    let kit = Kit::new();
    let (_running, handle) = tasks(&kit, 10).await;
    let permits = Arc::new(Semaphore::new(1));
    let (first, end_first) = blocking(&permits, &kit.journal);
    let first = started(&handle, first.with_id("first")).await;
    until_blocked(|| kit.journal.len() == 1).await;
    assert_eq!(kit.node("/tasks/first/blocking").state, NodeState::Running);
    let (second, end_second) = blocking(&permits, &kit.journal);
    let second = started(&handle, second.with_id("second")).await;
    let (third, _) = blocking(&permits, &kit.journal);
    let third = started(&handle, third.with_id("third")).await;
    handle.terminate_child(&third).await.unwrap();
    assert_eq!(exit(third.probe()).await, ExitReason::Shutdown, "it waited for a permit only");
    end_first.send(()).unwrap();
    assert_eq!(first.ended().await, ExitReason::Normal);
    end_second.send(()).unwrap();
    assert_eq!(second.ended().await, ExitReason::Normal);
    assert_eq!(kit.journal.take(), ["begin 1", "end 1", "begin 1", "end 1"]);
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn blocking_code_that_does_not_end_holds_up_its_next_life() {
    let kit = Kit::new();
    let permits = Arc::new(Semaphore::new(1));
    let (spec, end) = blocking(&permits, &kit.journal);
    let running = kit.start(root(Strategy::OneForOne).child(spec.restart(Restart::Permanent))).await;
    until_blocked(|| kit.journal.len() == 1).await;
    kit.kill("/x");
    until_blocked(|| kit.node("/x").state == NodeState::Zombie).await;
    assert_eq!((kit.journal.take(), permits.available_permits()), (vec!["begin 1".to_owned()], 0));
    end.send(()).unwrap();
    until_blocked(|| kit.journal.len() == 2).await;
    assert_eq!(kit.journal.take(), ["end 1", "begin 2"], "two lives never work at once");
    end.send(()).unwrap();
    drop(end);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

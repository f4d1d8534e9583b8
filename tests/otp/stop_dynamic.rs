//! How dynamic supervisors stop their children: side by side, each in its own way.

use singularity::supervision::*;
use tokio::time::Instant;

use super::kit::{Do, Kit, Script, Start, WIDE, Worker, counts, ms, noted, settle};

/// Children of a dynamic supervisor that is made to end.
struct Brood {
    kit: Kit,
    running: Running,
    handle: DynamicHandle,
    children: Vec<ChildRef>,
}

impl Brood {
    async fn new() -> Self {
        let kit = Kit::new();
        let (running, handle) = kit.dynamic(100, WIDE).await;
        Self { kit, running, handle, children: Vec::new() }
    }

    /// Adds a child that takes so long to stop.
    async fn add(&mut self, stop_takes: u64, shutdown: Shutdown) -> Worker {
        let name = format!("c{}", self.children.len());
        let worker = self.kit.slow(&name, ms(stop_takes)).with(|spec| spec.shutdown(shutdown));
        self.children.push(self.handle.start_child(worker.spec.clone()).await.unwrap());
        worker
    }

    /// Ends the supervisor; tells after how many milliseconds it was gone and how each child ended.
    async fn end(&self) -> (u128, Vec<String>) {
        let began = Instant::now();
        assert_eq!(self.running.stop().await, ExitReason::Shutdown);
        assert_eq!(self.kit.exits("/jobs"), [ExitReason::Shutdown], "the supervisor itself ends with shutdown");
        let took = began.elapsed().as_millis();
        let mut ends = Vec::new();
        for child in &self.children {
            ends.push(child.ended().await.to_string());
        }
        (took, ends)
    }
}

const SECOND: Shutdown = Shutdown::Timeout(ms(1_000));

#[tokio::test(start_paused = true)]
async fn s18_sup_stop_timeout_dynamic() {
    let mut brood = Brood::new().await;
    brood.add(0, SECOND).await;
    brood.add(60_000, SECOND).await;
    assert_eq!(brood.end().await, (1_000, vec!["shutdown".into(), "killed".into()]));
}

#[tokio::test(start_paused = true)]
async fn s20_sup_stop_brutal_kill_dynamic() {
    let mut brood = Brood::new().await;
    for _ in 0..10 {
        brood.add(60_000, Shutdown::BrutalKill).await;
    }
    brood.kit.journal.take();
    assert_eq!(brood.end().await, (0, vec!["killed".to_owned(); 10]));
    assert!(brood.kit.journal.take().is_empty(), "no cleanup runs");
}

#[tokio::test(start_paused = true)]
async fn s22_sup_stop_non_shutdown_exit_dynamic() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let mut brood = Brood::new().await;
        for name in ["a", "b", "c"] {
            let script = Script { stop_panics: true, ..brood.kit.script(name) };
            let worker = Worker::new(script).restart(restart);
            brood.children.push(brood.handle.start_child(worker.spec).await.unwrap());
        }
        let (_, ends) = brood.end().await;
        assert_eq!(ends, vec!["panic in stopped: stopped panics"; 3], "{restart}");
    }
}

#[tokio::test(start_paused = true)]
async fn s22_a_reason_that_is_chosen_after_the_order_does_not_count() {
    let mut brood = Brood::new().await;
    for (number, reason) in [noted("late"), ExitReason::Normal].into_iter().enumerate() {
        let worker = brood.add(0, SECOND).await;
        worker.tell(Do::StopAfter(ms(100 + number as u64), reason));
    }
    settle().await;
    assert_eq!(brood.end().await, (81, vec!["shutdown".to_owned(); 2]));
}

#[tokio::test(start_paused = true)]
async fn s36_simple_one_for_one_shutdown() {
    let mut brood = Brood::new().await;
    for number in 0..20 {
        brood.add(1_000 + number * 10, Shutdown::Timeout(ms(2_000))).await;
    }
    brood.add(60_000, Shutdown::Timeout(ms(2_000))).await;
    // One of them is already being terminated when the end comes.
    let first = brood.children[0].clone();
    let (terminated, (took, ends)) = tokio::join!(brood.handle.terminate_child(&first), brood.end());
    assert_eq!((terminated, took), (Ok(()), 2_000), "side by side");
    assert!(ends[..20].iter().all(|end| end == "shutdown") && ends[20] == "killed", "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn d29_shutdown_of_0_and_1() {
    let mut brood = Brood::new().await;
    for limit in [0, 1] {
        brood.add(0, Shutdown::Timeout(ms(limit))).await;
    }
    let spec = brood.handle.get_childspec(&brood.children[0]).await.unwrap();
    assert_eq!(spec.rules().shutdown, Shutdown::Timeout(ms(0)));
    let (took, _) = brood.end().await;
    assert!(took <= 2, "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn d30_ways_to_stop_are_kept_as_given() {
    let mut brood = Brood::new().await;
    let ways = [Shutdown::BrutalKill, Shutdown::Infinity, Shutdown::Timeout(ms(0)), Shutdown::Timeout(ms(7))];
    for (number, way) in ways.into_iter().enumerate() {
        brood.add(0, way).await;
        let spec = brood.handle.get_childspec(&brood.children[number]).await.unwrap();
        assert_eq!(spec.rules().shutdown, way);
    }
}

#[tokio::test(start_paused = true)]
async fn d31_end_with_brutal_kill() {
    let mut brood = Brood::new().await;
    for _ in 0..3 {
        brood.add(0, Shutdown::BrutalKill).await;
    }
    assert_eq!(brood.end().await, (0, vec!["killed".to_owned(); 3]));
}

#[tokio::test(start_paused = true)]
async fn d32_end_with_infinity() {
    let mut brood = Brood::new().await;
    for minutes in 1..=3 {
        brood.add(minutes * 60_000, Shutdown::Infinity).await;
    }
    assert_eq!(brood.end().await, (180_000, vec!["shutdown".to_owned(); 3]));
}

/// A child leaves by itself with a note just before the supervisor ends; another one holds up the end.
async fn leaves_before_the_end(shutdown: Shutdown) {
    let mut brood = Brood::new().await;
    let leaving = brood.add(500, shutdown).await;
    brood.add(800, shutdown).await;
    leaving.leaves(noted("done"));
    settle().await;
    assert_eq!(brood.end().await, (800, vec!["shutdown: done".into(), "shutdown".into()]));
}

#[tokio::test(start_paused = true)]
async fn d33_end_with_infinity_and_another_clean_reason() {
    leaves_before_the_end(Shutdown::Infinity).await;
}

#[tokio::test(start_paused = true)]
async fn d34_end_with_a_time() {
    let mut brood = Brood::new().await;
    for tenths in 1..=3 {
        brood.add(tenths * 100, SECOND).await;
    }
    assert_eq!(brood.end().await, (300, vec!["shutdown".to_owned(); 3]));
}

#[tokio::test(start_paused = true)]
async fn d35_end_with_a_time_and_another_clean_reason() {
    leaves_before_the_end(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn d36_end_with_a_time_that_is_over() {
    let mut brood = Brood::new().await;
    brood.add(0, SECOND).await;
    brood.add(5_000, SECOND).await;
    brood.add(900, SECOND).await;
    assert_eq!(brood.end().await, (1_000, vec!["shutdown".into(), "killed".into(), "shutdown".into()]));
}

#[tokio::test(start_paused = true)]
async fn d37_end_with_permanent_children_that_leave_with_normal() {
    let mut brood = Brood::new().await;
    let leaving = [brood.add(100, SECOND).await, brood.add(100, SECOND).await];
    for worker in &leaving {
        worker.tell(Do::Stop(ExitReason::Normal));
    }
    settle().await;
    assert_eq!(brood.end().await, (80, vec!["normal".to_owned(); 2]), "nobody is restarted");
}

#[tokio::test(start_paused = true)]
async fn d38_end_with_all_kinds_of_children() {
    let mut brood = Brood::new().await;
    brood.add(60_000, Shutdown::BrutalKill).await;
    brood.add(700, Shutdown::Infinity).await;
    brood.add(500, SECOND).await;
    brood.add(5_000, Shutdown::Timeout(ms(600))).await;
    brood.add(5_000, SECOND).await;
    let expected = ["killed", "shutdown", "shutdown", "killed", "killed"].map(str::to_owned);
    assert_eq!(brood.end().await, (1_000, expected.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn d39_terminate_child_with_brutal_kill() {
    let mut brood = Brood::new().await;
    brood.add(60_000, Shutdown::BrutalKill).await;
    let child = brood.children[0].clone();
    assert_eq!(brood.handle.terminate_child(&child).await, Ok(()));
    assert_eq!(child.ended().await, ExitReason::Killed);
    assert_eq!(brood.handle.terminate_child(&child).await, Err(ChildError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn d40_terminate_child_with_a_time() {
    let mut brood = Brood::new().await;
    brood.add(500, SECOND).await;
    let child = brood.children[0].clone();
    let began = Instant::now();
    assert_eq!(brood.handle.terminate_child(&child).await, Ok(()));
    assert_eq!((child.ended().await, began.elapsed()), (ExitReason::Shutdown, ms(500)));
    assert_eq!(brood.handle.terminate_child(&child).await, Err(ChildError::NotFound));
    assert!(brood.kit.find("/jobs/c0").is_none());
}

#[tokio::test(start_paused = true)]
async fn d41_terminate_child_of_a_restarting_child() {
    let brood = Brood::new().await;
    let worker = brood.kit.watchable("x");
    let child = brood.handle.start_child(worker.spec.clone()).await.unwrap();
    worker.starts(Start::Fails);
    worker.panics();
    brood.kit.journal.lines(5).await;
    assert_eq!(brood.handle.count_children().await, Ok(counts(1, 0, 0, 1)));
    assert_eq!(brood.handle.terminate_child(&child).await, Ok(()));
    assert_eq!(brood.handle.terminate_child(&child).await, Err(ChildError::NotFound));
    assert!(brood.kit.find("/jobs/x").is_none());
    brood.kit.journal.take();
    settle().await;
    assert_eq!(brood.kit.journal.len(), 0, "no further attempt");
}

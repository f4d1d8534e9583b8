//! Which ends bring dynamic children back, and what their restarts return.

use singularity::supervision::*;

use super::kit::{Do, Kit, Start, WIDE, clean_reasons, counts, restarts, settle};

/// Ends a dynamic child in this way; tells whether it came back.
async fn comes_back(restart: Restart, end: impl FnOnce(&Kit, &super::kit::Worker)) -> bool {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x").restart(restart);
    handle.start_child(x.spec.clone()).await.unwrap();
    end(&kit, &x);
    settle().await;
    let active = handle.count_children().await.unwrap().active == 1;
    assert_eq!((active, kit.find("/jobs/x").is_some()), (x.is_up(), x.is_up()));
    if active {
        assert_eq!(x.ping().await, Ok(2));
    }
    active
}

/// Whether it comes back after all clean, and after all abnormal ends.
async fn both(restart: Restart) -> (bool, bool) {
    let mut after_clean = Vec::new();
    for reason in clean_reasons() {
        after_clean.push(comes_back(restart, |_, x| x.leaves(reason)).await);
    }
    let after_abnormal = [
        comes_back(restart, |_, x| x.panics()).await,
        comes_back(restart, |_, x| x.tell(Do::Fail)).await,
        comes_back(restart, |kit, _| kit.kill("/jobs/x")).await,
    ];
    assert!(after_clean.iter().all(|back| *back == after_clean[0]), "{after_clean:?}");
    assert!(after_abnormal.iter().all(|back| *back == after_abnormal[0]), "{after_abnormal:?}");
    (after_clean[0], after_abnormal[0])
}

#[tokio::test(start_paused = true)]
async fn d19_temporary() {
    assert_eq!(both(Restart::Temporary).await, (false, false));
}

#[tokio::test(start_paused = true)]
async fn d20_transient() {
    assert_eq!(both(Restart::Transient).await, (false, true));
}

#[tokio::test(start_paused = true)]
async fn d21_permanent() {
    assert_eq!(both(Restart::Permanent).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn d22_restarts_with_different_returns() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(10, WIDE).await;
    let returns = [Start::Runs, Start::Tells(7), Start::Ignores, Start::Fails, Start::PanicsEarly];
    let workers = ["a", "b", "c", "d", "e"].map(|name| kit.watchable(name));
    let mut children = Vec::new();
    for (worker, start) in workers.iter().zip(returns) {
        children.push(handle.start_child(worker.spec.clone()).await.unwrap());
        worker.starts(start);
    }
    let bystander = kit.worker("bystander");
    handle.start_child(bystander.spec.clone()).await.unwrap();
    // The last one fails without taking time, so it waits between its attempts.
    let last = handle.get_childspec(&children[4]).await.unwrap();
    handle.terminate_child(&children[4]).await.unwrap();
    workers[4].starts(Start::Runs);
    children[4] = handle.start_child(last.backoff(Backoff::new(super::kit::ms(10), super::kit::ms(10)))).await.unwrap();
    workers[4].starts(Start::PanicsEarly);

    for worker in &workers {
        worker.panics();
    }
    settle().await;
    settle().await;
    assert_eq!(workers[0].ping().await, Ok(2));
    let told = handle.which_child(&children[1]).await.unwrap().child.unwrap();
    assert_eq!(told.info::<u32>().as_deref(), Some(&7));
    assert_eq!(handle.which_child(&children[2]).await.unwrap_err(), ChildError::NotFound, "ignored and forgotten");
    for child in &children[3..] {
        assert_eq!(handle.which_child(child).await.unwrap().child, None, "restarting");
    }
    assert_eq!(handle.count_children().await, Ok(counts(5, 3, 0, 5)));
    handle.terminate_child(&children[3]).await.unwrap();
    assert_eq!(handle.count_children().await, Ok(counts(4, 3, 0, 4)));
    handle.terminate_child(&children[4]).await.unwrap();
    handle.terminate_child(&told).await.unwrap();
    assert_eq!(handle.count_children().await, Ok(counts(2, 2, 0, 2)));
    assert_eq!(bystander.ping().await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn s40_simple_one_for_one_restart_ignore() {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(1, WIDE).await;
    let x = kit.worker("x");
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    x.starts(Start::Ignores);
    x.panics();
    settle().await;
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::NotFound));
    assert!(handle.start_child(kit.worker("y").spec).await.is_ok(), "its place is free");
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn d26_retry_succeeds_later() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, restarts(4)).await;
    let x = kit.worker("x");
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    x.next_starts([Start::Fails, Start::Panics, Start::PanicsEarly]);
    x.panics();
    kit.runs("/jobs/x", 5).await;
    assert_eq!(x.ping().await, Ok(5));
    assert_eq!(handle.terminate_child(&child).await, Ok(()), "the reference names the child, whichever life it has");
}

#[tokio::test(start_paused = true)]
async fn d27_max_restarts() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, restarts(3)).await;
    let [x, y] = kit.workers(["x", "y"]);
    handle.start_child(x.spec.clone()).await.unwrap();
    let bystander = handle.start_child(y.spec).await.unwrap();
    for incarnation in 2..=4 {
        x.panics();
        kit.runs("/jobs/x", incarnation).await;
    }
    x.panics();
    assert_eq!(bystander.ended().await, ExitReason::Shutdown);
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(kit.exits("/jobs"), [ExitReason::Shutdown]);
}

#[tokio::test(start_paused = true)]
async fn d28_max_restarts_by_retries() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, restarts(3)).await;
    let x = kit.worker("x");
    handle.start_child(x.spec.clone()).await.unwrap();
    kit.journal.take();
    x.starts(Start::Fails);
    x.panics();
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(kit.exits("/jobs"), [ExitReason::Shutdown]);
    assert_eq!(kit.journal.take(), ["start x"; 3]);
}

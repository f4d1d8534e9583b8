//! How static supervisors stop their children.

use singularity::supervision::*;
use tokio::time::Instant;

use super::kit::{Do, Kit, Script, Worker, ms, noted, root};

#[tokio::test(start_paused = true)]
async fn s16_sup_stop_infinity() {
    let kit = Kit::new();
    let hour = ms(3_600_000);
    let x = kit.slow("x", hour).with(|spec| spec.shutdown(Shutdown::Infinity));
    let leaf = kit.slow("leaf", hour).with(|spec| spec.shutdown(Shutdown::Infinity));
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(leaf.spec).into_child();
    let running = kit.start(root(Strategy::OneForOne).child(x.spec).child(sub.shutdown(Shutdown::Infinity))).await;
    let began = Instant::now();
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(began.elapsed(), 2 * hour);
    for path in ["/x", "/sub", "/sub/leaf"] {
        assert_eq!(kit.exits(path), [ExitReason::Shutdown], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn s17_sup_stop_timeout() {
    let kit = Kit::new();
    let timed = |spec: ChildSpec| spec.shutdown(Shutdown::Timeout(ms(1_000)));
    let quick = kit.worker("quick").with(timed);
    let script = Script { stop_takes: ms(60_000), notes_drop: true, ..kit.script("sleeps") };
    let sleeps = Worker::new(script).with(timed);
    let (running, _) = kit.root(Strategy::OneForOne, [&quick, &sleeps]).await;
    let began = Instant::now();
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(began.elapsed(), ms(1_000));
    assert_eq!(kit.journal.take(), ["stop sleeps", "drop sleeps", "stop quick"]);
    assert_eq!((kit.exits("/quick"), kit.exits("/sleeps")), (vec![ExitReason::Shutdown], vec![ExitReason::Killed]));
}

#[tokio::test(start_paused = true)]
async fn s19_sup_stop_brutal_kill() {
    let kit = Kit::new();
    let timed = kit.worker("timed").with(|spec| spec.shutdown(Shutdown::Timeout(ms(1_000))));
    let brutal = kit.worker("brutal").with(|spec| spec.shutdown(Shutdown::BrutalKill));
    let (running, _) = kit.root(Strategy::OneForOne, [&timed, &brutal]).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop timed"], "no cleanup runs in the other");
    assert_eq!((kit.exits("/timed"), kit.exits("/brutal")), (vec![ExitReason::Shutdown], vec![ExitReason::Killed]));
}

#[tokio::test(start_paused = true)]
async fn s21_sup_stop_race() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let kit = Kit::new();
        let leaving = kit.workers(["a", "b", "c", "d"]).map(|worker| worker.restart(restart));
        let last = kit.slow("last", ms(1_000));
        let [a, b, c, d] = &leaving;
        let (running, _) = kit.root(Strategy::OneForAll, [a, b, c, d, &last]).await;
        let probes = ["/a", "/b", "/c", "/d"].map(|path| kit.system.probe(path).unwrap());
        let leave = async {
            // The last one is being stopped, which holds up the stops of the others.
            kit.journal.lines(1).await;
            a.leaves(ExitReason::Normal);
            b.leaves(ExitReason::Shutdown);
            c.leaves(noted("x"));
            d.tell(Do::Fail);
        };
        let (reason, ()) = tokio::join!(running.stop(), leave);
        assert_eq!(reason, ExitReason::Shutdown);
        let ends = probes.map(|probe| probe.history().iter().map(|exit| exit.reason.to_string()).collect::<Vec<_>>());
        assert_eq!(ends, [["normal"], ["shutdown"], ["shutdown: x"], ["error: told to fail"]], "{restart}");
        assert_eq!(kit.journal.take(), ["stop a", "stop b", "stop c"], "{restart}: nobody is restarted");
    }
}

#[tokio::test(start_paused = true)]
async fn s55_child_unlink() {
    let kit = Kit::new();
    let deaf = kit.slow("deaf", ms(600_000)).with(|spec| spec.shutdown(Shutdown::Timeout(ms(500))));
    let other = kit.worker("other");
    let (_running, handle) = kit.root(Strategy::OneForOne, [&deaf, &other]).await;
    let began = Instant::now();
    assert_eq!(handle.terminate_child("deaf").await, Ok(()));
    assert_eq!((began.elapsed(), kit.exits("/deaf")), (ms(500), vec![ExitReason::Killed]));
    // Its supervisor answers as ever.
    assert_eq!(handle.count_children().await.unwrap().active, 1);

    // A dynamic supervisor answers even meanwhile.
    let kit = Kit::new();
    let (_running, jobs) = kit.dynamic(5, super::kit::WIDE).await;
    let deaf = kit.slow("deaf", ms(600_000)).with(|spec| spec.shutdown(Shutdown::Timeout(ms(500))));
    let deaf = jobs.start_child(deaf.spec).await.unwrap();
    let began = Instant::now();
    let others = async {
        kit.is("/jobs/deaf", NodeState::Stopping).await;
        jobs.start_child(kit.worker("x").spec).await.unwrap();
        assert!(began.elapsed() < ms(100));
    };
    let (first, second, ()) = tokio::join!(jobs.terminate_child(&deaf), jobs.terminate_child(&deaf), others);
    assert_eq!((first, second, began.elapsed()), (Ok(()), Ok(()), ms(500)));
}

#[tokio::test(start_paused = true)]
async fn e15_child_shutdown_of_0_and_1() {
    for limit in [0, 1] {
        let kit = Kit::new();
        let x = kit.worker("x").with(|spec| spec.shutdown(Shutdown::Timeout(ms(limit))));
        let (running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
        assert_eq!(handle.get_childspec("x").await.unwrap().rules().shutdown, Shutdown::Timeout(ms(limit)));
        assert_eq!(handle.terminate_child("x").await, Ok(()));
        assert!(!x.is_up());
        handle.restart_child("x").await.unwrap();
        assert_eq!(running.stop().await, ExitReason::Shutdown);
        assert!(!x.is_up());
    }
}

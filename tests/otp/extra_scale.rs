//! Very many children: no cost grows faster than their number, and nothing stays behind.

use std::time::{Duration, Instant};

use singularity::supervision::*;

use super::kit::{Do, Kit, Puppet, Start, WIDE, grows_less, root, until, within};

#[tokio::test]
async fn x13_very_many_children() {
    /// How long the start of so many dynamic children takes, and the end of all.
    async fn comes_and_goes(number: usize) -> [Duration; 2] {
        let kit = Kit::new();
        let (running, handle) = kit.dynamic(CHILDREN_MAX, WIDE).await;
        let script = kit.script("x");
        let began = Instant::now();
        for _ in 0..number {
            let script = script.clone();
            let spec = ChildSpec::actor::<Puppet>("x", &Address::new("x", 1), move || (script.clone(), Start::Runs));
            handle.start_child(spec).await.unwrap();
        }
        let started = began.elapsed();
        let began = Instant::now();
        assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
        assert_eq!(kit.journal.len(), 2 * number);
        [started, began.elapsed()]
    }
    grows_less(50, async || comes_and_goes(2_000).await, async || comes_and_goes(40_000).await).await;
}

/// Many short jobs in waves, on real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x14_temporary_children_leave_nothing_behind() {
    const WAVE: usize = 100;
    const WAVES: usize = 300;
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", WAVE).intensity(WIDE).into_child(&handle);
    let running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    let script = kit.script("job");
    let alive = std::sync::Arc::downgrade(&script.plan);
    for _ in 0..WAVES {
        let mut wave = Vec::with_capacity(WAVE);
        for number in 0..WAVE {
            let (script, address) = (script.clone(), Address::<Do>::new("job", 10));
            let spec = ChildSpec::actor::<Puppet>("job", &address, move || (script.clone(), Start::Runs));
            let spec = spec.restart(Restart::Temporary).registered(format!("job {number}"));
            wave.push((handle.start_child(spec).await.unwrap(), address));
        }
        for (number, (child, address)) in wave.iter().enumerate() {
            match number % 4 {
                0 => address.cast(Do::Stop(ExitReason::Normal)).unwrap(),
                1 => address.cast(Do::Fail).unwrap(),
                2 => child.kill(),
                _ => handle.terminate_child(child).await.unwrap(),
            }
        }
        for (child, _) in &wave {
            within(child.ended()).await;
        }
        // An ended child gives its place free a moment later, when its supervisor has heard of it.
        while handle.count_children().await.unwrap().specs > 0 {
            tokio::task::yield_now().await;
        }
        kit.journal.take();
    }
    drop(script);
    assert!(kit.node("/jobs").children.is_empty());
    assert!(kit.system.registered().is_empty());
    until(|| alive.strong_count() == 0).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

//! What supervision costs beside bare actors: starting, restarting, looking at and stopping children, and their memory.
//!
//! `cargo bench --bench supervision` measures with criterion and then prints a table of ratios to ractor's own
//! `spawn_linked`, measured in the same run; `cargo bench --bench supervision -- --test` tries everything once.
//! Everything runs on one runtime thread, as a node's supervisors do; the first ratios also on two, where both sides
//! wake tasks across threads.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench that cannot measure ends with the place, and prints what it measured"
)]

mod alone;
mod bare;
mod ours;
mod table;

use std::time::Duration;

use criterion::Criterion;
use tokio::runtime::{Builder, Runtime};

use self::ours::Ours;

fn main() {
    // Some things are measured in processes of their own, which nothing else has used before.
    if let Some(measured) = alone::task() {
        println!("{measured}");
        return;
    }
    // cargo passes `--bench` to measure; without it, or with `--test`, everything is tried once.
    let arguments: Vec<String> = std::env::args().collect();
    let quick = !arguments.iter().any(|argument| argument == "--bench")
        || arguments.iter().any(|argument| argument == "--test");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    start_child(&mut criterion);
    restart(&mut criterion);
    snapshot(&mut criterion, if quick { 10 } else { 1_000 });
    stop(&mut criterion, if quick { 1_000 } else { 100_000 });
    criterion.final_summary();
    table::print(quick);
}

/// One thread, and everything in a task on it: no waking across threads.
fn on_one_thread<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    on_threads(1, future)
}

/// In a task on a runtime of so many threads.
fn on_threads<T: Send + 'static>(threads: usize, future: impl Future<Output = T> + Send + 'static) -> T {
    let runtime: Runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    #[expect(clippy::disallowed_methods, reason = "awaited at once")]
    let task = runtime.spawn(future);
    runtime.block_on(task).unwrap()
}

fn start_child(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start_child");
    group.bench_function("supervised", |bencher| {
        bencher.iter_custom(|times| {
            on_one_thread(async move {
                let ours = Ours::start(1).await;
                let took = ours.children(times).await;
                ours.end().await;
                took
            })
        });
    });
    group.bench_function("spawn_linked until it runs", |bencher| {
        bencher.iter_custom(|times| {
            on_one_thread(async move {
                let parent = bare::parent().await;
                let took = bare::start(&parent, times, 1).await.ran;
                bare::end(parent).await;
                took
            })
        });
    });
}

fn restart(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("restart until running");
    group.bench_function("supervised", |bencher| {
        bencher.iter_custom(|times| on_one_thread(ours::restart(times)));
    });
    group.bench_function("by hand on ractor", |bencher| {
        bencher.iter_custom(|times| on_one_thread(bare::restart(times)));
    });
}

/// Of 100 supervisors and their children.
fn snapshot(criterion: &mut Criterion, children: u64) {
    let mut group = criterion.benchmark_group("snapshot");
    group.bench_function(format!("{} nodes", 100 * children), |bencher| {
        bencher
            .iter_custom(|times| on_one_thread(table::snapshots(children, times)).mean * u32::try_from(times).unwrap());
    });
}

fn stop(criterion: &mut Criterion, children: u64) {
    let mut group = criterion.benchmark_group(format!("stop of {children} children"));
    group.bench_function("supervised, in order", |bencher| {
        bencher.iter_custom(|times| {
            on_one_thread(async move {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let ours = Ours::start(1).await;
                    ours.children(children).await;
                    took += ours.end().await;
                }
                took
            })
        });
    });
    group.bench_function("killed by ractor with their parent", |bencher| {
        bencher.iter_custom(|times| {
            on_one_thread(async move {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let parent = bare::parent().await;
                    bare::start(&parent, children, bare::MANY).await;
                    took += bare::end(parent).await;
                }
                took
            })
        });
    });
}

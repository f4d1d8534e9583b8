//! What claiming, completing and inserting jobs cost, on a durable PostgreSQL that this program starts itself.
//!
//! `cargo bench` measures; `cargo bench -- --test` tries everything once. Each operation is measured through
//! [`singularity::queue::Engine`] (`engine`) and beside it as the barest SQL that could do the same on one connection
//! (`bare`), because the ratio of the two says more than either figure on a machine that others use too. Arguments are
//! jobs in one statement; throughput is jobs a second.
//!
//! Only the operation itself is measured. What it uses up is replaced between measurements: claimed jobs are completed
//! and as many inserted, so every claim meets the same backlog and a growing history, as in production.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench that cannot measure ends with the place; nobody outside can reach its parts"
)]

mod bare;
mod fixture;

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

use self::bare::Bare;
use self::fixture::{Bench, Fixture};

/// Jobs that wait in the queue besides those that an iteration claims.
const BACKLOG: usize = 10_000;

/// Jobs in one claim or completion.
const BATCHES: [usize; 3] = [10, 100, 500];

/// Jobs in one insert.
const INSERTS: [usize; 3] = [1, 1_000, 10_000];

fn main() {
    let fixture = Fixture::start();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    claim(&mut criterion, &fixture);
    complete(&mut criterion, &fixture);
    insert(&mut criterion, &fixture);
    criterion.final_summary();
    fixture.stop();
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("{name}, durable"));
    group.sampling_mode(SamplingMode::Flat);
    group
}

fn claim(criterion: &mut Criterion, fixture: &Fixture) {
    let bench = fixture.bench(BACKLOG);
    let mut bare = Bare::on(&bench);
    let mut group = group(criterion, "claim");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("engine", batch), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    let began = Instant::now();
                    let jobs = bench.claim(batch).await;
                    let took = began.elapsed();
                    bench.complete(&bench.acks(&jobs)).await;
                    bench.insert(batch).await;
                    took
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare", batch), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    let began = Instant::now();
                    let ids = bare.claim(batch).await;
                    let took = began.elapsed();
                    bare.complete(&ids).await;
                    bench.insert(batch).await;
                    took
                })
            });
        });
    }
    group.finish();
}

fn complete(criterion: &mut Criterion, fixture: &Fixture) {
    let bench = fixture.bench(BACKLOG);
    let mut bare = Bare::on(&bench);
    let mut group = group(criterion, "complete");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("engine", batch), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    bench.insert(batch).await;
                    let acks = bench.acks(&bench.claim(batch).await);
                    let began = Instant::now();
                    bench.complete(&acks).await;
                    began.elapsed()
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare", batch), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    bench.insert(batch).await;
                    let ids = bare.claim(batch).await;
                    let began = Instant::now();
                    bare.complete(&ids).await;
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
}

fn insert(criterion: &mut Criterion, fixture: &Fixture) {
    let bench = fixture.bench(0);
    let mut bare = Bare::on(&bench);
    let mut group = group(criterion, "insert");
    for count in INSERTS {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("engine", count), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    let jobs = Bench::jobs(count);
                    let began = Instant::now();
                    let inserted = bench.engine.insert_many(jobs).await.unwrap();
                    let took = began.elapsed();
                    assert_eq!(inserted.len(), count);
                    took
                })
            });
        });
        group.bench_function(BenchmarkId::new("bare", count), |bencher| {
            bencher.iter_custom(|iterations| {
                bench.total(iterations, async || {
                    let args = bare::args(count);
                    let began = Instant::now();
                    bare.insert(args).await;
                    began.elapsed()
                })
            });
        });
    }
    group.finish();
}

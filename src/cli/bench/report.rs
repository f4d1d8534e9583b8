//! What a measurement came to, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::drain::Drains;
use super::inserts::{BATCH, Inserts};
use super::latency::{Latencies, percentile_ms};
use super::worker::Work;
use crate::cli::exit::Failure;
use crate::cli::output;

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) inserts: Inserts,
    pub(super) drains: Drains,
    pub(super) latencies: Latencies,
    pub(super) settings: Vec<(String, String)>,
    pub(super) idle_mb: Option<f64>,
    pub(super) queue_limit: u32,
    pub(super) work: Work,
    pub(super) history: u64,
    pub(super) embedded: bool,
    /// Load average before and after.
    pub(super) load: (Option<f64>, Option<f64>),
}

/// The JSON document. `limit_*` is the bare SQL, `*ratio` ours by it.
#[derive(Debug, Serialize)]
struct Document {
    inserts_per_second: f64,
    limit_inserts_per_second: f64,
    insert_ratio: f64,
    single_inserts_per_second: f64,
    limit_single_inserts_per_second: f64,
    single_insert_ratio: f64,
    jobs_per_second: f64,
    limit_jobs_per_second: f64,
    ratio: f64,
    round_ratios: Vec<f64>,
    latency_ms: Latency,
    memory_mb: Memory,
    conditions: Conditions,
}

/// Since the insert; `notified_*` of jobs that others than the node inserted, `chain_*` of insert, notice and claim in
/// bare SQL. Without another name a ratio is to the bare notice.
#[derive(Debug, Serialize)]
struct Latency {
    start_p50: f64,
    start_p99: f64,
    finish_p50: f64,
    finish_p99: f64,
    notified_start_p50: f64,
    notified_start_p99: f64,
    notified_finish_p50: f64,
    notified_finish_p99: f64,
    notice_p50: f64,
    notice_p99: f64,
    chain_p50: f64,
    chain_p99: f64,
    start_p50_ratio: f64,
    start_p99_ratio: f64,
    notified_start_p50_ratio: f64,
    notified_start_p99_ratio: f64,
    notified_start_p50_chain_ratio: f64,
    notified_start_p99_chain_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Memory {
    idle: Option<f64>,
    waiting: Option<f64>,
    running: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Conditions {
    version: &'static str,
    is_optimized: bool,
    jobs: u64,
    rounds: usize,
    queue_limit: u32,
    workers: String,
    history: u64,
    insert_batch: u64,
    cores: usize,
    load_before: Option<f64>,
    load_after: Option<f64>,
    database: &'static str,
    settings: BTreeMap<String, String>,
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        let document = self.document();
        if json {
            return output::document("singularity.bench_run.v1", &document);
        }
        show(&document);
        Ok(())
    }

    fn document(&self) -> Document {
        let (inserts, drains, latencies) = (&self.inserts, &self.drains, &self.latencies);
        let percentile = |times, percent| rounded(percentile_ms(times, percent), 3);
        let ratio_of = |ours, bare, percent| rounded(percentile_ms(ours, percent) / percentile_ms(bare, percent), 2);
        let (start, notified) = (&latencies.start, &latencies.notified_start);
        Document {
            inserts_per_second: inserts.bulk.per_second().round(),
            limit_inserts_per_second: inserts.bare_bulk.per_second().round(),
            insert_ratio: rounded(inserts.bulk.per_second() / inserts.bare_bulk.per_second(), 3),
            single_inserts_per_second: inserts.single.per_second().round(),
            limit_single_inserts_per_second: inserts.bare_single.per_second().round(),
            single_insert_ratio: rounded(inserts.single.per_second() / inserts.bare_single.per_second(), 3),
            jobs_per_second: drains.node.per_second().round(),
            limit_jobs_per_second: drains.bare.per_second().round(),
            ratio: rounded(drains.node.per_second() / drains.bare.per_second(), 3),
            round_ratios: drains.ratios.iter().map(|ratio| rounded(*ratio, 3)).collect(),
            latency_ms: Latency {
                start_p50: percentile(start, 50),
                start_p99: percentile(start, 99),
                finish_p50: percentile(&latencies.finish, 50),
                finish_p99: percentile(&latencies.finish, 99),
                notified_start_p50: percentile(notified, 50),
                notified_start_p99: percentile(notified, 99),
                notified_finish_p50: percentile(&latencies.notified_finish, 50),
                notified_finish_p99: percentile(&latencies.notified_finish, 99),
                notice_p50: percentile(&latencies.notice, 50),
                notice_p99: percentile(&latencies.notice, 99),
                chain_p50: percentile(&latencies.chain, 50),
                chain_p99: percentile(&latencies.chain, 99),
                start_p50_ratio: ratio_of(start, &latencies.notice, 50),
                start_p99_ratio: ratio_of(start, &latencies.notice, 99),
                notified_start_p50_ratio: ratio_of(notified, &latencies.notice, 50),
                notified_start_p99_ratio: ratio_of(notified, &latencies.notice, 99),
                notified_start_p50_chain_ratio: ratio_of(notified, &latencies.chain, 50),
                notified_start_p99_chain_ratio: ratio_of(notified, &latencies.chain, 99),
            },
            memory_mb: Memory {
                idle: self.idle_mb.map(|mb| rounded(mb, 1)),
                waiting: drains.waiting_mb.map(|mb| rounded(mb, 1)),
                running: drains.running_mb.map(|mb| rounded(mb, 1)),
            },
            conditions: Conditions {
                version: env!("CARGO_PKG_VERSION"),
                is_optimized: !cfg!(debug_assertions),
                jobs: drains.node.jobs,
                rounds: drains.rounds(),
                queue_limit: self.queue_limit,
                workers: self.work.to_string(),
                history: self.history,
                insert_batch: BATCH,
                cores: std::thread::available_parallelism().map_or(0, usize::from),
                load_before: self.load.0,
                load_after: self.load.1,
                database: if self.embedded { "embedded" } else { "given" },
                settings: self.settings.iter().cloned().collect(),
            },
        }
    }
}

fn show(document: &Document) {
    let rate = |text: &str, ours: f64, bare: f64, ratio: f64, ratios: String| {
        vec![text.to_owned(), format!("{ours:.0}/s"), format!("{bare:.0}/s"), format!("{:.0} %", ratio * 100.0), ratios]
    };
    let conditions = &document.conditions;
    let latency = &document.latency_ms;
    let spread = document.round_ratios.iter().map(|ratio| format!("{:.0}", ratio * 100.0)).collect::<Vec<_>>();
    let times = |p50: f64, p99: f64| format!("{p50:.2} / {p99:.2} ms");
    let by_bare = |p50: f64, p99: f64| format!("{p50:.1}x / {p99:.1}x");
    output::table(
        &["what", "node", "bare SQL", "ratio", "by round"],
        vec![
            rate(
                &format!("bulk insert, {} a statement", conditions.insert_batch),
                document.inserts_per_second,
                document.limit_inserts_per_second,
                document.insert_ratio,
                String::new(),
            ),
            rate(
                "single insert, 8 tasks",
                document.single_inserts_per_second,
                document.limit_single_inserts_per_second,
                document.single_insert_ratio,
                String::new(),
            ),
            rate(
                &format!("jobs, limit {}, {}", conditions.queue_limit, conditions.workers),
                document.jobs_per_second,
                document.limit_jobs_per_second,
                document.ratio,
                spread.join(" "),
            ),
            vec![
                "insert to start, p50 / p99".into(),
                times(latency.start_p50, latency.start_p99),
                format!("{} notice alone", times(latency.notice_p50, latency.notice_p99)),
                by_bare(latency.start_p50_ratio, latency.start_p99_ratio),
            ],
            vec!["insert to finish".into(), times(latency.finish_p50, latency.finish_p99)],
            vec![
                "inserted elsewhere, to start".into(),
                times(latency.notified_start_p50, latency.notified_start_p99),
                format!("{} insert, notice, claim", times(latency.chain_p50, latency.chain_p99)),
                by_bare(latency.notified_start_p50_chain_ratio, latency.notified_start_p99_chain_ratio),
            ],
            vec![
                String::new(),
                String::new(),
                "notice alone".into(),
                by_bare(latency.notified_start_p50_ratio, latency.notified_start_p99_ratio),
            ],
            vec![
                "inserted elsewhere, to finish".into(),
                times(latency.notified_finish_p50, latency.notified_finish_p99),
            ],
        ],
    );
    let settings = conditions.settings.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
    let load = |load: Option<f64>| load.map_or("?".to_owned(), |load| format!("{load:.1}"));
    let mb = |mb: Option<f64>| mb.map_or("?".to_owned(), |mb| format!("{mb:.0} MB"));
    let memory = &document.memory_mb;
    output::line(String::new());
    output::pairs(&[
        (
            "jobs".into(),
            format!(
                "{} in {} rounds, {} finished ones in the table",
                conditions.jobs, conditions.rounds, conditions.history
            ),
        ),
        (
            "memory".into(),
            format!(
                "{} idle, {} with jobs waiting, {} after draining",
                mb(memory.idle),
                mb(memory.waiting),
                mb(memory.running)
            ),
        ),
        (
            "machine".into(),
            format!(
                "{} cores, load {} before and {} after",
                conditions.cores,
                load(conditions.load_before),
                load(conditions.load_after)
            ),
        ),
        ("database".into(), format!("{}, {}", conditions.database, settings.join(", "))),
    ]);
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    if value.is_finite() { (value * factor).round() / factor } else { 0.0 }
}

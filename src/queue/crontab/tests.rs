//! What is inserted at a moment, by every policy.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::json;

use super::{CRON_JOBS_MAX, CronPlan, Crontab};
use crate::config::{
    CatchUp, Cron, CronUnique, Object, Period, PeriodOrOff, UNIQUE_FIELDS, UNIQUE_STATES, UNIQUE_TIMESTAMPS,
};
use crate::queue::{
    JobContext, JobError, NewJob, Outcome, State, Unique, UniqueField, UniqueTimestamp, Worker, WorkerOptions, Workers,
};

const LEASE: Duration = Duration::from_secs(30);

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-26T{text}Z").parse().unwrap()
}

fn entry(expr: &str, catch_up: CatchUp) -> Cron {
    Cron { expr: expr.into(), worker: "w".into(), catch_up, ..Cron::default() }
}

fn crontab(entry: Cron, lease: Duration) -> Crontab {
    known(entry, lease, &Workers::default())
}

fn known(entry: Cron, lease: Duration, workers: &Workers) -> Crontab {
    Crontab::new(&BTreeMap::from([("e".into(), entry)]), lease, workers).unwrap()
}

fn times(plan: &CronPlan) -> Vec<String> {
    let jobs = plan.decisions.iter().flat_map(|decision| &decision.jobs);
    jobs.map(|(due, _)| due.format("%H:%M:%S").to_string()).collect()
}

/// Policy, expression, decided until, now, and the times that get a job.
const CASES: [(CatchUp, &str, &str, &str, &[&str]); 17] = [
    (CatchUp::None, "* * * * *", "11:59:00", "11:59:59.999", &[]),
    (CatchUp::None, "* * * * *", "11:59:00", "12:00:00", &["12:00:00"]),
    (CatchUp::None, "* * * * *", "12:00:00", "12:00:30", &[]),
    // A minute late is on time.
    (CatchUp::None, "0 * * * *", "11:00:00", "12:00:59.999", &["12:00:00"]),
    (CatchUp::None, "0 * * * *", "11:00:00", "12:01:00.001", &[]),
    (CatchUp::None, "*/20 * * * * *", "11:00:00", "12:00:30", &["11:59:40", "12:00:00", "12:00:20"]),
    (CatchUp::None, "*/20 * * * * *", "12:00:00", "12:00:41", &["12:00:20", "12:00:40"]),
    (CatchUp::Last, "0 * * * *", "09:00:00", "12:30:00", &["12:00:00"]),
    (CatchUp::Last, "0 * * * *", "12:00:00", "12:30:00", &[]),
    (CatchUp::Last, "*/30 * * * * *", "11:00:00", "12:00:10", &["11:59:30", "12:00:00"]),
    (CatchUp::Last, "0 3 * * *", "02:00:00", "12:59:59", &["03:00:00"]),
    (CatchUp::All, "0 * * * *", "09:00:00", "12:30:00", &["10:00:00", "11:00:00", "12:00:00"]),
    (CatchUp::All, "0 * * * *", "09:00:00.001", "11:00:00", &["10:00:00", "11:00:00"]),
    (CatchUp::All, "0 * * * *", "12:00:00", "12:30:00", &[]),
    // Ten hours are looked back in these tests.
    (CatchUp::All, "0 */4 * * *", "00:00:00", "18:30:00", &["12:00:00", "16:00:00"]),
    (CatchUp::Last, "0 3 * * *", "02:00:00", "13:00:00", &[]),
    // The clock was set back.
    (CatchUp::All, "* * * * *", "12:00:00", "11:50:00", &[]),
];

#[test]
fn every_policy_inserts_what_it_says_and_nothing_twice() {
    for (policy, expr, decided, now, expected) in CASES {
        let within = Period::from_secs(10 * 3_600);
        let crontab = crontab(Cron { catch_up_within: within, ..entry(expr, policy) }, LEASE);
        let plan = crontab.plan(&[Some(at(decided))], at(now), None);
        assert_eq!(times(&plan), expected, "{policy:?} {expr} {decided} {now}");
        for decision in &plan.decisions {
            assert_eq!(decision.from, at(decided));
            let again = crontab.plan(&[Some(decision.until)], at(now), None);
            assert!(again.decisions.is_empty(), "{policy:?} {expr}: {again:?}");
        }
    }
}

#[test]
fn what_is_left_out_is_decided_and_told() {
    let crontab = crontab(entry("0 * * * *", CatchUp::None), LEASE);
    let plan = crontab.plan(&[Some(at("08:30:00"))], at("12:30:00"), None);
    assert_eq!(plan.left_out, [("e".into(), at("09:00:00"))]);
    assert_eq!(plan.decisions.len(), 1);
    assert_eq!((plan.decisions[0].until, plan.decisions[0].jobs.len()), (at("12:00:00"), 0));
    let on_time = crontab.plan(&[Some(at("11:00:00"))], at("12:00:01"), None);
    assert_eq!(on_time.left_out, []);
}

#[test]
fn a_longer_lease_makes_later_jobs_still_on_time() {
    let entry = entry("0 * * * *", CatchUp::None);
    for (lease, expected) in [(30, 0), (299, 0), (300, 1)] {
        let crontab = crontab(entry.clone(), Duration::from_secs(lease));
        let plan = crontab.plan(&[Some(at("11:00:00"))], at("12:09:59"), None);
        assert_eq!(times(&plan).len(), expected, "{lease}");
    }
    // However short it is, a minute late is on time.
    let crontab = crontab(entry, Duration::from_secs(1));
    assert_eq!(times(&crontab.plan(&[Some(at("11:00:00"))], at("12:00:59.999"), None)).len(), 1);
}

#[test]
fn of_very_many_missed_times_the_newest_are_made_up_for() {
    let crontab = crontab(entry("* * * * * *", CatchUp::All), LEASE);
    let plan = crontab.plan(&[Some(at("00:00:00"))], at("12:00:00"), None);
    let times = times(&plan);
    assert_eq!(times.len(), CRON_JOBS_MAX);
    assert_eq!(times.last().map(String::as_str), Some("12:00:00"));
    assert_eq!(plan.left_out.len(), 1);
}

#[test]
fn reboot_is_due_once_when_the_process_first_led() {
    let crontab = crontab(entry("@reboot", CatchUp::All), LEASE);
    assert!(crontab.plan(&[Some(at("11:00:00"))], at("12:00:00"), None).decisions.is_empty());
    let plan = crontab.plan(&[Some(at("11:00:00"))], at("12:00:05"), Some(at("12:00:00")));
    assert_eq!(times(&plan), ["12:00:00"]);
    let done = Some(plan.decisions[0].until);
    assert!(crontab.plan(&[done], at("12:30:00"), Some(at("12:00:00"))).decisions.is_empty());
    assert_eq!(times(&crontab.plan(&[done], at("12:30:00"), Some(at("12:20:00")))), ["12:20:00"], "a later process");
    assert_eq!(crontab.next(at("12:00:00")), None);
}

#[test]
fn an_entry_that_somebody_is_adding_waits() {
    let crontab = crontab(entry("* * * * *", CatchUp::All), LEASE);
    assert!(crontab.plan(&[None], at("12:00:00"), None).decisions.is_empty());
}

#[test]
fn jobs_have_the_options_of_their_entry_and_obans_meta() {
    let object = |value: serde_json::Value| Object(value.as_object().unwrap().clone());
    let config = Cron {
        args: object(json!({"days": 30})),
        queue: Some("slow".into()),
        max_attempts: Some(3),
        priority: Some(7),
        tags: Some(vec![" Nightly".into()]),
        meta: object(json!({"owner": "ops"})),
        timezone: "Europe/Berlin".into(),
        ..entry(" @daily ", CatchUp::None)
    };
    let told = crontab(config.clone(), LEASE).told();
    assert_eq!((told[0].expression.as_str(), told[0].worker.as_str()), ("@daily", "w"));
    let options = json!({"name": "e", "queue": "slow", "timezone": "Europe/Berlin"});
    assert_eq!(serde_json::Value::Object(told[0].options.clone()), options);
    let plan = crontab(config, LEASE).plan(&[Some(at("22:59:59"))], at("23:00:00.5"), None);
    let (due, job) = &plan.decisions[0].jobs[0];
    assert_eq!(*due, at("23:00:00"), "midnight in Berlin");
    assert_eq!((job.worker.as_str(), job.queue.as_str(), &job.args), ("w", "slow", &json!({"days": 30})));
    assert_eq!((job.max_attempts, job.priority, &job.tags), (3, 7, &vec!["nightly".to_owned()]));
    let meta = json!({
        "cron": true, "cron_expr": "@daily", "cron_name": "e", "cron_tz": "Europe/Berlin",
        "cron_at": "2026-11-26T23:00:00Z", "owner": "ops",
    });
    assert_eq!(serde_json::Value::Object(job.meta.clone()), meta);
}

struct Report;

impl Worker for Report {
    type Args = serde_json::Value;
    const NAME: &'static str = "w";
    const ALIASES: &'static [&'static str] = &["MyApp.Report"];
    const OPTIONS: WorkerOptions = WorkerOptions {
        queue: "reports",
        max_attempts: 3,
        priority: 4,
        tags: &["report"],
        unique: Some(|| Unique { keys: vec!["kind".into()], ..Unique::forever() }),
        ..WorkerOptions::DEFAULT
    };

    async fn perform(&self, _: serde_json::Value, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Completed)
    }
}

/// The job of an entry, by a node that knows the worker.
fn job(entry: Cron) -> NewJob {
    let mut workers = Workers::default();
    workers.register(Report);
    let plan = known(entry, LEASE, &workers).plan(&[Some(at("11:59:00"))], at("12:00:00"), None);
    plan.decisions[0].jobs[0].1.clone()
}

#[test]
fn what_an_entry_does_not_say_is_as_its_workers_options_say() {
    let plain = entry("* * * * *", CatchUp::None);
    for worker in ["w", "MyApp.Report"] {
        let job = job(Cron { worker: worker.into(), ..plain.clone() });
        assert_eq!((job.worker.as_str(), job.queue.as_str()), (worker, "reports"));
        assert_eq!((job.max_attempts, job.priority, &job.tags), (3, 4, &vec!["report".to_owned()]));
        assert_eq!(job.unique, Some(Unique { keys: vec!["kind".into()], ..Unique::forever() }));
    }
    let own = Cron {
        queue: Some("slow".into()),
        max_attempts: Some(1),
        priority: Some(0),
        tags: Some(vec![]),
        unique: Some(CronUnique { period: Some(PeriodOrOff::on(Period::from_secs(9))), ..CronUnique::default() }),
        ..plain.clone()
    };
    let job_of_own = job(own);
    assert_eq!((job_of_own.queue.as_str(), job_of_own.max_attempts, job_of_own.priority), ("slow", 1, 0));
    assert!(job_of_own.tags.is_empty());
    let merged = Unique { keys: vec!["kind".into()], period: Some(Duration::from_secs(9)), ..Unique::forever() };
    assert_eq!(job_of_own.unique, Some(merged), "key by key");
    let unknown = job(Cron { worker: "elsewhere".into(), ..plain });
    assert_eq!((unknown.queue.as_str(), unknown.max_attempts, unknown.unique), ("default", 20, None));
}

#[test]
fn an_entry_may_say_all_of_unique_and_every_word_that_the_configuration_takes_is_known_here() {
    let of = |unique: CronUnique| {
        let entry = Cron { worker: "elsewhere".into(), unique: Some(unique), ..entry("* * * * *", CatchUp::None) };
        job(entry).unique.unwrap()
    };
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(of(CronUnique::default()), Unique::default(), "as Oban's list without a key");
    let all = of(CronUnique {
        fields: words(&["args", "meta"]),
        keys: words(&["id"]),
        period: Some(PeriodOrOff::OFF),
        states: words(&["scheduled", "executing"]),
        timestamp: Some("scheduled_at".into()),
    });
    let wanted = Unique {
        fields: vec![UniqueField::Args, UniqueField::Meta],
        keys: vec!["id".into()],
        period: None,
        states: vec![State::Scheduled, State::Executing],
        timestamp: UniqueTimestamp::ScheduledAt,
    };
    assert_eq!(all, wanted);
    for timestamp in UNIQUE_TIMESTAMPS {
        of(CronUnique { timestamp: Some(timestamp.into()), ..CronUnique::default() });
    }
    let every =
        of(CronUnique { fields: words(&UNIQUE_FIELDS), states: words(&UNIQUE_STATES), ..CronUnique::default() });
    assert_eq!(every.fields.len(), 4);
    assert!(State::ALL.iter().all(|state| every.states.contains(state)));
}

#[test]
fn dashboards_are_told_of_what_elixir_reads() {
    let told = |expr: &str| crontab(entry(expr, CatchUp::None), LEASE).told().len();
    assert_eq!(["0 6 * * MON-FRI", "@reboot", "@daily", "0 0 29 2 *"].map(told), [1; 4]);
    assert_eq!(["*/30 * * * * *", "0 0 6 * * MON-FRI"].map(told), [0; 2]);
}

proptest! {
    /// Whatever the moments of the ticks: every time gets one job where all are made up for, and each at most one else.
    #[test]
    fn ticks_at_any_moments_insert_each_time_at_most_once(
        ticks in prop::collection::vec(1..200_000_i64, 1..30), policy in 0..3_usize,
    ) {
        let policy = [CatchUp::None, CatchUp::Last, CatchUp::All][policy];
        let crontab = crontab(entry("*/10 * * * * *", policy), LEASE);
        let (mut decided, mut now, mut inserted) = (at("00:00:00"), at("00:00:00"), Vec::new());
        for tick in &ticks {
            now += chrono::TimeDelta::milliseconds(*tick);
            for decision in crontab.plan(&[Some(decided)], now, None).decisions {
                prop_assert_eq!(decision.from, decided);
                decided = decision.until;
                inserted.extend(decision.jobs.iter().map(|(due, _)| *due));
            }
        }
        let unique: std::collections::BTreeSet<_> = inserted.iter().copied().collect();
        prop_assert_eq!(unique.len(), inserted.len());
        prop_assert!(inserted.is_sorted());
        let seconds = usize::try_from((now - at("00:00:00")).num_seconds()).unwrap();
        if policy == CatchUp::All && inserted.len() < CRON_JOBS_MAX {
            prop_assert_eq!(inserted.len(), seconds / 10);
        }
    }
}

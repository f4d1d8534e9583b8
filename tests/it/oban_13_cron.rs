//! Conformance, point 13: cron rows for a minute boundary, and the grammar of expressions.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use serde_json::{Value, json};
use singularity::config::{Cron, Object, Period};
use singularity::cron::Expression;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

/// A minute boundary lies behind the present by less than a minute, so a leader inserts its job as soon as it leads.
#[tokio::test]
async fn oban_13_cron_rows_for_a_minute_boundary() {
    let (db, database) = TestDb::migrated().await;
    let object = |value: Value| Object(value.as_object().unwrap().clone());
    let entry = Cron {
        expr: "* * * * *".into(),
        worker: "MyApp.Minutely".into(),
        args: object(json!({"mode": "fast"})),
        queue: Some("elsewhere".into()),
        max_attempts: Some(3),
        priority: Some(2),
        tags: Some(vec!["Often".into()]),
        meta: object(json!({"owner": "ops"})),
        timezone: "Europe/Berlin".into(),
        ..Cron::default()
    };
    let known = "INSERT INTO cron_entries (oban_name, name, expr, timezone, decided_until)
                 VALUES ('Oban', 'minutely', '* * * * *', 'Europe/Berlin', date_trunc('minute', now()) - interval '1 s')";
    sqlx::query(known).execute(database.pool()).await.unwrap();
    let started = Utc::now();
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.services.leader.lease = Period::from_secs(300);
        config.cron.insert("minutely".into(), entry);
    })
    .await;
    let row: Value = until("the row", || async {
        let first = "SELECT to_jsonb(j) FROM oban_jobs j ORDER BY id LIMIT 1";
        sqlx::query_scalar(first).fetch_optional(database.pool()).await.unwrap()
    })
    .await;
    let fields =
        ["state", "queue", "worker", "args", "attempt", "max_attempts", "priority", "tags", "errors", "attempted_by"];
    let found: Vec<&Value> = fields.iter().map(|field| &row[field]).collect();
    let expected = [
        json!("available"),
        json!("elsewhere"),
        json!("MyApp.Minutely"),
        json!({"mode": "fast"}),
        json!(0),
        json!(3),
        json!(2),
        json!(["often"]),
        json!([]),
        json!(null),
    ];
    assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{row}");
    let mut meta = row["meta"].clone();
    let at: DateTime<Utc> = meta["cron_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((at.second(), at.nanosecond()), (0, 0), "{meta}");
    assert!(at <= Utc::now() && at > started - TimeDelta::minutes(2), "{at}");
    meta.as_object_mut().unwrap().remove("cron_at");
    let obans = json!({
        "cron": true, "cron_expr": "* * * * *", "cron_name": "minutely", "cron_tz": "Europe/Berlin", "owner": "ops",
    });
    assert_eq!(meta, obans);
    // By the database's clock: inserted and due in the same moment, after the boundary.
    let due: DateTime<Utc> = format!("{}Z", row["scheduled_at"].as_str().unwrap()).parse().unwrap();
    assert!(due >= at, "{row}");
    node.shutdown().await;
}

/// With seconds, three boundaries pass within a test's patience.
#[tokio::test]
async fn oban_13_cron_rows_follow_boundaries_as_they_pass() {
    let (db, database) = TestDb::migrated().await;
    let entry =
        Cron { expr: "* * * * * *".into(), worker: "w".into(), queue: Some("elsewhere".into()), ..Cron::default() };
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.cron.insert("secondly".into(), entry);
    })
    .await;
    let rows = until("three rows", || async {
        let sql = "SELECT (meta->>'cron_at')::timestamptz, timezone('UTC', inserted_at) FROM oban_jobs ORDER BY id";
        let rows: Vec<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(sql).fetch_all(database.pool()).await.unwrap();
        (rows.len() >= 3).then_some(rows)
    })
    .await;
    assert!(rows.windows(2).all(|pair| pair[1].0 - pair[0].0 == TimeDelta::seconds(1)), "{rows:?}");
    assert!(rows.iter().all(|(at, inserted)| inserted >= at), "never early: {rows:?}");
    node.shutdown().await;
}

/// Facts of Oban for Elixir 2.23 and 2.24: what its parser takes.
const TAKEN: [&str; 24] = [
    "* * * * *",
    "0 0 1 1 0",
    "59 23 31 12 6",
    "*/2 */3 */4 */5 */6",
    "1,2,3 4,5 6,7 8,9 0,1",
    "1-5 1-5 1-5 1-5 1-5",
    "0-30/5 * * * *",
    "10/5 * * * *",
    "*/99 * * * *",
    "0 0 * JAN *",
    "0 0 * JAN,JUN-AUG *",
    "0 0 * * SUN",
    "0 0 * * MON-FRI",
    "0 0 1 JAN SUN",
    "  0 0 * * *  ",
    "0  0\t*  *  *",
    "@annually",
    "@yearly",
    "@monthly",
    "@weekly",
    "@midnight",
    "@daily",
    "@hourly",
    "@reboot",
];

/// And what it refuses; six fields are taken here as an extension.
const REFUSED: [&str; 21] = [
    "",
    "* * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 0 *",
    "* * * 13 *",
    "* * * * 7",
    "5-1 * * * *",
    "*/0 * * * *",
    "*/100 * * * *",
    "ONE * * * *",
    "* * * * mon",
    "* * L * *",
    "* * 1W * *",
    "* * * * 5#2",
    "* * ? * *",
    "0 0 30 2 *",
    "@secondly",
    "* * * * * * *",
];

#[test]
fn oban_13_cron_grammar() {
    for text in TAKEN {
        let expression = Expression::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(!expression.is_extended(), "{text:?} may be shown to Oban nodes");
    }
    for text in REFUSED {
        assert!(Expression::from_str(text).is_err(), "{text:?}");
    }
    assert!(Expression::from_str("* * * * * *").unwrap().is_extended(), "no Oban node may be shown it");
}

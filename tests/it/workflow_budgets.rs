//! The statements on budgets: what is promised, given back and settled, by several at once and after crashes.

use std::time::Duration;

use singularity::config::{Budget, BudgetPeriod};
use singularity::workflow::{Budgets, Holder, Limited, Spent};
use uuid::Uuid;

use crate::support::db::TestDb;

fn requests(requests: u64) -> Budget {
    Budget { requests: Some(requests), ..Budget::default() }
}

#[tokio::test]
async fn money_is_never_promised_twice_however_many_ask_at_once() {
    let (db, first) = TestDb::migrated().await;
    let limit = Limited { name: "tight".into(), budget: Budget { usd: Some(1.0), ..Budget::default() } };
    let other = Limited { name: "wide".into(), budget: Budget { usd: Some(100.0), ..Budget::default() } };
    let mut tasks = tokio::task::JoinSet::new();
    let mut pools = vec![first];
    for _ in 0..3 {
        pools.push(db.connect("public").await);
    }
    for job_id in 0..60_i64 {
        let budgets = Budgets::new(pools[usize::try_from(job_id).unwrap() % pools.len()].clone());
        let limits = [limit.clone(), other.clone()];
        tasks.spawn(async move {
            let id = Uuid::now_v7();
            let holder = Holder { job_id, instance_id: "one", attempted_at: None };
            // Each may cost 7 cents and costs 6 in the end.
            let reserved = budgets.reserve(&limits, id, 70_000_000, holder, Duration::from_secs(60)).await.unwrap();
            (id, reserved.is_ok())
        });
    }
    let promised: Vec<Uuid> = tasks.join_all().await.into_iter().filter(|(_, ok)| *ok).map(|(id, _)| id).collect();
    assert_eq!(promised.len(), 14, "14 times 7 cents fit into a dollar");
    let budgets = Budgets::new(pools[0].clone());
    let limits = [limit, other];
    let windows = budgets.windows(&limits).await.unwrap();
    assert_eq!(windows.iter().map(|window| window.reserved_nanousd).collect::<Vec<_>>(), [980_000_000; 2]);
    for id in promised {
        // Twice, as after a lost reply.
        budgets.settle(id, Spent::Call(Some(60_000_000))).await.unwrap();
        budgets.settle(id, Spent::Call(Some(60_000_000))).await.unwrap();
    }
    for window in budgets.windows(&limits).await.unwrap() {
        assert_eq!((window.spent_nanousd, window.requests), (14 * 60_000_000, 14));
        assert_eq!((window.reserved_nanousd, window.reserved_requests), (0, 0));
    }
}

#[tokio::test]
async fn what_a_crashed_attempt_was_promised_comes_back() {
    let (db, database) = TestDb::migrated().await;
    let budgets = Budgets::new(database);
    let limits = [Limited { name: "one".into(), budget: requests(1) }];
    let began = chrono::Utc::now();
    let at = |job_id, attempt: i64| {
        let attempted_at = Some(began + chrono::TimeDelta::seconds(attempt));
        Holder { job_id, instance_id: "one", attempted_at }
    };
    let holder = |job_id| at(job_id, 1);
    let minute = Duration::from_secs(60);
    let (first, second, third) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(budgets.reserve(&limits, first, 0, holder(1), minute).await.unwrap(), Ok(()));
    let refused = budgets.reserve(&limits, second, 0, holder(2), minute).await.unwrap().unwrap_err();
    assert!(refused.reason.starts_with("is promised to calls under way") && refused.wait <= minute, "{refused}");
    // Another call of the same attempt is one more. The next attempt has it at once, others when it expires.
    assert!(budgets.reserve(&limits, second, 0, holder(1), minute).await.unwrap().is_err());
    assert_eq!(budgets.reserve(&limits, second, 0, at(1, 2), minute).await.unwrap(), Ok(()));
    db.execute("UPDATE budget_reservations SET expires_at = now() - interval '1 second'").await;
    assert_eq!(budgets.reserve(&limits, third, 0, holder(3), minute).await.unwrap(), Ok(()));
    // One that was not dead is settled all the same, and gives nothing back twice.
    budgets.settle(second, Spent::Call(Some(5))).await.unwrap();
    let window = &budgets.windows(&limits).await.unwrap()[0];
    assert_eq!((window.requests, window.spent_nanousd, window.reserved_requests), (1, 5, 1));
    budgets.settle(third, Spent::Nothing).await.unwrap();
    let window = &budgets.windows(&limits).await.unwrap()[0];
    assert_eq!((window.requests, window.spent_nanousd, window.reserved_requests), (1, 5, 0));
}

#[tokio::test]
async fn a_reservation_that_is_repeated_because_its_answer_was_lost_is_one() {
    let (_db, database) = TestDb::migrated().await;
    let budgets = Budgets::new(database);
    let holder = Holder { job_id: 1, instance_id: "one", attempted_at: Some(chrono::Utc::now()) };
    // With room for another, and without.
    for calls in [2, 1] {
        let limits = [Limited { name: calls.to_string(), budget: requests(calls) }];
        let id = Uuid::now_v7();
        for _ in 0..2 {
            assert_eq!(budgets.reserve(&limits, id, 7, holder, Duration::from_secs(60)).await.unwrap(), Ok(()));
        }
        let window = &budgets.windows(&limits).await.unwrap()[0];
        assert_eq!((window.reserved_requests, window.reserved_nanousd), (1, 7));
    }
}

#[tokio::test]
async fn what_one_budget_promised_is_not_lost_by_the_clearing_of_another() {
    let (db, database) = TestDb::migrated().await;
    let budgets = Budgets::new(database.clone());
    let of = |name: &str| Limited { name: name.into(), budget: Budget { period: BudgetPeriod::Month, ..requests(9) } };
    let (one, other) = ([of("one")], [of("other")]);
    let holder = Holder { job_id: 1, instance_id: "one", attempted_at: Some(chrono::Utc::now()) };
    let minute = Duration::from_secs(60);
    let reserve = |limits| budgets.reserve(limits, Uuid::now_v7(), 7, holder, minute);
    reserve(&one).await.unwrap().unwrap();
    // Its instance died, and for days nobody had a call of this budget.
    let all_long_ago = "UPDATE budget_reservations SET expires_at = now() - interval '3 days'";
    db.execute(all_long_ago).await;
    reserve(&other).await.unwrap().unwrap();
    reserve(&one).await.unwrap().unwrap();
    let window = &budgets.windows(&one).await.unwrap()[0];
    assert_eq!((window.reserved_requests, window.reserved_nanousd), (1, 7), "the dead one's is given back");
    // What was given back, and what is of a period that is over, is cleared away.
    db.execute(all_long_ago).await;
    db.execute("UPDATE budget_windows SET ends_at = now() WHERE budget = 'one'").await;
    reserve(&other).await.unwrap().unwrap();
    let left: Vec<(String, bool)> =
        sqlx::query_as("SELECT budget, released FROM budget_reservations").fetch_all(database.pool()).await.unwrap();
    assert_eq!(left, [("other".to_owned(), false)]);
}

#[tokio::test]
async fn a_day_is_that_of_its_zone() {
    let (_db, database) = TestDb::migrated().await;
    let budgets = Budgets::new(database);
    for (zone, hours) in [("Etc/UTC", 24..=24), ("Europe/Berlin", 23..=25), ("Asia/Kathmandu", 24..=24)] {
        let limit = Limited { name: zone.into(), budget: Budget { timezone: zone.into(), ..requests(1) } };
        let window = &budgets.windows(&[limit]).await.unwrap()[0];
        assert!(hours.contains(&(window.ends_at - window.starts_at).num_hours()), "{zone} {window:?}");
        let minutes = (window.starts_at.timestamp() / 60) % 60;
        assert_eq!(minutes, if zone == "Asia/Kathmandu" { 15 } else { 0 }, "{zone} {window:?}");
    }
}

//! Settings of queues that operators wanted to outlive restarts: what they make of the configuration, and which orders
//! carry out what has changed since.
//!
//! Pure. A setting that cannot be used is passed over and reported: it must not keep an instance from starting.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::Queue;
use crate::instance::Setting;
use crate::postgres::notifier::message::QUEUE_ANY;
use crate::queue::{LIMIT_MAX, QueueOrder};

/// Queues by name, also those that do not start.
pub(super) type Table = BTreeMap<String, Queue>;

/// Start of the keys of queues.
const PREFIX: &str = "queues.";

/// The values that an order leaves behind when it is to be kept, by key.
pub fn kept(order: &QueueOrder) -> Vec<(String, Value)> {
    let key = |name: &str| format!("{PREFIX}{}.{name}", order.queue());
    match order {
        QueueOrder::Pause { .. } => vec![(key("paused"), true.into())],
        QueueOrder::Resume { .. } => vec![(key("paused"), false.into())],
        QueueOrder::Scale { limit, .. } => vec![(key("limit"), (*limit).into())],
        QueueOrder::Start { limit, paused, .. } => {
            vec![(key("limit"), (*limit).into()), (key("paused"), (*paused).into()), (key("start"), true.into())]
        }
        QueueOrder::Stop { .. } => vec![(key("start"), false.into())],
    }
}

/// Every key that an order about this queue may leave behind.
pub fn keys_of(queue: &str) -> Vec<String> {
    ["limit", "paused", "start"].iter().map(|name| format!("{PREFIX}{queue}.{name}")).collect()
}

/// The queue that a setting is about, and which of its values.
pub fn queue_of(key: &str) -> Option<(&str, &str)> {
    // A queue's name may have dots in it.
    key.strip_prefix(PREFIX)?.rsplit_once('.')
}

/// The configured queues with what is kept laid over them; and what of it cannot be used, in words.
pub(super) fn laid_over(configured: &Table, settings: &[Setting]) -> (Table, Vec<String>) {
    let (mut queues, mut unusable) = (configured.clone(), Vec::new());
    // Others keep theirs in the same table.
    let mut settings: Vec<&Setting> = settings.iter().filter(|setting| setting.key.starts_with(PREFIX)).collect();
    // The last word counts, whether it is about one queue or about all.
    settings.sort_by_key(|setting| setting.set_at);
    // A start comes first: it alone makes a queue that the configuration does not have.
    let is_start = |setting: &&Setting| queue_of(&setting.key).is_some_and(|(_, name)| name == "start");
    let (starts, others): (Vec<_>, Vec<_>) = settings.into_iter().partition(is_start);
    for setting in starts.into_iter().chain(others) {
        let refused = match queue_of(&setting.key) {
            Some((queue, name)) => apply(&mut queues, queue, name, &setting.value),
            None => Some("no key of a queue"),
        };
        if let Some(reason) = refused {
            unusable.push(format!("{} = {}: {reason}", setting.key, setting.value));
        }
    }
    (queues, unusable)
}

/// Sets one value; returns why it cannot be.
fn apply(queues: &mut Table, queue: &str, name: &str, value: &Value) -> Option<&'static str> {
    if queue == QUEUE_ANY {
        return match (name, value) {
            ("paused", Value::Bool(paused)) => {
                queues.values_mut().for_each(|queue| queue.paused = *paused);
                None
            }
            ("paused", _) => Some("not true or false"),
            _ => Some("no key that can be kept for all queues"),
        };
    }
    if name == "start" && value == true && !queues.contains_key(queue) {
        let order = QueueOrder::Start { queue: queue.to_owned(), limit: 1, paused: false };
        if order.check().is_err() {
            return Some("no name of a queue that could start");
        }
        queues.insert(queue.to_owned(), Queue::default());
    }
    // Of a queue that this instance does not have: of no interest here.
    let settings = queues.get_mut(queue)?;
    match (name, value) {
        ("start", Value::Bool(start)) => settings.start = *start,
        ("paused", Value::Bool(paused)) => settings.paused = *paused,
        ("start" | "paused", _) => return Some("not true or false"),
        ("limit", value) => {
            let limit = value.as_u64().and_then(|limit| u32::try_from(limit).ok());
            match limit.filter(|limit| (1..=LIMIT_MAX).contains(limit)) {
                Some(limit) => settings.limit = limit,
                None => return Some("not a number from 1 to 10000"),
            }
        }
        _ => return Some("no key that can be kept"),
    }
    None
}

/// What has to be ordered when queues that were as in `before` shall be as in `after`.
pub(super) fn orders(before: &Table, after: &Table) -> Vec<QueueOrder> {
    let mut orders = Vec::new();
    let starts = |table: &Table, name: &str| table.get(name).filter(|queue| queue.start).cloned();
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let queue = || name.clone();
        match (starts(before, name), starts(after, name)) {
            (None, Some(Queue { limit, paused, .. })) => {
                orders.push(QueueOrder::Start { queue: queue(), limit, paused });
            }
            (Some(_), None) => orders.push(QueueOrder::Stop { queue: queue() }),
            (Some(old), Some(new)) => {
                if old.limit != new.limit {
                    orders.push(QueueOrder::Scale { queue: queue(), limit: new.limit });
                }
                match (old.paused, new.paused) {
                    (false, true) => orders.push(QueueOrder::Pause { queue: queue() }),
                    (true, false) => orders.push(QueueOrder::Resume { queue: queue() }),
                    _ => {}
                }
            }
            (None, None) => {}
        }
    }
    orders
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    fn setting(key: &str, value: Value) -> Setting {
        Setting {
            scope: "fleet".into(),
            instance_id: String::new(),
            key: key.into(),
            value,
            author: "a".into(),
            reason: None,
            set_at: DateTime::UNIX_EPOCH,
            expires_at: None,
        }
    }

    fn configured() -> Table {
        let gpu = Queue { start: false, ..Queue::default() };
        [("default".to_owned(), Queue::default()), ("gpu".to_owned(), gpu)].into()
    }

    fn over(settings: &[(&str, Value)]) -> (Table, Vec<String>) {
        let settings: Vec<Setting> = settings.iter().map(|(key, value)| setting(key, value.clone())).collect();
        laid_over(&configured(), &settings)
    }

    #[test]
    fn what_is_kept_is_laid_over_the_configuration_and_the_later_counts() {
        let (queues, unusable) = over(&[
            ("queues.default.limit", json!(3)),
            ("queues.default.limit", json!(20)),
            ("queues.default.paused", json!(true)),
            ("queues.Mailers.v2.limit", json!(4)),
            ("queues.Mailers.v2.start", json!(true)),
            ("queues.elsewhere.limit", json!(4)),
        ]);
        assert_eq!(unusable, [""; 0]);
        assert_eq!((queues["default"].limit, queues["default"].paused), (20, true));
        assert_eq!((queues["Mailers.v2"].limit, queues["Mailers.v2"].start), (4, true));
        assert_eq!((queues["gpu"].start, queues.len()), (false, 3), "one that is not here does not begin with a limit");
    }

    #[test]
    fn a_pause_of_all_queues_is_kept_for_each_until_a_later_word_about_one() {
        let all = QueueOrder::Pause { queue: QUEUE_ANY.into() };
        let one = QueueOrder::Resume { queue: "default".into() };
        let start = QueueOrder::Start { queue: "new".into(), limit: 2, paused: false };
        let paused = |orders: [&QueueOrder; 3]| {
            let mut settings: Vec<Setting> = (0..)
                .zip(orders)
                .flat_map(|(second, order)| kept(order).into_iter().map(move |one| (second, one)))
                .map(|(second, (key, value))| Setting {
                    set_at: DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second),
                    ..setting(&key, value)
                })
                .collect();
            // The table gives them by key, in whatever order that is.
            settings.reverse();
            let (queues, unusable) = laid_over(&configured(), &settings);
            assert_eq!(unusable, [""; 0]);
            ["default", "gpu", "new"].map(|name| queues[name].paused)
        };
        assert_eq!(paused([&all, &one, &start]), [false, true, false]);
        assert_eq!(paused([&start, &one, &all]), [true, true, true]);
        assert_eq!(paused([&start, &all, &one]), [false, true, true]);
        assert_eq!(keys_of(QUEUE_ANY)[1], kept(&all)[0].0, "and it can be forgotten");
        let (queues, unusable) = over(&[("queues.*.limit", json!(3)), ("queues.*.paused", json!("yes"))]);
        assert_eq!((queues, unusable.len()), (configured(), 2));
    }

    #[test]
    fn what_cannot_be_used_is_reported_and_passed_over() {
        let (queues, unusable) = over(&[
            ("queues.default.limit", json!(0)),
            ("queues.default.limit", json!(10_001)),
            ("queues.default.limit", json!("7")),
            ("queues.default.paused", json!(1)),
            ("queues.default.poll_interval", json!("1s")),
            ("queues.a/b.start", json!(true)),
            // Whose these are looks after them.
            ("routing.pin.complex", json!("opus")),
            ("log.filter", json!("debug")),
        ]);
        assert_eq!((queues, unusable.len()), (configured(), 6));
        assert!(unusable.iter().any(|text| text.starts_with("queues.default.limit = 0: ")), "{unusable:?}");
    }

    #[test]
    fn the_orders_between_two_tables_lead_from_the_one_to_the_other() {
        let tables = [
            over(&[]).0,
            over(&[("queues.default.limit", json!(3)), ("queues.default.paused", json!(true))]).0,
            over(&[("queues.default.start", json!(false)), ("queues.gpu.start", json!(true))]).0,
            over(&[("queues.new.start", json!(true)), ("queues.new.limit", json!(2))]).0,
        ];
        for before in &tables {
            for after in &tables {
                let orders = orders(before, after);
                assert_eq!(orders.is_empty(), before == after);
                // Carried out as an instance does it, they make the same queues run in the same way.
                let mut now: BTreeMap<String, (u32, bool)> = running(before);
                for order in &orders {
                    let name = order.queue().to_owned();
                    match order {
                        QueueOrder::Start { limit, paused, .. } => drop(now.insert(name, (*limit, *paused))),
                        QueueOrder::Stop { .. } => drop(now.remove(&name)),
                        QueueOrder::Scale { limit, .. } => now.get_mut(&name).unwrap().0 = *limit,
                        QueueOrder::Pause { .. } => now.get_mut(&name).unwrap().1 = true,
                        QueueOrder::Resume { .. } => now.get_mut(&name).unwrap().1 = false,
                    }
                }
                assert_eq!(now, running(after));
            }
        }
    }

    fn running(table: &Table) -> BTreeMap<String, (u32, bool)> {
        let running = table.iter().filter(|(_, queue)| queue.start);
        running.map(|(name, queue)| (name.clone(), (queue.limit, queue.paused))).collect()
    }

    #[test]
    fn an_order_leaves_behind_what_brings_its_effect_back() {
        let queue = || "default".to_owned();
        for (order, wanted) in [
            (QueueOrder::Scale { queue: queue(), limit: 4 }, (4, false, true)),
            (QueueOrder::Pause { queue: queue() }, (10, true, true)),
            (QueueOrder::Resume { queue: queue() }, (10, false, true)),
            (QueueOrder::Stop { queue: queue() }, (10, false, false)),
            (QueueOrder::Start { queue: queue(), limit: 6, paused: true }, (6, true, true)),
        ] {
            let left: Vec<Setting> = kept(&order).iter().map(|(key, value)| setting(key, value.clone())).collect();
            assert!(left.iter().all(|setting| keys_of("default").contains(&setting.key)));
            let (queues, unusable) = laid_over(&configured(), &left);
            let default = &queues["default"];
            assert_eq!((default.limit, default.paused, default.start), wanted, "{order:?}, {unusable:?}");
        }
    }
}

//! Who paused queues and why, and what operators keep for them: the lines below the tables.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::cli::output;
use crate::instance::Setting;
use crate::node::{kept, queue_of};
use crate::postgres::notifier::message::QUEUE_ANY;
use crate::queue::{Pause, QueueOrder};

/// A pause of a queue on an instance.
pub(super) struct Paused<'a> {
    pub(super) queue: &'a str,
    pub(super) instance_id: &'a str,
    pub(super) pause: &'a Pause,
}

/// `default is paused on a, b by ann@host, process 7, 5m 3s ago: sale`, one line an order.
pub(super) fn pauses<'a>(all: impl IntoIterator<Item = Paused<'a>>, now: DateTime<Utc>) -> Vec<String> {
    let mut orders: BTreeMap<_, (Vec<&str>, DateTime<Utc>)> = BTreeMap::new();
    for Paused { queue, instance_id, pause } in all {
        let order = orders.entry((queue, &pause.by, pause.why.as_deref())).or_insert((Vec::new(), pause.at));
        order.0.push(instance_id);
        order.1 = order.1.min(pause.at);
    }
    let mut lines = Vec::new();
    for ((queue, by, why), (instances, at)) in orders {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let (instances, at) = (instances.join(", "), output::relative(at, now));
        lines.push(format!("{queue} is paused on {instances} by {by}, {at}{why}"));
    }
    lines
}

/// `kept for all: limit = 20, by ann@host, 5m 3s ago: sale`
pub(super) fn kept_line(setting: &Setting, now: DateTime<Utc>) -> String {
    let name = match queue_of(&setting.key) {
        Some((QUEUE_ANY, name)) => format!("{name} of all queues"),
        Some((_, name)) => name.to_owned(),
        None => setting.key.clone(),
    };
    let whom = if setting.instance_id.is_empty() { "all" } else { &setting.instance_id };
    let until = setting.expires_at.map(|at| format!(", ends {}", output::relative(at, now))).unwrap_or_default();
    let reason = setting.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (value, author, set) = (&setting.value, &setting.author, output::relative(setting.set_at, now));
    format!("kept for {whom}: {name} = {value}, by {author}, {set}{until}{reason}")
}

/// Of what is kept, that which undoes an order that is not kept: at the next start of an instance it holds again.
pub(super) fn against<'a>(order: &QueueOrder, instance: Option<&str>, settings: &'a [Setting]) -> Vec<&'a Setting> {
    let wanted: BTreeMap<String, _> =
        kept(order).into_iter().filter_map(|(key, value)| Some((queue_of(&key)?.1.to_owned(), value))).collect();
    let is_meant = |setting: &&Setting| {
        let here = setting.instance_id.is_empty() || instance.is_none_or(|instance| instance == setting.instance_id);
        let about = |queue: &str| order.is_about(queue) || queue == QUEUE_ANY;
        here && queue_of(&setting.key).is_some_and(|(queue, name)| about(queue) && wanted.contains_key(name))
    };
    let meant: Vec<&Setting> = settings.iter().filter(is_meant).collect();
    // The last word counts where both hold.
    let is_outdone = |setting: &&Setting| {
        meant.iter().any(|later| {
            let of =
                |setting: &Setting| queue_of(&setting.key).map(|(queue, name)| (queue.to_owned(), name.to_owned()));
            let (Some((queue, name)), Some((later_queue, later_name))) = (of(setting), of(later)) else { return false };
            let holds_there = later.instance_id.is_empty() || later.instance_id == setting.instance_id;
            let is_about_it = later_queue == queue || later_queue == QUEUE_ANY || order.queue() != QUEUE_ANY;
            later.set_at > setting.set_at && later_name == name && holds_there && is_about_it
        })
    };
    let differs = |setting: &&Setting| {
        queue_of(&setting.key).and_then(|(_, name)| wanted.get(name)).is_some_and(|value| *value != setting.value)
    };
    meant.iter().copied().filter(|setting| !is_outdone(setting) && differs(setting)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn setting(key: &str, value: Value, instance: &str, second: i64) -> Setting {
        Setting {
            scope: if instance.is_empty() { "fleet" } else { "instance" }.into(),
            instance_id: instance.into(),
            key: key.into(),
            value,
            author: "ann".into(),
            reason: None,
            set_at: DateTime::from_timestamp(second, 0).unwrap(),
            expires_at: None,
        }
    }

    #[test]
    fn one_order_is_one_line_however_many_instances_it_paused() {
        let at = DateTime::UNIX_EPOCH;
        let of = |by: &str, why: Option<&str>| Pause { by: by.into(), why: why.map(str::to_owned), at };
        let (one, two) = (of("ann", Some("sale")), of("bob", None));
        let paused = [("a", &one), ("b", &one), ("c", &two)];
        let lines = pauses(paused.map(|(instance_id, pause)| Paused { queue: "mail", instance_id, pause }), at);
        assert_eq!(lines, ["mail is paused on a, b by ann, 0ms ago: sale", "mail is paused on c by bob, 0ms ago"]);
    }

    #[test]
    fn what_is_kept_against_an_order_is_what_would_undo_it() {
        let resume = |queue: &str| QueueOrder::Resume { queue: queue.into() };
        let (paused, all) = ("queues.mail.paused", "queues.*.paused");
        let of = |order: &QueueOrder, instance, settings: &[Setting]| against(order, instance, settings).len();
        assert_eq!(of(&resume("mail"), None, &[setting(paused, json!(true), "", 1)]), 1);
        assert_eq!(of(&resume("mail"), None, &[setting(paused, json!(false), "", 1)]), 0, "it says the same");
        assert_eq!(of(&resume("mail"), None, &[setting(all, json!(true), "", 1)]), 1);
        assert_eq!(of(&resume("*"), None, &[setting(paused, json!(true), "", 1)]), 1);
        assert_eq!(of(&resume("sms"), None, &[setting(paused, json!(true), "", 1)]), 0);
        assert_eq!(of(&resume("mail"), Some("a"), &[setting(paused, json!(true), "b", 1)]), 0);
        assert_eq!(of(&resume("mail"), None, &[setting(paused, json!(true), "b", 1)]), 1);
        let both = [setting(all, json!(true), "", 1), setting(paused, json!(false), "", 2)];
        assert_eq!((of(&resume("mail"), None, &both), of(&resume("*"), None, &both)), (0, 1), "the last word counts");
        let scale = QueueOrder::Scale { queue: "mail".into(), limit: 3 };
        assert_eq!(of(&scale, None, &[setting("queues.mail.limit", json!(5), "", 1)]), 1);
        assert_eq!(of(&scale, None, &[setting(paused, json!(true), "", 1)]), 0);
    }
}

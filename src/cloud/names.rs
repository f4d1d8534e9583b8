//! How the pgmq queues and topics of a fleet are called.
//!
//! pgmq takes names of at most 47 characters, is safe only with `[a-z0-9_]`, and knows no schemas: two fleets in two
//! schemas of one database would share their queues. So an instance id becomes a slug, and outside of the schema
//! `public` every name carries a hash of its schema.

use sha2::{Digest, Sha256};

use crate::postgres::SchemaName;

/// Longest slug of an instance: with the longest name around it, `instance_learning_…_dlq`, it stays within pgmq's 47.
pub const INSTANCE_SLUG_MAX: usize = 25;

/// Hexadecimal digits of a hash in a name.
const HASH_DIGITS: usize = 8;

/// The schema whose fleet has the plain names.
const PLAIN_SCHEMA: &str = "public";

/// Names of queues and topics of the fleet in one schema. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Hash of the schema; empty for `public`.
    fleet: String,
}

impl Names {
    /// The names of the fleet in `schema`.
    pub fn new(schema: &SchemaName) -> Self {
        Self { fleet: if schema.as_str() == PLAIN_SCHEMA { String::new() } else { hash(&[schema.as_str()]) } }
    }

    /// What stands for an instance in names: the id itself where it is short and of `[a-z0-9_]` and the schema is
    /// `public`; else the start of it, cleaned, and a hash of all of it. At most [`INSTANCE_SLUG_MAX`] characters.
    pub fn slug(&self, instance_id: &str) -> String {
        let cleaned: String = instance_id
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
            .collect();
        if cleaned == instance_id && cleaned.len() <= INSTANCE_SLUG_MAX && self.fleet.is_empty() {
            return cleaned;
        }
        let start: String = cleaned.chars().take(INSTANCE_SLUG_MAX - 1 - HASH_DIGITS).collect();
        format!("{start}_{}", hash(&[&self.fleet, instance_id]))
    }

    /// The queue of what an instance's attempts came to (UP).
    pub fn results(&self, instance_id: &str) -> String {
        format!("{}_results", self.slug(instance_id))
    }

    /// The queue of all instances' aggregates (UP).
    pub fn updates(&self) -> String {
        self.of_fleet("centralcloud_updates")
    }

    /// The queue through which an instance hears of new learnings (DOWN).
    pub fn learning(&self, instance_id: &str) -> String {
        format!("instance_learning_{}", self.slug(instance_id))
    }

    /// Routing key of a learning of type `kind`, such as `learning.model_routing`.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.of_fleet("learning"))
    }

    /// Pattern that every [`topic`](Self::topic) fits, for `pgmq.bind_topic`.
    pub fn topics(&self) -> String {
        format!("{}.#", self.of_fleet("learning"))
    }

    /// Where messages of `queue` go that nobody can use.
    pub fn dead_letters(queue: &str) -> String {
        format!("{queue}_dlq")
    }

    fn of_fleet(&self, name: &str) -> String {
        if self.fleet.is_empty() { name.to_owned() } else { format!("{name}_{}", self.fleet) }
    }
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        // So that two parts are never the same as one.
        hasher.update([0]);
    }
    hasher.finalize().iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Longest name that pgmq takes.
    const QUEUE_NAME_MAX: usize = 47;

    fn names(schema: &str) -> Names {
        Names::new(&schema.parse().unwrap())
    }

    #[test]
    fn plain_ids_are_their_own_slugs() {
        let names = names("public");
        assert_eq!(names.results("instance_a"), "instance_a_results");
        assert_eq!(names.learning("instance_a"), "instance_learning_instance_a");
        assert_eq!(names.updates(), "centralcloud_updates");
        assert_eq!(
            (names.topic("model_routing"), names.topics()),
            ("learning.model_routing".into(), "learning.#".into())
        );
    }

    #[test]
    fn ids_that_look_alike_have_slugs_of_their_own() {
        let names = names("public");
        let ids = ["host:1", "host_1", "HOST_1", "Host:1", "host.1", &"h".repeat(40), &"h".repeat(41)];
        let slugs: std::collections::BTreeSet<_> = ids.iter().map(|id| names.slug(id)).collect();
        assert_eq!(slugs.len(), ids.len(), "{slugs:?}");
        assert!(names.slug("host:1").starts_with("host_1_"));
    }

    #[test]
    fn fleets_in_two_schemas_share_no_name() {
        let (public, other) = (names("public"), names("jobs"));
        assert_ne!(public.results("a"), other.results("a"));
        assert_ne!(public.updates(), other.updates());
        assert_ne!(public.learning("a"), other.learning("a"));
        assert!(!other.topic("x").starts_with("learning."), "{}", other.topic("x"));
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_pgmq_takes(id in "[!-~]{1,63}", schema in "[a-z][a-z0-9_]{0,29}") {
            let Ok(schema) = schema.parse::<SchemaName>() else { return Ok(()) };
            let names = Names::new(&schema);
            for queue in [names.results(&id), names.updates(), names.learning(&id)] {
                let dead = Names::dead_letters(&queue);
                for name in [&queue, &dead] {
                    prop_assert!(name.len() <= QUEUE_NAME_MAX, "{name}");
                    prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
                }
            }
        }
    }
}

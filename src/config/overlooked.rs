//! Environment variables that were meant as values of the configuration, and are none because of their name.
//!
//! One underscore where two are needed is the likely mistake, and no error by itself: other programs may have variables
//! of such names too.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ENV_PREFIX;
use super::load::Loaded;
use super::print::entries;
use super::schema::ROOT;

/// How the names of our variables begin.
const OURS: &str = "SINGULARITY_";
/// Variables that are read, and are no values of the configuration.
const READ: [&str; 1] = ["SINGULARITY_CONFIG"];
/// Typing errors in a name that is still taken for a known one.
const TYPOS_MAX: usize = 2;
/// Shorter names than this are taken for known ones only without a typing error.
const TYPO_CHARS_MIN: usize = 8;

/// A variable that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlooked {
    /// Its name.
    pub name: String,
    /// The name of a variable that would be read.
    pub meant: String,
}

/// Those of `names` that nothing reads and that are nearly the name of a value of `loaded`.
pub fn overlooked<'n>(names: impl IntoIterator<Item = &'n str>, loaded: &Loaded) -> Vec<Overlooked> {
    let names: BTreeSet<&str> =
        names.into_iter().filter(|name| name.starts_with(OURS) && !name.starts_with(ENV_PREFIX)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let entries = entries(loaded);
    let read: BTreeSet<&str> =
        entries.iter().filter_map(|entry| entry.value.as_str()?.strip_prefix("env:")).chain(READ).collect();
    let given: Vec<Vec<&str>> = entries.iter().map(|entry| entry.key.split('.').collect()).collect();
    let known: BTreeMap<String, String> =
        ROOT.leaves().iter().flat_map(|(path, _)| keys(path, &given)).map(|key| (words(&key), key)).collect();
    let near = |name: &str| {
        let name = words(name.strip_prefix(OURS)?);
        if let Some(key) = known.get(&name) {
            return Some(key);
        }
        let typos = |known: &str| strsim::damerau_levenshtein(&name, known);
        let (count, key) = known.iter().map(|(known, key)| (typos(known), key)).min()?;
        (count <= TYPOS_MAX && name.len() >= TYPO_CHARS_MIN).then_some(key)
    };
    let unread = names.into_iter().filter(|name| !read.contains(name));
    unread
        .filter_map(|name| {
            let meant = format!("{ENV_PREFIX}{}", near(name)?.replace('.', "__").to_uppercase());
            Some(Overlooked { name: name.to_owned(), meant })
        })
        .collect()
}

/// The keys that `path` stands for, where `NAME` is each name that `given` keys have there.
fn keys(path: &str, given: &[Vec<&str>]) -> Vec<String> {
    let mut keys: Vec<Vec<&str>> = vec![Vec::new()];
    for segment in path.split('.') {
        keys = keys
            .into_iter()
            .flat_map(|key| {
                let names: BTreeSet<&str> = match segment {
                    "NAME" => {
                        let beside = given.iter().filter(|other| other.starts_with(&key));
                        beside.filter_map(|other| other.get(key.len()).copied()).collect()
                    }
                    fixed => BTreeSet::from([fixed]),
                };
                names.into_iter().map(move |name| [&key[..], &[name]].concat()).collect::<Vec<_>>()
            })
            .collect();
    }
    keys.iter().map(|key| key.join(".")).collect()
}

/// The words of a name, however they are held together.
fn words(name: &str) -> String {
    let lower = name.to_lowercase();
    lower.split(['_', '.', '-']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn variables_that_nothing_reads_are_told_with_the_name_that_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[providers.local]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1\"\napi_key = \"env:SINGULARITY_LOG_FILTER\"\n";
        std::fs::write(dir.path().join("actors.toml"), text).unwrap();
        let loaded = load(&Source { search_dir: dir.path().to_owned(), ..Source::default() }).unwrap();
        let meant = |name: &str| overlooked([name], &loaded).into_iter().next().map(|one| one.meant);
        for (name, right) in [
            ("SINGULARITY_QUEUES_DEFAULT_LIMIT", "SINGULARITY__QUEUES__DEFAULT__LIMIT"),
            ("SINGULARITY_QUEUES__PATTERN_MINING__LIMIT", "SINGULARITY__QUEUES__PATTERN_MINING__LIMIT"),
            ("SINGULARITY_QUEUE_DEFAULT_LIMIT", "SINGULARITY__QUEUES__DEFAULT__LIMIT"),
            ("SINGULARITY_DATABASE_URL", "SINGULARITY__DATABASE__URL"),
            ("SINGULARITY_PROVIDERS_LOCAL_BASE_URL", "SINGULARITY__PROVIDERS__LOCAL__BASE_URL"),
        ] {
            assert_eq!(meant(name).as_deref(), Some(right), "{name}");
        }
        for name in
            ["SINGULARITY_CONFIG", "SINGULARITY_HOME", "SINGULARITY_LOG_FILTER", "SINGULARITY__LOG__FILTER", "PATH"]
        {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}

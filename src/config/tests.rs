//! Tests of loading as a whole; single rules have theirs beside them.

mod instances;
mod layers;
mod problems;
mod shipped;

use std::collections::BTreeMap;

use super::{ConfigErrors, Loaded, Source, load};

/// A folder with an `actors.toml`, an environment and overrides.
struct Case {
    dir: tempfile::TempDir,
    source: Source,
}

impl Case {
    fn new(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("actors.toml"), file).unwrap();
        let source = Source { search_dir: dir.path().to_owned(), ..Source::default() };
        Self { dir, source }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.source.env.insert(name.into(), value.into());
        self
    }

    fn setting(mut self, key: &str, value: &str) -> Self {
        self.source.overrides.push((key.into(), value.into()));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.source)
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The problems as `code line key`, where the line is 0 outside the file.
    fn problems(&self) -> Vec<String> {
        let errors = self.load().err().map(|errors| errors.problems().to_vec()).unwrap_or_default();
        let line = |origin: &super::Origin| if let super::Origin::File { line, .. } = origin { *line } else { 0 };
        errors.iter().map(|p| format!("{} {} {}", p.fault.code(), line(&p.origin), p.key)).collect()
    }

    /// What is printed, without the folder.
    fn report(&self) -> String {
        let text = self.load().err().map(|errors| errors.to_string()).unwrap_or_default();
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

/// Every value of a JSON tree by dotted key, nulls left out.
fn flat(value: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    fn walk(key: &str, value: &serde_json::Value, found: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    walk(&if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, value, found);
                }
            }
            value => {
                found.insert(key.to_owned(), value.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", value, &mut found);
    found
}

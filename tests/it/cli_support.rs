//! What tests of the command line share.

use crate::support::process::{Place, text};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its standard output as the one JSON document that it must be, whose `schema` must be this one.
    pub fn document(&self, schema: &str) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error} in {:?}; stderr: {}", self.out, self.err));
        assert_eq!(value["schema"], schema, "{value}");
        value
    }

    /// Fails unless it ended with this code, said all of `parts` on standard error, and ended with what to try.
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {:?}", self.err);
        }
        let last = self.err.lines().last().unwrap_or_default();
        assert!(last.contains("try"), "the last line does not say what to try: {:?}", self.err);
    }

    /// Fails unless it succeeded.
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }
}

/// Runs the program to its end.
pub fn run(place: &Place, args: &[&str]) -> Ended {
    let output = place.run(args);
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Enqueues with these further arguments and returns the id.
pub fn enqueue(place: &Place, args: &[&str]) -> i64 {
    let args = [&["job", "enqueue"], args, &["--json"]].concat();
    let job = run(place, &args).done().document("singularity.job_enqueue.v1");
    job["id"].as_i64().unwrap_or_else(|| panic!("no id in {job}"))
}

//! Options of `singularity job update`: the new values.

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use super::change::WhichArgs;
use super::enqueue;
use crate::cli::exit::Failure;
use crate::config::Period;
use crate::queue::{Change, JobUpdate, Schedule};

/// Which jobs, and what to write into them.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// New arguments, a JSON object, instead of all old ones
    #[arg(long, help_heading = "New values", value_name = "JSON")]
    set_args: Option<String>,
    /// New data beside the arguments, a JSON object, instead of all old
    #[arg(long, help_heading = "New values", value_name = "JSON")]
    set_meta: Option<String>,
    /// New tags instead of all old ones, separated by commas; "" for none
    #[arg(long, help_heading = "New values", value_name = "TAGS", value_delimiter = ',')]
    set_tags: Option<Vec<String>>,
    /// New queue; not of a job that runs
    #[arg(long, help_heading = "New values", value_name = "QUEUE")]
    set_queue: Option<String>,
    /// New worker; not of a job that runs
    #[arg(long, help_heading = "New values", value_name = "WORKER")]
    set_worker: Option<String>,
    /// New priority, 0 is most urgent, 9 least
    #[arg(long, help_heading = "New values", value_name = "N", value_parser = clap::value_parser!(i32).range(0..=9))]
    set_priority: Option<i32>,
    /// New number of attempts; raised where a job that waits would have none left
    #[arg(long, help_heading = "New values", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=32_767))]
    set_max_attempts: Option<i32>,
    /// Due so long from now, by the database's clock; only of jobs that wait for their time or for a slot
    #[arg(long, help_heading = "New values", value_name = "PERIOD", conflicts_with = "set_at")]
    set_in: Option<Period>,
    /// Due at this moment (RFC 3339)
    #[arg(long, help_heading = "New values", value_name = "TIME", value_parser = enqueue::moment)]
    set_at: Option<DateTime<Utc>>,
}

impl UpdateArgs {
    /// The change, checked, and the jobs.
    ///
    /// # Errors
    /// Values that break a rule, or none at all.
    pub(super) fn change(self) -> Result<(Change, WhichArgs), Failure> {
        let meta = match self.set_meta.as_deref().map(|text| enqueue::object("--set-meta", text)).transpose()? {
            Some(Value::Object(meta)) => Some(meta),
            _ => None,
        };
        let schedule = match (self.set_in, self.set_at) {
            (Some(delay), _) => Some(Schedule::In(delay.get())),
            (None, at) => at.map(Schedule::At),
        };
        let update = JobUpdate {
            args: self.set_args.as_deref().map(|text| enqueue::object("--set-args", text)).transpose()?,
            max_attempts: self.set_max_attempts,
            meta,
            priority: self.set_priority,
            queue: self.set_queue,
            schedule,
            tags: self.set_tags,
            worker: self.set_worker,
        };
        Ok((Change::Update(Box::new(update)).validated()?, self.which))
    }
}

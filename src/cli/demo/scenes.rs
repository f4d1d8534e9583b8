//! The story, scene by scene. Each waits for what it tells until the database shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use super::checks::Checks;
use super::stage::Stage;
use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cloud::{JobSuccess, LearningLine, Share, Tally, Watch};
use crate::queue::Engine;
use crate::workflow::{Batch, BatchRequest, LlmRequest, Requests};

/// Instances that execute. The second one is killed.
const INSTANCES: [&str; 3] = ["instance_a", "instance_b", "instance_c"];
const VICTIM: &str = INSTANCES[1];
const CENTRAL: &str = "centralcloud";
/// The requests that the story begins with.
const FIRST_BATCH: usize = 10;
/// Requests of one wave of the second batch, which are short.
const WAVE: usize = 240;
const WAVE_MAX_TOKENS: u32 = 4;
/// The second batch ends when the cheaper model gets this share of a wave and the saving is proven, or here.
const SHARE_WANTED: f64 = 0.6;
const WAVES_MAX: usize = 24;
/// Time between two looks, and the longest wait for what must come.
const LOOK_INTERVAL: Duration = Duration::from_millis(40);
const WAIT_LIMIT: Duration = Duration::from_secs(45);
/// A decision that changes nothing is not published: how many intervals of learning a wave waits for one that does.
const PATIENCE: u32 = 3;

/// The story as far as it is told.
#[derive(Debug)]
pub(super) struct Story<'a> {
    stage: &'a Stage,
    engine: Engine,
    watch: Watch,
    checks: Checks,
    began: Instant,
    first: Vec<i64>,
    second: Vec<i64>,
    learnings: Vec<LearningLine>,
    shares: Vec<f64>,
}

impl<'a> Story<'a> {
    /// Starts the instances and CentralCloud.
    ///
    /// # Errors
    /// One of them does not start.
    pub(super) async fn begin(stage: &'a Stage) -> Result<Self, Failure> {
        let began = Instant::now();
        let starts = INSTANCES.iter().map(|name| stage.enter(name, "member"));
        let starts = futures_util::future::try_join_all(starts);
        futures_util::future::try_join(stage.enter(CENTRAL, "central"), starts).await?;
        let story = Self {
            stage,
            engine: Engine::new(stage.storage().db().clone()),
            watch: Watch::new(stage.storage().db().clone()),
            checks: Checks::default(),
            began,
            first: Vec::new(),
            second: Vec::new(),
            learnings: Vec::new(),
            shares: Vec::new(),
        };
        story.say("--", format!("{}, and {CENTRAL} are running", INSTANCES.join(", ")));
        Ok(story)
    }

    /// T0: ten requests, claimed by three instances.
    ///
    /// # Errors
    /// Those of the database; not all are claimed in time.
    pub(super) async fn claims(&mut self) -> Result<(), Failure> {
        self.first = self.enqueue("first", FIRST_BATCH, None).await?;
        self.say("T0", format!("{FIRST_BATCH} LLM requests enqueued: {}", jobs(&self.first)));
        let standing = self
            .until("a claim of each request", async || {
                let standing = self.watch.standing(&self.first).await?;
                Ok(standing.iter().all(|job| job.attempt > 0).then_some(standing))
            })
            .await?;
        let mut claims: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for job in standing {
            claims.entry(job.instance_id.unwrap_or_default()).or_default().push(job.job_id);
        }
        for (instance, ids) in &claims {
            self.say("T0", format!("{instance} claims {}", jobs(ids)));
        }
        Ok(())
    }

    /// T1: one instance is killed while it executes, another takes its jobs over.
    ///
    /// # Errors
    /// Those of the database; the results do not come in time.
    pub(super) async fn crash(&mut self) -> Result<(), Failure> {
        let victims: Vec<i64> = self
            .until("a job that the instance to be killed executes", async || {
                let standing = self.watch.standing(&self.first).await?;
                let of_victim = |job: &&crate::cloud::JobStanding| {
                    job.state == "executing" && job.instance_id.as_deref() == Some(VICTIM)
                };
                let ids: Vec<i64> = standing.iter().filter(of_victim).map(|job| job.job_id).collect();
                Ok((!ids.is_empty()).then_some(ids))
            })
            .await?;
        self.stage.kill(VICTIM).await;
        self.say("T1", format!("{VICTIM} is killed (kill -9) while it executes {}", jobs(&victims)));
        let mut told = BTreeSet::new();
        let results = self
            .until("a result of each request", async || {
                let results = self.watch.successes(&self.first).await?;
                for result in results.iter().filter(|result| told.insert(result.job_id)) {
                    self.say("T1", answered(result, victims.contains(&result.job_id)));
                }
                Ok((told.len() == self.first.len()).then_some(results))
            })
            .await?;
        let taken_over =
            results.iter().filter(|result| victims.contains(&result.job_id) && result.instance_id != VICTIM).count();
        self.checks.note(
            "each of the ten requests has exactly one result",
            results.len() == FIRST_BATCH,
            format!("{} results of {} jobs", results.len(), told.len()),
        );
        self.checks.note(
            "what the killed instance executed was done by others",
            !victims.is_empty() && taken_over == victims.len(),
            format!("{taken_over} of {}", victims.len()),
        );
        Ok(())
    }

    /// T2: results arrive at CentralCloud, also those that the killed instance did not report.
    ///
    /// # Errors
    /// Those of the database; the reports do not come in time.
    pub(super) async fn reports(&mut self) -> Result<(), Failure> {
        let (source, centre) = self.reported().await?;
        self.checks.note(
            "CentralCloud counts what the instances did, and nothing twice",
            source == centre,
            format!("{} attempts, {}", centre.attempts, output::dollars(Some(centre.cost_nanousd))),
        );
        for share in self.watch.by_instance().await? {
            self.say("T2", format!("reported: {}", performance(&share)));
        }
        Ok(())
    }

    /// T2 and T3: what CentralCloud makes of it reaches all instances, also the one that was away.
    ///
    /// # Errors
    /// Those of the database; nothing is learned in time.
    pub(super) async fn learnings(&mut self) -> Result<(), Failure> {
        let published = self
            .until("a learning", async || {
                let published = self.watch.published(0).await?;
                Ok((!published.is_empty()).then_some(published))
            })
            .await?;
        self.tell_learnings(published);
        self.stage.enter(VICTIM, "member").await?;
        self.say("T3", format!("{VICTIM} is back"));
        let last = self.synced().await?;
        self.say("T3", format!("{} know all learnings up to number {last}", INSTANCES.join(", ")));
        Ok(())
    }

    /// T3: the next requests are routed by what was learned, and teach on.
    ///
    /// # Errors
    /// Those of the database; results or reports do not come in time.
    pub(super) async fn second_batch(&mut self) -> Result<(), Failure> {
        for number in 1..=WAVES_MAX {
            let ids = self.enqueue(&format!("wave-{number}"), WAVE, Some(WAVE_MAX_TOKENS)).await?;
            self.until("the results of a wave", async || {
                let results = self.watch.successes(&ids).await?;
                Ok((results.len() == ids.len()).then_some(()))
            })
            .await?;
            let by_model = self.watch.by_model(&ids).await?;
            self.second.extend(ids);
            let cheap = by_model.iter().find(|share| share.name == "sonnet").map_or(0, |share| share.successes);
            let share = cheap as f64 / WAVE as f64;
            self.shares.push(share);
            self.say("T3", format!("{WAVE} more requests, {:.0} % of them to sonnet", share * 100.0));
            self.reported().await?;
            let after = self.last_learning();
            let patience = Instant::now() + self.stage.interval() * PATIENCE;
            let published = self
                .until("time for a decision", async || {
                    let published = self.watch.published(after).await?;
                    Ok((!published.is_empty() || Instant::now() > patience).then_some(published))
                })
                .await?;
            self.tell_learnings(published);
            self.synced().await?;
            let proven = self.learnings.iter().any(|learning| learning.kind == "cost_optimization");
            if proven && share >= SHARE_WANTED {
                break;
            }
        }
        Ok(())
    }

    /// Sums up: what each instance did, what was learned, what it saved.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn end(mut self) -> Result<Checks, Failure> {
        let results = self.watch.successes(&self.second).await?;
        let distinct: BTreeSet<i64> = results.iter().map(|result| result.job_id).collect();
        let routed = results.iter().filter(|result| result.policy_version.is_some()).count();
        self.checks.note(
            "each request of the second batch has exactly one result",
            results.len() == self.second.len() && distinct.len() == self.second.len(),
            format!("{} of {}", results.len(), self.second.len()),
        );
        self.checks.note(
            "the second batch was routed by what was learned",
            routed > self.second.len() / 2,
            format!("{routed} of {}", self.second.len()),
        );
        let (first, last) = (self.shares.first().copied(), self.shares.last().copied());
        self.checks.note(
            "the cheaper model gets more and more of the work",
            last >= Some(SHARE_WANTED) && first < last,
            format!("{:.0} % at first, {:.0} % at last", first.unwrap_or(0.0) * 100.0, last.unwrap_or(0.0) * 100.0),
        );
        let claim = self.learnings.iter().find(|learning| learning.kind == "cost_optimization");
        self.checks.note(
            "that it is cheaper is proven, not only seen",
            claim.is_some(),
            claim.map_or_else(|| "no such learning".to_owned(), |claim| format!("learning {}", claim.id)),
        );
        let by_model = self.watch.by_model(&self.second).await?;
        let saved = saved(&by_model);
        self.checks.note("it saved money", saved.is_some_and(|saved| saved > 0), output::dollars(saved));
        let (source, centre) = self.reported().await?;
        self.checks.note(
            "at the end CentralCloud's sums are those of the instances' rows",
            source == centre,
            format!("{} attempts, {} tokens", centre.attempts, centre.tokens),
        );
        let last = self.synced().await?;
        let cursors = self.watch.synced().await?;
        let known = cursors.iter().filter(|(name, _)| INSTANCES.contains(&name.as_str())).count();
        self.checks.note(
            "all instances know the same, also the one that was killed",
            known == INSTANCES.len(),
            format!("learnings 1 to {last}"),
        );

        output::line("");
        let shares = self.watch.by_instance().await?;
        let rows = shares.iter().map(|share| {
            vec![
                share.name.clone(),
                share.successes.to_string(),
                share.failures.to_string(),
                output::dollars(average(share)),
            ]
        });
        output::table(&["instance", "jobs", "failures", "average cost"], rows.collect());
        output::line("");
        for share in &by_model {
            output::line(format!(
                "second batch: {} answered {} requests at {} each",
                share.name,
                share.successes,
                output::dollars(average(share))
            ));
        }
        if let Some(claim) = self.learnings.iter().find(|learning| learning.kind == "cost_optimization") {
            output::line(format!("learned: {}", claim.summary));
        }
        output::line(format!(
            "saved: {} of what the second batch would have cost with opus alone",
            output::dollars(saved)
        ));
        output::line(format!("time: {}", output::millis(millis(self.began.elapsed()))));
        Ok(self.checks)
    }

    async fn enqueue(&self, name: &str, count: usize, max_tokens: Option<u32>) -> Result<Vec<i64>, Failure> {
        let workflow = &self.stage.config().workflows.llm_request;
        let mut requests = Vec::with_capacity(count);
        for number in 1..=count {
            let mut args =
                json!({ "id": format!("{name}-{number}"), "prompt": format!("Design part {number} of {name}.") });
            if let Some(max_tokens) = max_tokens {
                args["max_tokens"] = max_tokens.into();
            }
            let request = LlmRequest::parse(&args).map_err(|error| Failure::coded(Exit::Failed, &error))?;
            requests.push(BatchRequest { id: request.id.clone(), fingerprint: request.fingerprint(), args });
        }
        let batch = Batch {
            fingerprint: name.to_owned(),
            instance_id: "demo".into(),
            queue: workflow.queue.clone(),
            max_attempts: i32::try_from(workflow.max_attempts).unwrap_or(i32::MAX),
            requests,
        };
        let enqueued = Requests::new(self.engine.clone()).enqueue(&batch).await;
        Ok(enqueued.map_err(|error| Failure::coded(Exit::Failed, &error))?.job_ids)
    }

    /// Waits until CentralCloud has what the instances have.
    async fn reported(&self) -> Result<(Tally, Tally), Failure> {
        self.until("the reports of all results", async || {
            let (source, centre) = (self.watch.at_the_source().await?, self.watch.at_the_centre().await?);
            Ok((centre.attempts >= source.attempts).then_some((source, centre)))
        })
        .await
    }

    /// Waits until every instance has looked at every learning; gives the number of the last.
    async fn synced(&self) -> Result<i64, Failure> {
        self.until("all instances to know all learnings", async || {
            let last = self.watch.published(0).await?.last().map_or(0, |learning| learning.id);
            let cursors = self.watch.synced().await?;
            let knows = |name: &&str| cursors.iter().any(|(who, id)| who == name && *id >= last);
            Ok(INSTANCES.iter().all(knows).then_some(last))
        })
        .await
    }

    fn last_learning(&self) -> i64 {
        self.learnings.last().map_or(0, |learning| learning.id)
    }

    fn tell_learnings(&mut self, published: Vec<LearningLine>) {
        for learning in &published {
            self.say("T2", format!("learning {} ({}): {}", learning.id, learning.kind, learning.summary));
        }
        self.learnings.extend(published);
    }

    fn say(&self, time: &str, text: impl AsRef<str>) {
        output::line(format!("{:5.1}s  {time}  {}", self.began.elapsed().as_secs_f64(), text.as_ref()));
    }

    /// Looks until there is something to see.
    async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                let text = format!("waited {} s for {what}", WAIT_LIMIT.as_secs());
                return Err(Failure::new(Exit::TimedOut, codes::DEMO_LIMIT, text));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn jobs(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("job_{id}")).collect::<Vec<_>>().join(", ")
}

fn answered(result: &JobSuccess, was_taken_over: bool) -> String {
    let over = if was_taken_over {
        format!(", taken over from {VICTIM} as attempt {}", result.attempt)
    } else {
        String::new()
    };
    format!(
        "{} finished job_{} with {} for {}{over}",
        result.instance_id,
        result.job_id,
        result.model.as_deref().unwrap_or("?"),
        output::dollars(result.cost_nanousd)
    )
}

fn performance(share: &Share) -> String {
    format!(
        "{}: {} jobs, {} failures, average cost {}",
        share.name,
        share.successes,
        share.failures,
        output::dollars(average(share))
    )
}

/// Cost of a success, rounded down; `None` without one.
fn average(share: &Share) -> Option<i64> {
    share.cost_nanousd.checked_div(share.successes)
}

/// What these successes would have cost at the average of the reference, less what they cost; `None` where it answered
/// none.
fn saved(by_model: &[Share]) -> Option<i64> {
    let reference = by_model.iter().find(|share| share.name == "opus").filter(|share| share.successes > 0)?;
    let (successes, cost) =
        by_model.iter().fold((0, 0), |(count, cost), share| (count + share.successes, cost + share.cost_nanousd));
    let would = i128::from(reference.cost_nanousd) * i128::from(successes) / i128::from(reference.successes);
    i64::try_from(would - i128::from(cost)).ok()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, successes: i64, cost_nanousd: i64) -> Share {
        Share { name: name.into(), successes, failures: 0, cost_nanousd }
    }

    #[test]
    fn the_saving_is_measured_against_the_reference() {
        // Two at 100 each, eight at 85: ten would have cost 1,000.
        assert_eq!(saved(&[share("opus", 2, 200), share("sonnet", 8, 680)]), Some(120));
        assert_eq!(saved(&[share("sonnet", 8, 680)]), None);
        assert_eq!(saved(&[share("opus", 2, 200)]), Some(0));
        assert_eq!(average(&share("x", 0, 0)), None);
    }
}

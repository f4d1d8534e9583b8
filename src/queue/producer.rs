//! Claims jobs of one queue by demand and starts an executor for each.
//!
//! Code that is short needs no executor, see [`super::young`].
//!
//! Woken by notices, by slots that become free and, because notices can be lost, by its own poll. Demand is the limit
//! less what runs and what waits to be stored. The database being away is a state, and so is that of the executors: the
//! producer waits for its next poll.
//!
//! Where the limit is small its claims also store what succeeded, see [`super::completions`]: one round trip and one
//! commit do what would be two of each, one after the other, because a slot is free when its result is stored.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Attempt;
use super::completions::{Completions, Taken};
use super::direct::Offer;
use super::engine::{Claim, Engine, Exchanged, Inserted};
use super::error::QueueError;
use super::job::Job;
use super::job_runtime::JobRuntime;
use super::launch;
use super::looks::Looks;
use super::slots::QueueState;
use super::taken::{stop_claimed_again, stop_taken};
use super::worker::{Execution, Workers};
use super::young::{YOUNG_FOR, Young};
use crate::instance::Lease;
use crate::supervision::{Actor, ActorError, ChildSpec, Ctx, DynamicHandle, ExitReason, Flow, Reply, Timer};

/// Jobs in one claim, whatever the limit: bounds the memory of one reply.
const CLAIM_BATCH_MAX: u32 = 1_000;
/// Polls between two looks for claims whose reply was lost, and for jobs that somebody has taken.
const RECOVER_EVERY_POLLS: u32 = 30;
/// Longest time between two such looks, however rare the polls are.
const RECOVER_EVERY_MAX: Duration = Duration::from_secs(30);
/// Longest wait after the database did not answer: then a claim is in doubt, and nobody works on what it took.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Code that has just begun gets so long to end before results are stored without its own: about as long as it takes
/// to wake a thread. Else what begins together would be stored in two halves for ever, each with a commit of its own.
const GATHER_FOR: Duration = Duration::from_micros(100);

/// What a producer works with; shared by all incarnations.
#[derive(Debug, Clone)]
pub struct ProducerArgs {
    /// Its queue.
    pub queue: Arc<QueueState>,
    /// Statements.
    pub engine: Engine,
    /// Instance it claims for.
    pub instance_id: Arc<str>,
    /// Workers it claims for.
    pub workers: Workers,
    /// What polls of all queues share.
    pub looks: Looks,
    /// Where executors are started.
    pub executors: DynamicHandle,
    /// Where job code runs.
    pub runtime: JobRuntime,
    /// Where results go.
    pub completions: Completions,
    /// Whether this instance may work.
    pub lease: Lease,
}

/// What a producer is told.
#[derive(Debug)]
pub enum ProducerMsg {
    /// Look at the table: something was inserted, or a slot is free.
    Poke,
    /// The poll is due.
    Poll,
    /// Results are kept for it.
    Finished,
    /// Say when what was asked for before is done.
    Settle(Reply<()>),
    /// Code that has begun may need an executor by now.
    Promote,
    /// Insert a job and start it at once.
    Start(Offer),
}

/// The actor. One a queue.
#[derive(Debug)]
pub struct Producer {
    args: ProducerArgs,
    known: Vec<String>,
    timer: Timer,
    /// Ends the cooldown after a claim, when there was a reason for another one meanwhile.
    rest: Option<Timer>,
    last_claim: Option<Instant>,
    /// When claimed jobs were last begun; by the machine's clock, because it counts microseconds.
    last_begin: Option<std::time::Instant>,
    /// Code that has begun and has no executor yet.
    young: Vec<Young>,
    /// Runs while there is any.
    promotion: Option<Timer>,
    /// When to look for lost claims; at once after an error that leaves a claim in doubt.
    recover_at: Instant,
    database_away: bool,
}

impl Producer {
    /// The child that claims for a queue.
    pub fn child(args: ProducerArgs) -> ChildSpec {
        let (name, address) = (args.queue.name().to_owned(), args.queue.address().clone());
        ChildSpec::actor::<Self>(name, &address, move || args.clone())
    }

    /// Claims and starts jobs until the demand is met or nothing is left; returns how long the next claim has to wait
    /// for the cooldown, if it has to.
    async fn fill(&mut self) -> Result<Option<Duration>, QueueError> {
        let Self { args, known, young, last_claim, last_begin, .. } = self;
        if self.recover_at <= Instant::now() && args.lease.is_held() {
            let (name, producer, running) = (args.queue.name(), args.queue.producer(), args.queue.running_ids());
            let lost = promoting(args, young, args.engine.recover(name, &args.instance_id, producer, &running)).await?;
            if !lost.is_empty() {
                tracing::warn!(target: "queue", queue = args.queue.name(), jobs = ?lost, "handed back claims whose reply was lost");
            }
            promoting(args, young, stop_taken(&args.engine, &args.queue)).await?;
            self.recover_at = Instant::now() + recover_every(args.queue.poll_interval());
        }
        loop {
            if args.queue.has_finished() {
                gather(young, *last_begin).await;
                args.queue.clear_finished_poke();
            }
            // Dropped as they are, results go to the completer.
            let done = args.completions.take_of(&args.queue, CLAIM_BATCH_MAX as usize);
            let demand = args.queue.demand_without(done.slots()).min(CLAIM_BATCH_MAX);
            // While its executors are away, a claimed job could only begin and be handed back, again and again.
            if demand == 0 || !args.lease.is_held() || known.is_empty() || !args.executors.is_up() {
                return Ok(None);
            }
            if let Some(left) = cooldown_left(&args.queue, *last_claim) {
                return Ok(Some(left));
            }
            let claim = claim_of(args, known, demand);
            let jobs = promoting(args, young, exchange(&args.engine, &claim, done)).await;
            *last_claim = Some(Instant::now());
            let jobs = jobs?;
            let all = jobs.len() >= demand as usize;
            let all_allowed = begin(args, young, last_begin, jobs).await;
            if !all || !all_allowed {
                return Ok(None);
            }
        }
    }

    /// Inserts an offered job as one of its own and begins it, unless something speaks against it.
    async fn start(&mut self, ctx: &Ctx<ProducerMsg>, offer: Offer) {
        let Self { args, known, young, last_claim, last_begin, .. } = self;
        let _look = args.queue.look();
        let Some(job) = offer.take() else { return };
        let is_in_doubt = self.recover_at <= Instant::now() || self.database_away;
        let is_known = known.binary_search(&job.worker).is_ok();
        let can_run = args.queue.demand() > 0 && args.lease.is_held() && args.executors.is_up();
        if is_in_doubt || !is_known || !can_run || cooldown_left(&args.queue, *last_claim).is_some() {
            return offer.give_back(job);
        }
        match promoting(args, young, args.engine.insert_claimed(&claim_of(args, known, 1), &job)).await {
            Ok(Some(job)) => {
                *last_claim = Some(Instant::now());
                let inserted = Inserted { id: job.id, conflict: false, replaced: false };
                begin(args, young, last_begin, vec![job]).await;
                // Only now, so that waking the inserter does not hold up the job.
                offer.answer(Ok(inserted));
            }
            Ok(None) => {
                offer.give_back(job);
                // There is room, and something waits.
                args.queue.poke();
            }
            // The usual way has more patience with locks, or says itself what is wrong.
            Err(error) if error.is_answer() => offer.give_back(job),
            Err(error) => {
                offer.answer(Err(error));
                // Whether it was inserted is unknown.
                self.doubt(ctx);
            }
        }
    }

    /// Whether a poll may find anything; asked together with those of other queues.
    async fn may_find_any(&mut self) -> bool {
        let Self { args, young, .. } = self;
        if self.recover_at <= Instant::now() || self.database_away {
            return true;
        }
        let has_jobs = args.looks.has_jobs(args.queue.name(), args.queue.poll_interval());
        // What the database does not answer now, the look itself meets and reports.
        args.queue.demand() > 0 && promoting(args, young, has_jobs).await.unwrap_or(true)
    }

    /// A claim may have happened whose reply was lost: looks for it soon.
    fn doubt(&mut self, ctx: &Ctx<ProducerMsg>) {
        self.recover_at = Instant::now();
        self.timer = ctx.send_after(self.args.queue.poll_interval().min(AFTER_ERROR), ProducerMsg::Poll);
    }

    async fn look(&mut self, ctx: &Ctx<ProducerMsg>) {
        let _look = self.args.queue.look();
        self.args.queue.clear_poke();
        self.args.queue.touch();
        match self.fill().await {
            Ok(wait) => {
                self.rest = wait.map(|left| ctx.send_after(left, ProducerMsg::Poke));
                self.database_away = false;
            }
            Err(error) => {
                // Whether the claim happened is unknown.
                self.doubt(ctx);
                if !self.database_away {
                    tracing::warn!(target: "queue", queue = self.args.queue.name(), %error, "claiming waits for the database");
                }
                self.database_away = true;
            }
        }
        self.show(ctx);
    }

    /// Shows in the tree what the queue does.
    fn show(&self, ctx: &Ctx<ProducerMsg>) {
        let queue = &self.args.queue;
        let probe = ctx.probe();
        probe.set_label("running", format!("{}/{}", queue.occupied(), queue.limit()));
        for (label, value, holds) in [
            ("stopping", "yes", queue.is_leaving()),
            ("paused", "yes", queue.is_paused()),
            ("waits", "database", self.database_away && !queue.is_paused()),
        ] {
            if holds {
                probe.set_label(label, value);
            } else {
                probe.remove_label(label);
            }
        }
    }
}

/// Claims, and stores what is `done` in the same statement. Without an answer that goes to the completer.
async fn exchange(engine: &Engine, claim: &Claim<'_>, mut done: Taken<'_>) -> Result<Vec<Job>, QueueError> {
    if done.is_empty() {
        return engine.claim(claim).await;
    }
    let Exchanged { stored, claimed } = engine.exchange(&done.acks(), claim).await?;
    done.stored(&stored);
    Ok(claimed)
}

fn claim_of<'a>(args: &'a ProducerArgs, known: &'a [String], demand: u32) -> Claim<'a> {
    let (queue, producer) = (args.queue.name(), args.queue.producer());
    Claim { queue, instance_id: &args.instance_id, producer, workers: known, demand }
}

/// Waits for a statement. However long the database takes, code that runs gets its executor in time.
async fn promoting<T>(args: &ProducerArgs, young: &mut Vec<Young>, statement: impl Future<Output = T>) -> T {
    let mut statement = std::pin::pin!(statement);
    loop {
        tokio::select! {
            biased;
            result = &mut statement => return result,
            () = tokio::time::sleep(YOUNG_FOR), if !young.is_empty() => promote(args, young, false).await,
        }
    }
}

/// Begins jobs that were just claimed, and says whether it might begin all of them; the others are handed back.
async fn begin(
    args: &ProducerArgs,
    young: &mut Vec<Young>,
    last_begin: &mut Option<std::time::Instant>,
    jobs: Vec<Job>,
) -> bool {
    stop_claimed_again(&args.queue, &jobs);
    // Limit, pause and stop may have changed since the claim was sent.
    let allowed = args.queue.demand() as usize;
    // Slots first: a claimed job must be known as running before anything can await.
    let attempts = Attempt::of_claimed(jobs, &args.queue, &args.runtime, &args.completions);
    if !args.lease.is_held() || !args.executors.is_up() {
        // The reply came too late. Dropped, they are handed back; whoever took them over meanwhile keeps them.
        return false;
    }
    let all_allowed = attempts.len() <= allowed;
    young.retain(|young| !young.has_ended());
    if !attempts.is_empty() {
        *last_begin = Some(std::time::Instant::now());
    }
    for attempt in attempts.into_iter().take(allowed) {
        match launch::begin(&args.workers, attempt) {
            Some((Execution::Young(mut begun), _)) => {
                if begun.is_lost() {
                    args.queue.pause_without_runtime();
                }
                young.push(begun);
            }
            Some((Execution::Executor(child), duty)) => launch::start(&args.executors, child, &duty).await,
            None => {}
        }
    }
    all_allowed
}

/// Waits until code that has just begun has ended, if it does so at once.
async fn gather(young: &[Young], begun: Option<std::time::Instant>) {
    while begun.is_some_and(|begun| begun.elapsed() < GATHER_FOR) && young.iter().any(|young| !young.has_ended()) {
        tokio::task::yield_now().await;
    }
}

/// Time until the next look for lost claims; a little less than so many polls, so that it is due with the last of them.
fn recover_every(poll_interval: Duration) -> Duration {
    poll_interval.saturating_mul(RECOVER_EVERY_POLLS).min(RECOVER_EVERY_MAX).mul_f64(0.95)
}

/// What is left of the cooldown after the last claim.
fn cooldown_left(queue: &QueueState, last_claim: Option<Instant>) -> Option<Duration> {
    let since = last_claim?.elapsed();
    queue.dispatch_cooldown().checked_sub(since).filter(|left| !left.is_zero())
}

/// Gives executors to code that has run for a while, or to all that runs.
async fn promote(args: &ProducerArgs, young: &mut Vec<Young>, all: bool) {
    young.retain(|young| !young.has_ended());
    for due in young.extract_if(.., |young| all || young.is_due()).collect::<Vec<_>>() {
        if let Some((child, duty)) = due.executor() {
            launch::start(&args.executors, child, &duty).await;
        }
    }
}

impl Actor for Producer {
    type Msg = ProducerMsg;
    type Args = ProducerArgs;

    async fn init(ctx: &Ctx<ProducerMsg>, args: ProducerArgs) -> Result<Self, ActorError> {
        let known = args.workers.names();
        let timer = ctx.send_after(Duration::ZERO, ProducerMsg::Poll);
        // A former incarnation may have died between a claim and its executors.
        Ok(Self {
            args,
            known,
            timer,
            rest: None,
            last_claim: None,
            last_begin: None,
            young: Vec::new(),
            promotion: None,
            recover_at: Instant::now(),
            database_away: false,
        })
    }

    async fn handle(&mut self, ctx: &Ctx<ProducerMsg>, msg: ProducerMsg) -> Result<Flow, ActorError> {
        match msg {
            ProducerMsg::Poke => self.look(ctx).await,
            ProducerMsg::Finished => {
                // Otherwise they were stored with the claim before.
                if self.args.queue.has_finished() {
                    self.look(ctx).await;
                }
            }
            ProducerMsg::Poll => {
                let next = self.args.looks.until_next(self.args.queue.poll_interval().min(RECOVER_EVERY_MAX));
                self.timer = ctx.send_after(next, ProducerMsg::Poll);
                self.args.queue.touch();
                if self.may_find_any().await {
                    self.look(ctx).await;
                }
            }
            ProducerMsg::Promote => {
                self.promotion = None;
                promote(&self.args, &mut self.young, false).await;
            }
            ProducerMsg::Settle(reply) => reply.send(()),
            ProducerMsg::Start(offer) => {
                self.start(ctx, offer).await;
                self.show(ctx);
            }
        }
        if self.promotion.is_none() && !self.young.is_empty() {
            self.promotion = Some(ctx.send_after(YOUNG_FOR, ProducerMsg::Promote));
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<ProducerMsg>, _reason: &ExitReason) {
        // Executors stop after producers do; what runs goes on under them.
        promote(&self.args, &mut self.young, true).await;
    }

    fn message_kind(msg: &ProducerMsg) -> &'static str {
        match msg {
            ProducerMsg::Poke => "poke",
            ProducerMsg::Poll => "poll",
            ProducerMsg::Finished => "finished",
            ProducerMsg::Promote => "promote",
            ProducerMsg::Settle(_) => "settle",
            ProducerMsg::Start(_) => "start",
        }
    }
}

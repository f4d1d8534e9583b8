//! Puts a node together and starts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::answers::answers;
use super::cloud::{central, cloud};
use super::crontab::{crontab, with_cron};
use super::error::NodeError;
use super::job_threads::JobThreads;
use super::notices::{Notices, NoticesArgs};
use super::settings::{self, Seen, SettingsWatch, WatchArgs, effective};
use super::shutdown::HISTORY_LIMIT;
use super::steering::Steering;
use super::storage::{Guardian, Storage};
use crate::cloud::sync::{LearningSync, SyncArgs, policy_of};
use crate::config::{Config, Loaded};
use crate::cron::{Expression, Zone};
use crate::instance::{Beat, Control, History, Identity, Lease, Presence, Registry, RegistryArgs, Settings};
use crate::llm::Gateway;
use crate::postgres::{Database, is_skewed, migrate};
use crate::queue::{
    Completer, Completions, Crews, CronArgs, Crontab, Engine, FOREIGN_MEMORY_LEASES, Foreign, Gossip, GossipArgs,
    Horizon, JobRuntime, Keeper, KeeperArgs, Leadership, Lifeline, LifelineArgs, Looks, MakeProducer, Metrics,
    MetricsArgs, Peer, PeerArgs, ProducerArgs, Pruner, PrunerArgs, QueueError, QueueState, Queues, Reindexer,
    ReindexerArgs, Stager, StagerArgs, StopCause, Workers,
};
use crate::routing::LivePolicy;
use crate::supervision::{Intensity, Running, Strategy, SupervisorSpec, System};
use crate::workflow::agents::{Facts, agent_coordination, agent_task};
use crate::workflow::{RunPruner, RunPrunerArgs, Store, WorkflowWorker, Workflows, embedding, llm_request};

// Why operators may neither terminate nor suspend these.
const PROTECTS_REGISTRY: &str =
    "its heartbeat keeps this instance's jobs its own; without it others take them over. Stop the node instead";
const PROTECTS_HISTORY: &str = "it keeps the record of what operators do";
const PROTECTS_CONTROL: &str = "it carries out these requests, so nobody could undo this one";
const PROTECTS_INFRA: &str =
    "without it nobody hears notices or leads, and nothing short of a new process would bring it back";
const PROTECTS_COMPLETER: &str = "without it no result of a job is stored. Pause the queues instead";

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Configuration.
    pub config: Arc<Config>,
    /// Where relative paths of the configuration start.
    pub base_dir: PathBuf,
    /// Instance id, or `auto`.
    pub instance_id: String,
    /// Whether this node answers the jobs of the built-in workflows (`llm_request`, `embedding`, `agent_task`,
    /// `agent_coordination`) by the models of its configuration, and is CentralCloud where its role says so. The
    /// configuration as shipped has simulated models: with them, in a database where others ask real ones, it would
    /// answer their prompts with text that was made up.
    pub built_in: bool,
    /// Workers of the program; one of the same name replaces a built-in one.
    pub workers: Workers,
    /// Workflows of the program; one of the same name replaces a built-in one.
    pub workflows: Workflows,
    /// Runtime that job code runs on; without one the node starts its own, of `[runtime] job_threads`, which ends with
    /// it. The node's own actors, its heartbeat too, run on the runtime that starts it. So job code must not run there:
    /// code that never awaits, on all of its threads, would stop the heartbeat, and others would take the jobs over.
    pub job_runtime: Option<Handle>,
    /// Who looks after the embedded server, where it is used.
    pub guardian: Guardian,
}

impl NodeOptions {
    /// A node with this configuration and the instance id that it names; no workers, the built-in ones neither, paths
    /// from the present folder, a job runtime of its own.
    pub fn new(config: Config) -> Self {
        Self {
            instance_id: config.instance.id.clone(),
            config: Arc::new(config),
            base_dir: PathBuf::from("."),
            built_in: false,
            workers: Workers::default(),
            workflows: Workflows::default(),
            job_runtime: None,
            guardian: Guardian::Nobody,
        }
    }

    /// As [`NodeOptions::new`], with paths from where the configuration was found.
    pub fn loaded(loaded: Loaded) -> Self {
        Self { base_dir: loaded.base_dir, ..Self::new(loaded.config) }
    }
}

/// A running node. Stop it with [`Node::shutdown`]; dropping it abandons its jobs to others.
#[derive(Debug)]
pub struct Node {
    pub(super) identity: Arc<Identity>,
    pub(super) config: Arc<Config>,
    pub(super) storage: Storage,
    pub(super) engine: Engine,
    pub(super) presence: Presence,
    pub(super) queues: Queues,
    pub(super) steering: Steering,
    pub(super) draining: Arc<AtomicBool>,
    /// Whether draining was done.
    pub(super) drained: AtomicBool,
    pub(super) running: Running,
    pub(super) history: History,
    /// Whether it is CentralCloud.
    pub(super) is_central: bool,
    system: System,
    /// Held for as long as the node is.
    _job_threads: Option<JobThreads>,
}

impl Node {
    /// Checks the configuration, opens the database, brings its tables up to date, registers this instance and starts
    /// its tree.
    ///
    /// # Errors
    /// [`NodeError`]; what was started is stopped again.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let storage = Self::prepare(&options).await?;
        let started = Self::start_prepared(options, storage.clone()).await;
        if started.is_err() {
            storage.close().await;
        }
        started
    }

    /// The first half of [`Node::start`], before [`Node::start_prepared`]: checks the configuration, opens the database
    /// and brings its tables up to date. Cancel safe: until it is done nobody else sees this instance.
    ///
    /// # Errors
    /// [`NodeError`]; what was opened is closed again.
    pub async fn prepare(options: &NodeOptions) -> Result<Storage, NodeError> {
        options.config.check()?;
        let id = Identity::of_this_process(&options.instance_id)?.instance_id;
        let storage = Storage::open(&options.config, &options.base_dir, &id, options.guardian).await?;
        if let Err(error) = migrate::up(storage.db()).await {
            storage.close().await;
            return Err(error.into());
        }
        Ok(storage)
    }

    /// As [`Node::start`], with a configuration that somebody else has checked, on tables that somebody else has
    /// brought up to date.
    ///
    /// # Errors
    /// [`NodeError`]; what was started is stopped again, but `storage` stays open.
    pub async fn start_prepared(options: NodeOptions, storage: Storage) -> Result<Self, NodeError> {
        let identity = Arc::new(Identity::of_this_process(&options.instance_id)?);
        Self::start_on(options, identity, storage).await
    }

    async fn start_on(options: NodeOptions, identity: Arc<Identity>, storage: Storage) -> Result<Self, NodeError> {
        let config = Arc::clone(&options.config);
        let db = storage.db().clone();
        tell_skew(&db).await;
        let engine = Engine::new(db.clone());
        let presence = Presence::new(db.clone(), identity.host_key.clone());
        // Asked here so that a taken name is an error with its own code, and not a tree that does not start.
        presence.refuse_taken(&identity).await?;
        let gateway = Gateway::new(&config).map_err(|problems| {
            NodeError::Models(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;

        let gateway = Arc::new(gateway);
        // Before any job is claimed: a model that a person switched off is not called even once.
        let (policy, unusable) = policy_of(&db, &identity.instance_id).await?;
        settings::report(&unusable);
        let live = LivePolicy::new(policy);

        let mut workers = Workers::default();
        let store = Store::new(db.clone());
        let definitions = options.built_in.then(|| {
            [
                llm_request(Arc::clone(&config), Arc::clone(&gateway), live.clone(), db.clone()),
                embedding(Arc::clone(&config), Arc::clone(&gateway), db.clone()),
                agent_task(Arc::clone(&config), Arc::clone(&gateway), live.clone(), db.clone()),
                agent_coordination(Arc::clone(&config), Facts::new(db.clone())),
            ]
        });
        for definition in definitions.into_iter().flatten() {
            let jobs = config.workflows.jobs_of(definition.worker);
            let worker = WorkflowWorker::new(definition, store.clone());
            workers.register_executable(match jobs {
                Some((queue, max_attempts)) => worker.with_jobs(queue, max_attempts),
                None => worker,
            });
        }
        workers.extend(options.workflows.workers(&store));
        workers.extend(options.workers);
        let crontab = crontab(&config, &workers)?;
        let reindex = config.services.reindexer.times().map_err(QueueError::from)?;

        let configured = config.queues_of(&identity.instance_id);
        let executes = config.cloud.role.executes();
        let settings = Settings::new(db.clone());
        let (effective, unusable) = effective(&settings, &identity.instance_id, &configured, executes).await?;
        settings::report(&unusable);
        let starting = effective.iter().filter(|(_, queue)| queue.start);
        let queues = Queues::new(starting.map(|(name, queue)| QueueState::new(name, queue.clone())));
        let steering = Steering {
            queues: queues.clone(),
            keeper: Keeper::address(),
            registry: Registry::address(),
            settings: SettingsWatch::address(),
            learning: LearningSync::address(),
            configured: Arc::new(configured),
            executes,
            oban: config.services.leader.name.as_str().into(),
            instance_id: identity.instance_id.as_str().into(),
        };
        let (job_threads, job_runtime) = match options.job_runtime {
            Some(given) => (None, given),
            None => {
                let own = JobThreads::start(config.runtime.job_threads)?;
                let handle = own.handle().clone();
                (Some(own), handle)
            }
        };
        let is_central = options.built_in && config.cloud.role.is_central();
        let draining = Arc::new(AtomicBool::new(false));
        let system = System::new(&identity.instance_id);
        let history = History::new(db.clone(), Arc::clone(&identity), &system);
        let parts = Parts {
            config: Arc::clone(&config),
            identity: Arc::clone(&identity),
            storage: storage.clone(),
            engine: engine.clone(),
            presence: presence.clone(),
            queues: queues.clone(),
            steering: steering.clone(),
            settings: WatchArgs { settings, steering: steering.clone(), seen: Seen::new(effective) },
            draining: Arc::clone(&draining),
            leadership: Leadership::default(),
            foreign: Foreign::new(config.services.leader.lease.get() * FOREIGN_MEMORY_LEASES),
            lease: Lease::new(config.instance.stale_after.get()),
            workers,
            is_central,
            runtime: JobRuntime::new(job_runtime),
            completions: Completions::default(),
            crontab,
            reindex,
            history: history.clone(),
            sync: SyncArgs {
                db: db.clone(),
                instance_id: identity.instance_id.as_str().into(),
                config: Arc::clone(&config),
                is_held_back: Arc::new(move |model| gateway.is_held_back(model)),
                live,
            },
            system: system.clone(),
        };
        let running = match system.start(parts.tree()).await {
            Ok(running) => running,
            Err(error) => {
                history.finish(HISTORY_LIMIT).await;
                return Err(error.into());
            }
        };
        Ok(Self {
            identity,
            config,
            storage,
            engine: engine.starting_by(Arc::new(queues.clone())),
            presence,
            queues,
            steering,
            draining,
            drained: AtomicBool::new(false),
            running,
            history,
            is_central,
            system,
            _job_threads: job_threads,
        })
    }

    /// Its instance id.
    pub fn instance_id(&self) -> &str {
        &self.identity.instance_id
    }

    /// Its database.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Statements on jobs. Single jobs that are inserted through it start on this node where its queue is idle, see
    /// [`Engine::insert`].
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its queues.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Its live tree, supervision events and registry of names.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Resolves with a reason when the root supervisor gives up by itself. Cancel safe.
    pub async fn gave_up(&self) -> crate::supervision::ExitReason {
        self.running.wait().await
    }
}

/// Says at start when this machine's clock is not the server's: nodes of Oban for Elixir decide by theirs.
async fn tell_skew(db: &Database) {
    match db.clock_skew().await {
        Ok(skew) if is_skewed(skew) => tracing::warn!(
            target: "postgres", skew_ms = skew.num_milliseconds(),
            "this machine's clock and the server's differ; the server's decides. Synchronise both, for example with chrony"
        ),
        // What went wrong shows at the next statement.
        Ok(_) | Err(_) => {}
    }
}

/// What the tree is made of.
struct Parts {
    config: Arc<Config>,
    identity: Arc<Identity>,
    storage: Storage,
    engine: Engine,
    presence: Presence,
    queues: Queues,
    steering: Steering,
    settings: WatchArgs,
    draining: Arc<AtomicBool>,
    leadership: Leadership,
    foreign: Foreign,
    lease: Lease,
    workers: Workers,
    is_central: bool,
    runtime: JobRuntime,
    completions: Completions,
    crontab: Arc<Crontab>,
    /// When indexes are rebuilt, if ever.
    reindex: Option<(Expression, Zone)>,
    history: History,
    sync: SyncArgs,
    system: System,
}

impl Parts {
    fn tree(&self) -> SupervisorSpec {
        let runtime = &self.config.runtime;
        let intensity = Intensity { max_restarts: runtime.max_restarts, period: runtime.max_window.get() };
        let instance_id: Arc<str> = self.identity.instance_id.as_str().into();
        let (control, peer) = (Control::address(), Peer::address());
        let notices = NoticesArgs {
            storage: self.storage.clone(),
            steering: self.steering.clone(),
            control: control.clone(),
            peer: peer.clone(),
            foreign: self.foreign.clone(),
        };
        let campaign = PeerArgs {
            engine: self.engine.clone(),
            leadership: self.leadership.clone(),
            name: Arc::clone(&self.steering.oban),
            node: Arc::clone(&instance_id),
            lease: self.config.services.leader.lease.get(),
            mode: self.config.mode,
            alive: self.lease.clone(),
            foreign: self.foreign.clone(),
        };
        let infra = SupervisorSpec::new("infra", Strategy::OneForOne)
            .child(Notices::child(notices))
            .child(Peer::child(campaign, &peer));
        let answers = answers(self.system.clone(), self.steering.clone(), self.history.clone());
        let control_child = Control::child(self.storage.db().clone(), Arc::clone(&instance_id), &control, answers);
        let instance = SupervisorSpec::new("instance", Strategy::OneForOne)
            .child(Registry::child(self.registry(), &self.steering.registry).protected(PROTECTS_REGISTRY))
            .child(self.history.child().protected(PROTECTS_HISTORY))
            .child(control_child.protected(PROTECTS_CONTROL).carries_requests())
            .child(SettingsWatch::child(self.settings.clone()));
        let looks = Looks::new(self.engine.clone(), self.queues.clone());
        let crews = Crews::new(self.queues.clone(), self.producers(&looks));
        let keeper = KeeperArgs {
            queues: self.queues.clone(),
            crews: crews.clone(),
            engine: self.engine.clone(),
            instance_id: Arc::clone(&instance_id),
            grace: self.config.runtime.shutdown_grace.get(),
            changed: {
                let steering = self.steering.clone();
                Arc::new(move || steering.announce())
            },
        };
        let mut services = SupervisorSpec::new("services", Strategy::OneForOne)
            .child(Keeper::child(keeper, &self.steering.keeper))
            .child(Stager::child(StagerArgs {
                engine: self.engine.clone(),
                queues: self.queues.clone(),
                looks,
                leadership: self.leadership.clone(),
                foreign: self.foreign.clone(),
                interval: self.config.services.stager.interval.get(),
                limit: self.config.services.stager.limit,
            }))
            .child(Lifeline::child(LifelineArgs {
                engine: self.engine.clone(),
                presence: self.presence.clone(),
                queues: self.queues.clone(),
                leadership: self.leadership.clone(),
                rescue_after: self.config.services.lifeline.rescue_after.get(),
                interval: self.config.services.lifeline.interval.get(),
            }))
            .child(Gossip::child(GossipArgs {
                engine: self.engine.clone(),
                queues: self.queues.clone(),
                foreign: self.foreign.clone(),
                name: Arc::clone(&self.steering.oban),
                node: Arc::clone(&instance_id),
                send: self.config.services.gossip.send,
                interval: self.config.services.gossip.interval.get(),
            }))
            .child(Metrics::child(MetricsArgs {
                engine: self.engine.clone(),
                measures: self.completions.measures().clone(),
                foreign: self.foreign.clone(),
                leadership: self.leadership.clone(),
                name: Arc::clone(&self.steering.oban),
                node: Arc::clone(&instance_id),
                send: self.config.services.metrics.send,
                counts: self.config.services.metrics.counts,
                crontab: self.crontab.told(),
            }))
            .child(Horizon::child(self.storage.db().clone()));
        let pruner = &self.config.services.pruner;
        if let Some(max_age) = pruner.max_age.get() {
            services = services.child(Pruner::child(PrunerArgs {
                engine: self.engine.clone(),
                leadership: self.leadership.clone(),
                max_age,
                limit: pruner.limit,
                interval: pruner.interval.get(),
            }));
        }
        if let Some(max_age) = pruner.runs_max_age.get() {
            services = services.child(RunPruner::child(RunPrunerArgs {
                store: Store::new(self.storage.db().clone()),
                leadership: self.leadership.clone(),
                max_age,
                interval: pruner.interval.get(),
            }));
        }
        let reindexer = &self.config.services.reindexer;
        if let Some((schedule, zone)) = self.reindex.clone() {
            services = services.child(Reindexer::child(ReindexerArgs {
                engine: self.engine.clone(),
                leadership: self.leadership.clone(),
                schedule,
                zone,
                indexes: reindexer.indexes.clone(),
                timeout: reindexer.timeout.get(),
            }));
        }
        let cron = CronArgs {
            engine: self.engine.clone(),
            leadership: self.leadership.clone(),
            mode: self.config.mode,
            foreign: self.foreign.clone(),
            oban: Arc::clone(&self.steering.oban),
            crontab: Arc::clone(&self.crontab),
            first_led: Arc::default(),
        };
        let services = with_cron(services, cron);
        let root = SupervisorSpec::new("singularity", Strategy::RestForOne)
            .intensity(intensity)
            .child(infra.into_child().protected(PROTECTS_INFRA))
            .child(instance.into_child())
            .child(cloud(&self.config, self.storage.db(), &self.sync, &self.steering.learning).into_child())
            .child(services.into_child())
            .child(Completer::child(self.engine.clone(), self.completions.clone()).protected(PROTECTS_COMPLETER))
            .child(crews.executors_child())
            .child(crews.producers_child());
        if self.is_central { root.child(central(&self.config, self.storage.db()).into_child()) } else { root }
    }

    /// What the producer of a queue works with.
    fn producers(&self, looks: &Looks) -> MakeProducer {
        let looks = looks.clone();
        let template = (self.engine.clone(), self.workers.clone(), self.runtime.clone(), self.completions.clone());
        let (instance_id, lease) = (Arc::<str>::from(self.identity.instance_id.as_str()), self.lease.clone());
        Arc::new(move |queue| {
            let (engine, workers, runtime, completions) = template.clone();
            ProducerArgs {
                queue: Arc::clone(queue),
                engine,
                instance_id: Arc::clone(&instance_id),
                workers,
                looks: looks.clone(),
                executors: queue.executors().clone(),
                runtime,
                completions,
                lease: lease.clone(),
            }
        })
    }

    fn registry(&self) -> RegistryArgs {
        let (queues, draining) = (self.queues.clone(), Arc::clone(&self.draining));
        let (fenced, known, history) = (self.queues.clone(), self.queues.clone(), self.history.clone());
        RegistryArgs {
            identity: Arc::clone(&self.identity),
            presence: self.presence.clone(),
            lease: self.lease.clone(),
            interval: self.config.instance.heartbeat.get(),
            stale_after: self.config.instance.stale_after.get(),
            capabilities: capabilities(&self.config.instance.capabilities, &self.workers),
            beat: Arc::new(move || beat(&queues, draining.load(Ordering::Acquire))),
            stored: Arc::new(move |beat| announced(&known, beat)),
            fence: Arc::new(move |reason| {
                fenced.stop_jobs(StopCause::Fenced);
                history.fenced(reason);
            }),
        }
    }
}

/// What others read about this instance: each capability as `true`, as in the registry's first design, and its workers.
fn capabilities(names: &[String], workers: &Workers) -> Value {
    let mut offers: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), true.into())).collect();
    offers.insert("workers".into(), workers.names().into());
    offers.into()
}

/// Lets those queues claim that a stored heartbeat names.
fn announced(queues: &Queues, beat: &Beat) {
    for queue in queues.iter() {
        let producer = beat.queues.get(queue.name()).and_then(|row| row.get("producer"));
        if producer.and_then(Value::as_str) == Some(&*queue.producer().to_string()) {
            queue.announced();
        }
    }
}

/// What a heartbeat says about the queues.
pub(super) fn beat(queues: &Queues, draining: bool) -> Beat {
    let all_paused = queues.iter().next().is_some() && queues.iter().all(|queue| queue.is_paused());
    let rows = queues.iter().map(|queue| {
        let mut row = json!({
            "limit": queue.limit(),
            "paused": queue.is_paused(),
            "running": queue.running(),
            "stopping": queue.is_leaving(),
            "producer": queue.producer(),
        });
        if let Some(pause) = queue.pause() {
            row["pause"] = json!(pause);
        }
        (queue.name().to_owned(), row)
    });
    Beat {
        status: if draining {
            "draining"
        } else if all_paused {
            "paused"
        } else {
            "online"
        },
        load: i32::try_from(queues.running()).unwrap_or(i32::MAX),
        queues: Value::Object(rows.collect()),
    }
}

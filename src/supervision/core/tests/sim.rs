//! A simulator around the static machine.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::supervision::core::*;

pub(crate) struct Sim {
    pub(crate) machine: Machine,
    pub(crate) now: Duration,
    pub(crate) trace: Vec<String>,
    /// Starts of these ids fail so often.
    pub(crate) failing: HashMap<&'static str, usize>,
    /// Those that fail leave something behind.
    pub(crate) lingering: HashSet<&'static str>,
    /// Starts of these ids are ignored.
    pub(crate) ignoring: HashSet<&'static str>,
    /// Stops of these ids are answered with another reason, or with a zombie.
    pub(crate) stubborn: HashMap<&'static str, (ExitReason, bool)>,
    pub(crate) running: HashMap<String, (Key, Incarnation)>,
    pub(crate) ids: HashMap<Key, String>,
    pub(crate) retries: VecDeque<(Key, u64, Duration)>,
    /// Zombies that are not gone yet.
    pub(crate) zombies: VecDeque<Key>,
    /// What happens to zombies, of the first child.
    pub(crate) on_zombie: OnZombie,
    /// Some are replaced.
    pub(crate) replaces: bool,
    /// Stops (false) and starts (true), in order; cleared by whoever looks.
    pub(crate) batch: Vec<(bool, Key)>,
    /// When restarts were counted.
    pub(crate) counted: Vec<Duration>,
    pub(crate) replies: Vec<Result<Option<Key>, RequestError>>,
    pub(crate) exit: Option<ExitReason>,
}

pub(crate) fn rules(id: &str, restart: Restart) -> ChildRules {
    ChildRules {
        id: id.into(),
        restart,
        shutdown: Shutdown::Timeout(Duration::from_secs(5)),
        kind: ChildKind::Worker,
        significant: false,
        backoff: None,
        on_zombie: OnZombie::Hold,
    }
}

pub(crate) fn permanent(id: &str) -> ChildRules {
    rules(id, Restart::Permanent)
}

pub(crate) fn error() -> ExitReason {
    ExitReason::Error(Box::new(ErrorInfo::text("boom")))
}

impl Sim {
    /// A booted supervisor with a wide-open intensity.
    pub(crate) fn booted(strategy: Strategy, children: Vec<ChildRules>) -> Self {
        let mut sim = Self::new(strategy, Intensity::new(100, Duration::from_secs(5)), AutoShutdown::Never, children);
        sim.boot();
        sim.trace.clear();
        sim
    }

    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        children: Vec<ChildRules>,
    ) -> Self {
        let ids = children.iter().enumerate().map(|(i, rules)| (Key(i as u64), rules.id.to_string())).collect();
        let replaces = children.iter().any(|rules| rules.on_zombie == OnZombie::Replace);
        let on_zombie = children.first().map_or(OnZombie::Hold, |rules| rules.on_zombie);
        let children = children.into_iter().map(|rules| (rules, Incarnation(0)));
        Self {
            machine: Machine::new(strategy, intensity, auto_shutdown, children),
            now: Duration::ZERO,
            trace: Vec::new(),
            failing: HashMap::new(),
            lingering: HashSet::new(),
            ignoring: HashSet::new(),
            stubborn: HashMap::new(),
            running: HashMap::new(),
            ids,
            retries: VecDeque::new(),
            zombies: VecDeque::new(),
            replaces,
            on_zombie,
            batch: Vec::new(),
            counted: Vec::new(),
            replies: Vec::new(),
            exit: None,
        }
    }

    pub(crate) fn boot(&mut self) {
        self.event(Event::Boot);
    }

    /// The trace since the last call.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    /// The running child `id` ends by itself.
    pub(crate) fn ends(&mut self, id: &str, reason: ExitReason) {
        self.ends_leaving(id, reason, true);
    }

    pub(crate) fn ends_leaving(&mut self, id: &str, reason: ExitReason, gone: bool) {
        let (key, incarnation) = self.running.remove(id).expect("it runs");
        self.event(Event::Exited { key, incarnation, reason, gone });
    }

    /// All pending retries become due, oldest first, until none is left or the supervisor ends.
    pub(crate) fn retry_once(&mut self) -> bool {
        let Some((key, token, after)) = self.retries.pop_front() else { return false };
        self.now += after;
        self.event(Event::RetryDue { key, token });
        true
    }

    pub(crate) fn is_running(&self, id: &str) -> bool {
        self.running.contains_key(id)
    }

    pub(crate) fn request(&mut self, request: Request) -> Result<Option<Key>, RequestError> {
        if let Request::Start(rules, _) = &request
            && self.machine.key_of(&rules.id).is_none()
        {
            self.ids.insert(self.machine.next_key(), rules.id.to_string());
        }
        self.event(Event::Request(request));
        self.replies.pop().expect("an answer")
    }

    pub(crate) fn event(&mut self, event: Event) {
        if let Event::Gone { key } = &event {
            self.zombies.retain(|zombie| zombie != key);
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.step(event, self.now) {
                events.extend(self.effect(effect));
            }
        }
    }

    fn effect(&mut self, effect: Effect) -> Option<Event> {
        let name = |sim: &Self, key: Key| sim.ids.get(&key).cloned().unwrap_or_else(|| format!("{key:?}"));
        match effect {
            Effect::Start { key, incarnation, .. } => {
                let id = name(self, key);
                assert!(!self.running.contains_key(&id), "two incarnations of {id}");
                assert!(self.replaces || !self.zombies.contains(&key), "an incarnation of {id} beside its zombie");
                self.trace.push(format!("start {id}"));
                self.batch.push((true, key));
                if let Some(left) = self.failing.get_mut(id.as_str())
                    && *left > 0
                {
                    *left -= 1;
                    let gone = !self.lingering.contains(id.as_str());
                    return Some(Event::StartFailed { reason: "no".into(), gone });
                }
                if self.ignoring.contains(id.as_str()) {
                    return Some(Event::Ignored);
                }
                self.running.insert(id, (key, incarnation));
                Some(Event::Started)
            }
            Effect::Stop { key, shutdown, .. } => {
                let id = name(self, key);
                self.trace.push(format!("stop {id}"));
                self.batch.push((false, key));
                self.running.remove(&id).expect("only running children are stopped");
                let usual = if shutdown == Shutdown::BrutalKill { ExitReason::Killed } else { ExitReason::Shutdown };
                let (reason, gone) = self.stubborn.get(id.as_str()).cloned().unwrap_or((usual, true));
                Some(Event::Stopped { reason, gone })
            }
            Effect::Retry { key, token, after, .. } => {
                self.trace.push(format!("retry {}", name(self, key)));
                self.retries.push_back((key, token, after));
                None
            }
            Effect::CancelRetry { key } => {
                self.trace.push(format!("cancel {}", name(self, key)));
                self.retries.retain(|(retry, ..)| *retry != key);
                None
            }
            Effect::Forget { key } => {
                self.trace.push(format!("forget {}", name(self, key)));
                None
            }
            Effect::Reply(reply) => {
                self.replies.push(reply);
                None
            }
            Effect::Exit(reason) => {
                self.trace.push(format!("exit {reason}"));
                self.exit = Some(reason);
                None
            }
            Effect::Booted => {
                self.trace.push("booted".into());
                None
            }
            Effect::BootFailed { key } => {
                self.trace.push(format!("boot failed {}", name(self, key)));
                None
            }
            Effect::Report(report) => {
                let text = match report {
                    Report::Progress { .. } => return None,
                    Report::ChildTerminated { key, .. } => format!("child_terminated {}", name(self, key)),
                    Report::StartError { key, .. } => format!("start_error {}", name(self, key)),
                    Report::ShutdownError { key, .. } => format!("shutdown_error {}", name(self, key)),
                    Report::MaxIntensity { key, .. } => format!("max_intensity {}", name(self, key)),
                    Report::Zombie { key } => {
                        self.zombies.push_back(key);
                        format!("zombie {}", name(self, key))
                    }
                    Report::ZombieGone { key } => format!("zombie_gone {}", name(self, key)),
                };
                self.trace.push(text);
                None
            }
            Effect::Counted => {
                self.counted.push(self.now);
                None
            }
            Effect::Mark { .. } => None,
        }
    }
}

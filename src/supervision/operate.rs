//! What an operator does to a live tree: restart, terminate, suspend and resume one child, named by its path.
//!
//! These are orders, not failures: they count against no intensity. What would cut the operator off, or harm work that
//! the tree does, is refused with the reason. Every order leaves a trace, carried out or not: a line in the log with
//! who gave it and why before anything is done, since it may end this process, and what came of it as an event and
//! another line.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::address::answered;
use super::core::{Key, names};
use super::error::{CallError, ChildError, OperateError};
use super::lock::lock;
use super::probe::{Overseer, Probe};
use super::report::SupervisionEventKind;
use super::{NodeState, System};

/// How long an actor may take to handle the messages that wait before it is suspended.
pub const SUSPEND_WAIT_MAX: Duration = Duration::from_secs(10);

/// What can be done to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Stop it in order and start it again, together with those that its supervisor's strategy restarts with it. Starts
    /// a child that is down.
    Restart,
    /// Stop it in order and leave it down until it is restarted: by an order, with a sibling by their supervisor's
    /// strategy, or with their supervisor. A temporary or dynamic child is forgotten instead.
    Terminate,
    /// Let it take no more messages.
    Suspend,
    /// Let it take messages again.
    Resume,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Restart, Self::Terminate, Self::Suspend, Self::Resume];
}

names!(Operation { Restart => "restart", Terminate => "terminate", Suspend => "suspend", Resume => "resume" });

impl FromStr for Operation {
    type Err = OperateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|operation| operation.as_str() == text);
        known.ok_or_else(|| OperateError::UnknownOperation(text.to_owned()))
    }
}

/// What is said of an order whose future was dropped.
const UNSEEN: &str = "nobody waited for its end; what was ordered stands";

/// Tells what came of an order, also when nobody waits for it any more.
struct Trace<'a> {
    system: &'a System,
    found: Option<&'a Arc<Probe>>,
    operation: Operation,
    path: &'a str,
    by: &'a str,
    why: Option<&'a str>,
    refused: Option<String>,
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        let (operation, refused) = (self.operation, self.refused.take());
        tracing::warn!(
            target: "sup.audit", operation = operation.as_str(), path = self.path, by = self.by, why = self.why,
            refused = refused.as_deref(), "operator"
        );
        if let Some(probe) = self.found {
            let (by, why) = (self.by.to_owned(), self.why.map(str::to_owned));
            let operated = || SupervisionEventKind::Operated { operation, by, why, refused };
            self.system.emit(probe, probe.incarnation(), operated);
        }
    }
}

impl System {
    /// Does `operation` to the child at `path` and returns once it is done. `by` is who ordered it, `why` the reason;
    /// both go into the log (target `sup.audit`) and the event.
    ///
    /// A restart or an end may take as long as the children concerned take to stop.
    ///
    /// Errors: [`OperateError`]; then nothing was done, except after `TimedOut` and `Child`.
    ///
    /// Cancel safety: dropping the future ends the waiting; an order that was given stands.
    pub async fn operate(
        &self,
        operation: Operation,
        path: &str,
        by: &str,
        why: Option<&str>,
    ) -> Result<(), OperateError> {
        tracing::warn!(target: "sup.audit", operation = operation.as_str(), path, by, why, "operator orders");
        let found = self.probe(path);
        let mut trace =
            Trace { system: self, found: found.as_ref(), operation, path, by, why, refused: Some(UNSEEN.into()) };
        let result = match &found {
            Some(probe) => self.operate_on(operation, probe).await,
            None => Err(OperateError::NotFound(path.to_owned())),
        };
        trace.refused = result.as_ref().err().map(ToString::to_string);
        result
    }

    async fn operate_on(&self, operation: Operation, probe: &Arc<Probe>) -> Result<(), OperateError> {
        let path = || probe.path.to_string();
        if probe.path.is_root() {
            return Err(OperateError::Root(operation));
        }
        let parent = probe.path.ancestors().first().and_then(|parent| self.probe(parent));
        let Some((parent, overseer)) = parent.and_then(|parent| parent.overseer().map(|overseer| (parent, overseer)))
        else {
            return Err(OperateError::NotFound(path()));
        };
        let places: Vec<u64> = parent
            .ordered_children()
            .iter()
            .filter(|(_, child)| child.id == probe.id)
            .map(|(place, _)| *place)
            .collect();
        let [place] = places[..] else { return Err(OperateError::Ambiguous(path(), places.len())) };
        match operation {
            Operation::Terminate => {
                refuse_protected(operation, probe)?;
                end(&overseer, probe, place).await?;
            }
            Operation::Restart => {
                let affected = match &overseer {
                    Overseer::Static(handle) => handle.affected(probe.id.clone()).await?,
                    Overseer::Dynamic(_) => vec![probe.clone()],
                };
                if let Some(carrier) =
                    affected.iter().find_map(|probe| find(probe, &|probe| probe.given().carries_requests))
                {
                    return Err(OperateError::CarriesRequests { path: path(), carrier: carrier.path.clone() });
                }
                restart(&overseer, probe, place).await?;
            }
            Operation::Suspend => {
                refuse_protected(operation, probe)?;
                order(probe, true).await?;
            }
            Operation::Resume => order(probe, false).await?,
        }
        Ok(())
    }
}

async fn end(overseer: &Overseer, probe: &Arc<Probe>, place: u64) -> Result<(), ChildError> {
    match overseer {
        Overseer::Static(handle) => handle.terminate_child(&probe.id).await,
        Overseer::Dynamic(handle) => handle.terminate(Key(place), probe.clone()).await,
    }
}

async fn restart(overseer: &Overseer, probe: &Arc<Probe>, place: u64) -> Result<(), ChildError> {
    match overseer {
        Overseer::Static(handle) => handle.cycle_child(&probe.id).await.map(drop),
        Overseer::Dynamic(handle) => handle.cycle(Key(place), probe.clone()).await,
    }
}

async fn order(probe: &Probe, suspend: bool) -> Result<(), OperateError> {
    let mailbox = lock(&probe.facts).mailbox.clone();
    let Some(mailbox) = mailbox.filter(|_| probe.state() != NodeState::Stopped) else {
        return Err(match probe.overseer() {
            Some(_) => OperateError::Supervisor(probe.path.to_string()),
            None => OperateError::Down(probe.path.to_string()),
        });
    };
    let (sender, done) = oneshot::channel();
    let answer = match mailbox.order(suspend, sender) {
        Ok(cell) => answered(cell, done, SUSPEND_WAIT_MAX).await,
        Err(error) => Err(error),
    };
    answer.map_err(|error| match error {
        CallError::Timeout => OperateError::TimedOut(probe.path.to_string()),
        CallError::Full => OperateError::Child(ChildError::Busy),
        CallError::Down | CallError::Dropped => OperateError::Down(probe.path.to_string()),
    })
}

fn refuse_protected(operation: Operation, probe: &Arc<Probe>) -> Result<(), OperateError> {
    match find(probe, &|probe| probe.given().protected.is_some()) {
        Some(protected) => Err(OperateError::Protected {
            operation,
            path: protected.path.clone(),
            reason: protected.given().protected.as_deref().unwrap_or_default().to_owned(),
        }),
        None => Ok(()),
    }
}

/// The first node for which `holds`, from this one down.
fn find(probe: &Arc<Probe>, holds: &dyn Fn(&Probe) -> bool) -> Option<Arc<Probe>> {
    if holds(probe) {
        return Some(probe.clone());
    }
    probe.children().iter().find_map(|child| find(child, holds))
}

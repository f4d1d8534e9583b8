//! A step that waits for children: what its plan says is done, and the attempt ends until they have.

use std::collections::BTreeSet;

use super::children::{CHILD_KEY_CHARS_MAX, CHILDREN_MAX, ChildJob, Children, Plan, PlanFn, Wait};
use super::definition::{StepContext, StepError, StepOutput};
use super::error::{PLAN, discarded};
use super::walk::{Place, Stop, Walk, persist};
use crate::error::Coded;
use crate::queue::{JobCodeError, NewJob};

impl Walk<'_> {
    /// Asks the plan, and does what it says.
    pub(super) async fn children(&self, plan: &PlanFn, place: &Place, given: StepContext) -> Result<StepOutput, Stop> {
        let found = persist(self.cancel, || self.store.children(self.owner, self.run_id, &place.path)).await?;
        let children = Children { all: found.into_iter().map(|child| (child.key.clone(), child)).collect() };
        let ended: Vec<i64> =
            children.all.values().filter(|child| child.has_ended()).map(|child| child.job_id).collect();
        if !ended.is_empty() {
            let owned = persist(self.cancel, || self.store.collect_children(self.owner, self.run_id, &ended)).await?;
            if !owned {
                return Err(Stop::Superseded);
            }
        }
        let (plan, known) = (plan.clone(), children.clone());
        let (enqueue, until) = match self.attempt.run(async move { plan(given, known).await }).await {
            Ok(Ok(Plan::Done(output))) => return Ok(output),
            Ok(Ok(Plan::Wait { enqueue, until })) => (enqueue, until),
            Ok(Err(error)) => return Err(error.into()),
            Err(error @ JobCodeError::Gone) => return Err(Stop::Outcome(error.into())),
            Err(error) => return Err(StepError::new(error.into()).into()),
        };
        let new = new_children(enqueue, &children, until, place)?;
        self.probe.set_label("step", format!("{} enqueues {}", place.label, new.len()));
        let enqueued =
            persist(self.cancel, || self.store.enqueue_children(self.owner, self.run_id, &place.path, &new, until));
        match enqueued.await? {
            Ok(true) => Err(Stop::Parked),
            Ok(false) => Err(Stop::Superseded),
            Err(error) => Err(nonsense(place, format!("{}: {error}", error.code())).into()),
        }
    }
}

/// The children that are not enqueued yet, checked.
fn new_children(
    enqueue: Vec<ChildJob>,
    children: &Children,
    until: Wait,
    place: &Place,
) -> Result<Vec<ChildJob>, StepError> {
    let mut keys = BTreeSet::new();
    let mut new = Vec::new();
    for child in enqueue.into_iter().filter(|child| !children.all.contains_key(&child.key)) {
        let chars = child.key.chars().count();
        if chars == 0 || chars > CHILD_KEY_CHARS_MAX || child.key.contains('\0') {
            let key: String = child.key.chars().take(CHILD_KEY_CHARS_MAX).collect();
            return Err(nonsense(
                place,
                format!("key {key:?} has {chars} characters; 1 to {CHILD_KEY_CHARS_MAX} are allowed"),
            ));
        }
        if child.job.unique.is_some() {
            return Err(nonsense(
                place,
                format!("child {:?} is a unique job; each child is its parent's alone", child.key),
            ));
        }
        if !keys.insert(child.key.clone()) {
            return Err(nonsense(place, format!("key {:?} stands twice; keys are unique", child.key)));
        }
        let job: NewJob = child
            .job
            .validated()
            .map_err(|error| nonsense(place, format!("child {:?}: {}: {error}", child.key, error.code())))?;
        new.push(ChildJob { key: child.key, job });
    }
    let count = children.all.len() + new.len();
    if count > CHILDREN_MAX {
        return Err(nonsense(place, format!("it has {count} children; at most {CHILDREN_MAX} are allowed")));
    }
    if new.is_empty() && children.have_ended() {
        return Err(nonsense(place, format!("it waits for {until:?} and enqueues nothing, but no child is under way")));
    }
    Ok(new)
}

/// The plan makes no sense, and would make none next time.
fn nonsense(place: &Place, text: impl std::fmt::Display) -> StepError {
    discarded(PLAN, format!("the plan of step {}: {text}", place.label))
}

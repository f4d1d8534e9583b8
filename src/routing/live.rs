//! The policy that jobs of this instance are routed by: read by every job, replaced as a whole.

use std::sync::{Arc, PoisonError, RwLock};

use super::policy::Policy;

/// The present policy. Clones are one. A reader gets the whole policy of one moment and holds no lock while it uses it.
#[derive(Debug, Clone, Default)]
pub struct LivePolicy(Arc<RwLock<Arc<Policy>>>);

impl LivePolicy {
    /// Begins with `policy`.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// The policy of this moment.
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `policy` in the place of the present one, which is returned.
    pub fn replace(&self, policy: Policy) -> Arc<Policy> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, Arc::new(policy))
    }
}

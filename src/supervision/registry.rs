//! Names of running children within one system, OTP's registered names.
//!
//! A name holds what reaches the child: an [`Address`](super::Address) or the handle of a supervisor. It is taken
//! before the child's `init` and free again when the incarnation is gone, by comparison, so a late end never frees the
//! name of a successor. Names are per [`System`](super::System), unlike ractor's, which are per process.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::core::Path;
use super::error::StartError;
use super::lock::lock;

/// Most names in one system. Names are meant for what the configuration gives, not for what comes and goes by the
/// thousand.
pub const NAMES_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Registry {
    names: Mutex<HashMap<Arc<str>, Holder>>,
    next: AtomicU64,
}

struct Holder {
    /// Tells registrations of one name apart.
    number: u64,
    path: Path,
    value: Arc<dyn Any + Send + Sync>,
}

/// A name that is held.
pub(super) struct Registration {
    registry: Arc<Registry>,
    name: Arc<str>,
    number: u64,
}

impl Registry {
    /// Takes `name` for the child at `path`.
    pub(super) fn register<T: Any + Send + Sync>(
        self: &Arc<Self>,
        name: Arc<str>,
        path: &Path,
        value: T,
    ) -> Result<Registration, StartError> {
        let mut names = lock(&self.names);
        if let Some(holder) = names.get(&name) {
            return Err(StartError::NameTaken { name: name.to_string(), holder: holder.path.clone() });
        }
        if names.len() >= NAMES_MAX {
            return Err(StartError::TooManyNames(name.to_string()));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        names.insert(name.clone(), Holder { number, path: path.clone(), value: Arc::new(value) });
        Ok(Registration { registry: self.clone(), name, number })
    }

    /// What the name holds, if it is a `T`.
    pub(super) fn lookup<T: Any + Clone + Send + Sync>(&self, name: &str) -> Option<T> {
        lock(&self.names).get(name)?.value.downcast_ref().cloned()
    }

    /// All names and who has them, by name.
    pub(super) fn all(&self) -> Vec<(String, Path)> {
        let mut all: Vec<_> =
            lock(&self.names).iter().map(|(name, holder)| (name.to_string(), holder.path.clone())).collect();
        all.sort();
        all
    }
}

impl Registration {
    /// Frees the name, unless somebody else has it by now. May be called more than once.
    pub(super) fn end(&self) {
        let mut names = lock(&self.registry.names);
        if names.get(&self.name).is_some_and(|holder| holder.number == self.number) {
            names.remove(&self.name);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_a_freed_one_makes_room() {
        let registry = Arc::<Registry>::default();
        let register = |name: String| registry.register(name.into(), &Path::root(), ());
        let held: Vec<_> = (0..NAMES_MAX).map(|number| register(number.to_string()).unwrap()).collect();
        assert_eq!(register("one too many".into()).err(), Some(StartError::TooManyNames("one too many".into())));
        held[0].end();
        let next = register("0".into()).unwrap();
        // A late second end of the first must not free the name of its successor.
        held[0].end();
        assert_eq!(registry.lookup::<()>("0"), Some(()));
        next.end();
        assert_eq!(registry.lookup::<()>("0"), None);
    }
}

//! Names within one tree: the id of a child, its path, and the number of its current life.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of a child among its siblings. Not empty, without `/`, at most [`ID_BYTES_MAX`](super::ID_BYTES_MAX) bytes;
/// checked when a supervisor starts. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(Arc<str>);

/// Place of a child in its tree, such as `/executors/default/4711`. The root itself is `/`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// Which life of a child this is: 1 for the first start, one more for every later attempt to start it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

thread_local! {
    static JOINED: RefCell<String> = const { RefCell::new(String::new()) };
}

impl ChildId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Path {
    /// The path of a root.
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// The path of a child of this node.
    #[must_use]
    pub fn join(&self, id: &ChildId) -> Self {
        let parent = if self.is_root() { "" } else { &self.0 };
        // Joined where the last one was: a text of its own would be given back at once.
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            [parent, "/", &id.0].iter().for_each(|part| joined.push_str(part));
            Self(Arc::from(joined.as_str()))
        })
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths of all nodes above this one, nearest first, the root last.
    pub fn ancestors(&self) -> Vec<String> {
        let mut above = Vec::new();
        let mut rest: &str = &self.0;
        while let Some(cut) = rest.rfind('/') {
            rest = &rest[..cut];
            if !rest.is_empty() {
                above.push(rest.to_owned());
            }
        }
        if !self.is_root() {
            above.push("/".to_owned());
        }
        above
    }
}

impl Incarnation {
    /// The next life.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<&str> for ChildId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for ChildId {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl From<&ChildId> for ChildId {
    fn from(id: &ChildId) -> Self {
        id.clone()
    }
}

macro_rules! text_type {
    ($name:ty) => {
        impl $name {
            /// How many share the text. Who asks wants its memory fetched.
            pub(in crate::supervision) fn holders(&self) -> usize {
                Arc::strong_count(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(|text| Self(Arc::from(text)))
            }
        }
    };
}

text_type!(ChildId);
text_type!(Path);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_and_name_their_ancestors() {
        let leaf = Path::root().join(&"executors".into()).join(&"default".into()).join(&"4711".into());
        assert_eq!(leaf.as_str(), "/executors/default/4711");
        assert_eq!(leaf.ancestors(), ["/executors/default", "/executors", "/"]);
        assert_eq!(Path::root().ancestors(), Vec::<String>::new());
    }
}

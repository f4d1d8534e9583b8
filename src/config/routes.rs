//! All routes of the configuration in one list: the complexities, then those that have a name of their own.

use super::model::{Complexity, Routing};

/// A route and its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfiguredRoute<'a> {
    /// Its name.
    pub name: &'a str,
    /// The complexity that it stands for.
    pub complexity: Option<Complexity>,
    /// The model that serves it while nothing was learned.
    pub reference: &'a str,
    /// Further models that may serve it, in the order in which they are fallbacks.
    pub candidates: &'a [String],
}

impl<'a> ConfiguredRoute<'a> {
    /// All its models, the reference first.
    pub fn models(self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.reference).chain(self.candidates.iter().map(String::as_str))
    }
}

impl Routing {
    /// All routes that have a model.
    pub fn all(&self) -> impl Iterator<Item = ConfiguredRoute<'_>> {
        let of_complexities = self.models.iter().map(|(complexity, reference)| ConfiguredRoute {
            name: complexity.as_str(),
            complexity: Some(*complexity),
            reference,
            candidates: self.candidates.get(complexity).map(Vec::as_slice).unwrap_or_default(),
        });
        let named = self.routes.iter().filter_map(|(name, route)| {
            let (reference, candidates) = route.models.split_first()?;
            Some(ConfiguredRoute { name, complexity: None, reference, candidates })
        });
        of_complexities.chain(named)
    }
}

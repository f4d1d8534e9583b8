//! What a request asks for: a model by its name, or a route.
//!
//! An explicit model wins; else a route that the request names; else the request's complexity, else that of its task
//! type, else the default complexity is the route.

use serde::{Deserialize, Serialize};

use crate::config::{Complexity, Config, ModelKind};
use crate::error::Coded;

/// The routes that are always there.
const COMPLEXITIES: [Complexity; 3] = [Complexity::Simple, Complexity::Medium, Complexity::Complex];

/// What a request says about the model it wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// A model by name; `auto` is no wish.
    pub model: Option<&'a str>,
    /// A route by name: one of `[routing.routes]`, or a complexity.
    pub route: Option<&'a str>,
    /// How demanding the request is.
    pub complexity: Option<Complexity>,
    /// What kind of task it is.
    pub task_type: Option<&'a str>,
}

/// What decided on what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request named the model.
    ExplicitModel,
    /// The request named the route.
    ExplicitRoute,
    /// The request named its complexity.
    ExplicitComplexity,
    /// The task type has a complexity.
    TaskType,
    /// Nothing was said, or the task type is unknown.
    DefaultComplexity,
}

/// A wish as this configuration understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// This model and no other.
    Model(&'a str),
    /// A model of a route.
    Route(Route<'a>),
}

/// A route as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// Its name.
    pub name: &'a str,
    /// The complexity that it stands for.
    pub complexity: Option<Complexity>,
    /// What decided on it.
    pub reason: Reason,
    /// The model that serves it while nothing was learned.
    pub reference: &'a str,
    /// Further models that may serve it, in the order in which they are fallbacks.
    pub candidates: &'a [String],
}

/// Why no model could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// The request names a model that is not configured.
    #[error("model {name:?} is not configured; configured are {known}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// The request names a model that makes vectors.
    #[error("model {name:?} answers with vectors, not with text")]
    NotChat {
        /// What was asked for.
        name: String,
    },
    /// The request names a route that is not configured.
    #[error("route {name:?} is not configured; configured are {known}")]
    UnknownRoute {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// No model is configured for the complexity.
    #[error("no model is configured for complexity {0:?}")]
    NoModel(Complexity),
    /// All models that could serve it are switched off.
    #[error("every model that could serve it is switched off: {0}")]
    AllOff(String),
}

impl Coded for RoutingError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } => "E0610",
            Self::NoModel(_) => "E0611",
            Self::AllOff(_) => "E0612",
            Self::UnknownRoute { .. } => "E0613",
            Self::NotChat { .. } => "E0614",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownModel { .. } => {
                "name one of these, leave the model out, or add it to [models] in actors.toml".into()
            }
            Self::UnknownRoute { .. } => {
                "name one of these, state a complexity instead, or add it to [routing.routes] in actors.toml".into()
            }
            Self::NotChat { .. } => "name a model with kind = \"chat\", or leave the model out".into(),
            Self::NoModel(_) => "add it to [routing.models] in actors.toml".into(),
            Self::AllOff(_) => "see `singularity routing show`; `routing on MODEL` switches one on again".into(),
        })
    }
}

/// What a wish comes to.
///
/// # Errors
/// [`RoutingError::UnknownModel`], [`RoutingError::UnknownRoute`], [`RoutingError::NoModel`].
pub fn asked<'a>(wish: Wish<'a>, config: &'a Config) -> Result<Asked<'a>, RoutingError> {
    if let Some(name) = wish.model.filter(|name| *name != "auto") {
        if !config.models.contains_key(name) {
            let known = config.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(RoutingError::UnknownModel { name: name.to_owned(), known });
        }
        if config.models.get(name).is_some_and(|model| model.kind != ModelKind::Chat) {
            return Err(RoutingError::NotChat { name: name.to_owned() });
        }
        return Ok(Asked::Model(name));
    }
    if let Some(name) = wish.route {
        if let Some((name, route)) = config.routing.routes.get_key_value(name)
            && let Some((reference, candidates)) = route.models.split_first()
        {
            let reason = Reason::ExplicitRoute;
            return Ok(Asked::Route(Route { name, complexity: None, reason, reference, candidates }));
        }
        return match COMPLEXITIES.into_iter().find(|complexity| complexity.as_str() == name) {
            Some(complexity) => of_complexity(complexity, Reason::ExplicitRoute, config),
            None => {
                let routes = config.routing.routes.keys().map(String::as_str);
                let known = COMPLEXITIES.iter().map(|complexity| complexity.as_str()).chain(routes);
                let known = known.collect::<Vec<_>>().join(", ");
                Err(RoutingError::UnknownRoute { name: name.to_owned(), known })
            }
        };
    }
    let by_task = || wish.task_type.and_then(|task_type| config.routing.task_types.get(task_type).copied());
    let (complexity, reason) = match (wish.complexity, by_task()) {
        (Some(complexity), _) => (complexity, Reason::ExplicitComplexity),
        (None, Some(complexity)) => (complexity, Reason::TaskType),
        (None, None) => (config.routing.default_complexity, Reason::DefaultComplexity),
    };
    of_complexity(complexity, reason, config)
}

fn of_complexity(complexity: Complexity, reason: Reason, config: &Config) -> Result<Asked<'_>, RoutingError> {
    let reference = config.routing.models.get(&complexity).ok_or(RoutingError::NoModel(complexity))?;
    let candidates = config.routing.candidates.get(&complexity).map(Vec::as_slice).unwrap_or_default();
    Ok(Asked::Route(Route { name: complexity.as_str(), complexity: Some(complexity), reason, reference, candidates }))
}

//! The choice of a model, as a pure function of the request and the configuration.
//!
//! An explicit model wins; else the request's complexity, else that of its task type, else the default complexity names
//! the model.

use serde::{Deserialize, Serialize};

use crate::config::{Complexity, Config};
use crate::error::Coded;

/// What a request says about the model it wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// A model by name; `auto` is no wish.
    pub model: Option<&'a str>,
    /// How demanding the request is.
    pub complexity: Option<Complexity>,
    /// What kind of task it is.
    pub task_type: Option<&'a str>,
}

/// The chosen model and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Name in `[models]`.
    pub model: String,
    /// Complexity that led to it; absent where the model was named.
    pub complexity: Option<Complexity>,
    /// What decided.
    pub reason: Reason,
}

/// What decided on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request named it.
    ExplicitModel,
    /// The request named its complexity.
    ExplicitComplexity,
    /// The task type has a complexity.
    TaskType,
    /// Nothing was said, or the task type is unknown.
    DefaultComplexity,
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
    /// No model is configured for the complexity.
    #[error("no model is configured for complexity {0:?}")]
    NoModel(Complexity),
}

impl Coded for RoutingError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } => "E0610",
            Self::NoModel(_) => "E0611",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownModel { .. } => {
                "name one of these, leave the model out, or add it to [models] in actors.toml".into()
            }
            Self::NoModel(_) => "add it to [routing.models] in actors.toml".into(),
        })
    }
}

/// Chooses the model for a request.
///
/// # Errors
/// [`RoutingError`].
pub fn select(wish: Wish<'_>, config: &Config) -> Result<Choice, RoutingError> {
    if let Some(name) = wish.model.filter(|name| *name != "auto") {
        if !config.models.contains_key(name) {
            let known = config.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(RoutingError::UnknownModel { name: name.to_owned(), known });
        }
        return Ok(Choice { model: name.to_owned(), complexity: None, reason: Reason::ExplicitModel });
    }
    let by_task = || wish.task_type.and_then(|task_type| config.routing.task_types.get(task_type).copied());
    let (complexity, reason) = match (wish.complexity, by_task()) {
        (Some(complexity), _) => (complexity, Reason::ExplicitComplexity),
        (None, Some(complexity)) => (complexity, Reason::TaskType),
        (None, None) => (config.routing.default_complexity, Reason::DefaultComplexity),
    };
    let model = config.routing.models.get(&complexity).ok_or(RoutingError::NoModel(complexity))?;
    Ok(Choice { model: model.clone(), complexity: Some(complexity), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Model;

    fn config() -> Config {
        let mut config = Config::default();
        for (complexity, name) in
            [(Complexity::Simple, "flash"), (Complexity::Medium, "sonnet"), (Complexity::Complex, "opus")]
        {
            config.models.insert(name.into(), Model::default());
            config.routing.models.insert(complexity, name.into());
        }
        config.routing.task_types.insert("architect".into(), Complexity::Complex);
        config
    }

    #[test]
    fn an_explicit_model_wins_then_complexity_then_task_type_then_the_default() {
        let config = config();
        let mut wish =
            Wish { model: Some("flash"), complexity: Some(Complexity::Simple), task_type: Some("architect") };
        assert_eq!(select(wish, &config).unwrap().reason, Reason::ExplicitModel);
        wish.model = Some("auto");
        assert_eq!(select(wish, &config).unwrap().model, "flash");
        wish.complexity = None;
        let choice = select(wish, &config).unwrap();
        assert_eq!((choice.model.as_str(), choice.reason), ("opus", Reason::TaskType));
        wish.task_type = Some("never heard of");
        let choice = select(wish, &config).unwrap();
        assert_eq!((choice.model.as_str(), choice.reason), ("sonnet", Reason::DefaultComplexity));
    }

    #[test]
    fn an_unknown_model_is_refused_with_the_known_ones() {
        let error = select(Wish { model: Some("gpt-9"), ..Wish::default() }, &config()).unwrap_err();
        assert_eq!(error.to_string(), "model \"gpt-9\" is not configured; configured are flash, opus, sonnet");
    }
}

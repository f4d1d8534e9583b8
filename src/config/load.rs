//! Loading: the shipped file, then a file, then the environment, then overrides; all problems at once.
//!
//! The shipped `actors.toml` is the compiled default, so what a person reads there is what runs. Its queues are
//! replaced by a file that names any; its providers, models and task types are added to (`schema.rs` says which table
//! does what).

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::check;
use super::document::Document;
use super::layer::Layer;
use super::model::Config;
use super::origin::Origin;
use super::overlay::{self, Given};
use super::problem::{ConfigErrors, Fault, Flaw, Place, Problems};
use super::walk;

/// Name of the file that is looked for.
pub const FILE_NAME: &str = "actors.toml";

/// Start of the names of environment variables that override values; `__` also separates their parts.
pub const ENV_PREFIX: &str = "SINGULARITY__";

/// The shipped file: every key with its default and what it means.
pub const SHIPPED: &str = include_str!("../../actors.toml");

/// Largest configuration file, in bytes; the shipped one is a hundredth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a configuration is loaded from. The default looks in the current folder and knows no variable.
#[derive(Clone, Default)]
pub struct Source {
    /// A file that must exist.
    pub path: Option<PathBuf>,
    /// Where [`FILE_NAME`] is looked for when no `path` is given; none there means the shipped configuration.
    pub search_dir: PathBuf,
    /// Environment variables by name; those without [`ENV_PREFIX`] are ignored.
    pub env: BTreeMap<String, String>,
    /// Values by dotted key, strongest of all; of two for one key the later wins.
    pub overrides: Vec<(String, String)>,
}

impl Source {
    /// The variables of this process that start with [`ENV_PREFIX`]. What is not Unicode in them becomes U+FFFD, and is
    /// then reported where it does not fit.
    pub fn process_env() -> BTreeMap<String, String> {
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect()
    }
}

/// Names only: a value may be a secret that was put there by mistake.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("path", &self.path)
            .field("search_dir", &self.search_dir)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("overrides", &self.overrides.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .finish()
    }
}

/// A configuration with where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// The file that was read, if any.
    pub path: Option<PathBuf>,
    /// Folder of the file, or the folder that was searched: relative paths in the configuration start here. Those of
    /// secrets are already resolved; those of `[embedded]` are as they were written.
    pub base_dir: PathBuf,
    /// Layer of each effective value, by dotted key. A key that no layer sets is absent and has its built-in default.
    pub origins: BTreeMap<String, Origin>,
}

/// Loads a configuration. Blocking: reads at most one file.
///
/// # Errors
/// Everything that is wrong in any layer, not only the first: see [`Fault`].
pub fn load(source: &Source) -> Result<Loaded, ConfigErrors> {
    let mut problems = Problems::default();
    let found = find(source, &mut problems);
    let (mut config, origins) = assemble(&found, source, problems)?;
    let path = if let Found::Text(path, _) = found { Some(path) } else { None };
    let base_dir = path.as_deref().and_then(Path::parent).unwrap_or(&source.search_dir);
    // The parent of a bare file name is empty, which is no folder to the operating system.
    let base_dir = if base_dir.as_os_str().is_empty() { PathBuf::from(".") } else { base_dir.to_owned() };
    let keys = config.providers.values_mut().filter_map(|provider| provider.api_key.as_mut());
    keys.chain([&mut config.database.url]).for_each(|secret| secret.anchor(&base_dir));
    let commands = config.providers.values_mut().filter_map(|provider| provider.command.as_mut());
    commands.for_each(|command| command.anchor(&base_dir));
    Ok(Loaded { config, path, base_dir, origins })
}

impl Config {
    /// The shipped configuration, which is what runs without a file. [`Config::default`] has no queue and no model.
    ///
    /// # Errors
    /// None in practice: a test loads the shipped file.
    pub fn shipped() -> Result<Self, ConfigErrors> {
        assemble(&Found::Nothing, &Source::default(), Problems::default()).map(|(config, _)| config)
    }
}

impl Config {
    /// Whether each value is one that a file may give. What [`load`] gives is; this is for fields that a program has
    /// set. Names of what is not there (queues, models) are not looked for.
    ///
    /// # Errors
    /// Everything that is wrong, with [`Origin::Program`].
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        match toml::to_string(self) {
            Ok(text) => drop(walk::read(&Document::new(&text, None), &text, &mut problems)),
            Err(error) => {
                problems.push(Place::of(Origin::Program), "", Flaw::new(Fault::WrongType, error.to_string()));
            }
        }
        check::values(self, &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems.into_errors().of_program()) }
    }
}

fn assemble(
    found: &Found,
    source: &Source,
    mut problems: Problems,
) -> Result<(Config, BTreeMap<String, Origin>), ConfigErrors> {
    let mut shipped = walk::read(&Document::new(SHIPPED, None), SHIPPED, &mut problems).unwrap_or_default();
    let file = match found {
        Found::Text(path, text) => walk::read(&Document::new(text, Some(path)), text, &mut problems),
        Found::Nothing => Some(Layer::default()),
        Found::Unreadable => None,
    };
    let variables = source.env.iter().filter_map(|(name, text)| Given::variable(name, text));
    let settings = source.overrides.iter().map(|(key, text)| Given::setting(key, text));
    let Some(file) = file else {
        // Without the file, names and references cannot be judged; single values can.
        overlay::read(variables.chain(settings), None, &mut problems);
        return Err(problems.into_errors());
    };
    file.replaced.iter().for_each(|table| shipped.remove(table));
    let mut layers = vec![shipped, file];
    let environment = overlay::read(variables, Some(&layers), &mut problems);
    let overrides = overlay::read(settings, Some(&layers), &mut problems);
    layers.extend([environment, overrides]);

    check::complete_prices(&mut layers, &mut problems);
    let places: BTreeMap<String, Place> =
        layers.iter().flat_map(Layer::places).map(|(key, place)| (key.to_owned(), place.clone())).collect();
    match merge(&layers) {
        Ok(config) => {
            check::references(&config, &places, &mut problems);
            if problems.is_empty() {
                return Ok((config, places.into_iter().map(|(key, place)| (key, place.origin)).collect()));
            }
        }
        // The checks of single values leave nothing for serde to find; should they, its words are better than none.
        Err(error) => {
            problems.push(Place::of(Origin::Default), "", Flaw::new(Fault::WrongType, error.to_string()));
        }
    }
    Err(problems.into_errors())
}

fn merge(layers: &[Layer]) -> Result<Config, config::ConfigError> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    builder.build()?.try_deserialize()
}

enum Found {
    Nothing,
    Text(PathBuf, String),
    Unreadable,
}

fn find(source: &Source, problems: &mut Problems) -> Found {
    let path = source.path.clone().unwrap_or_else(|| source.search_dir.join(FILE_NAME));
    let (reason, suggestion) = match read_text(&path) {
        Ok(text) => return Found::Text(path, text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && source.path.is_none() => return Found::Nothing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ("there is no such file".to_owned(), "name an existing file, or leave --config out for the defaults")
        }
        Err(error) => (error.to_string(), "check that it is a text file that this user may read"),
    };
    let flaw = Flaw::new(Fault::Unreadable, format!("the configuration file cannot be read: {reason}"));
    problems.push(Place::of(Origin::File { path, line: 0 }), "", flaw.suggest(suggestion));
    Found::Unreadable
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

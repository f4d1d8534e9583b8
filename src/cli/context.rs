//! What every command starts from: the configuration, and the way to the database.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::Global;
use super::exit::Failure;
use crate::config::{self, Config, Loaded, Source};
use crate::node::{Guardian, NodeError, Storage};
use crate::postgres::migrate;

/// A loaded configuration.
#[derive(Debug)]
pub(super) struct Context {
    /// The configuration with the origin of each value.
    pub loaded: Loaded,
    /// The effective values.
    pub config: Arc<Config>,
}

impl Context {
    /// Loads the configuration as the global options say.
    ///
    /// # Errors
    /// Every problem of the configuration at once.
    pub(super) fn load(global: &Global) -> Result<Self, Failure> {
        let source = Source {
            path: global.config.clone(),
            search_dir: PathBuf::from("."),
            env: Source::process_env(),
            overrides: global.set.clone(),
        };
        let loaded = config::load(&source)?;
        let config = Arc::new(loaded.config.clone());
        Ok(Self { loaded, config })
    }

    /// Where relative paths of the configuration start.
    pub(super) fn base_dir(&self) -> PathBuf {
        self.loaded.base_dir.clone()
    }

    /// Opens the database of the configuration, for a command that only looks or changes rows. An embedded server is
    /// started where none runs, and stops again when nobody uses it.
    ///
    /// # Errors
    /// As a node's start.
    pub(super) async fn storage(&self) -> Result<Storage, NodeError> {
        Storage::open(&self.config, &self.base_dir(), "singularity-cli", Guardian::ThisProgram).await
    }

    /// As [`Context::storage`], with tables that are up to date.
    ///
    /// # Errors
    /// As a node's start.
    pub(super) async fn migrated(&self) -> Result<Storage, Failure> {
        let storage = self.storage().await?;
        match migrate::up(storage.db()).await {
            Ok(_) => Ok(storage),
            Err(error) => {
                storage.close().await;
                Err(crate::node::NodeError::from(error).into())
            }
        }
    }

    /// Opens the database, brings its tables up to date, does `work` and closes the database again, also when `work`
    /// failed.
    ///
    /// # Errors
    /// Those of [`Context::migrated`] and of `work`.
    pub(super) async fn with_tables<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let storage = self.migrated().await?;
        let result = work(&storage).await;
        storage.close().await;
        result
    }

    /// As [`Context::with_tables`], with the tables as they are.
    ///
    /// # Errors
    /// Those of [`Context::storage`] and of `work`.
    pub(super) async fn with_database<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let storage = self.storage().await?;
        let result = work(&storage).await;
        storage.close().await;
        result
    }
}

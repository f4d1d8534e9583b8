//! What every command starts from: the configuration, and the way to the database.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::Global;
use super::exit::Failure;
use crate::config::{self, Config, ConfigErrors, Loaded, Source};
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
    pub(super) fn load(global: &Global) -> Result<Self, ConfigErrors> {
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
    /// started where none runs, and stops again when nobody uses it; one that was never made is refused.
    ///
    /// # Errors
    /// As a node's start.
    pub(super) async fn storage(&self) -> Result<Storage, NodeError> {
        Storage::refuse_missing(&self.config, &self.base_dir()).await?;
        self.made().await
    }

    /// As [`Context::storage`], and makes the embedded server if need be.
    async fn made(&self) -> Result<Storage, NodeError> {
        Storage::open(&self.config, &self.base_dir(), "singularity-cli", Guardian::ThisProgram).await
    }

    /// As [`Context::storage`], with tables that are up to date. Those of the embedded server are brought there; those
    /// of a server that somebody named are not this command's to change.
    ///
    /// # Errors
    /// As a node's start.
    pub(super) async fn migrated(&self) -> Result<Storage, Failure> {
        current(self.storage().await?).await
    }

    /// Opens the database, whose tables must be up to date, does `work` and closes the database again, also when `work`
    /// failed.
    ///
    /// # Errors
    /// Those of [`Context::migrated`] and of `work`.
    pub(super) async fn with_tables<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        closed(self.migrated().await?, work).await
    }

    /// As [`Context::with_tables`], for a command that puts work in before any node was started: the embedded server is
    /// made if need be.
    ///
    /// # Errors
    /// As [`Context::with_tables`].
    pub(super) async fn with_new_tables<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        closed(current(self.made().await?).await?, work).await
    }

    /// As [`Context::with_new_tables`], with the tables as they are.
    ///
    /// # Errors
    /// Those of a node's start and of `work`.
    pub(super) async fn with_new_database<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        closed(self.made().await?, work).await
    }

    /// As [`Context::with_tables`], with the tables as they are.
    ///
    /// # Errors
    /// Those of [`Context::storage`] and of `work`.
    pub(super) async fn with_database<T>(
        &self,
        work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        closed(self.storage().await?, work).await
    }
}

async fn closed<T>(storage: Storage, work: impl AsyncFnOnce(&Storage) -> Result<T, Failure>) -> Result<T, Failure> {
    let result = work(&storage).await;
    storage.close().await;
    result
}

async fn current(storage: Storage) -> Result<Storage, Failure> {
    let current = match storage.is_embedded() {
        true => migrate::up(storage.db()).await.map(drop),
        false => migrate::check(storage.db()).await,
    };
    match current {
        Ok(()) => Ok(storage),
        Err(error) => {
            storage.close().await;
            Err(NodeError::from(error).into())
        }
    }
}

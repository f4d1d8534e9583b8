//! Stored vectors: every statement on `embeddings`, and the search by likeness.
//!
//! Invariants: a vector is written only while its job belongs to the attempt that writes; a job never replaces what a
//! later one stored; only vectors of one model are compared.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::ranking::{Best, cosine};
use crate::error::Coded;
use crate::postgres::{Database, DbError};
use crate::queue::Job;

/// Vectors that one search compares. More are a matter for an index made for it, which PostgreSQL has as an extension.
pub const SEARCH_VECTORS_MAX: i64 = 200_000;
/// Matches that one search gives.
pub const SEARCH_LIMIT_MAX: usize = 1_000;
/// Collections or keys that one listing gives.
pub const LISTING_MAX: i64 = 1_000;
/// Vectors that are read with one statement: 1,000 of 3,072 numbers are 12 MB.
const PAGE: i64 = 1_000;

/// Vectors on their way to the table: one key, vector and text each, in the same order.
#[derive(Debug, Clone)]
pub struct NewVectors<'a> {
    /// Collection of all of them.
    pub collection: &'a str,
    /// Our name of the model.
    pub model: &'a str,
    /// Made without a model.
    pub simulated: bool,
    /// Keys, each once.
    pub keys: Vec<String>,
    /// Vectors of one length.
    pub vectors: Vec<Vec<f32>>,
    /// Texts.
    pub contents: Vec<String>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Vectors that stand in the table now.
    pub stored: i64,
    /// Vectors that a later job had stored already, and that were left.
    pub newer: i64,
}

/// What to search for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The vector of what is searched.
    pub vector: &'a [f32],
    /// Our name of the model that made it.
    pub model: &'a str,
    /// Only this collection; all without.
    pub collection: Option<&'a str>,
    /// At most so many, up to [`SEARCH_LIMIT_MAX`].
    pub limit: usize,
}

/// A stored text that is like what was searched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Match {
    /// Its collection.
    pub collection: String,
    /// Its key.
    pub key: String,
    /// Cosine of the angle between both vectors, from -1 to 1.
    pub likeness: f64,
    /// The text.
    pub content: String,
    /// Made without a model.
    pub simulated: bool,
    /// When it was stored last.
    pub updated_at: DateTime<Utc>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The best, best first.
    pub matches: Vec<Match>,
    /// Vectors that were compared.
    pub compared: i64,
    /// Vectors of other models or of another length, which cannot be compared.
    pub not_comparable: i64,
}

/// Vectors of one model in one collection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Collection {
    /// Its name.
    pub collection: String,
    /// Our name of the model.
    pub model: String,
    /// Numbers of a vector.
    pub dimensions: i32,
    /// Made without a model.
    pub simulated: bool,
    /// How many.
    pub vectors: i64,
    /// Bytes of the vectors alone.
    pub vector_bytes: i64,
    /// When the last one was stored.
    pub updated_at: DateTime<Utc>,
}

/// One stored vector, without its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Our name of the model.
    pub model: String,
    /// Numbers of the vector.
    pub dimensions: i32,
    /// Made without a model.
    pub simulated: bool,
    /// The job that made it.
    pub job_id: i64,
    /// The text.
    pub content: String,
    /// When it was stored last.
    pub updated_at: DateTime<Utc>,
}

/// Why a search gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// More than one search compares.
    #[error("there are {found} vectors to compare; one search compares at most {SEARCH_VECTORS_MAX}")]
    TooMany {
        /// How many.
        found: i64,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Coded for SearchError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "E0656",
            Self::Db(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::TooMany { .. } => Some("search one collection, or split it into several".into()),
            Self::Db(error) => error.hint(),
        }
    }
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Vectors {
    db: Database,
}

impl Vectors {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// Stores vectors, all or none, for the attempt at `job`; `None` when that attempt no longer owns it. A key that is
    /// there gets the new vector and text. Safe to repeat.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn put(&self, job: &Job, new: &NewVectors<'_>) -> Result<Option<Written>, DbError> {
        let vectors: Vec<Vec<u8>> = new.vectors.iter().map(|vector| bytes(vector)).collect();
        let row = sqlx::query!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), stored AS (
                 INSERT INTO embeddings AS e (collection, key, model, dimensions, vector, content, simulated, job_id)
                 SELECT $4, n.key, $5, octet_length(n.vector) / 4, n.vector, n.content, $6, owner.id
                 FROM owner, unnest($7::text[], $8::bytea[], $9::text[]) AS n (key, vector, content)
                 -- In one order everywhere, so that two jobs with the same keys wait for each other and never both.
                 ORDER BY n.key
                 ON CONFLICT (collection, key) DO UPDATE SET
                   model = excluded.model, dimensions = excluded.dimensions, vector = excluded.vector,
                   content = excluded.content, simulated = excluded.simulated, job_id = excluded.job_id,
                   updated_at = now()
                 WHERE e.job_id <= excluded.job_id
                 RETURNING 1
               )
               SELECT EXISTS (SELECT FROM owner) AS "owned!", (SELECT count(*) FROM stored) AS "stored!""#,
            job.id,
            job.attempt,
            job.attempted_by.get(1).map(String::as_str).unwrap_or_default(),
            new.collection,
            new.model,
            new.simulated,
            &new.keys,
            &vectors,
            &new.contents,
        )
        .fetch_one(&self.db)
        .await?;
        let all = i64::try_from(new.keys.len()).unwrap_or(i64::MAX);
        Ok(row.owned.then_some(Written { stored: row.stored, newer: all - row.stored }))
    }

    /// The stored texts that are most like `query`. Reads every vector of the model in the collection, page by page;
    /// what changes meanwhile may or may not be seen.
    ///
    /// # Errors
    /// [`SearchError`].
    pub async fn search(&self, query: &Query<'_>) -> Result<Found, SearchError> {
        let dimensions = i32::try_from(query.vector.len()).unwrap_or(i32::MAX);
        let counts = sqlx::query!(
            r#"SELECT count(*) AS "all!", count(*) FILTER (WHERE model = $1 AND dimensions = $2) AS "comparable!"
               FROM embeddings WHERE $3::text IS NULL OR collection = $3"#,
            query.model,
            dimensions,
            query.collection,
        )
        .fetch_one(&self.db)
        .await
        .map_err(DbError::from)?;
        if counts.comparable > SEARCH_VECTORS_MAX {
            return Err(SearchError::TooMany { found: counts.comparable });
        }
        let (best, compared) = self.best(query, dimensions).await?;
        Ok(Found { matches: self.matches(best).await?, compared, not_comparable: counts.all - counts.comparable })
    }

    async fn best(&self, query: &Query<'_>, dimensions: i32) -> Result<(Vec<(f64, Name)>, i64), DbError> {
        let mut best = Best::new(query.limit.clamp(1, SEARCH_LIMIT_MAX));
        let mut compared = 0;
        let mut after = (String::new(), String::new());
        loop {
            let page = sqlx::query!(
                "SELECT collection, key, vector FROM embeddings
                 WHERE (collection, key) > ($1, $2) AND ($3::text IS NULL OR collection = $3)
                   AND model = $4 AND dimensions = $5
                 ORDER BY collection, key LIMIT $6",
                after.0,
                after.1,
                query.collection,
                query.model,
                dimensions,
                PAGE,
            )
            .fetch_all(&self.db)
            .await?;
            let rows = page.len();
            for row in page {
                compared += 1;
                after = (row.collection, row.key);
                if let Some(likeness) = cosine(query.vector, &numbers(&row.vector))
                    && best.has_room_for(likeness)
                {
                    best.offer(likeness, after.clone());
                }
            }
            if i64::try_from(rows).is_ok_and(|rows| rows < PAGE) {
                return Ok((best.into_sorted(), compared));
            }
            // Comparing computes for long, so others run between two pages.
            tokio::task::yield_now().await;
        }
    }

    /// The rest of the best rows; those that are gone meanwhile are left out.
    async fn matches(&self, best: Vec<(f64, Name)>) -> Result<Vec<Match>, DbError> {
        let (collections, keys): (Vec<String>, Vec<String>) = best.iter().map(|(_, name)| name.clone()).unzip();
        let rows = sqlx::query!(
            "SELECT e.collection, e.key, e.content, e.simulated, e.updated_at
             FROM unnest($1::text[], $2::text[]) AS n (collection, key) JOIN embeddings e USING (collection, key)",
            &collections,
            &keys,
        )
        .fetch_all(&self.db)
        .await?;
        let matching = |(likeness, (collection, key)): (f64, Name)| {
            let row = rows.iter().find(|row| row.collection == collection && row.key == key)?;
            let (content, simulated, updated_at) = (row.content.clone(), row.simulated, row.updated_at);
            Some(Match { collection, key, likeness, content, simulated, updated_at })
        };
        Ok(best.into_iter().filter_map(matching).collect())
    }

    /// All collections, one row for each model in it, up to [`LISTING_MAX`].
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn collections(&self) -> Result<Vec<Collection>, DbError> {
        let rows = sqlx::query_as!(
            Collection,
            r#"SELECT collection, model, dimensions, bool_or(simulated) AS "simulated!", count(*) AS "vectors!",
                      sum(octet_length(vector))::bigint AS "vector_bytes!", max(updated_at) AS "updated_at!"
               FROM embeddings GROUP BY collection, model, dimensions ORDER BY collection, model, dimensions LIMIT $1"#,
            LISTING_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// Vectors of a collection by key, after `after`, at most `limit` and [`LISTING_MAX`].
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn entries(&self, collection: &str, after: Option<&str>, limit: i64) -> Result<Vec<Entry>, DbError> {
        let rows = sqlx::query_as!(
            Entry,
            "SELECT key, model, dimensions, simulated, job_id, content, updated_at FROM embeddings
             WHERE collection = $1 AND key > $2 ORDER BY key LIMIT $3",
            collection,
            after.unwrap_or_default(),
            limit.clamp(1, LISTING_MAX),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// The numbers of one stored vector.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn vector(&self, collection: &str, key: &str) -> Result<Option<Vec<f32>>, DbError> {
        let row =
            sqlx::query_scalar!("SELECT vector FROM embeddings WHERE collection = $1 AND key = $2", collection, key)
                .fetch_optional(&self.db)
                .await?;
        Ok(row.map(|bytes| numbers(&bytes)))
    }
}

/// Collection and key.
type Name = (String, String);

/// Numbers as they are stored.
pub(super) fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Stored bytes as numbers.
pub(super) fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

//! Every statement on `instance_registry`: who is there, since when, with what, and who is dead.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::error::InstanceError;
use super::event_record::DIED;
use super::identity::{Identity, process_is_gone};
use super::sightings::Sightings;
use crate::postgres::{Database, DbError, Lane};

/// One row of `instance_registry`, as listings show it.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceRow {
    /// Name.
    pub instance_id: String,
    /// Host.
    pub hostname: String,
    /// Process.
    pub pid: String,
    /// `online`, `offline`, `paused` or `draining`; `offline` also when the last heartbeat is stale and nobody has said
    /// so yet.
    pub status: String,
    /// Last sign of life, by the database's clock.
    pub last_heartbeat: DateTime<Utc>,
    /// Its age, by the same clock.
    pub heartbeat_age_ms: i64,
    /// Jobs that execute there.
    pub load: i32,
    /// What it offers: capabilities and known workers.
    pub capabilities: Value,
    /// Its queues: limit, paused, running, producer.
    pub queues: Value,
    /// Whether it holds a lease of a leader in `oban_peers`.
    pub leader: bool,
    /// Version of the program.
    pub version: String,
    /// When this name first appeared.
    pub created_at: DateTime<Utc>,
    /// The process that has the name, or had it last.
    pub incarnation: Uuid,
    /// When that process started, by its own clock; `None` when its mark does not say so.
    pub started_at: Option<DateTime<Utc>>,
    /// Without a heartbeat for so long it counts as dead.
    pub stale_after_ms: i64,
    /// The status that was told last, by itself or by whoever took its jobs over; not judged by its heartbeat.
    pub registered_status: String,
    /// Whether others have counted that process as dead, and no heartbeat of it came afterwards.
    pub died: bool,
}

/// What a heartbeat says.
#[derive(Debug, Clone)]
pub struct Beat {
    /// `online`, `paused` or `draining`.
    pub status: &'static str,
    /// Jobs that execute.
    pub load: i32,
    /// Per queue: limit, paused, running, producer.
    pub queues: Value,
}

/// What the registry answered to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatAnswer {
    /// Stored.
    Stored,
    /// Stored, but others had marked this instance offline and may have taken its jobs.
    WasDead,
    /// Another process has this name now.
    Replaced,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Presence {
    db: Database,
    /// For heartbeats: jobs and locked tables may keep every connection of the pool for longer than a lease lasts, and
    /// all jobs of an instance hang on its heartbeat.
    beats: Lane,
    /// Process table of this machine, to see which neighbours are gone.
    host_key: Option<String>,
}

impl Presence {
    /// Statements for `db`, seen from a machine with this key.
    pub fn new(db: Database, host_key: Option<String>) -> Self {
        Self { beats: Lane::new(db.clone()), db, host_key }
    }

    /// Registers this process. A row of the same name is taken over unless its process is alive: gone from this
    /// machine, marked offline, or without a heartbeat for longer than it said.
    ///
    /// # Errors
    /// [`InstanceError::InUse`], [`InstanceError::Db`].
    pub async fn register(
        &self,
        identity: &Identity,
        capabilities: &Value,
        beat: &Beat,
        stale_after_ms: i64,
    ) -> Result<(), InstanceError> {
        self.mark_gone().await?;
        let taken = sqlx::query_scalar!(
            "INSERT INTO instance_registry AS r
               (instance_id, hostname, pid, status, capabilities, load, incarnation, version, host_key, queues, stale_after_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (instance_id) DO UPDATE SET
               hostname = excluded.hostname, pid = excluded.pid, status = excluded.status,
               last_heartbeat = clock_timestamp(), capabilities = excluded.capabilities, load = excluded.load,
               incarnation = excluded.incarnation, version = excluded.version, host_key = excluded.host_key,
               queues = excluded.queues, stale_after_ms = excluded.stale_after_ms
             WHERE r.status = 'offline' OR r.incarnation = excluded.incarnation
                OR r.last_heartbeat < clock_timestamp() - r.stale_after_ms * interval '1 millisecond'
             RETURNING instance_id",
            identity.instance_id,
            identity.hostname,
            identity.pid.to_string(),
            beat.status,
            capabilities,
            beat.load,
            identity.incarnation,
            env!("CARGO_PKG_VERSION"),
            identity.host_key,
            beat.queues,
            stale_after_ms,
        )
        .fetch_optional(&self.db)
        .await?;
        if taken.is_some() { Ok(()) } else { Err(self.in_use(identity).await?) }
    }

    /// Whether this process may take its name; asked before anything is started.
    ///
    /// # Errors
    /// [`InstanceError::InUse`], [`InstanceError::Db`].
    pub async fn refuse_taken(&self, identity: &Identity) -> Result<(), InstanceError> {
        self.mark_gone().await?;
        self.forget_old().await?;
        match self.get(&identity.instance_id).await? {
            Some(row) if row.status != "offline" => Err(self.in_use(identity).await?),
            _ => Ok(()),
        }
    }

    async fn in_use(&self, identity: &Identity) -> Result<InstanceError, DbError> {
        let row = self.get(&identity.instance_id).await?;
        Ok(InstanceError::InUse {
            instance_id: identity.instance_id.clone(),
            hostname: row.as_ref().map_or_else(String::new, |row| row.hostname.clone()),
            pid: row.as_ref().map_or_else(String::new, |row| row.pid.clone()),
            age_ms: row.map_or(0, |row| row.heartbeat_age_ms),
        })
    }

    /// Stores a heartbeat of this process.
    ///
    /// Telemetry that is repeated in seconds, so the commit does not wait for the disk. Needs no connection of the pool
    /// as long as one heartbeat at a time is stored.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn beat(&self, identity: &Identity, beat: &Beat) -> Result<BeatAnswer, DbError> {
        let was = sqlx::query_scalar!(
            r#"WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
               old AS (SELECT r.instance_id, r.status FROM instance_registry r, quick
                       WHERE r.instance_id = $1 AND r.incarnation = $2 FOR UPDATE OF r)
               UPDATE instance_registry r SET last_heartbeat = clock_timestamp(), status = $3, load = $4, queues = $5
               FROM old WHERE r.instance_id = old.instance_id
               RETURNING old.status"#,
            identity.instance_id,
            identity.incarnation,
            beat.status,
            beat.load,
            beat.queues,
        )
        .fetch_optional(&self.beats)
        .await?;
        Ok(match was.as_deref() {
            None => BeatAnswer::Replaced,
            Some("offline") => BeatAnswer::WasDead,
            Some(_) => BeatAnswer::Stored,
        })
    }

    /// Marks this process offline, at the end of an ordered stop.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn leave(&self, identity: &Identity) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE instance_registry SET status = 'offline', load = 0, last_heartbeat = clock_timestamp()
             WHERE instance_id = $1 AND incarnation = $2",
            identity.instance_id,
            identity.incarnation,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Marks instances offline whose process is gone from this machine; returns their names.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn mark_gone(&self) -> Result<Vec<String>, DbError> {
        let rows = self.not_offline().await?;
        self.mark(&gone(&rows), &[]).await
    }

    /// Marks instances offline whose process is gone from this machine, or whose heartbeat is stale and stood still for
    /// a while before the eyes of this process, whose `sightings` they are; returns their names.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn mark_dead(&self, sightings: &mut Sightings, now: Instant) -> Result<Vec<String>, DbError> {
        // A time in which nobody could look is one in which nobody could beat either: it is no time of standing still.
        let rows = self.not_offline().await.inspect_err(|_| *sightings = Sightings::default())?;
        let seen = rows.iter().map(|row| {
            let stale_after = Duration::from_millis(u64::try_from(row.stale_after_ms).unwrap_or_default());
            (row.incarnation, row.last_heartbeat, stale_after)
        });
        let mut still = sightings.look(seen, now);
        let is_stale = |incarnation| rows.iter().any(|row| row.incarnation == incarnation && row.is_stale);
        still.retain(|incarnation| is_stale(*incarnation));
        self.mark(&gone(&rows), &still).await
    }

    async fn not_offline(&self) -> Result<Vec<Neighbour>, DbError> {
        let rows = sqlx::query_as!(
            Neighbour,
            r#"SELECT incarnation, pid, COALESCE(host_key = $1, false) AS "is_here!", last_heartbeat, stale_after_ms,
                      last_heartbeat < clock_timestamp() - stale_after_ms * interval '1 millisecond' AS "is_stale!"
               FROM instance_registry WHERE status <> 'offline'"#,
            self.host_key
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// Marks those of `still` only if their heartbeat is stale now.
    async fn mark(&self, gone: &[Uuid], still: &[Uuid]) -> Result<Vec<String>, DbError> {
        // Nearly always nobody is dead, and then looking was the only statement.
        if gone.is_empty() && still.is_empty() {
            return Ok(Vec::new());
        }
        // With an event, which who examines it later finds: numbered from below, because the dead one numbers its own.
        let dead = sqlx::query_scalar!(
            r#"WITH dead AS (
                 UPDATE instance_registry SET status = 'offline', load = 0
                 WHERE status <> 'offline'
                   AND (incarnation = ANY($1)
                        OR incarnation = ANY($2)
                           AND last_heartbeat < clock_timestamp() - stale_after_ms * interval '1 millisecond')
                 RETURNING instance_id, incarnation, last_heartbeat
               ), told AS (
                 INSERT INTO supervision_events
                   (instance_id, process, seq, at, level, path, incarnation, event, reason, detail)
                 SELECT d.instance_id, d.incarnation,
                        -1 - (SELECT count(*) FROM supervision_events e WHERE e.process = d.incarnation AND e.seq < 0),
                        clock_timestamp(), 'error', '/', 0, $3,
                        CASE WHEN d.incarnation = ANY($1) THEN 'its process is gone' ELSE 'its heartbeat stood still' END
                          || '; its jobs are taken over',
                        jsonb_build_object('last_heartbeat', d.last_heartbeat)
                 FROM dead d
                 ON CONFLICT (process, seq) DO NOTHING
               )
               SELECT instance_id FROM dead"#,
            gone,
            still,
            DIED,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(dead)
    }

    /// Forgets instances that have been offline for a week and left no job: every process without a name of its own
    /// leaves a row.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn forget_old(&self) -> Result<(), DbError> {
        sqlx::query!(
            "DELETE FROM instance_registry r
             WHERE r.status = 'offline' AND r.last_heartbeat < clock_timestamp() - interval '7 days'
               AND NOT EXISTS (SELECT FROM oban_jobs j WHERE j.state = 'executing' AND j.attempted_by[1] = r.instance_id)"
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// All instances, online ones first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list(&self) -> Result<Vec<InstanceRow>, DbError> {
        let rows = sqlx::query!(
            r#"SELECT instance_id, hostname, pid, state.status AS "status!", last_heartbeat, load, capabilities, queues,
                      version, created_at, incarnation, stale_after_ms, r.status AS registered_status,
                      (extract(epoch FROM clock_timestamp() - last_heartbeat) * 1000)::bigint AS "heartbeat_age_ms!",
                      EXISTS (SELECT FROM oban_peers p WHERE p.node = r.instance_id
                              AND p.expires_at > timezone('UTC', clock_timestamp())) AS "leader!",
                      EXISTS (SELECT FROM supervision_events e WHERE e.process = r.incarnation AND e.seq < 0
                              AND e.event = $1 AND e.at > r.last_heartbeat) AS "died!"
               FROM instance_registry r,
                    LATERAL (SELECT CASE WHEN last_heartbeat < clock_timestamp() - stale_after_ms * interval '1 millisecond'
                                         THEN 'offline' ELSE r.status END AS status) state
               ORDER BY state.status = 'offline', instance_id"#,
            DIED,
        )
        .map(|row| InstanceRow {
            instance_id: row.instance_id,
            hostname: row.hostname,
            pid: row.pid,
            status: row.status,
            last_heartbeat: row.last_heartbeat,
            heartbeat_age_ms: row.heartbeat_age_ms,
            load: row.load,
            capabilities: row.capabilities,
            queues: row.queues,
            leader: row.leader,
            version: row.version,
            created_at: row.created_at,
            started_at: begun(row.incarnation),
            incarnation: row.incarnation,
            stale_after_ms: row.stale_after_ms,
            registered_status: row.registered_status,
            died: row.died,
        })
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// One instance.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn get(&self, instance_id: &str) -> Result<Option<InstanceRow>, DbError> {
        Ok(self.list().await?.into_iter().find(|row| row.instance_id == instance_id))
    }
}

/// When the process with this mark started: marks are UUIDs of version 7, which begin with a time.
fn begun(incarnation: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = incarnation.get_timestamp().filter(|_| incarnation.get_version_num() == 7)?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}

/// An instance that is not offline, as the registry shows it.
struct Neighbour {
    incarnation: Uuid,
    pid: String,
    is_here: bool,
    last_heartbeat: DateTime<Utc>,
    stale_after_ms: i64,
    is_stale: bool,
}

fn gone(rows: &[Neighbour]) -> Vec<Uuid> {
    rows.iter().filter(|row| row.is_here && process_is_gone(&row.pid)).map(|row| row.incarnation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_process_says_when_it_started() {
        let age = Utc::now() - begun(Uuid::now_v7()).unwrap();
        assert!((0..60_000).contains(&age.num_milliseconds().saturating_add(1)), "{age}");
        assert_eq!(begun(Uuid::nil()), None);
    }
}

//! Oban's objects as the catalog shows them, against a table of what version 14 has.

use singularity::postgres::Database;

/// name, type, not null, default
type Column = (String, String, bool, Option<String>);

/// Rows of the catalog that belong to Oban, with the schema's name replaced by `S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    jobs: Vec<Column>,
    peers: Vec<Column>,
    /// table, name, definition
    constraints: Vec<(String, String, String)>,
    /// table, name, definition
    indexes: Vec<(String, String, String)>,
    states: Vec<String>,
    comment: Option<String>,
    /// relation, kind, persistence
    relations: Vec<(String, String, String)>,
    /// triggers and functions
    others: Vec<String>,
}

const JOBS: [(&str, &str, bool, Option<&str>); 18] = [
    ("id", "bigint", true, Some("nextval('oban_jobs_id_seq'::regclass)")),
    ("state", "oban_job_state", true, Some("'available'::oban_job_state")),
    ("queue", "text", true, Some("'default'::text")),
    ("worker", "text", true, None),
    ("args", "jsonb", true, Some("'{}'::jsonb")),
    ("errors", "jsonb[]", true, Some("ARRAY[]::jsonb[]")),
    ("attempt", "integer", true, Some("0")),
    ("max_attempts", "integer", true, Some("20")),
    ("inserted_at", "timestamp without time zone", true, Some("timezone('UTC'::text, now())")),
    ("scheduled_at", "timestamp without time zone", true, Some("timezone('UTC'::text, now())")),
    ("attempted_at", "timestamp without time zone", false, None),
    ("completed_at", "timestamp without time zone", false, None),
    ("attempted_by", "text[]", false, None),
    ("discarded_at", "timestamp without time zone", false, None),
    ("priority", "integer", true, Some("0")),
    ("tags", "text[]", false, Some("ARRAY[]::text[]")),
    ("meta", "jsonb", false, Some("'{}'::jsonb")),
    ("cancelled_at", "timestamp without time zone", false, None),
];

const PEERS: [(&str, &str, bool, Option<&str>); 4] = [
    ("name", "text", true, None),
    ("node", "text", true, None),
    ("started_at", "timestamp without time zone", true, None),
    ("expires_at", "timestamp without time zone", true, None),
];

const CONSTRAINTS: [(&str, &str, &str); 7] = [
    ("oban_jobs", "attempt_range", "CHECK (((attempt >= 0) AND (attempt <= max_attempts)))"),
    ("oban_jobs", "non_negative_priority", "CHECK ((priority >= 0)) NOT VALID"),
    ("oban_jobs", "oban_jobs_pkey", "PRIMARY KEY (id)"),
    ("oban_jobs", "positive_max_attempts", "CHECK ((max_attempts > 0))"),
    ("oban_jobs", "queue_length", "CHECK (((char_length(queue) > 0) AND (char_length(queue) < 128)))"),
    ("oban_jobs", "worker_length", "CHECK (((char_length(worker) > 0) AND (char_length(worker) < 128)))"),
    ("oban_peers", "oban_peers_pkey", "PRIMARY KEY (name)"),
];

const INDEXES: [(&str, &str, &str); 7] = [
    ("oban_jobs", "oban_jobs_args_index", "CREATE INDEX oban_jobs_args_index ON S.oban_jobs USING gin (args)"),
    ("oban_jobs", "oban_jobs_meta_index", "CREATE INDEX oban_jobs_meta_index ON S.oban_jobs USING gin (meta)"),
    ("oban_jobs", "oban_jobs_pkey", "CREATE UNIQUE INDEX oban_jobs_pkey ON S.oban_jobs USING btree (id)"),
    (
        "oban_jobs",
        "oban_jobs_state_cancelled_at_index",
        "CREATE INDEX oban_jobs_state_cancelled_at_index ON S.oban_jobs USING btree (state, cancelled_at)",
    ),
    (
        "oban_jobs",
        "oban_jobs_state_discarded_at_index",
        "CREATE INDEX oban_jobs_state_discarded_at_index ON S.oban_jobs USING btree (state, discarded_at)",
    ),
    (
        "oban_jobs",
        "oban_jobs_state_queue_priority_scheduled_at_id_index",
        "CREATE INDEX oban_jobs_state_queue_priority_scheduled_at_id_index ON S.oban_jobs USING btree \
         (state, queue, priority, scheduled_at, id)",
    ),
    ("oban_peers", "oban_peers_pkey", "CREATE UNIQUE INDEX oban_peers_pkey ON S.oban_peers USING btree (name)"),
];

const STATES: [&str; 8] =
    ["available", "suspended", "scheduled", "executing", "retryable", "completed", "discarded", "cancelled"];

/// `p` is permanent, `u` unlogged; `r` a table, `S` a sequence.
const RELATIONS: [(&str, &str, &str); 3] =
    [("oban_jobs", "r", "p"), ("oban_jobs_id_seq", "S", "p"), ("oban_peers", "r", "u")];

impl Catalog {
    /// Reads the schema of `database`.
    pub async fn read(database: &Database) -> Self {
        let pool = database.pool();
        let schema = database.schema().as_str();
        let columns = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
             FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let s = |text: String| text.replace(&format!(" {schema}."), " S.");
        let constraints =
            "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(c.oid) FROM pg_constraint c
             JOIN pg_namespace n ON n.oid = connamespace
             WHERE nspname = $1 AND conrelid::regclass::text LIKE 'oban%' AND contype <> 'n' ORDER BY 1, 2";
        let indexes = "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes
             WHERE schemaname = $1 AND tablename LIKE 'oban%' ORDER BY 1, 2";
        let relations = "SELECT relname::text, relkind::text, relpersistence::text FROM pg_class c
             JOIN pg_namespace n ON n.oid = relnamespace
             WHERE nspname = $1 AND relname LIKE 'oban%' AND relkind <> 'i' ORDER BY 1";
        let others = "SELECT tgname::text FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
               JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname LIKE 'oban%'
             UNION ALL SELECT proname::text FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
               WHERE nspname = $1 AND proname LIKE 'oban%' ORDER BY 1";
        let indexes: Vec<(String, String, String)> =
            sqlx::query_as(indexes).bind(schema).fetch_all(pool).await.unwrap();
        Self {
            jobs: sqlx::query_as(columns).bind("oban_jobs").fetch_all(pool).await.unwrap(),
            peers: sqlx::query_as(columns).bind("oban_peers").fetch_all(pool).await.unwrap(),
            constraints: sqlx::query_as(constraints).bind(schema).fetch_all(pool).await.unwrap(),
            indexes: indexes.into_iter().map(|(table, name, definition)| (table, name, s(definition))).collect(),
            states: sqlx::query_scalar(
                "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = to_regtype('oban_job_state') ORDER BY enumsortorder",
            )
            .fetch_all(pool)
            .await
            .unwrap(),
            comment: sqlx::query_scalar("SELECT obj_description(to_regclass('oban_jobs'), 'pg_class')")
                .fetch_one(pool)
                .await
                .unwrap(),
            relations: sqlx::query_as(relations).bind(schema).fetch_all(pool).await.unwrap(),
            others: sqlx::query_scalar(others).bind(schema).fetch_all(pool).await.unwrap(),
        }
    }

    /// Everything but the leader's table.
    pub fn jobs(&self) -> Self {
        let of_jobs = |rows: &[(String, String, String)]| -> Vec<_> {
            rows.iter().filter(|row| !row.0.starts_with("oban_peers")).cloned().collect()
        };
        Self {
            peers: Vec::new(),
            constraints: of_jobs(&self.constraints),
            indexes: of_jobs(&self.indexes),
            relations: of_jobs(&self.relations),
            ..self.clone()
        }
    }

    /// Compares object by object.
    pub fn assert_is_version_14(&self, schema: &str) {
        let columns = |rows: &[(&str, &str, bool, Option<&str>)]| -> Vec<Column> {
            rows.iter()
                .map(|(name, kind, not_null, default)| {
                    ((*name).into(), (*kind).into(), *not_null, default.map(str::to_owned))
                })
                .collect()
        };
        let triples = |rows: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
            rows.iter().map(|(a, b, c)| ((*a).into(), (*b).into(), (*c).into())).collect()
        };
        assert_eq!(self.jobs, columns(&JOBS), "{schema}");
        assert_eq!(self.peers, columns(&PEERS), "{schema}");
        assert_eq!(self.constraints, triples(&CONSTRAINTS), "{schema}");
        assert_eq!(self.indexes, triples(&INDEXES), "{schema}");
        assert_eq!(self.states, STATES, "{schema}");
        assert_eq!(self.comment.as_deref(), Some("14"), "{schema}");
        assert_eq!(self.relations, triples(&RELATIONS), "{schema}");
        assert_eq!(self.others, Vec::<String>::new(), "{schema}");
    }
}

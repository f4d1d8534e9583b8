-- The fleet learns: what instances report (UP), what CentralCloud keeps, what it sends back (DOWN).

-- How an attempt came to its model, for an unbiased view of what each model is worth.
ALTER TABLE job_results
  -- What was asked for: a complexity or a configured route; NULL where a model was named.
  ADD COLUMN route text,
  -- Number of the learning whose rule chose; NULL where none did.
  ADD COLUMN policy_version bigint,
  -- Probability with which the model was chosen.
  ADD COLUMN propensity double precision CHECK (propensity > 0 AND propensity <= 1),
  -- What the attempt says about its model: infrastructure, invalid and cached say nothing.
  ADD COLUMN outcome text CHECK (outcome IN ('success', 'failure', 'refused', 'infrastructure', 'invalid', 'cached')),
  -- Number of the call within its attempt: one that failed and was followed by a call of another model is a row of its own.
  ADD COLUMN hop integer NOT NULL DEFAULT 0,
  -- The transaction that wrote the row. Rows become visible in another order than that of their ids, so a reader who only
  -- remembered an id would miss some; it reads up to the oldest transaction that is still under way instead.
  ADD COLUMN recorded_xid xid8 NOT NULL DEFAULT pg_current_xact_id();

DROP INDEX job_results_failure_index;
CREATE UNIQUE INDEX job_results_failure_index ON job_results (job_id, attempt, hop) WHERE NOT success;

CREATE INDEX job_results_report_index ON job_results (instance_id, recorded_xid, id);

-- Up to which row the results of an instance are reported. Reading, sending and moving it are one transaction.
CREATE TABLE report_cursors (
  instance_id text PRIMARY KEY,
  recorded_xid xid8 NOT NULL DEFAULT '0',
  result_id bigint NOT NULL DEFAULT 0,
  -- Number of the last report; with the instance it is the report's key.
  report_number bigint NOT NULL DEFAULT 0,
  reported_at timestamptz NOT NULL DEFAULT now(),
  -- The pgmq queue that its records are in; NULL while there is none.
  queue text
);

-- CentralCloud: one row a reported attempt, whoever reported it how often.
CREATE TABLE central_results (
  job_id bigint NOT NULL,
  attempt integer NOT NULL,
  hop integer NOT NULL DEFAULT 0,
  success boolean NOT NULL,
  instance_id text NOT NULL,
  job_type text NOT NULL,
  route text,
  provider text,
  model text,
  policy_version bigint,
  propensity double precision,
  outcome text NOT NULL,
  simulated boolean NOT NULL DEFAULT false,
  cost_nanousd bigint,
  tokens_input bigint,
  tokens_output bigint,
  duration_ms bigint NOT NULL,
  time_to_first_token_ms bigint,
  completed_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (job_id, attempt, hop, success)
);

-- A job succeeds once.
CREATE UNIQUE INDEX central_results_success_index ON central_results (job_id) WHERE success;
CREATE INDEX central_results_cell_index ON central_results (job_type, route, completed_at);
-- Small, because rows come in the order of time; old ones are deleted by it.
CREATE INDEX central_results_received_at_index ON central_results USING brin (received_at);

-- The aggregates that instances sent, each once.
CREATE TABLE central_reports (
  report_key text PRIMARY KEY,
  instance_id text NOT NULL,
  period_start timestamptz,
  period_end timestamptz NOT NULL,
  job_count bigint NOT NULL,
  body jsonb NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX central_reports_instance_index ON central_reports (instance_id, period_end);

-- Sums, so that they can be merged exactly. Latency counts go by powers of two: element i has latencies below 2^i ms.
CREATE TABLE model_performance (
  job_type text NOT NULL,
  route text NOT NULL DEFAULT '',
  model text NOT NULL DEFAULT '',
  instance_id text NOT NULL,
  attempts bigint NOT NULL DEFAULT 0,
  successes bigint NOT NULL DEFAULT 0,
  failures bigint NOT NULL DEFAULT 0,
  refusals bigint NOT NULL DEFAULT 0,
  infrastructure bigint NOT NULL DEFAULT 0,
  -- Attempts whose cost is known, and its sums.
  priced bigint NOT NULL DEFAULT 0,
  cost_nanousd numeric NOT NULL DEFAULT 0,
  cost_nanousd_squared numeric NOT NULL DEFAULT 0,
  tokens_input numeric NOT NULL DEFAULT 0,
  tokens_output numeric NOT NULL DEFAULT 0,
  latency_ms numeric NOT NULL DEFAULT 0,
  latency_ms_squared numeric NOT NULL DEFAULT 0,
  latency_counts bigint[] NOT NULL DEFAULT '{}',
  first_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (job_type, route, model, instance_id)
);

-- What CentralCloud publishes, in order and for ever: a new instance reads it from the beginning. Numbers have no gaps,
-- because they are given under a lock.
CREATE TABLE learnings (
  id bigint PRIMARY KEY CHECK (id > 0),
  type text NOT NULL,
  -- What it is about, within its type: the latest of one key replaces the ones before.
  key text NOT NULL,
  schema_version integer NOT NULL DEFAULT 1,
  summary text NOT NULL,
  payload jsonb NOT NULL,
  evidence jsonb NOT NULL DEFAULT '{}',
  rolls_back bigint REFERENCES learnings (id),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz
);

CREATE INDEX learnings_key_index ON learnings (type, key, id);

-- Tells instances to look, on a channel beside those of Oban, whoever publishes.
CREATE FUNCTION learnings_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify(TG_TABLE_SCHEMA || '.oban_learning', '');
  RETURN NULL;
END
$$;

CREATE TRIGGER learnings_notify AFTER INSERT ON learnings FOR EACH STATEMENT EXECUTE FUNCTION learnings_notify();

-- What CentralCloud decided and why, also where nothing was published.
CREATE TABLE learning_history (
  id bigserial PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  decision text NOT NULL,
  cell text,
  learning_id bigint REFERENCES learnings (id),
  detail jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX learning_history_at_index ON learning_history (at);

CREATE TABLE pattern_library (
  name text PRIMARY KEY,
  definition jsonb NOT NULL,
  source text NOT NULL,
  occurrences bigint NOT NULL DEFAULT 0,
  successes bigint NOT NULL DEFAULT 0,
  first_seen timestamptz NOT NULL DEFAULT now(),
  last_seen timestamptz NOT NULL DEFAULT now()
);

-- What each instance made of each learning. With the log it is all that an instance needs to have the same rules again.
CREATE TABLE learning_applications (
  instance_id text NOT NULL,
  learning_id bigint NOT NULL REFERENCES learnings (id),
  state text NOT NULL CHECK (state IN ('applied', 'proposed', 'rejected', 'expired', 'unknown', 'invalid')),
  decided_by text NOT NULL,
  reason text,
  decided_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (instance_id, learning_id)
);

-- Up to which learning an instance has looked.
CREATE TABLE learning_cursors (
  instance_id text PRIMARY KEY,
  learning_id bigint NOT NULL DEFAULT 0,
  -- The pgmq queue through which it hears of new ones.
  queue text NOT NULL,
  synced_at timestamptz NOT NULL DEFAULT now()
);

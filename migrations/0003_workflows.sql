-- Workflows: what runs, which steps are done, what came out.
-- There is no foreign key onto oban_jobs: jobs are pruned, results stay, and a key would lock job rows on every write.

CREATE TABLE workflow_runs (
  id uuid PRIMARY KEY,
  job_id bigint NOT NULL UNIQUE,
  workflow text NOT NULL,
  definition_hash text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'completed', 'failed')),
  input jsonb NOT NULL,
  output jsonb,
  instance_id text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);

-- One row a checkpoint: the step's result, written in one transaction with the step's effects.
CREATE TABLE workflow_steps (
  run_id uuid NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
  position integer NOT NULL CHECK (position >= 0),
  step text NOT NULL,
  attempt integer NOT NULL,
  output jsonb NOT NULL,
  instance_id text NOT NULL,
  duration_ms bigint NOT NULL,
  finished_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, position)
);

CREATE TABLE job_results (
  id bigserial PRIMARY KEY,
  job_id bigint NOT NULL,
  attempt integer NOT NULL,
  request_id text,
  instance_id text NOT NULL,
  job_type text NOT NULL,
  workflow_type text NOT NULL,
  success boolean NOT NULL,
  error_reason text,
  duration_ms bigint NOT NULL,
  started_at timestamptz,
  completed_at timestamptz NOT NULL DEFAULT now(),
  -- NULL means that no price is known, never that it was free. One dollar is 1,000,000,000.
  cost_nanousd bigint,
  -- The same in whole cents, rounded half up; most single calls round to 0.
  cost_cents bigint GENERATED ALWAYS AS ((cost_nanousd + 5000000) / 10000000) STORED,
  prices_version text,
  provider text,
  model_used text,
  simulated boolean NOT NULL DEFAULT false,
  tokens_input bigint,
  tokens_output bigint,
  tokens_used bigint GENERATED ALWAYS AS (tokens_input + tokens_output) STORED,
  time_to_first_token_ms bigint,
  usage jsonb,
  patterns_discovered text[] NOT NULL DEFAULT '{}',
  insights jsonb NOT NULL DEFAULT '{}',
  input_summary jsonb NOT NULL DEFAULT '{}',
  result_summary jsonb NOT NULL DEFAULT '{}',
  -- The whole answer, for whoever asks again.
  result jsonb,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- The first success of a job is the only one; failures are one row an attempt and block nothing.
CREATE UNIQUE INDEX job_results_success_index ON job_results (job_id) WHERE success;
CREATE UNIQUE INDEX job_results_failure_index ON job_results (job_id, attempt) WHERE NOT success;
CREATE INDEX job_results_completed_at_index ON job_results (completed_at);

-- A request that names itself: its key leads to its job for ever, whatever becomes of the job's row.
CREATE TABLE request_keys (
  key text PRIMARY KEY CHECK (char_length(key) BETWEEN 1 AND 255),
  job_id bigint NOT NULL,
  -- SHA-256 of the normalised request, so that a key is not used for two different questions.
  fingerprint text NOT NULL,
  inserted_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX request_keys_job_id_index ON request_keys (job_id);

-- One run of `singularity run` over one input, so that the same command finishes what an interrupted one left.
CREATE TABLE run_batches (
  id uuid PRIMARY KEY,
  fingerprint text NOT NULL,
  requests integer NOT NULL,
  instance_id text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);

CREATE INDEX run_batches_open_index ON run_batches (fingerprint) WHERE finished_at IS NULL;

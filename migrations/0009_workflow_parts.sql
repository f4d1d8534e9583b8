-- Workflows: checkpoints inside of a step, jobs that wait for other jobs, and what listings ask for.

ALTER TABLE workflow_runs
  -- Text of the last failure.
  ADD COLUMN error text,
  DROP CONSTRAINT workflow_runs_state_check,
  -- waiting: for children, without holding a slot.
  ADD CONSTRAINT workflow_runs_state_check CHECK (state IN ('running', 'waiting', 'completed', 'failed'));

CREATE INDEX workflow_runs_started_at_index ON workflow_runs (started_at);
CREATE INDEX workflow_runs_finished_at_index ON workflow_runs (finished_at);

-- NULL where a step costs nothing, or nobody knows.
ALTER TABLE workflow_steps ADD COLUMN cost_nanousd bigint;

-- One row a checkpoint inside of a step: an element of a fan-out, or a step of a sub-workflow.
CREATE TABLE workflow_parts (
  run_id uuid NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
  -- Position of the step, and the places inside of it: 2.17.0 is the first step of the sub-workflow that is run for the
  -- eighteenth element of the list that step 2 was given.
  path text NOT NULL,
  -- The same for people: answer[17]/ask.
  step text NOT NULL,
  attempt integer NOT NULL,
  output jsonb NOT NULL,
  cost_nanousd bigint,
  instance_id text NOT NULL,
  duration_ms bigint NOT NULL,
  finished_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, path)
);

-- Jobs that another job enqueued and waits for. No foreign key onto oban_jobs, as everywhere: rows of jobs are pruned.
CREATE TABLE job_children (
  parent_id bigint NOT NULL,
  run_id uuid NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
  -- The step that enqueued it, as in workflow_parts.
  path text NOT NULL,
  -- Name of the child within the step.
  key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
  job_id bigint NOT NULL UNIQUE,
  -- open: the parent has not seen its end. collected: it has. orphaned: it was cancelled together with its parent.
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'collected', 'orphaned')),
  inserted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, path, key)
);

CREATE INDEX job_children_open_index ON job_children (parent_id) WHERE state = 'open';
CREATE INDEX job_children_parent_id_index ON job_children (parent_id);

-- Jobs that are scheduled only to look after their children, and may be woken before their time.
CREATE TABLE job_waits (
  job_id bigint PRIMARY KEY,
  until text NOT NULL CHECK (until IN ('all', 'any'))
);

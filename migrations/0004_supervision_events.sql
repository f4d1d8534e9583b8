-- What supervisors and operators did, of level warning and up, so that a dead instance can be examined.
-- The writer keeps the newest rows of each instance, and all rows for 30 days at most.

CREATE TABLE supervision_events (
  id bigserial PRIMARY KEY,
  instance_id text NOT NULL,
  -- The process of the instance, as in instance_registry, and the place of the event among that process's events: an
  -- event that is written again after a lost answer is recognised.
  process uuid NOT NULL,
  seq bigint NOT NULL,
  -- By the clock of the instance.
  at timestamptz NOT NULL,
  level text NOT NULL CHECK (level IN ('warning', 'error')),
  -- Which actor, in which of its lives.
  path text NOT NULL,
  incarnation bigint NOT NULL,
  event text NOT NULL,
  reason text,
  detail jsonb NOT NULL DEFAULT '{}',
  -- Orders of operators: who gave it, and the reason that was given.
  by_whom text,
  why text,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (process, seq)
);

CREATE INDEX supervision_events_instance_id_index ON supervision_events (instance_id, id);
CREATE INDEX supervision_events_inserted_at_index ON supervision_events (inserted_at);

-- A question is taken once, so that an order is not carried out again when the actor that took it is restarted.
ALTER TABLE control_requests ADD COLUMN taken_at timestamptz;
DROP INDEX control_requests_open_index;
CREATE INDEX control_requests_open_index ON control_requests (instance_id, requested_at) WHERE taken_at IS NULL;

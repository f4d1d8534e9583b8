-- Instances: who is there, what they are told, what they answer.

CREATE TABLE instance_registry (
  instance_id text PRIMARY KEY CHECK (char_length(instance_id) BETWEEN 1 AND 63),
  hostname text NOT NULL,
  pid text NOT NULL,
  status text NOT NULL CHECK (status IN ('online', 'offline', 'paused', 'draining')),
  last_heartbeat timestamptz NOT NULL DEFAULT now(),
  capabilities jsonb NOT NULL DEFAULT '{}',
  load integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- One value a process: a second process with the same id takes over, and the first one's writes stop counting.
  incarnation uuid NOT NULL,
  version text NOT NULL,
  -- Identity of the machine and process table, so that a neighbour can see at once that a process is gone.
  host_key text,
  -- Per queue: limit, paused, running and the producer's uuid.
  queues jsonb NOT NULL DEFAULT '{}',
  stale_after_ms bigint NOT NULL DEFAULT 30000 CHECK (stale_after_ms > 0)
);

CREATE INDEX instance_registry_status_index ON instance_registry (status);
CREATE INDEX instance_registry_last_heartbeat_index ON instance_registry (last_heartbeat);

-- Questions to a live instance (show your tree) and their answers; rows older than an hour are deleted.
CREATE TABLE control_requests (
  id uuid PRIMARY KEY,
  instance_id text NOT NULL,
  action text NOT NULL,
  body jsonb NOT NULL DEFAULT '{}',
  requested_by text NOT NULL,
  requested_at timestamptz NOT NULL DEFAULT now(),
  answer jsonb,
  answered_at timestamptz
);

CREATE INDEX control_requests_open_index ON control_requests (instance_id, requested_at) WHERE answered_at IS NULL;

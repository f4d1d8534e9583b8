-- Calls of models: what they may cost, and answers that are kept for the same request.

-- One row a budget and period. What is reserved belongs to calls under way: it counts until they are over, so that many
-- callers together cannot spend more than there is.
CREATE TABLE budget_windows (
  budget text NOT NULL,
  starts_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL,
  spent_nanousd bigint NOT NULL DEFAULT 0,
  requests bigint NOT NULL DEFAULT 0,
  -- Calls whose cost is unknown: they are in requests, and not in what is spent.
  unpriced bigint NOT NULL DEFAULT 0,
  reserved_nanousd bigint NOT NULL DEFAULT 0 CHECK (reserved_nanousd >= 0),
  reserved_requests bigint NOT NULL DEFAULT 0 CHECK (reserved_requests >= 0),
  PRIMARY KEY (budget, starts_at)
);

-- One row a call and budget, from before the call until it is settled.
CREATE TABLE budget_reservations (
  id uuid NOT NULL,
  budget text NOT NULL,
  starts_at timestamptz NOT NULL,
  nanousd bigint NOT NULL,
  job_id bigint NOT NULL,
  instance_id text NOT NULL,
  -- Later than the longest time that the call can take: whoever made it is dead by then.
  expires_at timestamptz NOT NULL,
  -- Given back to the budget, because its owner died. If that was wrong the call is settled all the same.
  released boolean NOT NULL DEFAULT false,
  PRIMARY KEY (id, budget)
);

CREATE INDEX budget_reservations_window_index ON budget_reservations (budget, starts_at);
CREATE INDEX budget_reservations_expires_at_index ON budget_reservations (expires_at);

-- Answers by the hash of model and request.
CREATE TABLE cached_answers (
  key bytea PRIMARY KEY,
  model text NOT NULL,
  answer jsonb NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

CREATE INDEX cached_answers_expires_at_index ON cached_answers (expires_at);

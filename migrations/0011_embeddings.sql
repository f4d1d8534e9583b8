-- Vectors of texts, by collection and key.
-- No extension is needed: a vector is its numbers in single precision, 4 bytes each, little-endian, and likeness is computed
-- by the program.

CREATE TABLE embeddings (
  collection text NOT NULL CHECK (char_length(collection) BETWEEN 1 AND 255),
  key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
  -- Our name of the model. Vectors of different models cannot be compared.
  model text NOT NULL,
  dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
  vector bytea NOT NULL CHECK (octet_length(vector) = 4 * dimensions),
  -- The text that the vector stands for.
  content text NOT NULL,
  -- Made without a model.
  simulated boolean NOT NULL,
  -- The job that made it. A job that was enqueued earlier never replaces what a later one stored.
  job_id bigint NOT NULL,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (collection, key)
);

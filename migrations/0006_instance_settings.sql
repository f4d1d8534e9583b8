-- Settings that operators gave to instances and that outlive restarts: for the whole fleet, or for one instance.

CREATE TABLE instance_settings (
  scope text NOT NULL CHECK (scope IN ('fleet', 'instance')),
  -- Empty for the fleet.
  instance_id text NOT NULL DEFAULT '' CHECK (char_length(instance_id) <= 63),
  -- A dotted key of the configuration, for example queues.default.limit.
  key text NOT NULL,
  value jsonb NOT NULL,
  author text NOT NULL,
  reason text,
  set_at timestamptz NOT NULL DEFAULT now(),
  -- The setting no longer holds after this; NULL is never.
  expires_at timestamptz,
  PRIMARY KEY (scope, instance_id, key),
  CHECK ((scope = 'fleet') = (instance_id = ''))
);

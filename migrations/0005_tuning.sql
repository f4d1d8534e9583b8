-- Storage settings of the tables whose rows change all the time, so that dead rows and dead index entries at the head of
-- a queue are cleared before claims have to step over them. No column and no index is touched.
--
-- `oban_jobs` may be somebody else's: it is tuned only if the user of this connection owns it and nobody has set storage
-- settings on it. `singularity migrate status` and `singularity doctor` say what came of it.

DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_class
             WHERE oid = to_regclass('oban_jobs') AND reloptions IS NULL AND pg_has_role(relowner, 'USAGE')) THEN
    -- Oban for Python sets the same on the tables that it makes.
    ALTER TABLE oban_jobs SET (
      fillfactor = 85,
      autovacuum_vacuum_scale_factor = 0.02,
      autovacuum_vacuum_insert_scale_factor = 0.02,
      autovacuum_analyze_scale_factor = 0.02,
      autovacuum_vacuum_cost_limit = 2000,
      autovacuum_vacuum_cost_delay = 1
    );
  END IF;

  -- A handful of rows, each written every few seconds.
  IF EXISTS (SELECT FROM pg_class
             WHERE oid = to_regclass('instance_registry') AND reloptions IS NULL AND pg_has_role(relowner, 'USAGE')) THEN
    ALTER TABLE instance_registry SET (fillfactor = 50, autovacuum_vacuum_threshold = 200);
  END IF;
END
$$;

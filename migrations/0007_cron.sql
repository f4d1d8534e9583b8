-- Periodic jobs: up to which time each entry was decided. Whoever inserts jobs for a later time must move it forward, so no
-- time is decided twice, whoever leads and whatever became of the jobs, and times that were missed are known.

CREATE TABLE cron_entries (
  -- The Oban that is led, as in oban_peers: who shares a leader shares entries.
  oban_name text NOT NULL,
  name text NOT NULL,
  -- As last seen. Another expression or zone begins anew: what it would have meant before is nobody's wish.
  expr text NOT NULL,
  timezone text NOT NULL,
  -- Every time up to this one was decided: its job was inserted, or it was left out.
  decided_until timestamptz NOT NULL,
  -- The time of the newest job, and the job, which may be deleted by now.
  due_at timestamptz,
  job_id bigint,
  PRIMARY KEY (oban_name, name)
);

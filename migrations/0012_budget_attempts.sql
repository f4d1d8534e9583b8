-- Of which attempt a promise is. One attempt may make several at a time; those of an earlier one are given back.
ALTER TABLE budget_reservations ADD COLUMN attempted_at timestamptz;

//! Bounds of the columns of attempts, for statements that write them.

/// The most that the column of attempts holds, of alias `j`: a smallint where Oban for Python made the table.
macro_rules! most_attempts {
    () => {
        "CASE pg_typeof(j.attempt) WHEN 'smallint'::regtype THEN 32767 ELSE 2147483647 END"
    };
}
pub(super) use most_attempts;

/// The least that a job of alias `j` may be allowed: never below the attempts begun, and one that waits keeps one, else
/// it would be available for ever.
macro_rules! fewest_max_attempts {
    () => {
        concat!(
            "LEAST(j.attempt, ",
            $crate::queue::engine::attempts::most_attempts!(),
            " - 1) + CASE WHEN j.state::text IN ('suspended', 'scheduled', 'available', 'retryable')
                            OR j.attempt = ",
            $crate::queue::engine::attempts::most_attempts!(),
            " THEN 1 ELSE 0 END",
        )
    };
}
pub(super) use fewest_max_attempts;

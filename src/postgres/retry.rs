//! Waiting until the database is back: a state, not a crash.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio_util::sync::CancellationToken;

use super::DbError;

/// Longest first wait.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);

/// Longest wait at all: how much later than the server somebody may come back.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// The wait after failure number `failures` (the first is 0): a limit that doubles from 100 ms to 5 s, of which the
/// first half is certain and the second is drawn, so that many instances do not return at once.
pub fn retry_delay(failures: u32, rng: &mut (impl Rng + ?Sized)) -> Duration {
    // Six doublings pass the limit already.
    let limit = RETRY_DELAY_MIN.saturating_mul(1 << failures.min(6)).min(RETRY_DELAY_MAX);
    limit / 2 + (limit / 2).mul_f64(rng.random::<f64>())
}

/// Runs `operation` until it gives an answer, waiting by [`retry_delay`] while its failures are transient
/// ([`DbError::is_transient`]).
///
/// `operation` must be safe to repeat: a connection that broke during COMMIT does not tell whether it was done.
/// `cancel` ends the waiting, and never cuts off an attempt that runs.
///
/// Cancel safety: dropping the future drops the running attempt; nothing else is held.
///
/// # Errors
/// The first error that waiting does not help, or `E0227` with the last failure when `cancel` fires.
pub async fn retry_unavailable<T, F, Fut, R>(
    cancel: &CancellationToken,
    rng: &mut R,
    mut operation: F,
) -> Result<T, DbError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, DbError>>,
    R: Rng + ?Sized,
{
    let mut failures = 0;
    loop {
        let error = match operation().await {
            Err(error) if error.is_transient() => error,
            answer => {
                if failures > 0 {
                    tracing::info!(failures, "database is back");
                }
                return answer;
            }
        };
        let delay = retry_delay(failures, rng);
        if failures == 0 {
            tracing::warn!(%error, "database is not available, waiting for it");
        }
        failures = failures.saturating_add(1);
        if cancel.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            return Err(DbError::Stopped { last: Box::new(error) });
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::error::Coded;

    fn away() -> DbError {
        DbError::from(sqlx::Error::PoolTimedOut)
    }

    #[test]
    fn delay_doubles_up_to_the_limit_and_keeps_half_of_it() {
        let mut rng = StdRng::seed_from_u64(1);
        for failures in 0..100 {
            let limit = RETRY_DELAY_MIN.saturating_mul(1 << failures.min(20)).min(RETRY_DELAY_MAX);
            let delay = retry_delay(failures, &mut rng);
            assert!(delay >= limit / 2 && delay <= limit, "{failures}: {delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn persists_until_the_database_answers() {
        let mut left = 50;
        let answer = retry_unavailable(&CancellationToken::new(), &mut StdRng::seed_from_u64(1), || {
            left -= 1;
            let answer = if left == 0 { Ok(7) } else { Err(away()) };
            async move { answer }
        })
        .await;
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_once_on_what_waiting_does_not_help() {
        let answer: Result<(), _> =
            retry_unavailable(&CancellationToken::new(), &mut StdRng::seed_from_u64(1), async || {
                Err(DbError::from(sqlx::Error::RowNotFound))
            })
            .await;
        assert_eq!(answer.unwrap_err().code(), "E0225");
    }

    #[tokio::test(start_paused = true)]
    async fn stops_waiting_when_told() {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let answer: Result<(), _> = retry_unavailable(&cancel, &mut StdRng::seed_from_u64(1), || {
            stop.cancel();
            async { Err(away()) }
        })
        .await;
        let error = answer.unwrap_err();
        assert_eq!(error.code(), "E0227");
        assert!(!error.is_unavailable());
    }
}

//! Requests to a supervisor that still starts its first children: they wait, as a call does in OTP to a supervisor
//! whose `init` has not returned.

use std::sync::Arc;

use tokio::sync::Notify;

use super::kit::{Kit, ms, root, until};
use crate::supervision::*;

/// A child whose start waits for the word, and then succeeds without running, or fails.
fn hesitant(word: &Arc<Notify>, fails: bool) -> ChildSpec {
    let word = word.clone();
    ChildSpec::new("hesitant", move |_| {
        let word = word.clone();
        Box::pin(async move {
            word.notified().await;
            if fails { Err(StartError::Timeout(ms(1))) } else { Ok(Started::Ignore) }
        })
    })
}

/// Starts an early child and a hesitant one, and asks in between.
async fn asked_while_it_boots(fails: bool) -> (Result<Running, StartError>, Result<ChildCounts, ChildError>) {
    let (kit, handle, word) = (Kit::new(), SupervisorHandle::new(), Arc::new(Notify::new()));
    let (early, address) = kit.worker("early");
    let spec = root(Strategy::OneForOne).handle(&handle).child(early).child(hesitant(&word, fails));
    let asks = async {
        until(|| address.is_up()).await;
        let asked = handle.count_children();
        tokio::pin!(asked);
        let answer = tokio::time::timeout(ms(60_000), &mut asked).await;
        assert!(answer.is_err(), "answered while it starts its children: {answer:?}");
        word.notify_one();
        asked.await
    };
    tokio::join!(kit.system.start(spec), asks)
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_supervisor_that_boots_is_answered_when_all_children_are_started() {
    let (running, counts) = asked_while_it_boots(false).await;
    assert!(running.is_ok());
    assert_eq!(counts, Ok(ChildCounts { specs: 2, active: 1, supervisors: 0, workers: 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_supervisor_whose_boot_fails_is_refused() {
    let (running, counts) = asked_while_it_boots(true).await;
    assert!(matches!(running, Err(StartError::Child { .. })));
    assert_eq!(counts, Err(ChildError::NoProc));
}

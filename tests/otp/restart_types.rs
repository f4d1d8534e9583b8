//! Which ends of a child bring it back.

use singularity::supervision::*;

use super::kit::{Do, Kit, noted, settle};

/// How a child can end by itself.
#[derive(Clone, Copy, Debug)]
enum End {
    Normal,
    Shutdown,
    ShutdownWith,
    Fail,
    Panic,
    Kill,
}

const ABNORMAL: [End; 3] = [End::Fail, End::Panic, End::Kill];
const SHUTDOWNS: [End; 2] = [End::Shutdown, End::ShutdownWith];
const ALL: [End; 6] = [End::Normal, End::Shutdown, End::ShutdownWith, End::Fail, End::Panic, End::Kill];

/// Whether it runs, and whether its supervisor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Restarted,
    Down,
    Forgotten,
}

/// Ends a child of this type in this way.
async fn after(restart: Restart, end: End, strategy: Strategy) -> After {
    let kit = Kit::new();
    let x = kit.worker("x").restart(restart);
    let other = kit.worker("other");
    let (_running, handle) = kit.root(strategy, [&other, &x]).await;
    match end {
        End::Normal => x.leaves(ExitReason::Normal),
        End::Shutdown => x.leaves(ExitReason::Shutdown),
        End::ShutdownWith => x.leaves(noted("x")),
        End::Fail => x.tell(Do::Fail),
        End::Panic => x.panics(),
        End::Kill => kit.kill("/x"),
    }
    settle().await;
    assert!(other.is_up());
    match handle.which_child("x").await {
        Ok(info) if info.child.is_some() => {
            assert_eq!(x.ping().await, Ok(2));
            After::Restarted
        }
        Ok(info) => {
            assert_eq!((info.state, x.is_up()), (NodeState::Stopped, false));
            // It is known, so it can be started by hand, and its id is taken.
            assert_eq!(handle.start_child(x.spec.clone()).await, Err(StartChildError::AlreadyPresent));
            handle.restart_child("x").await.unwrap();
            assert_eq!(x.ping().await, Ok(2));
            After::Down
        }
        Err(error) => {
            assert_eq!((error, x.is_up(), kit.find("/x").is_some()), (ChildError::NotFound, false, false));
            // Its id can be used again.
            assert!(handle.start_child(x.spec.clone()).await.is_ok());
            After::Forgotten
        }
    }
}

async fn all_are(restart: Restart, ends: &[End], expected: After) {
    for end in ends {
        assert_eq!(after(restart, *end, Strategy::OneForOne).await, expected, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s45_permanent_normal() {
    all_are(Restart::Permanent, &[End::Normal], After::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn s46_transient_normal() {
    all_are(Restart::Transient, &[End::Normal], After::Down).await;
}

#[tokio::test(start_paused = true)]
async fn s47_temporary_normal() {
    all_are(Restart::Temporary, &[End::Normal], After::Forgotten).await;
}

#[tokio::test(start_paused = true)]
async fn s48_permanent_shutdown() {
    all_are(Restart::Permanent, &SHUTDOWNS, After::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn s49_transient_shutdown() {
    all_are(Restart::Transient, &SHUTDOWNS, After::Down).await;
}

#[tokio::test(start_paused = true)]
async fn s50_temporary_shutdown() {
    all_are(Restart::Temporary, &SHUTDOWNS, After::Forgotten).await;
}

#[tokio::test(start_paused = true)]
async fn s52_permanent_abnormal() {
    all_are(Restart::Permanent, &ABNORMAL, After::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn s53_transient_abnormal() {
    all_are(Restart::Transient, &ABNORMAL, After::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn s54_temporary_abnormal() {
    all_are(Restart::Temporary, &ABNORMAL, After::Forgotten).await;
}

#[tokio::test(start_paused = true)]
async fn s76_do_not_save_child_specs_for_temporary_children() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for end in ALL {
            let clean = matches!(end, End::Normal | End::Shutdown | End::ShutdownWith);
            let transient = if clean { After::Down } else { After::Restarted };
            assert_eq!(after(Restart::Permanent, end, strategy).await, After::Restarted, "{strategy} {end:?}");
            assert_eq!(after(Restart::Transient, end, strategy).await, transient, "{strategy} {end:?}");
            assert_eq!(after(Restart::Temporary, end, strategy).await, After::Forgotten, "{strategy} {end:?}");
        }
        // Ended by request: only the temporary one is forgotten.
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            let kit = Kit::new();
            let x = kit.worker("x").restart(restart);
            let (_running, handle) = kit.root(strategy, [&x]).await;
            handle.terminate_child("x").await.unwrap();
            assert_eq!(handle.which_child("x").await.is_ok(), restart != Restart::Temporary, "{strategy} {restart}");
        }
    }
}

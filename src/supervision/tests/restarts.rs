//! What lies between two lives: the drop of the old one, and the backoff.

use super::kit::{Do, Kit, Script, ms, root, scripted};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn the_old_incarnation_is_dropped_before_the_next_starts() {
    let kit = Kit::new();
    let (child, _) = scripted(Script { notes_drop: true, ..kit.script("x") });
    let (first, address) = kit.worker("first");
    let _running = kit.start(root(Strategy::OneForAll).child(first).child(child)).await;
    kit.kill("/x");
    kit.runs("/x", 2).await;
    assert_eq!(kit.journal.take(), ["drop x", "stop first", "start first", "start x"]);
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 3).await;
    assert_eq!(kit.journal.take(), ["stop x", "drop x", "start first", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_delays_restarts_and_shows_as_restarting() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let backoff = Backoff::new(ms(200), ms(800)).without_jitter();
    let _running = kit.start(root(Strategy::OneForOne).child(child.backoff(backoff))).await;
    for (incarnation, wait_ms) in [(2, 200), (3, 400), (4, 800), (5, 800)] {
        address.cast(Do::Panic).unwrap();
        let began = tokio::time::Instant::now();
        kit.is("/x", NodeState::Restarting).await;
        kit.runs("/x", incarnation).await;
        let waited = began.elapsed().as_millis();
        assert!((wait_ms..wait_ms + 5).contains(&waited), "{waited} ms instead of {wait_ms}");
    }
}

//! From nothing to a node that is ready, and what a signal means meanwhile.

use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::signals::{Asked, Stops};
use crate::node::{Node, NodeOptions};

/// How beginning ended.
pub(super) enum Begun {
    /// The node is ready.
    Ready(Box<Node>),
    /// Somebody asked to stop before it was, and it is stopped.
    Stopped(Asked),
    /// Somebody asked once more, and it is left as it is.
    Forced,
}

/// Starts a node, unless a signal comes first.
///
/// # Errors
/// Those of [`Node::start`].
pub(super) async fn begin(options: NodeOptions, stops: &mut Stops) -> Result<Begun, Failure> {
    let storage = tokio::select! {
        storage = Box::pin(Node::prepare(&options)) => storage?,
        asked = stops.which() => return Ok(Begun::Stopped(asked)),
    };
    let mut starting = Box::pin(Node::start_prepared(options, storage.clone()));
    let (started, asked) = tokio::select! {
        started = &mut starting => (started, None),
        // Others may see it already, and it may have taken jobs: it goes the way of a node that is ready.
        asked = stops.which() => {
            output::note("stopping before it is ready (a second signal ends it at once)");
            tokio::select! {
                started = &mut starting => (started, Some(asked)),
                () = stops.next() => return Ok(Begun::Forced),
            }
        }
    };
    match (started, asked) {
        (Ok(node), None) => Ok(Begun::Ready(Box::new(node))),
        (Ok(node), Some(asked)) => {
            let drained = Box::pin(node.shutdown(stops.next())).await;
            Ok(if drained.forced { Begun::Forced } else { Begun::Stopped(asked) })
        }
        (Err(error), asked) => {
            storage.close().await;
            // What shall not be is no failure when it is not.
            asked.map_or_else(|| Err(error.into()), |asked| Ok(Begun::Stopped(asked)))
        }
    }
}

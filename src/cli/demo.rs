//! `demo`: the whole story on one machine. Three instances and CentralCloud, as processes of their own, share the
//! embedded server; requests are claimed, one instance is killed, results go up, learnings come down, the next requests
//! are routed by them. Every number is read from the database, and what the story claims is checked.

mod checks;
mod scenes;
mod stage;
mod troupe;

use std::time::Duration;

use clap::Args;

use self::checks::Checks;
use self::scenes::Story;
use self::stage::Stage;
use super::exit::{Exit, Failure};
use super::output;
use super::signals::Stops;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Reports, learns and syncs several times a second instead of every few seconds
    #[arg(long)]
    pub fast: bool,
    /// Keeps the folder with database, configuration and logs
    #[arg(long)]
    pub keep: bool,
}

/// Longest run: past it something hangs, and what was started must not stay.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the story, stops everything that it started, and fails when a claim does not hold.
pub(super) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut stops = Stops::listen()?;
    let stage = Stage::build(args.fast).await?;
    let told = tokio::select! {
        told = tokio::time::timeout(LIMIT, Box::pin(tell(&stage))) => told,
        () = stops.next() => {
            if args.keep {
                output::note(format!("database, configuration and logs are kept in {}", stage.dir().display()));
            }
            stage.strike(args.keep).await;
            return Err(Failure::silent(Exit::Interrupted));
        }
    };
    let result = match told {
        Ok(Ok(checks)) => {
            checks.print();
            if checks.all_hold() { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(
            Exit::TimedOut,
            super::codes::DEMO_LIMIT,
            format!("the demo did not end within {} s", LIMIT.as_secs()),
        )),
    };
    let keeps = args.keep || result.is_err();
    if keeps {
        output::note(format!("database, configuration and logs are kept in {}", stage.dir().display()));
    }
    stage.strike(keeps).await;
    result
}

async fn tell(stage: &Stage) -> Result<Checks, Failure> {
    let mut story = Story::begin(stage).await?;
    story.claims().await?;
    story.crash().await?;
    story.reports().await?;
    story.learnings().await?;
    story.second_batch().await?;
    story.end().await
}

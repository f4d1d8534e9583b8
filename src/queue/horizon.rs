//! Warns of what keeps dead rows from being cleared, see [`crate::postgres::horizon`]: it slows every claim, and
//! nothing else tells the operator which session it is.

use std::time::Duration;

use crate::postgres::horizon::{self, PINNED_FOR_MIN, Pin};
use crate::postgres::{Database, DbError};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Mailbox of the actor; only its own timer writes to it.
const HORIZON_MAILBOX_MAX: usize = 4;

/// The actor.
#[derive(Debug)]
pub struct Horizon {
    db: Database,
    pin: Option<Pin>,
    timer: Timer,
}

/// Its only message.
#[derive(Debug)]
pub struct LookForPins;

impl Horizon {
    /// The child that looks at `db`.
    pub fn child(db: Database) -> ChildSpec {
        let address = Address::new("horizon", HORIZON_MAILBOX_MAX);
        ChildSpec::actor::<Self>("horizon", &address, move || db.clone())
    }

    fn found(&mut self, found: Result<Option<Pin>, DbError>, ctx: &Ctx<LookForPins>) {
        // While the database is away others say so.
        let Ok(found) = found else { return };
        let same = |one: &Pin| found.as_ref().is_some_and(|other| (&one.kind, &one.name) == (&other.kind, &other.name));
        if self.pin.as_ref().is_some_and(same) {
            return;
        }
        match &found {
            Some(pin) => {
                ctx.probe().set_label("pinned", format!("by {} {}", pin.kind, pin.name));
                tracing::warn!(target: "postgres", %pin, try = pin.way_out(), "claims slow down: dead rows pile up");
            }
            None if self.pin.is_some() => {
                ctx.probe().remove_label("pinned");
                tracing::info!(target: "postgres", "dead rows can be cleared again");
            }
            None => {}
        }
        self.pin = found;
    }
}

impl Actor for Horizon {
    type Msg = LookForPins;
    type Args = Database;

    async fn init(ctx: &Ctx<LookForPins>, db: Database) -> Result<Self, ActorError> {
        Ok(Self { db, pin: None, timer: ctx.send_after(LOOK_INTERVAL, LookForPins) })
    }

    async fn handle(&mut self, ctx: &Ctx<LookForPins>, _msg: LookForPins) -> Result<Flow, ActorError> {
        let found = horizon::oldest_pin(&self.db, PINNED_FOR_MIN).await;
        self.found(found, ctx);
        self.timer = ctx.send_after(LOOK_INTERVAL, LookForPins);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &LookForPins) -> &'static str {
        "look"
    }
}

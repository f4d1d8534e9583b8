//! Log records: targets and OTP's field names.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span;

use super::kit::{Do, Kit, ms, root};
use crate::supervision::*;

/// Keeps what is logged on this thread under our targets.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={:?}", field.name(), value).unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("sup.")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A child that crashes once too often.
async fn melt_down() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let spec = SupervisorSpec::new("root", Strategy::OneForOne).intensity(Intensity::new(1, ms(5000))).child(child);
    let running = kit.start(spec).await;
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 2).await;
    address.cast(Do::Panic).unwrap();
    running.wait().await;
}

#[tokio::test(start_paused = true)]
async fn reports_carry_the_field_names_of_otp() {
    let log = Log::default();
    // With one subscriber only, tracing asks that of the thread which reaches a log statement first; here that may be
    // another test's thread, which has none. With two it asks all.
    let _second = tracing::Dispatch::new(log.clone());
    let _logging = tracing::subscriber::set_default(log.clone());
    melt_down().await;
    let lines = log.0.lock().unwrap().clone();
    let has = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    let started = [
        "INFO sup.progress",
        "supervisor=/ ",
        "started.id=x",
        "started.restart_type=permanent",
        "started.shutdown=5000ms",
    ];
    assert!(has(&started), "{lines:#?}");
    let crashed = [
        "ERROR sup.crash",
        "initial_call=\"Worker\"",
        "pid=/x ",
        "current_message=\"panic\"",
        "location=\"src/",
        "message_queue_len=0",
    ];
    assert!(has(&crashed), "{lines:#?}");
    let ended = [
        "ERROR sup.report",
        "errorContext=\"child_terminated\"",
        "offender.id=x",
        "offender.child_type=worker",
        "told to panic",
    ];
    assert!(has(&ended), "{lines:#?}");
    assert!(has(&["ERROR sup.report", "errorContext=\"shutdown\"", "reached_max_restart_intensity"]), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_with_a_code_keeps_it_up_to_the_root() {
    #[derive(Debug, thiserror::Error)]
    #[error("no database")]
    struct NoDatabase;
    impl crate::error::Coded for NoDatabase {
        fn code(&self) -> &'static str {
            "E0203"
        }
        fn hint(&self) -> Option<String> {
            Some("start it".into())
        }
    }
    struct Needy;
    impl Actor for Needy {
        type Msg = ();
        type Args = ();
        async fn init(_: &Ctx<()>, (): ()) -> Result<Self, ActorError> {
            Err(ActorError::coded(NoDatabase))
        }
        async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
            Ok(Flow::Continue)
        }
    }
    let kit = Kit::new();
    let child = ChildSpec::actor::<Needy>("needy", &Address::new("needy", 1), || ());
    let error = kit.system.start(root(Strategy::OneForOne).child(child)).await.unwrap_err();
    assert_eq!(crate::error::Coded::code(&error), "E0203");
    assert_eq!(crate::error::Coded::hint(&error).as_deref(), Some("start it"));
}

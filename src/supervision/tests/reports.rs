//! What an error that travels up the tree keeps.

use super::kit::{Kit, root};
use crate::supervision::*;

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

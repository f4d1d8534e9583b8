//! Addresses, mailboxes, calls and timers.

use super::kit::{Do, Kit, Script, ms, root, scripted, until};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn an_address_survives_restarts_and_refuses_while_down() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    assert!(matches!(address.cast(Do::Panic), Err(CastError::Down(Do::Panic))));
    let backoff = Backoff::new(ms(100), ms(100)).without_jitter();
    let _running = kit.start(root(Strategy::OneForOne).child(child.backoff(backoff))).await;
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Ok(1));
    address.cast(Do::Panic).unwrap();
    kit.is("/x", NodeState::Restarting).await;
    assert!(matches!(address.cast(Do::Fail), Err(CastError::Down(Do::Fail))));
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Err(CallError::Down));
    kit.runs("/x", 2).await;
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_and_gives_the_message_back() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Sleep(ms(1000))).unwrap();
    until(|| address.depth() == 0).await;
    for _ in 0..address.limit() {
        address.cast(Do::Note("x")).unwrap();
    }
    assert!(matches!(address.cast(Do::Note("y")), Err(CastError::Full(Do::Note("y")))));
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Err(CallError::Full));
    assert_eq!(address.depth(), 100);
    until(|| address.depth() == 0).await;
    assert_eq!(kit.journal.take().len(), 100);
    assert!(address.cast(Do::Note("y")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_end_at_once_when_the_request_is_dropped_or_its_actor_ends() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    let began = tokio::time::Instant::now();
    // Kept by an actor that then crashes; and waiting in the mailbox of one that crashes.
    for how in [Do::Panic, Do::Fail, Do::Stop(ExitReason::Normal)] {
        let incarnation = kit.node("/x").incarnation;
        let kept = address.call(Do::Keep, ms(60_000));
        let crash = async {
            address.cast(how).unwrap();
            address.call(Do::Ping, ms(60_000)).await
        };
        let (kept, waiting) = tokio::join!(kept, crash);
        assert_eq!((kept, waiting), (Err(CallError::Dropped), Err(CallError::Dropped)));
        kit.runs("/x", incarnation + 1).await;
    }
    assert!(began.elapsed() < ms(1000));
    assert_eq!(address.call(Do::Keep, ms(500)).await, Err(CallError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_killed_actor_drops_what_it_was_doing() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Sleep(ms(600_000))).unwrap();
    until(|| kit.node("/x").current_message.as_deref() == Some("sleep")).await;
    let kill = async { kit.kill("/x") };
    let (answer, ()) = tokio::join!(address.call(Do::Ping, ms(60_000)), kill);
    assert_eq!(answer, Err(CallError::Dropped));
    kit.runs("/x", 2).await;
    assert_eq!(kit.node("/x").current_message, None);
}

#[tokio::test(start_paused = true)]
async fn timers_fire_once_even_into_a_full_mailbox_and_end_with_the_incarnation() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Later(ms(500))).unwrap();
    address.cast(Do::Sleep(ms(1000))).unwrap();
    until(|| address.depth() == 0).await;
    for _ in 0..100 {
        address.cast(Do::Ping(reply())).unwrap();
    }
    assert_eq!(kit.journal.lines(1).await, ["later"]);

    address.cast(Do::Later(ms(500))).unwrap();
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 2).await;
    tokio::time::sleep(ms(2000)).await;
    assert_eq!(kit.journal.take(), ["start x"]);
}

fn reply() -> Reply<u64> {
    let mut kept = None;
    let address = Address::<Do>::new("nobody", 1);
    // The only way to make a reply is a call; the request is not sent, for nobody listens.
    let call = address.call(
        |reply| {
            kept = Some(reply);
            Do::Panic
        },
        ms(1),
    );
    futures_util::FutureExt::now_or_never(call);
    kept.unwrap()
}

#[tokio::test(start_paused = true)]
async fn status_is_answered_between_messages() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    assert_eq!(address.status(ms(100)).await, Err(CallError::Down));
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    let (kept, status) = tokio::join!(address.call(Do::Keep, ms(100)), address.status(ms(100)));
    assert_eq!(kept, Err(CallError::Timeout));
    assert_eq!(status.unwrap(), serde_json::json!({ "kept": 1 }));
}

#[tokio::test(start_paused = true)]
async fn an_actor_may_write_to_itself_from_init_and_stop_itself() {
    struct Brief;
    impl Actor for Brief {
        type Msg = &'static str;
        type Args = ();

        async fn init(ctx: &Ctx<Self::Msg>, (): ()) -> Result<Self, ActorError> {
            ctx.address().cast("first")?;
            Ok(Self)
        }

        async fn handle(&mut self, ctx: &Ctx<Self::Msg>, message: &'static str) -> Result<Flow, ActorError> {
            ctx.probe().set_label("got", message);
            ctx.stop_self(ExitReason::ShutdownWith(message.into()));
            Ok(Flow::Continue)
        }
    }
    let kit = Kit::new();
    let address = Address::new("brief", 1);
    let child = ChildSpec::actor::<Brief>("x", &address, || ()).restart(Restart::Transient).label("fixed", "yes");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    kit.is("/x", NodeState::Stopped).await;
    let node = kit.node("/x");
    assert_eq!(node.last_exit.as_ref().unwrap().reason, "shutdown: first");
    assert_eq!(
        node.labels.clone().into_iter().collect::<Vec<_>>(),
        [("fixed".into(), "yes".into()), ("got".into(), "first".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_dropped_before_the_cleanup_and_nothing_more_is_taken() {
    let kit = Kit::new();
    let (child, address) = scripted(Script { stop_takes: ms(10_000), ..kit.script("x") });
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    let began = tokio::time::Instant::now();
    address.cast(Do::Stop(ExitReason::Normal)).unwrap();
    assert_eq!(address.call(Do::Ping, ms(60_000)).await, Err(CallError::Dropped));
    assert!(matches!(address.cast(Do::Fail), Err(CastError::Down(Do::Fail))));
    assert!(began.elapsed() < ms(1000));
    kit.runs("/x", 2).await;
    assert_eq!(began.elapsed().as_secs(), 10);
}

/// Finds the other one by its name.
struct Finder;

impl Actor for Finder {
    type Msg = Reply<u64>;
    type Args = ();

    async fn init(_: &Ctx<Reply<u64>>, (): ()) -> Result<Self, ActorError> {
        Ok(Self)
    }

    async fn handle(&mut self, ctx: &Ctx<Reply<u64>>, reply: Reply<u64>) -> Result<Flow, ActorError> {
        let other = ctx.system().lookup::<Address<Do>>("other").ok_or_else(|| ActorError::msg("nobody"))?;
        reply.send(other.call(Do::Ping, ms(1_000)).await?);
        Ok(Flow::Continue)
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_finds_others_by_their_names() {
    let kit = Kit::new();
    let (other, _) = kit.worker("x");
    let address = Address::new("finder", 1);
    let finder = ChildSpec::actor::<Finder>("finder", &address, || ());
    let _running = kit.start(root(Strategy::OneForOne).child(finder).child(other.registered("other"))).await;
    assert_eq!(address.call(|reply| reply, ms(2_000)).await, Ok(1));
}

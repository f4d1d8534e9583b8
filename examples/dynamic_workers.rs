//! A dynamic supervisor of workers, step by step: start, crash, restart, suspend, terminate, and what intensity does.
//!
//! Run it with `cargo run --example dynamic_workers`; it ends by itself.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use singularity::supervision::*;
use tokio::sync::broadcast::Receiver;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Messages that may wait for a worker.
const MAILBOX_MAX: usize = 16;

/// Counts. What it counted is gone when it crashes: state that must outlive a crash belongs elsewhere.
struct Counter(u64);

/// What a counter is told and asked.
enum CounterMsg {
    Add(u64),
    Get(Reply<u64>),
    Crash,
}

impl Actor for Counter {
    type Msg = CounterMsg;
    type Args = u64;

    async fn init(_: &Ctx<CounterMsg>, begin: u64) -> Result<Self, ActorError> {
        Ok(Self(begin))
    }

    async fn handle(&mut self, _: &Ctx<CounterMsg>, msg: CounterMsg) -> Result<Flow, ActorError> {
        match msg {
            CounterMsg::Add(number) => self.0 += number,
            CounterMsg::Get(reply) => reply.send(self.0),
            CounterMsg::Crash => return Err(ActorError::msg("told to crash")),
        }
        Ok(Flow::Continue)
    }
}

/// A counter and its address, which stays the same over restarts.
fn counter(name: &str) -> (ChildSpec, Address<CounterMsg>) {
    let address = Address::new("counter", MAILBOX_MAX);
    (ChildSpec::actor::<Counter>(name, &address, || 0), address)
}

/// Prints events until one of this kind.
async fn event(
    events: &mut Receiver<SupervisionEvent>,
    last: fn(&SupervisionEventKind) -> bool,
) -> Result<(), Box<dyn Error>> {
    loop {
        let event = tokio::time::timeout(ANSWER, events.recv()).await??;
        println!("  event: {} life {}: {:?}", event.path, event.incarnation.0, event.kind);
        if last(&event.kind) {
            return Ok(());
        }
    }
}

fn restarted(kind: &SupervisionEventKind) -> bool {
    matches!(kind, SupervisionEventKind::Started { restart: true })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A handle is made before what it reaches, and outlives its restarts; so does an address.
    let workers = DynamicHandle::new();
    let spec = DynamicSupervisorSpec::new("workers", 3).intensity(Intensity::new(2, Duration::from_secs(60)));
    let system = System::new("demo");
    let mut events = system.events();
    let root = SupervisorSpec::new("demo", Strategy::OneForOne).child(spec.into_child(&workers));
    let running = system.start(root).await?;

    println!("1. start: two workers, one of them with a name");
    let (one, one_address) = counter("one");
    let one = workers.start_child(one).await?;
    let (two, _) = counter("two");
    let two = workers.start_child(two.registered("counters/two")).await?;
    let found: Address<CounterMsg> = system.lookup("counters/two").ok_or("the name is unknown")?;
    found.cast(CounterMsg::Add(2)).map_err(|_| "two takes no message")?;
    println!("  {} counted {}", two.path(), found.call(CounterMsg::Get, ANSWER).await?);

    println!("2. crash: one is started again with nothing counted, two does not notice");
    let mut from_here = system.events();
    one_address.cast(CounterMsg::Add(1)).map_err(|_| "one takes no message")?;
    one_address.cast(CounterMsg::Crash).map_err(|_| "one takes no message")?;
    event(&mut from_here, restarted).await?;
    println!("  one counted {}", one_address.call(CounterMsg::Get, ANSWER).await?);
    println!("  two counted {}", found.call(CounterMsg::Get, ANSWER).await?);

    println!("3. suspend: messages wait until it is resumed");
    system.operate(Operation::Suspend, "/workers/one", "the example", Some("to show it")).await?;
    one_address.cast(CounterMsg::Add(5)).map_err(|_| "one takes no message")?;
    println!(
        "  {} waits, state {}",
        one_address.depth(),
        system.snapshot().find("/workers/one").ok_or("no one")?.state
    );
    system.operate(Operation::Resume, "/workers/one", "the example", None).await?;
    println!("  one counted {}", one_address.call(CounterMsg::Get, ANSWER).await?);

    println!("4. which_children, count_children and the limit");
    for child in workers.which_children().await? {
        println!("  {} {} {}", child.id, child.state, child.actor);
    }
    let third = workers.start_child(counter("three").0).await?;
    println!("  {:?}", workers.count_children().await?);
    match workers.start_child(counter("four").0).await {
        Err(error) => println!("  refused: {error}"),
        Ok(_) => return Err("a fourth worker was started above the limit of three".into()),
    }

    println!("5. terminate: stopped in order and forgotten, its name is free");
    workers.terminate_child(&two).await?;
    workers.terminate_child(&third).await?;
    println!("  the name leads to {:?}", system.lookup::<Address<CounterMsg>>("counters/two"));
    println!("  once more: {}", workers.terminate_child(&two).await.err().ok_or("it was found again")?);

    println!("6. intensity: 2 restarts in a minute are allowed, the third crash ends the supervisor of the workers.");
    println!("   Its own supervisor starts it again, empty.");
    for _ in 0..2 {
        let mut from_here = system.events();
        one_address.cast(CounterMsg::Crash).map_err(|_| "one takes no message")?;
        event(&mut from_here, restarted).await?;
    }
    let reached = if one_address.is_up() { "reaches it" } else { "reaches nobody" };
    println!("  one is {}, its address {reached}", one.state());
    println!("  {:?}", workers.count_children().await?);

    println!("7. stop: everything, in reverse order");
    println!("  {}", running.stop().await);
    let mut seen = 0;
    while events.try_recv().is_ok() {
        seen += 1;
    }
    println!("  {seen} events in all");
    Ok(())
}

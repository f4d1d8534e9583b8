//! A TCP echo service that survives crashes: a listener under a supervisor, each connection a task of its own.
//!
//! Run it with `cargo run --example supervised_echo`, connect with `nc 127.0.0.1 PORT`, and stop it with Ctrl-C. With
//! `--self-test` it is its own client: it crashes the listener while a connection is open and looks at what survives.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use singularity::supervision::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Most connections at once; further ones are closed at once.
const CONNECTIONS_MAX: usize = 100;
/// Longest line that is echoed.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long the self-test waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts connections. Its state, the listener, is built anew at each start.
struct Listener {
    socket: TcpListener,
    connections: DynamicHandle,
    next: u64,
}

/// What the listener is told.
enum ListenerMsg {
    /// Accept connections until another message waits.
    Accept,
    /// Fail, to show what happens then.
    Crash,
}

impl Actor for Listener {
    type Msg = ListenerMsg;
    type Args = (SocketAddr, DynamicHandle);

    // An error here, a port that is taken for example, fails the start: the supervisor tries again, within its limits.
    async fn init(ctx: &Ctx<ListenerMsg>, (at, connections): Self::Args) -> Result<Self, ActorError> {
        let socket = TcpListener::bind(at).await?;
        ctx.probe().set_label("listens", socket.local_addr()?.to_string());
        ctx.address().cast(ListenerMsg::Accept)?;
        Ok(Self { socket, connections, next: 1 })
    }

    async fn handle(&mut self, ctx: &Ctx<ListenerMsg>, msg: ListenerMsg) -> Result<Flow, ActorError> {
        match msg {
            ListenerMsg::Crash => return Err(ActorError::msg("told to crash")),
            ListenerMsg::Accept => {
                // An actor that waits long in one message is deaf meanwhile; a short wait, again and again, is not.
                let accepted = tokio::time::timeout(Duration::from_millis(100), self.socket.accept()).await;
                if let Ok(accepted) = accepted {
                    let (stream, peer) = accepted?;
                    let name = format!("{}-{}", ctx.incarnation().0, self.next);
                    self.next += 1;
                    let task = ChildSpec::task_once(name, |ctx| echo(ctx, stream)).label("peer", peer.to_string());
                    // Refused above the limit: the stream is dropped with the task, which closes it.
                    if let Err(error) = self.connections.start_child(task).await {
                        println!("refused {peer}: {error}");
                    }
                }
                ctx.address().cast(ListenerMsg::Accept)?;
            }
        }
        Ok(Flow::Continue)
    }
}

/// Echoes lines until the client leaves or the service stops. An error or a panic ends this connection alone.
async fn echo(ctx: TaskCtx, stream: TcpStream) -> Result<(), ActorError> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LINE_BYTES_MAX);
        tokio::select! {
            () = ctx.cancellation().cancelled() => return Ok(()),
            count = limited.read_until(b'\n', &mut line) => if count? == 0 { return Ok(()) },
        }
        write.write_all(&line).await?;
    }
}

/// The tree: connections start before the listener and stop after it. One_for_one: a listener that crashes leaves them.
fn service(at: SocketAddr, listener: &Address<ListenerMsg>) -> SupervisorSpec {
    let connections = DynamicHandle::new();
    SupervisorSpec::new("echo", Strategy::OneForOne)
        .child(DynamicSupervisorSpec::new("connections", CONNECTIONS_MAX).into_child(&connections))
        .child(ChildSpec::actor::<Listener>("listener", listener, move || (at, connections.clone())))
}

fn print_tree(node: &TreeNode, depth: usize) {
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    println!("{}{} {} life {}{}", "  ".repeat(depth), node.id, node.state, node.incarnation, labels.concat());
    node.children.iter().for_each(|child| print_tree(child, depth + 1));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let self_test = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [option] if option == "--self-test" => true,
        other => return Err(format!("unknown arguments {other:?}; the only one is --self-test").into()),
    };
    // A port that is free now, so that every life of the listener has the same.
    let at = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let listener = Address::new("listener", 16);
    let system = System::new("echo");
    let running = system.start(service(at, &listener)).await?;
    print_tree(&system.snapshot(), 0);

    if self_test {
        tokio::time::timeout(PATIENCE, test(&system, at, &listener)).await??;
    } else {
        println!("echoes lines on {at}; Ctrl-C stops it");
        tokio::signal::ctrl_c().await?;
    }

    // In reverse order: the listener first, then the connections, which learn of it by their token.
    let reason = running.stop().await;
    println!("stopped: {reason}");
    check(reason == ExitReason::Shutdown, "the service stops in order")
}

async fn test(system: &System, at: SocketAddr, listener: &Address<ListenerMsg>) -> Result<(), Box<dyn Error>> {
    let mut first = BufReader::new(TcpStream::connect(at).await?);
    check(ask(&mut first, "hello\n").await? == "hello\n", "a line comes back")?;
    print_tree(&system.snapshot(), 0);

    let before = system.probe("/listener").ok_or("no listener")?;
    let mut events = system.events();
    listener.cast(ListenerMsg::Crash).map_err(|_| "the listener takes no message")?;
    loop {
        let event = events.recv().await?;
        match event.kind {
            SupervisionEventKind::Exited { reason } => println!("event: {} ended, {reason}", event.path),
            SupervisionEventKind::Started { restart: true } => {
                println!("event: {} restarted", event.path);
                break;
            }
            _ => {}
        }
    }
    check(before.incarnation() == Incarnation(2), "the listener lives its second life")?;
    check(ask(&mut first, "still here\n").await? == "still here\n", "the open connection went on")?;
    let mut second = BufReader::new(TcpStream::connect(at).await?);
    check(ask(&mut second, "again\n").await? == "again\n", "the new listener serves")?;

    let tree = system.snapshot();
    print_tree(&tree, 0);
    let open = tree.find("/connections").map_or(0, |node| node.children_total);
    check(open == 2, "both connections are in the tree")
}

async fn ask(connection: &mut BufReader<TcpStream>, line: &str) -> std::io::Result<String> {
    connection.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    Ok(answer)
}

fn check(holds: bool, what: &str) -> Result<(), Box<dyn Error>> {
    println!("{} {what}", if holds { "ok:" } else { "FAILED:" });
    if holds { Ok(()) } else { Err(what.into()) }
}

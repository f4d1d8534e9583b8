//! A TCP proxy that can fail in the ways a network does, and counts statements.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What happens to bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Connections stay open, and nothing passes. One that lost bytes stays silent for ever.
    Blackhole,
    /// Open and new connections are reset.
    Reset,
    /// Statements are done, and their connections reset instead of being answered.
    Unanswered,
    /// Everything passes but notifications, as through a proxy that pools transactions.
    Deaf,
}

/// A proxy on a port of its own, for as long as this value lives.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    statements: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Starts one in front of `upstream` (`host:port`), passing.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let statements = Arc::<AtomicU64>::default();
        let done = Arc::clone(&statements);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let answers = Answers { statements: Arc::clone(&done), ..Answers::default() };
                connections.spawn(serve(client, upstream.clone(), modes.clone(), answers));
            }
        });
        Self { address, mode, statements, _task: AbortOnDropHandle::new(task) }
    }

    /// Statements that the server has said it is done with.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens, for open connections too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn serve(mut client: TcpStream, upstream: String, mut modes: watch::Receiver<Mode>, mut answers: Answers) {
    let mut is_silent = false;
    let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Reset {
            client.set_zero_linger().unwrap();
            return;
        }
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            read = client.read(&mut up) => match read {
                Ok(count) if count > 0 => {
                    is_silent |= mode == Mode::Blackhole;
                    answers.asked(&up[..count]);
                    if !is_silent && server.write_all(&up[..count]).await.is_err() { return }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    is_silent |= mode == Mode::Blackhole;
                    let passed = answers.pass(&down[..count], mode == Mode::Deaf);
                    if answers.ends_statement && mode == Mode::Unanswered {
                        client.set_zero_linger().unwrap();
                        return;
                    }
                    if !is_silent && client.write_all(&passed).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

/// The request for encryption: its length and code.
const ENCRYPT: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Type and length of a message.
const HEAD_BYTES: usize = 5;
/// A message that carries a notification.
const NOTIFICATION: u8 = b'A';
/// A message that ends a statement.
const COMMAND_COMPLETE: u8 = b'C';

/// What the server answers on one connection, message by message.
#[derive(Default)]
struct Answers {
    statements: Arc<AtomicU64>,
    was_asked: bool,
    /// Answers of one byte that come before messages.
    bytes_first: usize,
    head: Vec<u8>,
    left: usize,
    dropping: bool,
    /// A statement came to its end in the bytes that were passed last.
    ends_statement: bool,
}

impl Answers {
    /// What the client says first decides how the server begins.
    fn asked(&mut self, bytes: &[u8]) {
        if !self.was_asked {
            self.was_asked = true;
            self.bytes_first = usize::from(bytes.starts_with(&ENCRYPT));
        }
    }

    /// What is passed on of these bytes.
    fn pass(&mut self, bytes: &[u8], deaf: bool) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        self.ends_statement = false;
        for byte in bytes {
            if self.bytes_first > 0 {
                self.bytes_first -= 1;
                passed.push(*byte);
            } else if self.left > 0 {
                self.left -= 1;
                if !self.dropping {
                    passed.push(*byte);
                }
            } else {
                self.head.push(*byte);
                if let [kind, length @ ..] = self.head.as_slice()
                    && self.head.len() == HEAD_BYTES
                {
                    self.left = u32::from_be_bytes(length.try_into().unwrap()) as usize - length.len();
                    self.dropping = deaf && *kind == NOTIFICATION;
                    self.ends_statement |= *kind == COMMAND_COMPLETE;
                    self.statements.fetch_add(u64::from(*kind == COMMAND_COMPLETE), Ordering::Relaxed);
                    if !self.dropping {
                        passed.append(&mut self.head);
                    }
                    self.head.clear();
                }
            }
        }
        passed
    }
}

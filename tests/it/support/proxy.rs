//! A TCP proxy that can fail in the ways a network does.

use std::net::SocketAddr;

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
}

/// A proxy on a port of its own, for as long as this value lives.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Starts one in front of `upstream` (`host:port`), passing.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(client, upstream.clone(), modes.clone()));
            }
        });
        Self { address, mode, _task: AbortOnDropHandle::new(task) }
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

async fn serve(mut client: TcpStream, upstream: String, mut modes: watch::Receiver<Mode>) {
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
                    if !is_silent && server.write_all(&up[..count]).await.is_err() { return }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(count) if count > 0 => {
                    is_silent |= mode == Mode::Blackhole;
                    if !is_silent && client.write_all(&down[..count]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

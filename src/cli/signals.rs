//! The signals that ask the process to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::codes;
use super::exit::{Exit, Failure};

/// Which signal it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM: whoever manages the process.
    Terminate,
    /// SIGINT: a person, by Ctrl-C.
    Interrupt,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// SIGTERM, SIGINT and SIGHUP, which a closed terminal sends, in the order in which they arrive. A SIGHUP that whoever
/// started the process made it ignore, as `nohup` does, stays ignored.
#[derive(Debug)]
pub(super) struct Stops {
    term: Signal,
    int: Signal,
    hup: Option<Signal>,
}

impl Stops {
    /// Starts to listen; from now on these signals no longer end the process.
    ///
    /// # Errors
    /// The system allows no handler.
    pub(super) fn listen() -> Result<Self, Failure> {
        let problem = |error| Failure::new(Exit::Failed, codes::SIGNALS, format!("signals cannot be handled: {error}"));
        Ok(Self {
            term: signal(SignalKind::terminate()).map_err(problem)?,
            int: signal(SignalKind::interrupt()).map_err(problem)?,
            hup: if is_ignored(SignalKind::hangup()) {
                None
            } else {
                Some(signal(SignalKind::hangup()).map_err(problem)?)
            },
        })
    }

    /// Resolves at the next signal. Cancel safe.
    pub(super) async fn next(&mut self) {
        self.which().await;
    }

    /// Resolves at the next signal, and tells which it is. Cancel safe.
    pub(super) async fn which(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Terminate,
            _ = self.int.recv() => Asked::Interrupt,
            () = hung_up(self.hup.as_mut()) => Asked::HangUp,
        }
    }
}

async fn hung_up(hup: Option<&mut Signal>) {
    match hup {
        Some(hup) => drop(hup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process ignores this signal now; taken as no where the system does not tell (it has no `/proc`).
fn is_ignored(kind: SignalKind) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, kind))
}

/// proc(5): `SigIgn` is a mask in hexadecimal, its lowest bit the signal of number 1.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bit = kind.as_raw_value().checked_sub(1).and_then(|bit| 1_u64.checked_shl(bit.try_into().ok()?));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        let (hup, term) = (SignalKind::hangup(), SignalKind::terminate());
        assert!(ignores(&status("0000000000001001"), hup) && !ignores(&status("0000000000001001"), term));
        assert!(ignores(&status("0000000000005000"), term) && !ignores(&status("0000000000005000"), hup));
        assert!(!ignores("", hup) && !ignores(&status("x"), hup));
    }
}

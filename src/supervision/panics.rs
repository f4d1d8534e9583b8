//! Catching panics of actor code together with where they happened.
//!
//! `catch_unwind` gives the text only; the place is known to the panic hook. One hook for the process notes it in a
//! thread-local, which is read right after the unwind, in the same poll. Panics outside of supervised code go to the
//! hook that was there before.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use super::core::truncate;

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Caught {
    pub(crate) text: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

impl Caught {
    /// Panics again on this thread, which may be another one; who catches it there learns the first place.
    pub(super) fn resume(self) -> ! {
        NOTED.set(Some(Noted { location: self.location, backtrace: self.backtrace }));
        resume_unwind(Box::new(self.text))
    }
}

struct Noted {
    location: Option<String>,
    backtrace: Option<String>,
}

thread_local! {
    static SUPERVISED: Cell<u32> = const { Cell::new(0) };
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Runs `future`; a panic in it becomes an error. After that the future is dropped.
pub(crate) async fn catch<F: Future>(future: F) -> Result<F::Output, Caught> {
    install();
    let mut future = pin!(future);
    poll_fn(|context| match catch_here(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(caught) => Poll::Ready(Err(caught)),
    })
    .await
}

/// Runs `work`; a panic in it becomes an error.
pub(crate) fn catch_sync<T>(work: impl FnOnce() -> T) -> Result<T, Caught> {
    install();
    catch_here(work)
}

fn catch_here<T>(work: impl FnOnce() -> T) -> Result<T, Caught> {
    let _entered = Entered::new();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let noted = NOTED.with(RefCell::take);
        let (location, backtrace) = noted.map_or((None, None), |noted| (noted.location, noted.backtrace));
        Caught { text: truncate(text_of(&*payload)), location, backtrace }
    })
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if SUPERVISED.get() > 0 {
                note(info);
                // The crash report says it all, if anyone listens.
                if tracing::enabled!(target: "sup.crash", tracing::Level::ERROR) {
                    return;
                }
            }
            before(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column()));
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| truncate(backtrace.to_string()));
    NOTED.with(|noted| noted.replace(Some(Noted { location, backtrace })));
}

struct Entered;

impl Entered {
    fn new() -> Self {
        SUPERVISED.set(SUPERVISED.get() + 1);
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SUPERVISED.set(SUPERVISED.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caught_panic_knows_its_text_and_place() {
        let caught: Caught = catch(async {
            tokio::task::yield_now().await;
            assert_eq!(std::hint::black_box(7), 8, "number {}", 7);
        })
        .await
        .unwrap_err();
        assert!(caught.text.contains("number 7"), "{}", caught.text);
        assert!(caught.location.unwrap().contains("panics.rs:"));
    }
}

//! The trait of supervised actors: OTP's `gen_server`, with messages and results typed.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::Ctx;
use super::core::{ErrorInfo, ExitReason};
use crate::error::Coded;

/// A long-lived actor. It lives under a supervisor, handles one message at a time, and is dropped when it ends; the
/// next incarnation is built anew from its `Args`.
pub trait Actor: Sized + Send + 'static {
    /// What it is told and asked.
    type Msg: Send + 'static;
    /// What an incarnation is built from; must not carry state from one incarnation to the next.
    type Args: Send + 'static;

    /// Builds the actor. Runs inside the supervisor's start: the next sibling starts only after it returned, and an
    /// error or a panic fails the start. Messages sent meanwhile wait.
    ///
    /// Do not call the own supervisor from here: it is waiting.
    fn init(ctx: &Ctx<Self::Msg>, args: Self::Args) -> impl Future<Output = Result<Self, ActorError>> + Send;

    /// Handles one message. An error or a panic ends this incarnation without [`stopped`](Self::stopped).
    ///
    /// Cancel safety: a kill drops the future at its next await point, and the actor with it.
    fn handle(&mut self, ctx: &Ctx<Self::Msg>, msg: Self::Msg)
    -> impl Future<Output = Result<Flow, ActorError>> + Send;

    /// Cleans up at an orderly end: its supervisor stopped it, or it stopped itself. Never runs after a kill, an error
    /// or a panic. Messages that still waited are already dropped. Must finish within the child's shutdown time.
    fn stopped(&mut self, ctx: &Ctx<Self::Msg>, reason: &ExitReason) -> impl Future<Output = ()> + Send {
        let _ = (ctx, reason);
        async {}
    }

    /// Short name of a message's kind, shown in the tree while it is handled and in crash reports.
    fn message_kind(msg: &Self::Msg) -> &'static str {
        let _ = msg;
        "message"
    }

    /// What the actor wants to tell about itself; read by [`Address::status`](super::Address::status) between messages.
    fn status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// What an actor does after a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Flow {
    /// Wait for the next message.
    Continue,
    /// End in order for this reason; waiting messages are dropped and `stopped` runs.
    Stop(ExitReason),
}

/// Any error an actor's callback returned, with text, causes and code. Becomes [`ExitReason::Error`].
///
/// Made by `?` from every type of errors; from a [`Coded`] one by [`ActorError::coded`], which keeps the code. Errors
/// without a type (`Box<dyn Error + Send + Sync>`, `anyhow::Error`) do not implement `Error`: [`ActorError::msg`] takes
/// their text.
pub struct ActorError {
    code: Option<&'static str>,
    hint: Option<String>,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl ActorError {
    /// An error that is only a text.
    pub fn msg(text: impl Into<String>) -> Self {
        let source = Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(text.into()));
        Self { code: None, hint: None, source }
    }

    /// An error that keeps its code and its hint.
    pub fn coded(error: impl Coded + Send + Sync + 'static) -> Self {
        Self { code: Some(error.code()), hint: error.hint(), source: Arc::new(error) }
    }

    /// The error itself.
    pub fn get_ref(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Its text, causes, code and hint.
    pub fn info(&self) -> ErrorInfo {
        ErrorInfo { code: self.code.map(Cow::Borrowed), hint: self.hint.clone(), ..ErrorInfo::of(&*self.source) }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ActorError {
    fn from(error: E) -> Self {
        Self { code: None, hint: None, source: Arc::new(error) }
    }
}

impl fmt::Display for ActorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for ActorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

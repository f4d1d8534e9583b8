//! Codes of what goes wrong in the command line itself. Errors of the layers below keep their own.

/// A value cannot be written as JSON.
pub(super) const NOT_JSON: &str = "E0801";
/// The log output cannot be set up.
pub(super) const LOG: &str = "E0802";
/// Threads cannot be started.
pub(super) const THREADS: &str = "E0803";
/// Signals cannot be handled.
pub(super) const SIGNALS: &str = "E0804";
/// Standard output cannot be written.
pub(super) const UNWRITTEN: &str = "E0806";
/// The supervision tree gave up.
pub(super) const GAVE_UP: &str = "E0805";
/// There is no such command.
pub(super) const UNKNOWN_COMMAND: &str = "E0807";
/// There is no such option, or no place for an argument.
pub(super) const UNKNOWN_ARGUMENT: &str = "E0808";
/// A command, an argument or the value of an option is missing.
pub(super) const MISSING_ARGUMENT: &str = "E0809";
/// Lines of a file of requests cannot be used.
pub(super) const BAD_LINES: &str = "E0810";
/// A file of requests cannot be read.
pub(super) const UNREADABLE_INPUT: &str = "E0811";
/// A file of requests is too large.
pub(super) const LARGE_INPUT: &str = "E0812";
/// A file has no requests.
pub(super) const EMPTY_INPUT: &str = "E0813";
/// A line of a file of requests is not JSON.
pub(super) const LINE_NOT_JSON: &str = "E0814";
/// Two lines of a file give one id to different requests.
pub(super) const LINES_SHARE_ID: &str = "E0815";
/// The value of an argument is not one that is allowed.
pub(super) const BAD_ARGUMENT: &str = "E0816";
/// Arguments that cannot be given together.
pub(super) const ARGUMENTS_CONFLICT: &str = "E0817";
/// An option's text is not a JSON object.
pub(super) const NOT_AN_OBJECT: &str = "E0820";
/// No such job.
pub(super) const NO_JOB: &str = "E0821";
/// A job's state does not allow the change.
pub(super) const STATE_REFUSES: &str = "E0822";
/// A job that was waited for did not complete.
pub(super) const JOB_FAILED: &str = "E0823";
/// A job that was waited for is not finished yet.
pub(super) const JOB_OPEN: &str = "E0824";
/// A file with the arguments of a workflow cannot be read.
pub(super) const NO_ARGS_FILE: &str = "E0829";
/// No such run of a workflow.
pub(super) const NO_RUN: &str = "E0830";
/// No instance is online.
pub(super) const NOBODY_ONLINE: &str = "E0825";
/// An instance's answer cannot be read.
pub(super) const STRANGE_ANSWER: &str = "E0826";
/// An order would need to name its instance.
pub(super) const SEVERAL_ONLINE: &str = "E0827";
/// No vectors are stored under this name.
pub(super) const NO_COLLECTION: &str = "E0850";
/// Neither a path nor a command of `tree`.
pub(super) const NO_TREE_COMMAND: &str = "E0828";
/// Nobody has a queue of this name.
pub(super) const NO_QUEUE: &str = "E0835";
/// Not every instance has confirmed an order to a queue.
pub(super) const NOT_CONFIRMED: &str = "E0836";
/// There is no kept setting to forget.
pub(super) const NOTHING_KEPT: &str = "E0838";
/// There is no such budget.
pub(super) const NO_BUDGET: &str = "E0880";
/// Nobody knows a worker of this name.
pub(super) const NO_WORKER: &str = "E0839";
/// Which jobs to change is not said.
pub(super) const NO_CHOICE: &str = "E0840";
/// All jobs that fit would be deleted.
pub(super) const UNCONFIRMED: &str = "E0841";
/// There is no such route.
pub(super) const NO_ROUTE: &str = "E0860";
/// There is no such model.
pub(super) const NO_MODEL: &str = "E0861";
/// There is no order to take back.
pub(super) const NOTHING_ORDERED: &str = "E0862";
/// A job has no model, or none was chosen.
pub(super) const NO_CHOICE_OF_MODEL: &str = "E0863";
/// There is no such learning.
pub(super) const NO_LEARNING: &str = "E0864";
/// A learning cannot be applied by anybody here.
pub(super) const NOT_APPLICABLE: &str = "E0865";
/// A later learning holds instead.
pub(super) const REPLACED: &str = "E0866";
/// There is no such pattern.
pub(super) const NO_PATTERN: &str = "E0867";
/// The demo's folder or server cannot be made.
pub(super) const DEMO_STAGE: &str = "E0890";
/// A process of the demo does not start.
pub(super) const DEMO_PROCESS: &str = "E0891";
/// Something that the demo waits for does not happen.
pub(super) const DEMO_LIMIT: &str = "E0892";

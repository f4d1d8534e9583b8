//! The learner: for each cell, which model costs least for each success among those that are not worse than the
//! reference.
//!
//! Two mechanisms, never mixed. *Allocation* divides requests: constrained Thompson sampling, whose mistakes are
//! bounded by a ramp and correct themselves. *Claims* are sentences that people act on: they are published only when
//! confidence sequences prove them, which stay true however often one looks. A third watches: a sequential test takes
//! a model back whose success fell. Everything here is a pure function of what was measured, the settings, the time
//! and a seed, so that each decision can be repeated; `docs/learner.md` says how it behaves in simulated markets.

mod allocation;
mod arm;
mod benchmark;
mod beta;
mod claim;
mod comparison;
mod decide;
mod evidence;
mod fall;
mod news;
mod pattern;
mod replay;
mod row;
mod sequence;
mod settings;
mod view;
mod wilson;

pub use decide::{Decision, Draft, decide};
pub use evidence::falls;
pub use pattern::{PatternCount, patterns};
pub use replay::{Belief, Estimate, Logged, Replay, replay};
pub use row::Row;
pub use settings::Settings;
pub use view::{CellView, InForce, ModelView, Sums};

#[cfg(test)]
mod tests;

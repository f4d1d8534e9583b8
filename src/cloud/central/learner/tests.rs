//! The learner as a whole, in simulated markets.

mod market;
mod table;

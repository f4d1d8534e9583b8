//! Tests of the adapter. Most run on one thread under tokio's paused clock; those about code that hogs its thread run
//! on real ones. Names begin with the row of OTP's (S), Elixir's (D) or our own (X) list they follow.

mod addresses;
mod dynamic;
mod exits;
mod kit;
mod operate;
mod reports;
mod requests;
mod restarts;
mod snapshots;
mod stops;
mod stress;
mod trees;
mod zombies;

//! Table tests of the decisions. Each test drives a machine through a small simulator that answers starts and stops and
//! keeps a readable trace; names begin with the row of OTP's or Elixir's suite they follow.

mod dynamic;
mod dynamic_model;
mod dynamic_sim;
mod model;
mod requests;
mod seed;
mod sim;
mod strategies;
mod zombies;

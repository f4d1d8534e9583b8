//! Rows of our own: what Rust, threads and bounded memory add to OTP.

use super::{Row, same};

pub const EXTRA: &[Row] = &[
    same("X01", "exit reasons", "panic, error, kill and a runtime that goes down have distinct exit reasons"),
    same("X02", "panic in a start", "a panic in a start, first or again, is an error value"),
    same("X03", "start timeout", "a start that takes too long is dropped; name and place are free"),
    same(
        "X04",
        "a child that hogs its thread",
        "its stop returns in time and says so; the tree shows a zombie, and no second incarnation starts before it is gone, unless the policy allows it",
    ),
    same("X05", "subtree restart", "a subtree restarts only when every descendant of the previous incarnation is gone"),
    same("X06", "stop twice", "a stop that is asked for twice stops once"),
    same("X07", "supervisor killed in a group restart", "leaves no orphan"),
    same("X08", "terminate during backoff", "cancels the retry"),
    same("X09", "two siblings fail together", "cause one round of restarts and count once"),
    same("X10", "stale events", "events of an old incarnation are ignored"),
    same("X11", "unknown actor ends", "the supervisor is not touched by ends of actors it does not know"),
    same("X12", "snapshot during a long shutdown", "the tree is readable while a supervisor waits for a stop of 60 s"),
    same(
        "X13",
        "very many children",
        "starts and stops of 20 times as many take less than 50 times as long, where square growth would take 400 times; dynamic stops run side by side",
    ),
    same("X14", "no growth", "30,000 temporary children leave nothing behind: no name, no node, no start function"),
    same("X15", "two systems", "know nothing of each other's names and children"),
    same("X16", "panic = abort", "is refused when the library is compiled"),
];

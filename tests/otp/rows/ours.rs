//! Rows of our own: what Rust, threads and bounded memory add to OTP.

use super::{Row, adapted, same};

pub const EXTRA: &[Row] = &[
    adapted(
        "X01",
        "exit reasons",
        "panic, an error, a kill, an abort of the task and a runtime that goes down have distinct exit reasons",
        "An aborted task and a runtime that goes down are both `Aborted`: both cancel the task from outside.",
    ),
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
    adapted(
        "X13",
        "very many children",
        "100,000 children start in linear time; dynamic stops run side by side; no cost grows with the square",
        "20 times as many within 50 times the time, where square growth would take 400 times; 40,000 against 2,000 instead of 100,000 children. That stops run side by side is seen at S36.",
    ),
    adapted(
        "X14",
        "no growth",
        "1,000,000 temporary children leave nothing behind: no name, no node, no start function",
        "30,000, for the time that the suite takes; what is looked at is that nothing is left, which they show too.",
    ),
    same("X15", "two systems", "know nothing of each other's names and children"),
    same("X16", "panic = abort", "is refused when the library is compiled"),
];

//! Integration tests in one binary: linking is the slow part of a test build.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "helpers of tests fail as tests do, and nobody outside can reach them"
)]

mod support;

mod cli_bench;
mod cli_completions;
mod cli_config;
mod cli_cron;
mod cli_embedding;
mod cli_instance;
mod cli_jobs;
mod cli_learning;
mod cli_look;
mod cli_manage;
mod cli_queue;
mod cli_setup;
mod cli_support;
mod cli_tables;
mod cli_workflow;
mod cloud_down;
mod cloud_fleet;
mod cloud_ingest;
mod cloud_learner;
mod cloud_report;
mod cloud_retention;
mod embedded_create;
mod embedded_healing;
mod embedded_sharing;
mod embedded_support;
mod embedded_users;
mod instance_history;
mod instance_presence;
mod llm_breaker;
mod llm_command;
mod llm_outcomes;
mod llm_setup;
mod llm_wire;
mod node_blocking;
mod node_crash;
mod node_executors;
mod node_jobs;
mod node_outage;
mod node_pool;
mod node_rest;
mod node_shutdown;
mod node_spin;
mod node_stuck;
mod node_worker;
mod oban_01_schema;
mod oban_02_return_values;
mod oban_03_error_elements;
mod oban_04_fetch_order;
mod oban_05_signals;
mod oban_06_cancel_and_kill;
mod oban_07_retry_and_delete_matrix;
mod oban_08_snooze;
mod oban_09_staging;
mod oban_10_exhausted_row;
mod oban_11_lease;
mod oban_12_rescue_and_prune;
mod oban_13_cron;
mod oban_14_unique;
mod oban_15_heard;
mod oban_16_said;
mod oban_17_grace;
mod oban_18_prefix;
mod oban_19_column_shapes;
mod oban_20_limits;
mod oban_fleet;
mod oban_hazards;
mod oban_python;
mod postgres_indexes;
mod postgres_migrate;
mod postgres_notifier;
mod postgres_pgmq;
mod postgres_pool;
mod postgres_transaction;
mod process_begin;
mod process_lease;
mod process_node;
mod process_outage;
mod process_run;
mod process_tree;
mod queue_claim;
mod queue_complete;
mod queue_control;
mod queue_cron;
mod queue_direct;
mod queue_exchange;
mod queue_insert;
mod queue_kept;
mod queue_looks;
mod queue_manage_cost;
mod queue_modes;
mod queue_reindexer;
mod queue_results;
mod queue_unreadable;
mod testing_helpers;
mod tidy;
mod workflow_agents;
mod workflow_budgets;
mod workflow_children;
mod workflow_crash;
mod workflow_embedding;
mod workflow_limits;
mod workflow_llm;
mod workflow_models;
mod workflow_parts;
mod workflow_requests;
mod workflow_steps;

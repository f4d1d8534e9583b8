//! The fleet learns: instances report what their work cost and whether it was any good (UP), CentralCloud learns from
//! it, and what it learned comes back to every instance (DOWN).

mod learning;

pub use learning::{
    Benchmark, Cell, CostOptimization, EstimatedSavings, Kind, Learning, LearningError, ModelRouting, PatternDiscovery,
    Payload, PerformanceBenchmark, Preference, RoutingRule, SCHEMA_VERSION, WeightedModel,
};
